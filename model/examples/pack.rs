//! Packs a model folder and tells the times and the sections.
//!
//! ```console
//! cargo run --release -p coldread-model --example pack -- model/default /tmp/model.bin
//! ```

use coldread_model::{LoadError, ModelFolder, PackedModel, pack_to_file};
use std::env;
use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

fn main() -> ExitCode {
    let args: Vec<_> = env::args_os().skip(1).collect();
    let [folder, file] = &args[..] else {
        eprintln!("usage: pack FOLDER FILE");
        return ExitCode::from(2);
    };
    match run(Path::new(folder), Path::new(file)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("error: {e}");
            ExitCode::FAILURE
        }
    }
}

fn run(folder: &Path, file: &Path) -> Result<(), LoadError> {
    let folder = timed("read the folder's small files", || {
        ModelFolder::open(folder)
    })?;
    timed("pack, write, verify", || pack_to_file(&folder, file))?;
    let model = timed("open", || PackedModel::open(file))?;
    timed("verify", || model.verify())?;
    for section in model.sections() {
        let [rows, cols] = section.shape;
        println!(
            "{:>10} bytes at {:>10}  {:26} {:?} {rows} x {cols}",
            section.len, section.offset, section.name, section.kind
        );
    }
    Ok(())
}

fn timed<T>(what: &str, f: impl FnOnce() -> T) -> T {
    let started = Instant::now();
    let result = f();
    println!("{what}: {:?}", started.elapsed());
    result
}
