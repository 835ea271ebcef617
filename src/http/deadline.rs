//! How long a request may take: the shorter of what the platform and the client allow.
//! The server has a limit of its own beside them.

use super::error::ApiError;
use crate::platform::Platform;
use axum::http::{Extensions, HeaderMap};
use std::time::{Duration, Instant};

/// The header by which a client says how long it waits, in milliseconds.
pub(super) const TIMEOUT_HEADER: &str = "x-request-timeout-ms";

/// The outcome, if it is there before `deadline`.
pub(super) async fn within<T>(
    deadline: Instant,
    outcome: impl Future<Output = Result<T, ApiError>>,
) -> Result<T, ApiError> {
    tokio::time::timeout_at(deadline.into(), outcome)
        .await
        .unwrap_or(Err(ApiError::DeadlineExceeded))
}

/// The deadline that platform and client set for a request that arrived at `now`.
pub(super) fn requested(
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
    // A timeout of millions of years need not overflow.
    let client = now.checked_add(Duration::from_millis(ms));
    Ok(client.into_iter().chain(platform).min())
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
        let deadline = requested(&headers, &extensions, now).ok().flatten();
        let expected = expected.map(|ms| now + Duration::from_millis(ms));
        assert_eq!(deadline, expected, "{platform:?} {header:?}");
    }

    #[test]
    fn the_earliest_deadline_holds() {
        check(None, None, None);
        check(None, Some("100"), Some(100));
        check(None, Some(" 0 "), Some(0));
        check(Some(70), Some("18446744073709551615"), Some(70));
        check(Some(50), Some("100"), Some(50));
        check(Some(200), Some("100"), Some(100));
        check(Some(90_000), None, Some(90_000));
    }

    #[test]
    fn a_timeout_that_is_no_number_is_rejected() {
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
            let deadline = requested(&headers, &Extensions::new(), Instant::now());
            assert!(
                matches!(deadline, Err(ApiError::InvalidTimeout)),
                "{headers:?}"
            );
        }
    }
}
