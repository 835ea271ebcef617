//! The `tokenizers` library, for all tokenizers but BERT's.

use super::{Inner, Tokenizer};
use coldread_model::LoadError;
use std::path::Path;
use tokenizers::{Encoding, Token};

/// An id that no vocabulary has, to find out what surrounds a post's own tokens.
const PLACEHOLDER: u32 = u32::MAX;

impl Tokenizer {
    pub(super) fn library(path: &Path, json: &[u8], vocab_size: usize) -> Result<Self, LoadError> {
        let invalid = |e: tokenizers::Error| LoadError::invalid(path, e.to_string());
        let mut inner = tokenizers::Tokenizer::from_bytes(json).map_err(invalid)?;
        inner.with_padding(None);
        inner.with_truncation(None).map_err(invalid)?;
        let (before, after) = special_tokens(&inner).map_err(invalid)?;
        let tokens = inner.get_vocab_size(true);
        let inner = Inner::Library(Box::new(inner));
        Self::new(path, inner, tokens, before, after, vocab_size)
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
