//! The figures of a result document as rows: for CSV and for comparing.

use anyhow::Result;

use crate::cold_start::{Cache, Row};
use crate::latency::Latency;
use crate::results::Results;

/// One figure.
#[derive(Clone, Debug, PartialEq)]
pub struct Figure {
    /// The section of the document that it is from.
    pub section: &'static str,
    /// What it is.
    pub name: String,
    /// Its unit.
    pub unit: &'static str,
    /// Its value.
    pub value: f64,
    /// 95% interval, where one was measured.
    pub interval: Option<(f64, f64)>,
}

/// All figures, in the order of the page.
pub(super) fn figures(results: &Results) -> Vec<Figure> {
    let mut rows = Rows(Vec::new());
    for row in results.cold_start.iter().flat_map(|found| &found.rows) {
        for (what, summary) in [
            ("first answer", &row.first_answer_ms),
            ("first next", &row.first_next_ms),
            ("first event", &row.first_event_ms),
            ("second event", &row.second_event_ms),
        ] {
            if let Some(summary) = summary {
                rows.0.push(Figure {
                    section: "cold start",
                    name: format!("{}, {what}, median", condition(row)),
                    unit: "ms",
                    value: summary.median,
                    interval: Some((summary.median_ci.low, summary.median_ci.high)),
                });
            }
        }
    }
    if let Some(found) = &results.simulation {
        let function = &found.function;
        rows.add("simulation", "cold fraction", "1", function.cold_fraction);
        rows.add(
            "simulation",
            "cold starts add at p99",
            "ms",
            found.cold_adds_ms_p99,
        );
        rows.latency("simulation", "function", &function.latency_ms);
        rows.latency("simulation", "always on", &found.baseline.latency_ms);
        rows.add("simulation", "billed", "GB-s", function.billed_gb_seconds);
        rows.add(
            "simulation",
            "instances at most",
            "1",
            function.instances_peak as f64,
        );
    }
    if let Some(warm) = &results.warm {
        if let Some(rate) = warm.capacity_rps {
            rows.add("warm", "capacity", "requests/s", rate);
        }
        rows.add("warm", "single caller p50", "ms", warm.service_ms);
        if let Some(run) = &warm.at_capacity {
            rows.latency("warm", "at capacity", &run.latency_ms);
        }
    }
    for option in results.decision.iter().flat_map(|found| &found.options) {
        let name = &option.target;
        rows.add("decision", name, "$/month", option.usd_per_month);
        for (quantile, value) in [("p99", option.p99_ms), ("p99.9", option.p999_ms)] {
            if let Some(ms) = value {
                rows.add("decision", &format!("{name} {quantile}"), "ms", ms);
            }
        }
    }
    if let Some(cost) = &results.cost {
        for quote in &cost.quotes {
            rows.add("cost", &quote.target, "$/month", quote.usd_per_month);
            rows.add(
                "cost",
                &quote.target,
                "$/million posts",
                quote.usd_per_million_posts,
            );
        }
        for found in &cost.break_evens {
            if let Some(rate) = found.requests_per_second {
                let name = format!("{} = {}", found.on_demand, found.always_on);
                rows.add("break-even", &name, "requests/s", rate);
            }
        }
    }
    rows.0
}

/// A function and what it ran under, in words.
pub(super) fn condition(row: &Row) -> String {
    let size = row
        .memory_mb
        .map_or_else(|| "no limit".to_owned(), |memory| format!("{memory} MB"));
    let cache = match row.cache {
        Cache::Warm => "files in memory",
        Cache::Dropped => "files evicted",
    };
    format!("{}, {size}, {cache}", row.function)
}

struct Rows(Vec<Figure>);

impl Rows {
    fn add(&mut self, section: &'static str, name: &str, unit: &'static str, value: f64) {
        self.0.push(Figure {
            section,
            name: name.to_owned(),
            unit,
            value,
            interval: None,
        });
    }

    fn latency(&mut self, section: &'static str, name: &str, latency: &Latency) {
        for (quantile, value) in [
            ("p50", latency.p50),
            ("p99", latency.p99),
            ("p99.9", latency.p999),
            ("max", latency.max),
        ] {
            self.add(section, &format!("{name} {quantile}"), "ms", value);
        }
    }
}

/// The figures as CSV.
pub fn csv(results: &Results) -> Result<String> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    writer.write_record(["section", "name", "unit", "value", "low", "high"])?;
    for figure in figures(results) {
        let end = |end: Option<f64>| end.map_or_else(String::new, |value| value.to_string());
        writer.write_record([
            figure.section,
            &figure.name,
            figure.unit,
            &figure.value.to_string(),
            &end(figure.interval.map(|interval| interval.0)),
            &end(figure.interval.map(|interval| interval.1)),
        ])?;
    }
    Ok(String::from_utf8(writer.into_inner()?)?)
}
