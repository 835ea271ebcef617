//! How long each phase of a cold start took.
//!
//! A start is a chain of phases, each of which ends once. [`mark`] notes the time of
//! its end on the system's monotonic clock, which all processes share: if the starter
//! puts its own reading into `COLDREAD_STARTED_NS` just before `exec`, the first phase,
//! up to `main`, is known as well. Marking costs a read of the clock and an atomic store,
//! so it is always on; the figures are in `/v1/info`, and
//! `COLDREAD_TIMINGS=1` prints them as one line of JSON on standard error.

use crate::environment::is_true;
use rustix::time::{ClockId, clock_gettime};
use serde::Serialize;
use std::io::Write;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

/// The end of a phase, in the order in which they come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// `main` runs.
    Main,
    /// Arguments and environment are read, the model is mapped and checked.
    Model,
    /// Tokenizer and kernels are ready.
    Tokenizer,
    /// Everything is ready for a request: on Lambda the first event is asked for, over
    /// TCP connections are taken.
    Ready,
}

const PHASES: usize = 4;

/// Nanoseconds of the monotonic clock at the end of each phase; 0 if it is not over.
static ENDS: [AtomicU64; PHASES] = [const { AtomicU64::new(0) }; PHASES];
/// How long the first inference took; 0 if there was none yet.
static FIRST_INFERENCE_NS: AtomicU64 = AtomicU64::new(0);

/// What is known so far. All times are milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
pub struct Timings {
    /// From the starter's clock to `main`; unknown unless it told.
    pub process_start_ms: Option<f64>,
    /// From `main` to the model being mapped and checked.
    pub model_ms: Option<f64>,
    /// From there to tokenizer and kernels being ready.
    pub tokenizer_ms: Option<f64>,
    /// From there to asking for the first event, or to taking connections; it includes
    /// the first inference if that is made as a warm-up.
    pub runtime_next_ms: Option<f64>,
    /// The first inference by itself.
    pub first_inference_ms: Option<f64>,
}

/// What is known by now.
pub fn current() -> Timings {
    timings(std::env::var("COLDREAD_STARTED_NS").ok().as_deref())
}

/// Now, on the system's monotonic clock.
fn now_ns() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    // A machine that has been up for five centuries would wrap.
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

/// Notes that a phase is over; only the first time counts.
pub fn mark(phase: Phase) {
    let end = &ENDS[phase as usize];
    let _ = end.compare_exchange(0, now_ns(), Ordering::Relaxed, Ordering::Relaxed);
    if phase == Phase::Ready {
        announce();
    }
}

/// Notes how long an inference took, if it was the first.
pub fn inferred(took: Duration) {
    let took = (took.as_nanos() as u64).max(1);
    let _ = FIRST_INFERENCE_NS.compare_exchange(0, took, Ordering::Relaxed, Ordering::Relaxed);
    announce();
}

/// Tells the log, and standard error if it was asked for, once all phases are over.
fn announce() {
    static ANNOUNCED: AtomicBool = AtomicBool::new(false);
    let is_over = ENDS[Phase::Ready as usize].load(Ordering::Relaxed) != 0
        && FIRST_INFERENCE_NS.load(Ordering::Relaxed) != 0;
    if !is_over || ANNOUNCED.swap(true, Ordering::Relaxed) {
        return;
    }
    let timings = current();
    tracing::debug!(
        process_start_ms = timings.process_start_ms,
        model_ms = timings.model_ms,
        tokenizer_ms = timings.tokenizer_ms,
        runtime_next_ms = timings.runtime_next_ms,
        first_inference_ms = timings.first_inference_ms,
        "started"
    );
    if std::env::var("COLDREAD_TIMINGS").is_ok_and(|asked| is_true(&asked)) {
        let line = serde_json::json!({ "timings": timings });
        // A closed standard error is no reason to stop serving.
        let _ = writeln!(std::io::stderr(), "{line}");
    }
}

/// `started_ns` is what `COLDREAD_STARTED_NS` holds.
fn timings(started_ns: Option<&str>) -> Timings {
    let ends = ENDS.each_ref().map(|end| end.load(Ordering::Relaxed));
    let [main, model, tokenizer, ready] = ends;
    let inference = FIRST_INFERENCE_NS.load(Ordering::Relaxed);
    let started = started_ns.and_then(|ns| ns.trim().parse().ok());
    Timings {
        process_start_ms: started.and_then(|started| between(started, main)),
        model_ms: between(main, model),
        tokenizer_ms: between(model, tokenizer),
        runtime_next_ms: between(tokenizer, ready),
        first_inference_ms: (inference != 0).then(|| milliseconds(inference)),
    }
}

/// Both ends known, and in their order.
fn between(start: u64, end: u64) -> Option<f64> {
    (start != 0 && end != 0)
        .then(|| end.checked_sub(start))
        .flatten()
        .map(milliseconds)
}

/// To the microsecond: more would be noise.
fn milliseconds(ns: u64) -> f64 {
    (ns as f64 / 1e3).round() / 1e3
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_phase_without_both_ends_is_unknown() {
        assert_eq!(between(0, 5), None);
        assert_eq!(between(5, 0), None);
        assert_eq!(between(9, 5), None, "a starter with another clock");
        assert_eq!(between(1, 1_500_001), Some(1.5));
    }

    #[test]
    fn the_first_of_each_counts() {
        mark(Phase::Main);
        let first = ENDS[Phase::Main as usize].load(Ordering::Relaxed);
        mark(Phase::Main);
        assert_eq!(ENDS[Phase::Main as usize].load(Ordering::Relaxed), first);

        let started = (first - 2_000_000).to_string();
        assert_eq!(timings(Some(&started)).process_start_ms, Some(2.0));
        assert_eq!(timings(Some("soon")).process_start_ms, None);
        assert_eq!(timings(None).process_start_ms, None);

        // Other tests of this process infer as well.
        inferred(Duration::from_millis(3));
        let known = timings(None).first_inference_ms;
        inferred(Duration::from_hours(1));
        assert!(known.is_some());
        assert_eq!(timings(None).first_inference_ms, known);
    }
}
