//! Which option of a platform is cheapest for given traffic, at equal latency: on demand,
//! a snapshot, provisioned concurrency, managed instances, a MicroVM, hosts in a fixed or
//! an autoscaled number.
//!
//! Each option is a family of targets that differ in what can be chosen: memory size,
//! environments kept, number of hosts, target utilisation. Of each family the cheapest
//! target counts whose p99 is within the bound when the traffic is simulated on it. Costs
//! are those of [`crate::cost`], with the cold fraction that the simulation found.

mod levers;
mod neighbours;
mod options;
mod trial;
mod words;

use std::num::NonZero;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use anyhow::{Result, ensure};
use indicatif::{ProgressBar, ProgressStyle};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::arrivals::Schedule;
use crate::cost::bill::{Bill, Breakdown};
use crate::cost::prices::Prices;
use crate::cost::target::Target;
use crate::cost::workload::Workload;
use crate::simulate::Model;
use crate::simulate::sampler::Sampler;
pub use levers::Lever;
pub use neighbours::Neighbours;
pub use options::{Choice, Platform, families};
use trial::Trials;

/// What is to be decided.
pub struct Question {
    /// When requests arrive.
    pub schedule: Schedule,
    /// Rate, times, discounts; its cold fraction is simulated.
    pub workload: Workload,
    /// How functions behave; its service time is that of one vCPU.
    pub model: Model,
    /// Time that the platform takes to restore a snapshot.
    pub restore: Sampler,
    /// What is known of that time, in words.
    pub restore_source: String,
    /// Bound of the 99th percentile, ms.
    pub p99_ms: f64,
    /// Families of targets.
    pub families: Vec<Vec<Choice>>,
    /// Seed of everything random.
    pub seed: u64,
    /// No progress bar.
    pub quiet: bool,
}

/// An option as it came out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Ranked {
    /// The target as written on the command line.
    pub target: String,
    /// As people call it.
    pub name: String,
    /// US dollars a month.
    pub usd_per_month: f64,
    /// US dollars for a million posts.
    pub usd_per_million_posts: f64,
    /// What the month is paid for.
    pub breakdown: Breakdown,
    /// Median latency, ms; absent where nothing is simulated.
    pub p50_ms: Option<f64>,
    /// 99th percentile, ms.
    pub p99_ms: Option<f64>,
    /// 99.9th percentile, ms.
    pub p999_ms: Option<f64>,
    /// Whether the 99th percentile is within the bound and nothing was throttled.
    pub in_time: bool,
    /// Share of requests that waited for a start or a restore.
    pub cold_fraction: Option<f64>,
    /// Share of requests that were throttled.
    pub throttled: f64,
    /// Most environments, or vCPUs of hosts, at once.
    pub instances_peak: Option<f64>,
    /// The computation.
    pub bill: Bill,
}

/// All options by cost, and what the choice hangs on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Decision {
    /// The result in sentences.
    pub verdict: Vec<String>,
    /// The traffic in words.
    pub arrivals: String,
    /// Posts a second, mean.
    pub posts_per_second: f64,
    /// Posts in a request.
    pub posts_per_request: f64,
    /// Rate of the busiest minute over the mean.
    pub peak_to_mean: f64,
    /// Bound of the 99th percentile, ms.
    pub p99_target_ms: f64,
    /// Options within the bound by cost, then those beyond it by their p99.
    pub options: Vec<Ranked>,
    /// Where each option that is within the bound costs as much as the next.
    pub neighbours: Vec<Neighbours>,
    /// Where the cheapest option costs as much as the cheapest of another kind.
    pub rival: Option<Neighbours>,
    /// What changes when something is chosen otherwise for the cheapest option.
    pub levers: Vec<Lever>,
    /// Mean milliseconds that a request waits for a cold start, placement included.
    pub cold_start_ms: f64,
    /// The same for a restore.
    pub restored_start_ms: f64,
    /// What a start takes: name and milliseconds, measured or published.
    pub starts: Vec<Start>,
    /// What the result rests on.
    pub assumptions: Vec<String>,
    /// Price rows without a full date, or not seen at the provider.
    pub undated_prices: Vec<String>,
}

/// How long a start takes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Start {
    /// What starts.
    pub name: String,
    /// Milliseconds.
    pub ms: f64,
    /// Whether it is this function's own, and not somebody else's.
    pub own: bool,
}

/// Starts that others have published, for comparison: read 2026-11, one author each.
const PUBLISHED: [(&str, f64); 4] = [
    ("published: init of a Rust hello-world", 19.0),
    ("published: restore of a Rust hello-world", 377.0),
    (
        "published: restore of a 327 MB Rust container, fastest",
        673.0,
    ),
    (
        "published: restore of a 327 MB Rust container, slowest",
        693.0,
    ),
];

/// Options with their workloads, of which the cold fraction is that of the option.
struct Tried {
    target: Target,
    workload: Workload,
    ranked: Ranked,
}

/// The best of each family that has one, in the order of the families. Each processor
/// takes the next family that nobody has tried.
fn try_all(question: &Question, prices: &Prices) -> Result<Vec<Tried>> {
    let trials = Trials::new(question, prices);
    let families = &question.families;
    let next = AtomicUsize::new(0);
    let best = Mutex::new(Vec::new());
    let bar = progress(question);
    let work = || {
        while let Some((place, family)) = {
            let place = next.fetch_add(1, Ordering::Relaxed);
            families.get(place).map(|family| (place, family))
        } {
            let found = trials.best(family);
            let mut best = best.lock().unwrap_or_else(PoisonError::into_inner);
            best.push((place, found));
            bar.inc(1);
        }
    };
    let threads = std::thread::available_parallelism().map_or(1, NonZero::get);
    std::thread::scope(|scope| {
        for _ in 0..threads.min(families.len()) {
            scope.spawn(work);
        }
    });
    bar.finish_and_clear();
    let mut best = best.into_inner().unwrap_or_else(PoisonError::into_inner);
    best.sort_by_key(|(place, _)| *place);
    best.into_iter()
        .filter_map(|(_, found)| found.transpose())
        .collect()
}

/// A bar over the families, on standard error.
fn progress(question: &Question) -> ProgressBar {
    if question.quiet {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(question.families.len() as u64);
    bar.set_style(
        ProgressStyle::with_template("{bar:32} {pos} of {len} options tried, {eta} left")
            .expect("the template is valid"),
    );
    bar
}

impl Tried {
    /// What is paid: hosts by the hour, or the family of what is paid by use.
    fn kind(&self) -> &str {
        if self.target.always_on() {
            return "hosts";
        }
        let target = self.ranked.target.as_str();
        target.split(':').next().unwrap_or(target)
    }
}

impl Decision {
    /// Tries all families and ranks them.
    pub fn new(question: &Question, prices: &Prices) -> Result<Self> {
        ensure!(
            question.p99_ms.is_finite() && question.p99_ms > 0.0,
            "the bound of p99 must be above 0"
        );
        let mut tried = try_all(question, prices)?;
        ensure!(!tried.is_empty(), "there is no option to choose from");
        tried.sort_by(|a, b| {
            let key = |tried: &Tried| {
                let ranked = &tried.ranked;
                if ranked.in_time {
                    (false, ranked.usd_per_month)
                } else {
                    (true, ranked.p99_ms.unwrap_or(f64::INFINITY))
                }
            };
            let (a, b) = (key(a), key(b));
            a.0.cmp(&b.0).then(a.1.total_cmp(&b.1))
        });
        let within: Vec<&Tried> = tried.iter().filter(|tried| tried.ranked.in_time).collect();
        let neighbours = within
            .windows(2)
            .map(|pair| neighbours::between(pair[0], pair[1], prices))
            .collect::<Result<_, _>>()?;
        let rival = match within.split_first() {
            Some((best, others)) => others
                .iter()
                .find(|other| other.kind() != best.kind())
                .map(|other| neighbours::between(best, other, prices))
                .transpose()?,
            None => None,
        };
        let levers = match within.first() {
            Some(best) => levers::of(question, best, prices)?,
            None => Vec::new(),
        };
        let mut undated_prices: Vec<String> = tried
            .iter()
            .flat_map(|tried| tried.ranked.bill.undated())
            .map(str::to_owned)
            .collect();
        undated_prices.sort_unstable();
        undated_prices.dedup();
        let workload = &question.workload;
        let mut starts = vec![Start {
            name: "this function: init".to_owned(),
            ms: question.model.init.mean_ms(),
            own: true,
        }];
        starts.extend(PUBLISHED.map(|(name, ms)| Start {
            name: name.to_owned(),
            ms,
            own: false,
        }));
        let mut decision = Self {
            verdict: Vec::new(),
            arrivals: question.schedule.name.clone(),
            posts_per_second: workload.posts_per_second,
            posts_per_request: workload.posts_per_request,
            peak_to_mean: workload.peak_to_mean,
            p99_target_ms: question.p99_ms,
            neighbours,
            rival,
            levers,
            cold_start_ms: question.model.sandbox.mean_ms() + question.model.init.mean_ms(),
            restored_start_ms: question.restore.mean_ms() + workload.restore_ms,
            starts,
            assumptions: words::assumptions(question),
            options: tried.into_iter().map(|tried| tried.ranked).collect(),
            undated_prices,
        };
        decision.verdict = decision.words();
        Ok(decision)
    }
}

#[cfg(test)]
mod tests;
