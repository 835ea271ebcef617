//! XLM-RoBERTa's tokenizer over a table that is used where it lies.
//!
//! A text goes through four steps, grapheme cluster by cluster: added tokens are found in
//! it as it is written, the rest goes through the character map, then it is split into
//! words, each of which begins with [`SPACE`], and as soon as a word ends, it is cut into
//! the pieces with the largest sum of scores. The `tokenizers` library makes copies of the
//! text with offsets for each of these steps; the ids are the same, which the tests hold
//! against it on every code point and on random text. Grapheme clusters come from the very
//! crate that the library takes them from, and sums are added in the library's order.

use coldread_model::packed::PackedTokenizer;
use coldread_model::unigram::{self, SPACE, Table};
use coldread_model::{AddedToken, PackedModel};
use serde_json::Value;
use std::mem;
use unicode_segmentation::UnicodeSegmentation;

/// Longer grapheme clusters go through the character map character by character, as in
/// the library.
const LONGEST_MAPPED: usize = 5;

/// A tokenizer of XLM-RoBERTa's kind.
pub(super) struct Unigram {
    store: VocabularyStore,
    /// Whether an added token begins with a byte.
    begins_added: [bool; 256],
}

/// Where its rules and its table are.
enum VocabularyStore {
    Packed(PackedModel),
    Owned(unigram::Unigram, Vec<u64>),
}

impl Unigram {
    /// That of a packed model, which has one of this kind.
    pub(super) fn from_packed(model: &PackedModel) -> Self {
        Self::new(VocabularyStore::Packed(model.clone()))
    }

    /// That of a `tokenizer.json`, if it is of this kind.
    pub(super) fn compile(json: &Value) -> Option<Self> {
        let (rules, table) = unigram::Unigram::compile(json)?;
        Some(Self::new(VocabularyStore::Owned(rules, table)))
    }

    fn new(store: VocabularyStore) -> Self {
        let mut begins_added = [false; 256];
        for token in &store.parts().0.added_tokens {
            begins_added[usize::from(token.content.as_bytes()[0])] = true;
        }
        Self {
            store,
            begins_added,
        }
    }

    /// Ids are below this.
    pub(super) fn num_ids(&self) -> usize {
        self.store.parts().1.num_ids()
    }

    /// The special tokens before and after a text.
    pub(super) fn special_tokens(&self) -> (Vec<u32>, Vec<u32>) {
        let (rules, _) = self.store.parts();
        (rules.before.clone(), rules.after.clone())
    }

    /// Appends the text's tokens without special ones, and stops soon after there are more
    /// than `limit` ids.
    pub(super) fn encode(&self, text: &str, limit: usize, input_ids: &mut Vec<u32>) {
        let (rules, table) = self.store.parts();
        let mut words = Words {
            rules,
            table,
            input_ids,
            limit,
            word: String::with_capacity(64),
            after_space: false,
            held: String::new(),
            ends: Vec::with_capacity(64),
        };
        let mut rest = text;
        while !rest.is_empty() && !words.is_full() {
            let Some((start, token)) = self.added_token(rules, rest) else {
                words.text(mem::take(&mut rest));
                break;
            };
            let before = &rest[..start];
            words.text(if token.lstrip {
                before.trim_end()
            } else {
                before
            });
            words.input_ids.push(token.id);
            rest = &rest[start + token.content.len()..];
        }
    }

    /// The first added token in `text`, the longest of those that begin there, and where.
    fn added_token<'a>(
        &self,
        rules: &'a unigram::Unigram,
        text: &str,
    ) -> Option<(usize, &'a AddedToken)> {
        let bytes = text.as_bytes();
        let mut starts = (0..bytes.len()).filter(|&i| self.begins_added[usize::from(bytes[i])]);
        starts.find_map(|i| {
            let mut tokens = rules.added_tokens.iter();
            let token = tokens.find(|token| bytes[i..].starts_with(token.content.as_bytes()))?;
            Some((i, token))
        })
    }
}

impl VocabularyStore {
    fn parts(&self) -> (&unigram::Unigram, Table<'_>) {
        match self {
            Self::Packed(model) => match model.tokenizer() {
                PackedTokenizer::Unigram(rules, table) => (rules, table),
                _ => unreachable!("the model has one of this kind"),
            },
            Self::Owned(rules, table) => {
                let bytes = bytemuck::cast_slice(table);
                (rules, Table::new(bytes).expect("a table just made"))
            }
        }
    }
}

/// The best way to cut a word's beginning into pieces.
#[derive(Clone, Copy)]
struct End {
    /// The sum of the pieces' scores.
    score: f64,
    /// The last piece and where it begins; `None` as long as no pieces lead here.
    last: Option<(u32, usize)>,
}

impl End {
    const NONE: Self = Self {
        score: 0.0,
        last: None,
    };

    /// Takes another way that leads here if it is better.
    fn offer(&mut self, score: f64, id: u32, start: usize) {
        if self.last.is_none() || score > self.score {
            let last = Some((id, start));
            *self = Self { score, last };
        }
    }
}

/// Gathers characters into words and words' pieces into ids.
struct Words<'a> {
    rules: &'a unigram::Unigram,
    table: Table<'a>,
    input_ids: &'a mut Vec<u32>,
    limit: usize,
    /// The word so far.
    word: String,
    /// Whether the character before was a space.
    after_space: bool,
    /// White space that is dropped if the text ends behind it.
    held: String,
    /// For each byte of a word, the best way that ends before it.
    ends: Vec<End>,
}

impl Words<'_> {
    fn is_full(&self) -> bool {
        self.input_ids.len() > self.limit
    }

    /// A text without added tokens, as far as it counts.
    fn text(&mut self, text: &str) {
        self.after_space = false;
        self.held.clear();
        let mut rest = text;
        while !rest.is_empty() && !self.is_full() {
            let (cluster, others) = rest.split_at(cluster_len(rest));
            self.cluster(cluster);
            rest = others;
        }
        self.end();
    }

    /// Takes characters that belong together through the character map.
    fn cluster(&mut self, cluster: &str) {
        let is_short = cluster.len() <= LONGEST_MAPPED;
        if is_short && let Some(replacement) = self.table.replacement(cluster) {
            replacement.chars().for_each(|c| self.push(c));
            return;
        }
        for (start, c) in cluster.char_indices() {
            let alone = &cluster[start..start + c.len_utf8()];
            match self.table.replacement(alone) {
                Some(replacement) => replacement.chars().for_each(|c| self.push(c)),
                None => self.push(c),
            }
        }
    }

    /// A character that went through the map.
    fn push(&mut self, c: char) {
        if self.rules.trim_end && c.is_whitespace() {
            self.held.push(c);
            return;
        }
        if !self.held.is_empty() {
            let held = mem::take(&mut self.held);
            held.chars().for_each(|c| self.keep(c));
            self.held = held;
            self.held.clear();
        }
        self.keep(c);
    }

    /// A character that stays: ends a word, or is part of one.
    fn keep(&mut self, c: char) {
        let is_space = c == ' ';
        let is_repeated = is_space && self.after_space && self.rules.merge_spaces;
        self.after_space = is_space;
        if self.rules.split_whitespace && c.is_whitespace() {
            self.end();
        } else if is_space || c == SPACE {
            if !is_repeated {
                self.end();
                self.word.push(SPACE);
            }
        } else {
            if self.word.is_empty() {
                self.word.push(SPACE);
            }
            self.word.push(c);
        }
    }

    /// Cuts the word into pieces: finds the best way to the end of each of its beginnings,
    /// the shortest first, then goes the way back from its own end.
    fn end(&mut self) {
        let (table, unk_id) = (self.table, self.rules.unk_id);
        let word = mem::take(&mut self.word);
        self.ends.clear();
        self.ends.resize(word.len() + 1, End::NONE);
        for (start, c) in word.char_indices() {
            let score = self.ends[start].score;
            let mut has_piece = false;
            for (length, id) in table.pieces(&word.as_bytes()[start..]) {
                has_piece |= length == c.len_utf8();
                self.ends[start + length].offer(score + table.score(id), id, start);
            }
            if !has_piece {
                let score = score + table.unknown_score();
                self.ends[start + c.len_utf8()].offer(score, unk_id, start);
            }
        }
        let first = self.input_ids.len();
        let mut end = word.len();
        while let Some((mut id, mut start)) = self.ends[end].last {
            if id == unk_id {
                // Unknown characters in a row are one token, which may be a piece after all.
                while let Some((id, before)) = self.ends[start].last
                    && id == unk_id
                {
                    start = before;
                }
                id = table.find(&word.as_bytes()[start..end]).unwrap_or(unk_id);
            }
            self.input_ids.push(id);
            end = start;
        }
        self.input_ids[first..].reverse();
        self.word = word;
        self.word.clear();
    }
}

/// The length of the grapheme cluster that `text` begins with.
fn cluster_len(text: &str) -> usize {
    match text.as_bytes() {
        // No more than these two ASCII characters ever belong together.
        [b'\r', b'\n', ..] => 2,
        [a, b, ..] if a.is_ascii() && b.is_ascii() => 1,
        _ => text.graphemes(true).next().map_or(0, str::len),
    }
}
