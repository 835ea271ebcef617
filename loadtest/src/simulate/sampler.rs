//! Lengths of time: fixed, from a distribution, or drawn from measured ones.

use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, Exp1, StandardNormal};

use crate::arrivals::Nanos;

/// A length of time, in nanoseconds.
#[derive(Clone, Debug, PartialEq)]
pub enum Sampler {
    /// Always the same.
    Constant(Nanos),
    /// Anything between two ends.
    Uniform(Nanos, Nanos),
    /// Exponential with this mean.
    Exponential(f64),
    /// Lognormal: median, and the standard deviation of the logarithm.
    LogNormal(f64, f64),
    /// Measured values in ascending order; between neighbours interpolated.
    Measured(Arc<[Nanos]>),
}

/// The 99th percentile of the standard normal distribution.
const Z99: f64 = 2.326_347_874;

impl Sampler {
    /// A fixed number of milliseconds.
    pub fn constant_ms(ms: f64) -> Self {
        Self::Constant((ms * 1e6).round() as Nanos)
    }

    /// Measured milliseconds.
    pub fn measured_ms(values: &[f64]) -> Result<Self> {
        ensure!(!values.is_empty(), "the file contains no measured time");
        ensure!(
            values.iter().all(|value| (0.0..=1e9).contains(value)),
            "a measured time is not between 0 and a million seconds"
        );
        let mut nanos: Vec<Nanos> = values.iter().map(|ms| (ms * 1e6) as Nanos).collect();
        nanos.sort_unstable();
        Ok(Self::Measured(nanos.into()))
    }

    /// Milliseconds from a file, one number a line.
    pub fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("{}: cannot be read", path.display()))?;
        let mut values = Vec::new();
        for (place, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() {
                continue;
            }
            let value = line
                .parse::<f64>()
                .ok()
                .filter(|ms| (0.0..=1e9).contains(ms));
            values.push(value.with_context(|| {
                format!(
                    "{}:{}: not a number of milliseconds",
                    path.display(),
                    place + 1
                )
            })?);
        }
        Self::measured_ms(&values).with_context(|| path.display().to_string())
    }

    /// The same lengths, each `factor` times as long.
    #[must_use]
    pub fn scaled(&self, factor: f64) -> Self {
        let scale = |value: Nanos| (value as f64 * factor).round() as Nanos;
        match self {
            Self::Constant(value) => Self::Constant(scale(*value)),
            Self::Uniform(low, high) => Self::Uniform(scale(*low), scale(*high)),
            Self::Exponential(mean) => Self::Exponential(mean * factor),
            Self::LogNormal(median, sigma) => Self::LogNormal(median * factor, *sigma),
            Self::Measured(values) => {
                Self::Measured(values.iter().map(|value| scale(*value)).collect())
            }
        }
    }

    /// One length.
    pub fn draw(&self, rng: &mut ChaCha8Rng) -> Nanos {
        match self {
            Self::Constant(value) => *value,
            Self::Uniform(low, high) => rng.random_range(*low..=*high),
            Self::Exponential(mean) => {
                let unit: f64 = Exp1.sample(rng);
                (unit * mean) as Nanos
            }
            Self::LogNormal(median, sigma) => {
                let z: f64 = StandardNormal.sample(rng);
                (median * (z * sigma).exp()) as Nanos
            }
            Self::Measured(values) => {
                let place = rng.random::<f64>() * (values.len() - 1) as f64;
                let below = values[place as usize];
                let above = values[(place as usize + 1).min(values.len() - 1)];
                below + ((above - below) as f64 * place.fract()) as Nanos
            }
        }
    }

    /// The least it can be.
    pub fn least(&self) -> Nanos {
        match self {
            Self::Constant(value) | Self::Uniform(value, _) => *value,
            Self::Exponential(_) | Self::LogNormal(..) => 0,
            Self::Measured(values) => values[0],
        }
    }

    /// The mean, milliseconds.
    pub fn mean_ms(&self) -> f64 {
        let nanos = match self {
            Self::Constant(value) => *value as f64,
            Self::Uniform(low, high) => f64::midpoint(*low as f64, *high as f64),
            Self::Exponential(mean) => *mean,
            Self::LogNormal(median, sigma) => median * (sigma * sigma / 2.0).exp(),
            Self::Measured(values) if values.len() == 1 => values[0] as f64,
            Self::Measured(values) => {
                // Each gap between neighbours is as likely as any other.
                let gaps = values
                    .windows(2)
                    .map(|pair| f64::midpoint(pair[0] as f64, pair[1] as f64));
                gaps.sum::<f64>() / (values.len() - 1) as f64
            }
        };
        nanos / 1e6
    }
}

impl FromStr for Sampler {
    type Err = String;

    /// `10ms`, `exp:10ms`, `uniform:5m:15m`, `lognormal:10ms:40ms` (median and 99th
    /// percentile) or `file:PATH` (milliseconds, one a line).
    fn from_str(text: &str) -> Result<Self, String> {
        let length = |text: &str| {
            if text == "0" {
                return Ok(0.0);
            }
            crate::arrivals::duration(text)
                .map(|length| length.as_nanos() as f64)
                .map_err(|reason| format!("`{text}`: {reason}"))
        };
        if let Some(path) = text.strip_prefix("file:") {
            return Self::read(Path::new(path)).map_err(|error| format!("{error:#}"));
        }
        let parts: Vec<&str> = text.split(':').collect();
        match parts.as_slice() {
            ["exp", mean] => Ok(Self::Exponential(length(mean)?)),
            ["uniform", low, high] => {
                let (low, high) = (length(low)? as Nanos, length(high)? as Nanos);
                if low > high {
                    return Err(format!("`{text}`: the ends are the wrong way round"));
                }
                Ok(Self::Uniform(low, high))
            }
            ["lognormal", median, p99] => {
                let (median, p99) = (length(median)?, length(p99)?);
                if median <= 0.0 || p99 < median {
                    return Err(format!("`{text}`: the p99 lies below the median"));
                }
                Ok(Self::LogNormal(median, (p99 / median).ln() / Z99))
            }
            [value] => Ok(Self::Constant(length(value)? as Nanos)),
            _ => Err(format!(
                "`{text}` is unknown; expected a time such as 10ms, exp:MEAN, uniform:LOW:HIGH, lognormal:MEDIAN:P99 or file:PATH"
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;

    #[test]
    fn draws_have_the_mean_they_say() {
        for text in [
            "10ms",
            "exp:10ms",
            "uniform:5ms:15ms",
            "lognormal:10ms:40ms",
        ] {
            let sampler: Sampler = text.parse().unwrap();
            let mut rng = ChaCha8Rng::seed_from_u64(5);
            let n = 200_000;
            let sum: f64 = (0..n).map(|_| sampler.draw(&mut rng) as f64 / 1e6).sum();
            let (found, said) = (sum / f64::from(n), sampler.mean_ms());
            assert!((found / said - 1.0).abs() < 0.01, "{text}: {found} {said}");
            let halved = sampler.scaled(0.5).mean_ms();
            assert!(
                (halved / said - 0.5).abs() < 1e-6,
                "{text}: {halved} {said}"
            );
        }
        let measured = Sampler::measured_ms(&[4.0, 1.0, 2.0]).unwrap();
        // Gaps 1..2 and 2..4 equally often: (1.5 + 3) / 2.
        assert!((measured.mean_ms() - 2.25).abs() < 1e-9);
        let mut rng = ChaCha8Rng::seed_from_u64(5);
        let draws: Vec<Nanos> = (0..1_000).map(|_| measured.draw(&mut rng)).collect();
        assert!(
            draws
                .iter()
                .all(|draw| (1_000_000..=4_000_000).contains(draw))
        );
    }

    #[test]
    fn nonsense_is_refused() {
        for text in [
            "",
            "ten",
            "exp",
            "uniform:5m",
            "uniform:9m:5m",
            "lognormal:9ms:5ms",
            "1:2:3:4",
        ] {
            assert!(text.parse::<Sampler>().is_err(), "{text}");
        }
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ms.txt");
        std::fs::write(&path, "1.5\n\nslow\n").unwrap();
        let error = Sampler::read(&path).unwrap_err().to_string();
        assert!(
            error.ends_with("ms.txt:3: not a number of milliseconds"),
            "{error}"
        );
        std::fs::write(&path, "").unwrap();
        assert!(Sampler::read(&path).is_err());
    }
}
