//! Letters and digits in fancy dress, and what nobody sees.
//!
//! Both make a plain word one that no vocabulary has. What goes is only what says
//! nothing: emoji stay, and so does what other alphabets need.

/// Styled letters that stand alone or in short rows, in the order of their code points:
/// small capitals, superscripts, subscripts and those of the Letterlike Symbols.
const SINGLES: [(char, char); 127] = [
    ('\u{262}', 'g'),
    ('\u{26a}', 'i'),
    ('\u{274}', 'n'),
    ('\u{280}', 'r'),
    ('\u{28f}', 'y'),
    ('\u{299}', 'b'),
    ('\u{29c}', 'h'),
    ('\u{29f}', 'l'),
    ('\u{2b0}', 'h'),
    ('\u{2b2}', 'j'),
    ('\u{2b3}', 'r'),
    ('\u{2b7}', 'w'),
    ('\u{2b8}', 'y'),
    ('\u{2e1}', 'l'),
    ('\u{2e2}', 's'),
    ('\u{2e3}', 'x'),
    ('\u{1d00}', 'a'),
    ('\u{1d04}', 'c'),
    ('\u{1d05}', 'd'),
    ('\u{1d07}', 'e'),
    ('\u{1d0a}', 'j'),
    ('\u{1d0b}', 'k'),
    ('\u{1d0d}', 'm'),
    ('\u{1d0f}', 'o'),
    ('\u{1d18}', 'p'),
    ('\u{1d1b}', 't'),
    ('\u{1d1c}', 'u'),
    ('\u{1d20}', 'v'),
    ('\u{1d21}', 'w'),
    ('\u{1d22}', 'z'),
    ('\u{1d2c}', 'A'),
    ('\u{1d2e}', 'B'),
    ('\u{1d30}', 'D'),
    ('\u{1d31}', 'E'),
    ('\u{1d33}', 'G'),
    ('\u{1d34}', 'H'),
    ('\u{1d35}', 'I'),
    ('\u{1d36}', 'J'),
    ('\u{1d37}', 'K'),
    ('\u{1d38}', 'L'),
    ('\u{1d39}', 'M'),
    ('\u{1d3a}', 'N'),
    ('\u{1d3c}', 'O'),
    ('\u{1d3e}', 'P'),
    ('\u{1d3f}', 'R'),
    ('\u{1d40}', 'T'),
    ('\u{1d41}', 'U'),
    ('\u{1d42}', 'W'),
    ('\u{1d43}', 'a'),
    ('\u{1d47}', 'b'),
    ('\u{1d48}', 'd'),
    ('\u{1d49}', 'e'),
    ('\u{1d4d}', 'g'),
    ('\u{1d4f}', 'k'),
    ('\u{1d50}', 'm'),
    ('\u{1d52}', 'o'),
    ('\u{1d56}', 'p'),
    ('\u{1d57}', 't'),
    ('\u{1d58}', 'u'),
    ('\u{1d5b}', 'v'),
    ('\u{1d62}', 'i'),
    ('\u{1d63}', 'r'),
    ('\u{1d64}', 'u'),
    ('\u{1d65}', 'v'),
    ('\u{1d9c}', 'c'),
    ('\u{1da0}', 'f'),
    ('\u{1da2}', 'g'),
    ('\u{1da6}', 'i'),
    ('\u{1dab}', 'l'),
    ('\u{1db0}', 'n'),
    ('\u{1db8}', 'u'),
    ('\u{1dbb}', 'z'),
    ('\u{2071}', 'i'),
    ('\u{207f}', 'n'),
    ('\u{2090}', 'a'),
    ('\u{2091}', 'e'),
    ('\u{2092}', 'o'),
    ('\u{2093}', 'x'),
    ('\u{2095}', 'h'),
    ('\u{2096}', 'k'),
    ('\u{2097}', 'l'),
    ('\u{2098}', 'm'),
    ('\u{2099}', 'n'),
    ('\u{209a}', 'p'),
    ('\u{209b}', 's'),
    ('\u{209c}', 't'),
    ('\u{2102}', 'C'),
    ('\u{210a}', 'g'),
    ('\u{210b}', 'H'),
    ('\u{210c}', 'H'),
    ('\u{210d}', 'H'),
    ('\u{210e}', 'h'),
    ('\u{2110}', 'I'),
    ('\u{2111}', 'I'),
    ('\u{2112}', 'L'),
    ('\u{2113}', 'l'),
    ('\u{2115}', 'N'),
    ('\u{2119}', 'P'),
    ('\u{211a}', 'Q'),
    ('\u{211b}', 'R'),
    ('\u{211c}', 'R'),
    ('\u{211d}', 'R'),
    ('\u{2124}', 'Z'),
    ('\u{2128}', 'Z'),
    ('\u{212c}', 'B'),
    ('\u{212d}', 'C'),
    ('\u{212f}', 'e'),
    ('\u{2130}', 'E'),
    ('\u{2131}', 'F'),
    ('\u{2133}', 'M'),
    ('\u{2134}', 'o'),
    ('\u{2145}', 'D'),
    ('\u{2146}', 'd'),
    ('\u{2147}', 'e'),
    ('\u{2148}', 'i'),
    ('\u{2149}', 'j'),
    ('\u{2c7c}', 'j'),
    ('\u{2c7d}', 'V'),
    ('\u{a730}', 'f'),
    ('\u{a731}', 's'),
    ('\u{a7af}', 'q'),
    ('\u{a7f2}', 'C'),
    ('\u{a7f3}', 'F'),
    ('\u{a7f4}', 'Q'),
    ('\u{107a5}', 'q'),
    ('\u{1f12b}', 'C'),
    ('\u{1f12c}', 'R'),
];

/// The second letters of the flags that begin with `A`, `B` and so on.
const FLAGS: [&str; 26] = [
    "CDEFGILMOQRSTUWXZ",
    "ABDEFGHIJLMNOQRSTVWYZ",
    "ACDFGHIKLMNOPQRUVWXYZ",
    "EGJKMOZ",
    "ACEGHRSTU",
    "IJKMOR",
    "ABDEFGHILMNPQRSTUWY",
    "KMNRTU",
    "CDELMNOQRST",
    "EMOP",
    "EGHIMNPRWYZ",
    "ABCIKRSTUVY",
    "ACDEFGHKLMNOPQRSTUVWXYZ",
    "ACEFGILOPRUZ",
    "M",
    "AEFGHKLMNRSTWY",
    "A",
    "EOSUW",
    "ABCDEGHIJKLMNORSTVXYZ",
    "ACDFGHJKLMNORTVWZ",
    "AGMNSYZ",
    "ACEGINU",
    "FS",
    "K",
    "ET",
    "AMW",
];

/// What a styled character stands for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Plain {
    Letter(char),
    Number(u32),
}

/// What `c` stands for, if it is a styled letter or number.
fn plain(c: char) -> Option<Plain> {
    let code = u32::from(c);
    let letter =
        |first: char, offset: u32| char::from_u32(u32::from(first) + offset).map(Plain::Letter);
    let number = |start: u32, first: u32| Some(Plain::Number(code - start + first));
    match code {
        ..0x262 => None,
        // Thirteen alphabets of mathematics, capitals before small letters.
        0x1d400..=0x1d6a3 => {
            let offset = (code - 0x1d400) % 52;
            if offset < 26 {
                letter('A', offset)
            } else {
                letter('a', offset - 26)
            }
        }
        0x1d7ce..=0x1d7ff => Some(Plain::Number((code - 0x1d7ce) % 10)),
        0xff10..=0xff19 => number(0xff10, 0),
        0xff21..=0xff3a => letter('A', code - 0xff21),
        0xff41..=0xff5a => letter('a', code - 0xff41),
        // Circled and parenthesised, white on black too.
        0x2460..=0x2473 => number(0x2460, 1),
        0x2474..=0x2487 => number(0x2474, 1),
        0x249c..=0x24b5 => letter('a', code - 0x249c),
        0x24b6..=0x24cf => letter('A', code - 0x24b6),
        0x24d0..=0x24e9 => letter('a', code - 0x24d0),
        0x24ea | 0x24ff | 0x2070 => Some(Plain::Number(0)),
        0x24eb..=0x24f4 => number(0x24eb, 11),
        0x24f5..=0x24fe => number(0x24f5, 1),
        0x2776..=0x277f => number(0x2776, 1),
        0x2780..=0x2789 => number(0x2780, 1),
        0x278a..=0x2793 => number(0x278a, 1),
        0x3251..=0x325f => number(0x3251, 21),
        0x32b1..=0x32bf => number(0x32b1, 36),
        0x2074..=0x2079 => number(0x2074, 4),
        0x2080..=0x2089 => number(0x2080, 0),
        // Parenthesised, squared, circled and squared in white on black.
        0x1f110..=0x1f129 => letter('A', code - 0x1f110),
        0x1f130..=0x1f149 => letter('A', code - 0x1f130),
        0x1f150..=0x1f169 => letter('A', code - 0x1f150),
        0x1f170..=0x1f189 => letter('A', code - 0x1f170),
        0x1fbf0..=0x1fbf9 => number(0x1fbf0, 0),
        _ => {
            let found = SINGLES.binary_search_by_key(&c, |&(from, _)| from).ok()?;
            Some(Plain::Letter(SINGLES[found].1))
        }
    }
}

/// Letters that are emoji as well, such as blood types: only a letter beside one shows
/// that it is part of a word.
fn is_emoji_letter(c: char) -> bool {
    matches!(
        c,
        '\u{24c2}' | '\u{1f170}' | '\u{1f171}' | '\u{1f17e}' | '\u{1f17f}'
    )
}

fn is_letter(c: char) -> bool {
    c.is_ascii_alphabetic()
        || !c.is_ascii() && !is_emoji_letter(c) && matches!(plain(c), Some(Plain::Letter(_)))
}

fn is_regional_indicator(c: char) -> bool {
    matches!(c, '\u{1f1e6}'..='\u{1f1ff}')
}

/// Lines over and under letters.
fn is_overlay(c: char) -> bool {
    matches!(c, '\u{332}' | '\u{333}' | '\u{335}'..='\u{338}')
}

fn may_change(c: char) -> bool {
    is_overlay(c) || is_regional_indicator(c) || plain(c).is_some()
}

/// Styled letters and numbers become plain ones, and lines over and under those go.
pub(super) fn fold_styled(text: &str) -> Option<String> {
    if text.is_ascii() || !text.contains(may_change) {
        return None;
    }
    let mut out = String::with_capacity(text.len());
    let mut previous = None;
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let indicators = rest.len() - rest.trim_start_matches(is_regional_indicator).len();
        if indicators > 0 {
            let (run, behind) = rest.split_at(indicators);
            push_regional_indicators(&mut out, run);
            (rest, previous) = (behind, Some(c));
            continue;
        }
        rest = &rest[c.len_utf8()..];
        let folded = if is_emoji_letter(c) {
            let behind = rest.strip_prefix('\u{fe0f}').unwrap_or(rest);
            let next = behind.chars().next();
            let is_in_word = previous.is_some_and(is_letter) || next.is_some_and(is_letter);
            if is_in_word {
                rest = behind;
            }
            plain(c).filter(|_| is_in_word)
        } else {
            plain(c)
        };
        previous = Some(c);
        match folded {
            Some(Plain::Letter(letter)) => out.push(letter),
            Some(Plain::Number(number)) => out.push_str(&number.to_string()),
            // `=` and a stroke are one sign, and so are letters of other alphabets.
            None if is_overlay(c)
                && out.ends_with(|c: char| c.is_ascii_alphanumeric() || c == ' ') => {}
            None => out.push(c),
        }
    }
    (out != text).then_some(out)
}

/// A run of nothing but flags stays; any other spells a word.
fn push_regional_indicators(out: &mut String, run: &str) {
    let letters: Vec<u8> = run
        .chars()
        .map(|c| b'A' + (u32::from(c) - 0x1f1e6) as u8)
        .collect();
    let is_flag = |pair: &[u8]| {
        FLAGS[usize::from(pair[0] - b'A')]
            .as_bytes()
            .contains(&pair[1])
    };
    let (pairs, odd) = letters.as_chunks::<2>();
    if odd.is_empty() && pairs.iter().all(|pair| is_flag(pair)) {
        out.push_str(run);
    } else {
        out.extend(letters.iter().map(|&letter| char::from(letter)));
    }
}

/// How far a character goes unseen.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Unseen {
    /// In every alphabet: marks of direction, soft hyphens, word joiners.
    Everywhere,
    /// Beside ASCII and white space; elsewhere it may separate, or join, as in
    /// Persian, the alphabets of India and emoji.
    InAscii,
    /// Unless it spells the region of a flag.
    Tag,
}

fn unseen(c: char) -> Option<Unseen> {
    match c {
        '\u{ad}'
        | '\u{34f}'
        | '\u{61c}'
        | '\u{180e}'
        | '\u{200e}'
        | '\u{200f}'
        | '\u{202a}'..='\u{202e}'
        | '\u{2060}'..='\u{2064}'
        | '\u{2066}'..='\u{206f}'
        | '\u{feff}' => Some(Unseen::Everywhere),
        '\u{200b}'..='\u{200d}' => Some(Unseen::InAscii),
        '\u{e0001}' | '\u{e0020}'..='\u{e007f}' => Some(Unseen::Tag),
        _ => None,
    }
}

/// What nobody sees goes where it says nothing.
pub(super) fn remove_invisible(text: &str) -> Option<String> {
    if text.is_ascii() || !text.contains(|c| unseen(c).is_some()) {
        return None;
    }
    let mut out = String::with_capacity(text.len());
    let mut previous = None;
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let behind = rest.trim_start_matches(|c| unseen(c).is_some());
        let run = &rest[..rest.len() - behind.len()];
        if run.is_empty() {
            out.push(c);
            previous = Some(c);
            rest = &rest[c.len_utf8()..];
            continue;
        }
        let is_foreign = |c: Option<char>| c.is_some_and(|c| !c.is_ascii() && !c.is_whitespace());
        let joins = is_foreign(previous) && is_foreign(behind.chars().next());
        let is_flag = previous == Some('\u{1f3f4}');
        out.extend(run.chars().filter(|&c| match unseen(c) {
            Some(Unseen::InAscii) => joins,
            Some(Unseen::Tag) => is_flag,
            _ => false,
        }));
        rest = behind;
    }
    (out != text).then_some(out)
}
