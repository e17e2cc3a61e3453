//! A decorator for tests: writes down every call, so that a test can say what an operation costs.

use super::{Length, Listed, Pending, Store, Traffic};
use crate::format::name::{Dir, Name};
use bytes::Bytes;
use std::sync::{Arc, Mutex, PoisonError};

/// One call that reached the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Call {
    /// [`Store::create_dirs`], with how many directories.
    CreateDirs(usize),
    /// [`Store::list`].
    List(Dir),
    /// [`Store::stat`].
    Stat(Name),
    /// [`Store::get`], with the bytes delivered; zero if it failed.
    Get(Name, u64),
    /// [`Store::put`], with the bytes handed over.
    Put(Name, u64),
    /// [`Store::remove`].
    Remove(Name),
    /// [`Store::rename`], from and to.
    Rename(Name, Name),
    /// [`Store::free_space`].
    FreeSpace,
    /// [`Store::close`].
    Close,
}

/// Passes every call on and records it, in the order in which calls began (reads: in which they ended).
pub struct RecordStore {
    inner: Arc<dyn Store>,
    calls: Mutex<Vec<Call>>,
}

impl RecordStore {
    /// Records what reaches `inner`.
    pub fn new(inner: Arc<dyn Store>) -> Self {
        Self { inner, calls: Mutex::default() }
    }

    /// The calls so far; the record begins anew.
    pub fn take(&self) -> Vec<Call> {
        std::mem::take(&mut *self.calls.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn record(&self, call: Call) {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner).push(call);
    }
}

impl Store for RecordStore {
    fn address(&self) -> String {
        self.inner.address()
    }

    fn create_dirs<'a>(&'a self, dirs: &'a [Dir]) -> Pending<'a, ()> {
        self.record(Call::CreateDirs(dirs.len()));
        self.inner.create_dirs(dirs)
    }

    fn list(&self, dir: Dir) -> Pending<'_, Vec<Listed>> {
        self.record(Call::List(dir));
        self.inner.list(dir)
    }

    fn stat(&self, name: Name) -> Pending<'_, Option<Listed>> {
        self.record(Call::Stat(name));
        self.inner.stat(name)
    }

    fn get(&self, name: Name, length: Length) -> Pending<'_, Bytes> {
        Box::pin(async move {
            let outcome = self.inner.get(name, length).await;
            self.record(Call::Get(name, outcome.as_ref().map_or(0, |bytes| bytes.len() as u64)));
            outcome
        })
    }

    fn put(&self, name: Name, bytes: Bytes) -> Pending<'_, ()> {
        self.record(Call::Put(name, bytes.len() as u64));
        self.inner.put(name, bytes)
    }

    fn remove(&self, name: Name) -> Pending<'_, ()> {
        self.record(Call::Remove(name));
        self.inner.remove(name)
    }

    fn rename(&self, from: Name, to: Name) -> Pending<'_, ()> {
        self.record(Call::Rename(from, to));
        self.inner.rename(from, to)
    }

    fn free_space(&self) -> Pending<'_, Option<u64>> {
        self.record(Call::FreeSpace);
        self.inner.free_space()
    }

    fn close(&self) -> Pending<'_, ()> {
        self.record(Call::Close);
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

    #[tokio::test]
    async fn calls_are_recorded_with_their_bytes() {
        let store = RecordStore::new(Arc::new(MemoryStore::from_contents([].into())));
        store.put(Name::Repository, Bytes::from_static(b"four")).await.unwrap();
        store.get(Name::Repository, Length::AtMost(9)).await.unwrap();
        assert_eq!(store.take(), [Call::Put(Name::Repository, 4), Call::Get(Name::Repository, 4)]);
        assert_eq!(store.take(), []);
    }
}
