//! Where async meets threads: requests wait in a bounded queue, a worker thread
//! scores them.
//!
//! Batching is work-conserving. An idle worker starts on whatever is there at
//! once; while it is busy requests queue up, and it takes as many of them
//! together as fit [`MAX_BATCH_POSTS`]. Nobody waits for a batch to fill.
//!
//! Invariants: every accepted request is answered exactly once; a request whose
//! caller has gone is not computed; a panic in the engine fails the requests of
//! that batch and no others.

use crate::classifier::{Classifier, ModelInfo, PostResult};
use crate::engine::EngineInfo;
use crate::error::InferError;
use std::num::NonZeroUsize;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;
use tokio::sync::oneshot;

/// The worker stops gathering requests for a batch at this many posts.
pub const MAX_BATCH_POSTS: usize = 256;

/// A handle to the queue; clones share it. The worker ends with the last handle.
#[derive(Clone)]
pub struct Batcher {
    queue: mpsc::Sender<Request>,
    /// Posts that are queued or being scored.
    pending_posts: Arc<AtomicUsize>,
    max_pending_posts: usize,
    model: Arc<ModelInfo>,
    engine: EngineInfo,
    max_post_bytes: usize,
}

struct Request {
    posts: Vec<String>,
    reply: oneshot::Sender<Result<Vec<PostResult>, InferError>>,
    /// Held until the answer is sent.
    _pending: Pending,
}

/// The room that a request takes up in the queue, given back when dropped.
struct Pending {
    posts: usize,
    pending_posts: Arc<AtomicUsize>,
}

impl Drop for Pending {
    fn drop(&mut self) {
        self.pending_posts.fetch_sub(self.posts, Ordering::AcqRel);
    }
}

impl Batcher {
    /// Starts the worker thread. At most `max_pending_posts` posts wait or are in
    /// work at any time; a request beyond that is refused at once.
    pub fn start(classifier: Classifier, max_pending_posts: NonZeroUsize) -> Self {
        let (queue, requests) = mpsc::channel();
        let batcher = Self {
            queue,
            pending_posts: Arc::default(),
            max_pending_posts: max_pending_posts.get(),
            model: Arc::clone(classifier.info()),
            engine: classifier.engine_info(),
            max_post_bytes: classifier.max_post_bytes(),
        };
        thread::Builder::new()
            .name("coldread-infer".to_owned())
            .spawn(move || work(classifier, &requests))
            .expect("the system can start one thread");
        batcher
    }

    /// What the model is.
    pub fn model(&self) -> &ModelInfo {
        &self.model
    }

    /// What runs it.
    pub fn engine(&self) -> &EngineInfo {
        &self.engine
    }

    /// The longest post taken, in bytes.
    pub fn max_post_bytes(&self) -> usize {
        self.max_post_bytes
    }

    /// Posts that are queued or being scored now.
    pub fn pending_posts(&self) -> usize {
        self.pending_posts.load(Ordering::Acquire)
    }

    /// Scores posts; the results stand in their order.
    pub async fn classify(&self, posts: Vec<String>) -> Result<Vec<PostResult>, InferError> {
        let pending = self.reserve(posts.len())?;
        let (reply, answer) = oneshot::channel();
        let request = Request {
            posts,
            reply,
            _pending: pending,
        };
        self.queue
            .send(request)
            .map_err(|_| InferError::ShuttingDown)?;
        answer
            .await
            .unwrap_or_else(|_| Err(InferError::Internal("the worker thread is gone".to_owned())))
    }

    fn reserve(&self, posts: usize) -> Result<Pending, InferError> {
        // A request that alone is larger than the queue is let in when nothing else
        // is there; how large a request may be is not the queue's business.
        self.pending_posts
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |pending| {
                (pending == 0 || pending + posts <= self.max_pending_posts)
                    .then_some(pending + posts)
            })
            .map_err(|_| InferError::Overloaded)?;
        Ok(Pending {
            posts,
            pending_posts: Arc::clone(&self.pending_posts),
        })
    }
}

/// The worker: one batch after another until the last handle is gone.
fn work(mut classifier: Classifier, requests: &mpsc::Receiver<Request>) {
    while let Ok(first) = requests.recv() {
        let mut batch = vec![first];
        let mut num_posts = batch[0].posts.len();
        while num_posts < MAX_BATCH_POSTS
            && let Ok(request) = requests.try_recv()
        {
            num_posts += request.posts.len();
            batch.push(request);
        }
        batch.retain(|request| !request.reply.is_closed());

        let posts: Vec<&str> = batch
            .iter()
            .flat_map(|r| &r.posts)
            .map(String::as_str)
            .collect();
        let outcome = catch_unwind(AssertUnwindSafe(|| classifier.classify(&posts)));
        let outcome = outcome.unwrap_or_else(|_| {
            // What a panic left of the scratch memory is not to be trusted.
            classifier = classifier.fork();
            Err(InferError::Internal("the engine panicked".to_owned()))
        });
        answer(batch, outcome);
    }
}

/// Hands every request its share of the batch's results.
fn answer(batch: Vec<Request>, outcome: Result<Vec<PostResult>, InferError>) {
    match outcome {
        Ok(results) => {
            let mut results = results.into_iter();
            for request in batch {
                let share = results.by_ref().take(request.posts.len()).collect();
                // A caller that has gone in the meantime wants no answer.
                let _ = request.reply.send(Ok(share));
            }
        }
        Err(error) => {
            tracing::error!(%error, requests = batch.len(), "a batch failed");
            for request in batch {
                let _ = request
                    .reply
                    .send(Err(InferError::Internal(error.to_string())));
            }
        }
    }
}
