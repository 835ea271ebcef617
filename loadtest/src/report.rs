//! `report` and `compare`: results for people who have to decide.
//!
//! A report is one HTML file that refers to nothing outside itself. Everything a
//! user or a server can put into results is escaped: text by the template engine
//! and the plot library, the embedded JSON by writing `<` as `\u003c`.

pub mod compare;
mod figures;
mod page;
mod plots;
mod table;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use clap::Args;

use crate::results::Results;

/// Makes one HTML page of result files
#[derive(Debug, Clone, Args)]
pub struct ReportArgs {
    /// Results written with --json; of several files each adds its sections
    #[arg(required = true, value_name = "RESULTS")]
    files: Vec<PathBuf>,
    /// The page
    #[arg(short, long, default_value = "report.html", value_name = "FILE")]
    output: PathBuf,
    /// Also write the merged results, as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Also write the figures as a table: section, name, unit, value
    #[arg(long, value_name = "FILE")]
    csv: Option<PathBuf>,
}

impl ReportArgs {
    /// Reads, renders and writes.
    pub fn run(self) -> Result<()> {
        let results = merged(&self.files)?;
        page_of(&results, &self.output)?;
        if let Some(path) = &self.json {
            results.write(path)?;
        }
        if let Some(path) = &self.csv {
            write(path, &table::csv(&results)?)?;
        }
        say!("{}", page::verdict(&results));
        say!("{}", self.output.display());
        Ok(())
    }
}

/// Writes the page of `results` to `path`.
pub(crate) fn page_of(results: &Results, path: &Path) -> Result<()> {
    write(path, &page::render(results)?)
}

fn write(path: &Path, text: &str) -> Result<()> {
    std::fs::write(path, text).with_context(|| format!("writing {}", path.display()))
}

/// The sections of all files in one document; facts of the run are the first file's.
fn merged(files: &[PathBuf]) -> Result<Results> {
    let mut merged: Option<Results> = None;
    for path in files {
        let next = Results::read(path)?;
        match &mut merged {
            None => merged = Some(next),
            Some(merged) => {
                let twice = merged.absorb(next);
                ensure!(
                    twice.is_empty(),
                    "{}: the section `{}` is in an earlier file already; compare shows two runs",
                    path.display(),
                    twice.join("`, `")
                );
            }
        }
    }
    merged.context("no file")
}

#[cfg(test)]
mod tests;
