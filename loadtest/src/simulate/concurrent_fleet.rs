//! Several requests an instance, as on Managed Instances or Cloud Run.
//!
//! A request joins the fullest instance with a free slot, of equally full ones
//! the latest started, and waits with the others while that one starts. Requests
//! beyond the vCPUs slow the newcomer down: its time is multiplied by requests
//! over vCPUs at its start. Those already running keep theirs, which understates
//! the slowdown within a burst and overstates it after one.

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap};

use super::fleet::{Fleet, Idle};
use crate::arrivals::Nanos;

struct Instance {
    active: u32,
    ready: Nanos,
    idle: Idle,
}

pub(super) struct ConcurrentFleet {
    concurrency: u32,
    vcpus: f64,
    instances: Vec<Instance>,
    /// Instances with a free slot, by (requests, when they last became idle, index).
    free: BTreeSet<(u32, Nanos, usize)>,
    done: BinaryHeap<Reverse<(Nanos, usize)>>,
}

impl ConcurrentFleet {
    /// Instances that take `concurrency` requests at once on `vcpus`.
    pub(super) fn new(concurrency: u32, vcpus: f64) -> Self {
        Self {
            concurrency,
            vcpus,
            instances: Vec::new(),
            free: BTreeSet::new(),
            done: BinaryHeap::new(),
        }
    }
}

impl Fleet for ConcurrentFleet {
    /// Place in `instances`.
    type Id = usize;

    fn finish_until(&mut self, at: Nanos) {
        while let Some(&Reverse((end, index))) = self.done.peek() {
            if end > at {
                break;
            }
            self.done.pop();
            let instance = &mut self.instances[index];
            let key = |instance: &Instance| (instance.active, instance.idle.since, index);
            self.free.remove(&key(instance));
            instance.active -= 1;
            if instance.active == 0 {
                instance.idle.since = end;
            }
            self.free.insert(key(instance));
        }
    }

    fn in_flight(&self) -> u64 {
        self.done.len() as u64
    }

    fn take(&mut self, mut alive: impl FnMut(Idle) -> bool) -> Option<usize> {
        while let Some((active, _, index)) = self.free.pop_last() {
            if active > 0 || alive(self.instances[index].idle) {
                return Some(index);
            }
        }
        None
    }

    fn add(&mut self, at: Nanos, ready: Nanos, ends: Nanos) -> usize {
        self.instances.push(Instance {
            active: 0,
            ready,
            idle: Idle { since: at, ends },
        });
        self.instances.len() - 1
    }

    fn join(&mut self, index: usize, at: Nanos, service: Nanos, settle: Nanos) -> (Nanos, Nanos) {
        let instance = &mut self.instances[index];
        instance.active += 1;
        let slower = (f64::from(instance.active) / self.vcpus).max(1.0);
        let service = (service as f64 * slower) as Nanos;
        let begin = instance.ready.max(at);
        self.done.push(Reverse((begin + service + settle, index)));
        if instance.active < self.concurrency {
            self.free
                .insert((instance.active, instance.idle.since, index));
        }
        (begin, service)
    }

    fn left(self) -> impl Iterator<Item = Idle> {
        let idle = self.free.into_iter().filter(|(active, ..)| *active == 0);
        idle.map(|(_, _, index)| self.instances[index].idle)
            .collect::<Vec<_>>()
            .into_iter()
    }
}
