//! One request an instance: a stack of idle instances and a heap of busy ones.
//!
//! Reclaiming is decided when an instance is next looked at: whether the drawn
//! idle time ended before is the same question then, and instances that nobody
//! asks for cost nothing. A day of 1,000 requests/s takes seconds.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use rand_chacha::ChaCha8Rng;

use super::{Bucket, Model, PLATFORM, Record, cold_start, stream};
use crate::arrivals::Nanos;

/// An instance that waits: since when, and when it is too old to be used.
struct Idle {
    since: Nanos,
    ends: Nanos,
}

pub(super) fn run(
    model: &Model,
    arrivals: impl Iterator<Item = Nanos>,
    mut record: Record,
    seed: u64,
) -> Record {
    let mut rng = stream(seed, PLATFORM);
    let mut busy: BinaryHeap<Reverse<(Nanos, Nanos)>> = BinaryHeap::new();
    let mut idle: Vec<Idle> = Vec::new();
    let mut bucket = Bucket::new(model.burst);
    for at in arrivals {
        record.arrival(at);
        while let Some(&Reverse((since, ends))) = busy.peek() {
            if since > at {
                break;
            }
            busy.pop();
            idle.push(Idle { since, ends });
        }
        if busy.len() as u64 >= model.limit {
            record.throttle(at);
            continue;
        }
        if let Some(ends) = take(model, &mut idle, at, &mut record, &mut rng) {
            let service = model.service.draw(&mut rng);
            record.answer(at, service, service, false);
            busy.push(Reverse((at + service, ends)));
        } else if bucket.take(at) {
            let (sandbox, init) = cold_start(model, &mut rng);
            let service = model.service.draw(&mut rng);
            let latency = sandbox + init + service;
            record.birth(at);
            record.answer(at, latency, init + service, true);
            let ends = at.saturating_add(model.life.draw(&mut rng));
            busy.push(Reverse((at + latency, ends)));
        } else {
            record.throttle(at);
        }
    }
    // What is left is reclaimed in its own time.
    idle.extend(
        busy.into_iter()
            .map(|Reverse((since, ends))| Idle { since, ends }),
    );
    for instance in idle {
        let reclaimed = instance.since.saturating_add(model.idle.draw(&mut rng));
        record.death(reclaimed.min(instance.ends.max(instance.since)));
    }
    record
}

/// The most recently used instance that is still there; the end of its life.
fn take(
    model: &Model,
    idle: &mut Vec<Idle>,
    at: Nanos,
    record: &mut Record,
    rng: &mut ChaCha8Rng,
) -> Option<Nanos> {
    while let Some(instance) = idle.pop() {
        let waited = at - instance.since;
        let mut gone = instance.ends.max(instance.since);
        if waited > model.idle.least() {
            gone = gone.min(instance.since.saturating_add(model.idle.draw(rng)));
        }
        if gone > at || (waited == 0 && instance.ends > at) {
            return Some(instance.ends);
        }
        record.death(gone);
    }
    None
}
