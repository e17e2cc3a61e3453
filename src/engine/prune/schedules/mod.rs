//! Random schedules of syncs, forgets, undo-forgets and prunes beside each other, call by call, with kills and with time that passes. The law:
//! at no instant does a listed snapshot lack a chunk.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod gate;
mod operations;

use crate::{
    clock::shift,
    engine::{
        error::EngineError,
        event::Silent,
        presence,
        verify::{self, ReadData, VerifyOptions},
    },
    format::{
        id::{ObjectId, SnapshotId},
        manifest::Segment,
        name::Name,
        snapshot::SnapshotRoot,
    },
    repository::{InitOptions, Repository, open_object},
    store::{Store, memory::MemoryStore},
};
use bytes::Bytes;
use gate::Gate;
use operations::{credentials, open, run_forget, run_prune, run_sync, run_undo};
use std::{
    collections::{BTreeMap, HashMap, HashSet},
    fs,
    path::{Path, PathBuf},
    sync::{Arc, atomic::Ordering::SeqCst},
    time::Duration,
};
use tokio::{
    task::JoinHandle,
    time::{sleep, timeout},
};

const SCHEDULES: u64 = 300;
/// Operations of one schedule, and how many run beside each other.
const OPERATIONS: u32 = 16;
const AT_ONCE: usize = 3;
/// No sync takes longer for one put of a root, in seconds: the grace period less the time that it relies on what it saw, and less the
/// time between looking at the clock and asking.
const JUMPS: [i64; 6] = [60, 3600, 4 * 3600, 8 * 3600, 11 * 3600, 11 * 3600];

/// Numbers that look random, the same for the same seed.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % bound
    }

    fn pick<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len() as u64) as usize]
    }
}

/// An operation under way.
struct Client {
    what: String,
    gate: Arc<Gate>,
    task: JoinHandle<Result<(), EngineError>>,
    /// After so many calls it sleeps until so many operations have ended.
    sleeps: (u64, u64),
}

impl Client {
    fn is_asleep(&self, ended: u64) -> bool {
        self.gate.done.load(SeqCst) >= self.sleeps.0 && ended < self.sleeps.1
    }
}

/// What each snapshot that was ever listed needs.
type Needs = HashMap<SnapshotId, HashSet<ObjectId>>;

struct World {
    memory: Arc<MemoryStore>,
    reader: Repository,
    sources: Vec<PathBuf>,
    needs: Needs,
    clients: Vec<Client>,
    dice: Dice,
    log: Vec<String>,
    finished: BTreeMap<&'static str, u64>,
    /// Operations that have ended.
    ended: u64,
}

impl World {
    async fn new(seed: u64, place: &Path) -> Self {
        let memory = Arc::new(MemoryStore::default());
        Repository::init(Arc::clone(&memory) as _, &credentials(), &InitOptions::default()).await.unwrap();
        let reader = Repository::open(Arc::clone(&memory) as _, &credentials()).await.unwrap();
        let sources: Vec<PathBuf> = ["a", "b"].map(|name| place.join(name)).to_vec();
        sources.iter().for_each(|source| fs::create_dir_all(source).unwrap());
        let dice = Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        let (needs, clients, log, finished, ended) = Default::default();
        Self { memory, reader, sources, needs, clients, dice, log, finished, ended }
    }

    /// Saves one of few contents: so what one sync has left behind is what another one needs.
    fn begin(&mut self) {
        let gate = Gate::new(Arc::clone(&self.memory));
        let store: Arc<dyn Store> = Arc::clone(&gate) as _;
        let at = self.dice.below(2) as usize;
        let source = self.sources[at].clone();
        let what;
        let mut sleeps = (u64::MAX, 0);
        let task = match self.dice.below(11) {
            0..=4 => {
                for file in ["f", "g"] {
                    let content = self.dice.below(3) as u8;
                    fs::write(source.join(file), [content; 700]).unwrap();
                }
                let always_read = self.dice.below(2) == 0;
                // Most oversleep right after they have looked at what is there.
                let looked = self.dice.pick(&[12, 270]) + self.dice.below(16);
                sleeps = (looked, self.ended + self.dice.below(6));
                what = format!("sync of {at}, always_read {always_read}, sleeps {sleeps:?}");
                tokio::spawn(run_sync(store, source, always_read))
            }
            5..=7 => {
                what = "prune".to_owned();
                tokio::spawn(run_prune(store))
            }
            8..=9 => {
                what = "forget".to_owned();
                tokio::spawn(run_forget(store, 1 + self.dice.below(2) as u32))
            }
            _ => {
                what = "undo-forget".to_owned();
                tokio::spawn(run_undo(store))
            }
        };
        self.log.push(format!("begin {what}"));
        self.clients.push(Client { what, gate, task, sleeps });
    }

    /// Lets one client make some calls, or kills it.
    async fn step(&mut self) {
        let all = 0..self.clients.len();
        let awake: Vec<usize> = all.clone().filter(|&at| !self.clients[at].is_asleep(self.ended)).collect();
        let at = if awake.is_empty() { all.start } else { self.dice.pick(&awake) };
        let count = self.dice.pick(&[1, 1, 2, 3, 8, 40, 300, 300]);
        let client = &mut self.clients[at];
        let to_sleep = client.sleeps.0.saturating_sub(client.gate.done.load(SeqCst));
        let count = if to_sleep > 0 { count.min(to_sleep) } else { count };
        if self.dice.below(40) == 0 {
            self.log.push(format!("kill {}", client.what));
            client.gate.kill();
        }
        let target = client.gate.done.load(SeqCst) + count;
        client.gate.permits.add_permits(count as usize);
        let gate = Arc::clone(&client.gate);
        let reached = async {
            while gate.done.load(SeqCst) < target {
                gate.progress.notified().await;
            }
        };
        let ended = tokio::select! {
            () = reached => None,
            outcome = &mut client.task => Some(outcome.expect("no panic")),
            () = sleep(Duration::from_secs(60)) => panic!("{} does not go on: {:#?}", client.what, self.log),
        };
        self.log.push(format!("{count} calls of {}{}", client.what, if ended.is_some() { ", its end" } else { "" }));
        if let Some(outcome) = ended {
            let client = self.clients.swap_remove(at);
            self.ended += 1;
            self.judge(&client, outcome);
        }
    }

    fn judge(&mut self, client: &Client, outcome: Result<(), EngineError>) {
        let name = match outcome {
            Ok(()) => "done",
            Err(EngineError::Overtaken { .. }) => "overtaken",
            Err(EngineError::LastSnapshot { .. } | EngineError::NoSnapshot(_) | EngineError::Restless) => "refused",
            Err(_) if client.gate.is_killed.load(SeqCst) => "killed",
            Err(error) => panic!("{} failed: {error}: {:#?}", client.what, self.log),
        };
        *self.finished.entry(name).or_default() += 1;
    }

    /// Lets time pass, while no client is between looking at the clock and making a snapshot visible.
    async fn pass_time(&mut self) {
        for client in &self.clients {
            let waits = async {
                while client.gate.waiting.load(SeqCst) == 0 && !client.task.is_finished() {
                    sleep(Duration::from_micros(200)).await;
                }
            };
            if timeout(Duration::from_secs(2), waits).await.is_err() {
                return;
            }
        }
        if self.clients.iter().any(|client| client.gate.is_committing.load(SeqCst)) {
            return;
        }
        let seconds = self.dice.pick(&JUMPS);
        self.log.push(format!("{seconds} seconds pass"));
        self.memory.advance_clock(seconds);
        shift::advance(seconds as u64);
    }

    /// Runs an operation to its end, while all others stand still.
    async fn run(&mut self, task: impl FnOnce(Arc<dyn Store>) -> JoinHandle<Result<(), EngineError>>) {
        let gate = Gate::new(Arc::clone(&self.memory));
        gate.permits.add_permits(1 << 20);
        task(gate).await.unwrap().unwrap();
        self.check();
    }

    fn advance(&self, seconds: i64) {
        self.memory.advance_clock(seconds);
        shift::advance(seconds as u64);
    }

    /// A sync that needs what lies there unnamed sleeps as soon as it has looked, for `hours`, between two prunes; how it ends.
    async fn oversleep(&mut self, hours: i64) -> Result<(), EngineError> {
        let source = self.sources[0].clone();
        for content in [b"first", b"later"] {
            fs::write(source.join("f"), content).unwrap();
            self.run(|store| tokio::spawn(run_sync(store, source.clone(), true))).await;
        }
        self.run(|store| tokio::spawn(run_forget(store, 1))).await;
        self.advance(25 * 3600);
        fs::write(source.join("f"), b"first").unwrap();
        let gate = Gate::new(Arc::clone(&self.memory));
        let task = tokio::spawn(run_sync(Arc::clone(&gate) as _, source, true));
        let mut granted = 0;
        while !gate.is_putting.load(SeqCst) {
            // One by one, so that none is left over for what it does when it wakes up.
            if gate.done.load(SeqCst) == granted && gate.waiting.load(SeqCst) > 0 {
                granted += 1;
                gate.permits.add_permits(1);
            }
            sleep(Duration::from_micros(200)).await;
        }
        self.run(|store| tokio::spawn(run_prune(store))).await;
        self.advance(hours * 3600);
        self.run(|store| tokio::spawn(run_prune(store))).await;
        gate.permits.add_permits(1 << 20);
        let outcome = task.await.unwrap();
        self.check();
        for _ in 0..3 {
            self.advance(25 * 3600);
            self.run(|store| tokio::spawn(run_prune(store))).await;
        }
        outcome
    }

    /// The law.
    fn check(&mut self) {
        let contents = self.memory.contents();
        let mut there = HashSet::new();
        for name in contents.keys() {
            if let Name::Chunk(id) | Name::TrashedChunk(_, id) = name {
                there.insert(*id);
            }
        }
        for (name, object) in &contents {
            let Name::Snapshot(id) = name else { continue };
            let reader = &self.reader;
            let needs = self.needs.entry(*id).or_insert_with(|| needs(reader, &contents, *id, object));
            let missing: Vec<_> = needs.difference(&there).collect();
            assert!(missing.is_empty(), "snapshot {id} lacks {missing:?} after {:#?}", self.log);
        }
    }
}

fn needs(reader: &Repository, contents: &BTreeMap<Name, Bytes>, id: SnapshotId, object: &Bytes) -> HashSet<ObjectId> {
    let plaintext = open_object(reader.keys(), id, Name::Snapshot(id), object).unwrap();
    let root = SnapshotRoot::decode(&plaintext).unwrap();
    let mut needs = HashSet::new();
    for row in &root.segments {
        needs.insert(row.id.0);
        let is_it = |name: &&Name| matches!(name, Name::Chunk(id) | Name::TrashedChunk(_, id) if *id == row.id.0);
        let name = contents.keys().find(is_it).unwrap_or_else(|| panic!("snapshot {id} lacks a segment"));
        let plaintext = open_object(reader.keys(), row.id, *name, &contents[name]).unwrap();
        needs.extend(Segment::decode(&plaintext).unwrap().chunks.iter().map(|row| row.id.0));
    }
    needs
}

/// Runs one schedule; how its operations ended.
async fn schedule(seed: u64) -> BTreeMap<&'static str, u64> {
    presence::NEVER_LISTS.store(seed.is_multiple_of(2), SeqCst);
    let place = tempfile::tempdir().unwrap();
    let mut world = World::new(seed, place.path()).await;
    let mut left = OPERATIONS;
    while left > 0 || !world.clients.is_empty() {
        let all_sleep = world.clients.iter().all(|client| client.is_asleep(world.ended));
        if left > 0 && world.clients.len() < AT_ONCE && (all_sleep || world.dice.below(4) == 0) {
            world.begin();
            left -= 1;
        }
        world.step().await;
        world.check();
        if world.dice.below(3) == 0 {
            world.pass_time().await;
        }
    }
    let reader = open(Arc::clone(&world.memory) as _).await.unwrap();
    let options = VerifyOptions { read_data: ReadData::All, ..VerifyOptions::default() };
    let report = verify::verify(reader, options, Arc::new(Silent)).await.unwrap();
    assert_eq!(report.damage, [], "{:#?}", world.log);
    world.finished
}

async fn schedules(seeds: std::ops::Range<u64>) {
    let mut finished: BTreeMap<&'static str, u64> = BTreeMap::new();
    for seed in seeds {
        for (name, count) in schedule(seed).await {
            *finished.entry(name).or_default() += count;
        }
    }
    // That they do what they are to do, and not only fail.
    assert!(finished["done"] > 5 * finished.get("overtaken").copied().unwrap_or(0), "{finished:?}");
    assert!(finished["done"] > 100 && finished["killed"] > 10, "{finished:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sync_that_sleeps_longer_than_the_grace_period_finds_out_that_it_was_overtaken() {
    let place = tempfile::tempdir().unwrap();
    let outcome = World::new(1, place.path()).await.oversleep(25).await;
    assert!(matches!(outcome, Err(EngineError::Overtaken { .. })), "{outcome:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sync_that_sleeps_for_less_finds_what_was_set_aside_and_brings_it_back() {
    for hours in [1, 11, 13, 23] {
        let place = tempfile::tempdir().unwrap();
        World::new(1, place.path()).await.oversleep(hours).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_snapshot_ever_lacks_a_chunk_whatever_runs_beside_what_first_half() {
    schedules(1..1 + SCHEDULES / 2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_snapshot_ever_lacks_a_chunk_whatever_runs_beside_what_second_half() {
    schedules(1 + SCHEDULES / 2..1 + SCHEDULES).await;
}
