//! One instance of a function: its process, its Runtime API, its limits.

use super::cgroup::{Cgroup, Hierarchy, Limits};
use super::container::Container;
use super::fault::{Fault, FaultKind};
use super::function::{Function, Program, resolve};
use super::launcher::Started;
use super::process::{Process, Usage};
use super::report::Restored;
use crate::clock::Moment;
use crate::runtime_api::{
    CompletedInvocation, Init, InvocationOutcome, Restore, RuntimeApi, Submitted, streamed,
};
use bytes::Bytes;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::Duration;

/// How instances are started, apart from what function they run.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The harness's own binary, for its launcher.
    pub launcher: PathBuf,
    /// Where limits are set; `None` runs without.
    pub hierarchy: Option<Arc<Hierarchy>>,
    /// Period of the processor limit. Lambda's is undocumented.
    pub cpu_period: Duration,
    /// Processors during init, if that is not the memory size's share.
    pub init_vcpus: Option<f64>,
    /// Processors of the machine that instances stay on; all where empty.
    pub cpus: Vec<usize>,
    /// Longest init phase.
    pub init_limit: Duration,
    /// Longest init phase of a snapshot, unless the function's timeout is longer.
    pub snapshot_limit: Duration,
    /// Longest restore: loading the snapshot and the function's hooks.
    pub restore_limit: Duration,
    /// How long after its deadline a response is waited for, to tell a function that is
    /// late from one that hangs. Both are faults.
    pub late_window: Duration,
}

impl Settings {
    /// Lambda's limits, with the launcher in `launcher` and without control groups.
    pub fn new(launcher: &Path) -> Self {
        Self {
            launcher: launcher.to_owned(),
            hierarchy: None,
            cpu_period: Duration::from_millis(20),
            init_vcpus: None,
            cpus: Vec::new(),
            init_limit: Duration::from_secs(10),
            snapshot_limit: Duration::from_secs(130),
            restore_limit: Duration::from_secs(10),
            late_window: Duration::from_millis(500),
        }
    }

    fn limits(&self, function: &Function, vcpus: f64) -> Limits {
        Limits {
            memory_bytes: u64::from(function.memory_mb) << 20,
            vcpus,
            period: self.cpu_period,
        }
    }

    async fn cgroup(&self, function: &Function) -> Result<Option<Cgroup>, Fault> {
        let Some(hierarchy) = self.hierarchy.clone() else {
            return Ok(None);
        };
        // An engine sets the limits of its containers itself.
        if matches!(function.program, Program::Image { .. }) {
            return Ok(None);
        }
        let vcpus = self.init_vcpus.unwrap_or(function.vcpus());
        let limits = self.limits(function, vcpus);
        // The kernel takes milliseconds, in which others are served.
        tokio::task::spawn_blocking(move || hierarchy.create(limits))
            .await
            .map_err(anyhow::Error::from)
            .flatten()
            .map(Some)
            .map_err(|error| Fault::new(FaultKind::Launch, format!("{error:#}")))
    }
}

/// A running instance that has passed its init phase.
pub struct Instance {
    // Dropped in this order: no process outlives the container's end, no port both.
    container: Option<Container>,
    process: Process,
    api: RuntimeApi,
    timeout: Duration,
    late_window: Duration,
    memory_mb: u32,
    started: Started,
    ready: Moment,
    restored: Option<Restored>,
}

/// An instance that has passed its init phase and is paused until it is restored. On AWS
/// one snapshot makes any number of instances; here each is a process of its own.
pub struct Snapshot(Instance);

/// A fault in the init phase, with what the function printed.
#[derive(Debug)]
pub struct InitFault {
    /// What went wrong.
    pub fault: Fault,
    /// Standard output and error.
    pub output: String,
}

impl Instance {
    /// Starts an instance and waits for the end of its init phase, which may take as
    /// long as `init_limit`. The event `first` is there when it first asks.
    pub async fn start(
        function: &Function,
        settings: &Settings,
        init_limit: Duration,
        first: Option<Bytes>,
    ) -> Result<(Self, Option<Submitted>), InitFault> {
        let api = RuntimeApi::bind(function.identity())
            .await
            .map_err(|error| launch_fault(error.into()))?;
        // A quota that changes after init must have changed before the event comes.
        let (mut early, mut later) = (first, None);
        if settings.init_vcpus.is_some() {
            later = early.take();
        }
        let submitted = early.map(|event| api.submit(event, function.timeout));
        let (instance, _) = Self::launch(function, settings, init_limit, api).await?;
        let submitted = submitted.or_else(|| later.map(|event| instance.submit(event)));
        Ok((instance, submitted))
    }

    /// Starts an instance, and pauses it when it asks for its restore.
    pub async fn snapshot(function: &Function, settings: &Settings) -> Result<Snapshot, InitFault> {
        let api = RuntimeApi::bind_for_snapshot(function.identity())
            .await
            .map_err(|error| launch_fault(error.into()))?;
        let limit = settings.snapshot_limit.max(function.timeout);
        let (instance, asked) = Self::launch(function, settings, limit, api).await?;
        let labelled = function
            .snapstart
            .as_ref()
            .is_some_and(|snapstart| snapstart.labelled);
        if !asked && !labelled {
            let detail = "polled for an event without polling for its restore, and no label allows a snapshot";
            return Err(InitFault {
                fault: Fault::new(FaultKind::NoRestore, detail),
                output: instance.output(),
            });
        }
        instance.freeze();
        Ok(Snapshot(instance))
    }

    /// Starts a process and waits for the end of its init phase; whether that was to ask
    /// for a restore.
    async fn launch(
        function: &Function,
        settings: &Settings,
        init_limit: Duration,
        mut api: RuntimeApi,
    ) -> Result<(Self, bool), InitFault> {
        let silent = |fault| InitFault {
            fault,
            output: String::new(),
        };
        let launch = launch_fault;
        let cgroup = settings.cgroup(function).await.map_err(silent)?;
        let env = function.environment(api.addr());
        let (command, container) = command(function, &env, settings).map_err(launch)?;
        let env = match &container {
            // The engine's client needs its own environment; the function gets its by flags.
            Some(_) => std::env::vars().collect(),
            None => env,
        };
        let process = Process::spawn(
            &settings.launcher,
            command,
            env,
            cgroup,
            &settings.cpus,
            container.is_some(),
        )
        .map_err(launch)?;
        // As in `Instance`: the container goes first, also if this is not waited for.
        let container = container;
        let (ready, asked) = match init(&mut api, &process, init_limit).await {
            Ok(ended) => ended,
            Err(fault) => {
                let output = process.output();
                return Err(InitFault { fault, output });
            }
        };
        let started = process.started().map_err(launch)?;
        if let (Some(_), Some(group)) = (settings.init_vcpus, process.cgroup()) {
            group
                .limit_cpu(settings.limits(function, function.vcpus()))
                .map_err(launch)?;
        }
        let instance = Self {
            container,
            process,
            api,
            timeout: function.timeout,
            late_window: settings.late_window,
            memory_mb: function.memory_mb,
            started,
            ready,
            restored: None,
        };
        Ok((instance, asked))
    }

    /// Gives it an event and waits for the response.
    pub async fn invoke(&self, event: Bytes) -> Result<CompletedInvocation, Fault> {
        self.finish(self.submit(event)).await
    }

    /// Gives it an event.
    pub fn submit(&self, event: Bytes) -> Submitted {
        self.api.submit(event, self.timeout)
    }

    /// Waits for the response to an event that it was given.
    pub async fn finish(&self, submitted: Submitted) -> Result<CompletedInvocation, Fault> {
        let limit = self.timeout + self.late_window;
        let answer = tokio::select! {
            biased;
            Ok(answer) = submitted.answer => answer,
            status = self.process.exited() => return Err(self.ended(FaultKind::Exit, status)),
            () = tokio::time::sleep(limit) => {
                let detail = format!("no response within {limit:?}");
                return Err(self.fault(FaultKind::Hang, &detail));
            }
        };
        let duration = answer.answered.since(answer.delivered);
        if duration > self.timeout {
            let detail = format!("answered after {duration:?}, {:?} allowed", self.timeout);
            return Err(Fault::new(FaultKind::Late, detail));
        }
        match &answer.outcome {
            InvocationOutcome::Streamed {
                is_http: true,
                body,
            } => match streamed::response(body) {
                Ok(response) => Ok(CompletedInvocation {
                    outcome: InvocationOutcome::Response(response.to_string().into()),
                    ..answer
                }),
                Err(what) => Err(Fault::new(FaultKind::Garbage, what)),
            },
            // A payload of its own kind, which no gateway has to understand.
            InvocationOutcome::Streamed { .. } => Ok(answer),
            InvocationOutcome::Response(body) if is_json(body) => Ok(answer),
            InvocationOutcome::Response(body) => {
                let detail = format!("{} bytes that are not JSON", body.len());
                Err(Fault::new(FaultKind::Garbage, detail))
            }
            InvocationOutcome::Error(error_type, posted) => Err(Fault {
                posted: Some(posted.clone()),
                ..Fault::new(FaultKind::FunctionError, error_type)
            }),
            InvocationOutcome::TooLarge => {
                let detail = "more than 6 MB, or 200 MB streamed";
                Err(Fault::new(FaultKind::TooLarge, detail))
            }
        }
    }

    /// Waits until it asks for its next event, which it must within its timeout.
    pub async fn settle(&self) -> Result<(), Fault> {
        tokio::select! {
            biased;
            () = self.api.polled() => Ok(()),
            status = self.process.exited() => Err(self.ended(FaultKind::Exit, status)),
            () = tokio::time::sleep(self.timeout) => {
                Err(self.fault(FaultKind::Hang, "responded, but does not poll for another event"))
            }
        }
    }

    /// Freezes it, as Lambda does while there is nothing to do. Containers run on.
    pub fn freeze(&self) {
        if self.container.is_none() {
            self.process.freeze();
        }
    }

    /// Lets it go on.
    pub fn thaw(&self) {
        if self.container.is_none() {
            self.process.thaw();
        }
    }

    /// Whether its process has not ended.
    pub fn is_alive(&self) -> bool {
        self.process.is_alive()
    }

    /// What starts its clock.
    pub fn started(&self) -> Moment {
        self.started.at
    }

    /// When it asked for its first event.
    pub fn ready(&self) -> Moment {
        self.ready
    }

    /// What its restore took, if it is one of a snapshot.
    pub fn restored(&self) -> Option<Restored> {
        self.restored
    }

    /// Length of its init phase.
    pub fn init_duration(&self) -> Duration {
        self.ready.since(self.started.at)
    }

    /// Its memory size in MB.
    pub fn memory_mb(&self) -> u32 {
        self.memory_mb
    }

    /// What it has used so far; `None` when it is gone or the engine does not tell.
    pub fn usage(&self) -> Option<Usage> {
        match &self.container {
            Some(container) => self.process.usage_of(container.pid()?, &self.started),
            None => self.process.usage(&self.started),
        }
        .ok()
    }

    /// Its largest resident set so far, in KiB; like [`Self::usage`], but quick.
    pub fn peak_rss_kib(&self) -> Option<u64> {
        match self.container {
            Some(_) => self.usage().map(|usage| usage.peak_rss_kib),
            None => self.process.peak_rss_kib(),
        }
    }

    /// What it has printed.
    pub fn output(&self) -> String {
        self.process.output()
    }

    /// Files mapped into it.
    pub fn mapped_files(&self) -> Vec<PathBuf> {
        self.process.mapped_files()
    }

    /// Forgets what it printed if that is much.
    pub fn trim_output(&self) {
        self.process.trim_output();
    }

    fn ended(&self, kind: FaultKind, status: ExitStatus) -> Fault {
        ended(&self.process, kind, status)
    }

    fn fault(&self, kind: FaultKind, detail: &str) -> Fault {
        // The kernel may have killed a child of it and left it waiting.
        let kind = if self.process.out_of_memory() {
            FaultKind::OutOfMemory
        } else {
            kind
        };
        Fault::new(kind, detail)
    }
}

impl Snapshot {
    /// Restores it: `load` for the snapshot, which is only waited for, then the process goes
    /// on with its hooks until it asks for its first event. The event `first` is there.
    pub async fn restore(
        self,
        settings: &Settings,
        load: Duration,
        first: Option<Bytes>,
    ) -> Result<(Instance, Option<Submitted>), InitFault> {
        let Self(mut instance) = self;
        let late = || {
            let limit = settings.restore_limit;
            Fault::new(
                FaultKind::RestoreTimeout,
                format!("did not poll for an event within {limit:?}"),
            )
        };
        let failed = |instance: &Instance, fault| InitFault {
            fault,
            output: instance.output(),
        };
        let Some(left) = settings.restore_limit.checked_sub(load) else {
            return Err(failed(&instance, late()));
        };
        tokio::time::sleep(load).await;
        let resumed = Moment::now();
        // Before the event: a poll that is open already takes it.
        let restore = instance.api.restore();
        let submitted = first.map(|event| instance.submit(event));
        instance.thaw();
        let ended = tokio::select! {
            biased;
            Ok(ended) = restore => ended,
            status = instance.process.exited() => {
                let fault = instance.ended(FaultKind::Exit, status);
                return Err(failed(&instance, fault));
            }
            () = tokio::time::sleep(left) => return Err(failed(&instance, late())),
        };
        match ended {
            Restore::Ready(ready) => {
                instance.restored = Some(Restored {
                    load,
                    resumed,
                    hooks: ready.since(resumed),
                });
                Ok((instance, submitted))
            }
            Restore::Failed(_, error_type, posted) => {
                let fault = Fault {
                    posted: Some(posted),
                    ..Fault::new(FaultKind::RestoreError, error_type)
                };
                Err(failed(&instance, fault))
            }
        }
    }
}

#[expect(clippy::needless_pass_by_value, reason = "passed to `map_err`")]
fn launch_fault(error: anyhow::Error) -> InitFault {
    InitFault {
        fault: Fault::new(FaultKind::Launch, format!("{error:#}")),
        output: String::new(),
    }
}

/// Waits for the end of the init phase: when, and whether that was to ask for a restore.
async fn init(
    api: &mut RuntimeApi,
    process: &Process,
    limit: Duration,
) -> Result<(Moment, bool), Fault> {
    tokio::select! {
        biased;
        init = api.init() => match init {
            Init::Ready(at) => Ok((at, false)),
            Init::Snapshot(at) => Ok((at, true)),
            Init::Failed(_, error_type, posted) => Err(Fault {
                posted: Some(posted),
                ..Fault::new(FaultKind::InitError, error_type)
            }),
        },
        status = process.exited() => Err(match process.started() {
            Ok(_) => ended(process, FaultKind::InitCrash, status),
            Err(error) => Fault::new(FaultKind::Launch, format!("{error:#}")),
        }),
        () = tokio::time::sleep(limit) => {
            let kind = if process.out_of_memory() {
                FaultKind::OutOfMemory
            } else {
                FaultKind::InitTimeout
            };
            Err(Fault::new(kind, format!("did not poll for an event within {limit:?}")))
        }
    }
}

fn ended(process: &Process, kind: FaultKind, status: ExitStatus) -> Fault {
    let kind = if process.out_of_memory() {
        FaultKind::OutOfMemory
    } else {
        kind
    };
    Fault::new(kind, status)
}

/// What the launcher is to become.
fn command(
    function: &Function,
    env: &[(String, String)],
    settings: &Settings,
) -> anyhow::Result<(Vec<std::ffi::OsString>, Option<Container>)> {
    let limited = settings.hierarchy.is_some();
    let (mut command, container) = match Container::command(function, env, limited) {
        Some((command, container)) => (command, Some(container)),
        None => match &function.program {
            Program::Command(command) => (command.clone(), None),
            Program::Image { .. } => unreachable!("images have a container"),
        },
    };
    let program = command
        .first_mut()
        .ok_or_else(|| anyhow::anyhow!("no command"))?;
    *program = resolve(Path::new(program))
        .ok_or_else(|| anyhow::anyhow!("{}: no such program", program.display()))?
        .into();
    Ok((command, container))
}

fn is_json(body: &[u8]) -> bool {
    serde_json::from_slice::<serde::de::IgnoredAny>(body).is_ok()
}
