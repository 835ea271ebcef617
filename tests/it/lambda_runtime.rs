//! The real binary against a Runtime API of a few lines.

use crate::support::event;
use axum::Router;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde_json::Value;
use std::process::{Child, Command};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Mutex, mpsc};

/// What the function posted: how the invocation ended (`response` or `error`), and the payload.
type Outcome = (String, Value);

struct RuntimeApi {
    events: Mutex<mpsc::UnboundedReceiver<String>>,
    outcomes: mpsc::UnboundedSender<Outcome>,
}

async fn next(State(api): State<Arc<RuntimeApi>>) -> Response {
    // With no event left the poll stays open, as Lambda's does while it is frozen.
    let Some(event) = api.events.lock().await.recv().await else {
        return std::future::pending().await;
    };
    let headers = [
        (
            "lambda-runtime-aws-request-id",
            "8476a536-e9f4-11e8-9739-2dfe598c3fcd",
        ),
        ("lambda-runtime-deadline-ms", "4102444800000"),
        (
            "lambda-runtime-invoked-function-arn",
            "arn:aws:lambda:eu-central-1:123456789012:function:coldread",
        ),
        (
            "lambda-runtime-trace-id",
            "Root=1-5bef4de7-ad49b0e87f6ef6c87fc2e700;Sampled=0",
        ),
    ];
    (headers, event).into_response()
}

async fn done(
    State(api): State<Arc<RuntimeApi>>,
    Path((_id, how)): Path<(String, String)>,
    body: String,
) -> StatusCode {
    let payload = serde_json::from_str(&body).expect("the function answers JSON");
    api.outcomes.send((how, payload)).expect("the test waits");
    StatusCode::ACCEPTED
}

struct Function(Child);

impl Drop for Function {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test]
async fn events_in_answers_out() {
    let (events, receiver) = mpsc::unbounded_channel();
    let (outcomes, mut answered) = mpsc::unbounded_channel();
    let api = Arc::new(RuntimeApi {
        events: Mutex::new(receiver),
        outcomes,
    });
    let router = Router::new()
        .route("/2018-06-01/runtime/invocation/next", get(next))
        .route("/2018-06-01/runtime/invocation/{id}/{how}", post(done))
        .with_state(api);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .expect("a free port");
    let addr = listener.local_addr().expect("bound");
    tokio::spawn(async move { axum::serve(listener, router).await });

    // No subcommand: the environment decides.
    let function = Command::new(env!("CARGO_BIN_EXE_coldread"))
        .env("AWS_LAMBDA_RUNTIME_API", addr.to_string())
        .env("AWS_LAMBDA_FUNCTION_NAME", "coldread")
        .env("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "512")
        .env("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST")
        .env_remove("COLDREAD_MODEL")
        .spawn();
    let _function = Function(function.expect("the binary starts"));

    let mut bad_base64: Value = serde_json::from_str(&event("rest_base64")).expect("JSON");
    bad_base64["body"] = "%%%".into();
    // In between there is what is no HTTP event and what cannot be made a request.
    for (event, expected) in [
        (event("rest_prod"), "response"),
        (event("sqs"), "error"),
        ("\"warm up\"".to_owned(), "error"),
        (bad_base64.to_string(), "error"),
        (event("function_url"), "response"),
    ] {
        events.send(event).expect("the API runs");
        let outcome = tokio::time::timeout(Duration::from_mins(1), answered.recv()).await;
        let (how, payload) = outcome.expect("answered in time").expect("the API runs");
        assert_eq!(how, expected, "{payload}");
        if how == "response" {
            assert_eq!(payload["statusCode"], 200, "{payload}");
        } else {
            assert!(payload["errorMessage"].is_string(), "{payload}");
        }
    }
}
