//! A decorator that keeps object bytes under a rate, so that a backup leaves room on the line.

use super::{Length, Listed, Pending, Store, StoreError, Traffic};
use crate::format::name::{Dir, Name};
use bytes::Bytes;
use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::time::{Instant, sleep_until};

/// How much unused time a bucket saves up: after a pause, so much may go out at once.
const BURST: Duration = Duration::from_millis(500);

/// Rates in bytes per second of object bytes; `None` is no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rates {
    /// For what is put.
    pub up: Option<u64>,
    /// For what is got.
    pub down: Option<u64>,
}

/// Delays the calls that move bytes so that their sum stays under the rates.
pub struct LimitStore {
    inner: Arc<dyn Store>,
    up: Option<Bucket>,
    down: Option<Bucket>,
}

/// A token bucket, kept as the time at which all that was promised so far will have passed.
struct Bucket {
    rate: u64,
    clear_at: Mutex<Option<Instant>>,
}

impl Bucket {
    fn new(rate: u64) -> Self {
        Self { rate: rate.max(1), clear_at: Mutex::new(None) }
    }

    /// Reserves `bytes` at `now`; when they may go.
    fn reserve(&self, bytes: u64, now: Instant) -> Instant {
        let mut clear_at = self.clear_at.lock().unwrap_or_else(PoisonError::into_inner);
        let earliest = now.checked_sub(BURST).unwrap_or(now);
        let start = clear_at.map_or(now, |clear| clear.max(earliest));
        *clear_at = Some(start + self.time_for(bytes));
        start
    }

    fn time_for(&self, bytes: u64) -> Duration {
        Duration::from_secs_f64(bytes as f64 / self.rate as f64)
    }
}

async fn wait(bucket: Option<&Bucket>, bytes: u64) {
    if let Some(bucket) = bucket {
        sleep_until(bucket.reserve(bytes, Instant::now())).await;
    }
}

impl LimitStore {
    /// Limits what passes to and from `inner`.
    pub fn new(inner: Arc<dyn Store>, rates: Rates) -> Self {
        Self { inner, up: rates.up.map(Bucket::new), down: rates.down.map(Bucket::new) }
    }

    /// Gets an object, then lets the next one wait for as long as this one should have taken.
    async fn limited_get(&self, name: Name, length: Length) -> Result<Bytes, StoreError> {
        length.check_demand(&name)?; // rather than wait for what will be refused
        match length {
            Length::Exactly(bytes) => wait(self.down.as_ref(), bytes).await,
            Length::AtMost(_) => wait(self.down.as_ref(), 0).await,
        }
        let bytes = self.inner.get(name, length).await?;
        if let (Length::AtMost(_), Some(bucket)) = (length, &self.down) {
            bucket.reserve(bytes.len() as u64, Instant::now());
        }
        Ok(bytes)
    }
}

impl Store for LimitStore {
    fn address(&self) -> String {
        self.inner.address()
    }

    fn create_dirs<'a>(&'a self, dirs: &'a [Dir]) -> Pending<'a, ()> {
        self.inner.create_dirs(dirs)
    }

    fn list(&self, dir: Dir) -> Pending<'_, Vec<Listed>> {
        self.inner.list(dir)
    }

    fn stat(&self, name: Name) -> Pending<'_, Option<Listed>> {
        self.inner.stat(name)
    }

    fn get(&self, name: Name, length: Length) -> Pending<'_, Bytes> {
        Box::pin(self.limited_get(name, length))
    }

    fn put(&self, name: Name, bytes: Bytes) -> Pending<'_, ()> {
        Box::pin(async move {
            wait(self.up.as_ref(), bytes.len() as u64).await;
            self.inner.put(name, bytes).await
        })
    }

    fn remove(&self, name: Name) -> Pending<'_, ()> {
        self.inner.remove(name)
    }

    fn rename(&self, from: Name, to: Name) -> Pending<'_, ()> {
        self.inner.rename(from, to)
    }

    fn free_space(&self) -> Pending<'_, Option<u64>> {
        self.inner.free_space()
    }

    fn close(&self) -> Pending<'_, ()> {
        self.inner.close()
    }

    fn traffic(&self) -> Traffic {
        self.inner.traffic()
    }

    fn expect(&self, bytes: u64) {
        self.inner.expect(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sent_never_exceeds_the_rate_and_a_pause_saves_up_little() {
        let bucket = Bucket::new(1000);
        let start = Instant::now();
        let sent_at: Vec<_> = (0..5).map(|_| bucket.reserve(500, start) - start).collect();
        assert_eq!(sent_at, [0, 500, 1000, 1500, 2000].map(Duration::from_millis));
        let later = start + Duration::from_secs(3600);
        let sent_at: Vec<_> = (0..3).map(|_| bucket.reserve(500, later).saturating_duration_since(later)).collect();
        assert_eq!(sent_at, [0, 0, 500].map(Duration::from_millis));
    }
}
