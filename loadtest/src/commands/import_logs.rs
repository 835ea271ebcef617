//! `coldread-loadtest import-logs`: figures out of Lambda's logs.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;

use super::options::CommonOptions;
use crate::logs::Logs;
use crate::results::Results;

/// Import measured times from the REPORT lines of a real function's log
#[derive(Debug, Clone, Args)]
pub(super) struct ImportLogsArgs {
    /// File of the exported log
    file: PathBuf,
    #[command(flatten)]
    common: CommonOptions,
}

impl ImportLogsArgs {
    /// Reads, prints and writes.
    pub(super) fn run(self) -> Result<()> {
        let logs = Logs::read(&self.file, self.common.seed)?;
        println_ignoring_epipe!("{}", logs.words());
        if let Some(path) = &self.common.json {
            let mut results = Results::new(self.common.seed);
            results.logs = Some(logs);
            results.write(path)?;
        }
        Ok(())
    }
}
