//! Results and errors as JSON: the same over HTTP, in streams of rows, on the command line and
//! in responses to events.

use coldread_engine::{ModelInfo, PostError, PostResult, Sentiment};
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

/// The response to a body of JSON or plain text.
#[derive(Serialize)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
#[serde(untagged)]
pub(crate) enum SentimentBody<'a> {
    One(Scored<'a>),
    Many(Many<'a>),
}

/// A scored post: a response of its own, then with the model's name, or one in a batch.
#[derive(Serialize)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
pub(crate) struct Scored<'a> {
    /// The label with the highest score.
    label: &'a str,
    /// Its score, from 0 to 1.
    #[cfg_attr(test, schema(minimum = 0, maximum = 1))]
    score: f32,
    /// The scores of all labels.
    #[cfg_attr(test, schema(value_type = std::collections::HashMap<String, f32>))]
    scores: Scores<'a>,
    /// There, and true, if only the beginning of the post was read.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    #[cfg_attr(test, schema(required = false))]
    truncated: bool,
    /// Over how many windows of a long post the scores are the mean.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, schema(nullable = false, minimum = 2))]
    windows: Option<usize>,
    /// The model; of many posts it stands beside the results.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, schema(nullable = false))]
    model: Option<&'a str>,
}

impl<'a> Scored<'a> {
    pub(crate) fn new(
        sentiment: &'a Sentiment,
        labels: &'a [String],
        model: Option<&'a str>,
    ) -> Self {
        Self {
            label: &labels[sentiment.label_index],
            score: sentiment.score(),
            scores: Scores {
                labels,
                scores: &sentiment.scores,
            },
            truncated: sentiment.truncated,
            windows: Some(sentiment.windows).filter(|&windows| windows > 1),
            model,
        }
    }
}

/// `{"negative": 0.01, ...}` in the model's order.
///
/// Scores stay f32 up to the printer, which gives the shortest digits that read
/// back as the same f32; by way of f64 0.98 would become 0.9800000190734863.
struct Scores<'a> {
    labels: &'a [String],
    scores: &'a [f32],
}

impl Serialize for Scores<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.labels.len()))?;
        for (label, score) in self.labels.iter().zip(self.scores) {
            map.serialize_entry(label, score)?;
        }
        map.end()
    }
}

/// Many posts' results, in the order in which they were sent.
#[derive(Serialize)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
pub(crate) struct Many<'a> {
    results: Vec<Item<'a>>,
    /// The model.
    model: &'a str,
}

impl<'a> Many<'a> {
    pub(crate) fn new(results: &'a [PostResult], model: &'a ModelInfo) -> Self {
        let results = results.iter().map(|r| Item::new(r, &model.labels));
        Self {
            results: results.collect(),
            model: &model.name,
        }
    }
}

/// One post of many: scored, or why not.
#[derive(Serialize)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
#[serde(untagged)]
pub(crate) enum Item<'a> {
    Scored(Scored<'a>),
    Failed(ErrorBody),
}

impl<'a> Item<'a> {
    pub(crate) fn new(result: &'a PostResult, labels: &'a [String]) -> Self {
        match result {
            Ok(sentiment) => Self::Scored(Scored::new(sentiment, labels, None)),
            Err(error) => Self::Failed(ErrorBody::of_post(error)),
        }
    }
}

/// `{"error": {"code": ..., "message": ...}}`
#[derive(Debug, Clone, Serialize)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
pub(crate) struct ErrorBody {
    error: ErrorDetail,
}

/// What is wrong, for programs and for people.
#[derive(Debug, Clone, Serialize)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
struct ErrorDetail {
    /// Stable.
    code: &'static str,
    /// What to do about it.
    message: String,
}

impl ErrorBody {
    pub(crate) fn new(code: &'static str, message: String) -> Self {
        Self {
            error: ErrorDetail { code, message },
        }
    }

    /// What stands in a batch in the place of a post that has no sentiment.
    pub(crate) fn of_post(error: &PostError) -> Self {
        Self::new(error.code(), error.to_string())
    }

    pub(crate) fn code(&self) -> &'static str {
        self.error.code
    }

    pub(crate) fn message(&self) -> &str {
        &self.error.message
    }
}
