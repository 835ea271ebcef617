//! Amazon Comprehend's `DetectSentiment`, `DetectDominantLanguage` and their batch forms, as
//! the AWS SDKs call them: AWS JSON 1.1, with the operation in a header and the client
//! authenticated by a signature.
//!
//! Overload is a 400 named `ThrottlingException`, which the SDKs retry. The model has no class for
//! mixed sentiment, so `Mixed` is always 0.

use super::error::CompatError::{self, Api, Format};
use super::error::{FormatError, into_format, with_id};
use super::score::{polarities, score_each, score_one};
use super::sigv4::{ClaimedSignature, SignatureError};
use super::strict_json::{self, BoundedVec};
use crate::error::PostRejection;
use crate::http::access;
use crate::http::buffered_request::{BufferedRequest, with_stats};
use crate::http::error::{ApiError, json};
use crate::http::request_telemetry::RequestId;
use crate::http::state::AppState;
use crate::json::BatchText;
use crate::language::{self, Language};
use crate::scorer::{PostOptions, ScoredPost};
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

/// The language codes that Comprehend accepts; `boto3` does not validate them.
pub(super) const LANGUAGES: [&str; 12] = [
    "en", "es", "fr", "de", "it", "pt", "ar", "hi", "ja", "ko", "zh", "zh-TW",
];

pub(super) const EXPECTED_BODY: &str = "the body must be {\"Text\": \"...\", \"LanguageCode\": \"en\"} or \
                     {\"TextList\": [\"...\"], \"LanguageCode\": \"en\"}";

/// The expected body of the operations that detect the language.
const EXPECTED_LANGUAGE_BODY: &str =
    "the body must be {\"Text\": \"...\"} or {\"TextList\": [\"...\"]}";

/// Detect the sentiment or the language of one text or many
///
/// `Mixed` is always 0. In a batch, a text that cannot be scored gets an error of its own.
#[cfg_attr(test, utoipa::path(
    post,
    path = "/comprehend",
    tag = "Amazon Comprehend",
    operation_id = "comprehend",
    params(("x-amz-target" = String, Header, description = "The operation")),
    request_body(
        description = "The body of the operation's request",
        content((
            Object = "application/x-amz-json-1.1",
            example = json!({"Text": "I love this phone", "LanguageCode": "en"}),
        )),
    ),
    responses((
        status = 200,
        description = "The operation's response",
        content((Object = "application/x-amz-json-1.1")),
        headers(("x-amzn-requestid" = String, description = "The request's id")),
    )),
))]
pub(super) async fn handle(State(app): State<AppState>, request: Request) -> Response {
    let id: Option<RequestId> = request.extensions().get().cloned();
    let mut response = into_format(try_handle(&app, request).await, &app, status_and_body);
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static(JSON_1_1));
    with_id(response, "x-amzn-requestid", id)
}

async fn try_handle(app: &AppState, request: Request) -> Result<Response, CompatError> {
    let operation = Operation::from_headers(request.headers())?;
    let keys = &app.0.access.sigv4_keys;
    // Either an API key or a signature will do; a server without any keys accepts all requests.
    let signature = match access::check(app, &request) {
        Ok(()) => None,
        Err(_) => Some(
            ClaimedSignature::from_headers(request.headers(), keys, SystemTime::now())
                .map_err(FormatError::from)?,
        ),
    };
    let mut request = BufferedRequest::read(app, request).await?;
    if let Some(signature) = signature {
        let verified = signature.verify(&request.parts, request.body());
        verified.map_err(FormatError::from)?;
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

    fn from_headers(headers: &HeaderMap) -> Result<Self, CompatError> {
        let target = headers.get(TARGET).ok_or(FormatError::UnknownOperation)?;
        let known = Self::ALL.into_iter().find(|(name, _)| target == name);
        Ok(known.ok_or(FormatError::UnknownOperation)?.1)
    }
}

/// The request of `DetectSentiment`.
#[derive(Deserialize)]
#[cfg_attr(test, derive(utoipa::ToSchema), schema(as = comprehend::DetectRequest))]
#[serde(rename_all = "PascalCase")]
pub(super) struct Detect {
    #[cfg_attr(test, schema(required = true, nullable = false))]
    text: Option<String>,
    #[cfg_attr(test, schema(required = true, nullable = false))]
    language_code: Option<String>,
}

/// The request of `BatchDetectSentiment`.
#[derive(Deserialize)]
#[cfg_attr(test, derive(utoipa::ToSchema), schema(as = comprehend::BatchRequest))]
#[serde(rename_all = "PascalCase")]
pub(super) struct BatchDetect {
    #[cfg_attr(test, schema(value_type = Vec<Option<String>>, required = true))]
    text_list: Option<BoundedVec<BatchText, MAX_TEXTS>>,
    #[cfg_attr(test, schema(required = true, nullable = false))]
    language_code: Option<String>,
}

async fn detect(request: &mut BufferedRequest) -> Result<Response, CompatError> {
    let body: Detect = request.parse_json(|json| strict_json::parse(json, EXPECTED_BODY))?;
    let text = body.text.ok_or(missing("text"))?;
    let options = options(request, body.language_code.as_deref())?;
    if text.is_empty() {
        return Err(EMPTY_TEXT.into());
    }
    let polarities = polarities(request)?;
    check_length(&text)?;
    let (scored, stages) = score_one(request, text, options).await?;
    let detected = DetectedSentiment::new(&scored.sentiment, polarities);
    Ok(with_stats(json(StatusCode::OK, &detected), 1, stages))
}

async fn batch_detect(request: &mut BufferedRequest) -> Result<Response, CompatError> {
    let body: BatchDetect = request.parse_json(|json| strict_json::parse(json, EXPECTED_BODY))?;
    let texts = body.text_list.ok_or(missing("textList"))?;
    let options = options(request, body.language_code.as_deref())?;
    let polarities = polarities(request)?;
    let texts = texts.checked()?.into_iter();
    let items = texts.map(|BatchText(text)| check_length(&text).map(|()| text));
    let scored = score_each(request, items.collect(), options).await?;
    let count = scored.items.len();
    let items = scored.items.into_iter();
    let detected = |scored: ScoredPost| {
        Detection::Sentiment(DetectedSentiment::new(&scored.sentiment, polarities))
    };
    let batch = BatchResponse::new(items.map(|item| item.map(detected)));
    Ok(with_stats(
        json(StatusCode::OK, &batch),
        count,
        scored.stages,
    ))
}

/// The request of `DetectDominantLanguage`.
#[derive(Deserialize)]
#[cfg_attr(test, derive(utoipa::ToSchema), schema(as = comprehend::LanguageRequest))]
#[serde(rename_all = "PascalCase")]
pub(super) struct DetectLanguage {
    #[cfg_attr(test, schema(required = true, nullable = false))]
    text: Option<String>,
}

/// The request of `BatchDetectDominantLanguage`.
#[derive(Deserialize)]
#[cfg_attr(test, derive(utoipa::ToSchema), schema(as = comprehend::LanguageBatchRequest))]
#[serde(rename_all = "PascalCase")]
pub(super) struct BatchDetectLanguage {
    #[cfg_attr(test, schema(value_type = Vec<Option<String>>, required = true))]
    text_list: Option<BoundedVec<BatchText, MAX_TEXTS>>,
}

fn detect_language(request: &mut BufferedRequest) -> Result<Response, CompatError> {
    let body: DetectLanguage =
        request.parse_json(|json| strict_json::parse(json, EXPECTED_LANGUAGE_BODY))?;
    let text = body.text.ok_or(missing("text"))?;
    if text.is_empty() {
        return Err(EMPTY_TEXT.into());
    }
    let detected = DominantLanguage::of(&text)?;
    Ok(json(StatusCode::OK, &detected))
}

fn batch_detect_language(request: &mut BufferedRequest) -> Result<Response, CompatError> {
    let body: BatchDetectLanguage =
        request.parse_json(|json| strict_json::parse(json, EXPECTED_LANGUAGE_BODY))?;
    let texts = body.text_list.ok_or(missing("textList"))?;
    let texts = texts.checked()?.into_iter();
    let detected = |BatchText(text)| DominantLanguage::of(&text).map(Detection::Language);
    let batch = BatchResponse::new(texts.map(detected));
    Ok(json(StatusCode::OK, &batch))
}

/// AWS validates requests before the service sees them, with messages of this form.
pub(super) const EMPTY_TEXT: FormatError = FormatError::Validation {
    value: "''",
    field: "text",
    constraint: "Member must have length greater than or equal to 1",
};

fn missing(field: &'static str) -> FormatError {
    FormatError::Validation {
        value: "null",
        field,
        constraint: "Member must not be null",
    }
}

/// The options for texts in a language. A code that Comprehend accepts is rejected only if posts in
/// that language would be.
fn options(request: &BufferedRequest, code: Option<&str>) -> Result<PostOptions, FormatError> {
    let code = code.ok_or(missing("languageCode"))?;
    let batcher = request.app().batcher();
    let language = strict_json::primary_language(code);
    if !LANGUAGES.contains(&code) || batcher.rejects(&language) {
        return Err(FormatError::UnsupportedLanguage);
    }
    Ok(PostOptions {
        model: batcher.model_of(&language),
        ..PostOptions::default()
    })
}

fn check_length(text: &str) -> Result<(), FormatError> {
    if text.len() <= MAX_TEXT_BYTES {
        return Ok(());
    }
    Err(FormatError::TextTooLong {
        bytes: text.len(),
        max_bytes: MAX_TEXT_BYTES,
    })
}

impl From<PostRejection> for FormatError {
    fn from(error: PostRejection) -> Self {
        match error {
            PostRejection::UnsupportedLanguage { .. } => Self::TextLanguage(error),
            PostRejection::Post(PostError::TooLong { bytes, max_bytes }) => {
                Self::TextTooLong { bytes, max_bytes }
            }
            PostRejection::Post(_) => Self::EmptyText,
        }
    }
}

/// A text's sentiment.
#[derive(Serialize)]
#[cfg_attr(test, derive(utoipa::ToSchema), schema(as = comprehend::DetectedSentiment))]
#[serde(rename_all = "PascalCase")]
pub(super) struct DetectedSentiment {
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

impl DetectedSentiment {
    fn new(sentiment: &Sentiment, polarities: &Polarities) -> Self {
        let scores = polarities.scores(sentiment);
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

/// A text's language. Comprehend can list several; this lists only the most likely one.
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
    fn of(text: &str) -> Result<Self, FormatError> {
        check_length(text)?;
        if text.is_empty() {
            return Err(FormatError::EmptyText);
        }
        // Clients use the first language without a check, so the list is never empty.
        let detected = language::detect(text).unwrap_or(Language::UNDETERMINED);
        let Language { code, confidence } = detected;
        Ok(Self {
            languages: vec![LanguageScore {
                language_code: code,
                score: confidence,
            }],
        })
    }
}

/// The results and errors of a batch; both lists are always present.
#[derive(Serialize)]
#[cfg_attr(test, derive(utoipa::ToSchema), schema(as = comprehend::BatchResponse))]
#[serde(rename_all = "PascalCase")]
pub(super) struct BatchResponse {
    result_list: Vec<BatchItem>,
    error_list: Vec<BatchError>,
}

impl BatchResponse {
    fn new<E: Into<CompatError>>(items: impl Iterator<Item = Result<Detection, E>>) -> Self {
        let mut batch = Self {
            result_list: Vec::new(),
            error_list: Vec::new(),
        };
        for (index, item) in items.enumerate() {
            match item {
                Ok(detected) => batch.result_list.push(BatchItem { index, detected }),
                Err(error) => {
                    let error = error.into();
                    batch.error_list.push(BatchError {
                        index,
                        error_code: status_and_exception(&error).1,
                        error_message: error.to_string(),
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
    detected: Detection,
}

/// What was detected in a text.
#[derive(Serialize)]
#[cfg_attr(test, derive(utoipa::ToSchema), schema(as = comprehend::Detection))]
#[serde(untagged)]
enum Detection {
    Sentiment(DetectedSentiment),
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

/// An exception: its name and a message.
#[derive(Serialize)]
#[cfg_attr(test, derive(utoipa::ToSchema), schema(as = comprehend::ErrorResponse))]
pub(super) struct ErrorResponse {
    #[serde(rename = "__type")]
    kind: &'static str,
    #[serde(rename = "Message")]
    message: String,
}

/// The status of an error, and the name of the exception that it is reported as.
fn status_and_exception(error: &CompatError) -> (StatusCode, &'static str) {
    let name = match error {
        Api(ApiError::Internal { .. } | ApiError::DeadlineExceeded) => {
            return (StatusCode::INTERNAL_SERVER_ERROR, "InternalServerException");
        }
        Api(ApiError::Overloaded { .. } | ApiError::ShuttingDown) => "ThrottlingException",
        Api(
            ApiError::BodyTooLarge { .. }
            | ApiError::Post(PostRejection::Post(PostError::TooLong { .. })),
        )
        | Format(FormatError::TextTooLong { .. }) => "TextSizeLimitExceededException",
        Api(ApiError::Post(PostRejection::UnsupportedLanguage { .. })) => {
            "UnsupportedLanguageException"
        }
        Format(error) => match error {
            FormatError::BatchTooLarge { .. } => "BatchSizeLimitExceededException",
            FormatError::Validation { .. } | FormatError::EmptyBatch => "ValidationException",
            FormatError::UnsupportedLanguage | FormatError::TextLanguage(_) => {
                "UnsupportedLanguageException"
            }
            FormatError::UnknownOperation => "UnknownOperationException",
            FormatError::Signature(SignatureError::Missing) => {
                "MissingAuthenticationTokenException"
            }
            FormatError::Signature(SignatureError::Incomplete) => "IncompleteSignatureException",
            FormatError::Signature(SignatureError::UnknownKey) => "UnrecognizedClientException",
            FormatError::Signature(SignatureError::Skewed | SignatureError::Mismatch) => {
                "InvalidSignatureException"
            }
            _ => "InvalidRequestException",
        },
        Api(_) => "InvalidRequestException",
    };
    (StatusCode::BAD_REQUEST, name)
}

/// The status and body of an error.
pub(super) fn status_and_body(error: &CompatError) -> (StatusCode, ErrorResponse) {
    let (status, kind) = status_and_exception(error);
    let body = ErrorResponse {
        kind,
        message: error.to_string(),
    };
    (status, body)
}
