//! Arbitrary bytes as headers and query: without the key there is no answer, and nothing of
//! them breaks one.
#![no_main]

use axum::body::Body;
use axum::http::{HeaderValue, Request};
use coldread_fuzz::Service;
use libfuzzer_sys::fuzz_target;
use std::sync::LazyLock;

const KEY: &str = "a-key-for-fuzzing";
const NAMES: [&str; 10] = [
    "authorization",
    "x-api-key",
    "content-type",
    "content-encoding",
    "accept",
    "accept-encoding",
    "x-request-timeout-ms",
    "x-request-id",
    "x-amzn-trace-id",
    "traceparent",
];

static SERVICE: LazyLock<Service> = LazyLock::new(|| Service::start(&["--api-keys", KEY]));

// Lines of a header's number and its value; the first line is the query.
fuzz_target!(|data: &[u8]| {
    let mut lines = data.split(|&byte| byte == b'\n');
    let query = String::from_utf8_lossy(lines.next().unwrap_or_default());
    let mut request = Request::post(format!("/v1/sentiment?{query}"));
    let mut has_key = false;
    for line in lines.take(20) {
        let [name, value @ ..] = line else { continue };
        let name = NAMES[usize::from(*name) % NAMES.len()];
        let Ok(value) = HeaderValue::from_bytes(value) else { continue };
        has_key |= name.ends_with("key") || name == "authorization";
        has_key &= String::from_utf8_lossy(data).contains(KEY);
        request = request.header(name, value);
    }
    let Ok(request) = request.body(Body::from("good")) else { return };
    let (status, _) = SERVICE.ask(request);
    assert!(has_key || status == 401, "{status}");
});
