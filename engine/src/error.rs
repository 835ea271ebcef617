//! What can go wrong while posts are scored.
//!
//! Loading a model has an error of its own, [`LoadError`](crate::LoadError).

use std::error::Error;

/// Why one post was not scored. Its neighbours in a batch are.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PostError {
    /// The post has no text, or only white space.
    #[error("the text is empty; send at least one visible character")]
    Empty,
    /// The post has more bytes than [`ModelOptions::max_post_bytes`](crate::ModelOptions::max_post_bytes).
    #[error("the text has {bytes} bytes; at most {max_bytes} are allowed, so shorten or split it")]
    TooLong {
        /// The post's length in bytes of UTF-8.
        bytes: usize,
        /// The limit.
        max_bytes: usize,
    },
    /// The post has more tokens than may be read, and it was not to be truncated.
    #[error("the text has more than {max_tokens} tokens; shorten or split it")]
    TooManyTokens {
        /// The limit.
        max_tokens: usize,
    },
}

impl PostError {
    /// A stable name for programs: `empty_text` or `text_too_long`.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Empty => "empty_text",
            Self::TooLong { .. } | Self::TooManyTokens { .. } => "text_too_long",
        }
    }
}

/// Why a whole batch was not scored, through no fault of a post.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EngineError {
    /// A token id that the model has no embedding for: tokenizer and weights do not belong together.
    #[error("token id {id} is not below the model's vocab_size, {vocab_size}")]
    TokenId {
        /// The token id.
        id: u32,
        /// How many ids the model has.
        vocab_size: usize,
    },
    /// An encoded post is longer than the model can read.
    #[error("an encoded post has {tokens} tokens; the model reads at most {max_tokens}")]
    TooManyTokens {
        /// Tokens of the post.
        tokens: usize,
        /// The model's limit.
        max_tokens: usize,
    },
    /// The special tokens leave a post no room.
    #[error(
        "max_tokens is {max_tokens}; it must be larger than the number of special tokens, {special_tokens}"
    )]
    NoRoom {
        /// The most tokens of an encoded post.
        max_tokens: usize,
        /// How many of them are special.
        special_tokens: usize,
    },
    /// The tokenizer failed.
    #[error("the tokenizer failed")]
    Tokenizer(#[source] Box<dyn Error + Send + Sync>),
    /// An engine outside this crate failed.
    #[error("the engine failed")]
    Backend(#[source] Box<dyn Error + Send + Sync>),
}
