//! Restores: what is there already is kept or replaced as asked, nothing outside is touched, and what can be had is had.
#![allow(clippy::unwrap_used, clippy::panic)]

#[path = "support/engine.rs"]
mod engine;
#[path = "support/tree.rs"]
mod tree;

use engine::*;
use nfz::{
    engine::{
        event::Silent,
        filter::Selection,
        restore::{Overwrite, RestoreOptions},
        verify::ReadData,
    },
    format::{id::SnapshotId, name::Name},
    store::{
        fault::{Fault, FaultStore},
        memory::MemoryStore,
        record::{Call, RecordStore},
    },
};
use std::{
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt, symlink},
    path::{Path, PathBuf},
    sync::Arc,
};
use tempfile::TempDir;

/// A source that was saved, and a place beside it for a target.
struct Saved {
    directory: TempDir,
    store: Arc<MemoryStore>,
    id: SnapshotId,
}

impl Saved {
    async fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let source = directory.path().join("source");
        for number in 0..40_u8 {
            let place = source.join(format!("d{}/sub", number % 4));
            fs::create_dir_all(&place).unwrap();
            fs::write(place.join(format!("f{number:02}")), tree::noise(number, 20_000)).unwrap();
        }
        fs::write(source.join("large"), tree::noise(200, 7_000_000)).unwrap();
        fs::hard_link(source.join("large"), source.join("link-a")).unwrap();
        fs::hard_link(source.join("large"), source.join("link-b")).unwrap();
        symlink("large", source.join("symlink")).unwrap();
        fs::set_permissions(source.join("d1"), fs::Permissions::from_mode(0o500)).unwrap();
        let store = fresh().await;
        let id = sync(store.clone(), &source).await.snapshot.unwrap();
        Self { directory, store, id }
    }

    fn source(&self) -> PathBuf {
        self.directory.path().join("source")
    }

    fn out(&self) -> PathBuf {
        self.directory.path().join("out")
    }

    async fn restore(&self, options: RestoreOptions) -> nfz::engine::restore::RestoreReport {
        restore_with(self.store.clone(), self.id, &self.out(), options).await.unwrap()
    }

    fn assert_complete(&self) {
        tree::assert_same(&tree::read(&self.source()), &tree::read(&self.out()));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_object_is_fetched_once() {
    let saved = Saved::new().await;
    let record = Arc::new(RecordStore::new(saved.store.clone()));
    restore_with(record.clone(), saved.id, &saved.out(), restore_options()).await.unwrap();
    let mut gets: Vec<Name> = Vec::new();
    for call in record.take() {
        match call {
            Call::Get(name @ Name::Chunk(_), _) => gets.push(name),
            Call::Put(name, _) | Call::Remove(name) => panic!("a restore wrote {name}"),
            _ => {}
        }
    }
    let count = gets.len();
    gets.sort_unstable();
    gets.dedup();
    assert_eq!(gets.len(), count);
    saved.assert_complete();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_that_died_anywhere_goes_on_and_ends_the_same() {
    let saved = Saved::new().await;
    let record = Arc::new(RecordStore::new(saved.store.clone()));
    restore_with(record.clone(), saved.id, &saved.out(), restore_options()).await.unwrap();
    // One call is the helper's own, which looks for the root's length.
    let calls = record.take().len() as u64 - 1;
    for number in 1..=calls {
        fs::remove_dir_all(saved.out()).unwrap();
        let dying = Arc::new(FaultStore::new(saved.store.clone()).with(Fault::Killed(number)));
        if let Ok(repository) = nfz::repository::Repository::open(dying, &credentials()).await {
            let info = snapshot(&*open(saved.store.clone()).await, saved.id).await;
            let (repository, options) = (Arc::new(repository), restore_options());
            let died = nfz::engine::restore::restore(repository, info, saved.out(), options, Arc::new(Silent)).await;
            assert!(died.is_err(), "killed at {number} of {calls}");
        }
        let report = saved.restore(restore_options()).await;
        assert_eq!(report.problems, []);
        saved.assert_complete();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_interrupted_restore_has_written_is_not_fetched_again() {
    let directory = tempfile::tempdir().unwrap();
    let (source, out) = (directory.path().join("source"), directory.path().join("out"));
    fs::create_dir(&source).unwrap();
    (0..60_u8).for_each(|n| fs::write(source.join(n.to_string()), tree::noise(n, 1_200_000)).unwrap());
    let store = fresh().await;
    let id = sync(store.clone(), &source).await.snapshot.unwrap();
    let slow = Arc::new(FaultStore::new(store.clone()).delayed(std::time::Duration::from_millis(40)));
    let target = out.clone();
    let under_way = tokio::spawn(async move { restore_with(slow, id, &target, restore_options()).await });
    let is_file =
        |entry: std::io::Result<fs::DirEntry>| !entry.unwrap().file_name().as_encoded_bytes().starts_with(b".");
    let done = || fs::read_dir(&out).map_or(0, |names| names.filter_map(|name| is_file(name).then_some(())).count());
    while done() < 5 {
        assert!(!under_way.is_finished(), "it ended before it was interrupted");
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
    }
    under_way.abort();
    assert!(under_way.await.unwrap_err().is_cancelled());
    let report = restore_with(store, id, &out, restore_options()).await.unwrap();
    assert!(report.kept > 5 && report.bytes_written <= 55 * 1_200_000, "{report:?}");
    tree::assert_same(&tree::read(&source), &tree::read(&out));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_there_already_is_neither_fetched_nor_touched() {
    let saved = Saved::new().await;
    let first = saved.restore(restore_options()).await;
    let inodes = |path: &str| fs::metadata(saved.out().join(path)).unwrap().ino();
    let before = (inodes("large"), inodes("d0/sub/f00"));
    let second = saved.restore(restore_options()).await;
    assert_eq!((second.fetched_objects, second.bytes_written, second.restored), (0, 0, 0));
    assert_eq!(second.kept, first.restored + first.kept);
    assert_eq!((inodes("large"), inodes("d0/sub/f00")), before);
    saved.assert_complete();
}

#[tokio::test(flavor = "multi_thread")]
async fn other_metadata_alone_are_put_right_without_fetching() {
    let saved = Saved::new().await;
    saved.restore(restore_options()).await;
    fs::set_permissions(saved.out().join("large"), fs::Permissions::from_mode(0o777)).unwrap();
    let report = saved.restore(restore_options()).await;
    assert_eq!((report.fetched_objects, report.problem_count), (0, 0));
    saved.assert_complete();
}

/// Puts things of every other kind into the way.
fn obstruct(out: &Path) {
    fs::create_dir_all(out.join("d0/sub")).unwrap();
    fs::write(out.join("d0/sub/f00"), b"mine").unwrap();
    fs::create_dir_all(out.join("large/mine")).unwrap();
    fs::write(out.join("d2"), b"mine").unwrap();
    fs::write(out.join("symlink"), b"mine").unwrap();
    symlink("/nowhere", out.join("link-b")).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_in_the_way_is_destroyed_unless_that_was_asked_for() {
    let saved = Saved::new().await;
    obstruct(&saved.out());
    let report = saved.restore(restore_options()).await;
    for name in ["d0/sub/f00", "d2", "symlink"] {
        assert_eq!(fs::read(saved.out().join(name)).unwrap(), b"mine", "{name}");
    }
    assert!(saved.out().join("large/mine").is_dir());
    assert_eq!(fs::read_link(saved.out().join("link-b")).unwrap(), Path::new("/nowhere"));
    for name in ["d0/sub/f00", "large", "d2", "symlink", "link-b"] {
        assert!(tells(&report.problems, name, ""), "{name} is reported: {:?}", report.problems);
    }
    // All else is there.
    assert_eq!(fs::read(saved.out().join("d0/sub/f04")).unwrap(), tree::noise(4, 20_000));
    assert_eq!(fs::read(saved.out().join("link-a")).unwrap(), tree::noise(200, 7_000_000));
}

#[tokio::test(flavor = "multi_thread")]
async fn with_overwrite_files_are_replaced_and_full_directories_are_not() {
    for overwrite in [Overwrite::Always, Overwrite::IfChanged] {
        let saved = Saved::new().await;
        obstruct(&saved.out());
        let report = saved.restore(RestoreOptions { overwrite, ..restore_options() }).await;
        assert!(saved.out().join("large/mine").is_dir());
        assert_eq!(report.problem_count, report.problems.len() as u64);
        assert!(report.problems.iter().all(|problem| problem.subject == "large"), "{:?}", report.problems);
        fs::remove_dir_all(saved.out().join("large")).unwrap();
        saved.restore(RestoreOptions { overwrite: Overwrite::Always, ..restore_options() }).await;
        saved.assert_complete();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn overwrite_always_mends_a_file_whose_size_and_time_tell_nothing() {
    let saved = Saved::new().await;
    saved.restore(restore_options()).await;
    let victim = saved.out().join("d0/sub/f00");
    let time = fs::metadata(&victim).unwrap().modified().unwrap();
    fs::write(&victim, tree::noise(99, 20_000)).unwrap();
    fs::OpenOptions::new().write(true).open(&victim).unwrap().set_modified(time).unwrap();
    saved.restore(RestoreOptions { overwrite: Overwrite::Always, ..restore_options() }).await;
    saved.assert_complete();
}

#[tokio::test(flavor = "multi_thread")]
async fn read_back_finds_a_kept_file_with_other_content() {
    let saved = Saved::new().await;
    let options = RestoreOptions { verify: true, ..restore_options() };
    let first = saved.restore(options.clone()).await;
    assert_eq!((first.problem_count, first.verified > 40), (0, true));
    let victim = saved.out().join("d0/sub/f00");
    let time = fs::metadata(&victim).unwrap().modified().unwrap();
    fs::write(&victim, tree::noise(99, 20_000)).unwrap();
    fs::OpenOptions::new().write(true).open(&victim).unwrap().set_modified(time).unwrap();
    let second = saved.restore(options).await;
    assert!(tells(&second.problems, "d0/sub/f00", "content"), "{:?}", second.problems);
}

#[tokio::test(flavor = "multi_thread")]
async fn delete_removes_what_is_in_excess_and_follows_no_link() {
    let saved = Saved::new().await;
    saved.restore(restore_options()).await;
    let outside = saved.directory.path().join("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("precious"), b"precious").unwrap();
    fs::create_dir_all(saved.out().join("extra/deep/er")).unwrap();
    fs::write(saved.out().join("extra/deep/er/file"), b"x").unwrap();
    fs::write(saved.out().join("d0/sub/extra"), b"x").unwrap();
    symlink(&outside, saved.out().join("d0/link")).unwrap();
    symlink(&outside, saved.out().join("extra/link")).unwrap();
    let dry = saved.restore(RestoreOptions { delete: true, dry_run: true, ..restore_options() }).await;
    assert_eq!(dry.removed, 3);
    assert!(saved.out().join("extra/deep/er/file").exists());
    let report = saved.restore(RestoreOptions { delete: true, ..restore_options() }).await;
    assert_eq!((report.removed, report.problem_count), (3, 0));
    assert_eq!(fs::read(outside.join("precious")).unwrap(), b"precious");
    saved.assert_complete();
}

#[tokio::test(flavor = "multi_thread")]
async fn delete_touches_nothing_outside_the_paths_that_are_restored() {
    let saved = Saved::new().await;
    for name in ["mine", "d1/mine", "d0/excess"] {
        fs::create_dir_all(saved.out().join(name).parent().unwrap()).unwrap();
        fs::write(saved.out().join(name), b"mine").unwrap();
    }
    saved.restore(RestoreOptions { paths: vec![path("d0")], delete: true, ..restore_options() }).await;
    assert!(saved.out().join("mine").exists() && saved.out().join("d1/mine").exists());
    assert!(!saved.out().join("d0/excess").exists());
    let selection = Selection::new(&["*01".into()], &[]).unwrap();
    saved.restore(RestoreOptions { selection, delete: true, ..restore_options() }).await;
    assert!(saved.out().join("mine").exists(), "a selection says nothing of what it does not select");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_path_is_restored_at_its_own_place_with_the_directories_above_it() {
    let saved = Saved::new().await;
    let paths = vec![path("d1/sub/f01"), path("d2")];
    let report = saved.restore(RestoreOptions { paths, ..restore_options() }).await;
    assert_eq!(report.problems, []);
    let (source, out) = (tree::read(&saved.source()), tree::read(&saved.out()));
    let is_wanted = |name: &[u8]| {
        [&b""[..], b"d1", b"d1/sub", b"d1/sub/f01"].contains(&name) || name == b"d2" || name.starts_with(b"d2/")
    };
    let wanted = source.into_iter().filter(|(name, _)| is_wanted(name)).collect();
    tree::assert_same(&wanted, &out);
    let missing = saved.restore(RestoreOptions { paths: vec![path("d1/none")], ..restore_options() }).await;
    assert!(tells(&missing.problems, "d1/none", "no such path"), "{:?}", missing.problems);
}

#[tokio::test(flavor = "multi_thread")]
async fn include_and_exclude_choose_what_is_restored() {
    let saved = Saved::new().await;
    let selection = Selection::new(&["f0*".into(), "/d3".into()], &["f01".into()]).unwrap();
    saved.restore(RestoreOptions { selection, ..restore_options() }).await;
    let is_file = |name: &&Vec<u8>| saved.out().join(std::str::from_utf8(name).unwrap()).is_file();
    let mut expected: Vec<String> = [0, 2, 3, 4, 5, 6, 7, 8, 9].map(|n| format!("d{}/sub/f0{n}", n % 4)).to_vec();
    expected.extend((11..40).step_by(4).map(|n| format!("d3/sub/f{n}")));
    expected.sort();
    let found = tree::read(&saved.out());
    let found: Vec<String> =
        found.keys().filter(is_file).map(|name| String::from_utf8(name.clone()).unwrap()).collect();
    assert_eq!(found, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn any_one_name_of_a_file_restores_alone() {
    for chosen in [vec!["link-b"], vec!["link-a", "link-b"], vec!["large", "link-b"]] {
        let saved = Saved::new().await;
        let paths = chosen.iter().map(|name| path(name)).collect();
        let report = saved.restore(RestoreOptions { paths, ..restore_options() }).await;
        assert_eq!(report.problems, []);
        for name in &chosen {
            let metadata = fs::metadata(saved.out().join(name)).unwrap();
            assert_eq!(metadata.nlink(), chosen.len() as u64);
            assert!(fs::read(saved.out().join(name)).unwrap() == tree::noise(200, 7_000_000));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_that_was_planted_in_the_target_is_not_followed() {
    for overwrite in [Overwrite::Never, Overwrite::IfChanged, Overwrite::Always] {
        let saved = Saved::new().await;
        let outside = saved.directory.path().join("outside");
        fs::create_dir_all(outside.join("sub")).unwrap();
        fs::write(outside.join("sub/f00"), b"precious").unwrap();
        fs::create_dir(saved.out()).unwrap();
        symlink(&outside, saved.out().join("d0")).unwrap();
        symlink(outside.join("sub/f00"), saved.out().join("large")).unwrap();
        let before = tree::read(&outside);
        let report = saved.restore(RestoreOptions { overwrite, delete: true, ..restore_options() }).await;
        tree::assert_same(&before, &tree::read(&outside));
        match overwrite {
            Overwrite::Never => assert!(tells(&report.problems, "d0", "") && tells(&report.problems, "large", "")),
            _ => saved.assert_complete(),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_target_may_be_a_link_to_a_directory() {
    let saved = Saved::new().await;
    let real = saved.directory.path().join("real");
    fs::create_dir(&real).unwrap();
    symlink(&real, saved.out()).unwrap();
    assert_eq!(saved.restore(restore_options()).await.problems, []);
    tree::assert_same(&tree::read(&saved.source()), &tree::read(&real));
}

/// The chunks whose loss harms `name`, by verify's account.
async fn chunks_of(saved: &Saved, name: &str) -> Vec<Name> {
    let mut found = Vec::new();
    let contents = saved.store.contents();
    for (chunk, bytes) in contents.iter().filter(|(chunk, _)| is_chunk(chunk)) {
        saved.store.lose(*chunk);
        let report = verify(&open(saved.store.clone()).await, ReadData::Nothing, None).await;
        let is_data = report.damage.iter().any(|damage| damage.paths.iter().any(|path| path == name));
        found.extend(is_data.then_some(*chunk));
        saved.store.replace(*chunk, bytes.clone());
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn what_needs_no_damaged_chunk_is_restored_and_the_rest_is_named() {
    let saved = Saved::new().await;
    let chunks = chunks_of(&saved, "large").await;
    assert!(chunks.len() > 1, "{chunks:?}");
    let chunk = chunks[0];
    let whole = saved.store.contents()[&chunk].clone();
    let mut flipped = whole.to_vec();
    flipped[whole.len() / 2] ^= 1;
    let damages = [None, Some(flipped), Some(whole[..whole.len() - 1].to_vec()), Some(Vec::new())];
    for damage in damages {
        match &damage {
            None => assert!(saved.store.lose(chunk)),
            Some(bytes) => saved.store.replace(chunk, bytes.clone().into()),
        }
        let report = saved.restore(restore_options()).await;
        // It and its other names.
        assert!(tells(&report.problems, "large", &chunk.to_string()), "{:?}", report.problems);
        assert!(report.problems.iter().all(|problem| ["large", "link-a", "link-b"].contains(&&*problem.subject)));
        assert!(!saved.out().join("large").exists(), "no torn file is passed off as whole");
        let without = |seen: std::collections::BTreeMap<Vec<u8>, tree::Seen>| {
            let kept = seen.into_iter().filter(|(name, _)| ![&b"large"[..], b"link-a", b"link-b"].contains(&&name[..]));
            kept.collect()
        };
        tree::assert_same(&without(tree::read(&saved.source())), &without(tree::read(&saved.out())));
        saved.store.replace(chunk, whole.clone());
        saved.restore(restore_options()).await;
        saved.assert_complete();
        fs::remove_dir_all(saved.out()).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_segment_costs_only_what_it_lists() {
    let directory = tempfile::tempdir().unwrap();
    let source = directory.path().join("source");
    for number in 0..9000 {
        let place = source.join(format!("{:02}", number / 100));
        fs::create_dir_all(&place).unwrap();
        fs::write(place.join(number.to_string()), number.to_string()).unwrap();
    }
    let store = fresh().await;
    let id = sync(store.clone(), &source).await.snapshot.unwrap();
    let root = snapshot(&*open(store.clone()).await, id).await.root;
    assert!(root.segments.len() >= 3);
    let victim = &root.segments[1];
    store.lose(Name::Chunk(victim.id.0));
    let out = directory.path().join("out");
    let report = restore_with(store.clone(), id, &out, restore_options()).await.unwrap();
    assert!(tells(&report.problems, "manifest", &victim.id.to_string()), "{:?}", report.problems);
    let restored = report.restored + report.kept;
    assert!(restored + u64::from(victim.entries) >= root.totals.entries, "{restored} of {}", root.totals.entries);
    // Nobody knows what is in excess where a part of the list is lost.
    let before = (tree::read(&source), tree::read(&out));
    fs::remove_dir_all(&out).unwrap();
    fs::rename(&source, &out).unwrap();
    let options = RestoreOptions { delete: true, ..restore_options() };
    assert_eq!(restore_with(store, id, &out, options).await.unwrap().removed, 0);
    tree::assert_same(&before.0, &tree::read(&out));
    let (source, out) = before;
    assert!(out.iter().all(|(name, seen)| seen.content.is_none() || source[name].content == seen.content));
}
