//! Every fault has a status, a code and a message that says what to do.

use crate::openapi::assert_described;
use crate::support::{Piped, get, limits, post, post_as, request, send, service, stalled, state};
use axum::Router;
use axum::body::{Body, HttpBody};
use axum::http::{Method, Request};
use bytes::Bytes;
use coldread::http::{ClientConnection, PeerState, app};
use hyper::body::Frame;
use insta::assert_snapshot;
use serde_json::json;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::sync::mpsc;

/// Status, headers that matter, code and message, a line each.
async fn error_of(app: Router, request: Request<Body>) -> String {
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let reply = send(app, request).await;
    let json = reply.json();
    assert_eq!(reply.headers["content-type"], "application/json");
    let (status, code) = (reply.status.as_u16(), &json["error"]["code"]);
    let code = code.as_str().expect("a code");
    assert_described(&method, &path, status, code).await;
    let error = json["error"].as_object().expect("an error");
    assert_eq!(
        (json.as_object().map(serde_json::Map::len), error.len()),
        (Some(1), 2)
    );
    let mut lines = format!(
        "{} {}",
        reply.status.as_u16(),
        error["code"].as_str().expect("a code")
    );
    for name in ["allow", "retry-after"] {
        if let Some(value) = reply.headers.get(name) {
            lines += &format!("\n{name}: {}", value.to_str().expect("ASCII"));
        }
    }
    lines + "\n" + error["message"].as_str().expect("a message")
}

async fn error(request: Request<Body>) -> String {
    error_of(service(), request).await
}

#[tokio::test]
async fn texts_that_cannot_be_scored() {
    assert_snapshot!(error(post(r#"{"text":""}"#)).await, @r"
    422 empty_text
    the text is empty; send at least one visible character
    ");
    assert_snapshot!(error(post_as("text/plain", " \t\n")).await, @r"
    422 empty_text
    the text is empty; send at least one visible character
    ");
    assert_snapshot!(error(post_as("text/plain", "a".repeat(65_537))).await, @r"
    413 text_too_long
    the text has 65537 bytes; at most 65536 are allowed, so shorten or split it
    ");
    assert_snapshot!(error(post_as("text/plain", &b"caf\xe9"[..])).await, @r"
    400 invalid_utf8
    the body is not valid UTF-8 (first invalid byte: 3); encode it as UTF-8
    ");
    assert_snapshot!(error(post(&b"{\"text\":\"\xff\"}"[..])).await, @r"
    400 invalid_utf8
    the body is not valid UTF-8 (first invalid byte: 9); encode it as UTF-8
    ");
}

#[tokio::test]
async fn broken_json() {
    assert_snapshot!(error(post("")).await, @r#"
    400 invalid_json
    the body is not valid JSON: it is empty; send {"text": "..."}
    "#);
    assert_snapshot!(error(post(r#"{"text":"a"#)).await, @r"
    400 invalid_json
    the body is not valid JSON: EOF while parsing a string at line 1 column 10
    ");
    assert_snapshot!(error(post(r#"{"text":"a"} {"text":"b"}"#)).await, @r"
    400 invalid_json
    the body is not valid JSON: trailing characters at line 1 column 14
    ");
    assert_snapshot!(error(post("text=good")).await, @r"
    400 invalid_json
    the body is not valid JSON: expected ident at line 1 column 2
    ");
    assert_snapshot!(error(post("[".repeat(100_000))).await, @r"
    400 json_too_deep
    the JSON body is nested more than 32 levels deep; send posts as plain strings
    ");
    let deep = format!(
        r#"{{"text":"a","more":{}1{}}}"#,
        "[".repeat(200),
        "]".repeat(200)
    );
    assert_snapshot!(error(post(deep)).await, @r"
    400 json_too_deep
    the JSON body is nested more than 32 levels deep; send posts as plain strings
    ");
}

#[tokio::test]
async fn json_of_another_shape() {
    assert_snapshot!(error(post(r#"["good"]"#)).await, @r#"
    422 invalid_type
    the body must be a JSON object, such as {"text": "..."}
    "#);
    assert_snapshot!(error(post(r#"{"text":null}"#)).await, @r"
    422 invalid_type
    `text` must be a string
    ");
    assert_snapshot!(error(post(r#"{"texts":{"0":"good"}}"#)).await, @r"
    422 invalid_type
    `texts` must be a list of strings
    ");
    assert_snapshot!(error(post(r#"{"texts":["good",5]}"#)).await, @r"
    422 invalid_type
    `texts[1]` must be a string
    ");
    assert_snapshot!(error(post(r#"{"txt":"good"}"#)).await, @r"
    422 unknown_field
    unknown field `txt`; expected `text`, `texts`, `long_text` or `detect_language`
    ");
    assert_snapshot!(error(post("{}")).await, @r#"
    422 missing_field
    `text` or `texts` is missing; send {"text": "..."} or {"texts": ["..."]}
    "#);
    assert_snapshot!(error(post(r#"{"text":"a","texts":["b"]}"#)).await, @r"
    422 conflicting_fields
    the body has both `text` and `texts`; send one of them
    ");
    assert_snapshot!(error(post(r#"{"text":"a","text":"b"}"#)).await, @r"
    422 duplicate_field
    the field `text` appears twice; send it once
    ");
    assert_snapshot!(error(post(r#"{"texts":[]}"#)).await, @r"
    422 no_texts
    `texts` is empty; send at least one post
    ");
    let body = json!({ "texts": vec!["a"; 1001] });
    assert_snapshot!(error(post(body.to_string())).await, @r"
    413 too_many_posts
    `texts` has more than 1000 posts; split the request
    ");
}

#[tokio::test]
async fn media_types() {
    assert_snapshot!(error(post_as("application/x-www-form-urlencoded", "{}")).await, @r"
    415 unsupported_media_type
    forms are not supported; send application/json, text/plain, application/x-ndjson or text/csv in UTF-8 (curl: -H 'content-type: application/json')
    ");
    assert_snapshot!(error(post_as("image/png", "")).await, @r"
    415 unsupported_media_type
    this content type is not supported; send application/json, text/plain, application/x-ndjson or text/csv in UTF-8 (curl: -H 'content-type: application/json')
    ");
    assert_snapshot!(error(post_as("text/plain; charset=latin1", "good")).await, @r"
    415 unsupported_media_type
    this charset is not supported; send application/json, text/plain, application/x-ndjson or text/csv in UTF-8 (curl: -H 'content-type: application/json')
    ");
    let brotli = request(
        Method::POST,
        "/v1/sentiment",
        &[("content-encoding", "br")],
        "{}",
    );
    assert_snapshot!(error(brotli).await, @r"
    415 unsupported_encoding
    this content-encoding is not supported; send gzip or zstd, or an uncompressed body
    ");
}

#[tokio::test]
async fn routes_and_methods() {
    assert_snapshot!(error(get("/v2/sentiment")).await, @r"
    404 unknown_route
    there is no such route; send posts to POST /v1/sentiment, and see GET /docs for all routes
    ");
    for path in ["//v1/sentiment", "/v1/../healthz", "/%2e%2e/etc/passwd"] {
        assert!(
            error(get(path)).await.starts_with("404 unknown_route"),
            "{path}"
        );
    }
    assert_snapshot!(error(get("/v1/sentiment")).await, @r"
    405 method_not_allowed
    allow: POST
    this route does not accept GET; the Allow header lists the methods that it accepts
    ");
    assert_snapshot!(error(request(Method::DELETE, "/v1/info", &[], "")).await, @r"
    405 method_not_allowed
    allow: GET,HEAD
    this route does not accept DELETE; the Allow header lists the methods that it accepts
    ");
    assert_snapshot!(error(request(Method::OPTIONS, "/v1/sentiment", &[], "")).await, @r"
    405 method_not_allowed
    allow: POST
    this route does not accept OPTIONS; the Allow header lists the methods that it accepts
    ");
}

/// A body that ends in an error, or never.
struct BadBody(Option<io::ErrorKind>);

impl HttpBody for BadBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        match self.0 {
            Some(kind) => Poll::Ready(Some(Err(kind.into()))),
            None => Poll::Pending,
        }
    }
}

/// A body that never ends, behind what it has.
struct Half(Option<Bytes>);

impl HttpBody for Half {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        match self.0.take() {
            Some(piece) => Poll::Ready(Some(Ok(Frame::data(piece)))),
            None => Poll::Pending,
        }
    }
}

#[tokio::test]
async fn bodies_that_do_not_arrive() {
    let limits = limits(&["--max-body-bytes", "20", "--body-timeout-ms", "1"]);
    let app = app(state(limits));
    let fits = post(r#"{"text":"123456789"}"#);
    assert_eq!(send(app.clone(), fits).await.status, 200);
    assert_snapshot!(error_of(app.clone(), post(r#"{"text":"123456789"} "#)).await, @r"
    413 body_too_large
    the body has more than 20 bytes; split the request
    ");
    let cut = Body::new(BadBody(Some(io::ErrorKind::UnexpectedEof)));
    assert_snapshot!(error_of(app.clone(), post(cut)).await, @r"
    400 incomplete_body
    the body ended early or was malformed; send it again in full
    ");
    assert_snapshot!(error_of(app, post(Body::new(BadBody(None)))).await, @r"
    408 request_timeout
    the body did not arrive within 1 ms; send a smaller body, or send it faster
    ");
}

fn many(posts: usize) -> Request<Body> {
    post(json!({ "texts": vec!["what a day"; posts] }).to_string())
}

/// The counters of rejected requests, by the limit that they met.
async fn overloads(app: Router) -> Vec<String> {
    let metrics = send(app, get("/metrics")).await.text;
    let counters = metrics.lines();
    counters
        .filter_map(|line| line.strip_prefix("coldread_overloads_total{"))
        .map(str::to_owned)
        .collect()
}

#[tokio::test]
async fn a_full_queue_refuses_one_post_and_many_alike() {
    let (state, gate) = stalled(limits(&["--max-pending-posts", "10"]));
    let app = app(state.clone());
    // The last place lets in a request of any length.
    let accepted = async { tokio::join!(send(app.clone(), many(9)), send(app.clone(), many(40))) };
    let refused = async {
        let one = error_of(app.clone(), post(r#"{"text":"good"}"#)).await;
        assert_snapshot!(one, @r"
        429 overloaded
        retry-after: 1
        too many posts are waiting; try again in a moment
        ");
        assert_eq!(error_of(app.clone(), many(40)).await, one);
        // Nor is a body read that would have to be thrown away.
        let never = Body::new(BadBody(None));
        assert_eq!(error_of(app.clone(), post(never)).await, one);
        state.start_draining();
        assert_snapshot!(error_of(app.clone(), many(40)).await, @r"
        503 shutting_down
        retry-after: 1
        the server is shutting down; try again, and another instance will respond
        ");
        gate.open();
    };
    let ((first, second), ()) = tokio::join!(accepted, refused);
    assert_eq!((first.status.as_u16(), second.status.as_u16()), (200, 200));
    let again = send(app.clone(), post(r#"{"text":"good"}"#)).await;
    assert_eq!(again.status, 200, "there is room again");
    assert_eq!(overloads(app).await, ["cause=\"pending_posts\"} 3"]);
}

#[tokio::test]
async fn bodies_in_flight_have_a_limit_together() {
    let args = [
        "--max-body-bytes",
        "100",
        "--max-pending-bytes",
        "120",
        "--body-timeout-ms",
        "1000",
    ];
    let app = app(state(limits(&args)));
    let slow = Body::new(Half(Some(Bytes::from(vec![b' '; 100]))));
    let second = async {
        // The first one's body has been read by the time that this one is.
        tokio::task::yield_now().await;
        error_of(
            app.clone(),
            post(format!(r#"{{"text":"{}"}}"#, "good ".repeat(10))),
        )
        .await
    };
    let (slow, second) = tokio::join!(error_of(app.clone(), post(slow)), second);
    assert!(slow.starts_with("408 request_timeout"), "{slow}");
    assert_snapshot!(second, @r"
    429 overloaded
    retry-after: 1
    request bodies fill the memory allowed for them; try again in a moment
    ");
    let again = post(format!(r#"{{"text":"{}"}}"#, "good ".repeat(10)));
    let again = send(app.clone(), again).await;
    assert_eq!(again.status, 200, "there is room again");
    assert_eq!(overloads(app).await, ["cause=\"pending_bytes\"} 1"]);
}

#[tokio::test]
async fn time_that_is_not_enough() {
    let asked = |ms: &str| {
        let headers = [("x-request-timeout-ms", ms)];
        request(
            Method::POST,
            "/v1/sentiment",
            &headers,
            r#"{"text":"good"}"#,
        )
    };
    assert_snapshot!(error(asked("0")).await, @r"
    504 deadline_exceeded
    the request cannot finish before its deadline; allow more time or send fewer posts
    ");
    assert_snapshot!(error(asked("soon")).await, @r"
    400 invalid_timeout
    x-request-timeout-ms must be a whole number of milliseconds
    ");
    assert_eq!(send(service(), asked("60000")).await.status, 200);
    let (state, gate) = stalled(limits(&["--request-timeout-ms", "5"]));
    let late = error_of(app(state), post(r#"{"text":"good"}"#)).await;
    assert!(late.starts_with("504 deadline_exceeded"), "{late}");
    gate.open();
}

/// However long a body may take by itself.
#[tokio::test]
async fn a_body_that_comes_late_is_not_waited_for() {
    let (_never, pieces) = mpsc::unbounded_channel();
    let late = error_of(
        app(state(limits(&["--request-timeout-ms", "20"]))),
        post(Body::new(Piped(pieces))),
    );
    assert!(late.await.starts_with("504 deadline_exceeded"));
}

#[tokio::test]
async fn nothing_is_computed_for_who_has_gone() {
    // One worker and a post a batch, so that all but the first one wait.
    let args = "--half-close-ms 1 --max-batch-tokens 1 --workers 1";
    let args: Vec<&str> = args.split(' ').collect();
    let (state, gate) = stalled(limits(&args));
    let app = app(state);
    let pending = async |posts: usize| {
        let metrics = send(app.clone(), get("/metrics")).await.text;
        metrics.contains(&format!("coldread_pending_posts {posts}\n"))
    };
    let from = |presence: PeerState| {
        let mut request = post(r#"{"texts":["good","bad"]}"#);
        let caller = ClientConnection::new(move || presence);
        request.extensions_mut().insert(caller);
        request
    };
    let stays = tokio::spawn(send(app.clone(), from(PeerState::Open)));
    while !pending(2).await {
        tokio::task::yield_now().await;
    }
    let gone = error_of(app.clone(), from(PeerState::HalfClosed)).await;
    assert_snapshot!(gone, @r"
    499 caller_gone
    the client closed the connection before it received the response
    ");
    assert!(pending(2).await);
    gate.open();
    assert_eq!(stays.await.expect("no panic").status, 200);
}
