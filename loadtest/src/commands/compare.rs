//! `coldread-loadtest compare`: two runs side by side.

use std::path::PathBuf;

use anyhow::{Result, ensure};
use clap::Args;
use comfy_table::{Table, presets};

use super::output::{right_align, write};
use crate::format::number;
use crate::report::compare::{FigurePair, pairs, render, with_interval};
use crate::results::Results;

/// Compare two runs
#[derive(Debug, Clone, Args)]
pub(super) struct CompareArgs {
    /// Results of the baseline
    a: PathBuf,
    /// Results to compare with it
    b: PathBuf,
    /// Also write the comparison as an HTML page
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

impl CompareArgs {
    /// Compares, prints and writes.
    pub(super) fn run(self) -> Result<()> {
        let (a, b) = (Results::read(&self.a)?, Results::read(&self.b)?);
        let pairs = pairs(&a, &b);
        ensure!(
            !pairs.is_empty(),
            "{} and {} have no metric in common; compare results of the same command",
            self.a.display(),
            self.b.display()
        );
        println_ignoring_epipe!("A: {} ({})", self.a.display(), a.machine.summary());
        println_ignoring_epipe!("B: {} ({})", self.b.display(), b.machine.summary());
        if a.machine.cpu != b.machine.cpu {
            println_ignoring_epipe!(
                "The two runs are from different machines, so the ratios compare the machines, too."
            );
        }
        println_ignoring_epipe!("{}", table(&pairs));
        if let Some(path) = &self.output {
            write(path, &render(&pairs, &a, &b)?)?;
        }
        Ok(())
    }
}

fn table(pairs: &[FigurePair]) -> Table {
    let mut table = Table::new();
    table
        .load_style(presets::UTF8_HORIZONTAL_ONLY)
        .set_header(["section", "figure", "unit", "A", "B", "B / A", ""]);
    for pair in pairs {
        table.add_row([
            pair.a.section.to_owned(),
            pair.a.name.clone(),
            pair.a.unit.to_owned(),
            with_interval(&pair.a),
            with_interval(&pair.b),
            pair.ratio().map_or_else(String::new, number),
            pair.remark().to_owned(),
        ]);
    }
    right_align(&mut table, 3..6);
    table
}
