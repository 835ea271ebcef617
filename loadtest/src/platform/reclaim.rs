//! When an idle instance is taken away. Lambda does not document it (ten minutes in
//! 2019, 25 to 60 before), so it is a distribution to be chosen.

use rand::RngExt;
use rand_distr::{Distribution, Exp};
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// How long an instance may be idle, in seconds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Reclaim {
    /// Idle instances stay.
    Never,
    /// After exactly so long.
    Fixed(f64),
    /// Anywhere between the two.
    Uniform(f64, f64),
    /// Exponential, with this mean.
    Exponential(f64),
}

impl Reclaim {
    /// Idle times of a trace that is played `factor` times as fast.
    #[must_use]
    pub fn faster(self, factor: f64) -> Self {
        match self {
            Self::Never => Self::Never,
            Self::Fixed(seconds) => Self::Fixed(seconds / factor),
            Self::Uniform(low, high) => Self::Uniform(low / factor, high / factor),
            Self::Exponential(mean) => Self::Exponential(mean / factor),
        }
    }

    /// An idle time; `None` is forever.
    pub fn draw(&self, rng: &mut impl rand::Rng) -> Option<Duration> {
        let seconds = match *self {
            Self::Never => return None,
            Self::Fixed(seconds) => seconds,
            Self::Uniform(low, high) => rng.random_range(low..=high),
            Self::Exponential(mean) => Exp::new(1.0 / mean).ok()?.sample(rng),
        };
        Duration::try_from_secs_f64(seconds).ok()
    }
}

/// A text that is no distribution.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected `never`, `fixed:SECONDS`, `uniform:LOW-HIGH` or `exp:MEAN`, not `{0}`")]
pub struct ReclaimError(String);

impl FromStr for Reclaim {
    type Err = ReclaimError;

    fn from_str(text: &str) -> Result<Self, ReclaimError> {
        let error = || ReclaimError(text.to_owned());
        let seconds = |text: &str| -> Result<f64, ReclaimError> {
            let seconds: f64 = text.parse().map_err(|_| error())?;
            if seconds.is_finite() && (0.0..1e9).contains(&seconds) {
                Ok(seconds)
            } else {
                Err(error())
            }
        };
        if text == "never" {
            return Ok(Self::Never);
        }
        match text.split_once(':').ok_or_else(error)? {
            ("fixed", value) => Ok(Self::Fixed(seconds(value)?)),
            ("uniform", range) => {
                let (low, high) = range.split_once('-').ok_or_else(error)?;
                let (low, high) = (seconds(low)?, seconds(high)?);
                (low <= high)
                    .then_some(Self::Uniform(low, high))
                    .ok_or_else(error)
            }
            ("exp", value) => match seconds(value)? {
                mean if mean > 0.0 => Ok(Self::Exponential(mean)),
                _ => Err(error()),
            },
            _ => Err(error()),
        }
    }
}

impl fmt::Display for Reclaim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Never => f.write_str("never"),
            Self::Fixed(seconds) => write!(f, "fixed:{seconds}"),
            Self::Uniform(low, high) => write!(f, "uniform:{low}-{high}"),
            Self::Exponential(mean) => write!(f, "exp:{mean}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    #[test]
    fn distributions_are_read_as_they_are_written() {
        for text in ["never", "fixed:600", "uniform:300-900.5", "exp:600"] {
            assert_eq!(text.parse::<Reclaim>().unwrap().to_string(), text);
        }
        for text in [
            "",
            "600",
            "fixed:",
            "fixed:-1",
            "fixed:nan",
            "uniform:9-3",
            "exp:0",
        ] {
            assert!(text.parse::<Reclaim>().is_err(), "{text}");
        }
    }

    #[test]
    fn idle_times_follow_the_distribution() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let mut mean = |reclaim: Reclaim| {
            let drawn = (0..20_000).filter_map(|_| reclaim.draw(&mut rng));
            drawn.map(|idle| idle.as_secs_f64()).sum::<f64>() / 20_000.0
        };
        assert!((mean(Reclaim::Fixed(7.0)) - 7.0).abs() < 1e-6);
        assert!((mean(Reclaim::Uniform(2.0, 4.0)) - 3.0).abs() < 0.05);
        assert!((mean(Reclaim::Exponential(600.0)) - 600.0).abs() < 20.0);
        assert_eq!(Reclaim::Never.draw(&mut rng), None);
    }
}
