//! `coldread pack`: converts a model folder, or a model of the Hub, to one file that is
//! mapped and used in place.

use super::model_source;
use super::posts::read_all;
use super::terminal::thousands;
use anyhow::{Context, bail};
use clap::Args;
use coldread::config::ModelArgs;
use coldread::model::{EngineChoice, ModelSource};
use coldread_engine::text::TextPipeline;
use coldread_engine::{ModelOptions, PostResult};
use coldread_model::layout::WeightRange;
use coldread_model::{LoadError, ModelFolder, ProblemType};
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;

/// Maximum number of posts for `--check`; the f32 reference takes minutes for them.
const MAX_CHECKED_POSTS: usize = 10_000;

const EXAMPLES: &str = "\
Examples:
  coldread pack ./my-model -o my-model.coldread
  coldread pack ./my-model -o my-model.coldread --check posts.txt
  coldread pack ./my-model -o my-model.coldread --exact
  coldread pack cardiffnlp/twitter-roberta-base-sentiment-latest -o roberta.coldread
  coldread pack OWNER/NAME --revision v1.0 -o name.coldread
  coldread --model my-model.coldread score \"what a day!\"";

/// Convert a model folder, or a model of the Hugging Face Hub, to one packed int8 file.
///
/// A model folder has a config.json, a tokenizer (tokenizer.json, or vocab.txt, vocab.json
/// with merges.txt, or a SentencePiece model) and weights (model.safetensors, several files
/// with an index, or pytorch_model.bin). A model of the Hub is downloaded to the cache that
/// huggingface_hub uses in Python; HF_HOME, HF_TOKEN, HF_ENDPOINT and HF_HUB_OFFLINE have the
/// same meaning as there. --model accepts the folder, the id and the packed file, which loads
/// fastest.
#[expect(clippy::doc_markdown, reason = "clap prints the text as it stands")]
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct PackArgs {
    /// Model folder, or model of the Hub as OWNER/NAME or OWNER/NAME@REVISION
    #[arg(value_name = "FOLDER|HUB_ID")]
    model_to_pack: PathBuf,

    /// File to write; it appears under this name only when it is complete
    #[arg(long, short, value_name = "FILE")]
    output: PathBuf,

    /// Keep the full range of 8 bits in the linear layers, instead of -64 to 63: closer to the
    /// original weights, but slower on processors that have AVX2 only
    #[arg(long)]
    exact: bool,

    /// Compare the packed model with the f32 reference on a file of posts: one post per line,
    /// label<TAB>post lines in .tsv, .csv or .jsonl
    #[arg(long, value_name = "POSTS")]
    check: Option<PathBuf>,
}

pub(crate) fn run(args: &PackArgs, model: &ModelArgs) -> anyhow::Result<()> {
    let posts = match &args.check {
        Some(path) => read_all(path, model.max_post_bytes.get(), MAX_CHECKED_POSTS)?,
        None => Vec::new(),
    };
    let path = model_source::locate(&args.model_to_pack, model)?;
    let started = Instant::now();
    let folder = ModelFolder::open(&path)?;
    check_text(&folder)?;
    let range = if args.exact {
        WeightRange::Full
    } else {
        WeightRange::Grouped
    };
    let packed = coldread_model::pack_with(&folder, range)?;
    coldread_model::import::write_packed(&packed, &args.output)?;
    drop(packed);
    let size = |path: &Path| {
        let metadata = fs::metadata(path).with_context(|| path.display().to_string());
        Ok::<_, anyhow::Error>(metadata?.len())
    };
    let seconds = started.elapsed().as_secs_f64();
    let packed = size(&args.output)?;
    let mut weights = 0;
    for file in folder.weights.files()? {
        weights += size(&file)?;
    }
    let mut out = io::stdout().lock();
    writeln!(
        out,
        "{}: {} bytes in {seconds:.1} s, {:.0}% of the weights' {}",
        args.output.display(),
        thousands(packed),
        100.0 * packed as f64 / weights.max(1) as f64,
        thousands(weights),
    )?;
    describe(&folder, &mut out)?;
    if !posts.is_empty() {
        let agreement = compare(&args.output, &path, &model.source().options, &posts)?;
        agreement.print(&mut out)?;
    }
    Ok(())
}

/// Checks that the tokenizer loads, so that no file is written that cannot be loaded.
fn check_text(folder: &ModelFolder) -> Result<(), LoadError> {
    match TextPipeline::from_folder(folder) {
        // Another build may run what this one is too small for.
        Err(LoadError::Unsupported { .. }) if !cfg!(feature = "tokenizers") => Ok(()),
        other => other.map(drop),
    }
}

/// Prints the name, head, labels and normalization of a model.
fn describe(folder: &ModelFolder, out: &mut impl Write) -> io::Result<()> {
    let config = &folder.config;
    let head = match config.problem_type {
        ProblemType::SingleLabel => "one of",
        ProblemType::MultiLabel => "any of",
    };
    // The names come from the model's author and must not control the terminal.
    let labels: Vec<String> = config
        .labels
        .iter()
        .map(|label| label.escape_debug().to_string())
        .collect();
    writeln!(
        out,
        "{} ({}), {head} {}",
        folder.name.escape_debug(),
        config.model_type,
        labels.join(", ")
    )?;
    match &folder.profile {
        None => writeln!(out, "text is not normalized"),
        Some(profile) => writeln!(
            out,
            "text is normalized: {}",
            serde_json::to_string(profile).expect("plain data has a JSON form")
        ),
    }
}

/// How closely two models' results agree.
#[derive(Debug, Default, PartialEq)]
struct Agreement {
    posts: usize,
    same_label: usize,
    largest_difference: f32,
    sum_of_differences: f64,
}

fn compare(
    packed: &Path,
    folder: &Path,
    options: &ModelOptions,
    posts: &[String],
) -> anyhow::Result<Agreement> {
    let classify = |path: &Path, engine| {
        let source = ModelSource {
            path: Some(path.to_owned()),
            engine,
            options: options.clone(),
            ..ModelSource::default()
        };
        anyhow::Ok(source.load()?.classifier().classify(posts)?)
    };
    let packed = classify(packed, EngineChoice::Int8)?;
    let reference = classify(folder, EngineChoice::Candle)?;
    let agreement = Agreement::of(&packed, &reference);
    if agreement.posts == 0 {
        bail!("--check: no post of the file could be scored");
    }
    Ok(agreement)
}

impl Agreement {
    fn of(packed: &[PostResult], reference: &[PostResult]) -> Self {
        let mut agreement = Self::default();
        for pair in packed.iter().zip(reference) {
            let (Ok(packed), Ok(reference)) = pair else {
                continue;
            };
            let largest = packed
                .scores
                .iter()
                .zip(&reference.scores)
                .map(|(a, b)| (a - b).abs())
                .fold(0.0, f32::max);
            agreement.posts += 1;
            agreement.same_label += usize::from(packed.label_index == reference.label_index);
            agreement.largest_difference = agreement.largest_difference.max(largest);
            agreement.sum_of_differences += f64::from(largest);
        }
        agreement
    }

    fn print(&self, out: &mut impl Write) -> io::Result<()> {
        let posts = self.posts as f64;
        writeln!(
            out,
            "labels equal to the f32 reference on {} of {} posts ({:.2}%); scores differ by {:.4} \
             at most and {:.4} in the mean",
            thousands(self.same_label as u64),
            thousands(self.posts as u64),
            100.0 * self.same_label as f64 / posts,
            self.largest_difference,
            self.sum_of_differences / posts,
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use coldread_engine::PostError;
    use coldread_engine::Sentiment;

    #[expect(
        clippy::unnecessary_wraps,
        reason = "stands beside errors in a list of results"
    )]
    fn sentiment(scores: [f32; 2]) -> PostResult {
        Ok(Sentiment::from_scores(&["no", "yes"], &scores))
    }

    #[test]
    fn agreement_counts_scored_posts_only() {
        let packed = [
            sentiment([0.5, 0.25]),
            Err(PostError::Empty),
            sentiment([0.0, 1.0]),
        ];
        let reference = [
            sentiment([0.25, 0.5]),
            Err(PostError::Empty),
            sentiment([0.0, 1.0]),
        ];
        let expected = Agreement {
            posts: 2,
            same_label: 1,
            largest_difference: 0.25,
            sum_of_differences: 0.25,
        };
        assert_eq!(Agreement::of(&packed, &reference), expected);
    }
}
