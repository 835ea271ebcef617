//! What stands beside a vocabulary: settings and special tokens.

use crate::error::{LoadError, read_optional};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Settings out of `tokenizer_config.json`, tokens out of `special_tokens_map.json`
/// and `added_tokens.json`; a folder may lack each of them.
pub(super) struct Special {
    path: PathBuf,
    config: Map<String, Value>,
    tokens: Map<String, Value>,
    added: BTreeMap<String, u32>,
}

impl Special {
    pub(super) fn open(folder: &Path) -> Result<Self, LoadError> {
        let path = folder.join("tokenizer_config.json");
        Ok(Self {
            config: parse(&path)?,
            tokens: parse(&folder.join("special_tokens_map.json"))?,
            added: parse(&folder.join("added_tokens.json"))?,
            path,
        })
    }

    /// Refuses the folder if it names a tokenizer of another kind, whose files may be
    /// called the same.
    pub(super) fn check_class(&self, known: &[&str]) -> Result<(), LoadError> {
        let Some(class) = self.config.get("tokenizer_class").and_then(Value::as_str) else {
            return Ok(());
        };
        if known.contains(&class.trim_end_matches("Fast")) {
            return Ok(());
        }
        Err(LoadError::unsupported(
            &self.path,
            format!(
                "tokenizer_class {class:?} is not supported without a tokenizer.json; supported \
                 here is {}",
                known.join(", ")
            ),
        ))
    }

    /// A switch of `tokenizer_config.json`; `None` where it is absent or null.
    pub(super) fn switch(&self, name: &str) -> Option<bool> {
        self.config.get(name)?.as_bool()
    }

    /// The text of a special token, such as `cls_token`.
    pub(super) fn token<'a>(&'a self, role: &str, default: &'a str) -> &'a str {
        let text = |value: &'a Value| value.as_str().or_else(|| value["content"].as_str());
        let found = |map: &'a Map<String, Value>| text(map.get(role)?);
        found(&self.tokens)
            .or_else(|| found(&self.config))
            .unwrap_or(default)
    }

    /// The entries of `added_tokens`: the special tokens, with their ids from `id`,
    /// and what `added_tokens.json` adds to the vocabulary.
    pub(super) fn added_tokens(
        &self,
        special: &[&str],
        id: impl Fn(&str) -> Option<u32>,
    ) -> Vec<Value> {
        let mut tokens = BTreeMap::new();
        for (text, &id) in &self.added {
            tokens.insert(id, &text[..]);
        }
        for text in special {
            if let Some(id) = id(text) {
                tokens.insert(id, text);
            }
        }
        let entry = |(id, text): (u32, &str)| {
            json!({
                "id": id, "content": text, "single_word": false, "lstrip": false,
                "rstrip": false, "normalized": false, "special": special.contains(&text),
            })
        };
        tokens.into_iter().map(entry).collect()
    }

    /// The id of a special token, which the vocabulary or the added tokens must have.
    pub(super) fn id(
        &self,
        path: &Path,
        text: &str,
        vocab: &Map<String, Value>,
    ) -> Result<u32, LoadError> {
        let id = vocab.get(text).and_then(Value::as_u64);
        id.and_then(|id| u32::try_from(id).ok())
            .or_else(|| self.added.get(text).copied())
            .ok_or_else(|| LoadError::invalid(path, format!("it lacks the special token {text:?}")))
    }
}

/// A JSON object, empty where there is no such file.
fn parse<T: DeserializeOwned + Default>(path: &Path) -> Result<T, LoadError> {
    match read_optional(path)? {
        None => Ok(T::default()),
        Some(bytes) => {
            serde_json::from_slice(&bytes).map_err(|e| LoadError::invalid(path, e.to_string()))
        }
    }
}
