//! Which chunks a store has: asked one by one, or listed shard by shard where the repository is small.

use crate::format::{
    id::ObjectId,
    name::{Dir, Name},
    seal::padme,
};
pub use crate::repository::LIST_MAX;
use crate::store::{ErrorKind, Listed, Store, StoreError};
use futures_util::{StreamExt, TryStreamExt, stream};
use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, PoisonError},
};
use tokio::sync::OnceCell;

/// Shards listed at once.
const SHARDS_AT_ONCE: usize = 256;

/// Makes every store too large to be listed.
#[cfg(test)]
pub(crate) static NEVER_LISTS: std::sync::atomic::AtomicBool = std::sync::atomic::AtomicBool::new(false);

/// What the store has.
pub struct Presence {
    store: Arc<dyn Store>,
    lists: bool,
    shards: Vec<OnceCell<HashMap<ObjectId, u64>>>,
    distrusted: Mutex<HashSet<ObjectId>>,
}

/// What is known of an object without asking.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Known {
    /// Its shard has not been listed.
    Unlisted,
    /// Its shard has been listed, and it is not there.
    Absent,
    /// It is there, with this length.
    Present(u64),
}

impl Presence {
    /// Of a store with about `estimated` chunks: lists where they are few, asks for single names where they are many.
    #[must_use]
    pub fn new(store: Arc<dyn Store>, estimated: u64) -> Self {
        let shards = (0..256).map(|_| OnceCell::new()).collect();
        Self { store, lists: Self::lists(estimated), shards, distrusted: Mutex::default() }
    }

    /// Whether all shards of a store with about `estimated` chunks are listed.
    #[must_use]
    pub fn lists(estimated: u64) -> bool {
        #[cfg(test)]
        if NEVER_LISTS.load(std::sync::atomic::Ordering::SeqCst) {
            return false;
        }
        estimated <= LIST_MAX
    }

    /// Takes what was listed of all shards beforehand.
    pub fn know(&self, shards: Vec<Vec<Listed>>) {
        for (known, listed) in self.shards.iter().zip(shards) {
            let _ = known.set(by_id(listed)); // listed already, then: as good
        }
    }

    /// Lists all shards, if this store is small enough for that.
    ///
    /// # Errors
    /// What the store says.
    pub async fn list_all(&self) -> Result<(), StoreError> {
        if !self.lists {
            return Ok(());
        }
        let shards = (0..=255).map(|shard| async move { self.shard(shard).await.map(drop) });
        stream::iter(shards).buffer_unordered(SHARDS_AT_ONCE).try_collect::<()>().await
    }

    async fn shard(&self, shard: u8) -> Result<&HashMap<ObjectId, u64>, StoreError> {
        self.shards[usize::from(shard)].get_or_try_init(|| list_shard(&*self.store, shard)).await
    }

    /// What is known without asking.
    #[must_use]
    pub fn known(&self, id: ObjectId) -> Known {
        match self.shards[usize::from(id.shard())].get() {
            None => Known::Unlisted,
            Some(shard) => shard.get(&id).map_or(Known::Absent, |&length| Known::Present(length)),
        }
    }

    /// Whether an object of which a manifest says that it has `stored` bytes may be relied on, so far as is known.
    #[must_use]
    pub fn is_reliable(&self, id: ObjectId, stored: u32) -> bool {
        let is_whole = match self.known(id) {
            Known::Unlisted => true,
            known => known == Known::Present(u64::from(stored)),
        };
        is_whole && !self.is_distrusted(id)
    }

    /// Marks an object as not to be relied on: its length is not what a manifest recorded.
    pub fn distrust(&self, id: ObjectId) {
        self.distrusted.lock().unwrap_or_else(PoisonError::into_inner).insert(id);
    }

    /// Whether an object is not to be relied on.
    #[must_use]
    pub fn is_distrusted(&self, id: ObjectId) -> bool {
        self.distrusted.lock().unwrap_or_else(PoisonError::into_inner).contains(&id)
    }

    /// Takes the mark off an object that is stored anew.
    pub fn trust(&self, id: ObjectId) {
        self.distrusted.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
    }

    /// The stored length of a sealed plaintext of `plain` bytes called `id`, if the store has it, whole as far as a length can
    /// tell.
    ///
    /// # Errors
    /// What the store says.
    pub async fn ask(&self, id: ObjectId, plain: usize) -> Result<Option<u32>, StoreError> {
        let length = if self.lists {
            self.shard(id.shard()).await?.get(&id).copied()
        } else {
            self.store.stat(Name::Chunk(id)).await?.map(|listed| listed.length)
        };
        let is_distrusted = self.is_distrusted(id);
        Ok(length
            .filter(|&length| !is_distrusted && is_plausible(length, plain as u64))
            .and_then(|l| l.try_into().ok()))
    }
}

async fn list_shard(store: &dyn Store, shard: u8) -> Result<HashMap<ObjectId, u64>, StoreError> {
    let listed = match store.list(Dir::Shard(shard)).await {
        Err(error) if error.kind == ErrorKind::NotFound => Vec::new(),
        other => other?,
    };
    Ok(by_id(listed))
}

fn by_id(listed: Vec<Listed>) -> HashMap<ObjectId, u64> {
    let chunks = listed.into_iter().filter_map(|listed| match listed.name {
        Name::Chunk(id) => Some((id, listed.length)),
        _ => None,
    });
    chunks.collect()
}

/// Whether an object of `length` bytes can hold `plain` bytes of plaintext: padded, and no longer than uncompressed. A server
/// that lost power leaves empty and torn files, which this finds.
#[must_use]
pub fn is_plausible(length: u64, plain: u64) -> bool {
    is_whole_length(length) && length <= padme(OVERHEAD + plain)
}

/// What an object has beside its compressed plaintext, in bytes.
const OVERHEAD: u64 = 64;

/// Whether any whole object has this length: a torn one seldom does.
#[must_use]
pub fn is_whole_length(length: u64) -> bool {
    length > OVERHEAD && padme(length) == length
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn empty_torn_and_overlong_objects_are_not_taken_for_whole_ones() {
        let plain = 1 << 20;
        assert!(is_plausible(padme(64 + plain), plain) && is_plausible(padme(64 + 5000), plain));
        for torn in [0, 12, 64, 4096 + 1, padme(64 + plain) - 1, padme(64 + plain) + 1, 2 * plain] {
            assert!(!is_plausible(torn, plain), "{torn}");
        }
    }
}
