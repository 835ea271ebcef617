//! The special and added tokens of a `tokenizer.json`.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Bytes of the longest piece that a table may have. It bounds what a hostile table can make
/// a word cost: its length times this. XLM-RoBERTa's longest has 48, the default model's 18.
pub(crate) const MAX_PIECE: usize = 128;

/// A token that is looked for in the text as it is written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AddedToken {
    /// Printable ASCII.
    pub content: String,
    /// Its id.
    pub id: u32,
    /// White space before it is dropped.
    #[serde(default)]
    pub lstrip: bool,
}

impl AddedToken {
    /// Whether the content is something, and printable ASCII.
    pub(crate) fn is_graphic(&self) -> bool {
        let mut bytes = self.content.bytes();
        !self.content.is_empty() && bytes.all(|b| b.is_ascii_graphic())
    }
}

/// The added tokens, the longest first, if each is matched as it is written wherever it
/// stands and has the same `id` in the vocabulary.
pub(crate) fn added_tokens(
    json: &Value,
    id: impl Fn(&str) -> Option<u32>,
) -> Option<Vec<AddedToken>> {
    let mut tokens = Vec::new();
    for token in json.as_array()? {
        let content = token["content"].as_str()?;
        let is_plain = ["single_word", "rstrip", "normalized"]
            .iter()
            .all(|&flag| token[flag] == false);
        let known = id(content)?;
        let added = AddedToken {
            content: content.to_owned(),
            id: known,
            lstrip: token["lstrip"].as_bool()?,
        };
        if !is_plain || !added.is_graphic() || token["id"] != known {
            return None;
        }
        tokens.push(added);
    }
    // Of two that begin alike the longer one counts.
    tokens.sort_by_key(|token| std::cmp::Reverse(token.content.len()));
    Some(tokens)
}

/// The special tokens that a `post_processor` puts before and after a single text.
pub(crate) fn special_tokens(json: &Value) -> Option<(Vec<u32>, Vec<u32>)> {
    let id = |value: &Value| u32::try_from(value.as_u64()?).ok();
    match json["type"].as_str() {
        None if json.is_null() => Some((Vec::new(), Vec::new())),
        Some("BertProcessing") => Some((vec![id(&json["cls"][1])?], vec![id(&json["sep"][1])?])),
        Some("TemplateProcessing") => {
            let mut parts = [Vec::new(), Vec::new()];
            let mut texts = 0;
            for part in json["single"].as_array()? {
                if let Some(name) = part["SpecialToken"]["id"].as_str() {
                    let ids = json["special_tokens"][name]["ids"].as_array()?;
                    for value in ids {
                        parts[texts].push(id(value)?);
                    }
                } else if part["Sequence"]["id"] == "A" && texts == 0 {
                    texts = 1;
                } else {
                    return None;
                }
            }
            let [before, after] = parts;
            (texts == 1).then_some((before, after))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn templates_are_read_and_odd_ones_left() {
        let special = |name: &str| json!({"SpecialToken": {"id": name, "type_id": 0}});
        let text = || json!({"Sequence": {"id": "A", "type_id": 0}});
        let ids = json!({"[CLS]": {"id": "[CLS]", "ids": [1], "tokens": ["[CLS]"]},
            "[SEP]": {"id": "[SEP]", "ids": [2, 2], "tokens": ["[SEP]", "[SEP]"]}});
        let template = |single: Value| {
            special_tokens(&json!({"type": "TemplateProcessing", "single": single,
                "special_tokens": ids}))
        };
        assert_eq!(
            template(json!([special("[CLS]"), text(), special("[SEP]")])),
            Some((vec![1], vec![2, 2]))
        );
        assert_eq!(template(json!([text(), text()])), None);
        assert_eq!(template(json!([special("[CLS]")])), None);
        assert_eq!(template(json!([special("[X]"), text()])), None);
        assert_eq!(special_tokens(&Value::Null), Some((vec![], vec![])));
    }
}
