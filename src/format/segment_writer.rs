//! Fills segments with entries and says when one is full (`spec/4-chunking.md`, "Segments").

use super::{
    chunker::SegmentCutter,
    id::ChunkId,
    manifest::{ChunkRow, Content, Entry, Node, Segment},
};
use std::collections::HashMap;

/// The segment that is being filled.
#[derive(Clone, Default)]
pub struct SegmentWriter {
    segment: Segment,
    row_of: HashMap<ChunkId, u32>,
    weight: usize,
}

impl SegmentWriter {
    /// Adds an entry whose content names rows of `rows`. Says whether the segment is full now.
    pub fn push(&mut self, mut entry: Entry, rows: &[ChunkRow], cutter: &SegmentCutter) -> bool {
        self.weight += weight(&entry);
        if let Node::File(file) = &mut entry.node {
            match &mut file.content {
                Content::Empty => {}
                Content::Packed { chunk, .. } => *chunk = self.row(rows[*chunk as usize]),
                Content::Chunked { chunks } => {
                    chunks.iter_mut().for_each(|chunk| *chunk = self.row(rows[*chunk as usize]))
                }
            }
        }
        let is_full = cutter.ends_after(&entry.path, self.segment.entries.len() + 1, self.weight);
        self.segment.entries.push(entry);
        is_full
    }

    fn row(&mut self, row: ChunkRow) -> u32 {
        let next = self.segment.chunks.len() as u32;
        *self.row_of.entry(row.id).or_insert_with(|| {
            self.segment.chunks.push(row);
            next
        })
    }

    /// Whether nothing was added yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.segment.entries.is_empty()
    }

    /// What was added since the last time.
    pub fn take(&mut self) -> Segment {
        std::mem::take(self).segment
    }
}

/// What an entry counts towards the size of its segment, in bytes.
fn weight(entry: &Entry) -> usize {
    let xattrs = entry.metadata.xattrs.iter().map(|xattr| xattr.name.len() + xattr.value.len()).sum::<usize>();
    let node = match &entry.node {
        Node::Symlink { target } => target.len(),
        Node::File(file) => {
            let chunks = match &file.content {
                Content::Empty => 0,
                Content::Packed { .. } => 1,
                Content::Chunked { chunks } => chunks.len(),
            };
            40 * chunks + 12 * file.extents.len()
        }
        _ => 0,
    };
    64 + entry.path.as_bytes().len() + xattrs + node
}
