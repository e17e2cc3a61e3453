//! What every store promises, as one suite that runs against each of them. For tests: it panics where a promise is
//! broken.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use super::{ErrorKind, Length, Listed, Store};
use crate::format::{
    id::{ConfigId, ForgottenId, ObjectId, SetAsideId, SnapshotId},
    limits::OBJECT_MAX,
    name::{Dir, Name},
};
use bytes::Bytes;
use futures_util::future::join_all;
use std::{collections::BTreeSet, sync::Arc};

/// Lengths on both sides of every border a store may have: nothing, one request, several, the largest chunk.
const LENGTHS: [usize; 9] = [0, 1, 16_384, 16_385, 261_119, 261_120, 261_121, 1 << 20, (4 << 20) + 1];

/// Holds an empty store, whose directory does not exist yet, to all promises of [`Store`]. Leaves it closed.
///
/// # Panics
/// Where a promise is broken.
pub async fn check(store: Arc<dyn Store>) {
    nothing_is_there_before_it_is_made(&*store).await;
    directories_are_made_and_made_again(&*store).await;
    every_kind_of_name_goes_round(&*store).await;
    every_length_goes_round(&*store).await;
    a_wrong_length_is_refused(&*store).await;
    a_name_that_exists_keeps_its_bytes(&*store).await;
    many_calls_at_once_do_not_mix(&*store).await;
    a_dropped_call_harms_nothing(&*store).await;
    removing_is_final_and_may_be_repeated(&*store).await;
    a_rename_moves_an_object_whole_and_may_be_repeated(&*store).await;
    a_rename_replaces_only_what_is_torn(&*store).await;
    of_many_who_rename_one_object_none_loses_it(&*store).await;
    store.free_space().await.expect("free space is told or not, but asking never fails");
    uploads_leave_nothing_behind(&*store).await;
    a_closed_store_stays_closed(&*store).await;
}

/// Bytes that differ with `seed` and never repeat early, so that a displaced piece shows.
fn bytes(seed: u64, length: usize) -> Bytes {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    std::iter::repeat_with(next).take(length).collect()
}

fn chunk(shard: u8, number: u64) -> Name {
    let mut id = [shard; 32];
    id[24..].copy_from_slice(&number.to_be_bytes());
    Name::Chunk(ObjectId(id))
}

fn names(listed: &[Listed]) -> BTreeSet<Name> {
    listed.iter().map(|listed| listed.name).collect()
}

async fn put(store: &dyn Store, name: Name, bytes: &Bytes) {
    store.put(name, bytes.clone()).await.unwrap_or_else(|error| panic!("{error} ({:?})", error.kind));
}

async fn assert_holds(store: &dyn Store, name: Name, bytes: &Bytes) {
    let length = bytes.len() as u64;
    for wanted in [Length::Exactly(length), Length::AtMost(length), Length::AtMost(length + 1)] {
        assert!(store.get(name, wanted).await.unwrap() == bytes, "{name} as {wanted:?}");
    }
    let listed = store.stat(name).await.unwrap().unwrap();
    assert_eq!((listed.name, listed.length), (name, length));
}

async fn nothing_is_there_before_it_is_made(store: &dyn Store) {
    assert_eq!(store.list(Dir::Root).await.unwrap_err().kind, ErrorKind::NotFound);
    assert_eq!(store.list(Dir::Shard(7)).await.unwrap_err().kind, ErrorKind::NotFound);
    assert_eq!(store.stat(Name::Repository).await.unwrap(), None);
    let missing = store.get(Name::Repository, Length::AtMost(100)).await;
    assert_eq!(missing.unwrap_err().kind, ErrorKind::NotFound);
    let nowhere = store.put(Name::Repository, Bytes::from_static(b"x")).await;
    assert_eq!(nowhere.unwrap_err().kind, ErrorKind::NotFound);
    store.remove(Name::Repository).await.unwrap();
}

async fn directories_are_made_and_made_again(store: &dyn Store) {
    let dirs: Vec<Dir> = Dir::all().collect();
    store.create_dirs(&[Dir::Root]).await.unwrap();
    store.create_dirs(&dirs).await.unwrap();
    store.create_dirs(&dirs).await.unwrap();
    for dir in dirs {
        assert_eq!(store.list(dir).await.unwrap(), [], "{dir}");
    }
}

async fn every_kind_of_name_goes_round(store: &dyn Store) {
    let id = ObjectId([0xab; 32]);
    let all = [
        Name::Repository,
        Name::Key([7; 16]),
        Name::Config(ConfigId::new(id)),
        Name::Chunk(id),
        Name::Snapshot(SnapshotId::new(id)),
        Name::TrashedChunk([3; 16], id),
        Name::TrashedSnapshot([3; 16], SnapshotId::new(id)),
        Name::SetAside(SetAsideId::new(id)),
        Name::Forgotten(ForgottenId::new(id)),
    ];
    for (seed, name) in (1..).zip(all) {
        let bytes = bytes(seed, 100);
        put(store, name, &bytes).await;
        assert_holds(store, name, &bytes).await;
        let listed = store.list(name.dir()).await.unwrap();
        assert_eq!(listed.iter().map(|listed| (listed.name, listed.length)).collect::<Vec<_>>(), [(name, 100)]);
        store.remove(name).await.unwrap();
        assert_eq!(store.list(name.dir()).await.unwrap(), []);
    }
}

async fn every_length_goes_round(store: &dyn Store) {
    for (number, length) in (0..).zip(LENGTHS) {
        let bytes = bytes(number, length);
        put(store, chunk(1, number), &bytes).await;
        assert_holds(store, chunk(1, number), &bytes).await;
    }
    let listed = store.list(Dir::Shard(1)).await.unwrap();
    let lengths: BTreeSet<usize> = listed.iter().map(|listed| listed.length as usize).collect();
    assert_eq!(lengths, BTreeSet::from(LENGTHS));
}

async fn a_wrong_length_is_refused(store: &dyn Store) {
    let name = chunk(2, 0);
    put(store, name, &bytes(0, 300_000)).await;
    let wrong = [0, 1, 299_999, 300_001, 600_000].map(Length::Exactly);
    for length in wrong.into_iter().chain([0, 1, 299_999].map(Length::AtMost)) {
        let refused = store.get(name, length).await.map(|bytes| bytes.len());
        assert_eq!(refused.map_err(|error| error.kind), Err(ErrorKind::WrongLength), "{length:?}");
    }
    for length in [Length::Exactly(u64::MAX), Length::AtMost(OBJECT_MAX + 1)] {
        let refused = store.get(name, length).await.map(|bytes| bytes.len());
        assert_eq!(refused.map_err(|error| error.kind), Err(ErrorKind::LimitExceeded), "{length:?}");
    }
}

async fn a_name_that_exists_keeps_its_bytes(store: &dyn Store) {
    let name = chunk(3, 0);
    let (first, second, torn) = (bytes(1, 5000), bytes(2, 5000), bytes(3, 4999));
    put(store, name, &torn).await;
    put(store, name, &first).await;
    assert_holds(store, name, &first).await;
    put(store, name, &second).await;
    assert_holds(store, name, &first).await;
}

async fn many_calls_at_once_do_not_mix(store: &dyn Store) {
    let objects: Vec<_> = (0..100).map(|number| (chunk(4, number), bytes(number, 3000 * number as usize))).collect();
    join_all(objects.iter().map(|(name, bytes)| put(store, *name, bytes))).await;
    join_all(objects.iter().map(|(name, bytes)| assert_holds(store, *name, bytes))).await;
    let listed = store.list(Dir::Shard(4)).await.unwrap();
    assert_eq!(names(&listed), objects.iter().map(|(name, _)| *name).collect());
}

async fn a_dropped_call_harms_nothing(store: &dyn Store) {
    let (name, content) = (chunk(5, 0), bytes(5, 1 << 20));
    for _ in 0..5 {
        let put = store.put(name, content.clone());
        tokio::select! { biased; outcome = put => outcome.unwrap(), () = tokio::task::yield_now() => {} }
    }
    // Whole or not there: then the length is right, or there is none.
    if let Some(listed) = store.stat(name).await.unwrap() {
        assert_eq!(listed.length, content.len() as u64);
    }
    put(store, name, &content).await;
    for _ in 0..5 {
        let get = store.get(name, Length::Exactly(content.len() as u64));
        tokio::select! { biased; outcome = get => drop(outcome.unwrap()), () = tokio::task::yield_now() => {} }
    }
    assert_holds(store, name, &content).await;
}

async fn removing_is_final_and_may_be_repeated(store: &dyn Store) {
    let name = chunk(6, 0);
    put(store, name, &bytes(6, 10)).await;
    store.remove(name).await.unwrap();
    store.remove(name).await.unwrap();
    assert_eq!(store.stat(name).await.unwrap(), None);
    assert_eq!(store.get(name, Length::AtMost(10)).await.unwrap_err().kind, ErrorKind::NotFound);
    put(store, name, &bytes(7, 10)).await;
    assert_holds(store, name, &bytes(7, 10)).await;
}

async fn a_rename_moves_an_object_whole_and_may_be_repeated(store: &dyn Store) {
    let (from, to, content) = (chunk(7, 0), Name::TrashedChunk([7; 16], ObjectId([7; 32])), bytes(7, 300_000));
    assert_eq!(store.rename(from, to).await.unwrap_err().kind, ErrorKind::NotFound);
    put(store, from, &content).await;
    let before = store.stat(from).await.unwrap().unwrap();
    store.rename(from, to).await.unwrap();
    assert_holds(store, to, &content).await;
    assert_eq!(store.stat(from).await.unwrap(), None);
    assert_eq!(store.stat(to).await.unwrap().unwrap().modified, before.modified, "its age goes with it");
    store.rename(from, to).await.expect("the answer to the first may have been lost");
    assert_holds(store, to, &content).await;
    store.rename(to, from).await.unwrap();
    assert_holds(store, from, &content).await;
}

async fn a_rename_replaces_only_what_is_torn(store: &dyn Store) {
    let (from, to) = (chunk(8, 0), chunk(8, 1));
    let (first, second, torn) = (bytes(1, 5000), bytes(2, 5000), bytes(3, 4999));
    put(store, to, &first).await;
    put(store, from, &second).await;
    store.rename(from, to).await.unwrap();
    assert_holds(store, to, &first).await;
    assert_eq!(store.stat(from).await.unwrap(), None);
    put(store, from, &torn).await;
    store.rename(from, to).await.unwrap();
    assert_holds(store, to, &torn).await;
    assert_eq!(store.stat(from).await.unwrap(), None);
}

async fn of_many_who_rename_one_object_none_loses_it(store: &dyn Store) {
    let (from, content) = (chunk(9, 0), bytes(9, 1000));
    put(store, from, &content).await;
    let to = |number: u8| Name::TrashedChunk([number; 16], ObjectId([9; 32]));
    join_all((0..20).map(|number| store.rename(from, to(number)))).await;
    let mut found = Vec::new();
    for name in (0..20).map(to) {
        found.extend(store.stat(name).await.unwrap());
    }
    assert_eq!(found.len(), 1, "it lies under one name");
    assert_holds(store, found[0].name, &content).await;
    store.remove(found[0].name).await.unwrap();
}

/// Calls that were dropped may still be at work: `tmp/` has to become empty, not to be.
async fn uploads_leave_nothing_behind(store: &dyn Store) {
    while !store.list(Dir::Tmp).await.unwrap().is_empty() {
        tokio::task::yield_now().await;
    }
}

async fn a_closed_store_stays_closed(store: &dyn Store) {
    store.close().await.unwrap();
    store.close().await.unwrap();
    store.stat(Name::Repository).await.expect_err("a closed store was used");
}
