//! Tenants that share no instance: a fleet for each, and arrivals dealt out at random.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use super::fleet::{Fleet, Idle};
use super::random::{TENANTS, stream};
use super::single_request_fleet::SingleRequestFleet;
use crate::arrivals::Nanos;

pub(super) struct TenantFleet {
    rng: ChaCha8Rng,
    fleets: Vec<SingleRequestFleet>,
    /// Whose request arrived last.
    tenant: usize,
    /// Ends of requests at work, of all tenants.
    ends: BinaryHeap<Reverse<Nanos>>,
}

impl TenantFleet {
    /// Fleets of so many tenants.
    pub(super) fn new(tenants: u32, seed: u64) -> Self {
        Self {
            rng: stream(seed, TENANTS),
            fleets: (0..tenants)
                .map(|_| SingleRequestFleet::default())
                .collect(),
            tenant: 0,
            ends: BinaryHeap::new(),
        }
    }
}

impl Fleet for TenantFleet {
    type Id = <SingleRequestFleet as Fleet>::Id;

    /// Called once an arrival: here it is drawn whose it is.
    fn finish_until(&mut self, at: Nanos) {
        self.tenant = self.rng.random_range(0..self.fleets.len());
        self.fleets[self.tenant].finish_until(at);
        while self.ends.peek().is_some_and(|end| end.0 <= at) {
            self.ends.pop();
        }
    }

    fn in_flight(&self) -> u64 {
        self.ends.len() as u64
    }

    fn take(&mut self, alive: impl FnMut(Idle) -> bool) -> Option<Self::Id> {
        self.fleets[self.tenant].take(alive)
    }

    fn add(&mut self, at: Nanos, ready: Nanos, ends: Nanos) -> Self::Id {
        self.fleets[self.tenant].add(at, ready, ends)
    }

    fn join(&mut self, id: Self::Id, at: Nanos, service: Nanos, settle: Nanos) -> (Nanos, Nanos) {
        let (begin, service) = self.fleets[self.tenant].join(id, at, service, settle);
        self.ends.push(Reverse(begin + service + settle));
        (begin, service)
    }

    fn left(self) -> impl Iterator<Item = Idle> {
        self.fleets.into_iter().flat_map(Fleet::left)
    }
}
