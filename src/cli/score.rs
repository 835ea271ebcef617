//! `coldread score`: posts in, one result per post out, in order.
//!
//! Streaming: a batch ends when it is full, or when the input has no whole line
//! ready. So a large file goes through in large batches, a line typed at the
//! terminal is answered at once, and memory stays the same for either.

mod output;

use super::UsageError;
use super::posts::{Format, Posts, ReadOptions, Row, RowError};
use super::progress::Progress;
use super::terminal::thousands;
use anyhow::{Context, bail};
use clap::Args;
use coldread::config::ModelArgs;
use coldread_engine::{Classifier, PostResult};
use output::{Output, Results};
use std::io::{self, IsTerminal, Stdout};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, TryLockError};
use std::time::Duration;

/// A batch ends at so many posts,
const MAX_BATCH_POSTS: usize = 256;
/// or at so many bytes of posts, whichever comes first.
const MAX_BATCH_BYTES: usize = 1 << 20;

/// The exit code of a program that was stopped with Ctrl-C.
const INTERRUPTED: i32 = 130;

const EXAMPLES: &str = "\
Examples:
  coldread score \"what a day!\" \"so tired of this\"
  coldread score --input posts.txt > scores.jsonl
  coldread score --input posts.csv --field body --output csv > scores.csv
  coldread score --input labelled.tsv --no-header        label<TAB>post lines
  tail -f posts.jsonl | coldread score --format jsonl

Each line of --output jsonl is one of
  {\"label\":\"positive\",\"score\":0.98,\"scores\":{\"negative\":0.01,...}}
  {\"error\":{\"code\":\"empty_text\",\"message\":\"...\"}}
with \"truncated\":true added where a post was too long to be read to its end. The codes
are empty_text, text_too_long, invalid_utf8 and invalid_row. A post that cannot be scored
does not stop the others; the exit code is 1 only when none could be scored.";

/// Score posts from the arguments, standard input or a file.
///
/// Prints one result per post, in order: a table on a terminal, else JSON lines.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct ScoreArgs {
    /// Posts to score; without any, and without --input, standard input is read. One that
    /// begins with a dash stands after `--`
    #[arg(value_name = "TEXT", conflicts_with_all = ["input", "format", "field", "no_header"])]
    posts: Vec<String>,

    /// Read posts from a file; `-` is standard input
    #[arg(long, short, value_name = "FILE")]
    input: Option<PathBuf>,

    /// How posts stand in the input [default: by the file's extension, else text]
    ///
    /// A blank line of text gives an error in its place, so that line N of the results
    /// belongs to line N of the input; blank lines of the other formats are skipped.
    #[arg(long, short, value_name = "FORMAT")]
    format: Option<Format>,

    /// Which JSON key or column holds the post: a name, or a column's number from 1
    /// [default: text; with --no-header the last column]
    #[arg(long, value_name = "NAME|NUMBER")]
    field: Option<String>,

    /// The first row of CSV or TSV is a post and not column names
    #[arg(long)]
    no_header: bool,

    /// How to print results [default: table on a terminal, else jsonl]
    ///
    /// The columns of csv are label, score, one per label of the model, and error.
    #[arg(long, short, value_name = "FORMAT")]
    output: Option<Output>,
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
        let options = ReadOptions {
            format: self.format.unwrap_or_else(|| Format::of(path)),
            field: self.field.clone(),
            no_header: self.no_header,
            max_post_bytes,
        };
        if let Some(conflict) = options.conflict() {
            return Err(UsageError::new(conflict));
        }
        if path.as_os_str() == "-" && io::stdin().is_terminal() {
            eprintln!("reading posts from the terminal; Ctrl-D ends");
        }
        Posts::open(path, options).map(Some)
    }
}

/// What the handler of Ctrl-C has to leave in order.
struct Screen {
    results: Results<Stdout>,
    progress: Progress,
}

/// How a run went.
#[derive(Default)]
struct Tally {
    posts: u64,
    failed: u64,
    first_failure: Option<String>,
}

pub(crate) fn run(args: &ScoreArgs, model: &ModelArgs) -> anyhow::Result<()> {
    let source = super::model_source::open(model)?;
    // Before the model is loaded: a mistyped file name should not have to wait for it.
    let input = args.open(model.max_post_bytes.get())?;
    let mut classifier = source.load()?.classifier();

    let to_terminal = io::stdout().is_terminal();
    let output = args.output.unwrap_or(if to_terminal {
        Output::Table
    } else {
        Output::Jsonl
    });
    let total_bytes = input.as_ref().and_then(Posts::total_bytes);
    let screen = Arc::new(Mutex::new(Screen {
        results: Results::new(io::stdout(), output, classifier.model().labels().to_vec())?,
        // Results that scroll by are progress enough.
        progress: Progress::start(total_bytes, !to_terminal),
    }));
    flush_on_interrupt(Arc::clone(&screen))?;

    let mut tally = Tally::default();
    match input {
        None => {
            let rows: Vec<Row> = args.posts.iter().cloned().map(Ok).collect();
            score_batch(&mut classifier, &rows, 0, &screen, &mut tally)?;
        }
        Some(mut posts) => {
            let name = args.source().unwrap_or(Path::new("-")).display();
            loop {
                let batch = next_batch(&mut posts).with_context(|| format!("reading {name}"))?;
                if batch.is_empty() {
                    break;
                }
                let bytes_read = posts.bytes_read();
                score_batch(&mut classifier, &batch, bytes_read, &screen, &mut tally)?;
            }
        }
    }
    finish(&screen, &tally, args.source().is_some())
}

/// Rows until the batch is full or the next one would have to be waited for.
fn next_batch(posts: &mut Posts) -> io::Result<Vec<Row>> {
    let mut batch = Vec::new();
    let mut bytes = 0;
    while let Some(row) = posts.next()? {
        bytes += row.as_ref().map_or(0, String::len);
        batch.push(row);
        if batch.len() == MAX_BATCH_POSTS || bytes >= MAX_BATCH_BYTES || posts.may_wait() {
            break;
        }
    }
    Ok(batch)
}

fn score_batch(
    classifier: &mut Classifier,
    rows: &[Row],
    bytes_read: u64,
    screen: &Mutex<Screen>,
    tally: &mut Tally,
) -> anyhow::Result<()> {
    let posts: Vec<&str> = rows.iter().flatten().map(String::as_str).collect();
    let mut scored = classifier.classify(&posts)?.into_iter();

    let mut screen = screen.lock().unwrap_or_else(PoisonError::into_inner);
    for row in rows {
        tally.posts += 1;
        let post = row.as_deref().unwrap_or_default();
        let result = match row {
            Ok(_) => result_of(scored.next()),
            Err(error) => Err(error.clone()),
        };
        if let Err(error) = &result {
            tally.failed += 1;
            tally
                .first_failure
                .get_or_insert_with(|| error.message.clone());
        }
        screen.results.write(post, result.as_ref())?;
    }
    screen.results.flush()?;
    screen.progress.advance(rows.len(), bytes_read);
    Ok(())
}

fn result_of(
    scored: Option<PostResult>,
) -> Result<coldread_engine::classifier::Sentiment, RowError> {
    scored
        .expect("the classifier answers every post")
        .map_err(|error| RowError::from(&error))
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
    if tally.posts > 0 && tally.failed == tally.posts {
        let reason = tally.first_failure.as_deref().unwrap_or_default();
        bail!("no post could be scored; the first because: {reason}");
    }
    Ok(())
}

/// Makes Ctrl-C end the process after the results that are complete are written.
///
/// The handler runs on a thread of its own, so that it also works while standard
/// input is waited for. Records are written under the lock: none is cut in half.
fn flush_on_interrupt(screen: Arc<Mutex<Screen>>) -> anyhow::Result<()> {
    ctrlc::set_handler(move || {
        // A reader that has stopped reading may block the writer for ever.
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
    .context("setting the handler of Ctrl-C")
}
