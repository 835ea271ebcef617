//! `coldread score`: posts in, one result per post out, in order.
//!
//! Streaming: a batch ends when it is full, or when the input has no whole line
//! ready. So a large file goes through in large batches, a line typed at the
//! terminal is answered at once, and memory stays the same for either.

mod output;

use super::UsageError;
use super::model_source::Models;
use super::posts::{Posts, RowArgs};
use super::progress::Progress;
use super::terminal::thousands;
use anyhow::{Context, bail};
use clap::Args;
use coldread::config::{LanguageArgs, ModelArgs};
use coldread::rows::{OptionalColumns, Row, RowError, RowFailure};
use coldread::scorer::{PostOptions, Scorer};
use coldread_engine::LongText;
use output::{Output, ResultPrinter};
use std::io::{self, IsTerminal, Stdout};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, TryLockError};
use std::time::Duration;

/// Maximum number of posts in a batch.
const MAX_BATCH_POSTS: usize = 256;
/// Maximum total size of the posts in a batch.
const MAX_BATCH_BYTES: usize = 1 << 20;

/// The exit code after Ctrl-C.
const INTERRUPTED: i32 = 130;

const EXAMPLES: &str = "\
Examples:
  coldread score \"what a day!\" \"so tired of this\"
  coldread score --input posts.txt > scores.jsonl
  coldread score --input posts.csv --field body --output csv > scores.csv
  coldread score --input labelled.tsv --no-header        label<TAB>post lines
  coldread score --input tweets.js                       a Twitter archive
  coldread score --input posts.jsonl.gz --field /data/text
  tail -f posts.jsonl | coldread score --format jsonl

Each line of --output jsonl is one of
  {\"row\":1,\"id\":7,\"label\":\"positive\",\"score\":0.98,\"scores\":{\"negative\":0.01,...}}
  {\"row\":2,\"error\":{\"code\":\"empty_text\",\"message\":\"...\"}}
with the same keys as rows over HTTP: \"id\" if the row has one, \"truncated\":true if only the
beginning of the post was scored, \"windows\" with --long-text window, and \"language\",
\"language_confidence\" and \"warnings\" with --detect-language; on a terminal, an exclamation
mark after the language is the warning. The error codes are empty_text, text_too_long,
unsupported_language, invalid_utf8, invalid_json, missing_field, column_count, unclosed_quote and
stray_quote. A post that cannot be scored does not stop the others; the exit code is 1 only if no post could be scored.";

/// Score posts from the arguments, standard input or a file.
///
/// Prints one result per post, in order: as a table on a terminal, otherwise as JSON lines.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct ScoreArgs {
    /// Posts to score; without any, and without --input, they are read from standard input.
    /// Put `--` before a post that begins with a dash
    #[arg(value_name = "TEXT", conflicts_with_all = ["input", "format", "field", "delimiter", "no_header"])]
    posts: Vec<String>,

    /// Read posts from a file; `-` is standard input
    #[arg(long, short, value_name = "FILE")]
    input: Option<PathBuf>,

    #[command(flatten)]
    rows: RowArgs,

    /// How to score a post with more tokens than the model reads: `truncate` scores its
    /// beginning, `window` scores all of it in windows and averages them, `error` rejects it
    #[arg(long, value_name = "truncate|window|error", default_value = "truncate")]
    long_text: LongText,

    /// Detect the language of each post, and warn of languages that the model was not trained for
    #[arg(long)]
    detect_language: bool,

    /// Format of the results [default: table on a terminal, else jsonl]
    ///
    /// The CSV columns are row, id, label, score, one per label of the model, truncated,
    /// windows, with --detect-language also language, language_confidence and warnings, and
    /// error.
    #[expect(clippy::doc_markdown, reason = "clap prints the text as it stands")]
    #[arg(long, short, value_name = "FORMAT")]
    output: Option<Output>,

    #[command(flatten)]
    languages: LanguageArgs,
}

impl ScoreArgs {
    /// Where to read from; `None` when the posts are arguments.
    fn source(&self) -> Option<&Path> {
        match &self.input {
            Some(path) => Some(path),
            None if self.posts.is_empty() => Some(Path::new("-")),
            None => None,
        }
    }

    fn open(&self, max_post_bytes: usize) -> anyhow::Result<Option<Posts>> {
        let Some(path) = self.source() else {
            return Ok(None);
        };
        let options = self.rows.options(path, max_post_bytes);
        let options = options.map_err(UsageError::new)?;
        if path.as_os_str() == "-" && io::stdin().is_terminal() {
            eprintln!("reading posts from the terminal; press Ctrl-D to finish");
        }
        Posts::open(path, &options).map(Some)
    }
}

/// What the handler of Ctrl-C has to leave in order.
struct Screen {
    results: ResultPrinter<Stdout>,
    progress: Progress,
}

/// How a run went.
#[derive(Default)]
struct Tally {
    rows: u64,
    failed: u64,
    first_failure: Option<String>,
}

pub(crate) fn run(args: &ScoreArgs, model: &ModelArgs) -> anyhow::Result<()> {
    let models = Models::open(model, &args.languages)?;
    // Before the model is loaded: a mistyped file name should not have to wait for it.
    let input = args.open(model.max_post_bytes.get())?;
    let scorer = models.load()?;

    let to_terminal = io::stdout().is_terminal();
    let output = args.output.unwrap_or(if to_terminal {
        Output::Table
    } else {
        Output::Jsonl
    });
    let total_bytes = input.as_ref().and_then(Posts::total_bytes);
    let screen = Arc::new(Mutex::new(Screen {
        results: ResultPrinter::new(
            io::stdout(),
            output,
            Arc::clone(scorer.model().info()),
            OptionalColumns {
                language: args.detect_language,
                model: scorer.models().count() > 1,
            },
        ),
        // Results that scroll by are progress enough.
        progress: Progress::start(total_bytes, !to_terminal),
    }));
    flush_on_interrupt(Arc::clone(&screen))?;

    let mut run = Run {
        scorer,
        options: PostOptions {
            long_text: args.long_text,
            detect_language: args.detect_language,
            model: None,
        },
        screen: &screen,
        tally: Tally::default(),
    };
    match input {
        None => {
            let rows = args.posts.iter().zip(1..).map(|(post, line)| Row {
                line,
                id: None,
                post: Ok(post.clone()),
            });
            let rows: Vec<Row> = rows.collect();
            run.score(&rows, 0)?;
        }
        Some(mut posts) => loop {
            let batch = next_batch(&mut posts)?;
            if batch.is_empty() {
                break;
            }
            run.score(&batch, posts.bytes_read())?;
        },
    }
    finish(&screen, &run.tally, args.source().is_some())
}

/// Rows until the batch is full or the next one would have to be waited for.
fn next_batch(posts: &mut Posts) -> anyhow::Result<Vec<Row>> {
    let mut batch = Vec::new();
    let mut bytes = 0;
    while let Some(row) = posts.next()? {
        bytes += row.post.as_ref().map_or(0, String::len);
        batch.push(row);
        if batch.len() == MAX_BATCH_POSTS || bytes >= MAX_BATCH_BYTES || posts.may_wait() {
            break;
        }
    }
    Ok(batch)
}

/// Scores rows and writes their results.
struct Run<'a> {
    scorer: Scorer,
    options: PostOptions,
    screen: &'a Mutex<Screen>,
    tally: Tally,
}

impl Run<'_> {
    fn score(&mut self, rows: &[Row], bytes_read: u64) -> anyhow::Result<()> {
        let posts = rows.iter().flat_map(|row| &row.post).map(String::as_str);
        let posts: Vec<&str> = posts.collect();
        let scored = self.scorer.score(&posts, self.options)?;
        let mut scored = scored.into_iter();

        let tally = &mut self.tally;
        let mut screen = self.screen.lock().unwrap_or_else(PoisonError::into_inner);
        for row in rows {
            tally.rows += 1;
            let result = match &row.post {
                Ok(_) => {
                    let result = scored.next().expect("a result for every post");
                    result.map_err(|error| RowFailure::new(row, &RowError::Post(error)))
                }
                Err(error) => Err(RowFailure::new(row, error)),
            };
            if let Err(error) = &result {
                tally.failed += 1;
                tally
                    .first_failure
                    .get_or_insert_with(|| error.message.clone());
            }
            screen.results.write(tally.rows, row, result.as_ref())?;
        }
        screen.results.flush()?;
        screen.progress.advance(rows.len(), bytes_read);
        Ok(())
    }
}

fn finish(screen: &Mutex<Screen>, tally: &Tally, many: bool) -> anyhow::Result<()> {
    let mut screen = screen.lock().unwrap_or_else(PoisonError::into_inner);
    screen.results.flush()?;
    screen.progress.clear();
    if many && io::stderr().is_terminal() {
        let failed = match tally.failed {
            0 => String::new(),
            n => format!("; {} could not be scored", thousands(n)),
        };
        eprintln!("{}{failed}", screen.progress.summary());
    }
    if tally.rows > 0 && tally.failed == tally.rows {
        let reason = tally.first_failure.as_deref().unwrap_or_default();
        bail!("no post could be scored; the first error: {reason}");
    }
    Ok(())
}

/// Makes Ctrl-C end the process after the results that are complete are written.
///
/// The handler runs on a thread of its own, so that it also works while standard
/// input is waited for. Records are written under the lock: none is cut in half.
fn flush_on_interrupt(screen: Arc<Mutex<Screen>>) -> anyhow::Result<()> {
    ctrlc::set_handler(move || {
        // A reader that has stopped reading may block the writer forever.
        for _ in 0..20 {
            match screen.try_lock() {
                Ok(mut screen) => {
                    screen.progress.clear();
                    let _ = screen.results.flush();
                    break;
                }
                Err(TryLockError::Poisoned(_)) => break,
                Err(TryLockError::WouldBlock) => std::thread::sleep(Duration::from_millis(50)),
            }
        }
        std::process::exit(INTERRUPTED);
    })
    .context("cannot handle Ctrl-C")
}
