//! The model that the program runs, and its engine.

use crate::timings::{Phase, mark};
use coldread_engine::{LoadError, Model, ModelFolder, ModelOptions, PackedModel};
use std::path::PathBuf;

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
    /// A model folder or a packed file; `None` is the model inside the program.
    pub path: Option<PathBuf>,
    /// Which engine runs it.
    pub engine: EngineChoice,
    /// How it is run.
    pub options: ModelOptions,
}

impl ModelSource {
    /// Loads the model and marks the phases of start-up.
    pub fn load(&self) -> Result<Model, LoadError> {
        let model = match &self.path {
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

#[cfg(feature = "embedded-model")]
use coldread_engine::embedded_model;

#[cfg(not(feature = "embedded-model"))]
fn embedded_model() -> Result<PackedModel, LoadError> {
    Err(LoadError::unsupported(
        std::path::Path::new("coldread"),
        "this build contains no model; name one with --model or COLDREAD_MODEL",
    ))
}
