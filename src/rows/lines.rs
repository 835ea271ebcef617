//! Splits pieces of text into numbered lines of bounded length.
//!
//! A line ends with LF, CRLF or CR; one file may mix them.

/// One line without its end.
pub(super) struct Line {
    /// The line, or nothing of it where it is longer than the limit.
    pub(super) bytes: Vec<u8>,
    /// How long it is.
    pub(super) length: usize,
    /// Counted from 1.
    pub(super) number: u64,
}

/// Counts line ends in bytes that come in pieces.
#[derive(Debug, Default, Clone)]
pub(super) struct LineCount {
    /// Lines that are at their end.
    pub(super) ended: u64,
    after_cr: bool,
}

impl LineCount {
    pub(super) fn add(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.ended += u64::from(byte == b'\r' || (byte == b'\n' && !self.after_cr));
            self.after_cr = byte == b'\r';
        }
    }

    /// The line that comes next, or the one that is under way.
    pub(super) fn current(&self) -> u64 {
        self.ended + 1
    }
}

pub(super) struct Lines {
    line: Vec<u8>,
    length: usize,
    after_cr: bool,
    count: LineCount,
    max_bytes: usize,
}

impl Lines {
    /// Lines of which `count` were read by others.
    pub(super) fn new(max_bytes: usize, count: LineCount) -> Self {
        Self {
            line: Vec::new(),
            length: 0,
            after_cr: count.after_cr,
            count,
            max_bytes,
        }
    }

    pub(super) fn max_bytes(&self) -> usize {
        self.max_bytes
    }

    /// Reads on in `bytes`, which are moved on: to their end, or to that of a line.
    pub(super) fn read(&mut self, bytes: &mut &[u8]) -> Option<Line> {
        if std::mem::take(&mut self.after_cr) && bytes.first() == Some(&b'\n') {
            *bytes = &bytes[1..];
        } else if bytes.is_empty() {
            return None;
        }
        let end = bytes.iter().position(|byte| matches!(byte, b'\n' | b'\r'));
        let part = &bytes[..end.unwrap_or(bytes.len())];
        self.length += part.len();
        if self.length <= self.max_bytes {
            self.line.extend_from_slice(part);
        } else {
            self.line = Vec::new();
        }
        let Some(end) = end else {
            *bytes = &[];
            return None;
        };
        self.after_cr = bytes[end] == b'\r';
        *bytes = &bytes[end + 1..];
        Some(self.take())
    }

    fn take(&mut self) -> Line {
        self.count.ended += 1;
        Line {
            bytes: std::mem::take(&mut self.line),
            length: std::mem::take(&mut self.length),
            number: self.count.ended,
        }
    }

    /// The last line, if it has no end.
    pub(super) fn finish(&mut self) -> Option<Line> {
        (self.length > 0).then(|| self.take())
    }
}
