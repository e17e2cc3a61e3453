//! Receipts: whether a server still shows what it once held. A client without state cannot tell that the newest snapshots are being
//! withheld; who keeps a receipt can (`spec/6-operations.md`, "Receipts").

use super::{
    error::EngineError,
    event::{Observer, Problems},
    forget::forgotten,
    history::{self, SnapshotInfo},
};
use crate::format::{id::SnapshotId, name::Name, receipt::Receipt};
use crate::repository::Repository;
use std::collections::HashSet;

/// The receipt of a snapshot.
#[must_use]
pub fn of(repository: &Repository, info: &SnapshotInfo) -> Receipt {
    Receipt { repository: repository.id(), generation: info.root.generation, snapshot: info.id }
}

/// The receipt of the complete snapshot with the highest generation; `None` where there is none.
///
/// # Errors
/// What the store says.
pub async fn newest(
    repository: &Repository,
    problems: &Problems,
    observer: &dyn Observer,
) -> Result<Option<Receipt>, EngineError> {
    let all = history::snapshots(repository, problems, observer).await?;
    let complete = all.iter().filter(|info| info.root.complete);
    let newest = complete.max_by_key(|info| (info.root.generation, info.root.time, info.id));
    Ok(newest.map(|info| of(repository, info)))
}

/// What a repository makes of a receipt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// The snapshot is listed.
    There,
    /// It was removed on purpose: a sealed record says so.
    Forgotten,
    /// It is neither: lost, or withheld by the server, and with it maybe all that came after.
    Missing,
    /// The receipt is another repository's: this one was put in its place.
    OtherRepository,
}

/// Looks for the snapshots of `receipts`, in the order given. That they can be read is verify's business.
///
/// # Errors
/// What the store says.
pub async fn standings(
    repository: &Repository,
    receipts: &[Receipt],
    problems: &Problems,
    observer: &dyn Observer,
) -> Result<Vec<Standing>, EngineError> {
    if receipts.is_empty() {
        return Ok(Vec::new());
    }
    let listed = repository.list_snapshots(true).await?;
    let there: HashSet<SnapshotId> = listed.iter().filter_map(|listed| snapshot_of(listed.name)).collect();
    let is_all = receipts.iter().all(|receipt| there.contains(&receipt.snapshot));
    let mut gone = HashSet::new();
    if !is_all {
        // What lies in the trash proves nothing, for a server can put it there. The records are sealed.
        let records = forgotten(repository, problems, observer).await?;
        gone.extend(records.into_iter().flat_map(|(_, record)| record.ids));
    }
    let standing = |receipt: &Receipt| match receipt {
        receipt if receipt.repository != repository.id() => Standing::OtherRepository,
        receipt if there.contains(&receipt.snapshot) => Standing::There,
        receipt if gone.contains(&receipt.snapshot) => Standing::Forgotten,
        _ => Standing::Missing,
    };
    Ok(receipts.iter().map(standing).collect())
}

fn snapshot_of(name: Name) -> Option<SnapshotId> {
    match name {
        Name::Snapshot(id) => Some(id),
        _ => None,
    }
}
