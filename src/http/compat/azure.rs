//! Azure AI Language's `POST /language/:analyze-text` with the kind `SentimentAnalysis`.
//!
//! A post is one sentence here: it has the document's own scores. What of a batch cannot
//! be scored errs alone, unless it is the request that is wrong.

use super::error::CompatFailure::{self, Api, Format};
use super::error::{CompatError, reject, with_id};
use super::score::{polarities, score_each};
use super::strict_json::{self, BoundedVec, StrictObject};
use crate::http::buffered_request::{BufferedRequest, with_stats};
use crate::http::error::{ApiError, json};
use crate::http::request_telemetry::RequestId;
use crate::http::state::AppState;
use crate::json::BatchText;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::Response;
use coldread_engine::PostError;
use coldread_engine::Sentiment;
use coldread_engine::polarity::{Polarities, Polarity};
use serde::{Deserialize, Serialize};

/// Azure's own limits; a document's is in characters.
pub(super) const MAX_DOCUMENTS: usize = 10;
const MAX_CHARS: usize = 5120;

/// How many characters Azure counts as one transaction.
const CHARS_PER_TRANSACTION: usize = 1000;

pub(super) const EXPECTED_BODY: &str = "the body must be {\"kind\": \"SentimentAnalysis\", \"analysisInput\": \
                     {\"documents\": [{\"id\": \"0\", \"text\": \"...\", \"language\": \"en\"}]}}";

/// What Azure calls a request that it makes nothing of.
const BAD_FORMAT: &str = "InvalidRequestBodyFormat";

pub(super) const OTHER_KIND: &str = "only the kind SentimentAnalysis is there";

pub(super) const SAME_ID: &str = "the request has duplicated ids; give each document a unique id";

/// The sentiment of documents
///
/// What of a batch cannot be scored errs alone. A document is one sentence.
#[cfg_attr(test, utoipa::path(
    post,
    path = "/language/:analyze-text",
    tag = "Azure AI Language",
    operation_id = "azure",
    params(
        ("api-version" = Option<String>, Query, description = "Not looked at"),
        ("showStats" = Option<String>, Query, description = "`true` has documents and characters counted"),
    ),
    request_body(
        description = "The documents",
        content = Asked,
        example = json!({
            "kind": "SentimentAnalysis",
            "analysisInput": {"documents": [{"id": "0", "text": "I love this phone", "language": "en"}]},
        }),
    ),
    responses((
        status = 200,
        description = "A result or an error for each document",
        body = Reply,
        headers(("apim-request-id" = String, description = "The request's id")),
    )),
))]
pub(super) async fn analyze(State(app): State<AppState>, request: Request) -> Response {
    let id: Option<RequestId> = request.extensions().get().cloned();
    let answer = answer(&app, request).await;
    let response = answer.unwrap_or_else(|fault| error(fault.on(&app)));
    with_id(response, "apim-request-id", id)
}

async fn answer(app: &AppState, request: Request) -> Result<Response, CompatFailure> {
    let query = request.uri().query().unwrap_or_default();
    let with_statistics = query.split('&').any(|pair| pair == "showStats=true");
    let mut request = BufferedRequest::receive(app, request).await?;
    let asked: Asked = request.parse_json(|json| strict_json::parse(json, EXPECTED_BODY))?;
    if asked.kind != "SentimentAnalysis" {
        return Err(CompatError::Request(OTHER_KIND).into());
    }
    let parameters = asked.parameters.unwrap_or_default().0;
    let sides = polarities(&request)?;
    let documents = asked.analysis_input.0.documents.some()?;
    let documents: Vec<Document> = documents.into_iter().map(|StrictObject(it)| it).collect();
    let is_same = |i: usize| {
        documents[..i]
            .iter()
            .any(|other| other.id == documents[i].id)
    };
    if (1..documents.len()).any(is_same) {
        return Err(CompatError::Request(SAME_ID).into());
    }
    let items = documents.iter().map(checked).collect();
    let outcome = score_each(&request, items).await?;

    let mut results = Results {
        documents: Vec::new(),
        errors: Vec::new(),
        statistics: None,
        model_version: request.model(),
    };
    for (document, item) in documents.iter().zip(outcome.items) {
        match item {
            Ok(sentiment) => {
                let form = (&parameters, with_statistics);
                let analyzed = Analyzed::of(document, &sentiment, sides, form);
                results.documents.push(analyzed);
            }
            Err(fault) => results.errors.push(DocumentError {
                id: &document.id,
                error: fault.detail(),
            }),
        }
    }
    results.statistics = with_statistics.then(|| RequestStatistics {
        documents_count: documents.len(),
        valid_documents_count: results.documents.len(),
        erroneous_documents_count: results.errors.len(),
        transactions_count: documents.iter().map(transactions).sum(),
    });
    let reply = Reply {
        kind: "SentimentAnalysisResults",
        results,
    };
    let response = json(StatusCode::OK, &reply);
    Ok(with_stats(response, documents.len(), outcome.stages))
}

/// What is asked.
#[derive(Deserialize)]
#[cfg_attr(test, derive(utoipa::ToSchema), schema(as = azure::Request))]
#[serde(rename_all = "camelCase")]
struct Asked {
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
#[cfg_attr(test, derive(utoipa::ToSchema), schema(as = azure::InputDocument))]
struct Document {
    id: String,
    /// A missing, empty, null or too long text has its error in its place.
    #[cfg_attr(test, schema(value_type = Option<String>))]
    text: BatchText,
    /// A language's code, such as `en`.
    #[serde(default)]
    language: Option<String>,
}

#[derive(Deserialize, Default)]
#[cfg_attr(test, derive(utoipa::ToSchema), schema(as = azure::Parameters))]
#[serde(rename_all = "camelCase")]
struct Parameters {
    /// There are none: lists of them are empty.
    #[serde(default)]
    opinion_mining: Option<bool>,
    /// `Utf16CodeUnit` has lengths counted so; otherwise they are in code points.
    #[serde(default)]
    string_index_type: Option<String>,
}

/// Why a document has no sentiment.
enum DocumentFault {
    Empty,
    TooLong,
    Language,
}

impl From<PostError> for DocumentFault {
    fn from(error: PostError) -> Self {
        match error {
            PostError::TooLong { .. } | PostError::TooManyTokens { .. } => Self::TooLong,
            _ => Self::Empty,
        }
    }
}

impl DocumentFault {
    fn detail(&self) -> Detail {
        let (code, message) = match self {
            Self::Empty => ("InvalidDocument", "Document text is empty.".to_owned()),
            Self::TooLong => (
                "InvalidDocument",
                format!(
                    "A document within the request was too large to be processed. Limit document \
                     size to: {MAX_CHARS} text elements."
                ),
            ),
            Self::Language => (
                "UnsupportedLanguageCode",
                "The language is not a language code, such as en.".to_owned(),
            ),
        };
        Detail {
            code: "InvalidArgument",
            message: "Invalid document in request.".to_owned(),
            innererror: Some(Inner { code, message }),
        }
    }
}

fn checked(document: &Document) -> Result<String, DocumentFault> {
    let language = document.language.as_deref().unwrap_or_default();
    if !language.is_empty() && !strict_json::is_language(language) {
        return Err(DocumentFault::Language);
    }
    if document.text.0.chars().count() > MAX_CHARS {
        return Err(DocumentFault::TooLong);
    }
    Ok(document.text.0.clone())
}

fn transactions(document: &Document) -> usize {
    document
        .text
        .0
        .chars()
        .count()
        .div_ceil(CHARS_PER_TRANSACTION)
}

/// What is answered.
#[derive(Serialize)]
#[cfg_attr(test, derive(utoipa::ToSchema), schema(as = azure::Reply))]
struct Reply<'a> {
    kind: &'static str,
    results: Results<'a>,
}

#[derive(Serialize)]
#[cfg_attr(test, derive(utoipa::ToSchema), schema(as = azure::Results))]
#[serde(rename_all = "camelCase")]
struct Results<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, schema(nullable = false))]
    statistics: Option<RequestStatistics>,
    documents: Vec<Analyzed<'a>>,
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
#[cfg_attr(test, derive(utoipa::ToSchema), schema(as = azure::Document))]
#[serde(rename_all = "camelCase")]
struct Analyzed<'a> {
    id: &'a str,
    #[cfg_attr(test, schema(pattern = "^(negative|neutral|positive)$"))]
    sentiment: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, schema(nullable = false))]
    statistics: Option<DocumentStatistics>,
    confidence_scores: ConfidenceScores,
    #[cfg_attr(test, schema(value_type = Vec<Sentence>, min_items = 1, max_items = 1))]
    sentences: [Sentence<'a>; 1],
    #[cfg_attr(test, schema(value_type = Vec<String>, max_items = 0))]
    warnings: [(); 0],
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
    /// Opinions are not mined; who asks for them gets none.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, schema(value_type = Vec<String>, required = false, max_items = 0))]
    targets: Option<[(); 0]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, schema(value_type = Vec<String>, required = false, max_items = 0))]
    assessments: Option<[(); 0]>,
}

impl<'a> Analyzed<'a> {
    fn of(
        document: &'a Document,
        sentiment: &Sentiment,
        sides: &Polarities,
        (parameters, with_statistics): (&Parameters, bool),
    ) -> Self {
        let scores = sides.scores(sentiment);
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
        let text = document.text.0.as_str();
        let opinions = (parameters.opinion_mining == Some(true)).then_some([]);
        let sentence = Sentence {
            sentiment,
            confidence_scores,
            offset: 0,
            length: match parameters.string_index_type.as_deref() {
                Some("Utf16CodeUnit") => text.encode_utf16().count(),
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
            warnings: [],
        }
    }
}

/// Why a document has no sentiment.
#[derive(Serialize)]
#[cfg_attr(test, derive(utoipa::ToSchema), schema(as = azure::DocumentError))]
struct DocumentError<'a> {
    id: &'a str,
    error: Detail,
}

/// `{"error": {"code": "...", "message": "..."}}`
#[derive(Serialize)]
#[cfg_attr(test, derive(utoipa::ToSchema), schema(as = azure::Refusal))]
pub(super) struct Refusal {
    error: Detail,
}

/// What is wrong.
#[derive(Serialize)]
#[cfg_attr(test, derive(utoipa::ToSchema), schema(as = azure::Error))]
struct Detail {
    code: &'static str,
    message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, schema(nullable = false))]
    innererror: Option<Inner>,
}

#[derive(Serialize)]
#[cfg_attr(test, derive(utoipa::ToSchema), schema(as = azure::InnerError))]
struct Inner {
    code: &'static str,
    message: String,
}

fn error(error: CompatFailure) -> Response {
    let (status, body) = refusal(&error);
    reject(error, status, &body)
}

/// Its status and body.
pub(super) fn refusal(error: &CompatFailure) -> (StatusCode, Refusal) {
    let (own, code) = error.status_and_code();
    let message = error.to_string();
    let (status, code, inner) = match error {
        Api(ApiError::Unauthorized) => (own, "401", None),
        Api(ApiError::Overloaded { .. }) => (own, "429", None),
        Api(ApiError::ShuttingDown) => (own, "ServiceUnavailable", None),
        Api(ApiError::Internal { .. }) => (own, "InternalServerError", None),
        Api(ApiError::DeadlineExceeded | ApiError::RequestTimeout { .. }) => (own, "Timeout", None),
        Api(ApiError::BodyTooLarge { .. }) => (own, "InvalidRequest", Some(BAD_FORMAT)),
        Format(CompatError::BatchTooLarge { .. }) => (
            StatusCode::BAD_REQUEST,
            "InvalidRequest",
            Some("InvalidDocumentBatch"),
        ),
        Format(CompatError::EmptyBatch) => (
            StatusCode::BAD_REQUEST,
            "InvalidRequest",
            Some("MissingInputDocuments"),
        ),
        Format(CompatError::NoPolarity) => (StatusCode::BAD_REQUEST, "InvalidRequest", Some(code)),
        _ => (StatusCode::BAD_REQUEST, "InvalidRequest", Some(BAD_FORMAT)),
    };
    let innererror = inner.map(|code| Inner {
        code,
        message: message.clone(),
    });
    let message = match innererror {
        Some(_) => "Invalid request.".to_owned(),
        None => message,
    };
    let body = Refusal {
        error: Detail {
            code,
            message,
            innererror,
        },
    };
    (status, body)
}
