//! JSON as other programs write it: with halves of surrogate pairs, which are not valid text,
//! and with `null` for a missing text.

use bytes::Bytes;
use serde::{Deserialize, Deserializer};
use std::borrow::Cow;

/// A text of a batch. `null`, which data frames write for a missing text, is an empty one: it
/// gets the error of an empty post in its place, and its neighbours their scores.
#[derive(Debug)]
pub(crate) struct BatchText(pub(crate) String);

impl<'de> Deserialize<'de> for BatchText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Option::<String>::deserialize(deserializer)?;
        Ok(Self(text.unwrap_or_default()))
    }
}

/// The body with U+FFFD for each half of a surrogate pair, as decoders of UTF-16 have it: a
/// post that was cut in the middle of an emoji must not cost its neighbours their scores.
pub(crate) fn replace_halves_in_body(body: Bytes) -> Bytes {
    replaced(&body).map_or(body, Bytes::from)
}

/// The same for JSON that is known to be text.
pub(crate) fn replace_halves(json: &str) -> Cow<'_, str> {
    // Only ASCII was replaced, and by ASCII.
    replaced(json.as_bytes()).map_or(Cow::Borrowed(json), |bytes| {
        String::from_utf8(bytes).unwrap_or_default().into()
    })
}

/// `None` if nothing had to be replaced; else byte for byte as long as before, so that
/// positions in errors hold.
fn replaced(json: &[u8]) -> Option<Vec<u8>> {
    let mut replaced: Option<Vec<u8>> = None;
    let mut at = 0;
    while let Some(found) = json
        .get(at..)
        .and_then(|rest| rest.iter().position(|&byte| byte == b'\\'))
    {
        at += found;
        at += match (escaped_unit(json, at), escaped_unit(json, at + 6)) {
            (Some(0xd800..0xdc00), Some(0xdc00..0xe000)) => 12,
            (Some(0xd800..0xe000), _) => {
                let replaced = replaced.get_or_insert_with(|| json.to_vec());
                replaced[at + 2..at + 6].copy_from_slice(b"fffd");
                6
            }
            // The backslash and what it escapes, which may be a backslash.
            _ => 2,
        };
    }
    replaced
}

/// The UTF-16 unit of an escape `\uXXXX`, if one stands here.
fn escaped_unit(json: &[u8], at: usize) -> Option<u16> {
    let digits = json.get(at..at + 6)?.strip_prefix(b"\\u")?;
    if !digits.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    u16::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_are_replaced_and_nothing_else() {
        for (json, expected) in [
            (r#""\ud83d""#, r#""\ufffd""#),
            (r#""\uDE00é\ud83d\n""#, r#""\ufffdé\ufffd\n""#),
            (r#""\ud83d\ud83d\ude00""#, r#""\ufffd\ud83d\ude00""#),
            (r#""\ud83d\ude00 \u00e9""#, r#""\ud83d\ude00 \u00e9""#),
            (r#""\ud83d\n\ude00""#, r#""\ufffd\n\ufffd""#),
            (r#""\\ud83d""#, r#""\\ud83d""#),
            (r#""\\\ud83d""#, r#""\\\ufffd""#),
            (r#"{"a":"\u00"#, r#"{"a":"\u00"#),
            ("\\", "\\"),
            ("", ""),
        ] {
            assert_eq!(replace_halves(json), expected);
            assert_eq!(replace_halves_in_body(Bytes::from(json)), expected);
        }
    }
}
