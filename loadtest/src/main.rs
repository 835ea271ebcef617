//! The `coldread-loadtest` binary.
//!
//! Exit codes: 0 done, 1 failed (one line on standard error says why), 2 wrong
//! usage, 130 stopped with Ctrl-C and 143 with SIGTERM, after writing what there is.

use coldread_loadtest::commands::Cli;
use coldread_loadtest::interrupt;
use std::process::ExitCode;

fn main() -> ExitCode {
    let done = Cli::from_process().run();
    if let Err(error) = &done {
        eprintln!("error: {error:#}");
    }
    match (interrupt::exit_code(), done) {
        (Some(code), _) => code.into(),
        (None, Ok(())) => ExitCode::SUCCESS,
        (None, Err(_)) => ExitCode::FAILURE,
    }
}
