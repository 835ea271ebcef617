//! The model on candle, in f32.
//!
//! Two uses: the oracle that the int8 engine is tested against, and the engine
//! for architectures that the int8 engine lacks (DeBERTa, `ModernBERT`). It is
//! built to be right, not fast: a post goes through alone, so that its logits
//! cannot depend on its neighbours.
//!
//! `candle-transformers` has the encoders. Where it has no classification head
//! (BERT, `DistilBERT`, ELECTRA) the head is here. `DistilBERT` and ELECTRA run as
//! the BERT that they are, after a renaming of their weights: candle's own
//! `DistilBERT` replaces the exact GELU by its tanh approximation.

use crate::engine::{EncodedBatch, Engine, EngineInfo};
use crate::error::InferError;
use candle_core::{DType, Device, Module, Tensor};
use candle_nn::{Linear, VarBuilder};
use candle_transformers::models::{bert, debertav2, modernbert, xlm_roberta};
use coldread_model::{Activation, Architecture, LoadError, ModelConfig, ModelFolder, ProblemType};
use std::collections::HashMap;
use std::sync::Arc;

type Weights = HashMap<String, Tensor>;

/// A model folder's transformer on candle.
#[derive(Clone)]
pub struct Reference {
    model: Arc<Model>,
    num_labels: usize,
}

enum Model {
    Bert {
        encoder: bert::BertModel,
        head: Head,
    },
    Roberta(xlm_roberta::XLMRobertaForSequenceClassification),
    Deberta(Box<debertav2::DebertaV2SeqClassificationModel>),
    ModernBert(modernbert::ModernBertForSequenceClassification),
}

/// First token's hidden state -> (dense -> activation) -> classifier.
struct Head {
    dense: Option<(Linear, HeadActivation)>,
    classifier: Linear,
}

#[derive(Clone, Copy)]
enum HeadActivation {
    Tanh,
    Relu,
    GeluErf,
}

impl Reference {
    /// Reads the folder's weights.
    pub fn load(folder: &ModelFolder) -> Result<Self, LoadError> {
        let path = folder.weights_path();
        let invalid = |e: candle_core::Error| LoadError::invalid(&path, e.to_string());
        let weights = read_weights(folder).map_err(invalid)?;
        let config = &folder.config;
        let model = match config.architecture {
            Architecture::Bert => load_bert(weights, "bert", config).map_err(invalid)?,
            Architecture::DistilBert => load_bert(
                distilbert_as_bert(weights, config).map_err(invalid)?,
                "bert",
                config,
            )
            .map_err(invalid)?,
            Architecture::Electra if config.embedding_size == config.hidden_size => {
                load_bert(weights, "electra", config).map_err(invalid)?
            }
            Architecture::Electra => {
                return Err(LoadError::unsupported(
                    &path,
                    "the reference engine runs ELECTRA only where embedding_size equals hidden_size",
                ));
            }
            Architecture::Roberta => Model::Roberta(
                xlm_roberta::XLMRobertaForSequenceClassification::new(
                    config.labels.len(),
                    &roberta_config(config),
                    var_builder(weights),
                )
                .map_err(invalid)?,
            ),
            Architecture::DebertaV2 => Model::Deberta(Box::new(
                debertav2::DebertaV2SeqClassificationModel::load(
                    var_builder(weights).pp("deberta"),
                    &candle_config(folder)?,
                    None,
                )
                .map_err(invalid)?,
            )),
            Architecture::ModernBert if config.problem_type == ProblemType::MultiLabel => {
                // candle's class ends in a softmax, from which sigmoids cannot be had.
                return Err(LoadError::unsupported(
                    &path,
                    "ModernBERT runs only as a single-label classifier",
                ));
            }
            Architecture::ModernBert => Model::ModernBert(
                modernbert::ModernBertForSequenceClassification::load(
                    var_builder(weights),
                    &candle_config(folder)?,
                )
                .map_err(invalid)?,
            ),
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
            Model::Bert { encoder, head } => {
                let hidden_states = encoder.forward(&input_ids, &zeros, Some(&ones))?;
                head.forward(&hidden_states.narrow(1, 0, 1)?.squeeze(1)?.contiguous()?)?
            }
            Model::Roberta(model) => model.forward(&input_ids, &ones, &zeros)?,
            Model::Deberta(model) => model.forward(&input_ids, Some(zeros), Some(ones))?,
            // Log-probabilities are logits up to a constant, which softmax takes away again.
            Model::ModernBert(model) => model.forward(&input_ids, &ones)?.log()?,
        };
        logits.squeeze(0)?.to_dtype(DType::F32)?.to_vec1()
    }
}

impl Engine for Reference {
    fn forward(&mut self, batch: &EncodedBatch, logits: &mut Vec<f32>) -> Result<(), InferError> {
        for post in batch.posts() {
            let row = self
                .logits(post)
                .map_err(|e| InferError::Internal(e.to_string()))?;
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
            threads: 1,
        }
    }
}

impl Head {
    fn forward(&self, first_token: &Tensor) -> candle_core::Result<Tensor> {
        let pooled = match &self.dense {
            None => first_token.clone(),
            Some((dense, activation)) => {
                let dense = dense.forward(first_token)?;
                match activation {
                    HeadActivation::Tanh => dense.tanh()?,
                    HeadActivation::Relu => dense.relu()?,
                    HeadActivation::GeluErf => dense.gelu_erf()?,
                }
            }
        };
        self.classifier.forward(&pooled)
    }
}

/// All tensors in f32, under today's names (old checkpoints say gamma and beta).
fn read_weights(folder: &ModelFolder) -> candle_core::Result<Weights> {
    candle_core::safetensors::load(folder.weights_path(), &Device::Cpu)?
        .into_iter()
        .filter(|(_, tensor)| tensor.dtype().is_float())
        .map(|(name, tensor)| {
            let name = name
                .replace("LayerNorm.gamma", "LayerNorm.weight")
                .replace("LayerNorm.beta", "LayerNorm.bias");
            Ok((name, tensor.to_dtype(DType::F32)?))
        })
        .collect()
}

fn var_builder(weights: Weights) -> VarBuilder<'static> {
    VarBuilder::from_tensors(weights, DType::F32, &Device::Cpu)
}

fn load_bert(weights: Weights, prefix: &str, config: &ModelConfig) -> candle_core::Result<Model> {
    let vb = var_builder(weights);
    let encoder = bert::BertModel::load(vb.pp(prefix), &bert_config(config))?;
    let (hidden, labels) = (config.hidden_size, config.labels.len());
    let linear = |n: usize, vb: VarBuilder| candle_nn::linear(hidden, n, vb);
    let head = match config.architecture {
        Architecture::DistilBert => Head {
            dense: Some((
                linear(hidden, vb.pp("pre_classifier"))?,
                HeadActivation::Relu,
            )),
            classifier: linear(labels, vb.pp("classifier"))?,
        },
        Architecture::Electra => Head {
            dense: Some((
                linear(hidden, vb.pp("classifier.dense"))?,
                HeadActivation::GeluErf,
            )),
            classifier: linear(labels, vb.pp("classifier.out_proj"))?,
        },
        _ => {
            let pooler = vb.pp(prefix).pp("pooler.dense");
            Head {
                dense: if pooler.contains_tensor("weight") {
                    Some((linear(hidden, pooler)?, HeadActivation::Tanh))
                } else {
                    None
                },
                classifier: linear(labels, vb.pp("classifier"))?,
            }
        }
    };
    Ok(Model::Bert { encoder, head })
}

/// `DistilBERT`'s weights under BERT's names, with the token types that it lacks.
fn distilbert_as_bert(weights: Weights, config: &ModelConfig) -> candle_core::Result<Weights> {
    const NAMES: [(&str, &str); 10] = [
        ("distilbert.transformer.", "bert.encoder."),
        ("distilbert.", "bert."),
        ("attention.q_lin.", "attention.self.query."),
        ("attention.k_lin.", "attention.self.key."),
        ("attention.v_lin.", "attention.self.value."),
        ("attention.out_lin.", "attention.output.dense."),
        ("sa_layer_norm.", "attention.output.LayerNorm."),
        ("ffn.lin1.", "intermediate.dense."),
        ("ffn.lin2.", "output.dense."),
        ("output_layer_norm.", "output.LayerNorm."),
    ];
    let mut renamed: Weights = weights
        .into_iter()
        .map(|(name, tensor)| {
            let name = NAMES
                .iter()
                .fold(name, |name, (theirs, berts)| name.replace(theirs, berts));
            (name, tensor)
        })
        .collect();
    renamed.insert(
        "bert.embeddings.token_type_embeddings.weight".to_owned(),
        Tensor::zeros((1, config.hidden_size), DType::F32, &Device::Cpu)?,
    );
    Ok(renamed)
}

fn bert_config(config: &ModelConfig) -> bert::Config {
    bert::Config {
        vocab_size: config.vocab_size,
        hidden_size: config.hidden_size,
        num_hidden_layers: config.num_hidden_layers,
        num_attention_heads: config.num_attention_heads,
        intermediate_size: config.intermediate_size,
        hidden_act: match config.hidden_act {
            Activation::GeluErf => bert::HiddenAct::Gelu,
            Activation::GeluTanh => bert::HiddenAct::GeluApproximate,
            Activation::Relu => bert::HiddenAct::Relu,
        },
        max_position_embeddings: config.max_position_embeddings,
        // DistilBERT has none; its weights get one row of zeros.
        type_vocab_size: config.type_vocab_size.max(1),
        layer_norm_eps: config.layer_norm_eps,
        pad_token_id: config.pad_token_id as usize,
        model_type: None,
        ..bert::Config::default()
    }
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

/// `config.json` as candle's own configuration of an architecture reads it.
fn candle_config<T: serde::de::DeserializeOwned>(folder: &ModelFolder) -> Result<T, LoadError> {
    let path = folder.path.join(coldread_model::config::FILE);
    let bytes = std::fs::read(&path).map_err(|source| LoadError::Read {
        path: path.clone(),
        source,
    })?;
    serde_json::from_slice(&bytes).map_err(|e| LoadError::invalid(&path, e.to_string()))
}
