//! The routes of other services' formats in `/openapi.json`.
//!
//! What is the same on every server stands at the handlers and types, as that of the
//! native API does ([`crate::http::openapi`]). Here it is put at the paths that this
//! server answers, and what only a running server knows is put in. A route that takes
//! two formats is what both of them say.

use super::error::{CompatError, CompatFailure};
use super::sigv4::SignatureError;
use super::{Route, azure, comprehend, google, huggingface, inputs, places};
use super::{sagemaker, tei, vertex};
use crate::http::error::ApiError;
use crate::http::openapi::{
    DocumentedError, ErrorFormat, NATIVE, add_errors, body_errors, too_long,
};
use crate::http::state::AppState;
use crate::wire::ErrorBody;
use axum::http::StatusCode;
use coldread_engine::PostError;
use serde_json::{Map, Value, json};

/// A format's errors: how they look, and what an error becomes in it.
type Errors = (ErrorFormat, fn(&CompatFailure) -> (StatusCode, Value));

const HUGGING_FACE: Errors = (
    ErrorFormat {
        media: "application/json",
        schema: "huggingface.Refusal",
        name: &[],
    },
    |error| {
        let (status, body) = huggingface::refusal(error);
        (status, json!(body))
    },
);

const COMPREHEND: Errors = (
    ErrorFormat {
        media: comprehend::JSON_1_1,
        schema: "comprehend.Refusal",
        name: &["__type"],
    },
    |error| {
        let (status, body) = comprehend::refusal(error);
        (status, json!(body))
    },
);

const TEI: Errors = (
    ErrorFormat {
        media: "application/json",
        schema: "tei.Refusal",
        name: &["error_type"],
    },
    |error| {
        let (status, body) = tei::refusal(error);
        (status, json!(body))
    },
);

const AZURE: Errors = (
    ErrorFormat {
        media: "application/json",
        schema: "azure.Refusal",
        name: &["error", "code"],
    },
    |error| {
        let (status, body) = azure::refusal(error);
        (status, json!(body))
    },
);

const GOOGLE: Errors = (
    ErrorFormat {
        media: "application/json",
        schema: "google.Refusal",
        name: &["error", "status"],
    },
    |error| {
        let (status, body) = google::refusal(error);
        (status, json!(body))
    },
);

/// As the native API tells of its own.
const AS_NATIVE: Errors = (NATIVE, |error| {
    let (status, code) = error.status_and_code();
    (status, json!(ErrorBody::new(code, error.to_string())))
});

fn documented_error(error: &CompatFailure, (_, tell): &Errors) -> DocumentedError {
    let (status, body) = tell(error);
    match error {
        CompatFailure::Api(error) => DocumentedError::new(error, status, body),
        CompatFailure::Format(_) => DocumentedError {
            status,
            code: error.status_and_code().1,
            body,
            has_retry_after: false,
            has_challenge: false,
        },
    }
}

/// Enters the routes of the formats that are spoken, whose `operations` stand by their
/// templates.
pub(in crate::http) fn describe(
    app: &AppState,
    document: &mut Value,
    operations: &Map<String, Value>,
) {
    let places = places(&app.0.compat);
    requests(app, &mut document["components"]["schemas"]);
    for (path, route) in &places {
        let path = documented(path);
        let first = places.iter().find(|(_, other)| other == route);
        let first = first.map(|(path, _)| documented(path)).unwrap_or_default();
        if first != path {
            document["paths"][path] = json!({ "$ref": format!("#/paths/{}", pointer(&first)) });
            continue;
        }
        let method = if route.is_health() { "get" } else { "post" };
        let operation = operation(app, *route, &document["paths"], operations);
        document["paths"][path][method] = operation;
    }
    if !places.is_empty() {
        let schemes = &mut document["components"]["securitySchemes"];
        for (name, place, key) in THEIR_KEYS {
            schemes[name] = json!({ "type": "apiKey", "in": place, "name": key });
        }
    }
    if places.iter().any(|(_, route)| is_signed(app, *route)) {
        document["components"]["securitySchemes"]["sigv4"] = json!({
            "type": "apiKey", "in": "header", "name": "Authorization",
            "description": "AWS Signature Version 4", "x-amazon-apigateway-authtype": "awsSigv4",
        });
    }
    drop_unused(document);
}

/// Ways to send a key that other services' clients have beside the native ones.
const THEIR_KEYS: [(&str, &str, &str); 3] = [
    ("azure_key", "header", "ocp-apim-subscription-key"),
    ("google_key", "header", "x-goog-api-key"),
    ("query_key", "query", "key"),
];

/// A router's path as OpenAPI writes it.
fn documented(path: &str) -> String {
    path.replace("{*", "{")
}

/// A key in a JSON pointer in the fragment of a URI.
fn pointer(key: &str) -> String {
    let key = key.replace('~', "~0").replace('/', "~1");
    key.replace('%', "%25")
}

/// What a route does. `native` are the native operations, all of them complete.
fn operation(
    app: &AppState,
    route: Route,
    native: &Value,
    operations: &Map<String, Value>,
) -> Value {
    let own = |route: Route| {
        let mut operation = operations[&documented(route.template())]["post"].clone();
        match route {
            Route::Comprehend => comprehend_operations(&mut operation),
            Route::VertexPredict => {
                let instances = json!({ "$ref": "#/components/schemas/vertex.Request" });
                operation["requestBody"]["content"]["application/json"]["schema"] = instances;
            }
            _ => {}
        }
        operation
    };
    let health = |other: Route| {
        let (mut health, other) = (native["/readyz"]["get"].clone(), own(other));
        let id = other["operationId"].as_str().unwrap_or_default();
        health["operationId"] = json!(format!("{id}_health"));
        health["tags"] = other["tags"].clone();
        health
    };
    let mut operation = match route {
        Route::Ping => return health(Route::Invocations),
        Route::VertexHealth => return health(Route::VertexPredict),
        Route::Invocations | Route::VertexPredict => {
            either(own(route), &native["/v1/sentiment"]["post"])
        }
        Route::Root => root(app, own(Route::Models), own(Route::Comprehend)),
        Route::Models | Route::Comprehend | Route::Predict | Route::Azure | Route::Google => {
            own(route)
        }
    };
    for (errors, format) in errors(app, route) {
        let documented = errors.iter().map(|error| documented_error(error, format));
        add_errors(&mut operation, documented, &format.0);
    }
    let timing = json!({ "$ref": "#/components/headers/ServerTiming" });
    operation["responses"]["200"]["headers"]["server-timing"] = timing;
    if !app.0.access.is_open() {
        let keys = ["bearer", "api_key"].into_iter();
        let keys = keys.chain(THEIR_KEYS.map(|(name, _, _)| name));
        let mut keys: Vec<Value> = keys.map(|name| json!({ name: [] })).collect();
        if is_signed(app, route) {
            keys.push(json!({ "sigv4": [] }));
        }
        operation["security"] = keys.into();
    }
    operation
}

/// What takes and answers what one of two operations does.
fn either(mut one: Value, other: &Value) -> Value {
    add_content(&mut one["requestBody"], &other["requestBody"]);
    for (status, reply) in other["responses"].as_object().into_iter().flatten() {
        match &mut one["responses"][status] {
            missing @ Value::Null => *missing = reply.clone(),
            own => add_content(own, reply),
        }
    }
    one
}

/// Adds what a body can be, and what a reply may have at its head.
fn add_content(one: &mut Value, other: &Value) {
    for (name, header) in other["headers"].as_object().into_iter().flatten() {
        one["headers"][name] = header.clone();
    }
    for (media, other) in other["content"].as_object().into_iter().flatten() {
        match &mut one["content"][media] {
            missing @ Value::Null => *missing = other.clone(),
            own => own["schema"] = json!({ "anyOf": [own["schema"], other["schema"]] }),
        }
    }
}

/// `POST /`, which Hugging Face's clients and Comprehend's share.
fn root(app: &AppState, mut models: Value, mut comprehend: Value) -> Value {
    let compat = &app.0.compat;
    models["parameters"] = json!([]);
    let is_both = Route::Models.is_spoken(compat) && Route::Comprehend.is_spoken(compat);
    let mut root = if is_both {
        comprehend["parameters"][0]["required"] = json!(false);
        let mut both = either(models, &comprehend);
        both["summary"] = json!("The sentiment of one text or many");
        both["description"] = json!(
            "With `x-amz-target` this is `POST /comprehend`, and without `POST /models/{id}`."
        );
        both["responses"]["200"]["description"] = json!("What the format answers");
        both["parameters"] = comprehend["parameters"].take();
        both["tags"] = json!([both["tags"][0], comprehend["tags"][0]]);
        both
    } else if Route::Models.is_spoken(compat) {
        models
    } else {
        // Who names no operation is none of Comprehend's.
        let unknown = DocumentedError::native(&ApiError::UnknownRoute);
        add_errors(&mut comprehend, [unknown], &NATIVE);
        comprehend
    };
    root["operationId"] = json!("root");
    root
}

/// Comprehend's are several, which a header tells apart.
fn comprehend_operations(operation: &mut Value) {
    let names = comprehend::Operation::ALL.map(|(name, _)| name);
    operation["parameters"][0]["schema"]["enum"] = json!(names);
    let either = |names: &[&str]| {
        let schemas = names.iter();
        let schemas =
            schemas.map(|it| json!({ "$ref": format!("#/components/schemas/comprehend.{it}") }));
        json!({ "anyOf": schemas.collect::<Vec<_>>() })
    };
    let requests = [
        "DetectRequest",
        "BatchRequest",
        "LanguageRequest",
        "LanguageBatchRequest",
    ];
    for (part, names) in [
        ("/requestBody", &requests[..]),
        ("/responses/200", &["Detected", "DominantLanguage", "Batch"]),
    ] {
        let part = operation.pointer_mut(part).expect("a test reads it");
        part["content"][comprehend::JSON_1_1]["schema"] = either(names);
    }
}

fn is_signed(app: &AppState, route: Route) -> bool {
    let is_comprehends = match route {
        Route::Root => Route::Comprehend.is_spoken(&app.0.compat),
        other => other == Route::Comprehend,
    };
    is_comprehends && !app.0.access.sigv4_keys.is_empty()
}

/// What the types of requests cannot say by themselves.
fn requests(app: &AppState, schemas: &mut Value) {
    let max_posts = app.limits().max_posts.get();
    let post = json!({ "$ref": "#/components/schemas/Post" });
    let list = |items: Value| {
        json!({
            "description": format!("At most {max_posts}"),
            "type": "array",
            "items": items,
        })
    };
    let only =
        |item: &Value| json!({ "type": "array", "items": item, "minItems": 1, "maxItems": 1 });

    let text = json!({ "$ref": "#/components/schemas/huggingface.Text" });
    schemas["huggingface.Text"] = inputs::schema(&post);
    let texts = json!({ "anyOf": [text, list(text.clone())] });
    let mut batch = list(only(&post));
    batch["minItems"] = json!(1);
    for (name, inputs) in [
        ("huggingface.Request", texts.clone()),
        ("sagemaker.Request", texts),
        (
            "tei.Request",
            json!({ "anyOf": [text, only(&text), batch] }),
        ),
    ] {
        schemas[name]["properties"]["inputs"] = inputs;
        schemas[name]["required"] = json!(["inputs"]);
    }
    schemas["vertex.Request"] = json!({
        "description": "What is asked.",
        "type": "object",
        "properties": { "instances": list(inputs::schema(&json!({ "type": ["string", "null"] }))) },
        "required": ["instances"],
    });
    let labels = json!(app.batcher().model().labels);
    schemas["huggingface.Prediction"]["properties"]["label"]["enum"] = labels;

    let max_bytes = comprehend::MAX_TEXT_BYTES.min(app.batcher().max_post_bytes());
    let mut own_limit = post.clone();
    own_limit["description"] = json!(format!("A text, of at most {max_bytes} bytes."));
    schemas["comprehend.DetectRequest"]["properties"]["Text"] = own_limit;
    schemas["comprehend.LanguageRequest"]["properties"]["Text"]["minLength"] = json!(1);
    for name in ["comprehend.DetectRequest", "comprehend.BatchRequest"] {
        let language = &mut schemas[name]["properties"]["LanguageCode"];
        language["enum"] = json!(comprehend::LANGUAGES);
    }
    for name in ["comprehend.BatchRequest", "comprehend.LanguageBatchRequest"] {
        let texts = &mut schemas[name]["properties"]["TextList"];
        texts["minItems"] = json!(1);
        texts["maxItems"] = json!(comprehend::MAX_TEXTS);
    }
    let documents = &mut schemas["azure.AnalysisInput"]["properties"]["documents"];
    documents["minItems"] = json!(1);
    documents["maxItems"] = json!(azure::MAX_DOCUMENTS);
    let document = &mut schemas["google.Document"]["properties"];
    document["content"] = post;
    // Texts elsewhere are not read.
    document["gcsContentUri"] = json!({ "type": "null" });
    let (types, encodings) = google::types();
    document["type"]["enum"] = types;
    schemas["google.Request"]["properties"]["encodingType"]["enum"] = encodings;
}

/// The errors that the formats of a route have, and how they tell of them. What a route
/// has of the native one is not among them.
fn errors(app: &AppState, route: Route) -> Vec<(Vec<CompatFailure>, &'static Errors)> {
    let max = app.limits().max_posts.get();
    let item = |error: PostError| CompatError::Item { index: 1, error };
    let batch = |expected: &'static str| {
        vec![
            CompatError::Request(expected),
            CompatError::BatchTooLarge { max },
            item(PostError::Empty),
            item(too_long(app)),
        ]
    };
    let (mut own, format) = match route {
        Route::Ping | Route::VertexHealth => return Vec::new(),
        Route::Root => {
            let routes = [Route::Models, Route::Comprehend].into_iter();
            let spoken = routes.filter(|route| route.is_spoken(&app.0.compat));
            return spoken.flat_map(|route| errors(app, route)).collect();
        }
        Route::Models => (batch(huggingface::EXPECTED_BODY), &HUGGING_FACE),
        Route::Comprehend => (comprehend_errors(app), &COMPREHEND),
        Route::Predict => {
            let max_tokens = app.batcher().model().max_tokens;
            let mut own = batch(tei::EXPECTED_BODY);
            own.push(CompatError::EmptyBatch);
            own.push(item(PostError::TooManyTokens { max_tokens }));
            (own, &TEI)
        }
        Route::Azure => {
            let own = vec![
                CompatError::Request(azure::EXPECTED_BODY),
                CompatError::EmptyBatch,
                CompatError::BatchTooLarge {
                    max: azure::MAX_DOCUMENTS,
                },
            ];
            (own, &AZURE)
        }
        Route::Google => {
            let own = vec![
                CompatError::Request(google::EXPECTED_BODY),
                CompatError::UnsupportedLanguage,
                CompatError::EmptyText,
            ];
            (own, &GOOGLE)
        }
        Route::Invocations => (batch(sagemaker::EXPECTED_BODY), &AS_NATIVE),
        Route::VertexPredict => {
            let own = vec![
                CompatError::Request(vertex::EXPECTED_BODY),
                CompatError::BatchTooLarge { max },
            ];
            (own, &AS_NATIVE)
        }
    };
    let has_sides = [Route::Comprehend, Route::Azure, Route::Google].contains(&route);
    if has_sides && app.0.polarities.is_none() {
        own.push(CompatError::NoPolarity);
    }
    let mut errors: Vec<CompatFailure> = own.into_iter().map(CompatFailure::from).collect();
    if route == Route::Google {
        errors.push(too_long(app).into());
    }
    if ![Route::Invocations, Route::VertexPredict].contains(&route) {
        errors.extend(body_errors(app).into_iter().map(CompatFailure::from));
        if !app.0.access.is_open() && route != Route::Comprehend {
            errors.push(ApiError::Unauthorized.into());
        }
    }
    vec![(errors, format)]
}

fn comprehend_errors(app: &AppState) -> Vec<CompatError> {
    let max_bytes = comprehend::MAX_TEXT_BYTES;
    let mut errors = vec![
        CompatError::Request(comprehend::EXPECTED_BODY),
        CompatError::UnknownOperation,
        CompatError::UnsupportedLanguage,
        CompatError::TextTooLong {
            bytes: max_bytes + 1,
            max_bytes,
        },
        CompatError::BatchTooLarge {
            max: comprehend::MAX_TEXTS,
        },
        CompatError::EmptyBatch,
        CompatError::EmptyText,
        comprehend::EMPTY_TEXT,
    ];
    if !app.0.access.is_open() {
        errors.extend([
            SignatureError::Incomplete.into(),
            SignatureError::UnknownKey.into(),
            SignatureError::Mismatch.into(),
            SignatureError::Missing.into(),
        ]);
    }
    errors
}

/// The codes of errors that are told as the native API tells its own.
pub(in crate::http) fn native_codes(app: &AppState) -> Vec<&'static str> {
    let routes = [Route::Invocations, Route::VertexPredict].into_iter();
    let spoken = routes.filter(|route| route.is_spoken(&app.0.compat));
    let errors = spoken.flat_map(|route| errors(app, route));
    let errors = errors.flat_map(|(errors, _)| errors);
    errors.map(|error| error.status_and_code().1).collect()
}

/// Takes out other formats' schemas that nothing refers to: those of formats that are not
/// spoken, and what only they use.
fn drop_unused(document: &mut Value) {
    loop {
        let text = document.to_string();
        let Some(schemas) = document["components"]["schemas"].as_object_mut() else {
            return;
        };
        let before = schemas.len();
        let is_used = |name: &str| text.contains(&format!("\"#/components/schemas/{name}\""));
        schemas.retain(|name, _| !name.contains('.') || is_used(name));
        if schemas.len() == before {
            return;
        }
    }
}

#[cfg(test)]
#[derive(utoipa::OpenApi)]
#[openapi(
    paths(
        huggingface::classify,
        comprehend::call,
        tei::predict,
        azure::analyze,
        google::analyze,
        sagemaker::invocations,
        vertex::predict
    ),
    components(schemas(
        comprehend::Batch,
        comprehend::BatchDetect,
        comprehend::BatchDetectLanguage,
        comprehend::Detect,
        comprehend::DetectLanguage,
        comprehend::Detected,
        comprehend::DominantLanguage,
        comprehend::Refusal,
        azure::Refusal,
        google::Refusal,
        huggingface::Refusal,
        tei::Refusal
    ))
)]
pub(in crate::http) struct Operations;
