//! How long a request may take: the shorter of what the platform and the caller allow.
//! The server has a limit of its own beside them.

use super::Platform;
use super::error::ApiError;
use axum::http::{Extensions, HeaderMap};
use std::time::{Duration, Instant};

/// The header by which a caller says how long it will wait, in milliseconds.
pub(super) const TIMEOUT_HEADER: &str = "x-request-timeout-ms";

/// When a request came that one handler passes on to another.
#[derive(Clone, Copy)]
pub(super) struct Arrival(pub(super) Instant);

/// When a request came: now, unless it was passed on.
pub(super) fn arrival(extensions: &Extensions) -> Instant {
    let passed_on = extensions.get().map(|Arrival(at)| *at);
    passed_on.unwrap_or_else(Instant::now)
}

/// What can be had before `deadline`.
pub(super) async fn within<T>(
    deadline: Instant,
    outcome: impl Future<Output = Result<T, ApiError>>,
) -> Result<T, ApiError> {
    tokio::time::timeout_at(deadline.into(), outcome)
        .await
        .unwrap_or(Err(ApiError::DeadlineExceeded))
}

/// When platform and caller want a request answered that came at `now`.
pub(super) fn asked(
    headers: &HeaderMap,
    extensions: &Extensions,
    now: Instant,
) -> Result<Option<Instant>, ApiError> {
    let platform: Option<&Platform> = extensions.get();
    let platform = platform.and_then(|platform| platform.deadline);
    let Some(timeout) = headers.get(TIMEOUT_HEADER) else {
        return Ok(platform);
    };
    let timeout = timeout.to_str().ok().and_then(|ms| ms.trim().parse().ok());
    let ms = timeout.ok_or(ApiError::InvalidTimeout)?;
    // A caller that waits for longer than anybody lives need not overflow.
    let caller = now.checked_add(Duration::from_millis(ms));
    Ok(caller.into_iter().chain(platform).min())
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::{HeaderName, HeaderValue};

    fn check(platform: Option<u64>, header: Option<&str>, expected: Option<u64>) {
        let now = Instant::now();
        let mut extensions = Extensions::new();
        if let Some(ms) = platform {
            extensions.insert(Platform {
                deadline: Some(now + Duration::from_millis(ms)),
                ..Platform::default()
            });
        }
        let mut headers = HeaderMap::new();
        if let Some(ms) = header {
            headers.insert(TIMEOUT_HEADER, HeaderValue::from_str(ms).expect("a value"));
        }
        let deadline = asked(&headers, &extensions, now).ok().flatten();
        let expected = expected.map(|ms| now + Duration::from_millis(ms));
        assert_eq!(deadline, expected, "{platform:?} {header:?}");
    }

    #[test]
    fn the_shortest_holds() {
        check(None, None, None);
        check(None, Some("100"), Some(100));
        check(None, Some(" 0 "), Some(0));
        check(Some(70), Some("18446744073709551615"), Some(70));
        check(Some(50), Some("100"), Some(50));
        check(Some(200), Some("100"), Some(100));
        check(Some(90_000), None, Some(90_000));
    }

    #[test]
    fn what_is_no_number_is_refused() {
        for value in [
            "",
            "soon",
            "-1",
            "1.5",
            "100ms",
            "1e3",
            "18446744073709551616",
        ] {
            let value = HeaderValue::from_str(value).expect("a value");
            let headers = HeaderMap::from_iter([(HeaderName::from_static(TIMEOUT_HEADER), value)]);
            let asked = asked(&headers, &Extensions::new(), Instant::now());
            assert!(
                matches!(asked, Err(ApiError::InvalidTimeout)),
                "{headers:?}"
            );
        }
    }
}
