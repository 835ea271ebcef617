use super::*;
use proptest::prelude::*;
use serde_json::{Value, json};

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
    check(
        &tokenizer,
        "AB \u{e1}ba!",
        16,
        &[2, 8, 4, 7, 6, 9, 3],
        false,
    );
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
            .contains("no room beside 2 special tokens"),
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

#[test]
fn only_bert_is_cut() {
    assert!(load(&bert(), 15).unwrap().boundaries.is_some());
    let mut spaced = bert();
    spaced["added_tokens"][0]["content"] = json!("no cut");
    assert!(load(&spaced, 16).unwrap().boundaries.is_none());
    let mut other = bert();
    other["pre_tokenizer"] = json!({"type": "Whitespace"});
    assert!(load(&other, 15).unwrap().boundaries.is_none());
}

fn text() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        any::<char>().prop_map(String::from),
        prop::sample::select(vec![
            "a", "b", "ab", " ", "!", ".", "[", "]", "[SEP]", "[CLS]", "[S", "EP]", "\u{301}",
            "\u{338}", "\0", "\u{4e2d}", "\u{f900}", "\u{37e}", "<", "=", "\u{1fef}", "\u{200d}",
            "\n", "\u{3000}",
        ])
        .prop_map(String::from),
    ];
    prop::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn pieces_have_the_tokens_of_the_whole(text in text(), size in 0_usize..9) {
        let tokenizer = load(&bert(), 15).unwrap();
        let boundaries = tokenizer.boundaries.as_ref().unwrap();
        let ids = |text: &str| tokenizer.inner.encode_fast(text, false).unwrap().get_ids().to_vec();
        let mut rest = text.as_str();
        let mut pieced = Vec::new();
        while !rest.is_empty() {
            let (piece, tail) = rest.split_at(boundaries.cut(rest, size));
            pieced.extend(ids(piece));
            rest = tail;
        }
        prop_assert_eq!(pieced, ids(&text));
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
