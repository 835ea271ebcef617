//! Rounds a layer's weights for the inputs that it sees.
//!
//! Rounding each weight to the nearest code makes each weight's error small; what counts is
//! the error of the layer's outputs, and errors of inputs that move together can cancel each other.
//! With the inputs' covariance `C = R^T R`, R upper triangular, a row's error `e` costs
//! `e^T C e = |R e|^2`. Codes are chosen from the last column to the first, each the one that is
//! nearest given those already chosen: Babai's nearest plane, which is what GPTQ does
//! (arXiv:2210.17323; that they are the same, arXiv:2507.18553). The mean of the outputs' error
//! goes into the bias.

use super::matrix::{Panels, for_each};
use crate::layout::WeightRange;
use crate::quantize::{QuantizedLinear, QuantizedRows, Room, code_bounds, unclipped_scale};

/// Channels that are rounded side by side.
const LANES: usize = 32;

/// Scales that are tried for a row, as shares of the one that clips no single weight: larger ones
/// leave more room for groups, smaller ones make finer steps.
const SCALES: usize = 13;
const LARGEST_SCALE: f32 = 1.42;
const SCALE_STEP: f32 = 0.06;

/// Added to each variance, as a share of their mean: a few thousand samples do not pin down
/// directions in which inputs hardly vary.
const DAMPING: f64 = 0.05;

/// What a layer's inputs are like.
#[derive(Debug)]
pub(crate) struct Inputs {
    mean: Vec<f32>,
    /// Columns by variance, the least first.
    order: Vec<usize>,
    /// The covariance's Cholesky factor, columns in that order.
    factor: Vec<f32>,
}

impl Inputs {
    /// Of samples `x`, `[samples, k]`.
    pub(super) fn new(mut x: Vec<f32>, k: usize) -> Self {
        let samples = (x.len() / k).max(1);
        let mut mean = vec![0.0_f64; k];
        for row in x.chunks_exact(k) {
            for (mean, x) in mean.iter_mut().zip(row) {
                *mean += f64::from(*x);
            }
        }
        let mean: Vec<f32> = mean.iter().map(|m| (m / samples as f64) as f32).collect();
        for row in x.chunks_exact_mut(k) {
            for (x, mean) in row.iter_mut().zip(&mean) {
                *x -= mean;
            }
        }
        let covariance = Panels::new(&x, k).gram();
        let variance = |i: usize| covariance[i * k + i];
        let mut order: Vec<usize> = (0..k).collect();
        order.sort_by(|&a, &b| variance(a).total_cmp(&variance(b)));
        let mean_variance = (0..k).map(|i| f64::from(variance(i))).sum::<f64>() / k as f64;
        // Inputs that never vary: every weight is rounded on its own.
        let damping = if mean_variance > 0.0 {
            mean_variance * DAMPING
        } else {
            1.0
        };
        let mut ordered = Vec::with_capacity(k * k);
        for &i in &order {
            let row = &covariance[i * k..(i + 1) * k];
            ordered.extend(order.iter().map(|&j| f64::from(row[j])));
        }
        for entry in ordered.iter_mut().step_by(k + 1) {
            *entry += damping;
        }
        Self {
            mean,
            order,
            factor: cholesky(ordered, k),
        }
    }

    /// Quantizes the weights `[n, k]`.
    pub(crate) fn round(
        &self,
        range: WeightRange,
        weights: &[f32],
        mut bias: Vec<f32>,
    ) -> QuantizedLinear {
        let k = self.mean.len();
        let n = bias.len();
        let mut codes = vec![0; n * k];
        let mut scales = vec![0.0; n];
        let outputs = scales.chunks_mut(LANES).zip(bias.chunks_mut(LANES));
        let blocks = codes.chunks_mut(LANES * k).zip(weights.chunks(LANES * k));
        let blocks = blocks.zip(outputs);
        for_each(blocks, |_, ((codes, weights), (scales, bias))| {
            self.round_block(range, weights, codes, scales);
            let rows = codes.chunks_exact(k).zip(weights.chunks_exact(k));
            for ((codes, weights), (scale, bias)) in rows.zip(scales.iter().zip(bias)) {
                let codes = codes.iter().map(|&code| f32::from(code));
                let errors = weights.iter().zip(codes).map(|(w, code)| w - code * scale);
                *bias += errors
                    .zip(&self.mean)
                    .map(|(e, mean)| e * mean)
                    .sum::<f32>();
            }
        });
        QuantizedLinear {
            weight: QuantizedRows {
                codes,
                scales,
                k,
                range,
            },
            bias,
        }
    }

    /// Quantizes up to [`LANES`] rows, each with the scale that costs least.
    fn round_block(
        &self,
        range: WeightRange,
        weights: &[f32],
        codes: &mut [i8],
        scales: &mut [f32],
    ) {
        let k = self.mean.len();
        let mut lanes = vec![[0.0; LANES]; k];
        let mut unclipped = [0.0; LANES];
        for (lane, row) in weights.chunks_exact(k).enumerate() {
            unclipped[lane] = unclipped_scale(range, row);
            for (lanes, &i) in lanes.iter_mut().zip(&self.order) {
                lanes[lane] = row[i];
            }
        }
        let mut least = [f32::INFINITY; LANES];
        for step in 0..SCALES {
            let scale = unclipped.map(|scale| scale * (LARGEST_SCALE - step as f32 * SCALE_STEP));
            let (rounded, costs) = self.nearest_plane(range, &lanes, &scale);
            for (lane, row) in codes.chunks_exact_mut(k).enumerate() {
                if costs[lane] < least[lane] {
                    least[lane] = costs[lane];
                    scales[lane] = scale[lane];
                    for (codes, &i) in rounded.iter().zip(&self.order) {
                        row[i] = codes[lane];
                    }
                }
            }
        }
    }

    /// The codes of rows with these scales, and what they cost.
    fn nearest_plane(
        &self,
        range: WeightRange,
        weights: &[[f32; LANES]],
        scale: &[f32; LANES],
    ) -> (Vec<[i8; LANES]>, [f32; LANES]) {
        /// Added and taken away again, it rounds what is far below it to an integer.
        const ROUND: f32 = 12_582_912.0;
        let k = weights.len();
        let [low, high] = code_bounds(range);
        // A row of scale 0 gets codes of 0.
        let inverse = scale.map(|scale| if scale.is_normal() { 1.0 / scale } else { 0.0 });
        let mut errors = vec![[0.0_f32; LANES]; k];
        let mut codes = vec![[0; LANES]; k];
        let mut costs = [0.0_f32; LANES];
        let mut room = Room::<LANES>::new(range, k);
        for i in (0..k).rev() {
            let row = &self.factor[i * k..(i + 1) * k];
            let mut sums = [0.0_f32; LANES];
            for (r, errors) in row[i + 1..].iter().zip(&errors[i + 1..]) {
                for (sum, error) in sums.iter_mut().zip(errors) {
                    *sum += r * error;
                }
            }
            let targets: [f32; LANES] =
                std::array::from_fn(|lane| weights[i][lane] + sums[lane] / row[i]);
            let nearest = std::array::from_fn(|lane| {
                ((targets[lane] * inverse[lane] + ROUND) - ROUND)
                    .max(low)
                    .min(high)
            });
            let chosen = room.take(self.order[i], nearest);
            for lane in 0..LANES {
                let code = chosen[lane];
                codes[i][lane] = code as i8;
                errors[i][lane] = weights[i][lane] - code * scale[lane];
                let off = row[i] * (targets[lane] - code * scale[lane]);
                costs[lane] += off * off;
            }
        }
        (codes, costs)
    }
}

/// The upper triangular R with `R^T R = a`, a symmetric positive definite matrix.
fn cholesky(mut a: Vec<f64>, k: usize) -> Vec<f32> {
    // Row by row the lower triangle L = R^T: each entry is one product of two rows' beginnings.
    for i in 0..k {
        let (above, row) = a.split_at_mut(i * k);
        let row = &mut row[..k];
        for j in 0..i {
            let other = &above[j * k..][..=j];
            row[j] = (row[j] - dot(&row[..j], &other[..j])) / other[j];
        }
        let d = row[i] - dot(&row[..i], &row[..i]);
        row[i] = d.max(f64::MIN_POSITIVE).sqrt();
    }
    let mut factor = vec![0.0; k * k];
    for i in 0..k {
        for j in 0..=i {
            factor[j * k + i] = a[i * k + j] as f32;
        }
    }
    factor
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    let mut sums = [0.0; 8];
    let (a, a_rest) = a.as_chunks::<8>();
    let (b, b_rest) = b.as_chunks::<8>();
    for (a, b) in a.iter().zip(b) {
        for ((sum, a), b) in sums.iter_mut().zip(a).zip(b) {
            *sum += a * b;
        }
    }
    let rest: f64 = a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum();
    sums.iter().sum::<f64>() + rest
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::pack_panels;
    use proptest::prelude::*;

    const K: usize = 24;

    /// Samples of inputs that move together, all above zero.
    fn samples() -> Vec<f32> {
        let mut x = Vec::new();
        for sample in 0..200 {
            let common = (sample as f32 * 0.7).sin();
            x.extend((0..K).map(|i| 2.0 + common + 0.3 * ((sample * (i + 3)) as f32).sin()));
        }
        x
    }

    fn weights(n: usize) -> Vec<f32> {
        (0..n * K).map(|i| (i as f32 * 1.3).sin()).collect()
    }

    /// The squared error of the outputs over the samples.
    fn error(weights: &[f32], layer: &QuantizedLinear) -> f64 {
        let QuantizedRows { codes, scales, .. } = &layer.weight;
        let rows = weights.chunks_exact(K).zip(codes.chunks_exact(K));
        let rows = rows.zip(scales.iter().zip(&layer.bias));
        let mut sum = 0.0;
        for ((weights, codes), (scale, bias)) in rows {
            for x in samples().chunks_exact(K) {
                let terms = x.iter().zip(weights.iter().zip(codes));
                let terms = terms.map(|(x, (w, &code))| (f32::from(code) * scale - w) * x);
                sum += f64::from(terms.sum::<f32>() + bias).powi(2);
            }
        }
        sum
    }

    #[test]
    fn outputs_are_nearer_than_by_rounding_each_weight() {
        let weights = weights(40);
        let inputs = Inputs::new(samples(), K);
        let grouped = inputs.round(WeightRange::Grouped, &weights, vec![0.0; 40]);
        let panels = pack_panels(&grouped.weight.codes, 40, K);
        assert!(WeightRange::Grouped.holds(&panels, K));

        let rounded = inputs.round(WeightRange::Narrow, &weights, vec![0.0; 40]);
        assert!(WeightRange::Narrow.holds(&rounded.weight.codes, K));
        let mut nearest = QuantizedRows::with_capacity(WeightRange::Narrow, 40, K);
        weights.chunks_exact(K).for_each(|row| nearest.push(row));
        let nearest = QuantizedLinear {
            weight: nearest,
            bias: vec![0.0; 40],
        };
        let (rounded, nearest) = (error(&weights, &rounded), error(&weights, &nearest));
        assert!(rounded < nearest / 4.0, "{rounded} and {nearest}");
    }

    /// A model that was trained for the grid is packed without a loss.
    #[test]
    fn weights_on_the_grid_stay_as_they_are() {
        let mut codes: Vec<i8> = (0..K).map(|i| (i * 5) as i8 - 60).collect();
        codes[7] = -64;
        let weights: Vec<f32> = codes.iter().map(|&c| f32::from(c) * 0.0123).collect();
        let rounded = Inputs::new(samples(), K).round(WeightRange::Narrow, &weights, vec![0.5]);
        assert_eq!(rounded.weight.codes, codes);
        assert!((rounded.bias[0] - 0.5).abs() < 1e-4);
    }

    #[test]
    fn without_samples_each_weight_is_rounded_on_its_own() {
        for x in [Vec::new(), vec![1.0; K]] {
            let rounded = Inputs::new(x, K).round(
                WeightRange::Narrow,
                &[[0.5; K], [0.0; K]].concat(),
                vec![0.0; 2],
            );
            assert_eq!(rounded.weight.codes, [[63; K], [0; K]].concat());
            assert_eq!(rounded.weight.scales[1..], [0.0]);
        }
    }

    proptest! {
        #[test]
        fn the_factor_is_that_of_the_matrix(values in prop::collection::vec(-1.0_f64..1.0, 19 * 19)) {
            let k = 19;
            let row = |i: usize| &values[i * k..(i + 1) * k];
            let mut a = Vec::new();
            for i in 0..k {
                a.extend((0..k).map(|j| dot(row(i), row(j)) + if i == j { 0.1 } else { 0.0 }));
            }
            let factor = cholesky(a.clone(), k);
            for i in 0..k {
                for j in 0..k {
                    let product: f32 = (0..k).map(|l| factor[l * k + i] * factor[l * k + j]).sum();
                    prop_assert!((f64::from(product) - a[i * k + j]).abs() < 1e-4);
                }
            }
        }
    }
}
