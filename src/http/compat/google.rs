//! Google Cloud Natural Language v2: `POST /v2/documents:analyzeSentiment`, JSON.
//!
//! A post is one sentence. Its score is P(positive) - P(negative), and its magnitude
//! P(positive) + P(negative): near 0 for a matter-of-fact post, near 1 for one that takes
//! sides, also where both cancel out in the score. Google's own adds up sentences.
//!
//! Overload is 503 `UNAVAILABLE`: Google's clients try that again, and 429 they do not.

use super::error::CompatFailure::{self, Api};
use super::error::{CompatError, reject};
use super::score::{polarities, score_one};
use super::strict_json::{self, StrictObject};
use crate::http::buffered_request::{BufferedRequest, with_stats};
use crate::http::error::{ApiError, json};
use crate::http::state::AppState;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::Response;
use serde::de::{Deserializer, Error, Visitor};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::fmt;

pub(super) const EXPECTED_BODY: &str = "the body must be {\"document\": {\"type\": \"PLAIN_TEXT\", \"content\": \
                     \"...\", \"languageCode\": \"en\"}, \"encodingType\": \"UTF8\"}";

const NO_URI: &str = "gcsContentUri is not supported; send the text as `content`";

const PLAIN_TEXT_ONLY: &str = "`document.type` must be PLAIN_TEXT";

/// What is said of a language, where the caller does not say it: the default model's.
const LANGUAGE: &str = "en";

/// The sentiment of a document
///
/// A document is one sentence. Its score is P(positive) - P(negative), its magnitude
/// P(positive) + P(negative). Fields are taken in `snake_case` as well.
#[cfg_attr(test, utoipa::path(
    post,
    path = "/v2/documents:analyzeSentiment",
    tag = "Google Cloud Natural Language",
    operation_id = "google",
    request_body(
        description = "The document",
        content = Asked,
        example = json!({"document": {"type": "PLAIN_TEXT", "content": "I love this phone"}, "encodingType": "UTF8"}),
    ),
    responses((status = 200, description = "Its sentiment", body = Reply)),
))]
pub(super) async fn analyze(State(app): State<AppState>, request: Request) -> Response {
    let answer = answer(&app, request).await;
    answer.unwrap_or_else(|fault| error(fault.on(&app)))
}

async fn answer(app: &AppState, request: Request) -> Result<Response, CompatFailure> {
    let mut request = BufferedRequest::receive(app, request).await?;
    let asked: Asked = request.parse_json(|json| strict_json::parse(json, EXPECTED_BODY))?;
    let document = asked.document.0;
    if document.gcs_content_uri.is_some() {
        return Err(CompatError::Request(NO_URI).into());
    }
    let content = document
        .content
        .ok_or(CompatError::Request(EXPECTED_BODY))?;
    if document.kind != Some(DocumentType::PlainText) {
        return Err(CompatError::Request(PLAIN_TEXT_ONLY).into());
    }
    let language = document.language_code.filter(|code| !code.is_empty());
    let language = language.as_deref().unwrap_or(LANGUAGE);
    if !strict_json::is_language(language) {
        return Err(CompatError::UnsupportedLanguage.into());
    }
    let sides = polarities(&request)?;
    let (sentiment, stages) = score_one(&request, content.clone()).await?;
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
    Ok(with_stats(json(StatusCode::OK, &reply), 1, stages))
}

/// `en`, `en-GB`, ...
fn is_english(language: &str) -> bool {
    let primary = language.split('-').next().unwrap_or_default();
    primary.eq_ignore_ascii_case(LANGUAGE)
}

/// What is asked.
#[derive(Deserialize)]
#[cfg_attr(test, derive(utoipa::ToSchema), schema(as = google::Request))]
struct Asked {
    #[cfg_attr(test, schema(value_type = Document))]
    document: StrictObject<Document>,
    /// Whether a sentence's offset is told: it is -1 if this is missing or `NONE`.
    #[serde(default, rename = "encodingType", alias = "encoding_type")]
    #[cfg_attr(test, schema(value_type = Value))]
    encoding_type: Option<EncodingType>,
}

#[derive(Deserialize)]
#[cfg_attr(test, derive(utoipa::ToSchema), schema(as = google::Document))]
struct Document {
    #[serde(default, rename = "type")]
    #[cfg_attr(test, schema(value_type = Value, required = true))]
    kind: Option<DocumentType>,
    #[serde(default)]
    #[cfg_attr(test, schema(required = true, nullable = false))]
    content: Option<String>,
    #[serde(default, rename = "gcsContentUri", alias = "gcs_content_uri")]
    #[cfg_attr(test, schema(ignore))]
    gcs_content_uri: Option<serde::de::IgnoredAny>,
    /// A language's code, such as `en`, which it is if this is missing or empty.
    #[serde(default, rename = "languageCode", alias = "language_code")]
    #[cfg_attr(test, schema(pattern = "^([a-zA-Z]{2,8}(-[a-zA-Z0-9]{1,8})*)?$"))]
    language_code: Option<String>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum DocumentType {
    Unspecified,
    PlainText,
    Html,
}

impl DocumentType {
    const ALL: [(&str, Self); 3] = [
        ("TYPE_UNSPECIFIED", Self::Unspecified),
        ("PLAIN_TEXT", Self::PlainText),
        ("HTML", Self::Html),
    ];
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum EncodingType {
    None,
    Utf8,
    Utf16,
    Utf32,
}

impl EncodingType {
    const ALL: [(&str, Self); 4] = [
        ("NONE", Self::None),
        ("UTF8", Self::Utf8),
        ("UTF16", Self::Utf16),
        ("UTF32", Self::Utf32),
    ];
}

impl<'de> Deserialize<'de> for DocumentType {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NumberOrName(&Self::ALL))
    }
}

impl<'de> Deserialize<'de> for EncodingType {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NumberOrName(&Self::ALL))
    }
}

/// What `document.type` can be here, and `encodingType`.
pub(super) fn types() -> (Value, Value) {
    let (name, plain_text) = DocumentType::ALL[1];
    let names = EncodingType::ALL.map(|(name, _)| json!(name)).into_iter();
    let numbers = (0..EncodingType::ALL.len()).map(Value::from);
    let encodings: Vec<Value> = names.chain(numbers).chain([Value::Null]).collect();
    (json!([name, plain_text as u8]), encodings.into())
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

/// What is answered.
#[derive(Serialize)]
#[cfg_attr(test, derive(utoipa::ToSchema), schema(as = google::Reply))]
#[serde(rename_all = "camelCase")]
struct Reply<'a> {
    document_sentiment: Sentiment,
    language_code: &'a str,
    #[cfg_attr(test, schema(value_type = Vec<Sentence>, min_items = 1, max_items = 1))]
    sentences: [Sentence<'a>; 1],
    /// Whether it is English.
    language_supported: bool,
}

/// On which side a text is, and how much it takes sides.
#[derive(Serialize, Clone, Copy)]
#[cfg_attr(test, derive(utoipa::ToSchema), schema(as = google::Sentiment))]
struct Sentiment {
    #[cfg_attr(test, schema(minimum = 0))]
    magnitude: f32,
    score: f32,
}

#[derive(Serialize)]
#[cfg_attr(test, derive(utoipa::ToSchema), schema(as = google::Sentence))]
struct Sentence<'a> {
    text: TextSpan<'a>,
    sentiment: Sentiment,
}

#[derive(Serialize)]
#[cfg_attr(test, derive(utoipa::ToSchema), schema(as = google::TextSpan))]
#[serde(rename_all = "camelCase")]
struct TextSpan<'a> {
    content: &'a str,
    begin_offset: i32,
}

/// `{"error": {"code": ..., "message": "...", "status": "..."}}`
#[derive(Serialize)]
#[cfg_attr(test, derive(utoipa::ToSchema), schema(as = google::Refusal))]
pub(super) struct Refusal {
    error: Status,
}

/// `google.rpc.Status` as HTTP carries it.
#[derive(Serialize)]
#[cfg_attr(test, derive(utoipa::ToSchema), schema(as = google::Status))]
struct Status {
    #[cfg_attr(test, schema(value_type = u32))]
    code: u16,
    message: String,
    status: &'static str,
}

fn error(error: CompatFailure) -> Response {
    let (status, body) = refusal(&error);
    reject(error, status, &body)
}

/// Its status and body.
pub(super) fn refusal(error: &CompatFailure) -> (StatusCode, Refusal) {
    let (own, _) = error.status_and_code();
    let (http, status) = match error {
        Api(ApiError::Unauthorized) => (own, "UNAUTHENTICATED"),
        Api(ApiError::Overloaded { .. } | ApiError::ShuttingDown) => {
            (StatusCode::SERVICE_UNAVAILABLE, "UNAVAILABLE")
        }
        Api(ApiError::DeadlineExceeded) => (own, "DEADLINE_EXCEEDED"),
        Api(ApiError::Internal { .. }) => (own, "INTERNAL"),
        _ => (StatusCode::BAD_REQUEST, "INVALID_ARGUMENT"),
    };
    let body = Refusal {
        error: Status {
            code: http.as_u16(),
            message: error.to_string(),
            status,
        },
    };
    (http, body)
}
