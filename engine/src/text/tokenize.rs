//! Text to token ids, exactly as transformers' tokenizers do it.
//!
//! The tokenizers of BERT ([`wordpiece`]) and XLM-RoBERTa ([`unigram`]) are our own: in a
//! packed model they are ready at once, and they stop where the model stops reading. The
//! `tokenizers` library runs all others. Around them, this module adds what a service
//! needs: a rejection at start of what could not run, and our own truncation in place of
//! whatever the file asks for.

#[cfg(feature = "tokenizers")]
mod library;
mod unigram;
mod wordpiece;

use self::unigram::Unigram;
use self::wordpiece::WordPiece;
use crate::error::EngineError;
use coldread_model::packed::PackedTokenizer;
use coldread_model::{LoadError, PackedModel};
use serde_json::Value;
use std::error::Error;
use std::path::Path;

/// Whether tokens at a post's end were dropped because it has too many.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Truncated(pub bool);

/// Appends the tokens of a text.
type Encode = dyn Fn(&str, &mut Vec<u32>) -> Result<(), Box<dyn Error + Send + Sync>> + Send + Sync;

/// A model's tokenizer.
pub struct Tokenizer {
    inner: Inner,
    vocab_size: usize,
    /// The special tokens before a post's own, `[CLS]` in BERT.
    before: Vec<u32>,
    /// The special tokens after them, `[SEP]` in BERT.
    after: Vec<u32>,
}

enum Inner {
    WordPiece(Box<WordPiece>),
    Unigram(Box<Unigram>),
    Custom(Box<Encode>),
    #[cfg(feature = "tokenizers")]
    Library(Box<tokenizers::Tokenizer>),
}

impl Tokenizer {
    /// The tokenizer of a packed model.
    pub fn from_packed(model: &PackedModel) -> Result<Self, LoadError> {
        let (path, vocab_size) = (model.path(), model.config().vocab_size);
        match model.tokenizer() {
            PackedTokenizer::WordPiece(..) => {
                Self::wordpiece(path, WordPiece::from_packed(model), vocab_size)
            }
            PackedTokenizer::Unigram(..) => {
                Self::unigram(path, Unigram::from_packed(model), vocab_size)
            }
            PackedTokenizer::Json(json) => Self::from_bytes(path, json, vocab_size),
        }
    }

    /// Reads a `tokenizer.json`, whose `path` is only named in errors.
    ///
    /// Padding and truncation settings in it are ignored. It is rejected when it
    /// has more tokens than the model has embeddings (`vocab_size`).
    pub fn from_bytes(path: &Path, json: &[u8], vocab_size: usize) -> Result<Self, LoadError> {
        let value: Option<Value> = serde_json::from_slice(json).ok();
        if let Some(own) = value.as_ref().and_then(WordPiece::compile) {
            Self::wordpiece(path, own, vocab_size)
        } else if let Some(own) = value.as_ref().and_then(Unigram::compile) {
            Self::unigram(path, own, vocab_size)
        } else {
            // The library makes its own copy of it.
            drop(value);
            Self::library(path, json, vocab_size)
        }
    }

    fn wordpiece(path: &Path, own: WordPiece, vocab_size: usize) -> Result<Self, LoadError> {
        let (tokens, (before, after)) = (own.num_ids(), own.special_tokens());
        let inner = Inner::WordPiece(Box::new(own));
        Self::new(path, inner, tokens, before, after, vocab_size)
    }

    fn unigram(path: &Path, own: Unigram, vocab_size: usize) -> Result<Self, LoadError> {
        let (tokens, (before, after)) = (own.num_ids(), own.special_tokens());
        let inner = Inner::Unigram(Box::new(own));
        Self::new(path, inner, tokens, before, after, vocab_size)
    }

    /// A tokenizer of the caller's own without special tokens: `encode` appends a text's tokens,
    /// which are below `vocab_size`. It should not stop early: the crate truncates.
    pub fn custom(
        encode: impl Fn(&str, &mut Vec<u32>) -> Result<(), Box<dyn Error + Send + Sync>>
        + Send
        + Sync
        + 'static,
        vocab_size: usize,
    ) -> Self {
        Self {
            inner: Inner::Custom(Box::new(encode)),
            vocab_size,
            before: Vec::new(),
            after: Vec::new(),
        }
    }

    #[cfg(not(feature = "tokenizers"))]
    fn library(path: &Path, _json: &[u8], _vocab_size: usize) -> Result<Self, LoadError> {
        Err(LoadError::unsupported(
            path,
            "its tokenizer is neither BERT's nor XLM-RoBERTa's, and this build has no other; \
             build it with --features full",
        ))
    }

    fn new(
        path: &Path,
        inner: Inner,
        tokens: usize,
        before: Vec<u32>,
        after: Vec<u32>,
        vocab_size: usize,
    ) -> Result<Self, LoadError> {
        if tokens > vocab_size {
            return Err(LoadError::invalid(
                path,
                format!("{tokens} tokens, but the model's vocab_size is {vocab_size}"),
            ));
        }
        let mut specials = before.iter().chain(&after);
        if let Some(id) = specials.find(|&&id| id as usize >= vocab_size) {
            return Err(LoadError::invalid(
                path,
                format!("special token {id} is not below the model's vocab_size, {vocab_size}"),
            ));
        }
        Ok(Self {
            inner,
            vocab_size,
            before,
            after,
        })
    }

    /// How many special tokens surround every text.
    pub fn num_special_tokens(&self) -> usize {
        self.before.len() + self.after.len()
    }

    /// The special tokens before and after every text.
    pub fn special_tokens(&self) -> (&[u32], &[u32]) {
        (&self.before, &self.after)
    }

    /// Replaces `input_ids` by the text's tokens, special tokens included.
    ///
    /// Of a text with more than `max_tokens` the last ones are dropped, special
    /// tokens apart: what transformers gives for `truncation=True,
    /// max_length=max_tokens`.
    ///
    /// # Errors
    /// If `max_tokens` leaves no room beside the special tokens, or the tokenizer fails.
    pub fn encode(
        &self,
        normalized: &str,
        max_tokens: usize,
        input_ids: &mut Vec<u32>,
    ) -> Result<Truncated, EngineError> {
        let specials = self.num_special_tokens();
        if max_tokens <= specials {
            return Err(EngineError::NoRoom {
                max_tokens,
                special_tokens: specials,
            });
        }
        let end = max_tokens - self.after.len();
        input_ids.clear();
        input_ids.extend_from_slice(&self.before);
        match &self.inner {
            Inner::WordPiece(wordpiece) => wordpiece.encode(normalized, end, input_ids),
            Inner::Unigram(unigram) => unigram.encode(normalized, end, input_ids),
            Inner::Custom(encode) => {
                encode(normalized, input_ids).map_err(EngineError::Tokenizer)?;
            }
            #[cfg(feature = "tokenizers")]
            Inner::Library(tokenizer) => {
                let encoding = tokenizer
                    .encode_fast(normalized, false)
                    .map_err(EngineError::Tokenizer)?;
                input_ids.extend_from_slice(encoding.get_ids());
            }
        }
        let truncated = input_ids.len() > end;
        input_ids.truncate(end);
        input_ids.extend_from_slice(&self.after);
        self.check_range(input_ids)?;
        Ok(Truncated(truncated))
    }

    /// A vocabulary with gaps can pass the check of its size and still have ids
    /// beyond it, and finding the greatest at start would copy every token.
    fn check_range(&self, input_ids: &[u32]) -> Result<(), EngineError> {
        match input_ids.iter().find(|&&id| id as usize >= self.vocab_size) {
            None => Ok(()),
            Some(&id) => Err(EngineError::TokenId {
                id,
                vocab_size: self.vocab_size,
            }),
        }
    }
}

#[cfg(test)]
mod tests;
