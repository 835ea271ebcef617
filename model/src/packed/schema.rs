//! Which sections a model's configuration calls for, and what each must hold.
//!
//! Reader and writer share [`Schema`], so that they cannot drift apart: the
//! reader looks each section up and rejects one whose kind, shape or length is
//! not what the configuration says; the writer fills them in the same order.

use super::format::{ALIGN, Kind};
use crate::config::{Architecture, ModelConfig};
use crate::layout::{HeadActivation, padded_k, padded_n};
use crate::profile::NormalizationProfile;
use crate::unigram::Unigram;
use crate::wordpiece::WordPiece;
use serde::{Deserialize, Serialize};

/// The section with [`Meta`] as JSON.
pub(super) const META: &str = "config";
/// The emoji table of the normalisation profile, if that names one.
pub(super) const EMOJI: &str = "emoji.tsv";
/// The vocabulary of a tokenizer of BERT's kind, used in place,
pub(super) const VOCABULARY: &str = "vocabulary";
/// or the pieces and the character map of one of XLM-RoBERTa's kind, used in place,
pub(super) const UNIGRAM: &str = "unigram";
/// or else `tokenizer.json`, byte for byte.
pub(super) const TOKENIZER: &str = "tokenizer.json";

/// What is known of a model besides its numbers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Meta {
    /// What the model is called in results.
    pub(crate) name: String,
    pub(crate) config: ModelConfig,
    pub(crate) profile: Option<NormalizationProfile>,
    pub(crate) temperature: f32,
    /// Whether there is a dense layer before the classifier; a BERT without a
    /// pooler has none.
    pub(crate) head_dense: bool,
    /// The rules that go with the section [`VOCABULARY`], if it is there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) wordpiece: Option<WordPiece>,
    /// The rules that go with the section [`UNIGRAM`], if it is there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) unigram: Option<Unigram>,
}

impl Meta {
    /// The section that has the tokenizer.
    pub(super) fn tokenizer(&self) -> &'static str {
        match (&self.wordpiece, &self.unigram) {
            (Some(_), _) => VOCABULARY,
            (None, Some(_)) => UNIGRAM,
            (None, None) => TOKENIZER,
        }
    }
}

/// One section as the configuration wants it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Spec {
    pub(crate) name: String,
    pub(crate) kind: Kind,
    pub(crate) rows: usize,
    pub(crate) cols: usize,
}

impl Spec {
    fn new(name: impl Into<String>, kind: Kind, rows: usize, cols: usize) -> Self {
        Self {
            name: name.into(),
            kind,
            rows,
            cols,
        }
    }

    /// The section's length in bytes; the slices in it begin at multiples of 64.
    /// u64 holds it for all sizes that [`ModelConfig::check`] lets pass.
    pub(super) fn len(&self) -> u64 {
        let (rows, cols) = (self.rows as u64, self.cols as u64);
        let aligned = |len: u64| len.next_multiple_of(ALIGN as u64);
        match self.kind {
            // The rows of `Bytes` count nothing; their length is free.
            Kind::Bytes => 0,
            Kind::Linear => {
                let (n, k) = (padded_n(self.rows) as u64, padded_k(self.cols) as u64);
                n * k + 3 * 4 * n
            }
            Kind::Embedding => aligned(rows * cols) + 4 * rows,
            Kind::Norm => aligned(4 * cols) + 4 * cols,
            Kind::Matrix => 4 * rows * cols,
            Kind::Dense => aligned(4 * rows * cols) + 4 * rows,
        }
    }
}

/// The sections of one encoder layer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LayerSchema<T> {
    pub(crate) qkv: T,
    pub(crate) attention_output: T,
    pub(crate) attention_norm: T,
    pub(crate) intermediate: T,
    pub(crate) output: T,
    pub(crate) output_norm: T,
}

/// The sections that hold a model's numbers.
#[derive(Debug, Clone)]
pub(crate) struct Schema<T> {
    pub(crate) word: T,
    pub(crate) position: T,
    pub(crate) embeddings_norm: T,
    pub(crate) projection: Option<T>,
    pub(crate) layers: Vec<LayerSchema<T>>,
    pub(crate) dense: Option<T>,
    pub(crate) classifier: T,
}

impl Schema<Spec> {
    /// What a checked configuration calls for.
    pub(crate) fn new(config: &ModelConfig, head_dense: bool) -> Self {
        let (hidden, embedding) = (config.hidden_size, config.embedding_size);
        Self {
            word: Spec::new(
                "embeddings.word",
                Kind::Embedding,
                config.vocab_size,
                embedding,
            ),
            position: Spec::new(
                "embeddings.position",
                Kind::Matrix,
                config.max_tokens,
                embedding,
            ),
            embeddings_norm: Spec::new("embeddings.norm", Kind::Norm, 1, embedding),
            projection: (embedding != hidden)
                .then(|| Spec::new("embeddings.projection", Kind::Linear, hidden, embedding)),
            layers: (0..config.num_hidden_layers)
                .map(|i| layer(config, i))
                .collect(),
            dense: head_dense.then(|| Spec::new("head.dense", Kind::Dense, hidden, hidden)),
            classifier: Spec::new("head.classifier", Kind::Dense, config.labels.len(), hidden),
        }
    }
}

fn layer(config: &ModelConfig, i: usize) -> LayerSchema<Spec> {
    let (hidden, intermediate) = (config.hidden_size, config.intermediate_size);
    let linear = |part: &str, n, k| Spec::new(format!("layers.{i}.{part}"), Kind::Linear, n, k);
    let norm = |part: &str| Spec::new(format!("layers.{i}.{part}"), Kind::Norm, 1, hidden);
    LayerSchema {
        qkv: linear("qkv", 3 * hidden, hidden),
        attention_output: linear("attention_output", hidden, hidden),
        attention_norm: norm("attention_norm"),
        intermediate: linear("intermediate", intermediate, hidden),
        output: linear("output", hidden, intermediate),
        output_norm: norm("output_norm"),
    }
}

impl<T> Schema<T> {
    /// How many sections there are.
    pub(crate) fn len(&self) -> usize {
        let optional = [&self.projection, &self.dense]
            .into_iter()
            .flatten()
            .count();
        4 + optional + 6 * self.layers.len()
    }

    /// Turns every section into something else, in the order of the file.
    pub(crate) fn try_map<U, E>(
        self,
        mut f: impl FnMut(T) -> Result<U, E>,
    ) -> Result<Schema<U>, E> {
        Ok(Schema {
            word: f(self.word)?,
            position: f(self.position)?,
            embeddings_norm: f(self.embeddings_norm)?,
            projection: self.projection.map(&mut f).transpose()?,
            layers: self
                .layers
                .into_iter()
                .map(|layer| {
                    Ok(LayerSchema {
                        qkv: f(layer.qkv)?,
                        attention_output: f(layer.attention_output)?,
                        attention_norm: f(layer.attention_norm)?,
                        intermediate: f(layer.intermediate)?,
                        output: f(layer.output)?,
                        output_norm: f(layer.output_norm)?,
                    })
                })
                .collect::<Result<_, E>>()?,
            dense: self.dense.map(&mut f).transpose()?,
            classifier: f(self.classifier)?,
        })
    }
}

/// The non-linearity of a family's head; `None` for families that are not packed.
pub(crate) fn head_activation(architecture: Architecture) -> Option<HeadActivation> {
    match architecture {
        Architecture::Bert | Architecture::Roberta => Some(HeadActivation::Tanh),
        Architecture::DistilBert => Some(HeadActivation::Relu),
        Architecture::Electra => Some(HeadActivation::GeluErf),
        Architecture::DebertaV2 | Architecture::ModernBert => None,
    }
}
