//! The response to a request while several batches contribute to it.

use crate::error::InferError;
use crate::scorer::PostResult;
use crate::telemetry::StageTimings;
use std::sync::{Mutex, PoisonError};
use tokio::sync::oneshot;

/// The results of a request.
#[derive(Debug, Default)]
pub struct ScoredPosts {
    /// One result per post, in the order of the request.
    pub results: Vec<PostResult>,
    /// Where the time went.
    pub stages: StageTimings,
}

/// Where workers put the results of a request; every worker that has a post of the request
/// shares it.
pub(super) struct ResponseSlot(Mutex<Option<PendingResponse>>);

/// A response that has not been sent. Sending consumes it, so it is sent once.
struct PendingResponse {
    results: Vec<Option<PostResult>>,
    missing: usize,
    stages: StageTimings,
    sender: oneshot::Sender<Result<ScoredPosts, InferError>>,
}

impl ResponseSlot {
    pub(super) fn new(posts: usize) -> (Self, oneshot::Receiver<Result<ScoredPosts, InferError>>) {
        let (sender, receiver) = oneshot::channel();
        let pending = PendingResponse {
            results: (0..posts).map(|_| None).collect(),
            missing: posts,
            stages: StageTimings::default(),
            sender,
        };
        (Self(Mutex::new(Some(pending))), receiver)
    }

    /// Records results by index, and sends the response with the last one.
    pub(super) fn record(
        &self,
        results: impl IntoIterator<Item = (usize, PostResult)>,
        stages: StageTimings,
    ) {
        let mut guard = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // The request may have failed in another batch.
        let Some(pending) = guard.as_mut() else {
            return;
        };
        for (index, result) in results {
            let previous = pending.results[index].replace(result);
            assert!(previous.is_none(), "a post is scored once");
            pending.missing -= 1;
        }
        pending.stages.add(&stages);
        if pending.missing == 0
            && let Some(pending) = guard.take()
        {
            let response = ScoredPosts {
                results: pending.results.into_iter().flatten().collect(),
                stages: pending.stages,
            };
            // The client may have disconnected in the meantime.
            let _ = pending.sender.send(Ok(response));
        }
    }

    /// Responds with an error, unless the response has been sent.
    pub(super) fn fail(&self, error: InferError) {
        let pending = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(pending) = pending {
            let _ = pending.sender.send(Err(error));
        }
    }
}
