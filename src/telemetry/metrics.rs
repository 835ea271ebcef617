//! Counters and histograms, in Prometheus' names and base units.
//!
//! Counting is cheap; the registry and its text, which are not, are made for each request to
//! `/metrics`.

use super::StageTimings;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

type Label<T> = [(&'static str, T); 1];
/// Route template and status.
type RouteStatus = (Label<&'static str>, Label<u16>);
type Histograms = Family<Label<&'static str>, Histogram, fn() -> Histogram>;

/// From a tenth of a millisecond to half a minute.
const SECONDS: [f64; 17] = [
    0.0001, 0.000_25, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5,
    5.0, 10.0, 30.0,
];
const POSTS: [f64; 9] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0];
const TOKENS: [f64; 10] = [
    8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0, 4096.0, 16384.0,
];

fn seconds() -> Histogram {
    Histogram::new(SECONDS)
}

/// Everything that is counted in this process.
pub struct Metrics {
    started: Instant,
    ready_after: OnceLock<Duration>,
    is_cold: AtomicBool,
    requests: Family<RouteStatus, Counter>,
    request_duration: Histograms,
    stage_duration: Histograms,
    refusals: Family<Label<&'static str>, Counter>,
    overloads: Family<Label<&'static str>, Counter>,
    posts: Counter,
    unsupported_languages: Counter,
    tokens: Counter,
    batch_posts: Histogram,
    batch_tokens: Histogram,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// Begins to count; the time until [`Metrics::ready`] is the cold start's.
    pub fn new() -> Self {
        Self {
            started: Instant::now(),
            ready_after: OnceLock::new(),
            is_cold: AtomicBool::new(true),
            requests: Family::default(),
            request_duration: Family::new_with_constructor(seconds),
            stage_duration: Family::new_with_constructor(seconds),
            refusals: Family::default(),
            overloads: Family::default(),
            posts: Counter::default(),
            unsupported_languages: Counter::default(),
            tokens: Counter::default(),
            batch_posts: Histogram::new(POSTS),
            batch_tokens: Histogram::new(TOKENS),
        }
    }

    /// From here on requests can come.
    pub fn ready(&self) {
        let _ = self.ready_after.set(self.started.elapsed());
    }

    /// Whether this is the first request of the process; true once.
    pub fn take_cold(&self) -> bool {
        // Reading is cheap where writing makes the other cores look again.
        self.is_cold.load(Ordering::Relaxed) && self.is_cold.swap(false, Ordering::Relaxed)
    }

    /// Counts a response. `route` is a template, `code` an error's.
    pub fn request(
        &self,
        route: &'static str,
        status: u16,
        code: Option<&'static str>,
        took: Duration,
    ) {
        let labels = ([("route", route)], [("status", status)]);
        self.requests.get_or_create(&labels).inc();
        let duration = self.request_duration.get_or_create(&[("route", route)]);
        duration.observe(took.as_secs_f64());
        if let Some(code) = code {
            self.error(code);
        }
    }

    /// Counts an error of a request or of a row.
    pub fn error(&self, code: &'static str) {
        self.refusals.get_or_create(&[("code", code)]).inc();
    }

    /// A request was rejected because of load; `cause` is the limit that it met.
    pub fn overload(&self, cause: &'static str) {
        self.overloads.get_or_create(&[("cause", cause)]).inc();
    }

    /// Posts were scored for a request.
    pub fn stages(&self, posts: usize, stages: &StageTimings) {
        self.posts.inc_by(posts as u64);
        for (stage, took) in stages.named() {
            let duration = self.stage_duration.get_or_create(&[("stage", stage)]);
            duration.observe(took.as_secs_f64());
        }
    }

    /// A worker has done a batch.
    pub fn batch(&self, posts: usize, tokens: usize) {
        self.tokens.inc_by(tokens as u64);
        self.batch_posts.observe(posts as f64);
        self.batch_tokens.observe(tokens as f64);
    }

    /// Posts were found to be in languages that no model was trained for.
    pub fn unsupported_languages(&self, posts: usize) {
        self.unsupported_languages.inc_by(posts as u64);
    }

    /// Everything in OpenMetrics text, which Prometheus reads; the arguments are what
    /// is measured in the moment.
    pub fn text(&self, pending_posts: usize, pending_bytes: usize) -> String {
        let mut registry = Registry::with_prefix("coldread");
        registry.register("requests", "Requests answered", self.requests.clone());
        registry.register_with_unit(
            "request_duration",
            "From a request's head to its answer's",
            Unit::Seconds,
            self.request_duration.clone(),
        );
        registry.register_with_unit(
            "stage_duration",
            "Stages of requests that were scored",
            Unit::Seconds,
            self.stage_duration.clone(),
        );
        registry.register(
            "errors",
            "Requests and rows answered with an error",
            self.refusals.clone(),
        );
        registry.register(
            "overloads",
            "Requests rejected because of load, by the limit that was reached",
            self.overloads.clone(),
        );
        registry.register("posts", "Posts scored", self.posts.clone());
        registry.register(
            "unsupported_language_posts",
            "Posts rejected or scored with a warning because of their language",
            self.unsupported_languages.clone(),
        );
        registry.register("tokens", "Tokens scored", self.tokens.clone());
        registry.register("batch_posts", "Posts in a batch", self.batch_posts.clone());
        registry.register(
            "batch_tokens",
            "Tokens in a batch",
            self.batch_tokens.clone(),
        );
        registry.register(
            "pending_posts",
            "Posts that wait or are being scored",
            ConstGauge::new(pending_posts as i64),
        );
        registry.register_with_unit(
            "pending_bodies",
            "Request bodies held in memory",
            Unit::Bytes,
            ConstGauge::new(pending_bytes as i64),
        );
        registry.register(
            "log_lines_dropped",
            "Log lines and EMF records dropped because nobody read them fast enough",
            ConstCounter::new(super::log::dropped_lines() as u64),
        );
        if let Some(ready_after) = self.ready_after.get() {
            registry.register_with_unit(
                "cold_start",
                "From the start of serving until requests could come",
                Unit::Seconds,
                ConstGauge::new(ready_after.as_secs_f64()),
            );
        }
        let mut text = String::new();
        encode(&mut text, &registry).expect("a string takes everything");
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_happened_can_be_read() {
        let metrics = Metrics::new();
        assert!(metrics.take_cold());
        assert!(!metrics.take_cold());
        assert!(!metrics.text(0, 0).contains("cold_start"));
        metrics.ready();
        metrics.request("/v1/sentiment", 200, None, Duration::from_micros(700));
        metrics.request("/v1/sentiment", 429, Some("overloaded"), Duration::ZERO);
        metrics.overload("queue_wait");
        let stages = StageTimings {
            inference: Duration::from_millis(3),
            ..StageTimings::default()
        };
        metrics.stages(2, &stages);
        metrics.batch(2, 20);
        metrics.unsupported_languages(1);
        let text = metrics.text(7, 1000);
        for line in [
            "coldread_requests_total{route=\"/v1/sentiment\",status=\"429\"} 1",
            "coldread_request_duration_seconds_bucket{le=\"0.001\",route=\"/v1/sentiment\"} 2",
            "coldread_stage_duration_seconds_sum{stage=\"inference\"} 0.003",
            "coldread_errors_total{code=\"overloaded\"} 1",
            "coldread_overloads_total{cause=\"queue_wait\"} 1",
            "coldread_posts_total 2",
            "coldread_unsupported_language_posts_total 1",
            "coldread_tokens_total 20",
            "coldread_batch_posts_bucket{le=\"1.0\"} 0",
            "coldread_batch_tokens_sum 20.0",
            "coldread_pending_posts 7",
            "coldread_pending_bodies_bytes 1000",
            "# TYPE coldread_cold_start_seconds gauge",
            "# EOF",
        ] {
            assert!(
                text.lines().any(|is| is == line),
                "{line} is not in\n{text}"
            );
        }
    }
}
