//! The function platform beside the always-on baseline, under the same arrivals.

use indicatif::{ProgressBar, ProgressStyle};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::baseline::{self, Baseline, BaselineOptions};
use super::{Model, Outcome, Window};
use crate::arrivals::{Nanos, Schedule};
use crate::format::{number, percent};

/// The platform and the baseline under the same arrivals.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Simulation {
    /// The result in sentences.
    pub verdict: Vec<String>,
    /// The function platform.
    pub function: Outcome,
    /// The always-on baseline.
    pub baseline: Baseline,
    /// Milliseconds that cold starts add to the 99th percentile.
    pub cold_adds_ms_p99: f64,
}

/// Simulates the platform and the baseline on the same arrivals.
pub fn simulate(
    model: &Model,
    schedule: &Schedule,
    baseline: &BaselineOptions,
    seed: u64,
    quiet: bool,
) -> Simulation {
    let bar = progress(schedule, quiet);
    let function = super::run(
        model,
        watched(schedule.times(seed), &bar),
        &schedule.name,
        Window::whole(schedule.horizon),
        seed,
    );
    bar.finish_and_clear();
    let baseline = baseline::run(baseline, schedule.times(seed), schedule.horizon, seed);
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
