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
/// How often a call that waits looks whether there is a limit still.
const LOOK_AGAIN: Duration = Duration::from_secs(10);

/// Bytes per second at this moment, `None` for no limit. Asked again for each object, so that it may change.
pub type RateNow = Arc<dyn Fn() -> Option<u64> + Send + Sync>;

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
    rate: RateNow,
    clear_at: Mutex<Option<Instant>>,
}

impl Bucket {
    fn new(rate: RateNow) -> Self {
        Self { rate, clear_at: Mutex::new(None) }
    }

    fn fixed(rate: u64) -> Self {
        Self::new(Arc::new(move || Some(rate)))
    }

    /// Reserves `bytes` at `now`; when they may go.
    fn reserve(&self, bytes: u64, now: Instant) -> Instant {
        let mut clear_at = self.clear_at.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(rate) = (self.rate)() else {
            *clear_at = None;
            return now;
        };
        let earliest = now.checked_sub(BURST).unwrap_or(now);
        let start = clear_at.map_or(now, |clear| clear.max(earliest));
        *clear_at = Some(start + Duration::from_secs_f64(bytes as f64 / rate.max(1) as f64));
        start
    }

    /// Waits for its turn, or until there is no limit any more.
    async fn wait(&self, bytes: u64) {
        let turn = self.reserve(bytes, Instant::now());
        while Instant::now() < turn && (self.rate)().is_some() {
            sleep_until(turn.min(Instant::now() + LOOK_AGAIN)).await;
        }
    }
}

async fn wait(bucket: Option<&Bucket>, bytes: u64) {
    if let Some(bucket) = bucket {
        bucket.wait(bytes).await;
    }
}

impl LimitStore {
    /// Limits what passes to and from `inner`.
    pub fn new(inner: Arc<dyn Store>, rates: Rates) -> Self {
        Self { inner, up: rates.up.map(Bucket::fixed), down: rates.down.map(Bucket::fixed) }
    }

    /// Limits what passes to and from `inner`, at rates that change.
    pub fn varying(inner: Arc<dyn Store>, up: Option<RateNow>, down: Option<RateNow>) -> Self {
        Self { inner, up: up.map(Bucket::new), down: down.map(Bucket::new) }
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
        let bucket = Bucket::fixed(1000);
        let start = Instant::now();
        let sent_at: Vec<_> = (0..5).map(|_| bucket.reserve(500, start) - start).collect();
        assert_eq!(sent_at, [0, 500, 1000, 1500, 2000].map(Duration::from_millis));
        let later = start + Duration::from_secs(3600);
        let sent_at: Vec<_> = (0..3).map(|_| bucket.reserve(500, later).saturating_duration_since(later)).collect();
        assert_eq!(sent_at, [0, 0, 500].map(Duration::from_millis));
    }

    #[test]
    fn a_rate_that_changes_counts_from_the_next_object_on_and_none_waits_for_nothing() {
        use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
        let rate = Arc::new(AtomicU64::new(1000));
        let told = Arc::clone(&rate);
        let bucket = Bucket::new(Arc::new(move || Some(told.load(SeqCst)).filter(|&rate| rate > 0)));
        let start = Instant::now();
        let at = |rate_now: u64| {
            rate.store(rate_now, SeqCst);
            (bucket.reserve(1000, start) - start).as_millis()
        };
        assert_eq!([at(1000), at(500), at(500), at(0), at(0), at(1000), at(1000)], [0, 1000, 3000, 0, 0, 0, 1000]);
    }

    #[tokio::test]
    async fn who_waits_goes_on_when_the_limit_is_lifted() {
        use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
        let asked = AtomicU64::new(0);
        // A byte a second, until it has been asked for twice: both objects have their turns then, the second one in eleven days.
        let bucket = Bucket::new(Arc::new(move || (asked.fetch_add(1, SeqCst) < 2).then_some(1)));
        bucket.wait(1_000_000).await;
        bucket.wait(1).await;
    }
}
