//! candle's own `BertModel` in f32, with the classification head that it lacks.

use crate::{Batch, Engine};
use anyhow::Result;
use candle_core::{DType, Device, IndexOp, Module, Tensor};
use candle_nn::{Linear, VarBuilder};
use candle_transformers::models::bert::{BertModel, Config};
use std::collections::HashMap;
use std::path::Path;

pub struct CandleF32 {
    encoder: BertModel,
    head: Head,
}

impl CandleF32 {
    pub fn load(model: &Path) -> Result<Self> {
        let config = read_config(model)?;
        let weights = VarBuilder::from_tensors(read_weights(model)?, DType::F32, &Device::Cpu);
        Ok(Self {
            encoder: BertModel::load(weights.pp("bert"), &config)?,
            head: Head::load(&weights, config.hidden_size)?,
        })
    }
}

impl Engine for CandleF32 {
    fn logits(&self, batch: &Batch) -> Result<Vec<f32>> {
        let (ids, mask) = tensors(batch)?;
        let hidden = self.encoder.forward(&ids, &ids.zeros_like()?, Some(&mask))?;
        self.head.forward(&hidden)
    }
}

/// First token -> dense -> tanh -> classifier.
pub struct Head {
    pooler: Linear,
    classifier: Linear,
}

impl Head {
    pub fn load(weights: &VarBuilder, hidden_size: usize) -> Result<Self> {
        let labels = weights.get_unchecked("classifier.bias")?.dim(0)?;
        Ok(Self {
            pooler: candle_nn::linear(hidden_size, hidden_size, weights.pp("bert.pooler.dense"))?,
            classifier: candle_nn::linear(hidden_size, labels, weights.pp("classifier"))?,
        })
    }

    pub fn forward(&self, hidden: &Tensor) -> Result<Vec<f32>> {
        let first = hidden.i((.., 0))?.contiguous()?;
        let logits = self.classifier.forward(&self.pooler.forward(&first)?.tanh()?)?;
        Ok(logits.flatten_all()?.to_vec1()?)
    }
}

pub fn tensors(batch: &Batch) -> Result<(Tensor, Tensor)> {
    let tensor = |values: &[u32]| Tensor::from_slice(values, (batch.posts, batch.tokens), &Device::Cpu);
    Ok((tensor(&batch.input_ids)?, tensor(&batch.attention_mask)?))
}

pub fn read_config(model: &Path) -> Result<Config> {
    Ok(serde_json::from_str(&std::fs::read_to_string(model.join("config.json"))?)?)
}

/// All weights as f32, whatever the folder stores.
pub fn read_weights(model: &Path) -> Result<HashMap<String, Tensor>> {
    candle_core::safetensors::load(model.join("model.safetensors"), &Device::Cpu)?
        .into_iter()
        .filter(|(_, tensor)| tensor.dtype().is_float())
        .map(|(name, tensor)| Ok((name, tensor.to_dtype(DType::F32)?)))
        .collect()
}
