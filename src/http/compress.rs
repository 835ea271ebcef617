//! Replies in gzip or zstd for callers who take them.
//!
//! At the fastest level, for a reply waits for it, and not for small ones, which would
//! gain nothing. A stream is flushed whenever it has nothing more to give at the moment,
//! so that each row still comes as soon as it is there. Lambda's replies are left alone:
//! whoever is in front of it compresses, and there every millisecond is paid for.

use axum::extract::Request;
use axum::http::HeaderValue;
use axum::http::header::ACCEPT_ENCODING;
use tower_http::compression::predicate::SizeAbove;
use tower_http::compression::{CompressionLayer, CompressionLevel};

/// Replies up to this many bytes are sent as they are: they fit into one packet anyway.
const MIN_BYTES: u64 = 1024;

/// What compresses replies.
pub(super) fn layer() -> CompressionLayer<SizeAbove> {
    CompressionLayer::new()
        .quality(CompressionLevel::Fastest)
        .compress_when(SizeAbove::new(MIN_BYTES))
}

/// To a caller that takes no encoding at all, not even none, an answer as it is does more
/// good than a refusal after the work is done.
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
