//! A model's tokenizer as `tokenizer.json`, whatever files it comes in.
//!
//! The `tokenizers` library reads `tokenizer.json` alone. Older repositories have
//! their family's own files instead; what transformers makes of those when it loads
//! them is made here, as the same JSON, so that everything behind this module knows
//! one form.

mod sentencepiece;
mod special;
mod vocab_json;
mod vocab_txt;

use crate::config::{Architecture, ModelConfig};
use crate::error::{LoadError, read};
use serde_json::Value;
use special::Special;
use std::path::{Path, PathBuf};

/// The file or files of a model's tokenizer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TokenizerFiles {
    /// `tokenizer.json`, preferred wherever it is.
    Json(PathBuf),
    /// `vocab.txt`: BERT's pieces, one a line.
    WordPiece(PathBuf),
    /// `vocab.json`, with `merges.txt` beside it: `RoBERTa`'s byte pairs.
    BytePairs(PathBuf),
    /// A `SentencePiece` model, and whose: XLM-RoBERTa's, CamemBERT's or DeBERTa's.
    SentencePiece(PathBuf, SentencePieceOf),
}

/// Whose `SentencePiece` model it is: each family numbers its tokens differently.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SentencePieceOf {
    /// `sentencepiece.bpe.model`, shifted by one.
    XlmRoberta,
    /// `sentencepiece.bpe.model`, shifted by four.
    CamemBert,
    /// `spm.model`, as it is.
    DebertaV2,
}

impl TokenizerFiles {
    /// Every file that a tokenizer may be read from.
    pub const NAMES: [&str; 9] = [
        "tokenizer.json",
        "tokenizer_config.json",
        "special_tokens_map.json",
        "added_tokens.json",
        "vocab.txt",
        "vocab.json",
        "merges.txt",
        "sentencepiece.bpe.model",
        "spm.model",
    ];

    /// The first form that the folder has and the family knows. Without any it is
    /// `tokenizer.json`, for an error to name.
    pub(crate) fn find(folder: &Path, config: &ModelConfig) -> Self {
        let json = folder.join("tokenizer.json");
        if json.exists() {
            return Self::Json(json);
        }
        Self::of_family(folder, config)
            .filter(|own| own.path().exists())
            .unwrap_or(Self::Json(json))
    }

    /// Whether the files that are there hold a tokenizer of the model's family.
    pub fn are_there(config: &ModelConfig, there: impl Fn(&str) -> bool) -> bool {
        let is_there = |path: &Path| path.to_str().is_some_and(&there);
        let own = Self::of_family(Path::new(""), config);
        there("tokenizer.json")
            || own.is_some_and(|own| {
                let merges = matches!(own, Self::BytePairs(_)).then_some("merges.txt");
                is_there(own.path()) && merges.is_none_or(&there)
            })
    }

    /// The form that the family's own files have.
    fn of_family(folder: &Path, config: &ModelConfig) -> Option<Self> {
        let file = |name: &str| folder.join(name);
        let sentencepiece = |name, of| Some(Self::SentencePiece(file(name), of));
        match (config.architecture, &*config.model_type) {
            (Architecture::Bert | Architecture::DistilBert | Architecture::Electra, _) => {
                Some(Self::WordPiece(file("vocab.txt")))
            }
            (_, "roberta") => Some(Self::BytePairs(file("vocab.json"))),
            (_, "xlm-roberta") => {
                sentencepiece("sentencepiece.bpe.model", SentencePieceOf::XlmRoberta)
            }
            (_, "camembert") => {
                sentencepiece("sentencepiece.bpe.model", SentencePieceOf::CamemBert)
            }
            (_, "deberta-v2") => sentencepiece("spm.model", SentencePieceOf::DebertaV2),
            _ => None,
        }
    }

    /// The tokenizer's main file.
    pub fn path(&self) -> &Path {
        match self {
            Self::Json(path)
            | Self::WordPiece(path)
            | Self::BytePairs(path)
            | Self::SentencePiece(path, _) => path,
        }
    }

    /// The bytes of a `tokenizer.json`: the file's own, or made from the others.
    pub fn json(&self) -> Result<Vec<u8>, LoadError> {
        let path = self.path();
        let bytes = read(path)?;
        let special = || Special::open(path.parent().unwrap_or(Path::new("")));
        let made = match self {
            Self::Json(_) => return Ok(bytes),
            Self::WordPiece(_) => vocab_txt::json(path, &bytes, &special()?)?,
            Self::BytePairs(_) => vocab_json::json(path, &bytes, &special()?)?,
            Self::SentencePiece(_, of) => sentencepiece::json(path, &bytes, *of, &special()?)?,
        };
        Ok(serde_json::to_vec(&made).expect("JSON has a text"))
    }
}

/// A post-processor that puts one token before and one after a text.
fn surround(start: (&str, u32), end: (&str, u32)) -> Value {
    let special = |token: &str| serde_json::json!({"SpecialToken": {"id": token, "type_id": 0}});
    let text = |id: &str| serde_json::json!({"Sequence": {"id": id, "type_id": 0}});
    let entry =
        |(token, id): (&str, u32)| serde_json::json!({"id": token, "ids": [id], "tokens": [token]});
    serde_json::json!({
        "type": "TemplateProcessing",
        "single": [special(start.0), text("A"), special(end.0)],
        "pair": [special(start.0), text("A"), special(end.0), text("B"), special(end.0)],
        "special_tokens": {start.0: entry(start), end.0: entry(end)},
    })
}
