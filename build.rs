//! Packs `model/default`, so that the binary carries its model and needs no other file.

use std::path::{Path, PathBuf};

fn main() {
    let folder = Path::new("model/default");
    println!("cargo::rerun-if-changed={}", folder.display());
    if std::env::var_os("CARGO_FEATURE_EMBEDDED_MODEL").is_none() {
        return;
    }
    let out = PathBuf::from(std::env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    let packed = coldread_model::ModelFolder::open(folder)
        .and_then(|folder| coldread_model::pack(&folder))
        .unwrap_or_else(|e| panic!("the default model cannot be packed: {e}"));
    let file = out.join("default.coldread");
    std::fs::write(&file, packed).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
}
