//! Google Cloud Natural Language: `POST /v2/documents:analyzeSentiment` and its predecessor in v1,
//! JSON. What v2 calls `languageCode` is `language` in v1, whose responses say nothing else about it.
//!
//! Each document counts as one sentence. Its score is P(positive) - P(negative), and its magnitude
//! P(positive) + P(negative): near 0 for a neutral post and near 1 for one with strong sentiment,
//! even if positive and negative cancel out in the score. Google's own adds up sentences.
//!
//! Overload is 503 `UNAVAILABLE`, which Google's clients retry, unlike 429.

use super::error::CompatError::{self, Api};
use super::error::{FormatError, into_format};
use super::score::{polarities, score_one};
use super::strict_json::{self, StrictObject};
use crate::http::buffered_request::{BufferedRequest, with_stats};
use crate::http::error::{ApiError, json};
use crate::http::state::AppState;
use crate::language::Language;
use crate::scorer::PostOptions;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::Response;
use coldread_engine::ModelInfo;
use serde::de::{Deserializer, Error, Visitor};
use serde::{Deserialize, Serialize};
#[cfg(test)]
use serde_json::{Value, json};
use std::fmt;

pub(super) const EXPECTED_BODY: &str = "the body must be {\"document\": {\"type\": \"PLAIN_TEXT\", \"content\": \
                     \"...\", \"languageCode\": \"en\"}, \"encodingType\": \"UTF8\"}";

pub(super) const EXPECTED_V1_BODY: &str = "the body must be {\"document\": {\"type\": \"PLAIN_TEXT\", \"content\": \
                     \"...\", \"language\": \"en\"}, \"encodingType\": \"UTF8\"}";

const NO_URI: &str = "gcsContentUri is not supported; send the text as `content`";

const PLAIN_TEXT_ONLY: &str = "`document.type` must be PLAIN_TEXT";

/// The language of a model that does not say which it was trained for.
const LANGUAGE: &str = "en";

/// Score a document
///
/// Each document counts as one sentence. Its score is P(positive) - P(negative), its magnitude
/// P(positive) + P(negative). Field names are accepted in `snake_case` as well.
#[cfg_attr(test, utoipa::path(
    post,
    path = "/v2/documents:analyzeSentiment",
    tag = "Google Cloud Natural Language",
    operation_id = "google",
    request_body(
        description = "The document",
        content = RequestBody,
        example = json!({"document": {"type": "PLAIN_TEXT", "content": "I love this phone"}, "encodingType": "UTF8"}),
    ),
    responses((status = 200, description = "Its sentiment", body = ResponseBody)),
))]
pub(super) async fn analyze(State(app): State<AppState>, request: Request) -> Response {
    let response = try_analyze(&app, request, Version::V2).await;
    into_format(response, &app, status_and_body)
}

/// Score a document (v1)
///
/// Each document counts as one sentence. Its score is P(positive) - P(negative), its magnitude
/// P(positive) + P(negative). Field names are accepted in `snake_case` as well.
#[cfg_attr(test, utoipa::path(
    post,
    path = "/v1/documents:analyzeSentiment",
    tag = "Google Cloud Natural Language",
    operation_id = "google_v1",
    request_body(
        description = "The document",
        content = Object,
        example = json!({"document": {"type": "PLAIN_TEXT", "content": "I love this phone"}, "encodingType": "UTF8"}),
    ),
    responses((status = 200, description = "Its sentiment", body = V1ResponseBody)),
))]
pub(super) async fn analyze_v1(State(app): State<AppState>, request: Request) -> Response {
    let response = try_analyze(&app, request, Version::V1).await;
    into_format(response, &app, status_and_body)
}

#[derive(Clone, Copy)]
enum Version {
    V1,
    V2,
}

async fn try_analyze(
    app: &AppState,
    request: Request,
    version: Version,
) -> Result<Response, CompatError> {
    let expected = match version {
        Version::V1 => EXPECTED_V1_BODY,
        Version::V2 => EXPECTED_BODY,
    };
    let mut request = BufferedRequest::receive(app, request).await?;
    let body: RequestBody = request.parse_json(|json| strict_json::parse(json, expected))?;
    let document = body.document.0;
    if document.gcs_content_uri.is_some() {
        return Err(FormatError::Request(NO_URI).into());
    }
    let content = document.content.ok_or(FormatError::Request(expected))?;
    if document.kind != Some(DocumentType::PlainText) {
        return Err(FormatError::Request(PLAIN_TEXT_ONLY).into());
    }
    let batcher = app.batcher();
    let named = document.language_code.filter(|code| !code.is_empty());
    let mut options = PostOptions {
        detect_language: named.is_none(),
        ..PostOptions::default()
    };
    if let Some(code) = &named {
        let language = strict_json::primary_language(code);
        if !strict_json::is_language(code) || batcher.rejects(&language) {
            return Err(FormatError::UnsupportedLanguage.into());
        }
        options.model = batcher.model_of(&language);
    }
    let polarities = polarities(&request)?;
    let (scored, stages) = score_one(&request, content.clone(), options).await?;
    let scores = polarities.scores(&scored.sentiment);
    let sentiment = Sentiment {
        magnitude: scores.positive + scores.negative,
        score: scores.positive - scores.negative,
    };
    let detected = scored.language.map(|it| it.language);
    let language = match (&named, detected.filter(Language::is_sure)) {
        (Some(code), _) => code.as_str(),
        (None, Some(language)) => language.code,
        (None, None) => default_language(batcher.model()),
    };
    let primary = strict_json::primary_language(language);
    let encoding = body.encoding_type.unwrap_or(EncodingType::None);
    let sentences = [Sentence {
        text: TextSpan {
            content: &content,
            begin_offset: if encoding == EncodingType::None {
                -1
            } else {
                0
            },
        },
        sentiment,
    }];
    let response = match version {
        Version::V1 => {
            let body = V1ResponseBody {
                document_sentiment: sentiment,
                language,
                sentences,
            };
            json(StatusCode::OK, &body)
        }
        Version::V2 => {
            let body = ResponseBody {
                document_sentiment: sentiment,
                language_code: language,
                sentences,
                language_supported: batcher.serves(&primary).unwrap_or(primary == LANGUAGE),
            };
            json(StatusCode::OK, &body)
        }
    };
    Ok(with_stats(response, 1, stages))
}

/// The language of a post that is too short to tell.
fn default_language(model: &ModelInfo) -> &str {
    model.languages.first().map_or(LANGUAGE, String::as_str)
}

/// The body of a request.
#[derive(Deserialize)]
#[cfg_attr(test, derive(utoipa::ToSchema), schema(as = google::Request))]
struct RequestBody {
    #[cfg_attr(test, schema(value_type = Document))]
    document: StrictObject<Document>,
    /// The unit of offsets. If it is missing or `NONE`, the sentence's offset is -1.
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
    /// A language code. If it is missing or empty, the language is detected.
    #[serde(
        default,
        rename = "languageCode",
        alias = "language_code",
        alias = "language"
    )]
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

/// The values that `document.type` and `encodingType` accept.
#[cfg(test)]
pub(super) fn accepted_values() -> (Value, Value) {
    let (name, plain_text) = DocumentType::ALL[1];
    let names = EncodingType::ALL.map(|(name, _)| json!(name)).into_iter();
    let numbers = (0..EncodingType::ALL.len()).map(Value::from);
    let encodings: Vec<Value> = names.chain(numbers).chain([Value::Null]).collect();
    (json!([name, plain_text as u8]), encodings.into())
}

/// A Protocol Buffers enum in JSON: Google's client sends its number, people send its name.
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

/// The body of a response in v1.
#[derive(Serialize)]
#[cfg_attr(test, derive(utoipa::ToSchema), schema(as = google::V1Response))]
#[serde(rename_all = "camelCase")]
struct V1ResponseBody<'a> {
    document_sentiment: Sentiment,
    language: &'a str,
    #[cfg_attr(test, schema(value_type = Vec<Sentence>, min_items = 1, max_items = 1))]
    sentences: [Sentence<'a>; 1],
}

/// The body of a response.
#[derive(Serialize)]
#[cfg_attr(test, derive(utoipa::ToSchema), schema(as = google::Response))]
#[serde(rename_all = "camelCase")]
struct ResponseBody<'a> {
    document_sentiment: Sentiment,
    language_code: &'a str,
    #[cfg_attr(test, schema(value_type = Vec<Sentence>, min_items = 1, max_items = 1))]
    sentences: [Sentence<'a>; 1],
    /// Whether the model was trained for the language.
    language_supported: bool,
}

/// The polarity of a text, and the strength of its sentiment.
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
#[cfg_attr(test, derive(utoipa::ToSchema), schema(as = google::ErrorResponse))]
pub(super) struct ErrorResponse {
    error: Status,
}

/// `google.rpc.Status` in JSON.
#[derive(Serialize)]
#[cfg_attr(test, derive(utoipa::ToSchema), schema(as = google::Status))]
struct Status {
    #[cfg_attr(test, schema(value_type = u32))]
    code: u16,
    message: String,
    status: &'static str,
}

/// The status and body of an error.
pub(super) fn status_and_body(error: &CompatError) -> (StatusCode, ErrorResponse) {
    let (native_status, _) = error.status_and_code();
    let (http_status, status) = match error {
        Api(ApiError::Unauthorized) => (native_status, "UNAUTHENTICATED"),
        Api(ApiError::Overloaded { .. } | ApiError::ShuttingDown) => {
            (StatusCode::SERVICE_UNAVAILABLE, "UNAVAILABLE")
        }
        Api(ApiError::DeadlineExceeded) => (native_status, "DEADLINE_EXCEEDED"),
        Api(ApiError::Internal { .. }) => (native_status, "INTERNAL"),
        _ => (StatusCode::BAD_REQUEST, "INVALID_ARGUMENT"),
    };
    let body = ErrorResponse {
        error: Status {
            code: http_status.as_u16(),
            message: error.to_string(),
            status,
        },
    };
    (http_status, body)
}
