use super::*;
use proptest::prelude::*;

/// `OrderedDict` with one tensor `w` of `[2, 3]` in the storage `0`, as `torch.save`
/// writes it.
pub(crate) fn pickle(global: &str) -> Vec<u8> {
    let mut p = b"\x80\x02ccollections\nOrderedDict\nq\x00)Rq\x01X\x01\x00\x00\x00w".to_vec();
    p.extend(b"ctorch._utils\n_rebuild_tensor_v2\n((X\x07\x00\x00\x00storagec");
    p.extend(global.as_bytes());
    p.extend(b"\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpuK\x07tQK\x01K\x02K\x03\x86K\x03K\x01\x86");
    p.extend(b"\x89h\x00)RtRs.");
    p
}

#[test]
fn a_dictionary_of_tensors() {
    for (global, dtype) in [
        ("torch\nFloatStorage", Dtype::F32),
        ("torch\nHalfStorage", Dtype::F16),
        ("torch\nBFloat16Storage", Dtype::BF16),
        ("torch\nLongStorage", Dtype::I64),
    ] {
        let expected = StoredTensor {
            name: "w",
            dtype,
            shape: vec![2, 3],
            offset: 1,
            stride: vec![3, 1],
            storage: "0",
        };
        assert_eq!(state_dict(&pickle(global)), Ok(vec![expected]), "{global}");
    }
}

#[test]
fn a_storage_of_another_kind_gives_no_tensor() {
    for global in ["torch\nFancyStorage", "os\nsystem"] {
        assert_eq!(state_dict(&pickle(global)), Ok(Vec::new()));
    }
}

/// What would delete files in Python gives an opaque value here, and so no tensors.
#[test]
fn nothing_is_called() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("victim");
    std::fs::write(&file, "").unwrap();
    let path = file.to_str().unwrap();
    let mut p = b"\x80\x02}X\x01\x00\x00\x00wcos\nremove\nX".to_vec();
    p.extend(u32::try_from(path.len()).unwrap().to_le_bytes());
    p.extend(path.as_bytes());
    p.extend(b"\x85Rs.");
    assert_eq!(state_dict(&p), Ok(Vec::new()));
    assert!(file.exists());
}

#[test]
fn what_is_no_dictionary_is_refused() {
    for bytes in [&b"\x80\x02]."[..], b"K\x01.", b"N.", b")."] {
        let error = state_dict(bytes).unwrap_err();
        assert!(error.contains("no dictionary"), "{error}");
    }
    let long = vec![b'N'; MAX_LEN + 1];
    assert!(state_dict(&long).unwrap_err().contains("bytes"));
}

#[test]
fn pickles_cut_anywhere_are_refused() {
    let whole = pickle("torch\nFloatStorage");
    for len in 0..whole.len() {
        assert!(state_dict(&whole[..len]).is_err(), "{len}");
    }
}

/// A pair of a pair of a pair ..., 2^1000 objects if they were copied, and a list in a
/// list in a list.
#[test]
fn many_references_and_deep_nests_cost_their_bytes() {
    let mut p = b"N".to_vec();
    p.extend(b"q\x00h\x00\x86".repeat(1000));
    p.extend(b"0}.");
    assert_eq!(state_dict(&p), Ok(Vec::new()));
    let mut p = b"]".repeat(100_000);
    p.extend(b"a".repeat(99_999));
    p.extend(b"0}.");
    assert_eq!(state_dict(&p), Ok(Vec::new()));
}

/// What is copied for each reference to it is short, and no name is used twice.
#[test]
fn what_is_copied_is_bounded() {
    let refused = |changed: Vec<u8>, part: &str| {
        let error = state_dict(&changed).unwrap_err();
        assert!(error.contains(part), "{error}");
    };
    let whole = pickle("torch\nFloatStorage");
    let replace = |part: &[u8], by: &[u8]| {
        let found = whole.windows(part.len()).rposition(|bytes| bytes == part);
        let at = found.expect("it is there");
        [&whole[..at], by, &whole[at + part.len()..]].concat()
    };
    let key = |len: u8| {
        let text = [
            b"X",
            &u32::from(len).to_le_bytes()[..],
            &vec![b'7'; len.into()],
        ]
        .concat();
        replace(b"X\x01\x00\x00\x000", &text)
    };
    assert_eq!(state_dict(&key(64)).unwrap()[0].storage, "7".repeat(64));
    refused(key(65), "64 bytes");
    let dims = |len: usize| {
        let sizes = [b"(", &b"K\x01".repeat(len)[..], b"t"].concat();
        replace(b"K\x02K\x03\x86", &sizes)
    };
    assert_eq!(state_dict(&dims(8)).unwrap()[0].shape, [1; 8]);
    refused(dims(9), "8 dimensions");
    // The same key, and then the same tensor, once more.
    let twice = replace(b"Rs.", b"Rq\x02sX\x01\x00\x00\x00wh\x02s.");
    refused(twice, "two tensors alike");
}

proptest! {
    /// Opcodes in any order, and a sound pickle with a byte changed, end without a panic.
    #[test]
    fn no_bytes_panic(
        opcodes in prop::collection::vec(prop::sample::select(
            b"\x80\x95(01N\x88\x89GKMJ\x8aX\x8c)\x85\x86\x87t]ae}suqr\x94hjc\x93QR\x81b.\x00\x01\n".to_vec(),
        ), 0..60),
        at in 0_usize..1000,
        byte: u8,
    ) {
        let _ = state_dict(&opcodes);
        let mut p = pickle("torch\nFloatStorage");
        let at = at % p.len();
        p[at] = byte;
        let _ = state_dict(&p);
    }
}
