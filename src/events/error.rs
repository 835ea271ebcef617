//! Why an event fails.

use crate::http::ApiError;
use crate::wire::ErrorBody;
use std::fmt;

/// Why an invocation fails as a whole. Its code is what Lambda reports as the error's
/// type, so that state machines can tell one from another.
#[derive(thiserror::Error)]
pub enum InvocationError {
    /// Its kind is not supported.
    #[error(
        "unsupported event; supported are HTTP requests from API Gateway, Function URLs and load \
         balancers; SQS, SNS, Kinesis, DynamoDB streams and EventBridge; a list of records; \
         {{\"text\": ...}} and {{\"texts\": [...]}}; schedules"
    )]
    UnknownEvent,
    /// Its kind is supported, but it is incomplete or contradicts itself.
    #[error("malformed event: {0}")]
    MalformedEvent(&'static str),
    /// It came from a queue or a stream, and no sink for results is configured.
    #[error(
        "nothing was scored, because there is no sink for the results of queues and streams; set \
         --results (COLDREAD_RESULTS)"
    )]
    NoSink,
    /// All of its records have to be retried.
    #[error("none of the {records} records was scored and delivered; the first error is `{first}`")]
    AllFailed {
        /// How many there were.
        records: usize,
        /// The first one's code.
        first: &'static str,
    },
    /// Its posts were not scored; the message may quote the event.
    #[error("{message}")]
    Refused {
        /// One of the API's codes.
        code: &'static str,
        /// What to do about it.
        message: String,
    },
}

impl InvocationError {
    /// Something of ours failed; the cause goes to the log.
    pub(crate) fn internal(cause: String) -> Self {
        ApiError::Internal { cause }.into()
    }

    /// The response is longer than Lambda carries.
    pub(crate) fn too_large(max_bytes: usize) -> Self {
        ApiError::ResponseTooLarge { max_bytes }.into()
    }

    /// The error's stable name.
    pub fn code(&self) -> &'static str {
        match self {
            Self::UnknownEvent => "unknown_event",
            Self::MalformedEvent(_) => "malformed_event",
            Self::NoSink => "no_results_sink",
            Self::AllFailed { .. } => "all_records_failed",
            Self::Refused { code, .. } => code,
        }
    }
}

/// The code alone: the runtime logs errors so, and a message may quote the event.
impl fmt::Debug for InvocationError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

impl From<ApiError> for InvocationError {
    fn from(error: ApiError) -> Self {
        if let ApiError::Internal { cause } = &error {
            tracing::error!(cause, "event failed");
        }
        Self::Refused {
            code: ErrorBody::from_api_error(&error).code(),
            message: error.to_string(),
        }
    }
}
