//! Each stage by itself, on one thread: cut, hash, seal, open, and a segment's encoding.

// Nothing here runs for users: what fails ends the benchmark. And criterion's macro makes a function without a comment.
#![allow(clippy::expect_used, missing_docs)]

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use nfz::format::{
    chunker::Chunker,
    config::Config,
    id::{Data, Id, ObjectId},
    keys::Keys,
    manifest::{ChunkRow, Content, Entry, File, Metadata, Node, Owner, Segment, Time},
    path::TreePath,
    seal::{Compression, Opener, Sealer},
};
use std::{hint::black_box, sync::Arc};
use zeroize::Zeroizing;

const MIB: usize = 1 << 20;

fn keys() -> Keys {
    Keys::derive([1; 16], &[Zeroizing::new([2; 32])]).expect("one master secret is enough")
}

/// Bytes that no compressor gets smaller.
fn noise(length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    blake3::Hasher::new().finalize_xof().fill(&mut bytes);
    bytes
}

/// Bytes that compress about as source code does.
fn text(length: usize) -> Vec<u8> {
    let words = noise(length / 4);
    let word = |byte: &u8| {
        format!("{} ", ["let", "mut", "fn", "self", "return", "match", "chunk", "entry"][*byte as usize % 8])
    };
    words.iter().flat_map(|byte| word(byte).into_bytes()).take(length).collect()
}

fn cut(criterion: &mut Criterion) {
    let (keys, data) = (keys(), noise(16 * MIB));
    let chunker = Chunker::new(keys.cut(), Config::new(Time::default()).chunks);
    let mut group = criterion.benchmark_group("cut");
    group.throughput(Throughput::Bytes(data.len() as u64));
    group.bench_function("16 MiB", |bencher| {
        bencher.iter(|| {
            let mut rest = data.as_slice();
            while !rest.is_empty() {
                rest = &rest[chunker.cut(rest)..];
            }
        });
    });
}

fn hash(criterion: &mut Criterion) {
    let (keys, chunk) = (keys(), noise(MIB));
    let mut group = criterion.benchmark_group("hash");
    group.throughput(Throughput::Bytes(MIB as u64));
    group.bench_function("1 MiB", |bencher| bencher.iter(|| keys.id::<Data>(black_box(&chunk))));
}

fn seal_and_open(criterion: &mut Criterion) {
    let keys = keys();
    for (what, chunk) in [("noise", noise(MIB)), ("text", text(MIB))] {
        let id: Id<Data> = keys.id(&chunk);
        let mut group = criterion.benchmark_group("seal");
        group.throughput(Throughput::Bytes(MIB as u64));
        for (level, compression) in [("off", Compression::Off), ("default", Compression::DEFAULT)] {
            let mut sealer = Sealer::new(compression);
            group.bench_function(format!("1 MiB of {what}, compression {level}"), |bencher| {
                bencher.iter(|| sealer.seal(&keys, id, black_box(&chunk)));
            });
        }
        group.finish();
        let object = Sealer::new(Compression::DEFAULT).seal(&keys, id, &chunk).expect("a chunk of 1 MiB can be sealed");
        let mut opener = Opener::default();
        let mut group = criterion.benchmark_group("open");
        group.throughput(Throughput::Bytes(MIB as u64));
        group.bench_function(format!("1 MiB of {what}"), |bencher| {
            bencher.iter(|| opener.open(&keys, id, black_box(&object)).expect("it was just sealed"));
        });
    }
}

/// A thousand small files in ten packs.
fn thousand_entries() -> Segment {
    let chunks = (0..10).map(|pack| ChunkRow { id: Id::new(ObjectId([pack; 32])), plain: MIB as u32, stored: 500_000 });
    let owner = Arc::new(Owner { uid: 1000, gid: 1000, user: b"user".to_vec(), group: b"group".to_vec() });
    let entry = |number: u32| {
        let path =
            TreePath::new(format!("src/module{:02}/file{number:04}.rs", number / 50).into_bytes()).expect("a path");
        let time = Time { seconds: 1_700_000_000 + i64::from(number), nanoseconds: number * 1000 };
        let metadata = Metadata {
            mode: 0o644,
            owner: Arc::clone(&owner),
            mtime: time,
            ctime: time,
            inode: 1_000_000 + u64::from(number),
            ..Metadata::default()
        };
        let (offset, length) = (number % 100 * 5000, 5000);
        let content = Content::Packed { chunk: number / 100, offset, length, id: [number as u8; 16] };
        Entry { path, metadata, node: Node::File(File { size: u64::from(length), content, ..File::empty() }) }
    };
    Segment { chunks: chunks.collect(), entries: (0..1000).map(entry).collect() }
}

fn segment(criterion: &mut Criterion) {
    let segment = thousand_entries();
    let bytes = segment.encode().expect("a segment of a thousand entries is small");
    let mut group = criterion.benchmark_group("segment");
    group.throughput(Throughput::Elements(segment.entries.len() as u64));
    group.bench_function("encode", |bencher| bencher.iter(|| black_box(&segment).encode()));
    group.bench_function("decode", |bencher| {
        bencher.iter(|| Segment::decode(black_box(&bytes)).expect("it was just encoded"))
    });
}

criterion_group!(stages, cut, hash, seal_and_open, segment);
criterion_main!(stages);
