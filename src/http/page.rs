//! The pages for a person, `/` and `/docs`, and their parts. They are in the binary as they stand in
//! the source, ask no other host for anything, and are allowed nothing else.

use axum::http::header::{
    ACCEPT, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY,
    X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderMap, HeaderValue};
use axum::response::{IntoResponse, Response};

/// Scripts, styles and requests of this server's own, and nothing else; and in no frame.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
                      img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; \
                      require-trusted-types-for 'script'";

/// The page to try it out
///
/// Programs that do not ask for `text/html`, such as health checks, get a line of text.
#[cfg_attr(test, utoipa::path(get, path = "/", tag = "pages", responses((
    status = 200, description = "HTML", body = String, content_type = "text/html",
))))]
pub(super) async fn index(headers: HeaderMap) -> Response {
    let mut accepts = headers
        .get_all(ACCEPT)
        .iter()
        .filter_map(|accept| accept.to_str().ok());
    if !accepts.any(|accept| accept.contains("text/html")) {
        return part(
            "text/plain; charset=utf-8",
            "coldread: send posts to POST /v1/sentiment; the API is described at /docs\n",
        );
    }
    part("text/html; charset=utf-8", include_str!("page/index.html"))
}

/// This description for people to read
#[cfg_attr(test, utoipa::path(get, path = "/docs", tag = "pages", responses((
    status = 200, description = "HTML", body = String, content_type = "text/html",
))))]
pub(super) async fn docs() -> Response {
    part("text/html; charset=utf-8", include_str!("page/docs.html"))
}

/// `GET /docs.js`
pub(super) async fn docs_script() -> Response {
    part(
        "text/javascript; charset=utf-8",
        include_str!("page/docs.js"),
    )
}

/// `GET /page.css`
pub(super) async fn style() -> Response {
    part("text/css; charset=utf-8", include_str!("page/page.css"))
}

/// `GET /page.js`
pub(super) async fn script() -> Response {
    part(
        "text/javascript; charset=utf-8",
        include_str!("page/page.js"),
    )
}

fn part(content_type: &'static str, text: &'static str) -> Response {
    let headers = [
        (CONTENT_TYPE, HeaderValue::from_static(content_type)),
        (CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY)),
        (X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
        (REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
        // The next release may have another page.
        (CACHE_CONTROL, HeaderValue::from_static("no-cache")),
    ];
    (headers, text).into_response()
}
