//! One test for each mistake that was found by trying to break the program, so that it stays mended.
#![allow(clippy::unwrap_used, clippy::panic)]

#[path = "support/engine.rs"]
mod engine;

use engine::*;
use nfz::{
    engine::{
        event::{Problems, Silent},
        history::{self, At, Choice},
        restore::{Overwrite, RestoreOptions},
    },
    format::name::Name,
    repository::{InitOptions, Repository},
    store::memory::MemoryStore,
};
use std::{fs, os::unix::fs::FileExt, path::Path, sync::Arc};

/// A file of so many stretches of data between holes that its parts fill more than one segment.
fn many_parts(path: &Path) {
    const STRETCHES: u64 = 115_000;
    let file = fs::File::create(path).unwrap();
    file.set_len(STRETCHES * 8192).unwrap();
    for number in 0..STRETCHES {
        file.write_at(&[1], number * 8192).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_path_beside_a_file_of_many_parts_is_restored_and_a_file_that_lacks_one_is_not_put_in_place() {
    let directory = tempfile::tempdir().unwrap();
    let source = directory.path().join("source");
    fs::create_dir(&source).unwrap();
    fs::write(source.join("a-precious"), "precious").unwrap();
    many_parts(&source.join("disk.img"));
    let store = fresh().await;
    let id = sync(store.clone(), &source).await.snapshot.unwrap();

    let out = directory.path().join("out");
    let options = RestoreOptions { paths: vec![path("a-precious")], ..restore_options() };
    let report = restore_with(store.clone(), id, &out, options).await.unwrap();
    assert_eq!((report.restored, fs::read(out.join("a-precious")).unwrap()), (1, b"precious".to_vec()));

    let segments = snapshot(&*open(store.clone()).await, id).await.root.segments;
    assert!(segments.len() > 1, "the parts are to fill more than one segment");
    store.lose(Name::Chunk(segments.last().unwrap().id.0));
    let out = directory.path().join("out-of-a-damaged-one");
    let report = restore_with(store, id, &out, restore_options()).await.unwrap();
    assert!(tells(&report.problems, "disk.img", "a part of it is missing"), "{:?}", report.problems);
    assert!(!out.join("disk.img").exists());
    assert_eq!(fs::read(out.join("a-precious")).unwrap(), b"precious");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_hard_link_is_made_to_what_lies_in_place_of_a_name_that_was_not_restored() {
    let directory = tempfile::tempdir().unwrap();
    let (source, out) = (directory.path().join("source"), directory.path().join("out"));
    fs::create_dir(&source).unwrap();
    fs::create_dir(&out).unwrap();
    fs::write(source.join("a"), vec![7; 300_000]).unwrap();
    fs::hard_link(source.join("a"), source.join("b")).unwrap();
    fs::write(out.join("a"), "stale").unwrap();
    let store = fresh().await;
    let id = sync(store.clone(), &source).await.snapshot.unwrap();
    let segments = snapshot(&*open(store.clone()).await, id).await.root.segments;
    for name in store.contents().into_keys() {
        if matches!(name, Name::Chunk(id) if segments.iter().all(|row| row.id.0 != id)) {
            store.lose(name);
        }
    }
    let options = RestoreOptions { overwrite: Overwrite::IfChanged, ..restore_options() };
    let report = restore_with(store, id, &out, options).await.unwrap();
    assert!(tells(&report.problems, "b", "another name of a, which was not restored"), "{:?}", report.problems);
    assert!(!out.join("b").exists());
    assert_eq!(fs::read(out.join("a")).unwrap(), b"stale");
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_repositories_made_in_one_place_at_once_one_is_there_and_opens() {
    let cost = InitOptions { kdf_memory_kib: Some(19 << 10) };
    let credentials = credentials();
    for _ in 0..5 {
        let store = Arc::new(MemoryStore::default());
        let init = || Repository::init(store.clone() as _, &credentials, &cost);
        let (one, other) = tokio::join!(init(), init());
        let made = [one, other].into_iter().flatten().count();
        assert_eq!(made, 1, "who did not make the repository that is there must fail");
        open(store).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn that_the_newest_snapshot_cannot_be_read_is_said_when_an_older_one_is_taken() {
    let source = tempfile::tempdir().unwrap();
    fs::write(source.path().join("a"), "a").unwrap();
    let store = fresh().await;
    let older = sync(store.clone(), source.path()).await.snapshot.unwrap();
    let newest = Name::Snapshot(sync(store.clone(), source.path()).await.snapshot.unwrap());
    let mut bytes = store.contents()[&newest].to_vec();
    *bytes.last_mut().unwrap() ^= 1;
    store.replace(newest, bytes.into());
    let repository = open(store).await;
    let problems = Problems::default();
    let info = history::choose(&repository, &Choice::default(), &problems, &Silent).await.unwrap();
    assert_eq!(info.id, older);
    assert!(tells(&problems.take().0, &newest.to_string(), "altered"));
    let by_id = Choice { at: At::Prefix(older.to_string()), ..Choice::default() };
    history::choose(&repository, &by_id, &problems, &Silent).await.unwrap();
    assert_eq!(problems.count(), 0);
}
