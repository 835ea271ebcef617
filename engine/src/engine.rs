//! The seam between text and transformer: encoded posts in, logits out.
//!
//! [`Int8Engine`](crate::encoder::Int8Engine) stands behind it in this crate: packed int8
//! weights on kernels of our own. The crate `coldread-candle` has another, in f32.

use crate::error::EngineError;
use coldread_model::layout::WeightRange;

/// Encoded posts laid end to end, without padding.
///
/// Post `i` is `input_ids[cu_seqlens[i]..cu_seqlens[i + 1]]`, so `cu_seqlens`
/// holds one more entry than there are posts and begins with 0. No post is empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EncodedBatch {
    input_ids: Vec<u32>,
    cu_seqlens: Vec<u32>,
}

impl Default for EncodedBatch {
    fn default() -> Self {
        Self {
            input_ids: Vec::new(),
            cu_seqlens: vec![0],
        }
    }
}

impl EncodedBatch {
    /// Adds one post's tokens, special tokens included.
    ///
    /// # Panics
    /// If there are none: an engine reads its output at the first token.
    pub fn push(&mut self, input_ids: &[u32]) {
        assert!(
            !input_ids.is_empty(),
            "an encoded post has at least one token"
        );
        self.input_ids.extend_from_slice(input_ids);
        self.cu_seqlens.push(self.input_ids.len() as u32);
    }

    /// Empties the batch and keeps its memory.
    pub fn clear(&mut self) {
        self.input_ids.clear();
        self.cu_seqlens.truncate(1);
    }

    /// All tokens, post after post.
    pub fn input_ids(&self) -> &[u32] {
        &self.input_ids
    }

    /// Where each post begins, and at last where the last one ends.
    pub fn cu_seqlens(&self) -> &[u32] {
        &self.cu_seqlens
    }

    /// How many posts the batch holds.
    pub fn len(&self) -> usize {
        self.cu_seqlens.len() - 1
    }

    /// Whether the batch holds no post.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many tokens the batch holds.
    pub fn num_tokens(&self) -> usize {
        self.input_ids.len()
    }

    /// The tokens of each post in turn.
    pub fn posts(&self) -> impl Iterator<Item = &[u32]> {
        self.cu_seqlens
            .windows(2)
            .map(|ends| &self.input_ids[ends[0] as usize..ends[1] as usize])
    }
}

/// What an engine is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EngineInfo {
    /// `"int8"`, `"candle-f32"` or `"candle-gguf"`.
    pub engine: &'static str,
    /// The instruction set its kernels use, where it has kernels of its own.
    pub isa: Option<&'static str>,
    /// The range of its int8 weights, which decides on the kernels of the instruction set.
    pub weight_range: Option<WeightRange>,
    /// How many threads one batch is spread over.
    pub threads: usize,
    /// Whether a batch of posts is faster than its posts one by one. Where it is not, a server
    /// runs them one by one, so that deadlines and cancellation count between posts.
    pub batches: bool,
}

/// A loaded transformer with its classification head.
///
/// An engine is used by one thread at a time and owns its scratch memory; the
/// weights are shared between an engine and its [forks](Engine::fork).
pub trait Engine: Send + Sync {
    /// Appends the logits of every post of `batch`, `[posts, num_labels]` row-major.
    ///
    /// Every id must be below the model's `vocab_size` and no post longer than its
    /// `max_tokens`; the classifier sees to both.
    fn forward(&mut self, batch: &EncodedBatch, logits: &mut Vec<f32>) -> Result<(), EngineError>;

    /// Another engine on the same weights, for another thread.
    fn fork(&self) -> Box<dyn Engine>;

    /// What the engine is.
    fn info(&self) -> EngineInfo;
}
