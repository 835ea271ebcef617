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

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use tempfile::TempDir;

    const CONFIG: &str = r#"{"model_type": "bert", "vocab_size": 9, "hidden_size": 8,
        "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 4}"#;

    fn folder(files: &[(&str, &str)]) -> TempDir {
        let dir = tempfile::tempdir().unwrap();
        let small = [
            ("config.json", CONFIG),
            ("tokenizer.json", "{}"),
            ("model.safetensors", ""),
        ];
        for (name, text) in small.iter().chain(files) {
            fs::write(dir.path().join(name), text).unwrap();
        }
        dir
    }

    /// The folder with `file` in it is refused, naming the file and `part`.
    fn check(file: &str, text: &str, part: &str) {
        let error = ModelFolder::open(folder(&[(file, text)]).path())
            .unwrap_err()
            .to_string();
        assert!(error.contains(file) && error.contains(part), "{error}");
    }

    #[test]
    fn a_folder_with_nothing_optional() {
        let dir = folder(&[]);
        let model = ModelFolder::open(dir.path()).unwrap();
        assert_eq!(model.temperature.to_bits(), 1.0_f32.to_bits());
        assert_eq!(model.profile, None);
        assert_eq!(*model.name, *dir.path().file_name().unwrap());
        assert_eq!(model.config.max_tokens, 512);
    }

    #[test]
    fn missing_files_are_named() {
        for file in ["config.json", "tokenizer.json", "model.safetensors"] {
            let dir = folder(&[]);
            fs::remove_file(dir.path().join(file)).unwrap();
            let error = ModelFolder::open(dir.path()).unwrap_err();
            assert!(matches!(error, LoadError::Read { .. }));
            assert!(error.to_string().contains(file), "{error}");
        }
    }

    #[test]
    fn temperatures() {
        let json = r#"{"temperature": 1.25}"#;
        let model = ModelFolder::open(folder(&[("calibration.json", json)]).path()).unwrap();
        assert_eq!(model.temperature.to_bits(), 1.25_f32.to_bits());
        for temperature in ["0", "-1", "1e-40", "1e9", "1e39"] {
            let json = format!("{{\"temperature\": {temperature}}}");
            check("calibration.json", &json, "");
        }
        check("calibration.json", "{}", "temperature");
        check(
            "calibration.json",
            r#"{"temperature": 1, "bias": 2}"#,
            "bias",
        );
        check("calibration.json", "", "");
    }

    #[test]
    fn a_file_that_cannot_be_read_is_not_taken_for_a_missing_one() {
        for file in ["calibration.json", "normalization.json"] {
            let dir = folder(&[]);
            fs::create_dir(dir.path().join(file)).unwrap();
            let error = ModelFolder::open(dir.path()).unwrap_err().to_string();
            assert!(error.contains(file), "{error}");
        }
    }

    #[test]
    fn profiles() {
        let check = |text: &str, part: &str| check("normalization.json", text, part);
        check("", "");
        check("{}", "version");
        check(r#"{"version": 2}"#, "version 2");
        check(r#"{"version": 1, "max_repeat": 0}"#, "max_repeat");
        check(r#"{"version": 1, "quotes": "german"}"#, "german");
        check(r#"{"version": 1, "stem": true}"#, "stem");
        for name in [
            "",
            ".",
            "..",
            "../emoji.tsv",
            "/etc/passwd",
            "a/b",
            "a/",
            "..\\\\a",
        ] {
            check(
                &format!("{{\"version\": 1, \"emoji\": \"{name}\"}}"),
                "not the name of a file",
            );
        }
    }

    #[test]
    fn emoji_tables() {
        let profile = (
            "normalization.json",
            r#"{"version": 1, "emoji": "emoji.tsv"}"#,
        );
        let open = |table: &str| ModelFolder::open(folder(&[profile, ("emoji.tsv", table)]).path());
        let table = open("😀\tgrinning face\r\n❤\tred heart")
            .unwrap()
            .profile
            .unwrap()
            .emoji_table;
        let words: Vec<_> = crate::profile::emoji_words(&table).collect();
        assert_eq!(words, [("😀", "grinning face"), ("❤", "red heart")]);
        for (table, line) in [
            ("😀\tface\n\n", 2),
            ("face", 1),
            ("\tface", 1),
            ("😀\tb\tc", 1),
            (":)\tsmile", 1),
        ] {
            let error = open(table).unwrap_err().to_string();
            assert!(error.contains("emoji.tsv"), "{error}");
            assert!(error.contains(&format!("line {line}")), "{error}");
        }
        let error = ModelFolder::open(folder(&[profile]).path())
            .unwrap_err()
            .to_string();
        assert!(error.contains("emoji.tsv"), "{error}");
    }
}
