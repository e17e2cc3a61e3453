//! The one place that reads the clock.

use crate::format::manifest::Time;
use std::time::{Duration, SystemTime};

/// Now, by this machine's clock.
#[must_use]
pub fn now() -> Time {
    SystemTime::now().into()
}

/// How long this machine has been running, the time it was asleep included: for spans, not for dates.
#[must_use]
pub fn uptime() -> Duration {
    use rustix::time::{ClockId, clock_gettime};
    #[cfg(target_os = "linux")]
    let read = clock_gettime(ClockId::Boottime);
    #[cfg(not(target_os = "linux"))]
    let read = clock_gettime(ClockId::Monotonic);
    let since = Duration::try_from(read).unwrap_or_default();
    #[cfg(test)]
    let since = since + shift::get();
    since
}

/// Seconds and nanoseconds as the format has them.
impl From<std::time::SystemTime> for Time {
    fn from(time: std::time::SystemTime) -> Self {
        match time.duration_since(std::time::UNIX_EPOCH) {
            Ok(after) => Time { seconds: after.as_secs() as i64, nanoseconds: after.subsec_nanos() },
            Err(before) => {
                let before = before.duration();
                let borrow = i64::from(before.subsec_nanos() > 0);
                let nanoseconds = if borrow == 1 { 1_000_000_000 - before.subsec_nanos() } else { 0 };
                Time { seconds: -(before.as_secs() as i64) - borrow, nanoseconds }
            }
        }
    }
}

/// Lets tests pass time.
#[cfg(test)]
pub(crate) mod shift {
    use std::{
        sync::atomic::{AtomicU64, Ordering::SeqCst},
        time::Duration,
    };

    static SECONDS: AtomicU64 = AtomicU64::new(0);

    /// How much has been passed.
    pub fn get() -> Duration {
        Duration::from_secs(SECONDS.load(SeqCst))
    }

    /// Passes so much more.
    pub fn advance(seconds: u64) {
        SECONDS.fetch_add(seconds, SeqCst);
    }
}
