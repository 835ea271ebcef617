//! `coldread-loadtest warm`: what an always-on server sustains.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use clap::Args;

use super::options::{CommonOptions, default_binary};
use crate::arrivals::duration;
use crate::cores;
use crate::generator::{Client, ClientOptions};
use crate::interrupt;
use crate::results::Results;
use crate::warm::server::Server;
use crate::warm::{Warm, WarmOptions};

/// Find the highest rate that a warm server sustains within a latency target
#[derive(Debug, Clone, Args)]
pub(super) struct WarmArgs {
    /// URL of a running server, e.g. https://... [default: start one]
    #[arg(long, conflicts_with = "binary")]
    url: Option<String>,
    /// coldread binary to start [default: the one beside this program]
    #[arg(long, value_name = "FILE")]
    binary: Option<PathBuf>,
    /// Cores of the started server, e.g. 1 or 0,2-3
    #[arg(long, conflicts_with = "url")]
    server_cores: Option<String>,
    /// Latency target for the 99th percentile
    #[arg(long, default_value = "50ms", value_parser = duration)]
    target_p99: Duration,
    /// Duration of each run of the search
    #[arg(long, default_value = "3s", value_parser = duration)]
    step: Duration,
    #[command(flatten)]
    client: ClientOptions,
    #[command(flatten)]
    common: CommonOptions,
}

impl WarmArgs {
    /// Measures, prints and writes.
    pub(super) fn run(self) -> Result<()> {
        interrupt::listen();
        let cores = self.server_cores.as_deref().map(cores::parse).transpose()?;
        let server = match &self.url {
            Some(url) => Server::from_url(url),
            None => {
                let binary = self.binary.clone().unwrap_or_else(default_binary);
                Server::start(&binary, cores.as_deref())?
            }
        };
        let client = Client::new(
            &self.client,
            &server.url,
            self.common.seed,
            self.common.quiet,
        )?;
        client.check()?;
        let options = WarmOptions {
            server: self
                .url
                .clone()
                .unwrap_or_else(|| "coldread serve".to_owned()),
            server_cores: cores.map(|cores| cores.len()),
            posts_per_request: self.client.batch,
            target_p99: self.target_p99,
            step: self.step,
            seed: self.common.seed,
        };
        let warm = Warm::measure(&client, options)?;
        for sentence in &warm.verdict {
            println_ignoring_epipe!("{sentence}");
        }
        if let Some(path) = &self.common.json {
            let mut results = Results::new(self.common.seed);
            results.warm = Some(warm);
            results.write(path)?;
        }
        Ok(())
    }
}
