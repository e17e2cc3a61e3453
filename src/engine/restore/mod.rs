//! Restore: a snapshot becomes a tree (`spec/6-operations.md`).
//!
//! [`plan`] goes through the manifest on a thread of its own, makes directories and special files, and says which bytes of which
//! chunk belong where. [`fetch`] gets each chunk once and writes it to all its places. [`finish`] makes hard links, removes what
//! is not wanted, and gives directories their metadata, deepest first.

mod feed;
mod fetch;
mod finish;
mod plan;
mod window;

pub use plan::is_damage;

use super::{
    compare,
    error::EngineError,
    event::{Event, Observer, Problem, Problems, Stage},
    filter::Selection,
    history::SnapshotInfo,
    target::{OwnershipPolicy, Target},
    tree::Tree,
};
use crate::format::path::{Escaped, TreePath};
use crate::repository::Repository;
use plan::{Leftover, Planner};
use std::{
    collections::HashSet,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};
use tokio::sync::mpsc;
use window::Window;

/// What becomes of something that lies where an entry is to be restored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Overwrite {
    /// It is replaced.
    Always,
    /// It is replaced if its kind, size or mtime differ.
    IfChanged,
    /// It is kept, and if it differs that is a problem.
    #[default]
    Never,
}

/// What a restore is to do.
#[derive(Clone, Debug)]
pub struct RestoreOptions {
    /// Only these and what lies below them; everything if there are none.
    pub paths: Vec<TreePath>,
    /// Only what this selects.
    pub selection: Selection,
    /// What becomes of what is there already.
    pub overwrite: Overwrite,
    /// Remove what the snapshot does not have.
    pub delete: bool,
    /// Read everything back and compare.
    pub verify: bool,
    /// Only say what would be done.
    pub dry_run: bool,
    /// Restore owners.
    pub owner: bool,
    /// Owners' numbers count even where this machine knows the name.
    pub numeric_ids: bool,
}

/// What a restore did.
#[derive(Clone, Debug, Default)]
pub struct RestoreReport {
    /// Entries written.
    pub restored: u64,
    /// Entries that were as they should be.
    pub kept: u64,
    /// Entries left out because something else is in their place.
    pub skipped: u64,
    /// Entries of the target removed.
    pub removed: u64,
    /// Bytes of file content written.
    pub bytes_written: u64,
    /// Objects fetched.
    pub fetched_objects: u64,
    /// Bytes of them.
    pub fetched_bytes: u64,
    /// Owners that could not be given for lack of rights.
    pub owners_skipped: u64,
    /// Files read back and found right.
    pub verified: u64,
    /// What went wrong without stopping the work; at most a thousand.
    pub problems: Vec<Problem>,
    /// How many in all.
    pub problem_count: u64,
    /// How long it took.
    pub duration: Duration,
}

/// Counts kept while the work goes on.
#[derive(Default)]
struct Counts {
    restored: AtomicU64,
    kept: AtomicU64,
    skipped: AtomicU64,
    removed: AtomicU64,
    bytes_written: AtomicU64,
    fetched_objects: AtomicU64,
    fetched_bytes: AtomicU64,
    owners_skipped: AtomicU64,
}

/// A guess at how much larger files are than their objects: it decides only how soon connections are opened.
const COMPRESSED: u64 = 4;

/// What all stages share.
struct Shared {
    repository: Arc<Repository>,
    target: Option<Target>,
    options: RestoreOptions,
    policy: OwnershipPolicy,
    observer: Arc<dyn Observer>,
    problems: Arc<Problems>,
    counts: Counts,
    /// Entries that could not be restored: no link is made to what lies in their place.
    lost: Mutex<HashSet<TreePath>>,
}

impl Shared {
    /// A problem that leaves the entry at `path` unrestored.
    fn lost(&self, path: &TreePath, why: impl ToString) {
        self.lost.lock().unwrap_or_else(PoisonError::into_inner).insert(path.clone());
        self.problem(path, why);
    }

    fn is_lost(&self, path: &TreePath) -> bool {
        self.lost.lock().unwrap_or_else(PoisonError::into_inner).contains(path)
    }

    fn problem(&self, subject: impl ToString, why: impl ToString) {
        self.problems.add(&*self.observer, Problem::new(subject, why));
    }

    fn outcome(&self, outcome: super::target::Outcome) {
        self.counts.owners_skipped.fetch_add(u64::from(outcome.owner_skipped), Relaxed);
        for problem in outcome.problems {
            self.problems.add(&*self.observer, problem.into());
        }
    }
}

/// Restores `snapshot`, or parts of it, into the directory `target`.
///
/// What matches already is kept, so that a second run goes on where the first one stopped. Nothing is written outside `target`.
///
/// # Errors
/// [`EngineError`] where the work cannot go on. Single files that could not be restored are problems in the report.
pub async fn restore(
    repository: Arc<Repository>,
    snapshot: SnapshotInfo,
    target: PathBuf,
    options: RestoreOptions,
    observer: Arc<dyn Observer>,
) -> Result<RestoreReport, EngineError> {
    let began = Instant::now();
    let shared = Arc::new(Shared {
        target: open_target(&target, &options)?,
        policy: OwnershipPolicy { restore_owner: options.owner, numeric: options.numeric_ids },
        options,
        observer,
        problems: Arc::default(),
        counts: Counts::default(),
        lost: Mutex::default(),
        repository: Arc::clone(&repository),
    });
    if !snapshot.root.complete {
        shared.problem(format_args!("snapshot {}", snapshot.id), "it is a checkpoint: the tree is not complete");
    }
    let totals = &snapshot.root.totals;
    if shared.options.paths.is_empty() {
        shared.observer.event(Event::Estimated { count: totals.entries, bytes: totals.bytes });
        repository.store().expect(totals.bytes / COMPRESSED);
    }
    shared.observer.event(Event::Stage(Stage::Restoring));
    let tree = Tree::new(repository, snapshot.id, snapshot.root.segments.clone());
    let leftover = write_all(&shared, &tree, snapshot.root.complete).await?;
    shared.observer.event(Event::Stage(Stage::Finishing));
    let finishing = Arc::clone(&shared);
    let finished = tokio::task::spawn_blocking(move || finish::finish(&finishing, leftover));
    finished.await.map_err(|_| EngineError::Internal("the last step of the restore was lost"))?;
    let verified = verify(&shared, &tree, &target).await?;
    Ok(report(&shared, verified, began))
}

fn open_target(target: &Path, options: &RestoreOptions) -> Result<Option<Target>, EngineError> {
    use std::os::unix::ffi::OsStrExt;
    // A dry run makes no directory; where there is none, nothing stands in the way either.
    if options.dry_run && !target.exists() {
        return Ok(None);
    }
    match Target::open(target, !options.dry_run) {
        Ok(target) => Ok(Some(target)),
        Err(error) => Err(EngineError::Target {
            path: Escaped(target.as_os_str().as_bytes()).to_string(),
            why: error.source.to_string(),
        }),
    }
}

/// Plans and writes, window by window.
async fn write_all(shared: &Arc<Shared>, tree: &Arc<Tree>, is_complete: bool) -> Result<Leftover, EngineError> {
    let (segments_in, segments) = mpsc::channel(4);
    let (windows_in, mut windows) = mpsc::channel::<Window>(1);
    let feeding = tokio::spawn(feed::feed(Arc::clone(tree), shared.options.paths.clone(), segments_in));
    let planner = Planner::new(Arc::clone(shared), Arc::clone(tree), is_complete);
    let planning = tokio::task::spawn_blocking(move || planner.run(segments, &windows_in));
    while let Some(window) = windows.recv().await {
        fetch::write(shared, window).await?;
    }
    feeding.abort();
    planning.await.map_err(|_| EngineError::Internal("the plan of the restore was lost"))?
}

/// Reads everything back, where that was asked for: the number of files that are as they should be.
async fn verify(shared: &Arc<Shared>, tree: &Arc<Tree>, target: &Path) -> Result<u64, EngineError> {
    if !shared.options.verify || shared.options.dry_run {
        return Ok(0);
    }
    shared.observer.event(Event::Stage(Stage::Comparing));
    let options = compare::CompareOptions {
        paths: shared.options.paths.clone(),
        selection: shared.options.selection.clone(),
        content_only: true,
    };
    let compared =
        compare::compare(Arc::clone(&shared.repository), tree, target, options, Arc::clone(&shared.observer)).await?;
    for difference in compared.differences {
        shared.problem(difference.path, format_args!("read back: {}", difference.what));
    }
    Ok(compared.same)
}

fn report(shared: &Shared, verified: u64, began: Instant) -> RestoreReport {
    let (problems, problem_count) = shared.problems.take();
    let counts = &shared.counts;
    RestoreReport {
        restored: counts.restored.load(Relaxed),
        kept: counts.kept.load(Relaxed),
        skipped: counts.skipped.load(Relaxed),
        removed: counts.removed.load(Relaxed),
        bytes_written: counts.bytes_written.load(Relaxed),
        fetched_objects: counts.fetched_objects.load(Relaxed),
        fetched_bytes: counts.fetched_bytes.load(Relaxed),
        owners_skipped: counts.owners_skipped.load(Relaxed),
        verified,
        problems,
        problem_count,
        duration: began.elapsed(),
    }
}
