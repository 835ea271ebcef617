//! Attention of one post: `softmax(Q K^T) V` for every head, in f32.
//!
//! Scores have keys in their lanes and add up over `head_dim` one fused
//! multiply-add after the other; the output has `head_dim` in its lanes and adds
//! up over keys. So each number has one order of operations, whatever the
//! registers. A head's keys are transposed into scratch memory once; then a block of
//! queries at a time goes through scores, softmax and values while its scores stay
//! in L1. `1 / sqrt(head_dim)` is already in the
//! query's weights. The softmax's division comes last, once for each query.

use super::gemm::Kernel;
use super::math;
use super::simd::{LANES, Simd};

/// One post's attention. `keys_values` has rows of query, key and value, `hidden`
/// columns each; `queries` may be the same rows or fewer ones elsewhere.
#[derive(Debug)]
pub(crate) struct Attention<'a> {
    pub(crate) queries: &'a [f32],
    pub(crate) query_stride: usize,
    pub(crate) num_queries: usize,
    pub(crate) keys_values: &'a [f32],
    pub(crate) stride: usize,
    pub(crate) tokens: usize,
    pub(crate) num_heads: usize,
    pub(crate) head_dim: usize,
    pub(crate) out: &'a mut [f32],
    pub(crate) out_stride: usize,
    pub(crate) scratch: &'a mut [f32],
}

/// Queries that are computed together, at most.
const MAX_QUERIES: usize = 8;

/// Floats of scratch memory that a post of so many tokens needs.
pub(crate) fn scratch_len(tokens: usize, head_dim: usize) -> usize {
    let tokens = tokens.next_multiple_of(LANES);
    let head_dim = head_dim.next_multiple_of(LANES);
    tokens * (2 * head_dim + MAX_QUERIES)
}

/// `MQ` queries at a time, `KV` vectors of keys or of the head's columns.
#[inline(always)]
pub(crate) fn attention<K: Kernel, const MQ: usize, const KV: usize>(
    kernel: K,
    task: &mut Attention<'_>,
) {
    const { assert!(MQ <= MAX_QUERIES) };
    let s = kernel.simd();
    let padded_tokens = task.tokens.next_multiple_of(LANES);
    let padded_dim = task.head_dim.next_multiple_of(LANES);
    let (keys, rest) = task.scratch.split_at_mut(padded_dim * padded_tokens);
    let (values, scores) = rest.split_at_mut(padded_dim * padded_tokens);
    let hidden = task.num_heads * task.head_dim;
    for h in 0..task.num_heads {
        let column = h * task.head_dim;
        let source = Rows {
            x: &task.keys_values[hidden + column..],
            stride: task.stride,
        };
        let keys = keys.as_chunks_mut().0;
        transpose_keys(s, source, task.tokens, task.head_dim, keys);
        let source = Rows {
            x: &task.keys_values[2 * hidden + column..],
            stride: task.stride,
        };
        // Where a head is whole vectors its values are used where they are.
        let values = if task.head_dim == padded_dim {
            source
        } else {
            copy_values(source, task.tokens, task.head_dim, values);
            Rows {
                x: values,
                stride: padded_dim,
            }
        };
        let mut head = Head {
            queries: Rows {
                x: &task.queries[column..],
                stride: task.query_stride,
            },
            tokens: task.tokens,
            head_dim: task.head_dim,
            keys,
            values,
            scores: scores.as_chunks_mut().0,
            out: &mut task.out[column..],
            out_stride: task.out_stride,
        };
        let mut query = 0;
        while query < task.num_queries {
            if task.num_queries < MQ {
                head.block::<S<K>, 1, KV>(s, query);
                query += 1;
            } else {
                // The last block may overlap its neighbour: the same results twice.
                let start = query.min(task.num_queries - MQ);
                head.block::<S<K>, MQ, KV>(s, start);
                query += MQ;
            }
        }
    }
}

type S<K> = <K as Kernel>::S;

/// One head's columns of a matrix, of which the first comes first in `x`.
#[derive(Clone, Copy)]
struct Rows<'a> {
    x: &'a [f32],
    stride: usize,
}

impl<'a> Rows<'a> {
    /// From column `column` of row `row` on.
    #[inline(always)]
    fn at(self, row: usize, column: usize) -> &'a [f32] {
        &self.x[row * self.stride + column..]
    }
}

/// Keys as `[head_dim][tokens]`. Lanes beyond the last token and rows beyond the last
/// dimension hold whatever is at hand.
#[inline(always)]
fn transpose_keys<S: Simd>(
    s: S,
    source: Rows<'_>,
    tokens: usize,
    head_dim: usize,
    keys: &mut [[f32; LANES]],
) {
    let width = tokens.div_ceil(LANES);
    for block in 0..width {
        for dims in 0..head_dim.div_ceil(LANES) {
            let mut rows = [s.splat(0.0); LANES];
            for i in 0..LANES {
                let token = (block * LANES + i).min(tokens - 1);
                rows[i] = s.load_part(source.at(token, dims * LANES));
            }
            let rows = s.transpose(rows);
            for i in 0..LANES {
                s.store(rows[i], &mut keys[(dims * LANES + i) * width + block]);
            }
        }
    }
}

/// Values as `[tokens][head_dim]`, padded with zeros to whole vectors.
fn copy_values(source: Rows<'_>, tokens: usize, head_dim: usize, values: &mut [f32]) {
    let rows = values.chunks_exact_mut(head_dim.next_multiple_of(LANES));
    for (token, row) in rows.take(tokens).enumerate() {
        row[..head_dim].copy_from_slice(&source.at(token, 0)[..head_dim]);
        row[head_dim..].fill(0.0);
    }
}

/// One head.
struct Head<'a> {
    queries: Rows<'a>,
    tokens: usize,
    head_dim: usize,
    /// `[head_dim][tokens]`
    keys: &'a [[f32; LANES]],
    /// `[tokens][head_dim]`
    values: Rows<'a>,
    /// `[MQ][tokens]`
    scores: &'a mut [[f32; LANES]],
    out: &'a mut [f32],
    out_stride: usize,
}

impl Head<'_> {
    #[inline(always)]
    fn key_vectors(&self) -> usize {
        self.tokens.div_ceil(LANES)
    }

    /// `MQ` queries from `query` on.
    #[inline(always)]
    fn block<S: Simd, const MQ: usize, const KV: usize>(&mut self, s: S, query: usize) {
        let width = self.key_vectors();
        let mut key = 0;
        while key + KV <= width {
            self.scores::<S, MQ, KV>(s, query, key);
            key += KV;
        }
        while key < width {
            self.scores::<S, MQ, 1>(s, query, key);
            key += 1;
        }
        let inverse = self.softmax::<S, MQ>(s);
        let width = self.head_dim.div_ceil(LANES);
        let mut dim = 0;
        while dim + KV <= width {
            self.mix::<S, MQ, KV>(s, query, dim, inverse);
            dim += KV;
        }
        while dim < width {
            self.mix::<S, MQ, 1>(s, query, dim, inverse);
            dim += 1;
        }
    }

    /// `Q K^T` for `MQ` queries and `KV` vectors of keys.
    #[inline(always)]
    fn scores<S: Simd, const MQ: usize, const KV: usize>(
        &mut self,
        s: S,
        query: usize,
        key: usize,
    ) {
        let width = self.key_vectors();
        let mut q: [&[f32]; MQ] = [&[]; MQ];
        for (i, q) in q.iter_mut().enumerate() {
            *q = &self.queries.at(query + i, 0)[..self.head_dim];
        }
        let mut acc = [[s.splat(0.0); KV]; MQ];
        let keys = self.keys.chunks_exact(width);
        for (d, keys) in keys.take(self.head_dim).enumerate() {
            let keys: &[[f32; LANES]; KV] = keys[key..].first_chunk().expect("KV vectors");
            for i in 0..MQ {
                let x = s.splat(q[i][d]);
                for j in 0..KV {
                    acc[i][j] = s.fma(x, s.load(&keys[j]), acc[i][j]);
                }
            }
        }
        for i in 0..MQ {
            for j in 0..KV {
                s.store(acc[i][j], &mut self.scores[i * width + key + j]);
            }
        }
    }

    /// Replaces `MQ` rows of scores by their exponentials; gives one by their sums. The
    /// rows go side by side, since each step of one waits for the step before.
    #[inline(always)]
    fn softmax<S: Simd, const MQ: usize>(&mut self, s: S) -> [f32; MQ] {
        let width = self.key_vectors();
        let rest = self.tokens - (width - 1) * LANES;
        let scores = &mut self.scores[..MQ * width];

        let mut max = [s.splat(0.0); MQ];
        for i in 0..MQ {
            let last = s.load(&scores[i * width + width - 1]);
            max[i] = s.keep_first(last, rest, s.splat(f32::MIN));
        }
        for v in 0..width - 1 {
            for i in 0..MQ {
                max[i] = s.max(max[i], s.load(&scores[i * width + v]));
            }
        }
        for max in &mut max {
            *max = s.splat(s.max_lane(*max));
        }
        let mut sum = [s.splat(0.0); MQ];
        for v in 0..width {
            for i in 0..MQ {
                let x = &mut scores[i * width + v];
                let mut e = math::exp_below(s, s.sub(s.load(x), max[i]));
                if v == width - 1 {
                    e = s.keep_first(e, rest, s.splat(0.0));
                }
                sum[i] = s.add(sum[i], e);
                s.store(e, x);
            }
        }
        let mut inverse = [0.0; MQ];
        for i in 0..MQ {
            inverse[i] = 1.0 / s.sum(sum[i]);
        }
        inverse
    }

    /// The weighted sum of `KV` vectors of the values' columns.
    #[inline(always)]
    fn mix<S: Simd, const MQ: usize, const KV: usize>(
        &mut self,
        s: S,
        query: usize,
        dim: usize,
        inverse: [f32; MQ],
    ) {
        let width = self.key_vectors();
        let scores = &self.scores[..MQ * width];
        let mut acc = [[s.splat(0.0); KV]; MQ];
        for v in 0..width {
            for t in 0..(self.tokens - v * LANES).min(LANES) {
                let values = self.values.at(v * LANES + t, dim * LANES).as_chunks().0;
                let values: &[[f32; LANES]; KV] = values.first_chunk().expect("KV vectors");
                for i in 0..MQ {
                    let x = s.splat(scores[i * width + v][t]);
                    for j in 0..KV {
                        acc[i][j] = s.fma(x, s.load(&values[j]), acc[i][j]);
                    }
                }
            }
        }
        for i in 0..MQ {
            let row = &mut self.out[(query + i) * self.out_stride..];
            for j in 0..KV {
                let columns = (dim + j) * LANES..self.head_dim.min((dim + j + 1) * LANES);
                s.store_part(s.mul(acc[i][j], s.splat(inverse[i])), &mut row[columns]);
            }
        }
    }
}
