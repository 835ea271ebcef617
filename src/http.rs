//! The HTTP API: [`app`] is the one router, whichever adapter in [`crate::serve`] or test
//! drives it.
//!
//! This module and no layer below it knows HTTP status codes. A request passes through
//! [`buffered_request`] (its body, within limits), [`posts`] (JSON to posts), the batcher and
//! [`api`] (the response). Any error on the way is an [`ApiError`], whose status, code and
//! message are in one table. Rows are streamed by [`rows`]. [`compat`] translates other
//! services' formats and uses the same path; only this file and [`description`] depend on it.
//!
//! The middleware is [`access`] (API keys and CORS), [`client_disconnect`] (cancels requests
//! whose client disconnected) and [`request_telemetry`] (logs and metrics). [`page`] and
//! [`web_engine`] are what browsers load. [`state`] is what handlers share. This file wires the modules together, and none of them imports it.
//!
//! Invariants: every response is JSON, including those for unknown routes and panics, unless
//! the route has another format; nothing is read or kept beyond the configured limits; no
//! post's text is logged.

mod access;
mod api;
mod body;
mod buffered_request;
mod client_disconnect;
mod compat;
mod compress;
mod deadline;
mod decode;
mod description;
mod error;
mod memory_limit;
#[cfg(test)]
mod openapi;
mod options;
mod page;
mod posts;
mod request_telemetry;
mod routes;
mod rows;
mod state;
mod trailing_slash;
mod web_engine;

pub use client_disconnect::{ClientConnection, PeerState};
pub(crate) use error::ApiError;
pub(crate) use posts::{Posts, parse as parse_posts};
pub use state::{AppOptions, AppState};
pub use web_engine::WebEngine;

use axum::Router;
use axum::http::Method;
use axum::middleware;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use routes::Routes;
use std::any::Any;
use std::sync::Arc;
use tower::ServiceExt;
use tower_http::catch_panic::CatchPanicLayer;

/// The router with all routes.
pub fn app(state: AppState) -> Router {
    let access = &state.0.access;
    let mut posts = Router::new()
        .route("/v1/sentiment", post(api::sentiment))
        .route("/v1/info", get(api::info));
    let metrics = Router::new().route("/metrics", get(api::metrics));
    let mut docs = Router::new()
        .route("/", get(page::index))
        .route("/page.css", get(page::style))
        .route("/page.js", get(page::script))
        .route("/docs", get(page::docs))
        .route("/docs/", get(trailing_slash::redirect_to_docs))
        .route("/docs.js", get(page::docs_script))
        .route("/openapi.json", get(description::description));
    if let Some(engine) = &state.0.web_engine {
        // Who may score posts may have the model.
        posts = posts.merge(engine.model_route(access.is_open()));
        docs = docs.merge(engine.package_routes());
    }
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
    // First, because only this router allows a colon in paths.
    let mut router = compat::routes(&state.0.compat)
        .merge(with_key(posts, false))
        .merge(with_key(metrics, access.public_metrics))
        .merge(with_key(docs, !access.private_docs))
        .merge(health)
        .fallback(unknown_route)
        .method_not_allowed_fallback(method_not_allowed)
        .layer(CatchPanicLayer::custom(panicked))
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
    let web_engine = state.0.web_engine.iter().flat_map(WebEngine::templates);
    let others = compat::templates(&state.0.compat).chain(web_engine);
    let routes = Arc::new(Routes::new(others));
    let router = router
        .layer(middleware::from_fn_with_state(
            (state.clone(), routes),
            request_telemetry::record,
        ))
        .with_state(state);
    Router::new().fallback_service(router.map_request(trailing_slash::trim))
}

/// The response that replaces one too large for the platform.
pub(crate) fn response_too_large(max_bytes: usize) -> Response {
    ApiError::ResponseTooLarge { max_bytes }.into_response()
}

async fn unknown_route() -> ApiError {
    ApiError::UnknownRoute
}

/// axum adds the `Allow` header.
async fn method_not_allowed(method: Method) -> ApiError {
    ApiError::MethodNotAllowed(method)
}

/// A panic in a handler fails its own request, not the connection, which other requests may
/// share. The panic hook has already reported it.
fn panicked(_: Box<dyn Any + Send>) -> Response {
    ApiError::panicked().into_response()
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::body::Body;
    use axum::extract::Request;
    use tower::ServiceExt;

    #[tokio::test]
    async fn a_panic_becomes_a_500_without_details() {
        let app = Router::new()
            .route("/", get(async || -> () { panic!("a secret") }))
            .layer(CatchPanicLayer::custom(panicked));
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
