//! What is moved and what is removed, once it is known what is named.

use super::{PruneOptions, PruneReport, roots::Roots};
use crate::engine::{
    error::EngineError,
    presence::is_whole_length,
    trash::{self, Item, Trash},
};
use crate::format::{
    id::ObjectId,
    limits::{LISTED_MAX, RECORDED_MAX},
    name::{Dir, Name, RunId},
};
use crate::repository::{Repository, random};
use crate::store::{ErrorKind, Listed, Store};
use futures_util::{StreamExt, TryStreamExt, future, stream};
use std::sync::Arc;

/// Shards listed at once, and moves or removals under way at once.
const SHARDS_AT_ONCE: usize = 16;
const CALLS_AT_ONCE: usize = 64;
/// Things in the trash that are looked at together.
const ITEMS_AT_ONCE: usize = 4096;
/// The trash never holds more than so many objects, so that it can be listed.
const TRASH_MAX: usize = LISTED_MAX / 2;

/// A prune that knows what is named.
pub(super) struct Work {
    repository: Arc<Repository>,
    store: Arc<dyn Store>,
    options: PruneOptions,
    /// What was recorded, or written, at this time or before is due.
    due: i64,
    roots: Roots,
    run: RunId,
    /// What was moved, and is not recorded yet.
    moved: Vec<(RunId, ObjectId)>,
    in_trash: usize,
    pub report: PruneReport,
}

/// What becomes of something in the trash.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    Rescued,
    Deleted,
    Waits,
}

impl Work {
    /// # Errors
    /// Where there are no random numbers.
    pub fn new(
        repository: Arc<Repository>,
        options: PruneOptions,
        due: i64,
        roots: Roots,
        report: PruneReport,
    ) -> Result<Self, EngineError> {
        let (store, run) = (Arc::clone(repository.store()), random()?);
        Ok(Self { repository, store, options, due, roots, run, moved: Vec::new(), in_trash: 0, report })
    }

    /// Moves back what is named, and deletes what is due and named by nobody.
    ///
    /// # Errors
    /// What the store says.
    pub async fn empty_trash(&mut self, trash: &Trash) -> Result<(), EngineError> {
        let this = &*self;
        let mut fates = Vec::new();
        for items in trash.items.chunks(ITEMS_AT_ONCE) {
            let chunks = items.iter().copied().filter(|item| !item.is_root);
            let settled: Vec<_> = chunks.map(|item| this.settle(item)).collect();
            let settled: Vec<_> = stream::iter(settled).buffer_unordered(CALLS_AT_ONCE).try_collect().await?;
            fates.extend(settled);
        }
        for (length, fate) in fates {
            let amount = match fate {
                Fate::Rescued => &mut self.report.rescued,
                Fate::Deleted => &mut self.report.deleted,
                Fate::Waits => &mut self.report.waiting,
            };
            amount.add(length);
        }
        self.in_trash = self.report.waiting.objects as usize;
        Ok(())
    }

    async fn settle(&self, item: Item) -> Result<(u64, Fate), EngineError> {
        Ok((item.length, self.fate(item).await?))
    }

    async fn fate(&self, item: Item) -> Result<Fate, EngineError> {
        let is_due = self.options.reclaim_now || item.is_older_than(self.due);
        if self.roots.named.ids.contains(item.id) {
            return self.rescue(item, is_due).await;
        }
        if !is_due || self.roots.held.ids.contains(item.id) {
            return Ok(Fate::Waits);
        }
        self.remove(item.name()).await?;
        Ok(Fate::Deleted)
    }

    /// Moves back what a snapshot names; where it was stored anew meanwhile, this one goes in its time.
    async fn rescue(&self, item: Item, is_due: bool) -> Result<Fate, EngineError> {
        let there = self.store.stat(item.former()).await?;
        if there.is_some_and(|there| is_whole_length(there.length)) {
            if is_due {
                self.remove(item.name()).await?;
            }
            return Ok(if is_due { Fate::Deleted } else { Fate::Waits });
        }
        if !self.options.dry_run {
            rename_if_there(&*self.store, item.name(), item.former()).await?;
        }
        Ok(Fate::Rescued)
    }

    async fn remove(&self, name: Name) -> Result<(), EngineError> {
        if !self.options.dry_run {
            self.store.remove(name).await?;
        }
        Ok(())
    }

    /// Sets aside what is old and named by no snapshot, shard by shard.
    ///
    /// # Errors
    /// What the store says.
    pub async fn set_aside(&mut self) -> Result<(), EngineError> {
        let store = Arc::clone(&self.store);
        let all: Vec<u8> = (0..=255).collect();
        for some in all.chunks(SHARDS_AT_ONCE) {
            // All are awaited before anything is moved: a call that is under way and not awaited may hold what a move waits for.
            let listed = future::try_join_all(some.iter().map(|shard| list_shard(&*store, *shard))).await?;
            for shard in listed {
                self.shard(shard).await?;
            }
        }
        Ok(())
    }

    async fn shard(&mut self, listed: Vec<Listed>) -> Result<(), EngineError> {
        let mut unnamed = Vec::new();
        for listed in listed {
            let Name::Chunk(id) = listed.name else { continue };
            if self.roots.named.ids.contains(id) {
                self.report.kept.add(listed.length);
            } else if !self.options.reclaim_now && listed.modified > self.due {
                self.report.young.add(listed.length);
            } else if self.in_trash + unnamed.len() >= TRASH_MAX && !self.options.reclaim_now {
                self.report.left.add(listed.length);
            } else {
                unnamed.push((id, listed.length));
            }
        }
        if self.options.reclaim_now {
            return self.delete_at_once(&unnamed).await;
        }
        self.move_to_trash(&unnamed).await
    }

    async fn delete_at_once(&mut self, unnamed: &[(ObjectId, u64)]) -> Result<(), EngineError> {
        let this = &*self;
        let removals: Vec<_> = unnamed.iter().map(|&(id, _)| this.remove(Name::Chunk(id))).collect();
        stream::iter(removals).buffer_unordered(CALLS_AT_ONCE).try_collect::<()>().await?;
        unnamed.iter().for_each(|&(_, length)| self.report.deleted.add(length));
        Ok(())
    }

    async fn move_to_trash(&mut self, unnamed: &[(ObjectId, u64)]) -> Result<(), EngineError> {
        let (store, run, is_dry) = (Arc::clone(&self.store), self.run, self.options.dry_run);
        let moves = unnamed.iter().map(|&(id, length)| {
            let store = &store;
            async move {
                let to = Name::TrashedChunk(run, id);
                let is_moved = is_dry || rename_if_there(&**store, Name::Chunk(id), to).await?;
                Ok::<_, EngineError>(is_moved.then_some((id, length)))
            }
        });
        let moves: Vec<_> = moves.collect();
        let moved: Vec<_> = stream::iter(moves).buffer_unordered(CALLS_AT_ONCE).try_collect().await?;
        for (id, length) in moved.into_iter().flatten() {
            self.report.set_aside.add(length);
            self.moved.push((run, id));
        }
        self.in_trash += unnamed.len();
        if self.moved.len() >= RECORDED_MAX { self.record_moved().await } else { Ok(()) }
    }

    async fn record_moved(&mut self) -> Result<(), EngineError> {
        let moved = std::mem::take(&mut self.moved);
        if self.options.dry_run {
            return Ok(());
        }
        trash::record(&self.repository, &moved).await
    }

    /// Records what lies in the trash and is not recorded: what this run has moved, and what was found from one that came to no end. From
    /// then on its grace period counts. Records whose things are all gone go too.
    ///
    /// # Errors
    /// What the store says.
    pub async fn record(&mut self, trash: &Trash) -> Result<(), EngineError> {
        if self.options.dry_run || self.options.reclaim_now {
            return Ok(());
        }
        self.record_moved().await?;
        let unrecorded = trash.items.iter().filter(|item| item.since.is_none());
        let unrecorded: Vec<_> = unrecorded.map(|item| (item.run, item.id)).collect();
        trash::record(&self.repository, &unrecorded).await?;
        let stale = trash.records.iter().filter(|(_, written, is_used)| !is_used && *written <= self.due);
        for (id, ..) in stale {
            self.store.remove(Name::SetAside(*id)).await?;
        }
        Ok(())
    }
}

/// Moves an object; false if it is not there any more, because someone else has moved it.
///
/// # Errors
/// What the store says.
pub(crate) async fn rename_if_there(store: &dyn Store, from: Name, to: Name) -> Result<bool, EngineError> {
    match store.rename(from, to).await {
        Err(error) if error.kind == ErrorKind::NotFound => Ok(false),
        other => Ok(other.map(|()| true)?),
    }
}

async fn list_shard(store: &dyn Store, shard: u8) -> Result<Vec<Listed>, EngineError> {
    match store.list(Dir::Shard(shard)).await {
        Err(error) if error.kind == ErrorKind::NotFound => Ok(Vec::new()),
        other => Ok(other?),
    }
}
