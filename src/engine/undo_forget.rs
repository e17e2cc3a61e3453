//! Undo-forget: forgotten snapshots that still lie in the trash come back, and what they need (`spec/6-operations.md`).

use super::{
    error::EngineError,
    event::{Observer, Problem, Problems},
    forget::{forgotten, put_forgotten},
    history::SnapshotInfo,
    named::{Named, Unreadable},
    presence::is_whole_length,
    prune::{fetch_trashed, rename_if_there},
    trash::{Item, Trash},
};
use crate::format::{id::SnapshotId, name::Name};
use crate::repository::Repository;
use std::{
    collections::{BTreeSet, HashSet},
    sync::Arc,
};

/// What is to come back.
#[derive(Clone, Debug, Default)]
pub struct UndoOptions {
    /// These, each by the first digits of its id; all where there are none.
    pub ids: Vec<String>,
    /// Only say what would come back.
    pub dry_run: bool,
}

/// What came back.
#[derive(Clone, Debug, Default)]
pub struct UndoReport {
    /// The snapshots, oldest first.
    pub snapshots: Vec<SnapshotInfo>,
    /// Chunks and segments that were moved back at once; what is left is found in the trash all the same.
    pub rescued: u64,
    /// What went wrong without stopping the work.
    pub problems: Vec<Problem>,
    /// How many in all.
    pub problem_count: u64,
}

/// Brings forgotten snapshots back.
///
/// # Errors
/// [`EngineError::NoSnapshot`], [`EngineError::AmbiguousPrefix`], and what the store says.
pub async fn undo_forget(
    repository: Arc<Repository>,
    options: UndoOptions,
    observer: Arc<dyn Observer>,
) -> Result<UndoReport, EngineError> {
    repository.check_writable()?;
    let problems = Problems::default();
    let trash = Trash::read(&repository).await?;
    let mut report = UndoReport::default();
    for item in chosen(&trash, &options.ids)? {
        match fetch_trashed(&repository, item).await {
            Ok(root) if bring_back(&repository, item, options.dry_run).await? => {
                report.snapshots.push(SnapshotInfo { id: SnapshotId::new(item.id), root });
            }
            Ok(_) => problems.add(&*observer, Problem::new(item.name(), "it is gone: its time was over")),
            Err(why) if super::restore::is_damage(&why) => problems.add(&*observer, Problem::new(item.name(), why)),
            Err(why) => return Err(why),
        }
    }
    report.snapshots.sort_by_key(|info| (info.root.time, info.root.generation, info.id));
    if !options.dry_run && !report.snapshots.is_empty() {
        take_off_records(&repository, &report.snapshots, &problems, &*observer).await?;
        report.rescued = rescue(&repository, &trash, &report.snapshots).await?;
    }
    (report.problems, report.problem_count) = problems.take();
    Ok(report)
}

/// The roots that are meant, each snapshot once.
fn chosen<'a>(trash: &'a Trash, prefixes: &[String]) -> Result<Vec<&'a Item>, EngineError> {
    let mut seen = HashSet::new();
    let mut roots: Vec<&Item> = trash.items.iter().filter(|item| item.is_root && seen.insert(item.id)).collect();
    let mut wanted = HashSet::new();
    for prefix in prefixes {
        let matching: Vec<_> = roots.iter().filter(|item| item.id.to_string().starts_with(prefix.as_str())).collect();
        match matching.as_slice() {
            [] => return Err(EngineError::NoSnapshot(format!("{prefix} among those that can be brought back"))),
            [one] => drop(wanted.insert(one.id)),
            more => return Err(EngineError::AmbiguousPrefix { prefix: prefix.clone(), count: more.len() }),
        }
    }
    if !prefixes.is_empty() {
        roots.retain(|item| wanted.contains(&item.id));
    }
    Ok(roots)
}

/// Moves a root back; false if a prune was faster.
async fn bring_back(repository: &Repository, item: &Item, is_dry: bool) -> Result<bool, EngineError> {
    if is_dry {
        return Ok(true);
    }
    rename_if_there(&**repository.store(), item.name(), item.former()).await
}

/// Writes records anew that say of these snapshots that they were removed: if one is lost now, that is no one's purpose.
async fn take_off_records(
    repository: &Repository,
    back: &[SnapshotInfo],
    problems: &Problems,
    observer: &dyn Observer,
) -> Result<(), EngineError> {
    let back: HashSet<SnapshotId> = back.iter().map(|info| info.id).collect();
    for (record_id, record) in forgotten(repository, problems, observer).await? {
        let left: BTreeSet<SnapshotId> = record.ids.iter().filter(|id| !back.contains(id)).copied().collect();
        if left.len() < record.ids.len() {
            put_forgotten(repository, left).await?;
            repository.store().remove(Name::Forgotten(record_id)).await?;
        }
    }
    Ok(())
}

/// Moves back what they name, so that the next sync finds it in its place.
async fn rescue(repository: &Arc<Repository>, trash: &Trash, back: &[SnapshotInfo]) -> Result<u64, EngineError> {
    let mut named = Named::default();
    for info in back {
        named.add(repository, info.id, &info.root, Unreadable::PassedOver).await?;
    }
    let store = repository.store();
    let mut rescued = 0;
    for item in trash.items.iter().filter(|item| !item.is_root && named.ids.contains(item.id)) {
        let there = store.stat(item.former()).await?;
        if there.is_none_or(|there| !is_whole_length(there.length))
            && rename_if_there(&**store, item.name(), item.former()).await?
        {
            rescued += 1;
        }
    }
    Ok(rescued)
}
