//! One worker's forward pass over chunks of posts.
//!
//! Post-norm, as in BERT: `x = norm(x + attention(x)); x = norm(x + feed_forward(x))`.
//! Rows of f32 are padded with zeros to 16 columns, which every operation preserves.

use super::{Weights, chunks};
use crate::engine::EncodedBatch;
use crate::kernels::{AlignedVec, Codes, Epilogue, Kernels, Qkv};
use coldread_model::ModelConfig;
use coldread_model::layout::{Embeddings, Layer, LayerNorm, Linear, NR, padded_n};
use std::ops::Range;

/// Posts whose first tokens go through the rest of the last layer and the head
/// together: those weights come from memory once for all of them.
const FIRST_ROWS: usize = 64;

/// Everything that a thread writes to.
#[derive(Default)]
pub(super) struct Worker {
    /// ELECTRA's narrower embeddings.
    embedded: AlignedVec<f32>,
    /// Hidden states, and what the next residual sum starts from.
    hidden: AlignedVec<f32>,
    /// The hidden states' codes.
    codes: Codes,
    qkv: AlignedVec<f32>,
    /// The last layer's queries, hidden states, codes and attention: first tokens only.
    first_queries: AlignedVec<f32>,
    first_hidden: AlignedVec<f32>,
    first_codes: Codes,
    first_context: AlignedVec<f32>,
    /// Attention's output.
    context: AlignedVec<f32>,
    intermediate: AlignedVec<f32>,
    /// Codes of `context`, then of `intermediate`.
    inner_codes: Codes,
    attention: AlignedVec<f32>,
    pooled: AlignedVec<f32>,
}

/// A chunk of posts and the sizes that its buffers follow from.
struct Chunk<'a> {
    kernels: Kernels,
    config: &'a ModelConfig,
    /// Where each post begins within the chunk, and at last where the chunk ends.
    cu_seqlens: &'a [u32],
    input_ids: &'a [u32],
}

impl Chunk<'_> {
    fn tokens(&self) -> usize {
        self.input_ids.len()
    }

    fn len(&self) -> usize {
        self.cu_seqlens.len() - 1
    }

    /// The rows of each post.
    fn posts(&self) -> impl Iterator<Item = Range<usize>> + Clone {
        let base = self.cu_seqlens[0];
        let ends = self.cu_seqlens.windows(2);
        ends.map(move |ends| (ends[0] - base) as usize..(ends[1] - base) as usize)
    }
}

/// A whole linear layer.
fn linear(
    kernels: Kernels,
    codes: &Codes,
    weights: Linear<'_>,
    epilogue: Epilogue,
    out: &mut [f32],
) {
    let stride = padded_n(weights.n);
    kernels.linear(codes, weights, 0..stride / NR, epilogue, out, stride);
}

impl Worker {
    /// The logits of `posts`, `[posts, labels]`.
    pub(super) fn run(
        &mut self,
        model: &dyn Weights,
        kernels: Kernels,
        token_budget: usize,
        batch: &EncodedBatch,
        posts: Range<usize>,
        logits: &mut [f32],
    ) {
        let labels = model.head().classifier.n;
        let mut rest = logits;
        let mut first_rows = 0;
        for posts in chunks(batch, posts, token_budget) {
            if first_rows > 0 && first_rows + posts.len() > FIRST_ROWS {
                let (logits, others) = rest.split_at_mut(first_rows * labels);
                rest = others;
                self.first_tokens(model, kernels, first_rows, logits);
                first_rows = 0;
            }
            let cu_seqlens = &batch.cu_seqlens()[posts.start..=posts.end];
            let ids = cu_seqlens[0] as usize..cu_seqlens[posts.len()] as usize;
            let chunk = Chunk {
                kernels,
                config: model.config(),
                cu_seqlens,
                input_ids: &batch.input_ids()[ids],
            };
            self.embed(&chunk, &model.embeddings());
            let layers = chunk.config.num_hidden_layers;
            for i in 0..layers - 1 {
                self.layer(&chunk, &model.layer(i));
            }
            self.last_attention(&chunk, &model.layer(layers - 1), first_rows);
            first_rows += posts.len();
        }
        self.first_tokens(model, kernels, first_rows, rest);
    }

    fn embed(&mut self, chunk: &Chunk<'_>, embeddings: &Embeddings<'_>) {
        let Chunk {
            kernels, config, ..
        } = *chunk;
        let (tokens, width) = (chunk.tokens(), embeddings.word.width);
        let stride = padded_n(width);
        self.hidden.grow(tokens * padded_n(config.hidden_size));
        let out = if embeddings.projection.is_some() {
            self.embedded.grow(tokens * stride);
            &mut self.embedded
        } else {
            &mut self.hidden
        };
        for post in chunk.posts() {
            let ids = &chunk.input_ids[post.clone()];
            let rows = &mut out[post.start * stride..post.end * stride];
            kernels.embed(ids, embeddings.word, embeddings.position, rows);
        }
        let eps = config.layer_norm_eps as f32;
        kernels.normalize(out, tokens, width, embeddings.norm, eps, &mut self.codes);
        if let Some(projection) = embeddings.projection {
            let hidden = &mut self.hidden;
            linear(kernels, &self.codes, projection, Epilogue::Store, hidden);
            kernels.quantize(&self.hidden, tokens, projection.n, &mut self.codes);
        }
    }

    fn layer(&mut self, chunk: &Chunk<'_>, layer: &Layer<'_>) {
        let tokens = chunk.tokens();
        let stride = padded_n(layer.qkv.n);
        self.qkv.grow(tokens * stride);
        let kernels = chunk.kernels;
        linear(
            kernels,
            &self.codes,
            layer.qkv,
            Epilogue::Store,
            &mut self.qkv,
        );

        let hidden_stride = padded_n(chunk.config.hidden_size);
        self.context.grow(tokens * hidden_stride);
        for post in chunk.posts() {
            let rows = &self.qkv[post.start * stride..post.end * stride];
            let qkv = Qkv {
                queries: rows,
                query_stride: stride,
                num_queries: post.len(),
                keys_values: rows,
                stride,
                tokens: post.len(),
                num_heads: chunk.config.num_attention_heads,
                head_dim: chunk.config.head_dim(),
            };
            let out = &mut self.context[post.start * hidden_stride..];
            chunk
                .kernels
                .attention(qkv, out, hidden_stride, &mut self.attention);
        }
        let (hidden, codes) = (&mut self.hidden, &mut self.codes);
        let inner = (
            &mut self.context,
            &mut self.intermediate,
            &mut self.inner_codes,
        );
        after_attention(
            chunk.kernels,
            chunk.config,
            layer,
            tokens,
            hidden,
            codes,
            inner,
        );
    }

    /// The last layer up to attention's output: keys and values of all tokens, the
    /// rest for each post's first token. Those are put behind the `row` ones there are.
    fn last_attention(&mut self, chunk: &Chunk<'_>, layer: &Layer<'_>, row: usize) {
        let Chunk {
            kernels, config, ..
        } = *chunk;
        let (tokens, posts) = (chunk.tokens(), chunk.len());
        let hidden = config.hidden_size;
        let (stride, hidden_stride) = (padded_n(layer.qkv.n), padded_n(hidden));
        let first_rows = chunk.posts().map(|post| post.start);

        // Where `hidden` is no multiple of a panel, the panel at the border serves both.
        let first_panel = hidden / NR;
        self.qkv.grow(tokens * stride);
        let columns = &mut self.qkv[first_panel * NR..];
        let key_value_panels = first_panel..stride / NR;
        kernels.linear(
            &self.codes,
            layer.qkv,
            key_value_panels,
            Epilogue::Store,
            columns,
            stride,
        );
        self.first_codes.gather(&self.codes, first_rows.clone());
        self.first_queries.grow(posts * hidden_stride);
        let (codes, queries) = (&self.first_codes, &mut self.first_queries);
        let query_panels = 0..hidden_stride / NR;
        kernels.linear(
            codes,
            layer.qkv,
            query_panels,
            Epilogue::Store,
            queries,
            hidden_stride,
        );

        self.first_context.extend((row + posts) * hidden_stride);
        for (i, post) in chunk.posts().enumerate() {
            let qkv = Qkv {
                queries: &self.first_queries[i * hidden_stride..],
                query_stride: hidden_stride,
                num_queries: 1,
                keys_values: &self.qkv[post.start * stride..post.end * stride],
                stride,
                tokens: post.len(),
                num_heads: config.num_attention_heads,
                head_dim: config.head_dim(),
            };
            let out = &mut self.first_context[(row + i) * hidden_stride..];
            kernels.attention(qkv, out, hidden_stride, &mut self.attention);
        }
        self.first_hidden.extend((row + posts) * hidden_stride);
        let rows = self.first_hidden.chunks_exact_mut(hidden_stride);
        for (out, first) in rows.skip(row).zip(first_rows) {
            out.copy_from_slice(&self.hidden[first * hidden_stride..][..hidden_stride]);
        }
    }

    /// The rest of the last layer and the head for the first tokens of `rows` posts.
    fn first_tokens(
        &mut self,
        model: &dyn Weights,
        kernels: Kernels,
        rows: usize,
        logits: &mut [f32],
    ) {
        let (config, head) = (model.config(), model.head());
        let layer = model.layer(config.num_hidden_layers - 1);
        let (hidden, codes) = (&mut self.first_hidden, &mut self.first_codes);
        let inner = (
            &mut self.first_context,
            &mut self.intermediate,
            &mut self.inner_codes,
        );
        after_attention(kernels, config, &layer, rows, hidden, codes, inner);

        let (mut x, mut stride) = (&self.first_hidden[..], padded_n(config.hidden_size));
        if let Some(dense) = head.dense {
            self.pooled.grow(rows * dense.n);
            let pooled = &mut self.pooled[..rows * dense.n];
            kernels.dense(dense, x, stride, pooled);
            kernels.activate(head.activation, pooled);
            (x, stride) = (pooled, dense.n);
        }
        kernels.dense(head.classifier, x, stride, logits);
    }
}

/// From attention's output (the first buffer of `inner`) to the layer's: `rows` hidden
/// states in place, and their codes.
fn after_attention(
    kernels: Kernels,
    config: &ModelConfig,
    layer: &Layer<'_>,
    rows: usize,
    hidden: &mut [f32],
    codes: &mut Codes,
    inner: (&mut AlignedVec<f32>, &mut AlignedVec<f32>, &mut Codes),
) {
    let (context, intermediate, inner_codes) = inner;
    let size = config.hidden_size;
    let eps = config.layer_norm_eps as f32;
    let norm = |hidden: &mut [f32], norm: LayerNorm<'_>, codes: &mut Codes| {
        kernels.normalize(hidden, rows, size, norm, eps, codes);
    };
    kernels.quantize(context, rows, size, inner_codes);
    linear(
        kernels,
        inner_codes,
        layer.attention_output,
        Epilogue::Add,
        hidden,
    );
    norm(hidden, layer.attention_norm, codes);

    intermediate.grow(rows * padded_n(layer.intermediate.n));
    linear(
        kernels,
        codes,
        layer.intermediate,
        Epilogue::Store,
        intermediate,
    );
    let width = layer.intermediate.n;
    kernels.activate_and_quantize(config.hidden_act, intermediate, rows, width, inner_codes);
    linear(kernels, inner_codes, layer.output, Epilogue::Add, hidden);
    norm(hidden, layer.output_norm, codes);
}
