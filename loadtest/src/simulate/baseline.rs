//! The always-on baseline: a fixed number of servers and one queue before them.

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
    /// Servers (vCPUs) behind the queue.
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

/// Servers that work in the order of arrival and reject nobody.
pub fn run(
    options: &BaselineOptions,
    arrivals: impl Iterator<Item = Nanos>,
    horizon: Nanos,
    seed: u64,
) -> Baseline {
    let mut rng = stream(seed, BASELINE);
    let servers = options.servers.max(1);
    let mut free: BinaryHeap<Reverse<Nanos>> = (0..servers).map(|_| Reverse(0)).collect();
    let mut histogram =
        Histogram::<u64>::new_with_bounds(1, 86_400_000_000, 3).expect("the bounds are valid");
    let (mut waited, mut wait, mut busy, mut n) = (0u64, 0u128, 0u128, 0u64);
    for at in arrivals {
        let mut next = free.peek_mut().expect("there is a server");
        let begin = next.0.max(at);
        let time = options.service.draw(&mut rng);
        *next = Reverse(begin + time);
        waited += u64::from(begin > at);
        wait += u128::from(begin - at);
        busy += u128::from(time);
        n += 1;
        histogram.saturating_record((begin - at + time).div_ceil(1_000).max(1));
    }
    let count = n.max(1) as f64;
    Baseline {
        servers,
        latency_ms: Latency::from_histogram(&histogram, 1e-3),
        waited: waited as f64 / count,
        mean_wait_ms: wait as f64 / count / 1e6,
        utilisation: busy as f64 / (horizon.max(1) as f64 * f64::from(servers)),
    }
}
