//! Why a model was rejected.

use crate::foreign;
use std::path::{Path, PathBuf};

/// A model that cannot be used, with the file at fault and the reason.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// A file of the model is missing or cannot be read.
    #[error("{}: {}", path.display(), read_reason(source))]
    Read {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// A packed file cannot be written.
    #[error("{}: {source}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// A file was read, but what it holds cannot be used.
    #[error("{}: {reason}", path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The model is sound, but of a kind that no engine here runs.
    #[error("{}: {reason}", path.display())]
    Unsupported {
        /// The file that says so.
        path: PathBuf,
        /// What is not supported, and what is.
        reason: String,
    },
}

impl LoadError {
    /// A [`LoadError::Invalid`] about `path`.
    pub fn invalid(path: &Path, reason: impl Into<String>) -> Self {
        Self::Invalid {
            path: path.to_owned(),
            reason: reason.into(),
        }
    }

    /// A [`LoadError::Unsupported`] about `path`.
    pub fn unsupported(path: &Path, reason: impl Into<String>) -> Self {
        Self::Unsupported {
            path: path.to_owned(),
            reason: reason.into(),
        }
    }
}

fn read_reason(source: &std::io::Error) -> String {
    match source.kind() {
        std::io::ErrorKind::NotFound => "the file is missing".to_owned(),
        _ => source.to_string(),
    }
}

/// Reads a file of a model, naming it when that fails or when something else is in its
/// place.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>, LoadError> {
    let bytes = std::fs::read(path).map_err(|source| LoadError::Read {
        path: path.to_owned(),
        source,
    })?;
    foreign::check(path, &bytes)?;
    Ok(bytes)
}

/// Reads a file that a model may lack: only a missing one is `None`, an
/// unreadable one is an error.
pub(crate) fn read_optional(path: &Path) -> Result<Option<Vec<u8>>, LoadError> {
    match read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(LoadError::Read { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}
