//! A request's answer while it is put together from several batches.

use crate::error::InferError;
use coldread_engine::PostResult;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::oneshot;

/// What became of a request.
#[derive(Debug, Default)]
pub struct Answer {
    /// A result for each post, in the request's order.
    pub results: Vec<PostResult>,
    /// Where its time went.
    pub stages: Stages,
}

/// How long a request's stages took. Batches are shared, so that a request is told
/// the whole time of every batch that had a post of it.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Stages {
    /// From its acceptance until a worker took its first post.
    pub queue: Duration,
    /// Normalising and tokenizing.
    pub tokenize: Duration,
    /// The model's forward pass.
    pub inference: Duration,
}

impl Stages {
    /// The stages by their names in headers, logs and metrics.
    pub fn named(&self) -> [(&'static str, Duration); 3] {
        [
            ("queue", self.queue),
            ("tokenize", self.tokenize),
            ("inference", self.inference),
        ]
    }
}

/// The answer's sending side, shared by all workers that have posts of its request.
pub(super) struct Pending(Mutex<Option<Open>>);

/// An answer that has not been sent; sending consumes it, so that there is only one.
struct Open {
    results: Vec<Option<PostResult>>,
    missing: usize,
    stages: Stages,
    reply: oneshot::Sender<Result<Answer, InferError>>,
}

impl Pending {
    pub(super) fn new(posts: usize) -> (Self, oneshot::Receiver<Result<Answer, InferError>>) {
        let (reply, answered) = oneshot::channel();
        let open = Open {
            results: (0..posts).map(|_| None).collect(),
            missing: posts,
            stages: Stages::default(),
            reply,
        };
        (Self(Mutex::new(Some(open))), answered)
    }

    /// Enters results by place, and sends the answer with the last one.
    pub(super) fn enter(
        &self,
        results: impl IntoIterator<Item = (usize, PostResult)>,
        stages: Stages,
    ) {
        let mut guard = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // It may have failed in another batch.
        let Some(open) = guard.as_mut() else { return };
        for (place, result) in results {
            let before = open.results[place].replace(result);
            assert!(before.is_none(), "a post is scored once");
            open.missing -= 1;
        }
        let total = &mut open.stages;
        total.queue = total.queue.max(stages.queue);
        total.tokenize += stages.tokenize;
        total.inference += stages.inference;
        if open.missing == 0
            && let Some(open) = guard.take()
        {
            let answer = Answer {
                results: open.results.into_iter().flatten().collect(),
                stages: open.stages,
            };
            // A caller that has gone in the meantime wants no answer.
            let _ = open.reply.send(Ok(answer));
        }
    }

    /// Answers with an error, unless there was an answer already.
    pub(super) fn fail(&self, error: InferError) {
        let open = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(open) = open {
            let _ = open.reply.send(Err(error));
        }
    }
}
