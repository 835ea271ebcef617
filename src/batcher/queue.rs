//! The queue: which requests are admitted and whose post is next. Nothing here blocks.

use super::response::{ResponseSlot, ScoredPosts};
use super::{BatchOptions, Post, RequestOptions};
use crate::error::{InferError, OverloadCause};
use crate::scorer::{PostOptions, Scorer};
use coldread_engine::{Classifier, LongText};
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// The cost of a post's special tokens, in addition to its bytes.
const POST_COST: usize = 8;

/// Bytes of text per token, roughly. Text beyond the model's maximum costs little.
const BYTES_PER_TOKEN: usize = 4;

/// A request with posts that no worker has taken yet.
pub(super) struct Request {
    /// 0 until it is admitted.
    id: u64,
    posts: std::iter::Enumerate<std::vec::IntoIter<Post>>,
    /// The total cost of `posts`.
    cost: usize,
    max_post_cost: usize,
    options: RequestOptions,
    admitted_at: Instant,
    response: Arc<ResponseSlot>,
}

/// A post that a worker has taken, and where its result goes.
pub(super) struct QueuedPost {
    pub(super) post: String,
    /// The post's position in its request.
    pub(super) index: usize,
    pub(super) request: u64,
    pub(super) cost: usize,
    pub(super) admitted_at: Instant,
    pub(super) options: PostOptions,
    pub(super) response: Arc<ResponseSlot>,
}

impl Request {
    pub(super) fn new(
        posts: Vec<Post>,
        options: RequestOptions,
        max_tokens: usize,
    ) -> (Self, oneshot::Receiver<Result<ScoredPosts, InferError>>) {
        let (response, receiver) = ResponseSlot::new(posts.len());
        let windows = match options.post.long_text {
            LongText::Window => Classifier::MAX_WINDOWS,
            LongText::Truncate | LongText::Error => 1,
        };
        let max_post_cost = windows * BYTES_PER_TOKEN * max_tokens + POST_COST;
        let request = Self {
            id: 0,
            cost: posts
                .iter()
                .map(|post| cost(&post.text, max_post_cost))
                .sum(),
            posts: posts.into_iter().enumerate(),
            max_post_cost,
            options,
            admitted_at: Instant::now(),
            response: Arc::new(response),
        };
        (request, receiver)
    }
}

fn cost(post: &str, max: usize) -> usize {
    (post.len() + POST_COST).min(max)
}

/// The requests that wait, the work in progress, and how many workers there are.
pub(super) struct Queue {
    options: BatchOptions,
    /// Every request here has posts. A worker takes one post of the first and moves the
    /// request to the back.
    waiting: VecDeque<Request>,
    /// How many posts each of the coming rounds takes: `rounds[i]` requests have more than
    /// `i` posts left.
    rounds: Vec<usize>,
    waiting_work: Work,
    work_in_progress: Work,
    next_id: u64,
    /// Requests in a row that found no other here.
    lone_requests: u32,
    throughput: ThroughputEstimate,
    num_workers: usize,
    /// Every other worker's scorer is busy. The last one to be put back is the next to be taken,
    /// because its buffers may still be in a cache.
    idle_scorers: Vec<Scorer>,
    closed: bool,
    early_rejection: Arc<EarlyRejection>,
}

#[derive(Default)]
struct Work {
    posts: usize,
    cost: usize,
}

impl Work {
    fn add(&mut self, posts: usize, cost: usize) {
        self.posts += posts;
        self.cost += cost;
    }

    fn remove(&mut self, posts: usize, cost: usize) {
        self.posts -= posts;
        self.cost -= cost;
    }
}

/// Whether a request of a single post would be rejected now. It can be read without the lock,
/// before a body is read.
#[derive(Default)]
pub(super) struct EarlyRejection {
    /// Twice one more than the milliseconds after which to try again, and 1 more if that is because
    /// of the number of posts; 0 if there is room.
    state: AtomicU64,
}

impl EarlyRejection {
    /// Fails if there is no room.
    pub(super) fn check(&self) -> Result<(), InferError> {
        let state = self.state.load(Ordering::Relaxed);
        let Some(ms) = (state / 2).checked_sub(1) else {
            return Ok(());
        };
        Err(InferError::Overloaded {
            retry_after: Duration::from_millis(ms),
            cause: match state % 2 {
                0 => OverloadCause::QueueWait,
                _ => OverloadCause::PendingPosts,
            },
        })
    }

    fn set(&self, rejection: Option<(Duration, OverloadCause)>) {
        let state = rejection.map_or(0, |(after, cause)| {
            let by_posts = u64::from(cause == OverloadCause::PendingPosts);
            2 * (after.as_millis() as u64 + 1) + by_posts
        });
        // Writing makes the other cores read again, and the value hardly ever changes.
        if self.state.load(Ordering::Relaxed) != state {
            self.state.store(state, Ordering::Relaxed);
        }
    }
}

/// Which worker must be woken, because posts are waiting.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Wake {
    Nobody,
    IdleWorker,
    /// A worker that has yet to be spawned; it counts as started.
    NewWorker,
}

impl Queue {
    pub(super) fn new(options: BatchOptions, early_rejection: Arc<EarlyRejection>) -> Self {
        Self {
            options,
            waiting: VecDeque::new(),
            rounds: Vec::new(),
            waiting_work: Work::default(),
            work_in_progress: Work::default(),
            next_id: 1,
            lone_requests: 0,
            throughput: ThroughputEstimate::default(),
            num_workers: 0,
            idle_scorers: Vec::new(),
            closed: false,
            early_rejection,
        }
    }

    /// Posts that wait or are being scored.
    pub(super) fn pending_posts(&self) -> usize {
        self.waiting_work.posts + self.work_in_progress.posts
    }

    /// The last handle is gone, so no further request will come.
    pub(super) fn close(&mut self) {
        self.closed = true;
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed
    }

    /// Admits a request, or rejects it immediately and hands it back.
    #[expect(
        clippy::result_large_err,
        reason = "a rejected request is handed back as it came, by a move"
    )]
    pub(super) fn admit(&mut self, mut request: Request) -> Result<u64, (InferError, Request)> {
        let posts = request.posts.len();
        if let Some((retry_after, cause)) = self.rejection(posts) {
            return Err((InferError::Overloaded { retry_after, cause }, request));
        }
        if self.cannot_meet_deadline(&request, request.admitted_at) {
            return Err((InferError::DeadlineExceeded, request));
        }
        self.lone_requests = match self.pending_posts() {
            0 => self.lone_requests.saturating_add(1),
            _ => 0,
        };
        request.id = self.next_id;
        self.next_id += 1;
        if self.rounds.len() < posts {
            self.rounds.resize(posts, 0);
        }
        for round in &mut self.rounds[..posts] {
            *round += 1;
        }
        self.waiting_work.add(posts, request.cost);
        let id = request.id;
        self.waiting.push_back(request);
        self.update_early_rejection();
        Ok(id)
    }

    /// After how long a request of so many posts should be tried again, and which limit it
    /// meets; `None` if it can be admitted now.
    fn rejection(&self, posts: usize) -> Option<(Duration, OverloadCause)> {
        if self.pending_posts() >= self.options.max_pending_posts.get() {
            return Some((Duration::ZERO, OverloadCause::PendingPosts));
        }
        let too_long = self
            .expected_wait(posts)
            .saturating_sub(self.options.max_queue_wait);
        (!too_long.is_zero()).then_some((too_long, OverloadCause::QueueWait))
    }

    /// How long the work of others will take that is done before the last post of a new
    /// request of so many posts is started.
    ///
    /// Workers take a post of each request in turn, so that a single post waits for one
    /// round only, however many posts a large request still has.
    pub(super) fn expected_wait(&self, posts: usize) -> Duration {
        let workers = self.options.workers.get();
        if self.waiting.is_empty() && self.busy_workers() < workers {
            return Duration::ZERO;
        }
        let num_rounds = posts.min(self.rounds.len());
        let posts_before: usize = self.rounds[..num_rounds].iter().sum();
        let share = posts_before as f64 / self.waiting_work.posts.max(1) as f64;
        let cost = share * self.waiting_work.cost as f64 + self.work_in_progress.cost as f64;
        let posts = posts_before + self.work_in_progress.posts;
        self.throughput.expected_time(cost, posts) / workers as u32
    }

    fn update_early_rejection(&self) {
        self.early_rejection.set(self.rejection(1));
    }

    /// Takes back the posts of a request that no worker has taken.
    pub(super) fn withdraw(&mut self, id: u64) -> Option<Request> {
        let position = self.waiting.iter().position(|request| request.id == id)?;
        let request = self.waiting.remove(position)?;
        self.forget(&request);
        self.update_early_rejection();
        Some(request)
    }

    /// A request's posts no longer wait.
    fn forget(&mut self, request: &Request) {
        let posts = request.posts.len();
        for round in &mut self.rounds[..posts] {
            *round -= 1;
        }
        self.waiting_work.remove(posts, request.cost);
    }

    /// The next post in turn. Requests that cannot meet their deadline fail here.
    pub(super) fn take(&mut self) -> Option<QueuedPost> {
        let item = self.take_one();
        self.update_early_rejection();
        item
    }

    fn take_one(&mut self) -> Option<QueuedPost> {
        loop {
            let mut request = self.waiting.pop_front()?;
            if request.options.deadline.is_some()
                && self.cannot_meet_deadline(&request, Instant::now())
            {
                self.forget(&request);
                request.response.fail(InferError::DeadlineExceeded);
                continue;
            }
            let round = request.posts.len().saturating_sub(1);
            let Some((index, post)) = request.posts.next() else {
                debug_assert!(false, "a waiting request has posts");
                continue;
            };
            let cost = cost(&post.text, request.max_post_cost);
            self.rounds[round] -= 1;
            self.waiting_work.remove(1, cost);
            self.work_in_progress.add(1, cost);
            let item = QueuedPost {
                post: post.text,
                index,
                request: request.id,
                cost,
                admitted_at: request.admitted_at,
                options: PostOptions {
                    model: post.model.or(request.options.post.model),
                    ..request.options.post
                },
                response: Arc::clone(&request.response),
            };
            request.cost -= cost;
            if request.posts.len() > 0 {
                self.waiting.push_back(request);
            }
            return Some(item);
        }
    }

    /// Posts of this total cost are done.
    pub(super) fn done(&mut self, posts: usize, cost: usize) {
        self.work_in_progress.remove(posts, cost);
        self.update_early_rejection();
    }

    /// A worker took so long for a batch of this cost.
    pub(super) fn record_batch(&mut self, cost: usize, took: Duration) {
        self.throughput.record_batch(cost, took);
        self.update_early_rejection();
    }

    /// Whether a request is late, or would be even at the best speed seen.
    fn cannot_meet_deadline(&self, request: &Request, now: Instant) -> bool {
        let workers = self.options.workers.get() as u32;
        request.options.deadline.is_some_and(|deadline| {
            now + self.throughput.least_time(request.cost) / workers >= deadline
        })
    }

    /// Whether posts wait that no worker has taken.
    pub(super) fn has_waiting_posts(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Chooses the worker for the waiting posts. A new worker is counted here, and spawned by the
    /// caller after it has released the lock.
    pub(super) fn wake(&mut self) -> Wake {
        if !self.has_waiting_posts() {
            Wake::Nobody
        } else if !self.idle_scorers.is_empty() {
            Wake::IdleWorker
        } else if self.num_workers < self.options.workers.get() {
            self.num_workers += 1;
            Wake::NewWorker
        } else {
            Wake::Nobody
        }
    }

    pub(super) fn worker_started(&mut self) {
        self.num_workers += 1;
    }

    /// The system could not spawn a worker that was counted.
    pub(super) fn worker_not_started(&mut self) {
        self.num_workers -= 1;
    }

    fn busy_workers(&self) -> usize {
        self.num_workers - self.idle_scorers.len()
    }

    /// The next post in turn, and a scorer for its batch; `None` if either is missing.
    pub(super) fn take_with_scorer(&mut self) -> Option<(Scorer, QueuedPost)> {
        let scorer = self.idle_scorers.pop()?;
        match self.take() {
            Some(post) => Some((scorer, post)),
            None => {
                self.put_back(scorer);
                None
            }
        }
    }

    /// A scorer is idle again, or new.
    pub(super) fn put_back(&mut self, scorer: Scorer) {
        self.idle_scorers.push(scorer);
        self.update_early_rejection();
    }

    /// Whether the thread that has a request may score its post itself: the server is idle, and the
    /// post is probably done soon, long before its deadline.
    pub(super) fn may_score_in_place(&self, request: &Request) -> bool {
        let deadline = request.options.deadline;
        self.options.in_place
            && request.posts.len() == 1
            && self.pending_posts() == 0
            && self.lone_requests >= IDLE_AFTER
            && self.throughput.expected_time(request.cost as f64, 1) <= MAX_TIME_IN_PLACE
            && deadline.is_none_or(|it| request.admitted_at + 2 * MAX_TIME_IN_PLACE < it)
    }
}

/// A server is idle once so many requests in a row have found no other. With several callers at
/// a time, threads that only read requests let more of them share a batch.
const IDLE_AFTER: u32 = 8;

/// The longest that a connection's thread should expect to compute. Meanwhile it notices neither
/// the request's deadline nor that its client disconnects.
const MAX_TIME_IN_PLACE: Duration = Duration::from_millis(10);

/// A smaller batch does not show the best speed: most of its time is what every batch costs,
/// however small.
const MIN_SAMPLE_COST: usize = 128 * BYTES_PER_TOKEN;

/// How long a post is assumed to take until a batch has been measured. Hardly any host is
/// slower, so that the first second of work holds 64 posts for each worker.
const ASSUMED_POST_TIME: Duration = Duration::from_micros(15_625);

/// How fast one worker is.
#[derive(Default)]
struct ThroughputEstimate {
    /// The best recent speed, from which it follows what is impossible.
    ///
    /// An average would let one slow batch (a frozen sandbox, a busy neighbour) reject
    /// requests that are perfectly possible, and with them all that could correct it.
    best_nanos_per_cost: Option<f64>,
    /// The cost of recent batches, the latest counting most.
    recent_cost: f64,
    /// The time of the same batches, weighted alike. Their quotient says what to expect.
    /// A slow batch cannot make it reject everything: an empty queue admits any request.
    recent_nanos: f64,
}

impl ThroughputEstimate {
    /// How much slower the best speed is taken to be after each batch.
    const FORGET_BEST: f64 = 1.02;

    /// The weight that earlier batches keep with each new one.
    const KEEP_RECENT: f64 = 0.9;

    fn record_batch(&mut self, cost: usize, took: Duration) {
        let (cost_f64, nanos) = (cost as f64, took.as_nanos() as f64);
        self.recent_cost = self.recent_cost * Self::KEEP_RECENT + cost_f64;
        self.recent_nanos = self.recent_nanos * Self::KEEP_RECENT + nanos;
        if cost >= MIN_SAMPLE_COST {
            let speed = nanos / cost_f64;
            let best = self
                .best_nanos_per_cost
                .map(|best| best * Self::FORGET_BEST);
            self.best_nanos_per_cost = Some(best.map_or(speed, |best| best.min(speed)));
        }
    }

    /// The least time that so much work takes; zero before the first large batch.
    fn least_time(&self, cost: usize) -> Duration {
        let nanos = self.best_nanos_per_cost.unwrap_or(0.0) * cost as f64;
        Duration::from_nanos(nanos as u64)
    }

    /// The time that so much work probably takes, in so many posts.
    fn expected_time(&self, cost: f64, posts: usize) -> Duration {
        if self.recent_cost == 0.0 {
            return ASSUMED_POST_TIME.saturating_mul(posts as u32);
        }
        Duration::from_nanos((self.recent_nanos / self.recent_cost * cost) as u64)
    }
}
