//! A discrete-event model of a function platform: instances start on demand,
//! serve one request at a time (or several), idle and are reclaimed.
//!
//! # Model
//! - A request takes the most recently used instance that is free; without one
//!   a new instance starts and the request waits for it. AWS documents neither
//!   the order nor the idle time; both are parameters or stated here.
//! - New instances come from a bucket of 1,000 that refills by 1,000 in ten
//!   seconds, requests in flight are at most the account's concurrency; beyond
//!   either the request is refused (429) and not repeated.
//! - An idle instance is reclaimed after a time drawn from a distribution, and an
//!   instance beyond its life span is not used again.
//! - A cold start delays its request by `sandbox` (not billed) and `init` (billed), and
//!   what an instance does `first` may take longer than later requests.
//! - A caller waits for the `overhead` beside the function's own time, and an instance
//!   is held for `settle` after its answer, until it asks for the next event. On a
//!   platform of thousands of instances both matter little; beside a replay they do.
//!
//! The [`hosts`] queue gives the always-on baseline under the same arrivals.

mod concurrent_fleet;
pub mod curve;
mod fleet;
pub mod hosts;
pub mod sampler;
pub mod simulation;
mod single_request_fleet;

use hdrhistogram::Histogram;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::arrivals::Nanos;
use crate::lambda_memory::ONE_VCPU_MB;
use crate::latency::Latency;
use concurrent_fleet::ConcurrentFleet;
use sampler::Sampler;
use single_request_fleet::SingleRequestFleet;

/// Streams of the generator: arrivals draw from the first two. With one stream
/// for all, gaps and service times would be the same draws.
const PLATFORM: u64 = 2;
const BASELINE: u64 = 3;

fn stream(seed: u64, stream: u64) -> ChaCha8Rng {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(stream);
    rng
}

/// Parts of the timeline.
pub const BINS: usize = 240;

/// How the platform behaves and how long things take.
#[derive(Clone, Debug)]
pub struct Model {
    /// Time of a warm request at the function.
    pub service: Sampler,
    /// Time of an instance's first request; that of the others without it.
    pub first: Option<Sampler>,
    /// What a caller waits beside, not billed.
    pub overhead: Sampler,
    /// How long an instance is not free after its answer.
    pub settle: Sampler,
    /// Delay of a cold start that is not billed: placement, code fetch.
    pub sandbox: Sampler,
    /// Billed delay of a cold start.
    pub init: Sampler,
    /// Time until an idle instance is reclaimed.
    pub idle: Sampler,
    /// Age from which an instance is not used again.
    pub life: Sampler,
    /// Requests an instance takes at once.
    pub concurrency: u32,
    /// vCPUs of an instance: requests beyond them slow each other down.
    pub vcpus: f64,
    /// Requests in flight at most.
    pub limit: u64,
    /// New instances at once, and how many come back in ten seconds.
    pub burst: f64,
    /// Memory of an instance, MB.
    pub memory_mb: u32,
}

impl Default for Model {
    fn default() -> Self {
        Self {
            service: Sampler::constant_ms(10.0),
            first: None,
            overhead: Sampler::constant_ms(0.0),
            settle: Sampler::constant_ms(0.0),
            sandbox: Sampler::constant_ms(0.0),
            init: Sampler::constant_ms(50.0),
            idle: Sampler::Uniform(300_000_000_000, 900_000_000_000),
            life: Sampler::Uniform(4 * 3_600_000_000_000, 8 * 3_600_000_000_000),
            concurrency: 1,
            vcpus: 1.0,
            limit: 1_000,
            burst: 1_000.0,
            memory_mb: ONE_VCPU_MB,
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
    /// Those refused.
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
    /// Requests refused.
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

/// Runs `model` on `arrivals` (ascending) that end before the window's horizon.
///
/// Everything random comes from `seed`: the same inputs give the same outcome.
pub fn run(
    model: &Model,
    arrivals: impl Iterator<Item = Nanos>,
    name: &str,
    window: Window,
    seed: u64,
) -> Outcome {
    let record = Record::new(model, window);
    if model.concurrency == 1 {
        fleet::run(model, SingleRequestFleet::default(), arrivals, record, seed)
    } else {
        let fleet = ConcurrentFleet::new(model.concurrency, model.vcpus);
        fleet::run(model, fleet, arrivals, record, seed)
    }
    .outcome(name)
}

/// New instances allowed: a bucket that refills steadily.
struct Bucket {
    tokens: f64,
    size: f64,
    at: Nanos,
}

impl Bucket {
    fn new(size: f64) -> Self {
        Self {
            tokens: size,
            size,
            at: 0,
        }
    }

    fn take(&mut self, now: Nanos) -> bool {
        let refill = (now - self.at) as f64 / 1e10 * self.size;
        self.tokens = (self.tokens + refill).min(self.size);
        self.at = now;
        let granted = self.tokens >= 1.0;
        if granted {
            self.tokens -= 1.0;
        }
        granted
    }
}

/// What is counted while a run goes on.
struct Record {
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

impl Record {
    fn new(model: &Model, window: Window) -> Self {
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
    fn arrival(&mut self, at: Nanos) {
        let bin = self.bin(at);
        self.bins[bin].requests += 1;
        self.requests += u64::from(at >= self.warm_up);
    }

    fn throttle(&mut self, at: Nanos) {
        let bin = self.bin(at);
        self.bins[bin].throttled += 1;
        self.throttled += u64::from(at >= self.warm_up);
    }

    fn birth(&mut self, at: Nanos) {
        let bin = self.bin(at);
        self.births[bin] += 1;
        self.started += 1;
    }

    fn death(&mut self, at: Nanos) {
        if at < self.horizon {
            let bin = self.bin(at);
            self.births[bin] -= 1;
        }
    }

    /// A request that came at `at` was answered after `latency`, of which `billed`.
    fn answer(&mut self, at: Nanos, latency: Nanos, billed: Nanos, cold: bool) {
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

    fn outcome(mut self, name: &str) -> Outcome {
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

#[cfg(test)]
mod tests;
