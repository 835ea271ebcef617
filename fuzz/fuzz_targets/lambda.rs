//! Arbitrary bytes as an event, from the Runtime API to the response: whatever comes, there is
//! a response of JSON or an error with a documented type.
#![no_main]

use coldread::events::sink::Arrived;
use coldread::events::{Events, Outgoing, Sink};
use coldread::http::app;
use coldread::serve::lambda::{Event, function};
use coldread_fuzz::{Service, runtime};
use lambda_runtime::{Context, LambdaEvent};
use libfuzzer_sys::fuzz_target;
use serde::Deserialize;
use serde_json::Value;
use std::sync::{Arc, LazyLock};
use tokio::runtime::Runtime;
use tower::Service as _;

/// Takes every other result, and holds that each is a line of JSON.
struct Picky;

impl Sink for Picky {
    fn send<'a>(&'a self, results: &'a [&'a Outgoing]) -> Arrived<'a> {
        for result in results {
            assert!(!result.body.contains('\n'));
            serde_json::from_str::<Value>(&result.body).expect("JSON");
        }
        Box::pin(async { (0..results.len()).map(|i| i % 2 == 0).collect() })
    }
}

static SERVICE: LazyLock<(Service, Runtime)> = LazyLock::new(|| (Service::start(&[]), runtime()));

fuzz_target!(|data: &[u8]| {
    let (service, runtime) = &*SERVICE;
    let events = Events::new(service.state(), &Default::default(), Some(Arc::new(Picky)));
    let mut function = function(app(service.state()), events);
    // As the runtime reads it: what stands behind the first value is not looked at.
    let event = Event::deserialize(&mut serde_json::Deserializer::from_slice(data));
    let event = LambdaEvent::new(event.expect("of anything"), Context::default());
    match runtime.block_on(function.call(event)) {
        Ok(response) => {
            let response = serde_json::to_value(response).expect("JSON");
            assert_ne!(response["statusCode"], 500);
        }
        Err(error) => {
            let code = error.code();
            assert!(code != "internal" && code.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'));
        }
    }
});
