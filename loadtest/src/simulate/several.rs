//! Several requests an instance, as on Managed Instances or Cloud Run.
//!
//! A request joins the fullest instance with a free slot, of equally full ones
//! the latest started, and waits with the others while that one starts. Requests
//! beyond the vCPUs slow the newcomer down: its time is multiplied by requests
//! over vCPUs at its start. Those already running keep theirs, which understates
//! the slowdown within a burst and overstates it after one.

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap};

use rand_chacha::ChaCha8Rng;

use super::{Bucket, Model, PLATFORM, Record, cold_start, stream};
use crate::arrivals::Nanos;

struct Instance {
    active: u32,
    ready: Nanos,
    idle_since: Nanos,
    ends: Nanos,
}

struct Fleet<'a> {
    model: &'a Model,
    instances: Vec<Instance>,
    /// Instances with a free slot, by (requests, when they last became idle, index).
    free: BTreeSet<(u32, Nanos, usize)>,
    done: BinaryHeap<Reverse<(Nanos, usize)>>,
    in_flight: u64,
}

pub(super) fn run(
    model: &Model,
    arrivals: impl Iterator<Item = Nanos>,
    mut record: Record,
    seed: u64,
) -> Record {
    let mut rng = stream(seed, PLATFORM);
    let mut bucket = Bucket::new(model.burst);
    let mut fleet = Fleet {
        model,
        instances: Vec::new(),
        free: BTreeSet::new(),
        done: BinaryHeap::new(),
        in_flight: 0,
    };
    for at in arrivals {
        record.arrival(at);
        fleet.finish_until(at);
        if fleet.in_flight >= model.limit {
            record.throttle(at);
            continue;
        }
        let (index, started) = match fleet.take(at, &mut record, &mut rng) {
            Some(index) => (index, None),
            None if bucket.take(at) => {
                let (sandbox, init) = cold_start(model, &mut rng);
                record.birth(at);
                fleet.instances.push(Instance {
                    active: 0,
                    ready: at + sandbox + init,
                    idle_since: at,
                    ends: at.saturating_add(model.life.draw(&mut rng)),
                });
                (fleet.instances.len() - 1, Some(init))
            }
            None => {
                record.throttle(at);
                continue;
            }
        };
        let service = model.service.draw(&mut rng);
        let (latency, service, waited) = fleet.join(index, at, service);
        record.answer(at, latency, service + started.unwrap_or(0), waited);
    }
    for (_, _, index) in fleet.free {
        let instance = &fleet.instances[index];
        if instance.active == 0 {
            let reclaimed = instance
                .idle_since
                .saturating_add(model.idle.draw(&mut rng));
            record.death(reclaimed.min(instance.ends.max(instance.idle_since)));
        }
    }
    record
}

impl Fleet<'_> {
    fn finish_until(&mut self, at: Nanos) {
        while let Some(&Reverse((end, index))) = self.done.peek() {
            if end > at {
                break;
            }
            self.done.pop();
            self.in_flight -= 1;
            let instance = &mut self.instances[index];
            self.free
                .remove(&(instance.active, instance.idle_since, index));
            instance.active -= 1;
            if instance.active == 0 {
                instance.idle_since = end;
            }
            self.free
                .insert((instance.active, instance.idle_since, index));
        }
    }

    /// The fullest instance with a free slot that is still there.
    fn take(&mut self, at: Nanos, record: &mut Record, rng: &mut ChaCha8Rng) -> Option<usize> {
        while let Some((active, since, index)) = self.free.pop_last() {
            if active > 0 {
                return Some(index);
            }
            let ends = self.instances[index].ends;
            let waited = at - since;
            let mut gone = ends.max(since);
            if waited > self.model.idle.least() {
                gone = gone.min(since.saturating_add(self.model.idle.draw(rng)));
            }
            if gone > at || (waited == 0 && ends > at) {
                return Some(index);
            }
            record.death(gone);
        }
        None
    }

    /// Adds a request to `index`: its latency, its own time, whether it waited for a start.
    fn join(&mut self, index: usize, at: Nanos, service: Nanos) -> (Nanos, Nanos, bool) {
        let instance = &mut self.instances[index];
        instance.active += 1;
        let slower = (f64::from(instance.active) / self.model.vcpus).max(1.0);
        let service = (service as f64 * slower) as Nanos;
        let begin = instance.ready.max(at);
        let latency = begin - at + service;
        self.done.push(Reverse((begin + service, index)));
        self.in_flight += 1;
        if instance.active < self.model.concurrency {
            self.free
                .insert((instance.active, instance.idle_since, index));
        }
        (latency, service, begin > at)
    }
}
