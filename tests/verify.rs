//! Damage of every kind to every kind of object: what verify, sync and restore make of it.
#![allow(clippy::unwrap_used, clippy::panic)]

#[path = "support/engine.rs"]
mod engine;
#[path = "support/tree.rs"]
mod tree;

use bytes::Bytes;
use engine::*;
use nfz::{
    engine::{
        event::Silent,
        verify::{Damage, ReadData},
    },
    format::{
        id::SnapshotId,
        name::{Dir, Name},
    },
    repository::{InitOptions, Repository, RepositoryError},
    store::{
        memory::MemoryStore,
        record::{Call, RecordStore},
    },
};
use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::Path,
    sync::Arc,
};
use tempfile::TempDir;

/// Ways in which an object can be other than it was.
const HARMS: [&str; 6] = ["missing", "truncated", "empty", "appended", "flipped", "swapped"];

fn harm(store: &MemoryStore, name: Name, how: &str) {
    let contents = store.contents();
    let bytes = &contents[&name];
    let mut flipped = bytes.to_vec();
    flipped[bytes.len() / 2] ^= 4;
    let other = || contents.iter().find(|(other, _)| other.dir() != Dir::Root && **other != name).unwrap().1.clone();
    match how {
        "missing" => drop(store.lose(name)),
        "truncated" => store.replace(name, bytes.slice(..bytes.len() - 10)),
        "empty" => store.replace(name, Bytes::new()),
        "appended" => store.replace(name, [&bytes[..], b"x"].concat().into()),
        "flipped" => store.replace(name, flipped.into()),
        _ => store.replace(name, other()),
    }
}

/// A source that was saved in two snapshots, each with files that the other does not have.
struct Saved {
    source: TempDir,
    contents: BTreeMap<Name, Bytes>,
    snapshots: Vec<SnapshotId>,
    then: Vec<BTreeMap<Vec<u8>, tree::Seen>>,
}

impl Saved {
    async fn new() -> Self {
        let source = tempfile::tempdir().unwrap();
        let store = fresh().await;
        let (mut snapshots, mut then) = (Vec::new(), Vec::new());
        for round in 0..2_u8 {
            for number in 0..10_u8 {
                fs::write(
                    source.path().join(format!("small{round}{number}")),
                    tree::noise(round * 10 + number, 40_000),
                )
                .unwrap();
            }
            fs::write(source.path().join(format!("large{round}")), tree::noise(100 + round, 4_000_000)).unwrap();
            snapshots.push(sync(store.clone(), source.path()).await.snapshot.unwrap());
            then.push(tree::read(source.path()));
        }
        Self { source, contents: store.contents(), snapshots, then }
    }

    fn store(&self) -> Arc<MemoryStore> {
        Arc::new(MemoryStore::from_contents(self.contents.clone()))
    }

    /// Chunks and segments of the last snapshot alone.
    async fn chunks_and_segments(&self) -> (Vec<Name>, Vec<Name>) {
        let root = snapshot(&*open(self.store()).await, self.snapshots[1]).await.root;
        let segments: Vec<Name> = root.segments.iter().map(|row| Name::Chunk(row.id.0)).collect();
        let chunks = self.contents.keys().filter(|name| is_chunk(name) && !segments.contains(name));
        (chunks.copied().collect(), segments)
    }
}

fn of<'a>(damage: &'a [Damage], name: &Name) -> Option<&'a Damage> {
    damage.iter().find(|damage| damage.object == name.to_string())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_whole_repository_is_found_whole() {
    let saved = Saved::new().await;
    let record = Arc::new(RecordStore::new(saved.store()));
    let repository = open(record.clone()).await;
    let report = verify(&repository, ReadData::All, Some(saved.source.path())).await;
    assert_eq!((report.damage, report.differences, report.problem_count), (vec![], vec![], 0));
    let (chunks, segments) = saved.chunks_and_segments().await;
    assert_eq!(report.snapshots, 2);
    // The first snapshot's segment is among what is no segment of the second.
    assert_eq!((report.chunks, report.read_objects), (chunks.len() as u64 - 1, chunks.len() as u64 - 1));
    assert_eq!((report.segments, report.unreferenced), (segments.len() as u64 + 1, 0));
    assert!(record.take().iter().all(|call| !matches!(call, Call::Put(..) | Call::Remove(_))), "it only reads");
}

#[tokio::test(flavor = "multi_thread")]
async fn harm_to_a_chunk_is_found_named_and_where_a_listing_shows_it_mended() {
    let saved = Saved::new().await;
    let (chunks, _) = saved.chunks_and_segments().await;
    let first_segment =
        Name::Chunk(snapshot(&*open(saved.store()).await, saved.snapshots[0]).await.root.segments[0].id.0);
    let chunks: Vec<Name> = chunks.into_iter().filter(|chunk| *chunk != first_segment).collect();
    assert!(chunks.len() >= 6, "{chunks:?}");
    for (number, chunk) in chunks.into_iter().enumerate() {
        // Each harm to every third chunk.
        for (_, how) in HARMS.into_iter().enumerate().filter(|(at, _)| (at + number) % 3 == 0) {
            let store = saved.store();
            harm(&store, chunk, how);
            let is_listed = store.contents().get(&chunk).map(Bytes::len) != Some(saved.contents[&chunk].len());
            let repository = open(store.clone()).await;
            let structure = verify(&repository, ReadData::Nothing, None).await.damage;
            assert_eq!(of(&structure, &chunk).is_some(), is_listed, "{how}: {structure:?}");
            let all = verify(&repository, ReadData::All, None).await.damage;
            let damage = of(&all, &chunk).unwrap_or_else(|| panic!("{how}: {all:?}"));
            assert!(all.len() == 1 && !damage.paths.is_empty() && !damage.snapshots.is_empty(), "{how}: {all:?}");

            // A restore brings everything but those paths, and names them.
            for (id, then) in saved.snapshots.iter().zip(&saved.then) {
                let out = tempfile::tempdir().unwrap();
                let report = restore_with(store.clone(), *id, out.path(), restore_options()).await.unwrap();
                let lost: Vec<_> = damage.paths.iter().filter(|path| then.contains_key(path.as_bytes())).collect();
                assert_eq!(report.problem_count, lost.len() as u64, "{how}: {:?}", report.problems);
                assert!(lost.iter().all(|path| tells(&report.problems, path, &chunk.to_string())), "{how}");
                assert_eq!(tree::read(out.path()).len() + lost.len(), then.len());
            }

            let healed = sync_with(store.clone(), saved.source.path(), sync_options()).await;
            assert_eq!(healed.problems, [], "{how}");
            let after = verify(&open(store.clone()).await, ReadData::All, None).await.damage;
            assert_eq!(after.is_empty(), is_listed, "{how}: a sync mends what a listing shows: {after:?}");
            assert_eq!(healed.new_chunks, u64::from(is_listed), "{how}");
            if is_listed {
                assert_eq!(store.contents()[&chunk], saved.contents[&chunk], "{how}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn harm_to_a_segment_is_found_named_and_the_next_snapshot_is_whole() {
    let saved = Saved::new().await;
    let (_, segments) = saved.chunks_and_segments().await;
    for how in HARMS {
        let store = saved.store();
        harm(&store, segments[0], how);
        let damage = verify(&open(store.clone()).await, ReadData::Nothing, None).await.damage;
        let named = of(&damage, &segments[0]).unwrap_or_else(|| panic!("{how}: {damage:?}"));
        assert_eq!(named.snapshots, [saved.snapshots[1].to_string()]);
        let out = tempfile::tempdir().unwrap();
        let report = restore_with(store.clone(), saved.snapshots[1], out.path(), restore_options()).await.unwrap();
        assert!(tells(&report.problems, "manifest", &segments[0].to_string()), "{how}: {:?}", report.problems);

        let synced = sync_with(store.clone(), saved.source.path(), sync_options()).await;
        assert!(tells(&synced.problems, "manifest", ""), "{how}: it says so: {:?}", synced.problems);
        // Where no list tells of the old packs, small files are packed anew.
        assert!(synced.new_plain <= 20 * 40_000, "{how}: {} bytes are sent again", synced.new_plain);
        let repository = open(store.clone()).await;
        // What the lost list said of the packs cannot be had again: the old snapshot stays harmed, and nothing else is.
        let left = verify(&repository, ReadData::All, None).await.damage;
        assert!(left.iter().all(|damage| damage.snapshots == [saved.snapshots[1].to_string()]), "{how}: {left:?}");
        let out = tempfile::tempdir().unwrap();
        restore(&repository, synced.snapshot.unwrap(), out.path()).await;
        tree::assert_same(&saved.then[1], &tree::read(out.path()));
        sync(store, saved.source.path()).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_segment_that_comes_out_the_same_is_stored_anew_where_it_was_harmed() {
    let source = tempfile::tempdir().unwrap();
    (0..4).for_each(|n| fs::write(source.path().join(n.to_string()), tree::noise(n, 600_000)).unwrap());
    let store = fresh().await;
    let id = sync(store.clone(), source.path()).await.snapshot.unwrap();
    let segment = Name::Chunk(snapshot(&*open(store.clone()).await, id).await.root.segments[0].id.0);
    let whole = store.contents()[&segment].clone();
    for how in HARMS {
        harm(&store, segment, how);
        let report = sync_with(store.clone(), source.path(), sync_options()).await;
        assert!(tells(&report.problems, "manifest", ""), "{how}: {:?}", report.problems);
        assert_eq!((report.new_chunks, &store.contents()[&segment]), (0, &whole), "{how}");
        assert_whole(&open(store.clone()).await).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn harm_to_a_root_is_found_and_the_next_sync_goes_on() {
    let saved = Saved::new().await;
    for (number, how) in HARMS.iter().enumerate().flat_map(|(at, how)| [(at % 2, how), ((at + 1) % 2, how)]) {
        let store = saved.store();
        let root = Name::Snapshot(saved.snapshots[number]);
        harm(&store, root, how);
        let damage = verify(&open(store.clone()).await, ReadData::Nothing, None).await.damage;
        let is_newest = number == 1;
        // That the newest is hidden nobody can know who keeps no state.
        assert_eq!(of(&damage, &root).is_some(), !(is_newest && *how == "missing"), "{how}: {damage:?}");
        let report = sync_with(store.clone(), saved.source.path(), sync_options()).await;
        assert_eq!(report.problem_count, u64::from(*how != "missing"), "{how}: {:?}", report.problems);
        assert_eq!(report.new_chunks, 0);
        let out = tempfile::tempdir().unwrap();
        restore(&open(store).await, report.snapshot.unwrap(), out.path()).await;
        tree::assert_same(&saved.then[1], &tree::read(out.path()));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn harm_to_what_opens_a_repository_is_named_and_nothing_is_written() {
    let saved = Saved::new().await;
    let is_opener = |name: &&Name| matches!(name, Name::Repository | Name::Key(_) | Name::Config(_));
    for name in saved.contents.keys().filter(is_opener) {
        for how in HARMS {
            let store = saved.store();
            harm(&store, *name, how);
            let before = store.contents();
            let error = match Repository::open(store.clone(), &credentials()).await {
                Ok(_) => {
                    // What a person reads in it is no matter.
                    let is_prose = *name == Name::Repository && ["appended", "truncated", "flipped"].contains(&how);
                    assert!(is_prose, "{name} {how} is not noticed");
                    continue;
                }
                Err(error) => error,
            };
            let is_right = match (name, how) {
                (Name::Repository, "missing") => matches!(error, RepositoryError::NoRepository { .. }),
                (Name::Repository, _) => {
                    matches!(error, RepositoryError::RepositoryFile(_) | RepositoryError::NoSlot(_))
                        || error.to_string().contains("nfz-repository")
                }
                (Name::Key(_), "flipped") => {
                    matches!(error, RepositoryError::WrongPassword | RepositoryError::NoSlot(_))
                        || error.to_string().contains("keys/")
                }
                (Name::Key(_), "missing") => matches!(error, RepositoryError::NoSlot(None)),
                (Name::Key(_), _) => error.to_string().contains("key"),
                (_, "missing") => matches!(error, RepositoryError::NoConfig),
                (other, _) => error.to_string().contains(&other.to_string()),
            };
            assert!(is_right, "{name} {how}: {error:?}");
            assert_eq!(store.contents(), before);
            let again = Repository::init(store.clone(), &credentials(), &InitOptions::default()).await;
            assert!(again.is_err(), "{name} {how}: nothing is made over what is there");
            assert_eq!(store.contents(), before);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_that_was_taken_out_of_the_middle_leaves_a_hole() {
    let source = tempfile::tempdir().unwrap();
    let store = fresh().await;
    let mut ids = Vec::new();
    for number in 0..3 {
        fs::write(source.path().join(number.to_string()), b"x").unwrap();
        ids.push(sync(store.clone(), source.path()).await.snapshot.unwrap());
    }
    store.lose(Name::Snapshot(ids[1]));
    let damage = verify(&open(store.clone()).await, ReadData::Nothing, None).await.damage;
    assert_eq!(damage.len(), 1);
    assert_eq!(damage[0].object, Name::Snapshot(ids[1]).to_string());
    assert!(damage[0].why.contains(&ids[2].to_string()), "{damage:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_no_snapshot_needs_is_counted_and_is_no_damage() {
    let saved = Saved::new().await;
    let store = saved.store();
    store.lose(Name::Snapshot(saved.snapshots[1]));
    let report = verify(&open(store).await, ReadData::All, None).await;
    assert_eq!(report.damage, []);
    assert!(report.unreferenced > 0 && report.unreferenced_bytes > 4_000_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_part_of_the_data_is_about_as_large_as_was_asked_for() {
    let saved = Saved::new().await;
    let repository = open(saved.store()).await;
    let all = verify(&repository, ReadData::All, None).await;
    assert_eq!((all.read_objects, all.read_bytes), (all.chunks, all.chunk_bytes));
    let largest = saved.contents.values().map(Bytes::len).max().unwrap() as u64;
    for percent in [1.0, 30.0, 50.0, 99.0] {
        let report = verify(&repository, ReadData::Percent(percent), None).await;
        assert_eq!(report.read_objects, (all.chunks as f64 * percent / 100.0).ceil() as u64);
    }
    for bytes in [1, 1_000_000, 3_000_000] {
        let report = verify(&repository, ReadData::Bytes(bytes), None).await;
        assert!((bytes..bytes + largest).contains(&report.read_bytes), "{} for {bytes}", report.read_bytes);
    }
    assert_eq!(verify(&repository, ReadData::Nothing, None).await.read_objects, 0);
}

/// Things altered in a tree that was saved: what, how verify names that, and the change.
type Alteration<'a> = (&'static str, &'static str, Box<dyn Fn() + 'a>);

fn differences(source: &Path) -> Vec<Alteration<'_>> {
    let at = |name: &str| source.join(name);
    let keep_time = move |name: &str, change: &dyn Fn()| {
        let time = fs::metadata(at(name)).unwrap().modified().unwrap();
        change();
        fs::OpenOptions::new().write(true).open(at(name)).unwrap().set_modified(time).unwrap();
    };
    vec![
        ("content", "content", Box::new(move || keep_time("content", &|| fs::write(at("content"), b"AAAA").unwrap()))),
        (
            "large",
            "content",
            Box::new(move || keep_time("large", &|| fs::write(at("large"), tree::noise(2, 900_000)).unwrap())),
        ),
        ("size", "size", Box::new(move || keep_time("size", &|| fs::write(at("size"), b"aaaaa").unwrap()))),
        ("mode", "mode", Box::new(move || fs::set_permissions(at("mode"), fs::Permissions::from_mode(0o777)).unwrap())),
        ("time", "mtime", Box::new(move || tree::touch(&at("time"), 5, 5))),
        ("gone", "it is missing", Box::new(move || fs::remove_file(at("gone")).unwrap())),
        ("new", "it is not in the snapshot", Box::new(move || fs::write(at("new"), b"x").unwrap())),
        (
            "link",
            "link target",
            Box::new(move || {
                fs::remove_file(at("link")).unwrap();
                symlink("elsewhere", at("link")).unwrap();
            }),
        ),
        (
            "kind",
            "kind",
            Box::new(move || {
                fs::remove_file(at("kind")).unwrap();
                fs::create_dir(at("kind")).unwrap();
            }),
        ),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_of_difference_from_a_live_tree_is_found() {
    let source = tempfile::tempdir().unwrap();
    for name in ["content", "size", "mode", "time", "gone", "kind", "same"] {
        fs::write(source.path().join(name), b"aaaa").unwrap();
    }
    fs::write(source.path().join("large"), tree::noise(1, 900_000)).unwrap();
    symlink("somewhere", source.path().join("link")).unwrap();
    let store = fresh().await;
    sync(store.clone(), source.path()).await;
    let repository = open(store).await;
    let before = verify(&repository, ReadData::Nothing, Some(source.path())).await;
    assert_eq!((before.differences, before.same), (vec![], 10));
    let changes = differences(source.path());
    changes.iter().for_each(|(_, _, change)| change());
    let report = verify(&repository, ReadData::Nothing, Some(source.path())).await;
    for (name, what, _) in &changes {
        let found = report.differences.iter().find(|difference| difference.path == *name);
        assert!(found.is_some_and(|found| found.what.contains(what)), "{name}: {found:?}");
    }
    let root_itself = 1;
    assert_eq!(report.difference_count, changes.len() as u64 + root_itself, "{:?}", report.differences);
    assert_eq!((report.same, report.problem_count), (1, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chunk_stored_anew_with_another_compression_is_good_for_every_snapshot() {
    let source = tempfile::tempdir().unwrap();
    let text: Vec<u8> =
        (0..200_000_u32).flat_map(|n| format!("{} ", n.wrapping_mul(2_654_435_761)).into_bytes()).collect();
    fs::write(source.path().join("text"), &text).unwrap();
    let store = fresh().await;
    let compression = nfz::engine::sync::Compression::DEFAULT;
    let options = nfz::engine::sync::SyncOptions { compression, ..sync_options() };
    let first = try_sync(store.clone(), source.path(), options, Arc::new(Silent)).await.unwrap().snapshot.unwrap();
    let chunk =
        *store.contents().iter().filter(|(name, _)| is_chunk(name)).max_by_key(|(_, bytes)| bytes.len()).unwrap().0;
    let length = store.contents()[&chunk].len();
    harm(&store, chunk, "truncated");
    let compression = nfz::engine::sync::Compression::Off;
    let options = nfz::engine::sync::SyncOptions { compression, ..sync_options() };
    let second = try_sync(store.clone(), source.path(), options, Arc::new(Silent)).await.unwrap().snapshot.unwrap();
    assert!(store.contents()[&chunk].len() > length);
    let repository = open(store).await;
    for id in [first, second] {
        let out = tempfile::tempdir().unwrap();
        restore(&repository, id, out.path()).await;
        assert!(fs::read(out.path().join("text")).unwrap() == text);
    }
    assert_whole(&repository).await;
}
