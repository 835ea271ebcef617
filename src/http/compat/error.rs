//! The errors of other services' formats: those of the native API, and their own.

use super::sigv4::SignatureError;
use crate::error::PostRejection;
use crate::http::error::{ApiError, error_response, log_rejection, post_status};
use crate::http::request_telemetry::RequestId;
use crate::http::state::AppState;
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

/// Why a request in another service's format fails.
#[derive(Debug, thiserror::Error)]
pub(in crate::http) enum CompatError {
    /// An error that native requests have as well.
    #[error(transparent)]
    Api(#[from] ApiError),
    /// An error that only other services' formats have.
    #[error(transparent)]
    Format(#[from] FormatError),
}

impl CompatError {
    /// The status and code that the native API would respond with.
    pub(in crate::http) fn status_and_code(&self) -> (StatusCode, &'static str) {
        match self {
            Self::Api(error) => error.status_and_code(),
            Self::Format(error) => error.status_and_code(),
        }
    }

    /// See [`AppState::adjust_for_shutdown`].
    pub(super) fn adjust_for_shutdown(self, app: &AppState) -> Self {
        match self {
            Self::Api(error) => Self::Api(app.adjust_for_shutdown(error)),
            other @ Self::Format(_) => other,
        }
    }
}

impl From<PostRejection> for CompatError {
    fn from(error: PostRejection) -> Self {
        Self::Api(error.into())
    }
}

/// The response in the native API's form.
impl IntoResponse for CompatError {
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

/// Errors that only requests in other services' formats have.
#[derive(Debug, thiserror::Error)]
pub(in crate::http) enum FormatError {
    /// The request does not have the format's form.
    #[error("{0}")]
    Request(&'static str),
    #[error(
        "this operation is not supported; use DetectSentiment, DetectDominantLanguage or their \
         batch forms"
    )]
    UnknownOperation,
    #[error("this language code is not supported; send a code such as `en`")]
    UnsupportedLanguage,
    #[error(
        "Input text size exceeds limit. Max length of request text allowed is {max_bytes} bytes \
         while in this request the text size is {bytes} bytes"
    )]
    TextTooLong { bytes: usize, max_bytes: usize },
    #[error("the batch has more than {max} items; split the request")]
    BatchTooLarge { max: usize },
    #[error("the batch is empty; send at least one item")]
    EmptyBatch,
    #[error("the text is empty; send at least one visible character")]
    EmptyText,
    /// In AWS's wording.
    #[error(
        "1 validation error detected: Value {value} at '{field}' failed to satisfy constraint: {constraint}"
    )]
    Validation {
        value: &'static str,
        field: &'static str,
        constraint: &'static str,
    },
    /// The error of a text whose language was detected and is rejected.
    #[error(transparent)]
    TextLanguage(PostRejection),
    #[error("item {index}: {error}")]
    Item { index: usize, error: PostRejection },
    #[error(
        "this format needs a model whose labels are negative, neutral and positive, or stars; for \
         this model's labels use POST /v1/sentiment"
    )]
    NoPolarity,
    #[error(transparent)]
    Signature(#[from] SignatureError),
}

impl FormatError {
    /// The table of statuses and codes.
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
            Self::Item { error, .. } | Self::TextLanguage(error) => {
                (post_status(error), error.code())
            }
            Self::NoPolarity => (StatusCode::UNPROCESSABLE_ENTITY, "no_polarity"),
            Self::Signature(_) => (StatusCode::UNAUTHORIZED, "invalid_signature"),
        }
    }
}

/// Turns an error into a response of a format, whose status and body `status_and_body` returns.
/// Logging, metrics and headers such as `Retry-After` are those of the native API.
pub(super) fn into_format<B: Serialize>(
    result: Result<Response, CompatError>,
    app: &AppState,
    status_and_body: impl FnOnce(&CompatError) -> (StatusCode, B),
) -> Response {
    result.unwrap_or_else(|error| {
        let error = error.adjust_for_shutdown(app);
        let (status, body) = status_and_body(&error);
        let mut response = error.into_response();
        *response.status_mut() = status;
        let bytes = serde_json::to_vec(&body).expect("our own types are serializable");
        *response.body_mut() = bytes.into();
        response
    })
}

/// Returns the request's id in the header in which the format's clients expect it.
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
