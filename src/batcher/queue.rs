//! The queue itself: who is let in, and whose post is next. Nothing here waits.

use super::response::{BatchResponse, ResponseSlot};
use super::{BatchOptions, RequestOptions};
use crate::error::InferError;
use coldread_engine::{Classifier, LongText, ModelInfo};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// What a post costs beside its bytes: its special tokens.
const POST_COST: usize = 8;

/// Bytes of text in a token, roughly; what lies beyond the model's tokens costs little.
const BYTES_PER_TOKEN: usize = 4;

/// A request with posts that no worker has taken.
pub(super) struct Request {
    /// 0 until it is admitted.
    id: u64,
    posts: std::iter::Enumerate<std::vec::IntoIter<String>>,
    /// The cost of `posts`.
    cost: usize,
    max_post_cost: usize,
    options: RequestOptions,
    since: Instant,
    answer: Arc<ResponseSlot>,
}

/// A post that a worker has taken, and where its result goes.
pub(super) struct Item {
    pub(super) post: String,
    pub(super) place: usize,
    pub(super) request: u64,
    pub(super) cost: usize,
    pub(super) since: Instant,
    pub(super) long_text: LongText,
    pub(super) answer: Arc<ResponseSlot>,
}

impl Request {
    pub(super) fn new(
        posts: Vec<String>,
        options: RequestOptions,
        model: &ModelInfo,
    ) -> (Self, oneshot::Receiver<Result<BatchResponse, InferError>>) {
        let (pending, answered) = ResponseSlot::new(posts.len());
        let windows = match options.long_text {
            LongText::Window => Classifier::MAX_WINDOWS,
            LongText::Truncate | LongText::Error => 1,
        };
        let max_post_cost = windows * BYTES_PER_TOKEN * model.max_tokens + POST_COST;
        let request = Self {
            id: 0,
            cost: posts.iter().map(|post| cost(post, max_post_cost)).sum(),
            posts: posts.into_iter().enumerate(),
            max_post_cost,
            options,
            since: Instant::now(),
            answer: Arc::new(pending),
        };
        (request, answered)
    }
}

fn cost(post: &str, max: usize) -> usize {
    (post.len() + POST_COST).min(max)
}

/// A batch of less work tells nothing of the pace: what every batch costs, however small,
/// is most of its time.
const MIN_SAMPLE_COST: usize = 128 * BYTES_PER_TOKEN;

/// What waits, what is in work, and who works.
pub(super) struct Queue {
    /// Never one without posts. Workers take a post of the first and put it last.
    waiting: VecDeque<Request>,
    /// Waiting or in work.
    pending_posts: usize,
    next_id: u64,
    throughput: ThroughputEstimate,
    /// What further workers are forked from.
    prototype: Classifier,
    num_workers: usize,
    busy_workers: usize,
    closed: bool,
}

impl Queue {
    pub(super) fn new(prototype: Classifier) -> Self {
        Self {
            waiting: VecDeque::new(),
            pending_posts: 0,
            next_id: 1,
            throughput: ThroughputEstimate::default(),
            prototype,
            num_workers: 0,
            busy_workers: 0,
            closed: false,
        }
    }

    pub(super) fn pending_posts(&self) -> usize {
        self.pending_posts
    }

    /// No handle is left, so that nothing more will come.
    pub(super) fn close(&mut self) {
        self.closed = true;
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed
    }

    /// Lets a request in, or says at once why not.
    pub(super) fn admit(
        &mut self,
        mut request: Request,
        options: &BatchOptions,
    ) -> Result<u64, InferError> {
        if self.pending_posts >= options.max_pending_posts.get() {
            return Err(InferError::Overloaded);
        }
        if self.cannot_meet_deadline(&request, request.since, options) {
            return Err(InferError::DeadlineExceeded);
        }
        request.id = self.next_id;
        self.next_id += 1;
        self.pending_posts += request.posts.len();
        let id = request.id;
        self.waiting.push_back(request);
        Ok(id)
    }

    /// Takes back what still waits of a request.
    pub(super) fn withdraw(&mut self, id: u64) -> Option<Request> {
        let place = self.waiting.iter().position(|request| request.id == id)?;
        let request = self.waiting.remove(place)?;
        self.pending_posts -= request.posts.len();
        Some(request)
    }

    /// The next post in turn. Requests that cannot be done in time fail here.
    pub(super) fn take(&mut self, options: &BatchOptions) -> Option<Item> {
        loop {
            let mut request = self.waiting.pop_front()?;
            if request.options.deadline.is_some()
                && self.cannot_meet_deadline(&request, Instant::now(), options)
            {
                self.pending_posts -= request.posts.len();
                request.response.fail(InferError::DeadlineExceeded);
                continue;
            }
            let Some((place, post)) = request.posts.next() else {
                debug_assert!(false, "a waiting request has posts");
                continue;
            };
            let cost = cost(&post, request.max_post_cost);
            let item = Item {
                post,
                place,
                request: request.id,
                cost,
                since: request.since,
                long_text: request.options.long_text,
                answer: Arc::clone(&request.response),
            };
            request.cost -= cost;
            if request.posts.len() > 0 {
                self.waiting.push_back(request);
            }
            return Some(item);
        }
    }

    /// Gives back the room of posts that are done.
    pub(super) fn done(&mut self, posts: usize) {
        self.pending_posts -= posts;
    }

    /// A batch of posts that cost so much took so long.
    pub(super) fn record_batch(&mut self, cost: usize, took: Duration) {
        self.throughput.note(cost, took);
    }

    /// Whether a request is late, or would be even at the best of speeds.
    fn cannot_meet_deadline(
        &self,
        request: &Request,
        now: Instant,
        options: &BatchOptions,
    ) -> bool {
        let workers = options.workers.get() as u32;
        request
            .options
            .deadline
            .is_some_and(|deadline| now + self.throughput.time(request.cost) / workers >= deadline)
    }

    /// Whether posts wait for which there is a worker to wake or to start.
    pub(super) fn wants_worker(&self) -> bool {
        !self.waiting.is_empty()
    }

    pub(super) fn has_idle_worker(&self) -> bool {
        self.busy_workers < self.num_workers
    }

    /// A further classifier, if there may be a further worker.
    pub(super) fn prototype_for_worker(&mut self, max_workers: usize) -> Option<Classifier> {
        (self.num_workers < max_workers).then(|| self.prototype.clone())
    }

    pub(super) fn worker_started(&mut self) {
        self.num_workers += 1;
    }

    pub(super) fn worker_is_busy(&mut self, busy: bool) {
        if busy {
            self.busy_workers += 1;
        } else {
            self.busy_workers -= 1;
        }
    }
}

/// The fastest recent pace of one worker, from which it follows what is impossible.
///
/// An average would let one slow batch (a frozen sandbox, a busy neighbour) refuse
/// requests that are perfectly possible, and with them all that could correct it.
#[derive(Default)]
struct ThroughputEstimate {
    nanos_per_cost: Option<f64>,
}

impl ThroughputEstimate {
    /// How much slower the best pace is taken to be after each batch.
    const FORGET: f64 = 1.02;

    fn note(&mut self, cost: usize, took: Duration) {
        if cost < MIN_SAMPLE_COST {
            return;
        }
        let pace = took.as_nanos() as f64 / cost as f64;
        let best = self.nanos_per_cost.map(|best| best * Self::FORGET);
        self.nanos_per_cost = Some(best.map_or(pace, |best| best.min(pace)));
    }

    /// The least that so much work takes; nothing is known before the first large batch.
    fn time(&self, cost: usize) -> Duration {
        let nanos = self.nanos_per_cost.unwrap_or(0.0) * cost as f64;
        Duration::from_nanos(nanos as u64)
    }
}
