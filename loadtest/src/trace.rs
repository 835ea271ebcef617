//! `trace`: recorded or made-up arrivals against the local Lambda or a URL, then
//! the same arrivals through the simulation, and how far apart the two are.
//!
//! Against the local Lambda the simulation draws its service and start times from
//! the other replays of the run, of a single one from itself: what is compared is the
//! platform's behaviour (who is cold, how many instances, the tail), not the speed of
//! this machine. Each replay has arrivals of its own, which its simulation shares.

mod apart;
mod local;

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, ensure};
use clap::Args;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::arrivals::{ArrivalArgs, Schedule};
use crate::cli::Common;
use crate::generator::{Client, ClientArgs, Load, Measured};
use crate::interrupt;
use crate::platform::function::MB_PER_VCPU;
use crate::platform::reclaim::Reclaim;
use crate::results::Results;
use crate::simulate::cli::ModelArgs;
use crate::simulate::{Latency, Model, Outcome};
pub use apart::Apart;

/// Arrivals replayed at most: they are kept in memory with what became of them.
const MOST: usize = 1_000_000;

/// Replays arrivals against the local Lambda or a URL and simulates them
#[derive(Debug, Clone, Args)]
pub struct TraceArgs {
    #[command(flatten)]
    arrivals: ArrivalArgs,
    /// Server to send to, instead of the local Lambda
    #[arg(long)]
    url: Option<String>,
    /// Memory size of the local function in MB
    #[arg(long, default_value_t = 1_769, value_parser = clap::value_parser!(u32).range(64..=10_240))]
    memory: u32,
    /// Set no limits on the local function's memory and processor
    #[arg(long)]
    no_limits: bool,
    /// Idle time of the local function's instances at the trace's own speed: never, fixed:SECONDS, uniform:LOW-HIGH or exp:MEAN; a trace played faster shortens it
    #[arg(long, default_value = "fixed:600")]
    reclaim: Reclaim,
    /// Replays, each with arrivals drawn anew; figures are medians
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=100))]
    runs: u64,
    /// Instances of the local function at most
    #[arg(long, default_value_t = 64)]
    max_instances: usize,
    #[command(flatten)]
    client: ClientArgs,
    /// Times of the simulation against a URL; the local Lambda's own are measured, and
    /// only --concurrency is for both
    #[command(flatten, next_help_heading = "Simulation (with --url)")]
    model: ModelArgs,
    #[command(flatten)]
    common: Common,
    /// The function and its arguments; the coldread beside this program without it
    #[arg(last = true)]
    command: Vec<OsString>,
}

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
    pub apart: Vec<Apart>,
}

/// Simulations of one replay, each with draws of its own; what they say is their median.
const DRAWS: u64 = 9;

impl TraceArgs {
    /// Replays, simulates, prints and writes.
    pub fn run(self) -> Result<()> {
        interrupt::listen();
        let schedule = self.arrivals.schedule(Duration::from_mins(1))?;
        let (against, pairs) = match &self.url {
            Some(url) => ("a URL".to_owned(), self.remote(url, &schedule)?),
            None => self.local(&schedule)?,
        };
        let mut run = TraceRun {
            verdict: Vec::new(),
            arrivals: schedule.name.clone(),
            against,
            apart: apart::compare(&pairs),
            replayed: pairs[0].0.clone(),
            simulated: pairs[0].1[0].clone(),
        };
        run.verdict = run.words(pairs.len());
        if self.url.is_none() {
            run.verdict.extend(self.crowded(&pairs));
        }
        for sentence in &run.verdict {
            say!("{sentence}");
        }
        say!("{}", apart::table(&run.apart));
        if let Some(path) = &self.common.json {
            let mut results = Results::new(self.common.seed);
            results.trace = Some(run);
            results.write(path)?;
        }
        Ok(())
    }

    /// Seeds of the replays.
    fn seeds(&self) -> impl Iterator<Item = u64> {
        let first = self.common.seed;
        (0..self.runs)
            .map(move |run| first + run)
            .take_while(move |seed| *seed == first || !interrupt::asked())
    }

    fn remote(&self, url: &str, schedule: &Schedule) -> Result<Vec<Pair>> {
        let model = self.model.model()?;
        let mut pairs = Vec::new();
        for seed in self.seeds() {
            let client = Client::new(&self.client, url, seed, self.common.quiet)?;
            client.check()?;
            let measured = client.run(&Load::Open(schedule.clone()), "replay", seed)?;
            ensure!(
                measured.ok > 0,
                "no request was answered: {:?}",
                measured.faults
            );
            pairs.push((of_url(measured), simulations(&model, schedule, seed)));
        }
        Ok(pairs)
    }

    fn local(&self, schedule: &Schedule) -> Result<(String, Vec<Pair>)> {
        let mut local = local::Local {
            memory_mb: self.memory,
            limits: !self.no_limits,
            reclaim: local::faster(self.reclaim, self.arrivals.time_scale),
            max_instances: self.max_instances,
            concurrency: self.model.model()?.concurrency,
            seed: self.common.seed,
            quiet: self.common.quiet,
            command: self.function(),
        };
        let mut replays = Vec::new();
        for seed in self.seeds() {
            local.seed = seed;
            let times = schedule.list(seed, MOST)?;
            replays.push((seed, local.replay(&self.client, &times, schedule.horizon)?));
        }
        let mut pairs = Vec::new();
        for (seed, seen) in &replays {
            let mut others: Vec<_> = replays
                .iter()
                .filter(|(other, _)| other != seed)
                .map(|(_, seen)| seen)
                .collect();
            if others.is_empty() {
                others.push(seen);
            }
            let model = local::model(&others, &local)?;
            pairs.push((seen.replayed(), simulations(&model, schedule, *seed)));
        }
        let limits = &replays[0].1.limits;
        Ok((format!("local Lambda, {} MB, {limits}", self.memory), pairs))
    }

    /// What to say when the instances wanted more processors than there are.
    fn crowded(&self, pairs: &[Pair]) -> Option<String> {
        let most = pairs
            .iter()
            .filter_map(|(seen, _)| seen.in_flight_peak)
            .max()?;
        let vcpus = f64::from(self.memory) / MB_PER_VCPU;
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        (self.no_limits || most as f64 * vcpus > cores as f64).then(|| {
            format!(
                "At most {most} requests were at work at once, for which {cores} processor(s) are \
                 too few: they slowed each other down, as Lambda's do not."
            )
        })
    }

    fn function(&self) -> Vec<OsString> {
        if self.command.is_empty() {
            let binary: PathBuf = crate::warm::server::default_binary();
            vec![binary.into()]
        } else {
            self.command.clone()
        }
    }
}

/// A replay and the simulations of its arrivals.
type Pair = (Replayed, Vec<Outcome>);

fn simulations(model: &Model, schedule: &Schedule, seed: u64) -> Vec<Outcome> {
    let one = |draw| {
        crate::simulate::run(
            model,
            schedule.times(seed),
            &schedule.name,
            (schedule.horizon, 0),
            draw,
        )
    };
    (0..DRAWS).map(one).collect()
}

fn of_url(measured: Measured) -> Replayed {
    Replayed {
        requests: measured.ok,
        faults: measured.faults,
        latency_ms: measured.latency_ms,
        schedule_error_p99_ms: measured.schedule_error.map_or(0.0, |error| error.p99_ms),
        ..Replayed::default()
    }
}
