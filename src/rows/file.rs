//! Rows of a file or a pipe, decompressed if necessary.

use super::signature::{GZIP, ZSTD};
use super::{InputError, Row, RowOptions, RowReader};
use std::collections::VecDeque;
use std::io::{self, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Large enough that reading costs nothing beside scoring.
const BUFFER_BYTES: usize = 64 << 10;

/// Rows of any reader, one at a time.
pub struct RowFile {
    source: Box<dyn Read + Send>,
    reader: RowReader,
    buffer: Box<[u8]>,
    /// What of the buffer is not read yet.
    unread: std::ops::Range<usize>,
    rows: VecDeque<Row>,
    is_at_end: bool,
    bytes_read: Arc<AtomicU64>,
}

impl RowFile {
    /// Looks at the first bytes, and reads what gzip or zstd make of them if that is what they are.
    pub fn new(source: impl Read + Send + 'static, options: &RowOptions) -> io::Result<Self> {
        let bytes_read = Arc::<AtomicU64>::default();
        let mut source = Counted {
            source,
            bytes: Arc::clone(&bytes_read),
        };
        let mut first = Vec::new();
        // No more than tells it, for the next byte may take its time.
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
            Box::new(flate2::read::MultiGzDecoder::new(source))
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

    /// The next row. `Err` means that the input cannot be read on; what is wrong with what it
    /// holds is an [`InputError`] inside.
    pub fn next_row(&mut self) -> io::Result<Option<Row>> {
        self.read_ahead()?;
        Ok(self.rows.pop_front())
    }

    /// Reads until there is a row, or the end.
    pub fn read_ahead(&mut self) -> io::Result<()> {
        let refused = |error: InputError| io::Error::new(io::ErrorKind::InvalidData, error);
        while self.rows.is_empty() && !self.is_at_end {
            if self.unread.is_empty() {
                self.unread = 0..read(&mut self.source, &mut self.buffer)?;
                if self.unread.is_empty() {
                    self.is_at_end = true;
                    self.rows.extend(self.reader.finish().map_err(refused)?);
                    continue;
                }
            }
            let mut bytes = &self.buffer[self.unread.clone()];
            let rows = self.reader.read(&mut bytes).map_err(refused)?;
            self.unread.start = self.unread.end - bytes.len();
            self.rows.extend(rows);
        }
        Ok(())
    }

    /// Whether the next row may have to be waited for: the moment to answer what came before,
    /// since on a pipe or terminal the rest may take its time.
    pub fn may_wait(&self) -> bool {
        self.rows.is_empty() && self.unread.is_empty() && !self.is_at_end
    }

    /// How much of the input is used up.
    pub fn bytes_read(&self) -> u64 {
        self.bytes_read.load(Ordering::Relaxed)
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
