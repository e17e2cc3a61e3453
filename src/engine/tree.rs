//! A snapshot's manifest, read segment by segment.

use super::error::EngineError;
use crate::format::{
    id::SnapshotId,
    limits::PLAIN_MAX,
    manifest::{ChunkRow, Content, Entry, Segment, check_order},
    name::Name,
    path::TreePath,
    snapshot::SegmentRow,
};
use crate::repository::{Repository, RepositoryError, compute, open_object};
use bytes::Bytes;
use futures_util::{Stream, StreamExt, stream};
use std::{
    collections::HashMap,
    ops::Range,
    sync::{Arc, Mutex, PoisonError},
};

/// Segments fetched ahead of their use, sealed.
pub const SEGMENTS_AHEAD: usize = 64;
/// Segments opened ahead of their use: these take several times as much memory.
const OPENED_AHEAD: usize = 8;
/// Sealed segments are kept for a second look up to so many bytes in all; further ones are fetched again.
const KEPT_MAX: usize = 24 << 20;

/// The manifest of a snapshot.
pub struct Tree {
    repository: Arc<Repository>,
    snapshot: SnapshotId,
    segments: Vec<SegmentRow>,
    kept: Option<Mutex<Kept>>,
}

#[derive(Default)]
struct Kept {
    objects: HashMap<usize, Bytes>,
    bytes: usize,
}

impl Tree {
    /// The manifest with these segments, for reading once.
    #[must_use]
    pub fn new(repository: Arc<Repository>, snapshot: SnapshotId, segments: Vec<SegmentRow>) -> Arc<Self> {
        Arc::new(Self { repository, snapshot, segments, kept: None })
    }

    /// The same, for reading more than once: keeps sealed segments, up to a bound.
    #[must_use]
    pub fn kept(repository: Arc<Repository>, snapshot: SnapshotId, segments: Vec<SegmentRow>) -> Arc<Self> {
        Arc::new(Self { repository, snapshot, segments, kept: Some(Mutex::default()) })
    }

    /// How many segments there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.segments.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.segments.is_empty()
    }

    /// The segments that the root names.
    #[must_use]
    pub fn rows(&self) -> &[SegmentRow] {
        &self.segments
    }

    /// Which segments can hold `path` and what lies below it.
    #[must_use]
    pub fn range_of(&self, path: &TreePath) -> Range<usize> {
        let first = self.segments.partition_point(|row| row.first_path < *path).saturating_sub(1);
        let is_past = |row: &SegmentRow| row.first_path > *path && !row.first_path.starts_with(path);
        let end = self.segments.iter().position(is_past).unwrap_or(self.segments.len());
        first..end.max(first)
    }

    /// One segment.
    ///
    /// # Errors
    /// Where it cannot be fetched, or is not what the root says.
    pub async fn segment(&self, number: usize) -> Result<Segment, EngineError> {
        let object = self.object(number).await?;
        self.opened(number, object).await
    }

    async fn opened(&self, number: usize, object: Bytes) -> Result<Segment, EngineError> {
        let row = &self.segments[number];
        let name = Name::Chunk(row.id.0);
        let (keys, id) = (Arc::clone(self.repository.keys()), row.id);
        let decoded = compute(move || {
            let plaintext = open_object(&keys, id, name, &object)?;
            Segment::decode(&plaintext).map_err(|why| RepositoryError::Damaged { name, why: why.to_string() })
        });
        let segment = decoded.await??;
        if segment.entries.len() != row.entries as usize || segment.first_path() != row.first_path {
            let why = "it does not hold what the snapshot's root says".to_owned();
            return Err(RepositoryError::Damaged { name, why }.into());
        }
        Ok(segment)
    }

    async fn object(&self, number: usize) -> Result<Bytes, EngineError> {
        if let Some(object) = self.kept.as_ref().and_then(|kept| lock(kept).objects.get(&number).cloned()) {
            return Ok(object);
        }
        let row = &self.segments[number];
        let object = self.repository.get_chunk(row.id, row.stored).await?;
        if let Some(kept) = &self.kept {
            lock(kept).keep(number, &object);
        }
        Ok(object)
    }

    /// The segments of these numbers, in order, fetched ahead. Each is `Err` by itself where it is damaged.
    pub fn segments<N>(
        self: &Arc<Self>,
        numbers: N,
    ) -> impl Stream<Item = (usize, Result<Segment, EngineError>)> + Send + use<N>
    where
        N: IntoIterator<Item = usize>,
        N::IntoIter: Send,
    {
        let (fetching, opening) = (Arc::clone(self), Arc::clone(self));
        let objects = stream::iter(numbers).map(move |number| {
            let tree = Arc::clone(&fetching);
            async move { (number, tree.object(number).await) }
        });
        let segments = objects.buffered(SEGMENTS_AHEAD).map(move |(number, object)| {
            let tree = Arc::clone(&opening);
            async move {
                match object {
                    Ok(object) => (number, tree.opened(number, object).await),
                    Err(error) => (number, Err(error)),
                }
            }
        });
        segments.buffered(OPENED_AHEAD)
    }

    /// What is wrong between the last entry of one segment and the first of the next, as an error.
    ///
    /// # Errors
    /// [`EngineError::Manifest`].
    pub fn check_seam(&self, last: Option<&Entry>, next: &Segment) -> Result<(), EngineError> {
        let Some((last, first)) = last.zip(next.entries.first()) else { return Ok(()) };
        check_order(last, first)
            .map_err(|why| EngineError::Manifest { snapshot: self.snapshot, why: format!("{}: {why}", first.path) })
    }
}

impl Kept {
    fn keep(&mut self, number: usize, object: &Bytes) {
        if self.bytes + object.len() <= KEPT_MAX && self.objects.insert(number, object.clone()).is_none() {
            self.bytes += object.len();
        }
    }
}

fn lock(kept: &Mutex<Kept>) -> std::sync::MutexGuard<'_, Kept> {
    kept.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The rows of its segment's table that an entry names, in order.
pub fn rows_of<'a>(entry: &'a Entry, chunks: &'a [ChunkRow]) -> impl Iterator<Item = ChunkRow> + 'a {
    let (one, many): (Option<u32>, &[u32]) = match entry.file().map(|file| &file.content) {
        Some(Content::Packed { chunk, .. }) => (Some(*chunk), &[]),
        Some(Content::Chunked { chunks }) => (None, chunks),
        _ => (None, &[]),
    };
    one.into_iter().chain(many.iter().copied()).map(|row| chunks[row as usize])
}

const _: () = assert!(PLAIN_MAX < u32::MAX as usize);
