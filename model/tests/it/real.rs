//! A real model's folder, named by `COLDREAD_MODEL_FOLDER`: run by hand.

use coldread_model::{ModelFolder, PackedModel, pack, pack_to_file};
use std::hint::black_box;
use std::path::Path;
use std::time::Instant;

#[test]
#[ignore = "needs COLDREAD_MODEL_FOLDER, and says something in a release build only"]
fn size_and_times() {
    let folder = std::env::var("COLDREAD_MODEL_FOLDER").expect("COLDREAD_MODEL_FOLDER is set");
    let folder = ModelFolder::open(Path::new(&folder)).unwrap();
    let start = Instant::now();
    let packed = pack(&folder).unwrap();
    println!("pack: {:?}, {} bytes", start.elapsed(), packed.len());

    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("model.bin");
    let start = Instant::now();
    pack_to_file(&folder, &file).unwrap();
    println!("pack, write, verify: {:?}", start.elapsed());
    for _ in 0..5 {
        let start = Instant::now();
        let model = PackedModel::open(&file).unwrap();
        let opened = start.elapsed();
        let start = Instant::now();
        model.verify().unwrap();
        let verified = start.elapsed();
        let start = Instant::now();
        for i in 0..model.config().num_hidden_layers {
            black_box(model.layer(i));
        }
        println!(
            "open: {opened:?}, verify: {verified:?}, views: {:?}",
            start.elapsed()
        );
    }
    for section in PackedModel::open(&file).unwrap().sections() {
        let [rows, cols] = section.shape;
        println!(
            "{:10} {:?} {rows} x {cols} {}",
            section.len, section.kind, section.name
        );
    }
}
