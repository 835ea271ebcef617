//! int8 matrix products and the row-wise float work between them, for whatever
//! instruction set the CPU has.
//!
//! [`Kernels`] is the safe entry: it checks every length once, then runs the
//! operations of one [`Isa`], chosen at start. Slices and sizes are all that is
//! known here; the transformer stands one floor up, in [`crate::encoder`].
//!
//! Invariants:
//! - Integer sums are exact on every instruction set.
//! - Float results are the same bit for bit on every instruction set: all float
//!   code is written once over 16 lanes (`simd`), down to exp and erf
//!   (`math`), with fused multiply-adds and one order of summation. A row's result
//!   depends on that row alone, so that batches cannot be felt.
//! - One packed layout of weights ([`coldread_model::layout`]) serves all; how
//!   activations are stored between two operations is each instruction set's affair
//!   ([`Codes`]).
//! - `unsafe` is at home here and nowhere else: intrinsics, which a token proves
//!   (`avx2` and its neighbours), and the pointers of a product's inner loop, whose
//!   slices `gemm` cuts.
//!
//! | module | what it holds |
//! |---|---|
//! | `isa` | names, detection |
//! | `simd`, `math` | 16 lanes; exp, erf, GELU, tanh |
//! | `gemm` | blocking, dequantisation, epilogues |
//! | `rowwise` | embedding, layer norm, quantization, dense layers |
//! | `attention` | one post's attention |
//! | `scalar`, `avx2`, `avx_vnni`, `avx512`, `amx`, `neon`, `neon_i8mm` | one instruction set each |
//! | `avx2_narrow` | AVX2 on weights of the narrow range |
//! | `wasm` | WebAssembly |
//! | `ops` | the dynamic boundary |
//! | [`mod@bench`] | peak and product speed, for `coldread bench` |

#![allow(unsafe_code, reason = "SIMD intrinsics and the inner loops' pointers")]
#![allow(
    clippy::inline_always,
    reason = "an intrinsic is one instruction only inside a function with its features"
)]
#![allow(clippy::wildcard_imports, reason = "intrinsics carry their prefix")]
#![allow(
    clippy::needless_range_loop,
    reason = "loops over registers, by row and panel"
)]
#![allow(
    clippy::large_types_passed_by_value,
    reason = "sixteen registers, inlined"
)]
#![allow(
    clippy::cast_ptr_alignment,
    reason = "these loads and stores need no alignment"
)]

#[cfg(target_arch = "x86_64")]
mod amx;
mod attention;
#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx2_narrow;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "x86_64")]
mod avx_vnni;
pub mod bench;
mod buffer;
mod gemm;
mod isa;
mod math;
#[cfg(target_arch = "aarch64")]
mod neon;
#[cfg(target_arch = "aarch64")]
mod neon_i8mm;
mod ops;
mod rowwise;
mod scalar;
mod simd;
#[cfg(test)]
mod tests;
#[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
mod wasm;

pub use buffer::{AlignedVec, Number};
pub use gemm::{Epilogue, RowQuantization};
pub use isa::{Isa, IsaUnavailable, UnknownIsa};

use attention::Attention;
use coldread_model::Activation;
use coldread_model::layout::{
    Dense, Embedding, HeadActivation, LayerNorm, Linear, MAX_K, NR, WeightRange, padded_k, padded_n,
};
use gemm::Gemm;
use ops::Ops;
use rowwise::{Activate, CodesMut, Embed, Normalize, Quantize};
use std::ops::Range;

/// The operations of one instruction set.
#[derive(Debug, Clone, Copy)]
pub struct Kernels {
    ops: &'static dyn Ops,
}

/// Quantised rows, stored the way one instruction set reads them.
#[derive(Debug, Default)]
pub struct Codes {
    bytes: AlignedVec<u8>,
    rows: Vec<RowQuantization>,
    k: usize,
    /// Bytes of a row.
    stride: usize,
    layout: Option<CodeLayout>,
}

/// How an instruction set's kernels store activation codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct CodeLayout {
    isa: Isa,
    /// Bytes that a code takes.
    code_bytes: usize,
    /// Rows that share memory ([`gemm::Kernel::ROW_GROUP`]).
    row_group: usize,
}

impl CodeLayout {
    /// Rows that memory for `m` rows holds.
    fn stored_rows(self, m: usize) -> usize {
        m.next_multiple_of(self.row_group)
    }

    /// Where a row of `stride` bytes is.
    fn runs(self, row: usize, stride: usize) -> impl Iterator<Item = Range<usize>> {
        let run = match self.row_group {
            1 => stride,
            _ => gemm::CODE_RUN * self.code_bytes,
        };
        let in_group = row % self.row_group;
        let start = (row - in_group) * stride + in_group * run;
        let runs = stride.checked_div(run).unwrap_or(0);
        (0..runs).map(move |i| {
            let start = start + i * self.row_group * run;
            start..start + run
        })
    }
}

/// What attention reads: rows of queries, and rows of query, key and value.
#[derive(Debug, Clone, Copy)]
pub struct Qkv<'a> {
    /// `[num_queries]` rows, each beginning with `hidden` columns of query.
    pub queries: &'a [f32],
    /// Floats from one row of queries to the next.
    pub query_stride: usize,
    /// How many queries there are; `tokens`, or fewer where only some are wanted.
    pub num_queries: usize,
    /// `[tokens]` rows of query, key and value, `hidden` columns each.
    pub keys_values: &'a [f32],
    /// Floats from one of these rows to the next.
    pub stride: usize,
    /// The post's tokens.
    pub tokens: usize,
    /// Heads; `hidden` is `num_heads * head_dim`.
    pub num_heads: usize,
    /// Columns of a head.
    pub head_dim: usize,
}

impl Kernels {
    /// The fastest ones that this CPU runs.
    pub fn detect() -> Self {
        Self::new(Isa::detect()).expect("detected")
    }

    /// Those of one instruction set.
    pub fn new(isa: Isa) -> Result<Self, IsaUnavailable> {
        match ops::lookup(isa) {
            Some(ops) => Ok(Self { ops }),
            None => Err(IsaUnavailable {
                wanted: isa,
                available: Isa::available(),
            }),
        }
    }

    /// The same instruction set's fastest kernels for weights that are all of `range`. Those of
    /// [`Kernels::new`] take weights of any range.
    #[must_use]
    pub fn for_weights(self, range: WeightRange) -> Self {
        let ops = match range {
            WeightRange::Full => ops::lookup(self.isa()),
            WeightRange::Narrow => ops::lookup_narrow(self.isa()),
            WeightRange::Grouped => ops::lookup_grouped(self.isa()),
        };
        Self {
            ops: ops.expect("this CPU has the instruction set"),
        }
    }

    /// The range of weights whose products are exact: [`WeightRange::Full`] takes all.
    pub fn weight_range(self) -> WeightRange {
        self.ops.weight_range()
    }

    /// Their instruction set.
    pub fn isa(self) -> Isa {
        self.ops.isa()
    }

    /// Quantises `m` rows of `x`, which are `stride` floats apart: `k` values, then zeros
    /// (`stride` is `padded_n(k)`).
    pub fn quantize(self, x: &[f32], m: usize, k: usize, codes: &mut Codes) {
        let stride = padded_n(k);
        let x = &x[..m * stride];
        let codes = codes.reset(self.ops, m, k);
        if k > 0 {
            self.ops.quantize(&mut Quantize { x, stride, codes });
        }
    }

    /// A non-linearity on `m` rows in place, laid out as for [`Self::quantize`], and
    /// their codes.
    pub fn activate_and_quantize(
        self,
        activation: Activation,
        x: &mut [f32],
        m: usize,
        k: usize,
        codes: &mut Codes,
    ) {
        let stride = padded_n(k);
        let x = &mut x[..m * stride];
        let codes = codes.reset(self.ops, m, k);
        if k > 0 {
            self.ops.activate_and_quantize(&mut Activate {
                activation,
                x,
                stride,
                codes,
            });
        }
    }

    /// Layer normalisation of `m` rows in place, `padded_n(n)` floats apart and zero
    /// beyond `n`, and their codes.
    pub fn normalize(
        self,
        x: &mut [f32],
        m: usize,
        n: usize,
        norm: LayerNorm<'_>,
        eps: f32,
        codes: &mut Codes,
    ) {
        let stride = padded_n(n);
        assert!(
            n > 0 && norm.weight.len() >= n && norm.bias.len() >= n,
            "a norm of {n}"
        );
        let x = &mut x[..m * stride];
        let codes = codes.reset(self.ops, m, n);
        self.ops.normalize(&mut Normalize {
            x,
            stride,
            n,
            norm,
            eps,
            codes,
        });
    }

    /// `out[i] = word[ids[i]] + position[i]`, rows `padded_n(width)` floats apart.
    pub fn embed(self, ids: &[u32], word: Embedding<'_>, position: &[f32], out: &mut [f32]) {
        let (rows, width) = (word.rows, word.width);
        assert!(
            ids.iter().all(|&id| (id as usize) < rows),
            "an id beyond {rows} rows"
        );
        assert!(width > 0 && word.codes.len() >= rows * width && word.scales.len() >= rows);
        let stride = padded_n(width);
        let position = &position[..ids.len() * width];
        let out = &mut out[..ids.len() * stride];
        self.ops.embed(&mut Embed {
            ids,
            word,
            position,
            out,
            stride,
        });
    }

    /// `epilogue(codes W^T + b)` for the channels of `panels`, the first of which is
    /// column 0 of `out`; rows are `out_stride` floats apart.
    pub fn linear(
        self,
        codes: &Codes,
        weights: Linear<'_>,
        panels: Range<usize>,
        epilogue: Epilogue,
        out: &mut [f32],
        out_stride: usize,
    ) {
        let (n, k) = (padded_n(weights.n), padded_k(weights.k));
        assert_eq!(codes.k, weights.k, "activations and weights of one k");
        assert!(weights.k <= MAX_K, "sums of {k} products leave an i32");
        assert!(weights.panels.len() >= n * k, "panels of {n} x {k}");
        assert!(
            weights.scales.len() >= n && weights.col_sums.len() >= n && weights.bias.len() >= n
        );
        assert!(
            panels.start <= panels.end && panels.end * NR <= n,
            "panels {panels:?} of {n}"
        );
        assert!(
            panels.len() * NR <= out_stride,
            "rows of {out_stride} floats"
        );
        let m = codes.rows.len();
        let layout = self.ops.code_layout();
        assert_eq!(codes.layout, Some(layout), "codes of these kernels");
        let range = self.weight_range();
        assert!(range <= weights.range, "{range:?} weights");
        if m == 0 || panels.is_empty() {
            return;
        }
        assert!(
            out.len() >= (m - 1) * out_stride + panels.len() * NR,
            "an output of {m} rows"
        );
        self.ops.gemm(&mut Gemm {
            codes: &codes.bytes[..layout.stored_rows(m) * codes.stride],
            rows: &codes.rows,
            weights,
            panels,
            epilogue,
            out,
            out_stride,
        });
    }

    /// Attention of one post; `out` has a row for each query, `out_stride` floats apart.
    pub fn attention(
        self,
        qkv: Qkv<'_>,
        out: &mut [f32],
        out_stride: usize,
        scratch: &mut AlignedVec<f32>,
    ) {
        let Qkv {
            num_queries,
            tokens,
            num_heads,
            head_dim,
            ..
        } = qkv;
        let hidden = num_heads * head_dim;
        assert!(qkv.query_stride >= hidden && qkv.stride >= 3 * hidden && out_stride >= hidden);
        assert!(
            qkv.keys_values.len() >= tokens * qkv.stride,
            "keys and values of {tokens}"
        );
        assert!(
            qkv.queries.len() >= num_queries * qkv.query_stride,
            "{num_queries} queries"
        );
        assert!(
            out.len() >= num_queries * out_stride,
            "{num_queries} rows of output"
        );
        if tokens == 0 || num_queries == 0 || hidden == 0 {
            return;
        }
        let len = attention::scratch_len(tokens, head_dim);
        scratch.grow(len);
        self.ops.attention(&mut Attention {
            queries: qkv.queries,
            query_stride: qkv.query_stride,
            num_queries,
            keys_values: qkv.keys_values,
            stride: qkv.stride,
            tokens,
            num_heads,
            head_dim,
            out,
            out_stride,
            scratch: &mut scratch[..len],
        });
    }

    /// Rows through a dense layer in f32: rows of `x` are `x_stride` floats apart, those
    /// of `out` `dense.n`, and there are as many as `out` holds.
    pub fn dense(self, dense: Dense<'_>, x: &[f32], x_stride: usize, out: &mut [f32]) {
        let Dense { n, k, .. } = dense;
        assert!(k > 0 && n > 0 && out.len().is_multiple_of(n) && x_stride >= k);
        assert!(x.len() >= (out.len() / n) * x_stride, "rows of {k}");
        assert!(dense.weight.len() >= n * k && dense.bias.len() >= n);
        self.ops.dense(dense, x, x_stride, out);
    }

    /// The head's non-linearity, in place.
    pub fn activate(self, activation: HeadActivation, x: &mut [f32]) {
        self.ops.activate(activation, x);
    }
}

impl Codes {
    /// Rows of `k` codes.
    pub fn new() -> Self {
        Self::default()
    }

    /// Gets memory for `m` rows of `k` codes.
    fn reset(&mut self, ops: &dyn Ops, m: usize, k: usize) -> CodesMut<'_> {
        let layout = ops.code_layout();
        self.layout = Some(layout);
        self.k = k;
        self.stride = padded_k(k) * layout.code_bytes;
        let len = layout.stored_rows(m) * self.stride;
        self.bytes.grow(len);
        self.rows.clear();
        self.rows.resize(m, RowQuantization::default());
        CodesMut {
            bytes: &mut self.bytes[..len],
            stride: self.stride,
            rows: &mut self.rows,
        }
    }

    /// How many rows there are.
    pub fn num_rows(&self) -> usize {
        self.rows.len()
    }

    /// How each row's codes stand for floats.
    pub fn rows(&self) -> &[RowQuantization] {
        &self.rows
    }

    /// Becomes the rows of `from` that `indices` name.
    pub fn gather(&mut self, from: &Self, indices: impl Iterator<Item = usize> + Clone) {
        let stride = from.stride;
        (self.k, self.stride) = (from.k, stride);
        self.layout = from.layout;
        self.rows.clear();
        self.rows.extend(indices.clone().map(|i| from.rows[i]));
        let Some(layout) = from.layout else { return };
        self.bytes
            .grow(layout.stored_rows(self.rows.len()) * stride);
        for (row, i) in indices.enumerate() {
            for (to, run) in layout.runs(row, stride).zip(layout.runs(i, stride)) {
                self.bytes[to].copy_from_slice(&from.bytes[run]);
            }
        }
    }
}
