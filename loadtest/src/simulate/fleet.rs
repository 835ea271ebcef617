//! The loop that both kinds of fleet share: arrivals in, instances and answers out.
//!
//! Reclaiming is decided when an instance is next looked at: whether the drawn
//! idle time ended before is the same question then, and instances that nobody
//! asks for cost nothing. A day of 1,000 requests/s takes seconds.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use rand_chacha::ChaCha8Rng;

use super::model::Model;
use super::outcome::Tally;
use super::random::{PLATFORM, stream};
use crate::arrivals::Nanos;

/// Since when an instance waits, and when it is too old to be used.
#[derive(Clone, Copy)]
pub(super) struct Idle {
    pub(super) since: Nanos,
    pub(super) ends: Nanos,
}

/// The instances there are. They are free from a time on, and `ends` is when they
/// are too old to be used.
pub(super) trait Fleet {
    /// What an instance is known by.
    type Id;

    /// Ends the requests that are over by `at`.
    fn finish_until(&mut self, at: Nanos);

    /// Requests at work.
    fn in_flight(&self) -> u64;

    /// The instance a request should go to; idle ones that are not `alive` any more
    /// are dropped on the way.
    fn take(&mut self, alive: impl FnMut(Idle) -> bool) -> Option<Self::Id>;

    /// A new instance that can work from `ready` on.
    fn add(&mut self, at: Nanos, ready: Nanos, ends: Nanos) -> Self::Id;

    /// Gives a request to an instance that was taken: when it begins, and how long it
    /// takes of `service`. The instance is held for `settle` longer.
    fn join(&mut self, id: Self::Id, at: Nanos, service: Nanos, settle: Nanos) -> (Nanos, Nanos);

    /// What is idle, or will be, when nothing more arrives.
    fn left(self) -> impl Iterator<Item = Idle>;
}

/// New instances allowed: a bucket that refills steadily.
struct Bucket {
    tokens: f64,
    size: f64,
    at: Nanos,
}

impl Bucket {
    fn new(size: f64) -> Self {
        Self {
            tokens: size,
            size,
            at: 0,
        }
    }

    fn take(&mut self, now: Nanos) -> bool {
        let refill = (now - self.at) as f64 / 1e10 * self.size;
        self.tokens = (self.tokens + refill).min(self.size);
        self.at = now;
        let granted = self.tokens >= 1.0;
        if granted {
            self.tokens -= 1.0;
        }
        granted
    }
}

/// Places of instances that never go away, by when they are free.
struct Kept {
    free: BinaryHeap<Reverse<Nanos>>,
}

impl Kept {
    fn new(places: u32) -> Self {
        Self {
            free: (0..places).map(|_| Reverse(0)).collect(),
        }
    }

    /// A place that is free at `at`.
    fn take(&mut self, at: Nanos) -> bool {
        let free = self.free.peek().is_some_and(|place| place.0 <= at);
        if free {
            self.free.pop();
        }
        free
    }
}

/// Runs `fleet` on `arrivals`.
pub(super) fn run(
    model: &Model,
    mut fleet: impl Fleet,
    arrivals: impl Iterator<Item = Nanos>,
    mut tally: Tally,
    seed: u64,
) -> Tally {
    let mut rng = stream(seed, PLATFORM);
    let mut bucket = Bucket::new(model.burst);
    let mut kept = Kept::new(model.kept);
    for at in arrivals {
        tally.arrival(at);
        fleet.finish_until(at);
        if kept.take(at) {
            let service = model.service.draw(&mut rng);
            let settle = model.settle.draw(&mut rng);
            kept.free.push(Reverse(at + service + settle));
            let latency = service + model.overhead.draw(&mut rng);
            tally.answer(at, latency, service, false);
            continue;
        }
        if fleet.in_flight() >= model.limit {
            tally.throttle(at);
            continue;
        }
        let taken = fleet.take(|idle| match gone(model, idle, at, &mut rng) {
            Some(gone) => {
                tally.death(gone);
                false
            }
            None => true,
        });
        let (id, init) = match taken {
            Some(id) => (id, None),
            None if bucket.take(at) => {
                let (sandbox, init) = (model.sandbox.draw(&mut rng), model.init.draw(&mut rng));
                tally.birth(at);
                let ends = at.saturating_add(model.life.draw(&mut rng));
                (fleet.add(at, at + sandbox + init, ends), Some(init))
            }
            None => {
                tally.throttle(at);
                continue;
            }
        };
        let service = match (&model.first, init) {
            (Some(first), Some(_)) => first.draw(&mut rng),
            _ => model.service.draw(&mut rng),
        };
        let settle = model.settle.draw(&mut rng);
        let (begin, service) = fleet.join(id, at, service, settle);
        let latency = begin - at + service + model.overhead.draw(&mut rng);
        let billed = service + init.unwrap_or(0);
        tally.answer(at, latency, billed, begin > at || init.is_some());
    }
    // What is left is reclaimed in its own time.
    for idle in fleet.left() {
        let reclaimed = idle.since.saturating_add(model.idle.draw(&mut rng));
        tally.death(reclaimed.min(idle.ends.max(idle.since)));
    }
    tally
}

/// When an idle instance went, if that was before `at`.
fn gone(model: &Model, idle: Idle, at: Nanos, rng: &mut ChaCha8Rng) -> Option<Nanos> {
    let waited = at - idle.since;
    let mut gone = idle.ends.max(idle.since);
    if waited > model.idle.least() {
        gone = gone.min(idle.since.saturating_add(model.idle.draw(rng)));
    }
    (gone <= at && (waited > 0 || idle.ends <= at)).then_some(gone)
}
