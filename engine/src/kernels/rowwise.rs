//! What happens to one row of hidden states at a time: embedding, layer
//! normalisation, the feed-forward block's non-linearity, quantization, and the dense
//! layers of the head.
//!
//! Rows are padded with zeros to whole vectors, and every operation keeps them
//! so: zero is what the padding of weights, norms and codes makes of them.

use super::gemm::{CODE_RUN, Kernel, RowQuantization};
use super::math;
use super::simd::{LANES, Simd};
use coldread_model::Activation;
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

impl CodesMut<'_> {
    /// Where the codes of row `i` go, from its first one on, and its quantization.
    #[inline(always)]
    fn row<K: Kernel>(&mut self, i: usize) -> (&mut [u8], &mut RowQuantization) {
        let group = i / K::ROW_GROUP * K::ROW_GROUP;
        let start = group * self.stride + (i - group) * CODE_RUN * K::CODE_BYTES;
        let end = (group + K::ROW_GROUP) * self.stride;
        (&mut self.bytes[start..end], &mut self.rows[i])
    }
}

/// Quantises every row.
#[derive(Debug)]
pub(crate) struct Quantize<'a> {
    pub(crate) x: &'a [f32],
    pub(crate) stride: usize,
    pub(crate) codes: CodesMut<'a>,
}

/// Applies the feed-forward block's non-linearity to every row in place, then quantises
/// it.
#[derive(Debug)]
pub(crate) struct Activate<'a> {
    pub(crate) activation: Activation,
    pub(crate) x: &'a mut [f32],
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

/// Rows that go through a reduction side by side: the steps of one row wait for each
/// other, those of its neighbours do not.
const ROWS: usize = 4;

#[inline(always)]
pub(crate) fn quantize<K: Kernel>(kernel: K, task: &mut Quantize<'_>) {
    let width = task.stride / LANES;
    let mut x = task.x.as_chunks::<LANES>().0;
    let mut row = 0;
    while row < task.codes.rows.len() {
        let left = task.codes.rows.len() - row;
        let count = if left < ROWS { 1 } else { ROWS };
        let block;
        (block, x) = x.split_at(count * width);
        let ranges = if count == ROWS {
            ranges::<_, ROWS>(kernel.simd(), block, width)
        } else {
            [ranges::<_, 1>(kernel.simd(), block, width)[0]; ROWS]
        };
        for (x, (low, high)) in block.chunks_exact(width).zip(ranges) {
            let (codes, quantization) = task.codes.row::<K>(row);
            *quantization = quantize_row(kernel, x, low, high, codes);
            row += 1;
        }
    }
}

#[inline(always)]
pub(crate) fn activate_and_quantize<K: Kernel>(kernel: K, task: &mut Activate<'_>) {
    let s = kernel.simd();
    // The functions themselves would be called, and not inlined into what has the features.
    match task.activation {
        Activation::GeluErf => map_and_quantize(
            kernel,
            task,
            #[inline(always)]
            |x| math::gelu(s, x),
        ),
        Activation::GeluTanh => map_and_quantize(
            kernel,
            task,
            #[inline(always)]
            |x| math::gelu_tanh(s, x),
        ),
        Activation::Relu => map_and_quantize(
            kernel,
            task,
            #[inline(always)]
            |x| math::relu(s, x),
        ),
    }
}

/// The range is taken on the way, while the values are in registers.
#[inline(always)]
fn map_and_quantize<K: Kernel>(
    kernel: K,
    task: &mut Activate<'_>,
    f: impl Fn(<K::S as Simd>::F) -> <K::S as Simd>::F,
) {
    let s = kernel.simd();
    let rows = task.x.as_chunks_mut::<LANES>().0;
    let rows = rows.chunks_exact_mut(task.stride / LANES);
    for (i, x) in rows.enumerate() {
        let (mut low, mut high) = (s.splat(0.0), s.splat(0.0));
        for x in &mut *x {
            let y = f(s.load(x));
            s.store(y, x);
            low = s.min(y, low);
            high = s.max(y, high);
        }
        let (codes, row) = task.codes.row::<K>(i);
        *row = quantize_row(kernel, x, s.min_lane(low), s.max_lane(high), codes);
    }
}

/// The range of each of `R` rows, zero included.
#[inline(always)]
fn ranges<S: Simd, const R: usize>(s: S, x: &[[f32; LANES]], width: usize) -> [(f32, f32); R] {
    let (mut low, mut high) = ([s.splat(0.0); R], [s.splat(0.0); R]);
    for i in 0..width {
        for r in 0..R {
            let x = s.load(&x[r * width + i]);
            low[r] = s.min(x, low[r]);
            high[r] = s.max(x, high[r]);
        }
    }
    let mut ranges = [(0.0, 0.0); R];
    for r in 0..R {
        ranges[r] = (s.min_lane(low[r]), s.max_lane(high[r]));
    }
    ranges
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
    let mut codes = codes.chunks_mut(K_ALIGN * K::CODE_BYTES * K::ROW_GROUP);
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
    let s = kernel.simd();
    let width = task.stride / LANES;
    let mut x = task.x.as_chunks_mut::<LANES>().0;
    let mut row = 0;
    while row < task.codes.rows.len() {
        let left = task.codes.rows.len() - row;
        let count = if left < ROWS { 1 } else { ROWS };
        let block;
        (block, x) = x.split_at_mut(count * width);
        let ranges = if count == ROWS {
            normalize_rows::<_, ROWS>(s, block, task.n, task.norm, task.eps)
        } else {
            [normalize_rows::<_, 1>(s, block, task.n, task.norm, task.eps)[0]; ROWS]
        };
        for (x, (low, high)) in block.chunks_exact(width).zip(ranges) {
            let (codes, quantization) = task.codes.row::<K>(row);
            *quantization = quantize_row(kernel, x, low, high, codes);
            row += 1;
        }
    }
}

/// Layer normalisation of the first `n` values of each of `R` rows; gives their
/// ranges, zero included.
#[inline(always)]
fn normalize_rows<S: Simd, const R: usize>(
    s: S,
    x: &mut [[f32; LANES]],
    n: usize,
    norm: LayerNorm<'_>,
    eps: f32,
) -> [(f32, f32); R] {
    let width = x.len() / R;
    let zero = s.splat(0.0);
    let mut mean = [zero; R];
    for i in 0..width {
        for r in 0..R {
            mean[r] = s.add(mean[r], s.load(&x[r * width + i]));
        }
    }
    for r in 0..R {
        mean[r] = s.splat(s.sum(mean[r]) / n as f32);
    }

    let mut squares = [zero; R];
    let in_last = n - (width - 1) * LANES;
    for i in 0..width {
        for r in 0..R {
            let x = &mut x[r * width + i];
            let mut d = s.sub(s.load(x), mean[r]);
            if i == width - 1 {
                d = s.keep_first(d, in_last, zero);
            }
            squares[r] = s.fma(d, d, squares[r]);
            s.store(d, x);
        }
    }
    let mut factor = [zero; R];
    for r in 0..R {
        let variance = s.sum(squares[r]) / n as f32;
        factor[r] = s.splat(1.0 / (variance + eps).sqrt());
    }

    let (mut low, mut high) = ([zero; R], [zero; R]);
    for i in 0..width {
        let columns = i * LANES..n.min((i + 1) * LANES);
        let weight = s.load_part(&norm.weight[columns.clone()]);
        let bias = s.load_part(&norm.bias[columns]);
        for r in 0..R {
            let x = &mut x[r * width + i];
            let y = s.fma(s.mul(s.load(x), factor[r]), weight, bias);
            s.store(y, x);
            low[r] = s.min(y, low[r]);
            high[r] = s.max(y, high[r]);
        }
    }
    let mut ranges = [(0.0, 0.0); R];
    for r in 0..R {
        ranges[r] = (s.min_lane(low[r]), s.max_lane(high[r]));
    }
    ranges
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
pub(crate) fn dense<S: Simd>(s: S, dense: Dense<'_>, x: &[f32], x_stride: usize, out: &mut [f32]) {
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
