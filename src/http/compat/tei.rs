//! Text Embeddings Inference's `POST /predict`, `GET /health` and `GET /info`.
//!
//! Source: `router/src/http/types.rs` and `router/src/http/server.rs` of
//! huggingface/text-embeddings-inference. A list of two strings is a pair there, which
//! a model of single posts cannot score.

use super::error::CompatError::{self, Api, Format};
use super::error::{FormatError, into_format};
use super::inputs::{self, Function, Input, Inputs, Ranked, predictions};
use super::score::all_or_error;
use crate::http::access;
use crate::http::buffered_request::{BufferedRequest, with_stats};
use crate::http::error::{ApiError, json};
use crate::http::state::AppState;
use crate::scorer::PostOptions;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use coldread_engine::LongText;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

pub(super) const EXPECTED_BODY: &str = "the body must be {\"inputs\": \"...\"} or {\"inputs\": [[\"...\"], [\"...\"]]}, \
                     with optional booleans `truncate` and `raw_scores` and `truncation_direction` \
                     \"Left\" or \"Right\"";

pub(super) const NO_PAIRS: &str =
    "text pairs are not supported; send a batch as {\"inputs\": [[\"...\"], [\"...\"]]}";

/// Classify one text or a batch
///
/// If any text cannot be scored, the whole request fails.
#[cfg_attr(test, utoipa::path(
    post,
    path = "/predict",
    tag = "Text Embeddings Inference",
    operation_id = "tei",
    request_body(
        description = "The texts",
        content = RequestBody,
        example = json!({"inputs": [["I love this phone"], ["battery died after two days"]]}),
    ),
    responses((
        status = 200,
        description = "The labels by score, highest first; for a batch, one such list per text",
        body = Vec<Ranked>,
    )),
))]
pub(super) async fn predict(State(app): State<AppState>, request: Request) -> Response {
    into_format(try_predict(&app, request).await, &app, status_and_body)
}

async fn try_predict(app: &AppState, request: Request) -> Result<Response, CompatError> {
    let mut request = BufferedRequest::receive(app, request).await?;
    let max_posts = request.max_posts();
    let (inputs, body) = request.parse_json(|json| {
        inputs::parse::<RequestBody>(json, "inputs", max_posts, EXPECTED_BODY)
    })?;
    let (posts, is_batch) = texts(inputs)?;
    let count = posts.len();
    let options = PostOptions {
        long_text: body.long_text(),
        ..PostOptions::default()
    };
    let scored = request.score(posts, options).await?;
    let function = body.raw_scores.unwrap_or_default();
    let function = function.then_some(Function::None);
    let sentiments = all_or_error(&scored.results)?.into_iter();
    let predict = |sentiment| predictions(sentiment, request.labels(), function, usize::MAX);
    let ranked = Ranked::from_lists(sentiments.map(predict), is_batch);
    Ok(with_stats(
        json(StatusCode::OK, &ranked),
        count,
        scored.stages,
    ))
}

/// Readiness check
#[cfg_attr(test, utoipa::path(
    get,
    path = "/health",
    tag = "Text Embeddings Inference",
    operation_id = "tei_health",
    responses((status = 200, description = "The server accepts requests")),
))]
pub(super) async fn health(State(app): State<AppState>) -> Response {
    let ready = if app.is_draining() {
        Err(ApiError::ShuttingDown.into())
    } else {
        Ok(StatusCode::OK.into_response())
    };
    into_format(ready, &app, status_and_body)
}

/// The model and the limits
#[cfg_attr(test, utoipa::path(
    get,
    path = "/info",
    tag = "Text Embeddings Inference",
    operation_id = "tei_info",
    responses((status = 200, description = "The first model, and the server's limits", body = Info)),
))]
pub(super) async fn info(State(app): State<AppState>, request: Request) -> Response {
    let info = access::check(&app, &request).map(|()| json(StatusCode::OK, &Info::of(&app)));
    into_format(info.map_err(CompatError::from), &app, status_and_body)
}

/// The model and the limits of a server.
#[derive(Serialize)]
#[cfg_attr(test, derive(utoipa::ToSchema), schema(as = tei::Info))]
struct Info<'a> {
    model_id: &'a str,
    #[cfg_attr(test, schema(value_type = Option<String>))]
    model_sha: (),
    /// `int8` for models that run on the int8 engine.
    model_dtype: &'static str,
    model_type: ModelType<'a>,
    /// The number of posts that may wait or be scored at once.
    max_concurrent_requests: usize,
    /// The number of tokens that the model reads at once.
    max_input_length: usize,
    max_batch_tokens: usize,
    #[cfg_attr(test, schema(value_type = Option<usize>))]
    max_batch_requests: (),
    /// The number of texts in a request.
    max_client_batch_size: usize,
    /// Whether long texts are truncated if the request does not say.
    auto_truncate: bool,
    tokenization_workers: usize,
    /// The version of coldread.
    version: &'static str,
    #[cfg_attr(test, schema(value_type = Option<String>))]
    sha: (),
    #[cfg_attr(test, schema(value_type = Option<String>))]
    docker_label: (),
}

#[derive(Serialize)]
#[cfg_attr(test, derive(utoipa::ToSchema), schema(as = tei::ModelType))]
#[serde(rename_all = "lowercase")]
enum ModelType<'a> {
    Classifier(ClassifierModel<'a>),
}

/// The labels.
#[derive(Serialize)]
#[cfg_attr(test, derive(utoipa::ToSchema), schema(as = tei::ClassifierModel))]
struct ClassifierModel<'a> {
    id2label: BTreeMap<String, &'a str>,
    label2id: BTreeMap<&'a str, usize>,
}

impl<'a> Info<'a> {
    fn of(app: &'a AppState) -> Self {
        let batcher = app.batcher();
        let (model, limits, options) = (batcher.model(), app.limits(), batcher.options());
        let labels = || model.labels.iter().map(String::as_str).enumerate();
        Self {
            model_id: &model.name,
            model_sha: (),
            model_dtype: match batcher.models()[0].engine_info().engine {
                "candle-f32" => "float32",
                other => other,
            },
            model_type: ModelType::Classifier(ClassifierModel {
                id2label: labels()
                    .map(|(id, label)| (id.to_string(), label))
                    .collect(),
                label2id: labels().map(|(id, label)| (label, id)).collect(),
            }),
            max_concurrent_requests: options.max_pending_posts.get(),
            max_input_length: batcher.max_tokens(),
            max_batch_tokens: options.max_batch_tokens.get(),
            max_batch_requests: (),
            max_client_batch_size: limits.max_posts.get(),
            auto_truncate: true,
            tokenization_workers: options.workers.get(),
            version: env!("CARGO_PKG_VERSION"),
            sha: (),
            docker_label: (),
        }
    }
}

/// The texts, and whether the response is a list of lists.
fn texts(inputs: Inputs) -> Result<(Vec<String>, bool), CompatError> {
    let list = match inputs {
        Inputs::One(text) => return Ok((vec![text], false)),
        Inputs::Many(list) => list,
    };
    let is_batch = matches!(list.first(), Some(Input::Sequence(_)));
    if list.is_empty() {
        return Err(FormatError::EmptyBatch.into());
    }
    if !is_batch && list.len() > 1 {
        return Err(FormatError::Request(NO_PAIRS).into());
    }
    let text = |input| match input {
        Input::Text(text) if !is_batch => Ok(text),
        Input::Sequence(mut texts) if texts.len() == 1 => Ok(texts.remove(0)),
        Input::Sequence(texts) if texts.len() == 2 => Err(FormatError::Request(NO_PAIRS)),
        _ => Err(FormatError::Request(EXPECTED_BODY)),
    };
    let texts: Result<Vec<String>, FormatError> = list.into_iter().map(text).collect();
    Ok((texts?, is_batch))
}

/// The body of a request, without the texts under `inputs`, which [`inputs::parse`] reads.
#[derive(Deserialize)]
#[cfg_attr(test, derive(utoipa::ToSchema), schema(as = tei::Request))]
struct RequestBody {
    /// `false` rejects texts that have more tokens than the model reads.
    #[serde(default)]
    truncate: Option<bool>,
    /// `Left` rejects them as well, because only the end of a text can be cut off.
    #[serde(default)]
    #[cfg_attr(test, schema(inline))]
    truncation_direction: Option<Direction>,
    #[serde(default)]
    raw_scores: Option<bool>,
}

#[derive(Deserialize, PartialEq, Eq)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
enum Direction {
    #[serde(alias = "left")]
    Left,
    #[serde(alias = "right")]
    Right,
}

impl RequestBody {
    /// Truncation keeps the beginning of a text. If the client wants to keep the end instead, a
    /// text is scored only if it need not be truncated.
    fn long_text(&self) -> LongText {
        let is_left = self.truncation_direction == Some(Direction::Left);
        if self.truncate == Some(false) || is_left {
            LongText::Error
        } else {
            LongText::Truncate
        }
    }
}

/// `{"error": "...", "error_type": "..."}`
#[derive(Serialize)]
#[cfg_attr(test, derive(utoipa::ToSchema), schema(as = tei::ErrorResponse))]
pub(super) struct ErrorResponse {
    error: String,
    error_type: &'static str,
}

/// The status and body of an error.
pub(super) fn status_and_body(error: &CompatError) -> (StatusCode, ErrorResponse) {
    let (native_status, _) = error.status_and_code();
    let (status, error_type) = match error {
        Api(ApiError::Overloaded { .. }) => (native_status, "Overloaded"),
        Api(ApiError::ShuttingDown) => (native_status, "Unhealthy"),
        Api(ApiError::Internal { .. }) => (StatusCode::FAILED_DEPENDENCY, "Backend"),
        Api(ApiError::DeadlineExceeded) => (native_status, "Backend"),
        Format(FormatError::EmptyBatch) => (StatusCode::BAD_REQUEST, "Empty"),
        Api(ApiError::Unauthorized) => (native_status, "Unauthorized"),
        _ if native_status == StatusCode::PAYLOAD_TOO_LARGE => (native_status, "Validation"),
        _ => (StatusCode::UNPROCESSABLE_ENTITY, "Validation"),
    };
    let message = match error {
        Api(ApiError::Overloaded { .. }) => "Model is overloaded".to_owned(),
        other => other.to_string(),
    };
    let body = ErrorResponse {
        error: message,
        error_type,
    };
    (status, body)
}
