//! The description of the API, and that it is one of this API.

use crate::support::{get, instant, request, send};
use axum::http::Method;
use serde_json::Value;
use std::sync::OnceLock;

async fn document(args: &[&str]) -> Value {
    let reply = send(instant(args), get("/openapi.json")).await;
    assert_eq!(reply.headers["content-type"], "application/json");
    reply.json()
}

/// Looks an error up, by its code, and among those of the operation if it is of one.
pub(crate) async fn assert_described(method: &Method, path: &str, status: u16, code: &str) {
    static DOCUMENT: OnceLock<Value> = OnceLock::new();
    if DOCUMENT.get().is_none() {
        let _ = DOCUMENT.set(document(&[]).await);
    }
    let document = &DOCUMENT.get().expect("set");
    let has = |codes: &Value| {
        codes
            .as_array()
            .is_some_and(|codes| codes.contains(&code.into()))
    };
    let detail = &document["components"]["schemas"]["ErrorDetail"];
    assert!(has(&detail["properties"]["code"]["enum"]), "{code}");
    let operation = &document["paths"][path][method.as_str().to_lowercase()];
    if operation.is_object() {
        let reply = &operation["responses"][status.to_string()];
        let schema = &reply["content"]["application/json"]["schema"];
        let codes = &schema["properties"]["error"]["properties"]["code"]["enum"];
        assert!(has(codes), "{method} {path}: {status} {code}");
    }
}

#[tokio::test]
async fn what_is_described_is_there() {
    let document = document(&[]).await;
    assert_eq!(document["openapi"], "3.1.0");
    let paths = document["paths"].as_object().expect("paths");
    for path in [
        "/v1/sentiment",
        "/v1/info",
        "/healthz",
        "/readyz",
        "/metrics",
        "/openapi.json",
    ] {
        assert!(paths.contains_key(path), "{path}");
    }
    for (path, item) in paths {
        for method in item.as_object().expect("operations").keys() {
            let method: Method = method.to_uppercase().parse().expect("a method");
            let status = send(instant(&[]), request(method, path, &[], ""))
                .await
                .status;
            assert!(status != 404 && status != 405, "{path}: {status}");
        }
    }
}

#[tokio::test]
async fn references_lead_somewhere() {
    fn check(value: &Value, document: &Value) {
        match value {
            Value::Object(fields) => {
                if let Some(Value::String(reference)) = fields.get("$ref") {
                    let target = reference
                        .strip_prefix('#')
                        .and_then(|it| document.pointer(it));
                    assert!(target.is_some(), "{reference}");
                }
                fields.values().for_each(|value| check(value, document));
            }
            Value::Array(items) => items.iter().for_each(|value| check(value, document)),
            _ => {}
        }
    }
    let document = document(&[]).await;
    check(&document, &document);
}

#[tokio::test]
async fn limits_and_labels_are_this_servers() {
    let document = document(&["--max-posts", "7", "--max-body-bytes", "70000"]).await;
    let many = &document["components"]["schemas"]["Posts"]["oneOf"][1];
    let texts = many["properties"]["texts"]["description"].as_str();
    assert!(
        texts.is_some_and(|texts| texts.contains("at most 7")),
        "{many}"
    );
    assert_eq!(document["x-limits"]["max_body_bytes"], 70_000);
    let label = &document["components"]["schemas"]["Scored"]["properties"]["label"]["enum"];
    assert_eq!(
        *label,
        serde_json::json!(["negative", "neutral", "positive"])
    );
}

#[tokio::test]
async fn the_page_asks_no_other_host() {
    let page = send(instant(&[]), get("/docs")).await;
    assert_eq!(page.status, 200);
    assert_eq!(page.headers["content-type"], "text/html; charset=utf-8");
    let policy = page.headers["content-security-policy"]
        .to_str()
        .expect("ASCII");
    assert!(
        policy.starts_with("default-src 'none'; script-src 'self'"),
        "{policy}"
    );
    let script = send(instant(&[]), get("/docs.js")).await;
    for text in [page.text, script.text] {
        assert!(!text.contains("http://") && !text.contains("https://"));
    }
}
