//! Entries on their way into the manifest: they name chunks that may not have been stored yet.

use crate::engine::tree::rows_of;
use crate::format::{
    extents::ExtentList,
    manifest::{ChunkRow, Content, Entry, File, Node, Segment},
};
use std::sync::Arc;

/// An entry whose content names rows of `refs`.
#[derive(Clone, Debug)]
pub struct Draft {
    /// The entry.
    pub entry: Entry,
    /// The chunks it names.
    pub refs: Vec<Ref>,
}

/// A chunk that a draft names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ref {
    /// One that the store has.
    Row(ChunkRow),
    /// The one of this number in this run.
    New(u32),
}

impl Draft {
    /// An entry that names no chunk.
    #[must_use]
    pub fn plain(entry: Entry) -> Self {
        Self { entry, refs: Vec::new() }
    }
}

/// An entry of an old manifest: all parts of it.
#[derive(Clone, Debug)]
pub struct Old {
    parts: Vec<(Arc<Segment>, usize)>,
}

impl Old {
    /// The entry with this first part.
    #[must_use]
    pub fn new(segment: Arc<Segment>, number: usize) -> Self {
        Self { parts: vec![(segment, number)] }
    }

    /// Adds the next part.
    pub fn push(&mut self, segment: Arc<Segment>, number: usize) {
        self.parts.push((segment, number));
    }

    /// The entry, or the first part of it.
    #[must_use]
    pub fn entry(&self) -> &Entry {
        let (segment, number) = &self.parts[0];
        &segment.entries[*number]
    }

    /// Whether the last part is there.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        let (segment, number) = &self.parts[self.parts.len() - 1];
        segment.entries[*number].file().is_none_or(|file| !file.more)
    }

    /// All chunks that it names.
    pub fn rows(&self) -> impl Iterator<Item = ChunkRow> + '_ {
        self.parts.iter().flat_map(|(segment, number)| rows_of(&segment.entries[*number], &segment.chunks))
    }

    /// The same entry for another manifest.
    #[must_use]
    pub fn draft(&self) -> Draft {
        let mut entry = self.entry().clone();
        if let Node::File(file) = &mut entry.node {
            *file = self.file(file);
        }
        Draft { entry, refs: self.rows().map(Ref::Row).collect() }
    }

    /// The whole file, its content naming the rows of [`rows`](Self::rows).
    fn file(&self, first: &File) -> File {
        let content = match &first.content {
            Content::Packed { offset, length, id, .. } => {
                Content::Packed { chunk: 0, offset: *offset, length: *length, id: *id }
            }
            _ => match self.rows().count() as u32 {
                0 => Content::Empty,
                count => Content::Chunked { chunks: (0..count).collect() },
            },
        };
        let mut extents = ExtentList::default();
        for (segment, number) in &self.parts {
            if let Some(part) = segment.entries[*number].file() {
                extents.extend(&part.extents, part.data_length(&segment.chunks));
            }
        }
        File { size: first.size, part: 0, more: false, torn: first.torn, extents: extents.finish(), content }
    }
}
