//! The `coldread-loadtest` binary.
//!
//! Exit codes: 0 done, 1 failed (one line on standard error says why), 2 wrong
//! usage, 130 stopped with Ctrl-C.

use clap::Parser;
use coldread_loadtest::cli::Cli;
use std::process::ExitCode;

fn main() -> ExitCode {
    match Cli::parse().run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
