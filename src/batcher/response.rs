//! A request's answer while it is put together from several batches.

use crate::error::InferError;
use coldread_engine::PostResult;
use std::sync::{Mutex, PoisonError};
use tokio::sync::oneshot;

/// What became of a request.
#[derive(Debug, Default)]
pub struct BatchResponse {
    /// A result for each post, in the request's order.
    pub results: Vec<PostResult>,
    /// Where its time went.
    pub stages: StageTimings,
}

/// The answer's sending side, shared by all workers that have posts of its request.
pub(super) struct ResponseSlot(Mutex<Option<PendingResponse>>);

/// An answer that has not been sent; sending consumes it, so that there is only one.
struct PendingResponse {
    results: Vec<Option<PostResult>>,
    missing: usize,
    stages: StageTimings,
    reply: oneshot::Sender<Result<BatchResponse, InferError>>,
}

impl ResponseSlot {
    pub(super) fn new(
        posts: usize,
    ) -> (Self, oneshot::Receiver<Result<BatchResponse, InferError>>) {
        let (reply, answered) = oneshot::channel();
        let open = PendingResponse {
            results: (0..posts).map(|_| None).collect(),
            missing: posts,
            stages: StageTimings::default(),
            reply,
        };
        (Self(Mutex::new(Some(open))), answered)
    }

    /// Enters results by place, and sends the answer with the last one.
    pub(super) fn record(
        &self,
        results: impl IntoIterator<Item = (usize, PostResult)>,
        stages: StageTimings,
    ) {
        let mut guard = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // It may have failed in another batch.
        let Some(open) = guard.as_mut() else { return };
        for (place, result) in results {
            let before = open.results[place].replace(result);
            assert!(before.is_none(), "a post is scored once");
            open.missing -= 1;
        }
        open.stages.add(&stages);
        if open.missing == 0
            && let Some(open) = guard.take()
        {
            let answer = BatchResponse {
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
