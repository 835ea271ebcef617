//! Text Embeddings Inference's `POST /predict`.
//!
//! Source: `router/src/http/types.rs` and `router/src/http/server.rs` of
//! huggingface/text-embeddings-inference. A list of two strings is a pair there, which
//! a model of single posts cannot score.

use super::error::CompatError::{self, Api, Format};
use super::error::{FormatError, into_format};
use super::inputs::{self, Function, Input, Inputs, Ranked, predictions};
use super::score::all_or_error;
use crate::http::buffered_request::{BufferedRequest, with_stats};
use crate::http::error::{ApiError, json};
use crate::http::state::AppState;
use crate::scorer::PostOptions;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::Response;
use coldread_engine::LongText;
use serde::{Deserialize, Serialize};

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
