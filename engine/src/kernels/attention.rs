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
        let (tokens, head_dim) = (task.tokens, task.head_dim);
        let x = &task.keys_values[hidden + column..];
        let source = Rows::new(x, task.stride, tokens, head_dim);
        let keys = keys.as_chunks_mut().0;
        transpose_keys(s, source, keys);
        let x = &task.keys_values[2 * hidden + column..];
        let source = Rows::new(x, task.stride, tokens, head_dim);
        // Where a head is whole vectors its values are used where they are.
        let values = if head_dim == padded_dim {
            source
        } else {
            copy_values(source, values);
            Rows::new(values, padded_dim, tokens, padded_dim)
        };
        let x = &task.queries[column..];
        let scores = scores.as_chunks_mut().0;
        assert!(keys.len() >= head_dim * tokens.div_ceil(LANES));
        assert!(scores.len() >= MQ * tokens.div_ceil(LANES));
        let mut head = Head {
            queries: Rows::new(x, task.query_stride, task.num_queries, head_dim),
            tokens,
            head_dim,
            keys,
            values,
            scores,
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

/// One head's columns of a matrix.
#[derive(Clone, Copy)]
struct Rows<'a> {
    /// Begins with the head's first column of the first row.
    x: &'a [f32],
    stride: usize,
    rows: usize,
    columns: usize,
}

impl<'a> Rows<'a> {
    #[inline(always)]
    fn new(x: &'a [f32], stride: usize, rows: usize, columns: usize) -> Self {
        assert!(rows > 0 && columns > 0 && x.len() >= (rows - 1) * stride + columns);
        Self {
            x,
            stride,
            rows,
            columns,
        }
    }

    #[inline(always)]
    fn get(self, row: usize, column: usize) -> f32 {
        debug_assert!(row < self.rows && column < self.columns);
        // SAFETY: `new` saw that all columns of all rows are there.
        unsafe { *self.x.get_unchecked(row * self.stride + column) }
    }

    /// `KV` vectors of a row.
    #[inline(always)]
    fn vectors<const KV: usize>(self, row: usize, column: usize) -> &'a [[f32; LANES]; KV] {
        debug_assert!(row < self.rows && column + KV * LANES <= self.columns);
        // SAFETY: `new` saw that all columns of all rows are there.
        unsafe {
            let start = self.x.as_ptr().add(row * self.stride + column);
            &*start.cast::<[[f32; LANES]; KV]>()
        }
    }

    /// A row from `column` to the end of the matrix.
    #[inline(always)]
    fn rest(self, row: usize, column: usize) -> &'a [f32] {
        &self.x[row * self.stride + column..]
    }
}

/// Keys as `[head_dim][tokens]`. Lanes beyond the last token and rows beyond the last
/// dimension hold whatever is at hand.
#[inline(always)]
fn transpose_keys<S: Simd>(s: S, source: Rows<'_>, keys: &mut [[f32; LANES]]) {
    let width = source.rows.div_ceil(LANES);
    for block in 0..width {
        for dims in 0..source.columns.div_ceil(LANES) {
            let mut rows = [s.splat(0.0); LANES];
            for i in 0..LANES {
                let token = (block * LANES + i).min(source.rows - 1);
                rows[i] = if (dims + 1) * LANES <= source.columns {
                    s.load(&source.vectors::<1>(token, dims * LANES)[0])
                } else {
                    s.load_part(source.rest(token, dims * LANES))
                };
            }
            let rows = s.transpose(rows);
            let first = dims * LANES * width + block;
            let keys = keys[first..].iter_mut().step_by(width);
            for (row, out) in rows.into_iter().zip(keys) {
                s.store(row, out);
            }
        }
    }
}

/// Values as `[tokens][head_dim]`, padded with zeros to whole vectors.
fn copy_values(source: Rows<'_>, values: &mut [f32]) {
    let columns = source.columns;
    let rows = values.chunks_exact_mut(columns.next_multiple_of(LANES));
    for (token, row) in rows.take(source.rows).enumerate() {
        row[..columns].copy_from_slice(&source.rest(token, 0)[..columns]);
        row[columns..].fill(0.0);
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
        let mut acc = [[s.splat(0.0); KV]; MQ];
        let mut dim = 0;
        // Sixteen at a time in a straight line; tails are for tiny models.
        while dim + LANES <= self.head_dim {
            for d in dim..dim + LANES {
                self.score_step(s, query, key, d, &mut acc);
            }
            dim += LANES;
        }
        for d in dim..self.head_dim {
            self.score_step(s, query, key, d, &mut acc);
        }
        for i in 0..MQ {
            for j in 0..KV {
                s.store(acc[i][j], &mut self.scores[i * width + key + j]);
            }
        }
    }

    #[inline(always)]
    fn score_step<S: Simd, const MQ: usize, const KV: usize>(
        &self,
        s: S,
        query: usize,
        key: usize,
        d: usize,
        acc: &mut [[S::F; KV]; MQ],
    ) {
        let start = d * self.key_vectors() + key;
        debug_assert!(start + KV <= self.keys.len());
        // SAFETY: `keys` has `key_vectors` vectors for each dimension of the head.
        let keys = unsafe { self.keys.get_unchecked(start..start + KV) };
        for i in 0..MQ {
            let x = s.splat(self.queries.get(query + i, d));
            for j in 0..KV {
                acc[i][j] = s.fma(x, s.load(&keys[j]), acc[i][j]);
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
        let mut acc = [[s.splat(0.0); KV]; MQ];
        let mut token = 0;
        while token + LANES <= self.tokens {
            for t in 0..LANES {
                self.mix_step(s, dim, token, t, &mut acc);
            }
            token += LANES;
        }
        for t in 0..self.tokens - token {
            self.mix_step(s, dim, token, t, &mut acc);
        }
        for i in 0..MQ {
            let row = &mut self.out[(query + i) * self.out_stride..];
            for j in 0..KV {
                let columns = (dim + j) * LANES..self.head_dim.min((dim + j + 1) * LANES);
                s.store_part(s.mul(acc[i][j], s.splat(inverse[i])), &mut row[columns]);
            }
        }
    }

    /// Token `first + t`, where `first` is a multiple of the lanes.
    #[inline(always)]
    fn mix_step<S: Simd, const MQ: usize, const KV: usize>(
        &self,
        s: S,
        dim: usize,
        first: usize,
        t: usize,
        acc: &mut [[S::F; KV]; MQ],
    ) {
        let width = self.key_vectors();
        let values = self.values.vectors::<KV>(first + t, dim * LANES);
        for i in 0..MQ {
            let at = i * width + first / LANES;
            debug_assert!(at < self.scores.len() && t < LANES);
            // SAFETY: `scores` has `key_vectors` vectors for each of `MQ` queries.
            let p = unsafe { self.scores.get_unchecked(at).get_unchecked(t) };
            let x = s.splat(*p);
            for j in 0..KV {
                acc[i][j] = s.fma(x, s.load(&values[j]), acc[i][j]);
            }
        }
    }
}
