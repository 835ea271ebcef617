//! Azure AI Language's `POST /language/:analyze-text` with the kind `SentimentAnalysis`, and
//! `POST /text/analytics/v3.1/sentiment` and `v3.0` of its predecessor, Text Analytics. There, the
//! body is the list of documents alone, and parameters are in the query.
//!
//! Each document counts as one sentence, whose scores are the document's. A document that cannot
//! be scored gets an error of its own; an invalid request fails as a whole.

use super::error::CompatError::{self, Api, Format};
use super::error::{FormatError, into_format, with_id};
use super::score::{polarities, score_each};
use super::strict_json::{self, BoundedVec, StrictObject};
use crate::batcher::{Batcher, Post};
use crate::error::PostRejection;
use crate::http::buffered_request::{BufferedRequest, with_stats};
use crate::http::error::{ApiError, json};
use crate::http::request_telemetry::RequestId;
use crate::http::state::AppState;
use crate::json::BatchText;
use crate::language::Language;
use crate::scorer::{PostOptions, ScoredPost};
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::Response;
use coldread_engine::PostError;
use coldread_engine::polarity::{Polarities, Polarity};
use serde::{Deserialize, Serialize};

/// Azure's own limits: documents per request, and characters per document.
pub(super) const MAX_DOCUMENTS: usize = 10;
const MAX_CHARS: usize = 5120;

/// The number of characters that Azure counts as one transaction.
const CHARS_PER_TRANSACTION: usize = 1000;

pub(super) const EXPECTED_BODY: &str = "the body must be {\"kind\": \"SentimentAnalysis\", \"analysisInput\": \
                     {\"documents\": [{\"id\": \"0\", \"text\": \"...\", \"language\": \"en\"}]}}";

pub(super) const EXPECTED_V3_BODY: &str =
    "the body must be {\"documents\": [{\"id\": \"0\", \"text\": \"...\", \"language\": \"en\"}]}";

/// Azure's code for a body that it cannot parse.
const BAD_FORMAT: &str = "InvalidRequestBodyFormat";

pub(super) const UNSUPPORTED_KIND: &str =
    "`kind` must be SentimentAnalysis; no other kind is supported";

/// The language of a document that asks for its detection.
const AUTO: &str = "auto";

pub(super) const DUPLICATE_ID: &str =
    "two documents have the same id; give each document a unique id";

/// Score documents
///
/// A document that cannot be scored gets an error of its own. Each document counts as one
/// sentence.
#[cfg_attr(test, utoipa::path(
    post,
    path = "/language/:analyze-text",
    tag = "Azure AI Language",
    operation_id = "azure",
    params(
        ("api-version" = Option<String>, Query, description = "Ignored"),
        ("showStats" = Option<String>, Query, description = "`true` adds statistics about documents and characters to the response"),
    ),
    request_body(
        description = "The documents",
        content = RequestBody,
        example = json!({
            "kind": "SentimentAnalysis",
            "analysisInput": {"documents": [{"id": "0", "text": "I love this phone", "language": "en"}]},
        }),
    ),
    responses((
        status = 200,
        description = "A result or an error for each document",
        body = ResponseBody,
        headers(("apim-request-id" = String, description = "The request's id")),
    )),
))]
pub(super) async fn analyze(State(app): State<AppState>, request: Request) -> Response {
    let id: Option<RequestId> = request.extensions().get().cloned();
    let response = into_format(try_analyze(&app, request).await, &app, status_and_body);
    with_id(response, "apim-request-id", id)
}

/// Score documents (Text Analytics v3.1 and v3.0)
///
/// A document that cannot be scored gets an error of its own. Each document counts as one
/// sentence.
#[cfg_attr(test, utoipa::path(
    post,
    path = "/text/analytics/{version}/sentiment",
    tag = "Azure AI Language",
    operation_id = "azure_v3",
    params(
        ("showStats" = Option<String>, Query, description = "`true` adds statistics about documents and characters to the response"),
        ("opinionMining" = Option<String>, Query, description = "Not supported: `true` adds empty lists of targets and assessments"),
        ("stringIndexType" = Option<String>, Query, description = "With `Utf16CodeUnit` lengths are in UTF-16 code units, otherwise in code points"),
    ),
    request_body(
        description = "The documents",
        content = AnalysisInput,
        example = json!({"documents": [{"id": "0", "text": "I love this phone", "language": "en"}]}),
    ),
    responses((
        status = 200,
        description = "A result or an error for each document",
        body = AnalysisResults,
        headers(("apim-request-id" = String, description = "The request's id")),
    )),
))]
pub(super) async fn sentiment(State(app): State<AppState>, request: Request) -> Response {
    let id: Option<RequestId> = request.extensions().get().cloned();
    let response = try_sentiment(&app, request).await;
    let response = into_format(response, &app, v3_status_and_body);
    with_id(response, "apim-request-id", id)
}

async fn try_analyze(app: &AppState, request: Request) -> Result<Response, CompatError> {
    let mut request = BufferedRequest::receive(app, request).await?;
    let body: RequestBody = request.parse_json(|json| strict_json::parse(json, EXPECTED_BODY))?;
    if body.kind != "SentimentAnalysis" {
        return Err(FormatError::Request(UNSUPPORTED_KIND).into());
    }
    let parameters = body.parameters.unwrap_or_default().0;
    let input = body.analysis_input.0;
    analyze_documents(&request, input, &parameters, |results| {
        let body = ResponseBody {
            kind: "SentimentAnalysisResults",
            results,
        };
        json(StatusCode::OK, &body)
    })
    .await
}

async fn try_sentiment(app: &AppState, request: Request) -> Result<Response, CompatError> {
    let mut request = BufferedRequest::receive(app, request).await?;
    let input = request.parse_json(|json| strict_json::parse(json, EXPECTED_V3_BODY))?;
    let parameters = Parameters {
        opinion_mining: Some(has_pair(&request, "opinionMining=true")),
        string_index_type: has_pair(&request, "stringIndexType=Utf16CodeUnit")
            .then(|| UTF_16.to_owned()),
    };
    analyze_documents(&request, input, &parameters, |results| {
        json(StatusCode::OK, &results)
    })
    .await
}

/// Whether a request's query has a parameter of this value.
fn has_pair(request: &BufferedRequest, pair: &str) -> bool {
    let query = request.parts.uri.query().unwrap_or_default();
    query.split('&').any(|it| it == pair)
}

/// Scores documents and responds with their results in the form of a version.
async fn analyze_documents(
    request: &BufferedRequest,
    input: AnalysisInput,
    parameters: &Parameters,
    respond: impl FnOnce(AnalysisResults<'_>) -> Response,
) -> Result<Response, CompatError> {
    let with_statistics = has_pair(request, "showStats=true");
    let polarities = polarities(request)?;
    let documents = input.documents.checked()?;
    let documents: Vec<Document> = documents.into_iter().map(|StrictObject(it)| it).collect();
    let is_duplicate = |i: usize| {
        documents[..i]
            .iter()
            .any(|other| other.id == documents[i].id)
    };
    if (1..documents.len()).any(is_duplicate) {
        return Err(FormatError::Request(DUPLICATE_ID).into());
    }
    let batcher = request.app().batcher();
    let items = documents.iter().map(|it| validate(it, batcher)).collect();
    let options = PostOptions {
        detect_language: documents.iter().any(Document::is_auto),
        ..PostOptions::default()
    };
    let scored = score_each(request, items, options).await?;

    let mut results = AnalysisResults {
        documents: Vec::new(),
        errors: Vec::new(),
        statistics: None,
        model_version: request.model(),
    };
    for (document, item) in documents.iter().zip(scored.items) {
        match item {
            Ok(scored) => {
                let options = (parameters, with_statistics);
                let analyzed =
                    AnalyzedDocument::new(document, &scored, batcher, polarities, options);
                results.documents.push(analyzed);
            }
            Err(invalid) => results.errors.push(DocumentError {
                id: &document.id,
                error: invalid.detail(),
            }),
        }
    }
    results.statistics = with_statistics.then(|| RequestStatistics {
        documents_count: documents.len(),
        valid_documents_count: results.documents.len(),
        erroneous_documents_count: results.errors.len(),
        transactions_count: documents.iter().map(transactions).sum(),
    });
    let count = documents.len();
    Ok(with_stats(respond(results), count, scored.stages))
}

/// The body of a request.
#[derive(Deserialize)]
#[cfg_attr(test, derive(utoipa::ToSchema), schema(as = azure::Request))]
#[serde(rename_all = "camelCase")]
struct RequestBody {
    #[cfg_attr(test, schema(pattern = "^SentimentAnalysis$"))]
    kind: String,
    #[cfg_attr(test, schema(value_type = AnalysisInput))]
    analysis_input: StrictObject<AnalysisInput>,
    #[serde(default)]
    #[cfg_attr(test, schema(value_type = Option<Parameters>))]
    parameters: Option<StrictObject<Parameters>>,
}

#[derive(Deserialize)]
#[cfg_attr(test, derive(utoipa::ToSchema), schema(as = azure::AnalysisInput))]
struct AnalysisInput {
    /// No two have the same id.
    #[cfg_attr(test, schema(value_type = Vec<Document>))]
    documents: BoundedVec<StrictObject<Document>, MAX_DOCUMENTS>,
}

#[derive(Deserialize)]
#[cfg_attr(test, derive(utoipa::ToSchema), schema(as = azure::Document))]
struct Document {
    id: String,
    /// A document whose text is missing, empty, null or too long gets an error of its own.
    #[cfg_attr(test, schema(value_type = Option<String>))]
    text: BatchText,
    /// A language code, such as `en`, or `auto` to detect the language.
    #[serde(default)]
    language: Option<String>,
}

impl Document {
    fn is_auto(&self) -> bool {
        let language = self.language.as_deref().unwrap_or_default();
        language.eq_ignore_ascii_case(AUTO)
    }

    /// The language that the client names.
    fn named_language(&self) -> Option<&str> {
        let language = self.language.as_deref().unwrap_or_default();
        (!language.is_empty() && !self.is_auto()).then_some(language)
    }
}

#[derive(Deserialize, Default)]
#[cfg_attr(test, derive(utoipa::ToSchema), schema(as = azure::Parameters))]
#[serde(rename_all = "camelCase")]
struct Parameters {
    /// Not supported: `true` adds empty lists of targets and assessments.
    #[serde(default)]
    opinion_mining: Option<bool>,
    /// With `Utf16CodeUnit` lengths are in UTF-16 code units, otherwise in code points.
    #[serde(default)]
    string_index_type: Option<String>,
}

/// The unit of lengths that is not the code point.
const UTF_16: &str = "Utf16CodeUnit";

const UNTRAINED: &str = "The model was not trained for the language of this document.";

/// Why a document cannot be scored.
enum InvalidDocument {
    Empty,
    TooLong,
    LanguageCode,
    UnsupportedLanguage,
}

impl From<PostRejection> for InvalidDocument {
    fn from(error: PostRejection) -> Self {
        match error {
            PostRejection::UnsupportedLanguage { .. } => Self::UnsupportedLanguage,
            PostRejection::Post(PostError::TooLong { .. } | PostError::TooManyTokens { .. }) => {
                Self::TooLong
            }
            PostRejection::Post(_) => Self::Empty,
        }
    }
}

impl InvalidDocument {
    fn detail(&self) -> ErrorDetail {
        let (code, message) = match self {
            Self::Empty => ("InvalidDocument", "Document text is empty.".to_owned()),
            Self::TooLong => (
                "InvalidDocument",
                format!(
                    "A document within the request was too large to be processed. Limit document \
                     size to: {MAX_CHARS} text elements."
                ),
            ),
            Self::LanguageCode => (
                "UnsupportedLanguageCode",
                "Invalid language code. Send a code such as en.".to_owned(),
            ),
            Self::UnsupportedLanguage => ("UnsupportedLanguageCode", UNTRAINED.to_owned()),
        };
        ErrorDetail {
            code: "InvalidArgument",
            message: "Invalid document in request.".to_owned(),
            innererror: Some(InnerError { code, message }),
        }
    }
}

fn validate(document: &Document, batcher: &Batcher) -> Result<Post, InvalidDocument> {
    let mut model = None;
    if let Some(code) = document.named_language() {
        if !strict_json::is_language(code) {
            return Err(InvalidDocument::LanguageCode);
        }
        let language = strict_json::primary_language(code);
        if batcher.rejects(&language) {
            return Err(InvalidDocument::UnsupportedLanguage);
        }
        model = batcher.model_of(&language);
    }
    if document.text.0.chars().count() > MAX_CHARS {
        return Err(InvalidDocument::TooLong);
    }
    let text = document.text.0.clone();
    Ok(Post { text, model })
}

fn transactions(document: &Document) -> usize {
    document
        .text
        .0
        .chars()
        .count()
        .div_ceil(CHARS_PER_TRANSACTION)
}

/// The body of a response.
#[derive(Serialize)]
#[cfg_attr(test, derive(utoipa::ToSchema), schema(as = azure::Response))]
struct ResponseBody<'a> {
    kind: &'static str,
    results: AnalysisResults<'a>,
}

#[derive(Serialize)]
#[cfg_attr(test, derive(utoipa::ToSchema), schema(as = azure::AnalysisResults))]
#[serde(rename_all = "camelCase")]
struct AnalysisResults<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, schema(nullable = false))]
    statistics: Option<RequestStatistics>,
    documents: Vec<AnalyzedDocument<'a>>,
    errors: Vec<DocumentError<'a>>,
    model_version: &'a str,
}

#[derive(Serialize)]
#[cfg_attr(test, derive(utoipa::ToSchema), schema(as = azure::RequestStatistics))]
#[serde(rename_all = "camelCase")]
struct RequestStatistics {
    documents_count: usize,
    valid_documents_count: usize,
    erroneous_documents_count: usize,
    transactions_count: usize,
}

/// A document's sentiment.
#[derive(Serialize)]
#[cfg_attr(test, derive(utoipa::ToSchema), schema(as = azure::AnalyzedDocument))]
#[serde(rename_all = "camelCase")]
struct AnalyzedDocument<'a> {
    id: &'a str,
    #[cfg_attr(test, schema(pattern = "^(negative|neutral|positive)$"))]
    sentiment: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, schema(nullable = false))]
    statistics: Option<DocumentStatistics>,
    confidence_scores: ConfidenceScores,
    #[cfg_attr(test, schema(value_type = Vec<Sentence>, min_items = 1, max_items = 1))]
    sentences: [Sentence<'a>; 1],
    /// Only with the language `auto`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, schema(nullable = false))]
    detected_language: Option<DetectedLanguage>,
    warnings: Vec<Warning>,
}

/// Where no language is detected, name and code are `(Unknown)`.
#[derive(Serialize)]
#[cfg_attr(test, derive(utoipa::ToSchema), schema(as = azure::DetectedLanguage))]
#[serde(rename_all = "camelCase")]
struct DetectedLanguage {
    name: &'static str,
    iso6391_name: &'static str,
    confidence_score: f32,
}

impl From<Language> for DetectedLanguage {
    fn from(language: Language) -> Self {
        const UNKNOWN: &str = "(Unknown)";
        let name = language.name();
        Self {
            name: name.unwrap_or(UNKNOWN),
            iso6391_name: name.map_or(UNKNOWN, |_| language.code),
            confidence_score: language.confidence,
        }
    }
}

/// Why the scores of a document may mean little.
#[derive(Serialize)]
#[cfg_attr(test, derive(utoipa::ToSchema), schema(as = azure::Warning))]
struct Warning {
    #[cfg_attr(test, schema(pattern = "^UnsupportedLanguage$"))]
    code: &'static str,
    message: &'static str,
}

#[derive(Serialize)]
#[cfg_attr(test, derive(utoipa::ToSchema), schema(as = azure::DocumentStatistics))]
#[serde(rename_all = "camelCase")]
struct DocumentStatistics {
    characters_count: usize,
    transactions_count: usize,
}

/// Their sum is 1.
#[derive(Serialize, Clone, Copy)]
#[cfg_attr(test, derive(utoipa::ToSchema), schema(as = azure::ConfidenceScores))]
struct ConfidenceScores {
    positive: f32,
    neutral: f32,
    negative: f32,
}

#[derive(Serialize)]
#[cfg_attr(test, derive(utoipa::ToSchema), schema(as = azure::Sentence))]
#[serde(rename_all = "camelCase")]
struct Sentence<'a> {
    #[cfg_attr(test, schema(pattern = "^(negative|neutral|positive)$"))]
    sentiment: &'static str,
    confidence_scores: ConfidenceScores,
    offset: usize,
    length: usize,
    text: &'a str,
    /// Always empty, and present only with `opinionMining`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, schema(value_type = Vec<String>, required = false, max_items = 0))]
    targets: Option<[(); 0]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, schema(value_type = Vec<String>, required = false, max_items = 0))]
    assessments: Option<[(); 0]>,
}

impl<'a> AnalyzedDocument<'a> {
    fn new(
        document: &'a Document,
        scored: &ScoredPost,
        batcher: &Batcher,
        polarities: &Polarities,
        (parameters, with_statistics): (&Parameters, bool),
    ) -> Self {
        let scores = polarities.scores(&scored.sentiment);
        let confidence_scores = ConfidenceScores {
            positive: scores.positive,
            neutral: scores.neutral,
            negative: scores.negative,
        };
        let sentiment = match scores.polarity() {
            Polarity::Negative => "negative",
            Polarity::Neutral => "neutral",
            Polarity::Positive => "positive",
        };
        let detected = scored.language.filter(|_| document.is_auto());
        let is_unsupported = match document.named_language() {
            Some(code) => batcher.serves(&strict_json::primary_language(code)) == Some(false),
            None => detected.is_some_and(|it| it.is_unsupported),
        };
        let text = document.text.0.as_str();
        let opinions = (parameters.opinion_mining == Some(true)).then_some([]);
        let sentence = Sentence {
            sentiment,
            confidence_scores,
            offset: 0,
            length: match parameters.string_index_type.as_deref() {
                Some(UTF_16) => text.encode_utf16().count(),
                _ => text.chars().count(),
            },
            text,
            targets: opinions,
            assessments: opinions,
        };
        Self {
            id: &document.id,
            sentiment,
            statistics: with_statistics.then(|| DocumentStatistics {
                characters_count: text.chars().count(),
                transactions_count: transactions(document),
            }),
            confidence_scores,
            sentences: [sentence],
            detected_language: detected.map(|it| it.language.into()),
            warnings: Vec::from_iter(is_unsupported.then_some(Warning {
                code: "UnsupportedLanguage",
                message: UNTRAINED,
            })),
        }
    }
}

/// The error of a document.
#[derive(Serialize)]
#[cfg_attr(test, derive(utoipa::ToSchema), schema(as = azure::DocumentError))]
struct DocumentError<'a> {
    id: &'a str,
    error: ErrorDetail,
}

/// `{"error": {"code": "...", "message": "..."}}`
#[derive(Serialize)]
#[cfg_attr(test, derive(utoipa::ToSchema), schema(as = azure::ErrorResponse))]
pub(super) struct ErrorResponse {
    error: ErrorDetail,
}

/// The error: a code and a message.
#[derive(Serialize)]
#[cfg_attr(test, derive(utoipa::ToSchema), schema(as = azure::Error))]
struct ErrorDetail {
    code: &'static str,
    message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, schema(nullable = false))]
    innererror: Option<InnerError>,
}

#[derive(Serialize)]
#[cfg_attr(test, derive(utoipa::ToSchema), schema(as = azure::InnerError))]
struct InnerError {
    code: &'static str,
    message: String,
}

/// The status and body of an error.
pub(super) fn status_and_body(error: &CompatError) -> (StatusCode, ErrorResponse) {
    let (native_status, code) = error.status_and_code();
    let message = error.to_string();
    let (status, code, inner) = match error {
        Api(ApiError::Unauthorized) => (native_status, "401", None),
        Api(ApiError::Overloaded { .. }) => (native_status, "429", None),
        Api(ApiError::ShuttingDown) => (native_status, "ServiceUnavailable", None),
        Api(ApiError::Internal { .. }) => (native_status, "InternalServerError", None),
        Api(ApiError::DeadlineExceeded | ApiError::RequestTimeout { .. }) => {
            (native_status, "Timeout", None)
        }
        Api(ApiError::BodyTooLarge { .. }) => (native_status, "InvalidRequest", Some(BAD_FORMAT)),
        Format(FormatError::BatchTooLarge { .. }) => (
            StatusCode::BAD_REQUEST,
            "InvalidRequest",
            Some("InvalidDocumentBatch"),
        ),
        Format(FormatError::EmptyBatch) => (
            StatusCode::BAD_REQUEST,
            "InvalidRequest",
            Some("MissingInputDocuments"),
        ),
        Format(FormatError::NoPolarity) => (StatusCode::BAD_REQUEST, "InvalidRequest", Some(code)),
        _ => (StatusCode::BAD_REQUEST, "InvalidRequest", Some(BAD_FORMAT)),
    };
    let innererror = inner.map(|code| InnerError {
        code,
        message: message.clone(),
    });
    let message = match innererror {
        Some(_) => "Invalid request.".to_owned(),
        None => message,
    };
    let body = ErrorResponse {
        error: ErrorDetail {
            code,
            message,
            innererror,
        },
    };
    (status, body)
}

/// The status and body of an error in v3.0 and v3.1, which name one of them otherwise.
pub(super) fn v3_status_and_body(error: &CompatError) -> (StatusCode, ErrorResponse) {
    let (status, mut body) = status_and_body(error);
    if let (Format(FormatError::EmptyBatch), Some(inner)) = (error, &mut body.error.innererror) {
        inner.code = "MissingInputRecords";
    }
    (status, body)
}
