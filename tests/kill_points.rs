//! A client that dies at any call to the store: nothing old is lost, and the next sync does only what is left.
#![allow(clippy::unwrap_used, clippy::panic)]

#[path = "support/engine.rs"]
mod engine;
#[path = "support/tree.rs"]
mod tree;

use engine::*;
use nfz::{
    engine::{event::Silent, restore, sync::SyncOptions, verify::ReadData},
    format::{
        id::SnapshotId,
        name::{Dir, Name},
    },
    repository::Repository,
    store::{
        fault::{Fault, FaultStore},
        memory::MemoryStore,
        record::{Call, RecordStore},
    },
};
use std::{collections::BTreeMap, fs, path::Path, sync::Arc, time::Duration};

type Seen = BTreeMap<Vec<u8>, tree::Seen>;

fn fill(source: &Path, seed: u8) {
    for number in 0..20_u8 {
        let directory = source.join(format!("d{}", number % 4));
        fs::create_dir_all(&directory).unwrap();
        fs::write(directory.join(format!("{seed}-{number}")), tree::noise(seed.wrapping_add(number), 30_000)).unwrap();
    }
    fs::write(source.join(format!("large-{seed}")), tree::noise(seed, 6_000_000)).unwrap();
}

/// A source that was saved once and has changed since.
struct Setting {
    source: tempfile::TempDir,
    contents: BTreeMap<Name, bytes::Bytes>,
    old: (SnapshotId, Seen),
    options: SyncOptions,
}

impl Setting {
    async fn new() -> Self {
        let source = tempfile::tempdir().unwrap();
        fill(source.path(), 1);
        let store = fresh().await;
        let id = sync(store.clone(), source.path()).await.snapshot.unwrap();
        let old = (id, tree::read(source.path()));
        fill(source.path(), 100);
        fs::rename(source.path().join("d1"), source.path().join("moved")).unwrap();
        fs::remove_file(source.path().join("large-1")).unwrap();
        // A checkpoint as often as can be: they are kill points too.
        let options = SyncOptions { checkpoint_interval: Duration::ZERO, ..sync_options() };
        Self { source, contents: store.contents(), old, options }
    }

    fn store(&self) -> Arc<MemoryStore> {
        Arc::new(MemoryStore::from_contents(self.contents.clone()))
    }

    /// Runs the second sync until `fault` kills it; true if it came to its end all the same.
    async fn killed(&self, store: &Arc<MemoryStore>, fault: Fault) -> bool {
        let dying = Arc::new(FaultStore::new(store.clone()).with(fault));
        try_sync(dying, self.source.path(), self.options.clone(), Arc::new(Silent)).await.is_ok()
    }

    /// All that must hold after a kill.
    async fn assert_nothing_lost(&self, store: &Arc<MemoryStore>, fault: Fault) {
        let out = tempfile::tempdir().unwrap();
        let repository = open(store.clone()).await;
        assert!(self.contents.iter().all(|(name, bytes)| store.contents().get(name) == Some(bytes)), "{fault:?}");
        let report = verify(&repository, ReadData::Nothing, None).await;
        assert_eq!(report.damage, [], "{fault:?}");
        self.assert_restores(&repository, &self.old, &out.path().join("old")).await;
        self.assert_checkpoints_restore(&repository, &out.path().join("checkpoint")).await;

        let before = store.contents();
        let record = Arc::new(RecordStore::new(store.clone()));
        let next = sync_with(record.clone(), self.source.path(), self.options.clone()).await;
        assert_eq!(next.problems, [], "{fault:?}");
        for name in puts(&record.take()) {
            assert!(!before.contains_key(&name), "{fault:?}: {name} was there and is sent again");
        }
        let repository = open(store.clone()).await;
        let new = (next.snapshot.unwrap(), tree::read(self.source.path()));
        self.assert_restores(&repository, &new, &out.path().join("new")).await;
        let left = snapshots(&repository).await;
        assert!(left.iter().all(|info| info.root.complete), "{fault:?}: checkpoints are removed");
        let report = verify(&repository, ReadData::All, Some(self.source.path())).await;
        assert_eq!((report.damage, report.differences), (vec![], vec![]), "{fault:?}");
    }

    async fn assert_restores(&self, repository: &Arc<Repository>, (id, then): &(SnapshotId, Seen), out: &Path) {
        engine::restore(repository, *id, out).await;
        tree::assert_same(then, &tree::read(out));
    }

    /// What a checkpoint holds is right, as far as it goes.
    async fn assert_checkpoints_restore(&self, repository: &Arc<Repository>, out: &Path) {
        let now = tree::read(self.source.path());
        fs::create_dir(out).unwrap();
        for info in snapshots(repository).await.into_iter().filter(|info| !info.root.complete) {
            let (entries, silent) = (info.root.totals.entries, Arc::new(Silent));
            let out = &out.join(info.id.to_string());
            let report = restore::restore(Arc::clone(repository), info, out.clone(), restore_options(), silent);
            assert_eq!(report.await.unwrap().restored + 1, entries);
            let restored = tree::read(out);
            let now = now.iter().filter(|(name, _)| restored.contains_key(*name));
            tree::assert_same(&now.map(|(name, seen)| (name.clone(), seen.clone())).collect(), &restored);
        }
    }
}

/// The calls of a sync that nothing disturbs, as far as each is worth dying at: of listings of shards only some.
async fn kill_points(setting: &Setting) -> Vec<u64> {
    let record = Arc::new(RecordStore::new(setting.store()));
    sync_with(record.clone(), setting.source.path(), setting.options.clone()).await;
    let calls = record.take();
    assert!(calls.len() > 270, "{} calls", calls.len());
    let is_shard = |call: &Call| matches!(call, Call::List(Dir::Shard(_)));
    let worth = |(number, call): (usize, &Call)| (!is_shard(call) || number % 16 == 0).then_some(number as u64 + 1);
    calls.iter().enumerate().filter_map(worth).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sync_that_dies_before_any_call_loses_nothing() {
    let setting = Setting::new().await;
    let mut came_through = 0;
    for number in kill_points(&setting).await {
        let (store, fault) = (setting.store(), Fault::Killed(number));
        came_through += u64::from(setting.killed(&store, fault).await);
        setting.assert_nothing_lost(&store, fault).await;
    }
    assert!(came_through <= 8, "{came_through} of them did not end");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sync_that_dies_after_any_call_loses_nothing() {
    let setting = Setting::new().await;
    for number in kill_points(&setting).await {
        let (store, fault) = (setting.store(), Fault::KilledAfter(number));
        setting.killed(&store, fault).await;
        setting.assert_nothing_lost(&store, fault).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_fails_once_ends_the_sync_and_loses_nothing() {
    let setting = Setting::new().await;
    for number in kill_points(&setting).await.into_iter().step_by(3) {
        let (store, fault) = (setting.store(), Fault::Before(number));
        setting.killed(&store, fault).await;
        setting.assert_nothing_lost(&store, fault).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repository_whose_making_was_interrupted_can_be_made_or_is_there() {
    use nfz::repository::InitOptions;
    let cost = InitOptions { kdf_memory_kib: Some(19 << 10) };
    for fault in (1..=8).flat_map(|number| [Fault::Killed(number), Fault::KilledAfter(number)]) {
        let store = Arc::new(MemoryStore::new());
        let dying = Arc::new(FaultStore::new(store.clone()).with(fault));
        let made = Repository::init(dying, &credentials(), &cost).await.is_ok();
        let exists = Repository::exists(&*store).await.unwrap_or(false);
        assert!(exists || !made, "{fault:?}");
        if !exists {
            Repository::init(store.clone(), &credentials(), &cost).await.unwrap();
        }
        let source = tempfile::tempdir().unwrap();
        fs::write(source.path().join("file"), b"content").unwrap();
        sync(store, source.path()).await;
    }
}
