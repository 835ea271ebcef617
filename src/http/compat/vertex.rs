//! A container on Vertex AI: `{"instances": [...]}` to `{"predictions": [...]}`, at the
//! path that `AIP_PREDICT_ROUTE` names. A prediction is a native result, and an instance
//! that cannot be scored has a native error in its place. Any other body, as a raw
//! prediction has it, is a native one.

use super::error::{CompatError, CompatFailure};
use super::inputs::{Input, Inputs};
use super::native_or::NativeOr;
use crate::http::buffered_request::{BufferedRequest, with_stats};
use crate::http::error::json;
use crate::http::state::AppState;
use crate::wire::Item;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::Response;
use coldread_engine::LongText;
use serde::Serialize;
use serde::de::IgnoredAny;

pub(super) const EXPECTED_BODY: &str = "the body must be {\"instances\": [...]} with instances that are strings, or \
                     objects with the text under `text`, `content` or `inputs`";

/// The scores of many instances
///
/// Any body but `{"instances": ...}` is one of `POST /v1/sentiment`, and answered so; what
/// stands in the query as well.
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
    responses((status = 200, description = "A prediction for each instance", body = Reply)),
))]
pub(super) async fn predict(
    State(app): State<AppState>,
    request: Request,
) -> Result<Response, CompatFailure> {
    let body = NativeOr::<IgnoredAny>::receive(&app, request, "instances", EXPECTED_BODY).await;
    let response = match body {
        Ok(NativeOr::Native(response)) => return Ok(response),
        Ok(NativeOr::Format(request, inputs, _)) => answer(&request, inputs).await,
        Err(failure) => Err(failure),
    };
    response.map_err(|failure| failure.on(&app))
}

async fn answer(request: &BufferedRequest, inputs: Inputs) -> Result<Response, CompatFailure> {
    let Inputs::Many(instances) = inputs else {
        return Err(CompatError::Request(EXPECTED_BODY).into());
    };
    let text = |instance| match instance {
        Input::Text(text) => Ok(text),
        Input::Sequence(_) => Err(CompatError::Request(EXPECTED_BODY)),
    };
    let posts: Result<Vec<String>, CompatError> = instances.into_iter().map(text).collect();
    let answer = request.score(posts?, LongText::default()).await?;
    let results = answer.results.iter();
    let predictions = results.map(|result| Item::new(result, request.labels()));
    let reply = Reply {
        predictions: predictions.collect(),
    };
    let response = json(StatusCode::OK, &reply);
    Ok(with_stats(response, answer.results.len(), answer.stages))
}

/// What is answered.
#[derive(Serialize)]
#[cfg_attr(test, derive(utoipa::ToSchema), schema(as = vertex::Reply))]
struct Reply<'a> {
    predictions: Vec<Item<'a>>,
}
