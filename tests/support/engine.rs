//! What tests of the engine share: a repository in memory, and syncs and restores of it in one line.

#![allow(dead_code, clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "each test uses a part of this")]

use nfz::{
    engine::{
        error::EngineError,
        event::{Action, Event, Observer, Problem, Problems, Silent},
        filter::{FilterOptions, Selection},
        history::{self, SnapshotInfo},
        restore::{self, Overwrite, RestoreOptions, RestoreReport},
        sync::{self, Compression, SyncOptions, SyncReport},
        verify::{self, ReadData, VerifyOptions, VerifyReport},
    },
    format::{
        id::SnapshotId,
        name::{Dir, Name},
        path::TreePath,
    },
    repository::{Credentials, InitOptions, Repository},
    store::{Store, memory::MemoryStore, record::Call},
};
use std::{path::Path, sync::Arc, time::Duration};
use zeroize::Zeroizing;

pub fn credentials() -> Credentials {
    Credentials { password: Some(Zeroizing::new(b"password".to_vec())), key_file: None }
}

/// An empty repository whose password is cheap to try.
pub async fn fresh() -> Arc<MemoryStore> {
    let store = Arc::new(MemoryStore::default());
    let cost = InitOptions { kdf_memory_kib: Some(19 << 10) };
    Repository::init(Arc::clone(&store) as _, &credentials(), &cost).await.unwrap();
    store
}

pub async fn open(store: Arc<dyn Store>) -> Arc<Repository> {
    Arc::new(Repository::open(store, &credentials()).await.unwrap())
}

pub fn sync_options() -> SyncOptions {
    SyncOptions {
        filter: FilterOptions::default(),
        host: "host".into(),
        user: "user".into(),
        label: String::new(),
        always_read: false,
        ignore_ctime: false,
        ignore_inode: false,
        compression: Compression::FAST,
        checkpoint_interval: Duration::from_secs(300),
        dry_run: false,
        estimate: false,
        allow_empty: false,
    }
}

pub async fn try_sync(
    store: Arc<dyn Store>,
    source: &Path,
    options: SyncOptions,
    observer: Arc<dyn Observer>,
) -> Result<SyncReport, EngineError> {
    let repository = Repository::open(store, &credentials()).await?;
    sync::sync(Arc::new(repository), source.to_path_buf(), options, observer).await
}

/// A sync with options of its own, which must succeed.
pub async fn sync_with(store: Arc<dyn Store>, source: &Path, options: SyncOptions) -> SyncReport {
    try_sync(store, source, options, Arc::new(Silent)).await.unwrap()
}

/// A sync that must find no problem.
pub async fn sync(store: Arc<dyn Store>, source: &Path) -> SyncReport {
    let report = sync_with(store, source, sync_options()).await;
    assert_eq!(report.problems, []);
    report
}

pub async fn snapshots(repository: &Repository) -> Vec<SnapshotInfo> {
    let problems = Problems::default();
    let all = history::snapshots(repository, &problems, &Silent).await.unwrap();
    assert_eq!(problems.take().0, []);
    all
}

pub async fn snapshot(repository: &Repository, id: SnapshotId) -> SnapshotInfo {
    let listed = repository.list_snapshots(true).await.unwrap();
    let length = listed.iter().find(|listed| listed.name == Name::Snapshot(id)).unwrap().length;
    SnapshotInfo { id, root: repository.fetch_root(id, length).await.unwrap() }
}

pub fn restore_options() -> RestoreOptions {
    RestoreOptions {
        paths: Vec::new(),
        selection: Selection::default(),
        overwrite: Overwrite::Never,
        delete: false,
        verify: false,
        dry_run: false,
        owner: true,
        numeric_ids: false,
    }
}

pub async fn restore_with(
    store: Arc<dyn Store>,
    id: SnapshotId,
    target: &Path,
    options: RestoreOptions,
) -> Result<RestoreReport, EngineError> {
    let repository = open(store).await;
    let info = snapshot(&repository, id).await;
    restore::restore(repository, info, target.to_path_buf(), options, Arc::new(Silent)).await
}

/// A restore of everything that must find no problem.
pub async fn restore(repository: &Arc<Repository>, id: SnapshotId, target: &Path) -> RestoreReport {
    let info = snapshot(repository, id).await;
    let (repository, target) = (Arc::clone(repository), target.to_path_buf());
    let report = restore::restore(repository, info, target, restore_options(), Arc::new(Silent)).await.unwrap();
    assert_eq!(report.problems, []);
    report
}

pub async fn verify(repository: &Arc<Repository>, read_data: ReadData, against: Option<&Path>) -> VerifyReport {
    let options = VerifyOptions { read_data, against: against.map(Path::to_path_buf), ..VerifyOptions::default() };
    verify::verify(Arc::clone(repository), options, Arc::new(Silent)).await.unwrap()
}

/// Fails unless every object is there and opens.
pub async fn assert_whole(repository: &Arc<Repository>) {
    let report = verify(repository, ReadData::All, None).await;
    assert_eq!((report.damage, report.problems), (vec![], vec![]));
}

/// Names of what was put, in order.
pub fn puts(calls: &[Call]) -> Vec<Name> {
    let put = |call: &Call| if let Call::Put(name, _) = call { Some(*name) } else { None };
    calls.iter().filter_map(put).collect()
}

pub fn is_chunk(name: &Name) -> bool {
    name.dir() != Dir::Snapshots && matches!(name, Name::Chunk(_))
}

pub fn path(text: &str) -> TreePath {
    TreePath::new(text.as_bytes()).unwrap()
}

/// Whether a problem speaks of `subject` and of `message`.
pub fn tells(problems: &[Problem], subject: &str, message: &str) -> bool {
    problems.iter().any(|problem| problem.subject.contains(subject) && problem.message.contains(message))
}

/// Calls a function with every event.
pub struct Watch<F>(pub F);

impl<F: Fn(&Event<'_>) + Send + Sync> Observer for Watch<F> {
    fn event(&self, event: Event<'_>) {
        (self.0)(&event);
    }
}

/// Whether an event says that the sync has come to `path` and is about to read it.
pub fn is_at(event: &Event<'_>, wanted: &str) -> bool {
    matches!(event, Event::Entry { path, action: Action::New | Action::Changed, .. } if path.as_bytes() == wanted.as_bytes())
}
