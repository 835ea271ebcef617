//! The other services' formats in `openapi.json`. As for the native API
//! ([`crate::http::openapi`]), only tests contain this.
//!
//! The routes are listed by their templates. A route with two formats has the operations of both.

use super::description::documented;
use super::error::{CompatError, FormatError};
use super::sigv4::SignatureError;
use super::{Route, azure, comprehend, google, huggingface, inputs};
use super::{sagemaker, tei, vertex};
use crate::error::PostRejection;
use crate::http::error::ApiError;
use crate::http::openapi::{
    DocumentedError, ErrorFormat, MAX_POSTS, MAX_TOKENS, NATIVE, add_errors, body_errors, too_long,
};
use crate::wire::ErrorBody;
use axum::http::StatusCode;
use coldread_engine::PostError;
use serde_json::{Value, json};

/// The error of a post whose language was detected and is rejected.
const OTHER_LANGUAGE: PostRejection = PostRejection::UnsupportedLanguage { language: "de" };

/// The form of a format's errors, and the function that gives an error this form.
type Errors = (ErrorFormat, fn(&CompatError) -> (StatusCode, Value));

const HUGGING_FACE: Errors = (
    ErrorFormat {
        media: "application/json",
        schema: "huggingface.ErrorResponse",
        name: &[],
    },
    |error| {
        let (status, body) = huggingface::status_and_body(error);
        (status, json!(body))
    },
);

const COMPREHEND: Errors = (
    ErrorFormat {
        media: comprehend::JSON_1_1,
        schema: "comprehend.ErrorResponse",
        name: &["__type"],
    },
    |error| {
        let (status, body) = comprehend::status_and_body(error);
        (status, json!(body))
    },
);

const TEI: Errors = (
    ErrorFormat {
        media: "application/json",
        schema: "tei.ErrorResponse",
        name: &["error_type"],
    },
    |error| {
        let (status, body) = tei::status_and_body(error);
        (status, json!(body))
    },
);

const AZURE: Errors = (
    ErrorFormat {
        media: "application/json",
        schema: "azure.ErrorResponse",
        name: &["error", "code"],
    },
    |error| {
        let (status, body) = azure::status_and_body(error);
        (status, json!(body))
    },
);

const AZURE_V3: Errors = (
    ErrorFormat {
        media: "application/json",
        schema: "azure.ErrorResponse",
        name: &["error", "code"],
    },
    |error| {
        let (status, body) = azure::v3_status_and_body(error);
        (status, json!(body))
    },
);

const GOOGLE: Errors = (
    ErrorFormat {
        media: "application/json",
        schema: "google.ErrorResponse",
        name: &["error", "status"],
    },
    |error| {
        let (status, body) = google::status_and_body(error);
        (status, json!(body))
    },
);

/// The native form.
const NATIVE_ERRORS: Errors = (NATIVE, |error| {
    let (status, code) = error.status_and_code();
    (status, json!(ErrorBody::new(code, error.to_string())))
});

fn documented_error(error: &CompatError, (_, status_and_body): &Errors) -> DocumentedError {
    let (status, body) = status_and_body(error);
    match error {
        CompatError::Api(error) => DocumentedError::new(error, status, body),
        CompatError::Format(_) => DocumentedError {
            status,
            code: error.status_and_code().1,
            body,
            has_retry_after: false,
            has_challenge: false,
        },
    }
}

/// How other services' clients can send a key, in addition to the native ways.
const VENDOR_KEYS: [(&str, &str, &str); 3] = [
    ("azure_key", "header", "ocp-apim-subscription-key"),
    ("google_key", "header", "x-goog-api-key"),
    ("query_key", "query", "key"),
];

/// All routes.
const ROUTES: [Route; 14] = [
    Route::Root,
    Route::Models,
    Route::Comprehend,
    Route::Predict,
    Route::TeiHealth,
    Route::TeiInfo,
    Route::Azure,
    Route::AzureV3,
    Route::Google,
    Route::GoogleV1,
    Route::Ping,
    Route::Invocations,
    Route::VertexHealth,
    Route::VertexPredict,
];

/// Completes the operations of all routes.
pub(in crate::http) fn add_formats(document: &mut Value) {
    add_to_schemas(&mut document["components"]["schemas"]);
    let derived = document["paths"].clone();
    for route in ROUTES {
        let path = documented(route.template());
        document["paths"][path][route.method()] = operation(route, &derived);
    }
    let schemes = &mut document["components"]["securitySchemes"];
    for (name, location, key) in VENDOR_KEYS {
        schemes[name] = json!({ "type": "apiKey", "in": location, "name": key });
    }
    schemes["sigv4"] = json!({
        "type": "apiKey", "in": "header", "name": "Authorization",
        "description": "AWS Signature Version 4", "x-amazon-apigateway-authtype": "awsSigv4",
    });
    // For `POST /` where only Comprehend's format is enabled.
    let mut unknown_route = json!({});
    let error = DocumentedError::native(&ApiError::UnknownRoute);
    add_errors(&mut unknown_route, [error], &NATIVE);
    document["x-unknown-route"] = unknown_route["responses"]["404"].take();
}

/// The operation of a route. `derived` has the operations of all handlers; native ones are complete.
fn operation(route: Route, derived: &Value) -> Value {
    let own = |route: Route| {
        let mut operation = derived[&documented(route.template())][route.method()].clone();
        match route {
            Route::GoogleV1 => {
                let document = json!({ "$ref": "#/components/schemas/google.V1Request" });
                operation["requestBody"]["content"]["application/json"]["schema"] = document;
            }
            Route::Comprehend => add_comprehend_operations(&mut operation),
            Route::VertexPredict => {
                let instances = json!({ "$ref": "#/components/schemas/vertex.Request" });
                operation["requestBody"]["content"]["application/json"]["schema"] = instances;
            }
            _ => {}
        }
        operation
    };
    let health = |other: Route| {
        let (mut health, other) = (derived["/readyz"]["get"].clone(), own(other));
        let id = other["operationId"].as_str().unwrap_or_default();
        health["operationId"] = json!(format!("{id}_health"));
        health["tags"] = other["tags"].clone();
        health
    };
    let mut operation = match route {
        Route::Ping => return health(Route::Invocations),
        Route::VertexHealth => return health(Route::VertexPredict),
        Route::Invocations | Route::VertexPredict => {
            either(own(route), &derived["/v1/sentiment"]["post"])
        }
        Route::Root => root(own(Route::Models), own(Route::Comprehend)),
        _ => own(route),
    };
    for (errors, format) in errors(route) {
        let documented = errors.iter().map(|error| documented_error(error, format));
        add_errors(&mut operation, documented, &format.0);
    }
    if route.is_health() {
        return operation;
    }
    if route != Route::TeiInfo {
        let timing = json!({ "$ref": "#/components/headers/ServerTiming" });
        operation["responses"]["200"]["headers"]["server-timing"] = timing;
    }
    let keys = ["bearer", "api_key"].into_iter();
    let keys = keys.chain(VENDOR_KEYS.map(|(name, _, _)| name));
    let is_signed = matches!(route, Route::Root | Route::Comprehend);
    let keys = keys.chain(is_signed.then_some("sigv4"));
    operation["security"] = keys.map(|name| json!({ name: [] })).collect();
    operation
}

/// An operation that accepts the requests of both operations.
fn either(mut one: Value, other: &Value) -> Value {
    add_content(&mut one["requestBody"], &other["requestBody"]);
    for (status, response) in other["responses"].as_object().into_iter().flatten() {
        match &mut one["responses"][status] {
            missing @ Value::Null => *missing = response.clone(),
            own => add_content(own, response),
        }
    }
    one
}

/// Adds the content types and headers of another body.
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

/// `POST /`, which the clients of Hugging Face and Comprehend share.
fn root(models: Value, mut comprehend: Value) -> Value {
    comprehend["parameters"][0]["required"] = json!(false);
    let mut both = either(models, &comprehend);
    both["summary"] = json!("Classify one text or many");
    both["description"] = json!(
        "With the header `x-amz-target` this is the same as `POST /comprehend`, without it the same as `POST /models/{id}`."
    );
    both["operationId"] = json!("root");
    both["responses"]["200"]["description"] = json!("The response in the client's format");
    both["parameters"] = comprehend["parameters"].take();
    both["tags"] = json!([both["tags"][0], comprehend["tags"][0]]);
    both
}

/// Comprehend has several operations on one path, told apart by a header.
fn add_comprehend_operations(operation: &mut Value) {
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
        (
            "/responses/200",
            &["DetectedSentiment", "DominantLanguage", "BatchResponse"],
        ),
    ] {
        let part = operation.pointer_mut(part).expect("a test reads it");
        part["content"][comprehend::JSON_1_1]["schema"] = either(names);
    }
}

/// Adds to schemas what cannot be derived from types.
fn add_to_schemas(schemas: &mut Value) {
    let post = json!({ "$ref": "#/components/schemas/Post" });
    let list = |items: Value| {
        json!({
            "description": "At most {max_posts}",
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
        "description": "The body of a request.",
        "type": "object",
        "properties": { "instances": list(inputs::schema(&json!({ "type": ["string", "null"] }))) },
        "required": ["instances"],
    });
    let mut own_limit = post.clone();
    own_limit["description"] = json!("A text, of at most {max_comprehend_bytes} bytes.");
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
    // Texts in Cloud Storage are not supported.
    document["gcsContentUri"] = json!({ "type": "null" });
    let (types, encodings) = google::accepted_values();
    document["type"]["enum"] = types;
    schemas["google.Request"]["properties"]["encodingType"]["enum"] = encodings;
    let mut document = schemas["google.Document"].clone();
    let fields = document["properties"].as_object_mut();
    let fields = fields.expect("a test reads it");
    let language = fields.remove("languageCode").expect("v2 has it");
    fields.insert("language".to_owned(), language);
    schemas["google.V1Document"] = document;
    let mut request = schemas["google.Request"].clone();
    request["properties"]["document"] = json!({ "$ref": "#/components/schemas/google.V1Document" });
    schemas["google.V1Request"] = request;
}

/// The errors of a route in each of its formats, except for the native format.
fn errors(route: Route) -> Vec<(Vec<CompatError>, &'static Errors)> {
    let max = MAX_POSTS;
    let item = |error: PostRejection| FormatError::Item { index: 1, error };
    let batch = |expected: &'static str| {
        vec![
            FormatError::Request(expected),
            FormatError::BatchTooLarge { max },
            item(PostError::Empty.into()),
            item(too_long()),
            item(OTHER_LANGUAGE),
        ]
    };
    let (mut own, format) = match route {
        Route::Ping | Route::VertexHealth => return Vec::new(),
        Route::Root => {
            let routes = [Route::Models, Route::Comprehend].into_iter();
            return routes.flat_map(errors).collect();
        }
        Route::Models => (batch(huggingface::EXPECTED_BODY), &HUGGING_FACE),
        Route::Comprehend => (comprehend_errors(), &COMPREHEND),
        Route::Predict => {
            let mut own = batch(tei::EXPECTED_BODY);
            own.push(FormatError::EmptyBatch);
            let error = PostError::TooManyTokens {
                max_tokens: MAX_TOKENS,
            };
            own.push(item(error.into()));
            (own, &TEI)
        }
        Route::TeiHealth => return vec![(vec![ApiError::ShuttingDown.into()], &TEI)],
        Route::TeiInfo => return vec![(vec![ApiError::Unauthorized.into()], &TEI)],
        Route::Azure => (azure_errors(azure::EXPECTED_BODY), &AZURE),
        Route::AzureV3 => (azure_errors(azure::EXPECTED_V3_BODY), &AZURE_V3),
        Route::Google => (google_errors(google::EXPECTED_BODY), &GOOGLE),
        Route::GoogleV1 => (google_errors(google::EXPECTED_V1_BODY), &GOOGLE),
        Route::Invocations => (batch(sagemaker::EXPECTED_BODY), &NATIVE_ERRORS),
        Route::VertexPredict => {
            let own = vec![
                FormatError::Request(vertex::EXPECTED_BODY),
                FormatError::BatchTooLarge { max },
            ];
            (own, &NATIVE_ERRORS)
        }
    };
    let is_google = [Route::Google, Route::GoogleV1].contains(&route);
    let is_azure = [Route::Azure, Route::AzureV3].contains(&route);
    if is_google || is_azure || route == Route::Comprehend {
        own.push(FormatError::NoPolarity);
    }
    let mut errors: Vec<CompatError> = own.into_iter().map(CompatError::from).collect();
    if is_google {
        errors.push(too_long().into());
        errors.push(OTHER_LANGUAGE.into());
    }
    if ![Route::Invocations, Route::VertexPredict].contains(&route) {
        errors.extend(body_errors().into_iter().map(CompatError::from));
        if route != Route::Comprehend {
            errors.push(ApiError::Unauthorized.into());
        }
    }
    vec![(errors, format)]
}

fn azure_errors(expected: &'static str) -> Vec<FormatError> {
    vec![
        FormatError::Request(expected),
        FormatError::EmptyBatch,
        FormatError::BatchTooLarge {
            max: azure::MAX_DOCUMENTS,
        },
    ]
}

fn google_errors(expected: &'static str) -> Vec<FormatError> {
    vec![
        FormatError::Request(expected),
        FormatError::UnsupportedLanguage,
        FormatError::EmptyText,
    ]
}

fn comprehend_errors() -> Vec<FormatError> {
    let max_bytes = comprehend::MAX_TEXT_BYTES;
    vec![
        FormatError::Request(comprehend::EXPECTED_BODY),
        FormatError::UnknownOperation,
        FormatError::UnsupportedLanguage,
        FormatError::TextTooLong {
            bytes: max_bytes + 1,
            max_bytes,
        },
        FormatError::BatchTooLarge {
            max: comprehend::MAX_TEXTS,
        },
        FormatError::EmptyBatch,
        FormatError::EmptyText,
        comprehend::EMPTY_TEXT,
        SignatureError::Incomplete.into(),
        SignatureError::UnknownKey.into(),
        SignatureError::Mismatch.into(),
        SignatureError::Missing.into(),
    ]
}

/// The codes of errors in the native form.
pub(in crate::http) fn native_codes() -> impl Iterator<Item = &'static str> {
    let routes = [Route::Invocations, Route::VertexPredict].into_iter();
    let errors = routes.flat_map(errors).flat_map(|(errors, _)| errors);
    errors.map(|error| error.status_and_code().1)
}

#[derive(utoipa::OpenApi)]
#[openapi(
    paths(
        huggingface::classify,
        comprehend::handle,
        tei::predict,
        tei::health,
        tei::info,
        azure::analyze,
        azure::sentiment,
        google::analyze,
        google::analyze_v1,
        sagemaker::invocations,
        vertex::predict
    ),
    components(schemas(
        comprehend::BatchResponse,
        comprehend::BatchDetect,
        comprehend::BatchDetectLanguage,
        comprehend::Detect,
        comprehend::DetectLanguage,
        comprehend::DetectedSentiment,
        comprehend::DominantLanguage,
        comprehend::ErrorResponse,
        azure::ErrorResponse,
        google::ErrorResponse,
        huggingface::ErrorResponse,
        tei::ErrorResponse
    ))
)]
pub(in crate::http) struct Operations;
