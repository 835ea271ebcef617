//! Hugging Face text-classification, as `huggingface_hub` and `@huggingface/inference`
//! speak it: `POST /` and `POST /models/{id}`. There is one model, whatever the id.
//!
//! Answers are nested even for one text: with a flat list the Python client keeps the
//! first label only, and the JavaScript client throws. Overload is 503, which is what the
//! JavaScript client tries again.

use super::error::CompatFailure::{self, Api};
use super::error::{CompatError, reject};
use super::inputs::{self, Function, Input, Inputs, Prediction, predictions};
use super::score::whole;
use super::strict_json::StrictObject;
use crate::http::buffered_request::{BufferedRequest, with_stats};
use crate::http::error::{ApiError, json};
use crate::http::state::AppState;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::Response;
use coldread_engine::LongText;
use serde::{Deserialize, Serialize};

pub(super) const EXPECTED_BODY: &str = "the body must be {\"inputs\": \"...\"} or {\"inputs\": [\"...\"]}, with \
                     `parameters` of which `top_k` is a number from 1 and `function_to_apply` is \
                     \"sigmoid\", \"softmax\" or \"none\"";

/// Seconds after which a client may try again.
const ESTIMATED_TIME: f32 = 1.0;

/// The labels of one text or many
///
/// There is one model, whatever the id. A text that cannot be scored refuses all.
#[cfg_attr(test, utoipa::path(
    post,
    path = "/models/{id}",
    tag = "Hugging Face",
    operation_id = "huggingface",
    params(("id" = String, Path, description = "Any, also with slashes")),
    request_body(
        description = "The texts",
        content = Asked,
        example = json!({"inputs": "I love this phone", "parameters": {"top_k": 1}}),
    ),
    responses((
        status = 200,
        description = "A list of labels for each text, the highest score first",
        body = Vec<Vec<Prediction>>,
    )),
))]
pub(super) async fn classify(State(app): State<AppState>, request: Request) -> Response {
    let answer = answer(&app, request).await;
    answer.unwrap_or_else(|fault| error(fault.on(&app)))
}

async fn answer(app: &AppState, request: Request) -> Result<Response, CompatFailure> {
    let mut request = BufferedRequest::receive(app, request).await?;
    let max_posts = request.max_posts();
    let (inputs, asked) = request
        .parse_json(|json| inputs::parse::<Asked>(json, "inputs", max_posts, EXPECTED_BODY))?;
    let Parameters {
        top_k,
        function_to_apply,
    } = asked.parameters.unwrap_or_default().0;
    let top_k = match top_k {
        Some(top_k) => inputs::count(top_k).ok_or(CompatError::Request(EXPECTED_BODY))?,
        None => usize::MAX,
    };
    let posts = texts(inputs)?;
    let count = posts.len();
    let answer = request.score(posts, LongText::default()).await?;
    let sentiments = whole(&answer.results)?.into_iter();
    let predict = |sentiment| predictions(sentiment, request.labels(), function_to_apply, top_k);
    let lists: Vec<Vec<Prediction<'_>>> = sentiments.map(predict).collect();
    Ok(with_stats(
        json(StatusCode::OK, &lists),
        count,
        answer.stages,
    ))
}

/// The texts of a request; each is answered by itself.
pub(super) fn texts(inputs: Inputs) -> Result<Vec<String>, CompatFailure> {
    let list = match inputs {
        Inputs::One(text) => return Ok(vec![text]),
        Inputs::Many(list) => list,
    };
    let text = |input| match input {
        Input::Text(text) => Ok(text),
        Input::Sequence(_) => Err(CompatError::Request(EXPECTED_BODY).into()),
    };
    list.into_iter().map(text).collect()
}

/// What is asked. The texts, under `inputs`, are read by [`inputs::parse`].
#[derive(Deserialize)]
#[cfg_attr(test, derive(utoipa::ToSchema), schema(as = huggingface::Request))]
struct Asked {
    #[serde(default)]
    #[cfg_attr(test, schema(value_type = Option<Parameters>))]
    parameters: Option<StrictObject<Parameters>>,
}

#[derive(Deserialize, Default)]
#[cfg_attr(test, derive(utoipa::ToSchema), schema(as = huggingface::Parameters))]
struct Parameters {
    /// How many labels are answered; all, if nothing is said of it.
    #[serde(default)]
    #[cfg_attr(test, schema(value_type = Option<usize>, minimum = 1))]
    top_k: Option<f64>,
    #[serde(default)]
    function_to_apply: Option<Function>,
}

/// `{"error": "..."}`
#[derive(Serialize)]
#[cfg_attr(test, derive(utoipa::ToSchema), schema(as = huggingface::Refusal))]
pub(super) struct Refusal {
    error: String,
    /// Seconds after which a client may try again.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, schema(nullable = false))]
    estimated_time: Option<f32>,
}

fn error(error: CompatFailure) -> Response {
    let (status, body) = refusal(&error);
    reject(error, status, &body)
}

/// Its status and body.
pub(super) fn refusal(error: &CompatFailure) -> (StatusCode, Refusal) {
    let (status, _) = error.status_and_code();
    let is_busy = matches!(
        error,
        Api(ApiError::Overloaded { .. } | ApiError::ShuttingDown)
    );
    let body = Refusal {
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
