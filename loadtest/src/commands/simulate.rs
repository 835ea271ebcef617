//! `coldread-loadtest simulate`: days of arrivals on a modelled platform.

use std::time::{Duration, Instant};

use anyhow::Result;
use clap::Args;

use super::options::{ArrivalOptions, CommonOptions, ModelOptions};
use crate::format::number;
use crate::latency::Latency;
use crate::results::Results;
use crate::simulate::BINS;
use crate::simulate::baseline::BaselineOptions;
use crate::simulate::simulation::simulate;

/// Simulate a function platform and an always-on baseline with the same arrivals
#[derive(Debug, Clone, Args)]
pub(super) struct SimulateArgs {
    #[command(flatten)]
    arrivals: ArrivalOptions,
    #[command(flatten)]
    model: ModelOptions,
    /// vCPUs of the always-on baseline [default: sized for 70% utilization at the peak]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    servers: Option<u32>,
    #[command(flatten)]
    common: CommonOptions,
}

impl SimulateArgs {
    /// Simulates, prints and writes.
    pub(super) fn run(self) -> Result<()> {
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
            &BaselineOptions {
                servers,
                service: model.service.clone(),
            },
            self.common.seed,
            self.common.quiet,
        );
        let took = began.elapsed().as_secs_f64();
        for sentence in &simulation.verdict {
            println_ignoring_epipe!("{sentence}");
        }
        println_ignoring_epipe!(
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
        println_ignoring_epipe!(
            "\n{:>12} {:>12} {:>8} {:>10}",
            "from s",
            "requests",
            "cold",
            "instances"
        );
        for bins in simulation.function.timeline.chunks(BINS / 12) {
            println_ignoring_epipe!(
                "{:>12} {:>12} {:>8} {:>10}",
                number(bins[0].start_s),
                bins.iter().map(|bin| bin.requests).sum::<u64>(),
                bins.iter().map(|bin| bin.cold).sum::<u64>(),
                bins.iter().map(|bin| bin.instances).max().unwrap_or(0)
            );
        }
        println_ignoring_epipe!(
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
    println_ignoring_epipe!("{name:<16}{p50:>12}{p90:>12}{p99:>12}{p999:>12}{max:>12}");
}
