//! The OpenAPI 3.1 document of the native API, derived from the code that serves it.
//!
//! Operations are described at their handlers and schemas are derived from the types that are
//! serialized, but only in tests: one of them keeps `openapi.json` equal to the code, so that
//! the program does not contain what derives them. At run time this adds what only a running
//! server knows, such as limits, labels and whether keys are required, and the errors, with the
//! status, code and message of [`ApiError`]. Integration tests look up every error that they
//! provoke, and schemathesis compares the document with the server (`tests/openapi/run`).

use super::api::InfoLimits;
use super::deadline::TIMEOUT_HEADER;
use super::error::ApiError;
use super::posts;
use super::routes;
use super::state::AppState;
use crate::wire::ErrorBody;
use axum::http::{Method, StatusCode};
use coldread_engine::PostError;
use serde_json::{Map, Value, json};
use std::time::Duration;

/// Matches a letter, digit, punctuation mark or symbol, of which every post has at least one. A post
/// of only joiners, variation selectors and control characters is empty.
const VISIBLE: &str = r"[\p{L}\p{N}\p{P}\p{S}]";

/// The part that is the same on every server. A test keeps it equal to the code.
pub(super) const OPERATIONS: &str = include_str!("openapi.json");

/// The form of a format's errors.
pub(super) struct ErrorFormat {
    /// The content type.
    pub(super) media: &'static str,
    /// The name of the body's schema.
    pub(super) schema: &'static str,
    /// The path to the error's name in the body, if it has one.
    pub(super) name: &'static [&'static str],
}

pub(super) const NATIVE: ErrorFormat = ErrorFormat {
    media: "application/json",
    schema: "ErrorBody",
    name: &["error", "code"],
};

/// An error in a format.
pub(super) struct DocumentedError {
    pub(super) status: StatusCode,
    pub(super) code: &'static str,
    pub(super) body: Value,
    /// Whether the response has `Retry-After`.
    pub(super) has_retry_after: bool,
    /// Whether the response has `WWW-Authenticate`.
    pub(super) has_challenge: bool,
}

impl DocumentedError {
    /// A native error, with the status and body of another format.
    pub(super) fn new(error: &ApiError, status: StatusCode, body: Value) -> Self {
        Self {
            status,
            code: error.status_and_code().1,
            body,
            has_retry_after: matches!(error, ApiError::Overloaded { .. } | ApiError::ShuttingDown),
            has_challenge: matches!(error, ApiError::Unauthorized),
        }
    }

    pub(super) fn native(error: &ApiError) -> Self {
        Self::new(
            error,
            error.status_and_code().0,
            json!(ErrorBody::from_api_error(error)),
        )
    }
}

/// The native part of a server's document, and the operations of other services' formats by their
/// templates.
pub(super) fn document(app: &AppState) -> (Value, Map<String, Value>) {
    let mut document: Value = serde_json::from_str(OPERATIONS).expect("a test reads it");
    document["x-limits"] = json!(InfoLimits::of(app));
    document["components"]["securitySchemes"] = json!({
        "bearer": { "type": "http", "scheme": "bearer" },
        "api_key": { "type": "apiKey", "in": "header", "name": "x-api-key" },
    });
    document["components"]["parameters"] = headers();
    document["components"]["schemas"]["Post"] = json!({
        "description": format!("A post, of at most {} bytes.", app.batcher().max_post_bytes()),
        "type": "string",
        "pattern": VISIBLE,
    });
    patch_requests(app, &mut document);
    patch_responses(app, &mut document);
    let paths = document["paths"].as_object_mut().map(std::mem::take);
    let (mut native, others): (Map<_, _>, Map<_, _>) = paths
        .into_iter()
        .flatten()
        .partition(|(path, _)| routes::NATIVE.contains(&path.as_str()));
    for (path, item) in &mut native {
        for (_, operation) in item.as_object_mut().into_iter().flatten() {
            let mut errors = errors(app, path);
            if requires_key(app, path) {
                operation["security"] = json!([{ "bearer": [] }, { "api_key": [] }]);
                errors.push(ApiError::Unauthorized);
            }
            add_errors(
                operation,
                errors.iter().map(DocumentedError::native),
                &NATIVE,
            );
        }
    }
    document["paths"] = native.into();
    (document, others)
}

/// Adds the bodies of requests, with this server's limits.
fn patch_requests(app: &AppState, document: &mut Value) {
    let operation = &mut document["paths"]["/v1/sentiment"]["post"];
    let long_text = operation["parameters"][0]["schema"].clone();
    let text = json!({ "$ref": "#/components/schemas/Post" });
    let content = &mut operation["requestBody"]["content"];
    content["text/plain"]["schema"] = text.clone();
    for (media, rows) in [
        (
            "application/x-ndjson",
            "One post per line, as `\"...\"` or as `{\"text\": \"...\", \"id\": ...}`, where `id` is optional.",
        ),
        (
            "text/csv",
            "A header row, then one post per row, in the column `text` or in the only column. The column `id` is copied to the response.",
        ),
    ] {
        content[media]["schema"] = json!({ "description": rows });
    }
    let max_posts = app.limits().max_posts.get();
    content["application/json"]["schema"] = json!({ "$ref": "#/components/schemas/Posts" });
    content["application/json"]["examples"] = json!({
        "one": { "value": { "text": "I love this phone" } },
        "many": { "value": { "texts": ["I love this phone", "battery died after two days"] } },
    });
    document["components"]["schemas"]["Posts"] = posts::schema(&text, &long_text, max_posts);
}

/// Adds the bodies and headers of responses, with this server's labels.
fn patch_responses(app: &AppState, document: &mut Value) {
    let scored = &mut document["paths"]["/v1/sentiment"]["post"]["responses"]["200"];
    scored["headers"] = json!({ "server-timing": { "$ref": "#/components/headers/ServerTiming" } });
    let rows = json!("One `Row` per line");
    scored["content"]["application/x-ndjson"]["schema"]["description"] = rows;
    let rows = "A header row, then one row per row of the request: row, id, label, score, one column per label, truncated, windows, error";
    scored["content"]["text/csv"]["schema"]["description"] = json!(rows);
    let text = json!({ "type": "string" });
    document["components"]["headers"] = json!({
        "RequestId": { "description": "The id that the client sent, or a new one", "schema": text, "required": true },
        "ServerTiming": { "description": "The durations of queue, tokenize, inference and total, in milliseconds; missing if rows are streamed", "schema": text },
        "RetryAfter": { "description": "Seconds after which to retry", "schema": { "type": "integer" }, "required": true },
        "RetryAfterOverload": { "description": "Seconds after which to retry, if the server is overloaded", "schema": { "type": "integer" } },
        "WwwAuthenticate": { "schema": text, "required": true },
    });
    let labels = &app.batcher().model().labels;
    let score = json!({ "type": "number", "minimum": 0, "maximum": 1 });
    let properties = &mut document["components"]["schemas"]["Scored"]["properties"];
    properties["label"]["enum"] = json!(labels);
    properties["scores"]["properties"] = labels
        .iter()
        .map(|it| (it.clone(), score.clone()))
        .collect();
    properties["scores"]["required"] = json!(labels);
}

/// The headers that any request can have.
fn headers() -> Value {
    let text = json!({ "type": "string" });
    let header = |name: &str, schema: &Value, description: &str| json!({ "name": name, "in": "header", "schema": schema, "description": description });
    json!({
        "Timeout": header(TIMEOUT_HEADER, &json!({ "type": "integer", "minimum": 0 }),
            "The client's timeout, in milliseconds. A request that cannot finish in time fails with 504 `deadline_exceeded`."),
        "ContentEncoding": header("content-encoding", &json!({ "enum": ["gzip", "zstd", "identity"] }),
            "The compression of the body. Limits apply to the decompressed body."),
        "RequestId": header("x-request-id", &text, "An id for this request, which is logged and returned in the response."),
        "TraceParent": header("traceparent", &text, "W3C trace context. The trace id is logged."),
        "AmznTraceId": header("x-amzn-trace-id", &text, "X-Ray trace header. Its root is logged and returned in the response."),
    })
}

/// Whether a route requires a key.
fn requires_key(app: &AppState, path: &str) -> bool {
    let access = &app.0.access;
    let is_public = match path {
        "/" | "/healthz" | "/readyz" => true,
        "/metrics" => access.public_metrics,
        "/docs" | "/openapi.json" => !access.private_docs,
        _ => false,
    };
    !access.is_open() && !is_public
}

/// The errors of a route, except for a missing key.
fn errors(app: &AppState, path: &str) -> Vec<ApiError> {
    match path {
        "/v1/sentiment" => sentiment_errors(app),
        "/readyz" => vec![ApiError::ShuttingDown],
        _ => Vec::new(),
    }
}

/// The errors of every request with a JSON body.
pub(super) fn body_errors(app: &AppState) -> Vec<ApiError> {
    let limits = app.limits();
    vec![
        ApiError::InvalidJson("EOF while parsing an object at line 1 column 9".to_owned()),
        ApiError::JsonTooDeep {
            max_depth: posts::MAX_DEPTH,
        },
        ApiError::InvalidUtf8 { at: 3 },
        ApiError::InvalidEncoding,
        ApiError::IncompleteBody,
        ApiError::InvalidTimeout,
        ApiError::RequestTimeout {
            milliseconds: limits.body_timeout_ms.get(),
        },
        ApiError::BodyTooLarge {
            max_bytes: limits.max_body_bytes.get(),
        },
        ApiError::UnsupportedEncoding,
        ApiError::Overloaded {
            retry_after: Duration::ZERO,
        },
        ApiError::Internal {
            cause: String::new(),
        },
        ApiError::ShuttingDown,
        ApiError::DeadlineExceeded,
    ]
}

/// The error of a post that is longer than this server's limit.
pub(super) fn too_long(app: &AppState) -> PostError {
    let max_bytes = app.batcher().max_post_bytes();
    PostError::TooLong {
        bytes: max_bytes + 1,
        max_bytes,
    }
}

fn sentiment_errors(app: &AppState) -> Vec<ApiError> {
    let max_tokens = app.batcher().model().max_tokens;
    let mut errors = body_errors(app);
    errors.extend([
        ApiError::TooManyPosts {
            max_posts: app.limits().max_posts.get(),
        },
        ApiError::Post(too_long(app)),
        ApiError::Post(PostError::TooManyTokens { max_tokens }),
        ApiError::ResponseTooLarge {
            max_bytes: 6_000_000,
        },
        ApiError::UnsupportedMediaType("this content type is not supported".to_owned()),
        ApiError::Post(PostError::Empty),
        ApiError::NoTexts,
        ApiError::InvalidType {
            path: "`text`".to_owned(),
            expected: "a string",
        },
        ApiError::InvalidLongText,
        ApiError::InvalidParameter("`header` must be `present` or `absent`"),
        ApiError::MissingField,
        ApiError::ConflictingFields,
        ApiError::UnknownField("txt".to_owned()),
        ApiError::DuplicateField("text"),
        ApiError::ClientDisconnected,
    ]);
    errors
}

/// All error codes, including those of `others`.
pub(super) fn codes(app: &AppState, others: impl Iterator<Item = &'static str>) -> Value {
    let mut errors = sentiment_errors(app);
    errors.extend([
        ApiError::Unauthorized,
        ApiError::UnknownRoute,
        ApiError::MethodNotAllowed(Method::DELETE),
    ]);
    let mut codes: Vec<&str> = Vec::new();
    let native = errors.iter().map(|error| error.status_and_code().1);
    for code in native.chain(others) {
        if !codes.contains(&code) {
            codes.push(code);
        }
    }
    json!(codes)
}

/// Adds errors to an operation's responses, in the form of a format.
pub(super) fn add_errors(
    operation: &mut Value,
    errors: impl IntoIterator<Item = DocumentedError>,
    format: &ErrorFormat,
) {
    let responses = &mut operation["responses"];
    for error in errors {
        add_error(responses, error, format);
    }
    for (_, response) in responses.as_object_mut().into_iter().flatten() {
        response["headers"]["x-request-id"] = json!({ "$ref": "#/components/headers/RequestId" });
    }
}

fn add_error(responses: &mut Value, error: DocumentedError, format: &ErrorFormat) {
    let DocumentedError { status, body, .. } = error;
    let response = &mut responses[status.as_str()];
    if response.is_null() {
        *response = json!({ "description": status.canonical_reason().unwrap_or_default() });
    }
    let content = &mut response["content"][format.media];
    if content.is_null() {
        let body = format!("#/components/schemas/{}", format.schema);
        *content = json!({ "schema": { "allOf": [{ "$ref": body }] } });
    }
    let (mut schema, mut name) = (&mut content["schema"], &body);
    for key in format.name {
        (schema, name) = (&mut schema["properties"][key], &name[key]);
    }
    if !format.name.is_empty() {
        add_to(&mut schema["enum"], name);
    }
    content["examples"][error.code] = json!({ "value": body });
    if error.has_retry_after {
        // Optional where other errors have the same status.
        let header = match status {
            StatusCode::BAD_REQUEST => "RetryAfterOverload",
            _ => "RetryAfter",
        };
        let header = format!("#/components/headers/{header}");
        response["headers"]["retry-after"] = json!({ "$ref": header });
    }
    if error.has_challenge {
        response["headers"]["www-authenticate"] =
            json!({ "$ref": "#/components/headers/WwwAuthenticate" });
    }
}

/// Adds a value to a list unless the list has it.
fn add_to(list: &mut Value, value: &Value) {
    match list.as_array_mut() {
        Some(values) if values.contains(value) => {}
        Some(values) => values.push(value.clone()),
        None => *list = json!([value]),
    }
}
