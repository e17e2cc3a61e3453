//! A decorator for tests: calls that fail, a client killed at call `n`, a slow link, bytes that rot.

use super::{ErrorKind, Length, Listed, Pending, Store, StoreError, Traffic};
use crate::format::name::{Dir, Name};
use bytes::Bytes;
use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

/// What goes wrong, and at which call. Calls count from 1, in the order in which they are first polled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The nth call fails and does nothing.
    Before(u64),
    /// The nth call is done, yet reported as failed: an answer lost on the way.
    After(u64),
    /// The nth call and all later ones fail and do nothing: the client died there.
    Killed(u64),
    /// The nth call is done, and its answer and all later calls fail: the client died right after it.
    KilledAfter(u64),
    /// The nth call, if it reads an object, delivers it with its middle bit flipped.
    Corrupt(u64),
}

/// Injects faults and delay between a caller and a store.
pub struct FaultStore {
    inner: Arc<dyn Store>,
    faults: Vec<Fault>,
    kind: ErrorKind,
    latency: Duration,
    calls: AtomicU64,
}

/// What is to become of one call.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    Pass,
    FailBefore,
    FailAfter,
    Corrupt,
}

impl Fault {
    fn fate(self, call: u64) -> Fate {
        match self {
            Fault::Before(n) if call == n => Fate::FailBefore,
            Fault::After(n) if call == n => Fate::FailAfter,
            Fault::Killed(n) if call >= n => Fate::FailBefore,
            Fault::KilledAfter(n) if call == n => Fate::FailAfter,
            Fault::KilledAfter(n) if call > n => Fate::FailBefore,
            Fault::Corrupt(n) if call == n => Fate::Corrupt,
            _ => Fate::Pass,
        }
    }
}

impl FaultStore {
    /// Lets everything pass until [`with`](Self::with) or [`delayed`](Self::delayed) says otherwise.
    pub fn new(inner: Arc<dyn Store>) -> Self {
        Self {
            inner,
            faults: Vec::new(),
            kind: ErrorKind::Disconnected,
            latency: Duration::ZERO,
            calls: AtomicU64::new(0),
        }
    }

    /// Adds a fault; where several apply to a call, the first that was added counts.
    #[must_use]
    pub fn with(mut self, fault: Fault) -> Self {
        self.faults.push(fault);
        self
    }

    /// Makes failing calls fail with `kind`; [`ErrorKind::Disconnected`] unless told.
    #[must_use]
    pub fn failing_as(mut self, kind: ErrorKind) -> Self {
        self.kind = kind;
        self
    }

    /// Delays each call by `latency`.
    #[must_use]
    pub fn delayed(mut self, latency: Duration) -> Self {
        self.latency = latency;
        self
    }

    /// How many calls have been made: the kill points there are.
    pub fn calls(&self) -> u64 {
        self.calls.load(Relaxed)
    }

    fn error(&self) -> StoreError {
        StoreError::new(self.kind, "reach", &self.inner.address(), "a fault was injected")
    }

    fn fate(&self) -> Fate {
        let call = self.calls.fetch_add(1, Relaxed) + 1;
        self.faults.iter().map(|fault| fault.fate(call)).find(|fate| *fate != Fate::Pass).unwrap_or(Fate::Pass)
    }

    /// Performs a call as its fate decides; whether what it delivers is to be corrupted.
    async fn perform<T>(&self, call: impl Future<Output = Result<T, StoreError>>) -> Result<(T, bool), StoreError> {
        let fate = self.fate();
        if self.latency > Duration::ZERO {
            tokio::time::sleep(self.latency).await;
        }
        if fate == Fate::FailBefore {
            return Err(self.error());
        }
        let outcome = call.await?;
        if fate == Fate::FailAfter { Err(self.error()) } else { Ok((outcome, fate == Fate::Corrupt)) }
    }

    fn pass<'a, T: Send + 'a>(&'a self, call: Pending<'a, T>) -> Pending<'a, T> {
        Box::pin(async move { Ok(self.perform(call).await?.0) })
    }
}

fn corrupted(bytes: &Bytes) -> Bytes {
    let mut bytes = bytes.to_vec();
    let middle = bytes.len() / 2;
    if let Some(byte) = bytes.get_mut(middle) {
        *byte ^= 0x10;
    }
    bytes.into()
}

impl Store for FaultStore {
    fn address(&self) -> String {
        self.inner.address()
    }

    fn create_dirs<'a>(&'a self, dirs: &'a [Dir]) -> Pending<'a, ()> {
        self.pass(self.inner.create_dirs(dirs))
    }

    fn list(&self, dir: Dir) -> Pending<'_, Vec<Listed>> {
        self.pass(self.inner.list(dir))
    }

    fn stat(&self, name: Name) -> Pending<'_, Option<Listed>> {
        self.pass(self.inner.stat(name))
    }

    fn get(&self, name: Name, length: Length) -> Pending<'_, Bytes> {
        Box::pin(async move {
            let (bytes, corrupt) = self.perform(self.inner.get(name, length)).await?;
            Ok(if corrupt { corrupted(&bytes) } else { bytes })
        })
    }

    fn put(&self, name: Name, bytes: Bytes) -> Pending<'_, ()> {
        self.pass(self.inner.put(name, bytes))
    }

    fn remove(&self, name: Name) -> Pending<'_, ()> {
        self.pass(self.inner.remove(name))
    }

    fn rename(&self, from: Name, to: Name) -> Pending<'_, ()> {
        self.pass(self.inner.rename(from, to))
    }

    fn free_space(&self) -> Pending<'_, Option<u64>> {
        self.pass(self.inner.free_space())
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
    use crate::store::memory::MemoryStore;

    fn name(number: u8) -> Name {
        Name::Key([number; 16])
    }

    /// Puts five objects through `fault`; which of the calls succeeded, and how many objects there are then.
    async fn five_puts(fault: Fault) -> (Vec<bool>, usize) {
        let memory = Arc::new(MemoryStore::from_contents([].into()));
        let store = FaultStore::new(memory.clone()).with(fault);
        let mut outcomes = Vec::new();
        for number in 1..=5 {
            outcomes.push(store.put(name(number), Bytes::from_static(b"x")).await.is_ok());
        }
        (outcomes, memory.contents().len())
    }

    #[tokio::test]
    async fn each_fault_strikes_where_it_is_told_to() {
        assert_eq!(five_puts(Fault::Before(2)).await, (vec![true, false, true, true, true], 4));
        assert_eq!(five_puts(Fault::After(2)).await, (vec![true, false, true, true, true], 5));
        assert_eq!(five_puts(Fault::Killed(3)).await, (vec![true, true, false, false, false], 2));
        assert_eq!(five_puts(Fault::KilledAfter(3)).await, (vec![true, true, false, false, false], 3));
    }

    #[tokio::test]
    async fn a_corrupted_read_has_the_right_length_and_one_wrong_bit() {
        let memory = Arc::new(MemoryStore::from_contents([(name(1), Bytes::from_static(b"abcde"))].into()));
        let store = FaultStore::new(memory).with(Fault::Corrupt(1));
        assert_eq!(store.get(name(1), Length::Exactly(5)).await.unwrap(), &b"absde"[..]);
        assert_eq!(store.get(name(1), Length::Exactly(5)).await.unwrap(), &b"abcde"[..]);
    }
}
