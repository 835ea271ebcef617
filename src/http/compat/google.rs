//! Google Cloud Natural Language v2: `POST /v2/documents:analyzeSentiment`, JSON.
//!
//! A post is one sentence. Its score is P(positive) - P(negative), and its magnitude
//! P(positive) + P(negative): near 0 for a matter-of-fact post, near 1 for one that takes
//! sides, also where both cancel out in the score. Google's own adds up sentences.
//!
//! Overload is 503 `UNAVAILABLE`: Google's clients try that again, and 429 they do not.

use super::call::{Call, CompatError, done, refuse};
use super::shape;
use crate::http::AppState;
use crate::http::error::{ApiError, json};
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::Response;
use serde::de::{Deserializer, Error, Visitor};
use serde::{Deserialize, Serialize};
use std::fmt;

const SHAPE: &str = "the body must be {\"document\": {\"type\": \"PLAIN_TEXT\", \"content\": \
                     \"...\", \"languageCode\": \"en\"}, \"encodingType\": \"UTF8\"}";

const NO_URI: &str = "gcsContentUri is not supported; send the text as `content`";

const PLAIN_TEXT_ONLY: &str = "`document.type` must be PLAIN_TEXT";

/// What is said of a language, where the caller does not say it: the default model's.
const LANGUAGE: &str = "en";

/// `POST /v2/documents:analyzeSentiment`
pub(super) async fn analyze(State(app): State<AppState>, request: Request) -> Response {
    let answer = answer(&app, request).await;
    answer.unwrap_or_else(|fault| error(app.refusal(fault)))
}

async fn answer(app: &AppState, request: Request) -> Result<Response, ApiError> {
    let call = Call::receive(app, request).await?;
    let asked: Asked = shape::parse(call.text()?, SHAPE)?;
    let document = asked.document;
    if document.gcs_content_uri.is_some() {
        return Err(CompatError::Request(NO_URI).into());
    }
    let content = document.content.ok_or(CompatError::Request(SHAPE))?;
    if document.kind != Some(DocumentType::PlainText) {
        return Err(CompatError::Request(PLAIN_TEXT_ONLY).into());
    }
    let language = document.language_code.filter(|code| !code.is_empty());
    let language = language.as_deref().unwrap_or(LANGUAGE);
    if !shape::is_language(language) {
        return Err(CompatError::UnsupportedLanguage.into());
    }
    let sides = call.polarities()?;
    let (sentiment, stages) = call.score_one(content.clone()).await?;
    let scores = sides.scores(&sentiment);
    let sentiment = Sentiment {
        magnitude: scores.positive + scores.negative,
        score: scores.positive - scores.negative,
    };
    let encoding = asked.encoding_type.unwrap_or(EncodingType::None);
    let reply = Reply {
        document_sentiment: sentiment,
        language_code: language,
        sentences: [Sentence {
            text: TextSpan {
                content: &content,
                begin_offset: if encoding == EncodingType::None {
                    -1
                } else {
                    0
                },
            },
            sentiment,
        }],
        language_supported: is_english(language),
    };
    Ok(done(json(StatusCode::OK, &reply), 1, stages))
}

/// `en`, `en-GB`, ...
fn is_english(language: &str) -> bool {
    let primary = language.split('-').next().unwrap_or_default();
    primary.eq_ignore_ascii_case(LANGUAGE)
}

#[derive(Deserialize)]
struct Asked {
    document: Document,
    #[serde(default, rename = "encodingType", alias = "encoding_type")]
    encoding_type: Option<EncodingType>,
}

#[derive(Deserialize)]
struct Document {
    #[serde(default, rename = "type")]
    kind: Option<DocumentType>,
    #[serde(default)]
    content: Option<String>,
    #[serde(default, rename = "gcsContentUri", alias = "gcs_content_uri")]
    gcs_content_uri: Option<serde::de::IgnoredAny>,
    #[serde(default, rename = "languageCode", alias = "language_code")]
    language_code: Option<String>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum DocumentType {
    Unspecified,
    PlainText,
    Html,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum EncodingType {
    None,
    Utf8,
    Utf16,
    Utf32,
}

impl<'de> Deserialize<'de> for DocumentType {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NumberOrName(&[
            ("TYPE_UNSPECIFIED", Self::Unspecified),
            ("PLAIN_TEXT", Self::PlainText),
            ("HTML", Self::Html),
        ]))
    }
}

impl<'de> Deserialize<'de> for EncodingType {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NumberOrName(&[
            ("NONE", Self::None),
            ("UTF8", Self::Utf8),
            ("UTF16", Self::Utf16),
            ("UTF32", Self::Utf32),
        ]))
    }
}

/// An enum of protocol buffers in JSON: Google's client sends its number, people its name.
struct NumberOrName<T: 'static>(&'static [(&'static str, T)]);

impl<T: Copy> Visitor<'_> for NumberOrName<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an enum's number or name")
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<T, E> {
        let value = usize::try_from(number).ok().and_then(|i| self.0.get(i));
        value
            .map(|(_, value)| *value)
            .ok_or_else(|| E::custom("unknown number"))
    }

    fn visit_str<E: Error>(self, name: &str) -> Result<T, E> {
        let value = self.0.iter().find(|(known, _)| *known == name);
        value
            .map(|(_, value)| *value)
            .ok_or_else(|| E::custom("unknown name"))
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Reply<'a> {
    document_sentiment: Sentiment,
    language_code: &'a str,
    sentences: [Sentence<'a>; 1],
    language_supported: bool,
}

#[derive(Serialize, Clone, Copy)]
struct Sentiment {
    magnitude: f32,
    score: f32,
}

#[derive(Serialize)]
struct Sentence<'a> {
    text: TextSpan<'a>,
    sentiment: Sentiment,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct TextSpan<'a> {
    content: &'a str,
    begin_offset: i32,
}

#[derive(Serialize)]
struct Refusal {
    error: Status,
}

/// `google.rpc.Status` as HTTP carries it.
#[derive(Serialize)]
struct Status {
    code: u16,
    message: String,
    status: &'static str,
}

fn error(error: ApiError) -> Response {
    let (own, _) = error.status_and_code();
    let (http, status) = match &error {
        ApiError::Unauthorized => (own, "UNAUTHENTICATED"),
        ApiError::Overloaded | ApiError::ShuttingDown => {
            (StatusCode::SERVICE_UNAVAILABLE, "UNAVAILABLE")
        }
        ApiError::DeadlineExceeded => (own, "DEADLINE_EXCEEDED"),
        ApiError::Internal { .. } => (own, "INTERNAL"),
        _ => (StatusCode::BAD_REQUEST, "INVALID_ARGUMENT"),
    };
    let body = Refusal {
        error: Status {
            code: http.as_u16(),
            message: error.to_string(),
            status,
        },
    };
    refuse(error, http, &body)
}
