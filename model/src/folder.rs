//! A Hugging Face model folder, read and checked as a whole.

use crate::config::ModelConfig;
use crate::error::{LoadError, read_optional};
use crate::foreign;
use crate::profile::{self, NormalizationProfile};
use crate::tensors;
use crate::tokenizer::TokenizerFiles;
use serde::Deserialize;
use std::path::{Path, PathBuf};

/// A model folder whose small files have been read and checked.
///
/// The tokenizer and the weights are read by whoever needs them: they are large.
#[derive(Debug, Clone)]
pub struct ModelFolder {
    /// Where the folder is.
    pub path: PathBuf,
    /// What the model is called in results: the folder's own name, or in the Hub's
    /// cache the model's.
    pub name: String,
    /// `config.json`.
    pub config: ModelConfig,
    /// `normalization.json`, or else what is known of the model's family.
    pub profile: Option<NormalizationProfile>,
    /// Where the tokenizer is.
    pub tokenizer: TokenizerFiles,
    /// Where the weights are.
    pub weights: Weights,
    /// Logits are divided by this before softmax or sigmoid (`calibration.json`, else 1).
    pub temperature: f32,
}

/// The file or files of a model's weights.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Weights {
    /// `model.safetensors`, preferred wherever it is.
    Safetensors(PathBuf),
    /// `model.safetensors.index.json`, which names the files beside it.
    Sharded(PathBuf),
    /// `pytorch_model.bin`.
    PyTorch(PathBuf),
}

impl Weights {
    /// What the weights' files are called, in the order in which they are looked for.
    pub const NAMES: [&str; 3] = [
        "model.safetensors",
        "model.safetensors.index.json",
        "pytorch_model.bin",
    ];

    /// The first of the files that the folder has. Without any it is the first kind,
    /// for an error to name.
    fn find(folder: &Path) -> Self {
        let [single, index, pytorch] = Self::NAMES.map(|name| folder.join(name));
        if !single.exists() && index.exists() {
            Self::Sharded(index)
        } else if !single.exists() && pytorch.exists() {
            Self::PyTorch(pytorch)
        } else {
            Self::Safetensors(single)
        }
    }

    /// A file of weights that are not supported, among the names of a model's files, with
    /// the format's name.
    pub fn unsupported<'a>(
        names: impl Iterator<Item = &'a str>,
    ) -> Option<(&'a str, &'static str)> {
        const FORMATS: [(&str, &str); 7] = [
            (".gguf", "GGUF"),
            (".onnx", "ONNX"),
            (".h5", "TensorFlow (HDF5)"),
            (".msgpack", "Flax"),
            (".ot", "rust-bert"),
            (".tflite", "TensorFlow Lite"),
            ("adapter_model.safetensors", "adapter (PEFT)"),
        ];
        let format = |name: &str| FORMATS.iter().find(|(end, _)| name.ends_with(end));
        let mut found = names.filter_map(|name| Some((name, format(name)?.1)));
        found.next()
    }

    /// The error for a folder without weights, which names those that it has instead.
    fn missing(&self, folder: &Path, source: std::io::Error) -> LoadError {
        let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
        let mut names: Vec<String> = entries
            .filter_map(|entry| entry.file_name().into_string().ok())
            .collect();
        names.sort();
        match Self::unsupported(names.iter().map(String::as_str)) {
            Some((name, format)) => {
                LoadError::unsupported(&folder.join(name), foreign::unsupported(format))
            }
            None => LoadError::Read {
                path: self.path().to_owned(),
                source,
            },
        }
    }

    /// The files that hold the numbers.
    pub fn files(&self) -> Result<Vec<PathBuf>, LoadError> {
        match self {
            Self::Safetensors(path) | Self::PyTorch(path) => Ok(vec![path.clone()]),
            Self::Sharded(index) => {
                let shards = tensors::shards(index)?;
                Ok(shards
                    .iter()
                    .map(|shard| index.with_file_name(shard))
                    .collect())
            }
        }
    }

    /// The file, or the index of several.
    pub fn path(&self) -> &Path {
        match self {
            Self::Safetensors(path) | Self::Sharded(path) | Self::PyTorch(path) => path,
        }
    }
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
        let name = name(path);
        let profile = match NormalizationProfile::open(path)? {
            None => profile::known(&name),
            own => own,
        };
        let folder = Self {
            profile,
            temperature: temperature(path)?,
            tokenizer: TokenizerFiles::find(path, &config),
            weights: Weights::find(path),
            name,
            path: path.to_owned(),
            config,
        };
        if let Err(source) = std::fs::metadata(folder.weights.path()) {
            return Err(folder.weights.missing(path, source));
        }
        let tokenizer = folder.tokenizer.path();
        std::fs::metadata(tokenizer).map_err(|source| LoadError::Read {
            path: tokenizer.to_owned(),
            source,
        })?;
        Ok(folder)
    }
}

/// The last component of the folder's real path, so that `.` has a name too. Folders of
/// the Hub's cache are called `models--OWNER--NAME/snapshots/COMMIT`.
fn name(path: &Path) -> String {
    let real = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let last = |path: &Path| Some(path.file_name()?.to_string_lossy().into_owned());
    let cached = || {
        let snapshots = real.parent()?;
        let model = last(snapshots.parent()?)?;
        let name = model.strip_prefix("models--")?.replacen("--", "/", 1);
        (last(snapshots)? == "snapshots").then_some(name)
    };
    cached()
        .or_else(|| last(&real))
        .unwrap_or_else(|| "model".to_owned())
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

    /// The folder with `file` in it is rejected, naming the file and `part`.
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
    fn a_folder_of_the_hubs_cache_has_the_models_name() {
        let cache = tempfile::tempdir().unwrap();
        let check = |path: &str, expected: &str| {
            let path = cache.path().join(path);
            fs::create_dir_all(&path).unwrap();
            assert_eq!(name(&path), expected);
        };
        check("models--acme--mood-v2/snapshots/0a1b", "acme/mood-v2");
        check("models--acme--a--b/snapshots/0a1b", "acme/a--b");
        check("models--acme--mood/other/0a1b", "0a1b");
        check("snapshots/0a1b", "0a1b");
    }

    #[test]
    fn weights_are_looked_for_in_the_order_of_their_names() {
        let dir = tempfile::tempdir().unwrap();
        let [single, index, pytorch] = Weights::NAMES.map(|name| dir.path().join(name));
        let check = |expected: Weights| assert_eq!(Weights::find(dir.path()), expected);
        check(Weights::Safetensors(single.clone()));
        fs::write(&pytorch, "").unwrap();
        check(Weights::PyTorch(pytorch));
        fs::write(&index, "").unwrap();
        check(Weights::Sharded(index));
        fs::write(&single, "").unwrap();
        check(Weights::Safetensors(single));
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
    fn weights_of_another_format_are_named() {
        let dir = folder(&[("model_q4.gguf", "GGUF")]);
        fs::remove_file(dir.path().join("model.safetensors")).unwrap();
        let error = ModelFolder::open(dir.path()).unwrap_err();
        assert!(matches!(error, LoadError::Unsupported { .. }));
        let error = error.to_string();
        assert!(
            error.contains("model_q4.gguf") && error.contains("format GGUF"),
            "{error}"
        );
    }

    #[test]
    fn pointers_and_pages_are_recognised_in_every_small_file() {
        let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:0f\nsize 9\n";
        for file in ["config.json", "calibration.json", "normalization.json"] {
            check(file, pointer, "git lfs pull");
            check(file, "<!doctype html><title>404</title>", "web server");
        }
        for (file, text) in [("tokenizer.json", pointer), ("tokenizer.json", "<html>")] {
            let dir = folder(&[(file, text)]);
            let model = ModelFolder::open(dir.path()).unwrap();
            let error = model.tokenizer.json().unwrap_err().to_string();
            assert!(error.contains("tokenizer.json"), "{error}");
            assert!(!error.contains("expected"), "{error}");
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
