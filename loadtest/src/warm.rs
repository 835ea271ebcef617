//! The always-on baseline: what one server sustains within a latency target, and its
//! latency at that rate.
//!
//! Closed loops with more and more clients find the most that the server can do. Open
//! loops with Poisson arrivals then search for the highest rate whose 99th percentile is
//! within the target. That rate counts when it holds once more, for twice as long and
//! with other arrivals.

pub mod server;

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::arrivals::Schedule;
use crate::arrivals::process::Process;
use crate::format::number;
use crate::generator::{Client, Load, Measured};
use crate::interrupt;

/// Callers of the largest closed loop.
const MOST_CALLERS: usize = 64;
/// The search ends when its ends are closer than this factor.
const CLOSE: f64 = 1.05;
/// Runs that may fail to confirm before the search gives up.
const CONFIRMATIONS: usize = 5;

/// One rate tried.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Step {
    /// Requests a second offered.
    pub rate: f64,
    /// Why the rate does not count, if it does not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed: Option<String>,
    /// Whether it was a confirmation.
    pub confirming: bool,
    /// What was measured.
    pub measured: Measured,
}

/// What the search found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Warm {
    /// The result in sentences.
    pub verdict: Vec<String>,
    /// The server, as given.
    pub server: String,
    /// Cores it was bound to; absent when it was not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server_cores: Option<usize>,
    /// Posts in a request.
    pub posts_per_request: usize,
    /// Characters of a post, mean.
    pub post_chars: f64,
    /// The latency target, ms.
    pub target_p99_ms: f64,
    /// Median latency of a single client, ms: the service time and the way there.
    pub service_ms: f64,
    /// Closed loops by number of clients.
    pub closed: Vec<Measured>,
    /// Rates tried, in order.
    pub steps: Vec<Step>,
    /// Highest confirmed rate, requests a second; absent if none held.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capacity_rps: Option<f64>,
    /// The confirming run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at_capacity: Option<Measured>,
}

/// What is measured, and how.
#[derive(Clone, Debug)]
pub struct WarmOptions {
    /// The server, as the results name it.
    pub server: String,
    /// Cores it is bound to, if it is.
    pub server_cores: Option<usize>,
    /// Posts in a request.
    pub posts_per_request: usize,
    /// Latency target for the 99th percentile.
    pub target_p99: Duration,
    /// Length of one run.
    pub step: Duration,
    /// Seed of the arrivals.
    pub seed: u64,
}

impl Warm {
    /// Searches with `client`, once its server answers.
    pub fn measure(client: &Client, options: WarmOptions) -> Result<Self> {
        wait_until_ready(client)?;
        let mut search = Search {
            client,
            target_ms: options.target_p99.as_secs_f64() * 1e3,
            step: options.step,
            seed: options.seed,
            steps: Vec::new(),
        };
        let closed = search.closed_loops()?;
        let most = closed
            .iter()
            .map(|run| run.ok_per_second)
            .fold(0.0, f64::max);
        let found = search.capacity(most)?;
        let mut warm = Self {
            verdict: Vec::new(),
            server: options.server,
            server_cores: options.server_cores,
            posts_per_request: options.posts_per_request,
            post_chars: client.mean_chars(),
            target_p99_ms: search.target_ms,
            service_ms: closed.first().map_or(0.0, |run| run.latency_ms.p50),
            closed,
            capacity_rps: found.as_ref().map(|step| step.rate),
            at_capacity: found.map(|step| step.measured),
            steps: search.steps,
        };
        warm.verdict = warm.words();
        Ok(warm)
    }

    fn words(&self) -> Vec<String> {
        let mut words = vec![match (&self.capacity_rps, &self.at_capacity) {
            (Some(rate), Some(run)) => format!(
                "Capacity within p99 {} ms: {} requests/s ({} posts/s){}; p50 {} ms, p99 {} ms there.",
                number(self.target_p99_ms),
                number(*rate),
                number(rate * self.posts_per_request as f64),
                self.server_cores
                    .map_or_else(String::new, |cores| format!(" on {cores} core(s)")),
                number(run.latency_ms.p50),
                number(run.latency_ms.p99)
            ),
            _ => format!("No rate held p99 {} ms.", number(self.target_p99_ms)),
        }];
        words.extend(self.closed.iter().map(Measured::words));
        words.extend(self.steps.iter().map(|step| {
            format!(
                "{} requests/s{}: {}. {}",
                number(step.rate),
                if step.confirming { ", confirming" } else { "" },
                step.failed.as_deref().unwrap_or("holds"),
                step.measured.words()
            )
        }));
        words
    }
}

fn wait_until_ready(client: &Client) -> Result<()> {
    let until = Instant::now() + Duration::from_secs(30);
    let one = Load::Closed {
        callers: 1,
        length: Duration::from_millis(300),
    };
    loop {
        let run = client.run(&one, "warm-up", 0)?;
        if run.ok > 0 {
            return Ok(());
        }
        ensure!(
            Instant::now() < until && !interrupt::asked(),
            "the server responds to no request with 200: {:?}",
            run.faults
        );
    }
}

struct Search<'a> {
    client: &'a Client,
    target_ms: f64,
    step: Duration,
    seed: u64,
    steps: Vec<Step>,
}

impl Search<'_> {
    /// Doubles the clients until more of them bring no more responses.
    fn closed_loops(&self) -> Result<Vec<Measured>> {
        let mut runs: Vec<Measured> = Vec::new();
        let mut callers = 1;
        while callers <= MOST_CALLERS && !interrupt::asked() {
            let load = Load::Closed {
                callers,
                length: self.step,
            };
            let run = self.client.run(&load, "closed loop", self.seed)?;
            let gained = runs
                .last()
                .is_none_or(|last| run.ok_per_second > 1.05 * last.ok_per_second);
            runs.push(run);
            if !gained {
                break;
            }
            callers *= 2;
        }
        Ok(runs)
    }

    /// The highest rate that holds and is confirmed.
    fn capacity(&mut self, most: f64) -> Result<Option<Step>> {
        let (mut holds, mut fails) = (0.0, most * 1.1);
        let mut rate = most * 0.7;
        while rate >= 0.1 && fails / f64::max(holds, 1e-9) > CLOSE && !interrupt::asked() {
            if self.holds(rate, false)? {
                holds = rate;
            } else {
                fails = rate;
            }
            rate = if holds > 0.0 {
                f64::midpoint(holds, fails)
            } else {
                fails / 2.0
            };
        }
        rate = holds;
        for _ in 0..CONFIRMATIONS {
            if rate < 0.1 || interrupt::asked() {
                break;
            }
            if self.holds(rate, true)? {
                return Ok(self.steps.last().cloned());
            }
            rate /= CLOSE;
        }
        Ok(None)
    }

    fn holds(&mut self, rate: f64, confirming: bool) -> Result<bool> {
        let length = if confirming { self.step * 2 } else { self.step };
        let schedule = Schedule::from_process(Process::Poisson(rate), length);
        // Every run has arrivals of its own: a lucky draw is not the answer.
        let seed = self.seed + 1 + self.steps.len() as u64;
        let measured = self.client.run(
            &Load::Open(schedule),
            &format!("open loop {}/s", number(rate)),
            seed,
        )?;
        let failed = self.reason(&measured);
        let holds = failed.is_none();
        self.steps.push(Step {
            rate,
            failed,
            confirming,
            measured,
        });
        Ok(holds)
    }

    fn reason(&self, run: &Measured) -> Option<String> {
        if run.faults.values().sum::<u64>() > 0 {
            Some("requests failed".to_owned())
        } else if run.ok == 0 {
            Some("no request got a response".to_owned())
        } else if run.latency_ms.p99 > self.target_ms {
            // Latency counts from the intended time, so a late client only ever makes
            // a rate fail that would have held.
            let client = if run.kept_schedule {
                ""
            } else {
                "; the client was late, it may be its fault"
            };
            Some(format!("p99 {} ms{client}", number(run.latency_ms.p99)))
        } else {
            None
        }
    }
}
