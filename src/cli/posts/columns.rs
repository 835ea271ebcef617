//! Rows of CSV and TSV.
//!
//! CSV is read here and not with the `csv` crate because that keeps a whole row in
//! memory: one quote that is never closed would make it hold the rest of the file.

use super::source::Source;
use anyhow::anyhow;
use std::io::{self, Read};

/// One row.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Columns {
    /// The columns' text, end to end.
    bytes: Vec<u8>,
    /// Where each column ends in `bytes`.
    ends: Vec<usize>,
    /// The row's length in the file. Above the limit that the row was read with,
    /// its columns are not complete.
    pub(super) total_bytes: usize,
    /// The line that the row begins in, from 1.
    pub(super) line: u64,
    /// The input ended within quotes.
    pub(super) unclosed_quote: bool,
}

impl Columns {
    fn len(&self) -> usize {
        self.ends.len()
    }

    fn get(&self, index: usize) -> Option<&[u8]> {
        let end = *self.ends.get(index)?;
        let start = index.checked_sub(1).map_or(0, |before| self.ends[before]);
        Some(&self.bytes[start..end])
    }
}

/// Which column holds the post.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Column {
    /// Counted from 0.
    Index(usize),
    /// Each row's last, as in `label<TAB>post`.
    Last,
}

impl Column {
    /// Finds `field` in a header: a name, or a number from 1. Without a `field` it
    /// is the column `text`, or the only one.
    pub(super) fn named(header: &Columns, field: Option<&str>) -> anyhow::Result<Self> {
        let names: Vec<_> = (0..header.len())
            .filter_map(|i| header.get(i).map(String::from_utf8_lossy))
            .collect();
        let wanted = field.unwrap_or("text");
        if let Some(index) = names.iter().position(|name| name.trim() == wanted) {
            return Ok(Self::Index(index));
        }
        match field.map(str::parse::<usize>) {
            Some(Ok(number)) if (1..=names.len()).contains(&number) => {
                return Ok(Self::Index(number - 1));
            }
            _ => {}
        }
        // Without a header this row is data, and posts do not belong in messages:
        // what is longer than a column's name is not shown.
        let shown = |name: &str| match name.chars().count() {
            0..=30 => format!("{name:?}"),
            _ => "(a long text)".to_owned(),
        };
        let names: Vec<String> = names.iter().map(|name| shown(name)).collect();
        Err(anyhow!(
            "the header has no column {wanted:?}, only {}; name the post's column with --field, \
             or say --no-header when the first row is data",
            names.join(", ")
        ))
    }

    /// The post's bytes in a row.
    pub(super) fn of(self, columns: &Columns) -> Result<&[u8], String> {
        let index = match self {
            Self::Index(index) => index,
            Self::Last => columns.len().saturating_sub(1),
        };
        columns.get(index).ok_or_else(|| {
            let found = columns.len();
            format!("no column {}; the row has {found}", index + 1)
        })
    }
}

/// The next row of TSV that is not blank. Quotes mean nothing in it.
pub(super) fn read_tsv<R: Read>(
    source: &mut Source<R>,
    max_bytes: usize,
) -> io::Result<Option<Columns>> {
    while let Some(line) = source.line(max_bytes)? {
        if line.total_bytes == 0 {
            continue;
        }
        let mut columns = Columns {
            total_bytes: line.total_bytes,
            line: line.number,
            ..Columns::default()
        };
        for column in line.bytes.split(|&byte| byte == b'\t') {
            columns.bytes.extend_from_slice(column);
            columns.ends.push(columns.bytes.len());
        }
        return Ok(Some(columns));
    }
    Ok(None)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    ColumnStart,
    Plain,
    Quoted,
    /// After a quote within quotes: the end of them, or one half of an escaped one.
    QuoteInQuoted,
}

/// Reads one row of CSV, byte by byte.
struct CsvRow {
    columns: Columns,
    state: State,
    max_bytes: usize,
    /// Whether a column was in quotes: an empty one is no blank row then.
    any_quoted: bool,
    /// Whether the last byte kept may be the first half of a CRLF.
    ends_in_cr: bool,
}

impl CsvRow {
    fn new(line: u64, max_bytes: usize) -> Self {
        Self {
            columns: Columns {
                line,
                ..Columns::default()
            },
            state: State::ColumnStart,
            max_bytes,
            any_quoted: false,
            ends_in_cr: false,
        }
    }

    /// Takes one byte; says whether it ended the row.
    fn take(&mut self, byte: u8) -> bool {
        self.columns.total_bytes += 1;
        match (self.state, byte) {
            (State::Quoted, b'"') => self.state = State::QuoteInQuoted,
            (State::QuoteInQuoted, b'"') => {
                self.keep(byte);
                self.state = State::Quoted;
            }
            (State::Quoted, _) => self.keep(byte),
            (State::ColumnStart, b'"') => {
                self.state = State::Quoted;
                self.any_quoted = true;
            }
            (_, b'\n') => return true,
            (_, b',') => self.end_column(),
            // Anything else after the closing quote is kept, as most readers do.
            (_, _) => {
                self.keep(byte);
                self.ends_in_cr = byte == b'\r';
                if self.state == State::ColumnStart {
                    self.state = State::Plain;
                }
                return false;
            }
        }
        self.ends_in_cr = false;
        false
    }

    fn keep(&mut self, byte: u8) {
        if self.columns.total_bytes <= self.max_bytes {
            self.columns.bytes.push(byte);
        }
    }

    fn end_column(&mut self) {
        if self.columns.total_bytes <= self.max_bytes {
            self.columns.ends.push(self.columns.bytes.len());
        }
        self.state = State::ColumnStart;
    }

    /// The row, or `None` if it is blank.
    fn finish(mut self) -> Option<Columns> {
        self.columns.unclosed_quote = self.state == State::Quoted;
        if self.ends_in_cr {
            self.columns.bytes.pop();
        }
        let blank =
            self.columns.ends.is_empty() && self.columns.bytes.is_empty() && !self.any_quoted;
        self.end_column();
        (!blank).then_some(self.columns)
    }
}

/// The next row of CSV that is not blank. Quoted columns may hold line ends.
pub(super) fn read_csv<R: Read>(
    source: &mut Source<R>,
    max_bytes: usize,
) -> io::Result<Option<Columns>> {
    loop {
        let mut row = CsvRow::new(source.line + 1, max_bytes);
        let mut ended = false;
        while !ended {
            let first = source.bytes_read == 0;
            let chunk = source.fill()?;
            if chunk.is_empty() {
                break;
            }
            let mut used = 0;
            if first && chunk.starts_with(b"\xef\xbb\xbf") {
                used = 3;
            }
            let mut lines = 0;
            for &byte in &chunk[used..] {
                used += 1;
                lines += u64::from(byte == b'\n');
                ended = row.take(byte);
                if ended {
                    break;
                }
            }
            source.line += lines;
            source.consume(used);
        }
        let at_end = !ended && row.columns.total_bytes == 0;
        match row.finish() {
            None if at_end => return Ok(None),
            None => {}
            columns => return Ok(columns),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(input: &[u8], max_bytes: usize) -> Vec<Columns> {
        let mut source = Source::new(input);
        std::iter::from_fn(|| read_csv(&mut source, max_bytes).unwrap()).collect()
    }

    fn text(columns: &Columns) -> Vec<String> {
        (0..columns.len())
            .map(|i| String::from_utf8(columns.get(i).unwrap().to_vec()).unwrap())
            .collect()
    }

    fn check(input: &str, expected: &[&[&str]]) {
        let rows: Vec<Vec<String>> = rows(input.as_bytes(), 1000).iter().map(text).collect();
        assert_eq!(rows, expected, "{input:?}");
    }

    #[test]
    fn csv_rows() {
        check("", &[]);
        check("a,b\nc,d", &[&["a", "b"], &["c", "d"]]);
        check("a,b\r\n\r\n\nc,\r\n", &[&["a", "b"], &["c", ""]]);
        check("\u{feff}a\n", &[&["a"]]);
        check("\"\"\n", &[&[""]]);
        check("\"a,\"\"b\"\"\nc\",d\r\ne", &[&["a,\"b\"\nc", "d"], &["e"]]);
        check("\"a\"\r\n\"b\"", &[&["a"], &["b"]]);
        check("\"a\r\"\n\"b\r\"\r\n", &[&["a\r"], &["b\r"]]);
        check("a\"b,c\n", &[&["a\"b", "c"]]);
        check("\"a\"b,c\n", &[&["ab", "c"]]);
        check(",\n", &[&["", ""]]);
    }

    #[test]
    fn rows_know_the_line_they_begin_in() {
        let lines: Vec<u64> = rows(b"h\n\"a\nb\"\n\nc\n", 100)
            .iter()
            .map(|row| row.line)
            .collect();
        assert_eq!(lines, [1, 2, 5]);
    }

    #[test]
    fn a_quote_left_open_is_noticed_and_bounded() {
        let open = rows(b"a\n\"b\nc\n", 100);
        assert!(!open[0].unclosed_quote);
        assert!(open[1].unclosed_quote);
        let long = [&b"\""[..], &vec![b'x'; 1 << 20]].concat();
        let long = rows(&long, 100);
        assert_eq!(long[0].total_bytes, (1 << 20) + 1);
        assert!(long[0].bytes.capacity() < 1000);
    }

    #[test]
    fn what_the_csv_crate_writes_is_read_back() {
        let pieces = [
            "",
            "a",
            "\"",
            ",",
            "\n",
            "\r\n",
            "é\t",
            " x ",
            "\"\"",
            "b,\"c\"\nd",
        ];
        let table: Vec<Vec<&str>> = (0..pieces.len() * pieces.len())
            .map(|i| vec![pieces[i % pieces.len()], pieces[i / pieces.len()], "end"])
            .collect();
        let mut writer = csv::Writer::from_writer(Vec::new());
        for row in &table {
            writer.write_record(row).unwrap();
        }
        let read: Vec<_> = rows(&writer.into_inner().unwrap(), 1000)
            .iter()
            .map(text)
            .collect();
        assert_eq!(read, table);
    }
}
