//! Posts in, scores out: plain synchronous code, and the one place that joins
//! text, engine and head.
//!
//! A post's scores depend on the post alone. Batches are for speed: a long list of posts is
//! run in pieces of about [`Classifier::MAX_BATCH_TOKENS`] tokens.

use crate::engine::{EncodedBatch, Engine};
use crate::error::{EngineError, PostError};
use crate::model::{Model, ModelInfo};
use crate::text::Truncated;
use coldread_model::ProblemType;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// What a model says of one post.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Sentiment {
    /// A score for each label, in the model's order. They sum to 1 in a single-label model.
    pub scores: Vec<f32>,
    /// The model's output that the scores were made of, before temperature and softmax or
    /// sigmoid.
    pub logits: Vec<f32>,
    /// The index of the highest score.
    pub label_index: usize,
    /// Whether only the beginning of the post was read, because it has more tokens
    /// than the model reads.
    pub truncated: bool,
    /// How many windows of the post the scores are the mean of; 1 for most posts.
    pub windows: usize,
    model: Arc<ModelInfo>,
}

impl Sentiment {
    /// A result with given scores, for tests of programs that use this crate. Its logits are the
    /// scores.
    ///
    /// # Panics
    /// If there are not as many scores as labels, or none.
    pub fn from_scores(labels: &[&str], scores: &[f32]) -> Self {
        assert_eq!(scores.len(), labels.len(), "a score for each label");
        Self {
            scores: scores.to_vec(),
            logits: scores.to_vec(),
            label_index: highest(scores),
            truncated: false,
            windows: 1,
            model: Arc::new(ModelInfo {
                name: String::new(),
                labels: labels.iter().map(|&label| label.to_owned()).collect(),
                problem_type: ProblemType::SingleLabel,
                max_tokens: usize::MAX,
                temperature: 1.0,
                languages: Vec::new(),
            }),
        }
    }

    /// The model that says so.
    pub fn model(&self) -> &ModelInfo {
        &self.model
    }

    /// The name of the label with the highest score.
    pub fn label(&self) -> &str {
        &self.model.labels[self.label_index]
    }

    /// The highest score.
    pub fn score(&self) -> f32 {
        self.scores[self.label_index]
    }

    /// Every label with its score, in the model's order.
    pub fn labels(&self) -> impl ExactSizeIterator<Item = (&str, f32)> {
        let labels = self.model.labels.iter().map(String::as_str);
        labels.zip(self.scores.iter().copied())
    }

    /// The score of a label by its name; `None` if the model has no such label.
    pub fn score_of(&self, label: &str) -> Option<f32> {
        self.labels()
            .find_map(|(name, score)| (name == label).then_some(score))
    }
}

/// What to do with a post that has more tokens than the model reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LongText {
    /// Read its beginning.
    #[default]
    Truncate,
    /// Read it in windows, side by side; its scores are the mean of theirs, weighted by
    /// their tokens.
    Window,
    /// Reject it.
    Error,
}

impl FromStr for LongText {
    type Err = UnknownLongText;

    fn from_str(name: &str) -> Result<Self, UnknownLongText> {
        match name {
            "truncate" => Ok(Self::Truncate),
            "window" => Ok(Self::Window),
            "error" => Ok(Self::Error),
            _ => Err(UnknownLongText),
        }
    }
}

/// A name that no [`LongText`] has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected truncate, window or error")]
pub struct UnknownLongText;

/// What [`Classifier::push`] made of a post.
#[derive(Debug, Clone, Copy)]
pub struct Encoded {
    truncated: bool,
    windows: usize,
}

/// A post's result: its sentiment, or why it has none.
pub type PostResult = Result<Sentiment, PostError>;

/// Why [`Classifier::classify_one`] has no result.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClassifyError {
    /// The post cannot be scored.
    #[error(transparent)]
    Post(#[from] PostError),
    /// The engine failed, through no fault of the post.
    #[error(transparent)]
    Engine(#[from] EngineError),
}

/// Scores posts with a [`Model`]: the model's weights, and scratch memory of its own.
///
/// Cloning it makes another one on the same weights, for another thread.
pub struct Classifier {
    model: Model,
    engine: Box<dyn Engine>,
    // Scratch buffers, reused across calls to avoid reallocating.
    input_ids: Vec<u32>,
    batch: EncodedBatch,
    logits: Vec<f32>,
}

impl Clone for Classifier {
    fn clone(&self) -> Self {
        Self::new(&self.model)
    }
}

impl fmt::Debug for Classifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Classifier").field(&self.model).finish()
    }
}

impl Classifier {
    /// The most tokens handed to the engine at once: enough to keep several threads
    /// busy, while memory stays bounded however many posts are asked for.
    pub const MAX_BATCH_TOKENS: usize = 16_384;

    /// The most windows that one post is read in: together they are a batch that others
    /// have to wait for.
    pub const MAX_WINDOWS: usize = 16;

    pub(crate) fn new(model: &Model) -> Self {
        Self {
            model: model.clone(),
            engine: model.fork_engine(),
            input_ids: Vec::new(),
            batch: EncodedBatch::default(),
            logits: Vec::new(),
        }
    }

    /// The model that scores.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// The engine itself, for benchmarks of batches of a given shape.
    pub fn engine_mut(&mut self) -> &mut dyn Engine {
        &mut *self.engine
    }

    /// Scores one post.
    ///
    /// # Errors
    /// [`ClassifyError::Post`] if the post cannot be scored, [`ClassifyError::Engine`] if the
    /// engine failed.
    pub fn classify_one(&mut self, post: &str) -> Result<Sentiment, ClassifyError> {
        let result = self.classify(&[post])?.pop();
        Ok(result.expect("one result for one post")?)
    }

    /// Scores posts; the results stand in the posts' order.
    ///
    /// A post that cannot be scored has its error in its place. An `Err` of the
    /// whole means that the engine failed, through no fault of a post.
    pub fn classify<T: AsRef<str>>(&mut self, posts: &[T]) -> Result<Vec<PostResult>, EngineError> {
        self.classify_with(posts, LongText::Truncate)
    }

    /// As [`Classifier::classify`], with a say in what is done with long posts.
    pub fn classify_with<T: AsRef<str>>(
        &mut self,
        posts: &[T],
        long_text: LongText,
    ) -> Result<Vec<PostResult>, EngineError> {
        let mut results = Vec::with_capacity(posts.len());
        let mut encoded = Vec::new();
        self.clear();
        for post in posts {
            encoded.push(self.push(post.as_ref(), long_text)?);
            if self.batch_tokens() >= Self::MAX_BATCH_TOKENS {
                self.run(&mut encoded, &mut results)?;
            }
        }
        self.run(&mut encoded, &mut results)?;
        Ok(results)
    }

    /// Normalises and tokenizes one post onto the batch, for [`Classifier::run`].
    ///
    /// Whoever gathers a batch so decides when it is large enough.
    pub fn push(
        &mut self,
        post: &str,
        long_text: LongText,
    ) -> Result<Result<Encoded, PostError>, EngineError> {
        if post.len() > self.model.max_post_bytes() {
            return Ok(Err(PostError::TooLong {
                bytes: post.len(),
                max_bytes: self.model.max_post_bytes(),
            }));
        }
        let max_tokens = self.model.info().max_tokens;
        let Truncated(truncated) =
            self.model
                .text()
                .encode(post, max_tokens, &mut self.input_ids)?;
        // White space, but also lone joiners, variation selectors and the like.
        if self.input_ids.len() <= self.model.text().num_special_tokens() {
            return Ok(Err(PostError::Empty));
        }
        match long_text {
            LongText::Window if truncated => return self.push_windows(post),
            LongText::Error if truncated => {
                return Ok(Err(PostError::TooManyTokens { max_tokens }));
            }
            _ => self.batch.push(&self.input_ids),
        }
        Ok(Ok(Encoded {
            truncated,
            windows: 1,
        }))
    }

    /// A long post in as few windows as hold it, all but the last of them full.
    fn push_windows(&mut self, post: &str) -> Result<Result<Encoded, PostError>, EngineError> {
        let specials = self.model.text().num_special_tokens();
        let window = self.model.info().max_tokens - specials;
        let max_tokens = Self::MAX_WINDOWS * window + specials;
        let Truncated(too_long) =
            self.model
                .text()
                .encode(post, max_tokens, &mut self.input_ids)?;
        if too_long {
            return Ok(Err(PostError::TooManyTokens { max_tokens }));
        }
        let (before, after) = self.model.text().special_tokens();
        let own = &self.input_ids[before.len()..self.input_ids.len() - after.len()];
        let mut windows = 0;
        for tokens in own.chunks(window) {
            self.batch.push(&[before, tokens, after].concat());
            windows += 1;
        }
        Ok(Ok(Encoded {
            truncated: false,
            windows,
        }))
    }

    /// How many tokens the batch has by now.
    pub fn batch_tokens(&self) -> usize {
        self.batch.num_tokens()
    }

    /// Empties the batch. A call that failed may have left something on it.
    pub fn clear(&mut self) {
        self.batch.clear();
    }

    /// Scores the batch and empties it. `encoded` is what [`Classifier::push`] said of
    /// each of its posts; for every one of them a result is appended, in order.
    pub fn run(
        &mut self,
        encoded: &mut Vec<Result<Encoded, PostError>>,
        results: &mut Vec<PostResult>,
    ) -> Result<(), EngineError> {
        self.logits.clear();
        if !self.batch.is_empty() {
            self.engine.forward(&self.batch, &mut self.logits)?;
        }
        let info = Arc::clone(self.model.info());
        let (temperature, problem_type) = (info.temperature, info.problem_type);
        let specials = self.model.text().num_special_tokens();
        let rows = self.logits.chunks_exact(info.labels.len());
        let mut rows = rows.zip(self.batch.posts()).map(|(logits, tokens)| Window {
            scores: scores(logits, temperature, problem_type),
            logits: logits.to_vec(),
            tokens: tokens.len() - specials,
        });
        results.extend(encoded.drain(..).map(|post| {
            let Encoded { truncated, windows } = post?;
            let mut window = || rows.next().expect("a row of logits a window on the batch");
            let Window { scores, logits, .. } = match windows {
                1 => window(),
                _ => mean((0..windows).map(|_| window())),
            };
            Ok(Sentiment {
                label_index: highest(&scores),
                scores,
                logits,
                truncated,
                windows,
                model: Arc::clone(&info),
            })
        }));
        drop(rows);
        self.batch.clear();
        Ok(())
    }
}

/// What the model says of a part of a post.
struct Window {
    scores: Vec<f32>,
    logits: Vec<f32>,
    /// Without special tokens.
    tokens: usize,
}

/// The mean of windows, each weighted by its tokens. As those are fixed by the post, so
/// is the order of the sum.
fn mean(windows: impl Iterator<Item = Window>) -> Window {
    let windows: Vec<Window> = windows.collect();
    let tokens: usize = windows.iter().map(|window| window.tokens).sum();
    let mean = |of: fn(&Window) -> &[f32]| -> Vec<f32> {
        let mut sums = vec![0.0; of(&windows[0]).len()];
        for window in &windows {
            for (sum, value) in sums.iter_mut().zip(of(window)) {
                *sum += f64::from(*value) * window.tokens as f64;
            }
        }
        sums.iter()
            .map(|sum| (sum / tokens as f64) as f32)
            .collect()
    };
    Window {
        scores: mean(|window| &window.scores),
        logits: mean(|window| &window.logits),
        tokens,
    }
}

/// Softmax or sigmoids of `logits / temperature`.
///
/// In f64 and rounded once, so that the platform's `exp` does not show.
fn scores(logits: &[f32], temperature: f32, problem_type: ProblemType) -> Vec<f32> {
    let scaled = logits
        .iter()
        .map(|&x| f64::from(x) / f64::from(temperature));
    match problem_type {
        ProblemType::MultiLabel => scaled.map(|x| (1.0 / (1.0 + (-x).exp())) as f32).collect(),
        ProblemType::SingleLabel => {
            let max = scaled.clone().fold(f64::NEG_INFINITY, f64::max);
            let exps: Vec<f64> = scaled.map(|x| (x - max).exp()).collect();
            let sum: f64 = exps.iter().sum();
            exps.iter().map(|e| (e / sum) as f32).collect()
        }
    }
}

/// The first of the highest.
fn highest(scores: &[f32]) -> usize {
    let mut best = 0;
    for (i, &score) in scores.iter().enumerate() {
        if score > scores[best] {
            best = i;
        }
    }
    best
}
