//! Compares replays with their simulations, metric by metric.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::replay::{Replay, Replayed};
use crate::platform::fault::FaultKind;
use crate::simulate::Outcome;
use crate::stats::median;

/// One figure of both.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "Apart")]
pub struct MetricDelta {
    /// What it is, with its unit.
    pub figure: String,
    /// As replayed, median of all replays.
    pub replayed: f64,
    /// As simulated, median of all replays' simulations.
    pub simulated: f64,
    /// Each replay's value and that of its simulation.
    #[serde(default)]
    pub runs: Vec<(f64, f64)>,
}

impl MetricDelta {
    /// Share by which a simulation is off, whichever way: the median of all replays.
    /// `None` when nothing was replayed of it.
    pub fn difference(&self) -> Option<f64> {
        let off: Vec<f64> = self
            .runs
            .iter()
            .filter(|(replayed, _)| *replayed != 0.0)
            .map(|(replayed, simulated)| (simulated / replayed - 1.0).abs())
            .collect();
        median(&off)
    }
}

/// What a figure is in a replay, if it is there, and in a simulation.
type Metric = (
    &'static str,
    fn(&Replayed) -> Option<f64>,
    fn(&Outcome) -> f64,
);

const METRICS: [Metric; 10] = [
    (
        "cold requests",
        |seen| seen.cold.map(|cold| cold as f64),
        |model| model.cold as f64,
    ),
    (
        "cold fraction",
        |seen| Some(seen.cold? as f64 / seen.requests.max(1) as f64),
        |model| model.cold_fraction,
    ),
    (
        "instances started",
        |seen| seen.instances_started.map(|started| started as f64),
        |model| model.instances_started as f64,
    ),
    ("requests refused", refused, |model| model.throttled as f64),
    (
        "latency p50, ms",
        |seen| Some(seen.latency_ms.p50),
        |model| model.latency_ms.p50,
    ),
    (
        "latency p90, ms",
        |seen| Some(seen.latency_ms.p90),
        |model| model.latency_ms.p90,
    ),
    (
        "latency p99, ms",
        |seen| Some(seen.latency_ms.p99),
        |model| model.latency_ms.p99,
    ),
    (
        "latency max, ms",
        |seen| Some(seen.latency_ms.max),
        |model| model.latency_ms.max,
    ),
    (
        "cold latency p50, ms",
        |seen| Some(seen.cold_latency_ms.as_ref()?.p50),
        |model| model.cold_latency_ms.p50,
    ),
    (
        "billed GB-s",
        |seen| seen.billed_gb_seconds,
        |model| model.billed_gb_seconds,
    ),
];

fn refused(seen: &Replayed) -> Option<f64> {
    seen.cold?;
    let refused = seen.faults.get(&FaultKind::Throttled.to_string());
    Some(refused.copied().unwrap_or(0) as f64)
}

/// The figures that both have.
pub(super) fn compare(replays: &[Replay]) -> Vec<MetricDelta> {
    let compared = METRICS.iter().filter_map(|(figure, seen, model)| {
        let runs: Vec<(f64, f64)> = replays
            .iter()
            .filter_map(|replay| {
                let simulated: Vec<f64> = replay.simulated.iter().map(model).collect();
                Some((seen(&replay.replayed)?, median(&simulated)?))
            })
            .collect();
        let [replayed, simulated] = [
            runs.iter().map(|run| run.0).collect::<Vec<_>>(),
            runs.iter().map(|run| run.1).collect(),
        ];
        Some(MetricDelta {
            figure: (*figure).to_owned(),
            replayed: median(&replayed)?,
            simulated: median(&simulated)?,
            runs,
        })
    });
    compared.collect()
}
