//! A container on Vertex AI: `{"instances": [...]}` to `{"predictions": [...]}`, at the
//! path that `AIP_PREDICT_ROUTE` names. A prediction is a native result, and an instance
//! that cannot be scored has a native error in its place. Any other body, as a raw
//! prediction has it, is a native one.

use super::call::{Call, CompatError, Received, done};
use super::inputs::{self, Input, Inputs};
use crate::http::error::{ApiError, json};
use crate::http::{AppState, api};
use crate::wire::Item;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::Response;
use coldread_engine::LongText;
use serde::Serialize;

pub(super) const SHAPE: &str = "the body must be {\"instances\": [...]} with instances that are strings, or \
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
) -> Result<Response, ApiError> {
    match Received::of(&app, request, "instances").await {
        Ok(Received::Native(request)) => api::sentiment(State(app), request).await,
        Ok(Received::Ours(call)) => answer(&call).await.map_err(|fault| app.refusal(fault)),
        Err(fault) => Err(app.refusal(fault)),
    }
}

async fn answer(call: &Call) -> Result<Response, ApiError> {
    let Inputs::Many(instances) =
        inputs::parse(call.text()?, "instances", call.max_posts(), SHAPE)?
    else {
        return Err(CompatError::Request(SHAPE).into());
    };
    let text = |instance| match instance {
        Input::Text(text) => Ok(text),
        Input::Sequence(_) => Err(CompatError::Request(SHAPE)),
    };
    let posts: Result<Vec<String>, CompatError> = instances.into_iter().map(text).collect();
    let answer = call.score(posts?, LongText::default()).await?;
    let results = answer.results.iter();
    let predictions = results.map(|result| Item::new(result, call.labels()));
    let reply = Reply {
        predictions: predictions.collect(),
    };
    let response = json(StatusCode::OK, &reply);
    Ok(done(response, answer.results.len(), answer.stages))
}

/// What is answered.
#[derive(Serialize)]
#[cfg_attr(test, derive(utoipa::ToSchema), schema(as = vertex::Reply))]
struct Reply<'a> {
    predictions: Vec<Item<'a>>,
}
