//! One process of a function: how it is started, watched, stopped and read.

use super::cgroup::{Cgroup, Throttling};
use super::launcher::{Launch, Started};
use crate::system;
use anyhow::{Context, Result};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::ffi::OsString;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::sync::Mutex;
use std::time::Duration;
use tokio::process::Command;
use tokio::sync::watch;

/// Output that is kept of an instance between invocations, and read of it at most.
const MAX_OUTPUT_BYTES: u64 = 1 << 20;

/// Time to end for a process that is asked to.
const GRACE_MS: u64 = 3_000;

/// What a process has used since its clock started.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Usage {
    /// Largest resident set of the process, in KiB (`VmHWM`).
    pub peak_rss_kib: u64,
    /// Peak of the control group in KiB: also the file pages that the instance was the
    /// first to read. `None` without limits.
    pub peak_cgroup_kib: Option<u64>,
    /// Page faults served from memory.
    pub minor_faults: u64,
    /// Page faults that needed the disk.
    pub major_faults: u64,
    /// How often its processor limit held it back. `None` without limits.
    pub throttling: Option<Throttling>,
}

/// A running process with its descendants. Dropping it kills them all and waits for
/// the end, so nothing of it outlives the harness.
#[derive(Debug)]
pub struct Process {
    pid: Pid,
    exit: watch::Receiver<Option<ExitStatus>>,
    socket: Mutex<UnixStream>,
    output: File,
    /// Whether it is asked to end before it is killed.
    gently: bool,
    /// Dropped after the processes in it are dead.
    cgroup: Option<Cgroup>,
}

impl Process {
    /// Starts `command` by way of the launcher, with this environment and no other. One
    /// that is to end `gently` is asked first: the client of a container engine, killed
    /// while it makes a container, would leave half of it behind.
    ///
    /// The launcher asks the kernel to be killed with the thread that called this, so
    /// call it from a thread of the runtime that lives as long as the harness does.
    pub fn spawn(
        launcher: &Path,
        command: Vec<OsString>,
        env: Vec<(String, String)>,
        cgroup: Option<Cgroup>,
        cpus: &[usize],
        gently: bool,
    ) -> Result<Self> {
        let launch = Launch {
            parent: std::process::id(),
            gently,
            cgroup: cgroup
                .iter()
                .flat_map(|group| group.dirs().to_vec())
                .collect(),
            cpu: cpus.to_vec(),
            command,
        };
        let (socket, theirs) = UnixStream::pair()?;
        // A file and not a pipe: a function that writes much must not wait for us, nor
        // we wake up while it starts. It has no name, so nothing is left of it.
        let output = tempfile::Builder::new()
            .append(true)
            .tempfile()
            .context("a file for the function's output")?
            .into_file();
        let mut child = Command::new(launcher)
            .args(launch.to_args())
            .env_clear()
            .envs(env)
            .stdin(OwnedFd::from(theirs))
            .stdout(Stdio::from(output.try_clone()?))
            .stderr(Stdio::from(output.try_clone()?))
            .process_group(0)
            .spawn()
            .with_context(|| format!("starting {}", launcher.display()))?;
        let pid = child
            .id()
            .and_then(|pid| Pid::from_raw(pid as i32))
            .context("the child has no process id")?;
        let (exited, exit) = watch::channel(None);
        tokio::spawn(async move {
            if let Ok(status) = child.wait().await {
                // Its descendants, at once: later the id could be another group's.
                let _ = kill_process_group(pid, Signal::KILL);
                let _ = exited.send(Some(status));
            }
        });
        Ok(Self {
            pid,
            exit,
            socket: Mutex::new(socket),
            output,
            gently,
            cgroup,
        })
    }

    /// When the clock started, or why it did not. Ask once, after the process has
    /// been heard of or has ended.
    pub fn started(&self) -> Result<Started> {
        let mut socket = self.socket.lock().expect("nobody panics with it");
        Started::read(&mut socket)
    }

    /// Waits until it has ended.
    pub async fn exited(&self) -> ExitStatus {
        let mut exit = self.exit.clone();
        match exit.wait_for(Option::is_some).await.map(|status| *status) {
            Ok(Some(status)) => status,
            // Only when the runtime is shutting down.
            _ => std::future::pending().await,
        }
    }

    /// Whether it has not ended.
    pub fn is_alive(&self) -> bool {
        self.exit.borrow().is_none()
    }

    /// Whether the kernel killed something in it at the memory limit.
    pub fn out_of_memory(&self) -> bool {
        self.cgroup
            .as_ref()
            .is_some_and(|group| group.oom_kills() > 0)
    }

    /// Its control group, where there are limits.
    pub fn cgroup(&self) -> Option<&Cgroup> {
        self.cgroup.as_ref()
    }

    /// Stops it between invocations. Returns whether it is there to be stopped.
    pub fn freeze(&self) -> bool {
        self.signal(Signal::STOP)
    }

    /// Lets it go on.
    pub fn thaw(&self) -> bool {
        self.signal(Signal::CONT)
    }

    /// Kills it and its descendants.
    pub fn kill(&self) {
        self.signal(Signal::KILL);
        if let Some(group) = &self.cgroup {
            group.kill();
        }
    }

    fn signal(&self, signal: Signal) -> bool {
        // After it was waited for, its id may be somebody else's.
        self.exit.borrow().is_none() && kill_process_group(self.pid, signal).is_ok()
    }

    /// What it has used so far, since `started`.
    pub fn usage(&self, started: &Started) -> Result<Usage> {
        self.usage_of(self.pid, started)
    }

    /// The same for another process in its place: the one inside a container.
    pub fn usage_of(&self, pid: Pid, started: &Started) -> Result<Usage> {
        let figures = system::process_figures(Some(pid.as_raw_pid()))?;
        Ok(Usage {
            peak_rss_kib: figures.peak_rss_kib,
            peak_cgroup_kib: self
                .cgroup
                .as_ref()
                .and_then(Cgroup::peak_memory_bytes)
                .map(|bytes| bytes / 1024),
            minor_faults: figures.minor_faults.saturating_sub(started.minor_faults),
            major_faults: figures.major_faults.saturating_sub(started.major_faults),
            throttling: self.cgroup.as_ref().and_then(Cgroup::throttling),
        })
    }

    /// Its largest resident set so far, in KiB.
    pub fn peak_rss_kib(&self) -> Option<u64> {
        let figures = system::process_figures(Some(self.pid.as_raw_pid())).ok()?;
        Some(figures.peak_rss_kib)
    }

    /// Files mapped into it: its program, libraries, and a model that is mapped.
    pub fn mapped_files(&self) -> Vec<std::path::PathBuf> {
        let mut files = system::mapped_files(self.pid.as_raw_pid());
        files.retain(|file| file.is_file());
        files.sort();
        files.dedup();
        files
    }

    /// What it has written to standard output and error, the first MiB of it.
    pub fn output(&self) -> String {
        let length = self.output.metadata().map_or(0, |file| file.len());
        let mut bytes = vec![0; length.min(MAX_OUTPUT_BYTES) as usize];
        let mut read = 0;
        while let Ok(n @ 1..) = self.output.read_at(&mut bytes[read..], read as u64) {
            read += n;
        }
        String::from_utf8_lossy(&bytes[..read]).into_owned()
    }

    /// Forgets its output if that has become long. Its writes append, so none is lost
    /// but those made meanwhile.
    pub fn trim_output(&self) {
        if self
            .output
            .metadata()
            .is_ok_and(|file| file.len() > MAX_OUTPUT_BYTES)
        {
            let _ = self.output.set_len(0);
        }
    }
}

impl Process {
    /// Asks it to end and gives it time to.
    fn ask(&self) {
        self.signal(Signal::TERM);
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT | WaitIdOptions::NOHANG;
        for _ in 0..GRACE_MS / 5 {
            // Ended, or waited for by the runtime already.
            if !matches!(waitid(WaitId::Pid(self.pid), options), Ok(None)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.gently && self.is_alive() {
            self.ask();
        }
        self.kill();
        if self.exit.borrow().is_none() {
            // Leaves it to the runtime to collect the status; after SIGKILL this takes
            // a moment only.
            let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
            let _ = waitid(WaitId::Pid(self.pid), options);
        }
    }
}
