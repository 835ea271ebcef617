//! Links, handles and hashtags: what a post holds besides words.
//!
//! Hand-written scanners, since each is a few lines, needs no compilation at
//! start and takes linear time by construction: whatever a scan rejects cannot
//! hold the start of another.

use super::normalize::finish;

/// Punctuation that closes the sentence round a link rather than the link.
const NOT_LAST_IN_LINK: &[u8] = b".,!?;:')]}*";

/// The signs that open a handle and a hashtag, and their full-width forms.
const AT: [&str; 2] = ["@", "\u{ff20}"];
const HASH: [&str; 2] = ["#", "\u{ff03}"];

/// Every link becomes `value`.
pub(super) fn replace_links(text: &str, value: &str) -> Option<String> {
    let mut out = String::new();
    let mut copied = 0;
    let mut i = 0;
    while i < text.len() {
        match link_end(text, i) {
            Some(end) => {
                out.push_str(&text[copied..i]);
                out.push_str(value);
                copied = end;
                i = end;
            }
            None => i += 1,
        }
    }
    finish(text, copied, out)
}

/// Where the link that begins at byte `start` ends, if one does.
fn link_end(text: &str, start: usize) -> Option<usize> {
    let bytes = text.as_bytes();
    let rest = &bytes[start..];
    let prefix = match rest[0] {
        b'h' | b'H' => ["http://", "https://"]
            .into_iter()
            .find(|prefix| starts_with_ignore_case(rest, prefix))?,
        b'w' | b'W' if !(start > 0 && bytes[start - 1].is_ascii_alphanumeric()) => {
            Some("www.").filter(|prefix| starts_with_ignore_case(rest, prefix))?
        }
        _ => return None,
    };
    let body = start + prefix.len();
    let mut end = body;
    for (i, c) in text[body..].char_indices() {
        if !is_url_char(c) {
            break;
        }
        if !(c.is_ascii() && NOT_LAST_IN_LINK.contains(&(c as u8))) {
            end = body + i + c.len_utf8();
        }
    }
    (end > body).then_some(end)
}

fn starts_with_ignore_case(bytes: &[u8], prefix: &str) -> bool {
    bytes
        .get(..prefix.len())
        .is_some_and(|start| start.eq_ignore_ascii_case(prefix.as_bytes()))
}

/// Printable ASCII but for the marks that quote a link, and the alphabets below
/// U+2000: not general punctuation, CJK or emoji, which follow links unspaced.
fn is_url_char(c: char) -> bool {
    match c {
        '<' | '>' | '"' => false,
        '!'..='~' | '\u{a1}'..='\u{1fff}' => true,
        _ => false,
    }
}

/// Every handle becomes `value`.
pub(super) fn replace_handles(text: &str, value: &str) -> Option<String> {
    let mut out = String::new();
    let mut copied = 0;
    let mut i = 0;
    while i < text.len() {
        match handle_end(text.as_bytes(), i) {
            Some(end) => {
                out.push_str(&text[copied..i]);
                out.push_str(value);
                copied = end;
                i = end;
            }
            None => i += 1,
        }
    }
    finish(text, copied, out)
}

/// Where the handle that begins at byte `start` ends, if one does.
fn handle_end(bytes: &[u8], start: usize) -> Option<usize> {
    let sign = sign_at(bytes, start, AT)?;
    let is_inner = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'@');
    if start > 0 && is_inner(bytes[start - 1]) {
        return None;
    }
    let name = start + sign;
    let end = name + run_length(&bytes[name..], is_word_byte);
    (end > name).then(|| host_end(bytes, end).unwrap_or(end))
}

/// Where the host of a federated handle ends, whose `@` would stand at `start`.
fn host_end(bytes: &[u8], start: usize) -> Option<usize> {
    let host = bytes[start..].strip_prefix(b"@")?;
    let is_host_byte = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-');
    let run = &host[..run_length(host, is_host_byte)];
    let last = run.iter().rposition(u8::is_ascii_alphanumeric)?;
    Some(start + 1 + last + 1)
}

/// Hashtags fall apart into their words.
pub(super) fn split_hashtags(text: &str) -> Option<String> {
    let bytes = text.as_bytes();
    let mut out = String::new();
    let mut copied = 0;
    let mut i = 0;
    while i < bytes.len() {
        let Some(sign) = sign_at(bytes, i, HASH) else {
            i += 1;
            continue;
        };
        let tag = i + sign;
        i = tag + run_length(&bytes[tag..], is_word_byte);
        for at in tag..i {
            let is_underscore = bytes[at] == b'_';
            // Before the tag's first character stands its sign, which is no letter.
            let is_hump = bytes[at].is_ascii_uppercase() && bytes[at - 1].is_ascii_lowercase();
            if is_underscore || is_hump {
                out.push_str(&text[copied..at]);
                out.push(' ');
                copied = at + usize::from(is_underscore);
            }
        }
    }
    finish(text, copied, out)
}

/// The length of the sign that stands at byte `i`, if one of `signs` does.
fn sign_at(bytes: &[u8], i: usize, signs: [&str; 2]) -> Option<usize> {
    signs
        .into_iter()
        .find(|sign| bytes[i..].starts_with(sign.as_bytes()))
        .map(str::len)
}

fn is_word_byte(b: u8) -> bool {
    b.is_ascii_alphanumeric() || b == b'_'
}

fn run_length(bytes: &[u8], is_member: impl Fn(u8) -> bool) -> usize {
    bytes
        .iter()
        .position(|&b| !is_member(b))
        .unwrap_or(bytes.len())
}
