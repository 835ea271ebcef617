//! Who is answered: API keys, and pages of other origins.
//!
//! Keys are looked at before anything else of a request, so that one without a valid
//! key costs next to nothing. Health is open to all: platforms ask for it without keys.

use super::error::ApiError;
use super::request_telemetry::{REQUEST_ID, SERVER_TIMING};
use super::state::AppState;
use axum::extract::{Query, Request, State};
use axum::http::header::{AUTHORIZATION, RETRY_AFTER};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method};
use axum::middleware::Next;
use axum::response::Response;
use std::time::Duration;
use tower_http::cors::{AllowHeaders, CorsLayer};

const API_KEY: HeaderName = HeaderName::from_static("x-api-key");

/// How Azure's and Google's clients send a key.
const AZURE_KEY: HeaderName = HeaderName::from_static("ocp-apim-subscription-key");
const GOOGLE_KEY: HeaderName = HeaderName::from_static("x-goog-api-key");

/// How long a browser may keep what it was told about other origins.
const PREFLIGHT_MAX_AGE: Duration = Duration::from_hours(1);

/// Lets a request through that has a valid key.
pub(super) async fn require_key(
    State(app): State<AppState>,
    request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    let keys = &app.0.access.keys;
    if !presented(request.headers()).any(|key| keys.accept(key)) {
        return Err(ApiError::Unauthorized);
    }
    Ok(next.run(request).await)
}

/// The keys in a request: `Authorization: Bearer KEY` and `x-api-key: KEY`.
fn presented(headers: &HeaderMap) -> impl Iterator<Item = &[u8]> {
    let bearer = headers
        .get_all(AUTHORIZATION)
        .into_iter()
        .filter_map(|value| {
            let (scheme, key) = value.as_bytes().split_at_checked(7)?;
            scheme
                .eq_ignore_ascii_case(b"bearer ")
                .then(|| key.trim_ascii())
        });
    let plain = headers.get_all(API_KEY).into_iter();
    bearer.chain(plain.map(HeaderValue::as_bytes))
}

/// Looks for a valid key in a request to another service's route, where that service's
/// ways to send one count as well: two more headers, and `?key=`, which is in no log.
pub(super) fn check(app: &AppState, request: &Request) -> Result<(), ApiError> {
    let access = &app.0.access;
    if access.is_open() {
        return Ok(());
    }
    let headers = request.headers();
    let theirs = [AZURE_KEY, GOOGLE_KEY].into_iter();
    let mut theirs = theirs.flat_map(|name| headers.get_all(name));
    let in_query = Query::<InQuery>::try_from_uri(request.uri());
    let in_query = in_query.ok().and_then(|Query(query)| query.key);
    if presented(headers).any(|key| access.keys.accept(key))
        || theirs.any(|key| access.keys.accept(key.as_bytes()))
        || in_query.is_some_and(|key| access.keys.accept(key.as_bytes()))
    {
        return Ok(());
    }
    Err(ApiError::Unauthorized)
}

#[derive(serde::Deserialize)]
struct InQuery {
    key: Option<String>,
}

/// What tells browsers that pages of these origins may read our answers; `None` leaves
/// that to pages of our own.
pub(super) fn cors(origins: &[String]) -> Option<CorsLayer> {
    if origins.is_empty() {
        return None;
    }
    let origins: Vec<HeaderValue> = origins.iter().filter_map(|it| it.parse().ok()).collect();
    let reply_headers = [RETRY_AFTER, SERVER_TIMING, REQUEST_ID];
    let layer = CorsLayer::new()
        .allow_origin(origins)
        .allow_methods([Method::GET, Method::POST])
        // Tracers and the SDKs of other services add headers of their own; none means anything more
        // from these origins than from elsewhere.
        .allow_headers(AllowHeaders::mirror_request())
        .expose_headers(reply_headers)
        .max_age(PREFLIGHT_MAX_AGE);
    Some(layer)
}
