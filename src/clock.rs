//! The one place that reads the clock.

use crate::format::manifest::Time;
use std::time::SystemTime;

/// Now, by this machine's clock.
#[must_use]
pub fn now() -> Time {
    SystemTime::now().into()
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
