//! Where async meets threads: requests wait in a bounded queue, worker threads score
//! them.
//!
//! **Work-conserving.** An idle worker starts on whatever is there at once; while all
//! are busy requests queue up, and the next free worker takes as many posts together
//! as [`BatchOptions::max_batch_tokens`] allows. Nobody waits for a batch to fill,
//! unless [`BatchOptions::batch_wait`] says so.
//!
//! **Fair.** Workers take one post of each waiting request in turn. A request of a
//! thousand posts is so cut into many batches, and a single post that comes later is
//! in the very next one.
//!
//! **Bounded.** Posts are admitted while fewer than
//! [`BatchOptions::max_pending_posts`] wait or are in work, whoever asks and for how
//! many: one rule for one post and for many, so that neither starves the other. What
//! is pending can exceed the limit by one request.
//!
//! Invariants: every accepted request is answered exactly once; posts whose caller
//! has gone, or whose deadline cannot be met, are not computed; a panic in the engine
//! fails the request that caused it and no other.

mod queue;
mod response;
#[cfg(test)]
mod tests;
mod worker;

pub use response::BatchResponse;

use crate::error::InferError;
use crate::telemetry::Metrics;
use coldread_engine::engine::EngineInfo;
use coldread_engine::{Classifier, LongText, ModelInfo};
use queue::{Queue, Request};
use std::num::NonZeroUsize;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How batches are made and how much may wait.
#[derive(Debug, Clone, Copy)]
pub struct BatchOptions {
    /// Posts that may wait or be in work before requests are refused.
    pub max_pending_posts: NonZeroUsize,
    /// A batch takes no further post once it has this many tokens.
    pub max_batch_tokens: NonZeroUsize,
    /// How long a batch that is not full waits for more posts.
    pub batch_wait: Duration,
    /// Worker threads at most. All but the first are started when they are needed.
    pub workers: NonZeroUsize,
}

/// On what options posts are scored.
#[derive(Debug, Clone, Copy, Default)]
pub struct RequestOptions {
    /// After this there is no answer, and work that cannot be done by then is not begun.
    pub deadline: Option<Instant>,
    /// What is done with posts of more tokens than the model takes.
    pub long_text: LongText,
}

/// A handle to the queue; clones share it. The workers end with the last handle.
#[derive(Clone)]
pub struct Batcher(Arc<Handle>);

struct Handle {
    shared: Arc<Shared>,
    model: Arc<ModelInfo>,
    engine: EngineInfo,
    max_post_bytes: usize,
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.shared.lock().close();
        self.shared.posts_came.notify_all();
    }
}

/// What the handles and the workers share.
struct Shared {
    queue: Mutex<Queue>,
    posts_came: Condvar,
    options: BatchOptions,
    metrics: Arc<Metrics>,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        // Nothing that can panic runs while it is held.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Batcher {
    /// Starts the first worker thread. Batches are counted in `metrics`.
    pub fn start(classifier: Classifier, options: BatchOptions, metrics: Arc<Metrics>) -> Self {
        let handle = Handle {
            model: Arc::clone(classifier.model().info()),
            engine: classifier.model().engine_info(),
            max_post_bytes: classifier.model().max_post_bytes(),
            shared: Arc::new(Shared {
                queue: Mutex::new(Queue::new(classifier.clone())),
                posts_came: Condvar::new(),
                options,
                metrics,
            }),
        };
        worker::start(&handle.shared, classifier).expect("the system can start one thread");
        Self(Arc::new(handle))
    }

    /// What the model is.
    pub fn model(&self) -> &Arc<ModelInfo> {
        &self.0.model
    }

    /// What runs it.
    pub fn engine(&self) -> &EngineInfo {
        &self.0.engine
    }

    /// The longest post taken, in bytes.
    pub fn max_post_bytes(&self) -> usize {
        self.0.max_post_bytes
    }

    /// How batches are made and how much may wait.
    pub fn options(&self) -> &BatchOptions {
        &self.0.shared.options
    }

    /// Where this process counts.
    pub fn metrics(&self) -> &Metrics {
        &self.0.shared.metrics
    }

    /// Posts that are queued or being scored now.
    pub fn pending_posts(&self) -> usize {
        self.0.shared.lock().pending_posts()
    }

    /// Whether a request that came now would be refused.
    pub fn is_full(&self) -> bool {
        self.pending_posts() >= self.options().max_pending_posts.get()
    }

    /// Scores posts; the results stand in their order.
    ///
    /// Dropping the future takes back what no worker has begun.
    pub async fn classify(
        &self,
        posts: Vec<String>,
        options: RequestOptions,
    ) -> Result<BatchResponse, InferError> {
        if posts.is_empty() {
            return Ok(BatchResponse::default());
        }
        let shared = &self.0.shared;
        let (request, answered) = Request::new(posts, options, &self.0.model);
        let id = {
            let mut queue = shared.lock();
            let id = queue.admit(request, &shared.options)?;
            worker::wake(shared, &mut queue);
            id
        };
        let withdraw = Withdraw { shared, id };
        let answer = match options.deadline {
            None => answered.await,
            Some(deadline) => tokio::time::timeout_at(deadline.into(), answered)
                .await
                .map_err(|_| InferError::DeadlineExceeded)?,
        };
        // An answer means that nothing of the request waits any more.
        std::mem::forget(withdraw);
        answer.unwrap_or_else(|_| Err(InferError::Internal("a worker thread is gone".to_owned())))
    }
}

/// Takes a request's waiting posts out of the queue when its caller leaves.
struct Withdraw<'a> {
    shared: &'a Shared,
    id: u64,
}

impl Drop for Withdraw<'_> {
    fn drop(&mut self) {
        drop(self.shared.lock().withdraw(self.id));
    }
}
