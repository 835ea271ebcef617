//! The router over the real default model, and how its replies are looked at.

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, Method, Request, StatusCode};
use bytes::Bytes;
use coldread::batcher::Batcher;
use coldread::config::{Limits, ResponseMode};
use coldread::events::Events;
use coldread::http::{AppState, app};
use coldread::serve::lambda;
use coldread_engine::engine::{EncodedBatch, Engine, EngineInfo};
use coldread_engine::{Classifier, EngineError, Model, ModelOptions};
use hyper::body::Frame;
use lambda_runtime::{Context, Diagnostic, FunctionResponse, LambdaEvent};
use serde_json::Value;
use std::num::NonZeroUsize;
use std::path::Path;
use std::pin::Pin;
use std::sync::{Arc, Condvar, Mutex, OnceLock};
use std::task::Poll;
use tokio::sync::mpsc;
use tower::{Service, ServiceExt};

pub(crate) const MAX_POST_BYTES: usize = 65_536;

/// The defaults, as far as nothing else is said, and patience with slow machines.
pub(crate) fn limits(args: &[&str]) -> Limits {
    #[derive(clap::Parser)]
    #[command(args_override_self = true)]
    struct Cli {
        #[command(flatten)]
        limits: Limits,
    }
    let patience = [
        "coldread",
        "--request-timeout-ms=600000",
        "--max-queue-wait-ms=600000",
        "--body-timeout-ms=600000",
    ];
    let args = patience.iter().chain(args);
    let cli: Cli = clap::Parser::try_parse_from(args).expect("well-formed limits");
    cli.limits
}

/// The default model, loaded once a process.
pub(crate) fn model() -> &'static Model {
    static MODEL: OnceLock<Model> = OnceLock::new();
    MODEL.get_or_init(|| {
        let options = ModelOptions::new().max_post_bytes(MAX_POST_BYTES);
        options.embedded().expect("the default model loads")
    })
}

pub(crate) fn classifier() -> Classifier {
    model().classifier()
}

/// A queue of the caller's own before that model.
pub(crate) fn batcher(limits: &Limits) -> Batcher {
    let options = limits.batch_options(NonZeroUsize::MIN, |_| None);
    Batcher::start(classifier(), options, Arc::default())
}

pub(crate) fn state(limits: Limits) -> AppState {
    AppState::new(batcher(&limits), limits)
}

/// An engine that computes nothing, and nothing at all until it is let go.
struct Stalled {
    labels: usize,
    gate: Arc<Gate>,
}

/// Lets a stalled engine go.
#[derive(Default)]
pub(crate) struct Gate {
    is_open: Mutex<bool>,
    opened: Condvar,
}

impl Gate {
    pub(crate) fn open(&self) {
        *self.is_open.lock().expect("whole") = true;
        self.opened.notify_all();
    }
}

impl Engine for Stalled {
    fn forward(&mut self, batch: &EncodedBatch, logits: &mut Vec<f32>) -> Result<(), EngineError> {
        let is_open = self.gate.is_open.lock().expect("whole");
        let opened = self.gate.opened.wait_while(is_open, |is_open| !*is_open);
        drop(opened.expect("whole"));
        logits.extend((0..batch.len() * self.labels).map(|i| i as f32));
        Ok(())
    }

    fn fork(&self) -> Box<dyn Engine> {
        Box::new(Self {
            labels: self.labels,
            gate: Arc::clone(&self.gate),
        })
    }

    fn info(&self) -> EngineInfo {
        EngineInfo {
            batches: true,
            engine: "stalled",
            isa: None,
            weight_range: None,
            threads: 1,
        }
    }
}

/// The default model on an engine that waits for the gate.
pub(crate) fn stalled_model(gate: &Arc<Gate>) -> Model {
    let model = model();
    let engine = Stalled {
        labels: model.labels().len(),
        gate: Arc::clone(gate),
    };
    model.with_engine(Box::new(engine))
}

/// A state whose posts are not answered before the gate is opened.
pub(crate) fn stalled(limits: Limits) -> (AppState, Arc<Gate>) {
    let gate = Arc::<Gate>::default();
    let options = limits.batch_options(NonZeroUsize::MIN, |_| None);
    let model = stalled_model(&gate);
    let batcher = Batcher::start(model.classifier(), options, Arc::default());
    (AppState::new(batcher, limits), gate)
}

/// A service that scores at once, and nothing in particular.
pub(crate) fn instant(args: &[&str]) -> Router {
    let (state, gate) = stalled(limits(args));
    gate.open();
    app(state)
}

/// The whole service, without a socket.
pub(crate) fn service() -> Router {
    app(state(limits(&[])))
}

/// A reply, read whole.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) text: String,
}

impl Reply {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).expect("every reply is JSON")
    }

    /// Status, telling headers and body. Numbers and names that belong to the model
    /// are left out: they change with every training.
    pub(crate) fn render(&self) -> String {
        let mut rendered = self.status.to_string();
        for name in ["content-type", "allow", "retry-after"] {
            if let Some(value) = self.headers.get(name) {
                rendered += &format!("\n{name}: {}", value.to_str().expect("ASCII"));
            }
        }
        if !self.text.is_empty() {
            let mut body = self.json();
            redact(&mut body);
            rendered += &format!("\n\n{body:#}");
        }
        rendered
    }
}

fn redact(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                match (name.as_str(), &*value) {
                    ("score" | "negative" | "neutral" | "positive", Value::Number(score)) => {
                        let score = score.as_f64().expect("a float");
                        assert!((0.0..=1.0).contains(&score), "{score}");
                        *value = "[score]".into();
                    }
                    ("model" | "version" | "isa", Value::String(_)) => {
                        *value = format!("[{name}]").into();
                    }
                    _ => redact(value),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(redact),
        _ => {}
    }
}

/// Sends one request to a router of its own.
pub(crate) async fn send(app: Router, request: Request<Body>) -> Reply {
    let response = app
        .oneshot(request)
        .await
        .expect("the router is infallible");
    let (parts, body) = response.into_parts();
    let bytes = axum::body::to_bytes(body, 64 << 20)
        .await
        .expect("a whole body");
    Reply {
        status: parts.status,
        headers: parts.headers,
        text: String::from_utf8(bytes.into()).expect("UTF-8"),
    }
}

pub(crate) fn get(path: &str) -> Request<Body> {
    request(Method::GET, path, &[], "")
}

/// `POST /v1/sentiment` with JSON.
pub(crate) fn post(json: impl Into<Body>) -> Request<Body> {
    post_as("application/json", json)
}

pub(crate) fn post_as(content_type: &str, body: impl Into<Body>) -> Request<Body> {
    let content_type = ("content-type", content_type);
    request(Method::POST, "/v1/sentiment", &[content_type], body)
}

pub(crate) fn request(
    method: Method,
    path: &str,
    headers: &[(&str, &str)],
    body: impl Into<Body>,
) -> Request<Body> {
    let mut request = Request::builder().method(method).uri(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(body.into()).expect("a well-formed request")
}

/// A recorded event.
pub(crate) fn event(name: &str) -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/events");
    std::fs::read_to_string(folder.join(name).with_extension("json")).expect(name)
}

/// What Lambda gets for an event, or the error that it reports.
pub(crate) async fn invoked(
    state: AppState,
    events: Events,
    event: &str,
    context: Context,
) -> Result<Value, Diagnostic> {
    let mut function = lambda::function(app(state), events, ResponseMode::Buffered);
    let payload = serde_json::from_str(event).expect("an event is JSON");
    let reply = function.call(LambdaEvent::new(payload, context)).await;
    Ok(buffered(reply.map_err(Diagnostic::from)?))
}

/// A response that is sent in one piece.
pub(crate) fn buffered<S>(response: FunctionResponse<lambda::Response, S>) -> Value {
    let FunctionResponse::BufferedResponse(response) = response else {
        panic!("a stream");
    };
    serde_json::to_value(response).expect("a response is JSON")
}

/// A body that is written while it is read.
pub(crate) struct Piped(pub(crate) mpsc::UnboundedReceiver<Result<Bytes, std::io::Error>>);

impl axum::body::HttpBody for Piped {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, std::io::Error>>> {
        let next = self.0.poll_recv(cx);
        next.map(|piece| piece.map(|piece| piece.map(Frame::data)))
    }
}
