//! Builds `openapi.json`, the OpenAPI 3.1 document of a server with all features on, from the code
//! that serves it. Only tests contain this: one of them keeps the file up to date, and at run time
//! [`super::description`] adapts it to the server.
//!
//! Operations are described at their handlers, schemas are derived from the types that are
//! serialized, and errors have the status, code and message of [`ApiError`]. Integration tests look
//! up every error that they provoke, and schemathesis compares the document with the server
//! (`tests/openapi/run`).

use super::compat;
use super::deadline::TIMEOUT_HEADER;
use super::description::{self, DOCUMENT};
use super::error::ApiError;
use super::posts;
use super::{api, page, routes};
use crate::error::{OverloadCause, PostRejection};
use crate::rows::ResultRow;
use crate::wire::ErrorBody;
use axum::http::{Method, StatusCode};
use coldread_engine::PostError;
use serde::Serialize;
use serde_json::ser::PrettyFormatter;
use serde_json::{Value, json};
use std::time::Duration;
use utoipa::OpenApi;

/// Matches a letter, digit, punctuation mark or symbol, of which every post has at least one. A post
/// of only joiners, variation selectors and control characters is empty.
const VISIBLE: &str = r"[\p{L}\p{N}\p{P}\p{S}]";

/// The limits in messages. [`with_placeholders`] replaces these improbable numbers.
pub(super) const MAX_POSTS: usize = 900_000_001;
const MAX_POST_BYTES: usize = 900_000_002;
const MAX_BODY_BYTES: usize = 900_000_004;
const BODY_TIMEOUT_MS: u64 = 900_000_005;
pub(super) const MAX_TOKENS: usize = 900_000_006;

#[derive(OpenApi)]
#[openapi(
    info(title = "coldread", description = "Sentiment of social-media posts."),
    paths(
        api::sentiment,
        api::info,
        api::healthz,
        api::readyz,
        api::metrics,
        description::description,
        page::index,
        page::docs
    ),
    components(schemas(ErrorBody, ResultRow))
)]
struct Operations;

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

/// The document of a server with all features on: keys of all kinds, private documents, all
/// formats, and a model both with and without polarities.
fn document() -> Value {
    let mut document = Operations::openapi();
    document.merge(compat::Operations::openapi());
    let mut document = json!(document);
    document["components"]["securitySchemes"] = json!({
        "bearer": { "type": "http", "scheme": "bearer" },
        "api_key": { "type": "apiKey", "in": "header", "name": "x-api-key" },
    });
    document["components"]["parameters"] = headers();
    document["components"]["schemas"]["Post"] = json!({
        "description": "A post, of at most {max_post_bytes} bytes.",
        "type": "string",
        "pattern": VISIBLE,
    });
    add_requests(&mut document);
    add_responses(&mut document);
    for path in routes::NATIVE {
        let Some(item) = document["paths"].get_mut(path) else {
            continue;
        };
        for (_, operation) in item.as_object_mut().into_iter().flatten() {
            let mut errors = errors(path);
            if !["/healthz", "/readyz"].contains(&path) {
                operation["security"] = json!([{ "bearer": [] }, { "api_key": [] }]);
                errors.push(ApiError::Unauthorized);
            }
            let errors = errors.iter().map(DocumentedError::native);
            add_errors(operation, errors, &NATIVE);
        }
    }
    document["components"]["schemas"]["ErrorDetail"]["properties"]["code"]["enum"] = codes();
    compat::add_formats(&mut document);
    document
}

/// The document as text, with placeholders for limits.
fn with_placeholders(document: &Value) -> String {
    // Not indented, because the program contains it.
    let mut text = Vec::new();
    let formatter = PrettyFormatter::with_indent(b"");
    let mut serializer = serde_json::Serializer::with_formatter(&mut text, formatter);
    document.serialize(&mut serializer).expect("serializable");
    text.push(b'\n');
    let text = String::from_utf8(text).expect("JSON is UTF-8");
    let numbers = [
        (MAX_POSTS, "{max_posts}"),
        (MAX_POST_BYTES, "{max_post_bytes}"),
        (MAX_POST_BYTES + 1, "{too_many_bytes}"),
        (MAX_BODY_BYTES, "{max_body_bytes}"),
        (BODY_TIMEOUT_MS as usize, "{body_timeout_ms}"),
        (MAX_TOKENS, "{max_tokens}"),
    ];
    numbers
        .into_iter()
        .fold(text, |text, (number, placeholder)| {
            text.replace(&number.to_string(), placeholder)
        })
}

/// Adds the bodies of requests.
fn add_requests(document: &mut Value) {
    let operation = &mut document["paths"]["/v1/sentiment"]["post"];
    let long_text = operation["parameters"][0]["schema"].clone();
    let detect_language = operation["parameters"][1]["schema"].clone();
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
    content["application/json"]["schema"] = json!({ "$ref": "#/components/schemas/Posts" });
    content["application/json"]["examples"] = json!({
        "one": { "value": { "text": "I love this phone" } },
        "many": { "value": { "texts": ["I love this phone", "battery died after two days"] } },
    });
    document["components"]["schemas"]["Posts"] = posts::schema(&text, &long_text, &detect_language);
}

/// Adds the bodies and headers of responses.
fn add_responses(document: &mut Value) {
    let scored = &mut document["paths"]["/v1/sentiment"]["post"]["responses"]["200"];
    scored["headers"] = json!({ "server-timing": { "$ref": "#/components/headers/ServerTiming" } });
    let rows = json!("One `Row` per line");
    scored["content"]["application/x-ndjson"]["schema"]["description"] = rows;
    let rows = "A header row, then one row per row of the request: row, id, label, score, one column per label, truncated, windows, with `detect_language` also language, language_confidence, warnings, of two models also model; error";
    scored["content"]["text/csv"]["schema"]["description"] = json!(rows);
    let text = json!({ "type": "string" });
    document["components"]["headers"] = json!({
        "RequestId": { "description": "The id that the client sent, or a new one", "schema": text, "required": true },
        "ServerTiming": { "description": "The durations of queue, tokenize, inference and total, in milliseconds; missing if rows are streamed", "schema": text },
        "RetryAfter": { "description": "Seconds after which to retry", "schema": { "type": "integer" }, "required": true },
        "RetryAfterOverload": { "description": "Seconds after which to retry, if the server is overloaded", "schema": { "type": "integer" } },
        "WwwAuthenticate": { "schema": text, "required": true },
    });
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

/// The errors of a route, except for a missing key.
fn errors(path: &str) -> Vec<ApiError> {
    match path {
        "/v1/sentiment" => sentiment_errors(),
        "/readyz" => vec![ApiError::ShuttingDown],
        _ => Vec::new(),
    }
}

/// The errors of every request with a JSON body.
pub(super) fn body_errors() -> Vec<ApiError> {
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
            milliseconds: BODY_TIMEOUT_MS,
        },
        ApiError::BodyTooLarge {
            max_bytes: MAX_BODY_BYTES,
        },
        ApiError::UnsupportedEncoding,
        ApiError::Overloaded {
            retry_after: Duration::ZERO,
            cause: OverloadCause::PendingPosts,
        },
        ApiError::Internal {
            cause: String::new(),
        },
        ApiError::ShuttingDown,
        ApiError::DeadlineExceeded,
    ]
}

/// The error of a post that is longer than this server's limit.
pub(super) fn too_long() -> PostRejection {
    let error = PostError::TooLong {
        bytes: MAX_POST_BYTES + 1,
        max_bytes: MAX_POST_BYTES,
    };
    error.into()
}

fn sentiment_errors() -> Vec<ApiError> {
    let mut errors = body_errors();
    errors.extend([
        ApiError::TooManyPosts {
            max_posts: MAX_POSTS,
        },
        too_long().into(),
        PostRejection::from(PostError::TooManyTokens {
            max_tokens: MAX_TOKENS,
        })
        .into(),
        ApiError::ResponseTooLarge {
            max_bytes: 6_000_000,
        },
        ApiError::UnsupportedMediaType("this content type is not supported".to_owned()),
        PostRejection::from(PostError::Empty).into(),
        PostRejection::UnsupportedLanguage { language: "de" }.into(),
        ApiError::NoTexts,
        ApiError::InvalidType {
            path: "`text`".to_owned(),
            expected: "a string",
        },
        ApiError::InvalidLongText,
        ApiError::InvalidDetectLanguage,
        ApiError::InvalidParameter("`header` must be `present` or `absent`"),
        ApiError::MissingField,
        ApiError::ConflictingFields,
        ApiError::UnknownField("txt".to_owned()),
        ApiError::DuplicateField("text"),
        ApiError::ClientDisconnected,
    ]);
    errors
}

/// All error codes that have the native form.
fn codes() -> Value {
    let mut errors = sentiment_errors();
    errors.extend([
        ApiError::Unauthorized,
        ApiError::UnknownRoute,
        ApiError::MethodNotAllowed(Method::DELETE),
    ]);
    let native = errors.iter().map(|error| error.status_and_code().1);
    let mut codes = Value::Null;
    for code in native.chain(compat::native_codes()) {
        add_to(&mut codes, &json!(code));
    }
    codes
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

/// After a change: `COLDREAD_WRITE_OPENAPI=1 cargo test -q -p coldread --lib openapi`.
#[test]
fn the_document_is_that_of_the_code() {
    let document = with_placeholders(&document());
    if std::env::var_os("COLDREAD_WRITE_OPENAPI").is_some() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/src/http/openapi.json");
        std::fs::write(path, document).expect("written");
        return;
    }
    assert!(DOCUMENT == document, "run the command above");
}
