//! Two runs side by side.

use anyhow::Result;
use maud::{Markup, html};

use super::page;
use super::table::{Figure, figures};
use crate::format::number;
use crate::results::Results;

/// One figure in both runs.
pub struct FigurePair {
    /// In the run that is compared against.
    pub a: Figure,
    /// In the run that is compared.
    pub b: Figure,
}

impl FigurePair {
    /// `b` over `a`, unless that is zero.
    pub fn ratio(&self) -> Option<f64> {
        (self.a.value != 0.0).then(|| self.b.value / self.a.value)
    }

    /// Whether the intervals leave no doubt which is larger; `None` without intervals.
    fn differs(&self) -> Option<bool> {
        let (a, b) = (self.a.interval?, self.b.interval?);
        Some(a.1 < b.0 || b.1 < a.0)
    }

    /// What the intervals say, in words.
    pub fn remark(&self) -> &'static str {
        match self.differs() {
            Some(true) => "differs",
            Some(false) => "within noise",
            None => "",
        }
    }
}

/// A figure with its interval, if it has one.
pub fn with_interval(figure: &Figure) -> String {
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

/// Figures that both runs have.
pub fn pairs(a: &Results, b: &Results) -> Vec<FigurePair> {
    let others = figures(b);
    figures(a)
        .into_iter()
        .filter_map(|a| {
            let same = |b: &&Figure| (b.section, &b.name, b.unit) == (a.section, &a.name, a.unit);
            let b = others.iter().find(same)?.clone();
            Some(FigurePair { a, b })
        })
        .collect()
}

/// The page of the comparison.
pub fn render(pairs: &[FigurePair], a: &Results, b: &Results) -> Result<String> {
    page::page("Two runs", &body(pairs, a, b), b)
}

fn body(pairs: &[FigurePair], a: &Results, b: &Results) -> Markup {
    html! {
        h1 { "Two runs" }
        div.wide { table {
            @for (name, results) in [("A", a), ("B", b)] {
                tr { td { (name) } td { code { (results.command.join(" ")) } } td { (results.machine.summary()) } }
            }
        } }
        @if a.machine.cpu != b.machine.cpu {
            p.warn { "The two runs are from different machines, so the ratios compare the machines, too." }
        }
        h2 { "Figures" }
        p.note { "In brackets: 95% intervals, where the runs measured them." }
        div.wide { table {
            tr { th { "section" } th { "figure" } th { "unit" } th.n { "A" } th.n { "B" } th.n { "B / A" } th {} }
            @for pair in pairs { tr {
                td { (pair.a.section) } td { (pair.a.name) } td { (pair.a.unit) }
                td.n { (with_interval(&pair.a)) } td.n { (with_interval(&pair.b)) }
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
            name: "first response".to_owned(),
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
            let pair = FigurePair {
                a: figure(10.0, a),
                b: figure(13.0, b),
            };
            assert_eq!(pair.remark(), remark);
            assert_eq!(pair.ratio(), Some(1.3));
        }
        assert_eq!(
            with_interval(&figure(10.0, Some((9.0, 11.0)))),
            "10 [9, 11]"
        );
    }
}
