//! The command line: its arguments, and which subcommand handles them.
//!
//! | module | what it holds |
//! |---|---|
//! | [`serve`], [`score`], [`eval`], [`info`], [`pack`], [`bench`] | one subcommand each |
//! | [`model_source`] | from `--model` to a path: a file, a folder or a download from the Hub |
//! | `manual` | shell completions and man pages (feature `manual`) |
//! | [`posts`] | where posts come from: a file or standard input |
//! | [`logging`], [`progress`], [`terminal`] | what standard error and the terminal show |

mod bench;
mod eval;
mod info;
pub(crate) mod logging;
#[cfg(feature = "manual")]
mod manual;
mod model_source;
mod pack;
mod posts;
mod progress;
mod score;
mod serve;
mod terminal;

use clap::error::ErrorKind;
use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};
use coldread::config::{Config, ModelArgs};
use coldread::environment::with_variables;
use std::ffi::OsString;

const EXAMPLES: &str = "\
Examples:
  coldread                                     serve on http://127.0.0.1:8080
  coldread score \"what a day!\"                 score one post
  coldread score --input posts.txt             score a file, one post per line
  coldread eval labelled.tsv                   measure the model on labelled posts
  coldread --model ./my-model score \"hm\"       use another model
  coldread --model OWNER/NAME score \"hm\"       use a model of the Hugging Face Hub

Without a command, coldread serves and accepts the flags of `coldread serve`.";

/// Scores the sentiment of social-media posts: an HTTP server, an AWS Lambda function and a
/// command line in one small binary
#[derive(Debug, Parser)]
#[command(name = "coldread", version, after_help = EXAMPLES, max_term_width = 100)]
pub(crate) struct Cli {
    #[command(flatten)]
    model: ModelArgs,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve over HTTP, or on AWS Lambda if its Runtime API is present [default]
    Serve(Box<Config>),
    /// Score posts from the arguments, standard input or a file
    Score(score::ScoreArgs),
    /// Measure the model on labelled posts
    Eval(eval::EvalArgs),
    /// Show the model, the engine and the limits
    Info(info::InfoArgs),
    /// Convert a model to one packed int8 file
    Pack(pack::PackArgs),
    /// Measure the speed of the kernels and of the model
    Bench(bench::BenchArgs),
    /// Print a completion script for a shell
    #[cfg(feature = "manual")]
    Completions(manual::CompletionsArgs),
    /// Write manual pages
    #[cfg(feature = "manual")]
    Man(manual::ManArgs),
}

/// Arguments that clap accepted one by one, but that make no sense together.
#[derive(Debug, thiserror::Error)]
#[error("{0}\n\nFor more information, try '--help'.")]
pub(crate) struct UsageError(String);

impl UsageError {
    #[expect(
        clippy::new_ret_no_self,
        reason = "every caller wants it as an `anyhow::Error`"
    )]
    fn new(message: impl Into<String>) -> anyhow::Error {
        Self(message.into()).into()
    }
}

/// Parses the process's arguments.
///
/// No subcommand means `serve`. Flattening its flags into the top level would
/// make `coldread --addr ... score` legal, so the word is put in instead.
pub(crate) fn parse(args: impl Iterator<Item = OsString>) -> Result<Cli, clap::Error> {
    let mut args: Vec<OsString> = args.collect();
    // The usual start of a server, spared the second attempt.
    if args.len() == 1 {
        args.push("serve".into());
    }
    let with_serve = || {
        let mut args = args.clone();
        args.insert(1.min(args.len()), "serve".into());
        parse_exactly(args)
    };
    match parse_exactly(args.clone()) {
        Ok(cli) if cli.command.is_none() => with_serve(),
        Err(error) if error.kind() == ErrorKind::UnknownArgument => match with_serve() {
            // `serve` does not know it either: the first complaint is about what was typed.
            Err(second) if second.kind() == ErrorKind::UnknownArgument => Err(error),
            other => other,
        },
        other => other,
    }
}

fn parse_exactly(args: Vec<OsString>) -> Result<Cli, clap::Error> {
    Cli::from_arg_matches(&command().try_get_matches_from(args)?)
}

/// The command with its model flags, the only ones of the top level, valid in every
/// subcommand too.
fn command() -> clap::Command {
    let command = with_variables(Cli::command(), |name| std::env::var_os(name));
    let command = command.mut_args(|arg| short_help(arg).global(true));
    command.mut_subcommand("serve", |serve| serve.mut_args(short_help))
}

/// Hides from `-h` the flags that few people set; `--help` shows them.
fn short_help(arg: clap::Arg) -> clap::Arg {
    const OFTEN: [&str; 13] = [
        "addr",
        "api_keys",
        "api_keys_file",
        "compat",
        "cors_origins",
        "max_body_bytes",
        "max_posts",
        "model",
        "offline",
        "request_timeout_ms",
        "results",
        "revision",
        "workers",
    ];
    let is_often = OFTEN.contains(&arg.get_id().as_str());
    arg.hide_short_help(!is_often)
}

impl Cli {
    /// Whether this process is a server, whose log is read by machines and operators.
    pub(crate) fn serves(&self) -> bool {
        matches!(self.command, None | Some(Command::Serve(_)))
    }

    /// Runs the subcommand.
    pub(crate) fn run(self) -> anyhow::Result<()> {
        let model = self.model;
        match self.command {
            // The server's configuration has model flags of its own; those of the top
            // level also know what stood before the word `serve`.
            Some(Command::Serve(config)) => serve::run(&Config { model, ..*config }),
            Some(Command::Score(args)) => score::run(&args, &model),
            Some(Command::Eval(args)) => eval::run(&args, &model),
            Some(Command::Info(args)) => info::run(&args, &model),
            Some(Command::Pack(args)) => pack::run(&args, &model),
            Some(Command::Bench(args)) => bench::run(&args, &model),
            #[cfg(feature = "manual")]
            Some(Command::Completions(args)) => manual::completions(&args, command()),
            #[cfg(feature = "manual")]
            Some(Command::Man(args)) => manual::man(&args, command()),
            None => unreachable!("`parse` puts `serve` in"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(args: &[&str]) -> Result<Cli, clap::Error> {
        parse(std::iter::once(&"coldread").chain(args).map(OsString::from))
    }

    #[test]
    fn the_definition_is_sound() {
        command().debug_assert();
    }

    #[test]
    fn short_help_shows_what_people_set_and_long_help_everything() {
        let help = |flag: &str| parsed(&["serve", flag]).unwrap_err().to_string();
        let (short, long) = (help("-h"), help("--help"));
        let flags = |text: &str| {
            text.lines()
                .filter(|line| line.trim_start().starts_with("--"))
                .count()
        };
        assert!(flags(&short) <= 14, "{short}");
        assert!(flags(&long) > 30, "{long}");
        for often in [
            "--model",
            "--addr",
            "--api-keys",
            "--workers",
            "--max-posts",
        ] {
            assert!(short.contains(often), "{often}");
        }
        assert!(!short.contains("--half-close-ms") && long.contains("--half-close-ms"));
    }

    #[test]
    fn no_command_serves_with_the_flags_of_serve() {
        assert!(parsed(&[]).unwrap().serves());
        assert!(parsed(&["--addr", "127.0.0.1:0"]).unwrap().serves());
        assert!(
            parsed(&["--model", "m", "--addr", "127.0.0.1:0"])
                .unwrap()
                .serves()
        );
        assert!(!parsed(&["score", "hm"]).unwrap().serves());
    }

    #[test]
    fn model_flags_stand_before_and_after_the_command() {
        for args in [["--model", "m", "info"], ["info", "--model", "m"]] {
            let cli = parsed(&args).unwrap();
            assert_eq!(cli.model.model.as_deref(), Some(std::path::Path::new("m")));
        }
    }

    #[test]
    fn unknown_flags_are_refused_by_name() {
        for args in [
            &["--bogus"][..],
            &["score", "--bogus"],
            &["serve", "--bogus"],
        ] {
            let error = parsed(args).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::UnknownArgument, "{args:?}");
            assert!(error.to_string().contains("--bogus"), "{error}");
        }
        assert_eq!(
            parsed(&["scoer"]).unwrap_err().kind(),
            ErrorKind::InvalidSubcommand
        );
    }
}
