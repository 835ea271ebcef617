//! The HTTP edge: [`app`] is the one router, whichever adapter in [`crate::serve`]
//! or test drives it.
//!
//! This module and nothing beneath it knows status codes. A request goes
//! [`body`] (bytes, within limits) -> [`posts`] (JSON to posts) -> batcher ->
//! [`api`] (answer), and any fault on the way is an [`error::ApiError`], which has
//! its status, code and message in one table. Rows take [`rows`]' way,
//! other services' clients [`compat`]'s.
//!
//! Round all of it stand [`access`] (who may ask), [`client_disconnect`] (who still waits) and
//! [`request_telemetry`] (what is seen of it).
//!
//! Invariants: every reply is JSON, unknown routes and caught panics too, except where a
//! route's own format is another; nothing is read or kept beyond [`Limits`]; no text of
//! a user is logged.

mod access;
mod api;
mod body;
mod client_disconnect;
mod compat;
mod compress;
mod deadline;
mod decode;
mod error;
mod memory_limit;
mod openapi;
mod page;
mod posts;
mod request_telemetry;
mod rows;

// What answers look like, whichever way posts came.
pub use client_disconnect::{ClientConnection, PeerState};
pub(crate) use error::ApiError;
pub(crate) use posts::{Posts, parse as parse_posts};

use crate::batcher::Batcher;
use crate::config::{Access, Compat, Limits};
use crate::telemetry::{Emf, RequestIds};
use axum::Router;
use axum::extract::Request;
use axum::http::Method;
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use coldread_engine::polarity::Polarities;
use memory_limit::MemoryLimiter;
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;
use std::time::Instant;

/// What every handler shares. Clones are handles to the same state.
#[derive(Clone)]
pub struct AppState(Arc<Shared>);

struct Shared {
    batcher: Batcher,
    limits: Limits,
    access: Access,
    compat: Compat,
    /// The sides of the model's labels, if it tells sentiment.
    polarities: Option<Polarities>,
    emf: Option<Emf>,
    compress: bool,
    request_ids: RequestIds,
    /// For bodies that are being read, or whose posts wait for their results.
    memory: MemoryLimiter,
    draining: AtomicBool,
}

/// How the router is to answer.
#[derive(Debug, Clone)]
pub struct AppOptions {
    /// What the server takes on.
    pub limits: Limits,
    /// Who may ask.
    pub access: Access,
    /// Whose clients are answered beside our own.
    pub compat: Compat,
    /// CloudWatch metrics, if they are wanted.
    pub emf: Option<Emf>,
    /// Whether replies are compressed for those who ask for it.
    pub compress: bool,
}

impl From<Limits> for AppOptions {
    fn from(limits: Limits) -> Self {
        Self {
            limits,
            access: Access::default(),
            compat: Compat::default(),
            emf: None,
            compress: true,
        }
    }
}

/// What a platform says of a request beside the request; its adapter puts this into
/// the request's extensions.
#[derive(Debug, Clone, Default)]
pub struct Platform {
    /// When it stops waiting for the answer.
    pub deadline: Option<Instant>,
    /// Its own name for the request.
    pub request_id: Option<String>,
    /// The function that was asked.
    pub function_arn: Option<String>,
}

/// The path that a caller asked for and signed, where the platform makes another of it.
#[derive(Debug, Clone)]
pub(crate) struct OriginalPath(pub(crate) String);

impl AppState {
    /// A state that is ready: whoever has a [`Batcher`] has a loaded model.
    pub fn new(batcher: Batcher, options: impl Into<AppOptions>) -> Self {
        let AppOptions {
            limits,
            access,
            compat,
            emf,
            compress,
        } = options.into();
        Self(Arc::new(Shared {
            polarities: Polarities::from_model(batcher.model()),
            batcher,
            memory: MemoryLimiter::from_limits(&limits),
            limits,
            access,
            compat,
            emf,
            compress,
            request_ids: RequestIds::default(),
            draining: AtomicBool::new(false),
        }))
    }

    /// What the server takes on.
    pub fn limits(&self) -> &Limits {
        &self.0.limits
    }

    /// From now on `/readyz` sends new traffic elsewhere. What comes all the same
    /// is still answered, for as long as the server runs.
    pub fn start_draining(&self) {
        self.0.draining.store(true, Ordering::Release);
    }

    /// Who scores, and counts.
    pub(crate) fn batcher(&self) -> &Batcher {
        &self.0.batcher
    }

    /// CloudWatch metrics, if they are wanted.
    pub(crate) fn emf(&self) -> Option<&Emf> {
        self.0.emf.as_ref()
    }

    fn is_draining(&self) -> bool {
        self.0.draining.load(Ordering::Acquire)
    }

    /// Whoever finds no room here while this instance is about to stop is told so: there
    /// will be none, but elsewhere there is.
    fn refusal(&self, error: ApiError) -> ApiError {
        match error {
            ApiError::Overloaded { .. } if self.is_draining() => ApiError::ShuttingDown,
            other => other,
        }
    }
}

/// The service's own routes, by the templates that metrics and logs know them by.
const ROUTES: [&str; 11] = [
    "/",
    "/page.css",
    "/page.js",
    "/docs",
    "/docs.js",
    "/openapi.json",
    "/v1/sentiment",
    "/v1/info",
    "/metrics",
    "/healthz",
    "/readyz",
];

/// The router with all routes.
pub fn app(state: AppState) -> Router {
    let access = &state.0.access;
    let posts = Router::new()
        .route("/v1/sentiment", post(api::sentiment))
        .route("/v1/info", get(api::info));
    let metrics = Router::new().route("/metrics", get(api::metrics));
    let docs = Router::new()
        .route("/", get(page::index))
        .route("/page.css", get(page::style))
        .route("/page.js", get(page::script))
        .route("/docs", get(page::docs))
        .route("/docs.js", get(page::docs_script))
        .route("/openapi.json", get(openapi::description));
    let health = Router::new()
        .route("/healthz", get(api::healthz))
        .route("/readyz", get(api::readyz));
    let with_key = |router: Router<AppState>, is_public: bool| {
        if is_public || access.is_open() {
            return router;
        }
        let require_key = middleware::from_fn_with_state(state.clone(), access::require_key);
        router.route_layer(require_key)
    };
    // First, for it has a path that axum would take for a slip elsewhere.
    let mut router = compat::routes(&state.0.compat)
        .merge(with_key(posts, false))
        .merge(with_key(metrics, access.public_metrics))
        .merge(with_key(docs, !access.private_docs))
        .merge(health)
        .fallback(unknown_route)
        .method_not_allowed_fallback(method_not_allowed)
        .layer(middleware::from_fn(catch_panic))
        .layer(middleware::from_fn_with_state(
            state.clone(),
            client_disconnect::cancel_on_disconnect,
        ));
    if let Some(cors) = access::cors(&access.cors_origins) {
        router = router.layer(cors);
    }
    if state.0.compress {
        router = router
            .layer(compress::layer())
            .layer(middleware::map_request(compress::accept_identity));
    }
    router
        .layer(middleware::from_fn_with_state(
            state.clone(),
            request_telemetry::record,
        ))
        .with_state(state)
}

/// What a platform's adapter answers when the platform cannot carry an answer.
pub(crate) fn reply_too_large(max_bytes: usize) -> Response {
    ApiError::ReplyTooLarge { max_bytes }.into_response()
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
