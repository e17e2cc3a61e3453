//! Uploads that were cut off leave files in `tmp/`. What is older than any upload takes is removed (`spec/1-objects.md`).

use crate::format::{
    id::SnapshotId,
    name::{Dir, Name},
};
use crate::store::{Listed, Store};
use futures_util::future;

/// Older than this, by the server's clock, no upload is under way any more, in seconds.
const OLD: i64 = 7 * 24 * 60 * 60;

/// What lies in `tmp/`. A store that does not tell has nothing to be swept.
pub async fn litter(store: &dyn Store) -> Vec<Listed> {
    store.list(Dir::Tmp).await.unwrap_or_default()
}

/// Removes what is old of `litter`. The server's clock is read off the snapshot that was just written there; that something could not
/// be removed is no harm.
pub async fn sweep(store: &dyn Store, litter: Vec<Listed>, just_written: SnapshotId) {
    if litter.is_empty() {
        return;
    }
    let Ok(Some(newest)) = store.stat(Name::Snapshot(just_written)).await else { return };
    sweep_older(store, litter, newest.modified).await;
}

/// Removes what is old of `litter` where the server's clock says `now`.
pub async fn sweep_older(store: &dyn Store, litter: Vec<Listed>, now: i64) {
    let old = litter.into_iter().filter(|listed| listed.modified < now.saturating_sub(OLD));
    future::join_all(old.map(|listed| store.remove(listed.name))).await;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{format::id::ObjectId, store::memory::MemoryStore};
    use bytes::Bytes;

    #[tokio::test]
    async fn only_what_is_old_by_the_servers_clock_is_swept() {
        let store = MemoryStore::default();
        let names = [Name::Tmp([1; 16]), Name::Tmp([2; 16])];
        let root = SnapshotId::new(ObjectId([3; 32]));
        let dirs: Vec<Dir> = Dir::all().collect();
        store.create_dirs(&dirs).await.unwrap();
        store.put(names[0], Bytes::from_static(b"old")).await.unwrap();
        store.advance_clock(OLD + 1);
        store.put(names[1], Bytes::from_static(b"young")).await.unwrap();
        store.put(Name::Snapshot(root), Bytes::from_static(b"root")).await.unwrap();
        sweep(&store, litter(&store).await, root).await;
        let left: Vec<Name> = litter(&store).await.into_iter().map(|listed| listed.name).collect();
        assert_eq!(left, [names[1]]);
    }
}
