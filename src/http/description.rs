//! `/openapi.json`: the OpenAPI document of this server.
//!
//! `openapi.json` is the document of a server with all features on, which a test keeps equal to the
//! code (`openapi.rs`). This module adds what only a running server knows, such as limits and
//! labels, and removes what is off; [`compat`] does the same for other services' formats.

use super::api::InfoLimits;
use super::compat;
use super::error::json;
use super::routes;
use super::state::AppState;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use serde_json::{Value, json};

/// The document, with placeholders for limits.
pub(super) const DOCUMENT: &str = include_str!("openapi.json");

/// This OpenAPI document
#[cfg_attr(test, utoipa::path(get, path = "/openapi.json", tag = "api", responses((
    status = 200, description = "OpenAPI 3.1", body = Object, content_type = "application/json",
))))]
pub(super) async fn description(State(app): State<AppState>) -> Response {
    json(StatusCode::OK, &document(&app))
}

/// The OpenAPI document of a server.
fn document(app: &AppState) -> Value {
    let mut document: Value = serde_json::from_str(&with_limits(app)).expect("a test reads it");
    document["x-limits"] = json!(InfoLimits::of(app));
    add_labels(
        app,
        &mut document["components"]["schemas"]["Scored"]["properties"],
    );
    compat::adapt(app, &mut document);
    for path in routes::NATIVE {
        if let Some(operation) = document["paths"]
            .get_mut(path)
            .and_then(|it| it.get_mut("get"))
            && !requires_key(app, path)
        {
            remove_key(operation);
        }
    }
    if !requires_key(app, "/v1/sentiment") {
        remove_key(&mut document["paths"]["/v1/sentiment"]["post"]);
    }
    document
}

/// The document's text with this server's limits.
fn with_limits(app: &AppState) -> String {
    let limits = app.limits();
    let max_post_bytes = app.batcher().max_post_bytes();
    let placeholders = [
        ("{max_posts}", limits.max_posts.get()),
        ("{max_post_bytes}", max_post_bytes),
        ("{too_many_bytes}", max_post_bytes + 1),
        ("{max_comprehend_bytes}", compat::max_comprehend_bytes(app)),
        ("{max_body_bytes}", limits.max_body_bytes.get()),
        ("{body_timeout_ms}", limits.body_timeout_ms.get() as usize),
        ("{max_tokens}", app.batcher().max_tokens()),
    ];
    placeholders
        .into_iter()
        .fold(DOCUMENT.to_owned(), |text, (placeholder, limit)| {
            text.replace(placeholder, &limit.to_string())
        })
}

/// Adds the model's labels to the properties of a result.
fn add_labels(app: &AppState, properties: &mut Value) {
    let labels = &app.batcher().model().labels;
    let score = json!({ "type": "number", "minimum": 0, "maximum": 1 });
    properties["label"]["enum"] = json!(labels);
    properties["scores"]["properties"] = labels
        .iter()
        .map(|label| (label.clone(), score.clone()))
        .collect();
    properties["scores"]["required"] = json!(labels);
}

/// Whether a native route requires a key.
fn requires_key(app: &AppState, path: &str) -> bool {
    let access = &app.0.access;
    let is_public = match path {
        "/healthz" | "/readyz" => true,
        "/metrics" => access.public_metrics,
        "/" | "/docs" | "/openapi.json" => !access.private_docs,
        _ => false,
    };
    !access.is_open() && !is_public
}

/// Removes what only operations that require a key have.
pub(super) fn remove_key(operation: &mut Value) {
    if let Some(operation) = operation.as_object_mut() {
        operation.shift_remove("security");
    }
    if let Some(responses) = operation["responses"].as_object_mut() {
        responses.shift_remove("401");
    }
}
