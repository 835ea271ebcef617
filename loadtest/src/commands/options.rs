//! Groups of options that several commands share.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, ensure};
use clap::Args;

use crate::arrivals::{ArrivalSource, Schedule, TraceOptions, duration};
use crate::lambda_memory::ONE_VCPU_MB;
use crate::measured_times::MeasuredTimes;
use crate::platform::function::SnapStart;
use crate::results::Results;
use crate::simulate::Model;
use crate::simulate::sampler::Sampler;

/// Milliseconds of an init that was neither given nor measured.
const INIT_MS: f64 = 50.0;

/// Options that every measurement takes.
#[derive(Debug, Clone, Args)]
pub(super) struct CommonOptions {
    /// Also write the results to this file, as JSON
    #[arg(long, value_name = "FILE")]
    pub(super) json: Option<PathBuf>,
    /// Random seed; the same seed gives the same schedule
    #[arg(long, default_value_t = 1)]
    pub(super) seed: u64,
    /// Hide the progress bar
    #[arg(long)]
    pub(super) quiet: bool,
}

/// When requests arrive.
#[derive(Debug, Clone, Args)]
pub(super) struct ArrivalOptions {
    /// Arrivals of requests: constant:RATE, poisson:RATE, bursty:LOW:HIGH:LOW-TIME:HIGH-TIME
    /// (two rates and the mean time spent at each), diurnal:MEAN:PEAK-TO-MEAN, or trace:FILE
    #[arg(
        long,
        default_value = "poisson:10",
        value_name = "ARRIVALS",
        verbatim_doc_comment
    )]
    pub(super) arrivals: ArrivalSource,
    /// Duration, e.g. 30s or 7days; a trace ends with its last arrival if that is earlier
    #[arg(long, value_parser = duration)]
    pub(super) duration: Option<Duration>,
    /// Factor by which to multiply the traffic of a trace
    #[arg(long, default_value_t = 1.0)]
    pub(super) rate_scale: f64,
    /// Factor by which to speed up a trace
    #[arg(long, default_value_t = 1.0)]
    pub(super) time_scale: f64,
    /// In a trace of many functions, use the one with this name or hash
    #[arg(long)]
    pub(super) function: Option<String>,
}

impl ArrivalOptions {
    /// The arrivals; a trace is read. A process lasts `default` unless told otherwise.
    pub(super) fn schedule(&self, default: Duration) -> Result<Schedule> {
        for (name, value) in [
            ("--rate-scale", self.rate_scale),
            ("--time-scale", self.time_scale),
        ] {
            ensure!(value.is_finite() && value > 0.0, "{name} must be above 0");
        }
        match &self.arrivals {
            ArrivalSource::Process(process) => Ok(Schedule::from_process(
                process.clone(),
                self.duration.unwrap_or(default),
            )),
            ArrivalSource::Trace(path) => {
                let options = TraceOptions {
                    function: self.function.clone(),
                    rate_scale: self.rate_scale,
                    time_scale: self.time_scale,
                    length: self.duration,
                };
                Schedule::from_trace(path, &options)
            }
        }
    }
}

/// How the modelled platform behaves.
#[derive(Debug, Clone, Args)]
pub(super) struct ModelOptions {
    /// Time of a warm request in the function: 10ms, exp:MEAN, uniform:LOW:HIGH, lognormal:MEDIAN:P99, or `file:PATH` (measured milliseconds, one per line)
    #[arg(long, default_value = "10ms")]
    pub(super) service: Sampler,
    /// Time of an instance's first request [default: as --service]
    #[arg(long)]
    pub(super) first: Option<Sampler>,
    /// Latency outside the function: network, front end
    #[arg(long, default_value = "0")]
    pub(super) overhead: Sampler,
    /// Part of a cold start that is not billed (placement, image fetch)
    #[arg(long, default_value = "100ms")]
    pub(super) sandbox: Sampler,
    /// Billed init phase of a cold start [default: measured, or 50ms]
    #[arg(long)]
    pub(super) init: Option<Sampler>,
    /// Time until an idle instance is reclaimed (AWS documents none; 5 to 15 minutes have been measured)
    #[arg(long, default_value = "uniform:5m:15m")]
    pub(super) idle: Sampler,
    /// Maximum age of an instance ("every few hours", measured in 2018)
    #[arg(long, default_value = "uniform:4h:8h")]
    pub(super) life: Sampler,
    /// Results of import-logs, cold-start or warm, whose measured times replace --service and --init; repeatable
    #[arg(long, value_name = "RESULTS")]
    pub(super) measured: Vec<PathBuf>,
    /// Concurrent requests per instance: 1 on Lambda, more on Managed Instances or Cloud Run
    #[arg(long, default_value_t = 1)]
    pub(super) concurrency: u32,
    /// vCPUs of an instance with several concurrent requests
    #[arg(long, default_value_t = 1.0)]
    pub(super) instance_vcpus: f64,
    /// Maximum number of requests in flight (the account's concurrency)
    #[arg(long, default_value_t = 1_000)]
    pub(super) limit: u64,
    /// Maximum burst of new instances; the same number is added every ten seconds
    #[arg(long, default_value_t = 1_000)]
    pub(super) burst: u32,
    /// Memory of an instance in MB
    #[arg(long, default_value_t = ONE_VCPU_MB)]
    pub(super) memory_mb: u32,
}

impl ModelOptions {
    /// The model, checked.
    pub(super) fn model(&self) -> Result<Model> {
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
        let times = self.measured_times(self.memory_mb)?;
        self.model_with(&times)
    }

    /// The model with times that were measured.
    pub(super) fn model_with(&self, times: &MeasuredTimes) -> Result<Model> {
        let init = match (&self.init, &times.init) {
            (_, Some(measured)) => measured.clone(),
            (Some(given), None) => given.clone(),
            (None, None) => {
                times.needs_no_init()?;
                Sampler::constant_ms(INIT_MS)
            }
        };
        Ok(Model {
            service: times
                .service
                .as_ref()
                .map_or_else(|| self.service.clone(), |measured| measured.time.clone()),
            first: times.first.clone().or_else(|| self.first.clone()),
            overhead: self.overhead.clone(),
            settle: Sampler::constant_ms(0.0),
            sandbox: self.sandbox.clone(),
            init,
            idle: self.idle.clone(),
            life: self.life.clone(),
            kept: 0,
            tenants: 1,
            concurrency: self.concurrency,
            vcpus: self.instance_vcpus,
            limit: self.limit,
            burst: f64::from(self.burst),
            memory_mb: self.memory_mb,
        })
    }

    /// What the files of `--measured` say about a function of `memory_mb`.
    pub(super) fn measured_times(&self, memory_mb: u32) -> Result<MeasuredTimes> {
        let documents = self
            .measured
            .iter()
            .map(|path| Results::read(path))
            .collect::<Result<Vec<_>>>()?;
        let mut times = MeasuredTimes::default();
        for logs in documents
            .iter()
            .filter_map(|document| document.logs.as_ref())
        {
            times.add_logs(logs)?;
        }
        for cold_start in documents
            .iter()
            .filter_map(|document| document.cold_start.as_ref())
        {
            times.add_cold_start(cold_start, memory_mb)?;
        }
        for warm in documents
            .iter()
            .filter_map(|document| document.warm.as_ref())
        {
            times.add_warm(warm);
        }
        ensure!(
            documents.is_empty() || !times.sources.is_empty(),
            "the files of --measured contain no times"
        );
        Ok(times)
    }
}

/// `coldread` beside this program, else on the path.
pub(super) fn default_binary() -> PathBuf {
    std::env::current_exe()
        .ok()
        .and_then(|own| Some(own.parent()?.join("coldread")))
        .filter(|path| path.exists())
        .unwrap_or_else(|| PathBuf::from("coldread"))
}

/// Whether the local Lambda starts instances from a snapshot.
#[derive(Debug, Clone, Args)]
pub(super) struct SnapStartOptions {
    /// Restore instances from a snapshot (SnapStart): `asks` for a function that polls for its restore, `label` for an image with the label
    #[arg(long, value_name = "WHICH", num_args = 0..=1, require_equals = true, default_missing_value = "asks", value_parser = ["asks", "label"])]
    snapstart: Option<String>,
    /// Shortest and longest time to load a snapshot, ms; the default is published by others, not measured
    #[arg(long, value_name = "LOW:HIGH", default_value = "377:693", value_parser = load)]
    snapshot_load_ms: (Duration, Duration),
}

impl SnapStartOptions {
    /// What a function has of it.
    pub(super) fn function(&self) -> Option<SnapStart> {
        let which = self.snapstart.as_ref()?;
        Some(SnapStart {
            labelled: which == "label",
            load: self.snapshot_load_ms,
        })
    }
}

fn load(text: &str) -> Result<(Duration, Duration), String> {
    let ms = |text: &str| -> Option<Duration> {
        let ms = text.parse::<f64>().ok()?;
        let ms = (0.0..=1e6).contains(&ms).then_some(ms)?;
        Some(Duration::from_secs_f64(ms / 1e3))
    };
    let ends = text
        .split_once(':')
        .and_then(|(low, high)| Some((ms(low)?, ms(high)?)));
    ends.filter(|(low, high)| low <= high)
        .ok_or_else(|| format!("`{text}` is not a range of milliseconds, such as 377:693"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct CommandLine {
        #[command(flatten)]
        model: ModelOptions,
    }

    #[test]
    fn files_without_times_are_rejected() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("empty.json");
        Results::new(1).write(&path).unwrap();
        let mut model = CommandLine::parse_from(["simulate"]).model;
        assert!(model.measured_times(512).unwrap().sources.is_empty());
        model.measured.push(path);
        assert!(model.measured_times(512).is_err());
    }
}
