//! `coldread-loadtest simulate`: days of arrivals on a modelled platform.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::hosts::{self, Baseline};
use super::sampler::Sampler;
use super::{Latency, Model, Outcome};
use crate::arrivals::{ArrivalArgs, Nanos, Schedule};
use crate::cli::Common;
use crate::cost::bill::number;
use crate::cost::lambda::percent;
use crate::measured::Times;
use crate::results::Results;

/// How the modelled platform behaves.
#[derive(Debug, Clone, Args)]
pub struct ModelArgs {
    /// Time of a warm request at the function: 10ms, exp:MEAN, uniform:LOW:HIGH, lognormal:MEDIAN:P99, or `file:PATH` (measured milliseconds, one a line)
    #[arg(long, default_value = "10ms")]
    pub service: Sampler,
    /// Time of an instance's first request, if it takes longer
    #[arg(long)]
    pub first: Option<Sampler>,
    /// What a caller waits beside the function's time: network, front end
    #[arg(long, default_value = "0")]
    pub overhead: Sampler,
    /// Delay of a cold start that is not billed (placement, image fetch)
    #[arg(long, default_value = "100ms")]
    pub sandbox: Sampler,
    /// Billed init of a cold start
    #[arg(long, default_value = "50ms")]
    pub init: Sampler,
    /// Time until an idle instance is reclaimed (AWS documents none; 5 to 15 minutes have been measured)
    #[arg(long, default_value = "uniform:5m:15m")]
    pub idle: Sampler,
    /// Age from which an instance is not used again ("every few hours"; measured in 2018, old)
    #[arg(long, default_value = "uniform:4h:8h")]
    pub life: Sampler,
    /// Results of import-logs, cold-start or warm whose measured times replace --service and --init, repeatable
    #[arg(long, value_name = "RESULTS")]
    pub measured: Vec<PathBuf>,
    /// Requests an instance takes at once: 1 on Lambda, more on Managed Instances or Cloud Run
    #[arg(long, default_value_t = 1)]
    pub concurrency: u32,
    /// vCPUs of an instance that takes several requests
    #[arg(long, default_value_t = 1.0)]
    pub instance_vcpus: f64,
    /// Requests in flight at most (the account's concurrency)
    #[arg(long, default_value_t = 1_000)]
    pub limit: u64,
    /// New instances at once; as many come back in ten seconds
    #[arg(long, default_value_t = 1_000)]
    pub burst: u32,
    /// Memory of an instance, MB
    #[arg(long, default_value_t = 1_769)]
    pub memory_mb: u32,
}

impl ModelArgs {
    /// The model, checked.
    pub fn model(&self) -> Result<Model> {
        ensure!(
            (1..=1_000).contains(&self.concurrency),
            "--concurrency must be between 1 and 1000"
        );
        ensure!(
            self.burst > 0 && self.limit > 0,
            "--burst and --limit must be above 0"
        );
        ensure!(
            self.instance_vcpus.is_finite() && self.instance_vcpus > 0.0,
            "--instance-vcpus must be above 0"
        );
        let times = Times::read(&self.measured, self.memory_mb)?;
        Ok(Model {
            service: times
                .service
                .map_or_else(|| self.service.clone(), |(service, _)| service),
            first: times.first.or_else(|| self.first.clone()),
            overhead: self.overhead.clone(),
            settle: Sampler::constant_ms(0.0),
            sandbox: self.sandbox.clone(),
            init: times.init.unwrap_or_else(|| self.init.clone()),
            idle: self.idle.clone(),
            life: self.life.clone(),
            concurrency: self.concurrency,
            vcpus: self.instance_vcpus,
            limit: self.limit,
            burst: f64::from(self.burst),
            memory_mb: self.memory_mb,
        })
    }
}

/// Simulates a function platform and an always-on baseline under the same arrivals
#[derive(Debug, Clone, Args)]
pub struct SimulateArgs {
    #[command(flatten)]
    arrivals: ArrivalArgs,
    #[command(flatten)]
    model: ModelArgs,
    /// vCPUs of the always-on baseline; enough for seven tenths of them to be busy at the peak unless given
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    servers: Option<u32>,
    #[command(flatten)]
    common: Common,
}

/// The platform and the baseline under the same arrivals.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Simulation {
    /// The answer in sentences.
    pub verdict: Vec<String>,
    /// The function platform.
    pub function: Outcome,
    /// The always-on baseline.
    pub baseline: Baseline,
    /// Milliseconds that cold starts add to the 99th percentile.
    pub cold_adds_ms_p99: f64,
}

/// Runs both; a request takes `host_service` on one of the baseline's servers.
pub fn simulate(
    model: &Model,
    schedule: &Schedule,
    (servers, host_service): (u32, &Sampler),
    seed: u64,
    quiet: bool,
) -> Simulation {
    let bar = progress(schedule, quiet);
    let function = super::run(
        model,
        watched(schedule.times(seed), &bar),
        &schedule.name,
        (schedule.horizon, 0),
        seed,
    );
    bar.finish_and_clear();
    let baseline = hosts::run(
        servers,
        host_service,
        schedule.times(seed),
        schedule.horizon,
        seed,
    );
    let cold_adds_ms_p99 = (function.latency_ms.p99 - function.warm_latency_ms.p99).max(0.0);
    let mut simulation = Simulation {
        verdict: Vec::new(),
        function,
        baseline,
        cold_adds_ms_p99,
    };
    simulation.verdict = simulation.words();
    simulation
}

impl Simulation {
    fn words(&self) -> Vec<String> {
        let Self {
            function, baseline, ..
        } = self;
        let mut words = vec![format!(
            "{}: {} requests in {} s. Cold starts touch {} of them and add {} ms at p99, {} ms at p99.9 (warm p99 {} ms, cold median {} ms).",
            function.arrivals,
            number(function.requests as f64),
            number(function.seconds),
            percent(function.cold_fraction),
            number(self.cold_adds_ms_p99),
            number((function.latency_ms.p999 - function.warm_latency_ms.p999).max(0.0)),
            number(function.warm_latency_ms.p99),
            number(function.cold_latency_ms.p50),
        )];
        words.push(format!(
            "At most {} instances alive, {} started, {} busy on average; {} GB-s billed.",
            number(function.instances_peak as f64),
            number(function.instances_started as f64),
            number(function.mean_busy),
            number(function.billed_gb_seconds)
        ));
        if function.throttled > 0 {
            words.push(format!(
                "{} requests ({}) were refused by the concurrency limit or the scaling rate.",
                number(function.throttled as f64),
                percent(function.throttled as f64 / function.requests.max(1) as f64)
            ));
        }
        words.push(format!(
            "Always on, {} vCPU(s): {} busy, p50 {} ms, p99 {} ms{}.",
            baseline.servers,
            percent(baseline.utilisation),
            number(baseline.latency_ms.p50),
            number(baseline.latency_ms.p99),
            if baseline.utilisation >= 1.0 {
                "; overloaded, its queue grows without end"
            } else {
                ""
            }
        ));
        words
    }
}

/// A bar over simulated time, on standard error.
fn progress(schedule: &Schedule, quiet: bool) -> ProgressBar {
    if quiet {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(schedule.horizon / 1_000_000_000);
    bar.set_style(
        ProgressStyle::with_template("{bar:32} {percent}% of {len} s simulated, {eta} left")
            .expect("the template is valid"),
    );
    bar
}

/// The same arrivals, with the bar moved now and then.
fn watched(times: impl Iterator<Item = Nanos>, bar: &ProgressBar) -> impl Iterator<Item = Nanos> {
    let mut count = 0u64;
    times.inspect(move |time| {
        count += 1;
        if count.is_multiple_of(1 << 18) {
            bar.set_position(time / 1_000_000_000);
        }
    })
}

impl SimulateArgs {
    /// Simulates, prints and writes.
    pub fn run(self) -> Result<()> {
        let model = self.model.model()?;
        let schedule = self.arrivals.schedule(Duration::from_hours(24))?;
        let servers = match self.servers {
            Some(servers) => servers,
            None => {
                let peak = schedule.mean_rate() * schedule.peak_to_mean(self.common.seed)?;
                (peak * model.service.mean_ms() / 1e3 / 0.7).ceil().max(1.0) as u32
            }
        };
        let began = Instant::now();
        let simulation = simulate(
            &model,
            &schedule,
            (servers, &model.service),
            self.common.seed,
            self.common.quiet,
        );
        let took = began.elapsed().as_secs_f64();
        for sentence in &simulation.verdict {
            say!("{sentence}");
        }
        say!(
            "\n{:<16}{:>12}{:>12}{:>12}{:>12}{:>12}",
            "ms",
            "p50",
            "p90",
            "p99",
            "p99.9",
            "max"
        );
        for (name, latency) in [
            ("function, all", &simulation.function.latency_ms),
            ("function, warm", &simulation.function.warm_latency_ms),
            ("function, cold", &simulation.function.cold_latency_ms),
            ("always on", &simulation.baseline.latency_ms),
        ] {
            print_latency(name, latency);
        }
        say!(
            "\n{:>12} {:>12} {:>8} {:>10}",
            "from s",
            "requests",
            "cold",
            "instances"
        );
        for bins in simulation.function.timeline.chunks(super::BINS / 12) {
            say!(
                "{:>12} {:>12} {:>8} {:>10}",
                number(bins[0].start_s),
                bins.iter().map(|bin| bin.requests).sum::<u64>(),
                bins.iter().map(|bin| bin.cold).sum::<u64>(),
                bins.iter().map(|bin| bin.instances).max().unwrap_or(0)
            );
        }
        say!(
            "\nsimulated {} requests twice (function and baseline) in {} s",
            number(simulation.function.requests as f64),
            number(took)
        );
        if let Some(path) = &self.common.json {
            let mut results = Results::new(self.common.seed);
            results.simulation = Some(simulation);
            results.write(path)?;
        }
        Ok(())
    }
}

fn print_latency(name: &str, latency: &Latency) {
    if latency.n == 0 {
        return;
    }
    let Latency {
        p50,
        p90,
        p99,
        p999,
        max,
        ..
    } = *latency;
    let [p50, p90, p99, p999, max] = [p50, p90, p99, p999, max].map(number);
    say!("{name:<16}{p50:>12}{p90:>12}{p99:>12}{p999:>12}{max:>12}");
}
