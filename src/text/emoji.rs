//! Emoji into words.
//!
//! A sorted list of keys in one string, searched by bisection: cheaper to build
//! at cold start than a hash map or a trie of two thousand keys, and a search
//! costs some dozen short comparisons, which only text beyond ASCII pays.

use super::normalize::finish;
use std::ops::Range;

const ZERO_WIDTH_JOINER: char = '\u{200d}';

/// The emoji that a model knows, each with its words.
#[derive(Debug, Clone)]
pub(super) struct EmojiTable {
    /// Keys and words, end to end.
    text: String,
    /// Sorted by key, each key once.
    entries: Vec<Entry>,
    /// Whether some key is written in ASCII alone.
    has_ascii_key: bool,
}

/// Where an emoji and its words stand in [`EmojiTable::text`].
#[derive(Debug, Clone)]
struct Entry {
    key: Range<u32>,
    words: Range<u32>,
}

impl EmojiTable {
    /// Of several lines for one emoji the last counts.
    pub(super) fn new(emoji_words: &[(String, String)]) -> Self {
        let size = emoji_words
            .iter()
            .map(|(key, words)| key.len() + words.len());
        let mut text = String::with_capacity(size.sum());
        let mut entries = Vec::with_capacity(emoji_words.len());
        let mut has_ascii_key = false;
        for (key, words) in emoji_words.iter().filter(|(key, _)| !key.is_empty()) {
            has_ascii_key |= key.is_ascii();
            let key = append(&mut text, key);
            let words = append(&mut text, words);
            entries.push(Entry { key, words });
        }
        let key = |entry: &Entry| &text[as_usize(&entry.key)];
        // Both are one comparison an entry for a table that comes sorted, as ours does.
        entries.sort_by(|a, b| key(a).cmp(key(b)));
        entries.dedup_by(|next, kept| {
            let is_same = key(next) == key(kept);
            if is_same {
                kept.words = next.words.clone();
            }
            is_same
        });
        Self {
            text,
            entries,
            has_ascii_key,
        }
    }

    /// Every emoji becomes its words, with a space on either side; joiners beside
    /// it go, and of a longer run of one emoji `max_repeat` are kept.
    pub(super) fn spell(&self, text: &str, max_repeat: Option<usize>) -> Option<String> {
        if text.is_ascii() && !self.has_ascii_key {
            return None;
        }
        let limit = max_repeat.unwrap_or(usize::MAX);
        let mut out = String::new();
        let mut copied = 0;
        let mut previous = None;
        let mut run = 0_usize;
        let mut i = 0;
        while i < text.len() {
            let rest = &text.as_bytes()[i..];
            let Some(index) = self.longest_prefix(rest) else {
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
            let entry = &self.entries[index];
            if run <= limit {
                out.push(' ');
                out.push_str(&self.text[as_usize(&entry.words)]);
                out.push(' ');
            }
            i += entry.key.len();
            copied = i;
            if text[i..].starts_with(ZERO_WIDTH_JOINER) {
                copied += ZERO_WIDTH_JOINER.len_utf8();
            }
        }
        finish(text, copied, out)
    }

    /// The entry with the longest key that `text` begins with.
    fn longest_prefix(&self, text: &[u8]) -> Option<usize> {
        // Of all keys that are prefixes of the text the longest sorts last, so it
        // is the greatest key not above the text, or else not above what that
        // key and the text have in common. Each turn shortens what is looked for.
        let first_char = char_length(text[0]);
        let mut sought = text;
        let mut entries = &self.entries[..];
        loop {
            let count = entries.partition_point(|entry| self.key(entry) <= sought);
            let index = count.checked_sub(1)?;
            let key = self.key(&entries[index]);
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

    fn key(&self, entry: &Entry) -> &[u8] {
        &self.text.as_bytes()[as_usize(&entry.key)]
    }
}

/// Appends `part` and tells where it stands. A table is far below 4 GiB.
fn append(text: &mut String, part: &str) -> Range<u32> {
    let start = text.len() as u32;
    text.push_str(part);
    start..text.len() as u32
}

fn as_usize(range: &Range<u32>) -> Range<usize> {
    range.start as usize..range.end as usize
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
