//! `coldread eval`: measures a model's accuracy and behaviour on labelled posts.

mod checks;
mod metrics;

use super::model_source::Models;
use super::posts::Posts;
use super::progress::Progress;
use anyhow::bail;
use checks::{Check, Tally};
use clap::Args;
use coldread::config::{LanguageArgs, ModelArgs};
use coldread::rows::{RowFormat, RowOptions};
use coldread::scorer::{PostOptions, Scorer};
use coldread_engine::{ModelInfo, Sentiment};
use coldread_model::ProblemType;
use metrics::{Calibration, Confusion, at_temperature_one};
use serde_json::{Map, Value, json};
use std::io::{self, Write};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Room in a line for a label, or a check's name and expectation, and the tabs.
const MAX_LABEL_BYTES: usize = 1024;

/// Enough posts to fill the engine's batches.
const BATCH_POSTS: usize = 512;

const EXPLANATION: &str = "\
Each line of FILE is a label, a tab and a post:
  2<TAB>what a day!
  negative<TAB>so tired of this
The label is its name or its index in the model. The command fails at the first line of
another form and at the first post that cannot be scored.

With --checks, each line is a check's name, the expected label and one or two posts:
  typo<TAB>same<TAB>what a day!<TAB>waht a day!
  negation<TAB>not positive<TAB>this is no good
  plain<TAB>positive<TAB>so good
`same` means that both posts get the same label. The report counts the failed checks by
name.

Recall, precision and F1 are as in scikit-learn with zero_division=0; macro averages cover
the classes that occur as true or predicted labels. The rows of the confusion matrix are
true labels, the columns predicted labels. The expected calibration error has 15 bins of
equal width; `ece_before` is the error without the model's temperature. Intervals contain
95% of 1,000 bootstrap samples of the posts: if the intervals of two models overlap widely,
this file cannot tell them apart. posts_per_second is the rate from text to scores: it
includes tokenization and excludes loading and reading.

Examples:
  coldread eval val.tsv
  coldread eval val.tsv --json | jq .macro_recall
  coldread eval --checks model/checks.tsv
  coldread --engine candle eval val.tsv";

/// Measure the model on labelled posts.
#[derive(Debug, Args)]
#[command(after_help = EXPLANATION)]
pub(crate) struct EvalArgs {
    /// File of label<TAB>post lines; `-` is standard input
    file: PathBuf,

    /// FILE holds behavioural checks and not labelled posts
    #[arg(long)]
    checks: bool,

    /// Print one JSON object
    ///
    /// The keys are posts, accuracy, macro_recall, macro_f1 (each with a ..._interval of
    /// [lower, upper]), per_class ({label: {precision, recall, f1, support}}), confusion (rows:
    /// true labels, columns: predicted), posts_per_second, ece, ece_before, temperature, model,
    /// engine. With --checks: checks ({name: {checks, failed, failure_rate, failed_lines}}),
    /// model, engine.
    #[expect(clippy::doc_markdown, reason = "clap prints the text as it stands")]
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    languages: LanguageArgs,
}

/// What was counted over the file.
struct Evaluation {
    confusion: Confusion,
    calibrated: Calibration,
    uncalibrated: Calibration,
    time: Duration,
}

pub(crate) fn run(args: &EvalArgs, model: &ModelArgs) -> anyhow::Result<()> {
    let models = Models::open(model, &args.languages)?;
    let posts_per_line = if args.checks { 2 } else { 1 };
    let max_line_bytes = posts_per_line * model.max_post_bytes.get() + MAX_LABEL_BYTES;
    let options = RowOptions::new(RowFormat::Text, max_line_bytes);
    let lines = Posts::open(&args.file, &options)?;
    let mut scorer = models.load()?;
    let engine = scorer.model().engine_info().engine;
    let names: Vec<&str> = scorer.models().map(|it| it.info().name.as_str()).collect();
    let mut info = ModelInfo::clone(scorer.model().info());
    info.name = names.join(" + ");
    if args.checks {
        let tally = run_checks(lines, &mut scorer)?;
        if tally.is_empty() {
            bail!("{}: no checks in it", args.file.display());
        }
        let mut out = io::stdout().lock();
        if args.json {
            writeln!(out, "{:#}", tally.report(&info, engine))?;
        } else {
            tally.print(&mut out, &info)?;
        }
        return Ok(());
    }
    let evaluation = evaluate(lines, &mut scorer)?;
    if evaluation.confusion.posts() == 0 {
        bail!("{} contains no posts", args.file.display());
    }
    let report = report(&evaluation, &info, engine);
    let mut out = io::stdout().lock();
    if args.json {
        writeln!(out, "{:#}", Value::Object(report))?;
    } else {
        print(&mut out, &report, &info.labels, &evaluation)?;
    }
    Ok(())
}

fn evaluate(lines: Posts, scorer: &mut Scorer) -> anyhow::Result<Evaluation> {
    let info = scorer.model().info().clone();
    let mut confusion = Confusion::new(info.labels.len());
    let mut calibrated = Calibration::default();
    let mut uncalibrated = Calibration::default();
    let parse = |text: &str| {
        let (label, post) = parse(text, &info.labels)?;
        Ok((label, vec![post.to_owned()]))
    };
    let time = for_each_line(lines, scorer, parse, |truth, _, results| {
        let sentiment = &results[0];
        let correct = sentiment.label_index == truth;
        confusion.add(truth, sentiment.label_index);
        calibrated.add(f64::from(sentiment.score()), correct);
        let before = at_temperature_one(&sentiment.scores, sentiment.model().temperature);
        uncalibrated.add(before[sentiment.label_index], correct);
    })?;
    Ok(Evaluation {
        confusion,
        calibrated,
        uncalibrated,
        time,
    })
}

fn run_checks(lines: Posts, scorer: &mut Scorer) -> anyhow::Result<Tally> {
    let info = scorer.model().info().clone();
    let mut tally = Tally::default();
    let parse = |text: &str| Check::parse(text, &info.labels);
    for_each_line(lines, scorer, parse, |check, line, results| {
        tally.add(check, line, results);
    })?;
    Ok(tally)
}

/// Classifies the posts of every line, in batches, and calls `each` with what `parse` made of
/// the line, the line's number and its posts' results. Returns the time that classification
/// took.
fn for_each_line<T>(
    mut lines: Posts,
    scorer: &mut Scorer,
    parse: impl Fn(&str) -> Result<(T, Vec<String>), String>,
    mut each: impl FnMut(T, u64, &[Sentiment]),
) -> anyhow::Result<Duration> {
    let mut progress = Progress::start(lines.total_bytes(), true);
    let mut time = Duration::ZERO;
    loop {
        let mut parsed = Vec::new();
        let mut posts = Vec::new();
        while posts.len() < BATCH_POSTS
            && let Some(row) = lines.next()?
        {
            let error = |reason: &str| lines.error_at(row.line, reason);
            let text = row.post.as_ref().map_err(|e| error(&e.to_string()))?;
            let (value, of_line) = parse(text).map_err(|e| error(&e))?;
            parsed.push((value, row.line, of_line.len()));
            posts.extend(of_line);
        }
        if posts.is_empty() {
            break;
        }
        let started = Instant::now();
        let mut results = scorer.score(&posts, PostOptions::default())?.into_iter();
        time += started.elapsed();
        progress.advance(parsed.len(), lines.bytes_read());
        for (value, line, posts) in parsed {
            let of_line = results.by_ref().take(posts);
            let of_line = of_line.map(|result| result.map(|post| post.sentiment));
            let of_line: Result<Vec<Sentiment>, _> = of_line.collect();
            let of_line = of_line.map_err(|e| lines.error_at(line, &e.to_string()))?;
            each(value, line, &of_line);
        }
    }
    progress.clear();
    Ok(time)
}

/// Which of the model's labels has this name.
fn index_of(name: &str, labels: &[String]) -> Option<usize> {
    labels
        .iter()
        .position(|label| label.eq_ignore_ascii_case(name))
}

/// Splits `label<TAB>post`; the error says what was expected.
fn parse<'a>(line: &'a str, labels: &[String]) -> Result<(usize, &'a str), String> {
    let (label, post) = line
        .split_once('\t')
        .ok_or_else(|| "no tab in the line; expected label<TAB>post".to_owned())?;
    let label = label.trim();
    let by_index = label
        .parse::<usize>()
        .ok()
        .filter(|&index| index < labels.len());
    let index = by_index
        .or_else(|| index_of(label, labels))
        .ok_or_else(|| {
            // A long one is no label but text, and posts do not belong in messages.
            let found = match label.chars().count() {
                0..=20 => format!("{label:?}"),
                characters => format!("of {characters} characters"),
            };
            let (last, names) = (labels.len() - 1, labels.join(", "));
            format!("unknown label {found}; expected 0 to {last} or one of {names}")
        })?;
    Ok((index, post))
}

fn report(evaluation: &Evaluation, info: &ModelInfo, engine: &str) -> Map<String, Value> {
    let confusion = &evaluation.confusion;
    let intervals = confusion.intervals();
    let per_class: Map<String, Value> = info
        .labels
        .iter()
        .zip(confusion.per_class())
        .map(|(label, class)| {
            let figures = json!({
                "precision": class.precision,
                "recall": class.recall,
                "f1": class.f1,
                "support": class.support,
            });
            (label.clone(), figures)
        })
        .collect();
    // Sigmoids are one confidence a label; the error defined here is of a single choice.
    let single_label = info.problem_type == ProblemType::SingleLabel;
    let report = json!({
        "model": info.name,
        "engine": engine,
        "posts": confusion.posts(),
        "accuracy": confusion.accuracy(),
        "accuracy_interval": intervals.accuracy,
        "macro_recall": confusion.macro_recall(),
        "macro_recall_interval": intervals.macro_recall,
        "macro_f1": confusion.macro_f1(),
        "macro_f1_interval": intervals.macro_f1,
        "per_class": per_class,
        "confusion": confusion.rows(),
        "ece": single_label.then(|| evaluation.calibrated.error()),
        "ece_before": single_label.then(|| evaluation.uncalibrated.error()),
        "temperature": shortest(info.temperature),
        "posts_per_second": confusion.posts() as f64 / evaluation.time.as_secs_f64(),
    });
    match report {
        Value::Object(report) => report,
        _ => unreachable!("the macro makes what is written above"),
    }
}

/// The f64 that prints as the f32 does.
fn shortest(x: f32) -> f64 {
    x.to_string().parse().unwrap_or(f64::from(x))
}

fn print(
    out: &mut impl Write,
    report: &Map<String, Value>,
    labels: &[String],
    evaluation: &Evaluation,
) -> io::Result<()> {
    let number = |key: &str| report[key].as_f64().unwrap_or(f64::NAN);
    let text = |key: &str| report[key].as_str().unwrap_or_default().to_owned();
    let confusion = &evaluation.confusion;
    writeln!(
        out,
        "model              {} ({})",
        text("model"),
        text("engine")
    )?;
    writeln!(out, "posts              {}", confusion.posts())?;
    for (name, key) in [
        ("accuracy", "accuracy"),
        ("macro recall", "macro_recall"),
        ("macro F1", "macro_f1"),
    ] {
        let interval = &report[&format!("{key}_interval")];
        let end = |i: usize| interval[i].as_f64().unwrap_or(f64::NAN);
        writeln!(
            out,
            "{name:17}  {:.4} (95%: {:.4} to {:.4})",
            number(key),
            end(0),
            end(1)
        )?;
    }
    if !report["ece"].is_null() {
        writeln!(
            out,
            "calibration error  {:.4} ({:.4} without the temperature of {:.3})",
            number("ece"),
            number("ece_before"),
            number("temperature")
        )?;
    }
    writeln!(
        out,
        "posts per second   {:.0}\n",
        number("posts_per_second")
    )?;

    let column = labels
        .iter()
        .map(|label| label.chars().count())
        .max()
        .unwrap_or(0)
        .max(9);
    writeln!(
        out,
        "{:column$}  precision  recall      f1  support   predicted {}",
        "true label",
        labels
            .iter()
            .map(|l| format!("{l:>column$}"))
            .collect::<Vec<_>>()
            .join(" "),
        column = column + 1,
    )?;
    for ((label, class), row) in labels
        .iter()
        .zip(confusion.per_class())
        .zip(confusion.rows())
    {
        let counts: Vec<String> = row.iter().map(|n| format!("{n:>column$}")).collect();
        writeln!(
            out,
            "{label:first$}  {:>9.4}  {:>6.4}  {:>6.4}  {:>7}             {}",
            class.precision,
            class.recall,
            class.f1,
            class.support,
            counts.join(" "),
            first = column + 1,
        )?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_indices_or_names() {
        let labels = ["negative", "neutral", "positive"].map(str::to_owned);
        assert_eq!(parse("2\tso good", &labels), Ok((2, "so good")));
        assert_eq!(parse("Neutral\ta\tb", &labels), Ok((1, "a\tb")));
        assert_eq!(parse("2 \t\"q\"", &labels), Ok((2, "\"q\"")));
        for (line, part) in [
            (
                "3\tx",
                "unknown label \"3\"; expected 0 to 2 or one of negative, neutral, positive",
            ),
            ("-1\tx", "unknown label"),
            (
                "some text without a label\tx",
                "unknown label of 25 characters",
            ),
            ("1.0\tx", "unknown label"),
            ("\tx", "unknown label \"\""),
            ("no tab", "expected label<TAB>post"),
            ("", "expected label<TAB>post"),
        ] {
            let error = parse(line, &labels).unwrap_err();
            assert!(error.contains(part), "{line:?}: {error}");
        }
    }

    #[test]
    fn an_f32_prints_as_itself() {
        assert_eq!(shortest(1.3).to_string(), "1.3");
    }
}
