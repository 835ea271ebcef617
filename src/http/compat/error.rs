//! Errors of other services' formats: those of the native table, and their own.

use super::sigv4::SignatureError;
use crate::http::error::{ApiError, error_response, log_rejection, post_status};
use crate::http::request_telemetry::RequestId;
use crate::http::state::AppState;
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use coldread_engine::PostError;
use serde::Serialize;

/// Why a request of another service's client fails.
#[derive(Debug, thiserror::Error)]
pub(in crate::http) enum CompatFailure {
    /// As a native request may.
    #[error(transparent)]
    Api(#[from] ApiError),
    /// As only one of these formats may.
    #[error(transparent)]
    Format(#[from] CompatError),
}

impl CompatFailure {
    /// Status and code by the tables.
    pub(in crate::http) fn status_and_code(&self) -> (StatusCode, &'static str) {
        match self {
            Self::Api(error) => error.status_and_code(),
            Self::Format(error) => error.status_and_code(),
        }
    }

    /// The same, on a server that may be about to stop.
    pub(super) fn on(self, app: &AppState) -> Self {
        match self {
            Self::Api(error) => Self::Api(app.rejection(error)),
            other @ Self::Format(_) => other,
        }
    }
}

impl From<PostError> for CompatFailure {
    fn from(error: PostError) -> Self {
        Self::Api(error.into())
    }
}

/// As the native API has it.
impl IntoResponse for CompatFailure {
    fn into_response(self) -> Response {
        match self {
            Self::Api(error) => error.into_response(),
            Self::Format(error) => {
                let (status, code) = error.status_and_code();
                log_rejection(status, code);
                error_response(status, code, error.to_string())
            }
        }
    }
}

/// Faults that only other services' requests can have.
#[derive(Debug, thiserror::Error)]
pub(in crate::http) enum CompatError {
    /// Not what the format's requests look like.
    #[error("{0}")]
    Request(&'static str),
    #[error(
        "this operation is not implemented; DetectSentiment, DetectDominantLanguage and their \
         batch forms are"
    )]
    UnknownOperation,
    #[error("this language code is not one of the format's")]
    UnsupportedLanguage,
    #[error(
        "Input text size exceeds limit. Max length of request text allowed is {max_bytes} bytes \
         while in this request the text size is {bytes} bytes"
    )]
    TextTooLong { bytes: usize, max_bytes: usize },
    #[error("the batch has more than {max} items; split it")]
    BatchTooLarge { max: usize },
    #[error("the batch is empty; send at least one item")]
    EmptyBatch,
    #[error("the text is empty; send at least one visible character")]
    EmptyText,
    /// As AWS words it.
    #[error(
        "1 validation error detected: Value {value} at '{field}' failed to satisfy constraint: {constraint}"
    )]
    Validation {
        value: &'static str,
        field: &'static str,
        constraint: &'static str,
    },
    #[error("item {index}: {error}")]
    Item { index: usize, error: PostError },
    #[error(
        "this model's labels are not negative, neutral and positive, nor stars; ask for them by \
         POST /v1/sentiment"
    )]
    NoPolarity,
    #[error(transparent)]
    Signature(#[from] SignatureError),
}

impl CompatError {
    /// Their table.
    fn status_and_code(&self) -> (StatusCode, &'static str) {
        match self {
            Self::Request(_) | Self::Validation { .. } => {
                (StatusCode::BAD_REQUEST, "invalid_request")
            }
            Self::UnknownOperation => (StatusCode::BAD_REQUEST, "unknown_operation"),
            Self::UnsupportedLanguage => (StatusCode::BAD_REQUEST, "unsupported_language"),
            Self::TextTooLong { .. } => (StatusCode::PAYLOAD_TOO_LARGE, "text_too_long"),
            Self::BatchTooLarge { .. } => (StatusCode::PAYLOAD_TOO_LARGE, "too_many_posts"),
            Self::EmptyBatch => (StatusCode::UNPROCESSABLE_ENTITY, "no_texts"),
            Self::EmptyText => (StatusCode::UNPROCESSABLE_ENTITY, "empty_text"),
            Self::Item { error, .. } => (post_status(error), error.code()),
            Self::NoPolarity => (StatusCode::UNPROCESSABLE_ENTITY, "no_polarity"),
            Self::Signature(_) => (StatusCode::UNAUTHORIZED, "invalid_signature"),
        }
    }
}

/// An error as the native table has it (logged, counted, with its `Retry-After`), but with
/// another status and body.
pub(super) fn reject(error: CompatFailure, status: StatusCode, body: &impl Serialize) -> Response {
    let mut response = error.into_response();
    *response.status_mut() = status;
    let bytes = serde_json::to_vec(body).expect("our own responses are serializable");
    *response.body_mut() = bytes.into();
    response
}

/// Repeats the request's id under the name that a client looks for it by.
pub(super) fn with_id(
    mut response: Response,
    name: &'static str,
    id: Option<RequestId>,
) -> Response {
    if let Some(RequestId(id)) = id
        && let Ok(id) = HeaderValue::try_from(id)
    {
        let name = HeaderName::from_static(name);
        response.headers_mut().insert(name, id);
    }
    response
}
