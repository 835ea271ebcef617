//! The memory layout that the int8 kernels read, the same for every
//! instruction set, and typed views of it.
//!
//! A weight matrix `[n, k]` (output channels by inputs) is cut into panels of
//! [`NR`] output channels; within a panel, [`KR`] consecutive inputs of each
//! channel stand together: `[n / NR][k / KR][NR][KR]` of `i8`. One step of a
//! panel is 64 bytes, which is one `vpdpbusd` operand (AVX-512), two of AVX2 or
//! four of `sdot`; 16 steps are one AMX tile. `n` is padded to [`NR`] and `k` to
//! [`K_ALIGN`] with zeros, so that no kernel has a remainder loop.

mod range;

pub use range::{GROUP_STEPS, MAX_GROUP_SUM, WeightRange, group_of};

/// Output channels in a panel.
pub const NR: usize = 16;
/// Inputs that stand together within a panel.
pub const KR: usize = 4;
/// Weights of a step of a panel.
const STEP: usize = NR * KR;
/// `k` is padded to a multiple of this: one AMX tile, 16 steps of [`KR`].
pub const K_ALIGN: usize = 64;

/// The most inputs of a linear layer: an `i32` holds the sum of so many products of an
/// unsigned and a signed 8-bit number.
pub const MAX_K: usize = (i32::MAX / (255 * 128)) as usize;
const _: () = assert!(MAX_K as i64 * 255 * 128 <= i32::MAX as i64);

/// `n` as stored.
pub const fn padded_n(n: usize) -> usize {
    n.next_multiple_of(NR)
}

/// `k` as stored.
pub const fn padded_k(k: usize) -> usize {
    k.next_multiple_of(K_ALIGN)
}

/// Puts a row-major `[n, k]` matrix into panel order, padded with zeros.
pub fn pack_panels(weights: &[i8], n: usize, k: usize) -> Vec<i8> {
    assert_eq!(weights.len(), n * k, "an [n, k] matrix");
    let (n_padded, k_padded) = (padded_n(n), padded_k(k));
    let mut panels = vec![0; n_padded * k_padded];
    for (channel, row) in weights.chunks_exact(k).enumerate() {
        let panel = channel / NR * NR * k_padded;
        for (i, &w) in row.iter().enumerate() {
            let step = i / KR * NR * KR;
            panels[panel + step + channel % NR * KR + i % KR] = w;
        }
    }
    panels
}

/// A linear layer `y = x W^T + b` with int8 weights, one scale an output channel.
///
/// A real weight is `panels[..] as f32 * scales[channel]`. The slices after
/// `panels` have `padded_n(n)` entries, zero beyond `n`; all are 64-byte aligned.
#[derive(Debug, Clone, Copy)]
pub struct Linear<'a> {
    /// Output channels.
    pub n: usize,
    /// Inputs.
    pub k: usize,
    /// What `panels` may hold.
    pub range: WeightRange,
    /// The weights in panel order, `padded_n(n) * padded_k(k)` of them.
    pub panels: &'a [i8],
    /// The scale of each output channel.
    pub scales: &'a [f32],
    /// The sum of each output channel's weights, for the activations' zero points.
    pub col_sums: &'a [i32],
    /// The bias of each output channel.
    pub bias: &'a [f32],
}

/// An embedding table with int8 codes, one scale a row: `codes[row][i] * scales[row]`.
#[derive(Debug, Clone, Copy)]
pub struct Embedding<'a> {
    /// Rows.
    pub rows: usize,
    /// Columns.
    pub width: usize,
    /// Row-major codes, `rows * width`.
    pub codes: &'a [i8],
    /// The scale of each row.
    pub scales: &'a [f32],
}

/// Weight and bias of a layer normalisation.
#[derive(Debug, Clone, Copy)]
pub struct LayerNorm<'a> {
    /// Multiplied with the normalised values.
    pub weight: &'a [f32],
    /// Added at last.
    pub bias: &'a [f32],
}

/// One encoder layer (post-norm, as in BERT).
#[derive(Debug, Clone, Copy)]
pub struct Layer<'a> {
    /// Query, key and value as one linear layer of `3 * hidden_size` channels, in
    /// this order. `1 / sqrt(head_dim)` is already in the query's scales and bias.
    pub qkv: Linear<'a>,
    /// The projection after attention.
    pub attention_output: Linear<'a>,
    /// The normalisation after attention's residual sum.
    pub attention_norm: LayerNorm<'a>,
    /// Feed-forward, first half.
    pub intermediate: Linear<'a>,
    /// Feed-forward, second half.
    pub output: Linear<'a>,
    /// The normalisation after the feed-forward block's residual sum.
    pub output_norm: LayerNorm<'a>,
}

/// What stands between the encoder and the logits: the first token's hidden
/// state goes through `dense` and `activation` (where there is one), then `classifier`.
#[derive(Debug, Clone, Copy)]
pub struct Head<'a> {
    /// BERT's pooler, `RoBERTa`'s, `DistilBERT`'s and ELECTRA's `dense`; BERT without a
    /// pooler has none.
    pub dense: Option<Dense<'a>>,
    /// The non-linearity after `dense`.
    pub activation: HeadActivation,
    /// The last layer; its channels are the labels.
    pub classifier: Dense<'a>,
}

/// A small linear layer in f32: the head runs once a post, so int8 would save nothing.
#[derive(Debug, Clone, Copy)]
pub struct Dense<'a> {
    /// Output channels.
    pub n: usize,
    /// Inputs.
    pub k: usize,
    /// Row-major `[n, k]`.
    pub weight: &'a [f32],
    /// One an output channel.
    pub bias: &'a [f32],
}

/// The non-linearity of a classification head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HeadActivation {
    /// BERT, `RoBERTa`.
    Tanh,
    /// ELECTRA.
    GeluErf,
    /// `DistilBERT`.
    Relu,
}

/// Embeddings, summed and normalised (and projected, for ELECTRA with a narrower
/// embedding).
#[derive(Debug, Clone, Copy)]
pub struct Embeddings<'a> {
    /// One row a token.
    pub word: Embedding<'a>,
    /// One f32 row `[width]` a position; a post's token `i` uses row `i`: where a
    /// family's positions start later (`RoBERTa`), the rows before are not stored.
    /// The row of token type 0, the only one a post uses, is already added in.
    pub position: &'a [f32],
    /// The normalisation of the sum.
    pub norm: LayerNorm<'a>,
    /// ELECTRA's projection from `embedding_size` to `hidden_size`.
    pub projection: Option<Linear<'a>>,
}
