//! BERT on candle with its encoder's linears as `QMatMul` in Q8_0.
//!
//! candle-transformers has no quantized BERT, so the layers are written out here,
//! on candle's own fused operations where it has them. Embeddings, attention and
//! the head are f32.

use crate::candle_f32::{Head, read_config, read_weights, tensors};
use crate::{Batch, Engine};
use anyhow::Result;
use candle_core::quantized::{GgmlDType, QMatMul, QTensor};
use candle_core::{D, DType, Device, Module, Tensor};
use candle_nn::{Embedding, LayerNorm, VarBuilder};
use candle_transformers::models::bert::Config;
use std::path::Path;

pub struct CandleQ8 {
    words: Embedding,
    positions: Embedding,
    /// Every token has type 0.
    token_type: Tensor,
    norm: LayerNorm,
    layers: Vec<Layer>,
    heads: usize,
    head: Head,
}

struct Layer {
    query: QLinear,
    key: QLinear,
    value: QLinear,
    output: QLinear,
    attention_norm: LayerNorm,
    up: QLinear,
    down: QLinear,
    output_norm: LayerNorm,
}

struct QLinear {
    weight: QMatMul,
    bias: Tensor,
}

impl QLinear {
    fn load(inputs: usize, outputs: usize, weights: VarBuilder) -> Result<Self> {
        let weight = weights.get((outputs, inputs), "weight")?;
        Ok(Self {
            weight: QMatMul::from_qtensor(QTensor::quantize(&weight, GgmlDType::Q8_0)?)?,
            bias: weights.get(outputs, "bias")?,
        })
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        Ok(self.weight.forward(x)?.broadcast_add(&self.bias)?)
    }
}

impl CandleQ8 {
    pub fn load(model: &Path) -> Result<Self> {
        let config = read_config(model)?;
        let root = VarBuilder::from_tensors(read_weights(model)?, DType::F32, &Device::Cpu);
        let embeddings = root.pp("bert.embeddings");
        let h = config.hidden_size;
        let embedding = |rows, name| candle_nn::embedding(rows, h, embeddings.pp(name));
        let types = embedding(config.type_vocab_size, "token_type_embeddings")?;
        Ok(Self {
            words: embedding(config.vocab_size, "word_embeddings")?,
            positions: embedding(config.max_position_embeddings, "position_embeddings")?,
            token_type: types.embeddings().get(0)?,
            norm: candle_nn::layer_norm(h, config.layer_norm_eps, embeddings.pp("LayerNorm"))?,
            layers: (0..config.num_hidden_layers)
                .map(|i| Layer::load(&config, root.pp(format!("bert.encoder.layer.{i}"))))
                .collect::<Result<_>>()?,
            heads: config.num_attention_heads,
            head: Head::load(&root, h)?,
        })
    }
}

impl Engine for CandleQ8 {
    fn logits(&self, batch: &Batch) -> Result<Vec<f32>> {
        let (ids, mask) = tensors(batch)?;
        let positions = Tensor::arange(0, batch.tokens as u32, &Device::Cpu)?;
        let per_position =
            self.positions.forward(&positions)?.broadcast_add(&self.token_type)?;
        let x = self.words.forward(&ids)?.broadcast_add(&per_position)?;
        let mut x = self.norm.forward(&x)?;
        // 0 where there is a token, -1e9 on padding; [posts, 1, 1, tokens].
        let mask = ((mask.to_dtype(DType::F32)? - 1.0)? * 1e9)?.unsqueeze(1)?.unsqueeze(1)?;
        for layer in &self.layers {
            x = layer.forward(&x, &mask, self.heads)?;
        }
        self.head.forward(&x)
    }
}

impl Layer {
    fn load(config: &Config, weights: VarBuilder) -> Result<Self> {
        let (h, inner) = (config.hidden_size, config.intermediate_size);
        let norm = |name| candle_nn::layer_norm(h, config.layer_norm_eps, weights.pp(name));
        Ok(Self {
            query: QLinear::load(h, h, weights.pp("attention.self.query"))?,
            key: QLinear::load(h, h, weights.pp("attention.self.key"))?,
            value: QLinear::load(h, h, weights.pp("attention.self.value"))?,
            output: QLinear::load(h, h, weights.pp("attention.output.dense"))?,
            attention_norm: norm("attention.output.LayerNorm")?,
            up: QLinear::load(h, inner, weights.pp("intermediate.dense"))?,
            down: QLinear::load(inner, h, weights.pp("output.dense"))?,
            output_norm: norm("output.LayerNorm")?,
        })
    }

    fn forward(&self, x: &Tensor, mask: &Tensor, heads: usize) -> Result<Tensor> {
        let (posts, tokens, hidden) = x.dims3()?;
        let split = |x: Tensor| -> Result<Tensor> {
            let x = x.reshape((posts, tokens, heads, hidden / heads))?;
            Ok(x.transpose(1, 2)?.contiguous()?)
        };
        let query = split(self.query.forward(x)?)?;
        let key = split(self.key.forward(x)?)?;
        let value = split(self.value.forward(x)?)?;
        let scale = 1.0 / ((hidden / heads) as f64).sqrt();
        let scores = (query.matmul(&key.t()?)? * scale)?.broadcast_add(mask)?;
        let context = candle_nn::ops::softmax_last_dim(&scores)?.matmul(&value)?;
        let context = context.transpose(1, 2)?.contiguous()?.flatten_from(D::Minus2)?;
        let x = self.attention_norm.forward(&(self.output.forward(&context)? + x)?)?;
        let inner = self.up.forward(&x)?.gelu_erf()?;
        Ok(self.output_norm.forward(&(self.down.forward(&inner)? + &x)?)?)
    }
}
