//! A store in memory: for tests, and the yardstick of what a store is.

use super::{ErrorKind, Length, Listed, Pending, Store, StoreError, Traffic, TrafficCounter};
use crate::format::{
    id::ObjectId,
    name::{Dir, Name},
};
use bytes::Bytes;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Mutex, MutexGuard, PoisonError},
    time::{SystemTime, UNIX_EPOCH},
};

/// Objects in memory. Its contents can be taken, replaced and put back, as kill-point and damage tests need.
#[derive(Debug, Default)]
pub struct MemoryStore {
    state: Mutex<State>,
    traffic: TrafficCounter,
}

#[derive(Debug, Default)]
struct State {
    dirs: BTreeSet<Dir>,
    objects: BTreeMap<Name, Object>,
    /// Seconds that the store's clock is ahead of the system's.
    ahead: i64,
    closed: bool,
}

#[derive(Clone, Debug)]
struct Object {
    bytes: Bytes,
    modified: i64,
}

impl Object {
    fn listed(&self, name: Name) -> Listed {
        Listed { name, length: self.bytes.len() as u64, modified: self.modified }
    }
}

impl MemoryStore {
    /// An empty store without any directory.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A store with every directory and these objects.
    #[must_use]
    pub fn from_contents(contents: BTreeMap<Name, Bytes>) -> Self {
        let store = Self::new();
        store.state().dirs.extend(Dir::all());
        for (name, bytes) in contents {
            store.replace(name, bytes);
        }
        store
    }

    /// All objects as they are now; their bytes are shared, not copied.
    #[must_use]
    pub fn contents(&self) -> BTreeMap<Name, Bytes> {
        self.state().objects.iter().map(|(name, object)| (*name, object.bytes.clone())).collect()
    }

    /// Sets what an object holds, whether it exists or not, as no client could: damage for tests.
    pub fn replace(&self, name: Name, bytes: Bytes) {
        let mut state = self.state();
        let modified = state.now();
        state.objects.insert(name, Object { bytes, modified });
    }

    /// Makes an object vanish without a call; whether it was there.
    pub fn lose(&self, name: Name) -> bool {
        self.state().objects.remove(&name).is_some()
    }

    /// Moves the store's clock, so that what lies there grows older.
    pub fn advance_clock(&self, seconds: i64) {
        self.state().ahead += seconds;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs one call on the state, at once.
    fn call<'a, T: Send + 'a>(
        &'a self,
        act: impl FnOnce(&mut State) -> Result<T, StoreError> + Send + 'a,
    ) -> Pending<'a, T> {
        Box::pin(async move {
            self.traffic.call();
            let mut state = self.state();
            if state.closed {
                return Err(StoreError::new(ErrorKind::Other, "use", &"memory", "the store is closed"));
            }
            act(&mut state)
        })
    }
}

impl State {
    fn now(&self) -> i64 {
        let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        i64::try_from(seconds).unwrap_or(i64::MAX).saturating_add(self.ahead)
    }

    fn require(&self, dir: Dir, operation: &'static str) -> Result<(), StoreError> {
        match self.dirs.contains(&dir) {
            true => Ok(()),
            false => Err(StoreError::new(ErrorKind::NotFound, operation, &dir, "no such directory")),
        }
    }

    fn put(&mut self, name: Name, bytes: Bytes) -> Result<(), StoreError> {
        self.require(name.dir(), "write")?;
        if self.objects.get(&name).is_none_or(|object| object.bytes.len() != bytes.len()) {
            let modified = self.now();
            self.objects.insert(name, Object { bytes, modified });
        }
        Ok(())
    }

    fn rename(&mut self, from: Name, to: Name) -> Result<(), StoreError> {
        self.require(to.dir(), "move")?;
        let target = self.objects.get(&to).map(|object| object.bytes.len());
        match (self.objects.remove(&from), target) {
            (None, Some(_)) => Ok(()),
            (None, None) => Err(StoreError::new(ErrorKind::NotFound, "move", &from, "no such object")),
            (Some(object), Some(length)) if object.bytes.len() == length => Ok(()),
            (Some(object), _) => {
                self.objects.insert(to, object);
                Ok(())
            }
        }
    }

    fn list(&self, dir: Dir) -> Result<Vec<Listed>, StoreError> {
        self.require(dir, "list")?;
        if let Dir::Shard(shard) = dir {
            // A shard's names lie together; walking all of them for each shard would take minutes where there are millions.
            let edge = |rest| Name::Chunk(ObjectId(std::array::from_fn(|at| if at == 0 { shard } else { rest })));
            let inside = self.objects.range(edge(0)..=edge(u8::MAX));
            return Ok(inside.map(|(name, object)| object.listed(*name)).collect());
        }
        let inside = self.objects.iter().filter(|(name, _)| name.dir() == dir);
        Ok(inside.map(|(name, object)| object.listed(*name)).collect())
    }
}

impl Store for MemoryStore {
    fn address(&self) -> String {
        "memory".into()
    }

    fn create_dirs<'a>(&'a self, dirs: &'a [Dir]) -> Pending<'a, ()> {
        self.call(move |state| {
            state.dirs.extend(dirs.iter().copied());
            Ok(())
        })
    }

    fn list(&self, dir: Dir) -> Pending<'_, Vec<Listed>> {
        self.call(move |state| state.list(dir))
    }

    fn stat(&self, name: Name) -> Pending<'_, Option<Listed>> {
        self.call(move |state| Ok(state.objects.get(&name).map(|object| object.listed(name))))
    }

    fn get(&self, name: Name, length: Length) -> Pending<'_, Bytes> {
        self.call(move |state| {
            length.check_demand(&name)?;
            let missing = || StoreError::new(ErrorKind::NotFound, "read", &name, "no such object");
            let bytes = state.objects.get(&name).map(|object| object.bytes.clone()).ok_or_else(missing)?;
            length.check(bytes.len() as u64, &name)?;
            self.traffic.downloaded(bytes.len());
            Ok(bytes)
        })
    }

    fn put(&self, name: Name, bytes: Bytes) -> Pending<'_, ()> {
        self.call(move |state| {
            let length = bytes.len();
            state.put(name, bytes)?;
            self.traffic.uploaded(length);
            Ok(())
        })
    }

    fn remove(&self, name: Name) -> Pending<'_, ()> {
        self.call(move |state| {
            state.objects.remove(&name);
            Ok(())
        })
    }

    fn rename(&self, from: Name, to: Name) -> Pending<'_, ()> {
        self.call(move |state| state.rename(from, to))
    }

    fn free_space(&self) -> Pending<'_, Option<u64>> {
        self.call(|_| Ok(None))
    }

    fn close(&self) -> Pending<'_, ()> {
        Box::pin(async {
            self.state().closed = true;
            Ok(())
        })
    }

    fn traffic(&self) -> Traffic {
        self.traffic.total()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn contents_taken_are_contents_put_back() {
        let store = MemoryStore::from_contents(BTreeMap::new());
        store.put(Name::Repository, Bytes::from_static(b"one")).await.unwrap();
        let before = store.contents();
        store.replace(Name::Repository, Bytes::from_static(b"damaged"));
        assert_ne!(store.contents(), before);
        assert_eq!(MemoryStore::from_contents(before.clone()).contents(), before);
    }

    #[tokio::test]
    async fn objects_grow_older_by_the_stores_own_clock() {
        let store = MemoryStore::from_contents(BTreeMap::new());
        store.put(Name::Key([1; 16]), Bytes::from_static(b"old")).await.unwrap();
        store.advance_clock(86_400);
        store.put(Name::Key([2; 16]), Bytes::from_static(b"new")).await.unwrap();
        let listed = store.list(Dir::Keys).await.unwrap();
        assert!(listed[1].modified - listed[0].modified >= 86_400);
    }
}
