//! Random models of any size, in memory.

use crate::encoder::Weights;
use crate::kernels::AlignedVec;
use coldread_model::layout::{
    Dense, Embedding, Embeddings, Head, HeadActivation, Layer, LayerNorm, Linear, WeightRange,
    pack_panels, padded_n,
};
use coldread_model::{Activation, Architecture, ModelConfig, ProblemType};

/// A small pseudo-random sequence (`SplitMix64`), so that tests have no seed files.
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Between -1 and 1.
    pub(super) fn float(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1 << 23) as f32 - 1.0
    }

    pub(super) fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }

    fn floats(&mut self, n: usize, scale: f32) -> Vec<f32> {
        (0..n).map(|_| self.float() * scale).collect()
    }
}

pub(super) struct OwnedLinear {
    pub(super) n: usize,
    pub(super) k: usize,
    /// Row-major, for the reference.
    pub(super) codes: Vec<i8>,
    range: WeightRange,
    panels: AlignedVec<i8>,
    pub(super) scales: AlignedVec<f32>,
    col_sums: AlignedVec<i32>,
    pub(super) bias: AlignedVec<f32>,
}

fn aligned<T: crate::kernels::Number>(values: &[T], len: usize) -> AlignedVec<T> {
    let mut v = AlignedVec::new(len);
    v[..values.len()].copy_from_slice(values);
    v
}

impl OwnedLinear {
    fn random(r: &mut Random, n: usize, k: usize, range: WeightRange) -> Self {
        let largest = f32::from(range.bounds()[1]);
        let codes: Vec<i8> = (0..n * k).map(|_| (r.float() * largest) as i8).collect();
        let panels = pack_panels(&codes, n, k);
        let scale = 1.7 / largest / (k as f32).sqrt();
        let scales: Vec<f32> = (0..n).map(|_| scale * (1.0 + 0.3 * r.float())).collect();
        let sums: Vec<i32> = codes
            .chunks_exact(k)
            .map(|row| row.iter().map(|&w| i32::from(w)).sum())
            .collect();
        let bias = r.floats(n, 0.1);
        Self {
            n,
            k,
            panels: aligned(&panels, panels.len()),
            scales: aligned(&scales, padded_n(n)),
            col_sums: aligned(&sums, padded_n(n)),
            bias: aligned(&bias, padded_n(n)),
            codes,
            range,
        }
    }

    fn view(&self) -> Linear<'_> {
        Linear {
            n: self.n,
            k: self.k,
            range: self.range,
            panels: &self.panels,
            scales: &self.scales,
            col_sums: &self.col_sums,
            bias: &self.bias,
        }
    }
}

pub(super) struct OwnedNorm {
    pub(super) weight: Vec<f32>,
    pub(super) bias: Vec<f32>,
}

impl OwnedNorm {
    fn random(r: &mut Random, n: usize) -> Self {
        let weight = (0..n).map(|_| 1.0 + 0.2 * r.float()).collect();
        Self {
            weight,
            bias: r.floats(n, 0.1),
        }
    }

    fn view(&self) -> LayerNorm<'_> {
        LayerNorm {
            weight: &self.weight,
            bias: &self.bias,
        }
    }
}

pub(super) struct OwnedDense {
    pub(super) n: usize,
    pub(super) k: usize,
    pub(super) weight: Vec<f32>,
    pub(super) bias: Vec<f32>,
}

impl OwnedDense {
    fn random(r: &mut Random, n: usize, k: usize) -> Self {
        let weight = r.floats(n * k, 1.7 / (k as f32).sqrt());
        Self {
            n,
            k,
            weight,
            bias: r.floats(n, 0.1),
        }
    }

    fn view(&self) -> Dense<'_> {
        Dense {
            n: self.n,
            k: self.k,
            weight: &self.weight,
            bias: &self.bias,
        }
    }
}

pub(super) struct OwnedLayer {
    pub(super) qkv: OwnedLinear,
    pub(super) attention_output: OwnedLinear,
    pub(super) attention_norm: OwnedNorm,
    pub(super) intermediate: OwnedLinear,
    pub(super) output: OwnedLinear,
    pub(super) output_norm: OwnedNorm,
}

/// A model whose parts the reference reads as well.
pub(super) struct RandomModel {
    pub(super) config: ModelConfig,
    pub(super) word: Vec<i8>,
    pub(super) word_scales: Vec<f32>,
    pub(super) position: Vec<f32>,
    pub(super) norm: OwnedNorm,
    pub(super) projection: Option<OwnedLinear>,
    pub(super) layers: Vec<OwnedLayer>,
    pub(super) dense: Option<OwnedDense>,
    pub(super) activation: HeadActivation,
    pub(super) classifier: OwnedDense,
}

/// What `RandomModel::new` varies.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shape {
    pub(super) range: WeightRange,
    pub(super) hidden: usize,
    pub(super) heads: usize,
    pub(super) intermediate: usize,
    pub(super) embedding: usize,
    pub(super) layers: usize,
    pub(super) labels: usize,
    pub(super) max_tokens: usize,
    pub(super) act: Activation,
    pub(super) head: Option<HeadActivation>,
}

/// Sizes of which none fills a vector.
pub(super) const TINY: Shape = Shape {
    range: WeightRange::Narrow,
    hidden: 36,
    heads: 3,
    intermediate: 37,
    embedding: 36,
    layers: 2,
    labels: 3,
    max_tokens: 70,
    act: Activation::GeluErf,
    head: Some(HeadActivation::Tanh),
};

pub(super) const VOCAB: usize = 99;

impl RandomModel {
    pub(super) fn new(seed: u64, shape: Shape) -> Self {
        let r = &mut Random::new(seed);
        let Shape {
            hidden,
            intermediate,
            embedding,
            labels,
            max_tokens,
            range,
            ..
        } = shape;
        let layer = |r: &mut Random| OwnedLayer {
            qkv: OwnedLinear::random(r, 3 * hidden, hidden, range),
            attention_output: OwnedLinear::random(r, hidden, hidden, range),
            attention_norm: OwnedNorm::random(r, hidden),
            intermediate: OwnedLinear::random(r, intermediate, hidden, range),
            output: OwnedLinear::random(r, hidden, intermediate, range),
            output_norm: OwnedNorm::random(r, hidden),
        };
        Self {
            word: (0..VOCAB * embedding)
                .map(|_| (r.float() * 127.0) as i8)
                .collect(),
            word_scales: (0..VOCAB).map(|_| (1.5 + r.float()) * 4e-4).collect(),
            position: r.floats(max_tokens * embedding, 0.02),
            norm: OwnedNorm::random(r, embedding),
            projection: (embedding != hidden)
                .then(|| OwnedLinear::random(r, hidden, embedding, range)),
            layers: (0..shape.layers).map(|_| layer(r)).collect(),
            dense: shape.head.map(|_| OwnedDense::random(r, hidden, hidden)),
            activation: shape.head.unwrap_or(HeadActivation::Tanh),
            classifier: OwnedDense::random(r, labels, hidden),
            config: ModelConfig {
                model_type: "bert".into(),
                architecture: Architecture::Bert,
                vocab_size: VOCAB,
                hidden_size: hidden,
                embedding_size: embedding,
                num_hidden_layers: shape.layers,
                num_attention_heads: shape.heads,
                intermediate_size: intermediate,
                max_position_embeddings: max_tokens,
                type_vocab_size: 2,
                layer_norm_eps: 1e-12,
                hidden_act: shape.act,
                pad_token_id: 0,
                problem_type: ProblemType::SingleLabel,
                labels: (0..labels).map(|i| format!("LABEL_{i}")).collect(),
                max_tokens,
                languages: Vec::new(),
            },
        }
    }
}

impl Weights for RandomModel {
    fn config(&self) -> &ModelConfig {
        &self.config
    }

    fn embeddings(&self) -> Embeddings<'_> {
        Embeddings {
            word: Embedding {
                rows: VOCAB,
                width: self.config.embedding_size,
                codes: &self.word,
                scales: &self.word_scales,
            },
            position: &self.position,
            norm: self.norm.view(),
            projection: self.projection.as_ref().map(OwnedLinear::view),
        }
    }

    fn layer(&self, index: usize) -> Layer<'_> {
        let layer = &self.layers[index];
        Layer {
            qkv: layer.qkv.view(),
            attention_output: layer.attention_output.view(),
            attention_norm: layer.attention_norm.view(),
            intermediate: layer.intermediate.view(),
            output: layer.output.view(),
            output_norm: layer.output_norm.view(),
        }
    }

    fn head(&self) -> Head<'_> {
        Head {
            dense: self.dense.as_ref().map(OwnedDense::view),
            activation: self.activation,
            classifier: self.classifier.view(),
        }
    }
}
