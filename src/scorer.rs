//! Posts to scores, with a say in their languages: an English model scores a German post too,
//! and is sure of itself, but its scores mean little.
//!
//! A [`Scorer`] is one classifier, or several of which each post goes to the one whose model
//! serves its language. The detector runs only where something depends on it: a request that asks
//! for languages, a second model, or posts that are to be rejected.

use crate::error::PostRejection;
use crate::language::{self, Language};
use coldread_engine::classifier::Encoded;
use coldread_engine::{Classifier, EngineError, LongText, Model, PostError, Sentiment};

/// A post's scores, and its language if that was asked for.
#[derive(Debug, Clone, PartialEq)]
pub struct ScoredPost {
    /// The scores.
    pub sentiment: Sentiment,
    /// The language.
    pub language: Option<PostLanguage>,
}

/// A post's result, or why it has none.
pub type PostResult = Result<ScoredPost, PostRejection>;

/// Whether a post was found to be in a language that no model was trained for.
pub(crate) fn is_unsupported(result: &PostResult) -> bool {
    match result {
        Ok(scored) => scored.language.is_some_and(|it| it.is_unsupported),
        Err(error) => matches!(error, PostRejection::UnsupportedLanguage { .. }),
    }
}

/// The language of a post, and whether its scores can be relied on.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PostLanguage {
    /// The language.
    pub language: Language,
    /// Whether the post is, for all we know, in a language that no model was trained for.
    pub is_unsupported: bool,
}

/// How one post is scored.
#[derive(Debug, Clone, Copy, Default)]
pub struct PostOptions {
    /// What happens if the post has more tokens than the model takes.
    pub long_text: LongText,
    /// Whether the result says the post's language.
    pub detect_language: bool,
    /// The model for the language that the client named; otherwise it is that of the detected one.
    pub model: Option<ModelIndex>,
}

/// One of the models of a [`Scorer`], and of its clones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ModelIndex(usize);

impl ModelIndex {
    /// The first model that was trained for a language, a code of ISO 639.
    pub(crate) fn of_language<'a>(
        mut models: impl Iterator<Item = &'a Model>,
        language: &str,
    ) -> Option<Self> {
        let index = models.position(|model| model.languages().iter().any(|it| it == language));
        index.map(Self)
    }

    const FIRST: Self = Self(0);
}

/// What happens to posts in languages that no model was trained for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum OtherLanguages {
    /// They are scored.
    #[default]
    Score,
    /// They are rejected.
    Reject,
}

/// Why models cannot be used as they are meant to.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ScorerError {
    /// The model does not say which languages it was trained for.
    #[error(
        "{flag} needs to know the languages of the model {model}; add them to its config.json, \
         such as \"languages\": [\"en\"]"
    )]
    UnknownLanguages {
        /// What needs them.
        flag: &'static str,
        /// The model's name.
        model: String,
    },
    /// Results of one server have the same labels, whatever model they are from.
    #[error(
        "--also-model needs a model with the problem type and the labels of the first, {first}, in \
         the same order; those of {model} are {labels}"
    )]
    OtherLabels {
        /// The first model's labels.
        first: String,
        /// The second model's name.
        model: String,
        /// Its labels.
        labels: String,
    },
}

/// One model or several, and what becomes of posts in other languages. A clone shares the weights.
#[derive(Debug, Clone)]
pub struct Scorer {
    /// A post whose language none of them serves, or whose language is unsure, is the first's.
    models: Vec<ModelBatch>,
    other_languages: OtherLanguages,
    batch: Vec<Result<BatchedPost, PostRejection>>,
}

/// A model, and its share of the batch.
#[derive(Debug)]
struct ModelBatch {
    classifier: Classifier,
    encoded: Vec<Result<Encoded, PostError>>,
}

impl Clone for ModelBatch {
    fn clone(&self) -> Self {
        self.classifier.clone().into()
    }
}

impl From<Classifier> for ModelBatch {
    fn from(classifier: Classifier) -> Self {
        Self {
            classifier,
            encoded: Vec::new(),
        }
    }
}

/// A post in the batch of a model.
#[derive(Debug, Clone, Copy)]
struct BatchedPost {
    /// The index of its model.
    model: usize,
    /// If it was asked for.
    language: Option<PostLanguage>,
}

/// One model, which scores posts in all languages.
impl From<Classifier> for Scorer {
    fn from(classifier: Classifier) -> Self {
        Self {
            models: vec![classifier.into()],
            other_languages: OtherLanguages::Score,
            batch: Vec::new(),
        }
    }
}

impl Scorer {
    /// Adds a model for the posts in its languages, except for those that a model before it serves.
    ///
    /// # Errors
    /// If a model does not say which languages it was trained for, or their labels differ.
    pub fn with_model(mut self, model: &Model) -> Result<Self, ScorerError> {
        for model in self.models().chain([model]) {
            known_languages(model, "--also-model")?;
        }
        let (first, added) = (self.model().info(), model.info());
        if (&first.labels, first.problem_type) != (&added.labels, added.problem_type) {
            return Err(ScorerError::OtherLabels {
                first: first.labels.join(", "),
                model: added.name.clone(),
                labels: added.labels.join(", "),
            });
        }
        self.models.push(model.classifier().into());
        Ok(self)
    }

    /// Changes what becomes of posts in languages that no model was trained for.
    ///
    /// # Errors
    /// If posts are to be rejected, and the model does not say which languages it was trained for.
    pub fn with_other_languages(
        mut self,
        other_languages: OtherLanguages,
    ) -> Result<Self, ScorerError> {
        if other_languages == OtherLanguages::Reject {
            for model in self.models() {
                known_languages(model, "--other-languages reject")?;
            }
        }
        self.other_languages = other_languages;
        Ok(self)
    }

    /// What becomes of posts in languages that no model was trained for.
    pub fn other_languages(&self) -> OtherLanguages {
        self.other_languages
    }

    /// The first model, whose labels the others share.
    pub fn model(&self) -> &Model {
        self.models[0].classifier.model()
    }

    /// All models.
    pub fn models(&self) -> impl Iterator<Item = &Model> {
        self.models.iter().map(|it| it.classifier.model())
    }

    /// Scores posts; the results are in their order.
    ///
    /// # Errors
    /// If an engine failed.
    pub fn score<T: AsRef<str>>(
        &mut self,
        posts: &[T],
        options: PostOptions,
    ) -> Result<Vec<PostResult>, EngineError> {
        let mut results = Vec::with_capacity(posts.len());
        self.clear();
        for post in posts {
            self.push(post.as_ref(), options)?;
            if self.batch_tokens() >= Classifier::MAX_BATCH_TOKENS {
                results.append(&mut self.run()?);
            }
        }
        results.append(&mut self.run()?);
        Ok(results)
    }

    /// Adds a post to the batch.
    pub fn push(&mut self, post: &str, options: PostOptions) -> Result<(), EngineError> {
        let detects = options.detect_language
            || (self.models.len() > 1 && options.model.is_none())
            || self.other_languages == OtherLanguages::Reject;
        let language = if detects {
            Some(language::detect(post).unwrap_or(Language::UNDETERMINED))
        } else {
            None
        };
        let (chosen, is_unsupported) = self.choose(language);
        let ModelIndex(model) = options.model.unwrap_or(chosen);
        if let Some(Language { code, .. }) = language
            && is_unsupported
            && self.other_languages == OtherLanguages::Reject
        {
            let language = code;
            self.batch
                .push(Err(PostRejection::UnsupportedLanguage { language }));
            return Ok(());
        }
        let ModelBatch {
            classifier,
            encoded,
        } = &mut self.models[model];
        encoded.push(classifier.push(post, options.long_text)?);
        let asked_for = language.filter(|_| options.detect_language);
        self.batch.push(Ok(BatchedPost {
            model,
            language: asked_for.map(|language| PostLanguage {
                language,
                is_unsupported,
            }),
        }));
        Ok(())
    }

    /// The model for a detected language, and whether none was trained for it.
    fn choose(&self, language: Option<Language>) -> (ModelIndex, bool) {
        let Some(language) = language.filter(Language::is_sure) else {
            return (ModelIndex::FIRST, false);
        };
        match ModelIndex::of_language(self.models(), language.code) {
            Some(model) => (model, false),
            None => (ModelIndex::FIRST, !self.model().languages().is_empty()),
        }
    }

    /// How many tokens the batch has by now.
    pub fn batch_tokens(&self) -> usize {
        let models = self.models.iter();
        models.map(|it| it.classifier.batch_tokens()).sum()
    }

    /// Empties the batch. A call that failed may have left something on it.
    pub fn clear(&mut self) {
        self.batch.clear();
        for model in &mut self.models {
            model.classifier.clear();
            model.encoded.clear();
        }
    }

    /// Scores the batch and empties it; the results are in the order of its posts.
    pub fn run(&mut self) -> Result<Vec<PostResult>, EngineError> {
        let mut by_model = Vec::with_capacity(self.models.len());
        for model in &mut self.models {
            let mut results = Vec::with_capacity(model.encoded.len());
            model.classifier.run(&mut model.encoded, &mut results)?;
            by_model.push(results.into_iter());
        }
        let result = |post: Result<BatchedPost, PostRejection>| {
            let BatchedPost { model, language } = post?;
            let sentiment = by_model[model].next();
            let sentiment = sentiment.expect("a result for each post of the model's batch")?;
            Ok(ScoredPost {
                sentiment,
                language,
            })
        };
        Ok(self.batch.drain(..).map(result).collect())
    }
}

/// Fails if a model does not say which languages it was trained for.
fn known_languages(model: &Model, flag: &'static str) -> Result<(), ScorerError> {
    if model.languages().is_empty() {
        return Err(ScorerError::UnknownLanguages {
            flag,
            model: model.info().name.clone(),
        });
    }
    Ok(())
}
