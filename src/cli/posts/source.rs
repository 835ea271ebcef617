//! Bytes with a line count, from a buffer that can be asked whether it is empty.

use std::io::{self, BufRead, BufReader, Read};

/// Large enough that reading costs nothing beside scoring.
const BUFFER_BYTES: usize = 64 << 10;

const BOM: &[u8] = b"\xef\xbb\xbf";

/// An input read line by line or byte by byte.
pub(super) struct Source<R> {
    reader: BufReader<R>,
    /// Lines begun so far.
    pub(super) line: u64,
    pub(super) bytes_read: u64,
}

/// One line without its end.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Line {
    /// The line, or its beginning when it is longer than was asked for.
    pub(super) bytes: Vec<u8>,
    /// How long it is.
    pub(super) total_bytes: usize,
    /// Counted from 1.
    pub(super) number: u64,
}

impl<R: Read> Source<R> {
    pub(super) fn new(reader: R) -> Self {
        Self {
            reader: BufReader::with_capacity(BUFFER_BYTES, reader),
            line: 0,
            bytes_read: 0,
        }
    }

    /// Whether the next line is not here yet as a whole: the moment to answer what
    /// came before, since on a pipe or terminal the rest may take its time.
    pub(super) fn may_wait(&self) -> bool {
        !self.reader.buffer().contains(&b'\n')
    }

    /// The next line; at most about `max_bytes` of it are kept.
    pub(super) fn line(&mut self, max_bytes: usize) -> io::Result<Option<Line>> {
        // Room for what is taken off again below.
        let kept_bytes = max_bytes + BOM.len() + 1;
        let mut bytes = Vec::new();
        let mut total_bytes = 0;
        let mut last = 0;
        loop {
            let chunk = self.fill()?;
            if chunk.is_empty() {
                if total_bytes == 0 {
                    return Ok(None);
                }
                break;
            }
            let end = chunk.iter().position(|&byte| byte == b'\n');
            let part = &chunk[..end.unwrap_or(chunk.len())];
            bytes.extend_from_slice(&part[..part.len().min(kept_bytes - bytes.len())]);
            total_bytes += part.len();
            last = part.last().copied().unwrap_or(last);
            let used = part.len() + usize::from(end.is_some());
            self.consume(used);
            if end.is_some() {
                break;
            }
        }
        if last == b'\r' {
            if bytes.len() == total_bytes {
                bytes.pop();
            }
            total_bytes -= 1;
        }
        self.line += 1;
        if self.line == 1 && bytes.starts_with(BOM) {
            bytes.drain(..BOM.len());
            total_bytes -= BOM.len();
        }
        Ok(Some(Line {
            bytes,
            total_bytes,
            number: self.line,
        }))
    }

    /// The buffered bytes, after reading more if there are none; empty at the end.
    pub(super) fn fill(&mut self) -> io::Result<&[u8]> {
        loop {
            match self.reader.fill_buf() {
                Ok(_) => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(self.reader.buffer())
    }

    /// Marks bytes of the buffer as used.
    pub(super) fn consume(&mut self, bytes: usize) {
        self.reader.consume(bytes);
        self.bytes_read += bytes as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Hands out at most `.1` bytes a read.
    struct Dribble(&'static [u8], usize);

    impl Read for Dribble {
        fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
            let n = self.0.len().min(self.1).min(buf.len());
            buf[..n].copy_from_slice(&self.0[..n]);
            self.0 = &self.0[n..];
            Ok(n)
        }
    }

    /// Lines as (kept, total), however the reads fall.
    fn check(input: &'static [u8], max_bytes: usize, expected: &[(&str, usize)]) {
        for step in [1, 2, 3, 1000] {
            let mut source = Source::new(Dribble(input, step));
            let mut lines = Vec::new();
            while let Some(line) = source.line(max_bytes).unwrap() {
                assert_eq!(line.number, lines.len() as u64 + 1);
                let kept = line.bytes.len().min(max_bytes);
                lines.push((
                    String::from_utf8(line.bytes[..kept].to_vec()).unwrap(),
                    line.total_bytes,
                ));
            }
            let lines: Vec<_> = lines.iter().map(|(text, n)| (text.as_str(), *n)).collect();
            assert_eq!(lines, expected, "reads of {step}");
            assert_eq!(source.bytes_read, input.len() as u64);
        }
    }

    #[test]
    fn line_ends_are_taken_off() {
        check(b"", 9, &[]);
        check(b"a\nbc", 9, &[("a", 1), ("bc", 2)]);
        check(b"a\r\n\r\nb\r\n", 9, &[("a", 1), ("", 0), ("b", 1)]);
        check(b"\n\n", 9, &[("", 0), ("", 0)]);
        check(b"a\rb\n", 9, &[("a\rb", 3)]);
    }

    #[test]
    fn a_byte_order_mark_is_skipped_once() {
        check(
            b"\xef\xbb\xbfa\n\xef\xbb\xbfb",
            9,
            &[("a", 1), ("\u{feff}b", 4)],
        );
        check(b"\xef\xbb\xbf12345\r\n6", 5, &[("12345", 5), ("6", 1)]);
    }

    #[test]
    fn long_lines_are_measured_but_not_kept() {
        check(
            b"12345\n123456\n1\n",
            5,
            &[("12345", 5), ("12345", 6), ("1", 1)],
        );
        check(b"12345\r\n123456\r\n", 5, &[("12345", 5), ("12345", 6)]);
        let mut source = Source::new(io::repeat(b'x').take(10 << 20));
        let line = source.line(100).unwrap().unwrap();
        assert_eq!(line.total_bytes, 10 << 20);
        assert!(line.bytes.capacity() < 1000);
    }
}
