//! Access control: API keys, and CORS for web pages of other origins.
//!
//! The key is checked first, so that a request without a valid one costs next to nothing.
//! Health checks need no key, because platforms send none.

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

/// The headers in which Azure's and Google's clients send their key.
const AZURE_KEY: HeaderName = HeaderName::from_static("ocp-apim-subscription-key");
const GOOGLE_KEY: HeaderName = HeaderName::from_static("x-goog-api-key");

/// How long a browser may cache the response to a preflight request.
const PREFLIGHT_MAX_AGE: Duration = Duration::from_hours(1);

/// Rejects requests without a valid key.
pub(super) async fn require_key(
    State(app): State<AppState>,
    request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    let keys = &app.0.access.keys;
    if !keys_sent(request.headers()).any(|key| keys.accept(key)) {
        return Err(ApiError::Unauthorized);
    }
    Ok(next.run(request).await)
}

/// The keys in a request: `Authorization: Bearer KEY` and `x-api-key: KEY`.
fn keys_sent(headers: &HeaderMap) -> impl Iterator<Item = &[u8]> {
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

/// Checks the key of a request to another service's route. There, keys are also accepted as
/// that service's clients send them: in two more headers, and in `?key=`, which is not logged.
pub(super) fn check(app: &AppState, request: &Request) -> Result<(), ApiError> {
    let access = &app.0.access;
    if access.is_open() {
        return Ok(());
    }
    let headers = request.headers();
    let mut vendor_keys = [AZURE_KEY, GOOGLE_KEY]
        .into_iter()
        .flat_map(|name| headers.get_all(name));
    let in_query = Query::<KeyQuery>::try_from_uri(request.uri());
    let in_query = in_query.ok().and_then(|Query(query)| query.key);
    if keys_sent(headers).any(|key| access.keys.accept(key))
        || vendor_keys.any(|key| access.keys.accept(key.as_bytes()))
        || in_query.is_some_and(|key| access.keys.accept(key.as_bytes()))
    {
        return Ok(());
    }
    Err(ApiError::Unauthorized)
}

#[derive(serde::Deserialize)]
struct KeyQuery {
    key: Option<String>,
}

/// The CORS headers that let pages of these origins read responses; `None` allows only this
/// server's own pages.
pub(super) fn cors(origins: &[String]) -> Option<CorsLayer> {
    if origins.is_empty() {
        return None;
    }
    let origins: Vec<HeaderValue> = origins.iter().filter_map(|it| it.parse().ok()).collect();
    let exposed_headers = [RETRY_AFTER, SERVER_TIMING, REQUEST_ID];
    let layer = CorsLayer::new()
        .allow_origin(origins)
        .allow_methods([Method::GET, Method::POST])
        // Tracers and the SDKs of other services add headers of their own, and no header grants
        // these origins more than it grants others.
        .allow_headers(AllowHeaders::mirror_request())
        .expose_headers(exposed_headers)
        .max_age(PREFLIGHT_MAX_AGE);
    Some(layer)
}
