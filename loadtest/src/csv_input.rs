//! CSV files that users give: an error names the file and the line.

use csv::StringRecord;
use std::io;
use std::path::Path;
use thiserror::Error;

/// Why a CSV file cannot be read.
#[derive(Debug, Error)]
pub enum RowError {
    /// The file cannot be opened or read.
    #[error("{file}: {source}")]
    Read {
        /// The file as the user named it.
        file: String,
        /// The system's reason.
        source: io::Error,
    },
    /// A row is invalid.
    #[error("{file}:{line}: {reason}")]
    Row {
        /// The file as the user named it.
        file: String,
        /// Line, counted from one.
        line: u64,
        /// What is wrong with it.
        reason: String,
    },
}

/// The name of a file, for errors about its rows.
#[derive(Debug, Clone)]
pub(crate) struct InputFile(pub(crate) String);

impl InputFile {
    pub(crate) fn new(path: &Path) -> Self {
        Self(path.display().to_string())
    }

    /// The file cannot be read.
    pub(crate) fn read_error(&self, source: io::Error) -> RowError {
        RowError::Read {
            file: self.0.clone(),
            source,
        }
    }

    /// One of its rows is invalid.
    pub(crate) fn row_error(&self, line: u64, reason: impl Into<String>) -> RowError {
        RowError::Row {
            file: self.0.clone(),
            line,
            reason: reason.into(),
        }
    }

    /// The rows of `reader` with their line numbers.
    pub(crate) fn records<R: io::Read>(
        &self,
        reader: csv::Reader<R>,
    ) -> impl Iterator<Item = Result<(u64, StringRecord), RowError>> {
        reader.into_records().map(|record| match record {
            Ok(record) => Ok((record.position().map_or(0, csv::Position::line), record)),
            Err(cause) => {
                let line = cause.position().map_or(0, csv::Position::line);
                Err(match cause.into_kind() {
                    csv::ErrorKind::Io(source) => self.read_error(source),
                    csv::ErrorKind::Utf8 { .. } => self.row_error(line, "not UTF-8"),
                    csv::ErrorKind::UnequalLengths {
                        expected_len, len, ..
                    } => self.row_error(line, format!("{len} fields, not {expected_len}")),
                    kind => self.row_error(line, format!("{kind:?}")),
                })
            }
        })
    }
}
