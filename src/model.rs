//! The model that the program runs, and its engine.

use crate::timings::{Phase, mark};
use coldread_engine::{LoadError, Model, ModelFolder, ModelOptions, PackedModel};
use std::fs::File;
use std::io::Read;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

/// The first bytes of a GGUF file.
const GGUF_MAGIC: [u8; 4] = *b"GGUF";

/// Which engine runs a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum EngineChoice {
    /// int8 where it runs the architecture, else candle; the log says when.
    #[default]
    Auto,
    /// The int8 engine or nothing.
    Int8,
    /// candle in f32. It needs a model folder.
    Candle,
}

/// A model, and how it is run.
#[derive(Debug, Clone, Default)]
pub struct ModelSource {
    /// A model folder, a packed file or a language model in GGUF; `None` is the model inside the
    /// program.
    pub path: Option<PathBuf>,
    /// Which engine runs it.
    pub engine: EngineChoice,
    /// How it is run.
    pub options: ModelOptions,
    /// What a language model is asked.
    pub question: Question,
    /// How many workers will run it at most; `None` is one. The memory of a language model
    /// depends on it.
    pub workers: Option<NonZeroUsize>,
}

/// What a language model is asked about each post.
#[derive(Debug, Clone, Default)]
pub struct Question {
    /// Labels instead of sentiment's; empty for none.
    pub labels: Vec<String>,
    /// A file with template, label words and examples.
    pub prompt: Option<PathBuf>,
}

impl Question {
    fn is_default(&self) -> bool {
        self.labels.is_empty() && self.prompt.is_none()
    }
}

impl ModelSource {
    /// Loads the model and marks the phases of start-up.
    pub fn load(&self) -> Result<Model, LoadError> {
        let model = match &self.path {
            Some(path) if is_gguf(path) => {
                let model = self.language_model(path)?;
                mark(Phase::Model);
                model
            }
            path if !self.question.is_default() => {
                let model = path
                    .as_deref()
                    .unwrap_or(Path::new("the model in the binary"));
                return Err(LoadError::unsupported(
                    model,
                    "has its own labels; --labels and --prompt need a language model in GGUF",
                ));
            }
            Some(path) if path.is_dir() => self.folder(&ModelFolder::open(path)?)?,
            path => {
                let packed = match path {
                    None => embedded_model()?,
                    Some(path) => PackedModel::map(path)?,
                };
                mark(Phase::Model);
                if self.engine == EngineChoice::Candle {
                    return Err(LoadError::unsupported(
                        packed.path(),
                        "--engine candle needs a model folder, not a packed file; name a folder with --model",
                    ));
                }
                self.options.packed(packed)?
            }
        };
        mark(Phase::Tokenizer);
        Ok(model)
    }

    fn folder(&self, folder: &ModelFolder) -> Result<Model, LoadError> {
        if self.engine == EngineChoice::Candle {
            return self.candle(folder);
        }
        match self.options.folder(folder) {
            Err(LoadError::Unsupported { reason, .. })
                if self.engine == EngineChoice::Auto && cfg!(feature = "candle") =>
            {
                tracing::warn!(
                    reason,
                    "the int8 engine cannot run this model; using candle"
                );
                self.candle(folder)
            }
            model => model,
        }
    }

    #[cfg(feature = "candle")]
    fn language_model(&self, path: &Path) -> Result<Model, LoadError> {
        use coldread_candle::{Limits, Prompt, load_gguf};

        if self.engine == EngineChoice::Int8 {
            return Err(LoadError::unsupported(
                path,
                "--engine int8 does not run language models",
            ));
        }
        let prompt = match &self.question.prompt {
            Some(file) => Prompt::open(file, &self.question.labels)?,
            None => Prompt::with_labels(&self.question.labels)
                .map_err(|reason| LoadError::invalid(path, format!("--labels: {reason}")))?,
        };
        let limits = Limits {
            memory_bytes: crate::memory::limit(|name| std::env::var(name).ok()),
            workers: self.workers.unwrap_or(NonZeroUsize::MIN),
        };
        let (model, zero_shot) = load_gguf(path, &prompt, limits, &self.options)?;
        let summary = zero_shot.summary();
        tracing::info!(
            prompt = summary.prompt,
            prefix_tokens = summary.prefix_tokens,
            max_post_tokens = summary.max_post_tokens,
            memory_mb = summary.memory_bytes.div_ceil(1 << 20),
            memory_limit_mb = limits.memory_bytes.map(|bytes| bytes >> 20),
            "the language model is loaded"
        );
        Ok(model)
    }

    #[cfg(not(feature = "candle"))]
    #[expect(clippy::unused_self, reason = "the other build needs it")]
    fn language_model(&self, path: &Path) -> Result<Model, LoadError> {
        Err(LoadError::unsupported(
            path,
            "a language model, which this build does not run; build one that does: cargo build \
             --release --features full",
        ))
    }

    #[cfg(feature = "candle")]
    fn candle(&self, folder: &ModelFolder) -> Result<Model, LoadError> {
        coldread_candle::load(folder, &self.options)
    }

    #[cfg(not(feature = "candle"))]
    #[expect(clippy::unused_self, reason = "the other build needs it")]
    fn candle(&self, folder: &ModelFolder) -> Result<Model, LoadError> {
        Err(LoadError::unsupported(
            &folder.path,
            "this build has no candle engine; build one with it: cargo build --release --features full",
        ))
    }
}

/// Whether a file is GGUF by its first bytes, whatever its name.
fn is_gguf(path: &Path) -> bool {
    let mut magic = [0; GGUF_MAGIC.len()];
    let read = File::open(path).and_then(|mut file| file.read_exact(&mut magic));
    read.is_ok() && magic == GGUF_MAGIC
}

#[cfg(feature = "embedded-model")]
use coldread_engine::embedded_model;

#[cfg(not(feature = "embedded-model"))]
fn embedded_model() -> Result<PackedModel, LoadError> {
    Err(LoadError::unsupported(
        std::path::Path::new("coldread"),
        "this build contains no model; name one with --model or COLDREAD_MODEL",
    ))
}
