//! The replay against the local Lambda.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use hdrhistogram::Histogram;
use indicatif::{ProgressBar, ProgressStyle};
use tokio::task::LocalSet;

use super::replay::{Replay, Replayed};
use crate::arrivals::Nanos;
use crate::clock::ms;
use crate::event::{check_reply, function_url};
use crate::generator::bodies::Bodies;
use crate::generator::{ClientOptions, pacer::Pacer};
use crate::lambda_memory::vcpus;
use crate::latency::Latency;
use crate::platform::cgroup::Hierarchy;
use crate::platform::function::{Function, Program, SnapStart};
use crate::platform::instance::Settings;
use crate::platform::reclaim::Reclaim;
use crate::platform::{Invoked, Platform, Scaling};
use crate::simulate::Model;
use crate::simulate::sampler::Sampler;
use crate::stats::median;

/// How the function is deployed.
#[derive(Clone, Debug)]
pub struct LocalLambda {
    /// Memory size, MB.
    pub memory_mb: u32,
    /// Whether memory and processor are limited.
    pub limits: bool,
    /// When idle instances end.
    pub reclaim: Reclaim,
    /// Instances at most.
    pub max_instances: usize,
    /// Requests an instance takes at once.
    pub concurrency: u32,
    /// Whether instances are restored from a snapshot.
    pub snapstart: Option<SnapStart>,
    /// No progress bar.
    pub quiet: bool,
    /// The function and its arguments.
    pub command: Vec<OsString>,
}

/// What became of the requests. Times are in milliseconds.
#[derive(Default)]
pub(super) struct Observed {
    /// How memory and processor were limited, or why they were not.
    pub(super) limits: String,
    answered: Vec<Answered>,
    /// How long instances were held after their responses.
    settled: Vec<f64>,
    faults: BTreeMap<String, u64>,
    late_us: Option<Histogram<u64>>,
    started: u64,
    in_flight: u64,
    in_flight_peak: u64,
    memory_mb: u32,
}

/// One request that was answered.
struct Answered {
    /// From its intended time on.
    latency: f64,
    /// From the event's delivery to its response.
    duration: f64,
    billed: u64,
    /// Init phase, or hooks of the restore, of those that an instance was started for.
    init: Option<f64>,
}

impl LocalLambda {
    /// Sends a request at each of `times`.
    pub(super) fn replay(
        &self,
        client: &ClientOptions,
        times: &[Nanos],
        end: Nanos,
        seed: u64,
    ) -> Result<Observed> {
        // One thread, as for cold starts: instances die with the thread that started them.
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let bodies = Bodies::new(client.posts.as_deref(), client.batch, seed)?;
        LocalSet::new().block_on(&runtime, self.replay_on(client, &bodies, times, end, seed))
    }

    async fn replay_on(
        &self,
        client: &ClientOptions,
        bodies: &Bodies,
        times: &[Nanos],
        end: Nanos,
        seed: u64,
    ) -> Result<Observed> {
        let (platform, limits) = self.platform(client.timeout, seed)?;
        if self.snapstart.is_some()
            && let Err(fault) = platform.publish().await
        {
            bail!("publishing a version failed: {fault}");
        }
        let seen = Rc::new(RefCell::new(Observed {
            limits,
            memory_mb: self.memory_mb,
            ..Observed::default()
        }));
        let mut late = Histogram::<u64>::new_with_bounds(1, 3_600_000_000, 3)?;
        let bar = bar(self.quiet, end);
        let pacer = Pacer::new()?;
        let start = Instant::now();
        let mut pending = Vec::new();
        for (place, time) in times.iter().enumerate() {
            let body = serde_json::from_slice(&bodies.get(place))?;
            let event: Bytes = function_url(&client.path, &body);
            let due = start + Duration::from_nanos(*time);
            if !pacer.until(due).await? {
                break;
            }
            late.saturating_record((due.elapsed().as_micros() as u64).max(1));
            if !bar.is_hidden() {
                bar.set_position(time / 1_000_000);
                bar.set_message(format!("{place} sent, {} instances,", platform.instances()));
            }
            let (platform, seen) = (platform.clone(), Rc::clone(&seen));
            pending.push(tokio::task::spawn_local(async move {
                seen.borrow_mut().send();
                let late = due.elapsed();
                let invoked = platform.invoke(event).await;
                let latency = late + invoked.done.since(invoked.asked);
                seen.borrow_mut().add(invoked, ms(latency));
            }));
        }
        for request in pending {
            request.await.context("a request was lost")?;
        }
        bar.finish_and_clear();
        let mut seen = seen.take();
        seen.late_us = Some(late);
        seen.started = platform.counts().started;
        seen.settled = platform.settled().into_iter().map(ms).collect();
        if seen.answered.is_empty() {
            bail!("no request got a response: {:?}", seen.faults);
        }
        Ok(seen)
    }

    fn platform(&self, timeout: Duration, seed: u64) -> Result<(Platform, String)> {
        let mut settings = Settings::new(&std::env::current_exe()?);
        let mut limits = "limits off, as requested".to_owned();
        if self.limits {
            limits = match Hierarchy::find() {
                Ok(hierarchy) => {
                    settings.hierarchy = Some(Arc::new(hierarchy));
                    "limited".to_owned()
                }
                Err(error) => format!("limits OFF: {error:#}"),
            };
        }
        let program = Program::Command(self.command.clone());
        let mut function = Function::new("replay", program, self.memory_mb);
        function.timeout = timeout;
        function.max_concurrency = self.concurrency as usize;
        function.snapstart.clone_from(&self.snapstart);
        let scaling = Scaling {
            max_instances: self.max_instances,
            reclaim: self.reclaim,
            // As on Lambda, an instance takes nothing before it asks for it.
            settling: Duration::ZERO,
            seed,
            ..Scaling::default()
        };
        Ok((Platform::new(function, settings, scaling), limits))
    }

    /// The platform's model with the times that `replays` measured.
    pub(super) fn model(&self, replays: &[&Observed]) -> Result<Model> {
        let requests = || replays.iter().flat_map(|seen| &seen.answered);
        let warm = |value: &dyn Fn(&Answered) -> f64| -> Vec<f64> {
            let warm = requests().filter(|request| request.init.is_none());
            warm.map(value).collect()
        };
        let cold = |value: &dyn Fn(&Answered, f64) -> f64| -> Vec<f64> {
            let cold = requests().filter_map(|request| Some((request, request.init?)));
            cold.map(|(request, init)| value(request, init)).collect()
        };
        let measured = |times: &[f64]| match times {
            [] => Ok(Sampler::Constant(0)),
            times => Sampler::measured_ms(times),
        };
        let overhead = warm(&|request| (request.latency - request.duration).max(0.0));
        let usual = median(&overhead).unwrap_or(0.0);
        // What a client waits for besides init and work: the control group, the new process, or
        // the loading of a snapshot.
        let around =
            cold(&|request, init| (request.latency - init - request.duration - usual).max(0.0));
        let first = measured(&cold(&|request, _| request.duration))?;
        let service = warm(&|request| request.duration);
        let settled: Vec<f64> = replays
            .iter()
            .flat_map(|seen| seen.settled.clone())
            .collect();
        Ok(Model {
            service: if service.is_empty() {
                first.clone()
            } else {
                measured(&service)?
            },
            first: Some(first),
            overhead: measured(&overhead)?,
            settle: measured(&settled)?,
            sandbox: measured(&around)?,
            init: measured(&cold(&|_, init| init))?,
            idle: idle(self.reclaim),
            life: Sampler::Constant(u64::MAX / 4),
            concurrency: self.concurrency,
            vcpus: vcpus(self.memory_mb),
            limit: self.max_instances as u64,
            memory_mb: self.memory_mb,
            ..Model::default()
        })
    }

    /// What to say when the instances wanted more processors than there are.
    pub(super) fn crowded(&self, replays: &[Replay]) -> Option<String> {
        let most = replays
            .iter()
            .filter_map(|replay| replay.replayed.in_flight_peak)
            .max()?;
        let wanted = most as f64 * vcpus(self.memory_mb);
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        (!self.limits || wanted > cores as f64).then(|| {
            format!(
                "At most {most} requests were at work at once, for which {cores} processor(s) are \
                 too few: they slowed each other down, as Lambda's do not."
            )
        })
    }
}

impl Observed {
    fn send(&mut self) {
        self.in_flight += 1;
        self.in_flight_peak = self.in_flight_peak.max(self.in_flight);
    }

    fn add(&mut self, invoked: Invoked, latency: f64) {
        self.in_flight -= 1;
        match invoked.result {
            Ok((body, report)) => match check_reply(&body) {
                Ok(()) => self.answered.push(Answered {
                    latency,
                    duration: ms(report.duration),
                    billed: report.billed_ms()
                        + report.restore.map_or(0, |restored| restored.billed_ms()),
                    init: report.billed_start().map(ms),
                }),
                Err(reason) => *self.faults.entry(reason).or_default() += 1,
            },
            Err(fault) => *self.faults.entry(fault.kind.to_string()).or_default() += 1,
        }
    }

    fn latency(&self, wanted: impl Fn(&Answered) -> bool) -> Latency {
        let mut histogram =
            Histogram::<u64>::new_with_bounds(1, 3_600_000_000, 3).expect("the bounds are valid");
        for request in self.answered.iter().filter(|request| wanted(request)) {
            histogram.saturating_record((request.latency * 1e3) as u64);
        }
        Latency::from_histogram(&histogram, 1e-3)
    }

    pub(super) fn replayed(&self) -> Replayed {
        let cold = self
            .answered
            .iter()
            .filter(|request| request.init.is_some());
        let billed_ms: u64 = self.answered.iter().map(|request| request.billed).sum();
        Replayed {
            requests: self.answered.len() as u64,
            faults: self.faults.clone(),
            cold: Some(cold.count() as u64),
            instances_started: Some(self.started),
            in_flight_peak: Some(self.in_flight_peak),
            billed_gb_seconds: Some(billed_ms as f64 / 1e3 * f64::from(self.memory_mb) / 1_024.0),
            latency_ms: self.latency(|_| true),
            warm_latency_ms: Some(self.latency(|request| request.init.is_none())),
            cold_latency_ms: Some(self.latency(|request| request.init.is_some())),
            schedule_error_p99_ms: self
                .late_us
                .as_ref()
                .map_or(0.0, |late| late.value_at_quantile(0.99) as f64 / 1e3),
        }
    }
}

fn idle(reclaim: Reclaim) -> Sampler {
    let nanos = |seconds: f64| (seconds * 1e9) as Nanos;
    match reclaim {
        Reclaim::Never => Sampler::Constant(u64::MAX / 4),
        Reclaim::Fixed(seconds) => Sampler::Constant(nanos(seconds)),
        Reclaim::Uniform(low, high) => Sampler::Uniform(nanos(low), nanos(high)),
        Reclaim::Exponential(mean) => Sampler::Exponential(mean * 1e9),
    }
}

fn bar(quiet: bool, end: Nanos) -> ProgressBar {
    if quiet {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(end / 1_000_000);
    bar.set_style(
        ProgressStyle::with_template("replay {bar:24} {msg} {eta} left")
            .expect("the template is valid"),
    );
    bar
}
