//! The native API: handlers and what their answers look like on the wire.

use super::AppState;
use super::body::{self, Decoder, Media, accepted_rows};
use super::bulk;
use super::deadline;
use super::error::{ApiError, ErrorBody, json};
use super::observe::Done;
use super::posts::{self, Posts};
use crate::batcher::{Stages, Terms};
use crate::classifier::{LongText, PostResult, Sentiment};
use crate::engine::EngineInfo;
use crate::timings::{self, Timings};
use axum::extract::{Request, State};
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use coldread_model::ProblemType;
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};
use std::time::{Duration, Instant};

/// `POST /v1/sentiment`
pub(super) async fn sentiment(
    State(app): State<AppState>,
    request: Request,
) -> Result<Response, ApiError> {
    classify(&app, request)
        .await
        .map_err(|error| app.refusal(error))
}

async fn classify(app: &AppState, request: Request) -> Result<Response, ApiError> {
    let arrival = Instant::now();
    let (limits, batcher) = (app.limits(), app.batcher());
    let media = Media::of(request.headers())?;
    let decoder = Decoder::of(request.headers())?;
    let long_text = asked_long_text(request.uri().query())?;
    let asked = deadline::asked(request.headers(), request.extensions(), arrival)?;
    // Before the body is read, so that refusing stays cheap however much comes.
    if batcher.is_full() {
        return Err(ApiError::Overloaded);
    }
    if let Media::Rows(format) = media {
        let formats = (format, accepted_rows(request.headers()).unwrap_or(format));
        let body = request.into_body();
        let terms = Terms {
            deadline: asked,
            long_text: long_text.unwrap_or_default(),
        };
        return Ok(bulk::respond(app, body, decoder, formats, terms));
    }
    let longest = arrival + Duration::from_millis(limits.request_timeout_ms.get());
    let deadline = asked.map_or(longest, |asked| asked.min(longest));
    // Held until the answer is there: the posts are as long as the body they came in.
    let mut share = app.0.bodies.share();
    let timeout = Duration::from_millis(limits.body_timeout_ms.get());
    let max_bytes = limits.max_body_bytes.get();
    let body = request.into_body();
    let bytes = body::read(body, decoder, max_bytes, timeout, &mut share).await?;
    let text = body::utf8(&bytes)?;
    let (posts, in_body) = match media {
        Media::Json => posts::parse(text, limits.max_posts.get())?,
        _ => (Posts::One(text.to_owned()), None),
    };
    drop(bytes);
    let terms = Terms {
        deadline: Some(deadline),
        long_text: in_body.or(long_text).unwrap_or_default(),
    };

    let model = batcher.model();
    let (labels, model) = (&model.labels[..], model.name.as_str());
    match posts {
        Posts::One(post) => {
            let mut answer = batcher.classify(vec![post], terms).await?;
            let sentiment = answer.results.pop().ok_or_else(no_result)??;
            let scored = Scored::new(&sentiment, labels, Some(model));
            Ok(timed(json(StatusCode::OK, &scored), 1, answer.stages))
        }
        Posts::Many(posts) => {
            let answer = batcher.classify(posts, terms).await?;
            let results = answer.results.iter();
            let results = results.map(|r| Item::new(r, labels)).collect();
            let many = Many { results, model };
            let response = json(StatusCode::OK, &many);
            Ok(timed(response, answer.results.len(), answer.stages))
        }
    }
}

/// What the query says of long posts; a body of JSON can say it too.
fn asked_long_text(query: Option<&str>) -> Result<Option<LongText>, ApiError> {
    let pairs = query.unwrap_or_default().split('&');
    let value = pairs
        .filter_map(|pair| pair.split_once('='))
        .find_map(|(name, value)| (name == "long_text").then_some(value));
    value
        .map(|name| LongText::named(name).ok_or(ApiError::InvalidLongText))
        .transpose()
}

/// Tells those who count and log what was done.
fn timed(mut response: Response, posts: usize, stages: Stages) -> Response {
    response.extensions_mut().insert(Done { posts, stages });
    response
}

/// One post in, none out: the batcher promises that this does not happen.
fn no_result() -> ApiError {
    ApiError::Internal {
        cause: "the batcher gave no result for a post".to_owned(),
    }
}

/// A scored post: an answer of its own, then with the model's name, or one in a batch.
#[derive(Serialize)]
pub(super) struct Scored<'a> {
    label: &'a str,
    score: f32,
    scores: Scores<'a>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    truncated: bool,
    /// Over how many windows of a long post the scores are the mean.
    #[serde(skip_serializing_if = "Option::is_none")]
    windows: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    model: Option<&'a str>,
}

impl<'a> Scored<'a> {
    pub(super) fn new(
        sentiment: &'a Sentiment,
        labels: &'a [String],
        model: Option<&'a str>,
    ) -> Self {
        Self {
            label: &labels[sentiment.label],
            score: sentiment.score(),
            scores: Scores {
                labels,
                scores: &sentiment.scores,
            },
            truncated: sentiment.truncated,
            windows: Some(sentiment.windows).filter(|&windows| windows > 1),
            model,
        }
    }
}

/// `{"negative": 0.01, ...}` in the model's order.
///
/// Scores stay f32 up to the printer, which gives the shortest digits that read
/// back as the same f32; by way of f64 0.98 would become 0.9800000190734863.
struct Scores<'a> {
    labels: &'a [String],
    scores: &'a [f32],
}

impl Serialize for Scores<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.labels.len()))?;
        for (label, score) in self.labels.iter().zip(self.scores) {
            map.serialize_entry(label, score)?;
        }
        map.end()
    }
}

#[derive(Serialize)]
struct Many<'a> {
    results: Vec<Item<'a>>,
    model: &'a str,
}

/// One place of a batch.
#[derive(Serialize)]
#[serde(untagged)]
pub(super) enum Item<'a> {
    Scored(Scored<'a>),
    Failed(ErrorBody),
}

impl<'a> Item<'a> {
    pub(super) fn new(result: &'a PostResult, labels: &'a [String]) -> Self {
        match result {
            Ok(sentiment) => Self::Scored(Scored::new(sentiment, labels, None)),
            Err(error) => Self::Failed(ErrorBody::of_post(error)),
        }
    }
}

/// `GET /healthz`: the process is alive.
pub(super) async fn healthz() -> Response {
    json(StatusCode::OK, &Status { status: "ok" })
}

/// `GET /readyz`: the process wants traffic.
pub(super) async fn readyz(State(app): State<AppState>) -> Result<Response, ApiError> {
    if app.is_draining() {
        return Err(ApiError::ShuttingDown);
    }
    Ok(json(StatusCode::OK, &Status { status: "ready" }))
}

/// `GET /metrics`: what Prometheus reads.
pub(super) async fn metrics(State(app): State<AppState>) -> Response {
    let batcher = app.batcher();
    let text = batcher
        .metrics()
        .text(batcher.pending_posts(), app.0.bodies.held_bytes());
    let media = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(CONTENT_TYPE, HeaderValue::from_static(media))], text).into_response()
}

#[derive(Serialize)]
struct Status {
    status: &'static str,
}

/// `GET /v1/info`: what runs here, and what it takes.
pub(super) async fn info(State(app): State<AppState>) -> Response {
    let model = app.batcher().model();
    let limits = app.limits();
    let info = Info {
        model: &model.name,
        labels: &model.labels,
        problem_type: match model.problem_type {
            ProblemType::SingleLabel => "single_label_classification",
            ProblemType::MultiLabel => "multi_label_classification",
        },
        engine: app.batcher().engine(),
        compat: app.0.compat.names().collect(),
        limits: InfoLimits {
            max_body_bytes: limits.max_body_bytes.get(),
            max_posts: limits.max_posts.get(),
            max_post_bytes: app.batcher().max_post_bytes(),
            max_tokens: model.max_tokens,
            max_pending_posts: limits.max_pending_posts.get(),
            request_timeout_ms: limits.request_timeout_ms.get(),
        },
        timings: timings::current(),
        version: env!("CARGO_PKG_VERSION"),
    };
    json(StatusCode::OK, &info)
}

#[derive(Serialize)]
struct Info<'a> {
    model: &'a str,
    labels: &'a [String],
    /// As a model's `config.json` spells it.
    problem_type: &'static str,
    engine: &'a EngineInfo,
    /// Other services whose clients are answered.
    compat: Vec<&'static str>,
    limits: InfoLimits,
    /// Of this process's start; what is not over, or not known, is null.
    timings: Timings,
    version: &'static str,
}

#[derive(Serialize)]
struct InfoLimits {
    max_body_bytes: usize,
    max_posts: usize,
    max_post_bytes: usize,
    max_tokens: usize,
    max_pending_posts: usize,
    request_timeout_ms: u64,
}
