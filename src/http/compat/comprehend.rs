//! Amazon Comprehend's `DetectSentiment`, `DetectDominantLanguage` and their batch forms, as
//! the AWS SDKs call them: AWS JSON 1.1, the operation in a header, the client's key in a
//! signature.
//!
//! Overload is a 400 named `ThrottlingException`, which the SDKs try again. A model of
//! three classes has none for mixed feelings: `Mixed` is 0.

use super::call::{Call, CompatError, done, refuse, with_id};
use super::shape::{self, AtMost};
use super::sigv4::{Claim, SignatureError};
use crate::http::error::{ApiError, json};
use crate::http::request_telemetry::RequestId;
use crate::http::{AppState, access};
use crate::language::{self, Language};
use axum::extract::{Request, State};
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::Response;
use coldread_engine::PostError;
use coldread_engine::Sentiment;
use coldread_engine::polarity::{Polarities, Polarity};
use serde::{Deserialize, Serialize};
use std::time::SystemTime;

/// The header that names the operation.
pub(super) const TARGET: HeaderName = HeaderName::from_static("x-amz-target");

pub(super) const JSON_1_1: &str = "application/x-amz-json-1.1";

/// Comprehend's own limits.
pub(super) const MAX_TEXTS: usize = 25;
pub(super) const MAX_TEXT_BYTES: usize = 5000;

/// The codes that Comprehend knows; `boto3` sends any.
pub(super) const LANGUAGES: [&str; 12] = [
    "en", "es", "fr", "de", "it", "pt", "ar", "hi", "ja", "ko", "zh", "zh-TW",
];

pub(super) const SHAPE: &str = "the body must be {\"Text\": \"...\", \"LanguageCode\": \"en\"} or \
                     {\"TextList\": [\"...\"], \"LanguageCode\": \"en\"}";

/// The same for the operations that detect the language.
const LANGUAGE_SHAPE: &str = "the body must be {\"Text\": \"...\"} or {\"TextList\": [\"...\"]}";

/// The sentiment or the language of one text or many
///
/// `Mixed` is 0. In a batch a text that cannot be scored errs alone.
#[cfg_attr(test, utoipa::path(
    post,
    path = "/comprehend",
    tag = "Amazon Comprehend",
    operation_id = "comprehend",
    params(("x-amz-target" = String, Header, description = "The operation")),
    request_body(
        description = "What the operation asks for",
        content((
            Object = "application/x-amz-json-1.1",
            example = json!({"Text": "I love this phone", "LanguageCode": "en"}),
        )),
    ),
    responses((
        status = 200,
        description = "What the operation answers",
        content((Object = "application/x-amz-json-1.1")),
        headers(("x-amzn-requestid" = String, description = "The request's id")),
    )),
))]
pub(super) async fn call(State(app): State<AppState>, request: Request) -> Response {
    let id: Option<RequestId> = request.extensions().get().cloned();
    let answer = answer(&app, request).await;
    let mut response = answer.unwrap_or_else(|fault| error(app.refusal(fault)));
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static(JSON_1_1));
    with_id(response, "x-amzn-requestid", id)
}

async fn answer(app: &AppState, request: Request) -> Result<Response, ApiError> {
    let operation = Operation::of(request.headers())?;
    let keys = &app.0.access.sigv4_keys;
    // A key is as good as a signature; where there is no key of any kind, both pass.
    let claim = match access::check(app, &request) {
        Ok(()) => None,
        Err(_) => Some(
            Claim::read(request.headers(), keys, SystemTime::now()).map_err(CompatError::from)?,
        ),
    };
    let call = Call::read(app, request).await?;
    if let Some(claim) = claim {
        let verified = claim.verify(&call.parts, &call.body);
        verified.map_err(CompatError::from)?;
    }
    match operation {
        Operation::Detect => detect(&call).await,
        Operation::BatchDetect => batch_detect(&call).await,
        Operation::Language => detect_language(&call),
        Operation::BatchLanguage => batch_detect_language(&call),
    }
}

#[derive(Clone, Copy)]
pub(super) enum Operation {
    Detect,
    BatchDetect,
    Language,
    BatchLanguage,
}

impl Operation {
    /// All of them, by their names in the header.
    pub(super) const ALL: [(&str, Self); 4] = [
        ("Comprehend_20171127.DetectSentiment", Self::Detect),
        (
            "Comprehend_20171127.BatchDetectSentiment",
            Self::BatchDetect,
        ),
        ("Comprehend_20171127.DetectDominantLanguage", Self::Language),
        (
            "Comprehend_20171127.BatchDetectDominantLanguage",
            Self::BatchLanguage,
        ),
    ];

    fn of(headers: &HeaderMap) -> Result<Self, ApiError> {
        let asked = headers.get(TARGET).ok_or(CompatError::UnknownOperation)?;
        let known = Self::ALL.into_iter().find(|(name, _)| asked == name);
        Ok(known.ok_or(CompatError::UnknownOperation)?.1)
    }
}

/// What `DetectSentiment` is asked.
#[derive(Deserialize)]
#[cfg_attr(test, derive(utoipa::ToSchema), schema(as = comprehend::DetectRequest))]
#[serde(rename_all = "PascalCase")]
pub(super) struct Detect {
    text: String,
    language_code: String,
}

/// What `BatchDetectSentiment` is asked.
#[derive(Deserialize)]
#[cfg_attr(test, derive(utoipa::ToSchema), schema(as = comprehend::BatchRequest))]
#[serde(rename_all = "PascalCase")]
pub(super) struct BatchDetect {
    #[cfg_attr(test, schema(value_type = Vec<String>))]
    text_list: AtMost<String, MAX_TEXTS>,
    language_code: String,
}

async fn detect(call: &Call) -> Result<Response, ApiError> {
    let asked: Detect = shape::parse(call.text()?, SHAPE)?;
    check_language(&asked.language_code)?;
    let sides = call.polarities()?;
    check_length(&asked.text)?;
    let (sentiment, stages) = call.score_one(asked.text).await?;
    let detected = Detected::of(&sentiment, sides);
    Ok(done(json(StatusCode::OK, &detected), 1, stages))
}

async fn batch_detect(call: &Call) -> Result<Response, ApiError> {
    let asked: BatchDetect = shape::parse(call.text()?, SHAPE)?;
    check_language(&asked.language_code)?;
    let sides = call.polarities()?;
    let texts = asked.text_list.some()?.into_iter();
    let items = texts.map(|text| check_length(&text).map(|()| text));
    let scored = call.score_each(items.collect()).await?;
    let count = scored.items.len();
    let items = scored.items.into_iter();
    let detected = |sentiment| Answer::Sentiment(Detected::of(&sentiment, sides));
    let batch = Batch::of(items.map(|item| item.map(detected)));
    Ok(done(json(StatusCode::OK, &batch), count, scored.stages))
}

/// What `DetectDominantLanguage` is asked.
#[derive(Deserialize)]
#[cfg_attr(test, derive(utoipa::ToSchema), schema(as = comprehend::LanguageRequest))]
#[serde(rename_all = "PascalCase")]
pub(super) struct DetectLanguage {
    text: String,
}

/// What `BatchDetectDominantLanguage` is asked.
#[derive(Deserialize)]
#[cfg_attr(test, derive(utoipa::ToSchema), schema(as = comprehend::LanguageBatchRequest))]
#[serde(rename_all = "PascalCase")]
pub(super) struct BatchDetectLanguage {
    #[cfg_attr(test, schema(value_type = Vec<String>))]
    text_list: AtMost<String, MAX_TEXTS>,
}

fn detect_language(call: &Call) -> Result<Response, ApiError> {
    let asked: DetectLanguage = shape::parse(call.text()?, LANGUAGE_SHAPE)?;
    let detected = DominantLanguage::of(&asked.text)?;
    Ok(json(StatusCode::OK, &detected))
}

fn batch_detect_language(call: &Call) -> Result<Response, ApiError> {
    let asked: BatchDetectLanguage = shape::parse(call.text()?, LANGUAGE_SHAPE)?;
    let texts = asked.text_list.some()?.into_iter();
    let detected = |text: String| DominantLanguage::of(&text).map(Answer::Language);
    let batch = Batch::of(texts.map(detected));
    Ok(json(StatusCode::OK, &batch))
}

fn check_language(code: &str) -> Result<(), CompatError> {
    if LANGUAGES.contains(&code) {
        return Ok(());
    }
    Err(CompatError::UnsupportedLanguage)
}

fn check_length(text: &str) -> Result<(), CompatError> {
    if text.len() <= MAX_TEXT_BYTES {
        return Ok(());
    }
    Err(CompatError::TextTooLong {
        bytes: text.len(),
        max_bytes: MAX_TEXT_BYTES,
    })
}

impl From<PostError> for CompatError {
    fn from(error: PostError) -> Self {
        match error {
            PostError::TooLong { bytes, max_bytes } => Self::TextTooLong { bytes, max_bytes },
            _ => Self::EmptyText,
        }
    }
}

/// A text's sentiment.
#[derive(Serialize)]
#[cfg_attr(test, derive(utoipa::ToSchema), schema(as = comprehend::Detected))]
#[serde(rename_all = "PascalCase")]
pub(super) struct Detected {
    #[cfg_attr(test, schema(pattern = "^(NEGATIVE|NEUTRAL|POSITIVE)$"))]
    sentiment: &'static str,
    sentiment_score: SentimentScore,
}

#[derive(Serialize)]
#[cfg_attr(test, derive(utoipa::ToSchema), schema(as = comprehend::SentimentScore))]
#[serde(rename_all = "PascalCase")]
struct SentimentScore {
    positive: f32,
    negative: f32,
    neutral: f32,
    mixed: f32,
}

impl Detected {
    fn of(sentiment: &Sentiment, sides: &Polarities) -> Self {
        let scores = sides.scores(sentiment);
        Self {
            sentiment: match scores.polarity() {
                Polarity::Negative => "NEGATIVE",
                Polarity::Neutral => "NEUTRAL",
                Polarity::Positive => "POSITIVE",
            },
            sentiment_score: SentimentScore {
                positive: scores.positive,
                negative: scores.negative,
                neutral: scores.neutral,
                mixed: 0.0,
            },
        }
    }
}

/// A text's language. Comprehend lists several; here it is the most likely one.
#[derive(Serialize)]
#[cfg_attr(test, derive(utoipa::ToSchema), schema(as = comprehend::DominantLanguage))]
#[serde(rename_all = "PascalCase")]
pub(super) struct DominantLanguage {
    #[cfg_attr(test, schema(min_items = 1, max_items = 1))]
    languages: Vec<LanguageScore>,
}

#[derive(Serialize)]
#[cfg_attr(test, derive(utoipa::ToSchema), schema(as = comprehend::LanguageScore))]
#[serde(rename_all = "PascalCase")]
struct LanguageScore {
    language_code: &'static str,
    score: f32,
}

impl DominantLanguage {
    fn of(text: &str) -> Result<Self, CompatError> {
        check_length(text)?;
        if text.is_empty() {
            return Err(CompatError::EmptyText);
        }
        // Clients take the first one without looking, so a text without words has one too.
        let undetermined = Language {
            code: "und",
            confidence: 0.0,
        };
        let Language { code, confidence } = language::detect(text).unwrap_or(undetermined);
        Ok(Self {
            languages: vec![LanguageScore {
                language_code: code,
                score: confidence,
            }],
        })
    }
}

/// Results and errors of a batch; both lists are always there.
#[derive(Serialize)]
#[cfg_attr(test, derive(utoipa::ToSchema), schema(as = comprehend::Batch))]
#[serde(rename_all = "PascalCase")]
pub(super) struct Batch {
    result_list: Vec<BatchItem>,
    error_list: Vec<BatchError>,
}

impl Batch {
    fn of<E: Into<ApiError>>(items: impl Iterator<Item = Result<Answer, E>>) -> Self {
        let mut batch = Self {
            result_list: Vec::new(),
            error_list: Vec::new(),
        };
        for (index, item) in items.enumerate() {
            match item {
                Ok(detected) => batch.result_list.push(BatchItem { index, detected }),
                Err(fault) => {
                    let fault = fault.into();
                    batch.error_list.push(BatchError {
                        index,
                        error_code: name(&fault).1,
                        error_message: fault.to_string(),
                    });
                }
            }
        }
        batch
    }
}

#[derive(Serialize)]
#[cfg_attr(test, derive(utoipa::ToSchema), schema(as = comprehend::BatchItem))]
#[serde(rename_all = "PascalCase")]
struct BatchItem {
    index: usize,
    #[serde(flatten)]
    detected: Answer,
}

/// What a text is answered with.
#[derive(Serialize)]
#[cfg_attr(test, derive(utoipa::ToSchema), schema(as = comprehend::Answer))]
#[serde(untagged)]
enum Answer {
    Sentiment(Detected),
    Language(DominantLanguage),
}

#[derive(Serialize)]
#[cfg_attr(test, derive(utoipa::ToSchema), schema(as = comprehend::BatchError))]
#[serde(rename_all = "PascalCase")]
struct BatchError {
    index: usize,
    error_code: &'static str,
    error_message: String,
}

/// An exception.
#[derive(Serialize)]
#[cfg_attr(test, derive(utoipa::ToSchema), schema(as = comprehend::Refusal))]
pub(super) struct Refusal {
    #[serde(rename = "__type")]
    kind: &'static str,
    #[serde(rename = "Message")]
    message: String,
}

/// An error's status and the name of the exception that it becomes.
fn name(error: &ApiError) -> (StatusCode, &'static str) {
    let name = match error {
        ApiError::Internal { .. } | ApiError::DeadlineExceeded => {
            return (StatusCode::INTERNAL_SERVER_ERROR, "InternalServerException");
        }
        ApiError::Overloaded { .. } | ApiError::ShuttingDown => "ThrottlingException",
        ApiError::BodyTooLarge { .. }
        | ApiError::Post(PostError::TooLong { .. })
        | ApiError::Compat(CompatError::TextTooLong { .. }) => "TextSizeLimitExceededException",
        ApiError::Compat(fault) => match fault {
            CompatError::BatchTooLarge { .. } => "BatchSizeLimitExceededException",
            CompatError::UnsupportedLanguage => "UnsupportedLanguageException",
            CompatError::UnknownOperation => "UnknownOperationException",
            CompatError::Signature(SignatureError::Missing) => {
                "MissingAuthenticationTokenException"
            }
            CompatError::Signature(SignatureError::Incomplete) => "IncompleteSignatureException",
            CompatError::Signature(SignatureError::UnknownKey) => "UnrecognizedClientException",
            CompatError::Signature(SignatureError::Skewed | SignatureError::Mismatch) => {
                "InvalidSignatureException"
            }
            _ => "InvalidRequestException",
        },
        _ => "InvalidRequestException",
    };
    (StatusCode::BAD_REQUEST, name)
}

fn error(error: ApiError) -> Response {
    let (status, body) = refusal(&error);
    refuse(error, status, &body)
}

/// Its status and body.
pub(super) fn refusal(error: &ApiError) -> (StatusCode, Refusal) {
    let (status, kind) = name(error);
    let body = Refusal {
        kind,
        message: error.to_string(),
    };
    (status, body)
}
