//! Recorded events through what the Lambda adapter runs for each of them.

use crate::support::{buffered, event, invoked, limits, stalled, state};
use axum::Router;
use axum::body::{Body, HttpBody};
use axum::response::AppendHeaders;
use bytes::Bytes;
use coldread::config::{EventOptions, ResponseMode};
use coldread::events::Events;
use coldread::http::AppState;
use coldread::serve::lambda;
use http_body_util::BodyExt;
use hyper::body::Frame;
use lambda_runtime::{Context, Diagnostic, FunctionResponse, LambdaEvent};
use serde_json::{Value, json};
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

/// What becomes of an event that nobody has to answer.
async fn outcome(state: &AppState, event: &str) -> Result<Value, Diagnostic> {
    let events = Events::new(state.clone(), &EventOptions::default(), None);
    invoked(state.clone(), events, event, Context::default()).await
}

/// A recorded event with something else in one place.
fn changed(name: &str, pointer: &str, value: impl Into<Value>) -> String {
    let mut event: Value = serde_json::from_str(&event(name)).expect("JSON");
    let (object, field) = pointer.rsplit_once('/').expect("a pointer");
    event.pointer_mut(object).expect("an object")[field] = value.into();
    event.to_string()
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
        "function_url_with_nulls",
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
    let payload = serde_json::from_str(&event("rest_prod")).expect("an event");
    let mut function = lambda::function(router, events, ResponseMode::Buffered);
    let reply = function.call(LambdaEvent::new(payload, Context::default()));
    let reply = buffered(reply.await.expect("a reply"));
    assert_eq!(reply["statusCode"], 413);
    assert_eq!(taken.load(Ordering::Relaxed), 6_000_000 / (1 << 16) + 1);
}

#[tokio::test]
async fn what_is_streamed_may_be_longer() {
    let counted = Arc::<AtomicUsize>::default();
    let router = Router::new().fallback(async move || {
        let headers = [("vary", "origin"), ("vary", "accept"), ("a", "b")];
        (AppendHeaders(headers), Body::new(Counted(counted)))
    });
    let (state, _gate) = stalled(limits(&[]));
    let events = Events::new(state, &EventOptions::default(), None);
    let payload = serde_json::from_str(&event("rest_prod")).expect("an event");
    let mut function = lambda::function(router, events, ResponseMode::Streaming);
    let response = function.call(LambdaEvent::new(payload, Context::default()));
    let FunctionResponse::StreamingResponse(response) = response.await.expect("a response") else {
        panic!("in one piece");
    };
    let head = serde_json::to_value(response.metadata_prelude).expect("JSON");
    assert_eq!(
        head,
        json!({"statusCode": 200, "headers": {"a": "b", "vary": "origin, accept"}, "cookies": []})
    );
    let body = Body::from_stream(response.stream).collect().await;
    assert_eq!(body.expect("whole").to_bytes().len(), 1000 << 16);
}

/// HTTP APIs and load balancers cannot be set to stream, and other events have no client.
#[tokio::test]
async fn only_gateways_that_can_stream_get_streams() {
    for (name, is_streamed) in [
        ("rest_prod", true),
        ("function_url", true),
        ("http_api_default_stage", false),
        ("http_api_custom_domain", false),
        ("alb", false),
    ] {
        let events = Events::new(state(limits(&[])), &EventOptions::default(), None);
        let router = coldread::http::app(state(limits(&[])));
        let payload = serde_json::from_str(&event(name)).expect("an event");
        let mut function = lambda::function(router, events, ResponseMode::Streaming);
        let response = function.call(LambdaEvent::new(payload, Context::default()));
        let response = response.await.expect("a response");
        let streamed = matches!(response, FunctionResponse::StreamingResponse(_));
        assert_eq!(streamed, is_streamed, "{name}");
    }
}

#[tokio::test]
async fn a_body_that_is_not_what_its_event_says_is_a_400() {
    for name in ["rest_base64", "function_url_base64_text"] {
        for value in [
            json!("{\"text\":\"good\"}"),
            json!("YWJ"),
            json!(7),
            json!({ "text": "good" }),
        ] {
            let reply = invoke(&changed(name, "/body", value)).await;
            assert_eq!(reply["statusCode"], 400, "{reply}");
            assert_eq!(body(&reply)["error"]["code"], "incomplete_body");
        }
    }
    let alb = invoke(&changed("alb", "/body", json!(["good"]))).await;
    assert_eq!(alb["statusCode"], 400, "{alb}");
}

#[tokio::test]
async fn base64_is_taken_as_encoders_write_it() {
    let expected = body(&invoke(&event("rest_base64")).await);
    let text: Value = serde_json::from_str(&event("rest_base64")).expect("JSON");
    let text = text["body"].as_str().expect("base64");
    let (first, second) = text.split_at(20);
    for text in [
        text.trim_end_matches('=').to_owned(),
        text.replace('+', "-").replace('/', "_"),
        format!("{first}\r\n{second}\n"),
    ] {
        let reply = invoke(&changed("rest_base64", "/body", text)).await;
        assert_eq!(body(&reply), expected);
    }
}

#[tokio::test]
async fn what_no_route_needs_is_not_held_to_be_sound() {
    for (name, pointer, value) in [
        ("function_url", "/headers/host", json!("a b")),
        ("function_url", "/headers/host", json!("[::")),
        ("function_url", "/headers/host", json!(null)),
        ("function_url", "/headers/x-forwarded-proto", json!("ht tp")),
        ("function_url", "/headers/x-forwarded-proto", json!(7)),
        ("function_url", "/headers/two words", json!("\n")),
        (
            "function_url",
            "/rawQueryString",
            json!("a=b c&\"<ü>\"#%zz"),
        ),
        ("function_url", "/rawQueryString", json!(null)),
        ("function_url", "/requestContext/domainName", json!("a b")),
        ("function_url", "/requestContext/stage", json!(7)),
        ("function_url", "/isBase64Encoded", json!(null)),
        ("http_api_named_stage", "/cookies", json!("a")),
        (
            "rest_prod",
            "/multiValueHeaders/Host",
            json!(["a b", "c d"]),
        ),
        ("rest_prod", "/headers", json!(null)),
        (
            "rest_prod",
            "/queryStringParameters",
            json!({ "a b": "c&d=#ü" }),
        ),
        (
            "rest_prod",
            "/multiValueQueryStringParameters",
            json!({ "a": "b" }),
        ),
        ("rest_prod", "/requestContext/domainName", json!(7)),
        ("alb", "/headers/host", json!("a b")),
        ("alb", "/queryStringParameters", json!({ "a": "%zz \u{0}" })),
        ("alb_multi_value_headers", "/headers", json!(7)),
    ] {
        let reply = invoke(&changed(name, pointer, value)).await;
        assert_eq!(reply["statusCode"], 200, "{name} {pointer}: {reply}");
    }
}

#[tokio::test]
async fn what_only_resembles_a_request_is_an_unknown_event() {
    let (state, _gate) = stalled(limits(&[]));
    let lattice = json!({
        "version": "2.0", "path": "/v1/sentiment", "method": "POST",
        "headers": { "content-type": ["application/json"] },
        "body": "{\"text\":\"good\"}", "isBase64Encoded": false,
        "requestContext": { "serviceNetworkArn": "arn:aws:vpc-lattice:eu-central-1:123456789012:servicenetwork/sn-0" },
    });
    let lattice_v1 = json!({
        "raw_path": "/v1/sentiment", "method": "POST", "headers": {}, "query_string_parameters": {},
        "body": "{\"text\":\"good\"}", "is_base64_encoded": false,
    });
    let websocket = json!({
        "requestContext": {
            "routeKey": "$default", "eventType": "MESSAGE", "connectionId": "Z1c2d3e4f5=",
            "stage": "prod", "domainName": "a1b2c3d4e5.execute-api.eu-central-1.amazonaws.com",
        },
        "body": "{\"text\":\"good\"}", "isBase64Encoded": false,
    });
    let agent = json!({
        "messageVersion": "1.0", "actionGroup": "posts", "apiPath": "/score", "httpMethod": "POST",
    });
    let authorizer =
        "arn:aws:execute-api:eu-central-1:123456789012:a1b2c3d4e5/prod/POST/v1/sentiment";
    for event in [
        lattice.to_string(),
        lattice_v1.to_string(),
        websocket.to_string(),
        agent.to_string(),
        changed("rest_prod", "/methodArn", authorizer),
        changed("rest_prod", "/httpMethod", Value::Null),
        changed("alb", "/httpMethod", "GE T"),
        changed("alb", "/path", Value::Null),
        changed("function_url", "/requestContext/http", Value::Null),
        changed("function_url", "/requestContext/http/method", 7),
        changed("function_url", "/rawPath", "a".repeat(70_000)),
        r#"{"requestContext":[]}"#.to_owned(),
        r#"{"httpMethod":"GET"}"#.to_owned(),
    ] {
        let error = outcome(&state, &event).await.expect_err(&event);
        assert_eq!(error.error_type, "unknown_event", "{event}");
    }
}

#[tokio::test]
async fn health_checks_of_load_balancers_are_answered() {
    for method in ["GET", "HEAD"] {
        for path in ["/", "/healthz", "/readyz"] {
            let check = json!({
                "requestContext": { "elb": { "targetGroupArn": "arn:aws:elasticloadbalancing:eu-central-1:123456789012:targetgroup/coldread/3f2a1b0c9d8e7f6a" } },
                "httpMethod": method, "path": path, "queryStringParameters": {},
                "headers": { "user-agent": "ELB-HealthChecker/2.0" }, "body": "", "isBase64Encoded": false,
            });
            let reply = invoke(&check.to_string()).await;
            assert_eq!(reply["statusCode"], 200, "{method} {path}");
            assert_eq!(reply["statusDescription"], "200 OK");
        }
    }
}

/// The places of everything in a document.
fn places(value: &Value, at: &str, places: &mut Vec<String>) {
    let inner: Vec<(String, &Value)> = match value {
        Value::Object(fields) => fields
            .iter()
            .map(|(name, value)| (name.clone(), value))
            .collect(),
        Value::Array(items) => (0..).map(|i: usize| i.to_string()).zip(items).collect(),
        _ => Vec::new(),
    };
    for (name, value) in inner {
        let place = format!("{at}/{}", name.replace('~', "~0").replace('/', "~1"));
        self::places(value, &place, places);
        places.push(place);
    }
}

#[tokio::test]
async fn whatever_stands_in_an_event_it_has_a_response_or_a_named_error() {
    let (state, gate) = stalled(limits(&[]));
    gate.open();
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/events");
    for file in std::fs::read_dir(folder).expect("recorded events") {
        let file = file.expect("a file").path();
        let sound = std::fs::read_to_string(&file).expect("text");
        let sound: Value = serde_json::from_str(&sound).expect("JSON");
        let mut all = Vec::new();
        places(&sound, "", &mut all);
        for place in all {
            for odd in [json!(null), json!(7), json!("\u{0} ü%\n\\"), json!([{}])] {
                let mut event = sound.clone();
                *event.pointer_mut(&place).expect("a place") = odd;
                match outcome(&state, &event.to_string()).await {
                    Ok(_) => {}
                    Err(error) => assert!(
                        error
                            .error_type
                            .bytes()
                            .all(|b| b.is_ascii_lowercase() || b == b'_'),
                        "{event}: {error:?}"
                    ),
                }
            }
        }
    }
}
