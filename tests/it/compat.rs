//! Other services' formats: their answers, their errors, and that a post's scores are the
//! native ones. That the vendors' own clients take them shows in `tests/clients`.

use crate::support::{Reply, get, limits, post, request, send, service, stalled};
use axum::Router;
use axum::body::Body;
use axum::http::request::Parts;
use axum::http::{Method, Request};
use coldread::batcher::Batcher;
use coldread::config::{Compat, CompatArgs};
use coldread::http::{AppOptions, AppState, app};
use coldread_engine::Model;
use insta::assert_snapshot;
use serde_json::{Value, json};
use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::Arc;

pub(crate) const DETECT: &str = "Comprehend_20171127.DetectSentiment";
const BATCH_DETECT: &str = "Comprehend_20171127.BatchDetectSentiment";
const LANGUAGE: &str = "Comprehend_20171127.DetectDominantLanguage";
const BATCH_LANGUAGE: &str = "Comprehend_20171127.BatchDetectDominantLanguage";
const AZURE: &str = "/language/:analyze-text";
const AZURE_V31: &str = "/text/analytics/v3.1/sentiment";
const AZURE_V30: &str = "/text/analytics/v3.0/sentiment";
const GOOGLE: &str = "/v2/documents:analyzeSentiment";
const GOOGLE_V1: &str = "/v1/documents:analyzeSentiment";

/// Any format's request with a JSON body.
fn ask(path: &str, body: impl Into<Body>) -> Request<Body> {
    let headers = [("content-type", "application/json")];
    request(Method::POST, path, &headers, body)
}

fn aws(path: &str, target: &str, body: impl Into<Body>) -> Request<Body> {
    let headers = [
        ("content-type", "application/x-amz-json-1.1"),
        ("x-amz-target", target),
    ];
    request(Method::POST, path, &headers, body)
}

fn comprehend(target: &str, body: impl Into<Body>) -> Request<Body> {
    aws("/", target, body)
}

fn azure(documents: &Value) -> String {
    let input = json!({ "documents": documents });
    json!({"kind": "SentimentAnalysis", "analysisInput": input}).to_string()
}

fn google(content: &str) -> String {
    let document = json!({"type": "PLAIN_TEXT", "content": content});
    json!({"document": document, "encodingType": "UTF8"}).to_string()
}

/// Status, telling headers, and the body with scores left out: they change with every
/// training.
fn render(reply: &Reply) -> String {
    let mut rendered = reply.status.as_u16().to_string();
    for name in ["content-type", "retry-after"] {
        if let Some(value) = reply.headers.get(name) {
            rendered += &format!("\n{name}: {}", value.to_str().expect("ASCII"));
        }
    }
    let mut body = reply.json();
    hide_scores(&mut body);
    format!("{rendered}\n{body}")
}

fn hide_scores(value: &mut Value) {
    match value {
        // Probabilities, and not the 0 and the 1.0 that stand for something else.
        Value::Number(number)
            if number.is_f64() && !["0.0", "1.0"].contains(&number.to_string().as_str()) =>
        {
            *value = "#".into();
        }
        Value::Array(items) => items.iter_mut().for_each(hide_scores),
        Value::Object(fields) => fields.values_mut().for_each(hide_scores),
        _ => {}
    }
}

async fn answer(request: Request<Body>) -> String {
    render(&send(service(), request).await)
}

pub(crate) fn with_options(change: impl FnOnce(&mut AppOptions)) -> Router {
    app(state_with(change))
}

pub(crate) fn state_with(change: impl FnOnce(&mut AppOptions)) -> AppState {
    let limits = limits(&[]);
    let batcher = crate::support::batcher(&limits);
    let mut options = AppOptions::from(limits);
    change(&mut options);
    AppState::new(batcher, options)
}

pub(crate) fn compat(list: &str, prefix: &str, env: &[(&str, &str)]) -> Compat {
    let args = CompatArgs {
        compat: list.to_owned(),
        compat_prefix: prefix.to_owned(),
    };
    let env = |name: &str| {
        let found = env.iter().find(|(known, _)| *known == name);
        found.map(|(_, value)| (*value).to_owned())
    };
    args.resolve(env).expect("well-formed")
}

#[tokio::test]
async fn every_format_gives_the_native_scores() {
    let app = with_options(|options| {
        options.compat = compat("", "", &[("AIP_PREDICT_ROUTE", "/vertex")]);
    });
    // As JSON, digit for digit.
    let scores = |value: &Value, names: [&str; 3]| names.map(|name| value[name].clone());
    let by_label = |list: &Value| {
        ["negative", "neutral", "positive"].map(|label| {
            let mut list = list.as_array().expect("a list").iter();
            let found = list.find(|it| it["label"] == label);
            found.expect(label)["score"].clone()
        })
    };
    let lower = ["negative", "neutral", "positive"];
    for text in [
        "I love this phone 😍",
        "battery died after two days. never again 👎🏽",
        "the new model is out on friday",
        "Größer als gedacht… naïve café \"quoted\" \\ \u{202e}",
    ] {
        let post = json!({ "text": text }).to_string();
        let ask = async |request: Request<Body>| {
            let reply = send(app.clone(), request).await;
            assert_eq!(reply.status, 200, "{}", reply.text);
            reply.json()
        };
        let native = ask(self::post(post)).await;
        let label = native["label"].as_str().expect("a label").to_owned();
        let native = scores(&native["scores"], lower);
        let inputs = json!({ "inputs": text }).to_string();

        let hf = ask(self::ask("/", inputs.clone())).await;
        assert_eq!(by_label(&hf[0]), native, "Hugging Face");
        let softmax = json!({"inputs": text, "parameters": {"function_to_apply": "softmax"}});
        let softmax = ask(self::ask("/models/a/b", softmax.to_string())).await;
        assert_eq!(softmax[0][0]["label"], label.as_str());
        let tei = ask(self::ask("/predict", inputs.clone())).await;
        assert_eq!(by_label(&tei), native, "TEI");
        let all = json!({"inputs": text, "parameters": {"top_k": null}}).to_string();
        let sagemaker = ask(self::ask("/invocations", all)).await;
        assert_eq!(by_label(&sagemaker), native, "SageMaker");
        let vertex = json!({ "instances": [text] }).to_string();
        let vertex = ask(self::ask("/vertex", vertex)).await;
        assert_eq!(
            scores(&vertex["predictions"][0]["scores"], lower),
            native,
            "Vertex"
        );

        let one = json!({"Text": text, "LanguageCode": "en"}).to_string();
        let aws = ask(comprehend(DETECT, one)).await;
        let names = ["Negative", "Neutral", "Positive"];
        assert_eq!(scores(&aws["SentimentScore"], names), native, "Comprehend");
        assert_eq!(aws["Sentiment"], label.to_uppercase());
        let document = json!([{"id": "x", "text": text}]);
        let azure = ask(self::ask(AZURE, azure(&document))).await;
        let document = &azure["results"]["documents"][0];
        assert_eq!(
            scores(&document["confidenceScores"], lower),
            native,
            "Azure"
        );
        assert_eq!(document["sentiment"], label);
        for path in [AZURE_V31, AZURE_V30] {
            let documents = json!({"documents": [{"id": "x", "text": text}]});
            let azure = ask(self::ask(path, documents.to_string())).await;
            let found = scores(&azure["documents"][0]["confidenceScores"], lower);
            assert_eq!(found, native, "{path}");
        }
        let [negative, _, positive] = native.map(|score| score.as_f64().expect("a number"));
        for path in [GOOGLE, GOOGLE_V1] {
            let google = ask(self::ask(path, google(text))).await;
            let score = google["documentSentiment"]["score"].as_f64();
            let score = score.expect("a number");
            let difference = (score - (positive - negative)).abs();
            assert!(difference < 1e-6, "{path}: {score}");
        }
    }
}

#[tokio::test]
async fn hugging_face() {
    let one = answer(ask("/", r#"{"inputs":"so good","parameters":{}}"#)).await;
    assert_snapshot!(one, @r##"
    200
    content-type: application/json
    [[{"label":"positive","score":"#"},{"label":"negative","score":"#"},{"label":"neutral","score":"#"}]]
    "##);
    let two = r#"{"inputs":["so good","so bad"],"parameters":{"top_k":1}}"#;
    assert_snapshot!(answer(ask("/models/org/name", two)).await, @r##"
    200
    content-type: application/json
    [[{"label":"positive","score":"#"}],[{"label":"negative","score":"#"}]]
    "##);
    let none = r#"{"inputs":"so good","parameters":{"function_to_apply":"none","top_k":9}}"#;
    let reply = send(service(), ask("/models/name", none)).await.json();
    let logits = reply[0].as_array().expect("a list").iter();
    let logits: Vec<f64> = logits.filter_map(|it| it["score"].as_f64()).collect();
    assert!(
        logits.is_sorted_by(|a, b| a >= b) && logits[2] < 0.0,
        "{logits:?}"
    );
    assert_snapshot!(answer(ask("/", r#"{"inputs":[]}"#)).await, @r"
    200
    content-type: application/json
    []
    ");

    assert_snapshot!(answer(ask("/", r#"{"inputs":["so good",""]}"#)).await, @r#"
    422
    content-type: application/json
    {"error":"item 1: the text is empty; send at least one visible character"}
    "#);
    assert_snapshot!(answer(ask("/", r#"{"inputs":{"a":1}}"#)).await, @r#"
    400
    content-type: application/json
    {"error":"the body must be {\"inputs\": \"...\"} or {\"inputs\": [\"...\"]}, with optional `parameters`: `top_k`, a whole number of at least 1, and `function_to_apply`, \"sigmoid\", \"softmax\" or \"none\""}
    "#);
    assert_snapshot!(answer(ask("/", r#"{"inputs":"#)).await, @r#"
    400
    content-type: application/json
    {"error":"the body is not valid JSON: EOF while parsing a value at line 1 column 10"}
    "#);
    let many = json!({ "inputs": vec!["a"; 1001] }).to_string();
    assert_snapshot!(answer(ask("/", many)).await, @r#"
    413
    content-type: application/json
    {"error":"the batch has more than 1000 items; split the request"}
    "#);
    for parameters in [
        r#"{"function_to_apply":"tanh"}"#,
        r#"[1,"softmax"]"#,
        r#"{"top_k":0}"#,
        r#"{"top_k":1.5}"#,
    ] {
        let asked = format!(r#"{{"inputs":"a","parameters":{parameters}}}"#);
        let reply = answer(ask("/", asked)).await;
        assert!(reply.starts_with("400"), "{parameters}: {reply}");
    }
}

#[tokio::test]
async fn comprehend_detects() {
    let one = json!({"Text": "so good", "LanguageCode": "en"}).to_string();
    let reply = send(service(), comprehend(DETECT, one.clone())).await;
    assert_snapshot!(render(&reply), @r##"
    200
    content-type: application/x-amz-json-1.1
    {"Sentiment":"POSITIVE","SentimentScore":{"Positive":"#","Negative":"#","Neutral":"#","Mixed":0.0}}
    "##);
    assert_eq!(
        reply.headers["x-amzn-requestid"],
        reply.headers["x-request-id"]
    );
    for path in ["/comprehend", "/comprehend/"] {
        let reply = send(service(), aws(path, DETECT, one.clone())).await;
        assert_eq!(reply.status, 200, "{path}");
    }
    let texts = json!(["so good", "", "a".repeat(5001), "so bad"]);
    let batch = json!({"TextList": texts, "LanguageCode": "en"}).to_string();
    assert_snapshot!(answer(comprehend(BATCH_DETECT, batch)).await, @r##"
    200
    content-type: application/x-amz-json-1.1
    {"ResultList":[{"Index":0,"Sentiment":"POSITIVE","SentimentScore":{"Positive":"#","Negative":"#","Neutral":"#","Mixed":0.0}},{"Index":3,"Sentiment":"NEGATIVE","SentimentScore":{"Positive":"#","Negative":"#","Neutral":"#","Mixed":0.0}}],"ErrorList":[{"Index":1,"ErrorCode":"InvalidRequestException","ErrorMessage":"the text is empty; send at least one visible character"},{"Index":2,"ErrorCode":"TextSizeLimitExceededException","ErrorMessage":"Input text size exceeds limit. Max length of request text allowed is 5000 bytes while in this request the text size is 5001 bytes"}]}
    "##);
}

#[tokio::test]
async fn comprehend_detects_languages() {
    let detect = async |body: Value| answer(comprehend(LANGUAGE, body.to_string())).await;
    assert_snapshot!(detect(json!({"Text": "@you ich hasse das, nie wieder"})).await, @r##"
    200
    content-type: application/x-amz-json-1.1
    {"Languages":[{"LanguageCode":"de","Score":"#"}]}
    "##);
    // Clients take the first language without looking whether there is one.
    assert_snapshot!(detect(json!({"Text": "😡 https://example.com"})).await, @r##"
    200
    content-type: application/x-amz-json-1.1
    {"Languages":[{"LanguageCode":"und","Score":0.0}]}
    "##);
    assert_snapshot!(detect(json!({"Text": ""})).await, @r#"
    400
    content-type: application/x-amz-json-1.1
    {"__type":"ValidationException","Message":"1 validation error detected: Value '' at 'text' failed to satisfy constraint: Member must have length greater than or equal to 1"}
    "#);
    assert_snapshot!(detect(json!({"Text": "a".repeat(5001)})).await, @r#"
    400
    content-type: application/x-amz-json-1.1
    {"__type":"TextSizeLimitExceededException","Message":"Input text size exceeds limit. Max length of request text allowed is 5000 bytes while in this request the text size is 5001 bytes"}
    "#);
    assert_snapshot!(detect(json!({"TextList": ["a"]})).await, @r#"
    400
    content-type: application/x-amz-json-1.1
    {"__type":"ValidationException","Message":"1 validation error detected: Value null at 'text' failed to satisfy constraint: Member must not be null"}
    "#);
    let batch = json!({"TextList": ["this is so good", "", "esto es muy bueno"]}).to_string();
    assert_snapshot!(answer(comprehend(BATCH_LANGUAGE, batch)).await, @r##"
    200
    content-type: application/x-amz-json-1.1
    {"ResultList":[{"Index":0,"Languages":[{"LanguageCode":"en","Score":"#"}]},{"Index":2,"Languages":[{"LanguageCode":"es","Score":"#"}]}],"ErrorList":[{"Index":1,"ErrorCode":"InvalidRequestException","ErrorMessage":"the text is empty; send at least one visible character"}]}
    "##);
    for (body, error) in [
        (
            json!({"TextList": vec!["a"; 26]}),
            "BatchSizeLimitExceededException",
        ),
        (json!({"TextList": []}), "ValidationException"),
    ] {
        let reply = send(service(), comprehend(BATCH_LANGUAGE, body.to_string())).await;
        assert_eq!(
            (reply.status.as_u16(), &reply.json()["__type"]),
            (400, &json!(error))
        );
    }
    // No model is asked, so that any model will do.
    let text = json!({"Text": "this is so good"}).to_string();
    let reply = send(other_model("electra-one-label"), comprehend(LANGUAGE, text)).await;
    assert_eq!(reply.json()["Languages"][0]["LanguageCode"], "en");
}

#[tokio::test]
async fn comprehend_refuses() {
    let detect = async |body: Value| answer(comprehend(DETECT, body.to_string())).await;
    let long = json!({"Text": "é".repeat(2501), "LanguageCode": "en"});
    assert_snapshot!(detect(long).await, @r#"
    400
    content-type: application/x-amz-json-1.1
    {"__type":"TextSizeLimitExceededException","Message":"Input text size exceeds limit. Max length of request text allowed is 5000 bytes while in this request the text size is 5002 bytes"}
    "#);
    let language = json!({"Text": "so good", "LanguageCode": "xx"});
    assert_snapshot!(detect(language).await, @r#"
    400
    content-type: application/x-amz-json-1.1
    {"__type":"UnsupportedLanguageException","Message":"this language code is not supported; send a code such as `en`"}
    "#);
    assert_snapshot!(detect(json!({"Text": "so good"})).await, @r#"
    400
    content-type: application/x-amz-json-1.1
    {"__type":"ValidationException","Message":"1 validation error detected: Value null at 'languageCode' failed to satisfy constraint: Member must not be null"}
    "#);
    assert_snapshot!(detect(json!({"Text": "", "LanguageCode": "en"})).await, @r#"
    400
    content-type: application/x-amz-json-1.1
    {"__type":"ValidationException","Message":"1 validation error detected: Value '' at 'text' failed to satisfy constraint: Member must have length greater than or equal to 1"}
    "#);
    assert_snapshot!(detect(json!({"Text": " ", "LanguageCode": "en"})).await, @r#"
    400
    content-type: application/x-amz-json-1.1
    {"__type":"InvalidRequestException","Message":"the text is empty; send at least one visible character"}
    "#);
    let many = json!({"TextList": vec!["a"; 26], "LanguageCode": "en"}).to_string();
    assert_snapshot!(answer(comprehend(BATCH_DETECT, many)).await, @r#"
    400
    content-type: application/x-amz-json-1.1
    {"__type":"BatchSizeLimitExceededException","Message":"the batch has more than 25 items; split the request"}
    "#);
    let none = json!({"TextList": [], "LanguageCode": "en"}).to_string();
    assert_snapshot!(answer(comprehend(BATCH_DETECT, none)).await, @r#"
    400
    content-type: application/x-amz-json-1.1
    {"__type":"ValidationException","Message":"the batch is empty; send at least one item"}
    "#);
    let entities = comprehend("Comprehend_20171127.DetectEntities", "{}");
    assert_snapshot!(answer(entities).await, @r#"
    400
    content-type: application/x-amz-json-1.1
    {"__type":"UnknownOperationException","Message":"this operation is not supported; use DetectSentiment, DetectDominantLanguage or their batch forms"}
    "#);
}

#[tokio::test]
async fn text_embeddings_inference() {
    assert_snapshot!(answer(ask("/predict", r#"{"inputs":"so good"}"#)).await, @r##"
    200
    content-type: application/json
    [{"label":"positive","score":"#"},{"label":"negative","score":"#"},{"label":"neutral","score":"#"}]
    "##);
    let single = answer(ask("/predict", r#"{"inputs":["so good"],"truncate":true}"#)).await;
    assert_eq!(
        single,
        answer(ask("/predict", r#"{"inputs":"so good"}"#)).await
    );
    let batch = r#"{"inputs":[["so good"],["so bad"]],"raw_scores":false}"#;
    assert_snapshot!(answer(ask("/predict", batch)).await, @r##"
    200
    content-type: application/json
    [[{"label":"positive","score":"#"},{"label":"negative","score":"#"},{"label":"neutral","score":"#"}],[{"label":"negative","score":"#"},{"label":"neutral","score":"#"},{"label":"positive","score":"#"}]]
    "##);
    let raw = r#"{"inputs":"so good","raw_scores":true}"#;
    let reply = send(service(), ask("/predict", raw)).await.json();
    assert!(reply[2]["score"].as_f64().is_some_and(|logit| logit < 0.0));

    assert_snapshot!(answer(ask("/predict", r#"{"inputs":["a","b"]}"#)).await, @r#"
    422
    content-type: application/json
    {"error":"text pairs are not supported; send a batch as {\"inputs\": [[\"...\"], [\"...\"]]}","error_type":"Validation"}
    "#);
    assert_snapshot!(answer(ask("/predict", r#"{"inputs":[]}"#)).await, @r#"
    400
    content-type: application/json
    {"error":"the batch is empty; send at least one item","error_type":"Empty"}
    "#);
    assert_snapshot!(answer(ask("/predict", r#"{"inputs":[["so good"],[""]]}"#)).await, @r#"
    422
    content-type: application/json
    {"error":"item 1: the text is empty; send at least one visible character","error_type":"Validation"}
    "#);
    assert_snapshot!(answer(ask("/predict", r#"{"inputs":7}"#)).await, @r#"
    422
    content-type: application/json
    {"error":"the body must be {\"inputs\": \"...\"} or {\"inputs\": [[\"...\"], [\"...\"]]}, with optional booleans `truncate` and `raw_scores` and `truncation_direction` \"Left\" or \"Right\"","error_type":"Validation"}
    "#);
    let long = "so good ".repeat(600);
    for (asked, status) in [
        (json!({ "inputs": long }), 200),
        (json!({"inputs": long, "truncate": true}), 200),
        (json!({"inputs": long, "truncate": false}), 413),
        (json!({"inputs": long, "truncation_direction": "Left"}), 413),
        (
            json!({"inputs": "so good", "truncation_direction": "Left"}),
            200,
        ),
    ] {
        let reply = send(service(), ask("/predict", asked.to_string())).await;
        assert_eq!(reply.status, status, "{}", reply.text);
    }
}

#[tokio::test]
async fn text_embeddings_inference_tells_its_state() {
    let state = state_with(|options| {
        options.access = crate::access::access(&["--api-keys", KEY]);
    });
    let app = app(state.clone());
    let health = send(app.clone(), get("/health")).await;
    assert_eq!((health.status.as_u16(), health.text.as_str()), (200, ""));
    assert_eq!(send(app.clone(), get("/info")).await.status, 401);
    let bearer = format!("Bearer {KEY}");
    let info = with_header(get("/info"), "authorization", &bearer);
    let mut info = send(app.clone(), info).await.json();
    assert_eq!(info["version"], env!("CARGO_PKG_VERSION"));
    info["version"] = json!("");
    info["tokenization_workers"] = json!("");
    assert_snapshot!(info.to_string(), @r#"{"model_id":"default","model_sha":null,"model_dtype":"int8","model_type":{"classifier":{"id2label":{"0":"negative","1":"neutral","2":"positive"},"label2id":{"negative":0,"neutral":1,"positive":2}}},"max_concurrent_requests":4096,"max_input_length":512,"max_batch_tokens":256,"max_batch_requests":null,"max_client_batch_size":1000,"auto_truncate":true,"tokenization_workers":"","version":"","sha":null,"docker_label":null}"#);
    state.start_draining();
    let health = send(app, get("/health")).await;
    assert_snapshot!(render(&health), @r#"
    503
    content-type: application/json
    retry-after: 1
    {"error":"the server is shutting down; try again, and another instance will respond","error_type":"Unhealthy"}
    "#);
}

#[tokio::test]
async fn azure_text_analytics() {
    let documents = json!({"documents": [
        {"id": "a", "text": "so good 😍", "language": "en"},
        {"id": "b", "text": ""},
    ]});
    let options = "?model-version=latest&showStats=true&opinionMining=true";
    for path in [AZURE_V31, AZURE_V30] {
        let query = format!("{path}{options}&stringIndexType=Utf16CodeUnit");
        let reply = send(service(), ask(&query, documents.to_string())).await;
        assert_eq!(
            reply.headers["apim-request-id"],
            reply.headers["x-request-id"]
        );
        let expected = json!({
            "statistics": {
                "documentsCount": 2, "validDocumentsCount": 1,
                "erroneousDocumentsCount": 1, "transactionsCount": 1,
            },
            "documents": [{
                "id": "a", "sentiment": "positive",
                "statistics": {"charactersCount": 9, "transactionsCount": 1},
                "confidenceScores": {"positive": "#", "neutral": "#", "negative": "#"},
                "sentences": [{
                    "sentiment": "positive",
                    "confidenceScores": {"positive": "#", "neutral": "#", "negative": "#"},
                    "offset": 0, "length": 10, "text": "so good 😍",
                    "targets": [], "assessments": [],
                }],
                "warnings": [],
            }],
            "errors": [{
                "id": "b",
                "error": {
                    "code": "InvalidArgument", "message": "Invalid document in request.",
                    "innererror": {
                        "code": "InvalidDocument", "message": "Document text is empty.",
                    },
                },
            }],
            "modelVersion": "default",
        });
        let mut body = reply.json();
        hide_scores(&mut body);
        assert_eq!(body, expected, "{path}");
        let plain = send(service(), ask(path, documents.to_string())).await;
        let plain = plain.json();
        assert_eq!(plain["statistics"], Value::Null);
        let sentence = &plain["documents"][0]["sentences"][0];
        assert_eq!(
            (&sentence["length"], &sentence["targets"]),
            (&json!(9), &Value::Null)
        );
    }
    assert_snapshot!(answer(ask(AZURE_V31, r#"{"documents":[]}"#)).await, @r#"
    400
    content-type: application/json
    {"error":{"code":"InvalidRequest","message":"Invalid request.","innererror":{"code":"MissingInputRecords","message":"the batch is empty; send at least one item"}}}
    "#);
    assert_snapshot!(answer(ask(AZURE_V31, azure(&documents["documents"]))).await, @r#"
    400
    content-type: application/json
    {"error":{"code":"InvalidRequest","message":"Invalid request.","innererror":{"code":"InvalidRequestBodyFormat","message":"the body must be {\"documents\": [{\"id\": \"0\", \"text\": \"...\", \"language\": \"en\"}]}"}}}
    "#);
}

#[tokio::test]
async fn azure_ai_language() {
    let documents = json!([
        {"id": "a", "text": "so good 😍", "language": "en"},
        {"id": "b", "text": ""},
        {"id": "c", "text": "é".repeat(5121)},
        {"id": "d", "text": "so good", "language": "klingon!"},
    ]);
    let reply = send(service(), ask(AZURE, azure(&documents))).await;
    assert_eq!(
        reply.headers["apim-request-id"],
        reply.headers["x-request-id"]
    );
    assert_snapshot!(render(&reply), @r##"
    200
    content-type: application/json
    {"kind":"SentimentAnalysisResults","results":{"documents":[{"id":"a","sentiment":"positive","confidenceScores":{"positive":"#","neutral":"#","negative":"#"},"sentences":[{"sentiment":"positive","confidenceScores":{"positive":"#","neutral":"#","negative":"#"},"offset":0,"length":9,"text":"so good 😍"}],"warnings":[]}],"errors":[{"id":"b","error":{"code":"InvalidArgument","message":"Invalid document in request.","innererror":{"code":"InvalidDocument","message":"Document text is empty."}}},{"id":"c","error":{"code":"InvalidArgument","message":"Invalid document in request.","innererror":{"code":"InvalidDocument","message":"A document within the request was too large to be processed. Limit document size to: 5120 text elements."}}},{"id":"d","error":{"code":"InvalidArgument","message":"Invalid document in request.","innererror":{"code":"UnsupportedLanguageCode","message":"Invalid language code. Send a code such as en."}}}],"modelVersion":"default"}}
    "##);
    let asked = json!({
        "kind": "SentimentAnalysis",
        "analysisInput": {"documents": [{"id": "0", "text": "so good 😍"}]},
        "parameters": {"opinionMining": true, "stringIndexType": "Utf16CodeUnit"},
    });
    let path = format!("{AZURE}?api-version=2023-04-01&showStats=true");
    assert_snapshot!(answer(ask(&path, asked.to_string())).await, @r##"
    200
    content-type: application/json
    {"kind":"SentimentAnalysisResults","results":{"statistics":{"documentsCount":1,"validDocumentsCount":1,"erroneousDocumentsCount":0,"transactionsCount":1},"documents":[{"id":"0","sentiment":"positive","statistics":{"charactersCount":9,"transactionsCount":1},"confidenceScores":{"positive":"#","neutral":"#","negative":"#"},"sentences":[{"sentiment":"positive","confidenceScores":{"positive":"#","neutral":"#","negative":"#"},"offset":0,"length":10,"text":"so good 😍","targets":[],"assessments":[]}],"warnings":[]}],"errors":[],"modelVersion":"default"}}
    "##);
}

#[tokio::test]
async fn azure_refuses() {
    let document = |id: usize| json!({"id": id.to_string(), "text": "good"});
    let documents = |n: usize| json!((0..n).map(document).collect::<Vec<_>>());
    assert_eq!(
        send(service(), ask(AZURE, azure(&documents(10))))
            .await
            .status,
        200
    );
    assert_snapshot!(answer(ask(AZURE, azure(&documents(11)))).await, @r#"
    400
    content-type: application/json
    {"error":{"code":"InvalidRequest","message":"Invalid request.","innererror":{"code":"InvalidDocumentBatch","message":"the batch has more than 10 items; split the request"}}}
    "#);
    assert_snapshot!(answer(ask(AZURE, azure(&documents(0)))).await, @r#"
    400
    content-type: application/json
    {"error":{"code":"InvalidRequest","message":"Invalid request.","innererror":{"code":"MissingInputDocuments","message":"the batch is empty; send at least one item"}}}
    "#);
    let same = json!([document(0), document(0)]);
    assert_snapshot!(answer(ask(AZURE, azure(&same))).await, @r#"
    400
    content-type: application/json
    {"error":{"code":"InvalidRequest","message":"Invalid request.","innererror":{"code":"InvalidRequestBodyFormat","message":"two documents have the same id; give each document a unique id"}}}
    "#);
    let kind = azure(&documents(1)).replace("SentimentAnalysis", "KeyPhraseExtraction");
    assert_snapshot!(answer(ask(AZURE, kind)).await, @r#"
    400
    content-type: application/json
    {"error":{"code":"InvalidRequest","message":"Invalid request.","innererror":{"code":"InvalidRequestBodyFormat","message":"`kind` must be SentimentAnalysis; no other kind is supported"}}}
    "#);
    assert_snapshot!(answer(ask(AZURE, "[]")).await, @r#"
    400
    content-type: application/json
    {"error":{"code":"InvalidRequest","message":"Invalid request.","innererror":{"code":"InvalidRequestBodyFormat","message":"the body must be {\"kind\": \"SentimentAnalysis\", \"analysisInput\": {\"documents\": [{\"id\": \"0\", \"text\": \"...\", \"language\": \"en\"}]}}"}}}
    "#);
}

#[tokio::test]
async fn google_natural_language() {
    assert_snapshot!(answer(ask(GOOGLE, google("so good 😍"))).await, @r##"
    200
    content-type: application/json
    {"documentSentiment":{"magnitude":"#","score":"#"},"languageCode":"en","sentences":[{"text":{"content":"so good 😍","beginOffset":0},"sentiment":{"magnitude":"#","score":"#"}}],"languageSupported":true}
    "##);
    // As Google's own client writes it.
    let ints =
        r#"{"document":{"type":1,"content":"so good","languageCode":"de"},"encodingType":0}"#;
    let path = format!("{GOOGLE}?%24alt=json%3Benum-encoding%3Dint");
    assert_snapshot!(answer(ask(&path, ints)).await, @r##"
    200
    content-type: application/json
    {"documentSentiment":{"magnitude":"#","score":"#"},"languageCode":"de","sentences":[{"text":{"content":"so good","beginOffset":-1},"sentiment":{"magnitude":"#","score":"#"}}],"languageSupported":false}
    "##);

    let html = google("good").replace("PLAIN_TEXT", "HTML");
    assert_snapshot!(answer(ask(GOOGLE, html)).await, @r#"
    400
    content-type: application/json
    {"error":{"code":400,"message":"`document.type` must be PLAIN_TEXT","status":"INVALID_ARGUMENT"}}
    "#);
    let uri = r#"{"document":{"type":1,"gcsContentUri":"gs://bucket/post"}}"#;
    assert_snapshot!(answer(ask(GOOGLE, uri)).await, @r#"
    400
    content-type: application/json
    {"error":{"code":400,"message":"gcsContentUri is not supported; send the text as `content`","status":"INVALID_ARGUMENT"}}
    "#);
    assert_snapshot!(answer(ask(GOOGLE, google(" "))).await, @r#"
    400
    content-type: application/json
    {"error":{"code":400,"message":"the text is empty; send at least one visible character","status":"INVALID_ARGUMENT"}}
    "#);
    let long = google(&"a".repeat(65_537));
    assert_snapshot!(answer(ask(GOOGLE, long)).await, @r#"
    400
    content-type: application/json
    {"error":{"code":400,"message":"the text has 65537 bytes; at most 65536 are allowed, so shorten or split it","status":"INVALID_ARGUMENT"}}
    "#);
    for number in ["4", "-1", "1.0", "\"UTF7\"", "[]"] {
        let body = ints_with(number);
        assert!(
            answer(ask(GOOGLE, body)).await.starts_with("400"),
            "{number}"
        );
    }
}

#[tokio::test]
async fn google_natural_language_v1() {
    assert_snapshot!(answer(ask(GOOGLE_V1, google("so good 😍"))).await, @r##"
    200
    content-type: application/json
    {"documentSentiment":{"magnitude":"#","score":"#"},"language":"en","sentences":[{"text":{"content":"so good 😍","beginOffset":0},"sentiment":{"magnitude":"#","score":"#"}}]}
    "##);
    // As Google's own client writes it.
    let ints = r#"{"document":{"type":1,"content":"so good","language":"de"},"encodingType":0}"#;
    let path = format!("{GOOGLE_V1}?%24alt=json%3Benum-encoding%3Dint");
    assert_snapshot!(answer(ask(&path, ints)).await, @r##"
    200
    content-type: application/json
    {"documentSentiment":{"magnitude":"#","score":"#"},"language":"de","sentences":[{"text":{"content":"so good","beginOffset":-1},"sentiment":{"magnitude":"#","score":"#"}}]}
    "##);
    assert_snapshot!(answer(ask(GOOGLE_V1, "{}")).await, @r#"
    400
    content-type: application/json
    {"error":{"code":400,"message":"the body must be {\"document\": {\"type\": \"PLAIN_TEXT\", \"content\": \"...\", \"language\": \"en\"}, \"encodingType\": \"UTF8\"}","status":"INVALID_ARGUMENT"}}
    "#);
    let twice = ints.replace("\"language\"", "\"languageCode\":\"en\",\"language\"");
    assert!(answer(ask(GOOGLE_V1, twice)).await.starts_with("400"));
}

fn ints_with(encoding: &str) -> String {
    format!(r#"{{"document":{{"type":1,"content":"good"}},"encodingType":{encoding}}}"#)
}

#[tokio::test]
async fn sagemaker() {
    let path = "/invocations";
    assert_snapshot!(answer(get("/ping")).await, @r#"
    200
    content-type: application/json
    {"status":"ready"}
    "#);
    assert_snapshot!(answer(ask(path, r#"{"inputs":"so good"}"#)).await, @r##"
    200
    content-type: application/json
    [{"label":"positive","score":"#"}]
    "##);
    let two = |parameters: &str| {
        format!(r#"{{"inputs":["so good","so bad"],"parameters":{parameters}}}"#)
    };
    assert_snapshot!(answer(ask(path, two("{}"))).await, @r##"
    200
    content-type: application/json
    [{"label":"positive","score":"#"},{"label":"negative","score":"#"}]
    "##);
    assert_snapshot!(answer(ask(path, two(r#"{"top_k":2}"#))).await, @r##"
    200
    content-type: application/json
    [[{"label":"positive","score":"#"},{"label":"negative","score":"#"}],[{"label":"negative","score":"#"},{"label":"neutral","score":"#"}]]
    "##);
    let native = r#"{"texts":["so good"]}"#;
    let expected = send(service(), post(native)).await.text;
    assert_eq!(send(service(), ask(path, native)).await.text, expected);
    let csv = [("content-type", "text/csv")];
    let rows = request(Method::POST, path, &csv, "text\nso good\n");
    let rows = send(service(), rows).await;
    assert!(rows.text.contains("positive"), "{}", rows.text);
    assert_snapshot!(answer(ask(path, r#"{"inputs":5}"#)).await, @r#"
    400
    content-type: application/json
    {"error":{"code":"invalid_request","message":"the body must be {\"inputs\": \"...\"} or {\"inputs\": [\"...\"]}, with optional `parameters`: `top_k`, null or a whole number of at least 1, and `function_to_apply`, \"sigmoid\", \"softmax\" or \"none\""}}
    "#);
    assert_snapshot!(answer(ask(path, r#"{"input":"so good"}"#)).await, @r#"
    422
    content-type: application/json
    {"error":{"code":"unknown_field","message":"unknown field `input`; expected `text`, `texts`, `long_text` or `detect_language`"}}
    "#);
}

#[tokio::test]
async fn vertex() {
    let app = with_options(|options| {
        let routes = [
            ("AIP_HEALTH_ROUTE", "/v1/endpoints/7/deployedModels/8"),
            (
                "AIP_PREDICT_ROUTE",
                "/v1/endpoints/7/deployedModels/8:predict",
            ),
        ];
        options.compat = compat("", "/other", &routes);
    });
    let health = send(app.clone(), get("/v1/endpoints/7/deployedModels/8")).await;
    assert_eq!(health.status, 200);
    let ask = async |body: &'static str| {
        let path = "/v1/endpoints/7/deployedModels/8:predict";
        send(app.clone(), self::ask(path, body)).await
    };
    let instances = r#"{"instances":["so good",{"content":"so bad","mimeType":"text/plain"},""]}"#;
    assert_snapshot!(render(&ask(instances).await), @r##"
    200
    content-type: application/json
    {"predictions":[{"label":"positive","score":"#","scores":{"negative":"#","neutral":"#","positive":"#"}},{"label":"negative","score":"#","scores":{"negative":"#","neutral":"#","positive":"#"}},{"error":{"code":"empty_text","message":"the text is empty; send at least one visible character"}}]}
    "##);
    assert_eq!(
        ask(r#"{"text":"so good"}"#).await.status,
        200,
        "a raw prediction"
    );
    assert_snapshot!(render(&ask(r#"{"instances":[["so good"]]}"#).await), @r#"
    400
    content-type: application/json
    {"error":{"code":"invalid_request","message":"the body must be {\"instances\": [...]} where each instance is a string or an object with the text under `text`, `content` or `inputs`"}}
    "#);
    let text = send(app.clone(), get("/metrics")).await.text;
    assert!(text.contains(r#"route="AIP_PREDICT_ROUTE""#), "{text}");
    assert!(!text.contains("deployedModels"), "{text}");
}

#[tokio::test]
async fn routes_that_two_ask_for_keep_one_meaning() {
    let app = with_options(|options| {
        let routes = [
            ("AIP_HEALTH_ROUTE", "/healthz"),
            ("AIP_PREDICT_ROUTE", "/predict"),
        ];
        options.compat = compat("", "/v1/sentiment", &routes);
    });
    let page = with_options(|options| {
        options.compat = compat("", "", &[("AIP_HEALTH_ROUTE", "/")]);
    });
    let as_page = [("accept", "text/html")];
    let page = send(page, request(Method::GET, "/", &as_page, "")).await;
    assert!(page.text.starts_with("<!doctype html>"), "{}", page.text);
    assert_eq!(send(app.clone(), get("/healthz")).await.status, 200);
    let vertex = ask("/predict", r#"{"instances":["so good"]}"#);
    assert!(send(app.clone(), vertex).await.text.contains("predictions"));
    let native = send(app, post(r#"{"text":"so good"}"#)).await;
    assert_eq!(native.json()["label"], "positive");
}

#[tokio::test]
async fn what_is_not_listed_has_no_route() {
    let status = async |app: &Router, request: Request<Body>| {
        send(app.clone(), request).await.status.as_u16()
    };
    let none = with_options(|options| options.compat = compat("none", "", &[]));
    let one = json!({"Text": "so good", "LanguageCode": "en"}).to_string();
    let hf = r#"{"inputs":"so good"}"#;
    // The page stays.
    assert_eq!(status(&none, ask("/", hf)).await, 405);
    for path in [
        "/models/a",
        "/predict",
        "/comprehend",
        AZURE,
        AZURE_V31,
        AZURE_V30,
        GOOGLE,
        GOOGLE_V1,
        "/invocations",
    ] {
        assert_eq!(status(&none, ask(path, hf)).await, 404, "{path}");
    }
    for path in ["/ping", "/health", "/info"] {
        assert_eq!(status(&none, get(path)).await, 404, "{path}");
    }
    let aws_only = with_options(|options| options.compat = compat("comprehend", "", &[]));
    assert_eq!(
        status(&aws_only, comprehend(DETECT, one.clone())).await,
        200
    );
    assert_eq!(status(&aws_only, ask("/", hf)).await, 404);
    let hf_only = with_options(|options| options.compat = compat("huggingface", "", &[]));
    assert_eq!(status(&hf_only, ask("/", hf)).await, 200);
    assert_eq!(status(&hf_only, comprehend(DETECT, one)).await, 400);
}

#[tokio::test]
async fn a_prefix_moves_the_routes() {
    let app = with_options(|options| options.compat = compat("", "/other", &[]));
    let status = async |request: Request<Body>| send(app.clone(), request).await.status.as_u16();
    let one = json!({"Text": "so good", "LanguageCode": "en"}).to_string();
    let hf = r#"{"inputs":"so good"}"#;
    for path in ["/other", "/other/", "/other/models/a/b", "/other/predict"] {
        assert_eq!(status(ask(path, hf)).await, 200, "{path}");
    }
    assert_eq!(
        status(aws("/other/comprehend", DETECT, one.clone())).await,
        200
    );
    assert_eq!(status(aws("/other", DETECT, one)).await, 200);
    assert_eq!(status(ask("/", hf)).await, 405, "the page's");
    assert_eq!(status(ask("/predict", hf)).await, 404);
    assert_eq!(status(get("/ping")).await, 200, "SageMaker's own path");
    let text = send(app.clone(), get("/metrics")).await.text;
    for route in [
        r#"route="/models/{*id}""#,
        r#"route="/""#,
        r#"route="/comprehend""#,
    ] {
        assert!(text.contains(route), "{route} in {text}");
    }
}

/// A well-formed request of each format.
pub(crate) fn each() -> Vec<(&'static str, Request<Body>)> {
    let detect = json!({"Text": "so good", "LanguageCode": "en"}).to_string();
    let document = json!([{"id": "0", "text": "so good"}]);
    vec![
        ("huggingface", ask("/", r#"{"inputs":"so good"}"#)),
        ("comprehend", comprehend(DETECT, detect)),
        ("tei", ask("/predict", r#"{"inputs":"so good"}"#)),
        ("azure", ask(AZURE, azure(&document))),
        (
            "azure v3",
            ask(AZURE_V31, json!({ "documents": document }).to_string()),
        ),
        ("google", ask(GOOGLE, google("so good"))),
        ("google v1", ask(GOOGLE_V1, google("so good"))),
        ("sagemaker", ask("/invocations", r#"{"inputs":"so good"}"#)),
    ]
}

#[tokio::test]
async fn overload_is_told_so_that_clients_try_again() {
    let (state, gate) = stalled(limits(&["--max-pending-posts", "1", "--max-posts", "1"]));
    let app = app(state.clone());
    let accepted = send(app.clone(), post(r#"{"text":"good"}"#));
    let refused = async {
        let mut told = String::new();
        for (name, request) in each() {
            let reply = send(app.clone(), request).await;
            told += &format!("{name}: {}\n", render(&reply));
        }
        assert_snapshot!(told, @r#"
        huggingface: 503
        content-type: application/json
        retry-after: 1
        {"error":"too many posts are waiting; try again in a moment","estimated_time":1.0}
        comprehend: 400
        content-type: application/x-amz-json-1.1
        retry-after: 1
        {"__type":"ThrottlingException","Message":"too many posts are waiting; try again in a moment"}
        tei: 429
        content-type: application/json
        retry-after: 1
        {"error":"Model is overloaded","error_type":"Overloaded"}
        azure: 429
        content-type: application/json
        retry-after: 1
        {"error":{"code":"429","message":"too many posts are waiting; try again in a moment"}}
        azure v3: 429
        content-type: application/json
        retry-after: 1
        {"error":{"code":"429","message":"too many posts are waiting; try again in a moment"}}
        google: 503
        content-type: application/json
        retry-after: 1
        {"error":{"code":503,"message":"too many posts are waiting; try again in a moment","status":"UNAVAILABLE"}}
        google v1: 503
        content-type: application/json
        retry-after: 1
        {"error":{"code":503,"message":"too many posts are waiting; try again in a moment","status":"UNAVAILABLE"}}
        sagemaker: 429
        content-type: application/json
        retry-after: 1
        {"error":{"code":"overloaded","message":"too many posts are waiting; try again in a moment"}}
        "#);
        state.start_draining();
        let mut statuses = Vec::new();
        for (_, request) in each() {
            statuses.push(send(app.clone(), request).await.status.as_u16());
        }
        assert_eq!(statuses, [503, 400, 503, 503, 503, 503, 503, 503]);
        gate.open();
    };
    let (accepted, ()) = tokio::join!(accepted, refused);
    assert_eq!(accepted.status, 200);
    for (name, request) in each() {
        let reply = send(app.clone(), request).await;
        assert_eq!(reply.status, 200, "{name}: there is room again");
    }
}

fn guarded(args: &[&str]) -> Router {
    with_options(|options| options.access = crate::access::access(args))
}

fn with_header(mut request: Request<Body>, name: &'static str, value: &str) -> Request<Body> {
    let value = value.parse().expect("a value");
    request.headers_mut().insert(name, value);
    request
}

const KEY: &str = "first-key-0123456789";

#[tokio::test]
async fn a_key_is_taken_in_each_vendors_way() {
    let app = guarded(&["--api-keys", KEY]);
    let mut refused = String::new();
    for (name, request) in each() {
        let reply = send(app.clone(), request).await;
        refused += &format!("{name}: {}\n", render(&reply));
    }
    assert_snapshot!(refused, @r#"
    huggingface: 401
    content-type: application/json
    {"error":"a valid API key is required; send it as `Authorization: Bearer KEY` or `x-api-key: KEY`"}
    comprehend: 400
    content-type: application/x-amz-json-1.1
    {"__type":"MissingAuthenticationTokenException","Message":"the request is not signed; sign it with one of the configured key pairs"}
    tei: 401
    content-type: application/json
    {"error":"a valid API key is required; send it as `Authorization: Bearer KEY` or `x-api-key: KEY`","error_type":"Unauthorized"}
    azure: 401
    content-type: application/json
    {"error":{"code":"401","message":"a valid API key is required; send it as `Authorization: Bearer KEY` or `x-api-key: KEY`"}}
    azure v3: 401
    content-type: application/json
    {"error":{"code":"401","message":"a valid API key is required; send it as `Authorization: Bearer KEY` or `x-api-key: KEY`"}}
    google: 401
    content-type: application/json
    {"error":{"code":401,"message":"a valid API key is required; send it as `Authorization: Bearer KEY` or `x-api-key: KEY`","status":"UNAUTHENTICATED"}}
    google v1: 401
    content-type: application/json
    {"error":{"code":401,"message":"a valid API key is required; send it as `Authorization: Bearer KEY` or `x-api-key: KEY`","status":"UNAUTHENTICATED"}}
    sagemaker: 401
    content-type: application/json
    {"error":{"code":"unauthorized","message":"a valid API key is required; send it as `Authorization: Bearer KEY` or `x-api-key: KEY`"}}
    "#);
    for (header, value) in [
        ("authorization", "Bearer first-key-0123456789"),
        ("x-api-key", KEY),
        ("ocp-apim-subscription-key", KEY),
        ("x-goog-api-key", KEY),
    ] {
        for (name, request) in each() {
            let reply = send(app.clone(), with_header(request, header, value)).await;
            assert_eq!(reply.status, 200, "{name} with {header}");
        }
    }
    for (query, status) in [
        ("?key=first-key-0123456789", 200),
        ("?key=other", 401),
        ("?key=", 401),
    ] {
        let request = ask(&format!("{GOOGLE}{query}"), google("so good"));
        assert_eq!(send(app.clone(), request).await.status, status, "{query}");
    }
    // Native routes keep to their own ways.
    let native = with_header(post(r#"{"text":"good"}"#), "x-goog-api-key", KEY);
    assert_eq!(send(app.clone(), native).await.status, 401);
    assert_eq!(send(app, get("/ping")).await.status, 200, "health is open");
}

#[tokio::test]
async fn hostile_bodies_are_refused_in_the_callers_format() {
    let app = service();
    let deep = "[".repeat(100_000);
    let bad_utf8: Vec<u8> = [&b"{\"inputs\":\"\xff\",\"Text\":\"\xff\"}"[..]].concat();
    let long = format!(r#"{{"inputs":"{}"}}"#, "a".repeat(5 << 20));
    for (name, request) in each() {
        for body in [
            deep.clone().into_bytes(),
            bad_utf8.clone(),
            long.clone().into_bytes(),
            Vec::new(),
            b"null".to_vec(),
            b"\"inputs\"".to_vec(),
            br#"{"inputs":{"inputs":{}},"Text":[],"kind":{},"document":[],"instances":1}"#.to_vec(),
            br#"{"inputs":"\ud800","Text":"\ud800"}"#.to_vec(),
            // Fields without their names, in the order of our own types.
            br#"["so good","en"]"#.to_vec(),
            br#"["SentimentAnalysis",[[["0","so good"]]]]"#.to_vec(),
            br#"[["PLAIN_TEXT","so good"]]"#.to_vec(),
            format!(r#"{{"inputs":{}}}"#, "[[],".repeat(300_000)).into_bytes(),
        ] {
            let reply = send(
                app.clone(),
                Request::from_parts(head_of(&request), Body::from(body)),
            )
            .await;
            let status = reply.status.as_u16();
            assert!(
                (400..500).contains(&status),
                "{name}: {status} {}",
                reply.text
            );
            let error = reply.json();
            let is_own = match name {
                "comprehend" => error["__type"].is_string() && error["Message"].is_string(),
                "huggingface" | "tei" => error["error"].is_string(),
                "azure" | "azure v3" => error["error"]["innererror"]["message"].is_string(),
                "google" | "google v1" => error["error"]["status"] == "INVALID_ARGUMENT",
                _ => error["error"]["code"].is_string(),
            };
            assert!(is_own, "{name}: {}", reply.text);
        }
    }
}

/// A request's head, to be sent with another body.
fn head_of(request: &Request<Body>) -> Parts {
    let mut head = Request::builder()
        .method(request.method())
        .uri(request.uri());
    for (name, value) in request.headers() {
        head = head.header(name, value);
    }
    head.body(()).expect("a copy").into_parts().0
}

/// A service with a model that does not classify sentiment.
pub(crate) fn other_model(name: &str) -> Router {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/tiny");
    let model = Model::open(folder.join(name)).expect("a model");
    let limits = limits(&[]);
    let batch = limits.batch_options(NonZeroUsize::MIN, |_| None);
    let batcher = Batcher::start(model.classifier(), batch, Arc::default());
    app(AppState::new(batcher, limits))
}

#[tokio::test]
async fn a_model_without_polarity_says_so() {
    let app = other_model("electra-one-label");
    let mut told = String::new();
    for (name, request) in each() {
        let reply = send(app.clone(), request).await;
        told += &format!("{name}: {}\n", render(&reply));
    }
    assert_snapshot!(told, @r##"
    huggingface: 200
    content-type: application/json
    [[{"label":"toxic","score":"#"}]]
    comprehend: 400
    content-type: application/x-amz-json-1.1
    {"__type":"InvalidRequestException","Message":"this format needs a model whose labels are negative, neutral and positive, or stars; for this model's labels use POST /v1/sentiment"}
    tei: 200
    content-type: application/json
    [{"label":"toxic","score":"#"}]
    azure: 400
    content-type: application/json
    {"error":{"code":"InvalidRequest","message":"Invalid request.","innererror":{"code":"no_polarity","message":"this format needs a model whose labels are negative, neutral and positive, or stars; for this model's labels use POST /v1/sentiment"}}}
    azure v3: 400
    content-type: application/json
    {"error":{"code":"InvalidRequest","message":"Invalid request.","innererror":{"code":"no_polarity","message":"this format needs a model whose labels are negative, neutral and positive, or stars; for this model's labels use POST /v1/sentiment"}}}
    google: 400
    content-type: application/json
    {"error":{"code":400,"message":"this format needs a model whose labels are negative, neutral and positive, or stars; for this model's labels use POST /v1/sentiment","status":"INVALID_ARGUMENT"}}
    google v1: 400
    content-type: application/json
    {"error":{"code":400,"message":"this format needs a model whose labels are negative, neutral and positive, or stars; for this model's labels use POST /v1/sentiment","status":"INVALID_ARGUMENT"}}
    sagemaker: 200
    content-type: application/json
    [{"label":"toxic","score":"#"}]
    "##);
}
