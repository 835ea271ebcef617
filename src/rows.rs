//! Posts that come in rows: text, JSON and columns, from any source.
//!
//! [`RowReader`] turns bytes into rows, however the bytes are split, and buffers at most one
//! row of bounded length. Streaming bodies and files ([`RowFile`]) both use it. [`ResultWriter`]
//! writes the results, as JSON lines or CSV.
//!
//! Every row has a result: a row without a valid post has a [`RowError`]. An input that cannot be
//! read as rows is rejected as a whole, with an [`InputError`] that says what to do.
//!
//! | module | contents |
//! |---|---|
//! | `charset`, `signature` | decoding to UTF-8; recognizing files that are not text |
//! | `lines`, `json`, `csv` | the formats of rows |
//! | `file` | rows from a file or pipe, decompressed |
//! | `results` | writing results |

mod charset;
mod csv;
mod error;
mod file;
mod json;
mod lines;
mod results;
mod signature;
#[cfg(test)]
mod tests;

pub use error::{InputError, RowError};
pub use file::RowFile;
pub(crate) use json::{json_at, tokens};
pub use results::{OptionalColumns, ResultFormat, ResultRow, ResultWriter, RowFailure};
pub use signature::FileType;

use charset::{Charset, Decoder};
use coldread_engine::PostError;
use lines::{Line, LineCount, Lines};
use serde::{Serialize, Serializer};
use serde_json::value::RawValue;

/// The approximate number of rows that one call of [`RowReader::read`] returns at most.
pub const ROWS_PER_READ: usize = 32;

/// How many bytes of UTF-16 are decoded at a time.
const DECODED_BYTES: usize = 4096;

/// The format of an input's rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RowFormat {
    /// One post per line.
    Text,
    /// JSON: one string or object per line, an array of them, or a sequence of objects.
    Json,
    /// Columns with quotes, separated by commas or another delimiter found in the header.
    Csv,
    /// Columns separated by tabs, without quotes.
    Tsv,
}

impl std::str::FromStr for RowFormat {
    type Err = ();

    fn from_str(name: &str) -> Result<Self, ()> {
        match name {
            "text" => Ok(Self::Text),
            "json" | "jsonl" | "ndjson" => Ok(Self::Json),
            "csv" => Ok(Self::Csv),
            "tsv" => Ok(Self::Tsv),
            _ => Err(()),
        }
    }
}

/// Whether the first row of a table is a header.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub enum Header {
    /// It is a header.
    #[default]
    Present,
    /// It is a row of data.
    Absent,
    /// It is a header if it has a column `text`.
    Detect,
}

/// Options for reading rows.
#[derive(Debug, Clone)]
pub struct RowOptions {
    /// The format of the rows.
    pub format: RowFormat,
    /// The field of the post: in JSON a key or a JSON pointer, in a table a column's name or its
    /// number, from 1. By default `text`, or the only column, or the last one if there is no
    /// header.
    pub field: Option<String>,
    /// The delimiter of columns; by default it is detected.
    pub delimiter: Option<u8>,
    /// Whether there is a header.
    pub header: Header,
    /// The maximum length of a post, in bytes.
    pub max_post_bytes: usize,
}

impl RowOptions {
    /// The default options of a format.
    pub fn new(format: RowFormat, max_post_bytes: usize) -> Self {
        Self {
            format,
            field: None,
            delimiter: None,
            header: Header::default(),
            max_post_bytes,
        }
    }
}

/// Parses a delimiter: one ASCII character, or `tab`.
pub fn parse_delimiter(name: &str) -> Option<u8> {
    match name.as_bytes() {
        b"tab" | b"\\t" => Some(b'\t'),
        [byte] if byte.is_ascii() && !matches!(byte, b'"' | b'\n' | b'\r' | b'\0') => Some(*byte),
        _ => None,
    }
}

/// Limits on the memory for a row.
#[derive(Debug, Clone, Copy)]
struct Limits {
    max_post_bytes: usize,
    max_row_bytes: usize,
}

impl Limits {
    fn new(max_post_bytes: usize) -> Self {
        Self {
            max_post_bytes,
            // JSON can escape one byte as six, and rows have other fields.
            max_row_bytes: max_post_bytes.saturating_mul(8).saturating_add(64 << 10),
        }
    }
}

/// A row's id, as written in the input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RowId {
    /// A string.
    Text(String),
    /// The digits of a number.
    Number(String),
}

impl RowId {
    /// The string or the digits.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Text(id) | Self::Number(id) => id,
        }
    }
}

impl Serialize for RowId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Text(id) => serializer.serialize_str(id),
            Self::Number(digits) => match serde_json::from_str::<&RawValue>(digits) {
                Ok(number) => number.serialize(serializer),
                Err(_) => serializer.serialize_str(digits),
            },
        }
    }
}

/// One row of an input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// The line where it begins, from 1.
    pub line: u64,
    /// The row's own id.
    pub id: Option<RowId>,
    /// The post, or why the row has none.
    pub post: Result<String, RowError>,
}

impl Row {
    fn failed(line: u64, error: RowError) -> Self {
        Self {
            line,
            id: None,
            post: Err(error),
        }
    }
}

/// Parses rows from an input that arrives in pieces.
pub struct RowReader {
    /// The first bytes, until the charset is known.
    first: Vec<u8>,
    input: Input,
    parser: Parser,
    limits: Limits,
}

enum Input {
    Unknown,
    /// UTF-8, which needs no decoding.
    Utf8,
    Encoded(Decoder),
}

enum Parser {
    Text(Lines),
    Json(json::Json),
    Csv(Box<csv::Csv>),
}

impl RowReader {
    /// A reader for one input.
    pub fn new(options: &RowOptions) -> Self {
        let limits = Limits::new(options.max_post_bytes);
        let field = options.field.as_deref();
        let dialect = |delimiter, has_quotes| csv::Dialect {
            delimiter,
            has_quotes,
            header: options.header,
            field: options.field.clone(),
        };
        let csv = |dialect| Parser::Csv(Box::new(csv::Csv::new(dialect, limits)));
        let parser = match options.format {
            RowFormat::Text => {
                Parser::Text(Lines::new(limits.max_post_bytes, LineCount::default()))
            }
            RowFormat::Json => Parser::Json(json::Json::new(field, limits)),
            RowFormat::Csv => csv(dialect(options.delimiter, true)),
            RowFormat::Tsv => csv(dialect(options.delimiter.or(Some(b'\t')), false)),
        };
        Self {
            first: Vec::new(),
            input: Input::Unknown,
            parser,
            limits,
        }
    }

    /// Parses some of `bytes`, advances it past what was consumed, and returns the rows that are
    /// complete.
    ///
    /// Do not call it again after an error.
    pub fn read(&mut self, bytes: &mut &[u8]) -> Result<Vec<Row>, InputError> {
        let mut rows = Vec::new();
        match &mut self.input {
            Input::Unknown => {
                let missing = charset::WINDOW_BYTES - self.first.len();
                let (some, rest) = bytes.split_at(bytes.len().min(missing));
                self.first.extend_from_slice(some);
                *bytes = rest;
                self.begin(false, &mut rows)?;
            }
            Input::Utf8 => {
                while !bytes.is_empty() && rows.len() < ROWS_PER_READ {
                    rows.extend(self.parser.read(bytes)?);
                }
            }
            Input::Encoded(decoder) => {
                let (some, rest) = bytes.split_at(bytes.len().min(DECODED_BYTES));
                *bytes = rest;
                let text = decoder.decode(some);
                self.parse(text.as_bytes(), &mut rows)?;
            }
        }
        Ok(rows)
    }

    /// Returns the last rows, at the end of the input.
    pub fn finish(&mut self) -> Result<Vec<Row>, InputError> {
        let mut rows = Vec::new();
        if matches!(self.input, Input::Unknown) {
            self.begin(true, &mut rows)?;
        }
        if let Input::Encoded(decoder) = &mut self.input {
            let rest = decoder.finish();
            self.parse(rest.as_bytes(), &mut rows)?;
        }
        rows.extend(self.parser.finish()?);
        Ok(rows)
    }

    /// Parses the first bytes, if they are enough to detect the charset.
    fn begin(&mut self, is_whole: bool, rows: &mut Vec<Row>) -> Result<(), InputError> {
        let Some((charset, mark)) = charset::detect(&self.first, is_whole)? else {
            return Ok(());
        };
        let first = std::mem::take(&mut self.first);
        let first = &first[mark..];
        // The archive of their own posts that users download from Twitter.
        if first.starts_with(b"window.YTD.") && matches!(self.parser, Parser::Text(_)) {
            self.parser = Parser::Json(json::Json::new(None, self.limits));
        }
        if charset == Charset::Utf8 {
            self.input = Input::Utf8;
            return self.parse(first, rows);
        }
        let mut decoder = Decoder::new(charset);
        let text = decoder.decode(first);
        self.input = Input::Encoded(decoder);
        self.parse(text.as_bytes(), rows)
    }

    fn parse(&mut self, mut bytes: &[u8], rows: &mut Vec<Row>) -> Result<(), InputError> {
        while !bytes.is_empty() {
            rows.extend(self.parser.read(&mut bytes)?);
        }
        Ok(())
    }
}

impl Parser {
    fn read(&mut self, bytes: &mut &[u8]) -> Result<Option<Row>, InputError> {
        match self {
            Self::Text(lines) => Ok(lines.read(bytes).map(|line| text_row(line, lines))),
            Self::Json(json) => Ok(json.read(bytes)),
            Self::Csv(csv) => csv.read(bytes),
        }
    }

    fn finish(&mut self) -> Result<Vec<Row>, InputError> {
        match self {
            Self::Text(lines) => {
                let last = lines.finish().map(|line| text_row(line, lines));
                Ok(last.into_iter().collect())
            }
            Self::Json(json) => Ok(json.finish()),
            Self::Csv(csv) => csv.finish(),
        }
    }
}

fn text_row(line: Line, lines: &Lines) -> Row {
    let (bytes, max_bytes) = (line.length, lines.max_bytes());
    let post = if bytes > max_bytes {
        Err(PostError::TooLong { bytes, max_bytes }.into())
    } else {
        String::from_utf8(line.bytes).map_err(|_| RowError::InvalidUtf8)
    };
    Row {
        line: line.number,
        id: None,
        post,
    }
}
