//! A loaded model, and how it is loaded.

use crate::classifier::Classifier;
use crate::encoder::Int8Engine;
use crate::engine::{Engine, EngineInfo};
use crate::error::EngineError;
use crate::kernels::{Isa, Kernels};
use crate::text::TextPipeline;
use coldread_model::layout::WeightRange;
use coldread_model::{LoadError, ModelConfig, ModelFolder, PackedModel, ProblemType};
use std::borrow::Cow;
use std::fmt;
use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::Arc;

/// A loaded model: text pipeline, transformer and head.
///
/// Cloning it shares the weights, and threads may share it by reference. Scoring needs scratch
/// memory, which belongs to a [`Classifier`]: make one for each thread.
///
/// ```no_run
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use coldread_engine::Model;
///
/// let model = Model::open("sentiment.coldread")?;
/// std::thread::scope(|scope| {
///     for posts in [["so good"], ["so bad"]] {
///         let model = &model;
///         scope.spawn(move || model.classifier().classify(&posts));
///     }
/// });
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Model(Arc<Inner>);

struct Inner {
    info: Arc<ModelInfo>,
    text: Arc<TextPipeline>,
    engine: Box<dyn Engine>,
    packed: Option<PackedModel>,
    max_post_bytes: usize,
}

/// What a loaded model is, apart from its weights.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct ModelInfo {
    /// The model's name.
    pub name: String,
    /// Label names, in the order of the scores.
    pub labels: Vec<String>,
    /// How logits become scores.
    pub problem_type: ProblemType,
    /// The longest post in tokens; of a longer one the rest is not read, unless it is read in
    /// windows.
    pub max_tokens: usize,
    /// Logits are divided by this before softmax or sigmoid.
    pub temperature: f32,
    /// The languages that the model was trained for, as codes of ISO 639 such as `en`; empty if
    /// they are unknown.
    pub languages: Vec<String>,
}

impl ModelInfo {
    /// A model of single labels without a configuration of this crate's, as of an engine of the
    /// caller's own.
    pub fn single_label(name: &str, labels: Vec<String>, max_tokens: usize) -> Self {
        Self {
            name: name.to_owned(),
            labels,
            problem_type: ProblemType::SingleLabel,
            max_tokens,
            temperature: 1.0,
            languages: Vec::new(),
        }
    }

    /// What the model's configuration says.
    pub fn new(name: &str, config: &ModelConfig, temperature: f32) -> Self {
        Self {
            name: name.to_owned(),
            labels: config.labels.clone(),
            problem_type: config.problem_type,
            max_tokens: config.max_tokens,
            temperature,
            languages: config.languages.clone(),
        }
    }
}

/// How a model is loaded and run.
///
/// ```no_run
/// # fn main() -> Result<(), coldread_engine::LoadError> {
/// use coldread_engine::ModelOptions;
///
/// let model = ModelOptions::new().max_post_bytes(10_000).open("sentiment.coldread")?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelOptions {
    isa: Option<Isa>,
    threads: NonZeroUsize,
    max_post_bytes: usize,
}

impl Default for ModelOptions {
    /// The best instruction set that the CPU has, one thread, posts of at most 65,536 bytes.
    fn default() -> Self {
        Self {
            isa: None,
            threads: NonZeroUsize::MIN,
            max_post_bytes: 65_536,
        }
    }
}

impl ModelOptions {
    /// The defaults.
    pub fn new() -> Self {
        Self::default()
    }

    /// The kernels' instruction set. It does not change a bit of any score. `None`, the default,
    /// is the best that the CPU has; loading fails if the CPU lacks the one named.
    #[must_use]
    pub fn isa(mut self, isa: impl Into<Option<Isa>>) -> Self {
        self.isa = isa.into();
        self
    }

    /// Threads that one large batch is spread over; 1 by default.
    #[must_use]
    pub fn threads(mut self, threads: NonZeroUsize) -> Self {
        self.threads = threads;
        self
    }

    /// The longest post accepted, in bytes of UTF-8; 65,536 by default. Time and memory for
    /// normalizing and tokenizing a post grow with its length.
    #[must_use]
    pub fn max_post_bytes(mut self, bytes: usize) -> Self {
        self.max_post_bytes = bytes;
        self
    }

    /// Loads a Hugging Face model folder or a packed model file.
    ///
    /// A folder is quantized in memory at the full range of 8 bits, which takes about as long as
    /// reading it. What [`coldread_model::pack`] writes runs faster on processors that have AVX2
    /// and no more.
    ///
    /// A packed file is read into memory; [`PackedModel::map`] with [`ModelOptions::packed`] maps
    /// it instead, so that processes share its pages and start sooner.
    ///
    /// # Errors
    /// If a file is missing or unreadable, is not a sound model, or needs what the engine (or
    /// this build of it) lacks; the error names the file and the reason.
    pub fn open(&self, path: impl AsRef<Path>) -> Result<Model, LoadError> {
        let path = path.as_ref();
        if path.is_dir() {
            self.folder(&ModelFolder::open(path)?)
        } else {
            self.packed(PackedModel::open(path)?)
        }
    }

    /// Loads a packed model from memory: in place if it begins on a 64-byte boundary, as one
    /// that is part of the program should, and else from a copy.
    ///
    /// # Errors
    /// If the bytes are not a sound packed model.
    pub fn from_bytes(&self, bytes: impl Into<Cow<'static, [u8]>>) -> Result<Model, LoadError> {
        self.packed(PackedModel::from_bytes(bytes)?)
    }

    /// Loads the model inside the program.
    ///
    /// # Errors
    /// None in practice: the model was packed and checked when the program was built.
    #[cfg(feature = "embedded-model")]
    pub fn embedded(&self) -> Result<Model, LoadError> {
        self.packed(embedded_model()?)
    }

    /// Loads a packed model that is open already.
    ///
    /// # Errors
    /// If its tokenizer is not sound or not in this build, or the CPU lacks the instruction set.
    pub fn packed(&self, model: PackedModel) -> Result<Model, LoadError> {
        let text = TextPipeline::from_packed(&model)?;
        self.int8(model, text)
    }

    /// Quantizes, packs and loads a model folder that is open already.
    ///
    /// # Errors
    /// As [`ModelOptions::open`].
    pub fn folder(&self, folder: &ModelFolder) -> Result<Model, LoadError> {
        let packed =
            PackedModel::from_bytes(coldread_model::pack_with(folder, WeightRange::Full)?)?;
        // From the folder's own file, so that an error names it.
        self.int8(packed, TextPipeline::from_folder(folder)?)
    }

    fn int8(&self, model: PackedModel, text: TextPipeline) -> Result<Model, LoadError> {
        let kernels = match self.isa {
            None => Kernels::detect(),
            Some(isa) => Kernels::new(isa)
                .map_err(|e| LoadError::unsupported(model.path(), e.to_string()))?,
        };
        if kernels.for_weights(WeightRange::Grouped).weight_range() != WeightRange::Full {
            // These kernels rest on what the file says of its weights.
            model.verify_ranges()?;
        }
        let info = ModelInfo::new(model.name(), model.config(), model.temperature());
        let engine = Int8Engine::new(Arc::new(model.clone()), kernels, self.threads.get());
        Ok(self.model(info, text, Box::new(engine), Some(model)))
    }

    /// A model on an engine of the caller's own.
    pub fn with_engine(
        &self,
        info: ModelInfo,
        text: TextPipeline,
        engine: Box<dyn Engine>,
    ) -> Model {
        self.model(info, text, engine, None)
    }

    fn model(
        &self,
        info: ModelInfo,
        text: TextPipeline,
        engine: Box<dyn Engine>,
        packed: Option<PackedModel>,
    ) -> Model {
        Model(Arc::new(Inner {
            info: Arc::new(info),
            text: Arc::new(text),
            engine,
            packed,
            max_post_bytes: self.max_post_bytes,
        }))
    }
}

impl Model {
    /// Loads a Hugging Face model folder or a packed model file with the default options; see
    /// [`ModelOptions::open`].
    ///
    /// # Errors
    /// As [`ModelOptions::open`].
    pub fn open(path: impl AsRef<Path>) -> Result<Self, LoadError> {
        ModelOptions::new().open(path)
    }

    /// Loads a packed model from memory with the default options; see
    /// [`ModelOptions::from_bytes`].
    ///
    /// # Errors
    /// As [`ModelOptions::from_bytes`].
    pub fn from_bytes(bytes: impl Into<Cow<'static, [u8]>>) -> Result<Self, LoadError> {
        ModelOptions::new().from_bytes(bytes)
    }

    /// Loads the model inside the program with the default options.
    ///
    /// # Errors
    /// As [`ModelOptions::embedded`].
    #[cfg(feature = "embedded-model")]
    pub fn embedded() -> Result<Self, LoadError> {
        ModelOptions::new().embedded()
    }

    /// A classifier on these weights, with scratch memory of its own.
    pub fn classifier(&self) -> Classifier {
        Classifier::new(self)
    }

    /// What the model is.
    pub fn info(&self) -> &Arc<ModelInfo> {
        &self.0.info
    }

    /// Label names, in the order of the scores.
    pub fn labels(&self) -> &[String] {
        &self.0.info.labels
    }

    /// The languages that the model was trained for; see [`ModelInfo::languages`].
    pub fn languages(&self) -> &[String] {
        &self.0.info.languages
    }

    /// What runs the model.
    pub fn engine_info(&self) -> EngineInfo {
        self.0.engine.info()
    }

    /// The packed model whose weights it runs, a folder's packed in memory; `None` for an engine of
    /// the caller's own.
    pub fn packed(&self) -> Option<&PackedModel> {
        self.0.packed.as_ref()
    }

    /// The longest post accepted, in bytes of UTF-8.
    pub fn max_post_bytes(&self) -> usize {
        self.0.max_post_bytes
    }

    /// A post's token ids, special tokens included, as a [`Classifier`] reads them; at most
    /// [`ModelInfo::max_tokens`] of them.
    ///
    /// # Errors
    /// If the tokenizer fails, which BERT's never does.
    pub fn token_ids(&self, post: &str) -> Result<Vec<u32>, EngineError> {
        let mut input_ids = Vec::new();
        self.text()
            .encode(post, self.info().max_tokens, &mut input_ids)?;
        Ok(input_ids)
    }

    /// The same text pipeline and labels on another engine.
    #[must_use]
    pub fn with_engine(&self, engine: Box<dyn Engine>) -> Self {
        Self(Arc::new(Inner {
            info: Arc::clone(&self.0.info),
            text: Arc::clone(&self.0.text),
            engine,
            packed: None,
            max_post_bytes: self.0.max_post_bytes,
        }))
    }

    pub(crate) fn text(&self) -> &TextPipeline {
        &self.0.text
    }

    pub(crate) fn fork_engine(&self) -> Box<dyn Engine> {
        self.0.engine.fork()
    }
}

impl fmt::Debug for Model {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Model")
            .field("info", &self.0.info)
            .field("engine", &self.0.engine.info())
            .finish_non_exhaustive()
    }
}

/// The model inside the program, packed by `build.rs` and used where it lies.
///
/// # Errors
/// None in practice: it was packed and checked when the program was built.
#[cfg(feature = "embedded-model")]
pub fn embedded_model() -> Result<PackedModel, LoadError> {
    /// Aligned to a page, so that the model shares none with other data; the packed format
    /// itself asks for 64 bytes.
    #[repr(C, align(4096))]
    struct Aligned<T: ?Sized>(T);

    static MODEL: &Aligned<[u8]> = &Aligned(*include_bytes!(concat!(
        env!("OUT_DIR"),
        "/embedded.coldread"
    )));
    PackedModel::from_bytes(&MODEL.0)
}
