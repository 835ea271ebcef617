//! Arbitrary bytes as a body in another service's format: an answer of JSON, in that format
//! or as an error, whatever comes.
#![no_main]

use axum::http::Request;
use coldread_fuzz::{Service, VERTEX_PREDICT};
use libfuzzer_sys::fuzz_target;
use serde_json::Value;
use std::sync::LazyLock;

const TARGET: &str = "x-amz-target";

/// Paths, and an operation where a header says which is asked for.
const ROUTES: [(&str, Option<&str>); 8] = [
    ("/", None),
    ("/comprehend", Some("Comprehend_20171127.DetectSentiment")),
    ("/comprehend", Some("Comprehend_20171127.BatchDetectSentiment")),
    ("/predict", None),
    ("/language/:analyze-text?api-version=2023-04-01", None),
    ("/v2/documents:analyzeSentiment", None),
    ("/invocations", None),
    (VERTEX_PREDICT, None),
];

static SERVICE: LazyLock<Service> = LazyLock::new(|| Service::start(&[]));

fuzz_target!(|data: &[u8]| {
    let [route, body @ ..] = data else { return };
    let (path, operation) = ROUTES[usize::from(*route) % ROUTES.len()];
    let media = operation.map_or("application/json", |_| "application/x-amz-json-1.1");
    let mut request = Request::post(path).header("content-type", media);
    if let Some(operation) = operation {
        request = request.header(TARGET, operation);
    }
    let request = request.body(body.to_vec().into()).expect("a request");
    let (status, answer) = SERVICE.answer(request);
    assert!(status.is_success() || status.is_client_error(), "{status}");
    serde_json::from_slice::<Value>(&answer).expect("JSON");
});
