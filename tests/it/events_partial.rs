//! Whatever fails in an event, each of its records is either delivered or comes again.

use crate::support::{invoked, limits, stalled};
use coldread::config::EventOptions;
use coldread::events::sink::Arrived;
use coldread::events::{Events, Outgoing, Sink};
use coldread::http::AppState;
use lambda_runtime::Context;
use proptest::prelude::*;
use serde_json::{Value, json};
use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

/// What is done with a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Fine,
    /// It has no text.
    Bad,
    /// The sink does not take its result.
    Refused,
}

/// Takes results but those that it is to refuse.
struct Picky {
    refuses: HashSet<String>,
    took: Mutex<Vec<Outgoing>>,
    /// Ends its answer here, as one would that knows no more.
    answers: usize,
}

impl Sink for Picky {
    fn send<'a>(&'a self, results: &'a [&'a Outgoing]) -> Arrived<'a> {
        let mut took = self.took.lock().unwrap_or_else(PoisonError::into_inner);
        let mut arrived = Vec::new();
        for result in results.iter().take(self.answers) {
            let takes = !self.refuses.contains(&result.id);
            if takes {
                took.push((*result).clone());
            }
            arrived.push(takes);
        }
        Box::pin(std::future::ready(arrived))
    }
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    Sqs,
    Fifo,
    Kinesis,
}

fn record(kind: Kind, place: usize, fate: Fate) -> Value {
    let text = if fate == Fate::Bad { "" } else { "a post" };
    match kind {
        Kind::Sqs | Kind::Fifo => {
            let queue = if matches!(kind, Kind::Fifo) {
                "q.fifo"
            } else {
                "q"
            };
            json!({
                "messageId": place.to_string(),
                "body": text,
                "eventSource": "aws:sqs",
                "eventSourceARN": format!("arn:aws:sqs:eu-central-1:123456789012:{queue}"),
            })
        }
        Kind::Kinesis => json!({
            "eventID": place.to_string(),
            "eventSource": "aws:kinesis",
            "kinesis": {
                "sequenceNumber": place.to_string(),
                "data": if text.is_empty() { "" } else { "YSBwb3N0" },
            },
        }),
    }
}

/// The places of records that were delivered, and of those that come again.
fn run(state: &AppState, kind: Kind, fates: &[Fate], answers: usize) -> (Vec<usize>, Vec<usize>) {
    let all = 0..fates.len();
    let records: Vec<Value> = all.clone().map(|i| record(kind, i, fates[i])).collect();
    let refused = all.clone().filter(|&i| fates[i] == Fate::Refused);
    let sink = Arc::new(Picky {
        refuses: refused.map(|i| i.to_string()).collect(),
        took: Mutex::default(),
        answers,
    });
    let events = Events::new(
        state.clone(),
        &EventOptions::default(),
        Some(Arc::clone(&sink) as Arc<dyn Sink>),
    );
    let event = json!({ "Records": records }).to_string();
    let reply = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime")
        .block_on(invoked(state.clone(), events, &event, Context::default()));
    let took = sink.took.lock().unwrap_or_else(PoisonError::into_inner);
    let delivered = took
        .iter()
        .map(|result| result.id.parse().expect("a place"))
        .collect();
    let again = match reply {
        Err(error) => {
            assert_eq!(error.error_type, "all_records_failed");
            all.collect()
        }
        Ok(reply) => {
            let listed = reply["batchItemFailures"].as_array().expect("a list");
            let listed = listed.iter().map(|item| item["itemIdentifier"].as_str());
            let listed: Vec<usize> = listed
                .map(|id| id.and_then(|id| id.parse().ok()).expect("a place"))
                .collect();
            match (kind, listed.first()) {
                // The stream is read again from there.
                (Kind::Kinesis, Some(&first)) => {
                    assert_eq!(listed.len(), 1);
                    (first..fates.len()).collect()
                }
                _ => listed,
            }
        }
    };
    (delivered, again)
}

fn fates() -> impl Strategy<Value = Vec<Fate>> {
    let fate = prop_oneof![8 => Just(Fate::Fine), 1 => Just(Fate::Bad), 1 => Just(Fate::Refused)];
    prop_oneof![
        proptest::collection::vec(fate.clone(), 1..12),
        // Over several rounds of scoring and delivering.
        proptest::collection::vec(fate, 90..330),
    ]
}

#[test]
fn each_record_is_delivered_or_comes_again() {
    let (state, gate) = stalled(limits(&[]));
    gate.open();
    let known = prop_oneof![4 => Just(usize::MAX), 1 => 0..120usize];
    proptest!(ProptestConfig::with_cases(100), |(fates in fates(), answers in known)| {
        let is_fine = |&i: &usize| fates[i] == Fate::Fine;
        let all = || 0..fates.len();

        let (delivered, again) = run(&state, Kind::Sqs, &fates, answers);
        let mut seen = [&delivered[..], &again].concat();
        seen.sort_unstable();
        prop_assert_eq!(seen, all().collect::<Vec<_>>(), "a queue's message is in one place");
        if answers == usize::MAX {
            prop_assert_eq!(delivered, all().filter(is_fine).collect::<Vec<_>>());
        }

        // FIFO: up to the first failure, and from there on; each in its order.
        let (delivered, again) = run(&state, Kind::Fifo, &fates, answers);
        prop_assert_eq!([&delivered[..], &again].concat(), all().collect::<Vec<_>>());
        if answers == usize::MAX {
            let first = fates.iter().position(|fate| *fate != Fate::Fine);
            prop_assert_eq!(delivered.len(), first.unwrap_or(fates.len()));
        }

        // Streams: the errors of bad records are delivered, and nothing behind a failure
        // but what went with it in one call.
        let (delivered, again) = run(&state, Kind::Kinesis, &fates, answers);
        let first = again.first().copied().unwrap_or(fates.len());
        prop_assert!((0..first).all(|i| delivered.contains(&i)), "{:?} {:?}", delivered, again);
        prop_assert!(delivered.iter().all(|&i| i / 100 <= first / 100));
        if answers == usize::MAX {
            let refused = fates.iter().position(|fate| *fate == Fate::Refused);
            prop_assert_eq!(first, refused.unwrap_or(fates.len()));
        }
    });
}
