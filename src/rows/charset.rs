//! The character encoding of an input: detected from its first bytes, and decoded to UTF-8.
//!
//! Nearly every input is UTF-8 and passes unchanged. Windows programs write UTF-16, mostly with
//! a byte order mark; without one, the zero bytes of line ends and spaces show the byte order. An
//! input that looks like UTF-16 but whose order is ambiguous is rejected as a whole, because read
//! as UTF-8 it would give posts that nobody wrote.

use super::error::InputError;
use super::signature;

/// How much of an input is looked at, at most.
pub(super) const WINDOW_BYTES: usize = 1024;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Charset {
    Utf8,
    Utf16 { big_endian: bool },
    Utf32 { big_endian: bool },
}

const MARKS: [(&[u8], Charset); 5] = [
    (b"\xef\xbb\xbf", Charset::Utf8),
    // Before UTF-16's, which is its beginning.
    (b"\xff\xfe\0\0", Charset::Utf32 { big_endian: false }),
    (b"\0\0\xfe\xff", Charset::Utf32 { big_endian: true }),
    (b"\xff\xfe", Charset::Utf16 { big_endian: false }),
    (b"\xfe\xff", Charset::Utf16 { big_endian: true }),
];

/// The charset of an input that begins with `first`, and the length of its byte order mark.
/// `None` asks for more of it. The result is the same however the input comes in pieces.
pub(super) fn detect(first: &[u8], is_whole: bool) -> Result<Option<(Charset, usize)>, InputError> {
    let first = &first[..first.len().min(WINDOW_BYTES)];
    if (is_whole || first.len() >= 4)
        && let Some((mark, charset)) = MARKS.iter().find(|(mark, _)| first.starts_with(mark))
    {
        return Ok(Some((*charset, mark.len())));
    }
    // A first line of sound text decides: who types it waits for the result.
    if let Some(end) = first.iter().position(|byte| matches!(byte, b'\n' | b'\r')) {
        let line = &first[..=end];
        if !line.iter().any(|&byte| is_control(byte)) && std::str::from_utf8(line).is_ok() {
            return match signature::find(line) {
                Some(file_type) => Err(InputError::NotText(file_type)),
                None => {
                    let mark = MARKS[0].0;
                    let length = if line.starts_with(mark) {
                        mark.len()
                    } else {
                        0
                    };
                    Ok(Some((Charset::Utf8, length)))
                }
            };
        }
    }
    if !is_whole && first.len() < WINDOW_BYTES {
        return Ok(None);
    }
    if let Some(file_type) = signature::find(first) {
        return Err(InputError::NotText(file_type));
    }
    without_mark(first).map(|charset| Some((charset, 0)))
}

/// Bytes that text has none of, or few.
fn is_control(byte: u8) -> bool {
    byte < 0x20 && !matches!(byte, b'\t' | b'\n' | b'\r' | 0x0b | 0x0c | 0x1b)
}

fn without_mark(first: &[u8]) -> Result<Charset, InputError> {
    let count = |is: fn(&u8) -> bool| first.iter().filter(|byte| is(byte)).count();
    let is_utf8 = match std::str::from_utf8(first) {
        Ok(_) => true,
        // A character that the window cuts.
        Err(error) => error.error_len().is_none(),
    };
    // UTF-16 has a zero byte in each space and line end, and its other bytes are seldom letters.
    let is_utf8 = is_utf8 && 4 * count(|&byte| is_control(byte)) < first.len();
    let is_ascii = 4 * count(|byte| matches!(byte, 0x20..=0x7e)) >= 3 * first.len();
    if is_utf8 || is_ascii || !first.contains(&0) {
        return Ok(Charset::Utf8);
    }
    for big_endian in [false, true] {
        if is_utf32(first, big_endian) {
            return Ok(Charset::Utf32 { big_endian });
        }
    }
    let (little, big) = (ascii_of_utf16(first, false), ascii_of_utf16(first, true));
    if little == big {
        return Err(InputError::UnknownCharset);
    }
    let big_endian = big > little;
    Ok(Charset::Utf16 { big_endian })
}

fn is_utf32(first: &[u8], big_endian: bool) -> bool {
    let (characters, _) = first.as_chunks::<4>();
    !characters.is_empty()
        && characters
            .iter()
            .all(|bytes| char::from_u32(unit32(*bytes, big_endian)).is_some_and(is_text))
}

/// How many characters of ASCII there are, if this can be text in UTF-16; otherwise none.
fn ascii_of_utf16(first: &[u8], big_endian: bool) -> usize {
    let (units, _) = first.as_chunks::<2>();
    let mut units: Vec<u16> = units.iter().map(|&unit| unit16(unit, big_endian)).collect();
    // The window may cut a pair.
    if units
        .last()
        .is_some_and(|unit| (0xd800..0xdc00).contains(unit))
    {
        units.pop();
    }
    let (mut all, mut likely, mut ascii) = (0, 0, 0);
    for character in char::decode_utf16(units) {
        let Some(character) = character.ok().filter(|&it| is_text(it)) else {
            return 0;
        };
        let is_likely = character.is_alphanumeric()
            || matches!(character, '\0'..='\u{7f}' | '\u{2000}'..='\u{2bff}' | '\u{3000}'..='\u{303f}')
            || matches!(character, '\u{300}'..='\u{36f}' | '\u{fe00}'..='\u{fe0f}' | '\u{ff00}'..);
        all += 1;
        likely += usize::from(is_likely);
        ascii += usize::from(character.is_ascii());
    }
    if 10 * likely >= 8 * all { ascii } else { 0 }
}

fn is_text(character: char) -> bool {
    matches!(character, '\t' | '\n' | '\r')
        || (!character.is_control() && !matches!(character, '\u{fffe}' | '\u{ffff}'))
}

fn unit16(bytes: [u8; 2], big_endian: bool) -> u16 {
    if big_endian {
        u16::from_be_bytes(bytes)
    } else {
        u16::from_le_bytes(bytes)
    }
}

fn unit32(bytes: [u8; 4], big_endian: bool) -> u32 {
    if big_endian {
        u32::from_be_bytes(bytes)
    } else {
        u32::from_le_bytes(bytes)
    }
}

/// Turns UTF-16 and UTF-32 into UTF-8, piece by piece. What is no character becomes U+FFFD.
#[derive(Debug)]
pub(super) struct Decoder {
    charset: Charset,
    /// Bytes of a unit that is not whole yet.
    rest: Vec<u8>,
    /// The first half of a pair of surrogates.
    high: Option<u16>,
}

impl Decoder {
    pub(super) fn new(charset: Charset) -> Self {
        Self {
            charset,
            rest: Vec::new(),
            high: None,
        }
    }

    pub(super) fn decode(&mut self, bytes: &[u8]) -> String {
        let mut bytes_left = std::mem::take(&mut self.rest);
        bytes_left.extend_from_slice(bytes);
        let mut text = String::with_capacity(bytes.len());
        match self.charset {
            Charset::Utf16 { big_endian } => {
                let (units, rest) = bytes_left.as_chunks::<2>();
                for &unit in units {
                    self.unit16(unit16(unit, big_endian), &mut text);
                }
                self.rest = rest.to_vec();
            }
            Charset::Utf32 { big_endian } => {
                let (units, rest) = bytes_left.as_chunks::<4>();
                let character =
                    |&unit| char::from_u32(unit32(unit, big_endian)).unwrap_or('\u{fffd}');
                text.extend(units.iter().map(character));
                self.rest = rest.to_vec();
            }
            Charset::Utf8 => unreachable!("UTF-8 is read as it is"),
        }
        text
    }

    fn unit16(&mut self, unit: u16, text: &mut String) {
        let or_replacement = |code| char::from_u32(code).unwrap_or('\u{fffd}');
        match (self.high.take(), unit) {
            (Some(high), 0xdc00..0xe000) => {
                let high = u32::from(high) - 0xd800;
                let low = u32::from(unit) - 0xdc00;
                text.push(or_replacement(0x1_0000 + (high << 10) + low));
            }
            (high, _) => {
                // The first half stood alone.
                text.extend(high.map(|_| '\u{fffd}'));
                if (0xd800..0xdc00).contains(&unit) {
                    self.high = Some(unit);
                } else {
                    text.push(or_replacement(u32::from(unit)));
                }
            }
        }
    }

    /// What is left at the end of the input.
    pub(super) fn finish(&mut self) -> &'static str {
        let is_cut = self.high.take().is_some() || !self.rest.is_empty();
        self.rest.clear();
        if is_cut { "\u{fffd}" } else { "" }
    }
}
