//! A container on Amazon SageMaker: `GET /ping` and `POST /invocations`.
//!
//! SageMaker passes bodies through unchanged, so the container chooses their format. Bodies with
//! `inputs` are treated as by Hugging Face's inference toolkit, which has the most clients. Any
//! other body is a native one.

use super::error::{CompatError, FormatError};
use super::huggingface;
use super::inputs::{self, Function, Inputs, Ranked, predictions};
use super::native_or::NativeOr;
use super::score::all_or_error;
use super::strict_json::StrictObject;
use crate::http::buffered_request::{BufferedRequest, with_stats};
use crate::http::error::json;
use crate::http::state::AppState;
use crate::scorer::PostOptions;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::Response;
use serde::Deserialize;

pub(super) const EXPECTED_BODY: &str = "the body must be {\"inputs\": \"...\"} or {\"inputs\": [\"...\"]}, with \
                     optional `parameters`: `top_k`, null or a whole number of at least 1, and \
                     `function_to_apply`, \"sigmoid\", \"softmax\" or \"none\"";

/// Classify one text or many
///
/// `{"inputs": ...}` is treated as by Hugging Face's inference toolkit. Any other body, and the
/// query, are those of `POST /v1/sentiment`, and so is the response.
#[cfg_attr(test, utoipa::path(
    post,
    path = "/invocations",
    tag = "Amazon SageMaker",
    operation_id = "sagemaker",
    request_body(
        description = "The texts",
        content = RequestBody,
        example = json!({"inputs": ["I love this phone", "battery died after two days"]}),
    ),
    responses((
        status = 200,
        description = "The best label of each text, or with `top_k` a list of labels per text",
        body = Vec<Ranked>,
    )),
))]
pub(super) async fn invocations(
    State(app): State<AppState>,
    request: Request,
) -> Result<Response, CompatError> {
    let body = NativeOr::<RequestBody>::receive(&app, request, "inputs", EXPECTED_BODY).await;
    let response = match body {
        Ok(NativeOr::Native(response)) => return Ok(response),
        Ok(NativeOr::Format(request, inputs, body)) => score(&request, inputs, body).await,
        Err(error) => Err(error),
    };
    response.map_err(|error| error.adjust_for_shutdown(&app))
}

async fn score(
    request: &BufferedRequest,
    inputs: Inputs,
    body: RequestBody,
) -> Result<Response, CompatError> {
    let parameters = body.parameters.unwrap_or_default().0;
    let is_one = matches!(inputs, Inputs::One(_));
    // By default the response has the best label only, without a list around it.
    let top_k = match parameters.top_k {
        TopK::Default if parameters.return_all_scores == Some(true) => TopK::All,
        other => other,
    };
    let is_best_only = top_k == TopK::Default;
    let top_k = match top_k {
        TopK::Default => 1,
        TopK::All => usize::MAX,
        TopK::Best(top_k) => {
            inputs::label_count(top_k).ok_or(FormatError::Request(EXPECTED_BODY))?
        }
    };
    let posts = huggingface::texts(inputs)?;
    let count = posts.len();
    let scored = request.score(posts, PostOptions::default()).await?;
    let sentiments = all_or_error(&scored.results)?.into_iter();
    let predict = |sentiment| {
        predictions(
            sentiment,
            request.labels(),
            parameters.function_to_apply,
            top_k,
        )
    };
    let is_nested = !is_one && !is_best_only;
    let ranked = Ranked::from_lists(sentiments.map(predict), is_nested);
    Ok(with_stats(
        json(StatusCode::OK, &ranked),
        count,
        scored.stages,
    ))
}

/// The body of a request, without the texts under `inputs`, which [`inputs::parse`] reads.
#[derive(Deserialize)]
#[cfg_attr(test, derive(utoipa::ToSchema), schema(as = sagemaker::Request))]
struct RequestBody {
    #[serde(default)]
    #[cfg_attr(test, schema(value_type = Option<Parameters>))]
    parameters: Option<StrictObject<Parameters>>,
}

#[derive(Deserialize, Default)]
#[cfg_attr(test, derive(utoipa::ToSchema), schema(as = sagemaker::Parameters))]
struct Parameters {
    /// The number of labels to return: by default only the best, for `null` all of them.
    #[serde(default)]
    #[cfg_attr(test, schema(value_type = Option<usize>, minimum = 1))]
    top_k: TopK,
    /// The same as `"top_k": null`, if `top_k` is missing.
    #[serde(default)]
    return_all_scores: Option<bool>,
    #[serde(default)]
    function_to_apply: Option<Function>,
}

/// The number of labels to return: `null` means all of them, unlike a missing field.
#[derive(Deserialize, Default, Clone, Copy, PartialEq)]
#[serde(from = "Option<f64>")]
enum TopK {
    #[default]
    Default,
    All,
    Best(f64),
}

impl From<Option<f64>> for TopK {
    fn from(top_k: Option<f64>) -> Self {
        top_k.map_or(Self::All, Self::Best)
    }
}
