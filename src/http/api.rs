//! The handlers of the native API. [`crate::wire`] has the types of the results.

use super::body::Media;
use super::buffered_request::{BufferedRequest, with_stats};
use super::deadline;
use super::decode::Decoder;
use super::error::{ApiError, json};
use super::options::NamedOptions;
use super::posts::{self, Posts};
use super::rows::{self, Formats};
use super::state::AppState;
use crate::batcher::RequestOptions;
use crate::timings::{self, Timings};
use crate::wire::{BatchResults, Scored, SentimentResponse};
use axum::extract::{Request, State};
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use coldread_engine::engine::EngineInfo;
use coldread_model::ProblemType;
use serde::Serialize;
use std::time::Instant;

/// Score one post or many
///
/// For NDJSON and CSV, the response has one row for each row of the request, in the same order,
/// and is streamed as rows are scored. A row that cannot be scored gets an error in its place.
#[cfg_attr(test, utoipa::path(
    post,
    path = "/v1/sentiment",
    params(
        ("long_text" = inline(Option<LongTextName>), Query, description = "How to treat posts that have more tokens than the model reads at once. In a JSON body, the field `long_text` takes precedence."),
        ("detect_language" = inline(Option<bool>), Query, description = "Whether each result says the post's language, and warns of languages that the model was not trained for. In a JSON body, the field `detect_language` takes precedence."),
    ),
    request_body(description = "The posts to score", content(
        (Object = "application/json"),
        (String = "text/plain"),
        (String = "application/x-ndjson"),
        (String = "text/csv"),
    )),
    responses((status = 200, description = "The scores", content(
        (SentimentResponse = "application/json"),
        (String = "application/x-ndjson"),
        (String = "text/csv"),
    ))),
))]
pub(super) async fn sentiment(
    State(app): State<AppState>,
    request: Request,
) -> Result<Response, ApiError> {
    try_sentiment(&app, request)
        .await
        .map_err(|error| app.adjust_for_shutdown(error))
}

async fn try_sentiment(app: &AppState, request: Request) -> Result<Response, ApiError> {
    let media = Media::from_headers(request.headers())?;
    let options = NamedOptions::from_query(request.uri().query())?;
    if let Some(formats) = row_formats(app, &request, media)? {
        return classify_rows(app, request, &formats, options);
    }
    let mut request = BufferedRequest::read(app, request).await?;
    let (posts, options_in_body) = if media == Media::Json {
        let max_posts = request.max_posts();
        request.parse_json(|json| posts::parse(json, max_posts))?
    } else {
        (Posts::One(request.take_text()?), NamedOptions::default())
    };
    respond(&request, posts, options_in_body.or(options)).await
}

/// The formats in which a request's rows are read and written; `None` if its body has no rows.
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

/// Rows are scored as they arrive, so a body of rows is never buffered.
fn classify_rows(
    app: &AppState,
    request: Request,
    formats: &Formats,
    options: NamedOptions,
) -> Result<Response, ApiError> {
    let decoder = Decoder::from_headers(request.headers())?;
    let now = Instant::now();
    let deadline = deadline::requested(request.headers(), request.extensions(), now)?;
    app.batcher().check_room()?;
    let options = RequestOptions {
        deadline,
        post: options.into(),
    };
    let body = request.into_body();
    Ok(rows::respond(app, body, decoder, formats, options))
}

/// Scores the posts of a JSON or plain-text body.
pub(super) async fn respond(
    request: &BufferedRequest,
    posts: Posts,
    options: NamedOptions,
) -> Result<Response, ApiError> {
    let model = request.app().batcher().model();
    match posts {
        Posts::One(post) => {
            let mut scored = request.score(vec![post], options.into()).await?;
            let post = scored.results.pop().ok_or_else(no_result)??;
            let one = Scored::alone(&post);
            let response = json(StatusCode::OK, &SentimentResponse::One(one));
            Ok(with_stats(response, 1, scored.stages))
        }
        Posts::Many(posts) => {
            let scored = request.score(posts, options.into()).await?;
            let many = SentimentResponse::Many(BatchResults::new(&scored.results, model));
            let response = json(StatusCode::OK, &many);
            Ok(with_stats(response, scored.results.len(), scored.stages))
        }
    }
}

/// How to treat a post that has more tokens than the model reads at once.
#[cfg(test)]
#[derive(utoipa::ToSchema)]
#[schema(rename_all = "lowercase")]
#[expect(dead_code, reason = "exists for its schema")]
enum LongTextName {
    /// Score the beginning only.
    Truncate,
    /// Split the post into windows. Its scores are the mean of the windows' scores, weighted
    /// by their tokens.
    Window,
    /// Reject the post.
    Error,
}

/// The batcher returns one result per post, so this would be a bug.
fn no_result() -> ApiError {
    ApiError::Internal {
        cause: "the batcher gave no result for a post".to_owned(),
    }
}

/// Liveness check
#[cfg_attr(test, utoipa::path(get, path = "/healthz", responses((status = 200, description = "The process is alive", body = Status))))]
pub(super) async fn healthz() -> Response {
    json(StatusCode::OK, &Status { status: "ok" })
}

/// Readiness check
#[cfg_attr(test, utoipa::path(get, path = "/readyz", responses((status = 200, description = "The server accepts requests", body = Status))))]
pub(super) async fn readyz(State(app): State<AppState>) -> Result<Response, ApiError> {
    if app.is_draining() {
        return Err(ApiError::ShuttingDown);
    }
    Ok(json(StatusCode::OK, &Status { status: "ready" }))
}

/// Metrics
#[cfg_attr(test, utoipa::path(get, path = "/metrics", responses((
    status = 200, description = "Counters and histograms in the OpenMetrics text format, for Prometheus", body = String,
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

/// The response to a health check.
#[derive(Serialize)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
pub(super) struct Status {
    status: &'static str,
}

/// Model, engine and limits of this server
#[cfg_attr(test, utoipa::path(get, path = "/v1/info", responses((status = 200, description = "Model, engine, limits and timings", body = Info))))]
pub(super) async fn info(State(app): State<AppState>) -> Response {
    let models = app.batcher().models();
    let model = models[0].info();
    let info = Info {
        model: &model.name,
        labels: &model.labels,
        languages: &model.languages,
        problem_type: match model.problem_type {
            ProblemType::SingleLabel => "single_label_classification",
            ProblemType::MultiLabel => "multi_label_classification",
        },
        engine: models[0].engine_info().into(),
        also_model: models.get(1).map(|model| AlsoModel {
            model: &model.info().name,
            languages: model.languages(),
            engine: model.engine_info().into(),
        }),
        compat: app.0.compat.names().collect(),
        limits: InfoLimits::of(&app),
        timings: timings::current(),
        version: env!("CARGO_PKG_VERSION"),
    };
    json(StatusCode::OK, &info)
}

/// Model, engine and limits of a server.
#[derive(Serialize)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
pub(super) struct Info<'a> {
    /// The model's name.
    model: &'a str,
    /// Its labels, in the order of their scores.
    labels: &'a [String],
    /// The languages that it was trained for, as codes of ISO 639; empty if they are unknown.
    languages: &'a [String],
    /// As written in the `config.json` of models.
    problem_type: &'static str,
    /// The engine that runs the model.
    engine: Engine,
    /// The second model, if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, schema(nullable = false))]
    also_model: Option<AlsoModel<'a>>,
    /// Other services whose clients are served.
    compat: Vec<&'static str>,
    /// The server's limits.
    limits: InfoLimits,
    /// How long each phase of the start took; null if the phase has not ended or is unknown.
    timings: Timings,
    /// The version of coldread.
    version: &'static str,
}

/// The model that scores the posts in its languages, except for those that the first model serves.
#[derive(Serialize)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
struct AlsoModel<'a> {
    /// Its name.
    model: &'a str,
    /// The languages that it was trained for.
    languages: &'a [String],
    /// The engine that runs it.
    engine: Engine,
}

/// The engine that runs the model.
#[derive(Serialize)]
#[cfg_attr(test, derive(utoipa::ToSchema), schema(as = EngineInfo))]
struct Engine {
    /// `"int8"`, `"candle-f32"` or `"candle-gguf"`.
    engine: &'static str,
    /// The instruction set that the kernels use; missing for candle, which chooses its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, schema(nullable = false))]
    isa: Option<&'static str>,
    /// Number of threads that share one batch.
    threads: usize,
}

impl From<EngineInfo> for Engine {
    fn from(info: EngineInfo) -> Self {
        let EngineInfo {
            engine,
            isa,
            threads,
            ..
        } = info;
        Self {
            engine,
            isa,
            threads,
        }
    }
}

/// The limits of a server.
#[derive(Serialize)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
pub(super) struct InfoLimits {
    /// Maximum size of a request body after decompression, in bytes.
    max_body_bytes: usize,
    /// Maximum number of posts in a JSON body.
    max_posts: usize,
    /// Maximum length of a post, in bytes.
    max_post_bytes: usize,
    /// Maximum number of tokens that the model reads at once.
    max_tokens: usize,
    /// Maximum number of posts in the queue, over all requests.
    max_pending_posts: usize,
    /// Maximum duration of a request, in milliseconds.
    request_timeout_ms: u64,
}

impl InfoLimits {
    pub(super) fn of(app: &AppState) -> Self {
        let limits = app.limits();
        Self {
            max_body_bytes: limits.max_body_bytes.get(),
            max_posts: limits.max_posts.get(),
            max_post_bytes: app.batcher().max_post_bytes(),
            max_tokens: app.batcher().max_tokens(),
            max_pending_posts: limits.max_pending_posts.get(),
            request_timeout_ms: limits.request_timeout_ms.get(),
        }
    }
}
