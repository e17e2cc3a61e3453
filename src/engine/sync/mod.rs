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
mod build;
mod draft;
mod old;
mod plan;
mod read;
mod upload;

pub use crate::format::seal::Compression;
pub use plan::{Decision, Trust, decide};

use super::{
    error::EngineError,
    event::{Action, Event, Observer, Problem, Problems, Stage},
    filter::{Filter, FilterOptions},
    history::{self, Base},
    owners::OwnerNames,
    presence::Presence,
    source::{Found, Source, SourceError},
};
use crate::format::{
    chunker::{Chunker, PackCutter},
    id::SnapshotId,
    snapshot::SnapshotRoot,
};
use crate::repository::Repository;
use assemble::Assembler;
use build::Builder;
use old::{OldEntries, OldTree, Table};
use plan::Planner;
use read::Reading;
use std::{
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};
use tokio::sync::{Semaphore, mpsc as async_mpsc};
use upload::Storing;

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

/// Threads that read the source.
const READERS: usize = 4;
/// Walk batches ahead of the plan, and entries in each.
const WALK_AHEAD: usize = 128;
const WALK_BATCH: usize = 256;
/// Slots between the plan and the assembly.
const SLOTS_AHEAD: usize = 16;
/// Batches that wait for the store's answer.
const ASKED_AHEAD: usize = 2;

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
    let began = Instant::now();
    let source = open_source(&source)?;
    let filter = Filter::new(&options.filter).map_err(|error| EngineError::Filter(error.to_string()))?;
    let counts = Arc::new(Counts::default());
    let observer: Arc<dyn Observer> = Arc::new(Counting { inner: observer, counts: Arc::clone(&counts) });
    let problems = Arc::new(Problems::default());
    observer.event(Event::Stage(Stage::ReadingManifest));
    let base = history::base(&repository, options.host.as_bytes(), source.path(), &problems, &*observer).await?;
    estimate(&base, &options, &source, &filter, &observer);
    observer.event(Event::Stage(Stage::Syncing));
    let run = Run { repository, source, filter, options, base, observer, counts, problems };
    let (root, run) = run.go().await?;
    Ok(run.report(root, began))
}

fn open_source(path: &Path) -> Result<Source, EngineError> {
    use crate::format::path::Escaped;
    use std::os::unix::ffi::OsStrExt;
    Source::open(path).map_err(|error| EngineError::Source {
        path: Escaped(path.as_os_str().as_bytes()).to_string(),
        is_missing: matches!(error, SourceError::NotFound(_)),
        why: error.to_string(),
    })
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

/// One sync under way.
struct Run {
    repository: Arc<Repository>,
    source: Source,
    filter: Filter,
    options: SyncOptions,
    base: Base,
    observer: Arc<dyn Observer>,
    counts: Arc<Counts>,
    problems: Arc<Problems>,
}

/// What the planning thread found at its end.
struct Walked {
    /// Set when the walk has come to its end and everything was handed on.
    is_whole: AtomicBool,
    /// Entries found.
    entries: AtomicU64,
}

impl Run {
    /// Runs all stages to their end.
    async fn go(self) -> Result<((SnapshotId, SnapshotRoot), Arc<Self>), EngineError> {
        let run = Arc::new(self);
        let storing = run.storing();
        let old = OldTree::new(&run.repository, &run.base);
        let table = Arc::new(OnceLock::new());
        let walked = Arc::new(Walked { is_whole: AtomicBool::new(false), entries: AtomicU64::new(0) });
        let (slots_in, slots) = mpsc::sync_channel(SLOTS_AHEAD);
        let (jobs_in, jobs) = mpsc::sync_channel(SLOTS_AHEAD);
        let (batches_in, batches) = mpsc::sync_channel(1);
        let (asked_in, asked) = mpsc::sync_channel(ASKED_AHEAD);
        let (stored_in, stored) = mpsc::sync_channel(4);
        let (uploads_in, uploads) = async_mpsc::channel(64);
        let (segments_in, segments) = async_mpsc::channel(4);

        let store = (!run.options.dry_run).then(|| Arc::clone(run.repository.store()));
        let uploading =
            OnDrop(tokio::spawn(upload::upload(store, uploads, Arc::clone(&run.observer), Arc::clone(&run.counts))));
        let feed = Arc::clone(&old).feed(segments_in, Arc::clone(&run.problems), Arc::clone(&run.observer));
        let feeding = OnDrop(tokio::spawn(feed));
        run.spawn_readers(jobs);
        let assembler = {
            let cutter = PackCutter::new(run.repository.keys().cut(), run.repository.config().packs);
            Assembler::new(cutter, Arc::clone(&old), Arc::clone(&table), batches_in)
        };
        let assembling = stage(move || assembler.run(&slots).map_err(|_| ENDED_EARLY));
        let for_asking = Arc::clone(&storing);
        let asking = stage(move || {
            upload::ask(&for_asking, &batches, &asked_in);
            Ok(())
        });
        let (for_sealing, for_building) = (Arc::clone(&storing), uploads_in.clone());
        let sealing = stage(move || upload::seal(&for_sealing, &asked, &uploads_in, &stored_in));
        let planning = run.plan(&storing, old.clone(), OldEntries::new(segments), table, slots_in, jobs_in, &walked);
        let building = run.build(&storing, for_building, old.segments(), stored, &walked);

        // The stage that failed says why; the others only say that they ended early.
        let outcome = [planning.await, sealing.await, assembling.await, asking.await];
        let built = building.await;
        drop(feeding);
        let uploaded = uploading.join().await;
        if let Some(entries) = run.emptied(&walked) {
            let path = crate::format::path::Escaped(run.source.path()).to_string();
            return Err(EngineError::EmptiedSource { path, entries });
        }
        uploaded?;
        let mut early = None;
        for outcome in outcome {
            match outcome {
                Err(EngineError::Internal(why)) => early = Some(EngineError::Internal(why)),
                other => other?,
            }
        }
        match (built?, early) {
            (Some(committed), None) => Ok((committed, run)),
            (_, early) => Err(early.unwrap_or(ENDED_EARLY)),
        }
    }

    fn storing(&self) -> Arc<Storing> {
        let store = Arc::clone(self.repository.store());
        Arc::new(Storing {
            keys: Arc::clone(self.repository.keys()),
            compression: self.options.compression,
            presence: Arc::new(Presence::new(store, self.repository.estimated_chunks())),
            observer: Arc::clone(&self.observer),
            counts: Arc::clone(&self.counts),
            budget: Arc::new(Semaphore::new(upload::SEALED_BYTES_MAX)),
            runtime: tokio::runtime::Handle::current(),
        })
    }

    fn spawn_readers(self: &Arc<Self>, jobs: mpsc::Receiver<read::Job>) {
        let config = self.repository.config();
        let jobs = Arc::new(Mutex::new(jobs));
        for _ in 0..READERS {
            let reading = Reading {
                chunker: Chunker::new(self.repository.keys().cut(), config.chunks),
                keys: Arc::clone(self.repository.keys()),
                small: u64::from(config.packs.file_max),
                problems: Arc::clone(&self.problems),
                observer: Arc::clone(&self.observer),
            };
            let jobs = Arc::clone(&jobs);
            thread::spawn(move || reading.run(&jobs));
        }
    }

    #[allow(clippy::too_many_arguments)]
    fn plan(
        self: &Arc<Self>,
        storing: &Arc<Storing>,
        old: Arc<OldTree>,
        entries: OldEntries,
        table: Arc<OnceLock<Table>>,
        slots: mpsc::SyncSender<read::Slot>,
        jobs: mpsc::SyncSender<read::Job>,
        walked: &Arc<Walked>,
    ) -> Joined<()> {
        let (run, storing, walked) = (Arc::clone(self), Arc::clone(storing), Arc::clone(walked));
        stage(move || {
            let found = run.walk();
            storing.runtime.block_on(storing.presence.list_all())?;
            let small = u64::from(run.repository.config().packs.file_max);
            let trust = Trust {
                always_read: run.options.always_read,
                ignore_ctime: run.options.ignore_ctime,
                ignore_inode: run.options.ignore_inode,
            };
            let mut planner = Planner {
                entries,
                old,
                presence: Arc::clone(&storing.presence),
                table,
                trust,
                observer: &*run.observer,
                slots,
                jobs,
                runtime: storing.runtime.clone(),
                names: OwnerNames::load(),
                ready: Vec::new(),
                group: Vec::new(),
                group_bytes: 0,
            };
            for found in found.into_iter().flatten() {
                walked.entries.fetch_add(1, Relaxed);
                planner.found(found, small)?;
            }
            if run.emptied_after(walked.entries.load(Relaxed)).is_none() {
                planner.finish()?;
                walked.is_whole.store(true, Relaxed);
            }
            Ok(())
        })
    }

    /// Walks the source on a thread of its own, some way ahead.
    fn walk(self: &Arc<Self>) -> mpsc::Receiver<Vec<Found>> {
        let (send, receive) = mpsc::sync_channel(WALK_AHEAD);
        let run = Arc::clone(self);
        thread::spawn(move || {
            let problems = |problem: super::problem::Problem| run.problems.add(&*run.observer, problem.into());
            let mut batch = Vec::with_capacity(WALK_BATCH);
            for found in run.source.walk(run.filter.clone(), problems) {
                batch.push(found);
                if batch.len() == WALK_BATCH && send.send(std::mem::take(&mut batch)).is_err() {
                    return;
                }
            }
            // No one may be left to take it: then the walk is not wanted.
            let _ = send.send(batch);
        });
        receive
    }

    /// Entries of the last snapshot, if the source has been emptied since and that was not asked for.
    fn emptied(&self, walked: &Walked) -> Option<u64> {
        self.emptied_after(walked.entries.load(Relaxed)).filter(|_| !walked.is_whole.load(Relaxed))
    }

    fn emptied_after(&self, entries: u64) -> Option<u64> {
        let before = self.base.complete.as_ref().map_or(0, |info| info.root.totals.entries);
        (entries == 1 && before > 1 && !self.options.allow_empty).then_some(before)
    }

    fn build(
        self: &Arc<Self>,
        storing: &Arc<Storing>,
        uploads: async_mpsc::Sender<upload::Upload>,
        known: std::collections::HashMap<crate::format::id::SegmentId, u32>,
        stored: mpsc::Receiver<Vec<upload::Stored>>,
        walked: &Arc<Walked>,
    ) -> Joined<Option<(SnapshotId, SnapshotRoot)>> {
        let (run, storing, walked) = (Arc::clone(self), Arc::clone(storing), Arc::clone(walked));
        stage(move || {
            let repository = Arc::clone(&run.repository);
            let source = run.source.path();
            let builder = Builder::new(repository, storing, uploads, known, &run.base, &run.options, source);
            builder.run(&stored, || walked.is_whole.load(Relaxed).then(|| run.problems.count()))
        })
    }

    fn report(&self, (id, root): (SnapshotId, SnapshotRoot), began: Instant) -> SyncReport {
        let (problems, problem_count) = self.problems.take();
        let action = |action: Action| self.counts.actions[action as usize].load(Relaxed);
        let totals = &root.totals;
        SyncReport {
            snapshot: (!self.options.dry_run).then_some(id),
            generation: root.generation,
            new: action(Action::New),
            changed: action(Action::Changed),
            unchanged: action(Action::Unchanged),
            moved: action(Action::Moved),
            deleted: action(Action::Deleted),
            files: totals.files,
            directories: totals.directories,
            others: totals.entries - totals.files - totals.directories,
            bytes: totals.bytes,
            bytes_read: self.counts.bytes_read.load(Relaxed),
            new_chunks: self.counts.new_chunks.load(Relaxed),
            new_plain: self.counts.new_plain.load(Relaxed),
            sent_objects: self.counts.sent_objects.load(Relaxed),
            sent_bytes: self.counts.sent_bytes.load(Relaxed),
            problems,
            problem_count,
            duration: began.elapsed(),
        }
    }
}

const ENDED_EARLY: EngineError = EngineError::Internal("a stage of the sync ended early");

/// Runs a stage on a thread of its own. A panic there is an internal error here.
fn stage<T: Send + 'static>(work: impl FnOnce() -> Result<T, EngineError> + Send + 'static) -> Joined<T> {
    let (send, receive) = tokio::sync::oneshot::channel();
    // The receiver may have been dropped with the whole sync.
    let body = move || drop(send.send(work()));
    let _ = thread::Builder::new().spawn(body);
    Box::pin(async move { receive.await.unwrap_or(Err(ENDED_EARLY)) })
}

/// Waits for a stage's end.
type Joined<T> = std::pin::Pin<Box<dyn Future<Output = Result<T, EngineError>> + Send>>;

/// A task that ends when this is dropped.
struct OnDrop<T>(tokio::task::JoinHandle<T>);

impl<T> OnDrop<Result<T, crate::store::StoreError>> {
    async fn join(mut self) -> Result<T, EngineError> {
        Ok((&mut self.0).await.map_err(|_| ENDED_EARLY)??)
    }
}

impl<T> Drop for OnDrop<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}
