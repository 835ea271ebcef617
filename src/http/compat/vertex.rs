//! A container on Vertex AI: `{"instances": [...]}` to `{"predictions": [...]}`, at the
//! path that `AIP_PREDICT_ROUTE` names. A prediction is a native result or, for an instance that
//! cannot be scored, a native error. Any other body, such as that of a raw prediction request, is
//! a native one.

use super::error::{CompatError, FormatError};
use super::inputs::{Input, Inputs};
use super::native_or::NativeOr;
use crate::http::buffered_request::{BufferedRequest, with_stats};
use crate::http::error::json;
use crate::http::state::AppState;
use crate::scorer::PostOptions;
use crate::wire::ScoredOrError;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::Response;
use serde::Serialize;
use serde::de::IgnoredAny;

pub(super) const EXPECTED_BODY: &str = "the body must be {\"instances\": [...]} where each instance is a string or an \
                     object with the text under `text`, `content` or `inputs`";

/// Score instances
///
/// Any body other than `{"instances": ...}`, and the query, are those of `POST /v1/sentiment`, and
/// so is the response.
#[cfg_attr(test, utoipa::path(
    post,
    path = "AIP_PREDICT_ROUTE",
    tag = "Vertex AI",
    operation_id = "vertex",
    request_body(
        description = "The instances",
        content = Object,
        example = json!({"instances": ["I love this phone", {"text": "battery died after two days"}]}),
    ),
    responses((status = 200, description = "A prediction for each instance", body = ResponseBody)),
))]
pub(super) async fn predict(
    State(app): State<AppState>,
    request: Request,
) -> Result<Response, CompatError> {
    let body = NativeOr::<IgnoredAny>::receive(&app, request, "instances", EXPECTED_BODY).await;
    let response = match body {
        Ok(NativeOr::Native(response)) => return Ok(response),
        Ok(NativeOr::Format(request, inputs, _)) => score(&request, inputs).await,
        Err(error) => Err(error),
    };
    response.map_err(|error| error.adjust_for_shutdown(&app))
}

async fn score(request: &BufferedRequest, inputs: Inputs) -> Result<Response, CompatError> {
    let Inputs::Many(instances) = inputs else {
        return Err(FormatError::Request(EXPECTED_BODY).into());
    };
    let text = |instance| match instance {
        Input::Text(text) => Ok(text),
        Input::Sequence(_) => Err(FormatError::Request(EXPECTED_BODY)),
    };
    let posts: Result<Vec<String>, FormatError> = instances.into_iter().map(text).collect();
    let scored = request.score(posts?, PostOptions::default()).await?;
    let model = request.app().batcher().model();
    let results = scored.results.iter();
    let predictions = results.map(|result| ScoredOrError::new(result, model));
    let body = ResponseBody {
        predictions: predictions.collect(),
    };
    let response = json(StatusCode::OK, &body);
    Ok(with_stats(response, scored.results.len(), scored.stages))
}

/// The body of a response.
#[derive(Serialize)]
#[cfg_attr(test, derive(utoipa::ToSchema), schema(as = vertex::Response))]
struct ResponseBody<'a> {
    predictions: Vec<ScoredOrError<'a>>,
}
