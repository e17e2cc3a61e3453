//! Passwords and key files: whatever is done to them, and wherever it dies, what should open the repository does, nothing
//! else does, and every snapshot restores.
#![allow(clippy::unwrap_used, clippy::panic)]

#[path = "support/engine.rs"]
mod engine;
#[path = "support/tree.rs"]
mod tree;

use engine::{restore_options, sync_options};
use nfz::{
    engine::{event::Silent, restore, sync as engine_sync},
    format::{
        id::to_hex,
        kit,
        name::{Dir, Name},
        seal::Header,
    },
    repository::{Credentials, InitOptions, KeyError, ROTATION_LASTS, Repository, RepositoryError, SlotId},
    store::{
        Store,
        fault::{Fault, FaultStore},
        memory::MemoryStore,
        record::RecordStore,
    },
};
use proptest::prelude::*;
use std::{fs, path::Path, sync::Arc};

// Key files take no time to try; what opens a slot makes no difference to what is done with it.
const CHEAP: InitOptions = InitOptions { kdf_memory_kib: None };

/// What opens a slot, by a number.
fn word(number: usize) -> Credentials {
    Credentials { password: None, key_file: Some(Credentials::key_file_secret(&number.to_le_bytes())) }
}

async fn fresh() -> Arc<MemoryStore> {
    let store = Arc::new(MemoryStore::default());
    Repository::init(store.clone(), &word(0), &CHEAP).await.unwrap();
    store
}

async fn open(store: &Arc<MemoryStore>, number: usize) -> Result<Arc<Repository>, RepositoryError> {
    Repository::open(store.clone(), &word(number)).await.map(Arc::new)
}

async fn must_open(store: &Arc<MemoryStore>, number: usize) -> Arc<Repository> {
    open(store, number).await.unwrap_or_else(|error| panic!("password {number}: {error}"))
}

async fn sync(repository: &Arc<Repository>, source: &Path) {
    let (repository, source) = (Arc::clone(repository), source.to_path_buf());
    let report = engine_sync::sync(repository, source, sync_options(), Arc::new(Silent)).await.unwrap();
    assert_eq!(report.problems, []);
}

/// Every snapshot restores, each to a tree of its own, and holds as many files as it is old.
async fn assert_all_restore(repository: &Arc<Repository>, expected: usize) {
    let mut all = engine::snapshots(repository).await;
    all.sort_by_key(|info| info.root.generation);
    assert_eq!(all.len(), expected);
    for (at, info) in all.into_iter().enumerate() {
        let out = tempfile::tempdir().unwrap();
        let (repository, target) = (Arc::clone(repository), out.path().join("out"));
        let report = restore::restore(repository, info, target.clone(), restore_options(), Arc::new(Silent)).await;
        assert_eq!(report.unwrap().problems, []);
        for number in 0..=at {
            let content = fs::read(target.join(number.to_string())).unwrap();
            assert_eq!(content, tree::noise(number as u8, 3000), "snapshot {at}");
        }
    }
}

/// A source that grows by one file, and is saved, each time.
struct Growing {
    source: tempfile::TempDir,
    saved: usize,
}

impl Growing {
    fn new() -> Self {
        Self { source: tempfile::tempdir().unwrap(), saved: 0 }
    }

    async fn save(&mut self, repository: &Arc<Repository>) {
        fs::write(self.source.path().join(self.saved.to_string()), tree::noise(self.saved as u8, 3000)).unwrap();
        sync(repository, self.source.path()).await;
        self.saved += 1;
    }
}

// ---- any sequence of changes ----

/// What is done to the keys; the numbers choose among the passwords that there are.
#[derive(Clone, Debug)]
enum Change {
    Add(usize),
    Remove(usize, usize),
    Replace(usize),
    Rotate(usize),
    RotateToNew(usize),
}

fn changes() -> impl Strategy<Value = Vec<Change>> {
    let any = || 0..16_usize;
    let change = prop_oneof![
        4 => any().prop_map(Change::Add),
        3 => (any(), any()).prop_map(|(by, which)| Change::Remove(by, which)),
        2 => any().prop_map(Change::Replace),
        1 => any().prop_map(Change::Rotate),
        1 => any().prop_map(Change::RotateToNew),
    ];
    prop::collection::vec(change, 1..8)
}

/// The passwords that should open the repository, and their slots.
struct Model {
    slots: Vec<(usize, SlotId)>,
    given: usize,
}

impl Model {
    fn fresh_word(&mut self) -> usize {
        self.given += 1;
        self.given
    }

    fn place(&self, number: usize) -> usize {
        number % self.slots.len()
    }

    async fn apply(&mut self, store: &Arc<MemoryStore>, change: &Change) {
        let by = match change {
            Change::Add(by) | Change::Remove(by, _) | Change::Replace(by) | Change::Rotate(by) => self.place(*by),
            Change::RotateToNew(by) => self.place(*by),
        };
        let repository = must_open(store, self.slots[by].0).await;
        match change {
            Change::Add(_) => {
                let new = self.fresh_word();
                let slot = repository.add_slot(&word(new), &CHEAP).await.unwrap();
                self.slots.push((new, slot));
            }
            Change::Remove(_, which) => self.remove(&repository, by, self.place(*which)).await,
            Change::Replace(_) => {
                let new = self.fresh_word();
                self.slots[by] = (new, repository.change_slot(&word(new), &CHEAP).await.unwrap());
            }
            Change::Rotate(_) | Change::RotateToNew(_) => {
                let new = if matches!(change, Change::Rotate(_)) { self.slots[by].0 } else { self.fresh_word() };
                if self.slots.len() > 1 {
                    let refused = repository.rotate(&word(new), &CHEAP, false).await;
                    let Err(KeyError::OthersWouldGo(others)) = refused else { panic!("{refused:?}") };
                    assert_eq!(others.len(), self.slots.len() - 1);
                }
                let rotated = repository.rotate(&word(new), &CHEAP, true).await.unwrap();
                assert_eq!(rotated.removed.len(), self.slots.len());
                self.slots = vec![(new, rotated.slot)];
            }
        }
    }

    async fn remove(&mut self, repository: &Repository, by: usize, which: usize) {
        let id = self.slots[which].1;
        let removed = repository.remove_slot(&to_hex(&id), false).await;
        match removed {
            Ok(removed) => {
                assert!(removed == id && which != by);
                self.slots.remove(which);
            }
            Err(KeyError::LastSlot(last)) => assert!(last == id && self.slots.len() == 1),
            Err(KeyError::InUse(used)) => assert!(used == id && which == by),
            Err(error) => panic!("{error}"),
        }
    }

    async fn assert_exactly_these_open(&self, store: &Arc<MemoryStore>) {
        for number in 0..=self.given {
            let opened = open(store, number).await;
            match self.slots.iter().any(|(word, _)| *word == number) {
                true => opened.unwrap().check_writable().unwrap(),
                false => assert!(matches!(opened, Err(RepositoryError::WrongPassword)), "password {number}"),
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8))]
    #[test]
    fn after_any_changes_exactly_the_expected_passwords_open_and_every_snapshot_restores(changes in changes()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let store = fresh().await;
            let first = must_open(&store, 0).await.slots().await.unwrap()[0].id;
            let (mut model, mut growing) = (Model { slots: vec![(0, first)], given: 0 }, Growing::new());
            growing.save(&must_open(&store, 0).await).await;
            for change in &changes {
                model.apply(&store, change).await;
                growing.save(&must_open(&store, model.slots[0].0).await).await;
            }
            model.assert_exactly_these_open(&store).await;
            for (number, _) in &model.slots {
                assert_all_restore(&must_open(&store, *number).await, growing.saved).await;
            }
        });
    }
}

// ---- dying anywhere ----

/// What dies: from one password to another, or to the same.
#[derive(Clone, Copy, Debug)]
enum Act {
    Add,
    Change,
    RotateToSame,
    RotateToNew,
    Remove,
}

const NEW: usize = 9;

/// Whether it came to its end.
async fn act(store: Arc<dyn Store>, act: Act) -> bool {
    let Ok(repository) = Repository::open(store, &word(0)).await else { return false };
    match act {
        Act::Add => repository.add_slot(&word(NEW), &CHEAP).await.is_ok(),
        Act::Change => repository.change_slot(&word(NEW), &CHEAP).await.is_ok(),
        Act::RotateToSame => repository.rotate(&word(0), &CHEAP, true).await.is_ok(),
        Act::RotateToNew => repository.rotate(&word(NEW), &CHEAP, true).await.is_ok(),
        Act::Remove => {
            let slots = repository.slots().await.unwrap_or_default();
            let other = slots.iter().find(|slot| !slot.in_use).map(|slot| to_hex(&slot.id)).unwrap_or_default();
            repository.remove_slot(&other, false).await.is_ok()
        }
    }
}

/// Passwords that open the repository with nothing left out.
async fn that_open_all(store: &Arc<MemoryStore>) -> Vec<usize> {
    let mut found = Vec::new();
    for number in [0, NEW] {
        if open(store, number).await.is_ok_and(|repository| repository.check_writable().is_ok()) {
            found.push(number);
        }
    }
    found
}

/// A repository in its second epoch, with two slots and two snapshots.
async fn rotated_once() -> Arc<MemoryStore> {
    let (store, mut growing) = (fresh().await, Growing::new());
    growing.save(&must_open(&store, 0).await).await;
    must_open(&store, 0).await.rotate(&word(0), &CHEAP, false).await.unwrap();
    let repository = must_open(&store, 0).await;
    growing.save(&repository).await;
    repository.add_slot(&word(1), &CHEAP).await.unwrap();
    store
}

async fn assert_no_death_locks_out(what: Act) {
    let contents = rotated_once().await.contents();
    let copy = || Arc::new(MemoryStore::from_contents(contents.clone()));
    let record = Arc::new(RecordStore::new(copy()));
    assert!(act(record.clone(), what).await);
    let calls = record.take().len() as u64;
    let opening = {
        let record = Arc::new(RecordStore::new(copy()));
        Repository::open(record.clone(), &word(0)).await.unwrap();
        record.take().len() as u64
    };
    assert!(calls > opening + 2, "{calls} calls, {opening} of them to open");
    for number in opening + 1..=calls + 1 {
        for fault in [Fault::Killed(number), Fault::KilledAfter(number), Fault::Before(number), Fault::After(number)] {
            let store = copy();
            let done = act(Arc::new(FaultStore::new(store.clone()).with(fault)), what).await;
            let all = that_open_all(&store).await;
            assert!(!all.is_empty(), "{what:?}, {fault:?}: nothing opens it");
            let moved = matches!(what, Act::RotateToNew | Act::Change);
            assert!(!done || !moved || all == [NEW], "{what:?}, {fault:?}: {all:?}");
            let repository = must_open(&store, all[0]).await;
            assert_all_restore(&repository, 2).await;
            // And everything can be done again.
            store.advance_clock(ROTATION_LASTS + 1);
            let rotated = repository.rotate(&word(NEW), &CHEAP, true).await;
            assert!(rotated.is_ok(), "{what:?}, {fault:?}: {rotated:?}");
            assert_all_restore(&must_open(&store, NEW).await, 2).await;
            let left = |dir: Dir| store.contents().keys().filter(|name| name.dir() == dir).count();
            assert_eq!((left(Dir::Keys), left(Dir::Keyring)), (1, 1), "{what:?}, {fault:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_dies_while_adding_a_password_locks_nobody_out() {
    assert_no_death_locks_out(Act::Add).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_dies_while_changing_a_password_locks_nobody_out() {
    assert_no_death_locks_out(Act::Change).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_dies_while_removing_a_password_locks_nobody_out() {
    assert_no_death_locks_out(Act::Remove).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_dies_while_rotating_locks_nobody_out() {
    assert_no_death_locks_out(Act::RotateToSame).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_dies_while_rotating_to_a_new_password_locks_nobody_out() {
    assert_no_death_locks_out(Act::RotateToNew).await;
}

// ---- rotation ----

#[tokio::test]
async fn a_rotation_seals_anew_what_comes_and_sends_nothing_again() {
    let (store, mut growing) = (fresh().await, Growing::new());
    growing.save(&must_open(&store, 0).await).await;
    let before = store.contents();
    let rotated = must_open(&store, 0).await.rotate(&word(1), &CHEAP, false).await.unwrap();
    assert_eq!(rotated.epoch, 1);
    assert!(matches!(open(&store, 0).await, Err(RepositoryError::WrongPassword)));
    let repository = must_open(&store, 1).await;
    let chunks = |store: &MemoryStore| store.contents().keys().filter(|name| matches!(name, Name::Chunk(_))).count();
    let known = chunks(&store);
    sync(&repository, growing.source.path()).await;
    assert_eq!(chunks(&store), known, "what was there is there under the same name");
    growing.save(&repository).await;
    for (name, object) in store.contents() {
        if matches!(name, Name::Chunk(_) | Name::Snapshot(_)) {
            let epoch = Header::parse(&object).unwrap().epoch;
            assert_eq!(epoch, u16::from(!before.contains_key(&name)), "{name}");
        }
    }
}

#[tokio::test]
async fn a_sync_that_began_before_a_rotation_ends_well() {
    let (store, mut growing) = (fresh().await, Growing::new());
    let early = must_open(&store, 0).await;
    must_open(&store, 0).await.rotate(&word(1), &CHEAP, false).await.unwrap();
    growing.save(&early).await;
    growing.save(&must_open(&store, 1).await).await;
    assert_all_restore(&must_open(&store, 1).await, 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_rotations_at_once_one_or_none_succeeds_and_nothing_is_lost() {
    for _ in 0..6 {
        let (store, mut growing) = (fresh().await, Growing::new());
        growing.save(&must_open(&store, 0).await).await;
        let (one, two) = (must_open(&store, 0).await, must_open(&store, 0).await);
        let (first, second) = (word(1), word(2));
        let both = tokio::join!(one.rotate(&first, &CHEAP, false), two.rotate(&second, &CHEAP, false));
        assert!(both.0.is_err() || both.1.is_err());
        let number = match &both {
            (Ok(_), _) => 1,
            (_, Ok(_)) => 2,
            _ => 0,
        };
        growing.save(&must_open(&store, number).await).await;
        assert_all_restore(&must_open(&store, number).await, 2).await;
    }
}

#[tokio::test]
async fn a_rotation_waits_until_another_that_was_cut_off_is_given_up() {
    let store = fresh().await;
    let contents = store.contents();
    let dying = MemoryStore::from_contents(contents);
    let dying = Arc::new(dying);
    let keyring = |store: &MemoryStore| store.contents().into_iter().find(|(name, _)| name.dir() == Dir::Keyring);
    must_open(&dying, 0).await.rotate(&word(1), &CHEAP, false).await.unwrap();
    let (name, leftover) = keyring(&dying).unwrap();
    store.replace(name, leftover);
    let repository = must_open(&store, 0).await;
    let refused = repository.rotate(&word(1), &CHEAP, false).await;
    assert!(matches!(refused, Err(KeyError::RotationUnderWay)), "{refused:?}");
    store.advance_clock(ROTATION_LASTS + 1);
    repository.rotate(&word(1), &CHEAP, false).await.unwrap();
    assert_ne!(keyring(&store).unwrap().0, name);
    must_open(&store, 1).await;
}

#[tokio::test]
async fn an_old_slot_that_a_server_brings_back_opens_what_is_older_and_writes_nothing() {
    let (store, mut growing) = (fresh().await, Growing::new());
    growing.save(&must_open(&store, 0).await).await;
    let old = store.contents().into_iter().find(|(name, _)| name.dir() == Dir::Keys).unwrap();
    must_open(&store, 0).await.rotate(&word(1), &CHEAP, false).await.unwrap();
    store.replace(old.0, old.1);
    let outdated = must_open(&store, 0).await;
    assert!(matches!(outdated.check_writable(), Err(RepositoryError::Outdated { epoch: 0, newest: 1 })));
    assert_all_restore(&outdated, 1).await;
    for slot in outdated.slots().await.unwrap() {
        let refused = outdated.remove_slot(&to_hex(&slot.id), true).await;
        assert!(matches!(refused, Err(KeyError::Repository(RepositoryError::Outdated { .. }))), "{refused:?}");
    }
    let refused = engine_sync::sync(outdated, growing.source.path().into(), sync_options(), Arc::new(Silent)).await;
    assert!(refused.is_err());
    growing.save(&must_open(&store, 1).await).await;
    let left = must_open(&store, 1).await;
    left.remove_slot(
        &to_hex(&match old.0 {
            Name::Key(id) => id,
            _ => [0; 16],
        }),
        false,
    )
    .await
    .unwrap();
}

#[tokio::test]
async fn a_lost_keyring_is_named() {
    let store = fresh().await;
    must_open(&store, 0).await.rotate(&word(0), &CHEAP, false).await.unwrap();
    let keyring = store.contents().into_keys().find(|name| name.dir() == Dir::Keyring).unwrap();
    assert!(store.lose(keyring));
    assert!(matches!(open(&store, 0).await, Err(RepositoryError::NoKeyring(1))));
    store.replace(keyring, bytes::Bytes::from_static(&[7; 96]));
    assert!(matches!(open(&store, 0).await, Err(RepositoryError::NoKeyring(1))));
}

#[tokio::test]
async fn a_password_that_is_added_while_another_client_rotates_is_not_left_half_added() {
    let store = fresh().await;
    let early = must_open(&store, 0).await;
    must_open(&store, 0).await.rotate(&word(0), &CHEAP, false).await.unwrap();
    let refused = early.add_slot(&word(1), &CHEAP).await;
    let outdated = RepositoryError::Outdated { epoch: 0, newest: 1 }.to_string();
    assert_eq!(refused.map_err(|error| error.to_string()), Err(outdated));
    assert_eq!(must_open(&store, 0).await.slots().await.unwrap().len(), 1);
}

// ---- slots ----

#[tokio::test]
async fn there_are_sixteen_slots_at_most_and_a_full_repository_can_be_rotated() {
    let store = fresh().await;
    let repository = must_open(&store, 0).await;
    let file = word(7);
    for _ in 1..16 {
        repository.add_slot(&file, &CHEAP).await.unwrap();
    }
    assert!(matches!(repository.add_slot(&file, &CHEAP).await, Err(KeyError::TooMany)));
    assert!(matches!(repository.change_slot(&file, &CHEAP).await, Err(KeyError::TooMany)));
    assert_eq!(repository.slots().await.unwrap().len(), 16);
    let rotated = repository.rotate(&word(0), &CHEAP, true).await.unwrap();
    assert_eq!((rotated.removed.len(), must_open(&store, 0).await.slots().await.unwrap().len()), (16, 1));
}

#[tokio::test]
async fn a_slot_is_known_by_its_first_digits_if_they_are_one_slots() {
    let store = fresh().await;
    let repository = must_open(&store, 0).await;
    let added = repository.add_slot(&word(1), &CHEAP).await.unwrap();
    for (prefix, count) in [("", 2), ("x", 0)] {
        let refused = repository.remove_slot(prefix, true).await;
        assert!(matches!(refused, Err(KeyError::NoSuchSlot { count: found, .. }) if found == count), "{refused:?}");
    }
    assert_eq!(repository.remove_slot(&to_hex(&added), false).await.unwrap(), added);
}

#[tokio::test]
async fn a_store_that_does_not_keep_the_new_slot_loses_no_old_one() {
    let before = fresh().await.contents();
    let mut refused = 0;
    for number in 1..30 {
        let store = Arc::new(MemoryStore::from_contents(before.clone()));
        let faulty = Arc::new(FaultStore::new(store.clone()).with(Fault::Corrupt(number)));
        let Ok(repository) = Repository::open(faulty, &word(0)).await else { continue };
        match repository.change_slot(&word(1), &CHEAP).await {
            Err(KeyError::NotProven) => {
                assert_eq!(store.contents(), before);
                refused += 1;
            }
            changed => drop(changed.unwrap()),
        }
    }
    assert_eq!(refused, 1);
}

// ---- the recovery kit ----

fn read_kit(repository: &Repository, lines: &[String]) -> kit::KitSecret {
    let words: Vec<&str> = lines.iter().flat_map(|line| line.split(' ')).collect();
    kit::read(&repository.id(), &words).ok().unwrap()
}

#[tokio::test]
async fn a_kit_opens_a_repository_whose_slots_are_lost_and_gives_it_a_password() {
    let (store, mut growing) = (fresh().await, Growing::new());
    growing.save(&must_open(&store, 0).await).await;
    must_open(&store, 0).await.rotate(&word(0), &CHEAP, false).await.unwrap();
    growing.save(&must_open(&store, 0).await).await;
    let repository = must_open(&store, 0).await;
    let secret = read_kit(&repository, &repository.kit_words().unwrap());
    for name in store.contents().into_keys().filter(|name| name.dir() == Dir::Keys) {
        store.lose(name);
    }
    let opened = Arc::new(Repository::open_with_kit(store.clone(), &secret).await.unwrap());
    assert_all_restore(&opened, 2).await;
    assert!(matches!(opened.change_slot(&word(5), &CHEAP).await, Err(KeyError::NoneInUse)));
    opened.add_slot(&word(5), &CHEAP).await.unwrap();
    assert_all_restore(&must_open(&store, 5).await, 2).await;
}

#[tokio::test]
async fn a_kit_from_before_a_rotation_opens_only_what_is_older() {
    let (store, mut growing) = (fresh().await, Growing::new());
    let repository = must_open(&store, 0).await;
    growing.save(&repository).await;
    let secret = read_kit(&repository, &repository.kit_words().unwrap());
    repository.rotate(&word(0), &CHEAP, false).await.unwrap();
    let old = Arc::new(Repository::open_with_kit(store.clone(), &secret).await.unwrap());
    assert!(matches!(old.check_writable(), Err(RepositoryError::Outdated { epoch: 0, newest: 1 })));
    assert!(matches!(old.kit_words(), Err(KeyError::Repository(RepositoryError::Outdated { .. }))));
    assert_all_restore(&old, 1).await;
}
