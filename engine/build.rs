//! Packs the model that goes into the program, so that it needs no other file.

use coldread_model::{LoadError, ModelFolder, PackedModel};
use std::path::{Path, PathBuf};

/// Names a model folder or a packed file to embed in place of the default model.
const VARIABLE: &str = "COLDREAD_EMBED";

fn main() {
    println!("cargo::rerun-if-env-changed={VARIABLE}");
    println!("cargo::rerun-if-changed=build.rs");
    if std::env::var_os("CARGO_FEATURE_EMBEDDED_MODEL").is_none() {
        return;
    }
    let model = std::env::var_os(VARIABLE).map_or("../model/default".into(), PathBuf::from);
    println!("cargo::rerun-if-changed={}", model.display());
    assert!(
        model.exists(),
        "{}: no such model; the feature embedded-model needs the repository, or {VARIABLE} set to \
         the absolute path of a model folder or packed file",
        model.display()
    );
    let packed = packed(&model).unwrap_or_else(|e| panic!("the model cannot be embedded: {e}"));
    let out = PathBuf::from(std::env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    let file = out.join("embedded.coldread");
    std::fs::write(&file, packed).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
}

fn packed(model: &Path) -> Result<Vec<u8>, LoadError> {
    if model.is_dir() {
        return coldread_model::pack(&ModelFolder::open(model)?);
    }
    let packed = PackedModel::open(model)?;
    packed.verify()?;
    Ok(packed.bytes().to_vec())
}
