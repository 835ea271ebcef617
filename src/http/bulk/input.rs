//! Rows out of pieces of a body, however those are cut.
//!
//! Each format is a reader that gives some rows at a time and keeps at most one of bounded
//! length. What is longer is read over and becomes an error in its place.

use super::{Format, ROWS_PER_CHUNK};
use coldread_engine::PostError;
use csv_core::{ReadRecordResult, Reader};
use serde_json::Value;

/// A row may be this many times as long as a post: JSON can write a byte as six, and
/// rows have other columns.
const ROW_BYTES_PER_POST_BYTE: usize = 8;

/// Columns of a CSV row that are looked at.
const MAX_COLUMNS: usize = 256;

/// A row of the body.
pub(super) struct Row {
    /// What the caller calls it, a string or a number.
    pub(super) id: Option<Value>,
    /// The post, until it is taken to be scored.
    pub(super) post: Result<Option<String>, RowError>,
}

/// Why a row is no post.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum RowError {
    #[error(transparent)]
    Post(#[from] PostError),
    #[error("the row is not valid JSON")]
    InvalidJson,
    #[error("the row has no string `text`")]
    MissingField,
}

impl RowError {
    pub(super) fn code(&self) -> &'static str {
        match self {
            Self::Post(error) => error.code(),
            Self::InvalidJson => "invalid_json",
            Self::MissingField => "missing_field",
        }
    }
}

impl Row {
    fn new(post: Result<String, RowError>) -> Self {
        Self {
            id: None,
            post: post.map(Some),
        }
    }

    /// The post, if it is one; the row stays without.
    pub(super) fn take_post(&mut self) -> Option<String> {
        self.post.as_mut().ok().and_then(Option::take)
    }
}

/// Reads rows of either format.
pub(super) struct RowReader {
    parser: Parser,
    max_row_bytes: usize,
    max_post_bytes: usize,
}

enum Parser {
    Ndjson {
        line: Vec<u8>,
        /// Bytes of a line that is too long to be kept.
        skipped: usize,
    },
    Csv(Box<Csv>),
}

impl RowReader {
    pub(super) fn new(format: Format, max_post_bytes: usize) -> Self {
        let parser = match format {
            Format::Ndjson => Parser::Ndjson {
                line: Vec::new(),
                skipped: 0,
            },
            Format::Csv => Parser::Csv(Box::default()),
        };
        Self {
            parser,
            max_row_bytes: max_post_bytes.saturating_mul(ROW_BYTES_PER_POST_BYTE),
            max_post_bytes,
        }
    }

    /// Reads on in `bytes`, which are moved on: to their end, or up to as many rows as are
    /// scored together, for a few bytes can be many rows.
    pub(super) fn read(&mut self, bytes: &mut &[u8]) -> Vec<Row> {
        let max_bytes = self.max_post_bytes;
        let too_long = |bytes| RowError::Post(PostError::TooLong { bytes, max_bytes });
        let mut rows = Vec::new();
        match &mut self.parser {
            Parser::Ndjson { line, skipped } => {
                for piece in bytes.split_inclusive(|&byte| byte == b'\n') {
                    if rows.len() == ROWS_PER_CHUNK {
                        break;
                    }
                    *bytes = &bytes[piece.len()..];
                    if *skipped > 0 || line.len() + piece.len() > self.max_row_bytes {
                        *skipped += line.len() + piece.len();
                        line.clear();
                    } else {
                        line.extend_from_slice(piece);
                    }
                    if piece.ends_with(b"\n") {
                        if *skipped > 0 {
                            rows.push(Row::new(Err(too_long(*skipped))));
                        } else {
                            rows.extend(ndjson(line));
                        }
                        line.clear();
                        *skipped = 0;
                    }
                }
            }
            Parser::Csv(csv) => csv.read(bytes, self.max_row_bytes, &too_long, &mut rows),
        }
        rows
    }

    /// The body is at its end, and with it the last row.
    pub(super) fn finish(&mut self) -> Vec<Row> {
        match self.parser {
            Parser::Ndjson { .. } => self.read(&mut &b"\n"[..]),
            // To its parser nothing is the end.
            Parser::Csv(_) => self.read(&mut &b""[..]),
        }
    }
}

/// A line: a string, or an object with `text` and perhaps `id`. Empty ones are no rows.
fn ndjson(line: &[u8]) -> Option<Row> {
    let Ok(line) = std::str::from_utf8(line) else {
        return Some(Row::new(Err(PostError::InvalidUtf8.into())));
    };
    let line = line.trim_start_matches('\u{feff}').trim();
    if line.is_empty() {
        return None;
    }
    let row = match serde_json::from_str(line) {
        Err(_) => Row::new(Err(RowError::InvalidJson)),
        Ok(Value::String(text)) => Row::new(Ok(text)),
        Ok(Value::Object(mut fields)) => Row {
            id: fields
                .remove("id")
                .filter(|id| id.is_string() || id.is_number()),
            post: match fields.remove("text") {
                Some(Value::String(text)) => Ok(Some(text)),
                _ => Err(RowError::MissingField),
            },
        },
        Ok(_) => Row::new(Err(RowError::MissingField)),
    };
    Some(row)
}

/// CSV with a header. The post is in the column `text`, or in the only one.
struct Csv {
    reader: Reader,
    /// Where `text` and `id` stand, once the header is known.
    columns: Option<(Option<usize>, Option<usize>)>,
    fields: Vec<u8>,
    used: usize,
    ends: Vec<usize>,
    num_ends: usize,
    /// Bytes of the row so far.
    length: usize,
    too_long: bool,
}

impl Default for Csv {
    fn default() -> Self {
        Self {
            reader: Reader::new(),
            columns: None,
            fields: vec![0; 1024],
            used: 0,
            ends: vec![0; MAX_COLUMNS],
            num_ends: 0,
            length: 0,
            too_long: false,
        }
    }
}

impl Csv {
    fn read(
        &mut self,
        bytes: &mut &[u8],
        max_row_bytes: usize,
        too_long: &impl Fn(usize) -> RowError,
        rows: &mut Vec<Row>,
    ) {
        let is_end = bytes.is_empty();
        while rows.len() < ROWS_PER_CHUNK {
            let (fields, ends) = (
                &mut self.fields[self.used..],
                &mut self.ends[self.num_ends..],
            );
            let (result, read, written, ended) = self.reader.read_record(bytes, fields, ends);
            *bytes = &bytes[read..];
            self.used += written;
            self.num_ends += ended;
            self.length += read;
            match result {
                ReadRecordResult::InputEmpty => {
                    if !is_end {
                        return;
                    }
                }
                ReadRecordResult::OutputFull if self.fields.len() < max_row_bytes => {
                    let larger = (2 * self.fields.len()).min(max_row_bytes);
                    self.fields.resize(larger, 0);
                }
                // The rest of the row goes over what was kept of it.
                ReadRecordResult::OutputFull | ReadRecordResult::OutputEndsFull => {
                    (self.used, self.num_ends, self.too_long) = (0, 0, true);
                }
                ReadRecordResult::Record => {
                    rows.extend(self.row(too_long));
                    (self.used, self.num_ends, self.too_long) = (0, 0, false);
                    self.length = 0;
                }
                ReadRecordResult::End => return,
            }
        }
    }

    /// The row that is complete; the first one is the header.
    fn row(&mut self, too_long: &impl Fn(usize) -> RowError) -> Option<Row> {
        let Some((text, id)) = self.columns else {
            let named = |name: &[u8]| {
                (0..self.num_ends)
                    .find(|&i| self.field(i).is_some_and(|it| it.trim_ascii() == name))
            };
            let only = (self.num_ends == 1).then_some(0);
            self.columns = Some((named(b"text").or(only), named(b"id")));
            return None;
        };
        if self.too_long {
            return Some(Row::new(Err(too_long(self.length))));
        }
        let utf8 = |field: &[u8]| std::str::from_utf8(field).map(str::to_owned);
        let post = match text.and_then(|column| self.field(column)) {
            None => Err(RowError::MissingField),
            Some(field) => utf8(field).map_err(|_| PostError::InvalidUtf8.into()),
        };
        let id = id.and_then(|column| utf8(self.field(column)?).ok());
        Some(Row {
            id: id.map(Value::String),
            post: post.map(Some),
        })
    }

    fn field(&self, column: usize) -> Option<&[u8]> {
        let end = *self.ends[..self.num_ends].get(column)?;
        let start = column.checked_sub(1).map_or(0, |before| self.ends[before]);
        self.fields.get(start..end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// All rows of `bytes`, some at a time.
    fn read(reader: &mut RowReader, mut bytes: &[u8]) -> Vec<Row> {
        let mut rows = Vec::new();
        while !bytes.is_empty() {
            let some = reader.read(&mut bytes);
            assert!(some.len() <= ROWS_PER_CHUNK);
            rows.extend(some);
        }
        rows
    }

    /// What is read of a body in pieces of every length.
    fn check(format: Format, body: &[u8], expected: &[(Option<Value>, Result<&str, RowError>)]) {
        for length in 1..=body.len() {
            let mut reader = RowReader::new(format, 6);
            let pieces = body.chunks(length);
            let mut rows: Vec<Row> = pieces.flat_map(|it| read(&mut reader, it)).collect();
            rows.extend(reader.finish());
            let rows: Vec<_> = rows
                .into_iter()
                .map(|row| (row.id, row.post.map(Option::unwrap_or_default)))
                .collect();
            let expected: Vec<_> = expected
                .iter()
                .map(|(id, post)| (id.clone(), post.clone().map(str::to_owned)))
                .collect();
            assert_eq!(rows, expected, "in pieces of {length}");
        }
    }

    fn too_long(bytes: usize) -> Result<&'static str, RowError> {
        let max_bytes = 6;
        Err(RowError::Post(PostError::TooLong { bytes, max_bytes }))
    }

    #[test]
    fn ndjson_rows() {
        let body = "\u{feff}\"a\\n\"\r\n\n{\"text\":\"ü😀\",\"id\":7,\"more\":[]}\n{\"id\":\"x\"}\n\
                    {\"text\"\n5\n\"last\"";
        check(
            Format::Ndjson,
            body.as_bytes(),
            &[
                (None, Ok("a\n")),
                (Some(json!(7)), Ok("ü😀")),
                (Some(json!("x")), Err(RowError::MissingField)),
                (None, Err(RowError::InvalidJson)),
                (None, Err(RowError::MissingField)),
                (None, Ok("last")),
            ],
        );
    }

    #[test]
    fn some_rows_at_a_time() {
        let rows = "\"\"\n".repeat(100);
        for (format, head) in [(Format::Ndjson, ""), (Format::Csv, "text\n")] {
            let body = format!("{head}{rows}");
            let (mut reader, mut rest) = (RowReader::new(format, 6), body.as_bytes());
            for left in [68, 36, 4, 0] {
                assert!(reader.read(&mut rest).len() <= ROWS_PER_CHUNK);
                assert_eq!(rest.len(), 3 * left, "{format:?}");
            }
        }
    }

    #[test]
    fn ndjson_rows_that_are_too_long_or_no_text() {
        let long = "a".repeat(50);
        let body = [b"\"", long.as_bytes(), b"\"\n\"\xff\"\n\"b\"\n"].concat();
        let invalid = Err(PostError::InvalidUtf8.into());
        check(
            Format::Ndjson,
            &body,
            &[(None, too_long(53)), (None, invalid), (None, Ok("b"))],
        );
    }

    #[test]
    fn csv_rows() {
        let body = "id,text\r\n1,\"a, \"\"b\"\"\nc\"\n2,\n3\n,\"last";
        check(
            Format::Csv,
            body.as_bytes(),
            &[
                (Some(json!("1")), Ok("a, \"b\"\nc")),
                (Some(json!("2")), Ok("")),
                (Some(json!("3")), Err(RowError::MissingField)),
                (Some(json!("")), Ok("last")),
            ],
        );
        check(Format::Csv, b"anything\na\n", &[(None, Ok("a"))]);
        let missing = Err(RowError::MissingField);
        check(Format::Csv, b"one,two\na,b\n", &[(None, missing)]);
    }

    #[test]
    fn a_csv_row_without_end_is_read_over() {
        let mut reader = RowReader::new(Format::Csv, 4);
        assert!(read(&mut reader, b"text\n\"").is_empty());
        for _ in 0..10_000 {
            assert!(read(&mut reader, &[b'a'; 100]).is_empty());
        }
        let rows = read(&mut reader, b"\"\nb\n");
        let post = |i: usize| rows[i].post.clone().map(Option::unwrap_or_default);
        assert!(matches!(
            post(0),
            Err(RowError::Post(PostError::TooLong { .. }))
        ));
        assert_eq!(post(1).as_deref(), Ok("b"));
        let Parser::Csv(csv) = &reader.parser else {
            unreachable!()
        };
        assert!(
            csv.fields.len() <= 1024,
            "{} bytes were kept",
            csv.fields.len()
        );
    }
}
