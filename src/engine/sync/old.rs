//! The tree as it was saved last: streamed beside the walk, and looked up for what moved or was copied.

use super::draft::Old;
use crate::engine::{
    error::EngineError,
    event::{Observer, Problem, Problems},
    history::Base,
    presence::Presence,
    restore::is_damage,
    tree::{Tree, rows_of},
};
use crate::format::{
    id::{ChunkId, SegmentId},
    manifest::{ChunkRow, Content, ContentId, Entry, Node, Segment, Time},
    path::TreePath,
};
use crate::repository::Repository;
use futures_util::{Stream, StreamExt, stream};
use std::{
    collections::{HashMap, HashSet},
    hash::{BuildHasher, RandomState},
    sync::Arc,
};
use tokio::sync::mpsc;

/// What was saved last: a checkpoint as far as it goes, then the complete snapshot.
pub struct OldTree {
    trees: Vec<Arc<Tree>>,
    oldest: Option<Time>,
    sparse: HashSet<ChunkId>,
}

/// A segment of the old tree, and which of its entries count.
pub struct OldSegment {
    place: (u32, u32),
    segment: Arc<Segment>,
    from: usize,
}

impl OldTree {
    /// The tree that `base` stands for; an empty one where there was no snapshot.
    #[must_use]
    pub fn new(repository: &Arc<Repository>, base: &Base) -> Arc<Self> {
        let snapshots = [&base.checkpoint, &base.complete].into_iter().flatten();
        let sparse = snapshots.clone().flat_map(|info| info.root.sparse_packs.iter().copied()).collect();
        let trees = snapshots
            .clone()
            .map(|info| Tree::kept(Arc::clone(repository), info.id, info.root.segments.clone()))
            .collect();
        let oldest = snapshots.map(|info| info.root.time).min();
        Arc::new(Self { trees, oldest, sparse })
    }

    /// When the sync of the oldest snapshot in it began.
    #[must_use]
    pub fn oldest(&self) -> Option<Time> {
        self.oldest
    }

    /// Whether a pack is to be stored anew, because little of it is in use.
    #[must_use]
    pub fn is_sparse(&self, row: &ChunkRow) -> bool {
        self.sparse.contains(&row.id)
    }

    /// Segments that the store has, with their stored lengths.
    #[must_use]
    pub fn segments(&self) -> HashMap<SegmentId, u32> {
        self.trees.iter().flat_map(|tree| tree.rows()).map(|row| (row.id, row.stored)).collect()
    }

    /// All segments in order of path; a damaged one is a problem, is not relied on, and its files count as new.
    fn stream(
        self: &Arc<Self>,
        presence: Arc<Presence>,
        problems: Arc<Problems>,
        observer: Arc<dyn Observer>,
    ) -> impl Stream<Item = OldSegment> + Send + 'static {
        let old = Arc::clone(self);
        let mut last: Option<TreePath> = None;
        stream::iter(0..self.trees.len())
            .flat_map(move |number| {
                let tree = Arc::clone(&old.trees[number]);
                let segments = tree.segments(0..tree.len());
                segments.map(move |(at, segment)| (number, at, tree.rows()[at].id.0, segment))
            })
            .filter_map(move |(tree, at, damaged, segment)| {
                let kept = match segment {
                    Ok(segment) => after(&mut last, tree, at, segment),
                    Err(why) => {
                        if is_damage(&why) {
                            presence.distrust(damaged);
                        }
                        problems.add(&*observer, Problem::new("the last snapshot's manifest", why));
                        None
                    }
                };
                async move { kept }
            })
    }

    /// Streams all segments into a channel, ahead of their use.
    pub async fn feed(
        self: Arc<Self>,
        sender: mpsc::Sender<OldSegment>,
        presence: Arc<Presence>,
        problems: Arc<Problems>,
        observer: Arc<dyn Observer>,
    ) {
        let mut segments = Box::pin(self.stream(presence, problems, observer));
        while let Some(segment) = segments.next().await {
            if sender.send(segment).await.is_err() {
                return;
            }
        }
    }

    /// Collects what is needed to find moved and copied files: some 56 bytes for each file.
    pub async fn table(self: &Arc<Self>, presence: Arc<Presence>) -> Table {
        let silent: Arc<dyn Observer> = Arc::new(crate::engine::event::Silent);
        let mut segments = Box::pin(self.stream(presence, Arc::default(), silent));
        let mut table = Table::default();
        while let Some(old) = segments.next().await {
            table.add(&old, &self.sparse);
        }
        table.sort();
        table
    }

    /// Reads an entry again that the table names.
    ///
    /// # Errors
    /// Where its segments cannot be fetched any more.
    pub async fn entry(&self, place: (u32, u32), number: u32) -> Result<Old, EngineError> {
        let tree = &self.trees[place.0 as usize];
        let mut at = place.1 as usize;
        let mut segment = Arc::new(tree.segment(at).await?);
        let mut entry = number as usize;
        let mut old = Old::new(Arc::clone(&segment), entry);
        while !old.is_whole() {
            entry += 1;
            if entry == segment.entries.len() {
                (at, entry) = (at + 1, 0);
                if at == tree.len() {
                    return Err(EngineError::Internal("a file's last part is missing"));
                }
                segment = Arc::new(tree.segment(at).await?);
            }
            old.push(Arc::clone(&segment), entry);
        }
        Ok(old)
    }
}

/// The entries of `segment` that come after all that was streamed before; only where one tree follows another some do not.
fn after(last: &mut Option<TreePath>, tree: usize, at: usize, segment: Segment) -> Option<OldSegment> {
    let from = match last {
        Some(last) if tree > 0 => segment.entries.partition_point(|entry| entry.path <= *last),
        _ => 0,
    };
    if from == segment.entries.len() {
        return None;
    }
    if tree == 0 {
        *last = segment.entries.last().map(|entry| entry.path.clone());
    }
    Some(OldSegment { place: (tree as u32, at as u32), segment: Arc::new(segment), from })
}

/// The old tree's entries one by one.
pub struct OldEntries {
    segments: mpsc::Receiver<OldSegment>,
    current: Option<OldSegment>,
}

impl OldEntries {
    /// The entries of what [`OldTree::feed`] sends.
    #[must_use]
    pub fn new(segments: mpsc::Receiver<OldSegment>) -> Self {
        Self { segments, current: None }
    }

    /// The next entry's path. Waits for the segment that holds it: not to be called from async code.
    pub fn peek(&mut self) -> Option<&Entry> {
        while self.current.as_ref().is_none_or(|current| current.from >= current.segment.entries.len()) {
            self.current = Some(self.segments.blocking_recv()?);
        }
        self.current.as_ref().map(|current| &current.segment.entries[current.from])
    }

    /// The next entry with all its parts. Parts whose beginning is lost are passed over.
    pub fn next(&mut self) -> Option<Old> {
        let mut old = self.take()?;
        while !old.is_whole() {
            let path = old.entry().path.clone();
            if self.peek().is_none_or(|next| next.path != path) {
                return self.next();
            }
            let current = self.current.as_mut()?;
            old.push(Arc::clone(&current.segment), current.from);
            current.from += 1;
        }
        if old.entry().file().is_some_and(|file| file.part > 0) { self.next() } else { Some(old) }
    }

    fn take(&mut self) -> Option<Old> {
        self.peek()?;
        let current = self.current.as_mut()?;
        current.from += 1;
        Some(Old::new(Arc::clone(&current.segment), current.from - 1))
    }
}

/// Where the content of old files lies, by what identifies a file and by content.
#[derive(Default)]
pub struct Table {
    hasher: RandomState,
    files: Vec<OldFile>,
    packs: Vec<ChunkRow>,
    pack_of: HashMap<ChunkId, u32>,
    by_identity: Vec<u32>,
    by_content: Vec<u32>,
}

struct OldFile {
    identity: u64,
    content: ContentId,
    /// Row of `packs`; `CHUNKED` where the entry itself must be read again.
    pack: u32,
    offset: u32,
    length: u32,
    tree: u32,
    segment: u32,
    entry: u32,
}

const CHUNKED: u32 = u32::MAX;

/// Memory that one file of the old tree takes once a sync looks for moved and copied ones, in bytes: its row, and its
/// place in two orders.
pub const OLD_FILE_BYTES: usize = size_of::<OldFile>() + 2 * size_of::<u32>();

/// Where the content of an old file lies.
pub enum OldContent {
    /// In a pack.
    Packed(PackedAt),
    /// In the entry at this place.
    At((u32, u32), u32),
}

/// Where a small file's data lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PackedAt {
    /// The pack.
    pub row: ChunkRow,
    /// Where in it they begin.
    pub offset: u32,
    /// How many they are.
    pub length: u32,
    /// Their content id.
    pub id: ContentId,
}

impl Table {
    fn add(&mut self, old: &OldSegment, sparse: &HashSet<ChunkId>) {
        let entries = old.segment.entries.iter().enumerate().skip(old.from);
        for (number, entry) in entries {
            let Node::File(file) = &entry.node else { continue };
            if file.torn || file.part > 0 || rows_of(entry, &old.segment.chunks).any(|row| sparse.contains(&row.id)) {
                continue;
            }
            let (pack, offset, length, content) = match &file.content {
                Content::Packed { chunk, offset, length, id } if file.extents.is_empty() => {
                    (self.pack(old.segment.chunks[*chunk as usize]), *offset, *length, *id)
                }
                Content::Empty if file.size == 0 => continue,
                _ => (CHUNKED, 0, 0, [0; 16]),
            };
            let identity = self.identity(entry.metadata.inode, file.size, entry.metadata.mtime);
            let ((tree, segment), entry) = (old.place, number as u32);
            self.files.push(OldFile { identity, content, pack, offset, length, tree, segment, entry });
        }
    }

    fn pack(&mut self, row: ChunkRow) -> u32 {
        let next = self.packs.len() as u32;
        *self.pack_of.entry(row.id).or_insert_with(|| {
            self.packs.push(row);
            next
        })
    }

    fn identity(&self, inode: u64, size: u64, mtime: Time) -> u64 {
        self.hasher.hash_one((inode, size, mtime))
    }

    fn sort(&mut self) {
        self.pack_of = HashMap::new();
        let files = &self.files;
        self.by_identity = (0..files.len() as u32).collect();
        self.by_identity.sort_unstable_by_key(|&file| files[file as usize].identity);
        self.by_content = (0..files.len() as u32).filter(|&file| files[file as usize].pack != CHUNKED).collect();
        self.by_content.sort_unstable_by_key(|&file| files[file as usize].content);
    }

    /// The content of the one old file with this inode, size and mtime.
    #[must_use]
    pub fn moved(&self, inode: u64, size: u64, mtime: Time) -> Option<OldContent> {
        let wanted = self.identity(inode, size, mtime);
        let at = self.by_identity.partition_point(|&file| self.files[file as usize].identity < wanted);
        let file = self.files.get(*self.by_identity.get(at)? as usize).filter(|file| file.identity == wanted)?;
        Some(match file.pack {
            CHUNKED => OldContent::At((file.tree, file.segment), file.entry),
            _ => OldContent::Packed(self.packed(file)),
        })
    }

    /// Where data with this content id lie.
    #[must_use]
    pub fn content(&self, id: &ContentId) -> Option<PackedAt> {
        let at = self.by_content.partition_point(|&file| self.files[file as usize].content < *id);
        let file = self.files.get(*self.by_content.get(at)? as usize).filter(|file| file.content == *id)?;
        Some(self.packed(file))
    }

    fn packed(&self, file: &OldFile) -> PackedAt {
        PackedAt { row: self.packs[file.pack as usize], offset: file.offset, length: file.length, id: file.content }
    }
}
