//! The root of a snapshot (`spec/5-manifest.md`, "Snapshot root").

use super::{
    encoding::{self, EncodingError},
    id::{ChunkId, ObjectId, SegmentId, SnapshotId},
    limits::{FOLLOWS_MAX, PLAIN_MAX, SEGMENT_ENTRIES_MAX, SPARSE_PACKS_MAX},
    manifest::Time,
    path::TreePath,
};
use bincode::{Decode, Encode};

/// A source tree as it was at one time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SnapshotRoot {
    /// When the sync began.
    pub time: Time,
    /// The machine.
    pub host: Vec<u8>,
    /// Who ran the sync.
    pub user: Vec<u8>,
    /// The source's absolute path on that machine.
    pub source: Vec<u8>,
    /// The user's own word for it; may be empty.
    pub label: Vec<u8>,
    /// What wrote it: name and version of the program.
    pub program: Vec<u8>,
    /// What the tree comes to.
    pub totals: Totals,
    /// Whether the whole tree is there; a checkpoint ends where an unfinished sync was.
    pub complete: bool,
    /// One more than the highest generation among the snapshots known when this was written.
    pub generation: u64,
    /// The snapshots it follows: those known that no other known snapshot follows.
    pub follows: Vec<SnapshotId>,
    /// Packs less than half in use by this tree: the next sync of it stores their files anew.
    pub sparse_packs: Vec<ChunkId>,
    /// The manifest.
    pub segments: Vec<SegmentRow>,
}

/// What a tree comes to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct Totals {
    /// Entries of every kind.
    pub entries: u64,
    /// Regular files.
    pub files: u64,
    /// Directories.
    pub directories: u64,
    /// Bytes of the regular files, holes included.
    pub bytes: u64,
    /// Entries that could not be read and are missing or not up to date.
    pub problems: u64,
}

/// A segment of the manifest, as the root names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentRow {
    /// Its id.
    pub id: SegmentId,
    /// Length of its object in bytes, as the store's listing must show it.
    pub stored: u32,
    /// How many entries it holds.
    pub entries: u32,
    /// The path of its first entry.
    pub first_path: TreePath,
}

/// Why some bytes are no snapshot root.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RootError {
    /// They are no canonical encoding.
    #[error(transparent)]
    Encoding(#[from] EncodingError),
    /// They are of a later format.
    #[error("it has format {0}, which this program does not know: use a newer one")]
    UnknownFormat(u32),
    /// They make no sense.
    #[error("{0}")]
    Sense(&'static str),
}

const FORMAT: u32 = 1;

#[derive(Encode, Decode)]
struct RootRecord {
    format: u32,
    time: Time,
    host: Vec<u8>,
    user: Vec<u8>,
    source: Vec<u8>,
    label: Vec<u8>,
    program: Vec<u8>,
    totals: Totals,
    complete: bool,
    generation: u64,
    follows: Vec<[u8; 32]>,
    sparse_packs: Vec<[u8; 32]>,
    segments: Vec<SegmentRecord>,
}

#[derive(Encode, Decode)]
struct SegmentRecord {
    id: [u8; 32],
    stored: u32,
    entries: u32,
    first_path: Vec<u8>,
}

impl SnapshotRoot {
    /// The bytes that are hashed, sealed and stored.
    ///
    /// # Errors
    /// [`EncodingError::TooLarge`] where the tree has more segments than a root can name.
    pub fn encode(&self) -> Result<Vec<u8>, EncodingError> {
        let segments = self.segments.iter().map(|row| SegmentRecord {
            id: row.id.0.0,
            stored: row.stored,
            entries: row.entries,
            first_path: row.first_path.as_bytes().to_vec(),
        });
        let record = RootRecord {
            format: FORMAT,
            time: self.time,
            host: self.host.clone(),
            user: self.user.clone(),
            source: self.source.clone(),
            label: self.label.clone(),
            program: self.program.clone(),
            totals: self.totals,
            complete: self.complete,
            generation: self.generation,
            follows: self.follows.iter().map(|id| id.0.0).collect(),
            sparse_packs: self.sparse_packs.iter().map(|id| id.0.0).collect(),
            segments: segments.collect(),
        };
        encoding::encode(&record, PLAIN_MAX)
    }

    /// Reads what [`encode`](SnapshotRoot::encode) wrote.
    ///
    /// # Errors
    /// [`RootError`].
    pub fn decode(bytes: &[u8]) -> Result<Self, RootError> {
        // A later format may add fields: its number is looked at first.
        if let Some(&format) = bytes.first().filter(|&&first| u32::from(first) != FORMAT) {
            return Err(RootError::UnknownFormat(u32::from(format)));
        }
        let record: RootRecord = encoding::decode(bytes, PLAIN_MAX)?;
        let root = Self {
            time: record.time,
            host: record.host,
            user: record.user,
            source: record.source,
            label: record.label,
            program: record.program,
            totals: record.totals,
            complete: record.complete,
            generation: record.generation,
            follows: record.follows.into_iter().map(|id| SnapshotId::new(ObjectId(id))).collect(),
            sparse_packs: record.sparse_packs.into_iter().map(|id| ChunkId::new(ObjectId(id))).collect(),
            segments: record.segments.into_iter().map(SegmentRecord::row).collect::<Result<_, _>>()?,
        };
        root.check()?;
        Ok(root)
    }

    fn check(&self) -> Result<(), RootError> {
        let sum = self.segments.iter().map(|row| u64::from(row.entries)).sum::<u64>();
        // Parts of one file are entries of their own in segments, but one entry in the totals.
        if self.totals.entries > sum || self.totals.files.saturating_add(self.totals.directories) > self.totals.entries
        {
            return Err(RootError::Sense("its totals do not add up"));
        }
        if !self.time.is_valid() {
            return Err(RootError::Sense("its time has more than 999,999,999 nanoseconds"));
        }
        // Equal first paths: a file of several parts may fill more than one segment.
        if !self.segments.is_sorted_by(|a, b| a.first_path <= b.first_path) {
            return Err(RootError::Sense("its segments are not in order"));
        }
        match self.segments.first() {
            Some(first) if first.first_path.is_root() => {}
            _ => return Err(RootError::Sense("its manifest does not begin with the source itself")),
        }
        if self.segments.iter().any(|row| row.entries == 0 || row.entries as usize > SEGMENT_ENTRIES_MAX) {
            return Err(RootError::Sense("one of its segments is empty or too large"));
        }
        if self.follows.len() > FOLLOWS_MAX || self.sparse_packs.len() > SPARSE_PACKS_MAX {
            return Err(RootError::Sense("it follows too many snapshots or names too many packs"));
        }
        Ok(())
    }
}

impl SegmentRecord {
    fn row(self) -> Result<SegmentRow, RootError> {
        let first_path =
            TreePath::new(self.first_path).map_err(|_| RootError::Sense("a segment's first path is none"))?;
        Ok(SegmentRow { id: SegmentId::new(ObjectId(self.id)), stored: self.stored, entries: self.entries, first_path })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn root() -> impl Strategy<Value = SnapshotRoot> {
        let path = "[a-c]{1,3}(/[a-c-]{1,2}){0,2}".prop_map(|text| TreePath::new(text.into_bytes()).unwrap());
        let paths = prop::collection::btree_set(path, 0..10);
        let ids = || prop::collection::vec(any::<[u8; 32]>().prop_map(ObjectId), 0..5);
        (any::<i64>(), any::<(u64, bool)>(), ids(), ids(), paths, "[a-zé]{0,9}").prop_map(
            |(seconds, (generation, complete), follows, packs, paths, word)| {
                let paths = std::iter::once(TreePath::root()).chain(paths);
                let rows: Vec<_> = paths
                    .map(|first_path| {
                        let id = SegmentId::new(ObjectId([generation as u8; 32]));
                        SegmentRow { id, stored: 300, entries: 9, first_path }
                    })
                    .collect();
                SnapshotRoot {
                    time: Time { seconds, nanoseconds: 5 },
                    host: word.clone().into(),
                    user: b"me".to_vec(),
                    source: b"/home".to_vec(),
                    label: word.into(),
                    program: b"nfz".to_vec(),
                    totals: Totals {
                        entries: 8 * rows.len() as u64,
                        files: 3,
                        directories: 2,
                        bytes: generation,
                        problems: 0,
                    },
                    complete,
                    generation,
                    follows: follows.into_iter().map(SnapshotId::new).collect(),
                    sparse_packs: packs.into_iter().map(ChunkId::new).collect(),
                    segments: rows,
                }
            },
        )
    }

    proptest! {
        #[test]
        fn a_root_is_read_as_it_was_written(root in root()) {
            prop_assert_eq!(SnapshotRoot::decode(&root.encode().unwrap()).unwrap(), root);
        }

        #[test]
        fn a_root_cut_or_with_more_after_it_is_none(root in root(), at: prop::sample::Index, more: u8) {
            let mut bytes = root.encode().unwrap();
            prop_assert!(SnapshotRoot::decode(&bytes[..at.index(bytes.len())]).is_err());
            bytes.push(more);
            prop_assert!(SnapshotRoot::decode(&bytes).is_err());
        }

        #[test]
        fn what_decodes_after_a_change_is_what_its_bytes_say(root in root(), at: prop::sample::Index, byte: u8) {
            let mut bytes = root.encode().unwrap();
            let at = at.index(bytes.len());
            bytes[at] = byte;
            if let Ok(changed) = SnapshotRoot::decode(&bytes) {
                prop_assert_eq!(changed.encode().unwrap(), bytes);
            }
        }
    }
}
