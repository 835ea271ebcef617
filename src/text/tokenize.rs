//! Text to token ids, exactly as transformers' tokenizers do it.
//!
//! The `tokenizers` library does the work; this module adds what a service
//! needs round it: a refusal at start of what could not run, our own truncation
//! in place of whatever the file asks for, and a bound on the cost of a post
//! that is far longer than what is kept of it.

mod chunk;

use self::chunk::Boundaries;
use crate::error::InferError;
use coldread_model::LoadError;
use std::path::Path;
use tokenizers::{Encoding, Token};

/// An id that no vocabulary has, to find out what surrounds a post's own tokens.
const PLACEHOLDER: u32 = u32::MAX;

/// Whether tokens at a post's end were dropped because it has too many.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Truncated(pub bool);

/// A model's tokenizer.
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    vocab_size: usize,
    /// The special tokens before a post's own, `[CLS]` in BERT.
    before: Vec<u32>,
    /// The special tokens after them, `[SEP]` in BERT.
    after: Vec<u32>,
    /// Where a text may be cut without changing its tokens, where that is known.
    boundaries: Option<Boundaries>,
}

impl Tokenizer {
    /// Reads a `tokenizer.json`, whose `path` is only named in errors.
    ///
    /// Padding and truncation settings in it are ignored. It is refused when it
    /// has more tokens than the model has embeddings (`vocab_size`).
    pub fn from_bytes(path: &Path, json: &[u8], vocab_size: usize) -> Result<Self, LoadError> {
        let invalid = |e: tokenizers::Error| LoadError::invalid(path, e.to_string());
        let mut inner = tokenizers::Tokenizer::from_bytes(json).map_err(invalid)?;
        inner.with_padding(None);
        inner.with_truncation(None).map_err(invalid)?;
        let tokens = inner.get_vocab_size(true);
        if tokens > vocab_size {
            return Err(LoadError::invalid(
                path,
                format!("{tokens} tokens, but the model's vocab_size is {vocab_size}"),
            ));
        }
        let (before, after) = special_tokens(&inner).map_err(invalid)?;
        if let Some(id) = before
            .iter()
            .chain(&after)
            .find(|&&id| id as usize >= vocab_size)
        {
            return Err(LoadError::invalid(
                path,
                format!("special token {id} is not below the model's vocab_size, {vocab_size}"),
            ));
        }
        Ok(Self {
            boundaries: Boundaries::of(&inner),
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

    /// Replaces `input_ids` by the text's tokens, special tokens included.
    ///
    /// Of a text with more than `max_tokens` the last ones are dropped, special
    /// tokens apart: what transformers gives for `truncation=True,
    /// max_length=max_tokens`.
    pub fn encode(
        &self,
        normalized: &str,
        max_tokens: usize,
        input_ids: &mut Vec<u32>,
    ) -> Result<Truncated, InferError> {
        let specials = self.num_special_tokens();
        if max_tokens <= specials {
            return Err(InferError::Internal(format!(
                "max_tokens is {max_tokens}, which leaves no room beside {specials} special tokens"
            )));
        }
        let end = max_tokens - self.after.len();
        input_ids.clear();
        input_ids.extend_from_slice(&self.before);
        for chunk in self.chunks(normalized, max_tokens) {
            let encoding = self
                .inner
                .encode_fast(chunk, false)
                .map_err(|e| InferError::Internal(format!("tokenization: {e}")))?;
            input_ids.extend_from_slice(encoding.get_ids());
            if input_ids.len() > end {
                break;
            }
        }
        let truncated = input_ids.len() > end;
        input_ids.truncate(end);
        input_ids.extend_from_slice(&self.after);
        self.check_range(input_ids)?;
        Ok(Truncated(truncated))
    }

    /// The text in pieces whose tokens, end to end, are those of the whole.
    fn chunks<'a>(&'a self, text: &'a str, max_tokens: usize) -> impl Iterator<Item = &'a str> {
        let mut rest = text;
        std::iter::from_fn(move || {
            let length = match &self.boundaries {
                _ if rest.is_empty() => return None,
                // Ordinary text has some four bytes a token, so that one piece does.
                Some(boundaries) => boundaries.cut(rest, 4 * max_tokens),
                None => rest.len(),
            };
            let (chunk, tail) = rest.split_at(length);
            rest = tail;
            Some(chunk)
        })
    }

    /// A vocabulary with gaps can pass the check of its size and still have ids
    /// beyond it, and finding the greatest at start would copy every token.
    fn check_range(&self, input_ids: &[u32]) -> Result<(), InferError> {
        match input_ids.iter().find(|&&id| id as usize >= self.vocab_size) {
            None => Ok(()),
            Some(id) => Err(InferError::Internal(format!(
                "the tokenizer gave id {id}, but the model's vocab_size is {}",
                self.vocab_size
            ))),
        }
    }
}

/// The special tokens that stand before and after a single text.
fn special_tokens(inner: &tokenizers::Tokenizer) -> tokenizers::Result<(Vec<u32>, Vec<u32>)> {
    let token = Token::new(PLACEHOLDER, String::new(), (0, 0));
    let framed = inner.post_process(Encoding::from_tokens(vec![token], 0), None, true)?;
    let mut parts = framed.get_ids().split(|&id| id == PLACEHOLDER);
    match (parts.next(), parts.next(), parts.next()) {
        (Some(before), Some(after), None) => Ok((before.to_vec(), after.to_vec())),
        _ => Err("its post_processor does not keep a text's tokens once".into()),
    }
}

#[cfg(test)]
mod tests;
