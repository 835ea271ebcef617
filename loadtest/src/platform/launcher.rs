//! The step between the harness and a function: joins the control group, arranges
//! to die with the harness, starts the clock and becomes the function.
//!
//! It is a hidden subcommand of the same binary. Whatever takes time happens before
//! the clock is read; between that and `exec` there are one write of 25 bytes and
//! the preparation of the arguments.
//!
//! Standard input is a socket to the harness while the launcher runs. The function
//! gets `/dev/null` there, as on Lambda, and no other descriptor.

use crate::clock::Moment;
use crate::system;
use anyhow::{Context, Result, bail};
use clap::Args;
use rustix::process::{Pid, Signal, getppid};
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;

/// Name of the subcommand.
pub const NAME: &str = "__launch";

/// Variable that tells the function when the clock started, in nanoseconds on
/// `CLOCK_MONOTONIC`.
pub const STARTED_NS: &str = "COLDREAD_STARTED_NS";

/// What the harness tells the launcher.
#[derive(Debug, Clone, Args)]
pub struct Launch {
    /// Process id of the harness
    #[arg(long)]
    pub parent: u32,
    /// Die by SIGTERM when the harness does: the client of a container engine cleans up then
    #[arg(long)]
    pub gently: bool,
    /// Control groups to join
    #[arg(long)]
    pub cgroup: Vec<PathBuf>,
    /// Processors to stay on
    #[arg(long)]
    pub cpu: Vec<usize>,
    /// What to become
    #[arg(required = true, last = true)]
    pub command: Vec<OsString>,
}

/// What the launcher tells the harness right before `exec`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Started {
    /// When the clock was started.
    pub at: Moment,
    /// Page faults of the launcher itself, which the kernel goes on counting.
    pub minor_faults: u64,
    /// The same for faults that needed the disk.
    pub major_faults: u64,
}

impl Launch {
    /// The arguments that make the harness's binary do this.
    pub fn to_args(&self) -> Vec<OsString> {
        let mut args: Vec<OsString> = vec![NAME.into()];
        args.push(format!("--parent={}", self.parent).into());
        if self.gently {
            args.push("--gently".into());
        }
        for dir in &self.cgroup {
            args.extend(["--cgroup".into(), dir.into()]);
        }
        args.extend(self.cpu.iter().map(|cpu| format!("--cpu={cpu}").into()));
        args.push("--".into());
        args.extend(self.command.iter().cloned());
        args
    }

    /// Becomes the function. Returns only if that failed, after telling the harness.
    pub fn run(&self) -> Result<()> {
        let harness = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), 3)?;
        let mut harness = UnixStream::from(harness);
        let failed = self.become_function(&mut harness);
        if let Err(error) = &failed {
            let _ = write!(harness, "E{error:#}");
        }
        failed
    }

    fn become_function(&self, harness: &mut UnixStream) -> Result<()> {
        rustix::stdio::dup2_stdin(File::open("/dev/null")?)?;
        let signal = if self.gently {
            Signal::TERM
        } else {
            Signal::KILL
        };
        system::die_with_parent(signal)?;
        if getppid().map(Pid::as_raw_pid) != Some(self.parent as i32) {
            bail!("the harness is gone");
        }
        for dir in &self.cgroup {
            let procs = dir.join("cgroup.procs");
            fs::write(&procs, "0").with_context(|| format!("joining {}", procs.display()))?;
        }
        if !self.cpu.is_empty() {
            system::stay_on(&self.cpu).context("no such processor")?;
        }
        let (program, args) = self.command.split_first().context("no command")?;
        let mut command = Command::new(program);
        command.args(args);
        let faults = system::process_figures(None)?;
        let started = Started {
            at: Moment::now(),
            minor_faults: faults.minor_faults,
            major_faults: faults.major_faults,
        };
        harness.write_all(&started.to_bytes())?;
        command.env(STARTED_NS, started.at.0.to_string());
        Err(command.exec()).with_context(|| format!("starting {}", program.display()))
    }
}

impl Started {
    fn to_bytes(self) -> Vec<u8> {
        let mut bytes = vec![b'S'];
        for number in [self.at.0, self.minor_faults, self.major_faults] {
            bytes.extend(number.to_ne_bytes());
        }
        bytes
    }

    /// What came through the socket once the launcher has become the function, or has
    /// ended: the start, or why there was none.
    pub fn read(socket: &mut UnixStream) -> Result<Self> {
        let mut bytes = [0; 25];
        let mut read = 0;
        // `exec` closed the other end; never wait for one that did not happen.
        socket.set_nonblocking(true)?;
        while read < bytes.len() {
            match socket.read(&mut bytes[read..]) {
                Ok(0) | Err(_) => break,
                Ok(n) => read += n,
            }
        }
        match bytes[0] {
            b'S' if read == bytes.len() => {
                let number = |i: usize| {
                    let mut number = [0; 8];
                    number.copy_from_slice(&bytes[1 + 8 * i..9 + 8 * i]);
                    u64::from_ne_bytes(number)
                };
                // After the start, only a failed `exec` says anything.
                let mut reason = Vec::new();
                let _ = socket.read_to_end(&mut reason);
                if reason.is_empty() {
                    Ok(Self {
                        at: Moment(number(0)),
                        minor_faults: number(1),
                        major_faults: number(2),
                    })
                } else {
                    bail!("{}", String::from_utf8_lossy(&reason[1..]))
                }
            }
            b'E' => {
                let mut reason = bytes[1..read].to_vec();
                let _ = socket.read_to_end(&mut reason);
                bail!("{}", String::from_utf8_lossy(&reason))
            }
            _ => bail!("the launcher ended without a word"),
        }
    }
}
