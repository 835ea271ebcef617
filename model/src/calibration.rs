//! Calibration: what a model's layers see of everyday posts, so that weights can be rounded for
//! it.
//!
//! Posts of our own making go through the encoder in f32, layer by layer, with the weights as they
//! were rounded so far and each layer's inputs in 8 bits, as the int8 engine has them. The
//! result is the same bytes on every machine: no function of a system library, no fused
//! multiplication, no order of sums that depends on the number of threads.

mod math;
mod matrix;
mod rounding;
pub(crate) mod tokens;

use crate::config::{Activation, ModelConfig};
use crate::quantize::QuantizedLinear;
use matrix::{Panels, for_each};
pub(crate) use rounding::Inputs;
use std::ops::Range;

/// Rows of activations, one a token.
#[derive(Debug)]
pub(crate) struct Activations {
    values: Vec<f32>,
    width: usize,
}

/// Posts on their way through the encoder.
#[derive(Debug)]
pub(crate) struct Calibration {
    /// The tokens of each post.
    posts: Vec<Range<usize>>,
    hidden: Activations,
}

impl Calibration {
    /// Posts as embeddings, not normalised yet; `embed` appends a token's row, given the token and
    /// its position.
    pub(crate) fn new(
        posts: &[Vec<u32>],
        width: usize,
        mut embed: impl FnMut(u32, usize, &mut Vec<f32>),
    ) -> Self {
        let mut values = Vec::new();
        let mut ranges = Vec::with_capacity(posts.len());
        let mut start = 0;
        for ids in posts {
            for (position, &id) in ids.iter().enumerate() {
                embed(id, position, &mut values);
            }
            ranges.push(start..start + ids.len());
            start += ids.len();
        }
        Self {
            posts: ranges,
            hidden: Activations { values, width },
        }
    }

    /// The hidden states as a layer's inputs.
    pub(crate) fn inputs(&self) -> Activations {
        self.hidden.quantized()
    }

    /// Leaves only each post's first token, the only one that the rest of the last layer computes.
    pub(crate) fn keep_first_tokens(&mut self) {
        let width = self.hidden.width;
        self.hidden.values = first_rows(&self.posts, &self.hidden.values, width);
        for (i, post) in self.posts.iter_mut().enumerate() {
            *post = i..i + 1;
        }
    }

    /// Puts a linear layer's outputs in the hidden states' place.
    pub(crate) fn replace(&mut self, outputs: Activations) {
        self.hidden = outputs;
    }

    /// Adds a linear layer's outputs to the hidden states.
    pub(crate) fn add(&mut self, outputs: &Activations) {
        for (hidden, output) in self.hidden.values.iter_mut().zip(&outputs.values) {
            *hidden += output;
        }
    }

    /// Layer normalisation of the hidden states.
    pub(crate) fn normalize(&mut self, weight: &[f32], bias: &[f32], eps: f32) {
        let width = self.hidden.width;
        for row in self.hidden.values.chunks_exact_mut(width) {
            let mean = row.iter().sum::<f32>() / width as f32;
            let variance = row.iter().map(|x| (x - mean) * (x - mean)).sum::<f32>() / width as f32;
            let factor = 1.0 / (variance + eps).sqrt();
            for ((x, weight), bias) in row.iter_mut().zip(weight).zip(bias) {
                *x = (*x - mean) * factor * weight + bias;
            }
        }
    }

    /// Self-attention over each post: queries, keys and values side by side become the inputs of
    /// the layer that follows. The queries are scaled already.
    pub(crate) fn attention(&self, qkv: &Activations, config: &ModelConfig) -> Activations {
        let (width, head_dim) = (config.hidden_size, config.head_dim());
        let mut values = vec![0.0; qkv.values.len() / 3];
        let mut rest = &mut values[..];
        let posts = self.posts.iter().map(|post| {
            let out;
            (out, rest) = std::mem::take(&mut rest).split_at_mut(post.len() * width);
            (
                &qkv.values[post.start * 3 * width..post.end * 3 * width],
                out,
            )
        });
        let posts: Vec<_> = posts.collect();
        for_each(posts.into_iter(), |_, (qkv, out)| {
            for head in 0..config.num_attention_heads {
                attend(qkv, out, width, head * head_dim..(head + 1) * head_dim);
            }
        });
        Activations { values, width }.quantized()
    }

    /// The rows of each post's first token.
    pub(crate) fn first_tokens(&self, x: &Activations) -> Activations {
        Activations {
            values: first_rows(&self.posts, &x.values, x.width),
            width: x.width,
        }
    }
}

fn first_rows(posts: &[Range<usize>], x: &[f32], width: usize) -> Vec<f32> {
    let rows = posts.iter().map(|post| &x[post.start * width..][..width]);
    rows.flatten().copied().collect()
}

/// One head of one post.
fn attend(qkv: &[f32], out: &mut [f32], width: usize, head: Range<usize>) {
    let part = |row: usize, part: usize| {
        let start = (3 * row + part) * width;
        &qkv[start + head.start..start + head.end]
    };
    let tokens = out.len() / width;
    let mut scores = vec![0.0_f32; tokens];
    for (i, out) in out.chunks_exact_mut(width).enumerate() {
        let query = part(i, 0);
        for (j, score) in scores.iter_mut().enumerate() {
            *score = query.iter().zip(part(j, 1)).map(|(q, k)| q * k).sum();
        }
        let max = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let mut sum = 0.0;
        for score in &mut scores {
            *score = math::exp(*score - max);
            sum += *score;
        }
        let out = &mut out[head.clone()];
        for (j, score) in scores.iter().enumerate() {
            for (out, value) in out.iter_mut().zip(part(j, 2)) {
                *out += score / sum * value;
            }
        }
    }
}

impl Activations {
    /// What rounding needs of them.
    pub(crate) fn statistics(&self) -> Inputs {
        Inputs::new(self.values.clone(), self.width)
    }

    /// A linear layer's outputs.
    pub(crate) fn through(&self, layer: &QuantizedLinear) -> Self {
        let n = layer.bias.len();
        let rows = layer.weight.codes.chunks_exact(self.width);
        let rows = rows.zip(&layer.weight.scales);
        let weights: Vec<f32> = rows
            .flat_map(|(codes, scale)| codes.iter().map(move |&code| f32::from(code) * scale))
            .collect();
        let weights = Panels::transposed(&weights, self.width);
        let mut values = Panels::transposed(&self.values, self.width).product(&weights);
        for row in values.chunks_exact_mut(n) {
            for (x, bias) in row.iter_mut().zip(&layer.bias) {
                *x += bias;
            }
        }
        Self { values, width: n }
    }

    /// The feed-forward block's non-linearity.
    pub(crate) fn activated(mut self, activation: Activation) -> Self {
        for_each(self.values.chunks_mut(1 << 16), |_, values| {
            for x in values {
                *x = math::activate(activation, *x);
            }
        });
        self.quantized()
    }

    /// Every row in 8 bits with a zero point, and back.
    fn quantized(&self) -> Self {
        /// Added and taken away again, it rounds what is far below it to an integer.
        const ROUND: f32 = 12_582_912.0;
        let mut values = self.values.clone();
        for row in values.chunks_exact_mut(self.width) {
            let (low, high) = row.iter().fold((0.0_f32, 0.0_f32), |(low, high), &x| {
                (low.min(x), high.max(x))
            });
            let scale = (high - low) / 255.0;
            if scale.is_normal() {
                for x in row {
                    *x = ((*x / scale + ROUND) - ROUND) * scale;
                }
            }
        }
        Self {
            values,
            width: self.width,
        }
    }
}
