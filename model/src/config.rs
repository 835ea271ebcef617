//! `config.json` of a Hugging Face text-classification model.

use crate::error::{LoadError, read};
use crate::layout::MAX_K;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::{BTreeMap, HashSet};
use std::path::Path;

/// The name of the configuration's file in a model folder.
pub const FILE: &str = "config.json";

/// Longer posts are cut here whatever the model allows: attention's cost grows
/// with the square of the length, and a social post does not come near.
pub const MAX_TOKENS: usize = 512;

/// A post is at least a start token, one token and an end token.
const MIN_TOKENS: usize = 3;

/// Limits that no sound model comes near and that keep size arithmetic far from
/// overflow: a matrix of the largest sizes has 2^39 elements, and a sum of
/// 65,536 products of int8 codes stays within an i32.
const MAX_VOCAB: usize = 1 << 24;
const MAX_HIDDEN: usize = 1 << 15;
const MAX_INTERMEDIATE: usize = 1 << 16;
const MAX_LAYERS: usize = 1 << 10;
const MAX_HEADS: usize = 1 << 10;
const MAX_POSITIONS: usize = 1 << 17;
const MAX_TOKEN_TYPES: usize = 1 << 10;
const MAX_LABELS: usize = 1 << 16;

/// The most characters of a value that an error message quotes.
const MAX_QUOTED_CHARS: usize = 64;

const _: () = assert!(MAX_HIDDEN <= MAX_INTERMEDIATE && MAX_INTERMEDIATE <= MAX_K);

/// The families of models that an engine here runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Architecture {
    /// `bert`: learned positions, token types, pooler (dense + tanh) before the head.
    Bert,
    /// `distilbert`: BERT without token types; the head is dense + `ReLU` + dense.
    DistilBert,
    /// `roberta`, `camembert`, `xlm-roberta`: positions start after the padding
    /// index; the head is dense + tanh + dense.
    Roberta,
    /// `electra`: BERT with a projection of the embeddings where sizes differ;
    /// the head is dense + GELU + dense.
    Electra,
    /// `deberta-v2` (and v3): disentangled relative attention.
    DebertaV2,
    /// `modernbert`: rotary positions, gated feed-forward, local attention.
    ModernBert,
}

impl Architecture {
    const NAMES: [(&'static str, Self); 8] = [
        ("bert", Self::Bert),
        ("distilbert", Self::DistilBert),
        ("roberta", Self::Roberta),
        ("camembert", Self::Roberta),
        ("xlm-roberta", Self::Roberta),
        ("electra", Self::Electra),
        ("deberta-v2", Self::DebertaV2),
        ("modernbert", Self::ModernBert),
    ];

    /// The family of a `model_type`, if it is a known one.
    fn of(model_type: &str) -> Option<Self> {
        let found = Self::NAMES.iter().find(|(name, _)| *name == model_type)?;
        Some(found.1)
    }
}

/// The non-linearity of the feed-forward block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Activation {
    /// `x * Phi(x)`, Phi by the error function; Hugging Face's `gelu`.
    GeluErf,
    /// The tanh approximation of GELU; `gelu_new`, `gelu_pytorch_tanh`.
    GeluTanh,
    /// `max(x, 0)`.
    Relu,
}

/// How logits become scores.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProblemType {
    /// One label holds: softmax.
    SingleLabel,
    /// Any number of labels hold, or there is just one: a sigmoid each.
    MultiLabel,
}

/// What `config.json` says, checked.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ModelConfig {
    /// `model_type`, as the file spells it.
    pub model_type: String,
    /// The family that `model_type` belongs to.
    pub architecture: Architecture,
    /// Rows of the token embedding.
    pub vocab_size: usize,
    /// Width of a hidden state.
    pub hidden_size: usize,
    /// Width of an embedding row (`embedding_size`; differs from `hidden_size`
    /// for some ELECTRA models).
    pub embedding_size: usize,
    /// Encoder layers.
    pub num_hidden_layers: usize,
    /// Attention heads; divides `hidden_size`.
    pub num_attention_heads: usize,
    /// Width of the feed-forward block.
    pub intermediate_size: usize,
    /// Rows of the position embedding.
    pub max_position_embeddings: usize,
    /// Rows of the token type embedding; 0 where there is none.
    pub type_vocab_size: usize,
    /// Added to the variance in layer normalisation.
    pub layer_norm_eps: f64,
    /// The feed-forward block's non-linearity.
    pub hidden_act: Activation,
    /// The padding token.
    pub pad_token_id: u32,
    /// How logits become scores.
    pub problem_type: ProblemType,
    /// Label names by index (`id2label`).
    pub labels: Vec<String>,
    /// The longest post in tokens, special tokens included.
    pub max_tokens: usize,
    /// The languages that the model was trained for, as codes of ISO 639 such as `en`; empty if
    /// the file does not say.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub languages: Vec<String>,
}

/// The fields that say whether and how to read the others.
#[derive(Deserialize)]
struct Kind {
    model_type: Option<String>,
    /// The class of transformers, or several; custom code may have put anything here.
    #[serde(default)]
    architectures: Value,
}

/// The other fields as they stand in the file, under their various names.
#[derive(Deserialize)]
struct Raw {
    vocab_size: usize,
    #[serde(alias = "dim")]
    hidden_size: usize,
    embedding_size: Option<usize>,
    #[serde(alias = "n_layers")]
    num_hidden_layers: usize,
    #[serde(alias = "n_heads")]
    num_attention_heads: usize,
    #[serde(alias = "hidden_dim")]
    intermediate_size: usize,
    #[serde(default = "default_positions")]
    max_position_embeddings: usize,
    type_vocab_size: Option<usize>,
    layer_norm_eps: Option<f64>,
    /// ModernBERT's; its checkpoints have both.
    norm_eps: Option<f64>,
    #[serde(alias = "activation", alias = "hidden_activation")]
    hidden_act: Option<String>,
    pad_token_id: Option<u32>,
    problem_type: Option<String>,
    position_embedding_type: Option<String>,
    id2label: Option<BTreeMap<String, Value>>,
    num_labels: Option<usize>,
    /// Not a key of transformers, which ignores it.
    #[serde(default)]
    languages: Vec<String>,
}

fn default_positions() -> usize {
    512
}

impl ModelConfig {
    /// Reads and checks `config.json` of a folder.
    pub fn open(folder: &Path) -> Result<Self, LoadError> {
        let path = folder.join(FILE);
        Self::parse(&read(&path)?, &path)
    }

    /// Checks the bytes of a `config.json`; `path` names it in errors.
    pub fn parse(json: &[u8], path: &Path) -> Result<Self, LoadError> {
        let invalid = |reason: String| LoadError::invalid(path, reason);
        let unsupported = |reason: String| LoadError::unsupported(path, reason);
        let parse_error = |e: serde_json::Error| invalid(e.to_string());
        let kind: Kind = serde_json::from_slice(json).map_err(parse_error)?;
        let model_type = kind
            .model_type
            .ok_or_else(|| invalid("missing field `model_type`".into()))?;
        // Before the sizes, which other architectures call by names of their own.
        let architecture = architecture(&model_type).map_err(unsupported)?;
        sequence_classifier(&kind.architectures).map_err(unsupported)?;
        let raw: Raw = serde_json::from_slice(json).map_err(parse_error)?;
        if let Some(kind) = raw
            .position_embedding_type
            .filter(|kind| kind != "absolute")
        {
            return Err(unsupported(format!(
                "position_embedding_type {kind:?} is not supported; supported is \"absolute\""
            )));
        }
        let hidden_act = activation(raw.hidden_act.as_deref()).map_err(unsupported)?;
        let labels = labels(raw.id2label, raw.num_labels).map_err(invalid)?;
        let problem_type =
            problem_type(raw.problem_type.as_deref(), labels.len()).map_err(unsupported)?;

        let mut config = Self {
            model_type,
            architecture,
            vocab_size: raw.vocab_size,
            hidden_size: raw.hidden_size,
            embedding_size: raw.embedding_size.unwrap_or(match architecture {
                // transformers' own default, whatever hidden_size is.
                Architecture::Electra => 128,
                _ => raw.hidden_size,
            }),
            num_hidden_layers: raw.num_hidden_layers,
            num_attention_heads: raw.num_attention_heads,
            intermediate_size: raw.intermediate_size,
            max_position_embeddings: raw.max_position_embeddings,
            type_vocab_size: raw.type_vocab_size.unwrap_or(match architecture {
                Architecture::Bert | Architecture::Electra => 2,
                Architecture::Roberta => 1,
                _ => 0,
            }),
            layer_norm_eps: raw.layer_norm_eps.or(raw.norm_eps).unwrap_or(1e-12),
            hidden_act,
            pad_token_id: raw.pad_token_id.unwrap_or(match architecture {
                Architecture::Roberta => 1,
                _ => 0,
            }),
            problem_type,
            labels,
            max_tokens: 0,
            languages: raw.languages,
        };
        config.max_tokens = config
            .max_position_embeddings
            .saturating_sub(config.position_offset())
            .min(MAX_TOKENS);
        config.check().map_err(invalid)?;
        Ok(config)
    }

    /// Sees that the values are sound and fit together, for whoever got them
    /// from elsewhere than [`ModelConfig::parse`]. What passes is safe to do size
    /// arithmetic with.
    pub fn check(&self) -> Result<(), String> {
        for (name, size, min, max) in [
            ("vocab_size", self.vocab_size, 1, MAX_VOCAB),
            ("hidden_size", self.hidden_size, 1, MAX_HIDDEN),
            ("embedding_size", self.embedding_size, 1, MAX_HIDDEN),
            ("num_hidden_layers", self.num_hidden_layers, 1, MAX_LAYERS),
            (
                "num_attention_heads",
                self.num_attention_heads,
                1,
                MAX_HEADS,
            ),
            (
                "intermediate_size",
                self.intermediate_size,
                1,
                MAX_INTERMEDIATE,
            ),
            (
                "max_position_embeddings",
                self.max_position_embeddings,
                1,
                MAX_POSITIONS,
            ),
            ("type_vocab_size", self.type_vocab_size, 0, MAX_TOKEN_TYPES),
            ("number of labels", self.labels.len(), 1, MAX_LABELS),
        ] {
            if size < min || size > max {
                return Err(format!(
                    "{name} is {size}; it must be between {min} and {max}"
                ));
            }
        }
        if !self.hidden_size.is_multiple_of(self.num_attention_heads) {
            return Err(format!(
                "hidden_size {} is not a multiple of num_attention_heads {}",
                self.hidden_size, self.num_attention_heads
            ));
        }
        let eps = self.layer_norm_eps;
        if !(eps > 0.0 && eps < 1.0) {
            return Err(format!(
                "layer_norm_eps is {eps}; it must be between 0 and 1"
            ));
        }
        if self.pad_token_id as usize >= self.vocab_size {
            return Err(format!(
                "pad_token_id {} is not below vocab_size {}",
                self.pad_token_id, self.vocab_size
            ));
        }
        let positions = self
            .max_position_embeddings
            .saturating_sub(self.position_offset())
            .min(MAX_TOKENS);
        if positions < MIN_TOKENS {
            return Err(format!(
                "max_position_embeddings {} leaves positions for {positions} tokens; a post \
                 takes at least {MIN_TOKENS}",
                self.max_position_embeddings
            ));
        }
        if !(MIN_TOKENS..=positions).contains(&self.max_tokens) {
            return Err(format!(
                "max_tokens is {}; it must be between {MIN_TOKENS} and {positions}",
                self.max_tokens
            ));
        }
        if Architecture::of(&self.model_type) != Some(self.architecture) {
            return Err(format!(
                "model_type {:?} is not of the architecture {:?}",
                self.model_type, self.architecture
            ));
        }
        check_languages(&self.languages)?;
        distinct(&self.labels)
    }

    /// Width of one attention head.
    pub fn head_dim(&self) -> usize {
        self.hidden_size / self.num_attention_heads
    }

    /// The row of the position embedding that a post's first token uses. `RoBERTa`
    /// numbers positions from the padding index on, so that the rows up to it
    /// are never used by a post.
    pub fn position_offset(&self) -> usize {
        match self.architecture {
            Architecture::Roberta => self.pad_token_id as usize + 1,
            _ => 0,
        }
    }
}

fn architecture(model_type: &str) -> Result<Architecture, String> {
    Architecture::of(model_type).ok_or_else(|| {
        let known: Vec<_> = Architecture::NAMES.iter().map(|n| n.0).collect();
        format!(
            "model_type {model_type:?} is not supported; supported are {}",
            known.join(", ")
        )
    })
}

/// Rejects heads that are known to do something else. A class of another name may be
/// anybody's own classifier.
fn sequence_classifier(architectures: &Value) -> Result<(), String> {
    const OTHERS: [(&str, &str); 9] = [
        (
            "ForTokenClassification",
            "a token classifier, such as for named entities",
        ),
        ("ForMaskedLM", "a masked language model"),
        ("ForPreTraining", "a language model"),
        ("ForCausalLM", "a language model"),
        ("LMHeadModel", "a language model"),
        ("ForQuestionAnswering", "a model for question answering"),
        ("ForMultipleChoice", "a model for multiple choice"),
        (
            "ForNextSentencePrediction",
            "a model that predicts the next sentence",
        ),
        (
            "Model",
            "an encoder without a head, such as for sentence embeddings",
        ),
    ];
    let names: Vec<&str> = match architectures {
        Value::Array(names) => names.iter().filter_map(Value::as_str).collect(),
        name => name.as_str().into_iter().collect(),
    };
    let other = |name: &&str| OTHERS.iter().find(|(end, _)| name.ends_with(end));
    let others: Vec<_> = names
        .iter()
        .filter_map(|name| Some((name, other(name)?.1)))
        .collect();
    match others[..] {
        [(name, what), ..] if others.len() == names.len() => Err(format!(
            "architectures has {name:?}, {what}; supported are sequence classifiers, such as \
             \"BertForSequenceClassification\""
        )),
        _ => Ok(()),
    }
}

fn activation(hidden_act: Option<&str>) -> Result<Activation, String> {
    match hidden_act.unwrap_or("gelu") {
        "gelu" => Ok(Activation::GeluErf),
        "gelu_new" | "gelu_pytorch_tanh" | "gelu_fast" => Ok(Activation::GeluTanh),
        "relu" => Ok(Activation::Relu),
        other => Err(format!(
            "hidden_act {other:?} is not supported; supported are gelu, gelu_new, \
             gelu_fast, gelu_pytorch_tanh, relu"
        )),
    }
}

fn problem_type(name: Option<&str>, labels: usize) -> Result<ProblemType, String> {
    match name {
        None if labels == 1 => Ok(ProblemType::MultiLabel),
        None | Some("single_label_classification") => Ok(ProblemType::SingleLabel),
        Some("multi_label_classification") => Ok(ProblemType::MultiLabel),
        Some(other) => Err(format!(
            "problem_type {other:?} is not supported; supported are \
             single_label_classification, multi_label_classification"
        )),
    }
}

fn labels(
    id2label: Option<BTreeMap<String, Value>>,
    num_labels: Option<usize>,
) -> Result<Vec<String>, String> {
    let Some(id2label) = id2label else {
        // transformers' own default.
        let n = num_labels.unwrap_or(2);
        if n == 0 || n > MAX_LABELS {
            return Err(format!("num_labels is {n}"));
        }
        return Ok((0..n).map(|i| format!("LABEL_{i}")).collect());
    };
    if id2label.is_empty() {
        return Err("id2label is empty".into());
    }
    let mut labels = vec![String::new(); id2label.len()];
    for (id, label) in &id2label {
        let slot = id
            .parse::<usize>()
            .ok()
            .and_then(|id| labels.get_mut(id))
            .ok_or_else(|| format!("id2label: the ids must be 0 to {}", id2label.len() - 1))?;
        let name = match label {
            Value::String(name) if !name.is_empty() => name.clone(),
            Value::Number(number) => number.to_string(),
            _ => return Err(format!("id2label: {id} has no name")),
        };
        if !slot.is_empty() {
            return Err(format!("id2label: {id} stands there twice"));
        }
        *slot = name;
    }
    distinct(&labels)?;
    Ok(labels)
}

/// Languages are compared with detected ones, so that one written in another form would never
/// be found.
fn check_languages(languages: &[String]) -> Result<(), String> {
    let is_code = |code: &str| {
        matches!(code.len(), 2 | 3) && code.bytes().all(|byte| byte.is_ascii_lowercase())
    };
    match languages.iter().find(|code| !is_code(code)) {
        Some(code) => Err(format!(
            "languages: {:?} is not a code of ISO 639, such as \"en\"",
            code.chars().take(MAX_QUOTED_CHARS).collect::<String>()
        )),
        None => Ok(()),
    }
}

/// Answers name labels, so that two of one name could not be told apart.
fn distinct(labels: &[String]) -> Result<(), String> {
    let mut seen = HashSet::with_capacity(labels.len());
    for label in labels {
        if label.is_empty() {
            return Err("id2label: a label has no name".into());
        }
        if !seen.insert(label) {
            return Err(format!("id2label: the label {label:?} stands there twice"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
