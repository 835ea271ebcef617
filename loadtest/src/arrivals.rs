//! When requests arrive: stochastic processes and recorded traffic.
//!
//! An arrival is a number of nanoseconds since the start, ascending. The same
//! seed gives the same arrivals on every machine.

pub mod process;
pub mod profile;
mod time;
pub mod trace;

use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use process::Process;
pub use time::{ArrivalTimes, Nanos, duration};
use trace::Trace;

/// Where arrivals come from, as named on the command line.
#[derive(Clone, Debug, PartialEq)]
pub enum ArrivalSource {
    /// A stochastic process.
    Process(Process),
    /// A file.
    Trace(PathBuf),
}

impl FromStr for ArrivalSource {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(path) = text.strip_prefix("trace:") {
            return if path.is_empty() {
                Err("trace: wants a file".to_owned())
            } else {
                Ok(Self::Trace(PathBuf::from(path)))
            };
        }
        text.parse().map(Self::Process)
    }
}

/// Arrivals read and ready to be drawn as often as wanted.
#[derive(Clone, Debug)]
pub struct Schedule {
    kind: Kind,
    /// End of the run.
    pub horizon: Nanos,
    /// What the arrivals are, in words.
    pub name: String,
}

/// How a recorded trace is played.
#[derive(Clone, Debug)]
pub struct TraceOptions {
    /// In a trace of many functions, use the one with this name or hash.
    pub function: Option<String>,
    /// Factor of the traffic.
    pub rate_scale: f64,
    /// Factor of the speed.
    pub time_scale: f64,
    /// Where to cut it, if it is longer.
    pub length: Option<Duration>,
}

#[derive(Clone, Debug)]
enum Kind {
    Process(Process),
    Trace {
        trace: Trace,
        rate_scale: f64,
        time_scale: f64,
    },
}

fn scale(what: &str, factor: f64) -> String {
    if (factor - 1.0).abs() < f64::EPSILON {
        String::new()
    } else {
        format!(", {what} × {factor}")
    }
}

impl Schedule {
    /// A process over a length of time.
    pub fn from_process(process: Process, length: Duration) -> Self {
        Self {
            name: process.to_string(),
            horizon: length.as_nanos() as Nanos,
            kind: Kind::Process(process),
        }
    }

    /// Arrivals at `times`, ascending, that were recorded elsewhere.
    pub fn from_times(name: &str, times: &[Nanos]) -> Result<Self> {
        let first = *times
            .first()
            .with_context(|| format!("{name} contains no arrival"))?;
        let trace = Trace::Times(times.iter().map(|time| time - first).collect());
        Ok(Self {
            name: format!("log {name}"),
            horizon: trace.length().max(1),
            kind: Kind::Trace {
                trace,
                rate_scale: 1.0,
                time_scale: 1.0,
            },
        })
    }

    /// What `path` recorded, changed and cut as `options` say.
    pub fn from_trace(path: &Path, options: &TraceOptions) -> Result<Self> {
        let TraceOptions {
            function,
            rate_scale,
            time_scale,
            length,
        } = options;
        let trace = Trace::read(path, function.as_deref())?;
        let whole = (trace.length() as f64 / time_scale) as Nanos;
        let horizon = length.map_or(whole, |length| whole.min(length.as_nanos() as Nanos));
        let file = path.file_name().unwrap_or(path.as_os_str());
        Ok(Self {
            name: format!(
                "trace {}{}{}",
                file.display(),
                scale("traffic", *rate_scale),
                scale("speed", *time_scale)
            ),
            horizon: horizon.max(1),
            kind: Kind::Trace {
                trace,
                rate_scale: *rate_scale,
                time_scale: *time_scale,
            },
        })
    }

    /// The arrivals before the horizon.
    pub fn times(&self, seed: u64) -> ArrivalTimes {
        let horizon = self.horizon;
        let times: ArrivalTimes = match &self.kind {
            Kind::Process(process) => process.times(seed),
            Kind::Trace {
                trace,
                rate_scale,
                time_scale,
            } => trace.times(seed, *rate_scale, *time_scale),
        };
        Box::new(times.take_while(move |time| *time < horizon))
    }

    /// Arrivals a second, mean, as the source has it.
    pub fn mean_rate(&self) -> f64 {
        match &self.kind {
            Kind::Process(process) => process.mean_rate(),
            Kind::Trace {
                trace,
                rate_scale,
                time_scale,
            } => trace.total() / (trace.length().max(1) as f64 / 1e9) * rate_scale * time_scale,
        }
    }

    /// All arrivals as a list, rejected above `most`.
    pub fn list(&self, seed: u64, most: usize) -> Result<Vec<Nanos>> {
        let list: Vec<Nanos> = self.times(seed).take(most + 1).collect();
        ensure!(
            list.len() <= most,
            "more than {most} arrivals; shorten --duration or lower the rate"
        );
        ensure!(
            !list.is_empty(),
            "there is no arrival before the end of the run; raise --duration or the rate"
        );
        Ok(list)
    }

    /// Rate of the busiest minute over the mean rate; of runs below ten minutes, of
    /// the busiest tenth.
    pub fn peak_to_mean(&self, seed: u64) -> Result<f64> {
        let window = (self.horizon / 10).clamp(1, 60_000_000_000);
        let mut counts = vec![0u64; (self.horizon / window) as usize + 1];
        for time in self.times(seed) {
            let slot = counts
                .get_mut((time / window) as usize)
                .context("an arrival is after the end of the run")?;
            *slot += 1;
        }
        let total: u64 = counts.iter().sum();
        let peak = counts.iter().copied().max().unwrap_or(0);
        Ok(if total == 0 {
            1.0
        } else {
            (peak as f64 * self.horizon as f64 / window as f64 / total as f64).max(1.0)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schedule(arrivals: &str, length: &str) -> Schedule {
        Schedule::from_process(arrivals.parse().unwrap(), duration(length).unwrap())
    }

    #[test]
    fn arrivals_end_at_the_horizon_and_repeat_with_the_seed() {
        let schedule = schedule("poisson:100", "10s");
        let [once, again, other] = [1, 1, 2].map(|seed| schedule.list(seed, 10_000).unwrap());
        assert_eq!(once, again);
        assert_ne!(once, other);
        assert!(once.is_sorted() && *once.last().unwrap() < 10_000_000_000);
        assert!(schedule.list(1, 10).is_err());
    }

    #[test]
    fn the_peak_of_a_constant_rate_is_its_mean() {
        let peak = schedule("constant:1000", "10s").peak_to_mean(1).unwrap();
        assert!((peak - 1.0).abs() < 0.01, "{peak}");
        let bursty = schedule("bursty:1:1000:990s:10s", "10000s");
        assert!(bursty.peak_to_mean(1).unwrap() > 5.0);
    }
}
