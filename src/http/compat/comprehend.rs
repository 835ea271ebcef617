//! Amazon Comprehend's `DetectSentiment`, `DetectDominantLanguage` and their batch forms, as
//! the AWS SDKs call them: AWS JSON 1.1, the operation in a header, the client's key in a
//! signature.
//!
//! Overload is a 400 named `ThrottlingException`, which the SDKs try again. A model of
//! three classes has none for mixed feelings: `Mixed` is 0.

use super::error::CompatFailure::{self, Api, Format};
use super::error::{CompatError, reject, with_id};
use super::score::{polarities, score_each, score_one};
use super::sigv4::{Claim, SignatureError};
use super::strict_json::{self, BoundedVec};
use crate::http::access;
use crate::http::buffered_request::{BufferedRequest, with_stats};
use crate::http::error::{ApiError, json};
use crate::http::request_telemetry::RequestId;
use crate::http::state::AppState;
use crate::json::BatchText;
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

pub(super) const EXPECTED_BODY: &str = "the body must be {\"Text\": \"...\", \"LanguageCode\": \"en\"} or \
                     {\"TextList\": [\"...\"], \"LanguageCode\": \"en\"}";

/// The same for the operations that detect the language.
const EXPECTED_LANGUAGE_BODY: &str =
    "the body must be {\"Text\": \"...\"} or {\"TextList\": [\"...\"]}";

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
    let mut response = answer.unwrap_or_else(|fault| error(fault.on(&app)));
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static(JSON_1_1));
    with_id(response, "x-amzn-requestid", id)
}

async fn answer(app: &AppState, request: Request) -> Result<Response, CompatFailure> {
    let operation = Operation::of(request.headers())?;
    let keys = &app.0.access.sigv4_keys;
    // A key is as good as a signature; where there is no key of any kind, both pass.
    let claim = match access::check(app, &request) {
        Ok(()) => None,
        Err(_) => Some(
            Claim::read(request.headers(), keys, SystemTime::now()).map_err(CompatError::from)?,
        ),
    };
    let mut request = BufferedRequest::read(app, request).await?;
    if let Some(claim) = claim {
        let verified = claim.verify(&request.parts, request.body());
        verified.map_err(CompatError::from)?;
    }
    match operation {
        Operation::Detect => detect(&mut request).await,
        Operation::BatchDetect => batch_detect(&mut request).await,
        Operation::Language => detect_language(&mut request),
        Operation::BatchLanguage => batch_detect_language(&mut request),
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

    fn of(headers: &HeaderMap) -> Result<Self, CompatFailure> {
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
    #[cfg_attr(test, schema(required = true, nullable = false))]
    text: Option<String>,
    #[cfg_attr(test, schema(required = true, nullable = false))]
    language_code: Option<String>,
}

/// What `BatchDetectSentiment` is asked.
#[derive(Deserialize)]
#[cfg_attr(test, derive(utoipa::ToSchema), schema(as = comprehend::BatchRequest))]
#[serde(rename_all = "PascalCase")]
pub(super) struct BatchDetect {
    #[cfg_attr(test, schema(value_type = Vec<Option<String>>, required = true))]
    text_list: Option<BoundedVec<BatchText, MAX_TEXTS>>,
    #[cfg_attr(test, schema(required = true, nullable = false))]
    language_code: Option<String>,
}

async fn detect(request: &mut BufferedRequest) -> Result<Response, CompatFailure> {
    let asked: Detect = request.parse_json(|json| strict_json::parse(json, EXPECTED_BODY))?;
    let text = asked.text.ok_or(missing("text"))?;
    check_language(asked.language_code.as_deref())?;
    if text.is_empty() {
        return Err(EMPTY_TEXT.into());
    }
    let sides = polarities(request)?;
    check_length(&text)?;
    let (sentiment, stages) = score_one(request, text).await?;
    let detected = Detected::of(&sentiment, sides);
    Ok(with_stats(json(StatusCode::OK, &detected), 1, stages))
}

async fn batch_detect(request: &mut BufferedRequest) -> Result<Response, CompatFailure> {
    let asked: BatchDetect = request.parse_json(|json| strict_json::parse(json, EXPECTED_BODY))?;
    let texts = asked.text_list.ok_or(missing("textList"))?;
    check_language(asked.language_code.as_deref())?;
    let sides = polarities(request)?;
    let texts = texts.some()?.into_iter();
    let items = texts.map(|BatchText(text)| check_length(&text).map(|()| text));
    let outcome = score_each(request, items.collect()).await?;
    let count = outcome.items.len();
    let items = outcome.items.into_iter();
    let detected = |sentiment| Answer::Sentiment(Detected::of(&sentiment, sides));
    let batch = Batch::of(items.map(|item| item.map(detected)));
    Ok(with_stats(
        json(StatusCode::OK, &batch),
        count,
        outcome.stages,
    ))
}

/// What `DetectDominantLanguage` is asked.
#[derive(Deserialize)]
#[cfg_attr(test, derive(utoipa::ToSchema), schema(as = comprehend::LanguageRequest))]
#[serde(rename_all = "PascalCase")]
pub(super) struct DetectLanguage {
    #[cfg_attr(test, schema(required = true, nullable = false))]
    text: Option<String>,
}

/// What `BatchDetectDominantLanguage` is asked.
#[derive(Deserialize)]
#[cfg_attr(test, derive(utoipa::ToSchema), schema(as = comprehend::LanguageBatchRequest))]
#[serde(rename_all = "PascalCase")]
pub(super) struct BatchDetectLanguage {
    #[cfg_attr(test, schema(value_type = Vec<Option<String>>, required = true))]
    text_list: Option<BoundedVec<BatchText, MAX_TEXTS>>,
}

fn detect_language(request: &mut BufferedRequest) -> Result<Response, CompatFailure> {
    let asked: DetectLanguage =
        request.parse_json(|json| strict_json::parse(json, EXPECTED_LANGUAGE_BODY))?;
    let text = asked.text.ok_or(missing("text"))?;
    if text.is_empty() {
        return Err(EMPTY_TEXT.into());
    }
    let detected = DominantLanguage::of(&text)?;
    Ok(json(StatusCode::OK, &detected))
}

fn batch_detect_language(request: &mut BufferedRequest) -> Result<Response, CompatFailure> {
    let asked: BatchDetectLanguage =
        request.parse_json(|json| strict_json::parse(json, EXPECTED_LANGUAGE_BODY))?;
    let texts = asked.text_list.ok_or(missing("textList"))?;
    let texts = texts.some()?.into_iter();
    let detected = |BatchText(text)| DominantLanguage::of(&text).map(Answer::Language);
    let batch = Batch::of(texts.map(detected));
    Ok(json(StatusCode::OK, &batch))
}

/// AWS validates requests before the service sees them, in words of its own.
pub(super) const EMPTY_TEXT: CompatError = CompatError::Validation {
    value: "''",
    field: "text",
    constraint: "Member must have length greater than or equal to 1",
};

fn missing(field: &'static str) -> CompatError {
    CompatError::Validation {
        value: "null",
        field,
        constraint: "Member must not be null",
    }
}

fn check_language(code: Option<&str>) -> Result<(), CompatError> {
    let code = code.ok_or(missing("languageCode"))?;
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
    fn of<E: Into<CompatFailure>>(items: impl Iterator<Item = Result<Answer, E>>) -> Self {
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
fn name(error: &CompatFailure) -> (StatusCode, &'static str) {
    let name = match error {
        Api(ApiError::Internal { .. } | ApiError::DeadlineExceeded) => {
            return (StatusCode::INTERNAL_SERVER_ERROR, "InternalServerException");
        }
        Api(ApiError::Overloaded { .. } | ApiError::ShuttingDown) => "ThrottlingException",
        Api(ApiError::BodyTooLarge { .. } | ApiError::Post(PostError::TooLong { .. }))
        | Format(CompatError::TextTooLong { .. }) => "TextSizeLimitExceededException",
        Format(fault) => match fault {
            CompatError::BatchTooLarge { .. } => "BatchSizeLimitExceededException",
            CompatError::Validation { .. } | CompatError::EmptyBatch => "ValidationException",
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
        Api(_) => "InvalidRequestException",
    };
    (StatusCode::BAD_REQUEST, name)
}

fn error(error: CompatFailure) -> Response {
    let (status, body) = refusal(&error);
    reject(error, status, &body)
}

/// Its status and body.
pub(super) fn refusal(error: &CompatFailure) -> (StatusCode, Refusal) {
    let (status, kind) = name(error);
    let body = Refusal {
        kind,
        message: error.to_string(),
    };
    (status, body)
}
