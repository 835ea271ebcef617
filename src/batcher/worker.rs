//! The worker threads: one batch after another.

use super::Shared;
use super::queue::{Item, Queue};
use crate::error::InferError;
use crate::telemetry::StageTimings;
use crate::timings;
use coldread_engine::{Classifier, PostResult};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// Starts a worker on a classifier of its own.
pub(super) fn start(shared: &Arc<Shared>, classifier: Classifier) -> io::Result<()> {
    start_locked(shared, &mut shared.lock(), classifier)
}

fn start_locked(shared: &Arc<Shared>, queue: &mut Queue, classifier: Classifier) -> io::Result<()> {
    let worker = Worker {
        shared: Arc::clone(shared),
        classifier,
    };
    thread::Builder::new()
        .name("coldread-infer".to_owned())
        .spawn(move || worker.work())?;
    queue.worker_started();
    Ok(())
}

/// Sees to it that somebody takes what waits: an idle worker, or a new one.
pub(super) fn wake(shared: &Arc<Shared>, queue: &mut Queue) {
    if !queue.wants_worker() {
        return;
    }
    if queue.has_idle_worker() {
        shared.posts_came.notify_one();
    } else if let Some(classifier) = queue.prototype_for_worker(shared.options.workers.get())
        && let Err(error) = start_locked(shared, queue, classifier)
    {
        // Those that are there go on.
        tracing::warn!(%error, "cannot start another worker thread");
    }
}

struct Worker {
    shared: Arc<Shared>,
    classifier: Classifier,
}

impl Worker {
    fn work(mut self) {
        while let Some(first) = self.first() {
            let mut batch = vec![first];
            // What a panic leaves of `batch` is whole: items are only ever added.
            let run = catch_unwind(AssertUnwindSafe(|| self.run(&mut batch)));
            let Ok(Ok((results, took))) = run else {
                tracing::error!(
                    posts = batch.len(),
                    "a batch failed; its requests are tried apart"
                );
                // What a panic left of the scratch memory is not to be trusted.
                self.classifier = self.classifier.clone();
                self.run_apart(batch);
                continue;
            };
            self.finish(&batch, took);
            answer(batch, results, took);
        }
    }

    /// Waits for the first post of a batch; `None` when no more will come.
    fn first(&self) -> Option<Item> {
        let mut queue = self.shared.lock();
        loop {
            if let Some(item) = queue.take(&self.shared.options) {
                queue.worker_is_busy(true);
                // What is left is somebody else's.
                wake(&self.shared, &mut queue);
                return Some(item);
            }
            if queue.is_closed() {
                return None;
            }
            let waited = self.shared.posts_came.wait(queue);
            queue = waited.unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// A further post, if there is one before `until`.
    fn next(&self, until: Instant) -> Option<Item> {
        let mut queue = self.shared.lock();
        loop {
            if let Some(item) = queue.take(&self.shared.options) {
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

    /// Gathers a batch behind its first post and scores it.
    fn run(&mut self, batch: &mut Vec<Item>) -> Result<(Vec<PostResult>, Took), InferError> {
        let start = Instant::now();
        let mut tokenize = Duration::ZERO;
        let mut encoded = Vec::new();
        self.classifier.clear();
        loop {
            let began = Instant::now();
            let item = &batch[batch.len() - 1];
            encoded.push(self.classifier.push(&item.post, item.long_text)?);
            tokenize += began.elapsed();
            let options = &self.shared.options;
            if self.classifier.batch_tokens() >= options.max_batch_tokens.get() {
                break;
            }
            match self.next(start + options.batch_wait) {
                Some(item) => batch.push(item),
                None => break,
            }
        }
        if !self.shared.options.batch_wait.is_zero() {
            // What came while this one waited may have woken nobody else.
            wake(&self.shared, &mut self.shared.lock());
        }
        let began = Instant::now();
        let tokens = self.classifier.batch_tokens();
        let mut results = Vec::with_capacity(batch.len());
        self.classifier.run(&mut encoded, &mut results)?;
        let took = Took {
            start,
            tokenize,
            inference: began.elapsed(),
        };
        self.shared.metrics.batch(batch.len(), tokens);
        timings::inferred(took.tokenize + took.inference);
        Ok((results, took))
    }

    /// After a failure: each request by itself, so that only the one at fault fails.
    fn run_apart(&mut self, batch: Vec<Item>) {
        for share in by_request(batch.into_iter().map(|item| (item, ()))) {
            let items: Vec<Item> = share.into_iter().map(|(item, ())| item).collect();
            let start = Instant::now();
            let posts: Vec<&str> = items.iter().map(|item| item.post.as_str()).collect();
            let run = catch_unwind(AssertUnwindSafe(|| {
                let results = self.classifier.classify_with(&posts, items[0].long_text);
                results.map_err(InferError::from)
            }));
            let results = run.unwrap_or_else(|_| {
                self.classifier = self.classifier.clone();
                Err(InferError::Internal("the engine panicked".to_owned()))
            });
            // The whole request is given up, and with it what still waits of it.
            let failed = results.is_err();
            let withdrawn = {
                let mut queue = self.shared.lock();
                queue.done(items.len());
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
                    answer(items, results, took);
                }
                Err(error) => items[0].response.fail(error),
            }
        }
        self.shared.lock().worker_is_busy(false);
    }

    /// Gives the room back before the answers go out: who reads one finds it.
    fn finish(&self, batch: &[Item], took: Took) {
        let cost = batch.iter().map(|item| item.cost).sum();
        let mut queue = self.shared.lock();
        queue.done(batch.len());
        queue.record_batch(cost, took.tokenize + took.inference);
        queue.worker_is_busy(false);
    }
}

/// When a batch was begun, and how long its stages took.
#[derive(Clone, Copy)]
struct Took {
    start: Instant,
    tokenize: Duration,
    inference: Duration,
}

/// Hands every request its share of a batch's results.
fn answer(batch: Vec<Item>, results: Vec<PostResult>, took: Took) {
    for share in by_request(batch.into_iter().zip(results)) {
        let first = &share[0].0;
        let stages = StageTimings {
            queue: took.start.saturating_duration_since(first.since),
            tokenize: took.tokenize,
            inference: took.inference,
        };
        let answer = Arc::clone(&first.response);
        let results = share.into_iter().map(|(item, result)| (item.place, result));
        response.record(results, stages);
    }
}

/// Sorts a batch by the requests that its posts are of.
fn by_request<T>(batch: impl Iterator<Item = (Item, T)>) -> Vec<Vec<(Item, T)>> {
    let mut requests: Vec<Vec<(Item, T)>> = Vec::new();
    for (item, it) in batch {
        let same = requests
            .iter_mut()
            .find(|share| share[0].0.request == item.request);
        match same {
            Some(share) => share.push((item, it)),
            None => requests.push(vec![(item, it)]),
        }
    }
    requests
}
