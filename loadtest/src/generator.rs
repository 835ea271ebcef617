//! Puts load on an HTTP server and measures what its clients see.
//!
//! **Open loop**: requests are sent at intended times, whatever became of the earlier
//! ones. Latency counts from the intended time, so that a stalled server or a late
//! client cannot hide requests that were never sent (Tene's "coordinated omission").
//! How late the client itself was is measured and reported: a run whose 99th percentile
//! of schedule error exceeds [`KEPT_MS`] has not offered the load that it claims.
//!
//! **Closed loop**: a fixed number of clients, each of which waits for its response
//! before it sends the next request. It finds the most that a server can do, and
//! flatters its latency.

pub mod bodies;
mod client;
mod endpoint;
mod load;
pub mod null_server;
pub(crate) mod pacer;
mod record;
mod worker;

pub use client::{Client, ClientOptions};
pub use endpoint::Endpoint;
pub use load::{KEPT_MS, Load};
pub use record::{Measured, ScheduleError};

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};
use indicatif::{ProgressBar, ProgressStyle};

impl Client {
    /// Offers `load` and measures. Ctrl-C ends it early, with what was measured so far.
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
        "{answered} responses, {:.0}/s,",
        answered as f64 / elapsed.as_secs_f64().max(0.001)
    ));
}

#[cfg(test)]
mod tests;
