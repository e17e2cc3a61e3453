//! The manifest: entries, and the segments that hold them (`spec/5-manifest.md`).
//!
//! In memory an [`Entry`] names chunks by their row in its segment's table. What is decoded here has been authenticated
//! before, and is checked again for sense: nothing that a [`Segment`] holds can point outside it or outside the tree.

use super::{
    encoding,
    id::{ChunkId, ObjectId},
    limits::{PART_MAX, PLAIN_MAX, SEGMENT_ENTRIES_MAX, XATTRS_MAX},
    path::{PathError, TreePath},
};
use bincode::{Decode, Encode};
use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

/// A time in seconds and nanoseconds since 1970; times before have negative seconds and the nanoseconds still count up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct Time {
    /// Whole seconds, rounded down.
    pub seconds: i64,
    /// 0 … 999,999,999.
    pub nanoseconds: u32,
}

impl Time {
    /// Whether the nanoseconds are less than a second.
    #[must_use]
    pub fn is_valid(self) -> bool {
        self.nanoseconds < 1_000_000_000
    }
}

/// Who owns an entry: numbers as the file system has them, names as the machine had them, empty where it had none.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Encode, Decode)]
pub struct Owner {
    /// The user's number.
    pub uid: u32,
    /// The group's number.
    pub gid: u32,
    /// The user's name.
    pub user: Vec<u8>,
    /// The group's name.
    pub group: Vec<u8>,
}

/// An extended attribute.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Encode, Decode)]
pub struct Xattr {
    /// Its name, with the namespace: `user.comment`.
    pub name: Vec<u8>,
    /// Its value.
    pub value: Vec<u8>,
}

/// What is kept of an entry beside its path and content.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Metadata {
    /// Permission bits with setuid, setgid and sticky: `st_mode & 0o7777`.
    pub mode: u32,
    /// Who owns it.
    pub owner: Arc<Owner>,
    /// When its content was last changed.
    pub mtime: Time,
    /// When its metadata was last changed. Not restored; tells a sync what is unchanged.
    pub ctime: Time,
    /// Its inode number. Not restored; tells a sync what was moved.
    pub inode: u64,
    /// Extended attributes, sorted by name; POSIX ACLs are among them.
    pub xattrs: Vec<Xattr>,
    /// Entries with the same number other than 0 are names of one file (hard links).
    pub link_group: u64,
}

/// One file, directory, link or special file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Where it lies below the source.
    pub path: TreePath,
    /// Mode, owner, times, attributes.
    pub metadata: Metadata,
    /// What it is.
    pub node: Node,
}

/// What an entry is.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Node {
    /// A directory; what it holds follows it in the manifest.
    Directory,
    /// A regular file, or a part of one.
    File(File),
    /// A symbolic link.
    Symlink {
        /// What it points to, as it stands in the link: any bytes but NUL, never empty.
        target: Vec<u8>,
    },
    /// A named pipe.
    Fifo,
    /// A socket's name.
    Socket,
    /// A character device.
    CharacterDevice {
        /// Its major number.
        major: u32,
        /// Its minor number.
        minor: u32,
    },
    /// A device of fixed-size units, such as a disk.
    DiskDevice {
        /// Its major number.
        major: u32,
        /// Its minor number.
        minor: u32,
    },
}

/// A stretch of a file: some bytes of data, then a hole that reads as zeros and occupies nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Extent {
    /// Bytes of data. 0 only in a file's (or part's) first extent.
    pub data: u64,
    /// Bytes of the hole after them. 0 only in the last extent.
    pub hole: u64,
}

/// Content of a regular file, or of one part of it.
///
/// The data bytes of a file are all its bytes outside holes, one after the other. They lie in one pack or in chunks.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct File {
    /// Length of the whole file in bytes, holes included.
    pub size: u64,
    /// Number of this part: 0 first. Parts of one file follow each other, with the same path and metadata.
    pub part: u32,
    /// Whether another part follows.
    pub more: bool,
    /// Whether it changed while it was read, however often that was tried: its data may mix several states.
    pub torn: bool,
    /// Where data and holes lie, from where the part before ended. Empty: all data, no holes.
    pub extents: Vec<Extent>,
    /// Where the data bytes lie.
    pub content: Content,
}

/// The first 16 bytes of the keyed hash of a packed file's data bytes.
pub type ContentId = [u8; 16];

/// Where a file's data bytes lie.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Content {
    /// There are none.
    Empty,
    /// In a pack, whole.
    Packed {
        /// The pack: a row of the segment's chunk table.
        chunk: u32,
        /// Where in the pack they begin.
        offset: u32,
        /// How many they are; at least 1.
        length: u32,
        /// Their keyed hash, which finds copies.
        id: ContentId,
    },
    /// In chunks of their own, one after the other: rows of the segment's chunk table; at least one.
    Chunked {
        /// The rows.
        chunks: Vec<u32>,
    },
}

/// A chunk that entries name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ChunkRow {
    /// Its id.
    pub id: ChunkId,
    /// Length of its plaintext in bytes.
    pub plain: u32,
    /// Length of its object in bytes, as the store's listing must show it.
    pub stored: u32,
}

/// A run of entries with the table of the chunks that they name. It stands alone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Segment {
    /// Chunks in the order in which the entries first name them.
    pub chunks: Vec<ChunkRow>,
    /// Entries by path.
    pub entries: Vec<Entry>,
}

/// Why some bytes are no segment.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ManifestError {
    /// The bytes are no canonical encoding.
    #[error(transparent)]
    Encoding(#[from] encoding::EncodingError),
    /// A path is none.
    #[error("entry {0} has a bad path: {1}")]
    Path(usize, PathError),
    /// Anything else that makes no sense.
    #[error("entry {0}: {1}")]
    Entry(usize, &'static str),
    /// The tables make no sense.
    #[error("{0}")]
    Table(&'static str),
}

// ---- what is encoded ----

#[derive(Encode, Decode)]
struct SegmentRecord {
    chunks: Vec<ChunkRecord>,
    owners: Vec<Owner>,
    entries: Vec<EntryRecord>,
}

#[derive(Encode, Decode)]
struct ChunkRecord {
    id: [u8; 32],
    plain: u32,
    stored: u32,
}

#[derive(Encode, Decode)]
struct EntryRecord {
    /// Bytes shared with the path before.
    shared: u32,
    suffix: Vec<u8>,
    owner: u32,
    mode: u32,
    mtime: Time,
    ctime: Time,
    inode: u64,
    link_group: u64,
    xattrs: Vec<Xattr>,
    node: Node,
}

impl Segment {
    /// The bytes that are hashed, sealed and stored.
    ///
    /// # Errors
    /// [`ManifestError::Encoding`] where they are more than an object may hold.
    pub fn encode(&self) -> Result<Vec<u8>, ManifestError> {
        let mut owners = Table::default();
        let mut before: &[u8] = b"";
        let mut entries = Vec::with_capacity(self.entries.len());
        for entry in &self.entries {
            let path = entry.path.as_bytes();
            let shared = shared_prefix(before, path);
            entries.push(entry.record(shared, &path[shared..], owners.row(&entry.metadata.owner)));
            before = path;
        }
        let chunks = self.chunks.iter().map(|row| ChunkRecord { id: row.id.0.0, plain: row.plain, stored: row.stored });
        let owners = owners.rows.iter().map(|owner| Owner::clone(owner)).collect();
        Ok(encoding::encode(&SegmentRecord { chunks: chunks.collect(), owners, entries }, PLAIN_MAX)?)
    }

    /// Reads what [`encode`](Segment::encode) wrote.
    ///
    /// # Errors
    /// [`ManifestError`] where the bytes are anything else, down to the last one.
    pub fn decode(bytes: &[u8]) -> Result<Self, ManifestError> {
        let record: SegmentRecord = encoding::decode(bytes, PLAIN_MAX)?;
        let owners: Vec<Arc<Owner>> = record.owners.into_iter().map(Arc::new).collect();
        let chunks: Vec<ChunkRow> = record.chunks.iter().map(ChunkRecord::row).collect();
        let mut path = Vec::new();
        let mut entries = Vec::with_capacity(record.entries.len());
        for (number, entry) in record.entries.into_iter().enumerate() {
            entries.push(entry.entry(number, &mut path, &owners)?);
        }
        let segment = Self { chunks, entries };
        segment.check()?;
        // The owners' table and the shared prefixes are derived; only one way to write them is right.
        if segment.encode()? == bytes { Ok(segment) } else { Err(encoding::EncodingError::NotCanonical.into()) }
    }

    /// The path of the first entry; the root's for an empty segment, which is never written.
    #[must_use]
    pub fn first_path(&self) -> TreePath {
        self.entries.first().map(|entry| entry.path.clone()).unwrap_or_default()
    }

    /// Checks that all of it makes sense (`spec/5-manifest.md`, "What a reader checks").
    fn check(&self) -> Result<(), ManifestError> {
        if self.entries.is_empty() || self.entries.len() > SEGMENT_ENTRIES_MAX {
            return Err(ManifestError::Table("a segment holds 1 to 65,536 entries"));
        }
        let mut ids = HashSet::with_capacity(self.chunks.len());
        if !self.chunks.iter().all(|row| ids.insert(row.id)) {
            return Err(ManifestError::Table("the chunk table has a chunk twice"));
        }
        let mut next_chunk = 0;
        for (number, entry) in self.entries.iter().enumerate() {
            let fail = |why| ManifestError::Entry(number, why);
            entry.check_metadata().map_err(fail)?;
            entry.check_node(&self.chunks, &mut next_chunk).map_err(fail)?;
            if let Some(before) = number.checked_sub(1).map(|at| &self.entries[at]) {
                check_order(before, entry).map_err(fail)?;
            }
        }
        if next_chunk != self.chunks.len() {
            return Err(ManifestError::Table("the chunk table has a row that no entry names"));
        }
        Ok(())
    }
}

/// Checks that `entry` may follow `before`, in one segment or from one to the next.
///
/// # Errors
/// Why it may not.
pub fn check_order(before: &Entry, entry: &Entry) -> Result<(), &'static str> {
    match (before.next_part(), entry.part()) {
        (Some(next), part) if part == next && before.path == entry.path => {
            let same = before.metadata == entry.metadata
                && before.size() == entry.size()
                && before.is_torn() == entry.is_torn();
            if same { Ok(()) } else { Err("two parts of one file disagree") }
        }
        (Some(_), _) => Err("the next part of a file is missing"),
        (None, 1..) => Err("a part of a file has no part before it"),
        (None, 0) if before.path < entry.path => Ok(()),
        (None, 0) => Err("paths are not in order"),
    }
}

impl ChunkRecord {
    fn row(&self) -> ChunkRow {
        ChunkRow { id: ChunkId::new(ObjectId(self.id)), plain: self.plain, stored: self.stored }
    }
}

impl EntryRecord {
    fn entry(self, number: usize, path: &mut Vec<u8>, owners: &[Arc<Owner>]) -> Result<Entry, ManifestError> {
        let shared = usize::try_from(self.shared).unwrap_or(usize::MAX);
        if shared > path.len() {
            return Err(ManifestError::Entry(number, "it shares more of a path than there is"));
        }
        path.truncate(shared);
        path.extend_from_slice(&self.suffix);
        let owner = owners.get(self.owner as usize).cloned();
        let metadata = Metadata {
            mode: self.mode,
            owner: owner.ok_or(ManifestError::Entry(number, "it names an owner that the table lacks"))?,
            mtime: self.mtime,
            ctime: self.ctime,
            inode: self.inode,
            xattrs: self.xattrs,
            link_group: self.link_group,
        };
        let path = TreePath::new(path.as_slice()).map_err(|why| ManifestError::Path(number, why))?;
        Ok(Entry { path, metadata, node: self.node })
    }
}

impl Entry {
    fn record(&self, shared: usize, suffix: &[u8], owner: u32) -> EntryRecord {
        let metadata = &self.metadata;
        EntryRecord {
            shared: shared as u32,
            suffix: suffix.to_vec(),
            owner,
            mode: metadata.mode,
            mtime: metadata.mtime,
            ctime: metadata.ctime,
            inode: metadata.inode,
            link_group: metadata.link_group,
            xattrs: metadata.xattrs.clone(),
            node: self.node.clone(),
        }
    }

    /// The file, if it is one.
    #[must_use]
    pub fn file(&self) -> Option<&File> {
        match &self.node {
            Node::File(file) => Some(file),
            _ => None,
        }
    }

    /// Length in bytes; 0 for what is no file.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.file().map_or(0, |file| file.size)
    }

    /// Whether it is a file that changed while it was read.
    #[must_use]
    pub fn is_torn(&self) -> bool {
        self.file().is_some_and(|file| file.torn)
    }

    fn part(&self) -> u32 {
        self.file().map_or(0, |file| file.part)
    }

    fn next_part(&self) -> Option<u32> {
        self.file().filter(|file| file.more).and_then(|file| file.part.checked_add(1))
    }

    fn check_metadata(&self) -> Result<(), &'static str> {
        let metadata = &self.metadata;
        let xattrs = &metadata.xattrs;
        if self.path.is_root() && self.node != Node::Directory {
            return Err("the source itself is not a directory");
        }
        if metadata.mode > 0o7777 {
            return Err("its mode has bits that are none");
        }
        if !metadata.mtime.is_valid() || !metadata.ctime.is_valid() {
            return Err("a time has more than 999,999,999 nanoseconds");
        }
        if !xattrs.is_sorted_by(|a, b| a.name < b.name)
            || xattrs.iter().any(|x| x.name.is_empty() || x.name.contains(&0))
        {
            return Err("its extended attributes are out of order or badly named");
        }
        if xattrs.iter().map(|x| x.name.len() + x.value.len()).sum::<usize>() > XATTRS_MAX {
            return Err("its extended attributes are too large");
        }
        Ok(())
    }

    fn check_node(&self, chunks: &[ChunkRow], next_chunk: &mut usize) -> Result<(), &'static str> {
        match &self.node {
            Node::File(file) => file.check(chunks, next_chunk),
            Node::Symlink { target } if target.is_empty() || target.contains(&0) || target.len() > 65_535 => {
                Err("a symbolic link's target is empty, too long or holds a zero byte")
            }
            _ => Ok(()),
        }
    }
}

impl File {
    /// An empty file.
    #[must_use]
    pub fn empty() -> Self {
        Self { size: 0, part: 0, more: false, torn: false, extents: Vec::new(), content: Content::Empty }
    }

    /// Bytes of this part, holes included, given how many data bytes it has.
    ///
    /// `None` where the sum passes 2^64.
    #[must_use]
    pub fn span(&self, data: u64) -> Option<u64> {
        self.extents.iter().try_fold(data, |sum, extent| sum.checked_add(extent.hole))
    }

    /// Data bytes of this part.
    #[must_use]
    pub fn data_length(&self, chunks: &[ChunkRow]) -> u64 {
        match &self.content {
            Content::Empty => 0,
            Content::Packed { length, .. } => u64::from(*length),
            Content::Chunked { chunks: rows } => rows.iter().map(|&row| u64::from(chunks[row as usize].plain)).sum(),
        }
    }

    fn check(&self, chunks: &[ChunkRow], next_chunk: &mut usize) -> Result<(), &'static str> {
        self.check_rows(chunks, next_chunk)?;
        let data = self.data_length(chunks);
        self.check_extents(data)?;
        let span = self.span(data).ok_or("its parts add up to more than any file")?;
        if self.more && self.part == u32::MAX {
            return Err("it has more parts than can be numbered");
        }
        let is_whole = self.part == 0 && !self.more;
        if span > self.size || (is_whole && span != self.size) {
            return Err("its parts do not add up to its size");
        }
        if !is_whole && (span == 0 || !matches!(self.content, Content::Chunked { .. } | Content::Empty)) {
            return Err("a part of a file is empty or packed");
        }
        Ok(())
    }

    /// Every row exists, is first named in the table's order, and a packed file lies within its pack.
    fn check_rows(&self, chunks: &[ChunkRow], next_chunk: &mut usize) -> Result<(), &'static str> {
        let mut name = |row: u32| {
            let row = row as usize;
            if row > *next_chunk || row >= chunks.len() {
                return Err("it names a chunk that the table lacks or has out of order");
            }
            *next_chunk = (*next_chunk).max(row + 1);
            let plain = chunks[row].plain;
            if plain == 0 || plain as usize > PLAIN_MAX { Err("a chunk is empty or too large") } else { Ok(plain) }
        };
        match &self.content {
            Content::Empty => Ok(()),
            Content::Packed { chunk, offset, length, .. } => {
                let plain = name(*chunk)?;
                let inside = *length > 0 && offset.checked_add(*length).is_some_and(|end| end <= plain);
                if inside { Ok(()) } else { Err("it lies outside its pack") }
            }
            Content::Chunked { chunks: rows } => {
                if rows.is_empty() || rows.len() > PART_MAX {
                    return Err("a part of a file has 1 to 16,384 chunks");
                }
                rows.iter().try_for_each(|&row| name(row).map(drop))
            }
        }
    }

    fn check_extents(&self, data: u64) -> Result<(), &'static str> {
        let last = self.extents.len().saturating_sub(1);
        if self.extents.is_empty() {
            return Ok(());
        }
        if self.extents.len() > PART_MAX {
            return Err("a part of a file has at most 16,384 extents");
        }
        let canonical = self.extents.iter().enumerate().all(|(at, extent)| {
            (extent.data > 0 || at == 0) && (extent.hole > 0 || at == last) && (extent.data > 0 || extent.hole > 0)
        });
        if !canonical || (self.extents.len() == 1 && self.extents[0].hole == 0) {
            return Err("its extents are not written the one right way");
        }
        let sum = self.extents.iter().try_fold(0u64, |sum, extent| sum.checked_add(extent.data));
        if sum == Some(data) { Ok(()) } else { Err("its extents do not add up to its data") }
    }
}

/// Rows by value, in the order in which they are first named.
#[derive(Default)]
struct Table {
    rows: Vec<Arc<Owner>>,
    row_of: HashMap<Arc<Owner>, u32>,
}

impl Table {
    fn row(&mut self, owner: &Arc<Owner>) -> u32 {
        if let Some(&row) = self.row_of.get(owner) {
            return row;
        }
        let row = self.rows.len() as u32;
        self.rows.push(Arc::clone(owner));
        self.row_of.insert(Arc::clone(owner), row);
        row
    }
}

fn shared_prefix(before: &[u8], path: &[u8]) -> usize {
    before.iter().zip(path).take_while(|(a, b)| a == b).count()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn time() -> impl Strategy<Value = Time> {
        (any::<i64>(), 0..1_000_000_000u32).prop_map(|(seconds, nanoseconds)| Time { seconds, nanoseconds })
    }

    fn metadata() -> impl Strategy<Value = Metadata> {
        let xattrs = prop::collection::btree_map("[a-c]{1,3}", prop::collection::vec(any::<u8>(), 0..5), 0..4);
        (0..0o10000u32, 0..3u32, time(), time(), any::<u64>(), 0..3u64, xattrs).prop_map(
            |(mode, uid, mtime, ctime, inode, link_group, xattrs)| Metadata {
                mode,
                owner: Arc::new(Owner { uid, gid: 100, user: b"me".to_vec(), group: Vec::new() }),
                mtime,
                ctime,
                inode,
                xattrs: xattrs.into_iter().map(|(name, value)| Xattr { name: name.into(), value }).collect(),
                link_group,
            },
        )
    }

    /// What an entry is, in terms from which any segment's rows can be made.
    #[derive(Clone, Debug)]
    enum Plan {
        Other(Node),
        Packed { chunk: u8, holes: Vec<u64> },
        Chunked { chunks: Vec<u8>, holes: Vec<u64> },
        Parts { chunks: Vec<u8> },
    }

    fn plan() -> impl Strategy<Value = Plan> {
        let holes = || prop::collection::vec(1..u64::from(u32::MAX), 0..4);
        let other = prop_oneof![
            Just(Node::Directory),
            Just(Node::Fifo),
            Just(Node::Socket),
            Just(Node::File(File::empty())),
            "[a./]{1,9}".prop_map(|target| Node::Symlink { target: target.into() }),
            any::<(u32, u32)>().prop_map(|(major, minor)| Node::CharacterDevice { major, minor }),
            any::<(u32, u32)>().prop_map(|(major, minor)| Node::DiskDevice { major, minor }),
        ];
        prop_oneof![
            other.prop_map(Plan::Other),
            (any::<u8>(), holes()).prop_map(|(chunk, holes)| Plan::Packed { chunk, holes }),
            (prop::collection::vec(0..20u8, 1..5), holes()).prop_map(|(chunks, holes)| Plan::Chunked { chunks, holes }),
            prop::collection::vec(0..20u8, 2..5).prop_map(|chunks| Plan::Parts { chunks }),
        ]
    }

    /// One byte of data before each hole, the rest at the end.
    fn extents(data: u64, holes: &[u64]) -> Vec<Extent> {
        let mut left = data;
        let mut all: Vec<_> = holes
            .iter()
            .map(|&hole| {
                left -= 1;
                Extent { data: 1, hole }
            })
            .collect();
        if left > 0 && !all.is_empty() {
            all.push(Extent { data: left, hole: 0 });
        }
        all
    }

    #[derive(Default)]
    struct Builder {
        segment: Segment,
        rows: HashMap<u8, u32>,
    }

    impl Builder {
        fn row(&mut self, chunk: u8) -> u32 {
            let next = self.rows.len() as u32;
            let row = *self.rows.entry(chunk).or_insert(next);
            if row == next {
                let id = ChunkId::new(ObjectId([chunk; 32]));
                self.segment.chunks.push(ChunkRow { id, plain: 1000 + u32::from(chunk), stored: 1100 });
            }
            row
        }

        fn whole(&mut self, content: Content, holes: &[u64]) -> File {
            let mut file = File { content, ..File::empty() };
            let data = file.data_length(&self.segment.chunks);
            file.extents = extents(data, holes);
            file.size = file.span(data).unwrap();
            file
        }

        fn add(&mut self, path: &TreePath, metadata: Metadata, plan: Plan) {
            let push = |segment: &mut Segment, node| {
                segment.entries.push(Entry { path: path.clone(), metadata: metadata.clone(), node });
            };
            match plan {
                Plan::Other(node) => push(&mut self.segment, node),
                Plan::Packed { chunk, holes } => {
                    let content = Content::Packed { chunk: self.row(chunk), offset: 7, length: 900, id: [chunk; 16] };
                    let file = self.whole(content, &holes);
                    push(&mut self.segment, Node::File(file));
                }
                Plan::Chunked { chunks, holes } => {
                    let chunks = chunks.into_iter().map(|chunk| self.row(chunk)).collect();
                    let file = self.whole(Content::Chunked { chunks }, &holes);
                    push(&mut self.segment, Node::File(file));
                }
                Plan::Parts { chunks } => {
                    let size = chunks.iter().map(|&chunk| 1000 + u64::from(chunk)).sum();
                    for (number, &chunk) in chunks.iter().enumerate() {
                        let content = Content::Chunked { chunks: vec![self.row(chunk)] };
                        let more = number + 1 < chunks.len();
                        let file = File { size, part: number as u32, more, torn: false, extents: Vec::new(), content };
                        push(&mut self.segment, Node::File(file));
                    }
                }
            }
        }
    }

    fn segment() -> impl Strategy<Value = Segment> {
        let path =
            "[a-c.-]{1,3}(/[a-c-]{1,2}){0,2}".prop_filter_map("no path", |text| TreePath::new(text.into_bytes()).ok());
        prop::collection::btree_map(path, (metadata(), plan()), 1..12).prop_map(|entries| {
            let mut builder = Builder::default();
            entries.into_iter().for_each(|(path, (metadata, plan))| builder.add(&path, metadata, plan));
            builder.segment
        })
    }

    /// The smallest segment, with attributes of so many bytes.
    fn with_attribute(length: usize) -> Vec<u8> {
        let xattrs = vec![Xattr { name: b"n".to_vec(), value: vec![0; length - 1] }];
        let metadata = Metadata { xattrs, ..Metadata::default() };
        let entry = Entry { path: TreePath::root(), metadata, node: Node::Directory };
        Segment { chunks: Vec::new(), entries: vec![entry] }.encode().unwrap()
    }

    #[test]
    fn attributes_of_one_entry_have_a_mebibyte_at_most() {
        assert!(Segment::decode(&with_attribute(XATTRS_MAX)).is_ok());
        assert!(Segment::decode(&with_attribute(XATTRS_MAX + 1)).is_err());
    }

    #[test]
    fn a_list_that_claims_to_be_endless_is_refused() {
        for claimed in [
            &[253, 255, 255, 255, 255, 255, 255, 255, 255][..],
            &[253, 0, 0, 0, 0, 1, 0, 0, 0],
            &[252, 255, 255, 255, 255],
        ] {
            assert!(Segment::decode(claimed).is_err());
        }
    }

    proptest! {
        #[test]
        fn a_segment_is_read_as_it_was_written(segment in segment()) {
            let bytes = segment.encode().unwrap();
            prop_assert_eq!(Segment::decode(&bytes).unwrap(), segment);
        }

        #[test]
        fn a_segment_cut_or_with_more_after_it_is_none(segment in segment(), at: prop::sample::Index, more: u8) {
            let mut bytes = segment.encode().unwrap();
            prop_assert!(Segment::decode(&bytes[..at.index(bytes.len())]).is_err());
            bytes.push(more);
            prop_assert!(Segment::decode(&bytes).is_err());
        }

        #[test]
        fn what_decodes_after_a_change_is_what_its_bytes_say(segment in segment(), at: prop::sample::Index, byte: u8) {
            let mut bytes = segment.encode().unwrap();
            let at = at.index(bytes.len());
            bytes[at] = byte;
            if let Ok(changed) = Segment::decode(&bytes) {
                prop_assert_eq!(changed.encode().unwrap(), bytes);
            }
        }

        #[test]
        fn arbitrary_bytes_are_judged_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(segment) = Segment::decode(&bytes) {
                prop_assert_eq!(segment.encode().unwrap(), bytes);
            }
        }
    }
}
