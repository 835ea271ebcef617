//! BERT and its kin on candle's BERT layers: embeddings and classification heads,
//! which candle lacks or has for BERT's own shape alone, are here.

use candle_core::{DType, Device, Module, Result, Tensor};
use candle_nn::{Embedding, LayerNorm, Linear, VarBuilder};
use candle_transformers::models::bert::{BertEncoder, Config, HiddenAct};
use coldread_model::layout::HeadActivation;
use coldread_model::{Activation, Architecture, ModelConfig};

use super::{Weights, var_builder};

/// A BERT, `DistilBERT` or ELECTRA with its head.
pub(super) struct Bert {
    embeddings: Embeddings,
    encoder: BertEncoder,
    head: Head,
}

/// Word + position + token type 0 -> norm (-> projection).
struct Embeddings {
    word: Embedding,
    /// `[max_position_embeddings, width]`
    position: Tensor,
    /// `[1, width]`; `DistilBERT` has none.
    token_type: Option<Tensor>,
    norm: LayerNorm,
    /// ELECTRA's, where embeddings are narrower than hidden states.
    projection: Option<Linear>,
}

/// First token's hidden state -> (dense -> activation) -> classifier.
struct Head {
    dense: Option<(Linear, HeadActivation)>,
    classifier: Linear,
}

impl Bert {
    /// Reads the weights under the family's own names, with or without its prefix.
    pub(super) fn load(weights: Weights, config: &ModelConfig) -> Result<Self> {
        let (weights, prefix) = match config.architecture {
            Architecture::DistilBert => (distilbert_as_bert(weights), "bert"),
            Architecture::Electra => (weights, "electra"),
            _ => (weights, "bert"),
        };
        let root = var_builder(weights);
        let vb = if root.contains_tensor("embeddings.word_embeddings.weight") {
            root.clone()
        } else {
            root.pp(prefix)
        };
        Ok(Self {
            embeddings: Embeddings::load(&vb, config)?,
            encoder: BertEncoder::load(vb.pp("encoder"), &bert_config(config))?,
            head: Head::load(&root, &vb, config)?,
        })
    }

    /// `[1, tokens]` ids to `[1, labels]` logits.
    pub(super) fn forward(&self, input_ids: &Tensor) -> Result<Tensor> {
        let tokens = input_ids.dim(1)?;
        let nothing_masked = Tensor::zeros((1, 1, 1, tokens), DType::F32, &Device::Cpu)?;
        let embedded = self.embeddings.forward(input_ids)?;
        let hidden_states = self.encoder.forward(&embedded, &nothing_masked)?;
        let first_token = hidden_states.narrow(1, 0, 1)?.squeeze(1)?.contiguous()?;
        self.head.forward(&first_token)
    }
}

impl Embeddings {
    fn load(vb: &VarBuilder, config: &ModelConfig) -> Result<Self> {
        let (width, hidden) = (config.embedding_size, config.hidden_size);
        let part = vb.pp("embeddings");
        let types = config.type_vocab_size;
        let token_type = (types > 0)
            .then(|| {
                part.get((types, width), "token_type_embeddings.weight")?
                    .narrow(0, 0, 1)
            })
            .transpose()?;
        let projection = (width != hidden)
            .then(|| candle_nn::linear(width, hidden, vb.pp("embeddings_project")))
            .transpose()?;
        Ok(Self {
            word: candle_nn::embedding(config.vocab_size, width, part.pp("word_embeddings"))?,
            position: part.get(
                (config.max_position_embeddings, width),
                "position_embeddings.weight",
            )?,
            token_type,
            norm: candle_nn::layer_norm(width, config.layer_norm_eps, part.pp("LayerNorm"))?,
            projection,
        })
    }

    fn forward(&self, input_ids: &Tensor) -> Result<Tensor> {
        let position = self.position.narrow(0, 0, input_ids.dim(1)?)?;
        let mut x = self.word.forward(input_ids)?.broadcast_add(&position)?;
        if let Some(token_type) = &self.token_type {
            x = x.broadcast_add(token_type)?;
        }
        let x = self.norm.forward(&x)?;
        match &self.projection {
            Some(projection) => projection.forward(&x),
            None => Ok(x),
        }
    }
}

impl Head {
    /// `root` has the classifier, `encoder` BERT's pooler.
    fn load(root: &VarBuilder, encoder: &VarBuilder, config: &ModelConfig) -> Result<Self> {
        let (hidden, labels) = (config.hidden_size, config.labels.len());
        let (dense, activation, classifier) = match config.architecture {
            Architecture::DistilBert => (
                root.pp("pre_classifier"),
                HeadActivation::Relu,
                root.pp("classifier"),
            ),
            Architecture::Electra => (
                root.pp("classifier.dense"),
                HeadActivation::GeluErf,
                root.pp("classifier.out_proj"),
            ),
            _ => (
                encoder.pp("pooler.dense"),
                HeadActivation::Tanh,
                root.pp("classifier"),
            ),
        };
        // A BERT may come without a pooler; the others' dense layer has to be there.
        let has_dense =
            config.architecture != Architecture::Bert || dense.contains_tensor("weight");
        let dense = has_dense
            .then(|| candle_nn::linear(hidden, hidden, dense))
            .transpose()?;
        Ok(Self {
            dense: dense.map(|dense| (dense, activation)),
            classifier: candle_nn::linear(hidden, labels, classifier)?,
        })
    }

    fn forward(&self, first_token: &Tensor) -> Result<Tensor> {
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

/// `DistilBERT`'s weights under BERT's names: candle's own `DistilBERT` replaces the
/// exact GELU by its tanh approximation.
fn distilbert_as_bert(weights: Weights) -> Weights {
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
    let renamed = |name: String| {
        NAMES
            .iter()
            .fold(name, |name, (theirs, berts)| name.replace(theirs, berts))
    };
    weights
        .into_iter()
        .map(|(name, tensor)| (renamed(name), tensor))
        .collect()
}

fn bert_config(config: &ModelConfig) -> Config {
    Config {
        hidden_size: config.hidden_size,
        num_hidden_layers: config.num_hidden_layers,
        num_attention_heads: config.num_attention_heads,
        intermediate_size: config.intermediate_size,
        hidden_act: match config.hidden_act {
            Activation::GeluErf => HiddenAct::Gelu,
            Activation::GeluTanh => HiddenAct::GeluApproximate,
            Activation::Relu => HiddenAct::Relu,
        },
        layer_norm_eps: config.layer_norm_eps,
        ..Config::default()
    }
}
