//! What lies in the trash, and since when (`spec/6-operations.md`, "Prune"). What forget, prune and undo-forget share.

use super::error::EngineError;
use crate::format::{
    id::{ObjectId, SetAsideId, SnapshotId},
    limits::RECORDED_MAX,
    name::{Dir, Name, RunId},
    trash::SetAsideRecord,
};
use crate::repository::{Repository, RepositoryError, random};
use crate::store::{ErrorKind, Length, Listed, Store};
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use std::collections::BTreeMap;

/// Records that are fetched at once.
const RECORDS_AT_ONCE: usize = 16;

/// Something in the trash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Item {
    /// The run that set it aside.
    pub run: RunId,
    /// Its id.
    pub id: ObjectId,
    /// Whether it is a snapshot's root; else a chunk or segment.
    pub is_root: bool,
    /// Length of its object in bytes.
    pub length: u64,
    /// When it was recorded to lie here, by the server's clock in seconds since 1970; `None` where no record says so yet.
    pub since: Option<i64>,
}

impl Item {
    /// Its name.
    #[must_use]
    pub fn name(&self) -> Name {
        if self.is_root {
            Name::TrashedSnapshot(self.run, SnapshotId::new(self.id))
        } else {
            Name::TrashedChunk(self.run, self.id)
        }
    }

    /// Where it lay before.
    #[must_use]
    pub fn former(&self) -> Name {
        if self.is_root { Name::Snapshot(SnapshotId::new(self.id)) } else { Name::Chunk(self.id) }
    }

    /// Whether it is recorded to have lain here at `time` or before.
    #[must_use]
    pub fn is_older_than(&self, time: i64) -> bool {
        self.since.is_some_and(|since| since <= time)
    }

    fn new(listed: &Listed) -> Option<Self> {
        let (run, id, is_root) = match listed.name {
            Name::TrashedChunk(run, id) => (run, id, false),
            Name::TrashedSnapshot(run, id) => (run, id.0, true),
            _ => return None,
        };
        Some(Self { run, id, is_root, length: listed.length, since: None })
    }
}

/// What lies in the trash.
#[derive(Debug, Default)]
pub struct Trash {
    /// Ordered by run and id.
    pub items: Vec<Item>,
    /// Records, when they were written, and whether anything that they name is there.
    pub records: Vec<(SetAsideId, i64, bool)>,
}

impl Trash {
    /// Lists the trash and reads its records. One that does not open says nothing: what it names counts as not recorded.
    ///
    /// # Errors
    /// What the store says.
    pub async fn read(repository: &Repository) -> Result<Self, EngineError> {
        let listed = list(&**repository.store()).await?;
        let mut items: Vec<Item> = listed.iter().filter_map(Item::new).collect();
        items.sort_unstable_by_key(|item| (item.run, item.id));
        let records = listed.iter().filter_map(|listed| match listed.name {
            Name::SetAside(id) => Some((id, listed.length, listed.modified)),
            _ => None,
        });
        let fetches = records.map(|(id, length, modified)| async move {
            let plaintext = repository.fetch(id, Name::SetAside(id), Length::Exactly(length)).await;
            (id, modified, plaintext)
        });
        let mut trash = Self { items, records: Vec::new() };
        let mut fetched = stream::iter(fetches.collect::<Vec<_>>()).buffered(RECORDS_AT_ONCE);
        while let Some((id, modified, plaintext)) = fetched.next().await {
            let record = match plaintext.map_err(EngineError::from) {
                Ok(plaintext) => SetAsideRecord::decode(&plaintext).ok(),
                Err(error) if super::restore::is_damage(&error) => None,
                Err(error) => return Err(error),
            };
            let is_used = record.is_some_and(|record| trash.note(&record, modified));
            trash.records.push((id, modified, is_used));
        }
        Ok(trash)
    }

    /// Notes since when what the record names has lain here; whether any of that is still here.
    fn note(&mut self, record: &SetAsideRecord, time: i64) -> bool {
        let mut is_used = false;
        for id in &record.ids {
            if let Ok(at) = self.items.binary_search_by_key(&(record.run, *id), |item| (item.run, item.id)) {
                let since = &mut self.items[at].since;
                *since = Some(since.map_or(time, |earlier| earlier.min(time)));
                is_used = true;
            }
        }
        is_used
    }
}

/// What the trash lists; nothing where there is none.
///
/// # Errors
/// What the store says.
pub async fn list(store: &dyn Store) -> Result<Vec<Listed>, EngineError> {
    match store.list(Dir::Trash).await {
        Err(error) if error.kind == ErrorKind::NotFound => Ok(Vec::new()),
        other => Ok(other?),
    }
}

/// The roots in the trash.
///
/// # Errors
/// What the store says.
pub async fn list_roots(store: &dyn Store) -> Result<Vec<Item>, EngineError> {
    Ok(list(store).await?.iter().filter_map(Item::new).filter(|item| item.is_root).collect())
}

/// Records that these things, each with its run, lie in the trash. They must have been seen there, or moved there, before.
///
/// # Errors
/// What the store says.
pub async fn record(repository: &Repository, items: &[(RunId, ObjectId)]) -> Result<(), EngineError> {
    let mut runs: BTreeMap<RunId, Vec<ObjectId>> = BTreeMap::new();
    items.iter().for_each(|(run, id)| runs.entry(*run).or_default().push(*id));
    for (run, mut ids) in runs {
        ids.sort_unstable();
        ids.dedup();
        for ids in ids.chunks(RECORDED_MAX) {
            let record = SetAsideRecord { run, ids: ids.to_vec() };
            let plaintext = record.encode().map_err(|why| too_large(&why))?;
            let (id, object): (SetAsideId, Bytes) = repository.seal(&plaintext).map_err(|why| too_large(&why))?;
            repository.store().put(Name::SetAside(id), object).await?;
        }
    }
    Ok(())
}

fn too_large(why: &impl ToString) -> EngineError {
    RepositoryError::TooLarge { what: "a record of what was set aside", why: why.to_string() }.into()
}

/// The server's time, in seconds since 1970: read off something that is written there for that, and removed again.
///
/// # Errors
/// What the store says.
pub async fn server_time(store: &dyn Store) -> Result<i64, EngineError> {
    let name = Name::Tmp(random()?);
    store.put(name, Bytes::from_static(b"what time is it?")).await?;
    let listed = store.stat(name).await?;
    // What stays is swept later.
    let _ = store.remove(name).await;
    listed.map(|listed| listed.modified).ok_or(EngineError::Internal("what was just written is not there"))
}
