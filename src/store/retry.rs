//! A decorator that repeats calls when the link was lost.
//!
//! Reconnecting is the inner store's affair: it makes a new connection when a call finds none alive. Every call
//! is safe to repeat: an object's name stands for its bytes, and what is removed stays removed.

use super::{Length, Listed, Pending, Store, StoreError, Traffic};
use crate::format::name::{Dir, Name};
use bytes::Bytes;
use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

/// How often and how patiently calls are repeated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// How often a call is repeated while no call at all succeeds; then its error is returned.
    pub repeats: u32,
    /// The first pause; each later one is twice as long, and all are shortened at random by up to a half.
    pub first_pause: Duration,
    /// The longest pause.
    pub longest_pause: Duration,
}

impl Default for Patience {
    /// Ten repeats in about five minutes: longer than a router takes to start again.
    fn default() -> Self {
        Self { repeats: 10, first_pause: Duration::from_millis(500), longest_pause: Duration::from_secs(60) }
    }
}

impl Patience {
    /// The pause before repeat `number` (from 1), with `chance` between 0 and 255.
    fn pause(&self, number: u32, chance: u8) -> Duration {
        let doubled = self.first_pause.saturating_mul(1 << (number.saturating_sub(1)).min(20));
        let full = doubled.min(self.longest_pause);
        full - full.mul_f64(f64::from(chance) / 255.0 / 2.0)
    }
}

/// Repeats calls that fail because the link was lost. Failed logins and host keys are never tried again.
pub struct RetryStore {
    inner: Arc<dyn Store>,
    patience: Patience,
    /// Calls that succeeded: while it grows, nobody gives up.
    successes: AtomicU64,
}

/// The failures of one call since any call last succeeded.
struct Failures {
    in_a_row: u32,
    /// The successes of all calls at the last failure.
    successes: u64,
}

impl Failures {
    fn one_more(&mut self, successes: u64) {
        self.in_a_row = if successes == self.successes { self.in_a_row + 1 } else { 1 };
        self.successes = successes;
    }
}

impl RetryStore {
    /// Repeats calls of `inner`.
    pub fn new(inner: Arc<dyn Store>, patience: Patience) -> Self {
        Self { inner, patience, successes: AtomicU64::new(0) }
    }

    fn repeated<'a, T: Send + 'a>(&'a self, call: impl Fn() -> Pending<'a, T> + Send + 'a) -> Pending<'a, T> {
        Box::pin(async move {
            let mut failures = Failures { in_a_row: 0, successes: self.successes.load(Relaxed) };
            loop {
                let error = match call().await {
                    Err(error) if error.kind.is_transient() => error,
                    other => {
                        self.successes.fetch_add(1, Relaxed); // an answer of any kind is progress
                        return other;
                    }
                };
                failures.one_more(self.successes.load(Relaxed));
                self.pause_or_give_up(failures.in_a_row, error).await?;
            }
        })
    }

    async fn pause_or_give_up(&self, repeats: u32, error: StoreError) -> Result<(), StoreError> {
        if repeats > self.patience.repeats {
            return Err(error);
        }
        let mut chance = [0];
        let _ = getrandom::fill(&mut chance); // without randomness the pause is just the longest
        tokio::time::sleep(self.patience.pause(repeats, chance[0])).await;
        Ok(())
    }
}

impl Store for RetryStore {
    fn address(&self) -> String {
        self.inner.address()
    }

    fn create_dirs<'a>(&'a self, dirs: &'a [Dir]) -> Pending<'a, ()> {
        self.repeated(move || self.inner.create_dirs(dirs))
    }

    fn list(&self, dir: Dir) -> Pending<'_, Vec<Listed>> {
        self.repeated(move || self.inner.list(dir))
    }

    fn stat(&self, name: Name) -> Pending<'_, Option<Listed>> {
        self.repeated(move || self.inner.stat(name))
    }

    fn get(&self, name: Name, length: Length) -> Pending<'_, Bytes> {
        self.repeated(move || self.inner.get(name, length))
    }

    fn put(&self, name: Name, bytes: Bytes) -> Pending<'_, ()> {
        self.repeated(move || self.inner.put(name, bytes.clone()))
    }

    fn remove(&self, name: Name) -> Pending<'_, ()> {
        self.repeated(move || self.inner.remove(name))
    }

    fn rename(&self, from: Name, to: Name) -> Pending<'_, ()> {
        self.repeated(move || self.inner.rename(from, to))
    }

    fn free_space(&self) -> Pending<'_, Option<u64>> {
        self.repeated(move || self.inner.free_space())
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
    use crate::store::{
        ErrorKind,
        fault::{Fault, FaultStore},
        memory::MemoryStore,
    };

    const QUICK: Patience =
        Patience { repeats: 3, first_pause: Duration::from_millis(1), longest_pause: Duration::from_millis(2) };

    fn faulty(faults: &[Fault], kind: ErrorKind) -> (Arc<MemoryStore>, Arc<FaultStore>, RetryStore) {
        let memory = Arc::new(MemoryStore::from_contents([].into()));
        let faulty = faults.iter().fold(FaultStore::new(memory.clone()), |store, fault| store.with(*fault));
        let faulty = Arc::new(faulty.failing_as(kind));
        (memory, faulty.clone(), RetryStore::new(faulty, QUICK))
    }

    #[tokio::test]
    async fn a_put_is_repeated_whether_the_request_or_the_answer_was_lost() {
        for fault in [Fault::Before(1), Fault::After(1)] {
            let (memory, calls, store) = faulty(&[fault], ErrorKind::Disconnected);
            store.put(Name::Repository, Bytes::from_static(b"x")).await.unwrap();
            assert_eq!((memory.contents().len(), calls.calls()), (1, 2));
        }
    }

    #[tokio::test]
    async fn a_dead_store_is_given_up_after_the_repeats() {
        let (_, calls, store) = faulty(&[Fault::Killed(1)], ErrorKind::Unreachable);
        assert_eq!(store.stat(Name::Repository).await.unwrap_err().kind, ErrorKind::Unreachable);
        assert_eq!(calls.calls(), 4);
    }

    #[tokio::test]
    async fn a_failed_login_is_never_tried_again() {
        for kind in [ErrorKind::AuthenticationFailed, ErrorKind::HostKeyRefused, ErrorKind::Full] {
            let (_, calls, store) = faulty(&[Fault::Killed(1)], kind);
            assert_eq!(store.stat(Name::Repository).await.unwrap_err().kind, kind);
            assert_eq!(calls.calls(), 1);
        }
    }

    #[test]
    fn nobody_gives_up_while_anybody_makes_progress() {
        let mut failures = Failures { in_a_row: 0, successes: 7 };
        let counted = [7, 7, 8, 8, 9, 10].map(|successes| {
            failures.one_more(successes);
            failures.in_a_row
        });
        assert_eq!(counted, [1, 2, 1, 2, 1, 1]);
    }

    #[test]
    fn pauses_grow_to_the_longest_and_chance_halves_them_at_most() {
        let patience = Patience::default();
        for number in 1..100 {
            let (longest, shortest) = (patience.pause(number, 0), patience.pause(number, 255));
            assert!(longest <= patience.longest_pause && longest >= patience.first_pause);
            assert!(shortest >= longest.mul_f64(0.49) && shortest <= longest);
        }
        assert_eq!(patience.pause(99, 0), patience.longest_pause);
    }
}
