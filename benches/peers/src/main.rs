//! Rust engines beside coldread: one engine a process, driven by lines.
//!
//! ```text
//! coldread-peers ENGINE WEIGHTS MODEL_FOLDER POSTS
//!
//! load           reads weights and tokenizer        {"ms": ..}
//! single T       one post of T tokens               {"ms": ..}   median
//! uniform B T    B posts of T tokens                {"ms": ..}   median
//! mixed B [N]    text to scores, every Nth post, sorted by length, batches of B, padded
//!                                                   {"ms": .., "posts": .., "tokens": ..}
//! labels         of the last `mixed`, in the order of the file   [..]
//! ```
//!
//! `peers.py` starts several of these and has them speak in turn; `worker.py` is the
//! same for the engines that are used from Python. An error is `{"error": ".."}`.

mod candle_f32;
mod candle_q8;
mod rten_onnx;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use std::io::{BufRead, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tokenizers::{Tokenizer, TruncationParams};

/// For how long a shape is repeated.
const MEASURE: Duration = Duration::from_millis(600);
const MIN_RUNS: usize = 5;

/// Posts of a batch, each padded to the longest.
pub struct Batch {
    pub input_ids: Vec<u32>,
    pub attention_mask: Vec<u32>,
    pub posts: usize,
    pub tokens: usize,
}

impl Batch {
    /// Posts of `tokens` arbitrary tokens: what they are does not change the work.
    fn uniform(posts: usize, tokens: usize) -> Self {
        let input_ids = (0..posts * tokens).map(|i| 1000 + (i as u32 * 7919) % 20_000);
        Self {
            input_ids: input_ids.collect(),
            attention_mask: vec![1; posts * tokens],
            posts,
            tokens,
        }
    }

    fn padded(posts: &[&[u32]]) -> Self {
        let tokens = posts.iter().map(|ids| ids.len()).max().unwrap_or(0);
        let mut batch = Self {
            input_ids: vec![0; posts.len() * tokens],
            attention_mask: vec![0; posts.len() * tokens],
            posts: posts.len(),
            tokens,
        };
        for (row, ids) in posts.iter().enumerate() {
            let at = row * tokens..row * tokens + ids.len();
            batch.input_ids[at.clone()].copy_from_slice(ids);
            batch.attention_mask[at].fill(1);
        }
        batch
    }
}

/// One engine with its weights loaded.
pub trait Engine {
    /// Logits, a row a post.
    fn logits(&self, batch: &Batch) -> Result<Vec<f32>>;
}

fn load(engine: &str, weights: &Path, model: &Path) -> Result<Box<dyn Engine>> {
    Ok(match engine {
        "rten" => Box::new(rten_onnx::Rten::load(weights)?),
        "candle-f32" => Box::new(candle_f32::CandleF32::load(model)?),
        "candle-q8" => Box::new(candle_q8::CandleQ8::load(model)?),
        _ => bail!("no engine is called {engine}"),
    })
}

struct Worker {
    engine_name: String,
    weights: PathBuf,
    model: PathBuf,
    texts: Vec<String>,
    loaded: Option<(Box<dyn Engine>, Tokenizer)>,
    labels: Vec<usize>,
}

impl Worker {
    fn answer(&mut self, line: &str) -> Result<Value> {
        let words: Vec<&str> = line.split_whitespace().collect();
        let number = |at: usize| -> Result<usize> { Ok(words[at].parse()?) };
        match words[0] {
            "load" => {
                self.loaded = None;
                let start = Instant::now();
                let tokenizer = read_tokenizer(&self.model)?;
                let engine = load(&self.engine_name, &self.weights, &self.model)?;
                self.loaded = Some((engine, tokenizer));
                Ok(json!({ "ms": ms(start.elapsed()) }))
            }
            "single" => self.shape(1, number(1)?),
            "uniform" => self.shape(number(1)?, number(2)?),
            "mixed" => self.mixed(number(1)?, words.get(2).map_or(Ok(1), |n| n.parse())?),
            "labels" => Ok(json!(self.labels)),
            other => bail!("no command is called {other}"),
        }
    }

    fn engine(&self) -> Result<&(Box<dyn Engine>, Tokenizer)> {
        self.loaded.as_ref().context("`load` comes first")
    }

    fn shape(&self, posts: usize, tokens: usize) -> Result<Value> {
        let (engine, _) = self.engine()?;
        let batch = Batch::uniform(posts, tokens);
        let mut times = Vec::new();
        engine.logits(&batch)?;
        let begin = Instant::now();
        while times.len() < MIN_RUNS || begin.elapsed() < MEASURE {
            let start = Instant::now();
            engine.logits(&batch)?;
            times.push(start.elapsed());
        }
        times.sort();
        Ok(json!({ "ms": ms(times[times.len() / 2]) }))
    }

    fn mixed(&mut self, batch_size: usize, every: usize) -> Result<Value> {
        let (engine, tokenizer) = self.loaded.as_ref().context("`load` comes first")?;
        let texts: Vec<&str> = self.texts.iter().step_by(every).map(String::as_str).collect();
        let start = Instant::now();
        let encoded = texts
            .iter()
            .map(|text| tokenizer.encode_fast(*text, true))
            .collect::<tokenizers::Result<Vec<_>>>()
            .map_err(anyhow::Error::from_boxed)?;
        let mut order: Vec<usize> = (0..encoded.len()).collect();
        order.sort_by_key(|&i| encoded[i].len());
        let mut labels = vec![0; encoded.len()];
        for chunk in order.chunks(batch_size) {
            let ids: Vec<&[u32]> = chunk.iter().map(|&i| encoded[i].get_ids()).collect();
            let logits = engine.logits(&Batch::padded(&ids))?;
            for (row, &i) in logits.chunks(logits.len() / chunk.len()).zip(chunk) {
                labels[i] = argmax(row);
            }
        }
        let elapsed = start.elapsed();
        let tokens: usize = encoded.iter().map(|e| e.len()).sum();
        let posts = labels.len();
        self.labels = labels;
        Ok(json!({ "ms": ms(elapsed), "posts": posts, "tokens": tokens }))
    }
}

fn argmax(row: &[f32]) -> usize {
    (0..row.len()).max_by(|&a, &b| row[a].total_cmp(&row[b])).unwrap_or(0)
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

fn read_tokenizer(model: &Path) -> Result<Tokenizer> {
    let mut tokenizer =
        Tokenizer::from_file(model.join("tokenizer.json")).map_err(anyhow::Error::from_boxed)?;
    tokenizer.with_padding(None);
    let truncation = TruncationParams { max_length: max_tokens()?, ..Default::default() };
    tokenizer.with_truncation(Some(truncation)).map_err(anyhow::Error::from_boxed)?;
    Ok(tokenizer)
}

fn max_tokens() -> Result<usize> {
    Ok(std::env::var("PEERS_MAX_TOKENS")?.parse()?)
}

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [engine, weights, model, posts] = &args[..] else {
        bail!("usage: coldread-peers ENGINE WEIGHTS MODEL_FOLDER POSTS");
    };
    let mut worker = Worker {
        engine_name: engine.clone(),
        weights: weights.into(),
        model: model.into(),
        texts: serde_json::from_str(&std::fs::read_to_string(posts)?)?,
        loaded: None,
        labels: Vec::new(),
    };
    for line in std::io::stdin().lock().lines() {
        let answer = worker.answer(&line?);
        let answer = answer.unwrap_or_else(|error| json!({ "error": format!("{error:#}") }));
        println!("{answer}");
        std::io::stdout().flush()?;
    }
    Ok(())
}
