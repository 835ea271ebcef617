//! The native API: handlers and what their answers look like on the wire.

use super::AppState;
use super::body::{self, Media};
use super::deadline;
use super::decode::Decoder;
use super::error::{ApiError, json};
use super::posts::{self, Posts};
use super::request_telemetry::ScoringStats;
use super::rows::{self, Formats};
use crate::batcher::RequestOptions;
use crate::json::replace_halves_in_body;
use crate::telemetry::StageTimings;
use crate::timings::{self, Timings};
use crate::wire::{Many, Scored};
use axum::extract::{Request, State};
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use coldread_engine::LongText;
use coldread_engine::engine::EngineInfo;
use coldread_model::ProblemType;
use serde::Serialize;
use std::time::Duration;

/// The sentiment of one post or many
///
/// NDJSON and CSV bodies are answered row by row, in order and as rows are ready; an error
/// of a single row stands in its place.
#[cfg_attr(test, utoipa::path(
    post,
    path = "/v1/sentiment",
    params(
        ("long_text" = inline(Option<LongTextName>), Query, description = "What is done with posts of more tokens than the model takes; for JSON `long_text` in the body wins"),
    ),
    request_body(description = "The posts", content(
        (Object = "application/json"),
        (String = "text/plain"),
        (String = "application/x-ndjson"),
        (String = "text/csv"),
    )),
    responses((status = 200, description = "The scores", content(
        (Answer = "application/json"),
        (String = "application/x-ndjson"),
        (String = "text/csv"),
    ))),
))]
pub(super) async fn sentiment(
    State(app): State<AppState>,
    request: Request,
) -> Result<Response, ApiError> {
    classify(&app, request)
        .await
        .map_err(|error| app.refusal(error))
}

async fn classify(app: &AppState, request: Request) -> Result<Response, ApiError> {
    let arrival = deadline::arrival(request.extensions());
    let (limits, batcher) = (app.limits(), app.batcher());
    let media = Media::from_headers(request.headers())?;
    let decoder = Decoder::of(request.headers())?;
    let long_text = asked_long_text(request.uri().query())?;
    let asked = deadline::asked(request.headers(), request.extensions(), arrival)?;
    // Before the body is read, so that refusing stays cheap however much comes.
    batcher.check_room()?;
    let by_content_type = match media {
        Media::Rows(format) => Some(format),
        Media::Json | Media::PlainText => None,
    };
    let max_post_bytes = batcher.max_post_bytes();
    let formats = Formats::of(
        request.uri(),
        request.headers(),
        by_content_type,
        max_post_bytes,
    )?;
    if let Some(formats) = formats {
        let body = request.into_body();
        let terms = RequestOptions {
            deadline: asked,
            long_text: long_text.unwrap_or_default(),
        };
        return Ok(rows::respond(app, body, decoder, &formats, terms));
    }
    let longest = arrival + Duration::from_millis(limits.request_timeout_ms.get());
    let deadline = asked.map_or(longest, |asked| asked.min(longest));
    // Held until the answer is there: the posts are as long as the body they came in.
    let mut share = app.0.memory.permit();
    let timeout = Duration::from_millis(limits.body_timeout_ms.get());
    let max_bytes = limits.max_body_bytes.get();
    let body = request.into_body();
    let read = body::read(body, decoder, max_bytes, timeout, &mut share);
    let bytes = deadline::within(deadline, read).await?;
    let (posts, in_body) = if media == Media::Json {
        let bytes = replace_halves_in_body(bytes);
        posts::parse(body::utf8(&bytes)?, limits.max_posts.get())?
    } else {
        (Posts::One(body::utf8(&bytes)?.to_owned()), None)
    };
    let terms = RequestOptions {
        deadline: Some(deadline),
        long_text: in_body.or(long_text).unwrap_or_default(),
    };

    let model = batcher.model();
    let (labels, model) = (&model.labels[..], model.name.as_str());
    match posts {
        Posts::One(post) => {
            let mut answer = batcher.classify(vec![post], terms).await?;
            let sentiment = answer.results.pop().ok_or_else(no_result)??;
            let scored = Answer::One(Scored::new(&sentiment, labels, Some(model)));
            Ok(timed(json(StatusCode::OK, &scored), 1, answer.stages))
        }
        Posts::Many(posts) => {
            let answer = batcher.classify(posts, terms).await?;
            let many = Answer::Many(Many::new(&answer.results, batcher.model()));
            let response = json(StatusCode::OK, &many);
            Ok(timed(response, answer.results.len(), answer.stages))
        }
    }
}

/// What is done with a post of more tokens than the model takes.
#[cfg(test)]
#[derive(utoipa::ToSchema)]
#[schema(rename_all = "lowercase")]
#[expect(dead_code, reason = "only described")]
enum LongTextName {
    /// Its beginning is read.
    Truncate,
    /// It is read in windows, side by side, and its scores are the mean of theirs,
    /// weighted by their tokens.
    Window,
    /// It is refused.
    Error,
}

/// What the query says of long posts; a body of JSON can say it too.
fn asked_long_text(query: Option<&str>) -> Result<Option<LongText>, ApiError> {
    let pairs = query.unwrap_or_default().split('&');
    let value = pairs
        .filter_map(|pair| pair.split_once('='))
        .find_map(|(name, value)| (name == "long_text").then_some(value));
    value
        .map(|name| name.parse().map_err(|_| ApiError::InvalidLongText))
        .transpose()
}

/// Tells those who count and log what was done.
fn timed(mut response: Response, posts: usize, stages: StageTimings) -> Response {
    response
        .extensions_mut()
        .insert(ScoringStats { posts, stages });
    response
}

/// One post in, none out: the batcher promises that this does not happen.
fn no_result() -> ApiError {
    ApiError::Internal {
        cause: "the batcher gave no result for a post".to_owned(),
    }
}

/// The answer to a body of JSON or plain text.
#[derive(Serialize)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
#[serde(untagged)]
pub(super) enum Answer<'a> {
    One(Scored<'a>),
    Many(Many<'a>),
}

/// The process is alive
#[cfg_attr(test, utoipa::path(get, path = "/healthz", responses((status = 200, description = "It is", body = Status))))]
pub(super) async fn healthz() -> Response {
    json(StatusCode::OK, &Status { status: "ok" })
}

/// The process takes requests
#[cfg_attr(test, utoipa::path(get, path = "/readyz", responses((status = 200, description = "It does", body = Status))))]
pub(super) async fn readyz(State(app): State<AppState>) -> Result<Response, ApiError> {
    if app.is_draining() {
        return Err(ApiError::ShuttingDown);
    }
    Ok(json(StatusCode::OK, &Status { status: "ready" }))
}

/// Counters and histograms
#[cfg_attr(test, utoipa::path(get, path = "/metrics", responses((
    status = 200, description = "OpenMetrics text, which Prometheus reads", body = String,
    content_type = "application/openmetrics-text",
))))]
pub(super) async fn metrics(State(app): State<AppState>) -> Response {
    let batcher = app.batcher();
    let text = batcher
        .metrics()
        .text(batcher.pending_posts(), app.0.memory.held_bytes());
    let media = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(CONTENT_TYPE, HeaderValue::from_static(media))], text).into_response()
}

/// How the process is.
#[derive(Serialize)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
pub(super) struct Status {
    status: &'static str,
}

/// What runs here, and what it takes
#[cfg_attr(test, utoipa::path(get, path = "/v1/info", responses((status = 200, description = "Model, engine, limits and timings", body = Info))))]
pub(super) async fn info(State(app): State<AppState>) -> Response {
    let model = app.batcher().model();
    let info = Info {
        model: &model.name,
        labels: &model.labels,
        problem_type: match model.problem_type {
            ProblemType::SingleLabel => "single_label_classification",
            ProblemType::MultiLabel => "multi_label_classification",
        },
        engine: Engine::from(app.batcher().engine()),
        compat: app.0.compat.names().collect(),
        limits: InfoLimits::of(&app),
        timings: timings::current(),
        version: env!("CARGO_PKG_VERSION"),
    };
    json(StatusCode::OK, &info)
}

/// What runs here, and what it takes.
#[derive(Serialize)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
pub(super) struct Info<'a> {
    /// The model's name.
    model: &'a str,
    /// Its labels, in the order of their scores.
    labels: &'a [String],
    /// As a model's `config.json` spells it.
    problem_type: &'static str,
    /// What runs the model.
    engine: Engine,
    /// Other services whose clients are answered.
    compat: Vec<&'static str>,
    /// What the server takes on.
    limits: InfoLimits,
    /// Of this process's start; what is not over, or not known, is null.
    timings: Timings,
    /// Of this server.
    version: &'static str,
}

/// What runs the model.
#[derive(Serialize)]
#[cfg_attr(test, derive(utoipa::ToSchema), schema(as = EngineInfo))]
struct Engine {
    /// `"int8"`, `"candle-f32"` or `"candle-gguf"`.
    engine: &'static str,
    /// The instruction set its kernels use, where it has kernels of its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, schema(nullable = false))]
    isa: Option<&'static str>,
    /// How many threads one batch is spread over.
    threads: usize,
}

impl From<&EngineInfo> for Engine {
    fn from(info: &EngineInfo) -> Self {
        let EngineInfo {
            engine,
            isa,
            threads,
            ..
        } = *info;
        Self {
            engine,
            isa,
            threads,
        }
    }
}

/// What the server takes on.
#[derive(Serialize)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
pub(super) struct InfoLimits {
    /// The longest body, after its content encoding is undone.
    max_body_bytes: usize,
    /// The most posts in a body of JSON.
    max_posts: usize,
    /// The longest post.
    max_post_bytes: usize,
    /// What the model reads of a post at a time.
    max_tokens: usize,
    /// Posts that may wait, over all requests.
    max_pending_posts: usize,
    /// The longest time that a request may take.
    request_timeout_ms: u64,
}

impl InfoLimits {
    pub(super) fn of(app: &AppState) -> Self {
        let limits = app.limits();
        Self {
            max_body_bytes: limits.max_body_bytes.get(),
            max_posts: limits.max_posts.get(),
            max_post_bytes: app.batcher().max_post_bytes(),
            max_tokens: app.batcher().model().max_tokens,
            max_pending_posts: limits.max_pending_posts.get(),
            request_timeout_ms: limits.request_timeout_ms.get(),
        }
    }
}
