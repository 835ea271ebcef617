//! `coldread bench`: how fast this machine runs the kernels and the model.
//!
//! Three layers, so that a slow number shows where it is lost: GEMM against the
//! core's measured peak, the encoder on given token counts, and text to scores.

mod measure;
mod report;

use super::posts::read_all;
use anyhow::{Context, bail};
use clap::Args;
use coldread::config::ModelArgs;
use coldread::model::ModelSource;
use coldread_engine::engine::EncodedBatch;
use coldread_engine::kernels::{self, Isa, Kernels};
use coldread_engine::{Classifier, Model};
use measure::{Measured, measure};
use report::{Gemm, Mixed, Report, Single, Uniform};
use std::io::{self, Write};
use std::path::PathBuf;
use std::time::Instant;

/// (n, k) of the default model's linear layers: attention's input and output, and
/// both of the feed-forward.
const LAYERS: [(usize, usize); 4] = [(1152, 384), (384, 384), (1536, 384), (384, 1536)];
/// Rows: one post of 24 tokens, and a batch.
const ROWS: [usize; 2] = [24, 768];
const SINGLE_TOKENS: [usize; 5] = [16, 24, 32, 64, 128];
/// (posts, tokens each).
const UNIFORM: [(usize, usize); 3] = [(8, 24), (32, 24), (128, 24)];
const MAX_MIXED_POSTS: usize = 2000;

const EXPLANATION: &str = "\
Every figure is the median over repetitions; the spread is the distance between the 10th
and the 90th percentile, as a share of the median. A large spread means that the machine
was doing other work: measure on an idle machine, with --threads as in production.

  gemm     GOP/s of the int8 kernels (a multiplication and an addition are 2 operations),
           compared with peak_gops, a loop of the same instructions on registers; both
           with the kernels that the model's weights take, as `coldread pack` wrote them
  single   one post with the given number of tokens, without tokenization
  uniform  batches of posts with 24 tokens, without tokenization
  mixed    the posts of --input in their order, from text to scores
  load     from the start of loading to the first score

Without --input, mixed uses generated posts with the lengths of tweets. --json prints one
JSON object per line, one per instruction set: isa, threads, peak_gops, gemm, single,
uniform, mixed, load_ms, peak_memory_mb.

Examples:
  coldread bench
  coldread bench --all-isas --json > bench.jsonl
  coldread bench --isa avx2 --threads 2 --input posts.txt";

/// Measure the speed of the kernels and of the model.
#[derive(Debug, Args)]
#[command(after_help = EXPLANATION)]
pub(crate) struct BenchArgs {
    /// Posts for the mixed batch: one post per line, label<TAB>post lines in .tsv, .csv or
    /// .jsonl; the first 2,000 are used
    #[arg(long, short, value_name = "FILE")]
    input: Option<PathBuf>,

    /// Measure every instruction set of this CPU, one after the other
    #[arg(long, conflicts_with = "isa")]
    all_isas: bool,

    /// Print one JSON object per line
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &BenchArgs, model: &ModelArgs) -> anyhow::Result<()> {
    let source = super::model_source::open(model)?;
    let posts = match &args.input {
        Some(path) => read_all(path, model.max_post_bytes.get(), MAX_MIXED_POSTS)?,
        None => made_up_posts(),
    };
    let isas: Vec<Option<Isa>> = if args.all_isas {
        Isa::available().into_iter().map(Some).collect()
    } else {
        vec![model.isa]
    };
    for isa in isas {
        let source = ModelSource {
            options: source.options.clone().isa(isa),
            ..source.clone()
        };
        let report = bench(&source, &posts)?;
        let mut out = io::stdout().lock();
        if args.json {
            serde_json::to_writer(&mut out, &report)?;
            writeln!(out)?;
        } else {
            report.print(&mut out)?;
        }
        out.flush()?;
    }
    Ok(())
}

fn bench(source: &ModelSource, posts: &[String]) -> anyhow::Result<Report> {
    let started = Instant::now();
    let model = source.load()?;
    let mut classifier = model.classifier();
    classifier.classify(&["warm"])?;
    let load_ms = started.elapsed().as_secs_f64() * 1e3;

    let engine = model.engine_info();
    // candle has no kernels of ours to measure.
    let isa: Option<Isa> = engine.isa.and_then(|name| name.parse().ok());
    let kernels = isa.map(Kernels::new).transpose()?;
    let range = engine.weight_range.unwrap_or_default();
    let kernels = kernels.map(|kernels| kernels.for_weights(range));
    let ids = token_ids(&model)?;
    let max_tokens = model.info().max_tokens;
    let fits = |tokens: usize| tokens <= max_tokens;

    let mut report = Report {
        model: model.info().name.clone(),
        engine: engine.engine,
        isa: engine.isa.unwrap_or("none"),
        threads: engine.threads,
        peak_gops: kernels.map(kernels::bench::peak_gops),
        gemm: kernels.map_or(Ok(Vec::new()), bench_gemm)?,
        single: Vec::new(),
        uniform: Vec::new(),
        mixed: bench_mixed(&mut classifier, posts)?,
        load_ms,
        peak_memory_mb: None,
    };
    for tokens in SINGLE_TOKENS.into_iter().filter(|&tokens| fits(tokens)) {
        let time = bench_batch(&mut classifier, &ids, 1, tokens)?;
        report.single.push(Single::new(tokens, &time));
    }
    for (batch, tokens) in UNIFORM.into_iter().filter(|&(_, tokens)| fits(tokens)) {
        let time = bench_batch(&mut classifier, &ids, batch, tokens)?;
        report.uniform.push(Uniform::new(batch, tokens, &time));
    }
    report.peak_memory_mb = peak_memory_mb();
    Ok(report)
}

fn bench_gemm(kernels: Kernels) -> anyhow::Result<Vec<Gemm>> {
    let mut figures = Vec::new();
    for m in ROWS {
        for (n, k) in LAYERS {
            let mut gemm = kernels::bench::Gemm::new(kernels, m, n, k);
            let time = measure(|| {
                gemm.run();
                anyhow::Ok(())
            })?;
            figures.push(Gemm::new([m, n, k], &time));
        }
    }
    Ok(figures)
}

/// Token ids that are valid for this model, whatever its vocabulary.
fn token_ids(model: &Model) -> anyhow::Result<Vec<u32>> {
    let ids = model.token_ids("so this is what a quiet sunday with too much coffee feels like")?;
    if ids.is_empty() {
        bail!("the tokenizer returns no tokens for an English sentence");
    }
    Ok(ids)
}

/// Runs the engine alone on `posts` posts of `tokens` tokens.
fn bench_batch(
    classifier: &mut Classifier,
    ids: &[u32],
    posts: usize,
    tokens: usize,
) -> anyhow::Result<Measured> {
    let mut batch = EncodedBatch::default();
    for first in 0..posts {
        let ids: Vec<u32> = ids
            .iter()
            .copied()
            .cycle()
            .skip(first)
            .take(tokens)
            .collect();
        batch.push(&ids);
    }
    let mut logits = Vec::new();
    let engine = classifier.engine_mut();
    Ok(measure(|| {
        logits.clear();
        engine.forward(&batch, &mut logits)
    })?)
}

fn bench_mixed(classifier: &mut Classifier, posts: &[String]) -> anyhow::Result<Mixed> {
    let mut tokens = 0;
    for post in posts {
        tokens += classifier.model().token_ids(post)?.len();
    }
    let time =
        measure(|| classifier.classify(posts).map(drop)).context("cannot score the mixed batch")?;
    Ok(Mixed::new(posts.len(), tokens, &time))
}

/// The most memory that the process ever had, where the system tells (Linux).
fn peak_memory_mb() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: f64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some((kib / 102.4).round() / 10.0)
}

/// Made-up posts of 3 to 45 words, most of them around 20, as tweets have.
fn made_up_posts() -> Vec<String> {
    const WORDS: [&str; 24] = [
        "the", "match", "tonight", "was", "so", "good", "that", "I", "cannot", "wait", "for",
        "Saturday", "but", "my", "train", "is", "late", "again", "@user", "#monday", "honestly",
        "why", "😂", "!",
    ];
    // A fixed generator (Knuth's MMIX constants), so that every run measures the same posts.
    let mut state = 1_u64;
    let mut random = |n: usize| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % n
    };
    (0..500)
        .map(|_| {
            let words = 3 + random(15) + random(15) + random(15);
            (0..words)
                .map(|_| WORDS[random(WORDS.len())])
                .collect::<Vec<_>>()
                .join(" ")
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn made_up_posts_are_the_same_every_time() {
        let posts = made_up_posts();
        assert_eq!(posts, made_up_posts());
        let words: usize = posts.iter().map(|post| post.split(' ').count()).sum();
        assert!((20..30).contains(&(words / posts.len())), "{words}");
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn linux_tells_the_peak_memory() {
        assert!(peak_memory_mb().unwrap() > 1.0);
    }
}
