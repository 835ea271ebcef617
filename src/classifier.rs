//! Posts in, scores out: plain synchronous code, and the one place that joins
//! text, engine and head.
//!
//! A post's scores depend on the post alone. What a batch is for is speed: it is
//! laid end to end in pieces of at most [`Classifier::MAX_BATCH_TOKENS`] tokens.

use crate::encoder::Int8Engine;
use crate::engine::{EncodedBatch, Engine, EngineInfo};
use crate::error::{InferError, PostError};
use crate::kernels::{Isa, Kernels};
use crate::text::TextPipeline;
pub use crate::text::Truncated;
use coldread_model::{LoadError, ModelFolder, PackedModel, ProblemType};
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;

/// What a model says of one post.
#[derive(Debug, Clone, PartialEq)]
pub struct Sentiment {
    /// A score per label, in the model's order. They sum to 1 where one label holds.
    pub scores: Vec<f32>,
    /// What the scores were made of: the model's output as it is, before temperature and
    /// softmax or sigmoid.
    pub logits: Vec<f32>,
    /// The highest score's index.
    pub label: usize,
    /// Whether only the beginning of the post was read, because it has more tokens
    /// than the model takes.
    pub truncated: bool,
    /// Over how many windows of the post the scores are the mean; 1 for most.
    pub windows: usize,
}

/// What is done with a post of more tokens than the model takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
#[cfg_attr(test, schema(rename_all = "lowercase"))]
pub enum LongText {
    /// Its beginning is read.
    #[default]
    Truncate,
    /// It is read in windows, side by side, and its scores are the mean of theirs,
    /// weighted by their tokens.
    Window,
    /// It is refused.
    Error,
}

impl LongText {
    /// Reads its name in requests.
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "truncate" => Some(Self::Truncate),
            "window" => Some(Self::Window),
            "error" => Some(Self::Error),
            _ => None,
        }
    }
}

/// What [`Classifier::push`] made of a post.
#[derive(Debug, Clone, Copy)]
pub struct Encoded {
    truncated: bool,
    windows: usize,
}

impl Sentiment {
    /// The highest score.
    pub fn score(&self) -> f32 {
        self.scores[self.label]
    }
}

/// A post's result: its sentiment, or why it has none.
pub type PostResult = Result<Sentiment, PostError>;

/// What a loaded model is, apart from its weights.
#[derive(Debug)]
pub struct ModelInfo {
    /// What the model is called in answers.
    pub name: String,
    /// Label names by index.
    pub labels: Vec<String>,
    /// How logits become scores.
    pub problem_type: ProblemType,
    /// The longest post in tokens; the rest of a longer one is not read.
    pub max_tokens: usize,
    /// Logits are divided by this before softmax or sigmoid.
    pub temperature: f32,
}

/// Which engine runs a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum EngineChoice {
    /// int8 where the architecture allows, else the reference; the log says which.
    #[default]
    Auto,
    /// The int8 engine or nothing.
    Int8,
    /// candle in f32: the reference. It needs a model folder.
    Reference,
}

/// A step of loading, when it is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LoadStep {
    /// The weights are mapped and checked, or read.
    Model,
    /// Text can be turned into tokens, and the kernels are chosen.
    Tokenizer,
}

/// Everything that decides how a model is loaded.
#[derive(Debug, Clone)]
pub struct ModelOptions {
    /// A model folder or a packed file; `None` is the model in the binary.
    pub model: Option<PathBuf>,
    /// Which engine runs it.
    pub engine: EngineChoice,
    /// The kernels' instruction set; `None` is the best that the CPU has.
    pub isa: Option<Isa>,
    /// Threads that one large batch is spread over.
    pub threads: NonZeroUsize,
    /// The longest post taken, in bytes of UTF-8.
    pub max_post_bytes: usize,
}

/// A loaded model: text pipeline, transformer, head.
///
/// Used by one thread at a time; [`Classifier::fork`] makes another on the same weights.
pub struct Classifier {
    info: Arc<ModelInfo>,
    text: Arc<TextPipeline>,
    engine: Box<dyn Engine>,
    max_post_bytes: usize,
    /// Kept between calls, like the next two, so that their memory is.
    input_ids: Vec<u32>,
    batch: EncodedBatch,
    logits: Vec<f32>,
}

impl Classifier {
    /// The most tokens handed to the engine at once: enough to keep several threads
    /// busy, while memory stays bounded however many posts are asked for.
    pub const MAX_BATCH_TOKENS: usize = 16_384;

    /// The most windows that one post is read in: together they are a batch that others
    /// have to wait for.
    pub const MAX_WINDOWS: usize = 16;

    /// Loads the model that `options` names.
    pub fn load(options: &ModelOptions) -> Result<Self, LoadError> {
        Self::load_observed(options, |_| {})
    }

    /// The same, telling when each step is done: this code itself has no clock.
    pub fn load_observed(
        options: &ModelOptions,
        mut done: impl FnMut(LoadStep),
    ) -> Result<Self, LoadError> {
        let done = &mut done;
        match &options.model {
            None => Self::from_packed(crate::embedded_model()?, TextPipeline::of, options, done),
            Some(path) if path.is_dir() => {
                Self::from_folder(&ModelFolder::open(path)?, options, done)
            }
            Some(path) => {
                Self::from_packed(PackedModel::open(path)?, TextPipeline::of, options, done)
            }
        }
    }

    fn from_packed(
        model: PackedModel,
        text: impl FnOnce(&PackedModel) -> Result<TextPipeline, LoadError>,
        options: &ModelOptions,
        done: &mut dyn FnMut(LoadStep),
    ) -> Result<Self, LoadError> {
        done(LoadStep::Model);
        let config = model.config();
        let info = ModelInfo {
            name: model.name().to_owned(),
            labels: config.labels.clone(),
            problem_type: config.problem_type,
            max_tokens: config.max_tokens,
            temperature: model.temperature(),
        };
        if options.engine == EngineChoice::Reference {
            return Err(LoadError::unsupported(
                model.path(),
                "the reference engine runs model folders, not packed files; name a folder with --model",
            ));
        }
        let text = text(&model)?;
        let kernels = match options.isa {
            None => Kernels::detect(),
            Some(isa) => Kernels::new(isa)
                .map_err(|e| LoadError::unsupported(model.path(), e.to_string()))?,
        };
        done(LoadStep::Tokenizer);
        let engine = Int8Engine::new(Arc::new(model), kernels, options.threads.get());
        Ok(Self::new(info, text, Box::new(engine), options))
    }

    fn from_folder(
        folder: &ModelFolder,
        options: &ModelOptions,
        done: &mut dyn FnMut(LoadStep),
    ) -> Result<Self, LoadError> {
        if options.engine != EngineChoice::Reference {
            match coldread_model::pack(folder) {
                Ok(bytes) => {
                    let packed = PackedModel::from_bytes(bytes)?;
                    // From the folder again, so that an error names its file.
                    let text = |_: &PackedModel| TextPipeline::open(folder);
                    return Self::from_packed(packed, text, options, done);
                }
                Err(LoadError::Unsupported { reason, .. })
                    if options.engine == EngineChoice::Auto && cfg!(feature = "reference") =>
                {
                    tracing::warn!(
                        reason,
                        "the int8 engine cannot run this model; using candle"
                    );
                }
                Err(e) => return Err(e),
            }
        }
        let config = &folder.config;
        let info = ModelInfo {
            name: folder.name.clone(),
            labels: config.labels.clone(),
            problem_type: config.problem_type,
            max_tokens: config.max_tokens,
            temperature: folder.temperature,
        };
        let engine = reference(folder)?;
        done(LoadStep::Model);
        let text = TextPipeline::open(folder)?;
        done(LoadStep::Tokenizer);
        Ok(Self::new(info, text, engine, options))
    }

    fn new(
        info: ModelInfo,
        text: TextPipeline,
        engine: Box<dyn Engine>,
        options: &ModelOptions,
    ) -> Self {
        Self {
            info: Arc::new(info),
            text: Arc::new(text),
            engine,
            max_post_bytes: options.max_post_bytes,
            input_ids: Vec::new(),
            batch: EncodedBatch::default(),
            logits: Vec::new(),
        }
    }

    /// Another classifier on the same weights, for another thread.
    #[must_use]
    pub fn fork(&self) -> Self {
        Self {
            info: Arc::clone(&self.info),
            text: Arc::clone(&self.text),
            engine: self.engine.fork(),
            max_post_bytes: self.max_post_bytes,
            input_ids: Vec::new(),
            batch: EncodedBatch::default(),
            logits: Vec::new(),
        }
    }

    /// What the model is.
    pub fn info(&self) -> &Arc<ModelInfo> {
        &self.info
    }

    /// What runs it.
    pub fn engine_info(&self) -> EngineInfo {
        self.engine.info()
    }

    /// The longest post taken, in bytes.
    pub fn max_post_bytes(&self) -> usize {
        self.max_post_bytes
    }

    /// The engine itself, for benchmarks of batches of a given shape.
    pub fn engine_mut(&mut self) -> &mut dyn Engine {
        &mut *self.engine
    }

    /// A post's tokens, special tokens included, as [`Classifier::classify`] reads them.
    pub fn token_ids(&self, post: &str) -> Result<Vec<u32>, InferError> {
        let mut input_ids = Vec::new();
        self.text
            .encode(post, self.info.max_tokens, &mut input_ids)?;
        Ok(input_ids)
    }

    /// The same text pipeline before another engine, as a test wants it.
    #[must_use]
    pub fn with_engine(self, engine: Box<dyn Engine>) -> Self {
        Self { engine, ..self }
    }

    /// Scores posts; the results stand in the posts' order.
    ///
    /// A post that cannot be scored has its error in its place. An `Err` of the
    /// whole means that the engine failed, through no fault of a post.
    pub fn classify<T: AsRef<str>>(&mut self, posts: &[T]) -> Result<Vec<PostResult>, InferError> {
        self.classify_with(posts, LongText::Truncate)
    }

    /// As [`Classifier::classify`], with a say in what is done with long posts.
    pub fn classify_with<T: AsRef<str>>(
        &mut self,
        posts: &[T],
        long_text: LongText,
    ) -> Result<Vec<PostResult>, InferError> {
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
    ) -> Result<Result<Encoded, PostError>, InferError> {
        if post.len() > self.max_post_bytes {
            return Ok(Err(PostError::TooLong {
                bytes: post.len(),
                max_bytes: self.max_post_bytes,
            }));
        }
        let max_tokens = self.info.max_tokens;
        let Truncated(truncated) = self.text.encode(post, max_tokens, &mut self.input_ids)?;
        // White space, but also lone joiners, variation selectors and the like.
        if self.input_ids.len() <= self.text.num_special_tokens() {
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
    fn push_windows(&mut self, post: &str) -> Result<Result<Encoded, PostError>, InferError> {
        let specials = self.text.num_special_tokens();
        let window = self.info.max_tokens - specials;
        let max_tokens = Self::MAX_WINDOWS * window + specials;
        let Truncated(too_long) = self.text.encode(post, max_tokens, &mut self.input_ids)?;
        if too_long {
            return Ok(Err(PostError::TooManyTokens { max_tokens }));
        }
        let (before, after) = self.text.special_tokens();
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
    ) -> Result<(), InferError> {
        self.logits.clear();
        if !self.batch.is_empty() {
            self.engine.forward(&self.batch, &mut self.logits)?;
        }
        let (temperature, problem_type) = (self.info.temperature, self.info.problem_type);
        let specials = self.text.num_special_tokens();
        let rows = self.logits.chunks_exact(self.info.labels.len());
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
                label: highest(&scores),
                scores,
                logits,
                truncated,
                windows,
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

#[cfg(feature = "reference")]
fn reference(folder: &ModelFolder) -> Result<Box<dyn Engine>, LoadError> {
    Ok(Box::new(crate::reference::Reference::load(folder)?))
}

#[cfg(not(feature = "reference"))]
fn reference(folder: &ModelFolder) -> Result<Box<dyn Engine>, LoadError> {
    Err(LoadError::unsupported(
        &folder.path,
        "this build goes without the reference engine; build it with --features reference",
    ))
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
