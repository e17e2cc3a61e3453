//! Verify: is everything there that the snapshots need, and is it what it must be? Goes on to the end, and names what damage
//! touches.

use super::{
    compare::{self, CompareOptions},
    error::EngineError,
    event::{Event, Observer, Problem, Problems, Stage},
    filter::Selection,
    forget::forgotten,
    history::{self, Choice, SnapshotInfo},
    receipt::{self, Standing},
    restore::is_damage,
    trash,
    tree::{Tree, rows_of},
};
use crate::format::{
    id::{ChunkId, ObjectId, SegmentId, SnapshotId, to_hex},
    manifest::Segment,
    name::{Dir, Name},
    receipt::Receipt,
};
use crate::repository::{Repository, random};
use crate::store::{ErrorKind, Listed, Store};

pub use super::compare::Difference;
use futures_util::{StreamExt, TryStreamExt, future, stream};
use serde::Serialize;
use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::sync::Semaphore;

/// How much is read.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum ReadData {
    /// Only manifests; chunks are judged by the listing.
    #[default]
    Nothing,
    /// Every chunk.
    All,
    /// So many in a hundred, drawn at random.
    Percent(f64),
    /// About so many bytes of objects, drawn at random.
    Bytes(u64),
}

/// What a verify is to do.
#[derive(Clone, Debug, Default)]
pub struct VerifyOptions {
    /// How much is read.
    pub read_data: ReadData,
    /// Receipts whose snapshots must be there.
    pub expect: Vec<Receipt>,
    /// A live tree to compare a snapshot with.
    pub against: Option<PathBuf>,
    /// Which snapshot.
    pub choice: Option<Choice>,
}

/// Something that is not as it must be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Damage {
    /// The object.
    pub object: String,
    /// What is wrong with it.
    pub why: String,
    /// Snapshots that need it.
    pub snapshots: Vec<String>,
    /// Paths that need it, at most twenty, safe to print.
    pub paths: Vec<String>,
}

/// What a verify found.
#[derive(Clone, Debug, Default)]
pub struct VerifyReport {
    /// Snapshots looked at.
    pub snapshots: u64,
    /// The receipt of the newest complete snapshot.
    pub newest: Option<Receipt>,
    /// Segments read.
    pub segments: u64,
    /// Chunks that snapshots need.
    pub chunks: u64,
    /// Bytes of their objects.
    pub chunk_bytes: u64,
    /// Chunks read and found right.
    pub read_objects: u64,
    /// Bytes of their objects.
    pub read_bytes: u64,
    /// Objects among the chunks that no snapshot needs.
    pub unreferenced: u64,
    /// Bytes of them.
    pub unreferenced_bytes: u64,
    /// Chunks and segments that lie in the trash, set aside by a prune.
    pub set_aside: u64,
    /// Bytes of them.
    pub set_aside_bytes: u64,
    /// What is not as it must be.
    pub damage: Vec<Damage>,
    /// How the live tree differs; at most a thousand.
    pub differences: Vec<Difference>,
    /// How many differ in all.
    pub difference_count: u64,
    /// Entries of the live tree that are the same.
    pub same: u64,
    /// The snapshot that the live tree was compared with.
    pub against: Option<SnapshotId>,
    /// What could not be looked at.
    pub problems: Vec<Problem>,
    /// How many in all.
    pub problem_count: u64,
    /// How long it took.
    pub duration: Duration,
}

/// Bytes of objects at hand at once while data are read.
const BYTES_MAX: usize = 48 << 20;
/// Objects on their way at once.
const READS_AT_ONCE: usize = 256;
/// Paths named for one damaged object.
const PATHS_LISTED: usize = 20;

/// A verify under way.
struct Verify {
    repository: Arc<Repository>,
    observer: Arc<dyn Observer>,
    problems: Problems,
    report: VerifyReport,
    /// What the snapshots need.
    needed: HashMap<ChunkId, (u32, u32)>,
    segments: HashMap<SegmentId, u32>,
    /// What the store lists.
    listed: HashMap<ObjectId, u64>,
    /// The repository has not just been opened: what it listed then is old.
    lists_afresh: bool,
    /// Objects that are not as they must be, and why.
    damaged: BTreeMap<Name, String>,
}

/// Verifies the whole repository, and what else `options` ask for.
///
/// # Errors
/// [`EngineError`] where the work cannot go on. Damage is in the report.
pub async fn verify(
    repository: Arc<Repository>,
    options: VerifyOptions,
    observer: Arc<dyn Observer>,
) -> Result<VerifyReport, EngineError> {
    let began = Instant::now();
    let mut verify = Verify {
        repository,
        observer,
        problems: Problems::default(),
        report: VerifyReport::default(),
        needed: HashMap::new(),
        segments: HashMap::new(),
        listed: HashMap::new(),
        lists_afresh: true,
        damaged: BTreeMap::new(),
    };
    verify.stage(Stage::Listing);
    verify.list(options.read_data).await?;
    verify.stage(Stage::ReadingManifest);
    let snapshots = verify.roots().await?;
    verify.receipts(&options.expect, &snapshots).await?;
    verify.manifests(&snapshots).await?;
    verify.structure().await?;
    verify.read_data(options.read_data).await?;
    verify.name_victims(&snapshots).await;
    if let Some(live) = &options.against {
        verify.against(live.clone(), options.choice.unwrap_or_default()).await?;
    }
    Ok(verify.finish(began))
}

impl Verify {
    fn stage(&self, stage: Stage) {
        self.observer.event(Event::Stage(stage));
    }

    fn damage(&mut self, name: Name, why: impl ToString) {
        self.damaged.entry(name).or_insert_with(|| why.to_string());
    }

    /// Takes what was listed of all shards when the repository was opened, or lists them.
    async fn list(&mut self, read_data: ReadData) -> Result<(), EngineError> {
        let listed = self.repository.take_shards();
        self.lists_afresh = listed.is_none();
        let shards = match listed {
            Some(shards) => shards,
            None => list_shards(&**self.repository.store()).await?,
        };
        let chunks = shards.into_iter().flatten().filter_map(|listed| match listed.name {
            Name::Chunk(id) => Some((id, listed.length)),
            _ => None,
        });
        self.listed = chunks.collect();
        if read_data == ReadData::All {
            self.repository.store().expect(self.listed.values().sum());
        }
        Ok(())
    }

    fn note_trash(&mut self, trashed: Vec<Listed>) {
        for listed in trashed.into_iter().filter(|listed| matches!(listed.name, Name::TrashedChunk(..))) {
            self.report.set_aside += 1;
            self.report.set_aside_bytes += listed.length;
        }
    }

    /// Reads all roots, and looks for holes in the chain.
    async fn roots(&mut self) -> Result<Vec<SnapshotInfo>, EngineError> {
        let listed = self.repository.list_snapshots(self.lists_afresh).await?;
        let ids: Vec<(SnapshotId, u64)> = listed
            .iter()
            .filter_map(|listed| match listed.name {
                Name::Snapshot(id) => Some((id, listed.length)),
                _ => None,
            })
            .collect();
        let repository = Arc::clone(&self.repository);
        let fetches = ids.iter().map(|&(id, length)| {
            let repository = &repository;
            async move { (id, repository.fetch_root(id, length).await) }
        });
        let roots = stream::iter(fetches.collect::<Vec<_>>()).buffered(32).collect::<Vec<_>>();
        let forgotten = forgotten(&repository, &self.problems, &*self.observer);
        let (roots, trashed, forgotten) = future::join3(roots, trash::list(&**repository.store()), forgotten).await;
        self.note_trash(trashed?);
        let mut snapshots = Vec::new();
        for (id, root) in roots {
            match root.map_err(EngineError::from) {
                Ok(root) => snapshots.push(SnapshotInfo { id, root }),
                Err(_) if history::is_gone(&self.repository, id).await => {}
                Err(error) if is_damage(&error) => self.damage(Name::Snapshot(id), error),
                Err(error) => return Err(error),
            }
        }
        let mut known: HashSet<SnapshotId> = ids.into_iter().map(|(id, _)| id).collect();
        known.extend(forgotten?.into_iter().flat_map(|(_, record)| record.ids));
        for info in &snapshots {
            for followed in info.root.follows.iter().filter(|id| !known.contains(id)) {
                let why =
                    format!("it is missing, and snapshot {} follows it: lost, or withheld by the server", info.id);
                self.damage(Name::Snapshot(*followed), why);
            }
        }
        self.report.snapshots = snapshots.len() as u64;
        Ok(snapshots)
    }

    /// Compares what is there with what receipts say was there.
    async fn receipts(&mut self, expect: &[Receipt], snapshots: &[SnapshotInfo]) -> Result<(), EngineError> {
        let complete = snapshots.iter().filter(|info| info.root.complete);
        let newest = complete.max_by_key(|info| (info.root.generation, info.root.time, info.id));
        self.report.newest = newest.map(|info| receipt::of(&self.repository, info));
        let standings = receipt::standings(&self.repository, expect, &self.problems, &*self.observer).await?;
        for (receipt, standing) in expect.iter().zip(standings) {
            match standing {
                Standing::There | Standing::Forgotten => {}
                Standing::Missing => {
                    let why = format!(
                        "a receipt says that it was here, generation {}: lost, or withheld by the server",
                        receipt.generation
                    );
                    self.damage(Name::Snapshot(receipt.snapshot), why);
                }
                Standing::OtherRepository => {
                    let why = format!("the receipt is of another repository, {}", to_hex(&receipt.repository));
                    self.damage(Name::Repository, why);
                }
            }
        }
        Ok(())
    }

    /// Reads every segment once, those of all snapshots in one go, and notes the chunks that it names.
    async fn manifests(&mut self, snapshots: &[SnapshotInfo]) -> Result<(), EngineError> {
        let Some(last) = snapshots.last() else { return Ok(()) };
        let all = snapshots.iter().flat_map(|info| &info.root.segments);
        let new = all.filter(|row| self.segments.insert(row.id, row.stored).is_none()).cloned().collect();
        let tree = Tree::new(Arc::clone(&self.repository), last.id, new);
        let mut segments = Box::pin(tree.segments(0..tree.len()));
        while let Some((number, segment)) = segments.next().await {
            match segment {
                Ok(segment) => self.segment(segment),
                Err(error) if is_damage(&error) => self.damage(Name::Chunk(tree.rows()[number].id.0), error),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn segment(&mut self, segment: Segment) {
        self.report.segments += 1;
        self.observer.event(Event::Done { bytes: 0, objects: 1 });
        for row in segment.chunks {
            let known = *self.needed.entry(row.id).or_insert((row.plain, row.stored));
            // Stored lengths may differ: see `structure`.
            if known.0 != row.plain {
                let why = "two snapshots record different lengths of its content";
                self.damage(Name::Chunk(row.id.0), why);
            }
        }
    }

    /// Compares what is needed with what is listed.
    async fn structure(&mut self) -> Result<(), EngineError> {
        let needed: Vec<(ObjectId, u32)> = self.needed.iter().map(|(id, (_, stored))| (id.0, *stored)).collect();
        let mut suspects = Vec::new();
        for (id, stored) in needed {
            match self.listed.remove(&id) {
                None if self.repository.has_chunk(id).await? => {} // set aside, or moved back just now
                None => self.damage(Name::Chunk(id), "it is missing"),
                // Another writer may have compressed it differently: what opens is good.
                Some(length) if length != u64::from(stored) => suspects.push((ChunkId::new(id), stored, length)),
                Some(length) => self.report.chunk_bytes += length,
            }
        }
        for id in self.segments.keys() {
            self.listed.remove(&id.0);
        }
        self.report.chunks = self.needed.len() as u64;
        self.report.unreferenced = self.listed.len() as u64;
        self.report.unreferenced_bytes = self.listed.values().sum();
        for (id, stored, length) in suspects {
            match self.repository.check_chunk(id, stored).await.map_err(EngineError::from) {
                Ok(_) => self.report.chunk_bytes += length,
                Err(error) if is_damage(&error) => {
                    let why = format!("it has {length} bytes and must have {stored}, and does not open");
                    self.damage(Name::Chunk(id.0), why);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Reads as much data as was asked for, and opens it.
    async fn read_data(&mut self, how_much: ReadData) -> Result<(), EngineError> {
        let chosen = self.choose(how_much)?;
        if chosen.is_empty() {
            return Ok(());
        }
        self.stage(Stage::ReadingData);
        let bytes = chosen.iter().map(|(_, stored)| u64::from(*stored)).sum();
        self.observer.event(Event::Estimated { count: chosen.len() as u64, bytes });
        let budget = Arc::new(Semaphore::new(BYTES_MAX));
        let repository = Arc::clone(&self.repository);
        let reads = chosen.into_iter().map(|(id, stored)| {
            let (repository, budget) = (Arc::clone(&repository), Arc::clone(&budget));
            let plain = self.needed.get(&id).map_or(0, |(plain, _)| *plain);
            async move { (id, stored, read_one(&repository, &budget, id, plain, stored).await) }
        });
        let mut reads = stream::iter(reads.collect::<Vec<_>>()).buffer_unordered(READS_AT_ONCE);
        while let Some((id, stored, read)) = reads.next().await {
            match read {
                Ok(()) => {
                    self.report.read_objects += 1;
                    self.report.read_bytes += u64::from(stored);
                    self.observer.event(Event::Done { bytes: u64::from(stored), objects: 1 });
                }
                Err(error) if is_damage(&error) => self.damage(Name::Chunk(id.0), error),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// The chunks to be read, in the order in which a disk may like it; none that is known to be damaged.
    fn choose(&self, how_much: ReadData) -> Result<Vec<(ChunkId, u32)>, EngineError> {
        let whole = self.needed.iter().filter(|(id, _)| !self.damaged.contains_key(&Name::Chunk(id.0)));
        let mut all: Vec<(ChunkId, u32)> = whole.map(|(id, (_, stored))| (*id, *stored)).collect();
        let key: [u8; 32] = random()?;
        all.sort_unstable_by_key(|(id, _)| *blake3::keyed_hash(&key, &id.0.0).as_bytes());
        match how_much {
            ReadData::Nothing => all.clear(),
            ReadData::All => {}
            ReadData::Percent(percent) => {
                let count = (all.len() as f64 * percent.clamp(0.0, 100.0) / 100.0).ceil();
                all.truncate(count as usize);
            }
            ReadData::Bytes(bytes) => {
                let mut sum = 0;
                all.retain(|(_, stored)| {
                    let is_wanted = sum < bytes;
                    sum += u64::from(*stored);
                    is_wanted
                });
            }
        }
        all.sort_unstable_by_key(|(id, _)| *id);
        Ok(all)
    }

    /// Finds the snapshots and paths that damage touches.
    async fn name_victims(&mut self, snapshots: &[SnapshotInfo]) {
        let mut victims: HashMap<Name, (BTreeSet<SnapshotId>, Vec<String>)> = HashMap::new();
        if !self.damaged.is_empty() {
            for info in snapshots {
                self.victims_in(info, &mut victims).await;
            }
        }
        for (name, why) in std::mem::take(&mut self.damaged) {
            let (snapshots, paths) = victims.remove(&name).unwrap_or_default();
            let snapshots = snapshots.into_iter().map(|id| id.to_string()).collect();
            self.report.damage.push(Damage { object: name.to_string(), why, snapshots, paths });
        }
    }

    async fn victims_in(&self, info: &SnapshotInfo, victims: &mut HashMap<Name, (BTreeSet<SnapshotId>, Vec<String>)>) {
        let mut note = |name: Name, path: String| {
            let (snapshots, paths) = victims.entry(name).or_default();
            snapshots.insert(info.id);
            if paths.len() < PATHS_LISTED && !paths.contains(&path) {
                paths.push(path);
            }
        };
        let tree = Tree::new(Arc::clone(&self.repository), info.id, info.root.segments.clone());
        let mut segments = Box::pin(tree.segments(0..tree.len()));
        while let Some((number, segment)) = segments.next().await {
            let Ok(segment) = segment else {
                let row = &tree.rows()[number];
                note(Name::Chunk(row.id.0), format!("{} and {} more entries", row.first_path, row.entries - 1));
                continue;
            };
            if !segment.chunks.iter().any(|row| self.damaged.contains_key(&Name::Chunk(row.id.0))) {
                continue;
            }
            for entry in &segment.entries {
                for row in rows_of(entry, &segment.chunks) {
                    if self.damaged.contains_key(&Name::Chunk(row.id.0)) {
                        note(Name::Chunk(row.id.0), entry.path.to_string());
                    }
                }
            }
        }
    }

    /// Compares a live tree with a snapshot.
    async fn against(&mut self, live: PathBuf, choice: Choice) -> Result<(), EngineError> {
        self.stage(Stage::Comparing);
        let info = history::choose(&self.repository, &choice, &self.problems, &*self.observer).await?;
        let totals = &info.root.totals;
        self.observer.event(Event::Estimated { count: totals.entries, bytes: totals.bytes });
        let tree = Tree::new(Arc::clone(&self.repository), info.id, info.root.segments.clone());
        let options = CompareOptions { paths: Vec::new(), selection: Selection::default(), content_only: false };
        let compared =
            compare::compare(Arc::clone(&self.repository), &tree, &live, options, Arc::clone(&self.observer)).await?;
        self.report.against = Some(info.id);
        self.report.same = compared.same;
        self.report.differences = compared.differences;
        self.report.difference_count = compared.difference_count;
        self.report.problems = compared.problems;
        self.report.problem_count = compared.problem_count;
        Ok(())
    }

    fn finish(mut self, began: Instant) -> VerifyReport {
        let (problems, count) = self.problems.take();
        self.report.problems.extend(problems);
        self.report.problem_count += count;
        self.report.duration = began.elapsed();
        self.report
    }
}

async fn list_shards(store: &dyn Store) -> Result<Vec<Vec<Listed>>, EngineError> {
    let shards = (0..=255).map(|shard| async move {
        match store.list(Dir::Shard(shard)).await {
            Err(error) if error.kind == ErrorKind::NotFound => Ok(Vec::new()),
            other => other,
        }
    });
    Ok(stream::iter(shards).buffer_unordered(256).try_collect().await?)
}

async fn read_one(
    repository: &Repository,
    budget: &Semaphore,
    id: ChunkId,
    plain: u32,
    stored: u32,
) -> Result<(), EngineError> {
    let share = (stored as usize).min(BYTES_MAX) as u32;
    let _permit = budget.acquire_many(share).await.map_err(|_| EngineError::Internal("the budget was lost"))?;
    let name = Name::Chunk(id.0);
    let length = repository.check_chunk(id, stored).await?;
    if length == plain as usize {
        return Ok(());
    }
    let why = "it has another length than the manifest says".to_owned();
    Err(crate::repository::RepositoryError::Damaged { name, why }.into())
}
