//! `vocab.txt`: BERT's pieces, one a line, whose number is the id.

use super::special::Special;
use super::surround;
use crate::error::LoadError;
use serde_json::{Map, Value, json};
use std::path::Path;

pub(super) fn json(path: &Path, bytes: &[u8], special: &Special) -> Result<Value, LoadError> {
    special.check_class(&["BertTokenizer", "DistilBertTokenizer", "ElectraTokenizer"])?;
    let text =
        str::from_utf8(bytes).map_err(|_| LoadError::invalid(path, "it is not text in UTF-8"))?;
    let mut vocab = Map::new();
    for (id, piece) in text.lines().enumerate() {
        vocab.insert(piece.to_owned(), id.into());
    }
    let names = ["pad", "unk", "cls", "sep", "mask"];
    let tokens = names.map(|name| {
        let default = format!("[{}]", name.to_uppercase());
        special.token(&format!("{name}_token"), &default).to_owned()
    });
    let [_, unk, cls, sep, _] = tokens.each_ref().map(|token| &token[..]);
    let id = |token: &str| special.id(path, token, &vocab);
    let post_processor = surround((cls, id(cls)?), (sep, id(sep)?));
    id(unk)?;
    let added_tokens = special.added_tokens(&tokens.each_ref().map(|t| &t[..]), |t| id(t).ok());
    Ok(json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": added_tokens,
        "normalizer": {
            "type": "BertNormalizer",
            "clean_text": true,
            "handle_chinese_chars": special.switch("tokenize_chinese_chars").unwrap_or(true),
            "strip_accents": special.switch("strip_accents"),
            "lowercase": special.switch("do_lower_case").unwrap_or(true),
        },
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": post_processor,
        "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": true},
        "model": {
            "type": "WordPiece",
            "unk_token": unk,
            "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 100,
            "vocab": vocab,
        },
    }))
}
