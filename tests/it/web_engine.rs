//! What the page loads to score in the browser.

use crate::access::access;
use crate::compat::with_options;
use crate::support::{get, post, request, send, service, stalled_model};
use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, Method, Request, StatusCode};
use coldread::config::Access;
use coldread::http::WebEngine;
use coldread_engine::Model;
use http_body_util::BodyExt;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use tempfile::TempDir;
use tower::ServiceExt;

const KEY: &str = "a-key-0123456789";
const SCRIPTS: [&str; 3] = ["tab.js", "worker.js", "coldread.js"];
const MODULES: [&str; 2] = ["coldread.wasm", "coldread-relaxed.wasm"];
const MODEL: &str = "default.coldread";

/// A package of files that contain their names, many times.
fn package() -> TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    for name in SCRIPTS.into_iter().chain(MODULES) {
        fs::write(folder.path().join(name), name.repeat(1000)).expect("written");
    }
    fs::write(folder.path().join("package.json"), "{}").expect("written");
    folder
}

fn tiny(name: &str) -> Model {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/tiny");
    Model::open(folder.join(name)).expect("a model")
}

fn service_with(access: Access) -> Router {
    let engine = WebEngine::open(package().path(), &[tiny("bert")]).expect("a package");
    with_options(|options| {
        options.web_engine = Some(engine);
        options.access = access;
    })
}

fn page() -> Request<Body> {
    request(Method::GET, "/", &[("accept", "text/html")], "")
}

/// The path at which the page finds the package.
async fn path(app: &Router) -> String {
    let page = send(app.clone(), page()).await.text;
    let (_, mark) = page.split_once("data-package=\"").expect("marked");
    let (path, _) = mark.split_once('"').expect("closed");
    format!("/{path}")
}

async fn fetch(app: &Router, request: Request<Body>) -> (StatusCode, HeaderMap, Vec<u8>) {
    let response = app.clone().oneshot(request).await.expect("infallible");
    let (parts, body) = response.into_parts();
    let body = body.collect().await.expect("whole").to_bytes();
    (parts.status, parts.headers, body.into())
}

#[tokio::test]
async fn the_page_finds_the_package_and_the_model() {
    let app = service_with(Access::default());
    let base = path(&app).await;
    for name in SCRIPTS.into_iter().chain(MODULES).chain([MODEL]) {
        let (status, headers, body) = fetch(&app, get(&format!("{base}{name}"))).await;
        let (content_type, content) = match name {
            MODEL => ("application/octet-stream", packed("bert")),
            _ if SCRIPTS.contains(&name) => {
                ("text/javascript; charset=utf-8", name.repeat(1000).into())
            }
            _ => ("application/wasm", name.repeat(1000).into()),
        };
        assert_eq!(status, 200, "{name}");
        assert_eq!(body, content, "{name}");
        assert_eq!(headers["content-type"], content_type, "{name}");
        assert_eq!(
            headers["cache-control"],
            "public, max-age=31536000, immutable"
        );
        assert_eq!(headers["x-content-type-options"], "nosniff");
        let policy = headers["content-security-policy"].to_str().expect("ASCII");
        assert!(policy.contains("'wasm-unsafe-eval'"), "{policy}");

        let head = request(Method::HEAD, &format!("{base}{name}"), &[], "");
        let (status, headers, body) = fetch(&app, head).await;
        assert_eq!((status, body.len()), (StatusCode::OK, 0), "{name}");
        assert_eq!(headers["content-length"], content.len().to_string());
    }
    let (_, headers, _) = fetch(&app, page()).await;
    let policy = headers["content-security-policy"].to_str().expect("ASCII");
    assert!(!policy.contains("unsafe"), "{policy}");
}

fn packed(name: &str) -> Vec<u8> {
    let model = tiny(name);
    model.packed().expect("it is packed").bytes().to_vec()
}

#[tokio::test]
async fn a_copy_that_is_current_is_not_sent_again() {
    let app = service_with(Access::default());
    let path = format!("{}{MODEL}", path(&app).await);
    let (_, headers, _) = fetch(&app, get(&path)).await;
    let etag = headers["etag"].to_str().expect("ASCII");
    let asking = |etag: &str| request(Method::GET, &path, &[("if-none-match", etag)], "");
    for current in [etag, &format!("\"other\", {etag}"), "*"] {
        let (status, headers, body) = fetch(&app, asking(current)).await;
        assert_eq!((status, body.len()), (StatusCode::NOT_MODIFIED, 0));
        assert_eq!(headers["etag"], etag);
    }
    for other in ["\"other\"", "W/\"\"", ""] {
        let status = fetch(&app, asking(other)).await.0;
        assert_eq!(status, 200, "{other}");
    }
}

#[tokio::test]
async fn scripts_are_compressed_and_what_is_cached_for_long_is_not() {
    let app = service_with(Access::default());
    let base = path(&app).await;
    for (name, encoding) in [
        ("tab.js", Some("gzip")),
        ("coldread.wasm", None),
        (MODEL, None),
    ] {
        let accept = [("accept-encoding", "gzip")];
        let asking = request(Method::GET, &format!("{base}{name}"), &accept, "");
        let (_, headers, _) = fetch(&app, asking).await;
        let sent = headers.get("content-encoding").map(|it| it.to_str());
        assert_eq!(sent.transpose().expect("ASCII"), encoding, "{name}");
    }
}

#[tokio::test]
async fn nothing_else_has_a_path() {
    let app = service_with(Access::default());
    let base = path(&app).await;
    for other in [
        format!("{base}package.json"),
        format!("{base}../../etc/passwd"),
        format!("{base}..%2f..%2fCargo.toml"),
        format!("{base}./tab.js"),
        format!("{base}tab.js%00"),
        base.clone(),
        "/package/".to_owned(),
        "/package/tab.js".to_owned(),
        "/package/0123456789abcdef/tab.js".to_owned(),
    ] {
        let reply = send(app.clone(), get(&other)).await;
        assert_eq!(reply.status, 404, "{other}");
        assert_eq!(reply.json()["error"]["code"], "unknown_route", "{other}");
    }
    let wrong = request(Method::POST, &format!("{base}tab.js"), &[], "");
    let reply = send(app.clone(), wrong).await;
    assert_eq!(reply.json()["error"]["code"], "method_not_allowed");
    // Without a package there is none of it.
    let page = send(service(), page()).await.text;
    assert!(page.contains("data-server>") && !page.contains("data-package"));
    let reply = send(service(), get(&format!("{base}{MODEL}"))).await;
    assert_eq!(reply.json()["error"]["code"], "unknown_route");
}

#[tokio::test]
async fn the_model_needs_a_key_where_posts_do() {
    let app = service_with(access(&["--api-keys", KEY]));
    let base = path(&app).await;
    assert_eq!(send(app.clone(), post(r#"{"text":"a"}"#)).await.status, 401);
    let model = format!("{base}{MODEL}");
    assert_eq!(send(app.clone(), get(&model)).await.status, 401);
    let with_key = request(Method::GET, &model, &[("x-api-key", KEY)], "");
    let (status, headers, body) = fetch(&app, with_key).await;
    assert_eq!((status, body), (StatusCode::OK, packed("bert")));
    assert_eq!(
        headers["cache-control"],
        "private, max-age=31536000, immutable"
    );
    // Browsers send no key for scripts, which are no secret.
    let script = get(&format!("{base}tab.js"));
    assert_eq!(send(app.clone(), script).await.status, 200);

    let private = service_with(access(&["--api-keys", KEY, "--private-docs"]));
    let script = get(&format!("{base}tab.js"));
    assert_eq!(send(private, script).await.status, 401);
}

#[tokio::test]
async fn another_package_or_model_has_other_paths() {
    let folder = package();
    let open = |model| WebEngine::open(folder.path(), &[tiny(model)]).expect("a package");
    let on = |engine| with_options(|options| options.web_engine = Some(engine));
    let first = path(&on(open("bert"))).await;
    assert_eq!(path(&on(open("bert"))).await, first);
    assert_ne!(path(&on(open("bert-stars"))).await, first);
    fs::write(folder.path().join("worker.js"), "changed").expect("written");
    assert_ne!(path(&on(open("bert"))).await, first);
}

#[test]
fn a_package_that_would_not_do_is_rejected() {
    let folder = package();
    let open = |models: &[Model]| {
        let error = WebEngine::open(folder.path(), models).expect_err("rejected");
        error.to_string()
    };
    let two = open(&[tiny("bert"), tiny("bert")]);
    assert!(two.contains("leave --also-model out"), "{two}");
    // A tokenizer of a library, and an engine that has no packed model.
    for model in [tiny("roberta"), stalled_model(&Arc::default())] {
        let error = open(&[model]);
        assert!(error.contains("does not run in a browser"), "{error}");
    }
    fs::remove_file(folder.path().join("coldread.wasm")).expect("removed");
    let missing = open(&[tiny("bert")]);
    assert!(
        missing.starts_with("--web-engine (COLDREAD_WEB_ENGINE): "),
        "{missing}"
    );
    assert!(missing.contains("coldread.wasm: No such file"), "{missing}");
}
