//! Memory and processor limits by control groups, version 1 (also in its hybrid
//! form) and version 2.
//!
//! The program's launcher joins the group and only then starts the clock, because
//! joining takes milliseconds. A group is removed with its [`Cgroup`]; what a killed
//! harness left behind is removed by the next one.

use anyhow::{Context, Result, bail};
use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Names of our groups: this, the harness's process id, and a number.
const PREFIX: &str = "coldread-loadtest-";

/// The kernel's smallest quota in microseconds.
const MIN_QUOTA_US: f64 = 1000.0;

static NEXT: AtomicU64 = AtomicU64::new(0);

/// Limits of one instance.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Limits {
    /// Memory in bytes; above it the kernel kills.
    pub memory_bytes: u64,
    /// Processors, in fractions.
    pub vcpus: f64,
    /// Length of the period whose share `vcpus` is.
    pub period: Duration,
}

/// How often the processor limit held an instance back.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Throttling {
    /// Periods in which it wanted to run.
    pub periods: u64,
    /// Periods in which it was stopped at its quota.
    pub throttled: u64,
    /// Time for which it was stopped, in milliseconds.
    pub throttled_ms: f64,
}

/// Where this machine lets us make groups.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Hierarchy {
    /// One folder for each controller.
    V1 {
        /// Parent in the hierarchy of `cpu`.
        cpu: PathBuf,
        /// Parent in the hierarchy of `memory`.
        memory: PathBuf,
    },
    /// One folder for all controllers.
    V2 {
        /// Parent whose children have `cpu` and `memory`.
        parent: PathBuf,
    },
}

impl Hierarchy {
    /// Finds it, or says why limits cannot be set here. A group is made and removed, to
    /// learn now and not at the first instance whether that is permitted.
    pub fn find() -> Result<Self> {
        let hierarchy = Self::mounted()?;
        hierarchy.sweep();
        drop(hierarchy.create(Limits {
            memory_bytes: 128 << 20,
            vcpus: 1.0,
            period: Duration::from_millis(100),
        })?);
        Ok(hierarchy)
    }

    #[cfg(not(target_os = "linux"))]
    fn mounted() -> Result<Self> {
        bail!("limits of memory and processor need Linux's control groups")
    }

    #[cfg(target_os = "linux")]
    fn mounted() -> Result<Self> {
        let me = procfs::process::Process::myself()?;
        let mounts = me.mountinfo()?;
        let groups = me.cgroups()?.0;
        let of_controller = |controller: &str| {
            let mount = mounts.iter().find(|mount| {
                mount.fs_type == "cgroup" && mount.super_options.contains_key(controller)
            })?;
            let group = groups
                .iter()
                .find(|group| group.controllers.iter().any(|name| name == controller))?;
            Some(below(&mount.mount_point, &group.pathname))
        };
        if let (Some(cpu), Some(memory)) = (of_controller("cpu"), of_controller("memory")) {
            return Ok(Self::V1 { cpu, memory });
        }
        let mount = mounts
            .iter()
            .find(|mount| mount.fs_type == "cgroup2")
            .context("no control groups are mounted")?;
        let group = groups
            .iter()
            .find(|group| group.hierarchy == 0)
            .context("this process is in no control group")?;
        let own = below(&mount.mount_point, &group.pathname);
        // A group that holds processes cannot hand controllers on, so the parent is
        // an ancestor whose children have them.
        let parent = own
            .ancestors()
            .take_while(|dir| dir.starts_with(&mount.mount_point))
            .find(|dir| hands_on(dir) && try_child(dir));
        let Some(parent) = parent else {
            bail!(
                "no control group above this process hands `cpu` and `memory` on to groups of ours \
                 (root may make them, or a user in a delegated slice of systemd)"
            );
        };
        Ok(Self::V2 {
            parent: parent.to_owned(),
        })
    }

    /// Removes groups of harnesses that are no more.
    fn sweep(&self) {
        for parent in self.parents() {
            for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
                let name = entry.file_name();
                let pid = name
                    .to_str()
                    .and_then(|name| name.strip_prefix(PREFIX))
                    .and_then(|rest| rest.split('-').next())
                    .and_then(|pid| pid.parse().ok())
                    .and_then(Pid::from_raw);
                if pid.is_some_and(|pid| test_kill_process(pid) == Err(Errno::SRCH)) {
                    let _ = fs::remove_dir(entry.path());
                }
            }
        }
    }

    /// Makes a group with these limits.
    pub fn create(&self, limits: Limits) -> Result<Cgroup> {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("{PREFIX}{}-{number}", std::process::id());
        let mut group = Cgroup {
            hierarchy: self.clone(),
            dirs: Vec::new(),
        };
        for parent in self.parents() {
            let dir = parent.join(&name);
            fs::create_dir(&dir).with_context(|| format!("creating {}", dir.display()))?;
            group.dirs.push(dir);
        }
        group.limit_memory(limits.memory_bytes)?;
        group.limit_cpu(limits)?;
        Ok(group)
    }

    fn parents(&self) -> Vec<&Path> {
        match self {
            Self::V1 { cpu, memory } if cpu == memory => vec![cpu],
            Self::V1 { cpu, memory } => vec![cpu, memory],
            Self::V2 { parent } => vec![parent],
        }
    }
}

impl fmt::Display for Hierarchy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V1 { .. } => "control groups, version 1",
            Self::V2 { .. } => "control groups, version 2",
        })
    }
}

/// A control group of ours, removed when dropped.
#[derive(Debug)]
pub struct Cgroup {
    hierarchy: Hierarchy,
    /// That of `cpu` first, that of `memory` last.
    dirs: Vec<PathBuf>,
}

impl Cgroup {
    /// The folders whose `cgroup.procs` a process writes itself into.
    pub fn dirs(&self) -> &[PathBuf] {
        &self.dirs
    }

    /// Sets the processor limit anew.
    pub fn limit_cpu(&self, limits: Limits) -> Result<()> {
        let period_us = limits.period.as_micros();
        let quota_us = (period_us as f64 * limits.vcpus).max(MIN_QUOTA_US).round() as u64;
        if self.is_v1() {
            write(self.cpu(), "cpu.cfs_period_us", &period_us)?;
            write(self.cpu(), "cpu.cfs_quota_us", &quota_us)
        } else {
            write(self.cpu(), "cpu.max", &format!("{quota_us} {period_us}"))
        }
    }

    fn limit_memory(&self, bytes: u64) -> Result<()> {
        if self.is_v1() {
            write(self.memory(), "memory.limit_in_bytes", &bytes)?;
            // Not there without swap accounting.
            let _ = write(self.memory(), "memory.memsw.limit_in_bytes", &bytes);
        } else {
            write(self.memory(), "memory.max", &bytes)?;
            let _ = write(self.memory(), "memory.swap.max", &0);
        }
        Ok(())
    }

    /// Most memory it had at once, in bytes, with the file pages it was the first to
    /// read. `None` where the kernel does not tell.
    pub fn peak_memory_bytes(&self) -> Option<u64> {
        let name = if self.is_v1() {
            "memory.max_usage_in_bytes"
        } else {
            "memory.peak"
        };
        read(self.memory(), name)?.trim().parse().ok()
    }

    /// Processes that the kernel killed at the memory limit.
    pub fn oom_kills(&self) -> u64 {
        let name = if self.is_v1() {
            "memory.oom_control"
        } else {
            "memory.events"
        };
        read(self.memory(), name)
            .and_then(|text| field(&text, "oom_kill"))
            .unwrap_or(0)
    }

    /// How often the processor limit held it back.
    pub fn throttling(&self) -> Option<Throttling> {
        let text = read(self.cpu(), "cpu.stat")?;
        let throttled_ms = match field(&text, "throttled_usec") {
            Some(us) => us as f64 / 1e3,
            None => field(&text, "throttled_time")? as f64 / 1e6,
        };
        Some(Throttling {
            periods: field(&text, "nr_periods")?,
            throttled: field(&text, "nr_throttled")?,
            throttled_ms,
        })
    }

    /// Sends SIGKILL to whatever is in it, also to what left its process group.
    pub fn kill(&self) {
        let procs = read(self.cpu(), "cgroup.procs").unwrap_or_default();
        for pid in procs.lines().filter_map(|line| line.parse().ok()) {
            if let Some(pid) = Pid::from_raw(pid) {
                let _ = kill_process(pid, Signal::KILL);
            }
        }
    }

    fn is_v1(&self) -> bool {
        matches!(self.hierarchy, Hierarchy::V1 { .. })
    }

    fn cpu(&self) -> &Path {
        &self.dirs[0]
    }

    fn memory(&self) -> &Path {
        &self.dirs[self.dirs.len() - 1]
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        // A killed process leaves its group some time after the signal.
        for _ in 0..100 {
            self.dirs
                .retain(|dir| fs::remove_dir(dir).is_err() && dir.exists());
            if self.dirs.is_empty() {
                return;
            }
            self.kill();
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

/// `pathname` is absolute in its hierarchy.
#[cfg(target_os = "linux")]
fn below(mount_point: &Path, pathname: &str) -> PathBuf {
    let path = mount_point.join(pathname.trim_start_matches('/'));
    // In a namespace of its own, a container does not see where it is.
    if path.is_dir() {
        path
    } else {
        mount_point.to_owned()
    }
}

/// Whether groups below `dir` have both controllers. They are not asked for where
/// they are not: that would outlive us.
#[cfg(target_os = "linux")]
fn hands_on(dir: &Path) -> bool {
    let controllers = read(dir, "cgroup.subtree_control").unwrap_or_default();
    let has = |wanted| controllers.split_whitespace().any(|name| name == wanted);
    has("cpu") && has("memory")
}

/// Whether we may make a group in `dir`.
#[cfg(target_os = "linux")]
fn try_child(dir: &Path) -> bool {
    let child = dir.join(format!("{PREFIX}{}-probe", std::process::id()));
    fs::create_dir(&child).is_ok() && fs::remove_dir(&child).is_ok()
}

/// The number behind `name` in lines of `name number`.
fn field(text: &str, name: &str) -> Option<u64> {
    text.lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok())
}

fn read(dir: &Path, name: &str) -> Option<String> {
    fs::read_to_string(dir.join(name)).ok()
}

fn write(dir: &Path, name: &str, value: &impl ToString) -> Result<()> {
    let path = dir.join(name);
    fs::write(&path, value.to_string()).with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 512 MB's share of the processor.
    const LIMITS: Limits = Limits {
        memory_bytes: 512 << 20,
        vcpus: 0.289_429,
        period: Duration::from_millis(20),
    };

    /// Makes a group among ordinary files and looks at what it would tell the kernel.
    fn check(hierarchy: &Hierarchy, expected: &[(&str, &str)]) {
        let group = hierarchy.create(LIMITS).unwrap();
        let dirs = group.dirs().to_vec();
        let name = dirs[0].file_name().unwrap().to_str().unwrap();
        assert!(name.starts_with(PREFIX), "{name}");
        for (name, value) in expected {
            let found = dirs.iter().find_map(|dir| read(dir, name));
            assert_eq!(found.as_deref(), Some(*value), "{name}");
        }
        // The kernel's own files would go with the folder.
        for dir in &dirs {
            for file in fs::read_dir(dir).unwrap() {
                fs::remove_file(file.unwrap().path()).unwrap();
            }
        }
        drop(group);
        assert!(dirs.iter().all(|dir| !dir.exists()));
    }

    #[test]
    fn version_1_is_told_its_limits() {
        let [cpu, memory] = [(); 2].map(|()| tempfile::tempdir().unwrap());
        let hierarchy = Hierarchy::V1 {
            cpu: cpu.path().to_owned(),
            memory: memory.path().to_owned(),
        };
        check(
            &hierarchy,
            &[
                ("cpu.cfs_period_us", "20000"),
                ("cpu.cfs_quota_us", "5789"),
                ("memory.limit_in_bytes", "536870912"),
            ],
        );
    }

    #[test]
    fn version_2_is_told_its_limits() {
        let parent = tempfile::tempdir().unwrap();
        let hierarchy = Hierarchy::V2 {
            parent: parent.path().to_owned(),
        };
        check(
            &hierarchy,
            &[
                ("cpu.max", "5789 20000"),
                ("memory.max", "536870912"),
                ("memory.swap.max", "0"),
            ],
        );
    }

    #[test]
    fn both_versions_tell_of_throttling_and_kills() {
        let dir = tempfile::tempdir().unwrap();
        let group = |hierarchy| Cgroup {
            hierarchy,
            dirs: vec![dir.path().to_owned()],
        };
        let parent = dir.path().join("none");
        let v1 = group(Hierarchy::V1 {
            cpu: parent.clone(),
            memory: parent.clone(),
        });
        let v2 = group(Hierarchy::V2 { parent });
        let file = |name: &str, text: &str| fs::write(dir.path().join(name), text).unwrap();
        let expected = Throttling {
            periods: 12,
            throttled: 3,
            throttled_ms: 4.5,
        };
        file(
            "cpu.stat",
            "nr_periods 12\nnr_throttled 3\nthrottled_time 4500000\n",
        );
        file(
            "memory.oom_control",
            "oom_kill_disable 0\nunder_oom 0\noom_kill 1\n",
        );
        assert_eq!(v1.throttling(), Some(expected));
        assert_eq!(v1.oom_kills(), 1);
        file(
            "cpu.stat",
            "usage_usec 9\nnr_periods 12\nnr_throttled 3\nthrottled_usec 4500\n",
        );
        file(
            "memory.events",
            "low 0\noom 2\noom_kill 2\noom_group_kill 0\n",
        );
        file("memory.peak", "1048576\n");
        assert_eq!(v2.throttling(), Some(expected));
        assert_eq!(v2.oom_kills(), 2);
        assert_eq!(v2.peak_memory_bytes(), Some(1 << 20));
        drop(dir);
    }
}
