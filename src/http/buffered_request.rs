//! An authorized request whose body is in memory. All JSON and plain-text requests become one,
//! whether native or in another service's format. NDJSON and CSV rows are streamed instead, by
//! [`super::rows`].

use super::body;
use super::decode::Decoder;
use super::error::ApiError;
use super::memory_limit::MemoryPermit;
use super::request_telemetry::ScoringStats;
use super::state::AppState;
use super::{access, deadline};
use crate::batcher::{Post, RequestOptions, ScoredPosts};
use crate::json::replace_halves_in_body;
use crate::scorer::PostOptions;
use crate::telemetry::StageTimings;
use axum::extract::Request;
use axum::http::request::Parts;
use axum::response::Response;
use bytes::Bytes;
use std::time::{Duration, Instant};

/// A request within its limits. The body stays in memory until it is parsed.
pub(super) struct BufferedRequest {
    app: AppState,
    pub(super) parts: Parts,
    body: Bytes,
    deadline: Instant,
    /// Held until the response is complete, because the posts take as much memory as the body.
    _permit: MemoryPermit,
}

impl BufferedRequest {
    /// Checks the client's key, then reads the body.
    pub(super) async fn receive(app: &AppState, request: Request) -> Result<Self, ApiError> {
        access::check(app, &request)?;
        Self::read(app, request).await
    }

    /// Reads the body of a request whose key has been checked. If the queue is full, the body
    /// is not read, so rejecting a request is cheap however large it is.
    pub(super) async fn read(app: &AppState, request: Request) -> Result<Self, ApiError> {
        let arrival = Instant::now();
        let limits = app.limits();
        let decoder = Decoder::from_headers(request.headers())?;
        let requested = deadline::requested(request.headers(), request.extensions(), arrival)?;
        app.batcher().check_room()?;
        let longest = arrival + Duration::from_millis(limits.request_timeout_ms.get());
        let deadline = requested.map_or(longest, |requested| requested.min(longest));
        let mut permit = app.0.memory.permit();
        let timeout = Duration::from_millis(limits.body_timeout_ms.get());
        let max_bytes = limits.max_body_bytes.get();
        let (parts, body) = request.into_parts();
        let read = body::read(body, decoder, max_bytes, timeout, &mut permit);
        let body = deadline::within(deadline, read).await?;
        Ok(Self {
            app: app.clone(),
            parts,
            body,
            deadline,
            _permit: permit,
        })
    }

    /// The server's state.
    pub(super) fn app(&self) -> &AppState {
        &self.app
    }

    /// The decompressed body, for a signature.
    pub(super) fn body(&self) -> &[u8] {
        &self.body
    }

    /// Parses the body as JSON and frees it.
    pub(super) fn parse_json<T, E: From<ApiError>>(
        &mut self,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> Result<T, E> {
        let body = replace_halves_in_body(std::mem::take(&mut self.body));
        parse(body::utf8(&body)?)
    }

    /// The body as plain text.
    pub(super) fn take_text(&mut self) -> Result<String, ApiError> {
        let body = std::mem::take(&mut self.body);
        body::utf8(&body).map(str::to_owned)
    }

    /// The maximum number of posts in a request.
    pub(super) fn max_posts(&self) -> usize {
        self.app.limits().max_posts.get()
    }

    /// The model's labels by index.
    pub(super) fn labels(&self) -> &[String] {
        &self.app.batcher().model().labels
    }

    /// The model's name.
    pub(super) fn model(&self) -> &str {
        &self.app.batcher().model().name
    }

    /// Scores posts before the request's deadline.
    pub(super) async fn score(
        &self,
        posts: Vec<impl Into<Post>>,
        options: PostOptions,
    ) -> Result<ScoredPosts, ApiError> {
        let options = RequestOptions {
            deadline: Some(self.deadline),
            post: options,
        };
        Ok(self.app.batcher().classify(posts, options).await?)
    }
}

/// Adds what [`super::request_telemetry`] records about a response.
pub(super) fn with_stats(mut response: Response, posts: usize, stages: StageTimings) -> Response {
    response
        .extensions_mut()
        .insert(ScoringStats { posts, stages });
    response
}
