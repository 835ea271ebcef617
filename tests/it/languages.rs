//! Posts in languages that a model was trained for, and in others.

use crate::support::{self, Reply, get, limits, post, post_as, request, send, service};
use axum::Router;
use axum::body::Body;
use axum::http::{Method, Request, StatusCode};
use coldread::batcher::Batcher;
use coldread::config::EventOptions;
use coldread::error::PostRejection;
use coldread::events::Events;
use coldread::http::{AppState, app};
use coldread::scorer::{OtherLanguages, PostOptions, Scorer, ScorerError};
use coldread_engine::Model;
use insta::assert_snapshot;
use lambda_runtime::Context;
use serde_json::{Value, json};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tempfile::TempDir;

const ENGLISH: &str = "I love this phone, the camera is great";
const GERMAN: &str = "Ich hasse das, nie wieder!";
const ARABIC: &str = "أحب هذا الهاتف والكاميرا رائعة";
const EMOJI: &str = "😡😡";
const MARKUP: &str = "@you https://example.com/nie-wieder";
const SHORT: &str = "nein";
/// Hindi in Latin letters, which the detector has never seen: it takes it for Turkish.
const HINGLISH: &str = "kal se battery bahut jaldi khatam ho rahi hai yaar, bilkul bakwas phone";

const ALL: [&str; 7] = [ENGLISH, GERMAN, ARABIC, EMOJI, MARKUP, SHORT, HINGLISH];

/// A service on a scorer of its own.
fn service_on(scorer: Scorer) -> Router {
    let limits = limits(&[]);
    let options = limits.batch_options(NonZeroUsize::MIN, |_| None);
    let batcher = Batcher::start(scorer, options, Arc::default());
    app(AppState::new(batcher, limits))
}

/// A service that rejects posts in other languages than the default model's.
fn rejecting() -> Router {
    let scorer = Scorer::from(support::classifier()).with_other_languages(OtherLanguages::Reject);
    service_on(scorer.expect("the default model says that it is English"))
}

fn tiny(name: &str) -> Scorer {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/tiny");
    let model = Model::open(folder.join(name)).expect("a model");
    model.classifier().into()
}

/// The service's response to posts.
async fn score(app: Router, body: Value) -> Reply {
    let reply = send(app, post(body.to_string())).await;
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.text);
    reply
}

/// Language and warnings, or the error, of each result.
fn told(results: &Value) -> String {
    let results = results.as_array().expect("a list of results");
    let told = results.iter().map(|result| {
        let warnings = &result["warnings"];
        match &result["error"]["code"] {
            Value::Null if warnings.is_null() => result["language"].to_string(),
            Value::Null => format!("{} {warnings}", result["language"]),
            code => code.to_string(),
        }
    });
    told.collect::<Vec<_>>().join("\n")
}

#[tokio::test]
async fn languages_are_detected_where_they_are_asked_for() {
    let body = json!({ "texts": ALL, "detect_language": true });
    let reply = score(service(), body).await;
    assert_snapshot!(told(&reply.json()["results"]), @r#"
    "en"
    "de" ["unsupported_language"]
    "ar" ["unsupported_language"]
    "und"
    "und"
    "de"
    "tr" ["unsupported_language"]
    "#);
    let german = send(
        service(),
        post(json!({ "text": GERMAN, "detect_language": true }).to_string()),
    );
    let german = german.await.json();
    assert_eq!(german["language"], "de");
    assert_eq!(german["warnings"], json!(["unsupported_language"]));
    let confidence = german["language_confidence"].as_f64().expect("a number");
    assert!((0.8..1.0).contains(&confidence), "{confidence}");
    assert_eq!(reply.json()["results"][3]["language_confidence"], 0.0);
}

#[tokio::test]
async fn without_the_option_responses_stay_as_they_were() {
    let plain = score(service(), json!({ "texts": ALL })).await;
    let off = score(service(), json!({ "texts": ALL, "detect_language": false })).await;
    assert_eq!(off.text, plain.text);
    let mut on = score(service(), json!({ "texts": ALL, "detect_language": true }))
        .await
        .json();
    for result in on["results"].as_array_mut().expect("results") {
        let result = result.as_object_mut().expect("a result");
        assert!(result.shift_remove("language").is_some());
        assert!(result.shift_remove("language_confidence").is_some());
        result.shift_remove("warnings");
    }
    assert_eq!(on.to_string(), plain.text);
}

#[tokio::test]
async fn the_query_asks_for_rows() {
    let ask = |path: &str, media: &str, body: &str| {
        let headers = [("content-type", media)];
        request(Method::POST, path, &headers, body.to_owned())
    };
    let path = "/v1/sentiment?detect_language=true";
    let lines = format!("{}\n{}\n\"\"\n", json!(ENGLISH), json!(GERMAN));
    let reply = send(service(), ask(path, "application/x-ndjson", &lines)).await;
    let rows: Vec<Value> = reply
        .text
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    assert_snapshot!(told(&json!(rows)), @r#"
    "en"
    "de" ["unsupported_language"]
    "empty_text"
    "#);

    let csv = format!("text\n\"{ENGLISH}\"\n\"{GERMAN}\"\n\" \"\n");
    let reply = send(service(), ask(path, "text/csv", &csv)).await;
    let columns =
        |line: &str| -> Vec<String> { line.trim_end().split(',').map(str::to_owned).collect() };
    let table: Vec<Vec<String>> = reply.text.lines().map(columns).collect();
    let names = ["language", "language_confidence", "warnings", "error"];
    let first = table[0].len() - names.len();
    assert_eq!(table[0][first..], names);
    assert_eq!(table[1][first], "en");
    assert_eq!(table[1][first + 2..], ["", ""]);
    assert_eq!(table[2][first], "de");
    assert_eq!(table[2][first + 2..], ["unsupported_language", ""]);
    assert_eq!(table[3][first..], ["", "", "", "empty_text"]);
    assert!(table.iter().all(|row| row.len() == table[0].len()));

    let without = send(service(), ask("/v1/sentiment", "text/csv", &csv)).await;
    assert!(!without.text.contains("language"), "{}", without.text);

    for query in ["detect_language=en", "detect_language", "detect_language="] {
        let path = format!("/v1/sentiment?{query}");
        let reply = send(service(), ask(&path, "text/csv", &csv)).await;
        assert_eq!(reply.status, StatusCode::UNPROCESSABLE_ENTITY, "{query}");
        assert_eq!(reply.json()["error"]["code"], "invalid_type");
    }
}

#[tokio::test]
async fn the_body_takes_precedence_over_the_query() {
    let body = json!({ "text": GERMAN, "detect_language": false }).to_string();
    let headers = [("content-type", "application/json")];
    let path = "/v1/sentiment?detect_language=true";
    let reply = send(service(), request(Method::POST, path, &headers, body)).await;
    assert_eq!(reply.json()["language"], Value::Null);
}

#[tokio::test]
async fn direct_invocations_are_as_over_http() {
    let body = json!({ "texts": ALL, "detect_language": true });
    let state = support::state(limits(&[]));
    let events = Events::new(state.clone(), &EventOptions::default(), None);
    let event = body.to_string();
    let reply = support::invoked(state, events, &event, Context::default()).await;
    let reply = reply.expect("they are scored");
    assert_eq!(reply, score(service(), body).await.json());
}

#[tokio::test]
async fn a_model_of_unknown_languages_gives_no_warnings() {
    let body = json!({ "texts": [ENGLISH, GERMAN], "detect_language": true });
    let reply = score(service_on(tiny("bert")), body).await;
    assert_snapshot!(told(&reply.json()["results"]), @r#"
    "en"
    "de"
    "#);
    let rejects = tiny("bert").with_other_languages(OtherLanguages::Reject);
    let error = rejects.expect_err("nothing would be rejected");
    assert!(matches!(error, ScorerError::UnknownLanguages { .. }));
    assert!(
        error.to_string().contains("\"languages\": [\"en\"]"),
        "{error}"
    );
}

#[tokio::test]
async fn other_languages_are_rejected_post_by_post() {
    let app = rejecting();
    let reply = score(app.clone(), json!({ "texts": ALL })).await;
    assert_snapshot!(told(&reply.json()["results"]), @r#"
    null
    "unsupported_language"
    "unsupported_language"
    null
    null
    null
    "unsupported_language"
    "#);
    let alone = score(service(), json!({ "texts": [ENGLISH] })).await.json();
    assert_eq!(reply.json()["results"][0], alone["results"][0]);

    let one = send(app.clone(), post(json!({ "text": GERMAN }).to_string())).await;
    assert_snapshot!(one.render(), @r#"
    422 Unprocessable Entity
    content-type: application/json

    {
      "error": {
        "code": "unsupported_language",
        "message": "the model was not trained for the language of the text (de)"
      }
    }
    "#);

    let rows = format!("{GERMAN}\n{ENGLISH}\n");
    let path = "/v1/sentiment?format=text";
    let rows = send(app.clone(), request(Method::POST, path, &[], rows)).await;
    let rows: Vec<&str> = rows.text.lines().collect();
    assert!(
        rows[0].contains(r#"{"code":"unsupported_language""#),
        "{rows:?}"
    );
    assert!(rows[1].contains(r#""label":"positive""#), "{rows:?}");

    let metrics = send(app, get("/metrics")).await.text;
    for line in [
        "coldread_unsupported_language_posts_total 5",
        "coldread_errors_total{code=\"unsupported_language\"} 2",
    ] {
        assert!(metrics.contains(line), "{line} is not in\n{metrics}");
    }
    let plain = send(service(), post_as("text/plain", GERMAN)).await;
    assert_eq!(plain.status, StatusCode::OK, "by default they are scored");
}

/// A request in another service's format.
fn ask(path: &str, target: Option<&str>, body: &Value) -> Request<Body> {
    let mut headers = vec![("content-type", "application/json")];
    headers.extend(target.map(|target| ("x-amz-target", target)));
    request(Method::POST, path, &headers, body.to_string())
}

/// Documents of a text and a language each.
fn azure(documents: &[(&str, Option<&str>)]) -> Request<Body> {
    let documents = documents.iter().enumerate().map(|(id, (text, language))| {
        json!({ "id": id.to_string(), "text": text, "language": language })
    });
    let input = json!({ "documents": documents.collect::<Vec<_>>() });
    let body = json!({ "kind": "SentimentAnalysis", "analysisInput": input });
    ask("/language/:analyze-text", None, &body)
}

#[tokio::test]
async fn azure_detects_the_language_of_documents_that_ask_for_it() {
    let documents = [
        (GERMAN, Some("auto")),
        (ENGLISH, Some("auto")),
        (EMOJI, Some("auto")),
        (GERMAN, Some("de-AT")),
        (ENGLISH, Some("en-GB")),
        (GERMAN, Some("")),
        (GERMAN, None),
    ];
    let results = send(service(), azure(&documents)).await.json()["results"].take();
    assert_eq!(results["errors"], json!([]));
    let told = results["documents"].as_array().expect("documents").iter();
    let told = told.map(|document| {
        let detected = &document["detectedLanguage"];
        let warnings = document["warnings"].as_array().expect("a list").iter();
        let codes: Vec<&Value> = warnings.map(|warning| &warning["code"]).collect();
        format!(
            "{} {} {}",
            detected["name"],
            detected["iso6391Name"],
            json!(codes)
        )
    });
    assert_snapshot!(told.collect::<Vec<_>>().join("\n"), @r#"
    "German" "de" ["UnsupportedLanguage"]
    "English" "en" []
    "(Unknown)" "(Unknown)" []
    null null ["UnsupportedLanguage"]
    null null []
    null null []
    null null []
    "#);
    let score = &results["documents"][0]["detectedLanguage"]["confidenceScore"];
    assert!(score.as_f64().expect("a number") > 0.8, "{score}");

    let documents = [(GERMAN, Some("en")), (ENGLISH, Some("de")), (ENGLISH, None)];
    let results = send(rejecting(), azure(&documents)).await.json()["results"].take();
    assert_eq!(results["documents"][0]["id"], "2");
    for i in [0, 1] {
        let error = &results["errors"][i]["error"]["innererror"];
        assert_eq!(error["code"], "UnsupportedLanguageCode");
    }
}

fn google(content: &str, language: Option<&str>) -> Request<Body> {
    let document = json!({ "type": "PLAIN_TEXT", "content": content, "languageCode": language });
    let body = json!({ "document": document, "encodingType": "UTF8" });
    ask("/v2/documents:analyzeSentiment", None, &body)
}

#[tokio::test]
async fn google_detects_the_language_where_the_request_names_none() {
    for (content, named, language, is_supported) in [
        (GERMAN, None, "de", false),
        (ENGLISH, None, "en", true),
        (SHORT, None, "en", true),
        (EMOJI, None, "en", true),
        (GERMAN, Some(""), "de", false),
        (GERMAN, Some("en-GB"), "en-GB", true),
        (ENGLISH, Some("de"), "de", false),
    ] {
        let reply = send(service(), google(content, named)).await.json();
        let told = (&reply["languageCode"], &reply["languageSupported"]);
        let expected = (&json!(language), &json!(is_supported));
        assert_eq!(told, expected, "{content} {named:?}");
    }
    for (content, named) in [(GERMAN, None), (GERMAN, Some("en")), (ENGLISH, Some("de"))] {
        let reply = send(rejecting(), google(content, named)).await;
        assert_eq!(reply.status, StatusCode::BAD_REQUEST, "{content} {named:?}");
        assert_eq!(reply.json()["error"]["status"], "INVALID_ARGUMENT");
    }
    let reply = send(rejecting(), google(ENGLISH, None)).await;
    assert_eq!(reply.status, StatusCode::OK);
}

fn detect(text: &str, language: &str) -> Request<Body> {
    let body = json!({ "Text": text, "LanguageCode": language });
    ask("/", Some("Comprehend_20171127.DetectSentiment"), &body)
}

fn batch_detect(texts: &[&str], language: &str) -> Request<Body> {
    let body = json!({ "TextList": texts, "LanguageCode": language });
    ask("/", Some("Comprehend_20171127.BatchDetectSentiment"), &body)
}

#[tokio::test]
async fn comprehend_rejects_the_languages_that_are_rejected() {
    const UNSUPPORTED: &str = "UnsupportedLanguageException";
    for (text, language) in [(GERMAN, "de"), (GERMAN, "en"), (ENGLISH, "zh-TW")] {
        let reply = send(service(), detect(text, language)).await;
        assert_eq!(reply.status, StatusCode::OK, "{text} {language}");
        let reply = send(rejecting(), detect(text, language)).await.json();
        assert_eq!(reply["__type"], UNSUPPORTED, "{text} {language}");
    }
    let reply = send(rejecting(), detect(ENGLISH, "en")).await;
    assert_eq!(reply.status, StatusCode::OK);

    let reply = send(rejecting(), batch_detect(&[ENGLISH, GERMAN], "en"))
        .await
        .json();
    assert_eq!(reply["ResultList"][0]["Index"], 0);
    assert_eq!(reply["ErrorList"][0]["Index"], 1);
    assert_eq!(reply["ErrorList"][0]["ErrorCode"], UNSUPPORTED);
    let reply = send(rejecting(), batch_detect(&[ENGLISH, GERMAN], "de"))
        .await
        .json();
    assert_eq!(reply["__type"], UNSUPPORTED);
}

#[tokio::test]
async fn formats_without_errors_of_items_reject_the_whole_request() {
    let body = json!({ "inputs": [ENGLISH, GERMAN] });
    let reply = send(rejecting(), ask("/models/any", None, &body)).await;
    assert_eq!(reply.status, StatusCode::UNPROCESSABLE_ENTITY);
    let error = reply.json()["error"].to_string();
    assert!(
        error.contains("item 1: the model was not trained for the language"),
        "{error}"
    );
}

/// The folder of a tiny model whose configuration says that it was trained for some languages,
/// under the model's name in a folder of its own.
pub(crate) fn tiny_folder(name: &str, languages: &[&str]) -> (TempDir, PathBuf) {
    let tiny = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/tiny");
    let parent = tempfile::tempdir().expect("a folder");
    let folder = parent.path().join(name);
    std::fs::create_dir(&folder).expect("a folder");
    for entry in tiny.join(name).read_dir().expect("a folder") {
        let path = entry.expect("a file").path();
        let name = path.file_name().expect("a name");
        std::fs::copy(&path, folder.join(name)).expect("a copy");
    }
    let path = folder.join("config.json");
    let config = std::fs::read_to_string(&path).expect("a file");
    let mut config: Value = serde_json::from_str(&config).expect("JSON");
    config["languages"] = json!(languages);
    std::fs::write(&path, config.to_string()).expect("written");
    (parent, folder)
}

fn tiny_in(name: &str, languages: &[&str]) -> Model {
    let (_parent, folder) = tiny_folder(name, languages);
    Model::open(&folder).expect("a model")
}

/// An English model and one for German and Arabic.
fn two_models() -> (Model, Model, Scorer) {
    let first = tiny_in("bert", &["en"]);
    let second = tiny_in("xlm-roberta", &["de", "ar", "en"]);
    let scorer = Scorer::from(first.classifier()).with_model(&second);
    (first, second, scorer.expect("they go together"))
}

#[test]
fn each_post_gets_the_bits_of_the_model_that_serves_its_language() {
    let (first, second, mut scorer) = two_models();
    let posts: Vec<&str> = ALL.into_iter().cycle().take(40).chain([""]).collect();
    let results = scorer
        .score(&posts, PostOptions::default())
        .expect("scored");
    for (post, result) in posts.iter().zip(results) {
        let model = match *post {
            GERMAN | ARABIC => &second,
            _ => &first,
        };
        let alone = model
            .classifier()
            .classify(&[post])
            .expect("scored")
            .remove(0);
        assert_eq!(
            result.map(|scored| scored.sentiment),
            alone.map_err(PostRejection::from),
            "{post}"
        );
    }
}

#[tokio::test]
async fn a_batch_of_two_models_has_the_results_of_each_post_alone() {
    let (.., scorer) = two_models();
    let app = service_on(scorer);
    let body = json!({ "texts": ALL, "detect_language": true });
    let batch = score(app.clone(), body).await.json();
    assert_eq!(batch["model"], "bert");
    for (text, result) in ALL
        .iter()
        .zip(batch["results"].as_array().expect("results"))
    {
        let body = json!({ "text": text, "detect_language": true });
        let alone = score(app.clone(), body).await.json();
        let mut result = result.clone();
        let model = result["model"].take();
        match *text {
            GERMAN | ARABIC => assert_eq!(model, "xlm-roberta", "{text}"),
            _ => assert_eq!(model, Value::Null, "{text}"),
        }
        result["model"] = match model {
            Value::Null => batch["model"].clone(),
            other => other,
        };
        assert_eq!(result, alone, "{text}");
    }
    assert_snapshot!(told(&batch["results"]), @r#"
    "en"
    "de"
    "ar"
    "und"
    "und"
    "de"
    "tr" ["unsupported_language"]
    "#);
    let rows = format!("{ENGLISH}\n{GERMAN}\n");
    let path = "/v1/sentiment?format=text";
    let rows = send(app.clone(), request(Method::POST, path, &[], rows)).await;
    let rows: Vec<&str> = rows.text.lines().collect();
    assert!(!rows[0].contains("model"), "{rows:?}");
    assert!(rows[1].contains(r#""model":"xlm-roberta""#), "{rows:?}");
    let csv = format!("text\n\"{ENGLISH}\"\n\"{GERMAN}\"\n\" \"\n");
    for (query, first) in [("", "windows"), ("?detect_language=true", "warnings")] {
        let headers = [("content-type", "text/csv")];
        let path = format!("/v1/sentiment{query}");
        let reply = send(
            app.clone(),
            request(Method::POST, &path, &headers, csv.clone()),
        );
        let reply = reply.await.text;
        let rows: Vec<Vec<&str>> = reply
            .lines()
            .map(|line| line.trim_end().split(',').collect())
            .collect();
        let last: Vec<&[&str]> = rows.iter().map(|row| &row[row.len() - 3..]).collect();
        assert_eq!(
            last,
            [
                &[first, "model", "error"],
                &["", "bert", ""],
                &["", "xlm-roberta", ""],
                &["", "", "empty_text"],
            ]
        );
        assert!(rows.iter().all(|row| row.len() == rows[0].len()));
    }

    let info = send(app, get("/v1/info")).await.json();
    assert_eq!(info["languages"], json!(["en"]));
    assert_eq!(info["also_model"]["model"], "xlm-roberta");
    assert_eq!(info["also_model"]["languages"], json!(["de", "ar", "en"]));
}

/// A score of a response, as the engine has it.
fn score_at(reply: &Value, pointer: &str) -> f32 {
    let score = reply.pointer(pointer).and_then(Value::as_f64);
    score.unwrap_or_else(|| panic!("no {pointer} in {reply}")) as f32
}

fn scores_of(model: &Model, text: &str) -> Vec<f32> {
    let scored = model.classifier().classify_one(text);
    scored.expect("scored").scores
}

#[tokio::test]
#[expect(clippy::float_cmp, reason = "the bits are the same")]
async fn a_language_that_the_client_names_chooses_the_model() {
    let (first, second, scorer) = two_models();
    let app = service_on(scorer);
    let ask = async |request| send(app.clone(), request).await.json();
    for text in [SHORT, ENGLISH, GERMAN] {
        for (named, is_second) in [
            ("de", true),
            ("ar", true),
            ("en", false),
            ("de-AT", true),
            // Neither model serves it, so that the text decides.
            ("ja", text == GERMAN),
        ] {
            let model = if is_second { &second } else { &first };
            let scores = scores_of(model, text);
            let reply = ask(azure(&[(text, Some(named))])).await;
            let positive = "/results/documents/0/confidenceScores/positive";
            assert_eq!(score_at(&reply, positive), scores[2], "{text} {named}");
            let reply = ask(google(text, Some(named))).await;
            let score = score_at(&reply, "/documentSentiment/score");
            assert_eq!(score, scores[2] - scores[0], "{text} {named}");
            if named.len() > 2 {
                // Comprehend knows no regions of German.
                continue;
            }
            let reply = ask(detect(text, named)).await;
            let positive = "/SentimentScore/Positive";
            assert_eq!(score_at(&reply, positive), scores[2], "{text} {named}");
            let reply = ask(batch_detect(&[ENGLISH, text], named)).await;
            let positive = "/ResultList/1/SentimentScore/Positive";
            assert_eq!(score_at(&reply, positive), scores[2], "{text} {named}");
        }
    }
}

#[tokio::test]
#[expect(clippy::float_cmp, reason = "the bits are the same")]
async fn documents_of_one_request_name_languages_of_their_own() {
    let (first, second, scorer) = two_models();
    let scorer = scorer.with_other_languages(OtherLanguages::Reject);
    let app = service_on(scorer.expect("both models say their languages"));
    let documents = [
        (SHORT, Some("de")),
        (SHORT, Some("en")),
        (SHORT, None),
        (ENGLISH, Some("ar")),
        (GERMAN, Some("auto")),
        (HINGLISH, Some("de")),
        (ENGLISH, Some("ja")),
    ];
    let reply = send(app, azure(&documents)).await.json();
    let models = [&second, &first, &first, &second, &second];
    for (i, (model, (text, _))) in models.into_iter().zip(documents).enumerate() {
        let positive = format!("/results/documents/{i}/confidenceScores/positive");
        assert_eq!(
            score_at(&reply, &positive),
            scores_of(model, text)[2],
            "{i}"
        );
    }
    let errors = &reply["results"]["errors"];
    assert_eq!([&errors[0]["id"], &errors[1]["id"]], ["5", "6"]);
}

#[test]
fn a_language_that_neither_model_serves_is_rejected() {
    let (.., scorer) = two_models();
    let scorer = scorer.with_other_languages(OtherLanguages::Reject);
    let mut scorer = scorer.expect("both models say their languages");
    let results = scorer.score(&ALL, PostOptions::default()).expect("scored");
    let rejected: Vec<&str> = ALL
        .into_iter()
        .zip(&results)
        .filter_map(|(post, result)| result.is_err().then_some(post))
        .collect();
    assert_eq!(rejected, [HINGLISH]);
}

#[test]
fn models_that_do_not_go_together_are_rejected() {
    let english = tiny_in("bert", &["en"]);
    let with = |model: &Model| Scorer::from(english.classifier()).with_model(model);
    let error = with(&tiny_in("roberta", &[])).expect_err("unknown languages");
    assert!(
        error
            .to_string()
            .contains("the languages of the model roberta"),
        "{error}"
    );
    let unknown = Scorer::from(tiny_in("roberta", &[]).classifier());
    assert!(unknown.with_model(&english).is_err());
    let error = with(&tiny_in("camembert-sentencepiece", &["fr"])).expect_err("other labels");
    assert_eq!(
        error.to_string(),
        "--also-model needs a model with the problem type and the labels of the first, negative, \
         neutral, positive, in the same order; those of camembert-sentencepiece are neg, neu, pos"
    );
}
