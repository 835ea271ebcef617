//! The command line: what can be said, and which module answers it.

use crate::cold_start::ColdStartArgs;
use crate::invoke::InvokeArgs;
use crate::platform::launcher;
use anyhow::Result;
use clap::{Args, Parser, Subcommand};
use std::path::PathBuf;

/// Measures coldread from outside: cold starts, warm latency, traces and what they cost
#[derive(Debug, Parser)]
#[command(name = "coldread-loadtest", version, max_term_width = 100)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Cost(Box<crate::cost::cli::CostArgs>),
    Simulate(Box<crate::simulate::cli::SimulateArgs>),
    Trace(Box<crate::trace::TraceArgs>),
    Warm(Box<crate::warm::WarmArgs>),
    ImportLogs(crate::logs::ImportArgs),
    Report(crate::report::ReportArgs),
    Compare(crate::report::compare::CompareArgs),
    /// Prints the JSON schema of the results
    Schema,
    SelfTest(Box<crate::generator::self_test::SelfTestArgs>),
    ColdStart(Box<ColdStartArgs>),
    Invoke(InvokeArgs),
    /// Becomes a function; the harness calls it
    #[command(name = launcher::NAME, hide = true)]
    Launch(launcher::Launch),
}

/// Options that every measurement takes.
#[derive(Debug, Clone, Args)]
pub struct Common {
    /// Also write the results to this file, as JSON
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Seed of everything random; the same seed gives the same schedule
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// No progress bar
    #[arg(long)]
    pub quiet: bool,
}

impl Cli {
    /// Runs the sub-command.
    pub fn run(self) -> Result<()> {
        match self.command {
            Command::Cost(args) => args.run(),
            Command::Simulate(args) => args.run(),
            Command::Trace(args) => args.run(),
            Command::Warm(args) => args.run(),
            Command::ImportLogs(args) => args.run(),
            Command::Report(args) => args.run(),
            Command::Compare(args) => args.run(),
            Command::Schema => {
                print!("{}", crate::results::schema());
                Ok(())
            }
            Command::SelfTest(args) => args.run(),
            Command::ColdStart(args) => args.run(),
            Command::Invoke(args) => args.run(),
            Command::Launch(launch) => launch.run(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn every_option_has_one_meaning_and_every_default_parses() {
        Cli::command().debug_assert();
        for arguments in [
            &["cost"][..],
            &["cost", "--pipeline", "--from-arrivals"],
            &["simulate"],
            &["warm"],
            &["self-test"],
        ] {
            let words = ["coldread-loadtest"].iter().chain(arguments);
            assert!(Cli::try_parse_from(words).is_ok(), "{arguments:?}");
        }
    }
}
