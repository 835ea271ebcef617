//! A discrete-event model of a function platform: instances start on demand,
//! serve one request at a time (or several), idle and are reclaimed.
//!
//! # Model
//! - A request takes the most recently used instance that is free; without one
//!   a new instance starts and the request waits for it. AWS documents neither
//!   the order nor the idle time; both are parameters or stated here.
//! - New instances come from a bucket of 1,000 that refills by 1,000 in ten
//!   seconds, requests in flight are at most the account's concurrency; beyond
//!   either the request is rejected (429) and not repeated.
//! - An idle instance is reclaimed after a time drawn from a distribution, and an
//!   instance beyond its life span is not used again.
//! - Places that are `kept` (provisioned concurrency) are taken first and never go away.
//! - Tenants that are kept apart have a fleet each.
//! - A cold start delays its request by `sandbox` (not billed) and `init` (billed), and
//!   what an instance does `first` may take longer than later requests.
//! - A client waits for the `overhead` beside the function's own time, and an instance
//!   is held for `settle` after its response, until it asks for the next event. On a
//!   platform of thousands of instances both matter little; beside a replay they do.
//!
//! The [`baseline`] queue gives the always-on baseline under the same arrivals.

pub mod baseline;
mod concurrent_fleet;
pub mod curve;
mod fleet;
mod model;
mod outcome;
mod random;
pub mod sampler;
pub mod simulation;
mod single_request_fleet;
mod tenant_fleet;

use crate::arrivals::Nanos;
use concurrent_fleet::ConcurrentFleet;
pub use model::Model;
use outcome::Tally;
pub use outcome::{BINS, Bin, Outcome, Window};
use single_request_fleet::SingleRequestFleet;
use tenant_fleet::TenantFleet;

/// Runs `model` on `arrivals` (ascending) that end before the window's horizon. Instances
/// of tenants that are kept apart take one request at a time.
///
/// Everything random comes from `seed`: the same inputs give the same outcome.
pub fn run(
    model: &Model,
    arrivals: impl Iterator<Item = Nanos>,
    name: &str,
    window: Window,
    seed: u64,
) -> Outcome {
    let tally = Tally::new(model, window);
    if model.tenants > 1 {
        let fleet = TenantFleet::new(model.tenants, seed);
        fleet::run(model, fleet, arrivals, tally, seed)
    } else if model.concurrency == 1 {
        fleet::run(model, SingleRequestFleet::default(), arrivals, tally, seed)
    } else {
        let fleet = ConcurrentFleet::new(model.concurrency, model.vcpus);
        fleet::run(model, fleet, arrivals, tally, seed)
    }
    .outcome(name)
}

#[cfg(test)]
mod tests;
