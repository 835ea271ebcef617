//! A language model as a classifier: how likely it is to go on from a prompt with a post with
//! each label's words.
//!
//! Nothing is generated. The prompt's beginning is computed once; a post costs its own tokens and
//! the few behind it. A word's score is the sum of its tokens' log-likelihoods, a label's the
//! logarithm of its words' likelihoods added up, less that of the same words where the post is
//! empty (<https://arxiv.org/abs/2102.09690>); softmax makes scores of the labels' differences.
//!
//! The first tokens of all words stand at the same place, so that the sum over the vocabulary
//! which would make log-likelihoods of their logits is the same for all, and softmax takes it
//! away again. Words of one token thus need a row of the output layer each, and not all of it,
//! which is most of a small model. For words of more tokens it is read through once a post,
//! from the file and a part at a time.

use super::decoder::{Cache, Config, Continuation, Decoder};
use super::gguf::{Gguf, Rows};
use super::prompt::{Chat, EncodedPrompt, Prompt};
use super::vocabulary::Vocabulary;
use candle_core::{Result, Tensor};
use coldread_engine::engine::{EncodedBatch, Engine, EngineInfo};
use coldread_engine::text::{EmojiSource, Normalizer, TextPipeline, Tokenizer};
use coldread_engine::{EngineError, Model, ModelInfo, ModelOptions};
use coldread_model::config::MAX_TOKENS;
use coldread_model::profile::VERSION;
use coldread_model::{LoadError, NormalizationProfile};
use serde_json::json;
use std::num::NonZeroUsize;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The least room for a post that a prompt has to leave.
const MIN_POST_TOKENS: usize = 16;

/// A language model that scores posts. Clones share everything.
#[derive(Clone)]
pub struct ZeroShot(Arc<Inner>);

struct Inner {
    gguf: Arc<Gguf>,
    decoder: Decoder,
    words: Words,
    prefix: Cache,
    suffix: Vec<u32>,
    /// What each label scores where the post is empty.
    baseline: Vec<f32>,
    evaluated: AtomicUsize,
    summary: Summary,
}

/// What a model may use.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// How much memory the process may use; `None` is any amount.
    pub memory_bytes: Option<u64>,
    /// How many posts are scored at a time at most.
    pub workers: NonZeroUsize,
}

/// What a start should tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Summary {
    /// How the prompt is written: `plain` or a family of chat models.
    pub prompt: &'static str,
    /// Tokens before the post, which are computed once.
    pub prefix_tokens: usize,
    /// The longest post in tokens.
    pub max_post_tokens: usize,
    /// About how much memory the process needs at most.
    pub memory_bytes: usize,
}

/// Loads a GGUF file with a prompt, if it fits into the memory. The options' instruction set and
/// threads have no effect.
///
/// # Errors
/// If the file cannot be read, is not a sound GGUF, is of an architecture or has a tokenizer that
/// does not run here, needs more memory than the limit, or leaves no room for prompt and post.
pub fn load_gguf(
    path: &Path,
    prompt: &Prompt,
    limits: Limits,
    options: &ModelOptions,
) -> std::result::Result<(Model, ZeroShot), LoadError> {
    let gguf = Arc::new(Gguf::open(path)?);
    let config = {
        // Rejects another architecture before its vocabulary is looked at.
        let tokens = gguf.texts("tokenizer.ggml.tokens")?;
        Config::read(&gguf, tokens.map_or(0, |tokens| tokens.len()))?
    };
    let vocabulary = Arc::new(Vocabulary::read(&gguf)?);
    let normalizer = one_line();
    let template = gguf.text("tokenizer.chat_template")?.unwrap_or_default();
    let chat = Chat::of_template(template, &vocabulary);
    let encoded = prompt
        .encode(&vocabulary, &normalizer, chat)
        .map_err(|reason| gguf.invalid(format!("the prompt: {reason}")))?;
    let max_post_tokens = room(&gguf, &config, &encoded)?;
    let words = Plan::new(&encoded.words);
    let summary = Summary {
        prompt: prompt.style(chat),
        prefix_tokens: encoded.prefix.len(),
        max_post_tokens,
        memory_bytes: memory(
            &gguf,
            &config,
            &vocabulary,
            &encoded,
            &words,
            max_post_tokens,
            limits.workers,
        ),
    };
    if let Some(limit) = limits.memory_bytes
        && summary.memory_bytes as u64 > limit
    {
        return Err(gguf.unsupported(format!(
            "it needs about {} MB of memory with {} worker{}, and this process may use {} MB",
            summary.memory_bytes.div_ceil(1 << 20),
            limits.workers,
            if limits.workers.get() == 1 { "" } else { "s" },
            limit >> 20,
        )));
    }
    let engine = ZeroShot::new(&gguf, config, &encoded, words, summary)?;
    let info = ModelInfo::single_label(name(path), prompt.labels(), max_post_tokens);
    let text = text(vocabulary, &encoded);
    let model = options.with_engine(info, text, Box::new(engine.clone()));
    Ok((model, engine))
}

/// The way from a post to the tokens that it has in a prompt.
pub(crate) fn text(vocabulary: Arc<Vocabulary>, encoded: &EncodedPrompt) -> TextPipeline {
    let (lead, starts) = (encoded.lead, encoded.post_starts);
    let vocab_size = vocabulary.len();
    let encode = move |post: &str, ids: &mut Vec<u32>| match post {
        "" => Ok(()),
        post => vocabulary.encode(&format!("{lead}{post}"), starts, ids),
    };
    TextPipeline::custom(Some(one_line()), Tokenizer::custom(encode, vocab_size))
}

/// White space becomes single spaces, so that a post cannot end the line that it has in a prompt.
pub(crate) fn one_line() -> Normalizer {
    let no_steps = json!({ "version": VERSION });
    let profile: NormalizationProfile =
        serde_json::from_value(no_steps).expect("a profile may have no steps");
    Normalizer::new(&profile, EmojiSource::Owned(Vec::new()))
}

fn name(path: &Path) -> &str {
    let stem = path.file_stem().and_then(|stem| stem.to_str());
    stem.unwrap_or("gguf")
}

/// How many tokens a post may have.
fn room(
    gguf: &Gguf,
    config: &Config,
    encoded: &EncodedPrompt,
) -> std::result::Result<usize, LoadError> {
    let words = encoded.words.iter().flatten().map(Vec::len);
    let prompt = encoded.prefix.len() + encoded.suffix.len() + words.max().unwrap_or(0);
    let room = config.context_length.saturating_sub(prompt);
    if room < MIN_POST_TOKENS {
        return Err(gguf.unsupported(format!(
            "the prompt has {prompt} tokens, which leaves no room for a post in a context of {}",
            config.context_length
        )));
    }
    Ok(room.min(MAX_TOKENS))
}

/// About how many bytes the model takes in memory.
fn memory(
    gguf: &Gguf,
    config: &Config,
    vocabulary: &Vocabulary,
    encoded: &EncodedPrompt,
    words: &Plan,
    max_post_tokens: usize,
    workers: NonZeroUsize,
) -> usize {
    // What the process has without a model.
    const PROCESS: usize = 16 << 20;
    // The embedding and the output layer stay in the file, of which a page is in memory only as
    // long as nothing else needs the room.
    let weights = gguf.f32_bytes(|name| !matches!(name, "token_embd.weight" | "output.weight"));
    // Of a forward pass of so many tokens after others.
    let pass = |tokens: usize, past: usize| {
        let cache = config
            .cache_bytes_per_token()
            .saturating_mul(past + 2 * tokens);
        let activations = config.activation_bytes_per_token().saturating_mul(tokens);
        cache
            .saturating_add(activations)
            .saturating_add(config.score_bytes(tokens, past + tokens))
    };
    let prefix = encoded.prefix.len();
    let post = max_post_tokens + encoded.suffix.len() + words.branch_tokens();
    // The prefix is computed before the first post.
    let passes = pass(prefix, 0).max(pass(post, prefix).saturating_mul(workers.get()));
    let parts = [PROCESS, vocabulary.bytes(), weights, passes];
    parts.into_iter().fold(0, usize::saturating_add)
}

/// Which tokens of the labels' words are computed and where their scores come from.
struct Plan {
    /// The first tokens of all words.
    first: Vec<u32>,
    /// All tokens but the last of words of more than one.
    branches: Vec<Vec<u32>>,
    /// What follows each token of the branches.
    further: Vec<u32>,
    labels: Vec<Vec<Word>>,
}

struct Word {
    /// The place of its first token.
    first: usize,
    /// The places of its further ones.
    rest: Range<usize>,
}

impl Plan {
    fn new(labels: &[Vec<Vec<u32>>]) -> Self {
        let mut plan = Self {
            first: Vec::new(),
            branches: Vec::new(),
            further: Vec::new(),
            labels: Vec::new(),
        };
        for words in labels {
            let words = words.iter().map(|tokens| {
                let (first, rest) = (plan.first.len(), plan.further.len());
                plan.first.push(tokens[0]);
                plan.further.extend_from_slice(&tokens[1..]);
                if tokens.len() > 1 {
                    plan.branches.push(tokens[..tokens.len() - 1].to_vec());
                }
                let rest = rest..plan.further.len();
                Word { first, rest }
            });
            let words = words.collect();
            plan.labels.push(words);
        }
        plan
    }

    fn branch_tokens(&self) -> usize {
        self.further.len()
    }
}

/// The plan, with the output layer.
struct Words {
    plan: Plan,
    /// The output layer's rows of the first tokens, `[words, hidden]`.
    first: Tensor,
    output: Rows,
}

impl Words {
    /// The log-likelihood of each token after the hidden state in its row.
    fn log_likelihoods(&self, gguf: &Gguf, hidden: &Tensor, tokens: &[u32]) -> Result<Vec<f64>> {
        // Some megabytes at a time.
        const ROWS: usize = 4096;
        let own = (hidden * self.output.get(gguf, tokens)?)?.sum(1)?;
        let own: Vec<f32> = own.to_vec1()?;
        let mut sums = vec![(f64::NEG_INFINITY, 0.0); tokens.len()];
        for rows in self.output.chunks(gguf, ROWS) {
            let logits: Vec<Vec<f32>> = hidden.matmul(&rows?.t()?)?.to_vec2()?;
            for ((max, sum), logits) in sums.iter_mut().zip(&logits) {
                let logits = logits.iter().map(|&logit| f64::from(logit));
                let higher = logits.clone().fold(*max, f64::max);
                *sum *= (*max - higher).exp();
                *sum += logits.map(|logit| (logit - higher).exp()).sum::<f64>();
                *max = higher;
            }
        }
        let all = sums.iter().map(|(max, sum)| max + sum.ln());
        Ok(own
            .iter()
            .zip(all)
            .map(|(&own, all)| f64::from(own) - all)
            .collect())
    }
}

impl ZeroShot {
    fn new(
        gguf: &Arc<Gguf>,
        config: Config,
        encoded: &EncodedPrompt,
        plan: Plan,
        summary: Summary,
    ) -> std::result::Result<Self, LoadError> {
        let decoder = Decoder::load(gguf, config)?;
        let candle = |e: candle_core::Error| gguf.invalid(e.to_string());
        let output = decoder.output(gguf)?;
        let words = Words {
            first: output.get(gguf, &plan.first).map_err(candle)?,
            output,
            plan,
        };
        let mut inner = Inner {
            evaluated: AtomicUsize::new(0),
            prefix: Cache::empty(),
            suffix: encoded.suffix.clone(),
            baseline: vec![0.0; encoded.words.len()],
            summary,
            words,
            decoder,
            gguf: Arc::clone(gguf),
        };
        if !encoded.prefix.is_empty() {
            let trunk = &encoded.prefix;
            inner.prefix = inner.forward(trunk, &[]).map_err(candle)?.1;
        }
        inner.baseline = inner.scores(&[]).map_err(candle)?;
        if !inner.baseline.iter().all(|score| score.is_finite()) {
            return Err(gguf.invalid("its weights give scores that are not finite"));
        }
        Ok(Self(Arc::new(inner)))
    }

    /// What a start should tell.
    pub fn summary(&self) -> Summary {
        self.0.summary
    }

    /// How many tokens have been computed since the file was opened, over all clones.
    pub fn evaluated_tokens(&self) -> usize {
        self.0.evaluated.load(Ordering::Relaxed)
    }

    /// What each label scores where the post is empty.
    pub fn baseline(&self) -> &[f32] {
        &self.0.baseline
    }
}

impl Inner {
    fn forward(&self, trunk: &[u32], branches: &[&[u32]]) -> Result<(Tensor, Cache)> {
        let tokens = trunk.len() + branches.iter().map(|branch| branch.len()).sum::<usize>();
        self.evaluated.fetch_add(tokens, Ordering::Relaxed);
        let tokens = Continuation { trunk, branches };
        self.decoder.forward(&self.gguf, &self.prefix, &tokens)
    }

    /// The labels' log-likelihoods after a post, up to a number that is the same for all.
    fn scores(&self, post: &[u32]) -> Result<Vec<f32>> {
        let Words { plan, first, .. } = &self.words;
        let trunk = [post, &self.suffix].concat();
        let branches: Vec<&[u32]> = plan.branches.iter().map(Vec::as_slice).collect();
        let (hidden, _) = self.forward(&trunk, &branches)?;
        let logits = hidden.narrow(0, 0, 1)?.matmul(&first.t()?)?.squeeze(0)?;
        let logits: Vec<f32> = logits.to_vec1()?;
        let further = match plan.further.len() {
            0 => Vec::new(),
            rows => {
                let hidden = hidden.narrow(0, 1, rows)?;
                self.words
                    .log_likelihoods(&self.gguf, &hidden, &plan.further)?
            }
        };
        let word = |word: &Word| {
            f64::from(logits[word.first]) + further[word.rest.clone()].iter().sum::<f64>()
        };
        let label = |words: &Vec<Word>| {
            let words: Vec<f64> = words.iter().map(word).collect();
            let max = words.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let sum: f64 = words.iter().map(|word| (word - max).exp()).sum();
            (max + sum.ln()) as f32
        };
        Ok(plan.labels.iter().map(label).collect())
    }
}

impl Engine for ZeroShot {
    fn forward(
        &mut self,
        batch: &EncodedBatch,
        logits: &mut Vec<f32>,
    ) -> std::result::Result<(), EngineError> {
        for post in batch.posts() {
            let scores = self
                .0
                .scores(post)
                .map_err(|e| EngineError::Backend(e.into()))?;
            let calibrated = scores.iter().zip(&self.0.baseline).map(|(s, b)| s - b);
            logits.extend(calibrated);
        }
        Ok(())
    }

    fn fork(&self) -> Box<dyn Engine> {
        Box::new(self.clone())
    }

    fn info(&self) -> EngineInfo {
        EngineInfo {
            engine: "candle-gguf",
            isa: None,
            weight_range: None,
            threads: 1,
            batches: false,
        }
    }
}
