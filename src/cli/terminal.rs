//! What fits on a terminal line.

/// The width assumed where the terminal does not tell.
const DEFAULT_WIDTH: usize = 100;

/// The terminal's width in columns.
pub(crate) fn width() -> usize {
    terminal_size::terminal_size()
        .map(|(width, _)| usize::from(width.0))
        .filter(|&columns| columns >= 20)
        .unwrap_or(DEFAULT_WIDTH)
}

/// `text` on one line of at most `max_columns`, with an ellipsis where it was cut.
///
/// Control characters become spaces: a post must not be able to move the cursor
/// or recolour the user's terminal.
pub(crate) fn shorten(text: &str, max_columns: usize) -> String {
    let mut line = String::new();
    let mut columns = 0;
    let mut fits = 0; // bytes of `line` that leave room for the ellipsis
    for c in text.chars() {
        let c = if c.is_control() || is_bidi_control(c) {
            ' '
        } else {
            c
        };
        columns += char_columns(c);
        if columns > max_columns {
            line.truncate(fits);
            line.push('…');
            return line;
        }
        line.push(c);
        if columns < max_columns {
            fits = line.len();
        }
    }
    line
}

/// Characters that reorder the text around them.
fn is_bidi_control(c: char) -> bool {
    matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Columns that a character takes: exact for Latin, CJK and single emoji; where it
/// errs (joined emoji) it says too many, and the line is cut a little early.
fn char_columns(c: char) -> usize {
    match c {
        '\u{300}'..='\u{36f}' | '\u{200b}'..='\u{200d}' | '\u{fe00}'..='\u{fe0f}' => 0,
        '\u{1100}'..='\u{115f}'
        | '\u{2e80}'..='\u{a4cf}'
        | '\u{ac00}'..='\u{d7a3}'
        | '\u{f900}'..='\u{faff}'
        | '\u{fe30}'..='\u{fe6f}'
        | '\u{ff00}'..='\u{ff60}'
        | '\u{1f000}'..='\u{1faff}'
        | '\u{20000}'..='\u{3fffd}' => 2,
        _ => 1,
    }
}

/// `1234567` as `1,234,567`.
pub(crate) fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut grouped = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_text_is_cut_and_marked() {
        assert_eq!(shorten("hello", 5), "hello");
        assert_eq!(shorten("hello!", 5), "hell…");
        assert_eq!(shorten("日本語", 6), "日本語");
        assert_eq!(shorten("日本語", 5), "日本…");
        assert_eq!(shorten("日本語", 4), "日…");
        assert_eq!(shorten("", 5), "");
    }

    #[test]
    fn posts_cannot_steer_the_terminal() {
        assert_eq!(shorten("a\x1b[31mb\nc\u{202e}d", 20), "a [31mb c d");
    }

    #[test]
    fn thousands_are_grouped() {
        assert_eq!(thousands(0), "0");
        assert_eq!(thousands(999), "999");
        assert_eq!(thousands(1000), "1,000");
        assert_eq!(thousands(1_234_567), "1,234,567");
    }
}
