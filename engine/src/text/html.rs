//! Posts that are HTML: Mastodon's and other fediverse APIs, feeds, Reddit.
//!
//! The markup goes and the text stays. Most posts with a `<` are no HTML (`<3`,
//! `a < b`, `<sarcasm>`), so a post first has to show that it is, and then only
//! tags with a known name are dropped.

use super::normalize::finish;

/// Tags that end a line or a cell: a space keeps the words on either side apart.
const BLOCKS: [&str; 40] = [
    "article",
    "aside",
    "blockquote",
    "body",
    "br",
    "dd",
    "details",
    "div",
    "dl",
    "dt",
    "figcaption",
    "figure",
    "footer",
    "h1",
    "h2",
    "h3",
    "h4",
    "h5",
    "h6",
    "head",
    "header",
    "hr",
    "html",
    "iframe",
    "img",
    "li",
    "main",
    "nav",
    "ol",
    "p",
    "pre",
    "section",
    "summary",
    "table",
    "tbody",
    "td",
    "th",
    "thead",
    "tr",
    "ul",
];

/// Tags within a line.
const INLINES: [&str; 34] = [
    "a", "abbr", "audio", "b", "bdi", "bdo", "big", "center", "cite", "code", "del", "em", "font",
    "i", "ins", "kbd", "mark", "q", "rp", "rt", "ruby", "s", "samp", "script", "small", "span",
    "strike", "strong", "style", "sub", "sup", "u", "video", "wbr",
];

/// The longest name above, `blockquote` or `figcaption`.
const LONGEST_NAME: usize = 10;

/// A known tag's beginning: `<name` or `</name`, with what may follow a name.
#[derive(Clone, Copy)]
struct Tag {
    name: &'static str,
    is_closing: bool,
    is_block: bool,
    /// Where the name ends.
    end: usize,
}

/// Drops the tags, comments, scripts and styles of a post that is HTML.
pub(super) fn strip_tags(text: &str) -> Option<String> {
    if !is_html(text) {
        return None;
    }
    let bytes = text.as_bytes();
    let mut tag_ends = TagEnds::default();
    let mut out = String::with_capacity(text.len());
    let mut copied = 0;
    let mut i = 0;
    while let Some(start) = find(bytes, i, b"<") {
        let (end, is_block) = if bytes[start..].starts_with(b"<!--") {
            (after(bytes, start + 4, b"-->"), false)
        } else if is_declaration(&bytes[start..]) {
            (after(bytes, start, b">"), false)
        } else if let Some(tag) = tag_at(bytes, start) {
            let end = tag_ends.find(bytes, tag.end);
            if matches!(tag.name, "script" | "style") && !tag.is_closing {
                (end_of_raw_text(bytes, end, tag.name), false)
            } else {
                (end, tag.is_block)
            }
        } else {
            i = start + 1;
            continue;
        };
        out.push_str(&text[copied..start]);
        if is_block {
            out.push(' ');
        }
        copied = end;
        i = end;
    }
    finish(text, copied, out)
}

/// Whether a whole post is HTML that was escaped once more, as Reddit's API and many
/// feeds give it: decoded, it begins with a block or a comment and closes a tag.
pub(super) fn is_escaped_html(text: &str) -> bool {
    let start = text.trim_ascii_start();
    start.starts_with("&lt;") && !text.contains('<') && text.contains("&lt;/") && {
        let head = start.bytes().take(2 * LONGEST_NAME + 16);
        let head: Vec<u8> = head.take_while(u8::is_ascii).collect();
        let head = String::from_utf8(head).expect("it is ASCII");
        opens_document(head.replace("&lt;", "<").replace("&gt;", ">").as_bytes())
    }
}

/// Whether a post shows that it is HTML. Any of these does: a block, a comment or a
/// declaration at its start; a line break; a tag with a quoted attribute; a tag that is
/// closed again.
fn is_html(text: &str) -> bool {
    let Some(first) = text.find('<') else {
        return false;
    };
    let bytes = text.as_bytes();
    if bytes[..first].iter().all(u8::is_ascii_whitespace) && opens_document(&bytes[first..]) {
        return true;
    }
    let mut open: Vec<&str> = Vec::new();
    let mut i = first;
    while let Some(start) = find(bytes, i, b"<") {
        i = start + 1;
        let Some(tag) = tag_at(bytes, start) else {
            continue;
        };
        let rest = &bytes[tag.end..];
        let is_bare = rest.starts_with(b">");
        if tag.is_closing {
            if is_bare && open.contains(&tag.name) {
                return true;
            }
        } else if has_quoted_attribute(rest) {
            return true;
        } else if matches!(tag.name, "br" | "hr" | "wbr") {
            let rest = rest.strip_prefix(b" ").unwrap_or(rest);
            if rest.strip_prefix(b"/").unwrap_or(rest).starts_with(b">") {
                return true;
            }
        } else if is_bare && !open.contains(&tag.name) {
            open.push(tag.name);
        }
    }
    false
}

/// Whether HTML begins here, rather than a word in angle brackets.
fn opens_document(bytes: &[u8]) -> bool {
    const OPENERS: [&str; 15] = [
        "article",
        "blockquote",
        "div",
        "h1",
        "h2",
        "h3",
        "h4",
        "h5",
        "h6",
        "html",
        "ol",
        "p",
        "pre",
        "table",
        "ul",
    ];
    let opens_block = tag_at(bytes, 0).is_some_and(|tag| {
        let is_complete = matches!(bytes.get(tag.end), Some(b'>' | b' '));
        let is_bare = bytes.get(tag.end) == Some(&b'>');
        let has_attribute = is_complete && has_attribute_name(&bytes[tag.end..]);
        !tag.is_closing && OPENERS.contains(&tag.name) && (is_bare || has_attribute)
    });
    opens_block || bytes.starts_with(b"<!--") || is_declaration(bytes)
}

/// `<!doctype` and its like, `<?xml`.
fn is_declaration(bytes: &[u8]) -> bool {
    let starts = |prefix: &[u8]| {
        let start = bytes.get(..prefix.len());
        start.is_some_and(|start| start.eq_ignore_ascii_case(prefix))
    };
    starts(b"<!doctype") || starts(b"<?xml")
}

/// The known tag that begins at byte `start`, a `<`.
fn tag_at(bytes: &[u8], start: usize) -> Option<Tag> {
    let is_closing = bytes.get(start + 1) == Some(&b'/');
    let begin = start + 1 + usize::from(is_closing);
    let length = bytes[begin..]
        .iter()
        .take(LONGEST_NAME + 1)
        .take_while(|b| b.is_ascii_alphanumeric())
        .count();
    let end = begin + length;
    let may_follow = |&b: &u8| is_space(b) || matches!(b, b'/' | b'>');
    if !bytes.get(end).is_none_or(may_follow) {
        return None;
    }
    let known = |names: &[&'static str]| {
        let is_name =
            |name: &&&'static str| name.as_bytes().eq_ignore_ascii_case(&bytes[begin..end]);
        names.iter().find(is_name).copied()
    };
    let block = known(&BLOCKS);
    Some(Tag {
        name: block.or_else(|| known(&INLINES))?,
        is_closing,
        is_block: block.is_some(),
        end,
    })
}

/// Whether ` name=` stands at the start, and how long it is.
fn attribute_name(bytes: &[u8]) -> Option<usize> {
    let name = bytes.split_first().filter(|(b, _)| is_space(**b))?.1;
    let is_name = |b: &&u8| b.is_ascii_alphabetic() || **b == b'-';
    let length = name.iter().take(33).take_while(is_name).count();
    let is_sound = (1..=32).contains(&length) && name.get(length) == Some(&b'=');
    is_sound.then_some(length + 2)
}

fn has_attribute_name(bytes: &[u8]) -> bool {
    attribute_name(bytes).is_some()
}

/// Whether ` name="` or ` name='` stands at the start.
fn has_quoted_attribute(bytes: &[u8]) -> bool {
    attribute_name(bytes).is_some_and(|end| matches!(bytes.get(end), Some(b'"' | b'\'')))
}

/// Finds where tags end. A quotation mark that is never closed would hide all that
/// follows, and looking for its twin again and again takes quadratic time: after the
/// first such mark quotation marks no longer count.
#[derive(Default)]
struct TagEnds {
    ignore_quotes: bool,
}

impl TagEnds {
    /// Behind the `>` of the tag whose name ends at `start`; a tag that is cut off ends
    /// with the text.
    fn find(&mut self, bytes: &[u8], start: usize) -> usize {
        let mut i = start;
        let mut after_equals = false;
        let mut saw_quotes = false;
        while let Some(&b) = bytes.get(i) {
            i += 1;
            match b {
                b'>' => return i,
                b'"' | b'\'' if after_equals && !self.ignore_quotes => {
                    saw_quotes = true;
                    match find(bytes, i, &[b]) {
                        Some(close) => i = close + 1,
                        None => break,
                    }
                    after_equals = false;
                }
                _ if is_space(b) => {}
                _ => after_equals = b == b'=',
            }
        }
        if saw_quotes {
            self.ignore_quotes = true;
            return after(bytes, start, b">");
        }
        bytes.len()
    }
}

/// Where the closing tag of a script or style stands whose contents begin at `start`.
fn end_of_raw_text(bytes: &[u8], start: usize, name: &str) -> usize {
    let mut i = start;
    while let Some(open) = find(bytes, i, b"</") {
        if tag_at(bytes, open).is_some_and(|tag| tag.name == name) {
            return open;
        }
        i = open + 2;
    }
    bytes.len()
}

fn is_space(b: u8) -> bool {
    matches!(b, b' ' | b'\t' | b'\n' | b'\r' | b'\x0c')
}

/// Where `sought` stands first from `start` on.
fn find(bytes: &[u8], start: usize, sought: &[u8]) -> Option<usize> {
    let rest = &bytes[start..];
    let found = rest.windows(sought.len()).position(|part| part == sought);
    found.map(|at| start + at)
}

/// Behind the first `sought` from `start` on, or the end.
fn after(bytes: &[u8], start: usize, sought: &[u8]) -> usize {
    find(bytes, start, sought).map_or(bytes.len(), |at| at + sought.len())
}
