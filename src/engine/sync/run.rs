//! The stages of a sync, each on its thread or task, and the channels between them.

use super::{
    Counts, SyncOptions, SyncReport,
    assemble::Assembler,
    buffer::Buffers,
    build::Builder,
    old::{OldEntries, OldTree, Table},
    plan::{GROUP_BYTES_MAX, Planner, Trust},
    read::{self, Reading},
    upload::{self, Storing},
    walking::Batch,
};
use crate::engine::{
    error::EngineError,
    event::{Action, Observer, Problems},
    history::Base,
    owners::OwnerNames,
    presence::Presence,
    source::Source,
};
use crate::format::{
    chunker::{Chunker, PackCutter},
    id::{SegmentId, SnapshotId},
    path::Escaped,
    receipt::Receipt,
    snapshot::SnapshotRoot,
};
use crate::repository::Repository;
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, OnceLock, atomic::Ordering::Relaxed, mpsc},
    thread,
    time::Instant,
};
use tokio::sync::{Semaphore, mpsc as async_mpsc};

/// Threads that read the source: one a core. More would each hold buffers, and make a disk seek.
fn readers() -> usize {
    thread::available_parallelism().map_or(2, |cores| cores.get().clamp(2, 4))
}

/// Slots between the plan and the assembly.
const SLOTS_AHEAD: usize = 8;
/// Batches that wait for the store's answer.
const ASKED_AHEAD: usize = 0;

/// One sync under way.
pub(super) struct Run {
    pub repository: Arc<Repository>,
    pub source: Source,
    pub options: SyncOptions,
    pub base: Base,
    pub observer: Arc<dyn Observer>,
    pub counts: Arc<Counts>,
    pub problems: Arc<Problems>,
}

/// What the planning thread found at its end.
#[derive(Default)]
struct Walked {
    /// Entries of the last snapshot, if the source has been emptied since and that was not asked for.
    emptied: OnceLock<u64>,
}

impl Run {
    /// Runs all stages to their end.
    pub async fn go(
        self,
        found: mpsc::Receiver<Batch>,
    ) -> Result<((SnapshotId, SnapshotRoot), Arc<Self>), EngineError> {
        let run = Arc::new(self);
        let storing = run.storing();
        let old = OldTree::new(&run.repository, &run.base);
        let table = Arc::new(OnceLock::new());
        let walked = Arc::new(Walked::default());
        let (slots_in, slots) = mpsc::sync_channel(SLOTS_AHEAD);
        let (jobs_in, jobs) = mpsc::sync_channel(SLOTS_AHEAD);
        let (batches_in, batches) = mpsc::sync_channel(0);
        let (asked_in, asked) = mpsc::sync_channel(ASKED_AHEAD);
        let (stored_in, stored) = mpsc::sync_channel(4);
        let (uploads_in, uploads) = async_mpsc::channel(64);
        let (segments_in, segments) = async_mpsc::channel(4);

        let store = (!run.options.dry_run).then(|| Arc::clone(run.repository.store()));
        let uploading =
            OnDrop(tokio::spawn(upload::upload(store, uploads, Arc::clone(&run.observer), Arc::clone(&run.counts))));
        let feed = Arc::clone(&old).feed(
            segments_in,
            Arc::clone(&storing.presence),
            Arc::clone(&run.problems),
            Arc::clone(&run.observer),
        );
        let feeding = OnDrop(tokio::spawn(feed));
        let buffers = Buffers::new(run.repository.config().chunks.average as usize);
        run.spawn_readers(jobs, &buffers);
        let assembler = {
            let cutter = PackCutter::new(run.repository.keys().cut(), run.repository.config().packs);
            Assembler::new(
                cutter,
                Arc::clone(&old),
                Arc::clone(&table),
                Arc::clone(&storing.presence),
                batches_in,
                buffers,
            )
        };
        let assembling = stage(move || assembler.run(&slots).map_err(|_| ENDED_EARLY));
        let for_asking = Arc::clone(&storing);
        let asking = stage(move || {
            upload::ask(&for_asking, &batches, &asked_in);
            Ok(())
        });
        let (for_sealing, for_building) = (Arc::clone(&storing), uploads_in.clone());
        let sealing = stage(move || upload::seal(&for_sealing, &asked, &uploads_in, &stored_in));
        let planning =
            run.plan(&storing, old.clone(), OldEntries::new(segments), table, slots_in, jobs_in, &walked, found);
        let building = run.build(&storing, for_building, old.segments(), stored);

        // The stage that failed says why; the others only say that they ended early.
        let outcome = [planning.await, sealing.await, assembling.await, asking.await];
        let built = building.await;
        drop(feeding);
        let uploaded = uploading.join().await;
        if let Some(&entries) = walked.emptied.get() {
            let path = Escaped(run.source.path()).to_string();
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
        let presence = Presence::new(store, self.repository.estimated_chunks());
        self.base.set_aside.iter().for_each(|id| presence.distrust(*id));
        if let Some(shards) = self.repository.take_shards() {
            presence.know(shards);
        }
        Arc::new(Storing {
            keys: Arc::clone(self.repository.keys()),
            compression: self.options.compression,
            presence: Arc::new(presence),
            observer: Arc::clone(&self.observer),
            counts: Arc::clone(&self.counts),
            budget: Arc::new(Semaphore::new(upload::SEALED_BYTES_MAX)),
            runtime: tokio::runtime::Handle::current(),
        })
    }

    fn spawn_readers(self: &Arc<Self>, jobs: mpsc::Receiver<read::Job>, chunk_buffers: &Arc<Buffers>) {
        let config = self.repository.config();
        let jobs = Arc::new(Mutex::new(jobs));
        let buffers = Buffers::new(GROUP_BYTES_MAX as usize + config.packs.file_max as usize);
        for _ in 0..readers() {
            let reading = Reading {
                chunker: Chunker::new(self.repository.keys().cut(), config.chunks),
                keys: Arc::clone(self.repository.keys()),
                small: u64::from(config.packs.file_max),
                buffers: Arc::clone(&buffers),
                chunk_buffers: Arc::clone(chunk_buffers),
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
        batches: mpsc::Receiver<Batch>,
    ) -> Joined<()> {
        let (run, storing, walked) = (Arc::clone(self), Arc::clone(storing), Arc::clone(walked));
        stage(move || {
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
            let (mut entries, mut is_whole) = (0, false);
            for batch in batches {
                is_whole = batch.is_last;
                entries += batch.found.len() as u64;
                batch.problems.into_iter().for_each(|problem| run.problems.add(&*run.observer, problem.into()));
                batch.found.into_iter().try_for_each(|found| planner.found(found, small))?;
            }
            match run.emptied_after(entries) {
                Some(before) => drop(walked.emptied.set(before)),
                None if is_whole => planner.finish()?,
                None => return Err(EngineError::Internal("the walk of the source was lost")),
            }
            Ok(())
        })
    }

    /// Entries of the last snapshot, if the source has been emptied since and that was not asked for.
    fn emptied_after(&self, entries: u64) -> Option<u64> {
        let before = self.base.complete.as_ref().map_or(0, |info| info.root.totals.entries);
        (entries == 1 && before > 1 && !self.options.allow_empty).then_some(before)
    }

    fn build(
        self: &Arc<Self>,
        storing: &Arc<Storing>,
        uploads: async_mpsc::Sender<upload::Upload>,
        known: HashMap<SegmentId, u32>,
        stored: mpsc::Receiver<Vec<upload::Stored>>,
    ) -> Joined<Option<(SnapshotId, SnapshotRoot)>> {
        let (run, storing) = (Arc::clone(self), Arc::clone(storing));
        stage(move || {
            let repository = Arc::clone(&run.repository);
            let source = run.source.path();
            let builder = Builder::new(repository, storing, uploads, known, &run.base, &run.options, source);
            builder.run(&stored, || run.problems.count())
        })
    }

    pub fn report(&self, (id, root): (SnapshotId, SnapshotRoot), began: Instant) -> SyncReport {
        let (problems, problem_count) = self.problems.take();
        let action = |action: Action| self.counts.actions[action as usize].load(Relaxed);
        let totals = &root.totals;
        let receipt = Receipt { repository: self.repository.id(), generation: root.generation, snapshot: id };
        SyncReport {
            receipt: (!self.options.dry_run).then_some(receipt),
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
