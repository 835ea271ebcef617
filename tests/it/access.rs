//! Keys and origins: who is answered, and what it costs to be refused.

use crate::support::{batcher, get, limits, post, request, send};
use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, Method, Request};
use coldread::config::{Access, AccessArgs};
use coldread::http::{AppOptions, AppState, app};
use insta::assert_snapshot;

const KEYS: &str = "first-key-0123456789,second-key-0123456789";

pub(crate) fn access(args: &[&str]) -> Access {
    #[derive(clap::Parser)]
    struct Cli {
        #[command(flatten)]
        access: AccessArgs,
    }
    let args = ["coldread"].iter().chain(args);
    let cli: Cli = clap::Parser::try_parse_from(args).expect("well-formed");
    cli.access.resolve().expect("sound")
}

fn guarded(args: &[&str]) -> Router {
    let limits = limits(&[]);
    let batcher = batcher(&limits);
    let options = AppOptions {
        access: access(args),
        ..AppOptions::from(limits)
    };
    app(AppState::new(batcher, options))
}

fn with(header: (&str, &str), body: &'static str) -> Request<Body> {
    let headers = [("content-type", "application/json"), header];
    request(Method::POST, "/v1/sentiment", &headers, body)
}

#[tokio::test]
async fn every_valid_key_is_taken_either_way() {
    let app = guarded(&["--api-keys", KEYS]);
    for header in [
        ("authorization", "Bearer first-key-0123456789"),
        ("authorization", "bearer  second-key-0123456789"),
        ("x-api-key", "second-key-0123456789"),
    ] {
        let reply = send(app.clone(), with(header, r#"{"text":"good"}"#)).await;
        assert_eq!(reply.status, 200, "{header:?}");
    }
}

#[tokio::test]
async fn without_a_valid_key_nothing_is_read() {
    let app = guarded(&["--api-keys", KEYS]);
    // What the body would be refused for is not even seen.
    let reply = send(app.clone(), with(("x-none", ""), "{{{")).await;
    assert_eq!(reply.headers["www-authenticate"], "Bearer");
    assert_snapshot!(reply.render(), @r#"
    401 Unauthorized
    content-type: application/json

    {
      "error": {
        "code": "unauthorized",
        "message": "a valid API key is required; send it as `Authorization: Bearer KEY` or `x-api-key: KEY`"
      }
    }
    "#);
    for header in [
        ("authorization", "Bearer wrong-key-0123456789"),
        ("authorization", "Bearer"),
        ("authorization", "Basic first-key-0123456789"),
        ("authorization", "first-key-0123456789"),
        ("x-api-key", ""),
        ("x-api-key", "first-key-0123456789,second-key-0123456789"),
    ] {
        let reply = send(app.clone(), with(header, r#"{"text":"good"}"#)).await;
        assert_eq!(reply.status, 401, "{header:?}");
        assert_eq!(
            reply.headers.get("server-timing"),
            None,
            "nothing was scored"
        );
    }
}

async fn statuses(app: &Router, paths: &[&str]) -> Vec<u16> {
    let mut statuses = Vec::new();
    for path in paths {
        statuses.push(send(app.clone(), get(path)).await.status.as_u16());
    }
    statuses
}

#[tokio::test]
async fn health_is_open_and_metrics_are_if_so_wished() {
    let paths = [
        "/healthz",
        "/readyz",
        "/v1/info",
        "/metrics",
        "/page.js",
        "/docs",
        "/openapi.json",
    ];
    let closed = guarded(&["--api-keys", KEYS]);
    assert_eq!(
        statuses(&closed, &paths).await,
        [200, 200, 401, 401, 200, 200, 200]
    );
    let open = guarded(&["--api-keys", KEYS, "--public-metrics"]);
    assert_eq!(
        statuses(&open, &paths).await,
        [200, 200, 401, 200, 200, 200, 200]
    );
    let private = guarded(&["--api-keys", KEYS, "--private-docs"]);
    assert_eq!(
        statuses(&private, &paths).await,
        [200, 200, 401, 401, 401, 401, 401]
    );
    assert_eq!(statuses(&guarded(&[]), &paths).await, [200; 7]);
}

fn preflight(origin: &str) -> Request<Body> {
    let headers = [
        ("origin", origin),
        ("access-control-request-method", "POST"),
        ("access-control-request-headers", "content-type,x-api-key"),
    ];
    request(Method::OPTIONS, "/v1/sentiment", &headers, "")
}

fn allowed(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get("access-control-allow-origin")?;
    value.to_str().ok()
}

#[tokio::test]
async fn pages_of_listed_origins_may_read_answers() {
    let page = "https://page.example";
    let origins = "https://other.example, https://page.example";
    // A browser asks first, without the key.
    let app = guarded(&["--cors-origins", origins, "--api-keys", KEYS]);
    let reply = send(app.clone(), preflight(page)).await;
    assert_eq!(
        (reply.status.as_u16(), allowed(&reply.headers)),
        (200, Some(page))
    );
    let reply = send(app.clone(), preflight("https://evil.example")).await;
    assert_eq!(allowed(&reply.headers), None);
    // It has to be able to read refusals as well.
    let headers = [("origin", page)];
    let refused = request(Method::POST, "/v1/sentiment", &headers, "");
    let reply = send(app, refused).await;
    assert_eq!(
        (reply.status.as_u16(), allowed(&reply.headers)),
        (401, Some(page))
    );
}

#[tokio::test]
async fn other_origins_are_not_answered_by_default() {
    let app = guarded(&[]);
    let reply = send(app.clone(), preflight("https://page.example")).await;
    assert_eq!(
        (reply.status.as_u16(), allowed(&reply.headers)),
        (405, None)
    );
    let mut request = post(r#"{"text":"good"}"#);
    let origin = "https://page.example".parse().expect("a value");
    request.headers_mut().insert("origin", origin);
    assert_eq!(allowed(&send(app, request).await.headers), None);
}
