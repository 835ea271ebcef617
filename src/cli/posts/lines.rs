//! Lines of a file in which every line must be right: a bad one is an error that
//! names file and line.

use super::source::Source;
use anyhow::{Context, anyhow};
use std::io::Read;
use std::path::Path;

/// What a line of labelled posts may have besides the post: a label and a tab.
const MAX_LABEL_BYTES: usize = 1024;

/// The lines of one file.
pub(crate) struct Lines {
    source: Source<Box<dyn Read + Send>>,
    name: String,
    total_bytes: Option<u64>,
    max_bytes: usize,
}

impl Lines {
    /// Opens a file, or standard input for `-`.
    pub(crate) fn open(path: &Path, max_post_bytes: usize) -> anyhow::Result<Self> {
        let (reader, total_bytes) = super::open(path)?;
        Ok(Self {
            source: Source::new(reader),
            name: path.display().to_string(),
            total_bytes,
            max_bytes: max_post_bytes + MAX_LABEL_BYTES,
        })
    }

    /// The next line without its end.
    pub(crate) fn next(&mut self) -> anyhow::Result<Option<String>> {
        let line = self.source.line(self.max_bytes);
        let Some(line) = line.with_context(|| format!("reading {}", self.name))? else {
            return Ok(None);
        };
        if line.total_bytes > self.max_bytes {
            let (found, max) = (line.total_bytes, self.max_bytes);
            return Err(self.error(&format!(
                "the line has {found} bytes; at most {max} are taken"
            )));
        }
        let text = String::from_utf8(line.bytes);
        text.map(Some)
            .map_err(|_| self.error("the line is not valid UTF-8; re-encode it"))
    }

    /// The last line's number, from 1.
    pub(crate) fn number(&self) -> u64 {
        self.source.line
    }

    /// What is wrong with the last line.
    pub(crate) fn error(&self, reason: &str) -> anyhow::Error {
        self.error_at(self.number(), reason)
    }

    /// What is wrong with a line.
    pub(crate) fn error_at(&self, line: u64, reason: &str) -> anyhow::Error {
        anyhow!("{}:{line}: {reason}", self.name)
    }

    /// How much of the file is used up.
    pub(crate) fn bytes_read(&self) -> u64 {
        self.source.bytes_read
    }

    /// How large the file is, where that is known.
    pub(crate) fn total_bytes(&self) -> Option<u64> {
        self.total_bytes
    }
}
