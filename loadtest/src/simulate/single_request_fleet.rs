//! One request an instance: a stack of idle instances and a heap of busy ones.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::fleet::{Fleet, Idle};
use crate::arrivals::Nanos;

#[derive(Default)]
pub(super) struct SingleRequestFleet {
    /// When they are free again, and when they end.
    busy: BinaryHeap<Reverse<(Nanos, Nanos)>>,
    /// The one that was used last on top.
    idle: Vec<Idle>,
}

impl Fleet for SingleRequestFleet {
    /// When it can work and when it ends: its place is in the heap alone.
    type Id = (Nanos, Nanos);

    fn finish_until(&mut self, at: Nanos) {
        while let Some(&Reverse((since, ends))) = self.busy.peek() {
            if since > at {
                break;
            }
            self.busy.pop();
            self.idle.push(Idle { since, ends });
        }
    }

    fn in_flight(&self) -> u64 {
        self.busy.len() as u64
    }

    fn take(&mut self, mut alive: impl FnMut(Idle) -> bool) -> Option<Self::Id> {
        while let Some(idle) = self.idle.pop() {
            if alive(idle) {
                return Some((idle.since, idle.ends));
            }
        }
        None
    }

    fn add(&mut self, _at: Nanos, ready: Nanos, ends: Nanos) -> Self::Id {
        (ready, ends)
    }

    fn join(
        &mut self,
        (ready, ends): Self::Id,
        at: Nanos,
        service: Nanos,
        settle: Nanos,
    ) -> (Nanos, Nanos) {
        let begin = ready.max(at);
        self.busy.push(Reverse((begin + service + settle, ends)));
        (begin, service)
    }

    fn left(self) -> impl Iterator<Item = Idle> {
        let busy = self
            .busy
            .into_iter()
            .map(|Reverse((since, ends))| Idle { since, ends });
        self.idle.into_iter().chain(busy)
    }
}
