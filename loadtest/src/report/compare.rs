//! `compare`: two runs side by side.

use std::path::PathBuf;

use anyhow::{Result, ensure};
use clap::Args;
use comfy_table::{CellAlignment, Table, presets};
use maud::{Markup, html};

use super::page;
use super::table::{Figure, figures};
use crate::cost::bill::number;
use crate::results::Results;

/// Shows two runs side by side
#[derive(Debug, Clone, Args)]
pub struct CompareArgs {
    /// The run that is compared against
    a: PathBuf,
    /// The run that is compared
    b: PathBuf,
    /// Also write a page
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

/// One figure in both runs.
struct Pair {
    a: Figure,
    b: Figure,
}

impl Pair {
    fn ratio(&self) -> Option<f64> {
        (self.a.value != 0.0).then(|| self.b.value / self.a.value)
    }

    /// Whether the intervals leave no doubt which is larger; `None` without intervals.
    fn differs(&self) -> Option<bool> {
        let (a, b) = (self.a.interval?, self.b.interval?);
        Some(a.1 < b.0 || b.1 < a.0)
    }

    fn remark(&self) -> &'static str {
        match self.differs() {
            Some(true) => "differs",
            Some(false) => "within noise",
            None => "",
        }
    }
}

fn shown(figure: &Figure) -> String {
    match figure.interval {
        Some((low, high)) => format!(
            "{} [{}, {}]",
            number(figure.value),
            number(low),
            number(high)
        ),
        None => number(figure.value),
    }
}

impl CompareArgs {
    /// Compares, prints and writes.
    pub fn run(self) -> Result<()> {
        let (a, b) = (Results::read(&self.a)?, Results::read(&self.b)?);
        let pairs = pairs(&a, &b);
        ensure!(
            !pairs.is_empty(),
            "{} and {} have no figure in common",
            self.a.display(),
            self.b.display()
        );
        say!("A: {} ({})", self.a.display(), a.machine.summary());
        say!("B: {} ({})", self.b.display(), b.machine.summary());
        if a.machine.cpu != b.machine.cpu {
            say!("The machines differ: ratios compare machines as well.");
        }
        say!("{}", terminal(&pairs));
        if let Some(path) = &self.output {
            let body = markup(&pairs, (&a, &b));
            super::write(path, &page::page("Two runs", &body, &b)?)?;
        }
        Ok(())
    }
}

/// Figures that both runs have.
fn pairs(a: &Results, b: &Results) -> Vec<Pair> {
    let others = figures(b);
    figures(a)
        .into_iter()
        .filter_map(|a| {
            let same = |b: &&Figure| (b.section, &b.name, b.unit) == (a.section, &a.name, a.unit);
            let b = others.iter().find(same)?.clone();
            Some(Pair { a, b })
        })
        .collect()
}

fn terminal(pairs: &[Pair]) -> Table {
    let mut table = Table::new();
    table
        .load_style(presets::UTF8_HORIZONTAL_ONLY)
        .set_header(["section", "figure", "unit", "A", "B", "B / A", ""]);
    for pair in pairs {
        table.add_row([
            pair.a.section.to_owned(),
            pair.a.name.clone(),
            pair.a.unit.to_owned(),
            shown(&pair.a),
            shown(&pair.b),
            pair.ratio().map_or_else(String::new, number),
            pair.remark().to_owned(),
        ]);
    }
    for column in 3..6 {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}

fn markup(pairs: &[Pair], (a, b): (&Results, &Results)) -> Markup {
    html! {
        h1 { "Two runs" }
        div.wide { table {
            @for (name, results) in [("A", a), ("B", b)] {
                tr { td { (name) } td { code { (results.command.join(" ")) } } td { (results.machine.summary()) } }
            }
        } }
        @if a.machine.cpu != b.machine.cpu {
            p.warn { "The machines differ: ratios compare machines as well." }
        }
        h2 { "Figures" }
        p.note { "In brackets: 95% intervals, where the runs measured them." }
        div.wide { table {
            tr { th { "section" } th { "figure" } th { "unit" } th.n { "A" } th.n { "B" } th.n { "B / A" } th {} }
            @for pair in pairs { tr {
                td { (pair.a.section) } td { (pair.a.name) } td { (pair.a.unit) }
                td.n { (shown(&pair.a)) } td.n { (shown(&pair.b)) }
                td.n { (pair.ratio().map_or_else(String::new, number)) }
                td { (pair.remark()) }
            } }
        } }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figure(value: f64, interval: Option<(f64, f64)>) -> Figure {
        Figure {
            section: "cold start",
            name: "first answer".to_owned(),
            unit: "ms",
            value,
            interval,
        }
    }

    #[test]
    fn intervals_decide_whether_runs_differ() {
        for (a, b, remark) in [
            (Some((9.0, 11.0)), Some((12.0, 14.0)), "differs"),
            (Some((9.0, 12.5)), Some((12.0, 14.0)), "within noise"),
            (None, Some((12.0, 14.0)), ""),
        ] {
            let pair = Pair {
                a: figure(10.0, a),
                b: figure(13.0, b),
            };
            assert_eq!(pair.remark(), remark);
            assert_eq!(pair.ratio(), Some(1.3));
        }
        assert_eq!(shown(&figure(10.0, Some((9.0, 11.0)))), "10 [9, 11]");
    }
}
