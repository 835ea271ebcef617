//! The one table from an error to its status, code and message.
//!
//! Codes are part of the API and never change their meaning. Messages say what to do and may be
//! reworded. The cause of an internal error goes only to the log.

use crate::error::{InferError, OverloadCause, PostRejection};
use crate::rows::InputError;
use crate::wire::ErrorBody;
use axum::http::header::{CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, Method, StatusCode};
use axum::response::{IntoResponse, Response};
use coldread_engine::PostError;
use serde::Serialize;
use std::time::Duration;

/// The value of `Retry-After`: whole seconds, at least one. Clients add their own jitter.
fn retry_after(wait: Duration) -> HeaderValue {
    let seconds = wait.as_millis().div_ceil(1000).max(1);
    HeaderValue::from(seconds as u64)
}

/// nginx's status for a client that disconnected; IANA's registry has none.
const CLIENT_CLOSED_REQUEST: StatusCode = match StatusCode::from_u16(499) {
    Ok(status) => status,
    Err(_) => panic!("between 100 and 999"),
};

/// Why a whole request fails.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ApiError {
    /// The only post of a request cannot be scored.
    #[error(transparent)]
    Post(#[from] PostRejection),

    #[error("the body is not valid UTF-8 (first invalid byte: {at}); encode it as UTF-8")]
    InvalidUtf8 { at: usize },
    #[error("the body is not valid JSON: {0}")]
    InvalidJson(String),
    #[error(
        "the JSON body is nested more than {max_depth} levels deep; send posts as plain strings"
    )]
    JsonTooDeep { max_depth: usize },
    #[error("{path} must be {expected}")]
    InvalidType {
        path: String,
        expected: &'static str,
    },
    #[error("unknown field `{0}`; expected `text`, `texts`, `long_text` or `detect_language`")]
    UnknownField(String),
    #[error("the field `{0}` appears twice; send it once")]
    DuplicateField(&'static str),
    #[error("`text` or `texts` is missing; send {{\"text\": \"...\"}} or {{\"texts\": [\"...\"]}}")]
    MissingField,
    #[error("the body has both `text` and `texts`; send one of them")]
    ConflictingFields,
    #[error("`texts` is empty; send at least one post")]
    NoTexts,
    #[error("`texts` has more than {max_posts} posts; split the request")]
    TooManyPosts { max_posts: usize },

    /// The body cannot be read as rows.
    #[error(transparent)]
    Rows(#[from] InputError),
    #[error("{0}")]
    InvalidParameter(&'static str),

    #[error("the body has more than {max_bytes} bytes; split the request")]
    BodyTooLarge { max_bytes: usize },
    #[error("the body ended early or was malformed; send it again in full")]
    IncompleteBody,
    #[error(
        "the body did not arrive within {milliseconds} ms; send a smaller body, or send it faster"
    )]
    RequestTimeout { milliseconds: u64 },
    #[error(
        "{0}; send application/json, text/plain, application/x-ndjson or text/csv in UTF-8 (curl: -H 'content-type: application/json')"
    )]
    UnsupportedMediaType(String),
    #[error("this content-encoding is not supported; send gzip or zstd, or an uncompressed body")]
    UnsupportedEncoding,
    #[error(
        "the body is truncated or does not match its content-encoding; compress it again, or send it uncompressed"
    )]
    InvalidEncoding,
    #[error(
        "the response would exceed the {max_bytes} bytes that this platform allows; send fewer posts per request"
    )]
    ResponseTooLarge { max_bytes: usize },

    #[error("`long_text` must be \"truncate\", \"window\" or \"error\"")]
    InvalidLongText,
    #[error("`detect_language` must be true or false")]
    InvalidDetectLanguage,
    #[error("x-request-timeout-ms must be a whole number of milliseconds")]
    InvalidTimeout,

    #[error(
        "a valid API key is required; send it as `Authorization: Bearer KEY` or `x-api-key: KEY`"
    )]
    Unauthorized,
    #[error(
        "there is no such route; send posts to POST /v1/sentiment, and see GET /docs for all routes"
    )]
    UnknownRoute,
    #[error("this route does not accept {0}; the Allow header lists the methods that it accepts")]
    MethodNotAllowed(Method),

    #[error("{}; try again in a moment", match cause {
        OverloadCause::PendingBytes => "request bodies fill the memory allowed for them",
        _ => "too many posts are waiting",
    })]
    Overloaded {
        retry_after: Duration,
        cause: OverloadCause,
    },
    #[error("the request cannot finish before its deadline; allow more time or send fewer posts")]
    DeadlineExceeded,
    #[error("the client closed the connection before it received the response")]
    ClientDisconnected,
    #[error("the server is shutting down; try again, and another instance will respond")]
    ShuttingDown,
    #[error("internal server error; try again, and report it to the operator if it persists")]
    Internal { cause: String },
}

impl ApiError {
    /// A handler panicked. The panic hook has already reported where.
    pub(super) fn panicked() -> Self {
        Self::Internal {
            cause: "a handler panicked".to_owned(),
        }
    }

    /// The table.
    pub(super) fn status_and_code(&self) -> (StatusCode, &'static str) {
        match self {
            Self::Post(error) => (post_status(error), error.code()),
            Self::Rows(error) => (StatusCode::BAD_REQUEST, error.code()),
            Self::InvalidParameter(_) => (StatusCode::BAD_REQUEST, "invalid_parameter"),
            Self::InvalidUtf8 { .. } => (StatusCode::BAD_REQUEST, "invalid_utf8"),
            Self::InvalidJson(_) => (StatusCode::BAD_REQUEST, "invalid_json"),
            Self::JsonTooDeep { .. } => (StatusCode::BAD_REQUEST, "json_too_deep"),
            Self::InvalidType { .. } | Self::InvalidLongText | Self::InvalidDetectLanguage => {
                (StatusCode::UNPROCESSABLE_ENTITY, "invalid_type")
            }
            Self::UnknownField(_) => (StatusCode::UNPROCESSABLE_ENTITY, "unknown_field"),
            Self::DuplicateField(_) => (StatusCode::UNPROCESSABLE_ENTITY, "duplicate_field"),
            Self::MissingField => (StatusCode::UNPROCESSABLE_ENTITY, "missing_field"),
            Self::ConflictingFields => (StatusCode::UNPROCESSABLE_ENTITY, "conflicting_fields"),
            Self::NoTexts => (StatusCode::UNPROCESSABLE_ENTITY, "no_texts"),
            Self::TooManyPosts { .. } => (StatusCode::PAYLOAD_TOO_LARGE, "too_many_posts"),
            Self::BodyTooLarge { .. } => (StatusCode::PAYLOAD_TOO_LARGE, "body_too_large"),
            Self::IncompleteBody => (StatusCode::BAD_REQUEST, "incomplete_body"),
            Self::RequestTimeout { .. } => (StatusCode::REQUEST_TIMEOUT, "request_timeout"),
            Self::UnsupportedMediaType(_) => {
                (StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type")
            }
            Self::UnsupportedEncoding => {
                (StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_encoding")
            }
            Self::Unauthorized => (StatusCode::UNAUTHORIZED, "unauthorized"),
            Self::UnknownRoute => (StatusCode::NOT_FOUND, "unknown_route"),
            Self::MethodNotAllowed(_) => (StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed"),
            Self::Overloaded { .. } => (StatusCode::TOO_MANY_REQUESTS, "overloaded"),
            Self::InvalidEncoding => (StatusCode::BAD_REQUEST, "invalid_encoding"),
            Self::ResponseTooLarge { .. } => (StatusCode::PAYLOAD_TOO_LARGE, "reply_too_large"),
            Self::InvalidTimeout => (StatusCode::BAD_REQUEST, "invalid_timeout"),
            Self::DeadlineExceeded => (StatusCode::GATEWAY_TIMEOUT, "deadline_exceeded"),
            Self::ClientDisconnected => (CLIENT_CLOSED_REQUEST, "caller_gone"),
            Self::ShuttingDown => (StatusCode::SERVICE_UNAVAILABLE, "shutting_down"),
            Self::Internal { .. } => (StatusCode::INTERNAL_SERVER_ERROR, "internal"),
        }
    }
}

/// The status of a request whose only post cannot be scored.
pub(super) fn post_status(error: &PostRejection) -> StatusCode {
    match error {
        PostRejection::Post(PostError::Empty) | PostRejection::UnsupportedLanguage { .. } => {
            StatusCode::UNPROCESSABLE_ENTITY
        }
        PostRejection::Post(PostError::TooLong { .. } | PostError::TooManyTokens { .. }) => {
            StatusCode::PAYLOAD_TOO_LARGE
        }
        PostRejection::Post(_) => StatusCode::BAD_REQUEST,
    }
}

impl From<InferError> for ApiError {
    fn from(error: InferError) -> Self {
        match error {
            InferError::Overloaded { retry_after, cause } => {
                Self::Overloaded { retry_after, cause }
            }
            InferError::DeadlineExceeded => Self::DeadlineExceeded,
            InferError::Internal(cause) => Self::Internal { cause },
        }
    }
}

impl ErrorBody {
    pub(crate) fn from_api_error(error: &ApiError) -> Self {
        Self::new(error.status_and_code().1, error.to_string())
    }
}

/// The code of an error, in the extensions of its response, for logs and metrics.
#[derive(Clone, Copy)]
pub(super) struct ErrorCode(pub(super) &'static str);

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let (status, code) = self.status_and_code();
        match &self {
            Self::Internal { cause } => tracing::error!(cause, code, "a request failed"),
            _ => log_rejection(status, code),
        }
        let mut response = error_response(status, code, self.to_string());
        let wait = match self {
            Self::Overloaded { retry_after, cause } => {
                response.extensions_mut().insert(cause);
                Some(retry_after)
            }
            Self::ShuttingDown => Some(Duration::ZERO),
            _ => None,
        };
        if let Some(wait) = wait {
            let headers = response.headers_mut();
            headers.insert(RETRY_AFTER, retry_after(wait));
        }
        if matches!(self, Self::Unauthorized) {
            let scheme = HeaderValue::from_static("Bearer");
            response.headers_mut().insert(WWW_AUTHENTICATE, scheme);
        }
        response
    }
}

/// Logs only the code, because the message may quote the request.
pub(super) fn log_rejection(status: StatusCode, code: &str) {
    tracing::debug!(status = status.as_u16(), code, "a request was rejected");
}

/// An error as the native API reports it.
pub(super) fn error_response(status: StatusCode, code: &'static str, message: String) -> Response {
    let mut response = json(status, &ErrorBody::new(code, message));
    response.extensions_mut().insert(ErrorCode(code));
    response
}

/// A JSON response. Serialization cannot fail, because all types are our own.
pub(super) fn json(status: StatusCode, body: &impl Serialize) -> Response {
    let bytes = serde_json::to_vec(body).expect("our own types are serializable");
    let content_type = (CONTENT_TYPE, HeaderValue::from_static("application/json"));
    (status, [content_type], bytes).into_response()
}
