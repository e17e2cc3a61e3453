//! Sync: a source tree becomes a snapshot (`spec/6-operations.md`).
//!
//! ```text
//! walk ─┐
//! old ──┴→ plan → read, cut (threads) → assemble → hash, ask → compress, seal → upload (async)
//!                                                                      └──────→ build → commit
//! ```
//! One bounded channel between neighbours, and nothing else crosses. A stage that fails drops its ends of the channels, and the others
//! end with it; only the one that failed says why. A visible snapshot implies all its chunks: [`build`] commits
//! when every upload has been acknowledged.

mod assemble;
mod buffer;
mod build;
mod draft;
mod old;
mod plan;
mod read;
mod reliance;
mod run;
mod upload;
mod walking;

pub use crate::format::seal::Compression;
pub use old::OLD_FILE_BYTES;
pub use plan::{Decision, Trust, decide};
pub use walking::Walking;

use super::{
    error::EngineError,
    event::{Event, Observer, Problem, Problems, Stage},
    filter::{Filter, FilterOptions},
    history::{self, Base},
    presence::Presence,
    source::Source,
    sweep,
};
use crate::format::{id::SnapshotId, receipt::Receipt};
use crate::repository::Repository;
use futures_util::future;
use run::Run;
use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant},
};

/// What a sync is to do.
#[derive(Clone, Debug)]
pub struct SyncOptions {
    /// What is left out.
    pub filter: FilterOptions,
    /// The machine's name, as snapshots record it.
    pub host: String,
    /// Who runs it.
    pub user: String,
    /// The user's own word for the snapshot.
    pub label: String,
    /// Read every file, even where nothing seems to have changed.
    pub always_read: bool,
    /// Another ctime alone is no reason to read a file.
    pub ignore_ctime: bool,
    /// Another inode alone is no reason to read a file.
    pub ignore_inode: bool,
    /// How hard to compress.
    pub compression: Compression,
    /// How often what is done so far is made restorable.
    pub checkpoint_interval: Duration,
    /// Do all but write.
    pub dry_run: bool,
    /// Count the source beforehand where no snapshot tells how large it is.
    pub estimate: bool,
    /// Save an empty tree after a full one.
    pub allow_empty: bool,
}

/// What a sync did.
#[derive(Clone, Debug, Default)]
pub struct SyncReport {
    /// The snapshot; `None` for a dry run.
    pub snapshot: Option<SnapshotId>,
    /// Its generation.
    pub generation: u64,
    /// Entries not in the last snapshot.
    pub new: u64,
    /// Entries that differ from the last snapshot's.
    pub changed: u64,
    /// Entries taken over.
    pub unchanged: u64,
    /// Files found under another path.
    pub moved: u64,
    /// Entries that are gone.
    pub deleted: u64,
    /// Regular files in the tree.
    pub files: u64,
    /// Directories in it.
    pub directories: u64,
    /// The receipt of the snapshot.
    pub receipt: Option<Receipt>,
    /// Entries of other kinds.
    pub others: u64,
    /// Bytes of its regular files.
    pub bytes: u64,
    /// Bytes that were read.
    pub bytes_read: u64,
    /// Chunks that the repository did not have.
    pub new_chunks: u64,
    /// Bytes of them, before compression.
    pub new_plain: u64,
    /// Objects sent.
    pub sent_objects: u64,
    /// Bytes of them.
    pub sent_bytes: u64,
    /// What went wrong without stopping the work; at most a thousand.
    pub problems: Vec<Problem>,
    /// How many in all.
    pub problem_count: u64,
    /// How long it took.
    pub duration: Duration,
}

/// Saves `source` as a snapshot.
///
/// Dropping the future ends the work; what was sent stays and is found by the next sync.
///
/// # Errors
/// [`EngineError`] where no snapshot came about. Single files that could not be read are problems in the report.
pub async fn sync(
    repository: Arc<Repository>,
    source: PathBuf,
    options: SyncOptions,
    observer: Arc<dyn Observer>,
) -> Result<SyncReport, EngineError> {
    repository.check_writable()?;
    let walking = Walking::begin(&source, &options)?;
    sync_walking(repository, walking, options, observer).await
}

/// As [`sync`], for a source whose walk has begun with these options.
///
/// # Errors
/// As there.
pub async fn sync_walking(
    repository: Arc<Repository>,
    walking: Walking,
    options: SyncOptions,
    observer: Arc<dyn Observer>,
) -> Result<SyncReport, EngineError> {
    let began = Instant::now();
    repository.check_writable()?;
    let Walking { source, filter, batches } = walking;
    let counts = Arc::new(Counts::default());
    let observer: Arc<dyn Observer> = Arc::new(Counting { inner: observer, counts: Arc::clone(&counts) });
    let problems = Arc::new(Problems::default());
    observer.event(Event::Stage(Stage::ReadingManifest));
    let store = Arc::clone(repository.store());
    let mut base = history::base(&repository, options.host.as_bytes(), source.path(), &problems, &*observer).await?;
    if !Presence::lists(repository.estimated_chunks()) {
        history::distrust_checkpoint(&repository, &mut base).await?;
    }
    estimate(&base, &options, &source, &filter, &observer);
    observer.event(Event::Stage(Stage::Syncing));
    let run = Run { repository, source, options, base, observer, counts, problems };
    let (done, litter) = future::join(run.go(batches), sweep::litter(&*store)).await;
    let (committed, run) = done?;
    if !run.options.dry_run {
        sweep::sweep(&*store, litter, committed.0).await;
    }
    Ok(run.report(committed, began))
}

/// Tells how much there will be to do: as much as last time, or as a quick count on a thread of its own says.
fn estimate(base: &Base, options: &SyncOptions, source: &Source, filter: &Filter, observer: &Arc<dyn Observer>) {
    if let Some(info) = &base.complete {
        let totals = &info.root.totals;
        observer.event(Event::Estimated { count: totals.entries, bytes: totals.bytes });
    } else if options.estimate {
        let (walk, observer) = (source.walk(filter.clone(), |_| {}), Arc::clone(observer));
        thread::spawn(move || {
            let (mut count, mut bytes) = (0, 0);
            for found in walk {
                count += 1;
                bytes += if found.stat.kind == super::stat::Kind::File { found.stat.size } else { 0 };
            }
            observer.event(Event::Estimated { count, bytes });
        });
    }
}

/// Counts kept while the work goes on.
#[derive(Default)]
pub(crate) struct Counts {
    new_chunks: AtomicU64,
    new_plain: AtomicU64,
    sent_objects: AtomicU64,
    sent_bytes: AtomicU64,
    bytes_read: AtomicU64,
    actions: [AtomicU64; 5],
}

/// Passes events on and counts them for the report.
struct Counting {
    inner: Arc<dyn Observer>,
    counts: Arc<Counts>,
}

impl Observer for Counting {
    fn event(&self, event: Event<'_>) {
        match event {
            Event::Read { bytes } => drop(self.counts.bytes_read.fetch_add(bytes, Relaxed)),
            Event::Entry { action, .. } => {
                if let Some(count) = self.counts.actions.get(action as usize) {
                    count.fetch_add(1, Relaxed);
                }
            }
            _ => {}
        }
        self.inner.event(event);
    }
}
