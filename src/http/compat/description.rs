//! The other services' formats in this server's OpenAPI document.

use super::{Route, comprehend, route_table};
use crate::http::description::remove_key;
use crate::http::routes;
use crate::http::state::AppState;
use serde_json::{Value, json};

/// The exceptions of requests whose signature is not accepted.
const SIGNATURE_EXCEPTIONS: [&str; 4] = [
    "IncompleteSignatureException",
    "UnrecognizedClientException",
    "InvalidSignatureException",
    "MissingAuthenticationTokenException",
];

/// The maximum length of a text in Comprehend's format.
pub(in crate::http) fn max_comprehend_bytes(app: &AppState) -> usize {
    comprehend::MAX_TEXT_BYTES.min(app.batcher().max_post_bytes())
}

/// Moves the operations of the enabled formats from their templates to this server's paths, and
/// removes what is off.
pub(in crate::http) fn adapt(app: &AppState, document: &mut Value) {
    let compat = &app.0.compat;
    let route_table = route_table(compat);
    let is_served = |route: &Route| route.is_served(compat);
    let full = document.clone();
    retain(&mut document["paths"], |path| {
        routes::NATIVE.contains(&path)
    });
    retain(&mut document["paths"]["/"], |method| method == "get");
    for (path, route) in &route_table {
        let path = documented(path);
        let first = route_table.iter().find(|(_, other)| other == route);
        let first = first.map(|(path, _)| documented(path)).unwrap_or_default();
        document["paths"][&path] = if first == path {
            let mut item = document["paths"][&path].take();
            item[route.method()] = operation(app, *route, &full);
            item
        } else {
            json!({ "$ref": format!("#/paths/{}", pointer(&first)) })
        };
    }
    let components = &mut document["components"];
    let is_signed = route_table.iter().any(|(_, route)| is_signed(app, *route));
    retain(&mut components["securitySchemes"], |name| match name {
        "bearer" | "api_key" => true,
        "sigv4" => is_signed,
        _ => !route_table.is_empty(),
    });
    let labels = json!(app.batcher().model().labels);
    let schemas = &mut components["schemas"];
    schemas["huggingface.Prediction"]["properties"]["label"]["enum"] = labels;
    if ![Route::Invocations, Route::VertexPredict]
        .iter()
        .any(is_served)
    {
        let codes = &mut schemas["ErrorDetail"]["properties"]["code"]["enum"];
        retain_items(codes, |code| code != "invalid_request");
    }
    retain(document, |key| key != "x-unknown-route");
    remove_unused_schemas(document);
}

/// The operation of a route on this server. `full` is the document with all features on.
fn operation(app: &AppState, route: Route, full: &Value) -> Value {
    let compat = &app.0.compat;
    let of = |route: Route| full["paths"][documented(route.template())][route.method()].clone();
    let mut operation = match route {
        Route::Root if !Route::Comprehend.is_served(compat) => {
            let mut models = of(Route::Models);
            models["parameters"] = json!([]);
            models
        }
        Route::Root if !Route::Models.is_served(compat) => {
            let mut comprehend = of(Route::Comprehend);
            // A client that names no operation does not use this format.
            comprehend["responses"]["404"] = full["x-unknown-route"].clone();
            comprehend
        }
        other => of(other),
    };
    if route == Route::Root {
        operation["operationId"] = json!("root");
    }
    if app.0.access.is_open() {
        remove_key(&mut operation);
        remove_error(&mut operation, "invalid_signature");
    } else if !is_signed(app, route) && operation["security"].is_array() {
        retain_items(&mut operation["security"], |it| it.get("sigv4").is_none());
    }
    if app.0.polarities.is_some() {
        remove_error(&mut operation, "no_polarity");
    }
    operation
}

/// Removes an error from an operation's responses.
fn remove_error(operation: &mut Value, code: &str) {
    let responses = operation["responses"].as_object_mut();
    let contents = responses
        .into_iter()
        .flatten()
        .filter_map(|(_, response)| response.get_mut("content")?.as_object_mut());
    for (_, content) in contents.flatten() {
        if let Some(examples) = content.get_mut("examples") {
            retain(examples, |name| name != code);
        }
        if code == "invalid_signature"
            && let Some(names) = content.pointer_mut("/schema/properties/__type/enum")
        {
            retain_items(names, |name| {
                name.as_str()
                    .is_none_or(|name| !SIGNATURE_EXCEPTIONS.contains(&name))
            });
        }
    }
}

/// Whether a route accepts signed requests.
fn is_signed(app: &AppState, route: Route) -> bool {
    let is_comprehend = match route {
        Route::Root => Route::Comprehend.is_served(&app.0.compat),
        other => other == Route::Comprehend,
    };
    is_comprehend && !app.0.access.sigv4_keys.is_empty()
}

/// Removes other formats' schemas that nothing refers to, such as those of disabled formats.
fn remove_unused_schemas(document: &mut Value) {
    loop {
        let text = document.to_string();
        let is_used = |name: &str| text.contains(&format!("\"#/components/schemas/{name}\""));
        let schemas = &mut document["components"]["schemas"];
        let before = schemas.as_object().map(serde_json::Map::len);
        retain(schemas, |name| !name.contains('.') || is_used(name));
        if schemas.as_object().map(serde_json::Map::len) == before {
            return;
        }
    }
}

/// Keeps some fields of an object.
fn retain(object: &mut Value, keep: impl Fn(&str) -> bool) {
    if let Some(fields) = object.as_object_mut() {
        fields.retain(|name, _| keep(name));
    }
}

/// Keeps some items of a list.
fn retain_items(list: &mut Value, keep: impl Fn(&Value) -> bool) {
    if let Some(items) = list.as_array_mut() {
        items.retain(keep);
    }
}

/// A router's path in OpenAPI's syntax.
pub(super) fn documented(path: &str) -> String {
    path.replace("{*", "{")
}

/// A key, escaped for a JSON pointer in the fragment of a URI.
fn pointer(key: &str) -> String {
    let key = key.replace('~', "~0").replace('/', "~1");
    key.replace('%', "%25")
}
