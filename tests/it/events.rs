//! Recorded events of queues, streams, topics, buses and pipes through what Lambda calls.

use crate::support::{event, invoked, limits, stalled, state};
use coldread::config::{EventArgs, EventOptions};
use coldread::events::sink::Arrived;
use coldread::events::{Events, Outgoing, Sink};
use lambda_runtime::Context;
use lambda_runtime::Diagnostic;
use serde_json::{Value, json};
use std::sync::{Arc, Mutex, PoisonError};

/// Remembers what it was sent, and takes all of it.
#[derive(Default)]
struct Kept(Mutex<Vec<Outgoing>>);

impl Kept {
    fn results(&self) -> Vec<Value> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let bodies = kept.iter().map(|result| result.body.as_str());
        bodies
            .map(|body| serde_json::from_str(body).expect("JSON"))
            .collect()
    }
}

impl Sink for Kept {
    fn send<'a>(&'a self, results: &'a [&'a Outgoing]) -> Arrived<'a> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.extend(results.iter().copied().cloned());
        Box::pin(std::future::ready(vec![true; results.len()]))
    }
}

async fn with_sink(event: &str) -> (Result<Value, Diagnostic>, Vec<Value>) {
    let kept = Arc::<Kept>::default();
    let state = state(limits(&[]));
    let options = EventOptions::default();
    let events = Events::new(
        state.clone(),
        &options,
        Some(Arc::clone(&kept) as Arc<dyn Sink>),
    );
    let reply = invoked(state, events, event, Context::default()).await;
    (reply, kept.results())
}

async fn without_sink(event: &str) -> Result<Value, Diagnostic> {
    with_pointer("", event).await
}

async fn with_pointer(pointer: &str, event: &str) -> Result<Value, Diagnostic> {
    let state = state(limits(&[]));
    let args = EventArgs {
        event_text: Some(pointer.to_owned()),
        ..EventArgs::default()
    };
    let events = Events::new(state.clone(), &args.resolve().expect("a pointer"), None);
    invoked(state, events, event, Context::default()).await
}

/// Labels, or codes of errors.
fn outcomes(results: &[Value]) -> Vec<&str> {
    let outcomes = results.iter().map(|result| match &result["label"] {
        Value::String(label) => label.as_str(),
        _ => result["error"]["code"].as_str().unwrap_or("nothing"),
    });
    outcomes.collect()
}

fn list(reply: &Value) -> &[Value] {
    reply.as_array().expect("a list")
}

#[tokio::test]
async fn a_standard_queue_keeps_its_bad_messages() {
    let (reply, results) = with_sink(&event("sqs_batch")).await;
    let bad = "2e1424d4-f796-459a-8184-9c92662be6da";
    let expected = json!({ "batchItemFailures": [{ "itemIdentifier": bad }] });
    assert_eq!(reply.expect("some were fine"), expected);
    assert_eq!(outcomes(&results), ["positive", "negative"]);
    assert_eq!(results[0]["id"], "059f36b4-87a3-44ab-83d2-661975830a7d");
    assert_eq!(results[0]["post_id"], "p-1");
    assert_eq!(
        results[0]["source"],
        "arn:aws:sqs:eu-central-1:123456789012:posts"
    );
    assert_eq!(results[0]["model"], "default");
    assert_eq!(results[1].get("post_id"), None);
}

#[tokio::test]
async fn a_whole_queue_that_was_scored_has_an_empty_list() {
    for name in ["sqs", "sqs_from_sns"] {
        let (reply, results) = with_sink(&event(name)).await;
        assert_eq!(reply.expect(name), json!({ "batchItemFailures": [] }));
        assert_eq!(outcomes(&results), ["positive"], "{name}");
    }
}

#[tokio::test]
async fn a_fifo_queue_stops_at_its_first_bad_message() {
    let (reply, results) = with_sink(&event("sqs_fifo")).await;
    let reply = reply.expect("the first was fine");
    let failures: Vec<&str> = list(&reply["batchItemFailures"])
        .iter()
        .filter_map(|failure| failure["itemIdentifier"].as_str())
        .collect();
    assert_eq!(
        failures,
        [
            "2e1424d4-f796-459a-8184-9c92662be6da",
            "7f02b8c1-6c5e-4b0f-9a39-0a3fd0d7a2c4"
        ]
    );
    assert_eq!(outcomes(&results), ["positive"]);
}

#[tokio::test]
async fn streams_deliver_the_errors_of_what_can_never_be_scored() {
    for (name, expected) in [
        ("kinesis", &["positive", "invalid_utf8", "negative"][..]),
        // Of the deletion there is nothing.
        ("dynamodb", &["positive", "negative", "missing_field"]),
    ] {
        let (reply, results) = with_sink(&event(name)).await;
        assert_eq!(reply.expect(name), json!({ "batchItemFailures": [] }));
        assert_eq!(outcomes(&results), expected, "{name}");
    }
    let (_, results) = with_sink(&event("dynamodb")).await;
    assert_eq!(results[0]["post_id"], "101");
}

#[tokio::test]
async fn nothing_is_acknowledged_without_a_sink() {
    for name in ["sqs", "sqs_fifo", "sqs_batch", "kinesis", "dynamodb"] {
        let error = without_sink(&event(name)).await.expect_err(name);
        assert_eq!(error.error_type, "no_results_sink", "{name}");
    }
}

#[tokio::test]
async fn an_event_of_which_nothing_was_scored_fails() {
    for body in ["", "{}"] {
        let mut sqs: Value = serde_json::from_str(&event("sqs")).expect("JSON");
        sqs["Records"][0]["body"] = body.into();
        let (reply, results) = with_sink(&sqs.to_string()).await;
        let error = reply.expect_err("all of it failed");
        assert_eq!(error.error_type, "all_records_failed");
        assert!(results.is_empty());
    }
}

#[tokio::test]
async fn topics_and_buses_get_results_for_their_destinations() {
    let reply = without_sink(&event("sns")).await.expect("scored");
    assert_eq!(outcomes(list(&reply["results"])), ["positive"]);
    let reply = without_sink(&event("eventbridge")).await.expect("scored");
    assert_eq!(
        (&reply["label"], &reply["post_id"]),
        (&json!("positive"), &json!("r-9"))
    );

    // What cannot be scored goes to the destination for failures.
    for (name, post) in [
        ("sns", "/Records/0/Sns/Message"),
        ("eventbridge", "/detail/text"),
    ] {
        let mut empty: Value = serde_json::from_str(&event(name)).expect("JSON");
        *empty.pointer_mut(post).expect("a post") = "".into();
        let error = without_sink(&empty.to_string()).await.expect_err(name);
        assert_eq!(error.error_type, "empty_text", "{name}");
    }
}

#[tokio::test]
async fn lists_come_back_as_long_as_they_were() {
    for (name, expected) in [
        ("pipes_sqs", &["positive", "negative", "empty_text"][..]),
        ("pipes_kinesis", &["positive", "invalid_utf8"]),
        ("pipes_dynamodb", &["positive", "nothing"]),
        ("pipes_input_template", &["positive", "negative", "neutral"]),
        ("distributed_map", &["positive", "empty_text", "negative"]),
    ] {
        let reply = without_sink(&event(name)).await.expect(name);
        assert_eq!(outcomes(list(&reply)), expected, "{name}");
    }
    assert_eq!(without_sink("[]").await.expect("nothing to do"), json!([]));
    let long = json!(vec!["so good"; 250]).to_string();
    assert_eq!(list(&without_sink(&long).await.expect("scored")).len(), 250);
}

#[tokio::test]
async fn a_direct_call_gets_what_http_gives() {
    let one = without_sink(r#"{"text":"so good"}"#).await.expect("scored");
    let many = without_sink(r#"{"texts":["so good",""]}"#)
        .await
        .expect("scored");
    assert_eq!(one["scores"], many["results"][0]["scores"]);
    assert_eq!(one["model"], "default");
    assert_eq!(outcomes(list(&many["results"])), ["positive", "empty_text"]);
    for (event, code) in [
        (r#"{"text":""}"#, "empty_text"),
        (r#"{"text":7}"#, "invalid_type"),
        (r#"{"texts":[]}"#, "no_texts"),
        (r#"{"text":"a","texts":["b"]}"#, "conflicting_fields"),
        (r#"{"text":"a","lang":"en"}"#, "unknown_field"),
        (
            &json!({ "texts": vec!["a"; 1001] }).to_string(),
            "too_many_posts",
        ),
    ] {
        let error = without_sink(event).await.expect_err(event);
        assert_eq!(error.error_type, code, "{event}");
    }
}

#[tokio::test]
async fn every_way_in_gives_the_same_scores() {
    let direct = json!({ "text": "I love this airline, the crew was wonderful!" });
    let expected = without_sink(&direct.to_string()).await.expect("scored")["scores"].clone();
    for name in [
        "sqs",
        "sqs_batch",
        "sqs_fifo",
        "sqs_from_sns",
        "kinesis",
        "dynamodb",
    ] {
        let (_, results) = with_sink(&event(name)).await;
        assert_eq!(results[0]["scores"], expected, "{name}");
    }
    for (name, scores) in [
        ("sns", "/results/0/scores"),
        ("eventbridge", "/scores"),
        ("pipes_sqs", "/0/scores"),
        ("pipes_kinesis", "/0/scores"),
        ("pipes_dynamodb", "/0/scores"),
        ("pipes_input_template", "/0/scores"),
        ("distributed_map", "/0/scores"),
    ] {
        let reply = without_sink(&event(name)).await.expect(name);
        assert_eq!(reply.pointer(scores), Some(&expected), "{name}");
    }
}

#[tokio::test]
async fn a_pointer_says_where_the_post_stands() {
    let items = json!([{ "review": { "body": "so good" } }, { "text": "so good" }]);
    let reply = with_pointer("/review/body", &items.to_string()).await;
    assert_eq!(
        outcomes(list(&reply.expect("scored"))),
        ["positive", "missing_field"]
    );
}

#[tokio::test]
async fn what_is_nobodys_event_is_an_error() {
    for event in [
        &event("s3"),
        "{}",
        "null",
        "\"warm up\"",
        "7",
        r#"{"Records":[]"#,
    ] {
        if serde_json::from_str::<Value>(event).is_ok() {
            let error = without_sink(event).await.expect_err(event);
            assert_eq!(error.error_type, "unknown_event", "{event}");
        }
    }
    // The names of a request, and nothing else of one.
    let error = without_sink(r#"{"requestContext":7}"#).await;
    assert_eq!(error.expect_err("no request").error_type, "unknown_event");
}

#[tokio::test]
async fn time_that_is_up_fails_the_event() {
    // Nothing is ever scored.
    let (state, gate) = stalled(limits(&["--request-timeout-ms", "50"]));
    let kept = Arc::<Kept>::default();
    let sink = Arc::clone(&kept) as Arc<dyn Sink>;
    for (name, code) in [
        ("sqs_batch", "all_records_failed"),
        ("sqs_fifo", "all_records_failed"),
        ("kinesis", "all_records_failed"),
        ("sns", "deadline_exceeded"),
        ("pipes_sqs", "deadline_exceeded"),
    ] {
        let events = Events::new(
            state.clone(),
            &EventOptions::default(),
            Some(Arc::clone(&sink)),
        );
        let reply = invoked(state.clone(), events, &event(name), Context::default()).await;
        assert_eq!(reply.expect_err(name).error_type, code, "{name}");
    }
    assert!(kept.results().is_empty());
    gate.open();
}

#[tokio::test]
async fn an_answer_that_lambda_cannot_carry_is_an_error() {
    let (state, gate) = stalled(limits(&[]));
    gate.open();
    let events = Events::new(state.clone(), &EventOptions::default(), None);
    let posts = json!(vec!["a"; 60_000]).to_string();
    let reply = invoked(state, events, &posts, Context::default()).await;
    assert_eq!(reply.expect_err("too long").error_type, "reply_too_large");
}

#[tokio::test]
async fn pings_are_acknowledged_without_a_sink() {
    let scheduled = |source: &str, detail: Value| {
        json!({
            "version": "0", "id": "53dc4d37-cffa-4f76-80c9-8b7d4a4d2eaa", "account": "123456789012",
            "detail-type": "Scheduled Event", "source": source, "time": "2026-10-28T07:16:44Z",
            "region": "eu-central-1", "resources": [], "detail": detail,
        })
    };
    for event in [
        scheduled("aws.events", json!({})),
        scheduled("aws.scheduler", json!("{}")),
        json!({ "warmer": true, "concurrency": 3 }),
        json!({ "source": "serverless-plugin-warmup" }),
        json!({ "warmup": true }),
    ] {
        let reply = without_sink(&event.to_string()).await;
        assert_eq!(
            reply.expect("acknowledged"),
            json!({ "status": "ok" }),
            "{event}"
        );
    }
    for event in [
        json!({ "warmer": false }),
        json!({ "source": "aws.events" }),
        json!({ "warmer": "true" }),
    ] {
        let error = without_sink(&event.to_string()).await.expect_err("no ping");
        assert_eq!(error.error_type, "unknown_event", "{event}");
    }
}

#[tokio::test]
async fn a_byte_order_mark_is_no_part_of_a_message() {
    let mut sqs: Value = serde_json::from_str(&event("sqs_batch")).expect("JSON");
    let text = sqs["Records"][0]["body"].as_str().expect("text").to_owned();
    let (_, expected) = with_sink(&sqs.to_string()).await;
    sqs["Records"][0]["body"] = format!("\u{feff}{text}").into();
    let (_, results) = with_sink(&sqs.to_string()).await;
    assert_eq!(results, expected);
    assert_eq!(results[0]["post_id"], "p-1");
}

#[tokio::test]
async fn half_a_surrogate_pair_fails_its_own_record() {
    let list = r#"["so good",{"text":"\ud83d","id":"a"},null,{"text":"so bad"}]"#;
    let reply = without_sink(list).await.expect("scored");
    let codes = ["positive", "invalid_json", "missing_field", "negative"];
    assert_eq!(outcomes(self::list(&reply)), codes);

    let sqs = event("sqs_batch").replacen("I love", r"\ude00 I love", 1);
    let (reply, results) = with_sink(&sqs).await;
    let failures = reply.expect("some were fine");
    let first = "059f36b4-87a3-44ab-83d2-661975830a7d";
    let failures = self::list(&failures["batchItemFailures"]);
    assert!(
        failures.contains(&json!({ "itemIdentifier": first })),
        "{failures:?}"
    );
    assert_eq!(outcomes(&results), ["negative"]);

    let direct = r#"{"texts":["so good","so bad \ud83d"]}"#;
    let reply = without_sink(direct).await.expect("scored");
    assert_eq!(reply["results"][1]["label"], "negative");

    // A direct call is one record.
    let bus = r#"{"detail-type":"post","source":"shop","id":"1","detail":{"text":"\ud83d"}}"#;
    let error = without_sink(bus).await.expect_err("no text");
    assert_eq!(error.error_type, "invalid_json");
}
