//! candle's configuration of `ModernBERT`, from either of the two shapes that
//! `config.json` has: older files name the distance between global layers and two
//! rotary bases, newer ones list the layers' kinds and the bases by kind.

use super::Weights;
use candle_core::Tensor;
use candle_transformers::models::modernbert::{ClassifierConfig, ClassifierPooling, Config};
use coldread_model::{Activation, LoadError, ModelConfig, ModelFolder};
use serde::Deserialize;
use std::collections::HashMap;

/// What [`ModelConfig`] does not hold.
#[derive(Deserialize)]
#[expect(clippy::struct_excessive_bools, reason = "named as in the file")]
struct Fields {
    global_attn_every_n_layers: Option<usize>,
    layer_types: Option<Vec<String>>,
    global_rope_theta: Option<f64>,
    local_rope_theta: Option<f64>,
    #[serde(default)]
    rope_parameters: HashMap<String, Rope>,
    #[serde(default = "default_local_attention")]
    local_attention: usize,
    #[serde(default)]
    classifier_pooling: ClassifierPooling,
    classifier_activation: Option<String>,
    #[serde(default)]
    attention_bias: bool,
    #[serde(default)]
    mlp_bias: bool,
    #[serde(default)]
    norm_bias: bool,
    #[serde(default)]
    classifier_bias: bool,
}

#[derive(Deserialize)]
struct Rope {
    rope_theta: Option<f64>,
}

fn default_local_attention() -> usize {
    128
}

const GLOBAL: &str = "full_attention";
const LOCAL: &str = "sliding_attention";

/// The folder's configuration as candle takes it, or what candle cannot run.
pub(super) fn config(folder: &ModelFolder) -> Result<Config, LoadError> {
    let fields: Fields = super::config_json(folder)?;
    let unsupported = |what: &str| {
        let path = folder.path.join(coldread_model::config::FILE);
        LoadError::unsupported(&path, format!("the engine for ModernBERT has {what}"))
    };
    let config = &folder.config;
    let is_gelu = |name: &String| name == "gelu";
    if config.hidden_act != Activation::GeluErf
        || !fields.classifier_activation.as_ref().is_none_or(is_gelu)
    {
        return Err(unsupported("no other activation than gelu"));
    }
    if fields.attention_bias || fields.mlp_bias || fields.norm_bias || fields.classifier_bias {
        return Err(unsupported("no biases before the classifier"));
    }
    let global_attn_every_n_layers = fields
        .period()
        .ok_or_else(|| unsupported("a global layer first and then one at equal distances"))?;
    let theta = |kind: &str| fields.rope_parameters.get(kind)?.rope_theta;
    // The defaults are transformers' own.
    let global = fields
        .global_rope_theta
        .or_else(|| theta(GLOBAL))
        .unwrap_or(160_000.0);
    let local = fields
        .local_rope_theta
        .or_else(|| theta(LOCAL))
        .unwrap_or(10_000.0);
    Ok(Config {
        vocab_size: config.vocab_size,
        hidden_size: config.hidden_size,
        num_hidden_layers: config.num_hidden_layers,
        num_attention_heads: config.num_attention_heads,
        intermediate_size: config.intermediate_size,
        // Rows of the rotary tables.
        max_position_embeddings: config.max_tokens,
        layer_norm_eps: config.layer_norm_eps,
        pad_token_id: config.pad_token_id,
        global_attn_every_n_layers,
        global_rope_theta: global,
        local_attention: fields.local_attention,
        local_rope_theta: local,
        classifier_config: Some(classifier(config, fields.classifier_pooling)),
    })
}

/// Sees that each layer but the first has the norm before its attention: candle goes
/// without one that it cannot read.
pub(super) fn check_norms(weights: &Weights, config: &ModelConfig) -> Result<(), String> {
    for layer in 1..config.num_hidden_layers {
        let name = format!("model.layers.{layer}.attn_norm.weight");
        let shape = weights.get(&name).map(Tensor::dims);
        if shape != Some(&[config.hidden_size]) {
            let expected = config.hidden_size;
            return Err(match shape {
                None => format!("tensor {name} is missing"),
                Some(shape) => format!("tensor {name} has the shape {shape:?}, not [{expected}]"),
            });
        }
    }
    Ok(())
}

impl Fields {
    /// Every how many layers one attends to the whole post; `None` where there is no
    /// such number.
    fn period(&self) -> Option<usize> {
        let Some(kinds) = &self.layer_types else {
            return self
                .global_attn_every_n_layers
                .or(Some(3))
                .filter(|&n| n > 0);
        };
        let mut global = kinds.iter().enumerate().filter(|(_, kind)| *kind == GLOBAL);
        let first = global.next()?.0;
        let period = global.next().map_or(kinds.len(), |(i, _)| i - first);
        let fits = |(i, kind): (usize, &String)| {
            *kind
                == if i.is_multiple_of(period) {
                    GLOBAL
                } else {
                    LOCAL
                }
        };
        kinds.iter().enumerate().all(fits).then_some(period)
    }
}

/// candle reads no more of the labels than their number.
fn classifier(config: &ModelConfig, classifier_pooling: ClassifierPooling) -> ClassifierConfig {
    let labels = config.labels.iter().enumerate();
    ClassifierConfig {
        id2label: labels
            .map(|(i, label)| (i.to_string(), label.clone()))
            .collect(),
        label2id: HashMap::new(),
        classifier_pooling,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(json: &str, period: Option<usize>) {
        let fields: Fields = serde_json::from_str(json).expect("fields");
        assert_eq!(fields.period(), period, "{json}");
    }

    #[test]
    fn both_ways_to_tell_which_layers_are_global() {
        check("{}", Some(3));
        check(r#"{"global_attn_every_n_layers": 2}"#, Some(2));
        check(r#"{"global_attn_every_n_layers": 0}"#, None);
        let (g, l) = (GLOBAL, LOCAL);
        let kinds = |kinds: &[&str]| format!("{{\"layer_types\": {kinds:?}}}");
        check(&kinds(&[g, l, l, g]), Some(3));
        check(&kinds(&[g, l, l]), Some(3));
        check(&kinds(&[g, g]), Some(1));
        check(&kinds(&[l, g, l]), None);
        check(&kinds(&[g, l, g, g]), None);
        check(&kinds(&[g, "chunked_attention"]), None);
        check(&kinds(&[]), None);
    }
}
