//! Compresses responses with gzip or zstd for clients that accept it.
//!
//! At the fastest level, because the client waits, and only above a minimum size, below which
//! nothing is gained. A stream is flushed whenever no more data is ready, so that each row is
//! sent as soon as it is scored. On Lambda nothing is compressed: the gateway or CDN can do that
//! without billed function time. Nor is what browsers cache: the model and the modules that run it
//! are read from there far more often than they are sent, and weights hardly shrink.

use super::web_engine;
use axum::extract::Request;
use axum::http::HeaderValue;
use axum::http::header::ACCEPT_ENCODING;
use tower_http::compression::predicate::{NotForContentType, Predicate, SizeAbove};
use tower_http::compression::{CompressionLayer, CompressionLevel};

/// Smaller responses fit into one packet anyway.
const MIN_BYTES: u64 = 1024;

/// The compression layer.
pub(super) fn layer() -> CompressionLayer<impl Predicate> {
    CompressionLayer::new()
        .quality(CompressionLevel::Fastest)
        .compress_when(
            SizeAbove::new(MIN_BYTES)
                .and(NotForContentType::const_new(web_engine::MODEL))
                .and(NotForContentType::const_new(web_engine::WASM)),
        )
}

/// Accepts `identity` on behalf of every client. One that excludes all encodings, even that one,
/// is better served by an uncompressed response than by a 406 after the work is done.
pub(super) async fn accept_identity(mut request: Request) -> Request {
    let sent: Vec<&[u8]> = request
        .headers()
        .get_all(ACCEPT_ENCODING)
        .iter()
        .map(HeaderValue::as_bytes)
        .collect();
    if !sent.is_empty() {
        let accepted = [b"identity;q=0.001, ", &sent.join(&b", "[..])[..]].concat();
        if let Ok(accepted) = HeaderValue::from_bytes(&accepted) {
            request.headers_mut().insert(ACCEPT_ENCODING, accepted);
        }
    }
    request
}
