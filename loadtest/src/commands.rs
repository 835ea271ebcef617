//! The command line: each subcommand reads its options, has a domain measure or
//! compute, prints what it found and writes it.

#[macro_use]
mod output;

mod cold_start;
mod compare;
mod cost;
mod decide;
mod import_logs;
mod invoke;
mod options;
mod report;
mod self_test;
mod simulate;
mod trace;
mod warm;

use anyhow::Result;
use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};
use std::ffi::{OsStr, OsString};

use crate::platform::launcher;

/// Measures coldread from outside: cold starts, warm latency, replays of traces, and their cost
#[derive(Debug, Parser)]
#[command(name = "coldread-loadtest", version, max_term_width = 100)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Decide(Box<decide::DecideArgs>),
    Cost(Box<cost::CostArgs>),
    Simulate(Box<simulate::SimulateArgs>),
    Trace(Box<trace::TraceArgs>),
    Warm(Box<warm::WarmArgs>),
    ImportLogs(import_logs::ImportLogsArgs),
    Report(report::ReportArgs),
    Compare(compare::CompareArgs),
    /// Print the JSON schema of the results
    Schema,
    SelfTest(Box<self_test::SelfTestArgs>),
    ColdStart(Box<cold_start::ColdStartArgs>),
    Invoke(invoke::InvokeArgs),
    /// Becomes a function; the harness calls it
    #[command(name = launcher::NAME, hide = true)]
    Launch(launcher::Launch),
}

impl Cli {
    /// Parses the process's arguments. A variable that is blank counts as unset.
    pub fn from_process() -> Self {
        let command = without_blank(Self::command(), |name| std::env::var_os(name));
        let parsed = Self::from_arg_matches(&command.get_matches());
        parsed.unwrap_or_else(|error| error.exit())
    }

    /// Runs the subcommand.
    pub fn run(self) -> Result<()> {
        match self.command {
            Command::Decide(args) => args.run(),
            Command::Cost(args) => args.run(),
            Command::Simulate(args) => args.run(),
            Command::Trace(args) => args.run(),
            Command::Warm(args) => args.run(),
            Command::ImportLogs(args) => args.run(),
            Command::Report(args) => args.run(),
            Command::Compare(args) => args.run(),
            Command::Schema => {
                println_ignoring_epipe!("{}", crate::results::schema().trim_end());
                Ok(())
            }
            Command::SelfTest(args) => args.run(),
            Command::ColdStart(args) => args.run(),
            Command::Invoke(args) => args.run(),
            Command::Launch(launch) => launch.run(),
        }
    }
}

/// Forgets the variables of settings that hold nothing but white space.
fn without_blank(
    command: clap::Command,
    env: impl Fn(&OsStr) -> Option<OsString> + Copy,
) -> clap::Command {
    let is_blank = |name: &OsStr| {
        env(name).is_some_and(|value| value.to_str().is_some_and(|it| it.trim().is_empty()))
    };
    command
        .mut_args(|arg| match arg.get_env() {
            Some(name) if is_blank(name) => arg.env(None::<&str>),
            _ => arg,
        })
        .mut_subcommands(|command| without_blank(command, env))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_option_has_one_meaning_and_every_default_parses() {
        Cli::command().debug_assert();
        for arguments in [
            &["cost"][..],
            &["decide"],
            &["decide", "--discount", "17", "--arch", "arm"],
            &["cost", "--pipeline", "--from-arrivals"],
            &["simulate"],
            &["warm"],
            &["self-test"],
        ] {
            let words = ["coldread-loadtest"].iter().chain(arguments);
            assert!(Cli::try_parse_from(words).is_ok(), "{arguments:?}");
        }
    }

    fn variables(command: &clap::Command) -> Vec<OsString> {
        let own = command.get_arguments().filter_map(clap::Arg::get_env);
        let mut names: Vec<OsString> = own.map(OsStr::to_owned).collect();
        names.extend(command.get_subcommands().flat_map(variables));
        names
    }

    #[test]
    fn every_blank_variable_counts_as_unset() {
        let all = variables(&Cli::command());
        assert!(!all.is_empty());
        for blank in ["", " \t"] {
            let command = without_blank(Cli::command(), |_| Some(blank.into()));
            assert_eq!(variables(&command), [""; 0]);
        }
        let command = without_blank(Cli::command(), |_| Some("value".into()));
        assert_eq!(variables(&command), all);
    }
}
