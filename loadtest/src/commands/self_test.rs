//! `coldread-loadtest self-test`: can this machine's client offer the load?
//!
//! A server that does nothing answers on loopback; the client sends at a steady
//! rate and says how late it was. A latency it reports for a real server is worth
//! no more than this.

use std::time::Duration;

use anyhow::{Result, bail};
use clap::Args;

use crate::arrivals::process::Process;
use crate::arrivals::{Schedule, duration};
use crate::format::number;
use crate::generator::{Client, ClientOptions, KEPT_MS, Load, null_server};

/// Check whether this machine's client can offer a load on schedule, against a server that does nothing
#[derive(Debug, Clone, Args)]
pub(super) struct SelfTestArgs {
    /// Requests per second
    #[arg(long, default_value_t = 20_000.0)]
    rate: f64,
    /// Duration
    #[arg(long, default_value = "5s", value_parser = duration)]
    duration: Duration,
    /// Cores of the server, e.g. 0 [default: those of the client]
    #[arg(long)]
    server_cores: Option<String>,
    #[command(flatten)]
    client: ClientOptions,
    /// Hide the progress bar
    #[arg(long)]
    quiet: bool,
}

impl SelfTestArgs {
    /// Measures and prints; fails when the client was late.
    pub(super) fn run(self) -> Result<()> {
        crate::interrupt::listen();
        let addr = null_server::serve(self.server_cores.as_deref())?;
        let client = Client::new(&self.client, &format!("http://{addr}"), 1, self.quiet)?;
        let process: Process = format!("constant:{}", self.rate)
            .parse()
            .map_err(anyhow::Error::msg)?;
        let schedule = Schedule::from_process(process, self.duration);
        let measured = client.run(&Load::Open(schedule), "self-test", 1)?;
        println_ignoring_epipe!("{}", measured.words());
        let reached = measured.ok_per_second >= 0.99 * self.rate;
        if !measured.kept_schedule || !reached {
            bail!(
                "this client cannot offer {} requests/s on this machine within {} ms of the schedule",
                number(self.rate),
                number(KEPT_MS)
            );
        }
        Ok(())
    }
}
