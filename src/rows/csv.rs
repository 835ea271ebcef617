//! Rows of delimited columns, parsed with `csv-core`.
//!
//! Only the post and the id of a row are kept, however many columns it has. csv-core accepts
//! every input, so faults are detected here: a number of columns other than the header's, a
//! quote that is never closed, and a column that continues after its closing quote. Each would
//! yield another text than the one that was written.
//!
//! **Quotes.** Within quotes, a quote is doubled (RFC 4180). Spark and others escape it with a
//! backslash instead. Both are accepted: a quote after a backslash that is not followed by a
//! delimiter or line end cannot close its column, so it is text; after the first one of an
//! input, every quote after a backslash is. Other backslashes stay as they are.

use super::error::{InputError, RowError};
use super::lines::LineCount;
use super::{Header, Limits, Row, RowId};
use coldread_engine::PostError;
use csv_core::{ReadFieldResult, Reader, ReaderBuilder};

/// The longest header.
const MAX_HEADER_BYTES: usize = 64 << 10;

/// What separates columns, if the header has the post's column between these; the likeliest
/// first.
const DELIMITERS: &[u8] = b",;\t|:^~\x01\x1f#!*/";

/// Those that are looked for where no name tells.
const USUAL: &[u8] = b",;\t|";

/// How columns are separated and named.
#[derive(Debug, Clone)]
pub(super) struct Dialect {
    pub(super) delimiter: Option<u8>,
    pub(super) has_quotes: bool,
    pub(super) header: Header,
    /// The post's column: a name, or a number from 1.
    pub(super) field: Option<String>,
}

/// Reads rows of CSV or TSV.
pub(super) struct Csv {
    dialect: Dialect,
    limits: Limits,
    /// The first row, until it is whole.
    head: Option<Head>,
    body: Option<Body>,
}

#[derive(Default)]
struct Head {
    bytes: Vec<u8>,
    in_quotes: bool,
    count: LineCount,
}

impl Csv {
    pub(super) fn new(dialect: Dialect, limits: Limits) -> Self {
        Self {
            dialect,
            limits,
            head: Some(Head::default()),
            body: None,
        }
    }

    /// Reads on in `bytes`, which are moved on: to their end, or to that of a row.
    pub(super) fn read(&mut self, bytes: &mut &[u8]) -> Result<Option<Row>, InputError> {
        let max_bytes = self.max_head_bytes();
        while self.body.is_none() {
            let Some((&byte, rest)) = bytes.split_first() else {
                return Ok(None);
            };
            *bytes = rest;
            let head = self.head.get_or_insert_default();
            head.in_quotes ^= byte == b'"' && self.dialect.has_quotes;
            head.bytes.push(byte);
            if matches!(byte, b'\n' | b'\r') && !head.in_quotes {
                if let Some(row) = self.begin()? {
                    return Ok(Some(row));
                }
            } else if head.bytes.len() > max_bytes {
                return Err(InputError::Header { max_bytes });
            }
        }
        Ok(self.body.as_mut().and_then(|body| body.read(bytes)))
    }

    fn max_head_bytes(&self) -> usize {
        match self.dialect.header {
            Header::Present => MAX_HEADER_BYTES,
            Header::Absent | Header::Detect => self.limits.max_row_bytes,
        }
    }

    /// The rows that are left at the end of the input.
    pub(super) fn finish(&mut self) -> Result<Vec<Row>, InputError> {
        let mut rows = Vec::new();
        if self.body.is_none() {
            let head = self.head.get_or_insert_default();
            if head.in_quotes && self.dialect.header != Header::Absent {
                let max_bytes = MAX_HEADER_BYTES;
                return Err(InputError::Header { max_bytes });
            }
            rows.extend(self.begin()?);
        }
        rows.extend(self.body.as_mut().and_then(Body::finish));
        Ok(rows)
    }

    /// The first row is whole, unless it is blank, or only names the delimiter.
    fn begin(&mut self) -> Result<Option<Row>, InputError> {
        let head = self.head.take().unwrap_or_default();
        let mut count = head.count.clone();
        let line = head.bytes.trim_ascii();
        let quoted = line
            .strip_prefix(b"\"")
            .and_then(|line| line.strip_suffix(b"\""));
        let named = quoted.unwrap_or(line).strip_prefix(b"sep=");
        let is_blank = line.is_empty() && !head.bytes.contains(&b'\t');
        if let Some([delimiter]) = named {
            self.dialect.delimiter.get_or_insert(*delimiter);
        } else if head.bytes.starts_with(b"sep=\t") {
            self.dialect.delimiter.get_or_insert(b'\t');
        }
        if is_blank || named.is_some() {
            count.add(&head.bytes);
            self.head = Some(Head {
                count,
                ..Head::default()
            });
            return Ok(None);
        }
        let delimiter = self.delimiter(&head.bytes)?;
        let names = columns(&head.bytes, delimiter, self.dialect.has_quotes);
        let header = match self.dialect.header {
            Header::Detect => match find(&names, "text") {
                Some(_) => Header::Present,
                None => Header::Absent,
            },
            header => header,
        };
        let post = self.post_column(&names, header)?;
        if header == Header::Present {
            let id = find(&names, "id").filter(|&id| id != post);
            count.add(&head.bytes);
            // Columns without a name at the end may be missing.
            let named = names.iter().rposition(|name| !name.trim().is_empty());
            let min_columns = named.map_or(names.len(), |last| last + 1).max(post + 1);
            let columns = Columns {
                post,
                id,
                min: min_columns,
                max: names.len(),
            };
            self.body = Some(Body::new(self, delimiter, columns, count));
            return Ok(None);
        }
        let columns = Columns {
            post,
            id: None,
            min: names.len(),
            max: names.len(),
        };
        let mut body = Body::new(self, delimiter, columns, count);
        let row = body.read(&mut &head.bytes[..]);
        self.body = Some(body);
        Ok(row)
    }

    fn post_column(&self, names: &[String], header: Header) -> Result<usize, InputError> {
        let field = self.dialect.field.as_deref();
        let number = field.and_then(|field| field.parse::<usize>().ok());
        let number = number.filter(|number| (1..=names.len()).contains(number));
        if header == Header::Absent {
            return match (number, field) {
                (Some(number), _) => Ok(number - 1),
                (None, None) => Ok(names.len().saturating_sub(1)),
                (None, Some(field)) => Err(missing(field, &[])),
            };
        }
        let wanted = field.unwrap_or("text");
        if let Some(column) = find(names, wanted).or(number.map(|number| number - 1)) {
            return Ok(column);
        }
        match (names, field) {
            ([_], None) => Ok(0),
            _ => Err(missing(wanted, names)),
        }
    }

    /// What separates the columns of the first row.
    fn delimiter(&self, first: &[u8]) -> Result<u8, InputError> {
        if let Some(delimiter) = self.dialect.delimiter {
            return Ok(delimiter);
        }
        let split = |delimiter| columns(first, delimiter, self.dialect.has_quotes);
        if self.dialect.header == Header::Present {
            let wanted = self.dialect.field.as_deref().unwrap_or("text");
            let names_it = |delimiter: &u8| find(&split(*delimiter), wanted).is_some();
            if let Some(&delimiter) = DELIMITERS.iter().find(|it| names_it(it)) {
                return Ok(delimiter);
            }
        }
        let used: Vec<u8> = USUAL
            .iter()
            .copied()
            .filter(|&delimiter| split(delimiter).len() > 1)
            .collect();
        match (&used[..], self.dialect.header) {
            ([] | [b','], _) => Ok(b','),
            ([only], Header::Present | Header::Detect) => Ok(*only),
            // Of a post or between posts: without names nobody can tell.
            _ => {
                let shown = used.iter().map(|&delimiter| match delimiter {
                    b'\t' => "tabs".to_owned(),
                    other => format!("`{}`", char::from(other)),
                });
                let shown: Vec<String> = shown.collect();
                Err(InputError::UnknownDelimiter(shown.join(" and ")))
            }
        }
    }
}

fn missing(wanted: &str, names: &[String]) -> InputError {
    // Where the header is missing these are posts, which do not belong in messages.
    let are_names = names.iter().all(|name| name.chars().count() <= 30);
    InputError::MissingColumn {
        wanted: wanted.to_owned(),
        found: if are_names {
            names.to_vec()
        } else {
            Vec::new()
        },
    }
}

/// The column of this name, in whatever case if there is none in this one.
fn find(names: &[String], wanted: &str) -> Option<usize> {
    let position = |is: fn(&str, &str) -> bool| names.iter().position(|it| is(it.trim(), wanted));
    position(|name, wanted| name == wanted).or_else(|| position(str::eq_ignore_ascii_case))
}

fn reader(delimiter: u8, has_quotes: bool) -> Reader {
    ReaderBuilder::new()
        .delimiter(delimiter)
        .quoting(has_quotes)
        .build()
}

/// The columns of one row.
fn columns(row: &[u8], delimiter: u8, has_quotes: bool) -> Vec<String> {
    let mut reader = reader(delimiter, has_quotes);
    let mut field = vec![0; row.len() + 1];
    let (mut rest, mut columns, mut length) = (row, Vec::new(), 0);
    loop {
        let (result, read, written) = reader.read_field(rest, &mut field[length..]);
        rest = &rest[read..];
        length += written;
        match result {
            ReadFieldResult::Field { record_end } => {
                columns.push(String::from_utf8_lossy(&field[..length]).into_owned());
                length = 0;
                if record_end {
                    return columns;
                }
            }
            ReadFieldResult::InputEmpty => {}
            ReadFieldResult::OutputFull | ReadFieldResult::End => return columns,
        }
    }
}

/// Which columns there are.
#[derive(Debug, Clone, Copy)]
struct Columns {
    post: usize,
    id: Option<usize>,
    min: usize,
    max: usize,
}

/// A column that is kept, up to a limit.
#[derive(Default)]
struct Kept {
    bytes: Vec<u8>,
    length: usize,
}

impl Kept {
    fn push(&mut self, bytes: &[u8], max_bytes: usize) {
        self.length += bytes.len();
        if self.length <= max_bytes {
            self.bytes.extend_from_slice(bytes);
        } else {
            self.bytes = Vec::new();
        }
    }

    fn pop(&mut self) {
        self.length = self.length.saturating_sub(1);
        self.bytes.pop();
    }

    fn take(&mut self) -> Self {
        std::mem::take(self)
    }
}

/// The rows behind the header.
struct Body {
    reader: Reader,
    delimiter: u8,
    has_quotes: bool,
    columns: Columns,
    limits: Limits,
    count: LineCount,
    /// Whether a backslash in front of a quote makes it text.
    has_escapes: bool,
    row: Open,
}

/// The row that is under way.
#[derive(Default)]
struct Open {
    /// Where it begins, if it has begun.
    line: Option<u64>,
    /// Columns that are at their end.
    columns: usize,
    post: Kept,
    id: Kept,
    has_surplus: bool,
    is_stray: bool,
    quote: Quote,
    place: Place,
    /// How many backslashes the last bytes are.
    backslashes: usize,
}

/// Where in a column the last byte was, which csv-core knows and does not tell.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Place {
    #[default]
    Start,
    Plain,
    InQuotes,
    /// Perhaps behind the column; a further quote would be text in it.
    BehindQuotes,
}

impl Place {
    /// Where a quote, or a run of bytes without any, leads to.
    fn after(self, bytes: &[u8], is_field: bool) -> Self {
        match self {
            _ if is_field => Self::Start,
            Self::Start | Self::BehindQuotes if bytes == b"\"" => Self::InQuotes,
            Self::InQuotes if bytes == b"\"" => Self::BehindQuotes,
            Self::InQuotes => Self::InQuotes,
            _ => Self::Plain,
        }
    }
}

/// What of quotes is not decided before further bytes are there.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Quote {
    #[default]
    None,
    /// The last byte was a quote; perhaps it closed its column.
    Last,
    /// The column is closed, and spaces came behind.
    Closed,
    /// A quote behind a backslash, which csv-core has not seen yet.
    Escaped,
    /// The same and another quote.
    EscapedTwice,
}

impl Body {
    fn new(csv: &Csv, delimiter: u8, columns: Columns, count: LineCount) -> Self {
        let has_quotes = csv.dialect.has_quotes;
        Self {
            reader: reader(delimiter, has_quotes),
            delimiter,
            has_quotes,
            columns,
            limits: csv.limits,
            count,
            has_escapes: false,
            row: Open::default(),
        }
    }

    fn read(&mut self, bytes: &mut &[u8]) -> Option<Row> {
        while let Some(&byte) = bytes.first() {
            if self.row.line.is_none() {
                if matches!(byte, b'\n' | b'\r') {
                    self.count.add(&[byte]);
                    *bytes = &bytes[1..];
                    continue;
                }
                self.row.line = Some(self.count.current());
            }
            if matches!(self.row.quote, Quote::Escaped | Quote::EscapedTwice) {
                if byte == b'"' && self.row.quote == Quote::Escaped && !self.has_escapes {
                    self.row.quote = Quote::EscapedTwice;
                    *bytes = &bytes[1..];
                    continue;
                }
                let is_end = byte == self.delimiter || matches!(byte, b'\n' | b'\r');
                self.decide(is_end);
                continue;
            }
            if byte == b'"' && self.has_quotes {
                *bytes = &bytes[1..];
                let is_escaped = self.row.backslashes % 2 == 1 && self.row.place == Place::InQuotes;
                self.row.backslashes = 0;
                if is_escaped {
                    self.row.quote = Quote::Escaped;
                } else {
                    self.row.is_stray |= self.row.quote == Quote::Closed;
                    self.feed(b"\"");
                    self.row.quote = Quote::Last;
                }
                continue;
            }
            let run = match bytes.iter().position(|&byte| byte == b'"') {
                Some(quote) if self.has_quotes => quote,
                _ => bytes.len(),
            };
            self.look_behind_quote(byte);
            let run = if self.row.quote == Quote::Closed {
                1
            } else {
                run
            };
            let (read, is_row) = self.feed(&bytes[..run]);
            *bytes = &bytes[read..];
            if is_row {
                return Some(self.finish_row(None));
            }
        }
        None
    }

    /// Sees whether `next` may stand where it stands, if that is behind quotes.
    fn look_behind_quote(&mut self, next: u8) {
        let is_closed = match self.row.quote {
            Quote::Last => self.row.place == Place::BehindQuotes,
            Quote::Closed => true,
            _ => return,
        };
        let is_end = next == self.delimiter || matches!(next, b'\n' | b'\r');
        let is_space = next == b' ' && !is_end;
        self.row.is_stray |= is_closed && !is_end && !is_space;
        self.row.quote = if is_closed && is_space {
            Quote::Closed
        } else {
            Quote::None
        };
    }

    /// Decides what a quote behind a backslash was.
    fn decide(&mut self, is_end: bool) {
        let is_twice = self.row.quote == Quote::EscapedTwice;
        // `\""` is a backslash and a doubled quote, unless the column ends there; `\"` is text,
        // unless the column ends there and no other input taught otherwise.
        let is_escape = self.has_escapes || is_twice == is_end;
        self.has_escapes |= is_escape;
        if is_escape {
            if self.row.columns == self.columns.post {
                self.row.post.pop();
            } else if Some(self.row.columns) == self.columns.id {
                self.row.id.pop();
            }
            // Doubled, as csv-core knows it.
            self.feed(b"\"");
        }
        self.feed(b"\"");
        if is_twice {
            self.feed(b"\"");
        }
        self.row.quote = Quote::Last;
    }

    /// Has csv-core read `bytes` up to the end of the row; says how many those are.
    fn feed(&mut self, bytes: &[u8]) -> (usize, bool) {
        let (mut rest, mut is_row) = (bytes, false);
        let mut written_bytes = [0; 4096];
        while !rest.is_empty() && !is_row {
            let (result, read, written) = self.reader.read_field(rest, &mut written_bytes);
            self.count.add(&rest[..read]);
            let of_run = &rest[..read];
            let others = of_run.iter().rposition(|&byte| byte != b'\\');
            match others {
                Some(last) => self.row.backslashes = read - last - 1,
                None => self.row.backslashes += read,
            }
            rest = &rest[read..];
            self.keep(&written_bytes[..written]);
            let is_field = matches!(result, ReadFieldResult::Field { .. });
            self.row.place = self.row.place.after(of_run, is_field);
            if let ReadFieldResult::Field { record_end } = result {
                self.row.columns += 1;
                is_row = record_end;
            }
        }
        (bytes.len() - rest.len(), is_row)
    }

    fn keep(&mut self, bytes: &[u8]) {
        let column = self.row.columns;
        if column == self.columns.post {
            self.row.post.push(bytes, self.limits.max_post_bytes);
        } else if Some(column) == self.columns.id {
            self.row.id.push(bytes, self.limits.max_post_bytes);
        } else if column >= self.columns.max {
            self.row.has_surplus |= !bytes.trim_ascii().is_empty();
        }
    }

    /// The row that is at its end, and what is known to be wrong with it.
    fn finish_row(&mut self, error: Option<RowError>) -> Row {
        let row = std::mem::take(&mut self.row);
        let line = row.line.unwrap_or(self.count.current());
        let last_line = self.count.ended.max(line);
        let stray = row.is_stray.then_some(RowError::StrayQuote { last_line });
        let error = error.or(stray).or_else(|| self.count_columns(&row));
        let Open {
            mut post, mut id, ..
        } = row;
        let post = match error {
            Some(error) => Err(error),
            None => self.post(post.take()),
        };
        let id = id.take();
        let id = self
            .columns
            .id
            .and_then(|_| String::from_utf8(id.bytes).ok());
        Row {
            line,
            id: id.map(RowId::Text),
            post,
        }
    }

    fn count_columns(&self, row: &Open) -> Option<RowError> {
        let Columns { min, max, .. } = self.columns;
        let is_wrong = row.columns < min || (row.columns > max && row.has_surplus);
        is_wrong.then_some(RowError::ColumnCount {
            found: row.columns,
            expected: max,
        })
    }

    fn post(&self, post: Kept) -> Result<String, RowError> {
        let (bytes, max_bytes) = (post.length, self.limits.max_post_bytes);
        if bytes > max_bytes {
            return Err(PostError::TooLong { bytes, max_bytes }.into());
        }
        String::from_utf8(post.bytes).map_err(|_| RowError::InvalidUtf8)
    }

    fn finish(&mut self) -> Option<Row> {
        self.row.line?;
        if matches!(self.row.quote, Quote::Escaped | Quote::EscapedTwice) {
            self.decide(true);
        }
        let is_open = self.row.place == Place::InQuotes;
        let unclosed = is_open.then_some(RowError::UnclosedQuote);
        // csv-core takes nothing for the end of the input.
        let (result, _, _) = self.reader.read_field(b"", &mut [0; 4]);
        self.row.columns += usize::from(matches!(result, ReadFieldResult::Field { .. }));
        Some(self.finish_row(unclosed))
    }
}
