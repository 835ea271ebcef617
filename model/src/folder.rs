//! A Hugging Face model folder, read and checked as a whole.

use crate::config::ModelConfig;
use crate::error::{LoadError, read_optional};
use crate::profile::NormalizationProfile;
use serde::Deserialize;
use std::path::{Path, PathBuf};

/// A model folder whose small files have been read and checked.
///
/// The tokenizer and the weights are read by whoever needs them: they are large.
#[derive(Debug, Clone)]
pub struct ModelFolder {
    /// Where the folder is.
    pub path: PathBuf,
    /// What the model is called in answers: the folder's own name.
    pub name: String,
    /// `config.json`.
    pub config: ModelConfig,
    /// `normalization.json`, if the model has one.
    pub profile: Option<NormalizationProfile>,
    /// Logits are divided by this before softmax or sigmoid (`calibration.json`, else 1).
    pub temperature: f32,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Calibration {
    temperature: f32,
}

impl ModelFolder {
    /// Reads the folder's small files and sees that the large ones are there.
    pub fn open(path: &Path) -> Result<Self, LoadError> {
        let config = ModelConfig::open(path)?;
        let folder = Self {
            name: name(path),
            profile: NormalizationProfile::open(path)?,
            temperature: temperature(path)?,
            path: path.to_owned(),
            config,
        };
        for file in [folder.tokenizer_path(), folder.weights_path()] {
            std::fs::metadata(&file).map_err(|source| LoadError::Read { path: file, source })?;
        }
        Ok(folder)
    }

    /// The tokenizer's file, as the `tokenizers` library writes it.
    pub fn tokenizer_path(&self) -> PathBuf {
        self.path.join("tokenizer.json")
    }

    /// The weights' file.
    pub fn weights_path(&self) -> PathBuf {
        self.path.join("model.safetensors")
    }
}

/// The last component of the folder's real path, so that `.` has a name too.
fn name(path: &Path) -> String {
    let real = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    real.file_name().map_or_else(
        || "model".to_owned(),
        |name| name.to_string_lossy().into_owned(),
    )
}

fn temperature(folder: &Path) -> Result<f32, LoadError> {
    let path = folder.join("calibration.json");
    let Some(bytes) = read_optional(&path)? else {
        return Ok(1.0);
    };
    let calibration: Calibration =
        serde_json::from_slice(&bytes).map_err(|e| LoadError::invalid(&path, e.to_string()))?;
    check_temperature(calibration.temperature).map_err(|e| LoadError::invalid(&path, e))?;
    Ok(calibration.temperature)
}

/// Beyond these, dividing logits by the temperature overflows or tells nothing.
pub(crate) fn check_temperature(temperature: f32) -> Result<(), String> {
    if (1e-3..=1e3).contains(&temperature) {
        Ok(())
    } else {
        Err(format!(
            "temperature is {temperature}; it must be between 0.001 and 1000"
        ))
    }
}
