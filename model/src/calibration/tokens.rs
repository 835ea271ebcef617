//! Posts as token ids, near enough: what calibration needs of a tokenizer is that its tokens are
//! those of everyday posts. Words are cut greedily into the longest pieces of the vocabulary,
//! which is BERT's rule, and for other tokenizers gives what they give for most words.

use crate::tokens::special_tokens;
use serde_json::Value;
use std::collections::HashMap;

/// Posts made up for this, one a line, by language; handles are `@user` and links `http`.
const ENGLISH: &str = include_str!("posts/en.txt");
const OTHER_LANGUAGES: [&str; 7] = [
    include_str!("posts/ar.txt"),
    include_str!("posts/de.txt"),
    include_str!("posts/es.txt"),
    include_str!("posts/fr.txt"),
    include_str!("posts/hi.txt"),
    include_str!("posts/it.txt"),
    include_str!("posts/pt.txt"),
];
/// A vocabulary that was made for a language takes at most so many tokens for one of its words, in
/// the mean. XLM-RoBERTa's takes 1.3 to 1.5 in each of these; BERT's English one takes 1.2 in
/// English, and 1.9 to 4.3 in the others.
const MAX_TOKENS_PER_WORD: f64 = 1.7;

/// Every calibration post's ids by the vocabulary of a `tokenizer.json`, at most `max_tokens` of
/// each. Other languages' than English are left out where the vocabulary was not made for them.
pub(crate) fn posts(tokenizer: &Value, max_tokens: usize) -> Vec<Vec<u32>> {
    let vocabulary = Vocabulary::new(&tokenizer["model"]);
    let (before, after) = special_tokens(&tokenizer["post_processor"])
        .or_else(|| roberta_tokens(&tokenizer["post_processor"]))
        .unwrap_or_default();
    let others = OTHER_LANGUAGES.into_iter();
    let others = others.filter(|posts| vocabulary.is_made_for(posts));
    let mut posts = Vec::new();
    for line in std::iter::once(ENGLISH).chain(others).flat_map(str::lines) {
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

    /// Whether a text's words take few tokens, letters that are in none counted as one each.
    fn is_made_for(&self, text: &str) -> bool {
        let mut ids = Vec::new();
        let unknown = self.encode(text, &mut ids);
        let words = text.split_whitespace().count();
        (ids.len() + unknown) as f64 <= MAX_TOKENS_PER_WORD * words as f64
    }

    /// Gives the number of letters that are in no piece and are left out.
    fn encode(&self, post: &str, ids: &mut Vec<u32>) -> usize {
        let mut unknown = 0;
        for word in post.split_whitespace() {
            if self.splits_punctuation {
                let is_mark = |c: char| c.is_ascii_punctuation();
                for part in word.split_inclusive(is_mark) {
                    let rest = part.trim_end_matches(is_mark);
                    unknown += self.word(rest, ids);
                    unknown += self.word(&part[rest.len()..], ids);
                }
            } else {
                unknown += self.word(word, ids);
            }
        }
        unknown
    }

    /// The longest pieces, one after the other; gives the number of letters left out.
    fn word(&self, word: &str, ids: &mut Vec<u32>) -> usize {
        let mut unknown = 0;
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
            unknown += usize::from(id.is_none());
            ids.extend(id);
            rest = &rest[end..];
            mark = self.continuation;
        }
        unknown
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

    /// One token a word in English and the language that the vocabulary knows, a token or no
    /// piece a letter in the others.
    #[test]
    fn posts_are_in_the_languages_of_the_vocabulary() {
        let posts_of = |known: &str| {
            let words = [ENGLISH, known].into_iter().flat_map(str::split_whitespace);
            let words = words.map(|word| format!("\u{2581}{word}"));
            let letters = ('a'..='z').map(String::from);
            let vocab: Vec<_> = words
                .chain(letters)
                .map(|piece| json!([piece, -1.0]))
                .collect();
            posts(&json!({"model": {"type": "Unigram", "vocab": vocab}}), 128).len()
        };
        let english = ENGLISH.lines().count();
        assert_eq!(posts_of(""), english);
        for other in OTHER_LANGUAGES {
            assert_eq!(posts_of(other), english + other.lines().count(), "{other}");
        }
    }
}
