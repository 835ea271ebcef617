//! Why a request's posts were not scored; nothing here knows HTTP.
//!
//! Start-up has an error of its own, [`coldread_engine::LoadError`], and so has a single
//! post, [`coldread_engine::PostError`].

use coldread_engine::EngineError;
use std::error::Error;

/// Why a request's posts were not scored at all.
#[derive(Debug, thiserror::Error)]
pub enum InferError {
    /// The request would wait too long; nothing was computed and the client may try again.
    #[error("too many posts are waiting; try again in a moment")]
    Overloaded {
        /// When there will probably be room.
        retry_after: std::time::Duration,
    },
    /// The request's deadline has passed, or is too near for what it asks; what was not begun of
    /// it is not computed.
    #[error("the request cannot finish before its deadline; allow more time or send fewer posts")]
    DeadlineExceeded,
    /// A fault of ours: the cause belongs in the log, not in the response.
    #[error("inference failed: {0}")]
    Internal(String),
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
