//! A made-up tree of any size: entries as a source would give them, six components deep, with paths of some 60 bytes. The same
//! on every machine.

#![allow(dead_code, clippy::unwrap_used, clippy::expect_used, reason = "the test and the benchmark each use a part")]

use nfz::format::{
    chunker::{PackCutter, SegmentCutter},
    config::Config,
    id::{ChunkId, ObjectId, SegmentId, SnapshotId},
    keys::Keys,
    manifest::{ChunkRow, Content, Entry, File, Metadata, Node, Owner, Segment, Time},
    path::TreePath,
    seal::{Compression, Sealer},
    segment_writer::SegmentWriter,
    snapshot::{SegmentRow, SnapshotRoot, Totals},
};
use std::sync::Arc;
use zeroize::Zeroizing;

/// Keys that are no secret.
pub fn keys() -> Keys {
    Keys::derive([7; 16], &[Zeroizing::new([7; 32])]).expect("one master secret is enough")
}

/// What kind of tree.
#[derive(Clone, Copy)]
pub struct Shape {
    /// One file in so many is large; 0: none is.
    pub large_in: u64,
    /// Mean bytes of a large file.
    pub large: u64,
    /// Mean bytes of a small one.
    pub small: u64,
}

/// Nine files of ten have 16 KB, the tenth 10 MB: a file has a megabyte on average.
pub const MIXED: Shape = Shape { large_in: 10, large: 9_856_000, small: 16_000 };
/// Mail, source code: 16 KB on average, and nothing large.
pub const SMALL: Shape = Shape { large_in: 0, large: 0, small: 16_000 };

/// Files in a directory that holds files, and directories in one that holds directories.
const FILES: u64 = 20;
const DIRECTORIES: u64 = 8;

/// An entry whose content names rows of the list beside it.
pub type Made = (Entry, Vec<ChunkRow>);

/// Makes the entries in path order.
pub struct Maker {
    shape: Shape,
    files: u64,
    packs: PackCutter,
    pack: (ChunkRow, u32),
    chunk_mean: u64,
    owner: Arc<Owner>,
    /// Distinct chunks named so far.
    pub chunks: u64,
    /// Bytes of all files so far.
    pub bytes: u64,
}

impl Maker {
    /// A maker of a tree with so many files, cut as `config` says.
    pub fn new(shape: Shape, files: u64, config: &Config) -> Self {
        let packs = PackCutter::new(keys().cut(), config.packs);
        let owner = Owner { uid: 1000, gid: 1000, user: b"user".to_vec(), group: b"user".to_vec() };
        let pack = (row(0), 0);
        let chunk_mean = mean_chunk(config) as u64;
        Self { shape, files, packs, pack, chunk_mean, owner: Arc::new(owner), chunks: 1, bytes: 0 }
    }

    /// Calls `take` with every entry.
    pub fn run(&mut self, mut take: impl FnMut(Made)) {
        let mut before: Vec<String> = Vec::new();
        take((self.directory("", 0), Vec::new()));
        for leaf in 0..self.files.div_ceil(FILES) {
            let above = components(leaf);
            let same = before.iter().zip(&above).take_while(|(a, b)| a == b).count();
            for depth in same..above.len() {
                take((self.directory(&above[..=depth].join("/"), leaf), Vec::new()));
            }
            for number in leaf * FILES..self.files.min((leaf + 1) * FILES) {
                take(self.file(&above.join("/"), number));
            }
            before = above;
        }
    }

    fn directory(&self, path: &str, seed: u64) -> Entry {
        self.entry(path.to_owned(), draw(1, seed), Node::Directory)
    }

    fn entry(&self, path: String, noise: [u64; 4], node: Node) -> Entry {
        let time = |noise: u64| Time {
            seconds: 1_600_000_000 + (noise >> 37) as i64,
            nanoseconds: (noise % 1_000_000_000) as u32,
        };
        let metadata = Metadata {
            mode: if node == Node::Directory { 0o755 } else { 0o644 },
            owner: Arc::clone(&self.owner),
            mtime: time(noise[0]),
            ctime: time(noise[1]),
            inode: 100_000_000 + noise[2] % 400_000_000,
            ..Metadata::default()
        };
        Entry { path: TreePath::new(path.into_bytes()).expect("a made-up path is one"), metadata, node }
    }

    fn file(&mut self, above: &str, number: u64) -> Made {
        let noise = draw(2, number);
        let path = format!("{above}/{:02}-{}.txt", number % FILES, word(noise[3]));
        let is_large = self.shape.large_in > 0 && number.is_multiple_of(self.shape.large_in);
        let mean = if is_large { self.shape.large } else { self.shape.small };
        let size = mean / 2 + noise[2] % mean;
        self.bytes += size;
        let (content, rows) = if is_large { self.chunked(number, size) } else { self.packed(number, size as u32) };
        let node = Node::File(File { size, content, ..File::empty() });
        (self.entry(path, noise, node), rows)
    }

    fn next_pack(&mut self) {
        self.pack = (row(self.chunks), 0);
        self.chunks += 1;
    }

    fn chunked(&mut self, number: u64, size: u64) -> (Content, Vec<ChunkRow>) {
        let (mut left, mut rows) = (size, Vec::new());
        while left > 0 {
            let length = left.min(self.chunk_mean / 4 + draw(3, number * 1000 + left)[0] % (self.chunk_mean * 3 / 2));
            rows.push(ChunkRow { plain: length as u32, ..row(self.chunks) });
            self.chunks += 1;
            left -= length;
        }
        (Content::Chunked { chunks: (0..rows.len() as u32).collect() }, rows)
    }

    fn packed(&mut self, number: u64, length: u32) -> (Content, Vec<ChunkRow>) {
        let mut id = [0; 16];
        id.copy_from_slice(&blake3::hash(&number.to_le_bytes()).as_bytes()[..16]);
        if self.pack.1 + length > row(0).plain {
            self.next_pack();
        }
        let (row_now, offset) = self.pack;
        self.pack.1 += length;
        if self.packs.ends_after(&id, length, self.pack.1) {
            self.next_pack();
        }
        (Content::Packed { chunk: 0, offset, length, id }, vec![row_now])
    }
}

/// What the manifest of a made-up tree really comes to: encoded, compressed and sealed as a sync does it.
#[derive(Clone, Debug, Default)]
pub struct Measured {
    pub files: u64,
    pub entries: u64,
    pub path_bytes: u64,
    /// Bytes of all files.
    pub bytes: u64,
    /// Distinct chunks, packs among them.
    pub chunks: u64,
    pub segments: Vec<SegmentRow>,
    /// Bytes of all segments before compression.
    pub raw: u64,
    /// Bytes of all their objects.
    pub sealed: u64,
    /// Bytes of the root before compression, and of its object.
    pub root: (u64, u64),
}

/// Makes a tree, and writes its manifest into nothing.
pub fn measure(shape: Shape, files: u64, config: &Config) -> Measured {
    let keys = keys();
    let cutter = SegmentCutter::new(keys.cut(), config.segments);
    let mut sealer = Sealer::new(Compression::DEFAULT);
    let (mut writer, mut measured) = (SegmentWriter::default(), Measured { files, ..Measured::default() });
    let mut end = |segment: Segment, measured: &mut Measured| {
        let plaintext = segment.encode().expect("a segment of bounded weight");
        let id: SegmentId = keys.id(&plaintext);
        let object = sealer.seal(&keys, id, &plaintext).expect("a segment of bounded weight");
        measured.raw += plaintext.len() as u64;
        measured.sealed += object.len() as u64;
        let (stored, entries) = (object.len() as u32, segment.entries.len() as u32);
        measured.segments.push(SegmentRow { id, stored, entries, first_path: segment.first_path() });
    };
    let mut maker = Maker::new(shape, files, config);
    maker.run(|(entry, rows)| {
        measured.entries += 1;
        measured.path_bytes += entry.path.as_bytes().len() as u64;
        if writer.push(entry, &rows, &cutter) {
            end(writer.take(), &mut measured);
        }
    });
    if !writer.is_empty() {
        end(writer.take(), &mut measured);
    }
    (measured.bytes, measured.chunks) = (maker.bytes, maker.chunks);
    measured.root = root_lengths(&root(measured.segments.clone(), b"host"), &mut Sealer::new(Compression::DEFAULT));
    measured
}

/// A root with these segments.
pub fn root(segments: Vec<SegmentRow>, host: &[u8]) -> SnapshotRoot {
    let entries = segments.iter().map(|row| u64::from(row.entries)).sum();
    SnapshotRoot {
        time: Time { seconds: 1_700_000_000, nanoseconds: 0 },
        host: host.to_vec(),
        user: b"user".to_vec(),
        source: b"/home".to_vec(),
        program: b"nfz".to_vec(),
        totals: Totals { entries, ..Totals::default() },
        complete: true,
        generation: 1,
        segments,
        ..SnapshotRoot::default()
    }
}

fn root_lengths(root: &SnapshotRoot, sealer: &mut Sealer) -> (u64, u64) {
    let keys = keys();
    let plaintext = root.encode().expect("a root of few segments");
    let id: SnapshotId = keys.id(&plaintext);
    let object = sealer.seal(&keys, id, &plaintext).expect("a root of few segments");
    (plaintext.len() as u64, object.len() as u64)
}

/// Mean length of a chunk of a large file, in bytes, by page 4: cuts are drawn twice as rarely before the average as such,
/// and twice as often after it.
pub fn mean_chunk(config: &Config) -> f64 {
    let (min, average, max) =
        (f64::from(config.chunks.min), f64::from(config.chunks.average), f64::from(config.chunks.max));
    let (early, late) = (2.0 * (average - min), (average - min) / 2.0);
    let reaches_average = (-(average - min) / early).exp();
    let after = late * (1.0 - (-(max - average) / late).exp());
    min + early * (1.0 - reaches_average) + reaches_average * after
}

/// Directories above the files of number `leaf`, outermost first; in order.
fn components(leaf: u64) -> Vec<String> {
    let parts = (0..5).rev().map(|level| leaf / DIRECTORIES.pow(level));
    let name = |(depth, part): (usize, u64)| {
        let word = word(draw(4 + depth as u64, part)[0]);
        if depth == 0 { format!("{part:06}-{word}") } else { format!("{}-{word}", part % DIRECTORIES) }
    };
    parts.enumerate().map(name).collect()
}

fn word(noise: u64) -> String {
    (0..6).map(|at| char::from(b'a' + (noise >> (8 * at)) as u8 % 26)).collect()
}

fn row(number: u64) -> ChunkRow {
    let id = ChunkId::new(ObjectId(*blake3::hash(&number.to_be_bytes()).as_bytes()));
    ChunkRow { id, plain: 4 << 20, stored: 400_000 + (draw(0, number)[0] % 500_000) as u32 }
}

/// Four numbers that look drawn by lot.
fn draw(kind: u64, number: u64) -> [u64; 4] {
    let hash = blake3::hash(&[kind.to_le_bytes(), number.to_le_bytes()].concat());
    std::array::from_fn(|at| {
        let mut bytes = [0; 8];
        bytes.copy_from_slice(&hash.as_bytes()[8 * at..8 * at + 8]);
        u64::from_le_bytes(bytes)
    })
}
