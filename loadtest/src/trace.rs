//! Recorded or made-up arrivals against the local Lambda or a URL, then
//! the same arrivals through the simulation, and how far apart the two are.
//!
//! Against the local Lambda the simulation draws its service and start times from
//! the other replays of the run, of a single one from itself: what is compared is the
//! platform's behaviour (who is cold, how many instances, the tail), not the speed of
//! this machine. Each replay has arrivals of its own, which its simulation shares.

mod comparison;
mod local;

use anyhow::{Context, Result, ensure};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::arrivals::Schedule;
use crate::generator::{Client, ClientOptions, Load, Measured};
use crate::latency::Latency;
use crate::simulate::{Model, Outcome, Window};
pub use comparison::MetricDelta;
pub use local::LocalLambda;

/// Arrivals replayed at most: they are kept in memory with what became of them.
const MOST: usize = 1_000_000;

/// What a replay saw, in the terms of the simulation.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Replayed {
    /// Requests answered.
    pub requests: u64,
    /// Requests that failed, by kind.
    pub faults: std::collections::BTreeMap<String, u64>,
    /// Requests an instance was started for; unknown for a URL.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cold: Option<u64>,
    /// Instances started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instances_started: Option<u64>,
    /// Most requests at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub in_flight_peak: Option<u64>,
    /// Memory times billed time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub billed_gb_seconds: Option<f64>,
    /// Latency from the intended time on.
    pub latency_ms: Latency,
    /// Those on a running instance.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warm_latency_ms: Option<Latency>,
    /// Those that waited for a start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cold_latency_ms: Option<Latency>,
    /// 99th percentile of how late requests left, ms.
    pub schedule_error_p99_ms: f64,
}

/// A replay beside its simulation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TraceRun {
    /// The answer in sentences.
    pub verdict: Vec<String>,
    /// Arrivals in words.
    pub arrivals: String,
    /// What was replayed against.
    pub against: String,
    /// The first replay.
    pub replayed: Replayed,
    /// Its simulation.
    pub simulated: Outcome,
    /// How far apart they are, figure by figure, over all replays.
    pub apart: Vec<MetricDelta>,
}

/// A replay and the simulations of its arrivals.
pub(crate) struct Replay {
    replayed: Replayed,
    simulated: Vec<Outcome>,
}

/// Simulations of one replay, each with draws of its own; what they say is their median.
const DRAWS: u64 = 9;

/// The server that arrivals are replayed against.
#[derive(Clone, Debug)]
pub struct Remote {
    /// Scheme, host and port.
    pub url: String,
    /// How it is simulated.
    pub model: Model,
    /// No progress bar.
    pub quiet: bool,
}

impl TraceRun {
    /// Replays `schedule` once for each of `seeds` against a server and simulates it.
    pub fn against_url(
        remote: &Remote,
        client: &ClientOptions,
        schedule: &Schedule,
        seeds: impl Iterator<Item = u64>,
    ) -> Result<Self> {
        let mut replays = Vec::new();
        for seed in seeds {
            let client = Client::new(client, &remote.url, seed, remote.quiet)?;
            client.check()?;
            let measured = client.run(&Load::Open(schedule.clone()), "replay", seed)?;
            ensure!(
                measured.ok > 0,
                "no request was answered: {:?}",
                measured.faults
            );
            replays.push(Replay {
                replayed: Replayed::from(measured),
                simulated: simulations(&remote.model, schedule, seed),
            });
        }
        Self::new("a URL".to_owned(), schedule, &replays)
    }

    /// The same against the local Lambda, which is simulated with the times that the
    /// other replays measured.
    pub fn against_local(
        local: &LocalLambda,
        client: &ClientOptions,
        schedule: &Schedule,
        seeds: impl Iterator<Item = u64>,
    ) -> Result<Self> {
        let mut observed = Vec::new();
        for seed in seeds {
            let times = schedule.list(seed, MOST)?;
            let seen = local.replay(client, &times, schedule.horizon, seed)?;
            observed.push((seed, seen));
        }
        let mut replays = Vec::new();
        for (seed, seen) in &observed {
            let mut others: Vec<_> = observed
                .iter()
                .filter(|(other, _)| other != seed)
                .map(|(_, seen)| seen)
                .collect();
            if others.is_empty() {
                others.push(seen);
            }
            let model = local.model(&others)?;
            replays.push(Replay {
                replayed: seen.replayed(),
                simulated: simulations(&model, schedule, *seed),
            });
        }
        let (_, first) = observed.first().context("nothing was replayed")?;
        let against = format!("local Lambda, {} MB, {}", local.memory_mb, first.limits);
        let mut run = Self::new(against, schedule, &replays)?;
        run.verdict.extend(local.crowded(&replays));
        Ok(run)
    }

    fn new(against: String, schedule: &Schedule, replays: &[Replay]) -> Result<Self> {
        let first = replays.first().context("nothing was replayed")?;
        let mut run = Self {
            verdict: Vec::new(),
            arrivals: schedule.name.clone(),
            against,
            apart: comparison::compare(replays),
            replayed: first.replayed.clone(),
            simulated: first.simulated[0].clone(),
        };
        run.verdict = run.words(replays.len());
        Ok(run)
    }
}

fn simulations(model: &Model, schedule: &Schedule, seed: u64) -> Vec<Outcome> {
    let one = |draw| {
        crate::simulate::run(
            model,
            schedule.times(seed),
            &schedule.name,
            Window::whole(schedule.horizon),
            draw,
        )
    };
    (0..DRAWS).map(one).collect()
}

impl From<Measured> for Replayed {
    fn from(measured: Measured) -> Self {
        Self {
            requests: measured.ok,
            faults: measured.faults,
            latency_ms: measured.latency_ms,
            schedule_error_p99_ms: measured.schedule_error.map_or(0.0, |error| error.p99_ms),
            ..Self::default()
        }
    }
}
