//! The HTTP edge: [`app`] is the one router, whichever adapter in [`crate::serve`]
//! or test drives it.
//!
//! This module and nothing beneath it knows status codes. A request goes
//! [`body`] (bytes, within limits) -> [`posts`] (JSON to posts) -> batcher ->
//! [`api`] (answer), and any fault on the way is an [`error::ApiError`], which has
//! its status, code and message in one table.
//!
//! Invariants: every reply is JSON, unknown routes and caught panics too; nothing is
//! read or kept beyond [`Limits`]; no text of a user is logged.

mod api;
mod body;
mod error;
mod posts;

use crate::batcher::Batcher;
use crate::config::Config;
use axum::Router;
use axum::extract::Request;
use axum::http::Method;
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use error::ApiError;
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;
use std::time::Duration;

/// What one request may ask for; the queue and the classifier have limits of their own.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Bytes of a request body.
    pub max_body_bytes: usize,
    /// Posts in one request.
    pub max_posts: usize,
    /// Posts that wait or are being scored, over all requests; only shown here, the
    /// batcher holds to it.
    pub max_pending_posts: usize,
    /// From a request's head to the end of its body.
    pub body_timeout: Duration,
}

impl From<&Config> for Limits {
    fn from(config: &Config) -> Self {
        Self {
            max_body_bytes: config.max_body_bytes.get(),
            max_posts: config.max_posts.get(),
            max_pending_posts: config.max_pending_posts.get(),
            body_timeout: Duration::from_secs(30),
        }
    }
}

/// What every handler shares. Clones are handles to the same state.
#[derive(Clone)]
pub struct AppState {
    batcher: Batcher,
    limits: Limits,
    draining: Arc<AtomicBool>,
}

impl AppState {
    /// A state that is ready: whoever has a [`Batcher`] has a loaded model.
    pub fn new(batcher: Batcher, limits: Limits) -> Self {
        Self {
            batcher,
            limits,
            draining: Arc::default(),
        }
    }

    /// From now on `/readyz` sends new traffic elsewhere. What comes all the same
    /// is still answered, for as long as the server runs.
    pub fn start_draining(&self) {
        self.draining.store(true, Ordering::Release);
    }

    fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Acquire)
    }
}

/// The router with all routes.
pub fn app(state: AppState) -> Router {
    Router::new()
        .route("/v1/sentiment", post(api::sentiment))
        .route("/v1/info", get(api::info))
        .route("/healthz", get(api::healthz))
        .route("/readyz", get(api::readyz))
        .fallback(unknown_route)
        .method_not_allowed_fallback(method_not_allowed)
        .with_state(state)
        .layer(middleware::from_fn(catch_panic))
}

async fn unknown_route() -> ApiError {
    ApiError::UnknownRoute
}

/// axum adds the `Allow` header.
async fn method_not_allowed(method: Method) -> ApiError {
    ApiError::MethodNotAllowed(method)
}

/// A panic in a handler fails its own request, not the connection, on which others
/// may be waiting.
async fn catch_panic(request: Request, next: Next) -> Response {
    let mut response = pin!(next.run(request));
    poll_fn(|cx| {
        // A future that has panicked is dropped and never polled again, so that no
        // broken state of it is seen.
        catch_unwind(AssertUnwindSafe(|| response.as_mut().poll(cx)))
            .unwrap_or_else(|_| Poll::Ready(ApiError::panicked().into_response()))
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::body::Body;
    use tower::ServiceExt;

    #[tokio::test]
    async fn a_panic_is_a_500_that_tells_nothing() {
        let app = Router::new()
            .route("/", get(async || -> () { panic!("a secret") }))
            .layer(middleware::from_fn(catch_panic));
        let response = app
            .oneshot(Request::new(Body::empty()))
            .await
            .expect("infallible");
        assert_eq!(response.status(), 500);
        let body = axum::body::to_bytes(response.into_body(), 1000)
            .await
            .expect("a body");
        let body = std::str::from_utf8(&body).expect("UTF-8");
        assert!(body.starts_with(r#"{"error":{"code":"internal""#), "{body}");
        assert!(!body.contains("secret"), "{body}");
    }
}
