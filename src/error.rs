//! What can go wrong while posts are scored; nothing here knows HTTP.
//!
//! Start-up has an error of its own, [`coldread_model::LoadError`].

/// Why one post was not scored; its neighbours in a batch are.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PostError {
    /// No text, or only white space.
    #[error("the text is empty; send at least one visible character")]
    Empty,
    /// More bytes than one post may have.
    #[error("the text has {bytes} bytes; at most {max_bytes} are taken, so shorten or split it")]
    TooLong {
        /// The post's length in bytes of UTF-8.
        bytes: usize,
        /// The limit.
        max_bytes: usize,
    },
    /// More tokens than are read, where the caller does not want it cut.
    #[error("the text has more than {max_tokens} tokens; shorten or split it")]
    TooManyTokens {
        /// The limit.
        max_tokens: usize,
    },
    /// The post is not text in UTF-8.
    #[error("the text is not valid UTF-8; re-encode it")]
    InvalidUtf8,
}

impl PostError {
    /// The error's stable name in answers and in result files.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Empty => "empty_text",
            Self::TooLong { .. } | Self::TooManyTokens { .. } => "text_too_long",
            Self::InvalidUtf8 => "invalid_utf8",
        }
    }
}

/// Why a request's posts were not scored at all.
#[derive(Debug, thiserror::Error)]
pub enum InferError {
    /// The queue is full; nothing was computed and the caller may try again.
    #[error("too many requests are waiting; try again in a moment")]
    Overloaded,
    /// The request's time is up, or too short for what it asks; what was not begun of
    /// it is not computed.
    #[error("the request's deadline is too near or has passed")]
    DeadlineExceeded,
    /// A fault of ours: the cause belongs in the log, not in the answer.
    #[error("inference failed: {0}")]
    Internal(String),
}
