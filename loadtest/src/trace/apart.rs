//! How far a replay and its simulation are apart.

use comfy_table::{CellAlignment, Table, presets};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Replayed, TraceRun};
use crate::cost::bill::number;
use crate::cost::lambda::percent;
use crate::platform::fault::FaultKind;
use crate::simulate::Outcome;

/// One figure of both.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Apart {
    /// What it is, with its unit.
    pub figure: String,
    /// As replayed.
    pub replayed: f64,
    /// As simulated.
    pub simulated: f64,
}

impl Apart {
    /// Simulated over replayed, less one; `None` when nothing was replayed of it.
    pub fn difference(&self) -> Option<f64> {
        (self.replayed != 0.0).then(|| self.simulated / self.replayed - 1.0)
    }
}

/// The figures that both have.
pub(super) fn compare(replayed: &Replayed, simulated: &Outcome) -> Vec<Apart> {
    let mut apart = Vec::new();
    let mut add = |figure: &str, replayed: f64, simulated: f64| {
        apart.push(Apart {
            figure: figure.to_owned(),
            replayed,
            simulated,
        });
    };
    if let Some(cold) = replayed.cold {
        let share = cold as f64 / replayed.requests.max(1) as f64;
        add("cold requests", cold as f64, simulated.cold as f64);
        add("cold fraction", share, simulated.cold_fraction);
    }
    if let Some(started) = replayed.instances_started {
        add(
            "instances started",
            started as f64,
            simulated.instances_started as f64,
        );
    }
    if replayed.cold.is_some() {
        let refused = replayed.faults.get(&FaultKind::Throttled.to_string());
        let refused = refused.copied().unwrap_or(0);
        add(
            "requests refused",
            refused as f64,
            simulated.throttled as f64,
        );
    }
    let (real, model) = (&replayed.latency_ms, &simulated.latency_ms);
    add("latency p50, ms", real.p50, model.p50);
    add("latency p99, ms", real.p99, model.p99);
    add("latency max, ms", real.max, model.max);
    if let Some(cold) = &replayed.cold_latency_ms {
        add(
            "cold latency p50, ms",
            cold.p50,
            simulated.cold_latency_ms.p50,
        );
    }
    if let Some(billed) = replayed.billed_gb_seconds {
        add("billed GB-s", billed, simulated.billed_gb_seconds);
    }
    apart
}

/// The figures, for a terminal.
pub(super) fn table(apart: &[Apart]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::UTF8_HORIZONTAL_ONLY).set_header([
        "figure",
        "replayed",
        "simulated",
        "apart",
    ]);
    for figure in apart {
        table.add_row([
            figure.figure.clone(),
            number(figure.replayed),
            number(figure.simulated),
            figure.difference().map_or_else(String::new, percent),
        ]);
    }
    for column in 1..4 {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}

impl TraceRun {
    /// The answer in sentences.
    pub(super) fn words(&self) -> Vec<String> {
        let Self {
            replayed,
            simulated,
            ..
        } = self;
        let mut words = vec![format!(
            "{} against {}: {} answered, p50 {} ms, p99 {} ms{}.",
            self.arrivals,
            self.against,
            number(replayed.requests as f64),
            number(replayed.latency_ms.p50),
            number(replayed.latency_ms.p99),
            replayed.cold.map_or_else(String::new, |cold| format!(
                ", {} cold ({})",
                number(cold as f64),
                percent(cold as f64 / replayed.requests.max(1) as f64)
            ))
        )];
        for (fault, count) in &replayed.faults {
            words.push(format!("{count} failed: {fault}."));
        }
        words.push(format!(
            "The simulation of the same arrivals says {} cold ({}), p50 {} ms, p99 {} ms.",
            number(simulated.cold as f64),
            percent(simulated.cold_fraction),
            number(simulated.latency_ms.p50),
            number(simulated.latency_ms.p99)
        ));
        if replayed.schedule_error_p99_ms > crate::generator::KEPT_MS {
            words.push(format!(
                "The client DID NOT KEEP its schedule: p99 {} ms late.",
                number(replayed.schedule_error_p99_ms)
            ));
        }
        words
    }
}
