//! Syncs against a store in memory: what is read, what is sent, what is not, and what is found again.
#![allow(clippy::unwrap_used, clippy::panic)]

#[path = "support/engine.rs"]
mod engine;
#[path = "support/tree.rs"]
mod tree;

use engine::*;
use nfz::{
    engine::{
        error::EngineError,
        event::{Event, Silent},
        filter::FilterOptions,
        ls,
        sync::{SyncOptions, SyncReport},
        verify::ReadData,
    },
    format::{name::Name, path::TreePath},
    store::{fault::FaultStore, memory::MemoryStore, record::RecordStore},
};
use std::{
    fs::{self, FileTimes, OpenOptions},
    io::Write,
    os::unix::fs::{FileExt, MetadataExt},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, SystemTime},
};
use tempfile::TempDir;

/// Some directories of small files, and two large files.
fn tree_of_all_sizes() -> TempDir {
    let source = tempfile::tempdir().unwrap();
    for number in 0..300_usize {
        let dir = source.path().join(format!("d{}", number % 10));
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join(format!("f{number}")), noise(number as u64, 100 * number)).unwrap();
    }
    fs::write(source.path().join("large"), noise(1000, 12_000_000)).unwrap();
    fs::write(source.path().join("d3/larger"), noise(1001, 5_000_000)).unwrap();
    source
}

/// Bytes that no compression shortens, the same for the same seed.
fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

/// A sync, and what it put.
async fn recorded(store: &Arc<MemoryStore>, source: &Path) -> (SyncReport, Vec<Name>) {
    let record = Arc::new(RecordStore::new(store.clone()));
    let report = sync(record.clone(), source).await;
    (report, puts(&record.take()))
}

async fn segments(store: &Arc<MemoryStore>, report: &SyncReport) -> usize {
    snapshot(&*open(store.clone()).await, report.snapshot.unwrap()).await.root.segments.len()
}

/// A second sync after a change to the tree uploads no data: what it puts are segments and the root.
async fn assert_no_data_sent(change: impl FnOnce(&Path)) -> SyncReport {
    let source = tree_of_all_sizes();
    let store = fresh().await;
    sync(store.clone(), source.path()).await;
    let old = store.contents();
    change(source.path());
    let (report, puts) = recorded(&store, source.path()).await;
    assert_eq!((report.new_chunks, report.new_plain), (0, 0));
    assert!(puts.iter().filter(|name| is_chunk(name)).count() <= segments(&store, &report).await, "{puts:?}");
    assert!(puts.iter().all(|name| !old.contains_key(name)), "nothing is sent twice");
    let out = tempfile::tempdir().unwrap();
    restore(&open(store).await, report.snapshot.unwrap(), out.path()).await;
    tree::assert_same(&tree::read(source.path()), &tree::read(out.path()));
    report
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unchanged_tree_is_not_read_and_sends_only_its_root() {
    let source = tree_of_all_sizes();
    let store = fresh().await;
    let first = sync(store.clone(), source.path()).await;
    assert_eq!(first.files, 302);
    let (second, puts) = recorded(&store, source.path()).await;
    assert_eq!((second.bytes_read, second.sent_objects, second.unchanged), (0, 0, 313));
    assert_eq!(puts, [Name::Snapshot(second.snapshot.unwrap())]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_moved_directory_is_not_read_and_sends_no_data() {
    let report = assert_no_data_sent(|source| fs::rename(source.join("d3"), source.join("e")).unwrap()).await;
    assert_eq!((report.bytes_read, report.moved), (0, 31));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_moved_large_file_is_not_read_and_sends_no_data() {
    let report = assert_no_data_sent(|source| fs::rename(source.join("large"), source.join("d5/x")).unwrap()).await;
    assert_eq!((report.bytes_read, report.moved), (0, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn files_that_move_onto_each_others_names_are_not_read() {
    let rotate = |source: &Path| {
        for (from, to) in [("d1/f31", "d1/f41"), ("d1/f21", "d1/f31"), ("d1/f11", "d1/f21")] {
            fs::rename(source.join(from), source.join(to)).unwrap();
        }
    };
    let report = assert_no_data_sent(rotate).await;
    assert_eq!(report.bytes_read, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copied_directory_sends_no_data() {
    let copy = |source: &Path| {
        let status =
            std::process::Command::new("cp").arg("-r").arg(source.join("d3")).arg(source.join("copy")).status();
        assert!(status.unwrap().success());
    };
    let report = assert_no_data_sent(copy).await;
    assert!(report.bytes_read > 5_000_000, "it is read: {} bytes", report.bytes_read);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_mtime_alone_sends_no_data() {
    let touch = |source: &Path| {
        for name in ["large", "d1/f11", "d2/f12"] {
            let times = FileTimes::new().set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(1_234_567_890));
            OpenOptions::new().write(true).open(source.join(name)).unwrap().set_times(times).unwrap();
        }
    };
    assert_eq!(assert_no_data_sent(touch).await.changed, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_further_name_of_a_file_is_not_read() {
    let link = |source: &Path| fs::hard_link(source.join("large"), source.join("d7/link")).unwrap();
    // Only the old name: another link is another ctime, as another content would be.
    assert_eq!(assert_no_data_sent(link).await.bytes_read, 12_000_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_took_over_the_inode_of_a_deleted_one_is_read() {
    // The system gives a freed inode to the next file. Tools that set times (tar, npm) make size and mtime alike too.
    let source = tempfile::tempdir().unwrap();
    let time = SystemTime::UNIX_EPOCH + Duration::from_secs(499_162_500);
    let make = |name: String, content: &[u8]| {
        let mut file = fs::File::create(source.path().join(name)).unwrap();
        file.write_all(content).unwrap();
        file.set_times(FileTimes::new().set_modified(time)).unwrap();
        file.metadata().unwrap().ino()
    };
    let old: Vec<u64> = (0..50).map(|n| make(format!("old{n}"), format!("version 1.0.{n:02}").as_bytes())).collect();
    let store = fresh().await;
    sync(store.clone(), source.path()).await;
    (0..50).for_each(|n| fs::remove_file(source.path().join(format!("old{n}"))).unwrap());
    let new: Vec<u64> = (0..50).map(|n| make(format!("new{n}"), format!("version 2.0.{n:02}").as_bytes())).collect();
    if !new.iter().any(|inode| old.contains(inode)) {
        eprintln!("this file system gives no inode again so soon");
    }
    let id = sync(store.clone(), source.path()).await.snapshot.unwrap();
    let out = tempfile::tempdir().unwrap();
    restore(&open(store).await, id, out.path()).await;
    tree::assert_same(&tree::read(source.path()), &tree::read(out.path()));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edit_in_a_large_file_sends_few_chunks() {
    let source = tempfile::tempdir().unwrap();
    let file = source.path().join("file");
    fs::write(&file, noise(1, 64 << 20)).unwrap();
    let store = fresh().await;
    let first = sync(store.clone(), source.path()).await;
    assert!((32..=256).contains(&first.new_chunks), "{} chunks", first.new_chunks);
    let mut content = fs::read(&file).unwrap();
    content.splice(30_000_000..30_000_000, *b"in the midst of it");
    fs::write(&file, &content).unwrap();
    let second = sync(store.clone(), source.path()).await;
    assert!((1..=4).contains(&second.new_chunks), "{} chunks", second.new_chunks);
    let out = tempfile::tempdir().unwrap();
    restore(&open(store).await, second.snapshot.unwrap(), out.path()).await;
    assert!(fs::read(out.path().join("file")).unwrap() == content);
}

#[tokio::test(flavor = "multi_thread")]
async fn eighty_thousand_small_files_become_few_objects() {
    const FILES: u64 = 80_000;
    let memory = Path::new("/dev/shm");
    let source = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }.unwrap();
    let mut bytes = 0;
    for number in 0..FILES {
        let dir = source.path().join((number / 400).to_string());
        if number % 400 == 0 {
            fs::create_dir(&dir).unwrap();
        }
        let content = noise(number, 300 + (number as usize * 37) % 900);
        bytes += content.len() as u64;
        fs::write(dir.join(number.to_string()), content).unwrap();
    }
    let store = fresh().await;
    let (first, puts) = recorded(&store, source.path()).await;
    assert_eq!((first.files, first.bytes), (FILES, bytes));
    let segments = segments(&store, &first).await;
    assert!(segments <= 200, "{segments} segments");
    let packs = puts.iter().filter(|name| is_chunk(name)).count() - segments;
    assert!(packs as u64 <= bytes / (700 << 10) + 8, "{packs} packs for {bytes} bytes");
    let record = Arc::new(RecordStore::new(store.clone()));
    let second = sync(record.clone(), source.path()).await;
    assert_eq!((second.bytes_read, second.unchanged), (0, FILES + 201));
    fs::rename(source.path().join("7"), source.path().join("moved")).unwrap();
    let third = sync(store.clone(), source.path()).await;
    assert_eq!((third.bytes_read, third.new_chunks, third.moved), (0, 0, 400));
    assert!(third.sent_objects <= 8, "{} objects for a renamed directory", third.sent_objects);
}

/// Paths of the newest snapshot.
async fn paths(store: &Arc<MemoryStore>, report: &SyncReport) -> Vec<String> {
    let repository = open(store.clone()).await;
    let info = snapshot(&repository, report.snapshot.unwrap()).await;
    let mut paths = Vec::new();
    ls::list(&repository, &info, &TreePath::root(), true, &mut |entry| paths.push(entry.path.to_string()))
        .await
        .unwrap();
    paths
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_excluded_is_not_saved() {
    let source = tempfile::tempdir().unwrap();
    let make = |name: &str, content: &[u8]| {
        let place = source.path().join(name);
        fs::create_dir_all(place.parent().unwrap()).unwrap();
        fs::write(place, content).unwrap();
    };
    make("keep/a.txt", b"a");
    make("keep/b.TMP", b"b");
    make("keep/b.o", b"b");
    make("cache/CACHEDIR.TAG", b"Signature: 8a477f597d28d172789f06886806bc55\n");
    make("cache/x", b"x");
    make("not/.nobackup", b"");
    make("not/y", b"y");
    make("huge", &noise(1, 5000));
    make("only/at/root/build", b"z");
    make("build/z", b"z");
    let ignore = source.path().join("keep/ignore");
    fs::write(&ignore, "# objects\n*.o\n").unwrap();
    let filter = FilterOptions {
        exclude: vec!["/build".into()],
        iexclude: vec!["*.tmp".into()],
        exclude_files: vec![ignore],
        exclude_if_present: vec![".nobackup".into()],
        exclude_caches: true,
        exclude_larger_than: Some(4999),
        one_file_system: true,
    };
    let store = fresh().await;
    let report = sync_with(store.clone(), source.path(), SyncOptions { filter, ..sync_options() }).await;
    let expected = [
        "cache",
        "cache/CACHEDIR.TAG",
        "keep",
        "keep/a.txt",
        "keep/ignore",
        "not",
        "not/.nobackup",
        "only",
        "only/at",
        "only/at/root",
        "only/at/root/build",
    ];
    assert_eq!(paths(&store, &report).await, expected);
    let all = sync(store.clone(), source.path()).await;
    assert_eq!(paths(&store, &all).await.len(), expected.len() + 7);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_keeps_changing_is_reported_and_marked_as_torn() {
    let source = tempfile::tempdir().unwrap();
    let file = source.path().join("changing");
    fs::write(&file, noise(1, 3_000_000)).unwrap();
    fs::write(source.path().join("quiet"), b"quiet").unwrap();
    let changes = AtomicU64::new(0);
    let change = move |event: &Event<'_>| {
        if let Event::Read { bytes: 100_000.. } = event {
            let file = OpenOptions::new().write(true).open(&file).unwrap();
            file.write_all_at(b"x", 3_000_000 + changes.fetch_add(1, Relaxed)).unwrap();
        }
    };
    let store = fresh().await;
    let report = try_sync(store.clone(), source.path(), sync_options(), Arc::new(Watch(change))).await.unwrap();
    assert_eq!(report.problem_count, 1);
    assert!(tells(&report.problems, "changing", "torn"), "{:?}", report.problems);
    let out = tempfile::tempdir().unwrap();
    let restored = restore_with(store.clone(), report.snapshot.unwrap(), out.path(), restore_options()).await.unwrap();
    assert_eq!(restored.problem_count, 1);
    assert!(tells(&restored.problems, "changing", "changing while it was saved"), "{:?}", restored.problems);
    assert_eq!(fs::read(out.path().join("quiet")).unwrap(), b"quiet");
    let next = sync(store.clone(), source.path()).await;
    assert!(next.bytes_read >= 3_000_000, "a torn file is read again though nothing has changed since");
    let whole = tempfile::tempdir().unwrap();
    restore(&open(store).await, next.snapshot.unwrap(), whole.path()).await;
    tree::assert_same(&tree::read(source.path()), &tree::read(whole.path()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_changes_once_is_read_again_and_whole() {
    for length in [3_000_000, 1000] {
        let source = tempfile::tempdir().unwrap();
        let file = source.path().join("changing");
        fs::write(&file, noise(1, length)).unwrap();
        let changes = AtomicU64::new(0);
        let change = move |event: &Event<'_>| {
            let is_time = matches!(event, Event::Read { .. }) || is_at(event, "changing");
            if is_time && changes.fetch_add(1, Relaxed) == 0 {
                fs::write(&file, noise(2, length + 1)).unwrap();
            }
        };
        let store = fresh().await;
        let report = try_sync(store.clone(), source.path(), sync_options(), Arc::new(Watch(change))).await.unwrap();
        assert_eq!(report.problems, []);
        let out = tempfile::tempdir().unwrap();
        restore(&open(store).await, report.snapshot.unwrap(), out.path()).await;
        assert!(fs::read(out.path().join("changing")).unwrap() == noise(2, length + 1));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_vanishes_before_it_is_read_is_a_problem_and_the_rest_is_saved() {
    for length in [3_000_000, 1000] {
        let source = tempfile::tempdir().unwrap();
        for name in ["a", "victim", "z"] {
            fs::write(source.path().join(name), noise(1, length)).unwrap();
        }
        let victim = source.path().join("victim");
        let vanish = move |event: &Event<'_>| {
            if is_at(event, "victim") {
                fs::remove_file(&victim).unwrap();
            }
        };
        let store = fresh().await;
        let report = try_sync(store.clone(), source.path(), sync_options(), Arc::new(Watch(vanish))).await.unwrap();
        assert_eq!(report.problem_count, 1);
        assert!(tells(&report.problems, "victim", "vanished"), "{:?}", report.problems);
        assert_eq!(paths(&store, &report).await, ["a", "z"]);
        let root = snapshot(&*open(store).await, report.snapshot.unwrap()).await.root;
        assert_eq!((root.totals.problems, root.totals.files), (1, 2));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_replaced_by_a_pipe_or_a_link_is_a_problem_and_nobody_waits() {
    for is_pipe in [true, false] {
        let source = tempfile::tempdir().unwrap();
        fs::write(source.path().join("victim"), b"x").unwrap();
        let victim = source.path().join("victim");
        let replace = move |event: &Event<'_>| {
            if is_at(event, "victim") {
                fs::remove_file(&victim).unwrap();
                match is_pipe {
                    true => rustix::fs::mknodat(
                        rustix::fs::CWD,
                        &victim,
                        rustix::fs::FileType::Fifo,
                        rustix::fs::Mode::RUSR,
                        0,
                    )
                    .unwrap(),
                    false => std::os::unix::fs::symlink("/etc/passwd", &victim).unwrap(),
                }
            }
        };
        let store = fresh().await;
        let report = try_sync(store.clone(), source.path(), sync_options(), Arc::new(Watch(replace))).await.unwrap();
        assert_eq!(report.problem_count, 1);
        assert!(tells(&report.problems, "victim", "not a regular file any more"), "{:?}", report.problems);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_emptied_source_is_refused_and_nothing_is_written() {
    let source = tree_of_all_sizes();
    let store = fresh().await;
    sync(store.clone(), source.path()).await;
    let before = store.contents();
    let empty = |name: std::io::Result<fs::DirEntry>| {
        let place = name.unwrap().path();
        if place.is_dir() { fs::remove_dir_all(place).unwrap() } else { fs::remove_file(place).unwrap() }
    };
    fs::read_dir(source.path()).unwrap().for_each(empty);
    let refused = try_sync(store.clone(), source.path(), sync_options(), Arc::new(Silent)).await;
    assert!(matches!(refused, Err(EngineError::EmptiedSource { entries: 313, .. })), "{refused:?}");
    assert_eq!(store.contents(), before);
    let options = SyncOptions { allow_empty: true, ..sync_options() };
    let report = sync_with(store.clone(), source.path(), options).await;
    assert_eq!((report.files, report.deleted), (0, 312));
    // One empty snapshot after another is nothing new.
    sync(store, source.path()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_source_may_be_saved_first() {
    let source = tempfile::tempdir().unwrap();
    let store = fresh().await;
    assert_eq!(sync(store.clone(), source.path()).await.directories, 1);
    assert_eq!(sync(store, source.path()).await.unchanged, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn packs_that_are_little_used_are_stored_anew() {
    let source = tempfile::tempdir().unwrap();
    for number in 0..2000 {
        fs::write(source.path().join(format!("{number:04}")), noise(number, 2000)).unwrap();
    }
    let store = fresh().await;
    sync(store.clone(), source.path()).await;
    (0..2000).filter(|n| n % 8 != 0).for_each(|n| fs::remove_file(source.path().join(format!("{n:04}"))).unwrap());
    let deleted = sync(store.clone(), source.path()).await;
    let rewritten = sync(store.clone(), source.path()).await;
    assert_eq!(deleted.new_plain + rewritten.new_plain, 250 * 2000, "what is left is stored once more");
    assert_eq!(deleted.bytes_read + rewritten.bytes_read, 250 * 2000);
    let third = sync(store.clone(), source.path()).await;
    assert_eq!((third.bytes_read, third.sent_objects), (0, 0), "and not again and again");
    let repository = open(store).await;
    let root = snapshot(&repository, third.snapshot.unwrap()).await.root;
    assert_eq!(root.sparse_packs, []);
    let out = tempfile::tempdir().unwrap();
    restore(&repository, third.snapshot.unwrap(), out.path()).await;
    tree::assert_same(&tree::read(source.path()), &tree::read(out.path()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_writes_nothing_and_counts_what_would_be_sent() {
    let source = tree_of_all_sizes();
    let store = fresh().await;
    let before = store.contents();
    let dry = sync_with(store.clone(), source.path(), SyncOptions { dry_run: true, ..sync_options() }).await;
    assert_eq!((store.contents(), dry.snapshot), (before, None));
    let wet = sync(store, source.path()).await;
    assert_eq!((dry.new_chunks, dry.new_plain), (wet.new_chunks, wet.new_plain));
    assert_eq!((dry.sent_objects, dry.sent_bytes), (wet.sent_objects, wet.sent_bytes));
}

#[tokio::test(flavor = "multi_thread")]
async fn always_read_reads_everything_and_sends_nothing() {
    let source = tree_of_all_sizes();
    let store = fresh().await;
    let first = sync(store.clone(), source.path()).await;
    let options = SyncOptions { always_read: true, ..sync_options() };
    let second = sync_with(store, source.path(), options).await;
    assert_eq!((second.bytes_read, second.sent_objects), (first.bytes_read, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn another_host_sends_no_data_of_the_same_tree_and_both_remain() {
    let source = tree_of_all_sizes();
    let store = fresh().await;
    let first = sync(store.clone(), source.path()).await;
    let options = SyncOptions { host: "another".into(), ..sync_options() };
    let second = sync_with(store.clone(), source.path(), options).await;
    assert_eq!((second.new_chunks, second.generation), (0, first.generation + 1));
    let repository = open(store).await;
    assert_eq!(snapshots(&repository).await.len(), 2);
    assert_whole(&repository).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_checkpoint_spares_reading_what_was_done_before_an_interruption() {
    let source = tempfile::tempdir().unwrap();
    for number in 0..60 {
        fs::write(source.path().join(format!("{number:02}")), noise(number, 1_500_000)).unwrap();
    }
    let store = fresh().await;
    let slow = Arc::new(FaultStore::new(store.clone()).delayed(Duration::from_millis(5)));
    let options = SyncOptions { checkpoint_interval: Duration::ZERO, ..sync_options() };
    let (path, options_of_it) = (source.path().to_path_buf(), options.clone());
    let under_way = tokio::spawn(async move { try_sync(slow, &path, options_of_it, Arc::new(Silent)).await });
    let is_root = |name: &Name| matches!(name, Name::Snapshot(_));
    while !store.contents().keys().any(is_root) {
        assert!(!under_way.is_finished(), "no checkpoint came");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    under_way.abort();
    assert!(under_way.await.unwrap_err().is_cancelled());

    let repository = open(store.clone()).await;
    let checkpoint = snapshots(&repository).await.pop().unwrap();
    assert!(!checkpoint.root.complete && checkpoint.root.totals.files > 0);
    let out = tempfile::tempdir().unwrap();
    let restored = restore_with(store.clone(), checkpoint.id, out.path(), restore_options()).await.unwrap();
    assert!(tells(&restored.problems, "snapshot", "checkpoint"), "{:?}", restored.problems);
    assert!(restored.restored >= checkpoint.root.totals.files);

    let before = store.contents();
    let record = Arc::new(RecordStore::new(store.clone()));
    let next = sync_with(record.clone(), source.path(), options).await;
    let done = checkpoint.root.totals.files;
    assert_eq!(next.bytes_read, (60 - done) * 1_500_000, "{done} files were done");
    assert!(puts(&record.take()).iter().all(|name| !before.contains_key(name)), "nothing is sent twice");
    let repository = open(store).await;
    assert!(snapshots(&repository).await.iter().all(|info| info.root.complete), "checkpoints are gone");
    let report = verify(&repository, ReadData::All, Some(source.path())).await;
    assert_eq!((report.damage, report.differences), (vec![], vec![]));
}
