use super::*;
use proptest::prelude::*;
use serde_json::{Value, json};
use std::sync::LazyLock;

mod unigram;

/// A BERT tokenizer in small. Its file asks for truncation and padding, as that
/// of many a published model does.
fn bert() -> Value {
    let vocab = [
        "[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "b", "##a", "##b", "ab", "!", ".", "[", "]",
        "cls", "\u{4e2d}",
    ];
    let vocab: serde_json::Map<_, _> = vocab
        .iter()
        .enumerate()
        .map(|(id, token)| ((*token).to_owned(), json!(id)))
        .collect();
    let special = |id: u32, content: &str| {
        json!({"id": id, "content": content, "special": true, "single_word": false,
            "lstrip": false, "rstrip": false, "normalized": false})
    };
    json!({
        "version": "1.0",
        "truncation": {"max_length": 4, "strategy": "LongestFirst", "stride": 0, "direction": "Right"},
        "padding": {"strategy": {"Fixed": 9}, "direction": "Right", "pad_to_multiple_of": null,
            "pad_id": 0, "pad_type_id": 0, "pad_token": "[PAD]"},
        "added_tokens": [special(0, "[PAD]"), special(1, "[UNK]"), special(2, "[CLS]"), special(3, "[SEP]")],
        "normalizer": {"type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true,
            "strip_accents": null, "lowercase": true},
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": {"type": "BertProcessing", "cls": ["[CLS]", 2], "sep": ["[SEP]", 3]},
        "decoder": null,
        "model": {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 100, "vocab": vocab},
    })
}

fn load(json: &Value, vocab_size: usize) -> Result<Tokenizer, LoadError> {
    Tokenizer::from_bytes(
        Path::new("tokenizer.json"),
        json.to_string().as_bytes(),
        vocab_size,
    )
}

#[track_caller]
fn check(tokenizer: &Tokenizer, text: &str, max_tokens: usize, expected: &[u32], truncated: bool) {
    let mut input_ids = vec![99];
    let found = tokenizer.encode(text, max_tokens, &mut input_ids).unwrap();
    assert_eq!(
        (input_ids.as_slice(), found),
        (expected, Truncated(truncated)),
        "{text:?}"
    );
}

#[track_caller]
fn check_refused(json: &Value, vocab_size: usize, reason: &str) {
    let error = load(json, vocab_size).err().expect("refused").to_string();
    assert!(
        error.starts_with("tokenizer.json: ") && error.contains(reason),
        "{error}"
    );
}

#[test]
fn special_tokens_surround_a_text() {
    let tokenizer = load(&bert(), 15).unwrap();
    check(&tokenizer, "", 16, &[2, 3], false);
    check(&tokenizer, "AB \u{e1}ba!", 16, &[2, 8, 8, 6, 9, 3], false);
    check(
        &tokenizer,
        "zzz \u{4e2d}\u{4e2d}",
        16,
        &[2, 1, 14, 14, 3],
        false,
    );
    check(&tokenizer, "a[SEP]a", 16, &[2, 4, 3, 4, 3], false);
}

#[test]
fn truncation_is_ours_and_keeps_the_special_tokens() {
    let tokenizer = load(&bert(), 15).unwrap();
    check(&tokenizer, "a b a b", 6, &[2, 4, 5, 4, 5, 3], false);
    check(&tokenizer, "a b a b", 5, &[2, 4, 5, 4, 3], true);
    check(&tokenizer, "a b a b", 3, &[2, 4, 3], true);
    check(&tokenizer, &"a! ".repeat(30_000), 4, &[2, 4, 9, 3], true);
    check(&tokenizer, &"a".repeat(100_000), 4, &[2, 1, 3], false);
    let error = tokenizer.encode("a", 2, &mut Vec::new()).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("the number of special tokens, 2"),
        "{error}"
    );
}

#[test]
fn a_tokenizer_without_special_tokens_adds_none() {
    let mut json = bert();
    json["post_processor"] = Value::Null;
    let tokenizer = load(&json, 15).unwrap();
    check(&tokenizer, "a b a", 2, &[4, 5], true);
    check(&tokenizer, "a b", 2, &[4, 5], false);
    check(&tokenizer, "", 2, &[], false);
}

#[test]
fn what_does_not_fit_the_model_is_refused() {
    check_refused(&bert(), 14, "15 tokens, but the model's vocab_size is 14");
    check_refused(&json!({"version": "1.0"}), 15, "");
    let mut doubled = bert();
    let step = |part: Value| {
        json!({"type": "TemplateProcessing", "single": part, "pair": [],
        "special_tokens": {}})
    };
    let text = json!({"Sequence": {"id": "A", "type_id": 0}});
    doubled["post_processor"] = step(json!([text, text]));
    check_refused(&doubled, 15, "");
    let mut far = bert();
    far["post_processor"]["cls"] = json!(["[CLS]", 77]);
    check_refused(&far, 15, "special token 77");
}

#[test]
fn an_id_beyond_the_vocabulary_is_an_error() {
    let mut json = bert();
    json["model"]["vocab"]["a"] = json!(400);
    let tokenizer = load(&json, 15).unwrap();
    let error = tokenizer.encode("a", 16, &mut Vec::new()).unwrap_err();
    assert!(error.to_string().contains("id 400"), "{error}");
}

/// Token ids of the library, without truncation.
fn oracle(library: &tokenizers::Tokenizer, text: &str) -> Vec<u32> {
    library.encode_fast(text, true).unwrap().get_ids().to_vec()
}

#[track_caller]
fn check_against(tokenizer: &Tokenizer, library: &tokenizers::Tokenizer, text: &str) {
    let mut input_ids = Vec::new();
    let Truncated(truncated) = tokenizer.encode(text, 1 << 24, &mut input_ids).unwrap();
    assert!(!truncated);
    assert_eq!(input_ids, oracle(library, text), "{text:?}");
}

/// Both tokenizers of a file that the library would otherwise not be needed for.
fn both(json: &Value) -> (Tokenizer, tokenizers::Tokenizer) {
    let tokenizer = load(json, 1 << 20).unwrap();
    assert!(!matches!(tokenizer.inner, Inner::Library(_)));
    let mut library = tokenizers::Tokenizer::from_bytes(json.to_string()).unwrap();
    library.with_padding(None);
    library.with_truncation(None).unwrap();
    (tokenizer, library)
}

fn default_model() -> Value {
    let json = std::fs::read("../model/default/tokenizer.json").unwrap();
    serde_json::from_slice(&json).unwrap()
}

/// Every combination of the normalizer's switches.
fn variants(json: &Value) -> impl Iterator<Item = Value> {
    (0..24).map(move |i| {
        let mut json = json.clone();
        let normalizer = &mut json["normalizer"];
        normalizer["lowercase"] = json!(i & 1 == 0);
        normalizer["clean_text"] = json!(i & 2 == 0);
        normalizer["handle_chinese_chars"] = json!(i & 4 == 0);
        normalizer["strip_accents"] = [Value::Null, json!(true), json!(false)][i / 8].clone();
        json
    })
}

#[test]
fn every_code_point_has_the_librarys_tokens() {
    for (i, json) in variants(&default_model()).enumerate() {
        let (tokenizer, library) = both(&json);
        // All of Unicode takes a while: the default's switches get it, the others a sample.
        let step = if i == 0 { 1 } else { 61 };
        let mut text = String::new();
        for c in (i as u32..=0x0010_ffff)
            .step_by(step)
            .filter_map(char::from_u32)
        {
            text.extend([
                "a",
                c.encode_utf8(&mut [0; 4]),
                "b ",
                c.encode_utf8(&mut [0; 4]),
            ]);
            if text.len() > 2000 {
                check_against(&tokenizer, &library, &text);
                text.clear();
            }
        }
        check_against(&tokenizer, &library, &text);
    }
}

#[test]
fn a_large_corpus_has_the_librarys_tokens() {
    let (tokenizer, library) = both(&default_model());
    // The vocabulary's own pieces in random company: words that are one piece, words
    // that are many, and words that are none.
    let pieces: Vec<String> = library.get_vocab(true).into_keys().collect();
    let marks = [
        "",
        "",
        " ",
        " ",
        " ",
        "'",
        "!",
        "#",
        "\u{301}",
        "\u{2019}",
        "\u{1f600}",
        "\n",
    ];
    let mut state = 1_u64;
    let mut random = |n: usize| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (state >> 33) as usize % n
    };
    for _ in 0..20_000 {
        let mut text = String::new();
        for _ in 0..random(30) {
            let piece = &pieces[random(pieces.len())];
            let piece = piece.strip_prefix("##").unwrap_or(piece);
            if random(8) == 0 {
                text.push_str(&piece.to_uppercase());
            } else {
                text.push_str(piece);
            }
            text.push_str(marks[random(marks.len())]);
        }
        check_against(&tokenizer, &library, &text);
    }
}

#[test]
fn words_at_the_limit_have_the_librarys_tokens() {
    let (tokenizer, library) = both(&default_model());
    for n in [99, 100, 101, 5000] {
        for letter in ["a", "\u{e9}", "\u{437}", "\u{1d400}"] {
            check_against(&tokenizer, &library, &letter.repeat(n));
        }
    }
}

#[test]
fn other_tokenizers_are_the_librarys() {
    let mut json = bert();
    json["pre_tokenizer"] = json!({"type": "Whitespace"});
    let tokenizer = load(&json, 15).unwrap();
    assert!(matches!(tokenizer.inner, Inner::Library(_)));
    check(&tokenizer, "AB \u{e1}ba!", 16, &[2, 8, 8, 6, 9, 3], false);
    check(&tokenizer, "a b a b", 5, &[2, 4, 5, 4, 3], true);
}

#[test]
fn what_makes_the_library_panic_is_refused() {
    let mut json = bert();
    // A table of rewriting rules that is four zeros: sound until it is looked into.
    json["normalizer"] = json!({"type": "Precompiled", "precompiled_charsmap": "AAAAAA=="});
    check_refused(&json, 15, "panics");
}

fn text() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        any::<char>().prop_map(String::from),
        prop::sample::select(vec![
            "a",
            "b",
            "ab",
            " ",
            "!",
            ".",
            "[",
            "]",
            "[SEP]",
            "[CLS]",
            "[S",
            "EP]",
            "\u{301}",
            "\u{338}",
            "\0",
            "\u{4e2d}",
            "\u{f900}",
            "\u{37e}",
            "<",
            "=",
            "\u{1fef}",
            "\u{200d}",
            "\n",
            "\u{3000}",
            "\u{302e}",
            "\u{1d165}",
            "\u{316}",
            "\u{1}",
            "\u{ac00}",
            "\u{130}",
        ])
        .prop_map(String::from),
    ];
    prop::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_text_has_the_librarys_tokens(text in text(), variant in 0_usize..24) {
        static SMALL: LazyLock<Vec<(Tokenizer, tokenizers::Tokenizer)>> =
            LazyLock::new(|| variants(&bert()).map(|json| both(&json)).collect());
        static REAL: LazyLock<(Tokenizer, tokenizers::Tokenizer)> =
            LazyLock::new(|| both(&default_model()));
        let (tokenizer, library) = &SMALL[variant];
        check_against(tokenizer, library, &text);
        check_against(&REAL.0, &REAL.1, &text);
    }

    #[test]
    fn truncation_drops_the_end(text in text(), max_tokens in 3_usize..12) {
        let tokenizer = load(&bert(), 15).unwrap();
        let (mut whole, mut cut) = (Vec::new(), Vec::new());
        tokenizer.encode(&text, 1000, &mut whole).unwrap();
        let Truncated(truncated) = tokenizer.encode(&text, max_tokens, &mut cut).unwrap();
        prop_assert_eq!(truncated, whole.len() > max_tokens);
        if truncated {
            whole.truncate(max_tokens - 1);
            whole.push(3);
        }
        prop_assert_eq!(cut, whole);
    }
}
