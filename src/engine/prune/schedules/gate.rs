//! A store between one client and the store in memory, which lets calls through only as the schedule grants them.
#![allow(clippy::unwrap_used)]

use crate::{
    format::name::{Dir, Name},
    store::{ErrorKind, Length, Listed, Pending, Store, StoreError, memory::MemoryStore},
};
use bytes::Bytes;
use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
};
use tokio::sync::{Notify, Semaphore};

/// Lets one client's calls through only as they are granted.
pub(super) struct Gate {
    pub(super) inner: Arc<MemoryStore>,
    pub(super) permits: Semaphore,
    pub(super) waiting: AtomicU64,
    pub(super) done: AtomicU64,
    pub(super) progress: Notify,
    pub(super) is_killed: AtomicBool,
    /// Has begun to send something.
    pub(super) is_putting: AtomicBool,
    /// Waits to make a snapshot visible.
    pub(super) is_committing: AtomicBool,
}

impl Gate {
    pub(super) fn new(inner: Arc<MemoryStore>) -> Arc<Self> {
        Arc::new(Self {
            inner,
            permits: Semaphore::new(0),
            waiting: AtomicU64::new(0),
            done: AtomicU64::new(0),
            progress: Notify::new(),
            is_killed: AtomicBool::new(false),
            is_putting: AtomicBool::new(false),
            is_committing: AtomicBool::new(false),
        })
    }

    fn pass<'a, T: Send + 'a>(&'a self, call: Pending<'a, T>) -> Pending<'a, T> {
        Box::pin(async move {
            self.waiting.fetch_add(1, SeqCst);
            self.progress.notify_one();
            self.permits.acquire().await.unwrap().forget();
            self.waiting.fetch_sub(1, SeqCst);
            let dead = StoreError::new(ErrorKind::Disconnected, "reach", &"memory", "the client was killed");
            let outcome = if self.is_killed.load(SeqCst) { Err(dead) } else { call.await };
            self.done.fetch_add(1, SeqCst);
            self.progress.notify_one();
            outcome
        })
    }

    pub(super) fn kill(&self) {
        self.is_killed.store(true, SeqCst);
        self.permits.add_permits(1 << 20);
    }
}

impl Store for Gate {
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
        self.pass(self.inner.get(name, length))
    }
    fn put(&self, name: Name, bytes: Bytes) -> Pending<'_, ()> {
        let call = self.inner.put(name, bytes);
        Box::pin(async move {
            self.is_putting.store(true, SeqCst);
            self.is_committing.fetch_or(matches!(name, Name::Snapshot(_)), SeqCst);
            let outcome = self.pass(call).await;
            self.is_committing.store(false, SeqCst);
            outcome
        })
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
        Box::pin(async { Ok(()) })
    }
}
