//! What was set aside, for readers: a chunk is looked for in the trash before it is called lost (`spec/6-operations.md`).

use super::{Repository, RepositoryError, list_or_empty};
use crate::format::{
    id::{Id, ObjectId, OfKind},
    limits::OBJECT_MAX,
    name::{Dir, Name},
};
use crate::store::{ErrorKind, Length, StoreError};
use bytes::Bytes;
use std::collections::HashMap;
use tokio::sync::Mutex;

/// Listings in a row that did not have what was looked for. Then the trash is not listed again: much is lost, not set aside.
const FRUITLESS_MAX: u32 = 16;

/// What the trash holds, so far as it was listed. It is listed when first needed.
#[derive(Default)]
pub(super) struct Trash {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    chunks: HashMap<ObjectId, Name>,
    fruitless: u32,
}

impl Repository {
    /// Where in the trash a chunk or segment lies, if it does.
    ///
    /// # Errors
    /// What the store says.
    pub async fn find_in_trash(&self, id: ObjectId) -> Result<Option<Name>, RepositoryError> {
        let mut state = self.trash.state.lock().await;
        if let Some(name) = state.chunks.get(&id) {
            return Ok(Some(*name));
        }
        if state.fruitless >= FRUITLESS_MAX {
            return Ok(None);
        }
        let listed = list_or_empty(&*self.store, Dir::Trash).await?;
        state.chunks = listed.into_iter().filter_map(|listed| Some((chunk_of(listed.name)?, listed.name))).collect();
        let found = state.chunks.get(&id).copied();
        state.fruitless = if found.is_some() { 0 } else { state.fruitless + 1 };
        Ok(found)
    }

    /// Whether a chunk or segment is there, in its shard or in the trash.
    ///
    /// # Errors
    /// What the store says.
    pub async fn has_chunk(&self, id: ObjectId) -> Result<bool, RepositoryError> {
        let is_there = |name: Name| async move { Ok::<_, RepositoryError>(self.store.stat(name).await?.is_some()) };
        if is_there(Name::Chunk(id)).await? {
            return Ok(true);
        }
        if let Some(name) = self.find_in_trash(id).await?
            && is_there(name).await?
        {
            return Ok(true);
        }
        // It may have been moved back between the two questions.
        is_there(Name::Chunk(id)).await
    }

    /// The object of a data chunk or segment, unopened; see [`fetch_chunk`](Repository::fetch_chunk).
    ///
    /// # Errors
    /// What the store says.
    pub async fn get_chunk<K: OfKind>(&self, id: Id<K>, stored: u32) -> Result<Bytes, RepositoryError> {
        match self.get_any(Name::Chunk(id.0), stored).await {
            Err(error) if error.kind == ErrorKind::NotFound => self.get_set_aside(id.0, stored, error).await,
            other => Ok(other?),
        }
    }

    async fn get_set_aside(&self, id: ObjectId, stored: u32, missing: StoreError) -> Result<Bytes, RepositoryError> {
        if let Some(name) = self.find_in_trash(id).await? {
            match self.get_any(name, stored).await {
                Err(error) if error.kind == ErrorKind::NotFound => {
                    self.trash.state.lock().await.chunks.remove(&id);
                }
                other => return Ok(other?),
            }
        }
        // It may have been moved back between the two questions.
        match self.get_any(Name::Chunk(id), stored).await {
            Err(error) if error.kind == ErrorKind::NotFound => Err(missing.into()),
            other => Ok(other?),
        }
    }

    /// An object whatever its length, with the likely one tried first.
    async fn get_any(&self, name: Name, stored: u32) -> Result<Bytes, StoreError> {
        match self.store.get(name, Length::Exactly(u64::from(stored))).await {
            Err(error) if error.kind == ErrorKind::WrongLength => {
                self.store.get(name, Length::AtMost(OBJECT_MAX)).await
            }
            other => other,
        }
    }
}

fn chunk_of(name: Name) -> Option<ObjectId> {
    match name {
        Name::TrashedChunk(_, id) => Some(id),
        _ => None,
    }
}
