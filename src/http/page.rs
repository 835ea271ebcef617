//! The web pages, `/` and `/docs`, with their scripts and styles. They are embedded in the
//! binary, load nothing from other hosts, and have a policy that forbids it.

use super::state::AppState;
use super::web_engine::JAVASCRIPT;
use axum::extract::State;
use axum::http::header::{
    ACCEPT, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY,
    X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderMap, HeaderValue};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;

/// Scripts, styles and requests of this server only, and no framing.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
                      img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; \
                      require-trusted-types-for 'script'";

/// Web page to score posts
///
/// Clients that do not accept `text/html`, such as health checks, get a line of plain text.
#[cfg_attr(test, utoipa::path(get, path = "/", tag = "pages", responses((
    status = 200, description = "HTML", body = String, content_type = "text/html",
))))]
pub(super) async fn index(State(app): State<AppState>, headers: HeaderMap) -> Response {
    let mut accepts = headers
        .get_all(ACCEPT)
        .iter()
        .filter_map(|accept| accept.to_str().ok());
    if !accepts.any(|accept| accept.contains("text/html")) {
        return asset(
            "text/plain; charset=utf-8",
            "coldread: send posts to POST /v1/sentiment; see /docs for the API\n",
        );
    }
    let page = include_str!("page/index.html");
    match &app.0.web_engine {
        Some(engine) => asset("text/html; charset=utf-8", engine.mark(page)),
        None => asset("text/html; charset=utf-8", page),
    }
}

/// This API as a web page
#[cfg_attr(test, utoipa::path(get, path = "/docs", tag = "pages", responses((
    status = 200, description = "HTML", body = String, content_type = "text/html",
))))]
pub(super) async fn docs() -> Response {
    asset("text/html; charset=utf-8", include_str!("page/docs.html"))
}

/// `GET /docs.js`
pub(super) async fn docs_script() -> Response {
    asset(JAVASCRIPT, include_str!("page/docs.js"))
}

/// `GET /page.css`
pub(super) async fn style() -> Response {
    asset("text/css; charset=utf-8", include_str!("page/page.css"))
}

/// `GET /page.js`
pub(super) async fn script() -> Response {
    asset(JAVASCRIPT, include_str!("page/page.js"))
}

fn asset(content_type: &'static str, text: impl Into<Bytes>) -> Response {
    let headers = [
        (CONTENT_TYPE, HeaderValue::from_static(content_type)),
        (CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY)),
        (X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
        (REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
        // The next release may change the page.
        (CACHE_CONTROL, HeaderValue::from_static("no-cache")),
    ];
    (headers, text.into()).into_response()
}
