//! Moments and lengths of a run.

use std::time::Duration;

/// Nanoseconds since the start of a run.
pub type Nanos = u64;

/// Ascending arrival times.
pub type ArrivalTimes = Box<dyn Iterator<Item = Nanos> + Send>;

/// A duration above zero and below 100 years.
pub fn duration(text: &str) -> Result<Duration, String> {
    let duration = humantime::parse_duration(text).map_err(|error| error.to_string())?;
    if duration.is_zero() || duration > Duration::from_hours(100 * 366 * 24) {
        return Err("must be above zero and below 100 years".to_owned());
    }
    Ok(duration)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_limits() {
        assert_eq!(duration("2h 30m").unwrap().as_secs(), 9_000);
        for text in ["", "0s", "5", "-3s", "1000years", "many"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }
}
