//! `trace`: recorded or made-up arrivals against the local Lambda or a URL, then
//! the same arrivals through the simulation, and how far apart the two are.
//!
//! Against the local Lambda the simulation draws its service and start times from
//! the replay itself: what is compared is the platform's behaviour (who is cold,
//! how many instances, the tail), not the speed of this machine.

mod apart;
mod local;

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, ensure};
use clap::Args;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::arrivals::ArrivalArgs;
use crate::cli::Common;
use crate::generator::{Client, ClientArgs, Load, Measured};
use crate::interrupt;
use crate::platform::reclaim::Reclaim;
use crate::results::Results;
use crate::simulate::cli::ModelArgs;
use crate::simulate::{Latency, Outcome};
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
    /// Instances of the local function at most
    #[arg(long, default_value_t = 64)]
    max_instances: usize,
    #[command(flatten)]
    client: ClientArgs,
    /// Times of the simulation against a URL; the local Lambda's own are measured
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
    /// The replay.
    pub replayed: Replayed,
    /// The simulation.
    pub simulated: Outcome,
    /// How far apart they are, figure by figure.
    pub apart: Vec<Apart>,
}

impl TraceArgs {
    /// Replays, simulates, prints and writes.
    pub fn run(self) -> Result<()> {
        interrupt::listen();
        let schedule = self.arrivals.schedule(Duration::from_mins(1))?;
        let (against, replayed, model) = match &self.url {
            Some(url) => {
                let client = Client::new(&self.client, url, self.common.seed, self.common.quiet)?;
                let load = Load::Open(schedule.clone());
                let measured = client.run(&load, "replay", self.common.seed)?;
                ensure!(
                    measured.ok > 0,
                    "no request was answered: {:?}",
                    measured.faults
                );
                // The address may hold a name that is nobody else's business.
                ("a URL".to_owned(), of_url(measured), self.model.model()?)
            }
            None => {
                let times = schedule.list(self.common.seed, MOST)?;
                let local = local::Local {
                    memory_mb: self.memory,
                    limits: !self.no_limits,
                    reclaim: local::faster(self.reclaim, self.arrivals.time_scale),
                    max_instances: self.max_instances,
                    seed: self.common.seed,
                    quiet: self.common.quiet,
                    command: self.function(),
                };
                let seen = local.replay(&self.client, &times, schedule.horizon)?;
                let against = format!("local Lambda, {} MB, {}", self.memory, seen.limits);
                (against, seen.replayed(), seen.model(&local)?)
            }
        };
        let simulated = crate::simulate::run(
            &model,
            schedule.times(self.common.seed),
            &schedule.name,
            (schedule.horizon, 0),
            self.common.seed,
        );
        let apart = apart::compare(&replayed, &simulated);
        let mut run = TraceRun {
            verdict: Vec::new(),
            arrivals: schedule.name.clone(),
            against,
            replayed,
            simulated,
            apart,
        };
        run.verdict = run.words();
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

    fn function(&self) -> Vec<OsString> {
        if self.command.is_empty() {
            let binary: PathBuf = crate::warm::server::default_binary();
            vec![binary.into()]
        } else {
            self.command.clone()
        }
    }
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
