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
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::{Mutex, mpsc};

/// What the function posted: how the invocation ended (`response` or `error`), and the payload.
type Outcome = (String, Value);

struct RuntimeApi {
    /// How often the function has asked for an event.
    polls: AtomicUsize,
    events: Mutex<mpsc::UnboundedReceiver<String>>,
    outcomes: mpsc::UnboundedSender<Outcome>,
}

async fn next(State(api): State<Arc<RuntimeApi>>) -> Response {
    api.polls.fetch_add(1, Ordering::SeqCst);
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

/// A function at a Runtime API of its own.
struct Running {
    events: mpsc::UnboundedSender<String>,
    answered: mpsc::UnboundedReceiver<Outcome>,
    api: Arc<RuntimeApi>,
    _function: Function,
}

impl Running {
    async fn start(env: &[(&str, &str)]) -> Self {
        let (events, receiver) = mpsc::unbounded_channel();
        let (outcomes, answered) = mpsc::unbounded_channel();
        let api = Arc::new(RuntimeApi {
            polls: AtomicUsize::new(0),
            events: Mutex::new(receiver),
            outcomes,
        });
        let router = Router::new()
            .route("/2018-06-01/runtime/invocation/next", get(next))
            .route("/2018-06-01/runtime/invocation/{id}/{how}", post(done))
            .with_state(Arc::clone(&api));
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
            .env("COLDREAD_LOG", "warn")
            .env_remove("COLDREAD_MODEL")
            .envs(env.iter().copied())
            .spawn();
        Self {
            events,
            answered,
            api,
            _function: Function(function.expect("the binary starts")),
        }
    }

    fn send(&self, event: String) {
        self.events.send(event).expect("the API runs");
    }

    async fn outcome(&mut self) -> Outcome {
        let outcome = tokio::time::timeout(Duration::from_mins(1), self.answered.recv()).await;
        outcome.expect("answered in time").expect("the API runs")
    }
}

#[tokio::test]
async fn events_in_answers_out() {
    let mut function = Running::start(&[]).await;
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
        function.send(event);
        let (how, payload) = function.outcome().await;
        assert_eq!(how, expected, "{payload}");
        if how == "response" {
            assert_eq!(payload["statusCode"], 200, "{payload}");
        } else {
            assert!(payload["errorMessage"].is_string(), "{payload}");
        }
    }
}

#[tokio::test]
async fn managed_instances_take_several_events_at_a_time() {
    let mut function = Running::start(&[("AWS_LAMBDA_MAX_CONCURRENCY", "4")]).await;
    // Four polls are open before there is a single event.
    let polled = async {
        while function.api.polls.load(Ordering::SeqCst) < 4 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let polled = tokio::time::timeout(Duration::from_mins(1), polled).await;
    polled.expect("it asks for four events");
    for _ in 0..12 {
        function.send(event("rest_prod"));
    }
    for _ in 0..12 {
        let (how, payload) = function.outcome().await;
        assert_eq!(
            (how.as_str(), &payload["statusCode"]),
            ("response", &200.into())
        );
    }
}
