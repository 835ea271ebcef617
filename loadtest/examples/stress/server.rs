//! The server under test, its threads pinned.

use crate::Args;
use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use rustix::thread::{CpuSet, sched_setaffinity};
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// A server process; it ends with this value.
pub(crate) struct Server {
    child: Child,
    /// Host and port.
    pub(crate) addr: String,
}

fn only(core: usize) -> CpuSet {
    let mut cores = CpuSet::new();
    cores.set(core);
    cores
}

/// Puts this thread, and those that it starts, on a core.
pub(crate) fn pin_self(core: usize) -> Result<()> {
    sched_setaffinity(None, &only(core)).with_context(|| format!("core {core}"))
}

/// What a program prints that runs on a core.
pub(crate) fn output_on(command: &mut Command, core: usize) -> Result<Vec<u8>> {
    let child = command.stdout(Stdio::piped()).spawn()?;
    sched_setaffinity(Some(Pid::from_child(&child)), &only(core)).context("--inference-core")?;
    let output = child.wait_with_output()?;
    anyhow::ensure!(output.status.success(), "{command:?}: {}", output.status);
    Ok(output.stdout)
}

impl Server {
    /// One with one inference thread, on its own core; all others are where this program is.
    pub(crate) fn start(args: &Args, env: &[(&str, &str)]) -> Result<Self> {
        let mut child = Command::new(&args.binary)
            .args(["serve", "--workers", "1"])
            .env("COLDREAD_ADDR", "127.0.0.1:0")
            .env("COLDREAD_LOG", "warn")
            .env("TOKIO_WORKER_THREADS", "1")
            .env_remove("AWS_LAMBDA_RUNTIME_API")
            .envs(env.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| args.binary.display().to_string())?;
        let stdout = child.stdout.take().context("no standard output")?;
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line)?;
        let addr = line.trim_end().strip_prefix("listening on http://");
        let addr = addr.context("it did not say where it listens")?.to_owned();
        let server = Self { child, addr };
        server.pin_inference(args.inference_core)?;
        Ok(server)
    }

    fn pin_inference(&self, core: usize) -> Result<()> {
        // A thread names itself once it runs.
        for _ in 0..500 {
            for thread in std::fs::read_dir(format!("/proc/{}/task", self.child.id()))? {
                let thread = thread?;
                let name = std::fs::read_to_string(thread.path().join("comm"))?;
                if name.trim() == "coldread-infer" {
                    let id = thread.file_name().to_string_lossy().parse()?;
                    return sched_setaffinity(Pid::from_raw(id), &only(core))
                        .context("--inference-core");
                }
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        bail!("no thread is called coldread-infer")
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// The most memory that was resident so far.
    pub(crate) fn peak_memory_mb(&self) -> Result<f64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kb: f64 = line
            .and_then(|line| line.trim().strip_suffix(" kB"))
            .context("no VmHWM")?
            .parse()?;
        Ok(kb / 1e3)
    }

    /// Tells it to stop, and waits. Whether it ended with 0.
    pub(crate) fn terminate(&mut self) -> Result<bool> {
        kill_process(Pid::from_child(&self.child), Signal::TERM)?;
        for _ in 0..3000 {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status.success());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(false)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
