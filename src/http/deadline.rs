//! How long a request may take: the shortest of what the server, the platform and the
//! caller allow.

use super::Platform;
use super::error::ApiError;
use axum::http::{Extensions, HeaderMap};
use std::time::{Duration, Instant};

/// The header by which a caller says how long it will wait, in milliseconds.
pub(super) const TIMEOUT_HEADER: &str = "x-request-timeout-ms";

/// When a request that came at `now` is to be answered at the latest.
pub(super) fn of(
    headers: &HeaderMap,
    extensions: &Extensions,
    now: Instant,
    longest: Duration,
) -> Result<Instant, ApiError> {
    let mut deadline = now + longest;
    let platform: Option<&Platform> = extensions.get();
    if let Some(platform) = platform.and_then(|platform| platform.deadline) {
        deadline = deadline.min(platform);
    }
    if let Some(timeout) = headers.get(TIMEOUT_HEADER) {
        let timeout = timeout.to_str().ok().and_then(|ms| ms.trim().parse().ok());
        let ms: u64 = timeout.ok_or(ApiError::InvalidTimeout)?;
        // A caller that waits for longer than anybody lives need not overflow.
        if let Some(caller) = now.checked_add(Duration::from_millis(ms)) {
            deadline = deadline.min(caller);
        }
    }
    Ok(deadline)
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;

    const LONGEST: Duration = Duration::from_secs(30);

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
        let deadline = of(&headers, &extensions, now, LONGEST).ok();
        let expected = expected.map(|ms| now + Duration::from_millis(ms));
        assert_eq!(deadline, expected, "{platform:?} {header:?}");
    }

    #[test]
    fn the_shortest_holds() {
        check(None, None, Some(30_000));
        check(None, Some("100"), Some(100));
        check(None, Some(" 0 "), Some(0));
        check(None, Some("18446744073709551615"), Some(30_000));
        check(Some(50), Some("100"), Some(50));
        check(Some(200), Some("100"), Some(100));
        check(Some(90_000), None, Some(30_000));
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
            check(None, Some(value), None);
        }
    }
}
