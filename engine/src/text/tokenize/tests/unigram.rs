//! XLM-RoBERTa's tokenizer against the library's.

use super::*;
use coldread_model::layout::WeightRange;
use coldread_model::tokenizer::{SentencePieceOf, TokenizerFiles};
use coldread_model::{ModelFolder, pack_with};

/// A model that `SentencePiece` trained on many scripts, with XLM-RoBERTa's character map;
/// `tests/parity/sentencepiece_model.py` makes it.
static TRAINED: LazyLock<Value> = LazyLock::new(|| {
    let path = "../tests/data/sentencepiece/sentencepiece.bpe.model".into();
    let files = TokenizerFiles::SentencePiece(path, SentencePieceOf::XlmRoberta);
    serde_json::from_slice(&files.json().unwrap()).unwrap()
});

/// Pieces without a character map. `<mask>` drops the white space before it.
fn small() -> Value {
    let pieces = json!([
        ["<s>", 0.0],
        ["<pad>", 0.0],
        ["</s>", 0.0],
        ["<unk>", 0.0],
        ["\u{2581}", -3.5],
        ["\u{2581}a", -2.0],
        ["a", -2.5],
        ["b", -2.625],
        ["ab", -4.0],
        ["bab", -5.0],
        ["\u{2581}ab", -4.0],
        ["\u{e9}", -6.0],
        ["\u{4e2d}\u{56fd}", -7.0],
        ["\u{301}", -5.0],
        ["<", -8.0],
        ["mask", -9.0],
        ["\u{2581}a\u{2581}b", -0.1],
        ["<mask>", 0.0],
    ]);
    let mut json = TRAINED.clone();
    json["normalizer"] = Value::Null;
    json["added_tokens"][4]["id"] = json!(17);
    json["added_tokens"][4]["lstrip"] = json!(true);
    json["model"]["vocab"] = pieces;
    json
}

/// The forms that the files of this kind have.
fn variants(json: &Value) -> Vec<Value> {
    let map = json["normalizer"]["normalizers"][0].clone();
    let merge = json!({"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": " "});
    let trim = json!({"type": "Strip", "strip_left": false, "strip_right": true});
    let mut merge_to_mark = merge.clone();
    merge_to_mark["content"] = json!("\u{2581}");
    let sequence = |steps: &[&Value]| json!({"type": "Sequence", "normalizers": steps});
    let split = json["pre_tokenizer"].clone();
    let metaspace = split["pretokenizers"][1].clone();
    let normalizers = if map.is_null() {
        vec![
            Value::Null,
            sequence(&[]),
            merge.clone(),
            sequence(&[&merge]),
        ]
    } else {
        vec![map.clone(), sequence(&[&map]), sequence(&[&map, &merge])]
    };
    let mut variants = Vec::new();
    for normalizer in &normalizers {
        for pre_tokenizer in [&split, &metaspace] {
            let mut json = json.clone();
            json["normalizer"] = normalizer.clone();
            json["pre_tokenizer"] = pre_tokenizer.clone();
            variants.push(json);
        }
    }
    // As transformers converts a SentencePiece model.
    let mut converted = json.clone();
    converted["normalizer"] = if map.is_null() {
        sequence(&[&trim, &merge_to_mark])
    } else {
        sequence(&[&map, &trim, &merge_to_mark])
    };
    converted["pre_tokenizer"] = metaspace;
    variants.push(converted);
    variants
}

type Both = (Tokenizer, tokenizers::Tokenizer);

static ALL: LazyLock<Vec<Both>> = LazyLock::new(|| {
    let all = [variants(&TRAINED), variants(&small())].concat();
    all.iter().map(both).collect()
});

#[track_caller]
fn check_all(text: &str) {
    for (tokenizer, library) in ALL.iter() {
        check_against(tokenizer, library, text);
    }
}

#[test]
fn pieces_have_the_largest_sum_of_scores() {
    let tokenizer = load(&small(), 18).unwrap();
    check(&tokenizer, "", 16, &[0, 2], false);
    check(&tokenizer, " \u{3000}\n", 16, &[0, 2], false);
    check(&tokenizer, "a  ab", 16, &[0, 5, 10, 2], false);
    check(&tokenizer, "abab", 16, &[0, 5, 9, 2], false);
    check(&tokenizer, "axyzb", 16, &[0, 5, 3, 7, 2], false);
    // A piece with a space within is never found, for words are cut one by one.
    check(&tokenizer, "a b", 16, &[0, 5, 4, 7, 2], false);
}

#[test]
fn special_tokens_in_a_text_are_special() {
    let tokenizer = load(&small(), 18).unwrap();
    check(&tokenizer, "a</s>b", 16, &[0, 5, 2, 4, 7, 2], false);
    check(&tokenizer, "a <mask> a", 16, &[0, 5, 17, 5, 2], false);
    check(&tokenizer, "a<pad", 16, &[0, 5, 14, 3, 6, 3, 2], false);
    for text in [
        "<mask>",
        " <mask>",
        "<s><s>",
        "a \u{3000}\n<mask>  <mask><mask>\u{301}",
        "<s",
        "<<s>>",
        "\u{ff1c}s\u{ff1e}",
        "\u{ff1c}unk\u{ff1e}\u{2603}",
        "x<unk>y",
        "\u{600} <mask>",
        "\r<mask>\n",
    ] {
        check_all(text);
    }
}

#[test]
fn unknown_characters_in_a_row_may_be_a_piece() {
    // With scores so far above zero two unknown characters are better than a piece.
    let mut json = small();
    for piece in json["model"]["vocab"].as_array_mut().unwrap() {
        piece[1] = json!(100.0);
    }
    let (tokenizer, library) = both(&json);
    check_against(&tokenizer, &library, "\u{4e2d}\u{56fd}");
    check(&tokenizer, "\u{4e2d}\u{56fd}", 16, &[0, 4, 12, 2], false);
    check_against(&tokenizer, &library, "a\u{4e2d}\u{56fd}\u{56fd}b\u{4e2d}");
}

#[test]
fn of_equal_pieces_the_last_counts() {
    let mut json = small();
    let pieces = json["model"]["vocab"].as_array_mut().unwrap();
    pieces.extend([json!(["b", -1.0]), json!(["", -1.0])]);
    let (tokenizer, library) = both(&json);
    check_against(&tokenizer, &library, "abb");
    check(&tokenizer, "b", 16, &[0, 4, 18, 2], false);
}

#[test]
fn words_are_cut_as_far_as_the_model_reads() {
    let (tokenizer, library) = both(&TRAINED);
    let text = "the coffee, \u{4eca}\u{65e5}\u{306f} <s> ".repeat(50);
    let all = oracle(&library, &text);
    for max_tokens in 3..60 {
        let mut cut = all[..max_tokens - 1].to_vec();
        cut.push(2);
        check(&tokenizer, &text, max_tokens, &cut, true);
    }
    for text in [
        "a".repeat(30_000),
        "\u{301}".repeat(30_000),
        "\u{1f1e7}".repeat(9_999),
    ] {
        check_against(&tokenizer, &library, &text);
    }
}

#[test]
fn every_code_point_has_the_librarys_tokens() {
    for (i, (tokenizer, library)) in ALL.iter().enumerate() {
        // XLM-RoBERTa's own form gets all planes with characters in use, the others a sample.
        let step = if i == 4 { 1 } else { 211 };
        let mut text = String::new();
        for c in (i as u32..0x0003_2400)
            .chain(0x000e_0000..0x000e_0200)
            .step_by(step)
            .filter_map(char::from_u32)
        {
            let c = c.encode_utf8(&mut [0; 4]).to_owned();
            text.extend(["a", &c, "e ", &c, "\u{301}", &c, &c, " ", &c, "  "]);
            if text.len() > 2000 {
                check_against(tokenizer, library, &text);
                text.clear();
            }
        }
        check_against(tokenizer, library, &text);
    }
}

#[test]
fn other_forms_are_left_to_the_library() {
    let metaspace = "/pre_tokenizer/pretokenizers/1";
    for (pointer, value) in [
        ("/model/byte_fallback", json!(true)),
        ("/model/unk_id", Value::Null),
        ("/model/vocab/9/0", json!("a\0")),
        ("/normalizer", json!({"type": "NFKC"})),
        ("/normalizer/normalizers/1/content", json!("\u{2581}")),
        ("/normalizer/normalizers/1/content", json!("")),
        ("/normalizer/normalizers/1/pattern", json!({"String": "  "})),
        ("/pre_tokenizer", json!({"type": "WhitespaceSplit"})),
        (
            "/pre_tokenizer/pretokenizers/0",
            json!({"type": "Whitespace"}),
        ),
        (&format!("{metaspace}/prepend_scheme"), json!("first")),
        (&format!("{metaspace}/replacement"), json!("_")),
        (&format!("{metaspace}/split"), json!(false)),
        ("/added_tokens/0/normalized", json!(true)),
        ("/added_tokens/0/single_word", json!(true)),
        ("/added_tokens/0/rstrip", json!(true)),
    ] {
        let mut json = TRAINED.clone();
        *json.pointer_mut(pointer).expect(pointer) = value;
        let (tokenizer, text) = (load(&json, 1000), "the coffee \u{ff46}");
        // It rejects a file without an unknown token as soon as there is one.
        if let Ok(tokenizer) = tokenizer {
            assert!(matches!(tokenizer.inner, Inner::Library(_)), "{pointer}");
            let library = tokenizers::Tokenizer::from_bytes(json.to_string()).unwrap();
            check_against(&tokenizer, &library, text);
        }
    }
    let mut empty_map = TRAINED.clone();
    empty_map["normalizer"]["normalizers"][0]["precompiled_charsmap"] = json!("AAAAAA==");
    check_refused(&empty_map, 1000, "panics");
}

fn text() -> impl Strategy<Value = String> {
    let range = |first: char, last: char| prop::char::range(first, last).prop_map(String::from);
    let strings = |strings: &[&'static str]| prop::sample::select(strings.to_vec());
    let piece = prop_oneof![
        any::<char>().prop_map(String::from),
        range('\0', '\u{24f}'),
        range('\u{300}', '\u{36f}'),
        range('\u{600}', '\u{6ff}'),
        range('\u{900}', '\u{97f}'),
        range('\u{e00}', '\u{e7f}'),
        range('\u{1100}', '\u{11ff}'),
        range('\u{2000}', '\u{206f}'),
        range('\u{3040}', '\u{30ff}'),
        range('\u{4e00}', '\u{4eff}'),
        range('\u{ac00}', '\u{acff}'),
        range('\u{fb00}', '\u{fdff}'),
        range('\u{ff00}', '\u{ffef}'),
        range('\u{1f1e6}', '\u{1f1ff}'),
        range('\u{1f3fb}', '\u{1f6ff}'),
        strings(&[
            " ",
            "  ",
            "\r\n",
            "\t",
            "\u{2581}",
            "\u{3000}",
            "\u{a0}",
            "\u{200d}",
            "\u{fe0f}",
            "<s>",
            "</s>",
            "<mask>",
            "<unk>",
            "\u{ff1c}pad\u{ff1e}",
            "<",
            ">",
            "e\u{301}",
            "\u{1f468}\u{200d}\u{1f469}\u{200d}\u{1f467}",
            "\u{1f44d}\u{1f3fd}",
            "\u{915}\u{94d}\u{937}",
            "\u{fb01}",
            "\u{2122}",
            "\u{e0001}",
        ])
        .prop_map(String::from),
        strings(&[
            "the",
            "coffee",
            "is",
            "good",
            "a",
            "b",
            "ab",
            "caf\u{e9}",
            "!",
            "\u{645}\u{646}"
        ])
        .prop_map(String::from),
    ];
    prop::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_text_has_the_librarys_tokens(text in text()) {
        check_all(&text);
    }

    #[test]
    fn truncation_drops_the_end(text in text(), max_tokens in 3_usize..12) {
        let (tokenizer, _) = &ALL[1];
        let (mut whole, mut cut) = (Vec::new(), Vec::new());
        tokenizer.encode(&text, 1000, &mut whole).unwrap();
        let Truncated(truncated) = tokenizer.encode(&text, max_tokens, &mut cut).unwrap();
        prop_assert_eq!(truncated, whole.len() > max_tokens);
        if truncated {
            whole.truncate(max_tokens - 1);
            whole.push(2);
        }
        prop_assert_eq!(cut, whole);
    }
}

/// A packed model with this tokenizer.
fn packed() -> (Tokenizer, Vec<u8>) {
    let folder = "../tests/data/tiny/xlm-roberta-sentencepiece";
    let folder = ModelFolder::open(Path::new(folder)).unwrap();
    let json = folder.tokenizer.json().unwrap();
    let tokenizer = Tokenizer::from_bytes(Path::new(""), &json, folder.config.vocab_size).unwrap();
    (tokenizer, pack_with(&folder, WeightRange::Full).unwrap())
}

#[test]
fn a_packed_model_has_its_folders_tokens() {
    let (folders, file) = packed();
    let model = PackedModel::from_bytes(file).unwrap();
    assert!(model.section("tokenizer.json").is_none());
    let tokenizer = Tokenizer::from_packed(&model).unwrap();
    assert!(matches!(tokenizer.inner, Inner::Unigram(_)));
    for text in [
        "",
        "the coffee was GOOD!",
        "\u{2603} tr\u{e8}s <mask> bon</s>",
        "new  update",
    ] {
        let (mut expected, mut found) = (Vec::new(), Vec::new());
        folders.encode(text, 40, &mut expected).unwrap();
        tokenizer.encode(text, 40, &mut found).unwrap();
        assert_eq!(found, expected, "{text}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_damaged_table_is_harmless(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        text in text(),
    ) {
        static PACKED: LazyLock<Vec<u8>> = LazyLock::new(|| packed().1);
        let mut file = PACKED.clone();
        let model = PackedModel::from_bytes(file.clone()).unwrap();
        let sections = model.sections();
        let table = sections.iter().find(|s| s.name == "unigram").unwrap();
        for (index, value) in changes {
            file[table.offset + index.index(table.len)] = value;
        }
        if let Ok(model) = PackedModel::from_bytes(file) {
            let tokenizer = Tokenizer::from_packed(&model).unwrap();
            let (mut input_ids, ids) = (Vec::new(), model.config().vocab_size);
            match tokenizer.encode(&text, 40, &mut input_ids) {
                Ok(_) => assert!(input_ids.iter().all(|&id| (id as usize) < ids)),
                Err(error) => assert!(matches!(error, EngineError::TokenId { .. }), "{error}"),
            }
        }
    }
}
