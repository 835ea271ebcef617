//! The log: to standard error, so that standard output holds results and nothing else.

use anyhow::Context;
use coldread::serve::lambda::is_lambda;
use std::io::{self, IsTerminal};
use tracing_subscriber::EnvFilter;

/// Variables that hold a filter such as `debug` or `coldread=trace`; the first set one counts.
const FILTERS: [&str; 2] = ["COLDREAD_LOG", "RUST_LOG"];

/// Starts the log. A server tells what it does, a tool only what is wrong.
pub(crate) fn start(serves: bool) -> anyhow::Result<()> {
    let chosen = FILTERS.into_iter().find_map(|name| {
        let value = std::env::var(name).ok().filter(|value| !value.is_empty())?;
        Some((name, value))
    });
    let filter = match chosen {
        Some((name, value)) => EnvFilter::try_new(&value)
            .with_context(|| format!("{name}={value} is not a log filter"))?,
        None => EnvFilter::new(if serves { "info" } else { "warn" }),
    };
    // At level trace this part of the runtime logs whole events, posts included.
    let quiet = "lambda_runtime::layers::api_response=error".parse();
    let filter = filter.add_directive(quiet.context("a directive of our own")?);
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal());
    if serves && is_lambda() {
        // CloudWatch indexes the fields of JSON lines.
        builder.json().flatten_event(true).init();
    } else {
        builder.init();
    }
    Ok(())
}
