//! The traffic on one target, simulated.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use anyhow::Result;

use super::options::{Choice, with_count};
use super::{Question, Ranked, Tried};
use crate::arrivals::Nanos;
use crate::cost::prices::{PriceError, Prices};
use crate::cost::scaling::autoscale;
use crate::cost::target::{CloudRunBilling, Target};
use crate::cost::workload::{Cold, Workload};
use crate::cost::{self};
use crate::lambda_memory::vcpus;
use crate::latency::Latency;
use crate::simulate::baseline::{ServerPlan, run_plan};
use crate::simulate::sampler::Sampler;
use crate::simulate::{Model, Window, curve, run};

/// Requests a vCPU of a MicroVM is given at once.
const MICROVM_CONCURRENCY: f64 = 8.0;
/// Multiples of the traffic that one host is tried with at most, and the steps in which
/// the limit is then narrowed down.
const MOST_HEADROOM: f64 = 1_024.0;
const HEADROOM_STEPS: u32 = 5;
/// Environments that are kept at most.
const MOST_KEPT: u32 = 10_000;

/// What the traffic came to on a target.
#[derive(Clone, Debug)]
struct Found {
    latency: Latency,
    cold_fraction: f64,
    throttled: f64,
    peak: f64,
}

impl Found {
    fn in_time(&self, p99_ms: f64) -> bool {
        self.latency.p99 <= p99_ms && self.throttled == 0.0
    }
}

/// What a target is in simulation. Targets that differ in price alone share one.
enum Simulated {
    Function(Box<Model>),
    Hosts { service: Sampler, plan: ServerPlan },
}

/// Simulations of one question, for several threads. What was simulated once is kept, and
/// who needs what another thread simulates waits for it.
pub(super) struct Trials<'a> {
    question: &'a Question,
    prices: &'a Prices,
    known: Mutex<HashMap<String, Arc<OnceLock<Found>>>>,
    /// Cold fraction over rate, for Poisson arrivals.
    cold: OnceLock<Vec<(f64, f64)>>,
}

impl<'a> Trials<'a> {
    pub(super) fn new(question: &'a Question, prices: &'a Prices) -> Self {
        Self {
            question,
            prices,
            known: Mutex::default(),
            cold: OnceLock::new(),
        }
    }

    /// The cheapest of a family within the bound; of none, the one that comes nearest.
    pub(super) fn best(&self, family: &[Choice]) -> Result<Option<Tried>> {
        let mut best: Option<Tried> = None;
        for choice in family {
            let tried = match choice {
                Choice::Exactly(target) => self.exactly(target)?,
                Choice::AsMany(target) => {
                    // A size whose work alone takes too long needs no search.
                    if self.work_ms(target)? > self.question.p99_ms {
                        continue;
                    }
                    let count = self.count(target)?;
                    self.exactly(&with_count(target, count))?
                }
            };
            if best
                .as_ref()
                .is_none_or(|best| better(&tried.ranked, &best.ranked))
            {
                best = Some(tried);
            }
        }
        Ok(best)
    }

    /// Median milliseconds of a request's work on `target`.
    fn work_ms(&self, target: &Target) -> Result<f64> {
        Ok(match self.simulated(target, &self.question.workload)? {
            Some(Simulated::Function(model)) => model.service.mean_ms(),
            Some(Simulated::Hosts { service, .. }) => service.mean_ms(),
            None => 0.0,
        })
    }

    /// The least number kept that is within the bound, or the most.
    fn count(&self, target: &Target) -> Result<u32> {
        let mut high = 1;
        while high < MOST_KEPT && !self.found_in_time(&with_count(target, high))? {
            high *= 2;
        }
        let mut low = high / 2;
        while low + 1 < high {
            let middle = u32::midpoint(low, high);
            if self.found_in_time(&with_count(target, middle))? {
                high = middle;
            } else {
                low = middle;
            }
        }
        Ok(high)
    }

    fn found_in_time(&self, target: &Target) -> Result<bool> {
        Ok(self
            .found(target)?
            .is_none_or(|found| found.in_time(self.question.p99_ms)))
    }

    fn exactly(&self, target: &Target) -> Result<Tried> {
        let found = self.found(target)?;
        let workload = self.workload(target, found.as_ref())?;
        let bill = cost::bill(&workload, self.prices, target)?;
        let latency = found.as_ref().map(|found| &found.latency);
        Ok(Tried {
            ranked: Ranked {
                target: target.to_string(),
                name: target.words(),
                usd_per_month: bill.usd(),
                usd_per_million_posts: bill.usd() / workload.posts() * 1e6,
                breakdown: bill.breakdown(),
                p50_ms: latency.map(|latency| latency.p50),
                p99_ms: latency.map(|latency| latency.p99),
                p999_ms: latency.map(|latency| latency.p999),
                in_time: found
                    .as_ref()
                    .is_some_and(|found| found.in_time(self.question.p99_ms)),
                cold_fraction: found.as_ref().map(|found| found.cold_fraction),
                throttled: found.as_ref().map_or(0.0, |found| found.throttled),
                instances_peak: found.as_ref().map(|found| found.peak),
                bill,
            },
            target: target.clone(),
            workload,
        })
    }

    /// The workload with this option's cold fraction and with the capacity of its hosts.
    fn workload(&self, target: &Target, found: Option<&Found>) -> Result<Workload> {
        let mut workload = Workload {
            peak_to_mean: 1.0,
            ..self.question.workload.clone()
        };
        match target {
            Target::Lambda { .. } | Target::AzureFlex { .. } => {
                workload.cold = self.cold(found);
            }
            Target::CloudRun {
                billing: CloudRunBilling::Request,
                ..
            } => workload.cold = self.cold(found),
            _ => {
                if let Some((vcpus, least)) = self.fixed(target)? {
                    let rate = workload.rate() * self.headroom(target, least)?;
                    let hosts = f64::from(least) * vcpus * workload.speed_of(target);
                    workload.host_rps_per_vcpu = Some(rate / hosts);
                }
            }
        }
        Ok(workload)
    }

    /// How many times this traffic the hosts bear within the bound. Of several hosts,
    /// which are the fewest that bear it, once.
    ///
    /// Traffic that is `f` times as fast meets servers as it does when they are `f` times as
    /// slow and everybody is `f` times as patient, so the schedule need not be changed.
    fn headroom(&self, target: &Target, hosts: u32) -> Result<f64> {
        let question = self.question;
        let Some(Simulated::Hosts { service, plan }) =
            self.simulated(target, &question.workload)?
        else {
            return Ok(1.0);
        };
        if hosts > 1 {
            return Ok(1.0);
        }
        let bears = |factor: f64| {
            let slower = Simulated::Hosts {
                service: service.scaled(factor),
                plan: plan.clone(),
            };
            self.run(&slower).in_time(question.p99_ms * factor)
        };
        let (mut low, mut high) = (1.0, 2.0);
        while high < MOST_HEADROOM && bears(high) {
            (low, high) = (high, high * 2.0);
        }
        for _ in 0..HEADROOM_STEPS {
            let middle = f64::sqrt(low * high);
            if bears(middle) {
                low = middle;
            } else {
                high = middle;
            }
        }
        Ok(low)
    }

    /// Cold fraction over rate, as burstier as these arrivals are than Poisson's.
    fn cold(&self, found: Option<&Found>) -> Cold {
        let question = self.question;
        let points = self.cold.get_or_init(|| {
            let model = Model {
                concurrency: 1,
                ..question.model.clone()
            };
            let rate = question.workload.rate() / f64::from(question.workload.tenants);
            curve::cold_by_rate(&model, rate / 1e3..=rate * 1e3, 2, question.seed)
        });
        let mut cold = Cold::ByRate(points.clone());
        if let Some(found) = found {
            let workload = &question.workload;
            cold.meet(
                workload.rate() / f64::from(workload.tenants),
                found.cold_fraction,
            );
        }
        cold
    }

    /// vCPUs of a host and how many there are, where their number is fixed.
    fn fixed(&self, target: &Target) -> Result<Option<(f64, u32)>, PriceError> {
        Ok(match target {
            Target::Ec2 {
                machine,
                least,
                auto: None,
            } => Some((self.machine_vcpus(machine)?, *least)),
            Target::Managed {
                machines,
                least,
                auto: None,
            } => Some((self.machine_vcpus(&machines[0])?, *least)),
            Target::Fargate {
                vcpus,
                least,
                auto: None,
                ..
            }
            | Target::CloudRun {
                billing: CloudRunBilling::Instance | CloudRunBilling::WorkerPool,
                vcpus,
                least,
                ..
            } => Some((*vcpus, *least)),
            _ => None,
        })
    }

    fn machine_vcpus(&self, machine: &str) -> Result<f64, PriceError> {
        let price = self.prices.get(&format!("ec2.{machine}"))?;
        Ok(price.vcpus.unwrap_or(1.0))
    }

    /// What the traffic comes to; `None` for a service that is not ours to simulate.
    fn found(&self, target: &Target) -> Result<Option<Found>> {
        let Some(simulated) = self.simulated(target, &self.question.workload)? else {
            return Ok(None);
        };
        Ok(Some(self.run(&simulated)))
    }

    /// Simulates, if that has not been done.
    fn run(&self, simulated: &Simulated) -> Found {
        let cell = {
            let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(known.entry(simulated.key()).or_default())
        };
        cell.get_or_init(|| simulated.run(self.question)).clone()
    }

    fn simulated(
        &self,
        target: &Target,
        workload: &Workload,
    ) -> Result<Option<Simulated>, PriceError> {
        let question = self.question;
        let one_ms = question.model.service.mean_ms();
        let service = |vcpus: f64| {
            let ms = workload.service_ms(target, vcpus);
            question.model.service.scaled(ms / one_ms)
        };
        let function = |vcpus: f64| Model {
            service: service(vcpus),
            vcpus: vcpus.max(1.0),
            tenants: workload.tenants,
            ..question.model.clone()
        };
        Ok(match target {
            Target::Lambda {
                memory_mb, options, ..
            } => {
                let mut model = function(vcpus(*memory_mb));
                model.kept = options.provisioned;
                model.memory_mb = *memory_mb;
                model.concurrency = 1;
                if options.snapshots > 0 {
                    // Nothing is placed or fetched beside the snapshot: an assumption in
                    // favour of SnapStart.
                    model.sandbox = question.restore.clone();
                    model.init = Sampler::constant_ms(workload.restore_ms);
                    model.first = None;
                }
                Some(Simulated::Function(Box::new(model)))
            }
            Target::MicroVm { vcpus, .. } => {
                let mut model = function(*vcpus);
                model.tenants = 1;
                model.concurrency = (vcpus.ceil() * MICROVM_CONCURRENCY) as u32;
                model.sandbox = question.restore.clone();
                model.init = Sampler::constant_ms(workload.restore_ms);
                model.first = None;
                model.idle = Sampler::constant_ms(workload.suspend_after_s * 1e3);
                model.life = Sampler::constant_ms(8.0 * 3_600e3);
                Some(Simulated::Function(Box::new(model)))
            }
            Target::CloudRun {
                billing: CloudRunBilling::Request,
                vcpus,
                least,
                ..
            } => {
                let mut model = function(*vcpus);
                model.tenants = 1;
                model.concurrency = vcpus.ceil() as u32;
                model.kept = *least * vcpus.ceil() as u32;
                Some(Simulated::Function(Box::new(model)))
            }
            Target::AzureFlex { memory_mb, ready } => {
                let vcpus = f64::from(*memory_mb) / 2_048.0;
                let mut model = function(vcpus);
                model.tenants = 1;
                model.concurrency = vcpus.ceil() as u32;
                model.kept = *ready * vcpus.ceil() as u32;
                Some(Simulated::Function(Box::new(model)))
            }
            Target::Ec2 { .. }
            | Target::Managed { .. }
            | Target::Fargate { .. }
            | Target::CloudRun { .. } => Some(self.hosts(target, workload, &service(1.0))?),
            Target::Comprehend | Target::Api { .. } => None,
        })
    }

    fn hosts(
        &self,
        target: &Target,
        workload: &Workload,
        service: &Sampler,
    ) -> Result<Simulated, PriceError> {
        // Less than a vCPU is one that is slower.
        let servers =
            |vcpus: f64, hosts: u32| (vcpus.floor().max(1.0) as u32).saturating_mul(hosts);
        let slower = |vcpus: f64| service.scaled((1.0 / vcpus).max(1.0));
        if let Some((vcpus, least)) = self.fixed(target)? {
            return Ok(Simulated::Hosts {
                service: slower(vcpus),
                plan: ServerPlan {
                    interval: Nanos::MAX,
                    servers: vec![servers(vcpus, least)],
                },
            });
        }
        let (vcpus, least, percent) = match target {
            Target::Ec2 {
                machine,
                least,
                auto: Some(percent),
            } => (self.machine_vcpus(machine)?, *least, *percent),
            Target::Managed {
                machines,
                least,
                auto: Some(percent),
            } => (self.machine_vcpus(&machines[0])?, *least, *percent),
            Target::Fargate {
                vcpus,
                least,
                auto: Some(percent),
                ..
            } => (*vcpus, *least, *percent),
            _ => unreachable!("all other hosts are of a fixed number"),
        };
        let each = f64::from(percent) / 100.0 * workload.full_rps(target, vcpus) / workload.rate();
        let fleet = autoscale(&workload.profile, &workload.autoscaling, each, least);
        Ok(Simulated::Hosts {
            service: slower(vcpus),
            plan: ServerPlan {
                interval: (workload.profile.interval_s * 1e9) as Nanos,
                servers: fleet
                    .hosts
                    .iter()
                    .map(|&hosts| servers(vcpus, hosts))
                    .collect(),
            },
        })
    }
}

/// Whether `a` is to be preferred to `b`: in time first, then by cost; of two that are
/// late, by how late.
fn better(a: &Ranked, b: &Ranked) -> bool {
    match (a.in_time, b.in_time) {
        (true, true) => a.usd_per_month < b.usd_per_month,
        (false, false) => a.p99_ms < b.p99_ms,
        (in_time, _) => in_time,
    }
}

impl Simulated {
    /// Equal for equal simulations.
    fn key(&self) -> String {
        match self {
            Self::Function(model) => {
                // Memory changes the bill alone.
                let model = Model {
                    memory_mb: 0,
                    ..(**model).clone()
                };
                format!("{model:?}")
            }
            Self::Hosts { service, plan } => format!("{service:?} {plan:?}"),
        }
    }

    fn run(&self, question: &Question) -> Found {
        let schedule = &question.schedule;
        let arrivals = schedule.times(question.seed);
        match self {
            Self::Function(model) => {
                let outcome = run(
                    model,
                    arrivals,
                    &schedule.name,
                    Window::whole(schedule.horizon),
                    question.seed,
                );
                Found {
                    latency: outcome.latency_ms,
                    cold_fraction: outcome.cold_fraction,
                    throttled: outcome.throttled as f64 / outcome.requests.max(1) as f64,
                    peak: (outcome.instances_peak as f64).max(f64::from(model.kept)),
                }
            }
            Self::Hosts { service, plan } => {
                let found = run_plan(service, plan, arrivals, schedule.horizon, question.seed);
                Found {
                    latency: found.latency_ms,
                    cold_fraction: 0.0,
                    throttled: 0.0,
                    peak: f64::from(found.servers),
                }
            }
        }
    }
}
