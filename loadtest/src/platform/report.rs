//! The line that Lambda logs after an invocation.

use crate::clock::Moment;
use std::fmt;
use std::time::Duration;

/// What an invocation took and what is billed for it.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    /// Id the event was delivered under.
    pub request_id: String,
    /// From the event's delivery to its response.
    pub duration: Duration,
    /// Configured memory in MB.
    pub memory_mb: u32,
    /// Largest resident set of the instance so far, in MB; 0 where unknown.
    pub max_memory_mb: u64,
    /// Init phase, on an instance's first invocation.
    pub init: Option<Duration>,
    /// Restore of a snapshot, on an instance's first invocation.
    pub restore: Option<Restored>,
}

/// What a restore took.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Restored {
    /// Loading the snapshot, as stated.
    pub load: Duration,
    /// When the process went on.
    pub resumed: Moment,
    /// The function's hooks, as measured: until it asked for its first event.
    pub hooks: Duration,
}

impl Restored {
    /// Milliseconds that are billed: the begun ones of the hooks.
    pub fn billed_ms(&self) -> u64 {
        self.hooks.as_nanos().div_ceil(1_000_000) as u64
    }
}

impl Report {
    /// What is billed of the instance's start, if it was started for this invocation: its init, or
    /// the hooks of its restore.
    pub fn billed_start(&self) -> Option<Duration> {
        self.init.or(self.restore.map(|restored| restored.hooks))
    }

    /// Milliseconds that are billed: begun ones count, and for images so does init.
    pub fn billed_ms(&self) -> u64 {
        let billed = self.duration + self.init.unwrap_or_default();
        (billed.as_nanos().div_ceil(1_000_000) as u64).max(1)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "REPORT RequestId: {}\tDuration: {:.2} ms\tBilled Duration: {} ms\tMemory Size: {} MB\tMax Memory Used: {} MB\t",
            self.request_id,
            crate::clock::ms(self.duration),
            self.billed_ms(),
            self.memory_mb,
            self.max_memory_mb
        )?;
        if let Some(init) = self.init {
            write!(f, "Init Duration: {:.2} ms\t", crate::clock::ms(init))?;
        }
        match &self.restore {
            Some(restore) => write!(
                f,
                "Restore Duration: {:.2} ms\tBilled Restore Duration: {} ms\t",
                crate::clock::ms(restore.load + restore.hooks),
                restore.billed_ms()
            ),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(duration_us: u64, init_us: Option<u64>) -> Report {
        Report {
            request_id: "8476a536".to_owned(),
            duration: Duration::from_micros(duration_us),
            memory_mb: 512,
            max_memory_mb: 38,
            init: init_us.map(Duration::from_micros),
            restore: None,
        }
    }

    #[test]
    fn a_restore_is_billed_beside_the_duration() {
        let restored = Report {
            restore: Some(Restored {
                load: Duration::from_millis(400),
                resumed: Moment::now(),
                hooks: Duration::from_micros(1_250),
            }),
            ..report(1_480, None)
        };
        assert_eq!(
            restored.to_string(),
            "REPORT RequestId: 8476a536\tDuration: 1.48 ms\tBilled Duration: 2 ms\t\
             Memory Size: 512 MB\tMax Memory Used: 38 MB\t\
             Restore Duration: 401.25 ms\tBilled Restore Duration: 2 ms\t"
        );
    }

    #[test]
    fn the_line_is_that_of_lambda() {
        assert_eq!(
            report(1_480, Some(28_310)).to_string(),
            "REPORT RequestId: 8476a536\tDuration: 1.48 ms\tBilled Duration: 30 ms\t\
             Memory Size: 512 MB\tMax Memory Used: 38 MB\tInit Duration: 28.31 ms\t"
        );
        assert!(!report(1_480, None).to_string().contains("Init"));
    }

    #[test]
    fn begun_milliseconds_are_billed() {
        for (duration_us, init_us, billed_ms) in [
            (0, None, 1),
            (1_000, None, 1),
            (1_001, None, 2),
            (999, Some(2), 2),
            (1_480, Some(28_310), 30),
        ] {
            assert_eq!(report(duration_us, init_us).billed_ms(), billed_ms);
        }
    }
}
