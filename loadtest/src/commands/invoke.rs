//! `coldread-loadtest invoke`: gives events to a function on the local Lambda, one after another, and
//! prints what a client would get and what Lambda would log.

use super::options::SnapStartOptions;
use crate::interrupt;
use crate::lambda_memory::ONE_VCPU_MB;
use crate::platform::cgroup::Hierarchy;
use crate::platform::function::{Function, Program};
use crate::platform::instance::Settings;
use crate::platform::{Platform, Scaling};
use anyhow::{Context, Result, bail};
use bytes::Bytes;
use clap::Args;
use serde_json::Value;
use std::ffi::OsString;
use std::io::{self, BufRead, Write};
use std::sync::Arc;
use std::time::Duration;

/// Invoke a function with the events on standard input, one JSON document per line
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  coldread-loadtest invoke -- target/release/coldread < events.jsonl
  coldread-loadtest invoke --snapstart -- target/release/coldread < events.jsonl

Responses go to standard output, one per line; what Lambda would log goes to standard error.")]
pub(super) struct InvokeArgs {
    /// Memory size in MB, with its share of CPU
    #[arg(long, default_value_t = ONE_VCPU_MB, value_parser = clap::value_parser!(u32).range(64..=10_240))]
    memory: u32,
    /// Run without limits
    #[arg(long)]
    no_limits: bool,
    #[command(flatten)]
    snapstart: SnapStartOptions,
    /// Timeout of an invocation, in seconds
    #[arg(long, default_value_t = 30)]
    timeout: u64,
    /// Function to run, with its arguments
    #[arg(required = true, last = true)]
    command: Vec<OsString>,
}

impl InvokeArgs {
    /// Invokes the function once for each line. Fails if an invocation did.
    pub(super) fn run(self) -> Result<()> {
        // All of them first: a wait for input would hold up the function as well.
        let events: Vec<String> = io::stdin()
            .lock()
            .lines()
            .collect::<Result<_, _>>()
            .context("cannot read the events")?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        interrupt::listen();
        runtime.block_on(async {
            tokio::select! {
                done = self.invoke_all(events) => done,
                () = interrupt::wait() => Ok(()),
            }
        })
    }

    async fn invoke_all(self, events: Vec<String>) -> Result<()> {
        let mut settings = Settings::new(&std::env::current_exe()?);
        if !self.no_limits {
            match Hierarchy::find() {
                Ok(hierarchy) => settings.hierarchy = Some(Arc::new(hierarchy)),
                Err(error) => eprintln!("running without limits: {error:#}"),
            }
        }
        let mut function = Function::new("function", Program::Command(self.command), self.memory);
        function.timeout = Duration::from_secs(self.timeout);
        function.snapstart = self.snapstart.function();
        if let Some(snapstart) = &function.snapstart {
            eprintln!("{snapstart}");
        }
        let snapstart = function.snapstart.is_some();
        let platform = Platform::new(function, settings, Scaling::default());
        if snapstart && let Err(fault) = platform.publish().await {
            bail!("publishing a version failed: {fault}");
        }
        for event in events.into_iter().filter(|line| !line.trim().is_empty()) {
            let answer = match platform.invoke(Bytes::from(event)).await.result {
                Ok((answer, report)) => {
                    eprintln!("{report}");
                    answer
                }
                Err(fault) => {
                    eprintln!("{fault}");
                    fault.answer()
                }
            };
            print(&answer)?;
        }
        match platform.counts().faults {
            faults if faults.total() == 0 => Ok(()),
            faults => bail!("{faults}"),
        }
    }
}

/// A response on a line of its own, whatever line breaks it has.
fn print(answer: &[u8]) -> Result<()> {
    let mut out = io::stdout().lock();
    match serde_json::from_slice::<Value>(answer) {
        Ok(answer) => writeln!(out, "{answer}")?,
        // What the function posted to `error` may be anything.
        Err(_) => writeln!(out, "{}", Value::from(String::from_utf8_lossy(answer)))?,
    }
    out.flush()?;
    Ok(())
}
