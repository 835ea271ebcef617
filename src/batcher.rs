//! Where async meets threads: requests wait in a bounded queue, and worker threads score
//! their posts.
//!
//! **Work-conserving.** An idle worker starts immediately on whatever is there. While all
//! workers are busy, requests queue up, and the next free worker takes as many posts as
//! [`BatchOptions::max_batch_tokens`] allows. No post waits for a batch to fill, unless
//! [`BatchOptions::batch_wait`] says so.
//!
//! **In place.** Waking a thread on a sleeping core and being woken by it can take longer than all
//! else that a request needs beside inference. So the thread that has a request scores a lone, short
//! post itself, with the scorer of an idle worker ([`BatchOptions::in_place`]).
//!
//! **Fair.** Workers take one post of each waiting request in turn. A request of a thousand
//! posts is thus cut into many batches, and a single post that arrives later is in the very
//! next one.
//!
//! **Bounded by time.** A request is admitted if the work that others have before it will
//! take no longer than [`BatchOptions::max_queue_wait`], by the speed of recent batches, so
//! that a slow host sheds load as promptly as a fast one. Before the first batch every post
//! is assumed to take 15.6 ms. A request that finds the queue empty is always admitted.
//!
//! **Bounded by posts.** Requests are admitted while fewer than
//! [`BatchOptions::max_pending_posts`] wait or are being scored, whatever their size: one
//! rule for one post and for many, so that neither starves the other. Pending posts can
//! exceed the limit by one request. It bounds memory.
//!
//! Invariants: every admitted request gets exactly one response; posts whose client has
//! disconnected, or whose deadline cannot be met, are not computed; a panic in the engine
//! fails the request that caused it and no other.

mod queue;
mod response;
#[cfg(test)]
mod tests;
mod worker;

pub use response::ScoredPosts;

use crate::error::InferError;
use crate::scorer::{ModelIndex, OtherLanguages, PostOptions, Scorer};
use crate::telemetry::Metrics;
use coldread_engine::{Model, ModelInfo};
use queue::{EarlyRejection, Queue, Request};
use std::num::NonZeroUsize;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How batches are formed and how much may wait.
#[derive(Debug, Clone, Copy)]
pub struct BatchOptions {
    /// Posts that may wait or be in progress before requests are rejected.
    pub max_pending_posts: NonZeroUsize,
    /// The expected wait beyond which a request is rejected.
    pub max_queue_wait: Duration,
    /// A batch takes no further post once it has this many tokens.
    pub max_batch_tokens: NonZeroUsize,
    /// How long a batch that is not full waits for more posts.
    pub batch_wait: Duration,
    /// The maximum number of worker threads. All but the first are spawned on demand.
    pub workers: NonZeroUsize,
    /// Whether a short post that finds nothing else to score is scored on the thread that has its
    /// request. It needs tokio's multi-threaded runtime.
    pub in_place: bool,
}

/// Options of a single request.
#[derive(Debug, Clone, Copy, Default)]
pub struct RequestOptions {
    /// The request fails at this time; work that cannot be done by then is not started.
    pub deadline: Option<Instant>,
    /// How its posts are scored.
    pub post: PostOptions,
}

/// A post of a request.
#[derive(Debug)]
pub struct Post {
    /// Its text.
    pub text: String,
    /// The model for its language, if it is not that of the request's options.
    pub model: Option<ModelIndex>,
}

impl From<String> for Post {
    fn from(text: String) -> Self {
        Self { text, model: None }
    }
}

/// A handle to the queue; clones share it. The workers end with the last handle.
#[derive(Clone)]
pub struct Batcher(Arc<Handle>);

struct Handle {
    shared: Arc<Shared>,
    /// The first one's labels are those of all.
    models: Vec<Model>,
    other_languages: OtherLanguages,
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
    early_rejection: Arc<EarlyRejection>,
    posts_came: Condvar,
    /// The scorer that those of further workers are cloned from. It has a lock of its own,
    /// because the queue should not wait for a clone.
    prototype: Mutex<Scorer>,
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
    /// Spawns the first worker thread. Batches are counted in `metrics`.
    pub fn start(
        scorer: impl Into<Scorer>,
        mut options: BatchOptions,
        metrics: Arc<Metrics>,
    ) -> Self {
        let scorer = scorer.into();
        let models: Vec<Model> = scorer.models().cloned().collect();
        if models.iter().any(|model| !model.engine_info().batches) {
            // Batches of one post, so that deadlines and cancellation count between posts.
            options.max_batch_tokens = NonZeroUsize::MIN;
            options.batch_wait = Duration::ZERO;
            options.in_place = false;
        }
        let early_rejection = Arc::<EarlyRejection>::default();
        let handle = Handle {
            models,
            other_languages: scorer.other_languages(),
            shared: Arc::new(Shared {
                queue: Mutex::new(Queue::new(options, Arc::clone(&early_rejection))),
                early_rejection,
                posts_came: Condvar::new(),
                prototype: Mutex::new(scorer.clone()),
                options,
                metrics,
            }),
        };
        handle.shared.lock().worker_started();
        worker::spawn(&handle.shared, scorer).expect("the system can spawn one thread");
        Self(Arc::new(handle))
    }

    /// The description of the model, or of the first of several.
    pub fn model(&self) -> &Arc<ModelInfo> {
        self.0.models[0].info()
    }

    /// All models.
    pub fn models(&self) -> &[Model] {
        &self.0.models
    }

    /// Whether a model was trained for a language; `None` if that is unknown.
    pub fn serves(&self, language: &str) -> Option<bool> {
        let models = &self.0.models;
        let is_known = models.iter().all(|model| !model.languages().is_empty());
        is_known.then(|| self.model_of(language).is_some())
    }

    /// The model that was trained for a language, if there is one.
    pub fn model_of(&self, language: &str) -> Option<ModelIndex> {
        ModelIndex::of_language(self.0.models.iter(), language)
    }

    /// Whether posts in a language are rejected.
    pub fn rejects(&self, language: &str) -> bool {
        self.0.other_languages == OtherLanguages::Reject && self.serves(language) == Some(false)
    }

    /// The maximum length of a post, in bytes.
    pub fn max_post_bytes(&self) -> usize {
        self.0.models[0].max_post_bytes()
    }

    /// The maximum number of tokens that every model reads at once.
    pub fn max_tokens(&self) -> usize {
        let models = self.0.models.iter();
        let max_tokens = models.map(|model| model.info().max_tokens).min();
        max_tokens.expect("there is a model")
    }

    /// How batches are formed and how much may wait.
    pub fn options(&self) -> &BatchOptions {
        &self.0.shared.options
    }

    /// The metrics of this process.
    pub fn metrics(&self) -> &Metrics {
        &self.0.shared.metrics
    }

    /// Posts that are queued or being scored now.
    pub fn pending_posts(&self) -> usize {
        self.0.shared.lock().pending_posts()
    }

    /// Whether even a single post would be rejected now.
    pub fn is_full(&self) -> bool {
        self.check_room().is_err()
    }

    /// Fails if even a single post would be rejected now: a check without a lock, to shed
    /// load before a body is read.
    pub fn check_room(&self) -> Result<(), InferError> {
        self.0.shared.early_rejection.check()
    }

    /// Scores posts; the results are in their order.
    ///
    /// Dropping the future withdraws the posts that no worker has taken.
    pub async fn classify(
        &self,
        posts: Vec<impl Into<Post>>,
        options: RequestOptions,
    ) -> Result<ScoredPosts, InferError> {
        if posts.is_empty() {
            return Ok(ScoredPosts::default());
        }
        let shared = &self.0.shared;
        let posts = posts.into_iter().map(Into::into).collect();
        let (request, response) = Request::new(posts, options, self.max_tokens());
        let withdraw = Withdraw {
            shared,
            id: self.admit(request)?,
        };
        let response = match options.deadline {
            None => response.await,
            Some(deadline) => tokio::time::timeout_at(deadline.into(), response)
                .await
                .map_err(|_| InferError::DeadlineExceeded)?,
        };
        // With a response, nothing of the request waits any more.
        std::mem::forget(withdraw);
        response.unwrap_or_else(|_| Err(InferError::Internal("a worker thread is gone".to_owned())))
    }

    fn admit(&self, request: Request) -> Result<u64, InferError> {
        let shared = &self.0.shared;
        let mut queue = shared.lock();
        let in_place = queue.may_score_in_place(&request);
        match queue.admit(request) {
            Ok(id) => {
                if in_place && let Some((scorer, post)) = queue.take_with_scorer() {
                    drop(queue);
                    worker::work_in_place(shared, scorer, post);
                    return Ok(id);
                }
                worker::wake(shared, queue);
                Ok(id)
            }
            Err((error, request)) => {
                // A thousand posts are not freed while others wait for the lock.
                drop(queue);
                drop(request);
                Err(error)
            }
        }
    }
}

/// Withdraws the waiting posts of a request that is dropped.
struct Withdraw<'a> {
    shared: &'a Shared,
    id: u64,
}

impl Drop for Withdraw<'_> {
    fn drop(&mut self) {
        let withdrawn = self.shared.lock().withdraw(self.id);
        drop(withdrawn);
    }
}
