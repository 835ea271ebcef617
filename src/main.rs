//! The `coldread` binary: parse the arguments, start the log, run one subcommand.
//!
//! Exit codes: 0 done, 1 failed (one line on standard error says why), 2 wrong
//! usage, 130 stopped with Ctrl-C. A reader that closes the pipe early, as in
//! `coldread score ... | head`, is no failure: it has what it wanted, so that ends
//! quietly with 0 and `set -o pipefail` scripts go on.

#![forbid(unsafe_code)]

mod cli;

use coldread::timings::{self, Phase};
use std::io;
use std::process::ExitCode;

fn main() -> ExitCode {
    timings::mark(Phase::Main);
    let cli = match cli::parse(std::env::args_os()) {
        Ok(cli) => cli,
        // Prints help and versions to standard output, complaints to standard error.
        Err(error) => error.exit(),
    };
    let run = cli::logging::start(cli.serves()).and_then(|log| {
        let run = cli.run();
        drop(log);
        run
    });
    match run {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if is_closed_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            let usage = error.is::<cli::UsageError>();
            eprintln!(
                "error: {}",
                if usage {
                    error.to_string()
                } else {
                    one_line(&error)
                }
            );
            ExitCode::from(if usage { 2 } else { 1 })
        }
    }
}

fn is_closed_pipe(error: &anyhow::Error) -> bool {
    error
        .root_cause()
        .downcast_ref::<io::Error>()
        .is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

/// The error and its causes on one line. Some errors say in their own words what
/// their cause was; that is not said twice.
fn one_line(error: &anyhow::Error) -> String {
    let mut line = error.to_string();
    for cause in error.chain().skip(1) {
        let cause = cause.to_string();
        if !line.contains(&cause) {
            line.push_str(": ");
            line.push_str(&cause);
        }
    }
    line.replace('\n', " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn causes_are_said_once() {
        let error = anyhow::anyhow!("no such file")
            .context("a.txt: no such file")
            .context("reading");
        assert_eq!(one_line(&error), "reading: a.txt: no such file");
        assert_eq!(one_line(&anyhow::anyhow!("b\nc").context("a")), "a: b c");
    }
}
