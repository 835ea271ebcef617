//! The telemetry of every request: its ids, its log line, its metrics and the
//! `Server-Timing` of its response.
//!
//! None of it contains text that a client chose. Routes appear as templates, methods and codes
//! come from closed sets, and ids are validated.

use super::error::ErrorCode;
use super::routes::{Routes, Template};
use super::state::AppState;
use crate::error::OverloadCause;
use crate::platform::Platform;
use crate::telemetry::{REQUEST_TARGET, StageTimings, TraceIds, request_id};
use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method};
use axum::middleware::Next;
use axum::response::Response;
use std::fmt::Write;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tracing::Instrument;
use tracing::field::Empty;

pub(super) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
pub(super) const SERVER_TIMING: HeaderName = HeaderName::from_static("server-timing");
const XRAY: HeaderName = HeaderName::from_static("x-amzn-trace-id");
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// A request's id, for handlers that return it in another header as well.
#[derive(Clone)]
pub(super) struct RequestId(pub(super) String);

/// What a handler scored. It puts this into the extensions of its response.
#[derive(Clone, Copy)]
pub(super) struct ScoringStats {
    pub(super) posts: usize,
    pub(super) stages: StageTimings,
}

/// Records the telemetry of a request.
pub(super) async fn record(
    State((app, routes)): State<(AppState, Arc<Routes>)>,
    mut request: Request,
    next: Next,
) -> Response {
    let began = Instant::now();
    let metrics = app.batcher().metrics();
    let is_cold = metrics.take_cold();
    let path = request.extensions().get().map_or("", MatchedPath::as_str);
    let route = routes.find(path);
    let method = method(request.method());
    let headers = request.headers();
    let trace = TraceIds::parse(bytes(headers, &XRAY), bytes(headers, &TRACEPARENT));
    let platform: Option<&Platform> = request.extensions().get();
    let id = match platform.and_then(|platform| platform.request_id.clone()) {
        Some(id) => id,
        None => request_id(bytes(headers, &REQUEST_ID)),
    };
    let span = tracing::info_span!(
        target: REQUEST_TARGET,
        "request",
        request_id = Empty,
        function_request_id = Empty,
        function_arn = platform.and_then(|platform| platform.function_arn.as_deref()),
        cold_start = is_cold,
        xray_trace_id = trace.xray.as_deref(),
        trace_id = trace.w3c.as_deref(),
    );
    let is_function = platform.is_some();
    let name = if is_function {
        "function_request_id"
    } else {
        "request_id"
    };
    span.record(name, id.as_str());

    request.extensions_mut().insert(RequestId(id.clone()));
    let mut response = next.run(request).instrument(span.clone()).await;
    let took = began.elapsed();
    let status = response.status().as_u16();
    let code = response.extensions().get().map(|&ErrorCode(code)| code);
    let overload: Option<OverloadCause> = response.extensions().get().copied();
    let stats: Option<ScoringStats> = response.extensions().get().copied();

    metrics.request(route.name, status, code, took);
    if let Some(cause) = overload {
        metrics.overload(cause.name());
    }
    if is_cold && let Some(emf) = &app.0.emf {
        emf.cold_start();
    }
    if let Some(stats) = stats {
        metrics.stages(stats.posts, &stats.stages);
        if let Some(emf) = &app.0.emf {
            emf.request(stats.posts, &stats.stages, took);
        }
    }
    span.in_scope(|| log(method, route, &response, took));

    let headers = response.headers_mut();
    if let Ok(id) = HeaderValue::try_from(id) {
        headers.insert(REQUEST_ID, id);
    }
    if let Some(root) = trace.xray
        && let Ok(value) = HeaderValue::try_from(format!("Root={root}"))
    {
        headers.insert(XRAY, value);
    }
    if let Some(stats) = stats {
        headers.insert(SERVER_TIMING, server_timing(&stats.stages, took));
    }
    response
}

fn log(
    method: &str,
    Template {
        name: route,
        is_health,
    }: Template,
    response: &Response,
    took: Duration,
) {
    let status = response.status().as_u16();
    let extensions = response.extensions();
    let code = extensions.get().map(|&ErrorCode(code)| code);
    let overload: Option<&OverloadCause> = extensions.get();
    let stats: Option<&ScoringStats> = extensions.get();
    let duration_ms = ms(took);
    // Platforms check health every few seconds.
    if is_health {
        tracing::debug!(method, route, status, code, duration_ms, "request");
        return;
    }
    let stages = stats.map(|stats| stats.stages);
    tracing::info!(
        method,
        route,
        status,
        code,
        cause = overload.map(|cause| cause.name()),
        posts = stats.map(|stats| stats.posts),
        duration_ms,
        queue_ms = stages.map(|stages| ms(stages.queue)),
        tokenize_ms = stages.map(|stages| ms(stages.tokenize)),
        inference_ms = stages.map(|stages| ms(stages.inference)),
        "request"
    );
}

/// The statistics of a stream of rows.
pub(super) struct StreamStats {
    pub(super) code: Option<&'static str>,
    pub(super) rows: u64,
    pub(super) posts: u64,
    pub(super) errors: u64,
    pub(super) stages: StageTimings,
    pub(super) took: Duration,
}

/// Records the telemetry of a stream of rows at its end. The request's own log line was written
/// before the first row, and the metrics count posts chunk by chunk.
pub(super) fn record_stream(app: &AppState, stats: &StreamStats) {
    let StreamStats {
        code,
        rows,
        posts,
        errors,
        stages,
        took,
    } = stats;
    if let Some(emf) = &app.0.emf {
        emf.request(*posts as usize, stages, *took);
    }
    tracing::info!(
        code,
        rows,
        posts,
        errors,
        duration_ms = ms(*took),
        queue_ms = ms(stages.queue),
        tokenize_ms = ms(stages.tokenize),
        inference_ms = ms(stages.inference),
        "rows"
    );
}

/// Milliseconds, with microsecond precision.
fn ms(took: Duration) -> f64 {
    took.as_micros() as f64 / 1e3
}

/// `queue;dur=0.01, tokenize;dur=0.02, inference;dur=0.8, total;dur=0.9`
fn server_timing(stages: &StageTimings, total: Duration) -> HeaderValue {
    let mut value = String::new();
    for (stage, took) in stages.named() {
        let _ = write!(value, "{stage};dur={}, ", ms(took));
    }
    let _ = write!(value, "total;dur={}", ms(total));
    HeaderValue::try_from(value).expect("names and numbers")
}

fn bytes<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a [u8]> {
    headers.get(name).map(HeaderValue::as_bytes)
}

/// Clients can send any word as a method, so others are grouped.
fn method(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::POST => "POST",
        Method::HEAD => "HEAD",
        Method::OPTIONS => "OPTIONS",
        _ => "other",
    }
}
