//! A subcommand's posts: rows of a file or of standard input.

use anyhow::{Context, bail};
use clap::{Args, ValueEnum};
use coldread::rows::{Header, Row, RowFile, RowFormat, RowOptions, parse_delimiter};
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// The format of a file of posts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// One post per line
    Text,
    /// JSON: one string per line, one object per line with the post in --field, or an array
    #[value(alias = "json")]
    Jsonl,
    /// Columns separated by commas or by the header's separator, quoted as in RFC 4180
    Csv,
    /// Tab-separated columns, without quoting
    Tsv,
}

impl Format {
    /// What a file's extension says; text where it says nothing.
    pub(crate) fn from_path(path: &Path) -> Self {
        let mut path = path.to_owned();
        let extension = |path: &Path| {
            let extension = path.extension().unwrap_or_default().to_string_lossy();
            extension.to_ascii_lowercase()
        };
        if matches!(extension(&path).as_str(), "gz" | "zst" | "zstd") {
            path.set_extension("");
        }
        match extension(&path).as_str() {
            "jsonl" | "ndjson" | "json" | "js" => Self::Jsonl,
            "csv" => Self::Csv,
            "tsv" | "tab" => Self::Tsv,
            _ => Self::Text,
        }
    }

    fn has_columns(self) -> bool {
        matches!(self, Self::Csv | Self::Tsv)
    }
}

impl From<Format> for RowFormat {
    fn from(format: Format) -> Self {
        match format {
            Format::Text => Self::Text,
            Format::Jsonl => Self::Json,
            Format::Csv => Self::Csv,
            Format::Tsv => Self::Tsv,
        }
    }
}

/// How the rows of an input are read.
#[derive(Debug, Args)]
pub(crate) struct RowArgs {
    /// Format of the input [default: by the file's extension, else text]
    ///
    /// In text, a blank line has an error as its result, so that line N of the results
    /// belongs to line N of the input; in the other formats blank lines are skipped.
    /// UTF-16 is decoded, and gzip and zstd are decompressed.
    #[arg(long, short, value_name = "FORMAT")]
    pub(crate) format: Option<Format>,

    /// Where the post is: a JSON key, a JSON pointer such as /user/bio, a column's name, or a
    /// column's number from 1 [default: text; with --no-header, the last column]
    #[arg(long, value_name = "FIELD")]
    pub(crate) field: Option<String>,

    /// Separator of CSV columns: one character, or `tab` [default: inferred from the header]
    #[arg(long, value_name = "CHARACTER", value_parser = delimiter)]
    pub(crate) delimiter: Option<u8>,

    /// The first row of CSV or TSV is data, not column names
    #[arg(long)]
    pub(crate) no_header: bool,
}

fn delimiter(name: &str) -> Result<u8, &'static str> {
    parse_delimiter(name).ok_or("expected one ASCII character, or `tab`")
}

impl RowArgs {
    /// The options for an input, or why these make no sense together.
    pub(crate) fn options(&self, path: &Path, max_post_bytes: usize) -> Result<RowOptions, String> {
        let format = self.format.unwrap_or_else(|| Format::from_path(path));
        let is_number = |field: &String| field.parse::<usize>().is_ok_and(|n| n > 0);
        if format == Format::Text && self.field.is_some() {
            return Err(
                "--field needs --format jsonl, csv or tsv; in text, each line is a post".to_owned(),
            );
        }
        if self.no_header && !format.has_columns() {
            return Err("--no-header needs --format csv or tsv".to_owned());
        }
        if self.delimiter.is_some() && !format.has_columns() {
            return Err("--delimiter needs --format csv".to_owned());
        }
        if self.no_header && !self.field.as_ref().is_none_or(is_number) {
            return Err("with --no-header, --field must be a column's number, from 1".to_owned());
        }
        Ok(RowOptions {
            field: self.field.clone(),
            delimiter: self.delimiter,
            header: if self.no_header {
                Header::Absent
            } else {
                Header::Present
            },
            ..RowOptions::new(format.into(), max_post_bytes)
        })
    }
}

/// The rows of one file.
pub(crate) struct Posts {
    rows: RowFile,
    name: String,
    total_bytes: Option<u64>,
}

impl Posts {
    /// Opens a file, or standard input for `-`, and reads the header where there is one.
    pub(crate) fn open(path: &Path, options: &RowOptions) -> anyhow::Result<Self> {
        let (reader, total_bytes) = open(path)?;
        let name = path.display().to_string();
        let rows = RowFile::new(reader, options).with_context(|| name.clone())?;
        let mut posts = Self {
            rows,
            name,
            total_bytes,
        };
        // What is no file of rows is told before the model is loaded; who types is not waited for.
        let has_header = matches!(options.format, RowFormat::Csv | RowFormat::Tsv);
        if has_header || total_bytes.is_some() {
            let first = posts.rows.read_ahead();
            first.with_context(|| posts.name.clone())?;
        }
        Ok(posts)
    }

    /// The next row. `Err` means that the input cannot be read on.
    pub(crate) fn next(&mut self) -> anyhow::Result<Option<Row>> {
        let row = self.rows.next_row();
        row.with_context(|| format!("reading {}", self.name))
    }

    /// Whether the next row may have to be waited for.
    pub(crate) fn may_wait(&self) -> bool {
        self.rows.may_wait()
    }

    /// How much of the input is used up.
    pub(crate) fn bytes_read(&self) -> u64 {
        self.rows.bytes_read()
    }

    /// How large the input is, where that is known.
    pub(crate) fn total_bytes(&self) -> Option<u64> {
        self.total_bytes
    }

    /// What is wrong with a line, in a file in which every line must be right.
    pub(crate) fn error_at(&self, line: u64, reason: &str) -> anyhow::Error {
        anyhow::anyhow!("{}:{line}: {reason}", self.name)
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
        bail!("{name} is a directory; expected a file of posts");
    }
    // A pipe or a device has no size.
    let total_bytes = metadata.is_file().then_some(metadata.len());
    Ok((Box::new(file), total_bytes))
}

/// All posts of a file for a measurement, read as `coldread score` reads it; TSV without a
/// column `text` is label<TAB>post lines. A row that cannot be read is an error; empty posts
/// are left out.
pub(crate) fn read_all(
    path: &Path,
    max_post_bytes: usize,
    max_posts: usize,
) -> anyhow::Result<Vec<String>> {
    let format = Format::from_path(path);
    let mut options = RowOptions::new(format.into(), max_post_bytes);
    if format == Format::Tsv {
        options.header = Header::Detect;
    }
    let mut input = Posts::open(path, &options)?;
    let mut posts = Vec::new();
    while posts.len() < max_posts
        && let Some(row) = input.next()?
    {
        let post = row
            .post
            .map_err(|e| input.error_at(row.line, &e.to_string()))?;
        let is_empty = post.trim().is_empty();
        posts.extend((!is_empty).then_some(post));
    }
    if posts.is_empty() {
        bail!("{} contains no posts", path.display());
    }
    Ok(posts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extensions_name_formats() {
        for (name, format) in [
            ("a.txt", Format::Text),
            ("a", Format::Text),
            ("-", Format::Text),
            ("a.JSONL", Format::Jsonl),
            ("a.ndjson", Format::Jsonl),
            ("tweets.js", Format::Jsonl),
            ("a.csv", Format::Csv),
            ("a.csv.gz", Format::Csv),
            ("a.jsonl.zst", Format::Jsonl),
            ("a.gz", Format::Text),
            ("a.tsv", Format::Tsv),
        ] {
            assert_eq!(Format::from_path(Path::new(name)), format, "{name}");
        }
    }
}
