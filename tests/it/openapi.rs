//! The description of the API, and that it is one of this API.

use crate::compat::{DETECT, compat, each, other_model, with_options};
use crate::support::{get, instant, limits, request, send, service, stalled};
use axum::Router;
use axum::http::Method;
use coldread::http::app;
use serde_json::Value;
use std::sync::OnceLock;

async fn document(args: &[&str]) -> Value {
    document_of(instant(args)).await
}

async fn document_of(app: Router) -> Value {
    let reply = send(app, get("/openapi.json")).await;
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
            let Ok(method) = method.to_uppercase().parse::<Method>() else {
                continue;
            };
            let is_there = is_answered(&instant(&[]), &method, path).await;
            assert!(method.as_str() == "$REF" || is_there, "{method} {path}");
        }
    }
}

/// Whether a route is there, whatever it makes of an empty request.
async fn is_answered(app: &Router, method: &Method, path: &str) -> bool {
    let headers = [("accept", "text/html"), ("x-amz-target", DETECT)];
    let reply = send(app.clone(), request(method.clone(), path, &headers, "")).await;
    ![404, 405].contains(&reply.status.as_u16())
}

/// What a path has, also where it is said to have what another one has.
fn operations<'a>(document: &'a Value, path: &str) -> &'a Value {
    let item = &document["paths"][path];
    match item["$ref"].as_str() {
        Some(reference) => document.pointer(&reference[1..]).expect("a path"),
        None => item,
    }
}

#[tokio::test]
async fn other_services_routes_are_described_where_they_are_answered() {
    let vertex = [
        ("AIP_HEALTH_ROUTE", "/health"),
        ("AIP_PREDICT_ROUTE", "/~1"),
    ];
    let same = ["AIP_HEALTH_ROUTE", "AIP_PREDICT_ROUTE"].map(|name| (name, "/health"));
    let taken = [
        ("AIP_HEALTH_ROUTE", "/predict"),
        ("AIP_PREDICT_ROUTE", "/docs"),
    ];
    let mut found = 0;
    for (list, prefix, env) in [
        ("", "", &[][..]),
        ("", "/~", &vertex),
        ("none", "/~", &vertex),
        ("huggingface", "", &same),
        ("huggingface", "/~", &[]),
        ("comprehend", "", &[]),
        ("comprehend", "/~", &[]),
        ("tei,azure,vertex", "", &taken),
        ("google,sagemaker,vertex", "", &same),
    ] {
        let app = with_options(|options| options.compat = compat(list, prefix, env));
        let document = document_of(app.clone()).await;
        for path in [
            "",
            "/",
            "/models/{id}",
            "/comprehend",
            "/comprehend/",
            "/predict",
            "/info",
            "/language/:analyze-text",
            "/text/analytics/v3.1/sentiment",
            "/text/analytics/v3.0/sentiment",
            "/v2/documents:analyzeSentiment",
            "/v1/documents:analyzeSentiment",
            "/ping",
            "/invocations",
            "/health",
            "/1",
            "/docs",
        ] {
            for path in [path.to_owned(), format!("/~{path}")] {
                if path.is_empty() {
                    continue;
                }
                for method in [Method::GET, Method::POST] {
                    // A slash at the end makes no other route.
                    let route = match path.trim_end_matches('/') {
                        "" => "/",
                        route => route,
                    };
                    let described = &operations(&document, route)[method.as_str().to_lowercase()];
                    let asked = path.replace("{id}", "a/b");
                    let is_answered = is_answered(&app, &method, &asked).await;
                    let of = format!("{method} {path} of {list} below {prefix} with {env:?}");
                    assert_eq!(described.is_object(), is_answered, "{of}");
                    found += usize::from(is_answered);
                }
            }
        }
        let text = document.to_string();
        assert_eq!(text.contains("/schemas/google."), text.contains("/v2/doc"));
    }
    assert!(found > 40, "{found}");
}

#[tokio::test]
async fn other_services_replies_are_described() {
    let check = async |app: &Router, document: &Value, is_good: bool| {
        for (name, request) in each() {
            let path = request.uri().path().to_owned();
            let reply = send(app.clone(), request).await;
            assert_eq!(reply.status == 200, is_good, "{name}");
            let described = &operations(document, &path)["post"];
            let described = &described["responses"][reply.status.as_str()];
            for header in ["retry-after", "apim-request-id", "x-amzn-requestid"] {
                if reply.headers.contains_key(header) && (is_good || header == "retry-after") {
                    assert!(described["headers"][header].is_object(), "{name}: {header}");
                }
            }
            let media = reply.headers["content-type"].to_str().expect("ASCII");
            let described = &described["content"][media];
            assert!(described["schema"].is_object(), "{name}: {media}");
            if !is_good {
                let examples = described["examples"].as_object().expect("examples");
                let is_one = examples.values().any(|it| it["value"] == reply.json());
                assert!(is_one, "{name}: {}", reply.text);
            }
        }
    };
    let document = document(&[]).await;
    check(&service(), &document, true).await;
    let (state, gate) = stalled(limits(&["--max-pending-posts", "1", "--max-posts", "1"]));
    let full = app(state.clone());
    let waiting = send(full.clone(), crate::support::post(r#"{"text":"good"}"#));
    let refused = async {
        check(&full, &document, false).await;
        state.start_draining();
        check(&full, &document, false).await;
        gate.open();
    };
    tokio::join!(waiting, refused);
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
    let text = document.to_string();
    for placeholder in ["{max_", "{too_", "{body_", "900000"] {
        assert!(!text.contains(placeholder), "{placeholder}");
    }
}

#[tokio::test]
async fn only_errors_that_this_server_can_return_are_described() {
    let has = |document: &Value, part: &str| document.to_string().contains(part);
    let open = document(&[]).await;
    for part in [
        "no_polarity",
        "invalid_signature",
        "Signature",
        "\"401\"",
        "\"security\"",
    ] {
        assert!(!has(&open, part), "{part}");
    }
    let toxic = document_of(other_model("electra-one-label")).await;
    assert!(has(&toxic, "no_polarity"));
    let keys = ["--api-keys", "a-key-for-this-test"];
    let app = with_options(|options| options.access = crate::access::access(&keys));
    let closed = document_of(app).await;
    for part in [
        "UnrecognizedClientException",
        "invalid_signature",
        "\"401\"",
        "\"security\"",
    ] {
        assert!(has(&closed, part), "{part}");
    }
    assert!(!has(&closed, "sigv4"));
    assert!(closed["paths"]["/"]["get"]["security"].is_null());
    let private = [&keys[..], &["--private-docs"]].concat();
    let app = with_options(|options| options.access = crate::access::access(&private));
    let request = request(
        Method::GET,
        "/openapi.json",
        &[("x-api-key", "a-key-for-this-test")],
        "",
    );
    let private = send(app, request).await.json();
    assert!(private["paths"]["/"]["get"]["security"].is_array());
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
