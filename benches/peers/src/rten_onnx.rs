//! rten on an ONNX file.

use crate::{Batch, Engine};
use anyhow::Result;
use rten::{Model, ModelOptions, NodeId};
use rten_tensor::NdTensor;
use std::path::Path;

pub struct Rten {
    model: Model,
    input_ids: NodeId,
    attention_mask: NodeId,
    logits: NodeId,
}

impl Rten {
    pub fn load(weights: &Path) -> Result<Self> {
        let mut options = ModelOptions::with_all_ops();
        // Costs memory and load time, and makes every run faster.
        options.prepack_weights(true);
        let model = options.load_file(weights)?;
        Ok(Self {
            input_ids: model.node_id("input_ids")?,
            attention_mask: model.node_id("attention_mask")?,
            logits: model.node_id("logits")?,
            model,
        })
    }
}

impl Engine for Rten {
    fn logits(&self, batch: &Batch) -> Result<Vec<f32>> {
        // rten reads what ONNX calls int64 as i32.
        let tensor = |values: &[u32]| {
            let values: Vec<i32> = values.iter().map(|&v| v as i32).collect();
            NdTensor::from_data([batch.posts, batch.tokens], values)
        };
        let inputs = vec![
            (self.input_ids, tensor(&batch.input_ids).into()),
            (self.attention_mask, tensor(&batch.attention_mask).into()),
        ];
        let [logits] = self.model.run_n(inputs, [self.logits], None)?;
        let (_, logits) = logits.into_shape_vec::<f32, 2>()?;
        Ok(logits)
    }
}
