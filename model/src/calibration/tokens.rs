//! Posts as token ids, near enough: what calibration needs of a tokenizer is that its tokens are
//! those of everyday posts. Words are cut greedily into the longest pieces of the vocabulary,
//! which is BERT's rule, and for other tokenizers gives what they give for most words.

use crate::tokens::special_tokens;
use serde_json::Value;
use std::collections::HashMap;

/// Posts made up for this, one a line; handles are `@user` and links `http`.
const POSTS: &str = include_str!("posts.txt");

/// Every calibration post's ids by the vocabulary of a `tokenizer.json`, at most `max_tokens` of
/// each.
pub(crate) fn posts(tokenizer: &Value, max_tokens: usize) -> Vec<Vec<u32>> {
    let vocabulary = Vocabulary::new(&tokenizer["model"]);
    let (before, after) = special_tokens(&tokenizer["post_processor"])
        .or_else(|| roberta_tokens(&tokenizer["post_processor"]))
        .unwrap_or_default();
    let mut posts = Vec::new();
    for line in POSTS.lines() {
        let mut ids = before.clone();
        vocabulary.encode(line, &mut ids);
        ids.truncate(max_tokens.saturating_sub(after.len()));
        ids.extend(&after);
        if !ids.is_empty() && ids.len() <= max_tokens {
            posts.push(ids);
        }
    }
    posts
}

/// What `RobertaProcessing` puts before and after a text.
fn roberta_tokens(json: &Value) -> Option<(Vec<u32>, Vec<u32>)> {
    let ids = |name: &str| Some(vec![json[name][1].as_u64()? as u32]);
    Some((ids("cls")?, ids("sep")?))
}

struct Vocabulary<'a> {
    ids: HashMap<&'a str, u32>,
    /// What the pieces begin with that begin a word, and those that continue one.
    start: &'a str,
    continuation: &'a str,
    /// Whether punctuation marks are words.
    splits_punctuation: bool,
}

impl<'a> Vocabulary<'a> {
    /// The pieces of a tokenizer's model: an object, or Unigram's list.
    fn new(model: &'a Value) -> Self {
        let pieces = model["vocab"].as_object().into_iter().flatten();
        let pieces = pieces.filter_map(|(piece, id)| Some((&piece[..], id.as_u64()? as u32)));
        let list = model["vocab"].as_array().into_iter().flatten().enumerate();
        let list = list.filter_map(|(id, entry)| Some((entry[0].as_str()?, id as u32)));
        let ids: HashMap<_, _> = pieces.chain(list).collect();
        let is_wordpiece = model["type"] == "WordPiece";
        let (start, continuation) = if is_wordpiece {
            (
                "",
                model["continuing_subword_prefix"].as_str().unwrap_or("##"),
            )
        } else if ids.contains_key("Ġthe") {
            ("Ġ", "")
        } else {
            ("▁", "")
        };
        Self {
            ids,
            start,
            continuation,
            splits_punctuation: is_wordpiece,
        }
    }

    fn encode(&self, post: &str, ids: &mut Vec<u32>) {
        for word in post.split_whitespace() {
            if self.splits_punctuation {
                let is_mark = |c: char| c.is_ascii_punctuation();
                for part in word.split_inclusive(is_mark) {
                    let rest = part.trim_end_matches(is_mark);
                    self.word(rest, ids);
                    self.word(&part[rest.len()..], ids);
                }
            } else {
                self.word(word, ids);
            }
        }
    }

    /// The longest pieces, one after the other. A letter that is in none is left out.
    fn word(&self, word: &str, ids: &mut Vec<u32>) {
        let mut mark = self.start;
        let mut rest = word;
        while let Some(c) = rest.chars().next() {
            let ends = rest.char_indices().map(|(i, c)| i + c.len_utf8()).rev();
            let mut pieces = ends.filter_map(|end| {
                let piece = format!("{mark}{}", &rest[..end]);
                let lower = || self.ids.get(&piece.to_lowercase()[..]);
                let id = self.ids.get(&piece[..]).or_else(lower)?;
                Some((*id, end))
            });
            let (id, end) = pieces
                .next()
                .map_or((None, c.len_utf8()), |(id, end)| (Some(id), end));
            ids.extend(id);
            rest = &rest[end..];
            mark = self.continuation;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn check(model: &Value, post: &str, expected: &[u32]) {
        let mut ids = Vec::new();
        Vocabulary::new(model).encode(post, &mut ids);
        assert_eq!(ids, expected, "{post}");
    }

    #[test]
    fn words_become_the_longest_pieces() {
        let bert = json!({"type": "WordPiece", "continuing_subword_prefix": "##",
            "vocab": {"so": 1, "good": 2, "##ness": 3, "!": 4, "good!": 5, "s": 6}});
        check(&bert, "So  goodness!!", &[1, 2, 3, 4, 4]);
        check(&bert, "\u{3b1}s", &[]);
        let bpe = json!({"type": "BPE", "vocab": {"Ġthe": 0, "Ġgo": 1, "od": 2, "!": 3}});
        check(&bpe, "the good!", &[0, 1, 2, 3]);
        let unigram =
            json!({"type": "Unigram", "vocab": [["<s>", 0.0], ["▁so", -1.0], ["s", -2.0]]});
        check(&unigram, "so sos", &[1, 1, 2]);
    }
}
