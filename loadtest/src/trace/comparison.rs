//! How far replays and their simulations are apart.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Replay, Replayed, TraceRun};
use crate::format::number;
use crate::format::percent;
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

impl TraceRun {
    /// The answer in sentences, of so many replays.
    pub(super) fn words(&self, replays: usize) -> Vec<String> {
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
        if replays > 1 {
            words.push(format!(
                "That was the first of {replays} replays, of which the table has the medians."
            ));
        }
        if replayed.schedule_error_p99_ms > crate::generator::KEPT_MS {
            words.push(format!(
                "The client DID NOT KEEP its schedule: p99 {} ms late.",
                number(replayed.schedule_error_p99_ms)
            ));
        }
        words
    }
}
