//! Arbitrary JSON as what Lambda gives a function that is no request: an answer of JSON, or an
//! error with a code. What goes to the sink is one line of JSON each.
#![no_main]

use coldread::events::sink::{Arrived, Outgoing, Sink};
use coldread::events::{Events, is_request};
use coldread::http::Platform;
use coldread_fuzz::{Service, runtime};
use libfuzzer_sys::fuzz_target;
use serde_json::Value;
use std::sync::{Arc, LazyLock};
use tokio::runtime::Runtime;

/// Takes every other result.
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

static EVENTS: LazyLock<(Events, Runtime)> = LazyLock::new(|| {
    let service = Service::start(&[]);
    let events = Events::new(service.state(), &Default::default(), Some(Arc::new(Picky)));
    (events, runtime())
});

fuzz_target!(|data: &[u8]| {
    let Ok(event) = std::str::from_utf8(data) else { return };
    // Lambda passes nothing else on, and what is a request goes another way.
    if serde_json::from_str::<Value>(event).is_err() || is_request(event) {
        return;
    }
    let (events, runtime) = &*EVENTS;
    match runtime.block_on(events.invoke(event, &Platform::default(), None)) {
        Ok(answer) => drop(serde_json::from_str::<Value>(answer.get()).expect("JSON")),
        Err(error) => assert!(!error.code().is_empty()),
    }
});
