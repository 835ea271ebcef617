//! Arbitrary bytes as an event, from the Runtime API to the response: whatever comes, there is
//! a response of JSON or an error with a documented type.
#![no_main]

use coldread::config::ResponseMode;
use coldread::events::sink::Arrived;
use coldread::events::{Events, Outgoing, Sink};
use coldread::http::app;
use coldread::serve::lambda::{Event, function};
use coldread_fuzz::{Service, runtime};
use lambda_runtime::{Context, FunctionResponse, LambdaEvent};
use libfuzzer_sys::fuzz_target;
use serde::Deserialize;
use serde_json::Value;
use std::sync::{Arc, LazyLock};
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

/// What the Runtime API's client does with an event, built once.
static INVOKE: LazyLock<Box<dyn Fn(&[u8]) + Send + Sync>> = LazyLock::new(|| {
    let service = Service::start(&[]);
    let events = Events::new(service.state(), &Default::default(), Some(Arc::new(Picky)));
    let function = function(app(service.state()), events, ResponseMode::Buffered);
    let runtime = runtime();
    Box::new(move |data| {
        // As the runtime reads it: what stands behind the first value is not looked at.
        let event = Event::deserialize(&mut serde_json::Deserializer::from_slice(data));
        let event = LambdaEvent::new(event.expect("of anything"), Context::default());
        match runtime.block_on(function.clone().call(event)) {
            Ok(FunctionResponse::StreamingResponse(_)) => panic!("a stream"),
            Ok(FunctionResponse::BufferedResponse(response)) => {
                let response = serde_json::to_value(response).expect("JSON");
                assert_ne!(response["statusCode"], 500);
            }
            Err(error) => {
                let code = error.code();
                let is_documented = code.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
                assert!(is_documented && code != "internal", "{code}");
            }
        }
    })
});

fuzz_target!(|data: &[u8]| INVOKE(data));
