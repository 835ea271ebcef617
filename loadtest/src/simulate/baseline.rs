//! The always-on baseline: a queue before servers, whose number is fixed or follows a plan.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use hdrhistogram::Histogram;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::random::{BASELINE, stream};
use super::sampler::Sampler;
use crate::arrivals::Nanos;
use crate::latency::Latency;

/// What the baseline does with the same arrivals.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Baseline {
    /// Servers (vCPUs) behind the queue; of a plan, the most.
    pub servers: u32,
    /// Latency, waiting included.
    pub latency_ms: Latency,
    /// Share of requests that waited.
    pub waited: f64,
    /// Mean wait of all requests, ms.
    pub mean_wait_ms: f64,
    /// Busy share of the servers over the run.
    pub utilisation: f64,
}

/// What the baseline is made of.
#[derive(Clone, Debug)]
pub struct BaselineOptions {
    /// Servers (vCPUs) behind the queue, at least one.
    pub servers: u32,
    /// Time of a request on one of them.
    pub service: Sampler,
}

/// Servers by the time: so many in each interval, as many as in the last one after it.
#[derive(Clone, Debug)]
pub struct ServerPlan {
    /// Length of an interval.
    pub interval: Nanos,
    /// Servers in each.
    pub servers: Vec<u32>,
}

impl ServerPlan {
    fn at(&self, time: Nanos) -> u32 {
        let place = (time / self.interval.max(1)) as usize;
        let servers = self.servers.get(place).or(self.servers.last());
        servers.copied().unwrap_or(1).max(1)
    }

    fn server_time(&self, horizon: Nanos) -> f64 {
        let intervals = horizon.div_ceil(self.interval.max(1)).max(1);
        let servers = (0..intervals).map(|place| f64::from(self.at(place * self.interval)));
        servers.sum::<f64>() / intervals as f64 * horizon.max(1) as f64
    }
}

/// Servers that work in the order of arrival and reject nobody.
pub fn run(
    options: &BaselineOptions,
    arrivals: impl Iterator<Item = Nanos>,
    horizon: Nanos,
    seed: u64,
) -> Baseline {
    let plan = ServerPlan {
        interval: horizon.max(1),
        servers: vec![options.servers],
    };
    run_plan(&options.service, &plan, arrivals, horizon, seed)
}

/// The same with as many servers as the plan has at the time. A server that goes finishes
/// its work; one that comes is free at once.
pub fn run_plan(
    service: &Sampler,
    plan: &ServerPlan,
    arrivals: impl Iterator<Item = Nanos>,
    horizon: Nanos,
    seed: u64,
) -> Baseline {
    let mut rng = stream(seed, BASELINE);
    let mut free: BinaryHeap<Reverse<Nanos>> = BinaryHeap::new();
    let mut histogram =
        Histogram::<u64>::new_with_bounds(1, 86_400_000_000, 3).expect("the bounds are valid");
    let (mut waited, mut wait, mut busy, mut n) = (0u64, 0u128, 0u128, 0u64);
    for at in arrivals {
        let wanted = plan.at(at) as usize;
        while free.len() > wanted {
            free.pop();
        }
        while free.len() < wanted {
            free.push(Reverse(at));
        }
        let mut next = free.peek_mut().expect("there is a server");
        let begin = next.0.max(at);
        let time = service.draw(&mut rng);
        *next = Reverse(begin + time);
        waited += u64::from(begin > at);
        wait += u128::from(begin - at);
        busy += u128::from(time);
        n += 1;
        histogram.saturating_record((begin - at + time).div_ceil(1_000).max(1));
    }
    let count = n.max(1) as f64;
    Baseline {
        servers: plan.servers.iter().copied().max().unwrap_or(1).max(1),
        latency_ms: Latency::from_histogram(&histogram, 1e-3),
        waited: waited as f64 / count,
        mean_wait_ms: wait as f64 / count / 1e6,
        utilisation: busy as f64 / plan.server_time(horizon),
    }
}
