//! Prune: what no snapshot names is set aside, and deleted once it has lain there for the grace period (`spec/6-operations.md`).
//!
//! No lock: it may run beside syncs, restores and other prunes, and may end at any call. [`roots`] finds out what is named,
//! [`work`] moves and removes.

mod roots;
#[cfg(test)]
mod schedules;
mod work;

use super::{
    error::EngineError,
    event::{Event, Observer, Problem, Problems, Stage},
    sweep,
    trash::{self, Trash},
};
use crate::clock;
use crate::format::name::{Dir, Name};
use crate::repository::Repository;
pub(super) use roots::fetch_trashed;
pub(super) use work::rename_if_there;

use roots::Roots;
use std::{
    collections::HashSet,
    sync::Arc,
    time::{Duration, Instant},
};
use work::Work;

/// The shortest grace period, and the usual one. A sync asks again for what it relied on after half of it.
pub const GRACE_MIN: Duration = Duration::from_secs(24 * 60 * 60);

/// What a prune is to do.
#[derive(Clone, Copy, Debug)]
pub struct PruneOptions {
    /// How long something that no snapshot names is left in place after it was written, and then in the trash.
    pub grace: Duration,
    /// Delete at once whatever no snapshot names, and write nothing. Not safe beside a sync.
    pub reclaim_now: bool,
    /// Only say what would be done.
    pub dry_run: bool,
}

impl Default for PruneOptions {
    fn default() -> Self {
        Self { grace: GRACE_MIN, reclaim_now: false, dry_run: false }
    }
}

/// Objects, and their bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Amount {
    /// How many.
    pub objects: u64,
    /// Bytes of them.
    pub bytes: u64,
}

impl Amount {
    fn add(&mut self, bytes: u64) {
        self.objects += 1;
        self.bytes += bytes;
    }
}

/// What a prune did.
#[derive(Clone, Debug, Default)]
pub struct PruneReport {
    /// Snapshots looked at.
    pub snapshots: u64,
    /// Chunks and segments in place that they name.
    pub kept: Amount,
    /// Set aside in this run.
    pub set_aside: Amount,
    /// Deleted for good.
    pub deleted: Amount,
    /// Moved back, for a snapshot names them.
    pub rescued: Amount,
    /// Set aside before, and to be deleted once the grace period is over.
    pub waiting: Amount,
    /// Named by no snapshot, and too young to be set aside.
    pub young: Amount,
    /// To be set aside by a later run, for the trash is full.
    pub left: Amount,
    /// Forgotten snapshots that can no longer be brought back.
    pub expired_snapshots: u64,
    /// What went wrong without stopping the work.
    pub problems: Vec<Problem>,
    /// How many in all.
    pub problem_count: u64,
    /// How long it took.
    pub duration: Duration,
}

/// Sets aside and deletes what no snapshot names.
///
/// # Errors
/// [`EngineError::ShortGrace`]; [`EngineError::Unknowable`] where a snapshot cannot be read, for then nobody knows what it needs;
/// and what the store says. Whatever was done by then was right.
pub async fn prune(
    repository: Arc<Repository>,
    options: PruneOptions,
    observer: Arc<dyn Observer>,
) -> Result<PruneReport, EngineError> {
    let began = Instant::now();
    if options.grace < GRACE_MIN {
        return Err(EngineError::ShortGrace);
    }
    repository.check_writable()?;
    let store = Arc::clone(repository.store());
    observer.event(Event::Stage(Stage::ReadingManifest));
    let (now, litter) = begin(&repository, options).await?;
    let due = now.saturating_sub(i64::try_from(options.grace.as_secs()).unwrap_or(i64::MAX));
    let mut report = PruneReport::default();
    let problems = Problems::default();
    let trash = Trash::read(&repository).await?;
    // Roots go before anything that they name: one that is in the trash can be brought back whole.
    let is_due = |item: &&trash::Item| item.is_root && (options.reclaim_now || item.is_older_than(due));
    let expired: HashSet<Name> = trash.items.iter().filter(is_due).map(trash::Item::name).collect();
    for name in expired.iter().filter(|_| !options.dry_run) {
        store.remove(*name).await?;
    }
    report.expired_snapshots = expired.len() as u64;
    let roots = Roots::gather(&repository, &expired, &problems, &*observer).await?;
    report.snapshots = roots.count;
    observer.event(Event::Stage(Stage::Listing));
    let mut work = Work::new(Arc::clone(&repository), options, due, roots, report)?;
    work.empty_trash(&trash).await?;
    work.set_aside().await?;
    work.record(&trash).await?;
    let mut report = work.report;
    if !options.dry_run && !options.reclaim_now {
        sweep::sweep_older(&*store, litter, now).await;
    }
    (report.problems, report.problem_count) = problems.take();
    report.duration = began.elapsed();
    Ok(report)
}

/// The server's time, and what lies in `tmp/`. Nothing is written in a dry run, which goes by this machine's clock, nor on a disk
/// that may be full.
async fn begin(
    repository: &Repository,
    options: PruneOptions,
) -> Result<(i64, Vec<crate::store::Listed>), EngineError> {
    if options.dry_run || options.reclaim_now {
        return Ok((clock::now().seconds, Vec::new()));
    }
    let store = repository.store();
    let litter = sweep::litter(&**store).await;
    store.create_dirs(&[Dir::Trash, Dir::Forgotten]).await?;
    Ok((trash::server_time(&**store).await?, litter))
}
