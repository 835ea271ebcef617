//! The `tokenizers` library, for all tokenizers but BERT's.

use super::{Inner, Tokenizer};
use coldread_model::LoadError;
use std::panic::catch_unwind;
use std::path::Path;
use tokenizers::{Encoding, Token};

/// Something of what posts are made of.
const PROBE: &str = "Hi @you, it's 5 o'clock & caf\u{e9} #time http://a.b \u{1f600}\u{200d} \
                     \u{4eca}\u{65e5} \u{434}\u{430} \u{645} \u{fb01}\n\t~";

/// An id that no vocabulary has, to find out what surrounds a post's own tokens.
const PLACEHOLDER: u32 = u32::MAX;

impl Tokenizer {
    pub(super) fn library(path: &Path, json: &[u8], vocab_size: usize) -> Result<Self, LoadError> {
        // The library takes parts of a file as they are and panics when it uses them.
        let tried = catch_unwind(|| tried(json))
            .unwrap_or_else(|_| Err("the tokenizers library panics on it".into()));
        let (inner, before, after) = tried.map_err(|e| LoadError::invalid(path, e.to_string()))?;
        let tokens = inner.get_vocab_size(true);
        let inner = Inner::Library(Box::new(inner));
        Self::new(path, inner, tokens, before, after, vocab_size)
    }
}

/// The tokenizer, which has tokenized a text, and the special tokens round every text.
fn tried(json: &[u8]) -> tokenizers::Result<(tokenizers::Tokenizer, Vec<u32>, Vec<u32>)> {
    let mut inner = tokenizers::Tokenizer::from_bytes(json)?;
    inner.with_padding(None);
    inner.with_truncation(None)?;
    let (before, after) = special_tokens(&inner)?;
    inner.encode_fast(PROBE, false)?;
    Ok((inner, before, after))
}

/// The special tokens that stand before and after a single text.
fn special_tokens(inner: &tokenizers::Tokenizer) -> tokenizers::Result<(Vec<u32>, Vec<u32>)> {
    let token = Token::new(PLACEHOLDER, String::new(), (0, 0));
    let framed = inner.post_process(Encoding::from_tokens(vec![token], 0), None, true)?;
    let mut parts = framed.get_ids().split(|&id| id == PLACEHOLDER);
    match (parts.next(), parts.next(), parts.next()) {
        (Some(before), Some(after), None) => Ok((before.to_vec(), after.to_vec())),
        _ => Err("its post_processor must keep each token of a text exactly once".into()),
    }
}
