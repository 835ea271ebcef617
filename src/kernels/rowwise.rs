//! What happens to one row of hidden states at a time: embedding, layer
//! normalisation, quantization, and the dense layers of the head.
//!
//! Rows are padded with zeros to whole vectors, and every operation keeps them
//! so: zero is what the padding of weights, norms and codes makes of them.

use super::gemm::{Kernel, RowQuantization};
use super::math;
use super::simd::{LANES, Simd};
use coldread_model::layout::{Dense, Embedding, HeadActivation, K_ALIGN, LayerNorm};

/// Floats below this range are all one code; it keeps `255 / range` finite.
const MIN_RANGE: f32 = 1e-30;

/// Rows of codes and their scales, as an output.
#[derive(Debug)]
pub(crate) struct CodesMut<'a> {
    pub(crate) bytes: &'a mut [u8],
    /// Bytes from row to row.
    pub(crate) stride: usize,
    pub(crate) rows: &'a mut [RowQuantization],
}

/// Quantises every row.
#[derive(Debug)]
pub(crate) struct Quantize<'a> {
    pub(crate) x: &'a [f32],
    pub(crate) stride: usize,
    pub(crate) codes: CodesMut<'a>,
}

/// Normalises every row in place, then quantises it.
#[derive(Debug)]
pub(crate) struct Normalize<'a> {
    pub(crate) x: &'a mut [f32],
    pub(crate) stride: usize,
    pub(crate) n: usize,
    pub(crate) norm: LayerNorm<'a>,
    pub(crate) eps: f32,
    pub(crate) codes: CodesMut<'a>,
}

/// Looks up rows of the embedding table and adds rows of positions.
#[derive(Debug)]
pub(crate) struct Embed<'a> {
    pub(crate) ids: &'a [u32],
    pub(crate) word: Embedding<'a>,
    /// The row of the first id, then of the next one, and so on.
    pub(crate) position: &'a [f32],
    pub(crate) out: &'a mut [f32],
    pub(crate) stride: usize,
}

#[inline(always)]
pub(crate) fn quantize<K: Kernel>(kernel: K, task: &mut Quantize<'_>) {
    let s = kernel.simd();
    let rows = task.codes.rows.iter_mut();
    let codes = task.codes.bytes.chunks_exact_mut(task.codes.stride);
    for ((x, codes), row) in task.x.chunks_exact(task.stride).zip(codes).zip(rows) {
        let x = x.as_chunks::<LANES>().0;
        let (mut low, mut high) = (s.splat(0.0), s.splat(0.0));
        for x in x {
            let x = s.load(x);
            low = s.min(x, low);
            high = s.max(x, high);
        }
        *row = quantize_row(kernel, x, s.min_lane(low), s.max_lane(high), codes);
    }
}

/// Vectors of a block of codes.
const VECTORS: usize = K_ALIGN / LANES;

#[inline(always)]
fn codes_of<S: Simd>(
    s: S,
    x: &[[f32; LANES]; VECTORS],
    scale: S::F,
    offset: S::F,
) -> [S::I; VECTORS] {
    [
        s.to_i32(s.fma(s.load(&x[0]), scale, offset)),
        s.to_i32(s.fma(s.load(&x[1]), scale, offset)),
        s.to_i32(s.fma(s.load(&x[2]), scale, offset)),
        s.to_i32(s.fma(s.load(&x[3]), scale, offset)),
    ]
}

/// `code = round(x / scale + zero_point)`, fused and ties to even, clamped to
/// 0..=255, for a row whose values lie between `low <= 0` and `high >= 0`.
#[inline(always)]
fn quantize_row<K: Kernel>(
    kernel: K,
    x: &[[f32; LANES]],
    low: f32,
    high: f32,
    codes: &mut [u8],
) -> RowQuantization {
    let s = kernel.simd();
    let range = high - low;
    let range = if range > MIN_RANGE { range } else { MIN_RANGE };
    let inverse = 255.0 / range;
    let zero_point = (-low * inverse).round_ties_even();
    let (scale, offset) = (s.splat(inverse), s.splat(zero_point));

    let (blocks, rest) = x.as_chunks::<VECTORS>();
    let mut codes = codes.chunks_exact_mut(K_ALIGN * K::CODE_BYTES);
    for (x, out) in blocks.iter().zip(&mut codes) {
        kernel.store_codes(codes_of(s, x, scale, offset), out);
    }
    if let Some(out) = codes.next() {
        let mut block = [[0.0; LANES]; VECTORS];
        block[..rest.len()].copy_from_slice(rest);
        kernel.store_codes(codes_of(s, &block, scale, offset), out);
    }
    RowQuantization {
        scale: range / 255.0,
        zero_point,
    }
}

#[inline(always)]
pub(crate) fn normalize<K: Kernel>(kernel: K, task: &mut Normalize<'_>) {
    let rows = task.codes.rows.iter_mut();
    let codes = task.codes.bytes.chunks_exact_mut(task.codes.stride);
    for ((x, codes), row) in task.x.chunks_exact_mut(task.stride).zip(codes).zip(rows) {
        let x = x.as_chunks_mut::<LANES>().0;
        let (low, high) = normalize_row(kernel.simd(), x, task.n, task.norm, task.eps);
        *row = quantize_row(kernel, x, low, high, codes);
    }
}

/// Layer normalisation of the first `n` values; gives their range, zero included.
#[inline(always)]
fn normalize_row<S: Simd>(
    s: S,
    x: &mut [[f32; LANES]],
    n: usize,
    norm: LayerNorm<'_>,
    eps: f32,
) -> (f32, f32) {
    let mut sum = s.splat(0.0);
    for x in &*x {
        sum = s.add(sum, s.load(x));
    }
    let mean = s.splat(s.sum(sum) / n as f32);

    let zero = s.splat(0.0);
    let mut squares = zero;
    let last = x.len() - 1;
    for (i, x) in x.iter_mut().enumerate() {
        let mut d = s.sub(s.load(x), mean);
        if i == last {
            d = s.keep_first(d, n - last * LANES, zero);
        }
        squares = s.fma(d, d, squares);
        s.store(d, x);
    }
    let variance = s.sum(squares) / n as f32;
    let factor = s.splat(1.0 / (variance + eps).sqrt());

    let mut range = (zero, zero);
    let (weight, weight_rest) = norm.weight[..n].as_chunks::<LANES>();
    let (bias, bias_rest) = norm.bias[..n].as_chunks::<LANES>();
    let (full, rest) = x.split_at_mut(weight.len());
    for ((x, w), b) in full.iter_mut().zip(weight).zip(bias) {
        range = scale_and_shift(s, x, factor, s.load(w), s.load(b), range);
    }
    if let Some(x) = rest.first_mut() {
        let (w, b) = (s.load_part(weight_rest), s.load_part(bias_rest));
        range = scale_and_shift(s, x, factor, w, b, range);
    }
    (s.min_lane(range.0), s.max_lane(range.1))
}

/// `x * factor * weight + bias` in place; gives the range widened by it.
#[inline(always)]
fn scale_and_shift<S: Simd>(
    s: S,
    x: &mut [f32; LANES],
    factor: S::F,
    weight: S::F,
    bias: S::F,
    range: (S::F, S::F),
) -> (S::F, S::F) {
    let y = s.fma(s.mul(s.load(x), factor), weight, bias);
    s.store(y, x);
    (s.min(y, range.0), s.max(y, range.1))
}

#[inline(always)]
pub(crate) fn embed<K: Kernel>(kernel: K, task: &mut Embed<'_>) {
    let s = kernel.simd();
    let width = task.word.width;
    let rows = task.out.chunks_exact_mut(task.stride);
    for ((&id, position), out) in task
        .ids
        .iter()
        .zip(task.position.chunks_exact(width))
        .zip(rows)
    {
        let id = id as usize;
        let scale = s.splat(task.word.scales[id]);
        let (codes, codes_rest) =
            task.word.codes[id * width..(id + 1) * width].as_chunks::<LANES>();
        let (position, position_rest) = position.as_chunks::<LANES>();
        let (full, rest) = out.as_chunks_mut::<LANES>().0.split_at_mut(codes.len());
        for ((out, codes), position) in full.iter_mut().zip(codes).zip(position) {
            s.store(s.fma(s.load_i8(codes), scale, s.load(position)), out);
        }
        if let Some(out) = rest.first_mut() {
            let mut codes = [0; LANES];
            codes[..codes_rest.len()].copy_from_slice(codes_rest);
            s.store(
                s.fma(s.load_i8(&codes), scale, s.load_part(position_rest)),
                out,
            );
        }
    }
}

/// Rows through a dense layer in f32. Weights are the outer loop: each of their rows
/// comes once from memory for all rows of `x`.
#[inline(always)]
pub(crate) fn dense<S: Simd>(
    s: S,
    dense: Dense<'_>,
    x: &[f32],
    x_stride: usize,
    out: &mut [f32],
) {
    let weights = dense.weight.chunks_exact(dense.k).zip(dense.bias);
    for (channel, (weights, &bias)) in weights.take(dense.n).enumerate() {
        let (w, w_rest) = weights.as_chunks::<LANES>();
        for (x, out) in x.chunks_exact(x_stride).zip(out.chunks_exact_mut(dense.n)) {
            let (x, x_rest) = x[..dense.k].as_chunks::<LANES>();
            let mut sum = s.splat(0.0);
            for (x, w) in x.iter().zip(w) {
                sum = s.fma(s.load(x), s.load(w), sum);
            }
            sum = s.fma(s.load_part(x_rest), s.load_part(w_rest), sum);
            out[channel] = s.sum(sum) + bias;
        }
    }
}

/// The head's non-linearity, in place.
#[inline(always)]
pub(crate) fn activate<S: Simd>(s: S, activation: HeadActivation, x: &mut [f32]) {
    for x in x.chunks_mut(LANES) {
        let v = s.load_part(x);
        let y = match activation {
            HeadActivation::Tanh => math::tanh(s, v),
            HeadActivation::GeluErf => math::gelu(s, v),
            HeadActivation::Relu => math::relu(s, v),
        };
        s.store_part(y, x);
    }
}
