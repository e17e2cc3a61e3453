//! A server in an enemy's hands. Whatever it does to whatever object: nothing false is restored, nothing panics, and what was done is
//! found and named. `docs/attacks.md` lists what is tried, and where.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "support/engine.rs"]
mod engine;
#[path = "support/tree.rs"]
mod tree;

use bytes::Bytes;
use engine::*;
use nfz::{
    engine::{event::Silent, restore, verify::ReadData},
    format::{
        id::SnapshotId,
        limits::SLOTS_MAX,
        name::{Dir, Name},
    },
    repository::{InitOptions, Repository},
    store::{
        Store,
        memory::MemoryStore,
        record::{Call, RecordStore},
    },
};
use std::{collections::BTreeMap, fs, path::Path, sync::Arc};

type Contents = BTreeMap<Name, Bytes>;

/// What was saved, and what the server has of it.
struct Saved {
    contents: Contents,
    files: BTreeMap<String, Vec<u8>>,
    snapshot: SnapshotId,
}

impl Saved {
    /// A repository with every kind of object: rotated once, one snapshot forgotten, one file in a chunk of its own.
    async fn new() -> Self {
        let source = tempfile::tempdir().unwrap();
        let mut files = BTreeMap::new();
        files.insert("large".to_owned(), tree::noise(9, 300_000));
        files.insert("passwd".to_owned(), b"root:x:0:0::/root:/bin/sh".to_vec());
        files.insert("text".to_owned(), b"the same line\n".repeat(200));
        for (name, bytes) in &files {
            fs::write(source.path().join(name), bytes).unwrap();
        }
        let store = fresh().await;
        sync(store.clone() as _, source.path()).await;
        let cost = InitOptions { kdf_memory_kib: Some(19 << 10) };
        open(store.clone() as _).await.rotate(&credentials(), &cost, true).await.unwrap();
        let snapshot = sync(store.clone() as _, source.path()).await.snapshot.unwrap();
        Self { contents: store.contents(), files, snapshot }
    }

    /// Names of what is sealed or stored, but for what tells people what this is.
    fn objects(&self) -> Vec<Name> {
        self.contents.keys().filter(|name| name.dir() != Dir::Root).copied().collect()
    }

    fn with(&self, name: Name, bytes: impl Into<Bytes>) -> Contents {
        let mut contents = self.contents.clone();
        contents.insert(name, bytes.into());
        contents
    }

    /// Opens, verifies and restores what the server shows, and holds the outcome to the law: what is restored is right, and where not
    /// everything is restored something was said. Returns what was said.
    async fn said_of(&self, contents: Contents) -> String {
        let store: Arc<dyn Store> = Arc::new(MemoryStore::from_contents(contents));
        let repository = match Repository::open(store, &credentials()).await {
            Ok(repository) => Arc::new(repository),
            Err(error) => return error.to_string(),
        };
        let options = nfz::engine::verify::VerifyOptions { read_data: ReadData::All, ..Default::default() };
        let mut said = match nfz::engine::verify::verify(Arc::clone(&repository), options, Arc::new(Silent)).await {
            Ok(report) => format!("{:?} {:?}", report.damage, report.problems),
            Err(error) => error.to_string(),
        };
        let target = tempfile::tempdir().unwrap();
        said += &self.restored(&repository, target.path()).await;
        let is_complete = self.files.keys().all(|name| target.path().join(name).exists());
        assert!(is_complete || said.len() > 6, "not all was restored, and nothing was said: {said}");
        for entry in fs::read_dir(target.path()).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            assert_eq!(Some(&fs::read(target.path().join(&name)).unwrap()), self.files.get(&name), "{name}");
        }
        said
    }

    async fn restored(&self, repository: &Arc<Repository>, target: &Path) -> String {
        let listed = repository.list_snapshots(true).await.unwrap();
        let Some(listed) = listed.iter().find(|listed| listed.name == Name::Snapshot(self.snapshot)) else {
            return "the snapshot is not listed".to_owned();
        };
        let root = match repository.fetch_root(self.snapshot, listed.length).await {
            Ok(root) => root,
            Err(error) => return error.to_string(),
        };
        let info = nfz::engine::history::SnapshotInfo { id: self.snapshot, root };
        let (repository, target) = (Arc::clone(repository), target.to_path_buf());
        match restore::restore(repository, info, target, restore_options(), Arc::new(Silent)).await {
            Ok(report) if report.problems.is_empty() => String::new(),
            Ok(report) => format!("{:?}", report.problems),
            Err(error) => error.to_string(),
        }
    }
}

/// Places in an object: all of its header and its end, and some between.
fn places(length: usize) -> impl Iterator<Item = usize> {
    let step = (length / 40).max(1);
    (0..length).filter(move |place| *place < 64 || place + 20 > length || place % step == 0)
}

/// Whether all of what was said names the object, or a key that does not open for it.
fn names(said: &str, name: Name) -> bool {
    let by_key = matches!(name.dir(), Dir::Keys | Dir::Keyring);
    said.contains(&name.to_string()) || by_key && !said.starts_with("[] []")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flipped_bit_anywhere_is_found_and_named() {
    let saved = Saved::new().await;
    for name in saved.objects() {
        let whole = saved.contents[&name].clone();
        for place in places(whole.len()) {
            let mut bytes = whole.to_vec();
            bytes[place] ^= 1 << (place % 8);
            let said = saved.said_of(saved.with(name, bytes)).await;
            // Not every slot and keyring is needed: the newest opens the repository.
            let is_spare = said == "[] []" && matches!(name.dir(), Dir::Keys | Dir::Keyring);
            assert!(is_spare || names(&said, name), "byte {place} of {name}: {said}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_cut_to_any_length_or_lengthened_is_found_and_named() {
    let saved = Saved::new().await;
    for name in saved.objects() {
        let whole = saved.contents[&name].clone();
        let cut = places(whole.len()).step_by(3).map(|length| whole.slice(..length));
        let longer = [1, 64, 70_000].map(|more| Bytes::from([&whole[..], &vec![0; more]].concat()));
        for bytes in cut.chain(longer).collect::<Vec<_>>() {
            let length = bytes.len();
            let said = saved.said_of(saved.with(name, bytes)).await;
            let is_spare = said == "[] []" && matches!(name.dir(), Dir::Keys | Dir::Keyring);
            assert!(is_spare || names(&said, name), "{name} with {length} bytes: {said}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn any_object_in_the_place_of_any_other_is_found_and_named() {
    let saved = Saved::new().await;
    for name in saved.objects() {
        for other in saved.objects().into_iter().filter(|other| *other != name) {
            if saved.contents[&other] == saved.contents[&name] {
                continue;
            }
            let said = saved.said_of(saved.with(name, saved.contents[&other].clone())).await;
            let is_key = matches!(name.dir(), Dir::Keys | Dir::Keyring);
            assert!(is_key || names(&said, name), "{other} as {name}: {said}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn objects_of_another_repository_with_the_same_password_are_refused() {
    let (saved, other) = (Saved::new().await, Saved::new().await);
    for name in saved.objects() {
        for foreign in other.objects().into_iter().filter(|foreign| foreign.dir() == name.dir()) {
            let said = saved.said_of(saved.with(name, other.contents[&foreign].clone())).await;
            let is_key = matches!(name.dir(), Dir::Keys | Dir::Keyring);
            assert!(is_key || names(&said, name), "{foreign} as {name}: {said}");
        }
    }
    // All of it but the text file: the id that it gives is then another one than the keys are for.
    let mut mixed = other.contents.clone();
    mixed.insert(Name::Repository, saved.contents[&Name::Repository].clone());
    let store: Arc<dyn Store> = Arc::new(MemoryStore::from_contents(mixed));
    assert!(Repository::open(store, &credentials()).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn anything_that_is_taken_away_is_missed() {
    let saved = Saved::new().await;
    for name in saved.objects() {
        let mut contents = saved.contents.clone();
        contents.remove(&name);
        let said = saved.said_of(contents).await;
        let may_be_spare = matches!(name.dir(), Dir::Keys | Dir::Keyring | Dir::Config);
        // The newest snapshot that nothing follows can be withheld: this test looks for it by its id.
        let is_missed = names(&said, name) || said.contains("not listed");
        assert!(may_be_spare || is_missed, "{name}: {said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_key_slots_cost_no_more_than_sixteen() {
    let saved = Saved::new().await;
    let slots: Vec<Name> = saved.objects().into_iter().filter(|name| name.dir() == Dir::Keys).collect();
    let mut contents = saved.contents.clone();
    for number in 0..10_000u32 {
        let mut id = [0; 16];
        id[12..].copy_from_slice(&number.to_be_bytes());
        contents.insert(Name::Key(id), saved.contents[&slots[0]].clone());
    }
    let record = Arc::new(RecordStore::new(Arc::new(MemoryStore::from_contents(contents))));
    // The copies are whole, so one of them opens; the point is how many are looked at.
    let _ = Repository::open(record.clone(), &credentials()).await;
    let gets =
        record.take().iter().filter(|call| matches!(call, Call::Get(name, ..) if name.dir() == Dir::Keys)).count();
    assert!((1..=SLOTS_MAX).contains(&gets), "{gets}");
}
