//! Lambda's rules on this machine: instances come with demand, work on one
//! invocation at a time, are frozen in between and reclaimed when idle.
//!
//! | module | what it holds |
//! |---|---|
//! | [`function`] | what is deployed |
//! | [`instance`] | one instance: process, Runtime API, limits |
//! | [`launcher`], [`process`] | how a process is started, watched and stopped |
//! | [`cgroup`] | memory and processor limits |
//! | [`container`] | images instead of programs |
//! | [`fault`] | what can go wrong |
//! | [`reclaim`] | when idle instances go |
//! | [`report`] | the line Lambda logs |
//!
//! With SnapStart an instance is a process that was paused (`SIGSTOP`) when it asked for
//! its restore, and goes on (`SIGCONT`): what its hooks take is measured. Loading a
//! snapshot is not: that time is stated, and waited for.
//!
//! What is not like Lambda: there is no sandbox to set up and no code to fetch, the
//! machine has fewer processors than a fleet, and `SIGSTOP` does the freezing.

pub mod cgroup;
pub mod container;
pub mod fault;
pub mod function;
pub mod instance;
pub mod launcher;
pub mod process;
pub mod reclaim;
pub mod report;

use crate::clock::Moment;
use crate::runtime_api::{CompletedInvocation, InvocationOutcome, Submitted};
use bytes::Bytes;
use fault::{Fault, FaultCounts, FaultKind};
use function::{Function, SnapStart};
use instance::{InitFault, Instance, Settings, Snapshot};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use reclaim::Reclaim;
use report::Report;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;

/// Instances that may be added within [`SCALING_WINDOW`].
const SCALING_LIMIT: usize = 1_000;
const SCALING_WINDOW: Duration = Duration::from_secs(10);

/// How a function is scaled.
#[derive(Debug, Clone)]
pub struct Scaling {
    /// Most instances at once: the account's concurrency.
    pub max_instances: usize,
    /// When idle instances go.
    pub reclaim: Reclaim,
    /// Whether instances are frozen between invocations.
    pub freeze: bool,
    /// How long an invocation waits for an instance that has answered to ask for its
    /// next event, before it takes or starts another. Callers that send one event after
    /// another would find it busy else.
    pub settling: Duration,
    /// Seed of the idle times.
    pub seed: u64,
}

impl Default for Scaling {
    fn default() -> Self {
        Self {
            max_instances: 1_000,
            reclaim: Reclaim::Never,
            freeze: true,
            settling: Duration::from_millis(20),
            seed: 1,
        }
    }
}

/// How one invocation went.
#[derive(Debug)]
pub struct Invoked {
    /// When it was asked for.
    pub asked: Moment,
    /// When its response was there, or its client got the fault.
    pub done: Moment,
    /// Whether an instance was started for it.
    pub cold: bool,
    /// The response's body and what Lambda would log, or what went wrong.
    pub result: Result<(Bytes, Report), Fault>,
}

/// What a platform has done so far.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counts {
    /// Instances started, also those that failed.
    pub started: u64,
    /// Instances reclaimed after their idle time.
    pub reclaimed: u64,
    /// Faults by kind, also those that a retry made good.
    pub faults: FaultCounts,
}

/// A deployed function. Dropping it kills all instances.
#[derive(Clone)]
pub struct Platform(Arc<Inner>);

struct Inner {
    function: Function,
    settings: Settings,
    scaling: Scaling,
    state: Mutex<State>,
    /// Told when an instance has room again.
    released: Notify,
}

struct State {
    slots: Vec<Slot>,
    /// Places given to instances that are still in their init phase.
    starting: usize,
    /// When instances were added, within the scaling window.
    added: VecDeque<Moment>,
    counts: Counts,
    settled: Vec<Duration>,
    /// Made ahead, to be restored.
    snapshots: Vec<Snapshot>,
    rng: ChaCha8Rng,
}

struct Slot {
    instance: Arc<Instance>,
    busy: usize,
    /// How many of the busy have answered, so that room is about to come.
    settling: usize,
    /// When it was last given an event, or was done with one.
    used: Moment,
    /// When it is reclaimed, while it is idle.
    expires: Option<Moment>,
}

/// Where an invocation goes.
enum Place {
    Warm(Arc<Instance>),
    /// One has answered and will ask for its next event in a moment.
    Soon,
    Cold,
    Full,
}

impl Platform {
    /// Deploys a function; instances come with its first invocations.
    pub fn new(function: Function, settings: Settings, scaling: Scaling) -> Self {
        let state = State {
            slots: Vec::new(),
            starting: 0,
            added: VecDeque::new(),
            counts: Counts::default(),
            settled: Vec::new(),
            snapshots: Vec::new(),
            rng: ChaCha8Rng::seed_from_u64(scaling.seed),
        };
        Self(Arc::new(Inner {
            function,
            settings,
            scaling,
            state: Mutex::new(state),
            released: Notify::new(),
        }))
    }

    /// Publishes a version of a function with SnapStart: takes a snapshot. Without it the
    /// first invocation waits for that.
    pub async fn publish(&self) -> Result<(), Fault> {
        let taken = self.0.snapshot().await;
        let mut state = self.0.state();
        match taken {
            Ok(snapshot) => {
                state.snapshots.push(snapshot);
                Ok(())
            }
            Err(fault) => {
                state.counts.faults.count(fault.kind);
                Err(fault)
            }
        }
    }

    /// Invokes the function and waits for its response. As on Lambda, the invocation
    /// goes on when its client stops waiting.
    pub async fn invoke(&self, event: Bytes) -> Invoked {
        let asked = Moment::now();
        let inner = Arc::clone(&self.0);
        let invocation = tokio::spawn(async move { inner.invoke(event).await });
        let (cold, result) = match invocation.await {
            Ok(done) => done,
            Err(panic) => std::panic::resume_unwind(panic.into_panic()),
        };
        let (done, result) = match result {
            Ok((answered, body, report)) => (answered, Ok((body, report))),
            Err(fault) => (Moment::now(), Err(fault)),
        };
        Invoked {
            asked,
            done,
            cold,
            result,
        }
    }

    /// How long each instance was held after a response, until it asked for its next event.
    pub fn settled(&self) -> Vec<Duration> {
        self.0.state().settled.clone()
    }

    /// What it has done so far.
    pub fn counts(&self) -> Counts {
        self.0.state().counts.clone()
    }

    /// Instances there are, idle and busy. Expired ones go first.
    pub fn instances(&self) -> usize {
        let (count, expired) = {
            let mut state = self.0.state();
            let expired = state.reclaim();
            (state.slots.len(), expired)
        };
        bury(expired);
        count
    }
}

/// Ends instances aside: that takes milliseconds, for which nobody is to wait.
fn bury(gone: impl IntoIterator<Item = Slot>) {
    let gone: Vec<Slot> = gone.into_iter().collect();
    if gone.is_empty() {
        return;
    }
    match tokio::runtime::Handle::try_current() {
        // The runtime does not end before they have.
        Ok(runtime) => drop(runtime.spawn_blocking(move || drop(gone))),
        Err(_) => drop(gone),
    }
}

/// What an invocation comes to: when it was answered, with what, and what is logged.
type Worked = Result<(Moment, Bytes, Report), Fault>;

impl Inner {
    async fn invoke(self: Arc<Self>, event: Bytes) -> (bool, Worked) {
        let place = self.place().await;
        let (cold, started) = match place {
            Place::Warm(instance) => (false, Ok((instance, None))),
            Place::Cold => (true, self.start(&event).await),
            Place::Soon | Place::Full => {
                let detail = "no instance is free and the maximum is reached";
                (false, Err(Fault::new(FaultKind::Throttled, detail)))
            }
        };
        let result = match started {
            Ok((instance, submitted)) => self.work(&instance, submitted, event, cold).await,
            Err(fault) => Err(fault),
        };
        if let Err(fault) = &result {
            self.state().counts.faults.count(fault.kind);
        }
        (cold, result)
    }

    async fn place(&self) -> Place {
        let patience = tokio::time::sleep(self.scaling.settling);
        tokio::pin!(patience);
        loop {
            let mut released = std::pin::pin!(self.released.notified());
            released.as_mut().enable();
            let (place, expired) = {
                let mut state = self.state();
                let expired = state.reclaim();
                let patient = !self.scaling.settling.is_zero() && !patience.is_elapsed();
                let place = state.place(&self.function, &self.scaling, patient);
                (place, expired)
            };
            bury(expired);
            if !matches!(place, Place::Soon) {
                return place;
            }
            tokio::select! {
                () = released => {}
                () = &mut patience => {}
            }
        }
    }

    async fn snapshot(&self) -> Result<Snapshot, Fault> {
        let taken = Instance::snapshot(&self.function, &self.settings).await;
        taken.map_err(|InitFault { fault, .. }| fault)
    }

    /// Restores an instance, and has the next snapshot made aside. Neither is tried again.
    async fn restore(
        self: &Arc<Self>,
        snapstart: &SnapStart,
        event: &Bytes,
    ) -> Result<(Arc<Instance>, Option<Submitted>), Fault> {
        let (made, load) = {
            let mut state = self.state();
            let (low, high) = snapstart.load;
            let load = state.rng.random_range(low..=high.max(low));
            state.counts.started += 1;
            (state.snapshots.pop(), load)
        };
        let snapshot = match made {
            Some(snapshot) => snapshot,
            None => self.snapshot().await?,
        };
        let first = Some(event.clone());
        let restored = snapshot.restore(&self.settings, load, first).await;
        let (instance, submitted) = restored.map_err(|InitFault { fault, .. }| fault)?;
        let inner = Arc::clone(self);
        tokio::spawn(async move {
            if let Ok(next) = inner.snapshot().await {
                inner.state().snapshots.push(next);
            }
        });
        Ok((self.enlist(instance), submitted))
    }

    /// A place for an instance that has its first event.
    fn enlist(&self, instance: Instance) -> Arc<Instance> {
        let instance = Arc::new(instance);
        self.state().slots.push(Slot {
            instance: Arc::clone(&instance),
            busy: 1,
            settling: 0,
            used: Moment::now(),
            expires: None,
        });
        instance
    }

    /// Starts an instance. As on Lambda, an init phase that failed is tried once more,
    /// then with the function's timeout for a limit.
    async fn start(
        self: &Arc<Self>,
        event: &Bytes,
    ) -> Result<(Arc<Instance>, Option<Submitted>), Fault> {
        let _place = StartingPlace(self);
        if let Some(snapstart) = &self.function.snapstart {
            return self.restore(snapstart, event).await;
        }
        let mut limit = self.settings.init_limit;
        let mut retried = false;
        loop {
            self.state().counts.started += 1;
            let first = Some(event.clone());
            match Instance::start(&self.function, &self.settings, limit, first).await {
                Ok((instance, submitted)) => return Ok((self.enlist(instance), submitted)),
                Err(InitFault { fault, .. }) if !retried && fault.kind != FaultKind::Launch => {
                    self.state().counts.faults.count(fault.kind);
                    limit = self.function.timeout;
                    retried = true;
                }
                Err(InitFault { fault, .. }) => return Err(fault),
            }
        }
    }

    /// Has the instance answer, and lets it go: back to the idle ones, or away.
    async fn work(
        self: &Arc<Self>,
        instance: &Arc<Instance>,
        submitted: Option<Submitted>,
        event: Bytes,
        cold: bool,
    ) -> Worked {
        let submitted = submitted.unwrap_or_else(|| instance.submit(event));
        let request_id = submitted.request_id.clone();
        let answered = instance.finish(submitted).await;
        // The client does not wait for what comes after the response.
        let inner = Arc::clone(self);
        let released = Arc::clone(instance);
        let healthy = match &answered {
            Ok(_) => true,
            Err(fault) => survives(fault.kind),
        };
        let at = match &answered {
            Ok(answer) => answer.answered,
            Err(_) => Moment::now(),
        };
        if healthy && let Some(slot) = self.state().slot(instance) {
            slot.settling += 1;
        }
        tokio::spawn(async move { inner.release(released, healthy, at).await });
        let answer = answered?;
        let duration = answer.answered.since(answer.delivered);
        let report = Report {
            request_id,
            duration,
            memory_mb: instance.memory_mb(),
            max_memory_mb: instance.peak_rss_kib().map_or(0, |kib| kib / 1024),
            init: (cold && instance.restored().is_none()).then(|| instance.init_duration()),
            restore: instance.restored().filter(|_| cold),
        };
        Ok((at, body(answer), report))
    }

    /// Lets an instance go that has `answered`.
    async fn release(&self, instance: Arc<Instance>, healthy: bool, answered: Moment) {
        let settled = if healthy {
            instance.settle().await
        } else {
            Ok(())
        };
        let gone = {
            let mut state = self.state();
            if let Err(fault) = &settled {
                state.counts.faults.count(fault.kind);
            }
            state.settled.push(Moment::now().since(answered));
            if settled.is_err() || !healthy {
                state
                    .slots
                    .extract_if(.., |slot| Arc::ptr_eq(&slot.instance, &instance))
                    .next()
            } else {
                state.release(&instance, &self.scaling);
                None
            }
        };
        bury(gone);
        self.released.notify_waiters();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Slots are added and removed whole: a panic elsewhere leaves them sound.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Takes out the instances whose idle time is over, and the dead.
    fn reclaim(&mut self) -> Vec<Slot> {
        let now = Moment::now();
        let gone = |slot: &Slot| {
            slot.busy == 0
                && (slot.expires.is_some_and(|expires| expires <= now) || !slot.instance.is_alive())
        };
        let taken: Vec<Slot> = self.slots.extract_if(.., |slot| gone(slot)).collect();
        for slot in &taken {
            if slot.instance.is_alive() {
                self.counts.reclaimed += 1;
            } else {
                self.counts.faults.count(FaultKind::Exit);
            }
        }
        taken
    }

    fn slot(&mut self, instance: &Arc<Instance>) -> Option<&mut Slot> {
        let mut slots = self.slots.iter_mut();
        slots.find(|slot| Arc::ptr_eq(&slot.instance, instance))
    }

    /// Gives back the place of an invocation that is done with.
    fn release(&mut self, instance: &Arc<Instance>, scaling: &Scaling) {
        let idle = scaling.reclaim.draw(&mut self.rng);
        let Some(slot) = self.slot(instance) else {
            return;
        };
        slot.busy -= 1;
        slot.settling -= 1;
        slot.used = Moment::now();
        if slot.busy == 0 {
            slot.expires = idle
                .and_then(|idle| u64::try_from(idle.as_nanos()).ok())
                .map(|idle| Moment(Moment::now().0.saturating_add(idle)));
            instance.trim_output();
            if scaling.freeze {
                instance.freeze();
            }
        }
    }

    /// An instance with room, the one used last first; else the right to start one.
    /// The `patient` are told when one will have room soon.
    fn place(&mut self, function: &Function, scaling: &Scaling, patient: bool) -> Place {
        let with_room = self
            .slots
            .iter_mut()
            .filter(|slot| slot.busy < function.max_concurrency);
        if let Some(slot) = with_room.max_by_key(|slot| slot.used) {
            slot.used = Moment::now();
            if slot.busy == 0 {
                slot.expires = None;
                slot.instance.thaw();
            }
            slot.busy += 1;
            return Place::Warm(Arc::clone(&slot.instance));
        }
        if patient && self.slots.iter().any(|slot| slot.settling > 0) {
            return Place::Soon;
        }
        let now = Moment::now();
        while let Some(&first) = self.added.front()
            && now.since(first) >= SCALING_WINDOW
        {
            self.added.pop_front();
        }
        let full = self.slots.len() + self.starting >= scaling.max_instances;
        if full || self.added.len() >= SCALING_LIMIT {
            return Place::Full;
        }
        self.added.push_back(now);
        self.starting += 1;
        Place::Cold
    }
}

/// A place that is given back however the start ends.
struct StartingPlace<'a>(&'a Inner);

impl Drop for StartingPlace<'_> {
    fn drop(&mut self) {
        self.0.state().starting -= 1;
    }
}

/// Whether the instance is of use after such a fault.
fn survives(kind: FaultKind) -> bool {
    matches!(
        kind,
        FaultKind::Garbage | FaultKind::TooLarge | FaultKind::FunctionError
    )
}

fn body(answer: CompletedInvocation) -> Bytes {
    match answer.outcome {
        InvocationOutcome::Response(body) | InvocationOutcome::Streamed { body, .. } => body,
        InvocationOutcome::Error(..) | InvocationOutcome::TooLarge => {
            unreachable!("these are faults")
        }
    }
}
