//! `vocab.json` and `merges.txt`: `RoBERTa`'s pairs of bytes.

use super::special::Special;
use crate::error::{LoadError, read};
use serde_json::{Map, Value, json};
use std::path::Path;

pub(super) fn json(path: &Path, bytes: &[u8], special: &Special) -> Result<Value, LoadError> {
    special.check_class(&["RobertaTokenizer"])?;
    let vocab: Map<String, Value> =
        serde_json::from_slice(bytes).map_err(|e| LoadError::invalid(path, e.to_string()))?;
    let merges = merges(&path.with_file_name("merges.txt"))?;
    let names = [
        ("bos_token", "<s>"),
        ("eos_token", "</s>"),
        ("sep_token", "</s>"),
        ("cls_token", "<s>"),
        ("unk_token", "<unk>"),
        ("pad_token", "<pad>"),
        ("mask_token", "<mask>"),
    ];
    let tokens = names.map(|(role, default)| special.token(role, default));
    let [_, _, sep, cls, ..] = tokens;
    let id = |token: &str| special.id(path, token, &vocab);
    let (sep, cls) = ((sep, id(sep)?), (cls, id(cls)?));
    let added_tokens = special.added_tokens(&tokens, |token| id(token).ok());
    let add_prefix_space = special.switch("add_prefix_space").unwrap_or(false);
    let byte_level = json!({
        "type": "ByteLevel", "add_prefix_space": add_prefix_space, "trim_offsets": true,
        "use_regex": true,
    });
    Ok(json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": added_tokens,
        "normalizer": null,
        "pre_tokenizer": byte_level,
        "post_processor": {
            "type": "RobertaProcessing", "sep": sep, "cls": cls, "trim_offsets": true,
            "add_prefix_space": add_prefix_space,
        },
        "decoder": byte_level,
        "model": {
            "type": "BPE",
            "dropout": null,
            "unk_token": null,
            "continuing_subword_prefix": "",
            "end_of_word_suffix": "",
            "fuse_unk": false,
            "byte_fallback": false,
            "vocab": vocab,
            "merges": merges,
        },
    }))
}

/// Two pieces a line, behind a line with the version.
fn merges(path: &Path) -> Result<Vec<[String; 2]>, LoadError> {
    let bytes = read(path)?;
    let text =
        str::from_utf8(&bytes).map_err(|_| LoadError::invalid(path, "it is not text in UTF-8"))?;
    let mut merges = Vec::new();
    for (i, line) in text.lines().enumerate() {
        if line.is_empty() || (i == 0 && line.starts_with("#version")) {
            continue;
        }
        match line.split_once(' ') {
            Some((left, right))
                if !left.is_empty() && !right.is_empty() && !right.contains(' ') =>
            {
                merges.push([left.to_owned(), right.to_owned()]);
            }
            _ => {
                let reason = format!("line {}: expected two pieces and a space", i + 1);
                return Err(LoadError::invalid(path, reason));
            }
        }
    }
    Ok(merges)
}
