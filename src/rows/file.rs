//! Reads rows from a file or pipe, and decompresses it if necessary.

use super::signature::{GZIP, ZSTD};
use super::{InputError, Row, RowOptions, RowReader};
use std::collections::VecDeque;
use std::io::{self, BufRead, BufReader, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Large enough that the cost of reading is negligible next to scoring.
const BUFFER_BYTES: usize = 64 << 10;

/// Reads rows one at a time.
pub struct RowFile {
    source: Box<dyn Read + Send>,
    reader: RowReader,
    buffer: Box<[u8]>,
    /// The part of the buffer that has not been parsed.
    unread: std::ops::Range<usize>,
    rows: VecDeque<Row>,
    is_at_end: bool,
    bytes_read: Arc<AtomicU64>,
}

impl RowFile {
    /// Detects gzip and zstd by the first bytes, and decompresses the input if it is either.
    pub fn new(source: impl Read + Send + 'static, options: &RowOptions) -> io::Result<Self> {
        let bytes_read = Arc::<AtomicU64>::default();
        let mut source = Counted {
            source,
            bytes: Arc::clone(&bytes_read),
        };
        let mut first = Vec::new();
        // Reads no more than needed, because the next byte may be slow to arrive.
        while first.is_empty()
            || [GZIP, ZSTD]
                .iter()
                .any(|it| it != &first && it.starts_with(&first))
        {
            let mut more = [0; 4];
            let missing = ZSTD.len() - first.len();
            match read(&mut source, &mut more[..missing])? {
                0 => break,
                read => first.extend_from_slice(&more[..read]),
            }
        }
        let is = |magic: &[u8]| first.starts_with(magic);
        let (is_gzip, is_zstd) = (is(GZIP), is(ZSTD));
        let source = io::Cursor::new(first).chain(source);
        let source: Box<dyn Read + Send> = if is_gzip {
            Box::new(Gzip::new(source))
        } else if is_zstd {
            zstd(source)?
        } else {
            Box::new(source)
        };
        Ok(Self {
            source,
            reader: RowReader::new(options),
            buffer: vec![0; BUFFER_BYTES].into(),
            unread: 0..0,
            rows: VecDeque::new(),
            is_at_end: false,
            bytes_read,
        })
    }

    /// The next row. After an `Err`, the input cannot be read any further. If the content is at
    /// fault, the error contains an [`InputError`].
    pub fn next_row(&mut self) -> io::Result<Option<Row>> {
        self.read_ahead()?;
        Ok(self.rows.pop_front())
    }

    /// Reads until there is a row or the input ends.
    pub fn read_ahead(&mut self) -> io::Result<()> {
        let invalid = |error: InputError| io::Error::new(io::ErrorKind::InvalidData, error);
        while self.rows.is_empty() && !self.is_at_end {
            if self.unread.is_empty() {
                self.unread = 0..read(&mut self.source, &mut self.buffer)?;
                if self.unread.is_empty() {
                    self.is_at_end = true;
                    self.rows.extend(self.reader.finish().map_err(invalid)?);
                    continue;
                }
            }
            let mut bytes = &self.buffer[self.unread.clone()];
            let rows = self.reader.read(&mut bytes).map_err(invalid)?;
            self.unread.start = self.unread.end - bytes.len();
            self.rows.extend(rows);
        }
        Ok(())
    }

    /// Whether the next row may have to be waited for. Then it is time to write the results so
    /// far, because a pipe or terminal can be slow.
    pub fn may_wait(&self) -> bool {
        self.rows.is_empty() && self.unread.is_empty() && !self.is_at_end
    }

    /// The number of bytes read from the input.
    pub fn bytes_read(&self) -> u64 {
        self.bytes_read.load(Ordering::Relaxed)
    }
}

/// Gzip as `gunzip` reads it: one member after another, and after a member any number of zeros,
/// with which some programs fill a file up.
struct Gzip<R>(Option<flate2::bufread::GzDecoder<BufReader<R>>>);

impl<R: Read> Gzip<R> {
    fn new(source: R) -> Self {
        let source = BufReader::new(source);
        Self(Some(flate2::bufread::GzDecoder::new(source)))
    }
}

impl<R: Read> Read for Gzip<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while let Some(member) = &mut self.0 {
            let read = member.read(buffer)?;
            if read > 0 || buffer.is_empty() {
                return Ok(read);
            }
            while let [0, ..] = member.get_mut().fill_buf()? {
                member.get_mut().consume(1);
            }
            let source = self.0.take().map(flate2::bufread::GzDecoder::into_inner);
            self.0 = source
                .filter(|source| !source.buffer().is_empty())
                .map(flate2::bufread::GzDecoder::new);
        }
        Ok(0)
    }
}

fn read(source: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    loop {
        match source.read(buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

#[cfg(feature = "zstd")]
fn zstd(source: impl Read + Send + 'static) -> io::Result<Box<dyn Read + Send>> {
    Ok(Box::new(zstd::stream::read::Decoder::new(source)?))
}

#[cfg(not(feature = "zstd"))]
fn zstd(_: impl Read) -> io::Result<Box<dyn Read + Send>> {
    Err(io::Error::other(
        "this is zstd, which this build cannot read; unpack it with `zstd -dc FILE`, or build with `--features zstd`",
    ))
}

struct Counted<R> {
    source: R,
    bytes: Arc<AtomicU64>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.source.read(buffer)?;
        self.bytes.fetch_add(read as u64, Ordering::Relaxed);
        Ok(read)
    }
}
