//! Waits for a moment to within tens of microseconds without burning the core.
//!
//! The runtime's own timers round to a millisecond, which at 20,000 requests/s
//! would release them in lumps of twenty; spinning would take the processor from a
//! server on the same core. A timer file descriptor wakes the runtime's poll at
//! the nanosecond asked for.

//! Elsewhere than on Linux the runtime's timers have to do, and releases are up to a
//! millisecond late.

use std::io;
use std::time::{Duration, Instant};

/// Longest wait in one go, so that Ctrl-C is heard.
const PATIENCE: Duration = Duration::from_millis(200);

pub(crate) struct Pacer {
    timer: Timer,
}

impl Pacer {
    pub(crate) fn new() -> io::Result<Self> {
        let timer = Timer::new()?;
        Ok(Self { timer })
    }

    /// Returns at `moment`, or a little after; at once if it is over, and early
    /// with `false` when the run was asked to stop.
    pub(crate) async fn until(&self, moment: Instant) -> io::Result<bool> {
        loop {
            if crate::interrupt::asked() {
                return Ok(false);
            }
            let wait = moment.saturating_duration_since(Instant::now());
            if wait.is_zero() {
                return Ok(true);
            }
            self.timer.sleep(wait.min(PATIENCE)).await?;
        }
    }
}

#[cfg(not(target_os = "linux"))]
struct Timer;

#[cfg(not(target_os = "linux"))]
impl Timer {
    fn new() -> io::Result<Self> {
        Ok(Self)
    }

    async fn sleep(&self, wait: Duration) -> io::Result<()> {
        tokio::time::sleep(wait).await;
        Ok(())
    }
}

#[cfg(target_os = "linux")]
use linux::Timer;

#[cfg(target_os = "linux")]
mod linux {
    use rustix::time::{
        Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
        timerfd_settime,
    };
    use std::io;
    use std::os::fd::OwnedFd;
    use std::time::Duration;
    use tokio::io::unix::AsyncFd;

    pub(super) struct Timer(AsyncFd<OwnedFd>);

    impl Timer {
        pub(super) fn new() -> io::Result<Self> {
            let timer = timerfd_create(
                TimerfdClockId::Monotonic,
                TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC,
            )?;
            #[expect(
                deprecated,
                reason = "deprecated for types that may close their descriptor early; this one owns it"
            )]
            let timer = AsyncFd::new(timer)?;
            Ok(Self(timer))
        }

        pub(super) async fn sleep(&self, wait: Duration) -> io::Result<()> {
            let it_value = Timespec {
                tv_sec: wait.as_secs() as _,
                tv_nsec: i64::from(wait.subsec_nanos()) as _,
            };
            let once = Itimerspec {
                it_interval: Timespec {
                    tv_sec: 0,
                    tv_nsec: 0,
                },
                it_value,
            };
            timerfd_settime(self.0.get_ref(), TimerfdTimerFlags::empty(), &once)?;
            loop {
                let mut ready = self.0.readable().await?;
                let mut expirations = [0; 8];
                match ready.try_io(|timer| Ok(rustix::io::read(timer.get_ref(), &mut expirations)?))
                {
                    Ok(result) => return result.map(drop),
                    // Woken without an expiration: wait on.
                    Err(_would_block) => {}
                }
            }
        }
    }
}
