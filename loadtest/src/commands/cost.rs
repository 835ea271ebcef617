//! `coldread-loadtest cost`: prices a workload on the command line's targets.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, ensure};
use clap::Args;
use comfy_table::{Table, presets};

use super::options::{ArrivalOptions, CommonOptions, ModelOptions};
use super::output::right_align;
use crate::arrivals::profile::RateProfile;
use crate::cost::CostReport;
use crate::cost::hosts::FargateTask;
use crate::cost::pipeline::{self, Pipeline};
use crate::cost::prices::Prices;
use crate::cost::target::{Arch, SPELLINGS, Target};
use crate::cost::workload::{Autoscaling, Cold, SECONDS, Workload};
use crate::format::{dollars, number, percent};
use crate::lambda_memory::{ONE_VCPU_MB, vcpus};
use crate::measured_times::MeasuredTimes;
use crate::results::Results;
use crate::simulate::baseline::BaselineOptions;
use crate::simulate::sampler::Sampler;
use crate::simulate::simulation::{Simulation, simulate};
use crate::simulate::{Model, curve};

/// What is scored and where it could run.
#[derive(Debug, Clone, Args)]
pub(super) struct WorkloadArgs {
    /// Posts per second, averaged over the month
    #[arg(long, default_value_t = 1.0, conflicts_with = "posts_per_month")]
    posts_per_second: f64,
    /// Posts per month of 730 hours, instead of --posts-per-second
    #[arg(long)]
    posts_per_month: Option<f64>,
    /// Ratio of the peak rate to the mean, for which a fixed number of hosts is sized [default: 1, or the busiest minute of the arrivals]
    #[arg(long)]
    peak_to_mean: Option<f64>,
    /// Posts per request
    #[arg(long, default_value_t = 1.0)]
    batch: f64,
    /// Milliseconds per request, without its posts, on one vCPU
    #[arg(long, default_value_t = 0.5)]
    request_ms: f64,
    /// Milliseconds per post on one vCPU (measure with `warm` or `coldread bench`)
    #[arg(long, default_value_t = 5.0)]
    post_ms: f64,
    /// vCPUs that one request can use
    #[arg(long, default_value_t = 1.0)]
    threads: f64,
    /// Billed milliseconds of the init phase (measure with `cold-start`)
    #[arg(long, default_value_t = 50.0)]
    init_ms: f64,
    /// Billed milliseconds of a SnapStart restore: the time of the function's hooks
    #[arg(long, default_value_t = 5.0)]
    restore_ms: f64,
    /// Number of tenants with isolated environments and equal shares of the traffic
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    tenants: u32,
    /// Share of requests with a cold start, 0 to 1 [default: simulated for Poisson arrivals]
    #[arg(long)]
    cold_fraction: Option<f64>,
    /// Requests per second that one vCPU of a host sustains within the latency target (measure with `warm`)
    #[arg(long)]
    host_rps: Option<f64>,
    /// Assumed utilization of a host at its capacity, without --host-rps
    #[arg(long, default_value_t = 0.7)]
    host_load: f64,
    /// Characters per post, for services that bill by them
    #[arg(long, default_value_t = 120.0)]
    post_chars: f64,
    /// Subtract Lambda's monthly free tier
    #[arg(long)]
    free_tier: bool,
    /// Speed of a target relative to the machine of the measured times [default: 1]; TARGET may be a prefix
    #[arg(long, value_name = "TARGET=FACTOR", value_parser = speed)]
    speed: Vec<(String, f64)>,
    /// Discount in percent on CPU and memory, for all targets or for those with this prefix (Compute Savings Plans: up to 17 for Lambda)
    #[arg(long, value_name = "[TARGET=]PERCENT", value_parser = discount)]
    discount: Vec<(String, f64)>,
    /// Bytes per response, by which streamed responses are billed
    #[arg(long, default_value_t = 500.0)]
    reply_bytes: f64,
    /// Idle seconds after which a MicroVM is suspended, at least 60
    #[arg(long, default_value_t = 60.0)]
    suspend_after: f64,
    /// Seconds until autoscaled hosts follow a change of the load
    #[arg(long, default_value_t = 180.0)]
    scale_reaction: f64,
    /// Seconds of lower load before autoscaled hosts are removed
    #[arg(long, default_value_t = 900.0)]
    scale_hold: f64,
    /// CSV of prices that override the built-in table, in the format of loadtest/prices.csv
    #[arg(long, value_name = "FILE")]
    prices: Option<PathBuf>,
    #[arg(long = "target", value_name = "TARGET", help = format!("Target to price, repeatable: {SPELLINGS}"))]
    targets: Vec<Target>,
}

fn discount(text: &str) -> Result<(String, f64), String> {
    let (name, percent) = text.split_once('=').unwrap_or(("", text));
    let percent = percent
        .trim_end_matches('%')
        .parse::<f64>()
        .ok()
        .filter(|percent| (0.0..=100.0).contains(percent))
        .ok_or_else(|| format!("`{percent}` is not a percentage from 0 to 100"))?;
    Ok((name.to_owned(), percent / 100.0))
}

fn speed(text: &str) -> Result<(String, f64), String> {
    let (name, factor) = text.split_once('=').ok_or("expected TARGET=FACTOR")?;
    let factor = factor
        .parse()
        .ok()
        .filter(|factor: &f64| factor.is_finite() && *factor > 0.0)
        .ok_or_else(|| format!("`{factor}` is not a number above 0"))?;
    Ok((name.to_owned(), factor))
}

impl WorkloadArgs {
    /// The workload, checked; the cold fraction is still to be simulated if it was not given.
    pub(super) fn workload(&self) -> Result<Workload> {
        let posts_per_second = self
            .posts_per_month
            .map_or(self.posts_per_second, |posts| posts / SECONDS);
        for (name, value) in [
            ("the rate of posts", posts_per_second),
            ("--batch", self.batch),
            ("--post-ms", self.post_ms),
            ("--threads", self.threads),
            ("--host-rps", self.host_rps.unwrap_or(1.0)),
            ("--host-load", self.host_load),
        ] {
            ensure!(value.is_finite() && value > 0.0, "{name} must be above 0");
        }
        for (name, value) in [
            ("--request-ms", self.request_ms),
            ("--init-ms", self.init_ms),
            ("--restore-ms", self.restore_ms),
            ("--post-chars", self.post_chars),
            ("--reply-bytes", self.reply_bytes),
            ("--scale-reaction", self.scale_reaction),
            ("--scale-hold", self.scale_hold),
        ] {
            ensure!(
                value.is_finite() && value >= 0.0,
                "{name} must be 0 or more"
            );
        }
        let peak_to_mean = self.peak_to_mean.unwrap_or(1.0);
        ensure!(
            (1.0..=1e6).contains(&peak_to_mean),
            "--peak-to-mean must be 1 or more"
        );
        ensure!(
            (60.0..=28_800.0).contains(&self.suspend_after),
            "--suspend-after must be between 60 s and 8 h"
        );
        if let Some(fraction) = self.cold_fraction {
            ensure!(
                (0.0..=1.0).contains(&fraction),
                "--cold-fraction must be between 0 and 1"
            );
        }
        Ok(Workload {
            posts_per_second,
            peak_to_mean,
            posts_per_request: self.batch,
            post_chars: self.post_chars,
            request_ms: self.request_ms,
            post_ms: self.post_ms,
            threads: self.threads,
            init_ms: self.init_ms,
            restore_ms: self.restore_ms,
            tenants: self.tenants,
            discounts: self.discount.clone(),
            reply_bytes: self.reply_bytes,
            suspend_after_s: self.suspend_after,
            autoscaling: Autoscaling {
                reaction_s: self.scale_reaction,
                hold_s: self.scale_hold,
            },
            cold: Cold::Given(self.cold_fraction.unwrap_or(0.0)),
            host_rps_per_vcpu: self.host_rps,
            host_load: self.host_load,
            free_tier: self.free_tier,
            speed: self.speed.clone(),
            ..Workload::default()
        })
    }

    /// The price table.
    pub(super) fn price_table(&self) -> Result<Prices> {
        Ok(match &self.prices {
            Some(path) => Prices::with_file(path)?,
            None => Prices::built_in(),
        })
    }

    /// The targets given.
    pub(super) fn given_targets(&self) -> &[Target] {
        &self.targets
    }

    /// The targets, or a usual set of them.
    fn targets(&self) -> Vec<Target> {
        if !self.targets.is_empty() {
            return self.targets.clone();
        }
        [
            "lambda:arm:512",
            "lambda:arm:1769",
            "ec2:c7g.medium",
            "fargate:arm:1:2",
            "cloud-run:request:1:0.5",
            "comprehend",
        ]
        .iter()
        .map(|name| name.parse().expect("the usual targets parse"))
        .collect()
    }
}

/// What the bills say, for a terminal.
fn print(report: &CostReport) {
    for sentence in &report.verdict {
        println_ignoring_epipe!("{sentence}");
    }
    println_ignoring_epipe!();
    let mut table = Table::new();
    table
        .load_style(presets::UTF8_HORIZONTAL_ONLY)
        .set_header(["target", "what", "formula", "$/month", "price of"]);
    for quote in &report.quotes {
        for (place, line) in quote.bill.lines.iter().enumerate() {
            table.add_row([
                if place == 0 {
                    quote.target.as_str()
                } else {
                    ""
                },
                line.what.as_str(),
                line.formula.as_str(),
                &dollars(line.usd),
                &line.price_date,
            ]);
        }
        table.add_row(["", "together", "", &dollars(quote.usd_per_month), ""]);
    }
    right_align(&mut table, [3]);
    println_ignoring_epipe!("{table}\n");
    for quote in &report.quotes {
        for note in &quote.bill.notes {
            println_ignoring_epipe!("{}: {note}", quote.target);
        }
    }
    for found in &report.break_evens {
        if !found.formula.is_empty() {
            println_ignoring_epipe!("{}", found.formula);
        }
    }
    if !report.sensitivity.is_empty() {
        println_ignoring_epipe!();
        let mut table = Table::new();
        table.load_style(presets::UTF8_HORIZONTAL_ONLY).set_header([
            "what if",
            "is",
            "$/month",
            "$/million posts",
            "request ms",
            "break-even/s",
        ]);
        for case in &report.sensitivity {
            table.add_row([
                case.input.clone(),
                case.value.clone(),
                dollars(case.usd_per_month),
                dollars(case.usd_per_million_posts),
                number(case.service_ms),
                case.break_even.map_or_else(|| "none".to_owned(), number),
            ]);
        }
        right_align(&mut table, 2..6);
        println_ignoring_epipe!("{table}");
    }
    if let Some(pipeline) = &report.pipeline {
        println_ignoring_epipe!("\n{}", pipeline.words);
        for line in pipeline.chatty.lines.iter().chain(&pipeline.single.lines) {
            println_ignoring_epipe!(
                "  {}: {} = {} ({})",
                line.what,
                line.formula,
                dollars(line.usd),
                line.price_date
            );
        }
    }
}

/// Price a workload on several targets and find the break-even rate
#[derive(Debug, Clone, Args)]
pub(super) struct CostArgs {
    #[command(flatten)]
    workload: WorkloadArgs,
    #[command(flatten)]
    pipeline: PipelineArgs,
    /// Derive the rate, its peak and the share of cold starts from --arrivals, by simulation
    #[arg(long)]
    from_arrivals: bool,
    #[command(flatten)]
    arrivals: ArrivalOptions,
    #[command(flatten)]
    model: ModelOptions,
    #[command(flatten)]
    common: CommonOptions,
}

/// Memory of a function, MB; one vCPU's without one.
fn memory_of(function: Option<&Target>) -> u32 {
    match function {
        Some(Target::Lambda { memory_mb, .. }) => *memory_mb,
        _ => ONE_VCPU_MB,
    }
}

impl CostArgs {
    /// Prices, prints and writes.
    pub(super) fn run(self) -> Result<()> {
        let prices = self.workload.price_table()?;
        let mut workload = self.workload.workload()?;
        let targets = self.workload.targets();
        let function = targets
            .iter()
            .find(|target| matches!(target, Target::Lambda { .. }));
        let times = self.model.measured_times(memory_of(function))?;
        times.apply(&mut workload);
        let model = self.priced_model(&workload, &times, function)?;
        let mut simulation = None;
        if self.from_arrivals {
            let found = self.simulated(&mut workload, &model)?;
            simulation = Some(found);
        }
        if self.workload.cold_fraction.is_none() && !targets.iter().all(Target::always_on) {
            let points = curve::cold_by_rate(&model, 1e-4..=1e3, 3, self.common.seed);
            workload.cold = Cold::ByRate(points);
            if let Some(found) = &simulation {
                let rate = workload.rate() / f64::from(workload.tenants);
                workload.cold.meet(rate, found.function.cold_fraction);
            }
        }
        let mut report = CostReport::new(&workload, &prices, &targets)?;
        report.pipeline = self.pipeline.compare(&prices)?;
        report.verdict.extend(times.sources);
        if let Some(simulation) = &simulation {
            report.verdict.extend(simulation.verdict.iter().cloned());
        }
        print(&report);
        if let Some(path) = &self.common.json {
            let mut results = Results::new(self.common.seed);
            results.simulation = simulation;
            results.cost = Some(report);
            results.write(path)?;
        }
        Ok(())
    }

    /// The platform's model with the times that are priced.
    fn priced_model(
        &self,
        workload: &Workload,
        times: &MeasuredTimes,
        function: Option<&Target>,
    ) -> Result<Model> {
        let mut model = self.model.model()?;
        model.tenants = workload.tenants;
        if let Some(target @ Target::Lambda { memory_mb, .. }) = function {
            let service_ms = workload.service_ms(target, vcpus(*memory_mb));
            model.service = Sampler::constant_ms(service_ms);
            model.memory_mb = *memory_mb;
        }
        if times.init.is_none() {
            model.init = Sampler::constant_ms(workload.init_ms);
        }
        // Measured at this size, its distribution says more than its mean.
        if let Some(measured) = &times.service
            && function.is_some_and(|target| {
                (workload.speed_of(target) - 1.0).abs() < f64::EPSILON
                    && (vcpus(memory_of(function)) - measured.vcpus).abs() < 0.01
            })
        {
            model.service = measured.time.clone();
        }
        Ok(model)
    }

    fn simulated(&self, workload: &mut Workload, model: &Model) -> Result<Simulation> {
        let schedule = self.arrivals.schedule(Duration::from_hours(24))?;
        let seed = self.common.seed;
        workload.profile = RateProfile::from_schedule(&schedule, seed)?;
        workload.posts_per_second = schedule.mean_rate() * workload.posts_per_request;
        if self.workload.peak_to_mean.is_none() {
            workload.peak_to_mean = schedule.peak_to_mean(seed)?;
        }
        let capacity = workload.host_rps(&Target::Comprehend, 1.0);
        let servers = (workload.rate() * workload.peak_to_mean / capacity)
            .ceil()
            .max(1.0);
        let ms = workload.request_ms + workload.post_ms * workload.posts_per_request;
        let one_vcpu = Sampler::constant_ms(ms);
        Ok(simulate(
            model,
            &schedule,
            &BaselineOptions {
                servers: servers as u32,
                service: one_vcpu,
            },
            seed,
            self.common.quiet,
        ))
    }
}

/// Prices hand-offs against one process.
#[derive(Debug, Clone, Args)]
struct PipelineArgs {
    /// Compare a pipeline of functions, which hand items over, with one process
    #[arg(long = "pipeline", id = "chatty")]
    on: bool,
    #[command(flatten)]
    pipeline: Pipeline,
    /// vCPUs of the single process's task
    #[arg(long, default_value_t = 4.0)]
    task_vcpus: f64,
    /// Memory of the single process's task, GB
    #[arg(long, default_value_t = 8.0)]
    task_gb: f64,
}

impl PipelineArgs {
    /// The comparison, if it was asked for.
    fn compare(&self, prices: &Prices) -> Result<Option<pipeline::Comparison>> {
        if !self.on {
            return Ok(None);
        }
        ensure!(
            self.pipeline.items_per_second > 0.0 && self.task_vcpus > 0.0,
            "--items-per-second and --task-vcpus must be above 0"
        );
        ensure!(
            (0.0..=1.0).contains(&self.pipeline.hop_cold_fraction),
            "the share of cold hops is {}; it must be between 0 and 1",
            percent(self.pipeline.hop_cold_fraction)
        );
        let task = FargateTask {
            arch: Arch::Arm,
            vcpus: self.task_vcpus,
            gb: self.task_gb,
        };
        Ok(Some(pipeline::compare(&self.pipeline, prices, task)?))
    }
}
