//! Comprehend calls signed by AWS's own signer, and who is let in by them.

use crate::access::access;
use crate::compat::{state_with, with_options};
use crate::lambda_events;
use crate::support::{post, request, send};
use aws_credential_types::Credentials;
use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningSettings, sign};
use aws_sigv4::sign::v4::SigningParams;
use axum::Router;
use axum::body::Body;
use axum::http::{Method, Request};
use lambda_runtime::Context;
use std::time::{Duration, SystemTime};

const PAIRS: &str = "AKIDOLD:old-secret/with+16=chars, AKIDNEW:new-secret/with+16=chars";
const OLD: (&str, &str) = ("AKIDOLD", "old-secret/with+16=chars");
const BODY: &str = r#"{"Text":"so good 😍","LanguageCode":"en"}"#;

fn guarded(args: &[&str]) -> Router {
    with_options(|options| options.access = access(args))
}

/// A call as an SDK sends it to a path, signed at a time by somebody.
fn signed(path: &str, (id, secret): (&str, &str), time: SystemTime) -> Request<Body> {
    let mut request = Request::post(format!("http://scores.example{path}"))
        .header("host", "scores.example")
        .header("content-type", "application/x-amz-json-1.1")
        .header("x-amz-target", "Comprehend_20171127.DetectSentiment")
        .header("user-agent", "an SDK")
        .body(Body::from(BODY))
        .expect("well-formed");
    let identity = Credentials::new(id, secret, None, None, "test").into();
    let params = SigningParams::builder()
        .identity(&identity)
        .region("eu-central-1")
        .name("comprehend")
        .time(time)
        .settings(SigningSettings::default())
        .build()
        .expect("complete")
        .into();
    let headers: Vec<(String, String)> = request
        .headers()
        .iter()
        .map(|(name, value)| (name.to_string(), value.to_str().expect("ASCII").to_owned()))
        .collect();
    let headers = headers
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()));
    let uri = request.uri().to_string();
    let signable = SignableRequest::new("POST", uri, headers, SignableBody::Bytes(BODY.as_bytes()));
    let signable = signable.expect("signable");
    let (instructions, _) = sign(signable, &params).expect("signed").into_parts();
    instructions.apply_to_request_http1x(&mut request);
    *request.uri_mut() = path.parse().expect("a path");
    request
}

fn unsigned() -> Request<Body> {
    let target = ("x-amz-target", "Comprehend_20171127.DetectSentiment");
    request(Method::POST, "/", &[target], BODY)
}

async fn told(app: &Router, request: Request<Body>) -> String {
    let reply = send(app.clone(), request).await;
    let kind = reply.json()["__type"].as_str().unwrap_or("").to_owned();
    format!("{} {kind}", reply.status.as_u16())
}

#[tokio::test]
async fn every_pair_signs_and_nobody_else() {
    let app = guarded(&["--sigv4-keys", PAIRS]);
    let now = SystemTime::now();
    let new = ("AKIDNEW", "new-secret/with+16=chars");
    for (path, pair) in [("/", OLD), ("/comprehend", new), ("/comprehend/", OLD)] {
        assert_eq!(told(&app, signed(path, pair, now)).await, "200 ", "{path}");
    }
    let crossed = (OLD.0, new.1);
    let expected = "400 InvalidSignatureException";
    assert_eq!(told(&app, signed("/", crossed, now)).await, expected);
    let nobody = ("AKIDNOBODY", OLD.1);
    let expected = "400 UnrecognizedClientException";
    assert_eq!(told(&app, signed("/", nobody, now)).await, expected);
    let expected = "400 MissingAuthenticationTokenException";
    assert_eq!(told(&app, unsigned()).await, expected);
    let mut changed = signed("/", OLD, now);
    *changed.body_mut() = Body::from(BODY.replace("good", "bad"));
    assert_eq!(told(&app, changed).await, "400 InvalidSignatureException");
}

#[tokio::test]
async fn a_signature_holds_for_five_minutes_however_often() {
    let app = guarded(&["--sigv4-keys", PAIRS]);
    let minutes = |n: u64| Duration::from_mins(n);
    let old = SystemTime::now() - minutes(4);
    // SigV4 has no nonce: the same call is taken again, as at AWS.
    for _ in 0..2 {
        assert_eq!(told(&app, signed("/", OLD, old)).await, "200 ");
    }
    for time in [
        SystemTime::now() - minutes(6),
        SystemTime::now() + minutes(6),
    ] {
        let expected = "400 InvalidSignatureException";
        assert_eq!(told(&app, signed("/", OLD, time)).await, expected);
    }
}

#[tokio::test]
async fn keys_of_either_kind_close_the_service() {
    let now = SystemTime::now();
    let nobody = ("AKIDNOBODY", OLD.1);
    let open = guarded(&[]);
    assert_eq!(told(&open, signed("/", nobody, now)).await, "200 ");
    assert_eq!(told(&open, unsigned()).await, "200 ");
    // With pairs alone nothing but Comprehend is answered.
    let pairs = guarded(&["--sigv4-keys", PAIRS]);
    let native = post(r#"{"text":"so good"}"#);
    assert_eq!(send(pairs, native).await.status, 401);
    // With API keys alone nobody can sign, but a key is as good.
    let keys = guarded(&["--api-keys", "first-key-0123456789"]);
    let expected = "400 UnrecognizedClientException";
    assert_eq!(told(&keys, signed("/", OLD, now)).await, expected);
    let mut with_key = unsigned();
    let key = "first-key-0123456789".parse().expect("a value");
    with_key.headers_mut().insert("x-api-key", key);
    assert_eq!(told(&keys, with_key).await, "200 ");
}

/// Behind API Gateway the path that was signed has a stage, and the route has none.
#[tokio::test]
async fn the_path_that_was_signed_counts_on_lambda() {
    let call = signed("/prod/comprehend", OLD, SystemTime::now());
    let headers: serde_json::Map<_, _> = call
        .headers()
        .iter()
        .map(|(name, value)| (name.to_string(), value.to_str().expect("ASCII").into()))
        .collect();
    let mut event: serde_json::Value =
        serde_json::from_str(&crate::support::event("rest_prod")).expect("JSON");
    event["path"] = "/comprehend".into();
    event["resource"] = "/comprehend".into();
    event["requestContext"]["path"] = "/prod/comprehend".into();
    event["requestContext"]["resourcePath"] = "/comprehend".into();
    event["multiValueHeaders"] = serde_json::Value::Null;
    event["headers"] = headers.into();
    event["body"] = BODY.into();
    event["isBase64Encoded"] = false.into();
    let with_pairs = state_with(|options| options.access = access(&["--sigv4-keys", PAIRS]));
    let reply = lambda_events::answer(with_pairs, &event.to_string(), Context::default()).await;
    assert_eq!(reply["statusCode"], 200, "{reply}");
}
