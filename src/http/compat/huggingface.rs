//! Hugging Face text-classification, as `huggingface_hub` and `@huggingface/inference`
//! speak it: `POST /` and `POST /models/{id}`. There is one model, whatever the id.
//!
//! Answers are nested even for one text: with a flat list the Python client keeps the
//! first label only, and the JavaScript client throws. Overload is 503, which is what the
//! JavaScript client tries again.

use super::call::{Call, CompatError, done, refuse, whole};
use super::inputs::{self, Function, Input, Inputs, Prediction, predictions};
use super::shape;
use crate::classifier::LongText;
use crate::http::AppState;
use crate::http::error::{ApiError, json};
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::Response;
use serde::{Deserialize, Serialize};

const SHAPE: &str = "the body must be {\"inputs\": \"...\"} or {\"inputs\": [\"...\"]}, with \
                     `parameters` of which `top_k` is a number from 1 and `function_to_apply` is \
                     \"sigmoid\", \"softmax\" or \"none\"";

/// Seconds after which a caller may try again.
const ESTIMATED_TIME: f32 = 1.0;

/// `POST /models/{id}`, and `POST /` where no AWS client asks.
pub(super) async fn classify(State(app): State<AppState>, request: Request) -> Response {
    let answer = answer(&app, request).await;
    answer.unwrap_or_else(|fault| error(app.refusal(fault)))
}

async fn answer(app: &AppState, request: Request) -> Result<Response, ApiError> {
    let call = Call::receive(app, request).await?;
    let asked: Asked = shape::parse(call.text()?, SHAPE)?;
    let Parameters {
        top_k,
        function_to_apply,
    } = asked.parameters.unwrap_or_default();
    let top_k = match top_k {
        Some(0) => return Err(CompatError::Request(SHAPE).into()),
        Some(top_k) => top_k as usize,
        None => usize::MAX,
    };
    let inputs = inputs::parse(call.text()?, "inputs", call.max_posts(), SHAPE)?;
    let posts = texts(inputs)?;
    let count = posts.len();
    let answer = call.score(posts, LongText::default()).await?;
    let sentiments = whole(&answer.results)?.into_iter();
    let predict = |sentiment| predictions(sentiment, call.labels(), function_to_apply, top_k);
    let lists: Vec<Vec<Prediction<'_>>> = sentiments.map(predict).collect();
    Ok(done(json(StatusCode::OK, &lists), count, answer.stages))
}

/// The texts of a request; each is answered by itself.
pub(super) fn texts(inputs: Inputs) -> Result<Vec<String>, ApiError> {
    let list = match inputs {
        Inputs::One(text) => return Ok(vec![text]),
        Inputs::Many(list) => list,
    };
    let text = |input| match input {
        Input::Text(text) => Ok(text),
        Input::Sequence(_) => Err(CompatError::Request(SHAPE).into()),
    };
    list.into_iter().map(text).collect()
}

#[derive(Deserialize)]
struct Asked {
    #[serde(default)]
    parameters: Option<Parameters>,
}

#[derive(Deserialize, Default)]
struct Parameters {
    #[serde(default)]
    top_k: Option<u32>,
    #[serde(default)]
    function_to_apply: Option<Function>,
}

/// `{"error": "..."}`
#[derive(Serialize)]
struct Refusal {
    error: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    estimated_time: Option<f32>,
}

fn error(error: ApiError) -> Response {
    let (status, _) = error.status_and_code();
    let is_busy = matches!(error, ApiError::Overloaded | ApiError::ShuttingDown);
    let body = Refusal {
        error: error.to_string(),
        estimated_time: is_busy.then_some(ESTIMATED_TIME),
    };
    let status = if is_busy {
        StatusCode::SERVICE_UNAVAILABLE
    } else {
        status
    };
    refuse(error, status, &body)
}
