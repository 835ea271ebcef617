//! A container on Amazon SageMaker: `GET /ping` and `POST /invocations`.
//!
//! The platform hands bodies through as they are, so that their form is up to the
//! container. `{"inputs": ...}` is answered as Hugging Face's inference toolkit does,
//! whose callers are the most; any other body is a native one.

use super::error::{CompatError, CompatFailure};
use super::huggingface;
use super::inputs::{self, Function, Inputs, Ranked, predictions};
use super::native_or::NativeOr;
use super::score::whole;
use super::strict_json::StrictObject;
use crate::http::buffered_request::{BufferedRequest, with_stats};
use crate::http::error::json;
use crate::http::state::AppState;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::Response;
use coldread_engine::LongText;
use serde::Deserialize;

pub(super) const EXPECTED_BODY: &str = "the body must be {\"inputs\": \"...\"} or {\"inputs\": [\"...\"]}, with \
                     `parameters` of which `top_k` is null or a number from 1 and \
                     `function_to_apply` is \"sigmoid\", \"softmax\" or \"none\"";

/// The labels of one text or many
///
/// `{"inputs": ...}` is answered as Hugging Face's inference toolkit does. Any other body
/// is one of `POST /v1/sentiment`, and answered so; what stands in the query as well.
#[cfg_attr(test, utoipa::path(
    post,
    path = "/invocations",
    tag = "Amazon SageMaker",
    operation_id = "sagemaker",
    request_body(
        description = "The texts",
        content = Asked,
        example = json!({"inputs": ["I love this phone", "battery died after two days"]}),
    ),
    responses((
        status = 200,
        description = "The best label of each text, or with `top_k` a list of labels for each",
        body = Vec<Ranked>,
    )),
))]
pub(super) async fn invocations(
    State(app): State<AppState>,
    request: Request,
) -> Result<Response, CompatFailure> {
    let body = NativeOr::<Asked>::receive(&app, request, "inputs", EXPECTED_BODY).await;
    let response = match body {
        Ok(NativeOr::Native(response)) => return Ok(response),
        Ok(NativeOr::Format(request, inputs, asked)) => answer(&request, inputs, asked).await,
        Err(failure) => Err(failure),
    };
    response.map_err(|failure| failure.on(&app))
}

async fn answer(
    request: &BufferedRequest,
    inputs: Inputs,
    asked: Asked,
) -> Result<Response, CompatFailure> {
    let parameters = asked.parameters.unwrap_or_default().0;
    let is_one = matches!(inputs, Inputs::One(_));
    // Who says nothing of it gets the best label alone, and no list round it.
    let top_k = match parameters.top_k {
        TopK::Unsaid if parameters.return_all_scores == Some(true) => TopK::All,
        other => other,
    };
    let is_best_only = top_k == TopK::Unsaid;
    let top_k = match top_k {
        TopK::Unsaid => 1,
        TopK::All => usize::MAX,
        TopK::Best(top_k) => inputs::count(top_k).ok_or(CompatError::Request(EXPECTED_BODY))?,
    };
    let posts = huggingface::texts(inputs)?;
    let count = posts.len();
    let answer = request.score(posts, LongText::default()).await?;
    let sentiments = whole(&answer.results)?.into_iter();
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
        answer.stages,
    ))
}

/// What is asked. The texts, under `inputs`, are read by [`inputs::parse`].
#[derive(Deserialize)]
#[cfg_attr(test, derive(utoipa::ToSchema), schema(as = sagemaker::Request))]
struct Asked {
    #[serde(default)]
    #[cfg_attr(test, schema(value_type = Option<Parameters>))]
    parameters: Option<StrictObject<Parameters>>,
}

#[derive(Deserialize, Default)]
#[cfg_attr(test, derive(utoipa::ToSchema), schema(as = sagemaker::Parameters))]
struct Parameters {
    /// How many labels are answered: the best alone if nothing is said of it, all of them
    /// for `null`.
    #[serde(default)]
    #[cfg_attr(test, schema(value_type = Option<usize>, minimum = 1))]
    top_k: TopK,
    /// The same as `"top_k": null`, where that is missing.
    #[serde(default)]
    return_all_scores: Option<bool>,
    #[serde(default)]
    function_to_apply: Option<Function>,
}

/// How many labels are asked for: `null` is all of them, and not the same as nothing.
#[derive(Deserialize, Default, Clone, Copy, PartialEq)]
#[serde(from = "Option<f64>")]
enum TopK {
    #[default]
    Unsaid,
    All,
    Best(f64),
}

impl From<Option<f64>> for TopK {
    fn from(top_k: Option<f64>) -> Self {
        top_k.map_or(Self::All, Self::Best)
    }
}
