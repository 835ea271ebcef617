//! Posts out of text, JSON lines, CSV and TSV, one at a time in bounded memory.
//!
//! A row that holds no post is an error *in its place*, so that results line up
//! with the input; only trouble with the file itself ends the reading. However
//! long a line is, no more than a limit of it is kept.

mod columns;
mod lines;
mod source;

use anyhow::{Context, bail};
use clap::ValueEnum;
use coldread_engine::PostError;
use columns::Column;
pub(crate) use lines::Lines;
use serde_json::Value;
use source::Source;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// How posts stand in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// One post a line
    Text,
    /// One JSON object with the post under --field, or one JSON string, a line
    Jsonl,
    /// Comma-separated columns, quoted as in RFC 4180
    Csv,
    /// Tab-separated columns, without quoting
    Tsv,
}

impl Format {
    /// What a file's extension says; text where it says nothing.
    pub(crate) fn of(path: &Path) -> Self {
        let extension = path.extension().unwrap_or_default().to_string_lossy();
        match extension.to_ascii_lowercase().as_str() {
            "jsonl" | "ndjson" | "json" => Self::Jsonl,
            "csv" => Self::Csv,
            "tsv" | "tab" => Self::Tsv,
            _ => Self::Text,
        }
    }

    fn has_columns(self) -> bool {
        matches!(self, Self::Csv | Self::Tsv)
    }
}

/// Where in a row the post stands, and how much of one is read.
#[derive(Debug, Clone)]
pub(crate) struct ReadOptions {
    pub(crate) format: Format,
    /// A JSON key, a column's name, or its number from 1.
    pub(crate) field: Option<String>,
    /// Whether the first row of CSV or TSV is data.
    pub(crate) no_header: bool,
    /// The longest post in bytes.
    pub(crate) max_post_bytes: usize,
}

impl ReadOptions {
    /// Options that make no sense together, said as a user would read it.
    pub(crate) fn conflict(&self) -> Option<String> {
        let is_number = |field: &String| field.parse::<usize>().is_ok_and(|n| n > 0);
        if self.format == Format::Text && self.field.is_some() {
            return Some("--field is for jsonl, csv and tsv; a text line is a post".to_owned());
        }
        if self.no_header && !self.format.has_columns() {
            return Some("--no-header is for csv and tsv".to_owned());
        }
        if self.no_header && !self.field.as_ref().is_none_or(is_number) {
            return Some("with --no-header, --field is a column's number, from 1".to_owned());
        }
        None
    }
}

/// Why a row has no score: a stable code, and a message that says what to do.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub(crate) struct RowError {
    pub(crate) code: &'static str,
    pub(crate) message: String,
}

impl RowError {
    /// A row that is not what its format promises.
    fn invalid(line: u64, reason: impl std::fmt::Display) -> Self {
        Self {
            code: "invalid_row",
            message: format!("line {line}: {reason}"),
        }
    }
}

impl From<&PostError> for RowError {
    fn from(error: &PostError) -> Self {
        Self {
            code: error.code(),
            message: error.to_string(),
        }
    }
}

/// One row's post, or why there is none.
pub(crate) type Row = Result<String, RowError>;

/// The posts of one input.
pub(crate) struct Posts {
    source: Source<Box<dyn Read + Send>>,
    options: ReadOptions,
    column: Column,
    total_bytes: Option<u64>,
}

impl Posts {
    /// Opens a file, or standard input for `-`.
    pub(crate) fn open(path: &Path, options: ReadOptions) -> anyhow::Result<Self> {
        let (reader, total_bytes) = open(path)?;
        let mut posts = Self::new(reader, options).with_context(|| path.display().to_string())?;
        posts.total_bytes = total_bytes;
        Ok(posts)
    }

    /// Posts from any reader. Reads the header where there is one.
    pub(crate) fn new(reader: Box<dyn Read + Send>, options: ReadOptions) -> anyhow::Result<Self> {
        let mut posts = Self {
            source: Source::new(reader),
            column: Column::Last,
            total_bytes: None,
            options,
        };
        if posts.options.format.has_columns() {
            posts.column = posts.find_column()?;
        }
        Ok(posts)
    }

    fn find_column(&mut self) -> anyhow::Result<Column> {
        let field = self.options.field.clone();
        if self.options.no_header {
            return Ok(field.map_or(Column::Last, |n| {
                Column::Index(n.parse::<usize>().map_or(0, |n| n.saturating_sub(1)))
            }));
        }
        let max_bytes = self.max_row_bytes();
        let Some(header) = self.read_columns(max_bytes)? else {
            return Ok(Column::Last); // an empty file has no posts
        };
        if header.total_bytes > max_bytes {
            bail!("the header has more than {max_bytes} bytes; is this a file with a header?");
        }
        Column::named(&header, field.as_deref())
    }

    /// The next row. `Err` means that the input cannot be read on.
    pub(crate) fn next(&mut self) -> io::Result<Option<Row>> {
        match self.options.format {
            Format::Text => self.next_text(),
            Format::Jsonl => self.next_json(),
            Format::Csv | Format::Tsv => self.next_column(),
        }
    }

    /// Whether the next row may have to be waited for.
    pub(crate) fn may_wait(&self) -> bool {
        self.source.may_wait()
    }

    /// How much of the input is used up.
    pub(crate) fn bytes_read(&self) -> u64 {
        self.source.bytes_read
    }

    /// How large the input is, where that is known.
    pub(crate) fn total_bytes(&self) -> Option<u64> {
        self.total_bytes
    }

    /// A row has other columns beside the post, and JSON escapes make a post up to
    /// six times longer.
    fn max_row_bytes(&self) -> usize {
        8 * self.options.max_post_bytes + (64 << 10)
    }

    fn next_text(&mut self) -> io::Result<Option<Row>> {
        let max_bytes = self.options.max_post_bytes;
        Ok(self.source.line(max_bytes)?.map(|line| {
            if line.total_bytes > max_bytes {
                return Err(RowError::from(&PostError::TooLong {
                    bytes: line.total_bytes,
                    max_bytes,
                }));
            }
            utf8(line.bytes)
        }))
    }

    fn next_json(&mut self) -> io::Result<Option<Row>> {
        let max_bytes = self.max_row_bytes();
        while let Some(line) = self.source.line(max_bytes)? {
            let blank = line.bytes.trim_ascii().is_empty();
            if line.total_bytes > max_bytes {
                return Ok(Some(Err(too_long_row(
                    line.number,
                    line.total_bytes,
                    max_bytes,
                ))));
            }
            if !blank {
                let field = self.options.field.as_deref().unwrap_or("text");
                return Ok(Some(json_post(line.bytes, line.number, field)));
            }
        }
        Ok(None)
    }

    fn next_column(&mut self) -> io::Result<Option<Row>> {
        let max_bytes = self.max_row_bytes();
        let Some(columns) = self.read_columns(max_bytes)? else {
            return Ok(None);
        };
        if columns.total_bytes > max_bytes {
            return Ok(Some(Err(too_long_row(
                columns.line,
                columns.total_bytes,
                max_bytes,
            ))));
        }
        let row = if columns.unclosed_quote {
            Err("the quote opened in this row is never closed".to_owned())
        } else {
            self.column.of(&columns)
        };
        Ok(Some(match row {
            Ok(field) => utf8(field.to_vec()),
            Err(reason) => Err(RowError::invalid(columns.line, reason)),
        }))
    }

    /// The next row that is not blank, split into its columns.
    fn read_columns(&mut self, max_bytes: usize) -> io::Result<Option<columns::Columns>> {
        match self.options.format {
            Format::Csv => columns::read_csv(&mut self.source, max_bytes),
            _ => columns::read_tsv(&mut self.source, max_bytes),
        }
    }
}

/// Opens a file, or standard input for `-`; says how large the file is.
fn open(path: &Path) -> anyhow::Result<(Box<dyn Read + Send>, Option<u64>)> {
    if path.as_os_str() == "-" {
        return Ok((Box::new(io::stdin()), None));
    }
    let name = path.display();
    let file = File::open(path).with_context(|| name.to_string())?;
    let metadata = file.metadata().with_context(|| name.to_string())?;
    if metadata.is_dir() {
        bail!("{name}: this is a directory; name a file of posts");
    }
    // A pipe or a device has no size.
    let total_bytes = metadata.is_file().then_some(metadata.len());
    Ok((Box::new(file), total_bytes))
}

/// All posts of a file for a measurement: text lines, or the last column of TSV and
/// CSV, or JSON lines. Rows without a post are left out.
pub(crate) fn read_all(
    path: &Path,
    max_post_bytes: usize,
    max_posts: usize,
) -> anyhow::Result<Vec<String>> {
    let format = Format::of(path);
    let options = ReadOptions {
        format,
        field: None,
        no_header: format.has_columns(),
        max_post_bytes,
    };
    let mut input = Posts::open(path, options)?;
    let mut posts = Vec::new();
    while posts.len() < max_posts
        && let Some(row) = input
            .next()
            .with_context(|| format!("reading {}", path.display()))?
    {
        posts.extend(row.ok().filter(|post| !post.trim().is_empty()));
    }
    if posts.is_empty() {
        bail!("{}: no posts in it", path.display());
    }
    Ok(posts)
}

fn utf8(bytes: Vec<u8>) -> Row {
    String::from_utf8(bytes).map_err(|_| RowError::from(&PostError::InvalidUtf8))
}

fn too_long_row(line: u64, bytes: usize, max_bytes: usize) -> RowError {
    RowError {
        code: "text_too_long",
        message: format!("line {line}: the row has {bytes} bytes; at most {max_bytes} are read"),
    }
}

/// The post in one line of JSON.
fn json_post(line: Vec<u8>, number: u64, field: &str) -> Row {
    let line = utf8(line)?;
    let value: Value = serde_json::from_str(&line).map_err(|error| {
        let reason = error.to_string();
        // serde_json counts lines too, and its line is always 1 here.
        let reason = reason.split(" at line ").next().unwrap_or_default();
        RowError::invalid(
            number,
            format!("not JSON: {reason} at column {}", error.column()),
        )
    })?;
    match value {
        Value::String(post) => Ok(post),
        Value::Object(mut object) => match object.remove(field) {
            Some(Value::String(post)) => Ok(post),
            Some(_) => Err(RowError::invalid(
                number,
                format!("{field:?} is not a string"),
            )),
            None => Err(RowError::invalid(
                number,
                format!("no key {field:?}; name the post's key with --field"),
            )),
        },
        _ => Err(RowError::invalid(
            number,
            "neither a JSON object nor a JSON string",
        )),
    }
}

#[cfg(test)]
mod tests;
