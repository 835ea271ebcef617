//! Halves of surrogate pairs, which JSON can hold and text cannot: `"\\ud83d"`.
//!
//! They come from programs that cut text by UTF-16 units. Only a record that was not read
//! for some reason is looked at here, so that its ids can be.

/// The same JSON with U+FFFD for each half; byte for byte as long as before.
pub(super) fn replace_halves(json: &str) -> String {
    let mut json = json.as_bytes().to_vec();
    let mut at = 0;
    while at < json.len() {
        if json[at] != b'\\' {
            at += 1;
            continue;
        }
        at += match (
            unit(&json[at..]),
            unit(json.get(at + 6..).unwrap_or_default()),
        ) {
            (Some(0xd800..0xdc00), Some(0xdc00..0xe000)) => 12,
            (Some(0xd800..0xe000), _) => {
                json[at + 2..at + 6].copy_from_slice(b"fffd");
                6
            }
            (Some(_), _) => 6,
            // Another escape.
            (None, _) => 2,
        };
    }
    // Only ASCII was replaced, and by ASCII.
    String::from_utf8(json).unwrap_or_default()
}

/// The UTF-16 unit of an escape that stands here.
fn unit(json: &[u8]) -> Option<u16> {
    let digits = json.strip_prefix(b"\\u")?.get(..4)?;
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
            (r#""\\ud83d""#, r#""\\ud83d""#),
            (r#"{"a":"\u00"#, r#"{"a":"\u00"#),
        ] {
            assert_eq!(replace_halves(json), expected);
        }
    }
}
