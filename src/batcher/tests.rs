//! The queue with an engine that computes nothing, but can be stalled, can panic and records its
//! input.

use super::{BatchOptions, Batcher, RequestOptions};
use crate::error::InferError;
use crate::scorer::{PostOptions, PostResult, Scorer};
use coldread_engine::engine::{EncodedBatch, Engine, EngineInfo};
use coldread_engine::{Classifier, EngineError, Model, ModelOptions};
use proptest::prelude::*;
use std::cell::Cell;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, OnceLock, mpsc};
use std::time::{Duration, Instant};
use tokio::runtime::{Builder, Runtime};

/// A post whose cost the tests know.
const POST: &str = "good";

/// A word on which the engine panics.
const POISON: &str = "poison";

fn real() -> Model {
    static MODEL: OnceLock<Model> = OnceLock::new();
    let model = MODEL.get_or_init(|| {
        let options = ModelOptions::new().max_post_bytes(1000);
        options.embedded().expect("the default model loads")
    });
    model.clone()
}

/// The tokens of each post, batch by batch.
type Log = Arc<Mutex<Vec<Vec<Vec<u32>>>>>;

#[derive(Clone)]
struct Fake {
    labels: usize,
    poison: u32,
    log: Log,
    /// Where batches wait, if they are to.
    gate: Option<Arc<Gate>>,
    batches: bool,
}

struct Gate {
    reached: mpsc::Sender<()>,
    open: Mutex<mpsc::Receiver<()>>,
}

thread_local! {
    /// How many batches this thread has computed.
    static BATCHES: Cell<usize> = const { Cell::new(0) };
}

impl Engine for Fake {
    fn forward(&mut self, batch: &EncodedBatch, logits: &mut Vec<f32>) -> Result<(), EngineError> {
        BATCHES.set(BATCHES.get() + 1);
        let posts: Vec<Vec<u32>> = batch.posts().map(<[u32]>::to_vec).collect();
        self.log.lock().expect("not poisoned").push(posts);
        if let Some(gate) = &self.gate {
            // The test may have ended, and both ends with it.
            let _ = gate.reached.send(());
            let _ = gate.open.lock().expect("not poisoned").recv();
        }
        for post in batch.posts() {
            if post.contains(&self.poison) {
                // A panic without a report: it is expected.
                std::panic::resume_unwind(Box::new(()));
            }
            let sum = post.iter().fold(0_u32, |sum, id| sum.rotate_left(5) ^ id);
            logits.extend((0..self.labels).map(|i| ((sum >> (8 * i)) & 0xff) as f32 / 64.0));
        }
        Ok(())
    }

    fn fork(&self) -> Box<dyn Engine> {
        Box::new(self.clone())
    }

    fn info(&self) -> EngineInfo {
        EngineInfo {
            batches: self.batches,
            engine: "fake",
            isa: None,
            weight_range: None,
            threads: 1,
        }
    }
}

fn fake(log: &Log, gate: Option<Arc<Gate>>) -> Classifier {
    fake_with(log, gate, true)
}

fn fake_with(log: &Log, gate: Option<Arc<Gate>>, batches: bool) -> Classifier {
    let model = real();
    let poison = model.token_ids(POISON).expect("tokens")[1];
    let labels = model.labels().len();
    let engine = Box::new(Fake {
        labels,
        poison,
        log: Arc::clone(log),
        gate,
        batches,
    });
    model.with_engine(engine).classifier()
}

fn options(max_pending_posts: usize, max_batch_tokens: usize, workers: usize) -> BatchOptions {
    let some = |n: usize| NonZeroUsize::new(n).expect("more than 0");
    BatchOptions {
        max_pending_posts: some(max_pending_posts),
        max_queue_wait: Duration::from_hours(1),
        max_batch_tokens: some(max_batch_tokens),
        batch_wait: Duration::ZERO,
        workers: some(workers),
        in_place: false,
    }
}

/// A queue whose one worker stops before each batch until it is told to go on.
struct Held {
    batcher: Batcher,
    log: Log,
    reached: mpsc::Receiver<()>,
    open: mpsc::Sender<()>,
    runtime: Runtime,
}

impl Held {
    fn new(options: BatchOptions) -> Self {
        Self::with(options, true)
    }

    /// `batches` says whether the engine gains anything from them.
    fn with(options: BatchOptions, batches: bool) -> Self {
        let log = Log::default();
        let (reached_tx, reached) = mpsc::channel();
        let (open, open_rx) = mpsc::channel();
        let gate = Gate {
            reached: reached_tx,
            open: Mutex::new(open_rx),
        };
        let classifier = fake_with(&log, Some(Arc::new(gate)), batches);
        Self {
            batcher: Batcher::start(classifier, options, Arc::default()),
            log,
            reached,
            open,
            runtime: Builder::new_multi_thread()
                .worker_threads(1)
                .enable_time()
                .build()
                .expect("a runtime"),
        }
    }

    /// Sends a request off; it is in the queue when this returns.
    fn send(&self, posts: &[&str], timeout: Option<Duration>) -> Sent {
        let pending = self.batcher.pending_posts();
        let (batcher, posts) = (self.batcher.clone(), strings(posts));
        let sent = self.runtime.spawn(async move {
            let deadline = timeout.map(|timeout| Instant::now() + timeout);
            let answer = batcher
                .classify(
                    posts,
                    RequestOptions {
                        deadline,
                        ..RequestOptions::default()
                    },
                )
                .await;
            answer.map(|answer| answer.results)
        });
        until(|| self.batcher.pending_posts() > pending || sent.is_finished());
        sent
    }

    /// Waits for the worker to begin a batch.
    fn reached(&self) {
        let reached = self.reached.recv_timeout(Duration::from_secs(20));
        reached.expect("the worker begins a batch");
    }

    fn open(&self) {
        self.open.send(()).expect("the worker waits");
    }

    fn answer(&self, sent: Sent) -> Result<Vec<PostResult>, InferError> {
        self.runtime.block_on(sent).expect("no panic")
    }

    /// Makes the queue believe that the last batch was scored at this speed.
    fn posts_take(&self, time_per_post: Duration) {
        let mut queue = self.batcher.0.shared.lock();
        // A post of one word costs its bytes and a constant.
        queue.record_batch(1000 * (POST.len() + 8), time_per_post * 1000);
    }

    fn batches(&self) -> usize {
        self.log.lock().expect("not poisoned").len()
    }
}

type Sent = tokio::task::JoinHandle<Result<Vec<PostResult>, InferError>>;

fn strings(posts: &[&str]) -> Vec<String> {
    posts.iter().map(|&post| post.to_owned()).collect()
}

fn until(mut condition: impl FnMut() -> bool) {
    let began = Instant::now();
    while !condition() {
        assert!(
            began.elapsed() < Duration::from_secs(20),
            "it never happens"
        );
        std::thread::sleep(Duration::from_micros(100));
    }
}

#[test]
fn a_single_post_does_not_wait_for_a_large_request() {
    let held = Held::new(options(10_000, 64, 1));
    let large = held.send(&["a long day at work"; 1000], None);
    held.reached();
    let small = held.send(&["good"], None);
    held.open();
    held.reached();
    held.open();
    // The second batch has it, and the large request has hardly begun.
    assert!(held.answer(small).expect("scored")[0].is_ok());
    assert!(!large.is_finished());
    assert!(held.batcher.pending_posts() > 900);
}

#[test]
fn what_comes_while_the_worker_is_busy_becomes_one_batch() {
    let held = Held::new(options(100, 1000, 1));
    let first = held.send(&["first"], None);
    held.reached();
    let rest: Vec<Sent> = (0..9).map(|_| held.send(&["one of nine"], None)).collect();
    held.open();
    held.reached();
    held.open();
    assert!(held.answer(first).is_ok());
    for sent in rest {
        assert!(held.answer(sent).is_ok());
    }
    assert_eq!(held.batches(), 2);
}

#[test]
fn an_engine_that_gains_nothing_from_batches_is_given_one_post_at_a_time() {
    let held = Held::with(options(100, 1000, 1), false);
    let sent = held.send(&["one", "two", "three"], None);
    held.reached();
    // Cancelled while the first post is being scored: nobody pays for the others.
    sent.abort();
    until(|| held.batcher.pending_posts() <= 1);
    let next = held.send(&["four"], None);
    held.open();
    held.reached();
    held.open();
    assert!(held.answer(next).is_ok());
    let log = held.log.lock().expect("not poisoned");
    assert!(log.iter().all(|batch| batch.len() == 1), "{log:?}");
    assert_eq!(log.len(), 2);
}

#[test]
fn a_batch_ends_at_its_token_budget() {
    let held = Held::new(options(100, 10, 1));
    let sent = held.send(&["one two three four five six"; 5], None);
    for _ in 0..3 {
        held.reached();
        held.open();
    }
    assert_eq!(held.answer(sent).expect("scored").len(), 5);
    // Eight tokens each: the second one passes the budget.
    let posts: Vec<usize> = held
        .log
        .lock()
        .expect("whole")
        .iter()
        .map(Vec::len)
        .collect();
    assert_eq!(posts, [2, 2, 1]);
}

#[test]
fn a_worker_that_waits_for_more_keeps_nobody_from_work() {
    let held = Held::new(BatchOptions {
        batch_wait: Duration::from_mins(1),
        ..options(100, 10, 2)
    });
    let full = "one two three four five six seven eight nine ten";
    let first = [0; 2].map(|_| {
        let sent = held.send(&[full], None);
        held.reached();
        sent
    });
    // One worker waits for more than this, and then the other for anything at all.
    held.open();
    until(|| first.iter().any(Sent::is_finished));
    let small = held.send(&["good"], None);
    until(|| !held.batcher.0.shared.lock().has_waiting_posts());
    held.open();
    until(|| first.iter().all(Sent::is_finished));
    // However few are told that something came, both begin a batch.
    let many = held.send(&[full; 3], None);
    held.reached();
    held.reached();
    for _ in 0..3 {
        held.open();
    }
    assert!(held.answer(small).is_ok());
    assert_eq!(held.answer(many).expect("scored").len(), 3);
}

#[test]
fn nothing_is_computed_for_callers_that_have_gone() {
    let held = Held::new(options(100, 1000, 1));
    let first = held.send(&["first"], None);
    held.reached();
    let gone = held.send(&["nobody waits for this"; 20], None);
    gone.abort();
    until(|| held.batcher.pending_posts() == 1);
    let last = held.send(&["last"], None);
    for _ in 0..2 {
        held.open();
    }
    assert!(held.answer(first).is_ok());
    assert!(held.answer(last).is_ok());
    let posts: Vec<usize> = held
        .log
        .lock()
        .expect("whole")
        .iter()
        .map(Vec::len)
        .collect();
    assert_eq!(posts, [1, 1]);
}

#[test]
fn a_deadline_that_passes_in_the_queue_is_told_at_once() {
    let held = Held::new(options(100, 1000, 1));
    let first = held.send(&["first"], None);
    held.reached();
    let late = held.send(&["late"; 3], Some(Duration::from_millis(5)));
    // The worker is still held up.
    assert!(matches!(
        held.answer(late),
        Err(InferError::DeadlineExceeded)
    ));
    assert_eq!(held.batcher.pending_posts(), 1);
    held.open();
    assert!(held.answer(first).is_ok());
    assert_eq!(held.batches(), 1);
}

#[test]
fn work_that_cannot_be_done_in_time_is_not_started() {
    let held = Held::new(options(10_000, 1000, 1));
    held.posts_take(Duration::from_secs(1));
    let minute = Some(Duration::from_mins(1));
    let impossible = held.send(&[POST; 100], minute);
    assert!(matches!(
        held.answer(impossible),
        Err(InferError::DeadlineExceeded)
    ));
    assert_eq!(held.batches(), 0);
    let possible = held.send(&[POST], minute);
    held.open();
    assert!(held.answer(possible).is_ok());
}

/// Requests of so many posts that are admitted before one is rejected, and after how many
/// seconds that one may try again. The worker is busy with a post of its own.
fn admitted(held: &Held, posts: usize) -> (usize, f64) {
    let first = held.send(&[POST], None);
    held.reached();
    let mut waiting = Vec::new();
    loop {
        let sent = held.send(&vec![POST; posts], None);
        if !sent.is_finished() {
            waiting.push(sent);
            continue;
        }
        let Err(InferError::Overloaded { retry_after, .. }) = held.answer(sent) else {
            panic!("rejected for another reason");
        };
        let admitted = waiting.len();
        // What waits leaves again.
        for sent in waiting {
            sent.abort();
        }
        until(|| held.batcher.pending_posts() == 1);
        held.open();
        assert!(held.answer(first).is_ok());
        return (admitted, retry_after.as_secs_f64());
    }
}

fn limited(max_queue_wait_ms: u64) -> Held {
    Held::new(BatchOptions {
        max_queue_wait: Duration::from_millis(max_queue_wait_ms),
        ..options(4096, 1000, 1)
    })
}

#[test]
fn requests_are_admitted_by_their_expected_wait_whatever_the_speed() {
    for (post_ms, expected) in [(10, 100), (100, 10), (500, 2)] {
        let held = limited(1000);
        held.posts_take(Duration::from_millis(post_ms));
        let (admitted, retry_after) = admitted(&held, 1);
        // Each request waits for the post in progress and for those before it.
        assert_eq!(admitted, expected, "{post_ms} ms a post");
        let post = post_ms as f64 / 1e3;
        assert!((retry_after - post).abs() < 1e-6, "{retry_after}");
    }
}

#[test]
fn before_the_first_batch_a_second_holds_64_posts() {
    assert_eq!(admitted(&limited(1000), 1).0, 64);
    assert_eq!(admitted(&limited(250), 1).0, 16);
}

#[test]
fn a_large_request_keeps_large_ones_out_and_small_ones_not() {
    let held = limited(1000);
    held.posts_take(Duration::from_millis(10));
    let first = held.send(&[POST], None);
    held.reached();
    let large = held.send(&[POST; 1000], None);
    assert!(!held.batcher.is_full());
    // It would wait for the 1,000 posts of the other and for the one in progress.
    let Err(InferError::Overloaded { retry_after, .. }) =
        held.answer(held.send(&[POST; 1000], None))
    else {
        panic!("not rejected");
    };
    assert!((retry_after.as_secs_f64() - 9.01).abs() < 1e-6);
    // A single post waits for one of each.
    let small = held.send(&[POST], None);
    assert!(!small.is_finished());
    for sent in [large, small] {
        sent.abort();
    }
    held.open();
    assert!(held.answer(first).is_ok());
}

#[test]
fn an_empty_queue_admits_any_request_however_slow_the_host() {
    let held = limited(1);
    held.posts_take(Duration::from_mins(1));
    assert!(held.batcher.check_room().is_ok());
    let sent = held.send(&[POST; 50], None);
    held.reached();
    // The early check needs no lock and agrees.
    assert!(matches!(
        held.batcher.check_room(),
        Err(InferError::Overloaded { .. })
    ));
    for _ in 0..2 {
        let _ = held.open.send(());
    }
    assert_eq!(held.answer(sent).expect("scored").len(), 50);
    until(|| held.batcher.check_room().is_ok());
}

#[test]
fn room_is_asked_for_alike_by_one_post_and_by_many() {
    let held = Held::new(options(10, 1000, 1));
    let first = held.send(&["a"; 9], None);
    held.reached();
    // One place is left: that lets in a request of any length.
    let large = held.send(&["b"; 50], None);
    assert!(held.batcher.is_full());
    for rejected in [held.send(&["c"], None), held.send(&["c"; 50], None)] {
        assert!(matches!(
            held.answer(rejected),
            Err(InferError::Overloaded { .. })
        ));
    }
    for _ in 0..2 {
        held.open();
    }
    assert_eq!(held.answer(first).expect("scored").len(), 9);
    assert_eq!(held.answer(large).expect("scored").len(), 50);
    assert!(!held.batcher.is_full());
}

#[test]
fn a_panic_fails_the_request_at_fault_alone() {
    let held = Held::new(options(100, 1000, 1));
    let first = held.send(&["first"], None);
    held.reached();
    let good = held.send(&["good", "fine"], None);
    let bad = held.send(&["bad", POISON, "never seen"], None);
    // The batch of both, then each by itself.
    for _ in 0..4 {
        held.open();
    }
    assert!(held.answer(first).is_ok());
    assert_eq!(held.answer(good).expect("scored").len(), 2);
    assert!(matches!(held.answer(bad), Err(InferError::Internal(_))));
    let next = held.send(&["next"], None);
    held.open();
    assert!(held.answer(next).is_ok(), "the worker goes on");
    until(|| held.batcher.pending_posts() == 0);
}

#[test]
fn stages_tell_where_time_went() {
    let batcher = Batcher::start(
        fake(&Log::default(), None),
        options(10, 100, 1),
        Arc::default(),
    );
    let runtime = Builder::new_current_thread().build().expect("a runtime");
    let began = Instant::now();
    let answer = runtime.block_on(batcher.classify(strings(&["good"]), RequestOptions::default()));
    let stages = answer.expect("scored").stages;
    let sum = stages.queue + stages.tokenize + stages.inference;
    assert!(!stages.tokenize.is_zero());
    assert!(sum <= began.elapsed(), "{stages:?}");
}

/// A request of a few posts, of which some cannot be scored; whether its client disconnects.
fn request() -> impl Strategy<Value = (Vec<String>, bool)> {
    let word = prop_oneof![
        "[a-e]{1,3}",
        "(so )?(good|bad)( day){0,9}",
        Just(String::new())
    ];
    let posts = prop::collection::vec(word, 1..12);
    (posts, prop::bool::weighted(0.2), prop::bool::weighted(0.1)).prop_map(
        |(mut posts, gone, bad)| {
            if bad {
                posts.push(POISON.to_owned());
            }
            (posts, gone)
        },
    )
}

#[test]
fn an_idle_server_scores_a_lone_post_on_the_thread_that_has_it() {
    let options = BatchOptions {
        in_place: true,
        ..options(100, 256, 1)
    };
    let batcher = Batcher::start(fake(&Log::default(), None), options, Arc::default());
    let runtime = Builder::new_multi_thread()
        .enable_time()
        .build()
        .expect("a runtime");
    let scored_here = |posts: &[&str], options| {
        let before = BATCHES.get();
        let posts: Vec<String> = posts.iter().map(|&post| post.to_owned()).collect();
        let scored = runtime.block_on(batcher.classify(posts.clone(), options));
        assert_eq!(scored.expect("scored").results.len(), posts.len());
        BATCHES.get() > before
    };
    let no_options = RequestOptions::default();
    // Not the first: whether the server is idle, and how fast it is, is not known yet.
    assert!(!scored_here(&[POST], no_options));
    until(|| scored_here(&[POST], no_options));
    assert!(!scored_here(&[POST, POST], no_options));
    let soon = RequestOptions {
        deadline: Some(Instant::now() + Duration::from_millis(15)),
        ..no_options
    };
    let before = BATCHES.get();
    let _ = runtime.block_on(batcher.classify(vec![POST.to_owned()], soon));
    assert_eq!(BATCHES.get(), before, "its deadline is near");
    // A failure is the request's own.
    let failed = batcher.classify(vec![POISON.to_owned()], no_options);
    assert!(runtime.block_on(failed).is_err());
    until(|| scored_here(&[POST], no_options));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn every_accepted_post_is_answered_once_with_its_own_scores(
        requests in prop::collection::vec(request(), 1..30),
        max_batch_tokens in 1_usize..120,
        workers in 1_usize..4,
        wait_us in prop::sample::select(vec![0_u64, 300]),
        in_place: bool,
    ) {
        let log = Log::default();
        let options = BatchOptions {
            batch_wait: Duration::from_micros(wait_us),
            in_place,
            ..options(200, max_batch_tokens, workers)
        };
        let batcher = Batcher::start(fake(&log, None), options, Arc::default());
        let runtime = Builder::new_multi_thread().worker_threads(2).enable_time().build().expect("a runtime");
        let sent: Vec<_> = requests.iter().map(|(posts, gone)| {
            let (batcher, posts, gone) = (batcher.clone(), posts.clone(), *gone);
            runtime.spawn(async move {
                let answer = batcher.classify(posts, RequestOptions::default());
                let patience = if gone { Duration::ZERO } else { Duration::from_mins(1) };
                tokio::time::timeout(patience, answer).await.ok()
            })
        }).collect();

        let mut alone = Scorer::from(fake(&Log::default(), None));
        for ((posts, gone), sent) in requests.iter().zip(sent) {
            let answer = runtime.block_on(sent).expect("no panic");
            let Some(answer) = answer else {
                prop_assert!(gone, "nobody waits for a minute");
                continue;
            };
            match answer {
                Ok(answer) => {
                    let expected = alone.score(posts, PostOptions::default());
                    prop_assert_eq!(answer.results, expected.expect("no poison"));
                },
                Err(InferError::Internal(_)) => prop_assert!(posts.iter().any(|post| post == POISON)),
                Err(InferError::Overloaded { .. }) => {}
                Err(error) => prop_assert!(false, "{}", error),
            }
        }
        until(|| batcher.pending_posts() == 0);
    }
}
