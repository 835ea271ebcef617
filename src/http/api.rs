//! The native API's handlers. The types of results are in [`crate::wire`].

use super::body::Media;
use super::buffered_request::{BufferedRequest, with_stats};
use super::deadline;
use super::decode::Decoder;
use super::error::{ApiError, json};
use super::posts::{self, Posts};
use super::rows::{self, Formats};
use super::state::AppState;
use crate::batcher::RequestOptions;
use crate::timings::{self, Timings};
use crate::wire::{Many, Scored, SentimentBody};
use axum::extract::{Request, State};
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use coldread_engine::LongText;
use coldread_engine::engine::EngineInfo;
use coldread_model::ProblemType;
use serde::Serialize;
use std::time::Instant;

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
        (SentimentBody = "application/json"),
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
        .map_err(|error| app.rejection(error))
}

async fn classify(app: &AppState, request: Request) -> Result<Response, ApiError> {
    let media = Media::from_headers(request.headers())?;
    let long_text = long_text_in_query(request.uri().query())?;
    if let Some(formats) = row_formats(app, &request, media)? {
        return classify_rows(app, request, &formats, long_text);
    }
    let mut request = BufferedRequest::read(app, request).await?;
    let (posts, long_text_in_body) = if media == Media::Json {
        let max_posts = request.max_posts();
        request.parse_json(|json| posts::parse(json, max_posts))?
    } else {
        (Posts::One(request.take_text()?), None)
    };
    respond(&request, posts, long_text_in_body.or(long_text)).await
}

/// How a request's rows are read and written; `None` if its body is not rows.
pub(super) fn row_formats(
    app: &AppState,
    request: &Request,
    media: Media,
) -> Result<Option<Formats>, ApiError> {
    let by_content_type = match media {
        Media::Rows(format) => Some(format),
        Media::Json | Media::PlainText => None,
    };
    let max_post_bytes = app.batcher().max_post_bytes();
    Formats::from_request(
        request.uri(),
        request.headers(),
        by_content_type,
        max_post_bytes,
    )
}

/// Rows are scored while they arrive, so that a body of them is never buffered.
fn classify_rows(
    app: &AppState,
    request: Request,
    formats: &Formats,
    long_text: Option<LongText>,
) -> Result<Response, ApiError> {
    let decoder = Decoder::from_headers(request.headers())?;
    let now = Instant::now();
    let deadline = deadline::requested(request.headers(), request.extensions(), now)?;
    app.batcher().check_room()?;
    let options = RequestOptions {
        deadline,
        long_text: long_text.unwrap_or_default(),
    };
    let body = request.into_body();
    Ok(rows::respond(app, body, decoder, formats, options))
}

/// Scores the posts of a body of JSON or plain text.
pub(super) async fn respond(
    request: &BufferedRequest,
    posts: Posts,
    long_text: Option<LongText>,
) -> Result<Response, ApiError> {
    let long_text = long_text.unwrap_or_default();
    let model = request.app().batcher().model();
    match posts {
        Posts::One(post) => {
            let mut scored = request.score(vec![post], long_text).await?;
            let sentiment = scored.results.pop().ok_or_else(no_result)??;
            let one = Scored::new(&sentiment, &model.labels, Some(&model.name));
            let response = json(StatusCode::OK, &SentimentBody::One(one));
            Ok(with_stats(response, 1, scored.stages))
        }
        Posts::Many(posts) => {
            let scored = request.score(posts, long_text).await?;
            let many = SentimentBody::Many(Many::new(&scored.results, model));
            let response = json(StatusCode::OK, &many);
            Ok(with_stats(response, scored.results.len(), scored.stages))
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
    /// It is rejected.
    Error,
}

/// `long_text` in the query; a body of JSON can have it too.
pub(super) fn long_text_in_query(query: Option<&str>) -> Result<Option<LongText>, ApiError> {
    let pairs = query.unwrap_or_default().split('&');
    let value = pairs
        .filter_map(|pair| pair.split_once('='))
        .find_map(|(name, value)| (name == "long_text").then_some(value));
    value
        .map(|name| name.parse().map_err(|_| ApiError::InvalidLongText))
        .transpose()
}

/// One post in, none out: the batcher promises that this does not happen.
fn no_result() -> ApiError {
    ApiError::Internal {
        cause: "the batcher gave no result for a post".to_owned(),
    }
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
