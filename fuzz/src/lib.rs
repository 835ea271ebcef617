//! What the targets of requests share: the service as it runs, the forward pass apart.
//!
//! Any panic ends the process, whichever thread it is on. What else must hold of every
//! answer is checked here, and the rest by each target.

use axum::Router;
use axum::body::{Body, Bytes};
use axum::http::{Request, StatusCode};
use coldread::batcher::Batcher;
use coldread_engine::{EngineError, ModelOptions};
use coldread::config::{AccessArgs, Compat, Limits};
use coldread_engine::engine::{EncodedBatch, Engine, EngineInfo};
use coldread::http::{AppOptions, AppState, app};
use http_body_util::BodyExt;
use std::num::NonZeroUsize;
use std::sync::Arc;
use tokio::runtime::{Builder, Runtime};
use tower::ServiceExt;

/// Where Vertex AI would send posts.
pub const VERTEX_PREDICT: &str = "/vertex/predict";

/// Settings of a service under test, as on the command line.
#[derive(clap::Parser)]
struct Args {
    #[command(flatten)]
    limits: Limits,
    #[command(flatten)]
    access: AccessArgs,
}

/// An engine that gives some logits at once, the same for a post in any batch.
struct Anything {
    labels: usize,
}

impl Engine for Anything {
    fn forward(&mut self, batch: &EncodedBatch, logits: &mut Vec<f32>) -> Result<(), EngineError> {
        for post in batch.posts() {
            let sum = post.iter().fold(0_u32, |sum, id| sum.rotate_left(5) ^ id);
            logits.extend((0..self.labels).map(|i| (sum.rotate_left(7 * i as u32) % 7) as f32));
        }
        Ok(())
    }

    fn fork(&self) -> Box<dyn Engine> {
        let labels = self.labels;
        Box::new(Self { labels })
    }

    fn info(&self) -> EngineInfo {
        EngineInfo {
            batches: true,
            engine: "anything",
            isa: None,
            weight_range: None,
            threads: 1,
        }
    }
}

/// What futures run on: this thread.
pub fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().expect("a runtime")
}

/// The service, and what it runs on.
pub struct Service {
    state: AppState,
    router: Router,
    runtime: Runtime,
}

impl Service {
    /// One with limits that inputs of a fuzzer reach, and whatever else `args` say.
    pub fn start(args: &[&str]) -> Self {
        let small = "fuzz --max-body-bytes 20000 --max-posts 20 --workers 1";
        let Args { limits, access } = clap::Parser::parse_from(small.split(' ').chain(args.iter().copied()));
        let options = ModelOptions::new().max_post_bytes(300);
        let model = options.embedded().expect("the default model loads");
        let labels = model.labels().len();
        let model = model.with_engine(Box::new(Anything { labels }));
        let batches = limits.batch_options(NonZeroUsize::MIN, |_| None);
        let batcher = Batcher::start(model.classifier(), batches, Arc::default());
        let access = access.resolve().expect("sound");
        let options = AppOptions {
            access,
            compat: Compat {
                vertex_predict: Some(VERTEX_PREDICT.to_owned()),
                ..Compat::default()
            },
            ..AppOptions::from(limits)
        };
        let state = AppState::new(batcher, options);
        Self {
            router: app(state.clone()),
            state,
            runtime: runtime(),
        }
    }

    /// What its handlers share.
    pub fn state(&self) -> AppState {
        self.state.clone()
    }

    /// The answer's status and body. There is always one, and never for a fault of ours.
    pub fn answer(&self, request: Request<Body>) -> (StatusCode, Bytes) {
        self.runtime.block_on(async {
            let answer = self.router.clone().oneshot(request).await.expect("infallible");
            let status = answer.status();
            assert_ne!(status, 500);
            (status, answer.into_body().collect().await.expect("a whole body").to_bytes())
        })
    }

    /// The answer of our own format, whose errors have a code.
    pub fn ask(&self, request: Request<Body>) -> (StatusCode, Bytes) {
        let (status, body) = self.answer(request);
        if status.is_client_error() || status.is_server_error() {
            let error: serde_json::Value = serde_json::from_slice(&body).expect("JSON");
            assert!(error["error"]["code"].is_string(), "{error}");
        }
        (status, body)
    }

    /// The answer to posts.
    pub fn post(&self, headers: &[(&str, &str)], body: impl Into<Body>) -> (StatusCode, Bytes) {
        let mut request = Request::post("/v1/sentiment");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.ask(request.body(body.into()).expect("a request"))
    }
}

/// A body in pieces of a length.
pub fn in_pieces(bytes: &[u8], length: usize) -> Body {
    let pieces: Vec<_> = bytes.chunks(length.max(1)).map(Bytes::copy_from_slice).collect();
    let frames = pieces.into_iter().map(|piece| Ok::<_, std::io::Error>(piece));
    Body::from_stream(futures_util::stream::iter(frames))
}
