//! The decoders that GGUF files hold, on candle: Llama (and `SmolLM`, which is one), Qwen 2 and 3,
//! and Gemma 3. They are one network with parts that a family has or has not, so this is one
//! module: `candle-transformers` has a module for each, which keeps keys and values to itself and
//! gives logits at the last position alone. Here keys and values are a value that the next
//! forward pass may start from, as often as needed.
//!
//! Nor is its `quantized_gemma3` (0.11.1) the model: it gates with `SiLU` where Gemma has GELU, and
//! its windows are one token too long and do not apply to keys of the past. In this decoder,
//! `SiLU` moves logits of the tests' tiny model by up to 2.1 and a longer window by up to 5.5; as
//! it is, they are within 0.00001 of transformers'.
//!
//! Llama: <https://arxiv.org/abs/2307.09288>, Qwen 3: <https://arxiv.org/abs/2505.09388>,
//! Gemma 3: <https://arxiv.org/abs/2503.19786>. Names of tensors and metadata are llama.cpp's.

use super::gguf::{Gguf, Rows};
use candle_core::{Device, Result, Tensor};
use candle_nn::ops::{rms_norm, softmax_last_dim};
use candle_nn::rotary_emb::{rope, rope_i};
use coldread_model::LoadError;

/// Limits that no small model comes near and that keep size arithmetic far from overflow.
const MAX_LAYERS: usize = 256;
const MAX_HEADS: usize = 1 << 10;
const MAX_HEAD_DIM: usize = 1 << 10;
const MAX_HIDDEN: usize = 1 << 15;
const MAX_INTERMEDIATE: usize = 1 << 17;
pub(crate) const MAX_VOCAB: usize = 1 << 20;
const MAX_CONTEXT: usize = 1 << 24;

/// In Gemma 3 every sixth layer sees everything, the others a window.
const GEMMA3_GLOBAL_EVERY: usize = 6;

/// Gemma 3 of 27 billion parameters alone scales queries by another number; it has this many layers.
const GEMMA3_27B_LAYERS: usize = 62;

/// The families of decoders that run here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Family {
    Llama,
    Qwen2,
    Qwen3,
    Gemma3,
}

/// What the metadata says of the network.
#[derive(Debug)]
pub(crate) struct Config {
    pub(crate) family: Family,
    pub(crate) vocab_size: usize,
    pub(crate) context_length: usize,
    hidden_size: usize,
    intermediate_size: usize,
    pub(crate) num_layers: usize,
    num_heads: usize,
    num_kv_heads: usize,
    head_dim: usize,
    norm_eps: f32,
    rope_base: f64,
    rope_factor: f64,
    local_rope_base: f64,
    /// How many tokens a local layer sees, the token itself included.
    window: Option<usize>,
}

impl Config {
    /// Reads the metadata, and rejects by name what does not run here.
    pub(crate) fn read(gguf: &Gguf, vocab_size: usize) -> std::result::Result<Self, LoadError> {
        let architecture = gguf
            .text("general.architecture")?
            .ok_or_else(|| gguf.invalid("general.architecture is missing"))?;
        let family = match architecture {
            "llama" => Family::Llama,
            "qwen2" => Family::Qwen2,
            "qwen3" => Family::Qwen3,
            "gemma3" => Family::Gemma3,
            other => {
                return Err(gguf.unsupported(format!(
                    "the architecture {other:?}; supported are llama (SmolLM as well), qwen2, \
                     qwen3 and gemma3"
                )));
            }
        };
        let key = |name: &str| format!("{architecture}.{name}");
        let optional = |name: &str, max: usize| match gguf.count(&key(name))? {
            Some(n) if n == 0 || n > max => {
                Err(gguf.invalid(format!("{} is {n}, not between 1 and {max}", key(name))))
            }
            n => Ok(n),
        };
        let count = |name: &str, max: usize| {
            optional(name, max)?.ok_or_else(|| gguf.invalid(format!("{} is missing", key(name))))
        };
        let positive = |name: &str| match gguf.float(&key(name))? {
            Some(x) if x <= 0.0 => Err(gguf.invalid(format!("{} is not above 0", key(name)))),
            x => Ok(x),
        };
        if gguf.count(&key("expert_count"))?.unwrap_or(0) > 0 {
            return Err(gguf.unsupported("a mixture of experts"));
        }
        let rope_factor = match gguf.text(&key("rope.scaling.type"))? {
            None | Some("none") => 1.0,
            Some("linear") => positive("rope.scaling.factor")?.unwrap_or(1.0),
            Some(other) => {
                return Err(gguf.unsupported(format!("rotary positions scaled by {other}")));
            }
        };
        let (hidden_size, num_heads) = (
            count("embedding_length", MAX_HIDDEN)?,
            count("attention.head_count", MAX_HEADS)?,
        );
        let num_kv_heads = optional("attention.head_count_kv", MAX_HEADS)?.unwrap_or(num_heads);
        let head_dim =
            optional("attention.key_length", MAX_HEAD_DIM)?.unwrap_or(hidden_size / num_heads);
        let value_dim = optional("attention.value_length", MAX_HEAD_DIM)?.unwrap_or(head_dim);
        let rope_dim = optional("rope.dimension_count", MAX_HEAD_DIM)?.unwrap_or(head_dim);
        if !num_heads.is_multiple_of(num_kv_heads) || head_dim < 2 || !head_dim.is_multiple_of(2) {
            return Err(gguf.invalid(format!(
                "{num_heads} heads on {num_kv_heads} heads of keys and values, {head_dim} wide"
            )));
        }
        if value_dim != head_dim || rope_dim != head_dim {
            return Err(gguf.unsupported(format!(
                "heads of {head_dim} with values of {value_dim} and {rope_dim} rotary dimensions"
            )));
        }
        let is_gemma = family == Family::Gemma3;
        Ok(Self {
            family,
            vocab_size,
            context_length: count("context_length", MAX_CONTEXT)?,
            hidden_size,
            intermediate_size: count("feed_forward_length", MAX_INTERMEDIATE)?,
            num_layers: count("block_count", MAX_LAYERS)?,
            num_heads,
            num_kv_heads,
            head_dim,
            norm_eps: positive("attention.layer_norm_rms_epsilon")?.unwrap_or(1e-6) as f32,
            rope_base: positive("rope.freq_base")?.unwrap_or(if is_gemma { 1e6 } else { 1e4 }),
            rope_factor,
            local_rope_base: positive("rope.freq_base_swa")?.unwrap_or(1e4),
            window: match family {
                Family::Gemma3 => Some(count("attention.sliding_window", MAX_CONTEXT)?),
                _ => None,
            },
        })
    }

    /// How many bytes keys and values of a token take.
    pub(crate) fn cache_bytes_per_token(&self) -> usize {
        2 * self.num_layers * self.num_kv_heads * self.head_dim * size_of::<f32>()
    }

    /// How many bytes a forward pass holds at most at a time for each token, attention's scores
    /// apart.
    pub(crate) fn activation_bytes_per_token(&self) -> usize {
        let heads = self.num_heads * self.head_dim;
        (6 * self.hidden_size + 3 * heads + 4 * self.intermediate_size) * size_of::<f32>()
    }

    /// How many bytes attention's scores take for `tokens` that see `visible` each.
    pub(crate) fn score_bytes(&self, tokens: usize, visible: usize) -> usize {
        3 * self.num_heads * tokens * visible * size_of::<f32>()
    }

    fn is_local(&self, layer: usize) -> bool {
        self.window.is_some() && !(layer + 1).is_multiple_of(GEMMA3_GLOBAL_EVERY)
    }

    fn query_scale(&self) -> f64 {
        let per_head = if self.family == Family::Gemma3 && self.num_layers == GEMMA3_27B_LAYERS {
            self.hidden_size / self.num_heads
        } else {
            self.head_dim
        };
        (per_head as f64).sqrt().recip()
    }
}

/// Keys and values of tokens by layer, `[kv_heads, tokens, head_dim]` each.
pub(crate) struct Cache {
    layers: Vec<(Tensor, Tensor)>,
    tokens: usize,
}

impl Cache {
    /// Of no tokens.
    pub(crate) fn empty() -> Self {
        Self {
            layers: Vec::new(),
            tokens: 0,
        }
    }
}

/// Tokens that go on from a cache: a trunk, and branches that each go on from the trunk and know
/// nothing of one another.
pub(crate) struct Continuation<'a> {
    pub(crate) trunk: &'a [u32],
    pub(crate) branches: &'a [&'a [u32]],
}

/// A network without its output layer.
pub(crate) struct Decoder {
    pub(crate) config: Config,
    embedding: Rows,
    layers: Vec<Layer>,
    norm: Tensor,
    rotary: Rotary,
    local_rotary: Rotary,
}

struct Layer {
    attention_norm: Tensor,
    query: Linear,
    key: Linear,
    value: Linear,
    /// Norms of each head's query and key.
    head_norms: Option<(Tensor, Tensor)>,
    output: Linear,
    post_attention_norm: Option<Tensor>,
    feed_forward_norm: Tensor,
    gate: Linear,
    up: Linear,
    down: Linear,
    post_feed_forward_norm: Option<Tensor>,
    is_local: bool,
}

struct Linear {
    /// `[in, out]`, a view of the file's `[out, in]`.
    weight: Tensor,
    bias: Option<Tensor>,
}

impl Linear {
    fn read(
        gguf: &Gguf,
        name: &str,
        [rows, columns]: [usize; 2],
    ) -> std::result::Result<Self, LoadError> {
        let weight = gguf.matrix(&format!("{name}.weight"), [rows, columns])?;
        let bias = format!("{name}.bias");
        Ok(Self {
            weight: weight.t().map_err(|e| gguf.invalid(e.to_string()))?,
            bias: gguf
                .has_tensor(&bias)
                .then(|| gguf.vector(&bias, rows))
                .transpose()?,
        })
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let y = x.matmul(&self.weight)?;
        match &self.bias {
            Some(bias) => y.broadcast_add(bias),
            None => Ok(y),
        }
    }
}

/// Angles of rotary positions.
struct Rotary {
    inverse_frequencies: Vec<f32>,
    /// Whether pairs are neighbours, as llama.cpp lays Llama's heads out, or half a head apart.
    interleaved: bool,
}

impl Rotary {
    fn new(config: &Config, base: f64, factors: &[f32]) -> Self {
        let dim = config.head_dim;
        let frequency = |i: usize| {
            let factor = f64::from(factors.get(i).copied().unwrap_or(1.0));
            (base.powf(-2.0 * i as f64 / dim as f64) / factor) as f32
        };
        Self {
            inverse_frequencies: (0..dim / 2).map(frequency).collect(),
            interleaved: config.family == Family::Llama,
        }
    }

    /// Cosines and sines, `[positions, head_dim / 2]`.
    fn angles(&self, positions: &[usize]) -> Result<(Tensor, Tensor)> {
        let frequencies = &self.inverse_frequencies;
        let angles: Vec<f32> = positions
            .iter()
            .flat_map(|&p| frequencies.iter().map(move |f| p as f32 * f))
            .collect();
        let angles = Tensor::from_vec(angles, (positions.len(), frequencies.len()), &Device::Cpu)?;
        Ok((angles.cos()?, angles.sin()?))
    }

    /// Turns `[heads, tokens, head_dim]`.
    fn turn(&self, x: &Tensor, (cos, sin): &(Tensor, Tensor)) -> Result<Tensor> {
        let x = x.unsqueeze(0)?;
        let turned = if self.interleaved {
            rope_i(&x, cos, sin)
        } else {
            rope(&x, cos, sin)
        };
        turned?.squeeze(0)
    }
}

/// What is the same for every layer of one kind in one forward pass.
struct Pass<'a> {
    rotary: &'a Rotary,
    angles: (Tensor, Tensor),
    /// 0 where a token sees another and minus infinity elsewhere, `[tokens, visible]`.
    mask: Tensor,
}

impl<'a> Pass<'a> {
    fn new(
        rotary: &'a Rotary,
        past: usize,
        tokens: &Continuation<'_>,
        positions: &[usize],
        window: Option<usize>,
    ) -> Result<Self> {
        Ok(Self {
            rotary,
            angles: rotary.angles(positions)?,
            mask: mask(past, tokens, positions, window)?,
        })
    }
}

impl Decoder {
    pub(crate) fn load(gguf: &Gguf, config: Config) -> std::result::Result<Self, LoadError> {
        let hidden = config.hidden_size;
        let factors = if gguf.has_tensor("rope_freqs.weight") {
            gguf.vector("rope_freqs.weight", config.head_dim / 2)?
                .to_vec1::<f32>()
                .map_err(|e| gguf.invalid(e.to_string()))?
        } else {
            vec![config.rope_factor as f32; config.head_dim / 2]
        };
        if !factors.iter().all(|&factor| factor > 0.0) {
            return Err(gguf.invalid("tensor rope_freqs.weight has a number that is not above 0"));
        }
        let layers = (0..config.num_layers).map(|i| Layer::load(gguf, &config, i));
        Ok(Self {
            embedding: gguf.rows("token_embd.weight", [config.vocab_size, hidden])?,
            layers: layers.collect::<std::result::Result<_, _>>()?,
            norm: gguf.vector("output_norm.weight", hidden)?,
            rotary: Rotary::new(&config, config.rope_base, &factors),
            local_rotary: Rotary::new(&config, config.local_rope_base, &[]),
            config,
        })
    }

    /// The output layer's rows, which stay in the file: the embedding's, unless it has its own.
    pub(crate) fn output(&self, gguf: &Gguf) -> std::result::Result<Rows, LoadError> {
        let name = if gguf.has_tensor("output.weight") {
            "output.weight"
        } else {
            "token_embd.weight"
        };
        gguf.rows(name, [self.config.vocab_size, self.config.hidden_size])
    }

    /// Hidden states after the last norm, of the trunk's last token and of all tokens of the
    /// branches, `[1 + branches' tokens, hidden]`; and keys and values of the past and the trunk.
    ///
    /// # Panics
    /// If the trunk is empty.
    pub(crate) fn forward(
        &self,
        gguf: &Gguf,
        past: &Cache,
        tokens: &Continuation<'_>,
    ) -> Result<(Tensor, Cache)> {
        let trunk = tokens.trunk.len();
        assert!(trunk > 0, "a forward pass has tokens");
        let ids = [tokens.trunk, &tokens.branches.concat()].concat();
        let positions = positions(past.tokens, tokens);
        let pass = |rotary, window| Pass::new(rotary, past.tokens, tokens, &positions, window);
        let global = pass(&self.rotary, None)?;
        let local = match self.config.window {
            Some(window) => Some(pass(&self.local_rotary, Some(window))?),
            None => None,
        };
        let mut x = self.embedding.get(gguf, &ids)?;
        if self.config.family == Family::Gemma3 {
            x = (x * (self.config.hidden_size as f64).sqrt())?;
        }
        let mut cache = Cache {
            layers: Vec::with_capacity(self.layers.len()),
            tokens: past.tokens + trunk,
        };
        for (i, layer) in self.layers.iter().enumerate() {
            let pass = local.as_ref().filter(|_| layer.is_local).unwrap_or(&global);
            let (y, keys, values) = layer.forward(&self.config, &x, past.layers.get(i), pass)?;
            x = y;
            cache.layers.push((
                keys.narrow(1, 0, cache.tokens)?,
                values.narrow(1, 0, cache.tokens)?,
            ));
        }
        let x = x.narrow(0, trunk - 1, ids.len() - trunk + 1)?;
        Ok((norm(&x, &self.norm, &self.config)?, cache))
    }
}

impl Layer {
    fn load(gguf: &Gguf, config: &Config, layer: usize) -> std::result::Result<Self, LoadError> {
        let (hidden, inner) = (config.hidden_size, config.intermediate_size);
        let queries = config.num_heads * config.head_dim;
        let keys = config.num_kv_heads * config.head_dim;
        let name = |part: &str| format!("blk.{layer}.{part}");
        let vector = |part: &str, len| gguf.vector(&name(&format!("{part}.weight")), len);
        let linear = |part: &str, shape| Linear::read(gguf, &name(part), shape);
        let is_gemma = config.family == Family::Gemma3;
        let has_head_norms = is_gemma || config.family == Family::Qwen3;
        let gemma_norm = |part: &str| is_gemma.then(|| vector(part, hidden)).transpose();
        Ok(Self {
            attention_norm: vector("attn_norm", hidden)?,
            query: linear("attn_q", [queries, hidden])?,
            key: linear("attn_k", [keys, hidden])?,
            value: linear("attn_v", [keys, hidden])?,
            head_norms: has_head_norms
                .then(|| {
                    let query = vector("attn_q_norm", config.head_dim)?;
                    Ok((query, vector("attn_k_norm", config.head_dim)?))
                })
                .transpose()?,
            output: linear("attn_output", [hidden, queries])?,
            post_attention_norm: gemma_norm("post_attention_norm")?,
            feed_forward_norm: vector("ffn_norm", hidden)?,
            gate: linear("ffn_gate", [inner, hidden])?,
            up: linear("ffn_up", [inner, hidden])?,
            down: linear("ffn_down", [hidden, inner])?,
            post_feed_forward_norm: gemma_norm("post_ffw_norm")?,
            is_local: config.is_local(layer),
        })
    }

    /// Hidden states, and keys and values of all tokens so far.
    fn forward(
        &self,
        config: &Config,
        x: &Tensor,
        past: Option<&(Tensor, Tensor)>,
        pass: &Pass<'_>,
    ) -> Result<(Tensor, Tensor, Tensor)> {
        let normed = norm(x, &self.attention_norm, config)?;
        let (attended, keys, values) = self.attention(config, &normed, past, pass)?;
        let attended = match &self.post_attention_norm {
            Some(weight) => norm(&attended, weight, config)?,
            None => attended,
        };
        let x = (x + attended)?;
        let normed = norm(&x, &self.feed_forward_norm, config)?;
        let gate = self.gate.forward(&normed)?;
        // Gemma's GELU is the tanh approximation, which candle calls plain `gelu`.
        let gate = match config.family {
            Family::Gemma3 => gate.gelu()?,
            _ => gate.silu()?,
        };
        let y = self.down.forward(&(gate * self.up.forward(&normed)?)?)?;
        let y = match &self.post_feed_forward_norm {
            Some(weight) => norm(&y, weight, config)?,
            None => y,
        };
        Ok(((x + y)?, keys, values))
    }

    fn attention(
        &self,
        config: &Config,
        x: &Tensor,
        past: Option<&(Tensor, Tensor)>,
        pass: &Pass<'_>,
    ) -> Result<(Tensor, Tensor, Tensor)> {
        let tokens = x.dim(0)?;
        let (heads, kv_heads, dim) = (config.num_heads, config.num_kv_heads, config.head_dim);
        let by_head = |x: Tensor, heads| {
            x.reshape((tokens, heads, dim))?
                .transpose(0, 1)?
                .contiguous()
        };
        let mut query = by_head(self.query.forward(x)?, heads)?;
        let mut key = by_head(self.key.forward(x)?, kv_heads)?;
        let mut value = by_head(self.value.forward(x)?, kv_heads)?;
        if let Some((query_norm, key_norm)) = &self.head_norms {
            query = norm(&query, query_norm, config)?;
            key = norm(&key, key_norm, config)?;
        }
        query = (pass.rotary.turn(&query, &pass.angles)? * config.query_scale())?;
        key = pass.rotary.turn(&key, &pass.angles)?;
        if let Some((keys, values)) = past {
            key = Tensor::cat(&[keys, &key], 1)?;
            value = Tensor::cat(&[values, &value], 1)?;
        }
        let visible = key.dim(1)?;
        // Query heads that share keys and values lie one after another: as rows of one matrix
        // they need no copies of them.
        let group = heads / kv_heads;
        let scores = query
            .reshape((kv_heads, group * tokens, dim))?
            .matmul(&key.transpose(1, 2)?)?
            .reshape((heads, tokens, visible))?
            .broadcast_add(&pass.mask)?;
        let attended = softmax_last_dim(&scores)?
            .reshape((kv_heads, group * tokens, visible))?
            .matmul(&value)?
            .reshape((heads, tokens, dim))?
            .transpose(0, 1)?
            .contiguous()?
            .reshape((tokens, heads * dim))?;
        Ok((self.output.forward(&attended)?, key, value))
    }
}

fn norm(x: &Tensor, weight: &Tensor, config: &Config) -> Result<Tensor> {
    rms_norm(&x.contiguous()?, weight, config.norm_eps)
}

/// The positions of a continuation's tokens: every branch goes on from the trunk's end.
fn positions(past: usize, tokens: &Continuation<'_>) -> Vec<usize> {
    let end = past + tokens.trunk.len();
    let branches = tokens
        .branches
        .iter()
        .flat_map(|branch| end..end + branch.len());
    (past..end).chain(branches).collect()
}

/// What each token of a continuation sees: the past, the trunk and its own branch, up to itself
/// and at most `window` tokens back.
fn mask(
    past: usize,
    tokens: &Continuation<'_>,
    positions: &[usize],
    window: Option<usize>,
) -> Result<Tensor> {
    let trunk = tokens.trunk.len();
    // The branch of each token; the trunk's have none.
    let branches = tokens.branches.iter().enumerate();
    let branch: Vec<Option<usize>> = std::iter::repeat_n(None, trunk)
        .chain(branches.flat_map(|(i, branch)| std::iter::repeat_n(Some(i), branch.len())))
        .collect();
    let count = positions.len();
    let mut mask = Vec::with_capacity(count * (past + count));
    for i in 0..count {
        let is_near = |position| window.is_none_or(|window| positions[i] - position < window);
        let sees = |j: usize| {
            j <= i && (branch[j].is_none() || branch[j] == branch[i]) && is_near(positions[j])
        };
        let number = |visible| if visible { 0.0 } else { f32::NEG_INFINITY };
        mask.extend((0..past).map(|position| number(is_near(position))));
        mask.extend((0..count).map(|j| number(sees(j))));
    }
    Tensor::from_vec(mask, (count, past + count), &Device::Cpu)
}
