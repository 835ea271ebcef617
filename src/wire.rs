//! Results and errors as JSON: the same over HTTP, in streams of rows, on the command line and
//! in responses to events.

use crate::error::PostRejection;
use crate::scorer::{PostLanguage, PostResult, ScoredPost};
use coldread_engine::ModelInfo;
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

/// The response to a body of JSON or plain text.
#[derive(Serialize)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
#[serde(untagged)]
pub(crate) enum SentimentResponse<'a> {
    One(Scored<'a>),
    Many(BatchResults<'a>),
}

/// The result of a post, alone or in a batch.
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
    /// True if only the beginning of the post was scored; missing otherwise.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    #[cfg_attr(test, schema(required = false))]
    truncated: bool,
    /// The number of windows over which the scores are averaged; missing if the post was not split.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, schema(nullable = false, minimum = 2))]
    windows: Option<usize>,
    /// The language that was detected, as a code of ISO 639, and `und` for a post without words;
    /// only if it was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, schema(nullable = false))]
    language: Option<&'static str>,
    /// About the probability that this is the language.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, schema(nullable = false, minimum = 0, maximum = 1))]
    language_confidence: Option<f32>,
    /// Why the scores may mean little; missing if there is no reason. `unsupported_language`: the
    /// model was not trained for the post's language. Only if the language was asked for.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    #[cfg_attr(test, schema(required = false, min_items = 1))]
    warnings: &'static [&'static str],
    /// The name of the model. In a batch, the first model is named next to the results instead,
    /// and only a result of another model has its name.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, schema(nullable = false))]
    model: Option<&'a str>,
}

impl<'a> Scored<'a> {
    /// The result of a post that is alone in its response.
    pub(crate) fn alone(post: &'a ScoredPost) -> Self {
        let model = post.sentiment.model();
        Self {
            model: Some(&model.name),
            ..Self::in_batch(post, model)
        }
    }

    /// The result of a post among others, most of which are of one model.
    pub(crate) fn in_batch(post: &'a ScoredPost, most: &ModelInfo) -> Self {
        let ScoredPost {
            sentiment,
            language,
        } = post;
        let model = sentiment.model();
        Self {
            label: sentiment.label(),
            score: sentiment.score(),
            scores: Scores {
                labels: &model.labels,
                scores: &sentiment.scores,
            },
            truncated: sentiment.truncated,
            windows: Some(sentiment.windows).filter(|&windows| windows > 1),
            language: language.map(|it| it.language.code),
            language_confidence: language.map(|it| it.language.confidence),
            warnings: warnings(*language),
            model: Some(model.name.as_str()).filter(|name| *name != most.name),
        }
    }
}

/// The codes of warnings.
pub(crate) fn warnings(language: Option<PostLanguage>) -> &'static [&'static str] {
    match language {
        Some(it) if it.is_unsupported => &["unsupported_language"],
        _ => &[],
    }
}

/// `{"negative": 0.01, ...}` in the model's order.
///
/// Scores are serialized as f32, with the fewest digits that parse to the same f32. Converted to
/// f64 first, 0.98 would become 0.9800000190734863.
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

/// The results of many posts, in the order of the request.
#[derive(Serialize)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
pub(crate) struct BatchResults<'a> {
    results: Vec<ScoredOrError<'a>>,
    /// The name of the model.
    model: &'a str,
}

impl<'a> BatchResults<'a> {
    pub(crate) fn new(results: &'a [PostResult], model: &'a ModelInfo) -> Self {
        let results = results.iter().map(|r| ScoredOrError::new(r, model));
        Self {
            results: results.collect(),
            model: &model.name,
        }
    }
}

/// The result of one post in a batch, or why it could not be scored.
#[derive(Serialize)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
#[serde(untagged)]
pub(crate) enum ScoredOrError<'a> {
    Scored(Scored<'a>),
    Failed(ErrorBody),
}

impl<'a> ScoredOrError<'a> {
    pub(crate) fn new(result: &'a PostResult, model: &ModelInfo) -> Self {
        match result {
            Ok(post) => Self::Scored(Scored::in_batch(post, model)),
            Err(error) => Self::Failed(ErrorBody::from_post_error(error)),
        }
    }
}

/// `{"error": {"code": ..., "message": ...}}`
#[derive(Debug, Clone, Serialize)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
pub(crate) struct ErrorBody {
    error: ErrorDetail,
}

/// An error, for programs and for people.
#[derive(Debug, Clone, Serialize)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
struct ErrorDetail {
    /// A stable code.
    code: &'static str,
    /// What is wrong, and what to do about it.
    message: String,
}

impl ErrorBody {
    pub(crate) fn new(code: &'static str, message: String) -> Self {
        Self {
            error: ErrorDetail { code, message },
        }
    }

    /// The error of a post, which takes the place of its result in a batch.
    pub(crate) fn from_post_error(error: &PostRejection) -> Self {
        Self::new(error.code(), error.to_string())
    }

    pub(crate) fn code(&self) -> &'static str {
        self.error.code
    }

    pub(crate) fn message(&self) -> &str {
        &self.error.message
    }
}
