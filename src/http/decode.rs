//! Decompresses request bodies step by step and in constant memory.
//!
//! A few compressed bytes can expand to gigabytes. So the output comes in pieces of bounded
//! length, each of which takes little time, and the code that asks for them decides when to
//! stop, to wait for free memory, or to let other tasks run.

use super::error::ApiError;
use axum::http::HeaderMap;
use axum::http::header::CONTENT_ENCODING;
use bytes::{Buf, Bytes};
use flate2::write::GzDecoder;
use std::io::Write;
#[cfg(feature = "zstd")]
use zstd::zstd_safe::{DCtx, DParameter, InBuffer, OutBuffer, get_error_name};

/// The input and output of one step, in bytes; gzip can give up to twice as much output.
const PIECE_BYTES: usize = 32 << 10;

/// The memory of a gzip decoder: flate2's buffer, the window and the tables.
const GZIP_HELD_BYTES: usize = 80 << 10;

/// The largest zstd window that HTTP allows, 8 MB (RFC 9659). The server pays for it.
#[cfg(feature = "zstd")]
const ZSTD_WINDOW_LOG_MAX: u32 = 23;

/// Decodes a body's content encoding.
pub(super) enum Decoder {
    /// Not compressed.
    Identity,
    Gzip(Box<Gzip>),
    #[cfg(feature = "zstd")]
    Zstd(Zstd),
}

impl Decoder {
    /// Decides from the headers alone, so that a body with an unsupported encoding is never read.
    pub(super) fn from_headers(headers: &HeaderMap) -> Result<Self, ApiError> {
        let mut decoder = Self::Identity;
        for encoding in headers.get_all(CONTENT_ENCODING) {
            let encoding = encoding.to_str().unwrap_or("?").trim().to_ascii_lowercase();
            decoder = match (encoding.as_str(), decoder) {
                ("identity", decoder) => decoder,
                ("gzip" | "x-gzip", Self::Identity) => Self::Gzip(Box::new(Gzip::new())),
                #[cfg(feature = "zstd")]
                ("zstd", Self::Identity) => Self::Zstd(Zstd::new()?),
                _ => return Err(ApiError::UnsupportedEncoding),
            };
        }
        Ok(decoder)
    }

    /// Consumes some of `input` and returns a piece of bounded length, which may be empty.
    /// `None` means that there is no more output until there is more input.
    pub(super) fn step(&mut self, input: &mut Bytes) -> Result<Option<Bytes>, ApiError> {
        match self {
            #[cfg(feature = "zstd")]
            Self::Zstd(zstd) if zstd.is_full => zstd.step(input),
            _ if input.is_empty() => return Ok(None),
            Self::Identity => Ok(input.split_to(input.len().min(PIECE_BYTES))),
            Self::Gzip(gzip) => gzip.step(input).map_err(|_| ApiError::InvalidEncoding),
            #[cfg(feature = "zstd")]
            Self::Zstd(zstd) => zstd.step(input),
        }
        .map(Some)
    }

    /// Fails if the body has ended before its compressed data did.
    pub(super) fn finish(&mut self) -> Result<(), ApiError> {
        let is_whole = match self {
            Self::Identity => true,
            Self::Gzip(gzip) => gzip.is_whole(),
            #[cfg(feature = "zstd")]
            Self::Zstd(zstd) => zstd.is_whole,
        };
        is_whole.then_some(()).ok_or(ApiError::InvalidEncoding)
    }

    /// The memory that the decoder holds now, in bytes.
    pub(super) fn held_bytes(&self) -> usize {
        match self {
            Self::Identity => 0,
            Self::Gzip(_) => GZIP_HELD_BYTES,
            #[cfg(feature = "zstd")]
            Self::Zstd(zstd) => zstd.context.sizeof(),
        }
    }
}

/// A sequence of gzip members. As in `gunzip`, zeros may follow a member, with which some
/// programs fill a file up.
pub(super) struct Gzip {
    member: GzDecoder<Vec<u8>>,
    /// Whether the last member is complete and its checksum is right.
    is_after_member: bool,
}

impl Gzip {
    fn new() -> Self {
        Self {
            member: GzDecoder::new(Vec::new()),
            is_after_member: false,
        }
    }

    /// A write stops when flate2's buffer is full. Flushing returns all output so far, so that
    /// nothing is held back until more input arrives.
    fn step(&mut self, input: &mut Bytes) -> std::io::Result<Bytes> {
        let mut piece = &input[..input.len().min(PIECE_BYTES)];
        if self.is_after_member {
            while let [0, rest @ ..] = piece {
                piece = rest;
            }
            if !piece.is_empty() {
                *self = Self::new();
            }
        }
        let skipped = input.len().min(PIECE_BYTES) - piece.len();
        let read = if piece.is_empty() {
            0
        } else {
            self.member.write(piece)?
        };
        if read == 0 && !self.is_after_member {
            self.member.try_finish()?;
            self.is_after_member = true;
        }
        input.advance(skipped + read);
        self.member.flush()?;
        Ok(std::mem::take(self.member.get_mut()).into())
    }

    fn is_whole(&mut self) -> bool {
        self.is_after_member || self.member.try_finish().is_ok()
    }
}

/// A sequence of zstd frames.
#[cfg(feature = "zstd")]
pub(super) struct Zstd {
    context: DCtx<'static>,
    /// Whether the last frame is complete.
    is_whole: bool,
    /// Whether there may be more output than fitted into the last piece.
    is_full: bool,
}

#[cfg(feature = "zstd")]
impl Zstd {
    fn new() -> Result<Self, ApiError> {
        let internal = |cause: &str| ApiError::Internal {
            cause: cause.to_owned(),
        };
        let mut context = DCtx::try_create().ok_or_else(|| internal("no memory for zstd"))?;
        context
            .set_parameter(DParameter::WindowLogMax(ZSTD_WINDOW_LOG_MAX))
            .map_err(|code| internal(get_error_name(code)))?;
        Ok(Self {
            context,
            is_whole: false,
            is_full: false,
        })
    }

    fn step(&mut self, input: &mut Bytes) -> Result<Bytes, ApiError> {
        let mut piece = Vec::with_capacity(PIECE_BYTES);
        let mut output = OutBuffer::around(&mut piece);
        let mut pending = InBuffer::around(&input[..input.len().min(PIECE_BYTES)]);
        let run = self.context.decompress_stream(&mut output, &mut pending);
        let missing = run.map_err(|_| ApiError::InvalidEncoding)?;
        self.is_whole = missing == 0;
        // Input left after a complete frame belongs to the next one.
        self.is_full = output.pos() == output.capacity() && !self.is_whole;
        let read = pending.pos();
        input.advance(read);
        Ok(piece.into())
    }
}

#[cfg(test)]
mod tests {
    use super::super::body::read;
    use super::super::memory_limit::MemoryLimiter;
    use super::*;
    use axum::http::HeaderValue;
    use bytes::Bytes;
    use std::time::Duration;

    fn gzip(text: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        encoder
            .write_all(text)
            .expect("writing to a Vec cannot fail");
        encoder.finish().expect("writing to a Vec cannot fail")
    }

    fn zstd(text: &[u8]) -> Vec<u8> {
        zstd::encode_all(text, 3).expect("writing to a Vec cannot fail")
    }

    type Encode = fn(&[u8]) -> Vec<u8>;
    const ENCODINGS: [(&str, Encode); 2] = [("gzip", gzip), ("zstd", zstd)];

    async fn read_as(encoding: &'static str, max: usize, body: Vec<u8>) -> Result<Bytes, ApiError> {
        let encoding = HeaderValue::from_static(encoding);
        let headers = HeaderMap::from_iter([(CONTENT_ENCODING, encoding)]);
        let (decoder, limiter) = (
            Decoder::from_headers(&headers)?,
            MemoryLimiter::new(64 << 20, 4 << 20, std::time::Duration::from_secs(20)),
        );
        let timeout = Duration::from_mins(1);
        read(body.into(), decoder, max, timeout, &mut limiter.permit()).await
    }

    #[tokio::test]
    async fn encodings_are_decoded() {
        for (name, encode) in ENCODINGS {
            let text = b"what a day ".repeat(10_000);
            let read = read_as(name, 200_000, encode(&text)).await;
            assert_eq!(read.expect("fits"), text);
            let twice = [encode(b"ab"), encode(b"cd")].concat();
            let read = read_as(name, 200_000, twice).await;
            assert_eq!(read.expect("two members"), "abcd");
        }
        for padding in [1, 511, 70_000] {
            let zeros = vec![0; padding];
            let padded = [gzip(b"ab"), zeros.clone(), gzip(b"cd"), zeros.clone()].concat();
            let read = read_as("gzip", 200_000, padded).await;
            assert_eq!(read.expect("padding is ignored"), "abcd");
            let garbage = [gzip(b"ab"), zeros, b"cd".to_vec()].concat();
            let error = read_as("gzip", 200_000, garbage).await;
            assert!(matches!(error, Err(ApiError::InvalidEncoding)));
        }
    }

    fn decoder(encoding: &'static str) -> Decoder {
        let encoding = HeaderValue::from_static(encoding);
        let headers = HeaderMap::from_iter([(CONTENT_ENCODING, encoding)]);
        Decoder::from_headers(&headers).expect("known")
    }

    /// All output so far.
    fn decoded(decoder: &mut Decoder, mut input: Bytes) -> Vec<u8> {
        let mut all = Vec::new();
        while let Some(piece) = decoder.step(&mut input).expect("sound") {
            assert!(piece.len() <= 3 * PIECE_BYTES, "{} bytes", piece.len());
            all.extend_from_slice(&piece);
        }
        assert!(input.is_empty());
        all
    }

    #[test]
    fn pieces_of_every_length_give_the_same() {
        let text: Vec<u8> = (0..100_000_u32)
            .map(|i| (i.wrapping_mul(i) >> 7) as u8)
            .collect();
        for (name, encode) in ENCODINGS {
            let encoded = encode(&text);
            for length in [1, 2, 7, 1000, encoded.len()] {
                let mut decoder = decoder(name);
                let pieces = encoded.chunks(length).map(Bytes::copy_from_slice);
                let all: Vec<u8> = pieces.flat_map(|it| decoded(&mut decoder, it)).collect();
                decoder.finish().expect("whole");
                assert!(all == text, "{name} in pieces of {length}");
            }
        }
    }

    #[test]
    fn a_decompression_bomb_expands_in_small_pieces() {
        let zeros = vec![0; 5 << 20];
        for (name, encode) in [("identity", <[u8]>::to_vec as Encode)]
            .into_iter()
            .chain(ENCODINGS)
        {
            let mut input = Bytes::from(encode(&zeros));
            let mut decoder = decoder(name);
            let (mut steps, mut length) = (0, 0);
            while let Some(piece) = decoder.step(&mut input).expect("sound") {
                assert!(piece.len() <= 3 * PIECE_BYTES, "{} bytes", piece.len());
                (steps, length) = (steps + 1, length + piece.len());
            }
            assert_eq!(length, zeros.len(), "{name}");
            assert!(steps >= zeros.len() / (3 * PIECE_BYTES), "{name}: {steps}");
        }
    }

    #[test]
    fn input_is_decoded_as_soon_as_it_arrives() {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        let mut decoder = decoder("gzip");
        let long = "x".repeat(100_000);
        for row in [&b"what\n"[..], b"a\n", long.as_bytes()] {
            encoder
                .write_all(row)
                .expect("writing to a Vec cannot fail");
            encoder.flush().expect("writing to a Vec cannot fail");
            let sent = Bytes::from(std::mem::take(encoder.get_mut()));
            assert!(decoded(&mut decoder, sent) == row);
        }
    }

    #[test]
    fn the_window_counts_as_held_memory() {
        let held = |window_log| {
            let mut encoder = zstd::Encoder::new(Vec::new(), 3).expect("known");
            encoder.window_log(window_log).expect("known");
            encoder
                .write_all(b"what a day")
                .expect("writing to a Vec cannot fail");
            let input = encoder.finish().expect("writing to a Vec cannot fail");
            let mut decoder = decoder("zstd");
            decoded(&mut decoder, input.into());
            decoder.held_bytes()
        };
        assert!((8 << 20..9 << 20).contains(&held(23)), "{}", held(23));
        assert!((1 << 20..2 << 20).contains(&held(20)), "{}", held(20));
        assert_eq!(Decoder::Identity.held_bytes(), 0);
    }

    #[tokio::test]
    async fn a_decompression_bomb_is_stopped_at_the_limit() {
        for (name, encode) in ENCODINGS {
            let bomb = encode(&vec![0; 50 << 20]);
            assert!(bomb.len() < 100_000);
            let error = read_as(name, 100_000, bomb).await.expect_err("too large");
            let max_bytes = 100_000;
            assert!(matches!(error, ApiError::BodyTooLarge { max_bytes: max } if max == max_bytes));
        }
    }

    #[tokio::test]
    async fn a_window_larger_than_http_allows_is_rejected() {
        let mut encoder = zstd::Encoder::new(Vec::new(), 1).expect("known");
        encoder.window_log(27).expect("known");
        encoder
            .write_all(&vec![0; 300_000])
            .expect("writing to a Vec cannot fail");
        let body = encoder.finish().expect("writing to a Vec cannot fail");
        let error = read_as("zstd", 1 << 20, body).await;
        assert!(matches!(error, Err(ApiError::InvalidEncoding)));
    }

    #[tokio::test]
    async fn truncated_and_malformed_bodies_are_rejected() {
        for (name, encode) in ENCODINGS {
            let whole = encode(b"what a day");
            let cut = whole[..whole.len() - 5].to_vec();
            for body in [cut, b"what a day".to_vec(), Vec::new()] {
                let error = read_as(name, 100, body).await.expect_err("broken");
                assert!(matches!(error, ApiError::InvalidEncoding));
            }
        }
    }
}
