//! Replies in the encodings that callers take.

use crate::support::{Piped, batcher, instant, limits, post_as, request, send};
use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, Method, Request};
use bytes::Bytes;
use coldread::http::{AppOptions, AppState, app};
use http_body_util::BodyExt;
use serde_json::json;
use std::io::Write;
use tokio::sync::mpsc;
use tower::ServiceExt;

/// A decoder that tells what it has by now.
enum Decoder {
    Gzip(flate2::write::GzDecoder<Vec<u8>>),
    Zstd(zstd::stream::write::Decoder<'static, Vec<u8>>),
}

impl Decoder {
    fn new(encoding: &str) -> Self {
        match encoding {
            "gzip" => Self::Gzip(flate2::write::GzDecoder::new(Vec::new())),
            "zstd" => Self::Zstd(zstd::stream::write::Decoder::new(Vec::new()).expect("memory")),
            other => panic!("{other}"),
        }
    }

    fn push(&mut self, bytes: &[u8]) -> String {
        let decoded = match self {
            Self::Gzip(gzip) => {
                gzip.write_all(bytes).expect("sound");
                gzip.flush().expect("sound");
                gzip.get_ref()
            }
            Self::Zstd(zstd) => {
                zstd.write_all(bytes).expect("sound");
                zstd.flush().expect("sound");
                zstd.get_ref()
            }
        };
        String::from_utf8(decoded.clone()).expect("UTF-8")
    }
}

fn asking(accept_encoding: &str, posts: usize) -> Request<Body> {
    let headers = [
        ("content-type", "application/json"),
        ("accept-encoding", accept_encoding),
    ];
    let body = json!({ "texts": vec!["what a day"; posts] });
    request(Method::POST, "/v1/sentiment", &headers, body.to_string())
}

async fn reply(app: Router, request: Request<Body>) -> (HeaderMap, Bytes) {
    let reply = app.oneshot(request).await.expect("infallible");
    assert_eq!(reply.status(), 200);
    let (parts, body) = reply.into_parts();
    let body = body.collect().await.expect("whole").to_bytes();
    (parts.headers, body)
}

#[tokio::test]
async fn large_replies_are_compressed_for_those_who_ask() {
    let (_, plain) = reply(instant(&[]), asking("identity", 100)).await;
    for (accepted, encoding) in [
        ("gzip", "gzip"),
        ("br, gzip;q=0.5", "gzip"),
        ("gzip, deflate, br, zstd", "zstd"),
        ("identity;q=0, gzip", "gzip"),
    ] {
        let (headers, body) = reply(instant(&[]), asking(accepted, 100)).await;
        assert_eq!(headers["content-encoding"], encoding, "{accepted}");
        assert_eq!(headers["vary"], "accept-encoding", "{accepted}");
        assert!(body.len() < plain.len() / 5, "{} bytes", body.len());
        assert_eq!(Decoder::new(encoding).push(&body).as_bytes(), plain);
    }
}

#[tokio::test]
async fn others_get_them_as_they_are() {
    for (accepted, posts) in [
        ("gzip", 1),
        ("br", 100),
        ("gzip;q=0", 100),
        // Nothing that there is: better an answer than none.
        ("gzip;q=0, zstd;q=0, identity;q=0", 100),
        ("*;q=0", 100),
    ] {
        let (headers, body) = reply(instant(&[]), asking(accepted, posts)).await;
        assert_eq!(headers.get("content-encoding"), None, "{accepted}");
        assert!(body.starts_with(b"{"), "{accepted}");
    }
    let options = AppOptions {
        compress: false,
        ..AppOptions::from(limits(&[]))
    };
    let uncompressed = app(AppState::new(batcher(&limits(&[])), options));
    let (headers, _) = reply(uncompressed, asking("gzip", 100)).await;
    assert_eq!(headers.get("content-encoding"), None);
}

#[tokio::test]
async fn compressed_rows_come_as_soon_as_they_are_there() {
    for encoding in ["gzip", "zstd"] {
        let (pieces, body) = mpsc::unbounded_channel();
        let mut sent = post_as("application/x-ndjson", Body::new(Piped(body)));
        let value = encoding.parse().expect("a value");
        sent.headers_mut().insert("accept-encoding", value);
        let reply = instant(&[]).oneshot(sent).await.expect("infallible");
        assert_eq!(reply.headers()["content-encoding"], encoding);
        let mut reply = reply.into_body();
        let mut decoder = Decoder::new(encoding);
        for row in 1..4 {
            pieces
                .send(Ok(Bytes::from("\"post\"\n")))
                .expect("it is read");
            // No further row is sent before this one has come.
            loop {
                let frame = reply.frame().await.expect("not the end").expect("sound");
                let decoded = decoder.push(&frame.into_data().expect("data"));
                if decoded.lines().count() == row && decoded.ends_with('\n') {
                    break;
                }
            }
        }
    }
}

#[tokio::test]
async fn pages_are_compressed_too() {
    let headers = [("accept-encoding", "gzip")];
    let script = request(Method::GET, "/page.js", &headers, "");
    let (headers, body) = reply(instant(&[]), script).await;
    assert_eq!(headers["content-encoding"], "gzip");
    let plain = send(instant(&[]), crate::support::get("/page.js")).await;
    assert_eq!(Decoder::new("gzip").push(&body), plain.text);
}
