//! The native API in OpenAPI 3.1, made of the code that serves it.
//!
//! Operations stand at their handlers and schemas are derived from the types that go
//! over the wire, both only in tests: one of them holds `openapi.json` to be what they
//! say, so that a program need not carry what derives them. What only a running server
//! knows is put in here: its limits, its labels, whether it asks for keys; and the
//! errors, each with the status, the code and the message that [`ApiError`] gives it.
//! Integration tests look every error up that they provoke, and schemathesis compares
//! the rest (`tests/openapi/run`).

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

/// What a post has at least one of: a letter, a digit, a sign, or a mark that stands by
/// itself. Joiners, selectors and control characters alone are no text.
const VISIBLE: &str = r"[\p{L}\p{N}\p{P}\p{S}]";

/// What is the same on every server. A test compares it with the code; it is a file for
/// the sake of programs that should be small.
pub(super) const OPERATIONS: &str = include_str!("openapi.json");

/// How a format tells of errors.
pub(super) struct ErrorFormat {
    /// Their content type.
    pub(super) media: &'static str,
    /// What the body is called among the schemas.
    pub(super) schema: &'static str,
    /// Where in the body the error's name stands, if it has one.
    pub(super) name: &'static [&'static str],
}

pub(super) const NATIVE: ErrorFormat = ErrorFormat {
    media: "application/json",
    schema: "ErrorBody",
    name: &["error", "code"],
};

/// An error as a format tells of it.
pub(super) struct DocumentedError {
    pub(super) status: StatusCode,
    pub(super) code: &'static str,
    pub(super) body: Value,
    /// Whether the response says when to try again.
    pub(super) has_retry_after: bool,
    /// Whether the response says how to send a key.
    pub(super) has_challenge: bool,
}

impl DocumentedError {
    /// An error of the native table, told with another status and body.
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

/// The native part of a server's description, and the operations of other services' formats
/// by their templates.
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
    requests(app, &mut document);
    replies(app, &mut document);
    let paths = document["paths"].as_object_mut().map(std::mem::take);
    let (mut native, others): (Map<_, _>, Map<_, _>) = paths
        .into_iter()
        .flatten()
        .partition(|(path, _)| routes::NATIVE.contains(&path.as_str()));
    for (path, item) in &mut native {
        for (_, operation) in item.as_object_mut().into_iter().flatten() {
            let mut errors = errors(app, path);
            if has_key(app, path) {
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

/// What is taken, within this server's limits.
fn requests(app: &AppState, document: &mut Value) {
    let operation = &mut document["paths"]["/v1/sentiment"]["post"];
    let long_text = operation["parameters"][0]["schema"].clone();
    let text = json!({ "$ref": "#/components/schemas/Post" });
    let content = &mut operation["requestBody"]["content"];
    content["text/plain"]["schema"] = text.clone();
    for (media, rows) in [
        (
            "application/x-ndjson",
            "A post a line, as `\"...\"` or as `{\"text\": \"...\", \"id\": ...}`, `id` being optional.",
        ),
        (
            "text/csv",
            "A header, and the post in the column `text` or in the only one; `id` is taken over.",
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

/// What is answered, with this server's model.
fn replies(app: &AppState, document: &mut Value) {
    let scored = &mut document["paths"]["/v1/sentiment"]["post"]["responses"]["200"];
    scored["headers"] = json!({ "server-timing": { "$ref": "#/components/headers/ServerTiming" } });
    let rows = json!("A `Row` a line");
    scored["content"]["application/x-ndjson"]["schema"]["description"] = rows;
    let rows = "A header and a row for each: row, id, label, score, a column a label, truncated, windows, error";
    scored["content"]["text/csv"]["schema"]["description"] = json!(rows);
    let text = json!({ "type": "string" });
    document["components"]["headers"] = json!({
        "RequestId": { "description": "The request's own, or a new one", "schema": text, "required": true },
        "ServerTiming": { "description": "queue, tokenize, inference and total in milliseconds; of rows there is none", "schema": text },
        "RetryAfter": { "description": "Seconds to wait", "schema": { "type": "integer" }, "required": true },
        "RetryAfterOverload": { "description": "Seconds to wait, if there are too many requests", "schema": { "type": "integer" } },
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

/// Headers that every request may have.
fn headers() -> Value {
    let text = json!({ "type": "string" });
    let header = |name: &str, schema: &Value, description: &str| json!({ "name": name, "in": "header", "schema": schema, "description": description });
    json!({
        "Timeout": header(TIMEOUT_HEADER, &json!({ "type": "integer", "minimum": 0 }),
            "How long the caller waits, in milliseconds; what cannot be done by then is 504 `deadline_exceeded`."),
        "ContentEncoding": header("content-encoding", &json!({ "enum": ["gzip", "zstd", "identity"] }),
            "How the body is compressed. Limits hold for what comes out."),
        "RequestId": header("x-request-id", &text, "Comes back with the answer and stands in the log."),
        "TraceParent": header("traceparent", &text, "Its trace id stands in the log."),
        "AmznTraceId": header("x-amzn-trace-id", &text, "Its root stands in the log and comes back."),
    })
}

/// Whether a route asks for a key.
fn has_key(app: &AppState, path: &str) -> bool {
    let access = &app.0.access;
    let is_public = match path {
        "/" | "/healthz" | "/readyz" => true,
        "/metrics" => access.public_metrics,
        "/docs" | "/openapi.json" => !access.private_docs,
        _ => false,
    };
    !access.is_open() && !is_public
}

/// The errors that a route can answer with, beside a missing key's.
fn errors(app: &AppState, path: &str) -> Vec<ApiError> {
    match path {
        "/v1/sentiment" => sentiment_errors(app),
        "/readyz" => vec![ApiError::ShuttingDown],
        _ => Vec::new(),
    }
}

/// Errors of every request that has a body of JSON.
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

/// A post that has more bytes than are taken.
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
        ApiError::InvalidParameter("`header` must be present or absent"),
        ApiError::MissingField,
        ApiError::ConflictingFields,
        ApiError::UnknownField("txt".to_owned()),
        ApiError::DuplicateField("text"),
        ApiError::ClientDisconnected,
    ]);
    errors
}

/// Every code that there is, with those that `others` have.
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

/// Enters errors among an operation's responses, as a format has them.
pub(super) fn add_errors(
    operation: &mut Value,
    errors: impl IntoIterator<Item = DocumentedError>,
    format: &ErrorFormat,
) {
    let replies = &mut operation["responses"];
    for error in errors {
        add_error(replies, error, format);
    }
    for (_, reply) in replies.as_object_mut().into_iter().flatten() {
        reply["headers"]["x-request-id"] = json!({ "$ref": "#/components/headers/RequestId" });
    }
}

fn add_error(replies: &mut Value, error: DocumentedError, format: &ErrorFormat) {
    let DocumentedError { status, body, .. } = error;
    let reply = &mut replies[status.as_str()];
    if reply.is_null() {
        *reply = json!({ "description": status.canonical_reason().unwrap_or_default() });
    }
    let content = &mut reply["content"][format.media];
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
        // Where others have the same status not every response has it.
        let header = match status {
            StatusCode::BAD_REQUEST => "RetryAfterOverload",
            _ => "RetryAfter",
        };
        let header = format!("#/components/headers/{header}");
        reply["headers"]["retry-after"] = json!({ "$ref": header });
    }
    if error.has_challenge {
        reply["headers"]["www-authenticate"] =
            json!({ "$ref": "#/components/headers/WwwAuthenticate" });
    }
}

/// Adds a value to a list that has it not yet.
fn add_to(list: &mut Value, value: &Value) {
    match list.as_array_mut() {
        Some(values) if values.contains(value) => {}
        Some(values) => values.push(value.clone()),
        None => *list = json!([value]),
    }
}
