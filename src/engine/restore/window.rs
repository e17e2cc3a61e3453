//! What is written together: files, the chunks that they need, and which bytes of them go where.

use crate::format::{
    id::ChunkId,
    manifest::{ChunkRow, Metadata},
    path::TreePath,
};
use std::collections::HashMap;

/// A chunk is fetched once for files of several chunks so far apart; so many files are open at once at most.
const OPEN_REACH: u32 = 64;

/// Files to be written, planned together.
#[derive(Default)]
pub struct Window {
    /// The files.
    pub files: Vec<FilePlan>,
    /// Chunks to be fetched, in the order of their first use.
    pub chunks: Vec<ChunkPlan>,
}

/// A file to be written.
pub struct FilePlan {
    /// Where.
    pub path: TreePath,
    /// Its mode, owner, times, attributes.
    pub metadata: Metadata,
    /// Its length in bytes.
    pub size: u64,
    /// Whether it has no holes, so that its room may be taken at once.
    pub is_dense: bool,
    /// Whether what is there already is replaced.
    pub replace: bool,
    /// Whether it was changing while it was saved.
    pub torn: bool,
    /// Whether not all of it is known, so that it is not written.
    pub is_lost: bool,
    /// Writes that make it up.
    pub writes: u32,
}

/// A chunk to be fetched, and where its bytes belong.
pub struct ChunkPlan {
    /// The chunk.
    pub row: ChunkRow,
    /// Where its bytes belong.
    pub writes: Vec<Write>,
}

/// Some bytes of a chunk, and their place in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Write {
    /// The file's number in the window.
    pub file: u32,
    /// Where in the chunk's plaintext they begin.
    pub from: u32,
    /// How many they are.
    pub length: u32,
    /// Where in the file they go.
    pub offset: u64,
}

impl Window {
    /// Adds a write, to the fetch of its chunk that is planned already if the files are near each other.
    pub fn add(
        &mut self,
        fetches: &mut HashMap<ChunkId, (u32, u32)>,
        row: ChunkRow,
        file: u32,
        (from, length, offset): (u32, u32, u64),
        is_packed: bool,
    ) {
        let next = self.chunks.len() as u32;
        let known = fetches.get(&row.id).filter(|(_, first)| is_packed || file - first <= OPEN_REACH);
        let fetch = match known {
            Some(&(fetch, _)) => fetch,
            None => {
                fetches.insert(row.id, (next, file));
                self.chunks.push(ChunkPlan { row, writes: Vec::new() });
                next
            }
        };
        self.chunks[fetch as usize].writes.push(Write { file, from, length, offset });
        self.files[file as usize].writes += 1;
    }
}
