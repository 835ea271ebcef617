//! Images instead of programs, through podman or docker.
//!
//! The clock starts before the engine's client does, so such figures hold its own
//! time too (podman: some 100 ms); they compare images with images only. The
//! container shares the host's network, where its Runtime API is.

use super::function::{Function, Program};
use rustix::io::Errno;
use rustix::process::{Pid, test_kill_process};
use std::ffi::OsString;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};

/// Names of our containers: this, the harness's process id, and a number.
const PREFIX: &str = "coldread-loadtest-";

static NEXT: AtomicU64 = AtomicU64::new(0);

/// A container by its name, removed when dropped.
#[derive(Debug)]
pub struct Container {
    engine: String,
    name: String,
}

impl Container {
    /// The command that runs `function` in a container with this environment, and the
    /// container that it makes; `None` for a function that is no image.
    pub fn command(
        function: &Function,
        env: &[(String, String)],
        limited: bool,
    ) -> Option<(Vec<OsString>, Self)> {
        let Program::Image {
            engine,
            engine_args,
            image,
            args,
        } = &function.program
        else {
            return None;
        };
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("{PREFIX}{}-{number}", std::process::id());
        let mut command = vec![engine.clone(), "run".into(), "--rm".into()];
        command.push(format!("--name={name}"));
        command.push("--network=host".into());
        command.push("--pull=never".into());
        if limited {
            command.push(format!("--memory={}m", function.memory_mb));
            command.push(format!("--memory-swap={}m", function.memory_mb));
            command.push(format!("--cpus={:.4}", function.vcpus()));
        }
        for (name, value) in env.iter().filter(|(name, _)| name != "PATH") {
            command.push(format!("--env={name}={value}"));
        }
        // Set by the launcher, which knows the moment.
        command.push(format!("--env={}", super::launcher::STARTED_NS));
        command.extend(engine_args.iter().cloned());
        command.push(image.clone());
        command.extend(args.iter().cloned());
        let container = Self {
            engine: engine.clone(),
            name,
        };
        Some((command.into_iter().map(OsString::from).collect(), container))
    }

    /// The container's first process, if the engine tells.
    pub fn pid(&self) -> Option<Pid> {
        let output = Command::new(&self.engine)
            .args(["inspect", "--format={{.State.Pid}}", &self.name])
            .stdin(Stdio::null())
            .output()
            .ok()?;
        let pid = String::from_utf8_lossy(&output.stdout)
            .trim()
            .parse()
            .ok()?;
        Pid::from_raw(pid)
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        remove(&self.engine, &self.name);
    }
}

/// Removes a container. Where it is gone already, the engine says so, which is no news.
fn remove(engine: &str, name: &str) {
    let _ = Command::new(engine)
        .args(["rm", "--force", name])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
}

/// Removes containers of harnesses that are no more: one that is killed may leave one
/// that was made and not yet started.
pub fn sweep(engine: &str) {
    let listed = Command::new(engine)
        .args(["ps", "--all", "--format={{.Names}}"])
        .arg(format!("--filter=name={PREFIX}"))
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output();
    let names = listed.map_or_else(|_| Vec::new(), |listed| listed.stdout);
    for name in String::from_utf8_lossy(&names).lines() {
        if of_the_dead(name) {
            remove(engine, name);
        }
    }
}

/// Whether a container is ours and its harness has ended.
fn of_the_dead(name: &str) -> bool {
    name.strip_prefix(PREFIX)
        .and_then(|rest| rest.split('-').next()?.parse().ok())
        .and_then(Pid::from_raw)
        .is_some_and(|pid| test_kill_process(pid) == Err(Errno::SRCH))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_dead_left_is_swept() {
        // Above the largest process id that Linux gives.
        assert!(of_the_dead("coldread-loadtest-4194305-7"));
        let ours = format!("{PREFIX}{}-0", std::process::id());
        for name in [ours.as_str(), "coldread", "coldread-loadtest-x-1", ""] {
            assert!(!of_the_dead(name), "{name}");
        }
    }
}
