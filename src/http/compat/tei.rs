//! Text Embeddings Inference's `POST /predict`.
//!
//! Source: `router/src/http/types.rs` and `router/src/http/server.rs` of
//! huggingface/text-embeddings-inference. Two strings side by side are a pair there, of
//! which a model of single posts can make nothing.

use super::error::CompatFailure::{self, Api, Format};
use super::error::{CompatError, reject};
use super::inputs::{self, Function, Input, Inputs, Ranked, predictions};
use super::score::whole;
use crate::http::buffered_request::{BufferedRequest, with_stats};
use crate::http::error::{ApiError, json};
use crate::http::state::AppState;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::Response;
use coldread_engine::LongText;
use serde::{Deserialize, Serialize};

pub(super) const EXPECTED_BODY: &str = "the body must be {\"inputs\": \"...\"} or {\"inputs\": [[\"...\"], [\"...\"]]}, \
                     with `truncate` and `raw_scores` true or false and `truncation_direction` \
                     \"Left\" or \"Right\"";

pub(super) const NO_PAIRS: &str =
    "this model takes no pairs; send a batch as {\"inputs\": [[\"...\"], [\"...\"]]}";

/// The labels of one text or a batch
///
/// A text that cannot be scored refuses all.
#[cfg_attr(test, utoipa::path(
    post,
    path = "/predict",
    tag = "Text Embeddings Inference",
    operation_id = "tei",
    request_body(
        description = "The texts",
        content = Asked,
        example = json!({"inputs": [["I love this phone"], ["battery died after two days"]]}),
    ),
    responses((
        status = 200,
        description = "A list of labels, the highest score first; of a batch one for each text",
        body = Vec<Ranked>,
    )),
))]
pub(super) async fn predict(State(app): State<AppState>, request: Request) -> Response {
    let answer = answer(&app, request).await;
    answer.unwrap_or_else(|fault| error(fault.on(&app)))
}

async fn answer(app: &AppState, request: Request) -> Result<Response, CompatFailure> {
    let mut request = BufferedRequest::receive(app, request).await?;
    let max_posts = request.max_posts();
    let (inputs, asked) = request
        .parse_json(|json| inputs::parse::<Asked>(json, "inputs", max_posts, EXPECTED_BODY))?;
    let (posts, is_batch) = texts(inputs)?;
    let count = posts.len();
    let answer = request.score(posts, asked.long_text()).await?;
    let function = asked.raw_scores.unwrap_or_default();
    let function = function.then_some(Function::None);
    let sentiments = whole(&answer.results)?.into_iter();
    let predict = |sentiment| predictions(sentiment, request.labels(), function, usize::MAX);
    let ranked = Ranked::from_lists(sentiments.map(predict), is_batch);
    Ok(with_stats(
        json(StatusCode::OK, &ranked),
        count,
        answer.stages,
    ))
}

/// The texts, and whether they are answered by a list of lists.
fn texts(inputs: Inputs) -> Result<(Vec<String>, bool), CompatFailure> {
    let list = match inputs {
        Inputs::One(text) => return Ok((vec![text], false)),
        Inputs::Many(list) => list,
    };
    let is_batch = matches!(list.first(), Some(Input::Sequence(_)));
    if list.is_empty() {
        return Err(CompatError::EmptyBatch.into());
    }
    if !is_batch && list.len() > 1 {
        return Err(CompatError::Request(NO_PAIRS).into());
    }
    let text = |input| match input {
        Input::Text(text) if !is_batch => Ok(text),
        Input::Sequence(mut texts) if texts.len() == 1 => Ok(texts.remove(0)),
        Input::Sequence(texts) if texts.len() == 2 => Err(CompatError::Request(NO_PAIRS)),
        _ => Err(CompatError::Request(EXPECTED_BODY)),
    };
    let texts: Result<Vec<String>, CompatError> = list.into_iter().map(text).collect();
    Ok((texts?, is_batch))
}

/// What is asked. The texts, under `inputs`, are read by [`inputs::parse`].
#[derive(Deserialize)]
#[cfg_attr(test, derive(utoipa::ToSchema), schema(as = tei::Request))]
struct Asked {
    /// `false` refuses texts of more tokens than the model takes.
    #[serde(default)]
    truncate: Option<bool>,
    /// `Left` refuses them too: only beginnings are read.
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

impl Asked {
    /// Only beginnings are read here. Who wants to keep the end gets its post scored if
    /// nothing has to be cut.
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
#[cfg_attr(test, derive(utoipa::ToSchema), schema(as = tei::Refusal))]
pub(super) struct Refusal {
    error: String,
    error_type: &'static str,
}

fn error(error: CompatFailure) -> Response {
    let (status, body) = refusal(&error);
    reject(error, status, &body)
}

/// Its status and body.
pub(super) fn refusal(error: &CompatFailure) -> (StatusCode, Refusal) {
    let (own, _) = error.status_and_code();
    let (status, error_type) = match error {
        Api(ApiError::Overloaded { .. }) => (own, "Overloaded"),
        Api(ApiError::ShuttingDown) => (own, "Unhealthy"),
        Api(ApiError::Internal { .. }) => (StatusCode::FAILED_DEPENDENCY, "Backend"),
        Api(ApiError::DeadlineExceeded) => (own, "Backend"),
        Format(CompatError::EmptyBatch) => (StatusCode::BAD_REQUEST, "Empty"),
        Api(ApiError::Unauthorized) => (own, "Unauthorized"),
        _ if own == StatusCode::PAYLOAD_TOO_LARGE => (own, "Validation"),
        _ => (StatusCode::UNPROCESSABLE_ENTITY, "Validation"),
    };
    let message = match error {
        Api(ApiError::Overloaded { .. }) => "Model is overloaded".to_owned(),
        other => other.to_string(),
    };
    let body = Refusal {
        error: message,
        error_type,
    };
    (status, body)
}
