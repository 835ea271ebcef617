//! Reads request bodies within limits, and tells their media types.

use super::decode::Decoder;
use super::error::ApiError;
use super::memory_limit::MemoryPermit;
use crate::rows::RowFormat;
use axum::body::{Body, HttpBody};
use axum::http::HeaderMap;
use axum::http::header::CONTENT_TYPE;
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use std::time::Duration;

/// The kind of a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Media {
    /// A JSON object with posts.
    Json,
    /// One post.
    PlainText,
    /// Rows, each with a post.
    Rows(RowFormat),
}

impl Media {
    /// Decides from the headers alone, so that an unsupported body is never read. Without a
    /// content type, the body is read as JSON.
    pub(super) fn from_headers(headers: &HeaderMap) -> Result<Self, ApiError> {
        let Some(content_type) = headers.get(CONTENT_TYPE) else {
            return Ok(Self::Json);
        };
        let unsupported = |what: &str| Err(ApiError::UnsupportedMediaType(what.to_owned()));
        let Ok(content_type) = content_type.to_str() else {
            return unsupported("the content type is not valid");
        };
        let mut parts = content_type.split(';');
        let essence = parts.next().unwrap_or_default().trim().to_ascii_lowercase();
        let media = match essence.as_str() {
            "application/json" => Self::Json,
            "text/plain" => Self::PlainText,
            "text/csv" | "application/csv" => Self::Rows(RowFormat::Csv),
            "text/tab-separated-values" => Self::Rows(RowFormat::Tsv),
            "application/x-ndjson"
            | "application/ndjson"
            | "application/jsonl"
            // The name that SageMaker's batch transform uses.
            | "application/jsonlines"
            | "application/x-jsonlines" => Self::Rows(RowFormat::Json),
            other if other.starts_with("application/") && other.ends_with("+json") => Self::Json,
            // The default of curl -d.
            "application/x-www-form-urlencoded" => return unsupported("forms are not supported"),
            _ => return unsupported("this content type is not supported"),
        };
        for parameter in parts {
            let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
            let value = value.trim().trim_matches('"');
            // ASCII is a subset of UTF-8.
            let is_utf8 = ["utf-8", "utf8", "us-ascii"]
                .iter()
                .any(|charset| value.eq_ignore_ascii_case(charset));
            if name.trim().eq_ignore_ascii_case("charset") && !is_utf8 {
                return unsupported("this charset is not supported");
            }
        }
        Ok(media)
    }
}

/// Reads a whole body; its memory counts against `permit`. A body whose declared length is over
/// `max_bytes` is rejected before it is read, and one that decodes to more is read no further.
pub(super) async fn read(
    body: Body,
    mut decoder: Decoder,
    max_bytes: usize,
    timeout: Duration,
    permit: &mut MemoryPermit,
) -> Result<Bytes, ApiError> {
    if body.size_hint().lower() > max_bytes as u64 {
        return Err(ApiError::BodyTooLarge { max_bytes });
    }
    tokio::time::timeout(timeout, collect(body, &mut decoder, max_bytes, permit))
        .await
        .unwrap_or_else(|_| {
            Err(ApiError::RequestTimeout {
                milliseconds: timeout.as_millis() as u64,
            })
        })
}

async fn collect(
    mut body: Body,
    decoder: &mut Decoder,
    max_bytes: usize,
    permit: &mut MemoryPermit,
) -> Result<Bytes, ApiError> {
    // The decoder's own memory.
    let mut window = decoder.held_bytes();
    permit.grow(window)?;
    // Nearly every body arrives in one piece, which is not copied.
    let mut whole = BytesMut::new();
    while let Some(frame) = permit.receive(body.frame()).await? {
        // Trailers are ignored.
        let Ok(mut data) = frame.map_err(|_| ApiError::IncompleteBody)?.into_data() else {
            continue;
        };
        permit.received(data.len());
        if matches!(decoder, Decoder::Identity)
            && whole.is_empty()
            && body.is_end_stream()
            && data.len() <= max_bytes
        {
            permit.grow(data.len())?;
            return Ok(data);
        }
        while let Some(piece) = decoder.step(&mut data)? {
            let grown = decoder.held_bytes().max(window);
            permit.grow(grown - window)?;
            window = grown;
            if whole.len() + piece.len() > max_bytes {
                return Err(ApiError::BodyTooLarge { max_bytes });
            }
            permit.grow(piece.len())?;
            whole.extend_from_slice(&piece);
            // A body can take very many steps, for example if it is full of empty frames.
            tokio::task::coop::consume_budget().await;
        }
    }
    decoder.finish()?;
    permit.shrink(window);
    Ok(whole.freeze())
}

/// The body as text, without the byte order mark that some editors and shells write.
pub(super) fn utf8(bytes: &[u8]) -> Result<&str, ApiError> {
    let text = std::str::from_utf8(bytes).map_err(|e| ApiError::InvalidUtf8 {
        at: e.valid_up_to(),
    })?;
    Ok(text.strip_prefix('\u{feff}').unwrap_or(text))
}

#[cfg(test)]
mod tests {
    use super::super::memory_limit::MemoryLimiter;
    use super::*;
    use axum::http::HeaderValue;
    use hyper::body::Frame;
    use std::convert::Infallible;
    use std::pin::Pin;
    use std::task::{Context, Poll};
    use std::time::Duration;

    fn check_media(content_type: &str, expected: Option<Media>) {
        let value = HeaderValue::from_str(content_type).expect("a header value");
        let headers = HeaderMap::from_iter([(CONTENT_TYPE, value)]);
        assert_eq!(
            Media::from_headers(&headers).ok(),
            expected,
            "{content_type}"
        );
    }

    #[test]
    fn content_types() {
        check_media("application/json", Some(Media::Json));
        check_media("Application/JSON; charset=\"UTF-8\"", Some(Media::Json));
        check_media("application/vnd.api+json;v=1", Some(Media::Json));
        check_media("text/plain", Some(Media::PlainText));
        check_media(
            "text/csv; header=present",
            Some(Media::Rows(RowFormat::Csv)),
        );
        check_media("application/jsonl", Some(Media::Rows(RowFormat::Json)));
        check_media(
            "text/plain;format=flowed; Charset=utf-8",
            Some(Media::PlainText),
        );
        check_media("text/plain; charset=iso-8859-1", None);
        check_media("application/json; charset=utf-16", None);
        check_media("application/x-www-form-urlencoded", None);
        check_media("image/svg+json", None);
        check_media("", None);
    }

    #[test]
    fn no_content_type_is_json() {
        assert_eq!(
            Media::from_headers(&HeaderMap::new()).ok(),
            Some(Media::Json)
        );
    }

    fn limiter(max_bytes: usize) -> MemoryLimiter {
        MemoryLimiter::new(max_bytes, max_bytes, Duration::from_secs(20))
    }

    async fn read_up_to(
        max_bytes: usize,
        body: Body,
        limiter: &MemoryLimiter,
    ) -> Result<Bytes, ApiError> {
        let timeout = Duration::from_secs(1);
        let identity = Decoder::Identity;
        read(body, identity, max_bytes, timeout, &mut limiter.permit()).await
    }

    /// A body of undeclared length that arrives in pieces.
    struct Pieces(Vec<&'static [u8]>);

    impl HttpBody for Pieces {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            Poll::Ready(
                self.0
                    .pop()
                    .map(|piece| Ok(Frame::data(Bytes::from_static(piece)))),
            )
        }
    }

    fn in_pieces() -> Body {
        Body::new(Pieces(vec![b"e", b"cd", b"", b"ab"]))
    }

    #[tokio::test]
    async fn a_body_in_pieces_is_put_together_up_to_the_limit() {
        let limiter = limiter(100);
        let body = read_up_to(5, in_pieces(), &limiter).await;
        assert_eq!(body.expect("fits"), "abcde");
        let error = read_up_to(4, in_pieces(), &limiter).await;
        let error = error.expect_err("one byte too many");
        assert!(matches!(error, ApiError::BodyTooLarge { max_bytes: 4 }));
    }

    #[tokio::test]
    async fn a_body_declared_too_long_is_not_read() {
        let limiter = limiter(0);
        let error = read_up_to(4, Body::from("abcde"), &limiter).await;
        let error = error.expect_err("too long");
        assert!(matches!(error, ApiError::BodyTooLarge { max_bytes: 4 }));
    }

    #[tokio::test]
    async fn all_bodies_together_have_a_limit_too() {
        let limiter = limiter(8);
        let timeout = Duration::from_secs(1);
        let mut first = limiter.permit();
        let body = read(in_pieces(), Decoder::Identity, 5, timeout, &mut first).await;
        assert_eq!(body.expect("fits"), "abcde");
        let error = read_up_to(5, in_pieces(), &limiter).await;
        assert!(matches!(error, Err(ApiError::Overloaded { .. })));
        drop(first);
        let body = read_up_to(5, in_pieces(), &limiter).await;
        assert_eq!(body.expect("there is room again"), "abcde");
    }
}
