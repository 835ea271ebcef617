//! Attention of one post: `softmax(Q K^T) V` for every head, in f32.
//!
//! Scores have keys in their lanes and add up over `head_dim` one fused
//! multiply-add after the other; the output has `head_dim` in its lanes and adds
//! up over keys. So each number has one order of operations, whatever the
//! registers. A head's keys are transposed and its values copied into scratch
//! memory once; then a block of queries at a time goes through scores, softmax
//! and values while its scores stay in L1. `1 / sqrt(head_dim)` is already in the
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
    let mut head = Head {
        queries: task.queries,
        query_stride: task.query_stride,
        column: 0,
        tokens: task.tokens,
        head_dim: task.head_dim,
        keys: keys.as_chunks_mut().0,
        values: values.as_chunks_mut().0,
        scores: scores.as_chunks_mut().0,
        out: task.out,
        out_stride: task.out_stride,
    };
    let hidden = task.num_heads * task.head_dim;
    for h in 0..task.num_heads {
        head.column = h * task.head_dim;
        head.transpose_keys(s, &task.keys_values[hidden..], task.stride);
        head.copy_values(s, &task.keys_values[2 * hidden..], task.stride);
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

/// One head; its slices are of vectors.
struct Head<'a> {
    queries: &'a [f32],
    query_stride: usize,
    /// Where the head's columns begin.
    column: usize,
    tokens: usize,
    head_dim: usize,
    /// `[head_dim][tokens]`
    keys: &'a mut [[f32; LANES]],
    /// `[tokens][head_dim]`
    values: &'a mut [[f32; LANES]],
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

    #[inline(always)]
    fn dim_vectors(&self) -> usize {
        self.head_dim.div_ceil(LANES)
    }

    #[inline(always)]
    fn transpose_keys<S: Simd>(&mut self, s: S, k: &[f32], stride: usize) {
        let width = self.key_vectors();
        for block in 0..width {
            for dims in 0..self.dim_vectors() {
                let mut rows = [s.splat(0.0); LANES];
                let first = block * LANES;
                let columns = dims * LANES..self.head_dim.min((dims + 1) * LANES);
                for (i, row) in rows.iter_mut().enumerate().take(self.tokens - first) {
                    let start = (first + i) * stride + self.column;
                    *row = s.load_part(&k[start + columns.start..start + columns.end]);
                }
                let rows = s.transpose(rows);
                for (i, row) in rows.into_iter().enumerate() {
                    s.store(row, &mut self.keys[(dims * LANES + i) * width + block]);
                }
            }
        }
    }

    #[inline(always)]
    fn copy_values<S: Simd>(&mut self, s: S, v: &[f32], stride: usize) {
        let width = self.dim_vectors();
        for (token, out) in self
            .values
            .chunks_exact_mut(width)
            .take(self.tokens)
            .enumerate()
        {
            let start = token * stride + self.column;
            let row = &v[start..start + self.head_dim];
            for (x, out) in row.chunks(LANES).zip(out) {
                s.store(s.load_part(x), out);
            }
        }
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
        let mut inverse = [0.0; MQ];
        for (i, inverse) in inverse.iter_mut().enumerate() {
            *inverse = self.softmax(s, i);
        }
        let width = self.dim_vectors();
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
            let start = (query + i) * self.query_stride + self.column;
            *q = &self.queries[start..start + self.head_dim];
        }
        let mut acc = [[s.splat(0.0); KV]; MQ];
        for (d, keys) in self
            .keys
            .chunks_exact(width)
            .take(self.head_dim)
            .enumerate()
        {
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

    /// Replaces a row of scores by their exponentials; gives one by their sum.
    #[inline(always)]
    fn softmax<S: Simd>(&mut self, s: S, row: usize) -> f32 {
        let width = self.key_vectors();
        let scores = &mut self.scores[row * width..(row + 1) * width];
        let (last, full) = scores.split_last_mut().expect("a post has a token");
        let rest = self.tokens - full.len() * LANES;

        let tail = s.keep_first(s.load(last), rest, s.splat(f32::MIN));
        let mut max = tail;
        for x in &*full {
            max = s.max(max, s.load(x));
        }
        let max = s.splat(s.max_lane(max));
        let mut sum = s.splat(0.0);
        for x in full {
            let e = math::exp_below(s, s.sub(s.load(x), max));
            sum = s.add(sum, e);
            s.store(e, x);
        }
        let e = math::exp_below(s, s.sub(tail, max));
        let e = s.keep_first(e, rest, s.splat(0.0));
        s.store(e, last);
        1.0 / s.sum(s.add(sum, e))
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
        let width = self.dim_vectors();
        let score_width = self.key_vectors() * LANES;
        let scores = self.scores.as_flattened();
        let mut p: [&[f32]; MQ] = [&[]; MQ];
        for (i, p) in p.iter_mut().enumerate() {
            *p = &scores[i * score_width..][..self.tokens];
        }
        let mut acc = [[s.splat(0.0); KV]; MQ];
        for (t, values) in self
            .values
            .chunks_exact(width)
            .take(self.tokens)
            .enumerate()
        {
            let values: &[[f32; LANES]; KV] = values[dim..].first_chunk().expect("KV vectors");
            for i in 0..MQ {
                let x = s.splat(p[i][t]);
                for j in 0..KV {
                    acc[i][j] = s.fma(x, s.load(&values[j]), acc[i][j]);
                }
            }
        }
        for i in 0..MQ {
            let start = (query + i) * self.out_stride + self.column;
            let row = &mut self.out[start..start + self.head_dim];
            for j in 0..KV {
                let columns = (dim + j) * LANES..self.head_dim.min((dim + j + 1) * LANES);
                s.store_part(s.mul(acc[i][j], s.splat(inverse[i])), &mut row[columns]);
            }
        }
    }
}
