//! Content encodings of request bodies, undone piece by piece and in constant memory.
//!
//! A few bytes can stand for gigabytes. So what comes out is handed on in pieces of
//! bounded length, to a sink that says when it is enough.

use super::error::ApiError;
use axum::http::HeaderMap;
use axum::http::header::CONTENT_ENCODING;
use flate2::write::MultiGzDecoder;
use std::io::Write;
use zstd::stream::raw::{self, DParameter, InBuffer, Operation, OutBuffer};

/// How much gzip is decoded at a time: one byte of it can be a thousand.
const GZIP_PIECE_BYTES: usize = 1024;

/// How much comes out of zstd at a time.
const ZSTD_PIECE_BYTES: usize = 32 << 10;

/// The window that HTTP allows zstd, 8 MB (RFC 9659): it is memory of ours.
const ZSTD_WINDOW_LOG_MAX: u32 = 23;

/// Undoes a body's content encoding.
pub(super) enum Decoder {
    /// The body is as it is.
    Identity,
    Gzip(Box<MultiGzDecoder<Vec<u8>>>),
    Zstd(Box<Zstd>),
}

impl Decoder {
    /// Decides by the headers alone, so that a body of the wrong kind is never read.
    pub(super) fn of(headers: &HeaderMap) -> Result<Self, ApiError> {
        let mut decoder = Self::Identity;
        for encoding in headers.get_all(CONTENT_ENCODING) {
            let encoding = encoding.to_str().unwrap_or("?").trim().to_ascii_lowercase();
            decoder = match (encoding.as_str(), decoder) {
                ("identity", decoder) => decoder,
                ("gzip" | "x-gzip", Self::Identity) => {
                    Self::Gzip(Box::new(MultiGzDecoder::new(Vec::new())))
                }
                ("zstd", Self::Identity) => Self::Zstd(Box::new(Zstd::new()?)),
                _ => return Err(ApiError::UnsupportedEncoding),
            };
        }
        Ok(decoder)
    }

    /// Decodes what came, and hands it on in pieces of bounded length.
    pub(super) fn push(
        &mut self,
        bytes: &[u8],
        mut sink: impl FnMut(&[u8]) -> Result<(), ApiError>,
    ) -> Result<(), ApiError> {
        match self {
            Self::Identity => sink(bytes),
            Self::Gzip(gzip) => {
                for piece in bytes.chunks(GZIP_PIECE_BYTES) {
                    gzip.write_all(piece)
                        .map_err(|_| ApiError::InvalidEncoding)?;
                    let decoded = gzip.get_mut();
                    sink(decoded)?;
                    decoded.clear();
                }
                Ok(())
            }
            Self::Zstd(zstd) => zstd.push(bytes, sink),
        }
    }

    /// The body is at its end: so should be what it encodes.
    pub(super) fn finish(
        &mut self,
        mut sink: impl FnMut(&[u8]) -> Result<(), ApiError>,
    ) -> Result<(), ApiError> {
        match self {
            Self::Identity => Ok(()),
            Self::Gzip(gzip) => {
                gzip.try_finish().map_err(|_| ApiError::InvalidEncoding)?;
                sink(gzip.get_ref())
            }
            Self::Zstd(zstd) if zstd.is_whole => Ok(()),
            Self::Zstd(_) => Err(ApiError::InvalidEncoding),
        }
    }
}

/// Frames of zstd, one after another.
pub(super) struct Zstd {
    decoder: raw::Decoder<'static>,
    /// Whether the last frame is at its end.
    is_whole: bool,
}

impl Zstd {
    fn new() -> Result<Self, ApiError> {
        let internal = |error: std::io::Error| ApiError::Internal {
            cause: error.to_string(),
        };
        let mut decoder = raw::Decoder::new().map_err(internal)?;
        let window = DParameter::WindowLogMax(ZSTD_WINDOW_LOG_MAX);
        decoder.set_parameter(window).map_err(internal)?;
        Ok(Self {
            decoder,
            is_whole: false,
        })
    }

    fn push(
        &mut self,
        bytes: &[u8],
        mut sink: impl FnMut(&[u8]) -> Result<(), ApiError>,
    ) -> Result<(), ApiError> {
        let mut piece = vec![0; ZSTD_PIECE_BYTES];
        let mut input = InBuffer::around(bytes);
        let mut is_full = false;
        while input.pos() < bytes.len() || is_full {
            let mut output = OutBuffer::around(piece.as_mut_slice());
            let run = self.decoder.run(&mut input, &mut output);
            let missing = run.map_err(|_| ApiError::InvalidEncoding)?;
            self.is_whole = missing == 0;
            // What is left of a whole frame is the next frame's.
            is_full = output.pos() == ZSTD_PIECE_BYTES && !self.is_whole;
            sink(output.as_slice())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::body::{Budget, read};
    use super::*;
    use axum::http::HeaderValue;
    use bytes::Bytes;
    use std::time::Duration;

    fn gzip(text: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        encoder.write_all(text).expect("a Vec takes everything");
        encoder.finish().expect("a Vec takes everything")
    }

    fn zstd(text: &[u8]) -> Vec<u8> {
        zstd::encode_all(text, 3).expect("a Vec takes everything")
    }

    type Encode = fn(&[u8]) -> Vec<u8>;
    const ENCODINGS: [(&str, Encode); 2] = [("gzip", gzip), ("zstd", zstd)];

    async fn read_as(encoding: &'static str, max: usize, body: Vec<u8>) -> Result<Bytes, ApiError> {
        let encoding = HeaderValue::from_static(encoding);
        let headers = HeaderMap::from_iter([(CONTENT_ENCODING, encoding)]);
        let (decoder, budget) = (Decoder::of(&headers)?, Budget::new(max));
        let timeout = Duration::from_mins(1);
        read(body.into(), decoder, max, timeout, &mut budget.share()).await
    }

    #[tokio::test]
    async fn encodings_are_undone() {
        for (name, encode) in ENCODINGS {
            let text = b"what a day ".repeat(10_000);
            let read = read_as(name, 200_000, encode(&text)).await;
            assert_eq!(read.expect("fits"), text);
            let twice = [encode(b"ab"), encode(b"cd")].concat();
            let read = read_as(name, 200_000, twice).await;
            assert_eq!(read.expect("two members"), "abcd");
        }
    }

    #[test]
    fn pieces_of_every_length_give_the_same() {
        let text: Vec<u8> = (0..100_000_u32)
            .map(|i| (i.wrapping_mul(i) >> 7) as u8)
            .collect();
        for (name, encode) in ENCODINGS {
            let encoded = encode(&text);
            for length in [1, 2, 7, 1000, encoded.len()] {
                let value = HeaderValue::from_static(name);
                let headers = HeaderMap::from_iter([(CONTENT_ENCODING, value)]);
                let mut decoder = Decoder::of(&headers).expect("known");
                let mut decoded = Vec::new();
                let mut keep = |piece: &[u8]| {
                    decoded.extend_from_slice(piece);
                    Ok(())
                };
                for piece in encoded.chunks(length) {
                    decoder.push(piece, &mut keep).expect("sound");
                }
                decoder.finish(&mut keep).expect("whole");
                assert!(decoded == text, "{name} in pieces of {length}");
            }
        }
    }

    #[tokio::test]
    async fn a_bomb_is_given_up_at_the_limit() {
        for (name, encode) in ENCODINGS {
            let bomb = encode(&vec![0; 50 << 20]);
            assert!(bomb.len() < 100_000);
            let error = read_as(name, 100_000, bomb).await.expect_err("too large");
            let max_bytes = 100_000;
            assert!(matches!(error, ApiError::BodyTooLarge { max_bytes: max } if max == max_bytes));
        }
    }

    #[tokio::test]
    async fn a_window_of_more_than_http_allows_is_refused() {
        let mut encoder = zstd::Encoder::new(Vec::new(), 1).expect("known");
        encoder.window_log(27).expect("known");
        encoder
            .write_all(&vec![0; 300_000])
            .expect("a Vec takes everything");
        let body = encoder.finish().expect("a Vec takes everything");
        let error = read_as("zstd", 1 << 20, body).await;
        assert!(matches!(error, Err(ApiError::InvalidEncoding)));
    }

    #[tokio::test]
    async fn what_is_not_whole_is_refused() {
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
