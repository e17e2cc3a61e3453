//! A whole sync, a sync of an unchanged tree, and a restore, on a store in memory that answers at once, after 20 ms, and after 100 ms: what matters
//! is how little the time grows with the latency.

// Nothing here runs for users: what fails ends the benchmark. And criterion's macro makes a function without a comment.
#![allow(clippy::expect_used, missing_docs)]

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use nfz::{
    engine::{
        event::{Problems, Silent},
        filter::{FilterOptions, Selection},
        history::{self, Choice},
        restore::{Overwrite, RestoreOptions, restore},
        sync::{Compression, SyncOptions, sync},
    },
    repository::{Credentials, InitOptions, Repository},
    store::{Store, fault::FaultStore, memory::MemoryStore},
};
use std::{
    fs,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};
use tempfile::TempDir;
use tokio::runtime::Runtime;
use zeroize::Zeroizing;

const LATENCIES: [u64; 3] = [0, 20, 100];

fn credentials() -> Credentials {
    Credentials { password: Some(Zeroizing::new(b"password".to_vec())), key_file: None }
}

fn sync_options() -> SyncOptions {
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

fn restore_options() -> RestoreOptions {
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

/// 1,000 small files and two large ones: 24 MiB.
fn make_tree() -> TempDir {
    let tree = tempfile::tempdir().expect("a temporary directory");
    let mut noise = blake3::Hasher::new().finalize_xof();
    let mut write = |path: String, length: usize| {
        let mut bytes = vec![0; length];
        noise.fill(&mut bytes);
        fs::write(tree.path().join(path), bytes).expect("a file in a temporary directory");
    };
    for directory in 0..20 {
        fs::create_dir(tree.path().join(format!("d{directory}"))).expect("a new directory");
        (0..50).for_each(|file| write(format!("d{directory}/f{file}"), 8 << 10));
    }
    (0..2).for_each(|number| write(format!("large{number}"), 8 << 20));
    tree
}

/// A repository as `init` leaves it, in memory.
async fn empty() -> MemoryStore {
    let store = Arc::new(MemoryStore::new());
    let cost = InitOptions { kdf_memory_kib: Some(19 << 10) };
    Repository::init(Arc::clone(&store) as _, &credentials(), &cost).await.expect("init in memory");
    MemoryStore::from_contents(store.contents())
}

/// Opens what `store` holds, through a link of this latency.
async fn open(store: &MemoryStore, latency: u64) -> Arc<Repository> {
    let copy: Arc<dyn Store> = Arc::new(MemoryStore::from_contents(store.contents()));
    let slow = FaultStore::new(copy).delayed(Duration::from_millis(latency));
    Arc::new(Repository::open(Arc::new(slow), &credentials()).await.expect("it was just made"))
}

async fn run_sync(repository: Arc<Repository>, tree: &Path) {
    sync(repository, tree.to_path_buf(), sync_options(), Arc::new(Silent)).await.expect("a sync into memory");
}

/// The store with one snapshot of `tree`.
async fn synced(tree: &Path) -> MemoryStore {
    let store = Arc::new(empty().await);
    let repository = Repository::open(Arc::clone(&store) as _, &credentials()).await.expect("it was just made");
    run_sync(Arc::new(repository), tree).await;
    MemoryStore::from_contents(store.contents())
}

/// Times `work` on a fresh opening of `store`, which is not timed: what it costs is the password.
fn measure<F: Future<Output = ()>>(
    criterion: &mut Criterion,
    name: &str,
    store: &MemoryStore,
    work: impl Fn(Arc<Repository>) -> F,
) {
    let runtime = Runtime::new().expect("a runtime");
    let mut group = criterion.benchmark_group(name);
    group.sample_size(10).warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(4));
    for latency in LATENCIES {
        group.bench_function(BenchmarkId::from_parameter(format!("{latency} ms")), |bencher| {
            bencher.iter_custom(|times| {
                let mut total = Duration::ZERO;
                for _ in 0..times {
                    let repository = runtime.block_on(open(store, latency));
                    let began = Instant::now();
                    runtime.block_on(work(repository));
                    total += began.elapsed();
                }
                total
            });
        });
    }
}

fn verbs(criterion: &mut Criterion) {
    let runtime = Runtime::new().expect("a runtime");
    let tree = make_tree();
    let (empty, full) = runtime.block_on(async { (empty().await, synced(tree.path()).await) });
    measure(criterion, "first sync", &empty, |repository| run_sync(repository, tree.path()));
    measure(criterion, "sync of an unchanged tree", &full, |repository| run_sync(repository, tree.path()));
    measure(criterion, "restore", &full, |repository| async move {
        let target = tempfile::tempdir().expect("a temporary directory");
        let snapshot = history::choose(&repository, &Choice::default(), &Problems::default(), &Silent)
            .await
            .expect("there is one");
        let path = target.path().to_path_buf();
        restore(repository, snapshot, path, restore_options(), Arc::new(Silent)).await.expect("a restore from memory");
    });
}

criterion_group!(benches, verbs);
criterion_main!(benches);
