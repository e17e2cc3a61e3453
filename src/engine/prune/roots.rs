//! What is named, by snapshots that are listed and by those forgotten lately.

use crate::engine::{
    error::EngineError,
    event::{Observer, Problem, Problems},
    named::{Named, Unreadable},
    restore::is_damage,
    trash::{self, Item},
};
use crate::format::{id::SnapshotId, name::Name, snapshot::SnapshotRoot};
use crate::repository::{Repository, RepositoryError};
use crate::store::{ErrorKind, Length};
use std::{collections::HashSet, sync::Arc};

/// What is named.
#[derive(Default)]
pub(super) struct Roots {
    /// By snapshots that are listed: this stays where it is.
    pub named: Named,
    /// By snapshots in the trash, which can be brought back, and on which a sync may be building: this is not deleted.
    pub held: Named,
    /// Snapshots that are listed.
    pub count: u64,
    seen: HashSet<SnapshotId>,
    seen_in_trash: HashSet<SnapshotId>,
}

/// How often roots are gathered again because one was moved meanwhile.
const ROUNDS_MAX: u32 = 20;

impl Roots {
    /// Gathers everything that is named. A root may be moved between `snapshots/` and `trash/` meanwhile: both are listed, each before and
    /// after the other, and again as long as that shows one not seen yet. `expired` are roots in the trash that were just removed for good.
    ///
    /// # Errors
    /// [`EngineError::Unknowable`], and what the store says.
    pub async fn gather(
        repository: &Arc<Repository>,
        expired: &HashSet<Name>,
        problems: &Problems,
        observer: &dyn Observer,
    ) -> Result<Self, EngineError> {
        let mut roots = Self::default();
        for _ in 0..ROUNDS_MAX {
            let in_trash = trash::list_roots(&**repository.store()).await?;
            let listed = repository.list_snapshots(true).await?;
            let in_trash_now = trash::list_roots(&**repository.store()).await?;
            let mut is_settled = true;
            for root in &listed {
                let Name::Snapshot(id) = root.name else { continue };
                is_settled &= roots.add_listed(repository, id, root.length).await?;
            }
            for item in in_trash.iter().chain(&in_trash_now).filter(|item| !expired.contains(&item.name())) {
                is_settled &= roots.add_trashed(repository, item, problems, observer).await?;
            }
            if is_settled {
                roots.count = listed.len() as u64;
                return Ok(roots);
            }
        }
        Err(EngineError::Restless)
    }

    /// Adds what a listed snapshot names; whether there was nothing new.
    async fn add_listed(
        &mut self,
        repository: &Arc<Repository>,
        id: SnapshotId,
        length: u64,
    ) -> Result<bool, EngineError> {
        if self.seen.contains(&id) {
            return Ok(true);
        }
        match repository.fetch_root(id, length).await {
            Ok(root) => {
                self.named.add(repository, id, &root, Unreadable::Fails).await?;
                self.seen.insert(id);
            }
            // Forgotten, or a checkpoint whose sync has ended.
            Err(RepositoryError::Store(error)) if error.kind == ErrorKind::NotFound => {}
            Err(why) => {
                let why = EngineError::from(why);
                return match is_damage(&why) {
                    true => Err(EngineError::Unknowable { snapshot: id, why: why.to_string() }),
                    false => Err(why),
                };
            }
        }
        Ok(false)
    }

    /// Adds what a forgotten snapshot names; whether there was nothing new. One that cannot be read cannot be brought back either.
    async fn add_trashed(
        &mut self,
        repository: &Arc<Repository>,
        item: &Item,
        problems: &Problems,
        observer: &dyn Observer,
    ) -> Result<bool, EngineError> {
        let id = SnapshotId::new(item.id);
        if self.seen.contains(&id) || self.seen_in_trash.contains(&id) {
            return Ok(true);
        }
        match fetch_trashed(repository, item).await {
            Ok(root) => {
                self.held.add(repository, id, &root, Unreadable::PassedOver).await?;
                self.seen_in_trash.insert(id);
            }
            // Brought back, or removed by another prune.
            Err(EngineError::Repository(RepositoryError::Store(error))) if error.kind == ErrorKind::NotFound => {}
            Err(why) if is_damage(&why) => {
                problems.add(observer, Problem::new(item.name(), why));
                self.seen_in_trash.insert(id);
            }
            Err(why) => return Err(why),
        }
        Ok(false)
    }
}

/// The root of a forgotten snapshot.
///
/// # Errors
/// Where it cannot be fetched, or is not as it must be.
pub(crate) async fn fetch_trashed(repository: &Repository, item: &Item) -> Result<SnapshotRoot, EngineError> {
    let (id, name) = (SnapshotId::new(item.id), item.name());
    let plaintext = repository.fetch(id, name, Length::Exactly(item.length)).await?;
    let damaged = |why: String| RepositoryError::Damaged { name, why };
    Ok(SnapshotRoot::decode(&plaintext).map_err(|why| damaged(why.to_string()))?)
}
