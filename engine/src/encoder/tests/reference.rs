//! The whole transformer in the plainest f64 there is, one post at a time: the
//! specification that the engine is held to. Activations are quantised as the
//! engine does, so that only rounding separates the two.

use super::model::{OwnedDense, OwnedLinear, OwnedNorm, RandomModel};
use coldread_model::Activation;
use coldread_model::layout::HeadActivation;

/// Abramowitz and Stegun 7.1.6, summed to the end.
pub(super) fn erf(x: f64) -> f64 {
    if x.abs() > 6.0 {
        return x.signum();
    }
    let (mut term, mut sum) = (x, x);
    for n in 1..300 {
        term *= 2.0 * x * x / f64::from(2 * n + 1);
        sum += term;
    }
    sum * (-x * x).exp() * std::f64::consts::FRAC_2_SQRT_PI
}

pub(super) fn gelu(x: f64) -> f64 {
    0.5 * x * (1.0 + erf(x * std::f64::consts::FRAC_1_SQRT_2))
}

pub(super) fn gelu_tanh(x: f64) -> f64 {
    let u = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044_715 * x * x * x);
    0.5 * x * (1.0 + u.tanh())
}

/// What is left of a row after a round trip through its codes.
fn quantized(x: &[f64]) -> Vec<f64> {
    let low = x.iter().copied().fold(0.0, f64::min);
    let high = x.iter().copied().fold(0.0, f64::max);
    let scale = (high - low).max(1e-30) / 255.0;
    let zero_point = (-low / scale).round_ties_even();
    x.iter()
        .map(|x| {
            let code = (x / scale + zero_point).round_ties_even().clamp(0.0, 255.0);
            (code - zero_point) * scale
        })
        .collect()
}

fn linear(w: &OwnedLinear, x: &[f64]) -> Vec<f64> {
    let x = quantized(x);
    (0..w.n)
        .map(|n| {
            let row = &w.codes[n * w.k..(n + 1) * w.k];
            let dot: f64 = row.iter().zip(&x).map(|(&w, x)| f64::from(w) * x).sum();
            dot * f64::from(w.scales[n]) + f64::from(w.bias[n])
        })
        .collect()
}

fn dense(w: &OwnedDense, x: &[f64]) -> Vec<f64> {
    (0..w.n)
        .map(|n| {
            let row = &w.weight[n * w.k..(n + 1) * w.k];
            row.iter()
                .zip(x)
                .map(|(&w, x)| f64::from(w) * x)
                .sum::<f64>()
                + f64::from(w.bias[n])
        })
        .collect()
}

fn norm(norm: &OwnedNorm, eps: f64, x: &[f64]) -> Vec<f64> {
    let n = x.len() as f64;
    let mean = x.iter().sum::<f64>() / n;
    let variance = x.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / n;
    x.iter()
        .zip(norm.weight.iter().zip(&norm.bias))
        .map(|(x, (&w, &b))| (x - mean) / (variance + eps).sqrt() * f64::from(w) + f64::from(b))
        .collect()
}

/// Attention of one post over rows of query, key and value.
fn attention(qkv: &[Vec<f64>], heads: usize, hidden: usize) -> Vec<Vec<f64>> {
    let dim = hidden / heads;
    let mut out = vec![vec![0.0; hidden]; qkv.len()];
    for (query, out) in qkv.iter().zip(&mut out) {
        for head in 0..heads {
            let columns = head * dim..(head + 1) * dim;
            let q = &query[columns.clone()];
            let key = hidden + columns.start;
            let scores: Vec<f64> = qkv
                .iter()
                .map(|row| {
                    q.iter()
                        .zip(&row[key..])
                        .map(|(q, k)| q * k)
                        .sum::<f64>()
                        .exp()
                })
                .collect();
            let sum: f64 = scores.iter().sum();
            for d in columns {
                let mix: f64 = scores
                    .iter()
                    .zip(qkv)
                    .map(|(p, row)| p * row[2 * hidden + d])
                    .sum();
                out[d] = mix / sum;
            }
        }
    }
    out
}

/// The logits of one post.
pub(super) fn logits(model: &RandomModel, ids: &[u32]) -> Vec<f64> {
    let config = &model.config;
    let width = config.embedding_size;
    let eps = config.layer_norm_eps;
    let mut rows: Vec<Vec<f64>> = ids
        .iter()
        .enumerate()
        .map(|(i, &id)| {
            let id = id as usize;
            let word = &model.word[id * width..(id + 1) * width];
            let position = &model.position[i * width..(i + 1) * width];
            let scale = f64::from(model.word_scales[id]);
            let sum: Vec<f64> = word
                .iter()
                .zip(position)
                .map(|(&w, &p)| f64::from(w) * scale + f64::from(p))
                .collect();
            let x = norm(&model.norm, eps, &sum);
            model
                .projection
                .as_ref()
                .map_or(x.clone(), |w| linear(w, &x))
        })
        .collect();
    for layer in &model.layers {
        let qkv: Vec<_> = rows.iter().map(|x| linear(&layer.qkv, x)).collect();
        let context = attention(&qkv, config.num_attention_heads, config.hidden_size);
        for (x, context) in rows.iter_mut().zip(&context) {
            let y = linear(&layer.attention_output, context);
            let sum: Vec<f64> = x.iter().zip(&y).map(|(x, y)| x + y).collect();
            *x = norm(&layer.attention_norm, eps, &sum);
            let mut inner = linear(&layer.intermediate, x);
            for y in &mut inner {
                *y = match config.hidden_act {
                    Activation::GeluErf => gelu(*y),
                    Activation::GeluTanh => gelu_tanh(*y),
                    Activation::Relu => y.max(0.0),
                };
            }
            let y = linear(&layer.output, &inner);
            let sum: Vec<f64> = x.iter().zip(&y).map(|(x, y)| x + y).collect();
            *x = norm(&layer.output_norm, eps, &sum);
        }
    }
    let mut x = rows.swap_remove(0);
    if let Some(w) = &model.dense {
        x = dense(w, &x);
        for y in &mut x {
            *y = match model.activation {
                HeadActivation::Tanh => y.tanh(),
                HeadActivation::GeluErf => gelu(*y),
                HeadActivation::Relu => y.max(0.0),
            };
        }
    }
    dense(&model.classifier, &x)
}
