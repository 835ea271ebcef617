//! Loads an HTTP server and measures what its callers see.
//!
//! **Open loop**: requests leave at intended times, whatever became of those
//! before. Latency counts from the intended time, so that a stalled server or a
//! late client cannot hide requests that nobody sent (Tene's "coordinated
//! omission"). How late the client itself was is measured and said: a run whose
//! 99th percentile of schedule error exceeds [`KEPT_MS`] has not offered the load
//! it claims.
//!
//! **Closed loop**: a fixed number of callers, each waiting for its answer before
//! it asks again. It finds the most a server can do, and flatters its latency.

pub mod bodies;
mod endpoint;
pub mod null_server;
pub(crate) mod pacer;
mod record;
mod worker;

pub use endpoint::Endpoint;
pub use record::{Measured, ScheduleError};

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow, bail, ensure};
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use tokio::task::LocalSet;

use crate::arrivals::{Schedule, duration};
use bodies::Bodies;

/// Schedule error at the 99th percentile up to which a run offered its load, ms.
pub const KEPT_MS: f64 = 1.0;

/// How requests are sent.
#[derive(Debug, Clone, Args)]
pub struct ClientOptions {
    /// Path that is called
    #[arg(long, default_value = "/v1/sentiment")]
    pub path: String,
    /// Posts to send: .txt has one a line, .tsv and .csv a column `text` or their last one; made-up posts without it
    #[arg(long, value_name = "FILE")]
    pub posts: Option<PathBuf>,
    /// Posts in a request
    #[arg(long, default_value_t = 1)]
    pub batch: usize,
    /// Header of every request, e.g. "x-api-key: ..."; its value is not recorded
    #[arg(long = "header", value_name = "NAME: VALUE")]
    pub headers: Vec<String>,
    /// Connections at most
    #[arg(long, default_value_t = 512)]
    pub connections: usize,
    /// Threads of the client
    #[arg(long, default_value_t = 1)]
    pub client_threads: usize,
    /// A request fails after this time
    #[arg(long, default_value = "10s", value_parser = duration)]
    pub timeout: Duration,
}

/// One server under load.
#[derive(Clone)]
pub struct Client {
    endpoint: Arc<Endpoint>,
    bodies: Arc<Bodies>,
    connections: usize,
    threads: usize,
    timeout: Duration,
    quiet: bool,
}

/// What is offered.
#[derive(Clone)]
pub enum Load {
    /// Requests at intended times.
    Open(Schedule),
    /// Callers that wait for their answers, and how long.
    Closed {
        /// Number of callers.
        callers: usize,
        /// Length of the run.
        length: Duration,
    },
}

impl Client {
    /// A client of `url` (scheme, host and port; the path comes from `args`).
    pub fn new(args: &ClientOptions, url: &str, seed: u64, quiet: bool) -> Result<Self> {
        ensure!(
            (1..=65_536).contains(&args.connections) && (1..=64).contains(&args.client_threads),
            "--connections must be 1 to 65536 and --client-threads 1 to 64"
        );
        Ok(Self {
            endpoint: Arc::new(Endpoint::new(url, &args.path, &args.headers)?),
            bodies: Arc::new(Bodies::new(args.posts.as_deref(), args.batch, seed)?),
            connections: args.connections,
            threads: args.client_threads,
            timeout: args.timeout,
            quiet,
        })
    }

    /// Fails if the server cannot be had: a certificate that is refused, for one, would
    /// refuse every request of a run in its turn.
    pub fn check(&self) -> Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let connected = LocalSet::new().block_on(&runtime, async {
            // Made here, where there is a runtime to tell the time.
            tokio::time::timeout(self.timeout, self.endpoint.connect()).await
        });
        match connected {
            Ok(Ok(_connection)) => Ok(()),
            Ok(Err(unreachable)) => bail!("{}: {unreachable}", self.endpoint),
            Err(_elapsed) => bail!("{}: no connection within {:?}", self.endpoint, self.timeout),
        }
    }

    /// Characters of a post, mean.
    pub fn mean_chars(&self) -> f64 {
        self.bodies.mean_chars
    }

    /// Offers `load` and measures. Ends early, with what there is, on Ctrl-C.
    pub fn run(&self, load: &Load, name: &str, seed: u64) -> Result<Measured> {
        let progress = Arc::new(AtomicU64::new(0));
        let start = Instant::now() + Duration::from_millis(20);
        let workers: Vec<_> = (0..self.threads)
            .map(|index| {
                let (client, load, progress) = (self.clone(), load.clone(), progress.clone());
                let thread = worker::Thread { index, seed, start };
                std::thread::spawn(move || worker::run(&client, &load, thread, &progress))
            })
            .collect();
        let length = match load {
            Load::Open(schedule) => Duration::from_nanos(schedule.horizon),
            Load::Closed { length, .. } => *length,
        };
        let bar = bar(self.quiet, name, length);
        while workers.iter().any(|worker| !worker.is_finished()) {
            std::thread::sleep(Duration::from_millis(20));
            show(&bar, start, &progress);
        }
        bar.finish_and_clear();
        let mut records = Vec::new();
        for worker in workers {
            records.push(
                worker
                    .join()
                    .map_err(|_| anyhow!("a thread of the client failed"))??,
            );
        }
        Ok(record::merge(records, load))
    }
}

/// A bar over the length of a run, on standard error.
fn bar(quiet: bool, name: &str, length: Duration) -> ProgressBar {
    if quiet {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(length.as_millis() as u64);
    bar.set_style(
        ProgressStyle::with_template("{prefix} {bar:24} {msg} {eta} left")
            .expect("the template is valid"),
    );
    bar.set_prefix(name.to_owned());
    bar
}

fn show(bar: &ProgressBar, start: Instant, answered: &AtomicU64) {
    let elapsed = start.elapsed();
    bar.set_position(elapsed.as_millis() as u64);
    let answered = answered.load(Ordering::Relaxed);
    bar.set_message(format!(
        "{answered} answers, {:.0}/s,",
        answered as f64 / elapsed.as_secs_f64().max(0.001)
    ));
}

#[cfg(test)]
mod tests;
