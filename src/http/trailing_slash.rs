//! `/v1/sentiment/` is `/v1/sentiment`: a slash at the end of a path makes no other route.

use crate::platform::OriginalPath;
use axum::extract::Request;
use axum::http::header::LOCATION;
use axum::http::{HeaderValue, StatusCode, Uri};
use axum::response::{IntoResponse, Response};

/// The one path with a slash that is a route, because a page loads its parts relative to its
/// path.
const DOCS: &str = "/docs/";

/// Removes slashes at the end of a request's path before it is routed. The path that the
/// client signed is kept beside it.
pub(super) fn trim(mut request: Request) -> Request {
    let path = request.uri().path();
    let trimmed = trimmed(path);
    if trimmed == path || path == DOCS {
        return request;
    }
    let query = request.uri().query();
    let target = query.map_or_else(|| trimmed.to_owned(), |query| format!("{trimmed}?{query}"));
    let original = OriginalPath(path.to_owned());
    let mut parts = request.uri().clone().into_parts();
    parts.path_and_query = target.parse().ok();
    if let Ok(uri) = Uri::from_parts(parts) {
        *request.uri_mut() = uri;
        request.extensions_mut().get_or_insert(original);
    }
    request
}

/// A path without slashes at its end; the root stays.
pub(super) fn trimmed(path: &str) -> &str {
    match path.trim_end_matches('/') {
        "" => "/",
        trimmed => trimmed,
    }
}

/// `GET /docs/`
pub(super) async fn redirect_to_docs() -> Response {
    let location = [(LOCATION, HeaderValue::from_static("../docs"))];
    (StatusCode::PERMANENT_REDIRECT, location).into_response()
}
