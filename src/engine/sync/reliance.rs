//! How long a sync may rely on what it has seen of the store, and what it does then (`spec/6-operations.md`, "Why nothing is lost").

use crate::clock::uptime;
use crate::engine::{
    error::EngineError,
    named::IdSet,
    presence::is_whole_length,
    prune::{self, rename_if_there},
    restore::is_damage,
    tree::Tree,
};
use crate::format::{
    id::{ObjectId, SnapshotId},
    name::{Dir, Name},
    snapshot::SnapshotRoot,
};
use crate::repository::Repository;
use crate::store::ErrorKind;
use futures_util::{StreamExt, TryStreamExt, stream};
use std::{sync::Arc, time::Duration};

/// What was seen is relied on for so long: half of the shortest grace period. The other half is for the commit itself.
pub(super) const RELIED_ON: Duration = Duration::from_secs(prune::GRACE_MIN.as_secs() / 2);
/// Shards listed at once.
const SHARDS_AT_ONCE: usize = 16;

/// Since when a sync has relied on what it has seen of the store.
pub(super) struct Reliance {
    repository: Arc<Repository>,
    since: Duration,
}

impl Reliance {
    /// Nothing was looked up before the repository was opened.
    pub fn new(repository: Arc<Repository>) -> Self {
        let since = repository.opened();
        Self { repository, since }
    }

    /// Whether it is time to ask again.
    pub fn is_over(&self) -> bool {
        uptime().saturating_sub(self.since) > RELIED_ON
    }

    /// Asks again for everything that `root` names, if it is time. What has been set aside meanwhile is moved back. Returns what snapshots
    /// may rely on then for as long again.
    ///
    /// # Errors
    /// [`EngineError::Overtaken`] where something is gone, and what the store says.
    pub async fn renew(&mut self, root: &SnapshotRoot) -> Result<(), EngineError> {
        if !self.is_over() {
            return Ok(());
        }
        let began = uptime();
        let present = self.list().await?;
        let tree = Tree::new(Arc::clone(&self.repository), SnapshotId::new(ObjectId([0; 32])), root.segments.clone());
        let mut segments = Box::pin(tree.segments(0..tree.len()));
        let mut missing = Vec::new();
        let mut note = |id: ObjectId| {
            if !present.contains(id) {
                missing.push(id)
            }
        };
        while let Some((number, segment)) = segments.next().await {
            note(tree.rows()[number].id.0);
            match segment {
                Ok(segment) => segment.chunks.iter().for_each(|row| note(row.id.0)),
                Err(error) if is_damage(&error) => return Err(EngineError::Overtaken { what: error.to_string() }),
                Err(error) => return Err(error),
            }
        }
        drop(segments);
        missing.sort_unstable();
        missing.dedup();
        for id in missing {
            self.rescue(id).await?;
        }
        self.since = began;
        if self.is_over() {
            return Err(EngineError::Overtaken { what: "asking again for it takes too long".into() });
        }
        Ok(())
    }

    /// Everything that lies in its shard.
    async fn list(&self) -> Result<IdSet, EngineError> {
        let store = self.repository.store();
        let shards = (0..=255).map(|shard| async move {
            match store.list(Dir::Shard(shard)).await {
                Err(error) if error.kind == ErrorKind::NotFound => Ok(Vec::new()),
                other => other,
            }
        });
        let mut shards = stream::iter(shards.collect::<Vec<_>>()).buffer_unordered(SHARDS_AT_ONCE);
        let mut present = IdSet::default();
        while let Some(listed) = shards.try_next().await? {
            for listed in listed {
                if let Name::Chunk(id) = listed.name
                    && is_whole_length(listed.length)
                {
                    present.insert(id);
                }
            }
        }
        present.sort();
        Ok(present)
    }

    /// Brings a chunk or segment that was not listed back from the trash.
    async fn rescue(&self, id: ObjectId) -> Result<(), EngineError> {
        let store = self.repository.store();
        if let Some(name) = self.repository.find_in_trash(id).await? {
            rename_if_there(&**store, name, Name::Chunk(id)).await?;
        }
        match store.stat(Name::Chunk(id)).await? {
            Some(there) if is_whole_length(there.length) => Ok(()),
            _ => Err(EngineError::Overtaken { what: Name::Chunk(id).to_string() }),
        }
    }
}
