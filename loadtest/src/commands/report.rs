//! `coldread-loadtest report`: one HTML page of result files.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;

use super::output::write;
use crate::report::{page, table};
use crate::results::Results;

/// Make one HTML page from result files
#[derive(Debug, Clone, Args)]
pub(super) struct ReportArgs {
    /// Results written with --json; the sections of several files are merged
    #[arg(required = true, value_name = "RESULTS")]
    files: Vec<PathBuf>,
    /// File of the page
    #[arg(short, long, default_value = "report.html", value_name = "FILE")]
    output: PathBuf,
    /// Also write the merged results, as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Also write the figures as CSV: section, name, unit, value
    #[arg(long, value_name = "FILE")]
    csv: Option<PathBuf>,
}

impl ReportArgs {
    /// Reads, renders and writes.
    pub(super) fn run(self) -> Result<()> {
        let results = Results::read_merged(&self.files)?;
        write(&self.output, &page::render(&results)?)?;
        if let Some(path) = &self.json {
            results.write(path)?;
        }
        if let Some(path) = &self.csv {
            write(path, &table::csv(&results)?)?;
        }
        println_ignoring_epipe!("{}", page::verdict(&results));
        println_ignoring_epipe!("{}", self.output.display());
        Ok(())
    }
}
