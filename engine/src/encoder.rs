//! The transformer on packed int8 weights: a ragged batch in, logits out.
//!
//! A batch is its posts' tokens end to end. Linear layers and row-wise work run over
//! the rows of a chunk of whole posts, attention over one post at a time; there is no
//! padding, so nothing is computed for it. A row's result depends on that row (and, in
//! attention, on its post) alone, and so logits are the same bit for bit in any batch,
//! order, chunk or thread, and on any instruction set (see [`crate::kernels`]).
//!
//! - **Chunks.** Weights stream once through the cache for each chunk, while the chunk's
//!   activations should stay in L2: [`TOKEN_BUDGET`] tokens balance the two.
//! - **The last layer** computes query, attention output and feed-forward for each
//!   post's first token alone, for the head reads nothing else. That is exact.
//! - **Memory** belongs to a worker ([`forward`]'s `Worker`), grows to the largest chunk
//!   seen and is used again: a steady state allocates nothing.
//! - **Threads** share nothing but weights. A big batch is cut into contiguous ranges of
//!   posts, one a thread, each with its own worker and its own part of the output.

mod forward;
mod packed;
#[cfg(test)]
mod tests;

use crate::engine::{EncodedBatch, Engine, EngineInfo};
use crate::error::EngineError;
use crate::kernels::Kernels;
use coldread_model::ModelConfig;
use coldread_model::layout::{Embeddings, Head, Layer, WeightRange};
use forward::Worker;
use std::ops::Range;
use std::sync::Arc;

/// Tokens of a chunk, unless one post alone has more.
pub const TOKEN_BUDGET: usize = 96;

/// Fewer tokens than this are not worth another thread, which costs some 50 us.
const TOKENS_PER_THREAD: usize = 64;

/// A packed model: lends its weights as views, whose sizes agree with its
/// configuration and whose weights are within their range.
pub trait Weights: Send + Sync {
    /// Sizes, activation, labels.
    fn config(&self) -> &ModelConfig;
    /// Word and position embeddings.
    fn embeddings(&self) -> Embeddings<'_>;
    /// Encoder layer `index`, below `num_hidden_layers`.
    fn layer(&self, index: usize) -> Layer<'_>;
    /// The classification head.
    fn head(&self) -> Head<'_>;
    /// The range that all linear layers' weights are within.
    fn weight_range(&self) -> WeightRange {
        let layers = (0..self.config().num_hidden_layers).map(|i| self.layer(i));
        let linears = layers.flat_map(|l| [l.qkv, l.attention_output, l.intermediate, l.output]);
        let linears = linears.chain(self.embeddings().projection);
        linears.map(|linear| linear.range).min().unwrap_or_default()
    }
}

/// The int8 engine.
pub struct Int8Engine {
    model: Arc<dyn Weights>,
    kernels: Kernels,
    token_budget: usize,
    /// One a thread.
    workers: Vec<Worker>,
}

impl Int8Engine {
    /// An engine that spreads big batches over `threads` threads and runs the instruction set
    /// of `kernels` with the kernels that suit the model's weights best.
    pub fn new(model: Arc<dyn Weights>, kernels: Kernels, threads: usize) -> Self {
        let kernels = kernels.for_weights(model.weight_range());
        let workers = (0..threads.max(1)).map(|_| Worker::default()).collect();
        Self {
            model,
            kernels,
            token_budget: TOKEN_BUDGET,
            workers,
        }
    }

    /// With chunks of another size; results do not depend on it.
    #[must_use]
    pub fn with_token_budget(mut self, tokens: usize) -> Self {
        self.token_budget = tokens.max(1);
        self
    }

    fn check(&self, batch: &EncodedBatch) -> Result<(), EngineError> {
        let config = self.model.config();
        let bad_id = batch
            .input_ids()
            .iter()
            .find(|&&id| id as usize >= config.vocab_size);
        if let Some(&id) = bad_id {
            let vocab_size = config.vocab_size;
            return Err(EngineError::TokenId { id, vocab_size });
        }
        let tokens = batch.posts().map(<[u32]>::len).max().unwrap_or(0);
        let max_tokens = config.max_tokens;
        if tokens > max_tokens {
            return Err(EngineError::TooManyTokens { tokens, max_tokens });
        }
        Ok(())
    }
}

impl Engine for Int8Engine {
    fn forward(&mut self, batch: &EncodedBatch, logits: &mut Vec<f32>) -> Result<(), EngineError> {
        self.check(batch)?;
        let labels = self.model.head().classifier.n;
        let start = logits.len();
        logits.resize(start + batch.len() * labels, 0.0);
        let mut rest = &mut logits[start..];

        let (model, kernels, budget) = (&*self.model, self.kernels, self.token_budget);
        let threads = self
            .workers
            .len()
            .min(batch.num_tokens() / TOKENS_PER_THREAD)
            .max(1);
        if threads == 1 {
            self.workers[0].run(model, kernels, budget, batch, 0..batch.len(), rest);
            return Ok(());
        }
        std::thread::scope(|scope| {
            let mut next = 0;
            for (i, worker) in self.workers[..threads].iter_mut().enumerate() {
                let posts = share(batch, next, i + 1, threads);
                next = posts.end;
                let (mine, others) = rest.split_at_mut(posts.len() * labels);
                rest = others;
                let work = move || worker.run(model, kernels, budget, batch, posts, mine);
                if i + 1 == threads {
                    work();
                } else {
                    scope.spawn(work);
                }
            }
        });
        Ok(())
    }

    fn fork(&self) -> Box<dyn Engine> {
        let fork = Self::new(Arc::clone(&self.model), self.kernels, self.workers.len());
        Box::new(fork.with_token_budget(self.token_budget))
    }

    fn info(&self) -> EngineInfo {
        EngineInfo {
            batches: true,
            engine: "int8",
            isa: Some(self.kernels.isa().name()),
            weight_range: Some(self.model.weight_range()),
            threads: self.workers.len(),
        }
    }
}

/// Thread `i`'s posts (counted from 1): from `first` until its share of all tokens.
fn share(batch: &EncodedBatch, first: usize, i: usize, threads: usize) -> Range<usize> {
    let end = batch.num_tokens() * i / threads;
    let ends = &batch.cu_seqlens()[1..];
    let posts = ends[first..].partition_point(|&e| e as usize <= end);
    let last = if i == threads {
        batch.len()
    } else {
        first + posts
    };
    first..last
}

/// Cuts posts into chunks of whole posts with at most `budget` tokens where possible.
fn chunks(
    batch: &EncodedBatch,
    posts: Range<usize>,
    budget: usize,
) -> impl Iterator<Item = Range<usize>> {
    let ends = batch.cu_seqlens();
    let mut next = posts.start;
    std::iter::from_fn(move || {
        let first = next;
        if first >= posts.end {
            return None;
        }
        next += 1;
        while next < posts.end && (ends[next + 1] - ends[first]) as usize <= budget {
            next += 1;
        }
        Some(first..next)
    })
}
