//! Files of rows, as users give them: what cannot be read is named by file and line.

use csv::StringRecord;
use std::io;
use std::path::Path;
use thiserror::Error;

/// Why a file of rows cannot be read.
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
    /// A row means nothing.
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

/// A file's name, for errors about its rows.
#[derive(Debug, Clone)]
pub(crate) struct InputFile(pub(crate) String);

impl InputFile {
    pub(crate) fn new(path: &Path) -> Self {
        Self(path.display().to_string())
    }

    /// It cannot be read.
    pub(crate) fn unread(&self, source: io::Error) -> RowError {
        RowError::Read {
            file: self.0.clone(),
            source,
        }
    }

    /// One of its rows means nothing.
    pub(crate) fn row(&self, line: u64, reason: impl Into<String>) -> RowError {
        RowError::Row {
            file: self.0.clone(),
            line,
            reason: reason.into(),
        }
    }

    /// Its rows, as `reader` has them, with their lines.
    pub(crate) fn records<R: io::Read>(
        &self,
        reader: csv::Reader<R>,
    ) -> impl Iterator<Item = Result<(u64, StringRecord), RowError>> {
        reader.into_records().map(|record| match record {
            Ok(record) => Ok((record.position().map_or(0, csv::Position::line), record)),
            Err(cause) => {
                let line = cause.position().map_or(0, csv::Position::line);
                Err(match cause.into_kind() {
                    csv::ErrorKind::Io(source) => self.unread(source),
                    csv::ErrorKind::Utf8 { .. } => self.row(line, "not UTF-8"),
                    csv::ErrorKind::UnequalLengths {
                        expected_len, len, ..
                    } => self.row(line, format!("{len} fields, not {expected_len}")),
                    kind => self.row(line, format!("{kind:?}")),
                })
            }
        })
    }
}
