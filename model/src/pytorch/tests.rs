use super::*;
use crate::pickle::tests::pickle;
use safetensors::tensor::Dtype;
use std::io::Write;
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

/// An archive of these files, stored as they are.
fn archive(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    let options = SimpleFileOptions::default().compression_method(CompressionMethod::Stored);
    for (name, bytes) in files {
        zip.start_file(*name, options).unwrap();
        zip.write_all(bytes).unwrap();
    }
    zip.finish().unwrap().into_inner()
}

/// A `w` of `[2, 3]` behind one element.
fn checkpoint(storage: &[u8]) -> Vec<u8> {
    let pickle = pickle("torch\nFloatStorage");
    archive(&[
        ("model/data.pkl", &pickle),
        ("model/byteorder", b"little"),
        ("model/data/0", storage),
        ("model/version", b"3\n"),
    ])
}

#[track_caller]
fn check(file: &[u8], part: &str) {
    let error = tensors(Path::new("pytorch_model.bin"), file).unwrap_err();
    let error = error.to_string();
    assert!(
        error.contains(part) && error.contains("pytorch_model.bin"),
        "{error}"
    );
}

#[test]
fn tensors_are_where_their_storages_are() {
    let storage: Vec<u8> = (0..7_u8).flat_map(|i| f32::from(i).to_le_bytes()).collect();
    let file = checkpoint(&storage);
    let found = read(&file).unwrap();
    let [(name, place)] = &found[..] else {
        panic!("{found:?}");
    };
    assert_eq!(
        (&name[..], place.dtype, &place.shape[..]),
        ("w", Dtype::F32, &[2, 3][..])
    );
    assert_eq!(file[place.bytes.clone()], storage[4..]);
}

#[test]
fn what_does_not_fit_is_refused() {
    check(&checkpoint(&[0; 27]), "w does not fit its storage");
    check(&checkpoint(&[]), "w does not fit its storage");
    let no_storage = archive(&[("m/data.pkl", &pickle("torch\nFloatStorage"))]);
    check(&no_storage, "\"0\" is not there");
    check(&archive(&[("m/other", b"")]), "data.pkl");
    check(
        &archive(&[("a/data.pkl", b"}."), ("b/data.pkl", b"}.")]),
        "data.pkl",
    );
    check(
        &archive(&[("m/data.pkl", b"}.."), ("m/byteorder", b"big")]),
        "little-endian",
    );
    for bytes in [
        &b""[..],
        b"PK",
        b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.",
        b"version https",
    ] {
        check(bytes, "not a sound PyTorch file");
    }
}

#[test]
fn only_rows_one_after_another_are_taken() {
    for (shape, stride, expected) in [
        (&[2, 3][..], &[3, 1][..], true),
        (&[2, 3], &[1, 2], false),
        (&[2, 1, 3], &[3, 99, 1], true),
        (&[1], &[7], true),
        (&[], &[], true),
        (&[2], &[0], false),
        (&[2, 3], &[3], false),
        (&[usize::MAX, usize::MAX, 2], &[1, 2, 1], false),
    ] {
        assert_eq!(
            is_row_major(shape, stride),
            expected,
            "{shape:?} {stride:?}"
        );
    }
}

/// PyTorch's own file, cut and with bytes changed where it is not plain numbers.
#[test]
fn damage_does_no_harm() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../tests/data/tiny/roberta-binary/pytorch_model.bin");
    let whole = std::fs::read(path).unwrap();
    assert!(read(&whole).unwrap().len() > 30);
    for len in (0..whole.len()).step_by(997) {
        assert!(read(&whole[..len]).is_err(), "{len}");
    }
    let inside = |file: &[u8]| {
        for (_, place) in read(file).unwrap_or_default() {
            assert!(place.bytes.start <= place.bytes.end && place.bytes.end <= file.len());
        }
    };
    let mut file = whole.clone();
    let interesting = (0..whole.len()).filter(|i| i % 101 == 0 || i + 4000 > whole.len());
    for i in interesting.step_by(3) {
        for value in [0, 0xff, whole[i].wrapping_add(1)] {
            file[i] = value;
            inside(&file);
        }
        file[i] = whole[i];
    }
}
