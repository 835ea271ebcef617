//! Hugging Face text-classification, as `huggingface_hub` and `@huggingface/inference`
//! speak it: `POST /` and `POST /models/{id}`. There is one model, whatever the id.
//!
//! Responses are nested lists even for one text: of a flat list the Python client keeps only the
//! first label, and the JavaScript client throws. Overload is 503, which the JavaScript client
//! retries.

use super::error::CompatError::{self, Api};
use super::error::{FormatError, into_format};
use super::inputs::{self, Function, Input, Inputs, Prediction, predictions};
use super::score::all_or_error;
use super::strict_json::StrictObject;
use crate::http::buffered_request::{BufferedRequest, with_stats};
use crate::http::error::{ApiError, json};
use crate::http::state::AppState;
use crate::scorer::PostOptions;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::Response;
use serde::{Deserialize, Serialize};

pub(super) const EXPECTED_BODY: &str = "the body must be {\"inputs\": \"...\"} or {\"inputs\": [\"...\"]}, with \
                     optional `parameters`: `top_k`, a whole number of at least 1, and \
                     `function_to_apply`, \"sigmoid\", \"softmax\" or \"none\"";

/// Seconds after which a client may retry.
const ESTIMATED_TIME: f32 = 1.0;

/// Classify one text or many
///
/// The server has one model, whatever the id. If any text cannot be scored, the whole request
/// fails.
#[cfg_attr(test, utoipa::path(
    post,
    path = "/models/{id}",
    tag = "Hugging Face",
    operation_id = "huggingface",
    params(("id" = String, Path, description = "Any id, including ones with slashes")),
    request_body(
        description = "The texts",
        content = RequestBody,
        example = json!({"inputs": "I love this phone", "parameters": {"top_k": 1}}),
    ),
    responses((
        status = 200,
        description = "For each text, the labels by score, highest first",
        body = Vec<Vec<Prediction>>,
    )),
))]
pub(super) async fn classify(State(app): State<AppState>, request: Request) -> Response {
    into_format(try_classify(&app, request).await, &app, status_and_body)
}

async fn try_classify(app: &AppState, request: Request) -> Result<Response, CompatError> {
    let mut request = BufferedRequest::receive(app, request).await?;
    let max_posts = request.max_posts();
    let (inputs, body) = request.parse_json(|json| {
        inputs::parse::<RequestBody>(json, "inputs", max_posts, EXPECTED_BODY)
    })?;
    let Parameters {
        top_k,
        function_to_apply,
    } = body.parameters.unwrap_or_default().0;
    let top_k = match top_k {
        Some(top_k) => inputs::label_count(top_k).ok_or(FormatError::Request(EXPECTED_BODY))?,
        None => usize::MAX,
    };
    let posts = texts(inputs)?;
    let count = posts.len();
    let scored = request.score(posts, PostOptions::default()).await?;
    let sentiments = all_or_error(&scored.results)?.into_iter();
    let predict = |sentiment| predictions(sentiment, request.labels(), function_to_apply, top_k);
    let lists: Vec<Vec<Prediction<'_>>> = sentiments.map(predict).collect();
    Ok(with_stats(
        json(StatusCode::OK, &lists),
        count,
        scored.stages,
    ))
}

/// The texts of a request.
pub(super) fn texts(inputs: Inputs) -> Result<Vec<String>, CompatError> {
    let list = match inputs {
        Inputs::One(text) => return Ok(vec![text]),
        Inputs::Many(list) => list,
    };
    let text = |input| match input {
        Input::Text(text) => Ok(text),
        Input::Sequence(_) => Err(FormatError::Request(EXPECTED_BODY).into()),
    };
    list.into_iter().map(text).collect()
}

/// The body of a request, without the texts under `inputs`, which [`inputs::parse`] reads.
#[derive(Deserialize)]
#[cfg_attr(test, derive(utoipa::ToSchema), schema(as = huggingface::Request))]
struct RequestBody {
    #[serde(default)]
    #[cfg_attr(test, schema(value_type = Option<Parameters>))]
    parameters: Option<StrictObject<Parameters>>,
}

#[derive(Deserialize, Default)]
#[cfg_attr(test, derive(utoipa::ToSchema), schema(as = huggingface::Parameters))]
struct Parameters {
    /// The number of labels to return; by default all of them.
    #[serde(default)]
    #[cfg_attr(test, schema(value_type = Option<usize>, minimum = 1))]
    top_k: Option<f64>,
    #[serde(default)]
    function_to_apply: Option<Function>,
}

/// `{"error": "..."}`
#[derive(Serialize)]
#[cfg_attr(test, derive(utoipa::ToSchema), schema(as = huggingface::ErrorResponse))]
pub(super) struct ErrorResponse {
    error: String,
    /// Seconds after which the client may retry.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, schema(nullable = false))]
    estimated_time: Option<f32>,
}

/// The status and body of an error.
pub(super) fn status_and_body(error: &CompatError) -> (StatusCode, ErrorResponse) {
    let (status, _) = error.status_and_code();
    let is_busy = matches!(
        error,
        Api(ApiError::Overloaded { .. } | ApiError::ShuttingDown)
    );
    let body = ErrorResponse {
        error: error.to_string(),
        estimated_time: is_busy.then_some(ESTIMATED_TIME),
    };
    let status = if is_busy {
        StatusCode::SERVICE_UNAVAILABLE
    } else {
        status
    };
    (status, body)
}
