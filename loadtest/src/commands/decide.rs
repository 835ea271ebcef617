//! `coldread-loadtest decide`: all options of a platform by cost, at equal latency.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::Args;
use comfy_table::{Table, presets};

use super::cost::WorkloadArgs;
use super::options::{ArrivalOptions, CommonOptions, ModelOptions};
use super::output::{right_align, write};
use crate::arrivals::Schedule;
use crate::arrivals::profile::RateProfile;
use crate::cost::target::{Arch, Target};
use crate::decide::{Choice, Decision, Platform, Question, families};
use crate::format::{brief, dollars, percent};
use crate::lambda_memory::ONE_VCPU_MB;
use crate::logs::Logs;
use crate::report::page;
use crate::results::Results;
use crate::simulate::sampler::Sampler;

/// Restores that others have published: of a Rust hello-world, and the slower ones of a
/// Rust container of 327 MB.
const PUBLISHED_RESTORE: &str = "uniform:377ms:693ms";

/// Rank all options of a platform by cost, at equal p99, for a rate, a trace or a log
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  coldread-loadtest decide --arrivals poisson:5 --measured cold.json
  coldread-loadtest decide --arrivals trace:arrivals.csv --measured cold.json --report decide.html
  coldread-loadtest decide --logs lambda.log --p99-ms 200")]
pub(super) struct DecideArgs {
    /// Latency target for the 99th percentile, ms; options that miss it are ranked below
    #[arg(long, default_value_t = 100.0)]
    p99_ms: f64,
    /// Platform whose options are compared: aws, google or azure; --target replaces them
    #[arg(long, default_value = "aws")]
    platform: Platform,
    /// Architectures on AWS to compare: arm, x86
    #[arg(long, value_delimiter = ',', default_value = "arm,x86", value_parser = arch)]
    arch: Vec<Arch>,
    /// EC2 sizes to compare, for hosts and (from two vCPUs) Managed Instances
    #[arg(long, value_delimiter = ',', default_value = "c7g.medium,c7i.large")]
    machines: Vec<String>,
    /// Time to restore a snapshot, in the format of --service; the default is published by others, not measured
    #[arg(long)]
    restore: Option<Sampler>,
    /// Take arrivals and times from the REPORT lines of this log, whose lines have timestamps
    #[arg(long, value_name = "FILE", conflicts_with = "arrivals")]
    logs: Option<PathBuf>,
    /// Also write the result as an HTML page
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    #[command(flatten)]
    workload: WorkloadArgs,
    #[command(flatten)]
    arrivals: ArrivalOptions,
    #[command(flatten)]
    model: ModelOptions,
    #[command(flatten)]
    common: CommonOptions,
}

fn arch(text: &str) -> Result<Arch, String> {
    match text {
        "arm" | "arm64" => Ok(Arch::Arm),
        "x86" | "x86_64" => Ok(Arch::X86),
        other => Err(format!("`{other}` is neither arm nor x86")),
    }
}

impl DecideArgs {
    /// Decides, prints and writes.
    pub(super) fn run(self) -> Result<()> {
        let prices = self.workload.price_table()?;
        let (question, sources) = self.question(&prices)?;
        let mut decision = Decision::new(&question, &prices)?;
        decision.assumptions.extend(sources);
        print(&decision);
        let mut results = Results::new(self.common.seed);
        results.decision = Some(decision);
        if let Some(path) = &self.common.json {
            results.write(path)?;
        }
        if let Some(path) = &self.report {
            write(path, &page::render(&results)?)?;
            println_ignoring_epipe!("\n{}", path.display());
        }
        Ok(())
    }

    fn question(&self, prices: &crate::cost::prices::Prices) -> Result<(Question, Vec<String>)> {
        let seed = self.common.seed;
        let logs = self
            .logs
            .as_deref()
            .map(|path| Logs::read(path, seed))
            .transpose()?;
        let schedule = match &logs {
            Some(logs) => Schedule::from_times(&logs.file, &logs.arrivals()?)?,
            None => self.arrivals.schedule(Duration::from_hours(24))?,
        };
        let mut times = self.model.measured_times(ONE_VCPU_MB)?;
        if let Some(logs) = &logs {
            times.add_logs(logs)?;
        }
        let mut workload = self.workload.workload()?;
        times.apply(&mut workload);
        workload.posts_per_second = schedule.mean_rate() * workload.posts_per_request;
        workload.profile = RateProfile::from_schedule(&schedule, seed)?;
        workload.peak_to_mean = workload.profile.peak();
        let mut model = self.model.model_with(&times)?;
        let request_ms = workload.request_ms + workload.post_ms * workload.posts_per_request;
        model.service = match &times.service {
            // Measured times keep their distribution.
            Some(measured) => {
                let mean_ms = measured.time.mean_ms();
                ensure!(mean_ms > 0.0, "the measured service time is 0");
                measured.time.scaled(request_ms / mean_ms)
            }
            None => Sampler::constant_ms(request_ms),
        };
        // First requests were measured at one size, and are tried at many.
        model.first = None;
        match (&times.init, &self.model.init) {
            (None, None) => model.init = Sampler::constant_ms(workload.init_ms),
            (None, Some(given)) => workload.init_ms = given.mean_ms(),
            (Some(_), _) => {}
        }
        let mut sources = times.sources.clone();
        let (restore, restore_source) = match (&self.restore, &times.restore) {
            (Some(given), _) => (given.clone(), "given with --restore".to_owned()),
            (None, Some(logged)) => (logged.clone(), "from the log of AWS".to_owned()),
            (None, None) => (
                PUBLISHED_RESTORE.parse().map_err(anyhow::Error::msg)?,
                format!(
                    "{PUBLISHED_RESTORE}, between restores that two others have published, not measured"
                ),
            ),
        };
        sources.dedup();
        Ok((
            Question {
                families: self.families(prices)?,
                schedule,
                workload,
                model,
                restore,
                restore_source,
                p99_ms: self.p99_ms,
                seed,
                quiet: self.common.quiet,
            },
            sources,
        ))
    }

    fn families(&self, prices: &crate::cost::prices::Prices) -> Result<Vec<Vec<Choice>>> {
        let given = self.workload.given_targets();
        if given.is_empty() {
            for machine in &self.machines {
                prices
                    .get(&format!("ec2.{machine}"))
                    .context("--machines")?;
            }
            return Ok(families(self.platform, &self.arch, &self.machines, prices));
        }
        let exactly = |target: &Target| vec![Choice::Exactly(target.clone())];
        Ok(given.iter().map(exactly).collect())
    }
}

/// The result for a terminal.
fn print(decision: &Decision) {
    for sentence in &decision.verdict {
        println_ignoring_epipe!("{sentence}");
    }
    println_ignoring_epipe!();
    let mut table = Table::new();
    table.load_style(presets::UTF8_HORIZONTAL_ONLY).set_header([
        "option",
        "$/month",
        "work",
        "cold",
        "restores",
        "idle",
        "fees",
        "p99 ms",
        "p99.9",
        "cold requests",
    ]);
    let ms = |value: Option<f64>| value.map_or_else(|| "–".to_owned(), brief);
    for option in &decision.options {
        let parts = option.breakdown;
        table.add_row([
            option.target.clone(),
            dollars(option.usd_per_month),
            dollars(parts.work),
            dollars(parts.cold_starts),
            dollars(parts.restores),
            dollars(parts.idle),
            dollars(parts.fees),
            if option.in_time {
                ms(option.p99_ms)
            } else {
                format!("{} !", ms(option.p99_ms))
            },
            ms(option.p999_ms),
            option.cold_fraction.map_or_else(
                || "–".to_owned(),
                |share| format!("{}%", brief(share * 100.0)),
            ),
        ]);
    }
    right_align(&mut table, 1..10);
    println_ignoring_epipe!("{table}");
    if decision.options.iter().any(|option| !option.in_time) {
        println_ignoring_epipe!(
            "! misses the p99 target, or requests were throttled or not simulated"
        );
    }
    println_ignoring_epipe!(
        "\nDollars per month by what they pay for. Break-even between neighbours, if all traffic grows or shrinks by the same factor:"
    );
    for pair in &decision.neighbours {
        println_ignoring_epipe!("  {}", pair.words);
    }
    if !decision.levers.is_empty() {
        println_ignoring_epipe!("\nThe cheapest option, with one setting changed:");
        for lever in &decision.levers {
            println_ignoring_epipe!(
                "{} {}: {}, {} per month, {} ms per request{}{}",
                if lever.present { " *" } else { "  " },
                lever.what,
                lever.setting,
                dollars(lever.usd_per_month),
                brief(lever.request_ms),
                if lever.in_time { "" } else { " !" },
                if lever.fill_ms > 0.0 {
                    format!(", {} ms to fill a batch", brief(lever.fill_ms))
                } else {
                    String::new()
                }
            );
        }
    }
    println_ignoring_epipe!(
        "\nStarts, ms: {}.",
        decision
            .starts
            .iter()
            .map(|start| format!("{} {}", start.name, brief(start.ms)))
            .collect::<Vec<_>>()
            .join("; ")
    );
    for assumption in &decision.assumptions {
        println_ignoring_epipe!("{assumption}");
    }
    let late = decision
        .options
        .iter()
        .filter(|option| option.throttled > 0.0);
    for option in late {
        println_ignoring_epipe!(
            "{}: {} of requests throttled",
            option.target,
            percent(option.throttled)
        );
    }
}
