//! Lambda events other than HTTP requests: queues, streams, topics, buses, pipes and direct
//! invocations.
//!
//! Their posts go through the batcher with the same limits, deadlines, metrics and log lines
//! as those of requests. The meaning of a response depends on the sender, which [`source`]
//! reads from the event itself:
//!
//! - **Queues and streams** ([`partial_batch_response`]) delete every record that the response
//!   does not list as failed, and ignore everything else in it. So the result of a record goes
//!   to a [`Sink`] first, and only a record whose result has arrived there counts as done.
//!   Without a sink such events are rejected.
//! - **Pings** that keep a function warm are acknowledged, and nothing is scored.
//! - **All others** ([`sync_response`]) get the results as their response.
//!
//! Invariants: only records that were scored and delivered are acknowledged; an event of which
//! no record was is an error, never an empty response, which Lambda's pollers would take for
//! success; no text of a post is in an error, a result or a log line.

mod error;
mod partial_batch_response;
mod record;
mod score;
pub mod sink;
mod source;
mod sync_response;

pub use error::InvocationError;
pub use sink::{Outgoing, Sink};
pub use source::EventKind;

use crate::config::EventOptions;
use crate::http::AppState;
use crate::platform::Platform;
use crate::telemetry::StageTimings;
use crate::telemetry::{REQUEST_TARGET, TraceIds};
use record::Finder;
use serde_json::value::RawValue;
use source::EventSource;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tracing::Instrument;

/// Handles events.
pub struct Events {
    app: AppState,
    finder: Finder,
    sink: Option<Arc<dyn Sink>>,
}

impl Events {
    /// Scores with `app`'s model, under its limits; results of queues and streams go to
    /// `sink`.
    pub fn new(app: AppState, options: &EventOptions, sink: Option<Arc<dyn Sink>>) -> Self {
        Self {
            app,
            finder: Finder::new(options),
            sink,
        }
    }

    /// Handles an event of a kind and returns the response; both are JSON. `trace` is the value
    /// of the header `X-Amzn-Trace-Id`.
    pub async fn invoke(
        &self,
        event: &str,
        kind: EventKind,
        platform: &Platform,
        trace: Option<&str>,
    ) -> Result<Box<RawValue>, InvocationError> {
        let began = Instant::now();
        let metrics = self.app.batcher().metrics();
        let is_cold = metrics.take_cold();
        let trace = TraceIds::parse(trace.map(str::as_bytes), None);
        let span = tracing::info_span!(
            target: REQUEST_TARGET,
            "request",
            function_request_id = platform.request_id.as_deref(),
            function_arn = platform.function_arn.as_deref(),
            cold_start = is_cold,
            xray_trace_id = trace.xray.as_deref(),
        );
        let mut stats = EventStats::default();
        let response = self.respond(event, kind, platform, &mut stats);
        let response = response.instrument(span.clone()).await;

        let took = began.elapsed();
        let code = response.as_ref().err().map(InvocationError::code);
        let status = if code.is_none() { 200 } else { 500 };
        metrics.request(stats.source, status, code, took);
        if is_cold && let Some(emf) = self.app.emf() {
            emf.cold_start();
        }
        if stats.posts > 0 {
            metrics.stages(stats.posts, &stats.stages);
            if let Some(emf) = self.app.emf() {
                emf.request(stats.posts, &stats.stages, took);
            }
        }
        span.in_scope(|| stats.log(code, took));
        response
    }

    async fn respond(
        &self,
        event: &str,
        kind: EventKind,
        platform: &Platform,
        stats: &mut EventStats,
    ) -> Result<Box<RawValue>, InvocationError> {
        if kind == EventKind::Direct {
            stats.source = "event:invoke";
            return self.direct(event, platform, stats).await;
        }
        let batch = source::read(event, &self.finder)?;
        stats.source = batch.source.name();
        stats.records = batch.records.len();
        match batch.source {
            EventSource::Sqs
            | EventSource::SqsFifo
            | EventSource::Kinesis
            | EventSource::DynamoDb => self.partial_batch_response(batch, platform, stats).await,
            EventSource::Ping => Ok(sync_response::json(&Pong { status: "ok" })),
            EventSource::Sns | EventSource::EventBridge | EventSource::List => {
                self.results(batch, platform, stats).await
            }
        }
    }
}

/// The response to a ping, which is that of `/healthz`.
#[derive(serde::Serialize)]
struct Pong {
    status: &'static str,
}

/// What is counted and logged about an event.
struct EventStats {
    source: &'static str,
    records: usize,
    posts: usize,
    /// Records that will be retried.
    failed: usize,
    /// The error code of the first of them.
    failed_code: Option<&'static str>,
    stages: StageTimings,
}

impl Default for EventStats {
    fn default() -> Self {
        Self {
            source: "event:unknown",
            records: 0,
            posts: 0,
            failed: 0,
            failed_code: None,
            stages: StageTimings::default(),
        }
    }
}

impl EventStats {
    /// Counts scored posts.
    fn scored(&mut self, posts: usize, stages: &StageTimings) {
        self.posts += posts;
        self.stages.queue += stages.queue;
        self.stages.tokenize += stages.tokenize;
        self.stages.inference += stages.inference;
    }

    fn log(&self, code: Option<&'static str>, took: Duration) {
        let ms = |took: Duration| took.as_micros() as f64 / 1e3;
        tracing::info!(
            source = self.source,
            code,
            records = self.records,
            posts = self.posts,
            failed = self.failed,
            failed_code = self.failed_code,
            duration_ms = ms(took),
            queue_ms = ms(self.stages.queue),
            tokenize_ms = ms(self.stages.tokenize),
            inference_ms = ms(self.stages.inference),
            "event"
        );
    }
}
