//! What was saved comes back: random trees, random edits, every snapshot of them.
#![allow(clippy::unwrap_used, clippy::panic)]

#[path = "support/engine.rs"]
mod engine;
#[path = "support/tree.rs"]
mod tree;

use engine::*;
use nfz::engine::verify::ReadData;
use proptest::{collection::vec, prelude::*};
use rustix::fs::{self as sys, CWD, FileType, Mode, OFlags};
use std::{
    fs,
    os::unix::net::UnixListener,
    path::Path,
    sync::{Arc, LazyLock},
};
use tokio::runtime::Runtime;

static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| Runtime::new().unwrap());

/// Saves `source` and restores it; both are as one.
async fn assert_round_trip(source: &Path) {
    let before = tree::read(source);
    let store = fresh().await;
    let id = sync(store.clone(), source).await.snapshot.unwrap();
    let out = tempfile::tempdir().unwrap();
    let repository = open(store).await;
    restore(&repository, id, &out.path().join("out")).await;
    let after = tree::read(&out.path().join("out"));
    tree::assert_same(&before, &tree::read(source));
    tree::assert_same(&before, &after);
    tree::assert_holes_kept(&before, &after);
    let verified = verify(&repository, ReadData::All, Some(source)).await;
    assert_eq!((verified.damage, verified.differences, verified.problems), (vec![], vec![], vec![]));
    assert_eq!(verified.same, before.len() as u64);
}

/// One step in the life of a source: it is edited, then saved from one of two hosts.
#[derive(Clone, Debug)]
struct Step {
    edits: Vec<tree::Edit>,
    host: bool,
    always_read: bool,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = (tree::edits(), any::<bool>(), proptest::bool::weighted(0.2));
    vec(step.prop_map(|(edits, host, always_read)| Step { edits, host, always_read }), 1..6)
}

async fn save_step(
    store: &Arc<nfz::store::memory::MemoryStore>,
    source: &Path,
    step: &Step,
) -> nfz::format::id::SnapshotId {
    let host = if step.host { "one" } else { "two" }.to_owned();
    let options =
        nfz::engine::sync::SyncOptions { host, always_read: step.always_read, allow_empty: true, ..sync_options() };
    let report = sync_with(store.clone(), source, options).await;
    assert_eq!(report.problems, []);
    report.snapshot.unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, max_shrink_iters: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_was_saved_comes_back_exactly(tree in tree::trees()) {
        let source = tempfile::tempdir().unwrap();
        tree::make(source.path(), &tree);
        RUNTIME.block_on(assert_round_trip(source.path()));
    }

    #[test]
    fn every_snapshot_of_an_edited_tree_comes_back_as_the_tree_was_then(tree in tree::trees(), steps in steps()) {
        let directory = tempfile::tempdir().unwrap();
        let source = directory.path().join("source");
        fs::create_dir(&source).unwrap();
        tree::make(&source, &tree);
        RUNTIME.block_on(async {
            let store = fresh().await;
            let mut saved = Vec::new();
            for step in &steps {
                step.edits.iter().for_each(|edit| tree::apply(&source, edit));
                saved.push((tree::read(&source), save_step(&store, &source, step).await));
            }
            let repository = open(store).await;
            for (number, (then, id)) in saved.iter().enumerate() {
                let out = directory.path().join(number.to_string());
                restore(&repository, *id, &out).await;
                tree::assert_same(then, &tree::read(&out));
            }
            assert_whole(&repository).await;
        });
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sockets_devices_and_large_sparse_files_come_back() {
    let source = tempfile::tempdir().unwrap();
    let _socket = UnixListener::bind(source.path().join("socket")).unwrap();
    if rustix::process::geteuid().is_root() {
        for (name, kind) in [("tty", FileType::CharacterDevice), ("disk", FileType::BlockDevice)] {
            sys::mknodat(CWD, source.path().join(name), kind, Mode::RUSR, sys::makedev(7, 300)).unwrap();
        }
    }
    let sparse = fs::File::create(source.path().join("sparse")).unwrap();
    sparse.set_len(20 << 30).unwrap();
    for place in [0, 5 << 30, (20 << 30) - 300_000] {
        std::os::unix::fs::FileExt::write_all_at(&sparse, &tree::noise(7, 300_000), place).unwrap();
    }
    // The naive walker would read all of its zeros: only its data are compared.
    let store = fresh().await;
    let report = sync(store.clone(), source.path()).await;
    assert!(report.bytes_read < 2 << 20, "{} bytes read", report.bytes_read);
    let out = tempfile::tempdir().unwrap();
    restore(&open(store).await, report.snapshot.unwrap(), out.path()).await;
    let restored = fs::File::open(out.path().join("sparse")).unwrap();
    let metadata = restored.metadata().unwrap();
    assert_eq!(metadata.len(), 20 << 30);
    assert!(std::os::unix::fs::MetadataExt::blocks(&metadata) < 4096, "holes stay holes");
    let mut data = vec![0; 300_000];
    for place in [0, 5 << 30, (20 << 30) - 300_000] {
        std::os::unix::fs::FileExt::read_exact_at(&restored, &mut data, place).unwrap();
        assert_eq!(data, tree::noise(7, 300_000));
    }
    for directory in [source.path(), out.path()] {
        fs::remove_file(directory.join("sparse")).unwrap();
    }
    let times = fs::metadata(source.path()).unwrap();
    let modified = (std::os::unix::fs::MetadataExt::mtime(&times), std::os::unix::fs::MetadataExt::mtime_nsec(&times));
    tree::touch(out.path(), modified.0, modified.1 as u32);
    tree::assert_same(&tree::read(source.path()), &tree::read(out.path()));
}

#[tokio::test(flavor = "multi_thread")]
async fn paths_longer_than_the_system_takes_at_once_come_back() {
    const LEVELS: usize = 40;
    let name = "n".repeat(255);
    let source = tempfile::tempdir().unwrap();
    let descend = |root: &Path, make: bool| {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        let mut directory = sys::openat(CWD, root, flags, Mode::empty()).unwrap();
        for _ in 0..LEVELS {
            if make {
                sys::mkdirat(&directory, name.as_str(), Mode::RWXU).unwrap();
            }
            directory = sys::openat(&directory, name.as_str(), flags, Mode::empty()).unwrap();
        }
        directory
    };
    let file = sys::openat(descend(source.path(), true), "file", OFlags::CREATE | OFlags::WRONLY, Mode::RUSR).unwrap();
    rustix::io::write(&file, b"far down").unwrap();
    let store = fresh().await;
    let id = sync(store.clone(), source.path()).await.snapshot.unwrap();
    let out = tempfile::tempdir().unwrap();
    restore(&open(store.clone()).await, id, out.path()).await;
    let file = sys::openat(descend(out.path(), false), "file", OFlags::RDONLY, Mode::empty()).unwrap();
    let mut bytes = [0; 16];
    let length = rustix::io::read(&file, &mut bytes).unwrap();
    assert_eq!(&bytes[..length], b"far down");
    assert_eq!(sync(store, source.path()).await.bytes_read, 0);
}
