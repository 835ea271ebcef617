//! Where a text can be cut without changing its tokens.
//!
//! A post may be far longer than the tokens kept of it. Tokenizing it in pieces
//! lets the tokenizer stop early, but not every tokenizer can be cut anywhere,
//! so this is done only where it is provably safe: for BERT's, which splits at
//! white space, at punctuation and round CJK ideographs whatever stands beside
//! them. Every other tokenizer gets the whole text, and the limit on a post's
//! bytes bounds the cost.

use tokenizers::{ModelWrapper, NormalizerWrapper, PreTokenizerWrapper};

/// The ASCII characters behind which a text may be cut.
#[derive(Debug, Clone)]
pub(super) struct Boundaries {
    is_boundary: [bool; 128],
}

impl Boundaries {
    /// The boundaries of a BERT tokenizer, `None` for any other.
    ///
    /// Added tokens (`[SEP]` in a post is one token) are matched before the text
    /// is split, so what occurs in one is no boundary, and one that holds white
    /// space or anything beyond ASCII rules cutting out.
    pub(super) fn of(tokenizer: &tokenizers::Tokenizer) -> Option<Self> {
        let is_bert = matches!(tokenizer.get_model(), ModelWrapper::WordPiece(_))
            && matches!(
                tokenizer.get_normalizer(),
                Some(NormalizerWrapper::BertNormalizer(n)) if n.handle_chinese_chars
            )
            && matches!(
                tokenizer.get_pre_tokenizer(),
                Some(PreTokenizerWrapper::BertPreTokenizer(_))
            );
        if !is_bert {
            return None;
        }
        let mut is_boundary = [false; 128];
        is_boundary[usize::from(b' ')] = true;
        for byte in (0..128_u8).filter(u8::is_ascii_punctuation) {
            is_boundary[usize::from(byte)] = true;
        }
        for token in tokenizer.get_added_tokens_decoder().values() {
            if !token.content.bytes().all(|b| b.is_ascii_graphic()) {
                return None;
            }
            for byte in token.content.bytes() {
                is_boundary[usize::from(byte)] = false;
            }
        }
        Some(Self { is_boundary })
    }

    /// The length of the first piece of `text`: up to the first boundary at or
    /// after `size` bytes, or all of it.
    pub(super) fn cut(&self, text: &str, size: usize) -> usize {
        if text.len() <= size {
            return text.len();
        }
        text.char_indices()
            .skip_while(|&(i, _)| i < size)
            .find(|&(_, c)| self.is_boundary(c))
            .map_or(text.len(), |(i, c)| i + c.len_utf8())
    }

    fn is_boundary(&self, c: char) -> bool {
        match self.is_boundary.get(c as usize) {
            Some(&is_boundary) => is_boundary,
            // Ideographs stand alone too: the common part of BERT's ranges.
            None => matches!(c, '\u{4e00}'..='\u{9fff}'),
        }
    }
}
