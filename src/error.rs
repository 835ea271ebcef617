//! Errors of requests, independent of HTTP.
//!
//! Start-up has an error of its own, [`coldread_engine::LoadError`].

use coldread_engine::{EngineError, PostError};
use std::error::Error;

/// Why one post was not scored. Its neighbours in a batch are.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PostRejection {
    /// The classifier cannot score it.
    #[error(transparent)]
    Post(#[from] PostError),
    /// No model was trained for its language, and such posts are rejected.
    #[error("the model was not trained for the language of the text ({language})")]
    UnsupportedLanguage {
        /// The post's language.
        language: &'static str,
    },
}

impl PostRejection {
    /// A stable name for programs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Post(error) => error.code(),
            Self::UnsupportedLanguage { .. } => "unsupported_language",
        }
    }
}

/// Why a request's posts were not scored at all.
#[derive(Debug, thiserror::Error)]
pub enum InferError {
    /// The request would wait too long; nothing was computed and the client may try again.
    #[error("too many posts are waiting; try again in a moment")]
    Overloaded {
        /// When there will probably be room.
        retry_after: std::time::Duration,
        /// Which limit was reached.
        cause: OverloadCause,
    },
    /// The request's deadline has passed or cannot be met. Posts that were not begun are not
    /// computed.
    #[error("the request cannot finish before its deadline; allow more time or send fewer posts")]
    DeadlineExceeded,
    /// An internal error. The cause goes to the log, not into the response.
    #[error("inference failed: {0}")]
    Internal(String),
}

/// Which limit an overloaded server has reached; the setting has the same name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OverloadCause {
    /// The expected wait exceeds `--max-queue-wait-ms`.
    QueueWait,
    /// `--max-pending-posts` posts are pending.
    PendingPosts,
    /// Request bodies fill `--max-pending-bytes`.
    PendingBytes,
}

impl OverloadCause {
    /// The name in logs and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::QueueWait => "queue_wait",
            Self::PendingPosts => "pending_posts",
            Self::PendingBytes => "pending_bytes",
        }
    }
}

impl From<EngineError> for InferError {
    fn from(error: EngineError) -> Self {
        let mut cause = error.to_string();
        let mut next = error.source();
        while let Some(error) = next {
            cause = format!("{cause}: {error}");
            next = error.source();
        }
        Self::Internal(cause)
    }
}
