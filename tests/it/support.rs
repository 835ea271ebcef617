//! The router over the real default model, and how its replies are looked at.

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, Method, Request, StatusCode};
use coldread::batcher::Batcher;
use coldread::classifier::{Classifier, EngineChoice, ModelOptions};
use coldread::http::{AppState, Limits, app};
use serde_json::Value;
use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::OnceLock;
use std::time::Duration;
use tower::ServiceExt;

pub(crate) const MAX_POST_BYTES: usize = 65_536;

pub(crate) const LIMITS: Limits = Limits {
    max_body_bytes: 4 << 20,
    max_posts: 1000,
    max_pending_posts: 4096,
    body_timeout: Duration::from_secs(30),
};

/// The model in the binary, loaded once a process.
pub(crate) fn classifier() -> Classifier {
    static CLASSIFIER: OnceLock<std::sync::Mutex<Classifier>> = OnceLock::new();
    let classifier = CLASSIFIER.get_or_init(|| {
        let options = ModelOptions {
            model: None,
            engine: EngineChoice::Auto,
            isa: None,
            threads: NonZeroUsize::MIN,
            max_post_bytes: MAX_POST_BYTES,
        };
        Classifier::load(&options)
            .expect("the default model loads")
            .into()
    });
    classifier.lock().expect("forking does not panic").fork()
}

/// A queue of the caller's own before that model.
pub(crate) fn batcher(max_pending_posts: usize) -> Batcher {
    Batcher::start(
        classifier(),
        max_pending_posts.try_into().expect("more than 0"),
    )
}

pub(crate) fn state(limits: Limits) -> AppState {
    AppState::new(batcher(limits.max_pending_posts), limits)
}

/// The whole service, without a socket.
pub(crate) fn service() -> Router {
    app(state(LIMITS))
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
