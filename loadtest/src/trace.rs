//! Replays recorded or generated arrivals against the local Lambda or a URL, simulates
//! the same arrivals, and tells how far apart the two are.
//!
//! For the local Lambda, the simulation draws its service and start times from the other
//! replays of the run, or from the replay itself if it is the only one: the comparison is
//! about the platform's behaviour (cold requests, number of instances, the tail), not
//! about the speed of this machine. Each replay has arrivals of its own, which its
//! simulation shares.

mod comparison;
mod local;
mod replay;

use anyhow::{Context, Result, ensure};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::arrivals::Schedule;
use crate::format::{number, percent};
use crate::generator::{Client, ClientOptions, KEPT_MS, Load};
use crate::simulate::{Model, Outcome, Window};
pub use comparison::MetricDelta;
pub use local::LocalLambda;
use replay::Replay;
pub use replay::Replayed;

/// Arrivals replayed at most: they are kept in memory with what became of them.
const MOST: usize = 1_000_000;

/// Simulations of one replay, each with draws of its own; what they say is their median.
const DRAWS: u64 = 9;

/// A replay beside its simulation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TraceRun {
    /// The result in sentences.
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

/// The server that arrivals are replayed against.
#[derive(Clone, Debug)]
pub struct RemoteServer {
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
        remote: &RemoteServer,
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
                "no request got a response: {:?}",
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
        let restored = local
            .snapstart
            .as_ref()
            .map_or("", |_| ", restored from snapshots");
        let against = format!(
            "local Lambda, {} MB, {}{restored}",
            local.memory_mb, first.limits
        );
        let mut run = Self::new(against, schedule, &replays)?;
        run.verdict.extend(local.crowded(&replays));
        run.verdict.extend(
            local
                .snapstart
                .iter()
                .map(|snapstart| format!("{snapstart}.")),
        );
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

    /// The result in sentences, of so many replays.
    fn words(&self, replays: usize) -> Vec<String> {
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
        if replayed.schedule_error_p99_ms > KEPT_MS {
            words.push(format!(
                "The client DID NOT KEEP its schedule: p99 {} ms late.",
                number(replayed.schedule_error_p99_ms)
            ));
        }
        words
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
