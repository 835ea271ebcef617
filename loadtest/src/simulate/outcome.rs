//! What a run comes to, and the counts that lead there.

use hdrhistogram::Histogram;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::model::Model;
use crate::arrivals::Nanos;
use crate::latency::Latency;

/// Parts of the timeline.
pub const BINS: usize = 240;

/// What part of simulated time is run and counted.
#[derive(Clone, Copy, Debug)]
pub struct Window {
    /// End of the run.
    pub horizon: Nanos,
    /// Requests before it shape the fleet and are not counted.
    pub warm_up: Nanos,
}

impl Window {
    /// A run that is counted from its beginning.
    pub fn whole(horizon: Nanos) -> Self {
        Self {
            horizon,
            warm_up: 0,
        }
    }
}

/// One part of the timeline.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Bin {
    /// Its start, seconds.
    pub start_s: f64,
    /// Requests that arrived.
    pub requests: u64,
    /// Those that met a cold start.
    pub cold: u64,
    /// Those rejected.
    pub throttled: u64,
    /// Instances alive at its end.
    pub instances: u64,
}

/// What a simulated run came to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Outcome {
    /// Arrivals in words.
    pub arrivals: String,
    /// Length, seconds.
    pub seconds: f64,
    /// Requests that arrived.
    pub requests: u64,
    /// Requests that waited for an instance to start.
    pub cold: u64,
    /// Requests rejected.
    pub throttled: u64,
    /// Cold over served requests.
    pub cold_fraction: f64,
    /// All served requests.
    pub latency_ms: Latency,
    /// Served requests that met a running instance.
    pub warm_latency_ms: Latency,
    /// Requests that waited for a start.
    pub cold_latency_ms: Latency,
    /// Instances ever started.
    pub instances_started: u64,
    /// Most instances alive at the end of a bin.
    pub instances_peak: u64,
    /// Instance-seconds busy over seconds: mean requests in flight.
    pub mean_busy: f64,
    /// Memory times billed time: started milliseconds of service and init.
    pub billed_gb_seconds: f64,
    /// The run in [`BINS`] parts.
    pub timeline: Vec<Bin>,
}

/// What is counted while a run goes on.
pub(super) struct Tally {
    horizon: Nanos,
    warm_up: Nanos,
    memory_gb: f64,
    warm: Histogram<u64>,
    cold: Histogram<u64>,
    bins: Vec<Bin>,
    births: Vec<i64>,
    billed_ms: u64,
    busy: u128,
    requests: u64,
    throttled: u64,
    started: u64,
}

impl Tally {
    pub(super) fn new(model: &Model, window: Window) -> Self {
        let Window { horizon, warm_up } = window;
        // Microseconds up to a day, to three digits.
        let histogram =
            || Histogram::new_with_bounds(1, 86_400_000_000, 3).expect("the bounds are valid");
        let seconds = horizon as f64 / 1e9;
        Self {
            horizon: horizon.max(1),
            warm_up,
            memory_gb: f64::from(model.memory_mb) / 1_024.0,
            warm: histogram(),
            cold: histogram(),
            bins: (0..BINS)
                .map(|bin| Bin {
                    start_s: seconds * bin as f64 / BINS as f64,
                    ..Bin::default()
                })
                .collect(),
            births: vec![0; BINS],
            billed_ms: 0,
            busy: 0,
            requests: 0,
            throttled: 0,
            started: 0,
        }
    }

    fn bin(&self, at: Nanos) -> usize {
        let part = u128::from(at) * BINS as u128 / u128::from(self.horizon);
        (part as usize).min(BINS - 1)
    }

    /// A request came at `at`.
    pub(super) fn arrival(&mut self, at: Nanos) {
        let bin = self.bin(at);
        self.bins[bin].requests += 1;
        self.requests += u64::from(at >= self.warm_up);
    }

    pub(super) fn throttle(&mut self, at: Nanos) {
        let bin = self.bin(at);
        self.bins[bin].throttled += 1;
        self.throttled += u64::from(at >= self.warm_up);
    }

    pub(super) fn birth(&mut self, at: Nanos) {
        let bin = self.bin(at);
        self.births[bin] += 1;
        self.started += 1;
    }

    pub(super) fn death(&mut self, at: Nanos) {
        if at < self.horizon {
            let bin = self.bin(at);
            self.births[bin] -= 1;
        }
    }

    /// A request that came at `at` was answered after `latency`, of which `billed`.
    pub(super) fn answer(&mut self, at: Nanos, latency: Nanos, billed: Nanos, cold: bool) {
        if cold {
            let bin = self.bin(at);
            self.bins[bin].cold += 1;
        }
        if at < self.warm_up {
            return;
        }
        let histogram = if cold { &mut self.cold } else { &mut self.warm };
        histogram.saturating_record(latency.div_ceil(1_000).max(1));
        self.billed_ms += billed.div_ceil(1_000_000).max(1);
        self.busy += u128::from(billed);
    }

    pub(super) fn outcome(mut self, name: &str) -> Outcome {
        let mut alive = 0;
        let mut peak = 0;
        for (bin, births) in self.bins.iter_mut().zip(&self.births) {
            alive += births;
            bin.instances = alive.max(0) as u64;
            peak = peak.max(bin.instances);
        }
        let cold = self.cold.len();
        let (warm_latency_ms, cold_latency_ms) = (
            Latency::from_histogram(&self.warm, 1e-3),
            Latency::from_histogram(&self.cold, 1e-3),
        );
        self.warm
            .add(&self.cold)
            .expect("both histograms have the same bounds");
        let seconds = self.horizon as f64 / 1e9;
        let counted = (self.horizon - self.warm_up.min(self.horizon)).max(1) as f64;
        Outcome {
            arrivals: name.to_owned(),
            seconds,
            requests: self.requests,
            cold,
            throttled: self.throttled,
            cold_fraction: if self.warm.is_empty() {
                0.0
            } else {
                cold as f64 / self.warm.len() as f64
            },
            latency_ms: Latency::from_histogram(&self.warm, 1e-3),
            warm_latency_ms,
            cold_latency_ms,
            instances_started: self.started,
            instances_peak: peak,
            mean_busy: self.busy as f64 / counted,
            billed_gb_seconds: self.billed_ms as f64 / 1e3 * self.memory_gb,
            timeline: self.bins,
        }
    }
}
