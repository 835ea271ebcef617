//! Text classifiers on candle: encoders in f32, and language models in GGUF.
//!
//! The encoders have two uses: DeBERTa and `ModernBERT`, which `coldread-engine` has no int8 kernels for, and
//! the reference that int8 results are compared with. It is built to be right, not fast: posts
//! run one at a time, so that a post's logits cannot depend on its neighbours.
//!
//! `candle-transformers` has the encoders. What it lacks of BERT's family is in `bert`; how the
//! others are configured is in `deberta` and `modernbert`.
//!
//! Language models, quantized, are asked what they think of a post ([`load_gguf`]): `gguf` reads
//! the file, `decoder` is the network, `vocabulary` its tokenizer, `prompt` the question and
//! `zero_shot` the way from answers to scores.

#![forbid(unsafe_code)]

mod bert;
mod deberta;
mod decoder;
mod gguf;
mod modernbert;
mod prompt;
#[cfg(test)]
mod tests;
mod vocabulary;
mod zero_shot;

pub use prompt::Prompt;
pub use zero_shot::{Limits, Summary, ZeroShot, load_gguf};

use bert::Bert;

use candle_core::{DType, Device, Tensor};
use candle_nn::VarBuilder;
use candle_transformers::models::modernbert::ModernBertForSequenceClassification;
use candle_transformers::models::{debertav2, xlm_roberta};
use coldread_engine::engine::{EncodedBatch, Engine, EngineInfo};
use coldread_engine::text::TextPipeline;
use coldread_engine::{EngineError, Model as LoadedModel, ModelInfo, ModelOptions};
use coldread_model::{
    Activation, Architecture, LoadError, ModelConfig, ModelFolder, ProblemType, Tensors,
};
use std::collections::HashMap;
use std::sync::Arc;

type Weights = HashMap<String, Tensor>;

/// Loads a model folder with its transformer on candle. The options' instruction set and threads
/// have no effect.
///
/// # Errors
/// If a file is missing or unreadable, is not a sound model, or is of an architecture that
/// candle does not run as a classifier; the error names the file and the reason.
pub fn load(folder: &ModelFolder, options: &ModelOptions) -> Result<LoadedModel, LoadError> {
    let engine = CandleEngine::load(folder)?;
    let info = ModelInfo::new(&folder.name, &folder.config, folder.temperature);
    let text = TextPipeline::from_folder(folder)?;
    Ok(options.with_engine(info, text, Box::new(engine)))
}

/// A model folder's transformer on candle.
#[derive(Clone)]
pub struct CandleEngine {
    model: Arc<Network>,
    num_labels: usize,
}

enum Network {
    Bert(Bert),
    Roberta(xlm_roberta::XLMRobertaForSequenceClassification),
    Deberta(Box<debertav2::DebertaV2SeqClassificationModel>),
    ModernBert(ModernBertForSequenceClassification),
}

impl CandleEngine {
    /// Reads the folder's weights.
    pub fn load(folder: &ModelFolder) -> Result<Self, LoadError> {
        let path = folder.weights.path();
        let invalid = |e: candle_core::Error| LoadError::invalid(path, e.to_string());
        let weights = read_weights(folder)?;
        let config = &folder.config;
        let model = match config.architecture {
            Architecture::Bert | Architecture::DistilBert | Architecture::Electra => {
                Network::Bert(Bert::load(weights, config).map_err(invalid)?)
            }
            Architecture::Roberta => Network::Roberta(
                xlm_roberta::XLMRobertaForSequenceClassification::new(
                    config.labels.len(),
                    &roberta_config(config),
                    var_builder(weights),
                )
                .map_err(invalid)?,
            ),
            Architecture::DebertaV2 => Network::Deberta(Box::new(
                debertav2::DebertaV2SeqClassificationModel::load(
                    var_builder(weights).pp("deberta"),
                    &deberta::config(folder)?,
                    Some(deberta::id2label(config)),
                )
                .map_err(invalid)?,
            )),
            Architecture::ModernBert if config.problem_type == ProblemType::MultiLabel => {
                // candle's class ends in a softmax, from which sigmoids cannot be had.
                return Err(LoadError::unsupported(
                    path,
                    "ModernBERT runs only as a single-label classifier",
                ));
            }
            Architecture::ModernBert => {
                modernbert::check_norms(&weights, config)
                    .map_err(|e| LoadError::invalid(path, e))?;
                let config = modernbert::config(folder)?;
                let model =
                    ModernBertForSequenceClassification::load(var_builder(weights), &config);
                Network::ModernBert(model.map_err(invalid)?)
            }
        };
        Ok(Self {
            model: Arc::new(model),
            num_labels: config.labels.len(),
        })
    }

    /// The logits of one post.
    fn logits(&self, input_ids: &[u32]) -> candle_core::Result<Vec<f32>> {
        let input_ids = Tensor::new(input_ids, &Device::Cpu)?.unsqueeze(0)?;
        let ones = input_ids.ones_like()?;
        let zeros = input_ids.zeros_like()?;
        let logits = match &*self.model {
            Network::Bert(model) => model.forward(&input_ids)?,
            Network::Roberta(model) => model.forward(&input_ids, &ones, &zeros)?,
            Network::Deberta(model) => model.forward(&input_ids, Some(zeros), Some(ones))?,
            // Log-probabilities are logits up to a constant, which softmax takes away again.
            Network::ModernBert(model) => model.forward(&input_ids, &ones)?.log()?,
        };
        logits.squeeze(0)?.to_dtype(DType::F32)?.to_vec1()
    }
}

impl Engine for CandleEngine {
    fn forward(&mut self, batch: &EncodedBatch, logits: &mut Vec<f32>) -> Result<(), EngineError> {
        for post in batch.posts() {
            let row = self
                .logits(post)
                .map_err(|e| EngineError::Backend(e.into()))?;
            debug_assert_eq!(row.len(), self.num_labels);
            logits.extend_from_slice(&row);
        }
        Ok(())
    }

    fn fork(&self) -> Box<dyn Engine> {
        Box::new(self.clone())
    }

    fn info(&self) -> EngineInfo {
        EngineInfo {
            engine: "candle-f32",
            isa: None,
            weight_range: None,
            threads: 1,
            batches: false,
        }
    }
}

/// All tensors in f32, under today's names (old checkpoints say gamma and beta).
fn read_weights(folder: &ModelFolder) -> Result<Weights, LoadError> {
    let tensors = Tensors::open(&folder.weights)?;
    let read = |(name, shape): (&str, &[usize])| {
        let values = tensors.get(name, shape)?.to_f32()?;
        let tensor = Tensor::from_vec(values, shape, &Device::Cpu)
            .map_err(|e| LoadError::invalid(folder.weights.path(), e.to_string()))?;
        let name = name
            .replace("LayerNorm.gamma", "LayerNorm.weight")
            .replace("LayerNorm.beta", "LayerNorm.bias");
        Ok((name, tensor))
    };
    tensors.floats().map(read).collect()
}

fn var_builder(weights: Weights) -> VarBuilder<'static> {
    VarBuilder::from_tensors(weights, DType::F32, &Device::Cpu)
}

fn roberta_config(config: &ModelConfig) -> xlm_roberta::Config {
    xlm_roberta::Config {
        hidden_size: config.hidden_size,
        layer_norm_eps: config.layer_norm_eps,
        attention_probs_dropout_prob: 0.0,
        hidden_dropout_prob: 0.0,
        num_attention_heads: config.num_attention_heads,
        position_embedding_type: "absolute".to_owned(),
        intermediate_size: config.intermediate_size,
        hidden_act: match config.hidden_act {
            Activation::GeluErf => candle_nn::Activation::Gelu,
            Activation::GeluTanh => candle_nn::Activation::NewGelu,
            Activation::Relu => candle_nn::Activation::Relu,
        },
        num_hidden_layers: config.num_hidden_layers,
        vocab_size: config.vocab_size,
        max_position_embeddings: config.max_position_embeddings,
        type_vocab_size: config.type_vocab_size,
        pad_token_id: config.pad_token_id,
    }
}

/// Fields of `config.json` that [`ModelConfig`] does not hold.
fn config_json<T: serde::de::DeserializeOwned>(folder: &ModelFolder) -> Result<T, LoadError> {
    let path = folder.path.join(coldread_model::config::FILE);
    let bytes = std::fs::read(&path).map_err(|source| LoadError::Read {
        path: path.clone(),
        source,
    })?;
    serde_json::from_slice(&bytes).map_err(|e| LoadError::invalid(&path, e.to_string()))
}
