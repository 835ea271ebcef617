//! `coldread-loadtest trace`: a replay beside its simulation.

use std::ffi::OsString;
use std::time::Duration;

use anyhow::Result;
use clap::Args;
use comfy_table::{Table, presets};

use super::options::{
    ArrivalOptions, CommonOptions, ModelOptions, SnapStartOptions, default_binary,
};
use super::output::right_align;
use crate::format::{number, percent};
use crate::generator::ClientOptions;
use crate::interrupt;
use crate::lambda_memory::ONE_VCPU_MB;
use crate::platform::reclaim::Reclaim;
use crate::results::Results;
use crate::trace::{LocalLambda, MetricDelta, RemoteServer, TraceRun};

/// Replay arrivals against the local Lambda or a URL, and compare with the simulation
#[derive(Debug, Clone, Args)]
pub(super) struct TraceArgs {
    #[command(flatten)]
    arrivals: ArrivalOptions,
    /// URL of a server, instead of the local Lambda
    #[arg(long)]
    url: Option<String>,
    /// Memory size of the local function in MB
    #[arg(long, default_value_t = ONE_VCPU_MB, value_parser = clap::value_parser!(u32).range(64..=10_240))]
    memory: u32,
    /// Do not limit memory and CPU of the local function
    #[arg(long)]
    no_limits: bool,
    /// Idle time until an instance of the local function is reclaimed: never, fixed:SECONDS, uniform:LOW-HIGH or exp:MEAN; --time-scale shortens it
    #[arg(long, default_value = "fixed:600")]
    reclaim: Reclaim,
    /// Number of replays, each with newly drawn arrivals; figures are medians
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=100))]
    runs: u64,
    /// Maximum number of instances of the local function
    #[arg(long, default_value_t = 64)]
    max_instances: usize,
    #[command(flatten)]
    snapstart: SnapStartOptions,
    #[command(flatten)]
    client: ClientOptions,
    /// Times of the simulation with --url; those of the local Lambda are measured, and only
    /// --concurrency applies to both
    #[command(flatten, next_help_heading = "Simulation (with --url)")]
    model: ModelOptions,
    #[command(flatten)]
    common: CommonOptions,
    /// Function to run, with its arguments [default: the coldread beside this program]
    #[arg(last = true)]
    command: Vec<OsString>,
}

impl TraceArgs {
    /// Replays, simulates, prints and writes.
    pub(super) fn run(self) -> Result<()> {
        interrupt::listen();
        let schedule = self.arrivals.schedule(Duration::from_mins(1))?;
        let model = self.model.model()?;
        let run = match &self.url {
            Some(url) => {
                let remote = RemoteServer {
                    url: url.clone(),
                    model,
                    quiet: self.common.quiet,
                };
                TraceRun::against_url(&remote, &self.client, &schedule, self.seeds())?
            }
            None => {
                let local = self.local_lambda(model.concurrency);
                TraceRun::against_local(&local, &self.client, &schedule, self.seeds())?
            }
        };
        for sentence in &run.verdict {
            println_ignoring_epipe!("{sentence}");
        }
        println_ignoring_epipe!("{}", table(&run.apart));
        if let Some(path) = &self.common.json {
            let mut results = Results::new(self.common.seed);
            results.trace = Some(run);
            results.write(path)?;
        }
        Ok(())
    }

    /// Seeds of the replays; Ctrl-C leaves out those to come.
    fn seeds(&self) -> impl Iterator<Item = u64> {
        let first = self.common.seed;
        (0..self.runs)
            .map(move |run| first + run)
            .take_while(move |seed| *seed == first || !interrupt::asked())
    }

    fn local_lambda(&self, concurrency: u32) -> LocalLambda {
        LocalLambda {
            memory_mb: self.memory,
            limits: !self.no_limits,
            reclaim: self.reclaim.faster(self.arrivals.time_scale),
            max_instances: self.max_instances,
            concurrency,
            snapstart: self.snapstart.function(),
            quiet: self.common.quiet,
            command: if self.command.is_empty() {
                vec![default_binary().into()]
            } else {
                self.command.clone()
            },
        }
    }
}

/// The metrics, for a terminal.
fn table(metrics: &[MetricDelta]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::UTF8_HORIZONTAL_ONLY).set_header([
        "figure",
        "replayed",
        "simulated",
        "difference",
    ]);
    for metric in metrics {
        table.add_row([
            metric.figure.clone(),
            number(metric.replayed),
            number(metric.simulated),
            metric.difference().map_or_else(String::new, percent),
        ]);
    }
    right_align(&mut table, 1..4);
    table
}
