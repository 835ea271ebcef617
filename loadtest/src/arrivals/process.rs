//! Stochastic arrival processes.

use std::f64::consts::TAU;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, Exp1};

use super::time::{ArrivalTimes, Nanos};
use crate::format::number;

/// Length of a day, seconds.
const DAY: f64 = 86_400.0;

/// How arrivals come about. Rates are requests a second.
#[derive(Clone, Debug, PartialEq)]
pub enum Process {
    /// Evenly spaced.
    Constant(f64),
    /// Independent of each other.
    Poisson(f64),
    /// Poisson at one of two rates, exponential times spent at each: a Markov
    /// modulated Poisson process of two states (Fischer and Meier-Hellstern,
    /// *The MMPP cookbook*, 1993). It starts at the low rate.
    Bursty {
        /// The quiet rate.
        low: f64,
        /// The rate of a burst.
        high: f64,
        /// Mean length of a quiet time, s.
        low_s: f64,
        /// Mean length of a burst, s.
        high_s: f64,
    },
    /// Poisson whose rate follows a cosine over the day, least at its start.
    Diurnal {
        /// Mean rate.
        mean: f64,
        /// Rate at noon over the mean, 1 to 2.
        peak_to_mean: f64,
    },
}

impl Process {
    /// Requests a second in the long run.
    pub fn mean_rate(&self) -> f64 {
        match *self {
            Self::Constant(rate) | Self::Poisson(rate) => rate,
            Self::Bursty {
                low,
                high,
                low_s,
                high_s,
            } => (low * low_s + high * high_s) / (low_s + high_s),
            Self::Diurnal { mean, .. } => mean,
        }
    }

    /// Endless arrivals.
    pub fn times(&self, seed: u64) -> ArrivalTimes {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut exp = move || -> f64 { Exp1.sample(&mut rng) };
        let mut at = 0.0;
        match *self {
            Self::Constant(rate) => {
                Box::new((0u64..).map(move |n| (n as f64 / rate * 1e9) as Nanos))
            }
            Self::Poisson(rate) => Box::new(std::iter::repeat_with(move || {
                at += exp() / rate;
                nanos(at)
            })),
            Self::Bursty {
                low,
                high,
                low_s,
                high_s,
            } => {
                let mut burst = false;
                let mut until = exp() * low_s;
                Box::new(std::iter::repeat_with(move || {
                    loop {
                        let rate = if burst { high } else { low };
                        // Both waits are memoryless, so that the one which was
                        // overtaken may be drawn anew.
                        let next = at + exp() / rate;
                        if next < until {
                            at = next;
                            return nanos(at);
                        }
                        at = until;
                        burst = !burst;
                        until = at + exp() * if burst { high_s } else { low_s };
                    }
                }))
            }
            Self::Diurnal { mean, peak_to_mean } => {
                let mut accept = ChaCha8Rng::seed_from_u64(seed);
                accept.set_stream(1);
                let most = mean * peak_to_mean;
                // Thinning (Lewis and Shedler, 1979).
                Box::new(std::iter::repeat_with(move || {
                    loop {
                        at += exp() / most;
                        let rate = mean * (1.0 - (peak_to_mean - 1.0) * (TAU * at / DAY).cos());
                        if accept.random::<f64>() * most < rate {
                            return nanos(at);
                        }
                    }
                }))
            }
        }
    }
}

fn nanos(seconds: f64) -> Nanos {
    // Saturates, and the horizon lies before.
    (seconds * 1e9) as Nanos
}

impl fmt::Display for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Constant(rate) => write!(f, "constant {}/s", number(*rate)),
            Self::Poisson(rate) => write!(f, "Poisson {}/s", number(*rate)),
            Self::Bursty {
                low,
                high,
                low_s,
                high_s,
            } => write!(
                f,
                "bursty {low}/s for {low_s} s, {high}/s for {high_s} s on average"
            ),
            Self::Diurnal { mean, peak_to_mean } => {
                write!(f, "diurnal {mean}/s, {peak_to_mean} times that at noon")
            }
        }
    }
}

impl FromStr for Process {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts: Vec<&str> = text.split(':').collect();
        let rate = |place: usize| within(parts[place], 1e-9, 1e7);
        let time = |place: usize| -> Result<f64, String> {
            super::time::duration(parts[place])
                .map(|length: Duration| length.as_secs_f64())
                .map_err(|reason| format!("`{}`: {reason}", parts[place]))
        };
        match (parts[0], parts.len()) {
            ("constant", 2) => Ok(Self::Constant(rate(1)?)),
            ("poisson", 2) => Ok(Self::Poisson(rate(1)?)),
            ("bursty", 5) => Ok(Self::Bursty {
                low: rate(1)?,
                high: rate(2)?,
                low_s: time(3)?,
                high_s: time(4)?,
            }),
            ("diurnal", 3) => Ok(Self::Diurnal {
                mean: rate(1)?,
                peak_to_mean: within(parts[2], 1.0, 2.0)?,
            }),
            _ => Err(format!(
                "`{text}` is unknown; expected constant:RATE, poisson:RATE, bursty:LOW:HIGH:LOW-TIME:HIGH-TIME, diurnal:MEAN:PEAK-TO-MEAN or trace:FILE"
            )),
        }
    }
}

fn within(text: &str, low: f64, high: f64) -> Result<f64, String> {
    text.parse()
        .ok()
        .filter(|value| (low..=high).contains(value))
        .ok_or_else(|| format!("`{text}` is not between {low} and {high}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Count and squared coefficient of variation of the gaps over `seconds`.
    fn observe(process: &str, seconds: f64) -> (f64, f64) {
        let process: Process = process.parse().unwrap();
        let times: Vec<f64> = process
            .times(7)
            .map(|time| time as f64 / 1e9)
            .take_while(|time| *time < seconds)
            .collect();
        assert!(times.is_sorted());
        let gaps: Vec<f64> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
        let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
        let variance = gaps.iter().map(|gap| (gap - mean).powi(2)).sum::<f64>() / gaps.len() as f64;
        (times.len() as f64, variance / mean / mean)
    }

    #[test]
    fn rates_and_variation_are_those_of_the_process() {
        let (count, scv) = observe("constant:50", 1_000.0);
        assert!(
            (count - 50_000.0).abs() <= 1.0 && scv < 1e-9,
            "{count} {scv}"
        );
        let (count, scv) = observe("poisson:50", 1_000.0);
        // Five standard deviations of a Poisson count.
        assert!((count - 50_000.0).abs() < 5.0 * 50_000f64.sqrt(), "{count}");
        assert!((scv - 1.0).abs() < 0.05, "{scv}");
        // Mean (2 × 30 + 200 × 3) / 33 = 20 a second; bursts spread the gaps.
        let process: Process = "bursty:2:200:30s:3s".parse().unwrap();
        assert!((process.mean_rate() - 20.0).abs() < 1e-9);
        let (count, scv) = observe("bursty:2:200:30s:3s", 50_000.0);
        assert!((count / 50_000.0 - 20.0).abs() < 2.0, "{count}");
        assert!(scv > 3.0, "{scv}");
    }

    #[test]
    fn a_day_is_busy_at_noon() {
        let process: Process = "diurnal:10:1.8".parse().unwrap();
        let mut by_quarter = [0.0f64; 4];
        for time in process
            .times(3)
            .take_while(|time| *time < 86_400_000_000_000)
        {
            by_quarter[(time / 21_600_000_000_000) as usize] += 1.0;
        }
        // Over six hours about noon or midnight the cosine's mean is ±2√2/π... of a
        // quarter centred there; these quarters start at midnight: 1 ∓ 0.8·2/π.
        let total: f64 = by_quarter.iter().sum();
        assert!((total / 864_000.0 - 1.0).abs() < 0.01, "{total}");
        for (quarter, share) in [(0, -1.0), (1, 1.0), (2, 1.0), (3, -1.0)] {
            let expected = 216_000.0 * (1.0 + share * 0.8 * std::f64::consts::FRAC_2_PI);
            let found = by_quarter[quarter];
            assert!((found / expected - 1.0).abs() < 0.02, "{found} {expected}");
        }
    }

    #[test]
    fn nonsense_is_refused() {
        for text in [
            "poisson",
            "poisson:0",
            "poisson:NaN",
            "poisson:-1",
            "poisson:1:2",
            "bursty:1:2:3",
            "bursty:1:2:0s:1s",
            "diurnal:5:3",
            "steady:5",
            "",
        ] {
            assert!(text.parse::<Process>().is_err(), "{text}");
        }
    }
}
