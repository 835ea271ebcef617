//! Azure AI Language's `POST /language/:analyze-text` with the kind `SentimentAnalysis`.
//!
//! A post is one sentence here: it has the document's own scores. What of a batch cannot
//! be scored errs alone, unless it is the request that is wrong.

use super::call::{Call, CompatError, done, refuse, with_id};
use super::shape::{self, AtMost};
use crate::classifier::Sentiment;
use crate::error::PostError;
use crate::http::AppState;
use crate::http::error::{ApiError, json};
use crate::http::observe::RequestId;
use crate::polarity::{Polarities, Polarity};
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::Response;
use serde::{Deserialize, Serialize};

/// Azure's own limits; a document's is in characters.
const MAX_DOCUMENTS: usize = 10;
const MAX_CHARS: usize = 5120;

/// How many characters Azure counts as one transaction.
const CHARS_PER_TRANSACTION: usize = 1000;

const SHAPE: &str = "the body must be {\"kind\": \"SentimentAnalysis\", \"analysisInput\": \
                     {\"documents\": [{\"id\": \"0\", \"text\": \"...\", \"language\": \"en\"}]}}";

/// What Azure calls a request that it makes nothing of.
const BAD_FORMAT: &str = "InvalidRequestBodyFormat";

const OTHER_KIND: &str = "only the kind SentimentAnalysis is there";

const SAME_ID: &str = "the request has duplicated ids; give each document a unique id";

/// `POST /language/:analyze-text`
pub(super) async fn analyze(State(app): State<AppState>, request: Request) -> Response {
    let id: Option<RequestId> = request.extensions().get().cloned();
    let answer = answer(&app, request).await;
    let response = answer.unwrap_or_else(|fault| error(app.refusal(fault)));
    with_id(response, "apim-request-id", id)
}

async fn answer(app: &AppState, request: Request) -> Result<Response, ApiError> {
    let query = request.uri().query().unwrap_or_default();
    let with_statistics = query.split('&').any(|pair| pair == "showStats=true");
    let call = Call::receive(app, request).await?;
    let asked: Asked = shape::parse(call.text()?, SHAPE)?;
    if asked.kind != "SentimentAnalysis" {
        return Err(CompatError::Request(OTHER_KIND).into());
    }
    let parameters = asked.parameters.unwrap_or_default();
    let sides = call.polarities()?;
    let documents = asked.analysis_input.documents.some()?;
    let is_same = |i: usize| {
        documents[..i]
            .iter()
            .any(|other| other.id == documents[i].id)
    };
    if (1..documents.len()).any(is_same) {
        return Err(CompatError::Request(SAME_ID).into());
    }
    let items = documents.iter().map(checked).collect();
    let scored = call.score_each(items).await?;

    let mut results = Results {
        documents: Vec::new(),
        errors: Vec::new(),
        statistics: None,
        model_version: call.model(),
    };
    for (document, item) in documents.iter().zip(scored.items) {
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
    Ok(done(response, documents.len(), scored.stages))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Asked {
    kind: String,
    analysis_input: AnalysisInput,
    #[serde(default)]
    parameters: Option<Parameters>,
}

#[derive(Deserialize)]
struct AnalysisInput {
    documents: AtMost<Document, MAX_DOCUMENTS>,
}

#[derive(Deserialize)]
struct Document {
    id: String,
    text: String,
    #[serde(default)]
    language: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase")]
struct Parameters {
    #[serde(default)]
    opinion_mining: Option<bool>,
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
            PostError::Empty | PostError::InvalidUtf8 => Self::Empty,
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
    if !language.is_empty() && !shape::is_language(language) {
        return Err(DocumentFault::Language);
    }
    if document.text.chars().count() > MAX_CHARS {
        return Err(DocumentFault::TooLong);
    }
    Ok(document.text.clone())
}

fn transactions(document: &Document) -> usize {
    document
        .text
        .chars()
        .count()
        .div_ceil(CHARS_PER_TRANSACTION)
}

#[derive(Serialize)]
struct Reply<'a> {
    kind: &'static str,
    results: Results<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Results<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    statistics: Option<RequestStatistics>,
    documents: Vec<Analyzed<'a>>,
    errors: Vec<DocumentError<'a>>,
    model_version: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct RequestStatistics {
    documents_count: usize,
    valid_documents_count: usize,
    erroneous_documents_count: usize,
    transactions_count: usize,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Analyzed<'a> {
    id: &'a str,
    sentiment: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    statistics: Option<DocumentStatistics>,
    confidence_scores: ConfidenceScores,
    sentences: [Sentence<'a>; 1],
    warnings: [(); 0],
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct DocumentStatistics {
    characters_count: usize,
    transactions_count: usize,
}

#[derive(Serialize, Clone, Copy)]
struct ConfidenceScores {
    positive: f32,
    neutral: f32,
    negative: f32,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Sentence<'a> {
    sentiment: &'static str,
    confidence_scores: ConfidenceScores,
    offset: usize,
    length: usize,
    text: &'a str,
    /// Opinions are not mined; who asks for them gets none.
    #[serde(skip_serializing_if = "Option::is_none")]
    targets: Option<[(); 0]>,
    #[serde(skip_serializing_if = "Option::is_none")]
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
        let text = document.text.as_str();
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

#[derive(Serialize)]
struct DocumentError<'a> {
    id: &'a str,
    error: Detail,
}

#[derive(Serialize)]
struct Refusal {
    error: Detail,
}

#[derive(Serialize)]
struct Detail {
    code: &'static str,
    message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    innererror: Option<Inner>,
}

#[derive(Serialize)]
struct Inner {
    code: &'static str,
    message: String,
}

fn error(error: ApiError) -> Response {
    let (own, code) = error.status_and_code();
    let message = error.to_string();
    let (status, code, inner) = match &error {
        ApiError::Unauthorized => (own, "401", None),
        ApiError::Overloaded => (own, "429", None),
        ApiError::ShuttingDown => (own, "ServiceUnavailable", None),
        ApiError::Internal { .. } => (own, "InternalServerError", None),
        ApiError::DeadlineExceeded | ApiError::RequestTimeout { .. } => (own, "Timeout", None),
        ApiError::BodyTooLarge { .. } => (own, "InvalidRequest", Some(BAD_FORMAT)),
        ApiError::Compat(CompatError::BatchTooLarge { .. }) => (
            StatusCode::BAD_REQUEST,
            "InvalidRequest",
            Some("InvalidDocumentBatch"),
        ),
        ApiError::Compat(CompatError::EmptyBatch) => (
            StatusCode::BAD_REQUEST,
            "InvalidRequest",
            Some("MissingInputDocuments"),
        ),
        ApiError::Compat(CompatError::NoPolarity) => {
            (StatusCode::BAD_REQUEST, "InvalidRequest", Some(code))
        }
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
    refuse(error, status, &body)
}
