//! Recorded events through what the Lambda adapter runs for each of them.

use crate::support::{event, invoked, limits, stalled, state};
use axum::Router;
use axum::body::{Body, HttpBody};
use bytes::Bytes;
use coldread::config::EventOptions;
use coldread::events::Events;
use coldread::http::AppState;
use coldread::serve::lambda;
use hyper::body::Frame;
use lambda_http::{Context, LambdaEvent};
use serde_json::Value;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;
use std::time::{SystemTime, UNIX_EPOCH};
use tower::Service;

/// The platform's view of the reply to an event.
async fn invoke(event: &str) -> Value {
    invoke_in(event, Context::default()).await
}

async fn invoke_in(event: &str, context: Context) -> Value {
    answer(state(limits(&[])), event, context).await
}

pub(crate) async fn answer(state: AppState, event: &str, context: Context) -> Value {
    let events = Events::new(state.clone(), &EventOptions::default(), None);
    let reply = invoked(state, events, event, context).await;
    reply.expect("a request is answered")
}

fn body(reply: &Value) -> Value {
    assert_eq!(reply["isBase64Encoded"], false, "{reply}");
    let body = reply["body"].as_str().expect("a body");
    serde_json::from_str(body).expect("every body is JSON")
}

#[tokio::test]
async fn every_way_in_reaches_the_same_route() {
    let mut scores = Vec::new();
    for name in [
        "rest_prod",
        "rest_stage_named_v1",
        "rest_custom_domain_base_path",
        "rest_base64",
        "http_api_default_stage",
        "http_api_named_stage",
        "http_api_named_stage_proxy_route",
        "http_api_stage_named_v1",
        "http_api_custom_domain",
        "http_api_custom_domain_base_path",
        "function_url",
        "function_url_base64_text",
        "alb",
        "alb_multi_value_headers",
    ] {
        let reply = invoke(&event(name)).await;
        assert_eq!(reply["statusCode"], 200, "{name}: {reply}");
        let body = body(&reply);
        assert_eq!(body["label"], "positive", "{name}");
        scores.push(body["scores"].clone());
    }
    assert!(scores.iter().all(|s| *s == scores[0]), "{scores:?}");
}

#[tokio::test]
async fn replies_are_in_the_platforms_form() {
    let json = "application/json";
    let rest = invoke(&event("rest_prod")).await;
    assert_eq!(rest["multiValueHeaders"]["content-type"][0], json);
    let http = invoke(&event("http_api_named_stage")).await;
    assert_eq!(http["headers"]["content-type"], json);
    let alb = invoke(&event("alb_multi_value_headers")).await;
    assert_eq!(alb["multiValueHeaders"]["content-type"][0], json);
    assert_eq!(alb["statusDescription"], "200 OK");
}

#[tokio::test]
async fn events_without_a_body() {
    let reply = invoke(&event("rest_get_without_body")).await;
    assert_eq!(reply["statusCode"], 200, "{reply}");
    assert!(body(&reply)["limits"].is_object());

    let reply = invoke(&event("function_url_get_without_body")).await;
    assert_eq!(body(&reply)["status"], "ok");

    let mut post: Value = serde_json::from_str(&event("rest_prod")).expect("JSON");
    post["body"] = Value::Null;
    let reply = invoke(&post.to_string()).await;
    assert_eq!(reply["statusCode"], 400);
    assert_eq!(body(&reply)["error"]["code"], "invalid_json");
}

#[tokio::test]
async fn a_stage_is_stripped_once_and_only_as_a_whole_segment() {
    async fn status(path: &str, stage: &str) -> Value {
        let mut e: Value = serde_json::from_str(&event("http_api_named_stage")).expect("JSON");
        e["rawPath"] = path.into();
        e["requestContext"]["stage"] = stage.into();
        invoke(&e.to_string()).await["statusCode"].clone()
    }
    assert_eq!(status("/prod/v1/sentiment", "prod").await, 200);
    assert_eq!(status("/prod/prod/v1/sentiment", "prod").await, 404);
    assert_eq!(status("/product/v1/sentiment", "prod").await, 404);
    // The root takes posts too, in a format of another service.
    assert_eq!(status("/prod", "prod").await, 400);
    assert_eq!(status("/prod/a b/ü", "prod").await, 404);
    assert_eq!(status("", "$default").await, 400);
}

#[tokio::test]
async fn deadlines_of_lambda_and_of_emulators_leave_time() {
    let mut context = Context::default();
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let in_a_minute = now.expect("after 1970").as_millis() as u64 + 60_000;
    // Emulators send none, or a constant.
    for deadline in [in_a_minute, 0, 1, 600_000] {
        context.deadline = deadline;
        let reply = invoke_in(&event("rest_prod"), context.clone()).await;
        assert_eq!(reply["statusCode"], 200, "{deadline}: {reply}");
    }
}

#[tokio::test]
async fn what_lambda_cannot_carry_is_refused() {
    let (state, gate) = stalled(limits(&[]));
    gate.open();
    let mut post: Value = serde_json::from_str(&event("rest_prod")).expect("JSON");
    for name in ["headers", "multiValueHeaders"] {
        let list = name.starts_with("multi");
        let media: Value = "application/x-ndjson".into();
        post[name]["Content-Type"] = if list { vec![media].into() } else { media };
        if let Some(headers) = post[name].as_object_mut() {
            headers.remove("content-type");
        }
    }
    for (rows, status) in [(100, 200), (60_000, 413)] {
        post["body"] = "\"a\"\n".repeat(rows).into();
        let reply = answer(state.clone(), &post.to_string(), Context::default()).await;
        assert_eq!(reply["statusCode"], status);
        assert_eq!(reply["isBase64Encoded"], false, "rows are text, too");
        let body = reply["body"].as_str().expect("a body");
        assert_eq!(body.contains("reply_too_large"), status == 413);
    }
}

/// A body of a thousand pieces, of which it counts how many were taken.
struct Counted(Arc<AtomicUsize>);

impl HttpBody for Counted {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let is_there = self.0.fetch_add(1, Ordering::Relaxed) < 1000;
        Poll::Ready(is_there.then(|| Ok(Frame::data(Bytes::from("a".repeat(1 << 16))))))
    }
}

#[tokio::test]
async fn more_than_lambda_can_carry_is_not_gathered() {
    let taken = Arc::<AtomicUsize>::default();
    let counted = Arc::clone(&taken);
    let router = Router::new().fallback(async move || Body::new(Counted(counted)));
    let (state, _gate) = stalled(limits(&[]));
    let events = Events::new(state, &EventOptions::default(), None);
    let payload = serde_json::from_str(&event("rest_prod")).expect("JSON");
    let mut function = lambda::function(router, events);
    let reply = function.call(LambdaEvent::new(payload, Context::default()));
    let reply = serde_json::to_value(reply.await.expect("a reply")).expect("JSON");
    assert_eq!(reply["statusCode"], 413);
    assert_eq!(taken.load(Ordering::Relaxed), 6_000_000 / (1 << 16) + 1);
}
