//! The log: to standard error, so that standard output holds results and nothing else.
//!
//! A server never waits for the reader of its log. On Lambda, which always reads, a line
//! that is not written before the response is frozen with the sandbox: there, and in the
//! short-lived commands, lines are written immediately.

use anyhow::{Context, bail};
use coldread::serve::lambda::is_lambda;
use coldread::telemetry::{JsonLines, stderr_without_waiting};
use std::io::{self, IsTerminal};
use tracing_appender::non_blocking::WorkerGuard;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt;
use tracing_subscriber::fmt::format::JsonFields;
use tracing_subscriber::fmt::writer::BoxMakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// Variables that hold a filter such as `debug` or `coldread=trace`; the first set one counts.
const FILTERS: [&str; 2] = ["COLDREAD_LOG", "RUST_LOG"];

/// The variable that holds `json` or `text`.
const FORMAT: &str = "COLDREAD_LOG_FORMAT";

/// Starts the log, at level info for a server and warn for the other commands. Dropping
/// the guard writes the lines that are still buffered.
pub(crate) fn start(serves: bool) -> anyhow::Result<Option<WorkerGuard>> {
    let chosen = FILTERS
        .into_iter()
        .find_map(|name| Some((name, filled(name)?)));
    let filter = match chosen {
        Some((name, value)) => value.parse::<Targets>().with_context(|| {
            format!("{name} is `{value}`; expected a level such as debug, or coldread=trace")
        })?,
        None => Targets::new()
            .with_default(if serves {
                LevelFilter::INFO
            } else {
                LevelFilter::WARN
            })
            // It logs what it returns, and what it returns is told anyway.
            .with_target("rustls_platform_verifier", LevelFilter::OFF),
    };
    let filter = filter
        // At level trace this part of the runtime logs whole events, posts included.
        .with_target("lambda_runtime::layers::api_response", LevelFilter::ERROR)
        // They log addresses, and those of a CDN are signed.
        .with_target("ureq", LevelFilter::OFF)
        .with_target("ureq_proto", LevelFilter::OFF);
    let is_terminal = io::stderr().is_terminal();
    let (writer, guard) = if serves && !is_lambda() {
        let (writer, guard) = stderr_without_waiting();
        (BoxMakeWriter::new(writer), Some(guard))
    } else {
        (BoxMakeWriter::new(io::stderr), None)
    };
    let lines = fmt::layer().with_writer(writer).with_ansi(is_terminal);
    let log = tracing_subscriber::registry().with(filter);
    if is_json(serves && (is_lambda() || !is_terminal))? {
        let format = JsonLines::new(filled);
        log.with(lines.fmt_fields(JsonFields::new()).event_format(format))
            .init();
    } else {
        log.with(lines).init();
    }
    if serves {
        std::panic::set_hook(Box::new(report_panic));
    }
    Ok(guard)
}

fn filled(name: &str) -> Option<String> {
    std::env::var(name)
        .ok()
        .filter(|value| !value.trim().is_empty())
}

/// What collects a server's log indexes the fields of JSON lines; people read text.
fn is_json(unless_said: bool) -> anyhow::Result<bool> {
    match filled(FORMAT).as_deref() {
        None => Ok(unless_said),
        Some("json") => Ok(true),
        Some("text") => Ok(false),
        Some(other) => bail!("{FORMAT} is `{other}`; expected `json` or `text`"),
    }
}

/// Where it happened, and not what it said: a panic's message can quote the text that
/// it happened on, as those of string slices do.
fn report_panic(panic: &std::panic::PanicHookInfo<'_>) {
    let location = panic.location().map(ToString::to_string);
    let thread = std::thread::current();
    tracing::error!(location, thread = thread.name(), "a thread panicked");
}
