//! `coldread completions` and `coldread man`, for packagers.

use clap::{Args, Command};
use clap_complete::Shell;
use std::io;
use std::path::PathBuf;

#[derive(Debug, Args)]
pub(crate) struct CompletionsArgs {
    /// Shell to complete in
    shell: Shell,
}

#[derive(Debug, Args)]
pub(crate) struct ManArgs {
    /// Existing folder for the pages: one for the program and one per subcommand
    folder: PathBuf,
}

/// Prints a completion script for `command`.
pub(crate) fn completions(args: &CompletionsArgs, command: Command) -> anyhow::Result<()> {
    let mut command = command;
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut command, "coldread", &mut script);
    // `generate` panics when its writer fails; a closed pipe is no reason to.
    Ok(io::Write::write_all(&mut io::stdout(), &script)?)
}

/// Writes the manual pages of `command`.
pub(crate) fn man(args: &ManArgs, command: Command) -> anyhow::Result<()> {
    Ok(clap_mangen::generate_to(command, &args.folder)?)
}
