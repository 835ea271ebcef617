//! Why a row has no post, and why an input has no rows.

use super::signature::FileType;
use crate::error::PostRejection;
use coldread_engine::PostError;

/// Why one row was not scored. Other rows are not affected.
///
/// Messages say what to do and never quote the row; codes are stable.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RowError {
    /// The row has a post, which cannot be scored.
    #[error(transparent)]
    Post(#[from] PostRejection),
    /// The row is longer than the limit.
    #[error("the row has {bytes} bytes; at most {max_bytes} are allowed, so shorten or split it")]
    RowTooLong {
        /// The row's length.
        bytes: usize,
        /// The limit.
        max_bytes: usize,
    },
    /// The row, or its post, is not UTF-8.
    #[error("the text is not valid UTF-8; encode it as UTF-8")]
    InvalidUtf8,
    /// The row is not JSON.
    #[error("the row is not valid JSON: {0}")]
    InvalidJson(String),
    /// There is no string where the post should be.
    #[error(
        "there is no string at `{0}`; name the post's field with `--field` (`?field=` over HTTP)"
    )]
    MissingField(String),
    /// The value where the post should be is not a string.
    #[error("the value at `{0}` is not a string")]
    InvalidType(String),
    /// The row has more or fewer columns than the header, or than the first row if there is no
    /// header, so the post's column is uncertain.
    #[error(
        "the row has {found} columns; expected {expected}, so quote posts that contain the delimiter or a line end"
    )]
    ColumnCount {
        /// The row's columns.
        found: usize,
        /// The header's.
        expected: usize,
    },
    /// The input ended inside quotes.
    #[error("a quote in this row is never closed; close it, or double it if it is text")]
    UnclosedQuote,
    /// A quoted column continues after its closing quote.
    #[error(
        "a quoted column continues after its closing quote (up to line {last_line}); double the quotes inside it"
    )]
    StrayQuote {
        /// Where the row ends.
        last_line: u64,
    },
    /// Data that should be base64 is not.
    #[error("the record's data is not base64")]
    InvalidBase64,
    /// A table's change without the changed item.
    #[error("the record has no new image; set the stream's view type to include it")]
    MissingImage,
}

impl From<PostError> for RowError {
    fn from(error: PostError) -> Self {
        Self::Post(error.into())
    }
}

impl RowError {
    /// A stable code for programs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Post(error) => error.code(),
            Self::RowTooLong { .. } => "text_too_long",
            Self::InvalidUtf8 => "invalid_utf8",
            Self::InvalidJson(_) => "invalid_json",
            Self::MissingField(_) | Self::MissingImage => "missing_field",
            Self::InvalidType(_) => "invalid_type",
            Self::ColumnCount { .. } => "column_count",
            Self::UnclosedQuote => "unclosed_quote",
            Self::StrayQuote { .. } => "stray_quote",
            Self::InvalidBase64 => "invalid_base64",
        }
    }

    /// The message, prefixed with the line if the row is malformed.
    pub fn message_at(&self, line: u64) -> String {
        match self {
            Self::Post(error) => error.to_string(),
            error => format!("line {line}: {error}"),
        }
    }
}

/// Why an input as a whole cannot be read as rows.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InputError {
    /// A file of another kind.
    #[error("this is {}, not text; {}", .0.name(), .0.conversion())]
    NotText(FileType),
    /// Text in an unknown encoding.
    #[error(
        "this is not UTF-8 text; if it is UTF-16 without a byte order mark, convert it with `iconv -f UTF-16LE -t UTF-8`"
    )]
    UnknownCharset,
    /// The header has no column for the post.
    #[error(
        "the header has no column {wanted:?}{}; name the post's column with `--field` (`?field=` over HTTP), or use `--no-header` (`?header=absent`) if the first row is data", list(.found)
    )]
    MissingColumn {
        /// The column's name.
        wanted: String,
        /// The columns' names, unless they may be posts.
        found: Vec<String>,
    },
    /// The delimiter is ambiguous.
    #[error(
        "the delimiter is ambiguous: {0} occur in the first row; name it with `--delimiter` (`?delimiter=` over HTTP)"
    )]
    UnknownDelimiter(String),
    /// The first row is too long to be a header, or has a quote that is never closed.
    #[error(
        "the first row has more than {max_bytes} bytes, or a quote that is never closed; check that this is CSV"
    )]
    Header {
        /// The longest header.
        max_bytes: usize,
    },
}

fn list(names: &[String]) -> String {
    if names.is_empty() {
        return String::new();
    }
    let names: Vec<String> = names.iter().map(|name| format!("{name:?}")).collect();
    format!(", only {}", names.join(", "))
}

impl InputError {
    /// A stable code for programs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::NotText(_) | Self::UnknownCharset => "unsupported_media_type",
            Self::MissingColumn { .. } => "missing_field",
            Self::UnknownDelimiter(_) => "unknown_delimiter",
            Self::Header { .. } => "invalid_header",
        }
    }
}
