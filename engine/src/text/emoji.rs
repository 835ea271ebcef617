//! Emoji into words.
//!
//! The lines of a table, searched by bisection. Which line begins where is found
//! out when the first post with anything beyond ASCII comes: a cold start that
//! answers a plain post never reads the table.

use super::normalize::finish;
use coldread_model::PackedModel;
use coldread_model::profile::emoji_words;
use std::sync::OnceLock;

const ZERO_WIDTH_JOINER: char = '\u{200d}';

/// Where a profile's emoji table is.
#[derive(Debug)]
pub enum EmojiSource {
    /// In a packed model.
    Packed(PackedModel),
    /// Here: lines of an emoji, a tab and its words.
    Owned(Vec<u8>),
}

/// The emoji that a model knows, each with its words. They are never plain ASCII.
#[derive(Debug)]
pub(super) struct EmojiTable {
    source: EmojiSource,
    index: OnceLock<Vec<Entry>>,
}

/// Where an emoji and its words stand in the table's bytes.
#[derive(Debug, Clone, Copy)]
struct Entry {
    key: (u32, u32),
    words: (u32, u32),
}

impl EmojiTable {
    pub(super) fn new(source: EmojiSource) -> Self {
        Self {
            source,
            index: OnceLock::new(),
        }
    }

    fn bytes(&self) -> &[u8] {
        match &self.source {
            EmojiSource::Packed(model) => model.emoji_table(),
            EmojiSource::Owned(bytes) => bytes,
        }
    }

    /// Sorted by key, each key once. Of several lines for one emoji the last counts.
    fn entries(&self) -> &[Entry] {
        self.index.get_or_init(|| {
            let bytes = self.bytes();
            // A table is far below 4 GiB.
            let place = |part: &str| {
                let start = part.as_ptr().addr() - bytes.as_ptr().addr();
                (start as u32, (start + part.len()) as u32)
            };
            let mut entries: Vec<Entry> = emoji_words(bytes)
                .map(|(key, words)| Entry {
                    key: place(key),
                    words: place(words),
                })
                .collect();
            let key = |entry: &Entry| self.slice(entry.key);
            // Both are one comparison an entry for a table that comes sorted, as ours does.
            entries.sort_by(|a, b| key(a).cmp(key(b)));
            entries.dedup_by(|next, kept| {
                let is_same = key(next) == key(kept);
                if is_same {
                    kept.words = next.words;
                }
                is_same
            });
            entries
        })
    }

    fn slice(&self, (start, end): (u32, u32)) -> &[u8] {
        &self.bytes()[start as usize..end as usize]
    }

    /// Every emoji becomes its words, with a space on either side; joiners beside
    /// it go, and of a longer run of one emoji `max_repeat` are kept.
    pub(super) fn spell(&self, text: &str, max_repeat: Option<usize>) -> Option<String> {
        if text.is_ascii() {
            return None;
        }
        let entries = self.entries();
        let limit = max_repeat.unwrap_or(usize::MAX);
        let mut out = String::new();
        let mut copied = 0;
        let mut previous = None;
        let mut run = 0_usize;
        let mut i = 0;
        while i < text.len() {
            let rest = &text.as_bytes()[i..];
            let Some(index) = self.longest_prefix(entries, rest) else {
                i += char_length(rest[0]);
                continue;
            };
            // A key that itself begins with a joiner may start before `copied`.
            let between = text.get(copied..i).unwrap_or_default();
            let between = between.strip_suffix(ZERO_WIDTH_JOINER).unwrap_or(between);
            out.push_str(between);
            let goes_on = between.is_empty() && previous == Some(index);
            run = if goes_on { run + 1 } else { 1 };
            previous = Some(index);
            let entry = entries[index];
            if run <= limit {
                out.push(' ');
                let words = str::from_utf8(self.slice(entry.words));
                out.push_str(words.expect("`emoji_words` gives strings"));
                out.push(' ');
            }
            i += self.slice(entry.key).len();
            copied = i;
            if text[i..].starts_with(ZERO_WIDTH_JOINER) {
                copied += ZERO_WIDTH_JOINER.len_utf8();
            }
        }
        finish(text, copied, out)
    }

    /// The entry with the longest key that `text` begins with.
    fn longest_prefix(&self, mut entries: &[Entry], text: &[u8]) -> Option<usize> {
        // Of all keys that are prefixes of the text the longest sorts last, so it
        // is the greatest key not above the text, or else not above what that
        // key and the text have in common. Each turn shortens what is looked for.
        let first_char = char_length(text[0]);
        let mut sought = text;
        loop {
            let count = entries.partition_point(|entry| self.slice(entry.key) <= sought);
            let index = count.checked_sub(1)?;
            let key = self.slice(entries[index].key);
            let common = key.iter().zip(sought).take_while(|(a, b)| a == b).count();
            if common == key.len() {
                return Some(index);
            }
            if common < first_char {
                return None;
            }
            sought = &sought[..common];
            entries = &entries[..index];
        }
    }
}

/// The length of the UTF-8 sequence that `first` opens.
fn char_length(first: u8) -> usize {
    match first {
        0..=0x7f => 1,
        0x80..=0xdf => 2,
        0xe0..=0xef => 3,
        0xf0.. => 4,
    }
}

/// Variation selectors and skin tones go: they say how an emoji is drawn.
pub(super) fn remove_modifiers(text: &str) -> Option<String> {
    if text.is_ascii() {
        return None;
    }
    let is_modifier = |c| matches!(c, '\u{fe0e}' | '\u{fe0f}' | '\u{1f3fb}'..='\u{1f3ff}');
    text.contains(is_modifier)
        .then(|| text.chars().filter(|&c| !is_modifier(c)).collect())
}
