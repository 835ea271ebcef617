//! Arbitrary bytes as a body of JSON: what is taken is JSON to another reader too, and
//! has a result for each post.
#![no_main]

use coldread_fuzz::Service;
use libfuzzer_sys::fuzz_target;
use serde_json::Value;
use std::sync::LazyLock;

static SERVICE: LazyLock<Service> = LazyLock::new(|| Service::start(&[]));

fuzz_target!(|body: &[u8]| {
    let (status, answer) = SERVICE.post(&[("content-type", "application/json")], body.to_vec());
    if status != 200 {
        assert!([400, 413, 422].contains(&status.as_u16()), "{status}");
        return;
    }
    let body = body.strip_prefix("\u{feff}".as_bytes()).unwrap_or(body);
    let asked: Value = serde_json::from_slice(body).expect("JSON");
    let answer: Value = serde_json::from_slice(&answer).expect("JSON");
    match &asked["texts"] {
        Value::Array(texts) => assert_eq!(answer["results"].as_array().map(Vec::len), Some(texts.len())),
        _ => assert!(asked["text"].is_string() && answer["label"].is_string()),
    }
});
