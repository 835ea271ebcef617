//! `config.json` of a Hugging Face text-classification model.

use crate::error::{LoadError, read};
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;

/// The name of the configuration's file in a model folder.
pub const FILE: &str = "config.json";

/// Limits that no sound model comes near and that keep size arithmetic far from
/// overflow.
const MAX_SIZE: usize = 1 << 24;
const MAX_LAYERS: usize = 1 << 10;

/// The families of models that an engine here runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
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
}

/// The non-linearity of the feed-forward block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    /// `x * Phi(x)`, Phi by the error function; Hugging Face's `gelu`.
    GeluErf,
    /// The tanh approximation of GELU; `gelu_new`, `gelu_pytorch_tanh`.
    GeluTanh,
    /// `max(x, 0)`.
    Relu,
}

/// How logits become scores.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProblemType {
    /// One label holds: softmax.
    SingleLabel,
    /// Any number of labels hold, or there is just one: a sigmoid each.
    MultiLabel,
}

/// What `config.json` says, checked.
#[derive(Debug, Clone, PartialEq)]
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
}

/// The fields as they stand in the file, under their various names.
#[derive(Deserialize)]
struct Raw {
    model_type: Option<String>,
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
    #[serde(alias = "norm_eps")]
    layer_norm_eps: Option<f64>,
    #[serde(alias = "activation", alias = "hidden_activation")]
    hidden_act: Option<String>,
    pad_token_id: Option<u32>,
    problem_type: Option<String>,
    position_embedding_type: Option<String>,
    id2label: Option<BTreeMap<String, Value>>,
    num_labels: Option<usize>,
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
        let raw: Raw = serde_json::from_slice(json).map_err(|e| invalid(e.to_string()))?;

        let model_type = raw
            .model_type
            .ok_or_else(|| invalid("missing field `model_type`".into()))?;
        let architecture = Architecture::NAMES
            .iter()
            .find_map(|&(name, architecture)| (name == model_type).then_some(architecture))
            .ok_or_else(|| {
                let known: Vec<_> = Architecture::NAMES.iter().map(|n| n.0).collect();
                unsupported(format!(
                    "model_type {model_type:?} is not supported; supported are {}",
                    known.join(", ")
                ))
            })?;
        if let Some(kind) = raw
            .position_embedding_type
            .filter(|kind| kind != "absolute")
        {
            return Err(unsupported(format!(
                "position_embedding_type {kind:?} is not supported; supported is \"absolute\""
            )));
        }

        for (name, size, max) in [
            ("vocab_size", raw.vocab_size, MAX_SIZE),
            ("hidden_size", raw.hidden_size, 1 << 15),
            ("num_hidden_layers", raw.num_hidden_layers, MAX_LAYERS),
            ("num_attention_heads", raw.num_attention_heads, 1 << 10),
            ("intermediate_size", raw.intermediate_size, 1 << 16),
            (
                "max_position_embeddings",
                raw.max_position_embeddings,
                1 << 17,
            ),
        ] {
            if size == 0 || size > max {
                return Err(invalid(format!(
                    "{name} is {size}; it must be between 1 and {max}"
                )));
            }
        }
        if !raw.hidden_size.is_multiple_of(raw.num_attention_heads) {
            return Err(invalid(format!(
                "hidden_size {} is not a multiple of num_attention_heads {}",
                raw.hidden_size, raw.num_attention_heads
            )));
        }
        let layer_norm_eps = raw.layer_norm_eps.unwrap_or(1e-12);
        if !(layer_norm_eps > 0.0 && layer_norm_eps < 1.0) {
            return Err(invalid(format!("layer_norm_eps is {layer_norm_eps}")));
        }

        let hidden_act = match raw.hidden_act.as_deref().unwrap_or("gelu") {
            "gelu" => Activation::GeluErf,
            "gelu_new" | "gelu_pytorch_tanh" | "gelu_fast" => Activation::GeluTanh,
            "relu" => Activation::Relu,
            other => {
                return Err(unsupported(format!(
                    "hidden_act {other:?} is not supported; supported are gelu, gelu_new, \
                     gelu_fast, gelu_pytorch_tanh, relu"
                )));
            }
        };
        let labels = labels(raw.id2label, raw.num_labels).map_err(invalid)?;
        let problem_type = match raw.problem_type.as_deref() {
            None if labels.len() == 1 => ProblemType::MultiLabel,
            None | Some("single_label_classification") => ProblemType::SingleLabel,
            Some("multi_label_classification") => ProblemType::MultiLabel,
            Some(other) => {
                return Err(unsupported(format!(
                    "problem_type {other:?} is not supported; supported are \
                     single_label_classification, multi_label_classification"
                )));
            }
        };

        let pad_token_id = raw.pad_token_id.unwrap_or(match architecture {
            Architecture::Roberta => 1,
            _ => 0,
        });
        // RoBERTa numbers positions from the padding index on, so that the rows
        // up to it are never used by a post.
        let max_tokens = match architecture {
            Architecture::Roberta => raw
                .max_position_embeddings
                .checked_sub(pad_token_id as usize + 1)
                .filter(|&n| n >= 3)
                .ok_or_else(|| invalid("max_position_embeddings leaves no position".into()))?,
            _ => raw.max_position_embeddings,
        };
        Ok(Self {
            model_type,
            architecture,
            vocab_size: raw.vocab_size,
            hidden_size: raw.hidden_size,
            embedding_size: raw.embedding_size.unwrap_or(raw.hidden_size),
            num_hidden_layers: raw.num_hidden_layers,
            num_attention_heads: raw.num_attention_heads,
            intermediate_size: raw.intermediate_size,
            max_position_embeddings: raw.max_position_embeddings,
            type_vocab_size: raw.type_vocab_size.unwrap_or(match architecture {
                Architecture::Bert | Architecture::Electra => 2,
                Architecture::Roberta => 1,
                _ => 0,
            }),
            layer_norm_eps,
            hidden_act,
            pad_token_id,
            problem_type,
            labels,
            max_tokens: max_tokens.min(MAX_TOKENS),
        })
    }

    /// Width of one attention head.
    pub fn head_dim(&self) -> usize {
        self.hidden_size / self.num_attention_heads
    }
}

/// Longer posts are cut here whatever the model allows: attention's cost grows
/// with the square of the length, and a social post does not come near.
pub const MAX_TOKENS: usize = 512;

fn labels(
    id2label: Option<BTreeMap<String, Value>>,
    num_labels: Option<usize>,
) -> Result<Vec<String>, String> {
    let Some(id2label) = id2label else {
        // transformers' own default.
        let n = num_labels.unwrap_or(2);
        if n == 0 || n > 1 << 16 {
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
    for (i, label) in labels.iter().enumerate() {
        if labels[..i].contains(label) {
            return Err(format!("id2label: the label {label:?} stands there twice"));
        }
    }
    Ok(labels)
}
