//! The worker threads: one batch after another.

use super::Shared;
use super::queue::{Queue, QueuedPost, Wake};
use crate::error::InferError;
use crate::scorer::{PostResult, Scorer, is_unsupported};
use crate::telemetry::StageTimings;
use crate::timings;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// Spawns a worker thread, which adds a scorer to the idle ones. The queue has counted it.
pub(super) fn spawn(shared: &Arc<Shared>, scorer: Scorer) -> io::Result<()> {
    let shared = Arc::clone(shared);
    thread::Builder::new()
        .name("coldread-infer".to_owned())
        .spawn(move || {
            shared.lock().put_back(scorer);
            while let Some((scorer, first)) = first(&shared) {
                let shared = &shared;
                Worker { shared, scorer }.work(first);
            }
        })?;
    Ok(())
}

/// Scores a post on this thread, whose other tasks tokio moves to another one.
pub(super) fn work_in_place(shared: &Arc<Shared>, scorer: Scorer, post: QueuedPost) {
    tokio::task::block_in_place(|| Worker { shared, scorer }.work(post));
    // The worker threads had no scorer for what has come in the meantime.
    wake(shared, shared.lock());
}

/// Waits for the first post of a batch; `None` once the queue is closed.
fn first(shared: &Arc<Shared>) -> Option<(Scorer, QueuedPost)> {
    let mut queue = shared.lock();
    loop {
        if let Some(taken) = queue.take_with_scorer() {
            // Another worker can take the rest.
            wake(shared, queue);
            return Some(taken);
        }
        if queue.is_closed() {
            return None;
        }
        let waited = shared.posts_came.wait(queue);
        queue = waited.unwrap_or_else(PoisonError::into_inner);
    }
}

/// Makes sure that a worker takes the waiting posts: an idle one, or a new one, which is spawned
/// after the lock is released.
pub(super) fn wake(shared: &Arc<Shared>, mut queue: MutexGuard<'_, Queue>) {
    let wake = queue.wake();
    drop(queue);
    match wake {
        Wake::Nobody => {}
        Wake::IdleWorker => shared.posts_came.notify_one(),
        Wake::NewWorker => {
            let prototype = shared.prototype.lock();
            let scorer = prototype.unwrap_or_else(PoisonError::into_inner).clone();
            if let Err(error) = spawn(shared, scorer) {
                // The workers that exist carry on.
                tracing::warn!(%error, "cannot spawn another worker thread");
                shared.lock().worker_not_started();
            }
        }
    }
}

/// A thread with a scorer, for one batch.
struct Worker<'a> {
    shared: &'a Arc<Shared>,
    scorer: Scorer,
}

impl Worker<'_> {
    /// Scores a batch, sends the responses and puts the scorer back.
    fn work(mut self, first: QueuedPost) {
        let mut batch = vec![first];
        // A panic leaves `batch` whole: items are only ever added.
        let run = catch_unwind(AssertUnwindSafe(|| self.run(&mut batch)));
        let Ok(Ok((results, took))) = run else {
            tracing::error!(
                posts = batch.len(),
                "a batch failed; its requests are retried one by one"
            );
            // A panic may have left the scratch buffers inconsistent.
            self.scorer = self.scorer.clone();
            self.run_each_request(batch);
            return;
        };
        self.finish(&batch, took);
        respond(batch, results, took);
    }

    /// Another post, if one comes before `until`.
    fn next(&self, until: Instant) -> Option<QueuedPost> {
        let mut queue = self.shared.lock();
        loop {
            if let Some(item) = queue.take() {
                return Some(item);
            }
            if self.shared.options.batch_wait.is_zero() || queue.is_closed() {
                return None;
            }
            let left = until.checked_duration_since(Instant::now())?;
            let waited = self.shared.posts_came.wait_timeout(queue, left);
            queue = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Adds posts to a batch until it is full or none is waiting, and scores it.
    fn run(&mut self, batch: &mut Vec<QueuedPost>) -> Result<(Vec<PostResult>, Took), InferError> {
        let start = Instant::now();
        let mut tokenize = Duration::ZERO;
        self.scorer.clear();
        loop {
            let began = Instant::now();
            let item = &batch[batch.len() - 1];
            self.scorer.push(&item.post, item.options)?;
            tokenize += began.elapsed();
            let options = &self.shared.options;
            if self.scorer.batch_tokens() >= options.max_batch_tokens.get() {
                break;
            }
            match self.next(start + options.batch_wait) {
                Some(item) => batch.push(item),
                None => break,
            }
        }
        if !self.shared.options.batch_wait.is_zero() {
            // Posts that arrived while this batch waited may not have woken another worker.
            wake(self.shared, self.shared.lock());
        }
        let began = Instant::now();
        let tokens = self.scorer.batch_tokens();
        let results = self.scorer.run()?;
        let took = Took {
            start,
            tokenize,
            inference: began.elapsed(),
        };
        let metrics = &self.shared.metrics;
        metrics.batch(batch.len(), tokens);
        metrics.unsupported_languages(results.iter().filter(|it| is_unsupported(it)).count());
        timings::inferred(took.tokenize + took.inference);
        Ok((results, took))
    }

    /// After a failure, runs each request by itself, so that only the one at fault fails.
    fn run_each_request(mut self, batch: Vec<QueuedPost>) {
        for group in by_request(batch.into_iter().map(|item| (item, ()))) {
            let items: Vec<QueuedPost> = group.into_iter().map(|(item, ())| item).collect();
            let start = Instant::now();
            let run = catch_unwind(AssertUnwindSafe(|| {
                self.scorer.clear();
                for item in &items {
                    self.scorer.push(&item.post, item.options)?;
                }
                self.scorer.run().map_err(InferError::from)
            }));
            let results = run.unwrap_or_else(|_| {
                self.scorer = self.scorer.clone();
                Err(InferError::Internal("the engine panicked".to_owned()))
            });
            // The whole request fails, and its waiting posts are withdrawn.
            let cost = items.iter().map(|item| item.cost).sum();
            let failed = results.is_err();
            let withdrawn = {
                let mut queue = self.shared.lock();
                queue.done(items.len(), cost);
                failed.then(|| queue.withdraw(items[0].request))
            };
            drop(withdrawn);
            match results {
                Ok(results) => {
                    let took = Took {
                        start,
                        tokenize: Duration::ZERO,
                        inference: start.elapsed(),
                    };
                    respond(items, results, took);
                }
                Err(error) => items[0].response.fail(error),
            }
        }
        self.shared.lock().put_back(self.scorer);
    }

    /// Frees the room in the queue before the responses are sent, so that a client that has
    /// its response finds room for the next request.
    fn finish(self, batch: &[QueuedPost], took: Took) {
        let cost = batch.iter().map(|item| item.cost).sum();
        let mut queue = self.shared.lock();
        queue.done(batch.len(), cost);
        queue.record_batch(cost, took.tokenize + took.inference);
        queue.put_back(self.scorer);
    }
}

/// When a batch was started, and how long its stages took.
#[derive(Clone, Copy)]
struct Took {
    start: Instant,
    tokenize: Duration,
    inference: Duration,
}

/// Gives every request its share of a batch's results.
fn respond(batch: Vec<QueuedPost>, results: Vec<PostResult>, took: Took) {
    for group in by_request(batch.into_iter().zip(results)) {
        let first = &group[0].0;
        let stages = StageTimings {
            queue: took.start.saturating_duration_since(first.admitted_at),
            tokenize: took.tokenize,
            inference: took.inference,
        };
        let response = Arc::clone(&first.response);
        let results = group.into_iter().map(|(item, result)| (item.index, result));
        response.record(results, stages);
    }
}

/// Groups a batch by request.
fn by_request<T>(batch: impl Iterator<Item = (QueuedPost, T)>) -> Vec<Vec<(QueuedPost, T)>> {
    let mut requests: Vec<Vec<(QueuedPost, T)>> = Vec::new();
    for (item, it) in batch {
        let same = requests
            .iter_mut()
            .find(|group| group[0].0.request == item.request);
        match same {
            Some(group) => group.push((item, it)),
            None => requests.push(vec![(item, it)]),
        }
    }
    requests
}
