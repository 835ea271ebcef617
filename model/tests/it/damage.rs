//! Damaged and hostile files: refused with the reason, or harmless.
//!
//! The places of the fields and the rule for the checksums are written down here
//! a second time, from `docs/internals/packed-format.md`.

use crate::checkpoint::Checkpoint;
use coldread_model::PackedModel;
use coldread_model::layout::WeightRange;
use coldread_model::packed::PackedTokenizer;
use proptest::prelude::*;
use serde_json::json;
use std::sync::LazyLock;
use twox_hash::XxHash3_64;

const HEADER: usize = 64;
const ENTRY: usize = 96;

static PACKED: LazyLock<Vec<u8>> = LazyLock::new(|| Checkpoint::electra(20).pack().unwrap());

fn u32_at(file: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(file[at..at + 4].try_into().unwrap())
}

fn u64_at(file: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(file[at..at + 8].try_into().unwrap())
}

fn put<const N: usize>(file: &mut [u8], at: usize, bytes: [u8; N]) {
    file[at..at + N].copy_from_slice(&bytes);
}

fn table_end(file: &[u8]) -> usize {
    HEADER + u32_at(file, 24) as usize * ENTRY
}

/// Puts a right checksum to header and table, as someone hostile would.
fn seal(file: &mut [u8]) {
    let end = table_end(file).min(file.len());
    let seed = XxHash3_64::oneshot(&file[..32]);
    let sum = XxHash3_64::oneshot_with_seed(seed, &file[40..end]);
    put(file, 32, sum.to_le_bytes());
}

/// Puts a right checksum to each section that lies within the file.
fn seal_sections(file: &mut [u8]) {
    for entry in (HEADER..table_end(file)).step_by(ENTRY) {
        let (start, len) = (
            u64_at(file, entry + 64) as usize,
            u64_at(file, entry + 72) as usize,
        );
        if let Some(section) = start.checked_add(len).and_then(|end| file.get(start..end)) {
            let sum = XxHash3_64::oneshot(section);
            put(file, entry + 80, sum.to_le_bytes());
        }
    }
    seal(file);
}

/// The place of a section's line in the table.
fn entry(file: &[u8], name: &str) -> usize {
    let is_named = |&at: &usize| {
        let field = &file[at..at + 48];
        field.starts_with(name.as_bytes()) && field[name.len()] == 0
    };
    (HEADER..table_end(file))
        .step_by(ENTRY)
        .find(is_named)
        .expect("a section of this name")
}

/// Opens a file and, if that works, reads the ends of every slice.
fn touch(file: Vec<u8>) -> Result<PackedModel, String> {
    let model = PackedModel::from_bytes(file).map_err(|e| e.to_string())?;
    let mut sum = 0_u64;
    let mut ends = |bytes: &[u8]| {
        sum += u64::from(*bytes.first().unwrap_or(&0)) + u64::from(*bytes.last().unwrap_or(&0));
    };
    let embeddings = model.embeddings();
    ends(bytemuck::cast_slice(embeddings.word.codes));
    ends(bytemuck::cast_slice(embeddings.word.scales));
    ends(bytemuck::cast_slice(embeddings.position));
    ends(bytemuck::cast_slice(embeddings.norm.bias));
    for i in 0..model.config().num_hidden_layers {
        let layer = model.layer(i);
        for linear in [
            layer.qkv,
            layer.attention_output,
            layer.intermediate,
            layer.output,
        ] {
            ends(bytemuck::cast_slice(linear.panels));
            ends(bytemuck::cast_slice(linear.scales));
            ends(bytemuck::cast_slice(linear.col_sums));
            ends(bytemuck::cast_slice(linear.bias));
        }
        for norm in [layer.attention_norm, layer.output_norm] {
            ends(bytemuck::cast_slice(norm.weight));
            ends(bytemuck::cast_slice(norm.bias));
        }
    }
    for dense in [Some(model.head().classifier), model.head().dense]
        .into_iter()
        .flatten()
    {
        ends(bytemuck::cast_slice(dense.weight));
        ends(bytemuck::cast_slice(dense.bias));
    }
    for section in model.sections() {
        ends(
            model
                .section(&section.name)
                .expect("a section of the table"),
        );
    }
    std::hint::black_box(sum);
    Ok(model)
}

/// Changes a sound file and looks for each part in the error.
fn check(change: impl FnOnce(&mut Vec<u8>), parts: &[&str]) {
    let mut file = PACKED.clone();
    change(&mut file);
    let error = touch(file).expect_err("the file is refused");
    for part in parts {
        assert!(error.contains(part), "{part:?} is not in {error:?}");
    }
}

#[test]
fn a_sound_file_passes() {
    touch(PACKED.clone()).unwrap().verify().unwrap();
}

#[test]
fn each_header_field_is_checked() {
    check(|f| f[0] = b'X', &["not a packed model", "coldread pack"]);
    check(Vec::clear, &["not a packed model"]);
    check(|f| f.truncate(8), &["cut short"]);
    check(|f| f[8..12].reverse(), &["other byte order"]);
    check(|f| put(f, 8, [9; 4]), &["byte order mark"]);
    check(
        |f| put(f, 12, 2_u32.to_le_bytes()),
        &["version 2", "version 1", "pack the model"],
    );
    check(|f| put(f, 12, 0_u32.to_le_bytes()), &["version 0"]);
    check(|f| put(f, 16, 7_u64.to_le_bytes()), &["should have 7"]);
    check(|f| f.push(0), &["should have"]);
    check(
        |f| put(f, 24, u32::MAX.to_le_bytes()),
        &["4294967295 sections"],
    );
    check(|f| put(f, 24, 16_000_u32.to_le_bytes()), &["cut short"]);
    check(|f| put(f, 28, 3_u32.to_le_bytes()), &["features", "0x2"]);
    check(|f| f[32] ^= 1, &["checksum"]);
    check(|f| f[63] = 1, &["features"]);
}

#[test]
fn a_wrong_number_of_sections_is_refused() {
    for count in [0_u32, 1, 5] {
        check(
            |f| {
                put(f, 24, count.to_le_bytes());
                seal(f);
            },
            &[],
        );
    }
}

#[test]
fn each_field_of_the_table_is_checked() {
    fn change<const N: usize>(name: &str, field: usize, bytes: [u8; N], parts: &[&str]) {
        check(
            |f| {
                let at = entry(f, name) + field;
                put(f, at, bytes);
                seal(f);
            },
            parts,
        );
    }
    let qkv = "layers.0.qkv";
    change(qkv, 0, *b"Layers", &["layers.0.qkv is missing"]);
    change(qkv, 0, [0; 48], &["malformed name"]);
    change(qkv, 0, [0xff; 4], &["malformed name"]);
    change(qkv, 40, [1; 4], &["malformed name"]);
    change(
        qkv,
        0,
        *b"layers.1",
        &["layers.1.qkv stands in the file twice"],
    );
    change(qkv, 48, 2_u32.to_le_bytes(), &["Embedding", "Linear"]);
    change(qkv, 48, 99_u32.to_le_bytes(), &["Linear"]);
    change(qkv, 52, 97_u32.to_le_bytes(), &["(97, 32)", "(96, 32)"]);
    change(qkv, 56, u32::MAX.to_le_bytes(), &["4294967295"]);
    for start in [0, 1, 64, 4096, u64::MAX, u64::MAX - 63, 1 << 63] {
        change(
            qkv,
            64,
            start.to_le_bytes(),
            &["layers.0.qkv does not begin"],
        );
    }
    for len in [u64::MAX, u64::MAX - 63, 1 << 40] {
        change(qkv, 72, len.to_le_bytes(), &["layers.0.qkv lies outside"]);
    }
    for len in [0_u64, 64] {
        change(
            qkv,
            72,
            len.to_le_bytes(),
            &["does not begin where it must"],
        );
    }
    change("head.classifier", 72, [0; 8], &["last section"]);
    change("config", 80, [0; 8], &["config is damaged"]);
    // The checksum of a large section is not looked at before `verify`.
    let mut file = PACKED.clone();
    let at = entry(&file, qkv) + 80;
    file[at] ^= 1;
    seal(&mut file);
    let error = touch(file).unwrap().verify().unwrap_err().to_string();
    assert!(error.contains("layers.0.qkv is damaged"), "{error}");
}

/// Changes the configuration in a file whose checksums are all right; the text
/// must keep its length.
fn check_config(from: &str, to: &str, parts: &[&str]) {
    assert_eq!(from.len(), to.len());
    check(
        |f| {
            let at = entry(f, "config");
            let (start, len) = (u64_at(f, at + 64) as usize, u64_at(f, at + 72) as usize);
            let text = String::from_utf8(f[start..start + len].to_vec()).unwrap();
            assert!(text.contains(from), "{text}");
            f[start..start + len].copy_from_slice(text.replacen(from, to, 1).as_bytes());
            seal_sections(f);
        },
        parts,
    );
}

#[test]
fn a_hostile_configuration_is_refused() {
    let cases: &[(&str, &str, &[&str])] = &[
        (
            r#""vocab_size":99"#,
            r#""vocab_size":98"#,
            &["embeddings.word", "(99, 20)", "(98, 20)"],
        ),
        (r#""vocab_size":99"#, r#""vocab_size":-1"#, &["config"]),
        (
            r#""hidden_size":32"#,
            r#""hidden_size":36"#,
            &["embeddings.projection"],
        ),
        (
            r#""hidden_size":32"#,
            r#""hidden_size":33"#,
            &["num_attention_heads"],
        ),
        (
            r#""embedding_size":20"#,
            r#""embedding_size":32"#,
            &["embeddings.word"],
        ),
        (
            r#""num_hidden_layers":2"#,
            r#""num_hidden_layers":3"#,
            &["layers.2.qkv is missing"],
        ),
        (
            r#""num_attention_heads":4"#,
            r#""num_attention_heads":0"#,
            &["num_attention_heads is 0"],
        ),
        (
            r#""intermediate_size":37"#,
            r#""intermediate_size":64"#,
            &["layers.0.intermediate"],
        ),
        (
            r#""max_tokens":40"#,
            r#""max_tokens":99"#,
            &["max_tokens is 99"],
        ),
        (
            r#""max_tokens":40"#,
            r#""max_tokens":39"#,
            &["embeddings.position"],
        ),
        (r#","positive""#, r"           ", &["head.classifier"]),
        (r#""positive""#, r#""negative""#, &["stands there twice"]),
        (
            r#""temperature":1.0"#,
            r#""temperature":0.0"#,
            &["temperature is 0"],
        ),
        (r#""temperature":1.0"#, r#""temperature":NaN"#, &["config"]),
        (r#""head_dense":true"#, r#""head_dense":1   "#, &["config"]),
        (r#""electra","arch"#, r#""eIectra","arch"#, &["model_type"]),
        ("{", "[", &["config"]),
    ];
    for (from, to, parts) in cases {
        check_config(from, to, parts);
    }
}

/// A packed model with XLM-RoBERTa's tokenizer, whose unknown token has id 10.
fn unigram() -> Vec<u8> {
    let special = |name: &str| json!({"SpecialToken": {"id": name, "type_id": 0}});
    let mut c = Checkpoint::electra(20);
    c.tokenizer = json!({
        "added_tokens": [{"id": 10, "content": "<unk>", "single_word": false, "lstrip": false,
            "rstrip": false, "normalized": false, "special": true}],
        "normalizer": null,
        "pre_tokenizer": {"type": "Metaspace", "replacement": "\u{2581}"},
        "post_processor": {"type": "TemplateProcessing",
            "single": [special("<s>"), {"Sequence": {"id": "A", "type_id": 0}}],
            "special_tokens": {"<s>": {"id": "<s>", "ids": [0], "tokens": ["<s>"]}}},
        "model": {"type": "Unigram", "unk_id": 10, "vocab": [
            ["<s>", 0.0], ["a", -1.0], ["b", -1.0], ["c", -1.0], ["d", -1.0], ["e", -1.0],
            ["f", -1.0], ["g", -1.0], ["h", -1.0], ["i", -1.0], ["<unk>", 0.0]]},
    });
    c.pack().unwrap()
}

#[test]
fn a_file_with_a_unigram_table_tells_older_releases() {
    let file = unigram();
    assert_eq!(u32_at(&file, 28), 1);
    let model = touch(file).unwrap();
    model.verify().unwrap();
    assert!(model.section("tokenizer.json").is_none());
    let PackedTokenizer::Unigram(rules, table) = model.tokenizer() else {
        panic!("its rules were recognized");
    };
    assert_eq!((rules.unk_id, table.find(b"c")), (10, Some(3)));
}

#[test]
fn a_hostile_unigram_table_is_refused_at_opening_or_by_verify() {
    let changed = |name: &str, change: &dyn Fn(&mut [u8])| {
        let mut file = unigram();
        let at = entry(&file, name);
        let (start, len) = (u64_at(&file, at + 64), u64_at(&file, at + 72));
        change(&mut file[start as usize..][..len as usize]);
        seal_sections(&mut file);
        touch(file)
    };
    let check = |name: &str, change: &dyn Fn(&mut [u8]), part: &str| {
        let error = changed(name, change).expect_err("the file is refused");
        assert!(error.contains(part), "{part:?} is not in {error:?}");
    };
    let no_table = "no table of pieces";
    check("unigram", &|table| put(table, 0, [0xff; 3]), no_table);
    check("unigram", &|table| put(table, 8, [1, 0, 1]), no_table);
    // What is in the parts is seen when all of the file is read.
    let verify = |change: &dyn Fn(&mut [u8])| {
        let model = changed("unigram", change).expect("its parts are there");
        let error = model.verify().expect_err("it is not sound").to_string();
        assert!(error.contains("no sound table of pieces"), "{error}");
    };
    verify(&|table| put(table, 0, [10]));
    verify(&|table| put(table, 32, f64::NAN.to_le_bytes()));
    // The pieces' root, behind eleven scores.
    verify(&|table| put(table, 120, [0xff; 3]));
    let replace = |from: &'static str, to: &'static str| {
        move |config: &mut [u8]| {
            let text = str::from_utf8(config).unwrap();
            assert!(text.contains(from), "{text}");
            let changed = text.replacen(from, to, 1);
            config.copy_from_slice(changed.as_bytes());
        }
    };
    let unknown = replace(r#""unk_id":10"#, r#""unk_id":99"#);
    check("config", &unknown, "the tokenizer has ids up to 99");
    let start = replace(r#""before":[0]"#, r#""before":[x]"#);
    check("config", &start, "config");
    check("config", &replace(r#""<unk>""#, r#""<\nk>""#), no_table);
    check(
        "config",
        &replace(r#""unigram""#, r#""unigraM""#),
        "tokenizer.json is missing",
    );
}

#[test]
fn a_file_cut_short_anywhere_is_refused() {
    let edges = (HEADER..table_end(&PACKED)).step_by(ENTRY).flat_map(|at| {
        let start = u64_at(&PACKED, at + 64) as usize;
        [at, start, start + u64_at(&PACKED, at + 72) as usize]
    });
    let even = (0..50).map(|i| PACKED.len() * i / 50);
    for cut in even
        .chain(edges)
        .flat_map(|cut| [cut.saturating_sub(1), cut])
    {
        if cut == PACKED.len() {
            continue;
        }
        check(|f| f.truncate(cut), &[]);
        // And when the header tells of the shorter length.
        check(
            |f| {
                f.truncate(cut);
                if cut >= HEADER {
                    put(f, 16, (cut as u64).to_le_bytes());
                    seal(f);
                }
            },
            &[],
        );
    }
}

#[test]
fn verify_notices_each_changed_byte() {
    // Every byte of the tables, and of the data one in a prime number.
    let end = table_end(&PACKED);
    for at in (0..end).chain((end..PACKED.len()).step_by(997)) {
        let mut file = PACKED.clone();
        file[at] ^= 0x10;
        let verified = touch(file).map(|model| model.verify());
        assert!(!matches!(verified, Ok(Ok(()))), "byte {at}");
    }
}

#[test]
fn verify_sees_sums_and_scales_that_do_not_fit() {
    let place = |file: &[u8], field: usize| {
        let start = u64_at(file, entry(file, "layers.1.output") + 64) as usize;
        // 32 channels of 64 padded inputs, then 32 scales, then 32 sums.
        start + 32 * 64 + field * 32 * 4
    };
    for (field, bytes, part) in [
        (0, f32::INFINITY.to_le_bytes(), "scale is not finite"),
        (1, i32::MIN.to_le_bytes(), "column sums"),
    ] {
        let mut file = PACKED.clone();
        let at = place(&file, field);
        put(&mut file, at, bytes);
        seal_sections(&mut file);
        let error = touch(file).unwrap().verify().unwrap_err().to_string();
        assert!(error.contains(part), "{error}");
    }
}

/// The range that a line of the table states.
fn put_range(file: &mut [u8], name: &str, range: u32) {
    let at = entry(file, name) + 60;
    put(file, at, range.to_le_bytes());
    seal(file);
}

#[test]
fn a_range_that_nobody_knows_is_refused() {
    check(
        |f| put_range(f, "layers.0.qkv", 4),
        &["layers.0.qkv", "range 4"],
    );
    // Only linear layers have one.
    check(
        |f| put_range(f, "embeddings.word", 1),
        &["embeddings.word", "range 1"],
    );
}

#[test]
fn weights_outside_of_their_range_are_seen() {
    let grouped = touch(PACKED.clone()).unwrap();
    assert_eq!(grouped.layer(1).output.range, WeightRange::Grouped);
    grouped.verify_ranges().unwrap();

    for weight in [-65_i8, 64, i8::MIN, i8::MAX] {
        for channel in [0, 31 * 64] {
            let mut file = PACKED.clone();
            let start = u64_at(&file, entry(&file, "layers.1.output") + 64) as usize;
            file[start + channel] = weight as u8;
            seal_sections(&mut file);
            let model = touch(file).unwrap();
            for error in [model.verify_ranges(), model.verify()] {
                let error = error.unwrap_err().to_string();
                assert!(error.contains("layers.1.output: a weight"), "{error}");
                assert!(error.contains("-64 to 63"), "{error}");
            }
        }
    }
}

/// Weights that are narrow one by one, but too large for a group: only files of earlier releases,
/// whose range is 1 or 2, may have them.
#[test]
fn groups_with_large_sums_are_seen() {
    for [sign, rest] in [[63_i8, 3], [-64, -1]] {
        let mut file = PACKED.clone();
        let start = u64_at(&file, entry(&file, "layers.1.output") + 64) as usize;
        // Channel 3's inputs 2, 3, 6, 7, 10 and 11.
        let places = [0, 1, 64, 65, 128, 129].map(|place| start + 3 * 4 + 2 + place);
        for (place, weight) in places.into_iter().zip([sign, 0, 0, sign, 0, rest]) {
            file[place] = weight as u8;
        }
        seal_sections(&mut file);
        let model = touch(file.clone()).unwrap();
        for error in [model.verify_ranges(), model.verify()] {
            let error = error.unwrap_err().to_string();
            assert!(error.contains("bounded sums of groups"), "{error}");
        }
        for range in [1, 2] {
            put_range(&mut file, "layers.1.output", range);
            seal_sections(&mut file);
            let model = touch(file.clone()).unwrap();
            assert_eq!(model.layer(1).output.range, WeightRange::Narrow);
            model.verify_ranges().unwrap();
        }
    }
}

#[test]
fn a_file_without_ranges_has_weights_of_any_size() {
    let mut file = PACKED.clone();
    put_range(&mut file, "layers.1.output", 0);
    let start = u64_at(&file, entry(&file, "layers.1.output") + 64) as usize;
    file[start] = 127;
    seal_sections(&mut file);
    let model = touch(file).unwrap();
    assert_eq!(model.layer(1).output.range, WeightRange::Full);
    model.verify_ranges().unwrap();
}

#[test]
fn files_are_named_in_errors() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("some model.bin");
    for content in [&b""[..], b"text", &PACKED[..PACKED.len() - 1]] {
        std::fs::write(&file, content).unwrap();
        let error = PackedModel::open(&file).unwrap_err().to_string();
        assert!(error.contains("some model.bin"), "{error}");
    }
    for missing in [dir.path(), &dir.path().join("none")] {
        let error = PackedModel::open(missing).unwrap_err().to_string();
        assert!(error.contains(&*missing.to_string_lossy()), "{error}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    /// Whatever the table says: an error, or slices within the file.
    #[test]
    fn changed_tables_do_no_harm(
        changes in prop::collection::vec((0_usize..8_000, any::<u8>()), 1..6),
    ) {
        let mut file = PACKED.clone();
        let end = table_end(&file);
        for (at, byte) in changes {
            file[at % end] = byte;
        }
        // The fields that come before the checksum are put right half of the time.
        seal(&mut file);
        let _ = touch(file);
    }

    /// The same with numbers that are likely to be off by a little.
    #[test]
    fn changed_places_do_no_harm(
        line in 0_usize..40,
        field in prop::sample::select(vec![64_usize, 72]),
        by in -200_i64..200,
    ) {
        let mut file = PACKED.clone();
        let lines = u32_at(&file, 24) as usize;
        let at = HEADER + line % lines * ENTRY + field;
        let value = u64_at(&file, at).wrapping_add_signed(by);
        put(&mut file, at, value.to_le_bytes());
        seal(&mut file);
        let opened = touch(file);
        // A section of free length may lose bytes to the padding after it.
        let passes = opened.is_ok_and(|model| model.verify().is_ok());
        prop_assert_eq!(passes, by == 0);
    }

    /// Changed configurations with right checksums.
    #[test]
    fn changed_configurations_do_no_harm(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let mut file = PACKED.clone();
        let at = entry(&file, "config");
        let (start, len) = (u64_at(&file, at + 64) as usize, u64_at(&file, at + 72) as usize);
        for (index, byte) in changes {
            // Digits make numbers that still parse.
            file[start + index.index(len)] = if byte < 200 { b'0' + byte % 10 } else { byte };
        }
        seal_sections(&mut file);
        let _ = touch(file);
    }
}
