//! How fast this core is at the dot products of an instruction set, and how fast
//! one product of a model's shape is: the two figures that `coldread bench`
//! compares. One operation is a multiplication or an addition.

use super::{AlignedVec, Codes, Epilogue, Kernels};
use coldread_model::layout::{Linear, pack_panels, padded_n};
use std::time::Instant;

/// Operations a second, in units of 10^9, that this core reaches with the dot product
/// instructions of `kernels` on registers alone: the best of several short runs, as
/// whatever else the machine does only slows it down.
pub fn peak_gops(kernels: Kernels) -> f64 {
    let mut best = 0f64;
    // The clock adapts to the instructions for a while.
    for _ in 0..40 {
        let start = Instant::now();
        let operations = kernels.ops.peak(100_000);
        best = best.max(operations as f64 / start.elapsed().as_secs_f64() / 1e9);
    }
    best
}

/// A product `m x k` by `k x n`, ready to be run again and again.
#[derive(Debug)]
pub struct Gemm {
    kernels: Kernels,
    codes: Codes,
    n: usize,
    k: usize,
    panels: AlignedVec<i8>,
    scales: AlignedVec<f32>,
    col_sums: AlignedVec<i32>,
    bias: AlignedVec<f32>,
    out: AlignedVec<f32>,
}

impl Gemm {
    /// Codes and weights in the kernels' range, from a fixed pseudo-random sequence.
    pub fn new(kernels: Kernels, m: usize, n: usize, k: usize) -> Self {
        let [low, high] = kernels.weight_range().bounds();
        let mut state = 1u32;
        let mut next = move || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            state >> 24
        };
        // A third of the range at most, so that groups of six fit as well.
        let weights: Vec<i8> = (0..n * k)
            .map(|_| (next() as i8).clamp(low / 3, high / 3))
            .collect();
        let mut panels = AlignedVec::new(padded_n(n) * coldread_model::layout::padded_k(k));
        panels.copy_from_slice(&pack_panels(&weights, n, k));
        let mut x = AlignedVec::new(m * padded_n(k));
        for row in x.chunks_exact_mut(padded_n(k).max(1)) {
            row[..k].fill_with(|| next() as f32 / 128.0 - 1.0);
        }
        let mut codes = Codes::new();
        kernels.quantize(&x, m, k, &mut codes);
        let mut scales = AlignedVec::new(padded_n(n));
        scales[..n].fill(1e-3);
        let mut col_sums = AlignedVec::new(padded_n(n));
        for (sum, row) in col_sums.iter_mut().zip(weights.chunks_exact(k.max(1))) {
            *sum = row.iter().map(|&w| i32::from(w)).sum();
        }
        let bias = AlignedVec::new(padded_n(n));
        let out = AlignedVec::new(m * padded_n(n));
        Self {
            kernels,
            codes,
            n,
            k,
            panels,
            scales,
            col_sums,
            bias,
            out,
        }
    }

    /// Operations of one run.
    pub fn operations(&self) -> u64 {
        2 * (self.codes.num_rows() * self.n * self.k) as u64
    }

    /// The product once, dequantisation and bias included.
    pub fn run(&mut self) -> &[f32] {
        let weights = Linear {
            n: self.n,
            k: self.k,
            range: self.kernels.weight_range(),
            panels: &self.panels,
            scales: &self.scales,
            col_sums: &self.col_sums,
            bias: &self.bias,
        };
        let stride = padded_n(self.n);
        let panels = 0..stride / 16;
        self.kernels.linear(
            &self.codes,
            weights,
            panels,
            Epilogue::Store,
            &mut self.out,
            stride,
        );
        &self.out
    }
}
