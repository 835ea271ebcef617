//! Applies a model's [`NormalizationProfile`] to a post.
//!
//! The steps and their reasons are in the [module above](super). Each is one
//! pass that hands back `None` when it has nothing to change, so that a plain
//! post is never copied. No step looks at a character more than a constant
//! number of times: a hostile post costs no more per byte than a plain one.

use super::emoji::{EmojiSource, EmojiTable, remove_modifiers};
use super::html::{is_escaped_html, strip_tags};
use super::markup::{replace_handles, replace_links, split_hashtags};
use super::styled::{fold_styled, remove_invisible};
use coldread_model::NormalizationProfile;
use coldread_model::profile::Quotes;
use std::borrow::Cow;

/// The steps of one model's profile, ready to run.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a step, on or off")]
pub struct Normalizer {
    html_tags: bool,
    html_entities: bool,
    invisible: bool,
    styled_letters: bool,
    links: Option<String>,
    handles: Option<String>,
    quotes: Option<Quotes>,
    split_hashtags: bool,
    emoji: Option<EmojiTable>,
    max_repeat: Option<usize>,
}

impl Normalizer {
    /// Prepares a profile. This is on the cold-start path: `emoji`, the table that
    /// the profile may name and its only large part, is not read before a post has
    /// something beyond ASCII.
    pub fn new(profile: &NormalizationProfile, emoji: EmojiSource) -> Self {
        Self {
            html_tags: profile.html_tags,
            html_entities: profile.html_entities,
            invisible: profile.invisible,
            styled_letters: profile.styled_letters,
            links: profile.links.as_ref().map(|value| format!(" {value} ")),
            handles: profile.handles.clone(),
            quotes: profile.quotes,
            split_hashtags: profile.split_hashtags,
            emoji: profile.emoji.as_ref().map(|_| EmojiTable::new(emoji)),
            max_repeat: profile.max_repeat,
        }
    }

    /// The post as the model's tokenizer should see it; borrowed when nothing changes.
    pub fn normalize<'a>(&self, post: &'a str) -> Cow<'a, str> {
        let mut text = Cow::Borrowed(post);
        if self.html_tags {
            if self.html_entities && is_escaped_html(&text) {
                text = htmlize::unescape(text);
            }
            text = apply(text, strip_tags);
        }
        if self.html_entities {
            // The crate follows the HTML standard's algorithm for text; the
            // tests hold it against the specification and every named entity.
            text = htmlize::unescape(text);
        }
        if self.invisible {
            text = apply(text, remove_invisible);
        }
        if self.styled_letters {
            text = apply(text, fold_styled);
        }
        if let Some(value) = &self.links {
            text = apply(text, |text| replace_links(text, value));
        }
        if let Some(value) = &self.handles {
            text = apply(text, |text| replace_handles(text, value));
        }
        if self.quotes == Some(Quotes::Ascii) {
            text = apply(text, ascii_quotes);
        }
        if self.split_hashtags {
            text = apply(text, split_hashtags);
        }
        if let Some(table) = &self.emoji {
            text = apply(text, remove_modifiers);
            text = apply(text, |text| table.spell(text, self.max_repeat));
        }
        if let Some(limit) = self.max_repeat {
            text = apply(text, |text| cut_repeats(text, limit));
        }
        apply(text, collapse_white_space)
    }
}

/// Runs one step; `None` from it means that the text stays.
fn apply(text: Cow<'_, str>, step: impl FnOnce(&str) -> Option<String>) -> Cow<'_, str> {
    match step(&text) {
        Some(changed) => Cow::Owned(changed),
        None => text,
    }
}

/// Typographic quotation marks, accents and primes used as such become ASCII ones.
fn ascii_quotes(text: &str) -> Option<String> {
    if text.is_ascii() {
        return None;
    }
    let ascii = |c| match c {
        '\u{2018}' | '\u{2019}' | '\u{201b}' | '\u{b4}' | '\u{2032}' => '\'',
        '\u{201c}' | '\u{201d}' | '\u{201f}' | '\u{2033}' => '"',
        other => other,
    };
    text.chars()
        .any(|c| ascii(c) != c)
        .then(|| text.chars().map(ascii).collect())
}

/// Runs of one character longer than `limit` are cut to it. Digits are left
/// alone: 1000000 is not an emphatic 1000.
fn cut_repeats(text: &str, limit: usize) -> Option<String> {
    let mut out = String::new();
    let mut copied = 0;
    let mut previous = None;
    let mut run = 0_usize;
    for (i, c) in text.char_indices() {
        run = if previous == Some(c) { run + 1 } else { 1 };
        previous = Some(c);
        if run > limit && !c.is_ascii_digit() {
            out.push_str(&text[copied..i]);
            copied = i + c.len_utf8();
        }
    }
    finish(text, copied, out)
}

/// What a step has written so far, with the rest of the text behind it; `None`
/// if it has copied nothing yet, that is, changed nothing.
pub(super) fn finish(text: &str, copied: usize, mut out: String) -> Option<String> {
    (copied > 0).then(|| {
        out.push_str(&text[copied..]);
        out
    })
}

/// Runs of Unicode `White_Space` become one space; none at either end.
fn collapse_white_space(text: &str) -> Option<String> {
    if is_collapsed(text) {
        return None;
    }
    let mut out = String::with_capacity(text.len());
    for word in text.split_whitespace() {
        if !out.is_empty() {
            out.push(' ');
        }
        out.push_str(word);
    }
    Some(out)
}

fn is_collapsed(text: &str) -> bool {
    let mut after_space = true;
    for c in text.chars() {
        if c.is_whitespace() && (after_space || c != ' ') {
            return false;
        }
        after_space = c == ' ';
    }
    !after_space || text.is_empty()
}

#[cfg(test)]
mod tests;
