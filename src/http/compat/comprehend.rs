//! Amazon Comprehend's `DetectSentiment` and `BatchDetectSentiment`, as the AWS SDKs call
//! them: AWS JSON 1.1, the operation in a header, the caller in a signature.
//!
//! Overload is a 400 named `ThrottlingException`, which the SDKs try again. A model of
//! three classes has none for mixed feelings: `Mixed` is 0.

use super::call::{Call, CompatError, done, refuse, with_id};
use super::shape::{self, AtMost};
use super::sigv4::{Claim, SignatureError};
use crate::classifier::Sentiment;
use crate::error::PostError;
use crate::http::error::{ApiError, json};
use crate::http::observe::RequestId;
use crate::http::{AppState, access};
use crate::polarity::{Polarities, Polarity};
use axum::extract::{Request, State};
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::Response;
use serde::{Deserialize, Serialize};
use std::time::SystemTime;

/// The header that names the operation.
pub(super) const TARGET: HeaderName = HeaderName::from_static("x-amz-target");

const JSON_1_1: HeaderValue = HeaderValue::from_static("application/x-amz-json-1.1");

/// Comprehend's own limits.
const MAX_TEXTS: usize = 25;
const MAX_TEXT_BYTES: usize = 5000;

/// The codes that Comprehend knows; `boto3` sends any.
const LANGUAGES: [&str; 12] = [
    "en", "es", "fr", "de", "it", "pt", "ar", "hi", "ja", "ko", "zh", "zh-TW",
];

const SHAPE: &str = "the body must be {\"Text\": \"...\", \"LanguageCode\": \"en\"} or \
                     {\"TextList\": [\"...\"], \"LanguageCode\": \"en\"}";

/// `POST /comprehend`, and `POST /` with an operation in the header.
pub(super) async fn call(State(app): State<AppState>, request: Request) -> Response {
    let id: Option<RequestId> = request.extensions().get().cloned();
    let answer = answer(&app, request).await;
    let mut response = answer.unwrap_or_else(|fault| error(app.refusal(fault)));
    response.headers_mut().insert(CONTENT_TYPE, JSON_1_1);
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
    }
}

#[derive(Clone, Copy)]
enum Operation {
    Detect,
    BatchDetect,
}

impl Operation {
    fn of(headers: &HeaderMap) -> Result<Self, ApiError> {
        match headers.get(TARGET).map(HeaderValue::as_bytes) {
            Some(b"Comprehend_20171127.DetectSentiment") => Ok(Self::Detect),
            Some(b"Comprehend_20171127.BatchDetectSentiment") => Ok(Self::BatchDetect),
            _ => Err(CompatError::UnknownOperation.into()),
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Detect {
    text: String,
    language_code: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct BatchDetect {
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
    let mut batch = Batch {
        result_list: Vec::new(),
        error_list: Vec::new(),
    };
    let count = scored.items.len();
    for (index, item) in scored.items.into_iter().enumerate() {
        match item {
            Ok(sentiment) => batch.result_list.push(BatchItem {
                index,
                detected: Detected::of(&sentiment, sides),
            }),
            Err(fault) => {
                let fault = ApiError::from(fault);
                batch.error_list.push(BatchError {
                    index,
                    error_code: name(&fault).1,
                    error_message: fault.to_string(),
                });
            }
        }
    }
    Ok(done(json(StatusCode::OK, &batch), count, scored.stages))
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

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Detected {
    sentiment: &'static str,
    sentiment_score: SentimentScore,
}

#[derive(Serialize)]
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

/// Both lists are always there.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Batch {
    result_list: Vec<BatchItem>,
    error_list: Vec<BatchError>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct BatchItem {
    index: usize,
    #[serde(flatten)]
    detected: Detected,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct BatchError {
    index: usize,
    error_code: &'static str,
    error_message: String,
}

#[derive(Serialize)]
struct Refusal {
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
        ApiError::Overloaded | ApiError::ShuttingDown => "ThrottlingException",
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
    let (status, kind) = name(&error);
    let body = Refusal {
        kind,
        message: error.to_string(),
    };
    refuse(error, status, &body)
}
