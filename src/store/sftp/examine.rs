//! What a server is and can do, found out by trying it. Everything is made in a directory of its own, and removed again.
//!
//! Not here: what follows from it for a person to read.

use super::{
    Remote, SftpOptions,
    connection::Connection,
    ssh::CommandLine,
    told::{Cause, Failure, Found, FoundKind},
};
use crate::store::{ErrorKind, StoreError};
use bytes::Bytes;
use futures_util::future::join_all;
use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

/// Connections that are tried together.
pub const LEVELS: [usize; 4] = [1, 2, 4, 8];
/// How long objects are sent, and how long they are fetched, on so many connections.
const SPELL: Duration = Duration::from_millis(800);
/// No further level begins after this time.
const PATIENCE: Duration = Duration::from_secs(14);
/// What is sent at one level, at most, in bytes.
const SENT_MAX: u64 = 64 << 20;
/// With less room than this, in bytes, nothing is sent.
const ROOM_MIN: u64 = 4 * SENT_MAX;
/// Objects that are sent, in bytes.
const OBJECT_MIN: u64 = 16 << 10;
const OBJECT_MAX: u64 = 1 << 20;
/// Objects under way on one connection.
const WORKERS_MAX: u64 = 8;
/// The longest name that nfz gives to anything, and names that are tried.
pub const NAME_NEEDED: usize = 110;
const NAMES: [usize; 4] = [255, 143, NAME_NEEDED, 64];

/// What was found.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Findings {
    /// What the server calls itself, if ssh tells.
    pub software: Option<String>,
    /// The directory that was tried in.
    pub tried_in: String,
    /// Whether the address itself exists.
    pub exists: bool,
    /// Extensions that it offers.
    pub extensions: Vec<&'static str>,
    /// Time of a request and its answer.
    pub round_trip: Duration,
    /// How far the server's clock is ahead of ours, in seconds.
    pub clock_ahead: i64,
    /// Bytes free for this user.
    pub free: Option<u64>,
    /// Bytes that one write takes; `None` where more was taken than was tried.
    pub write_length: Option<u64>,
    /// What was written can be flushed to the disk.
    pub flushes: bool,
    /// A rename onto a name that exists replaces it.
    pub replaces: bool,
    /// A file can be renamed at all.
    pub renames: bool,
    /// A file can be removed.
    pub removes: bool,
    /// Exclusive creation of a name that exists is refused, as it must be.
    pub excludes: bool,
    /// Names that differ in the case of letters only are two names.
    pub minds_case: bool,
    /// The longest name of those tried that it takes.
    pub name_length: usize,
    /// How fast it is.
    pub speeds: Vec<Speed>,
    /// What could not be removed again.
    pub left_behind: Option<String>,
}

/// How fast so many connections are together.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Speed {
    /// How many were wanted.
    pub connections: usize,
    /// How many came about.
    pub opened: usize,
    /// Bytes a second up.
    pub up: f64,
    /// Bytes a second down.
    pub down: f64,
}

/// Looks at the server that `options` lead to, in less than half a minute unless it takes long to connect. `now` reads this
/// machine's clock, in seconds since 1970.
///
/// # Errors
/// As [`SftpStore::connect`](super::SftpStore::connect); and where nothing can be made in the directory.
pub async fn examine(options: &SftpOptions, now: fn() -> i64) -> Result<Findings, StoreError> {
    let line = CommandLine::for_options(options).await?;
    let answers = Arc::new(AtomicU64::new(0));
    let first = Arc::new(Connection::open(options, &line, false, &answers).await?);
    let software = software(options, &line, &answers).await;
    let trial = Trial::begin(options, Arc::clone(&first)).await?;
    let mut findings =
        Findings { software, tried_in: trial.shown.clone(), exists: trial.exists, ..Findings::default() };
    let tried = trial.try_all(&mut findings, now).await;
    if tried.is_ok() && findings.removes && findings.free.is_none_or(|free| free >= ROOM_MIN) {
        findings.speeds =
            Speeds { options, line: &line, answers: &answers, trial: &trial, began: Instant::now() }.all().await;
    }
    findings.left_behind = trial.end().await;
    tried.map(|()| findings).map_err(|failure| trial.error("try", &failure))
}

/// What the server called itself when one more connection was made, with ssh telling more than usual.
async fn software(options: &SftpOptions, line: &CommandLine, answers: &Arc<AtomicU64>) -> Option<String> {
    let connection = Connection::open(options, &line.talkative()?, true, answers).await.ok()?;
    let told = connection.ssh.stderr();
    let name = told.lines().find_map(|line| line.split_once("remote software version "))?.1;
    Some(name.trim().chars().filter(|char| !char.is_control()).take(100).collect())
}

/// A directory that things are tried in.
struct Trial {
    connection: Arc<Connection>,
    directory: String,
    shown: String,
    exists: bool,
}

impl Trial {
    /// Makes it: in the repository's directory, or where the login begins if that does not exist.
    async fn begin(options: &SftpOptions, connection: Arc<Connection>) -> Result<Self, StoreError> {
        let remote = options.remote();
        let error = |kind, why: &str| StoreError::new(kind, "try", &options.address(), why);
        let random = getrandom::u64().map_err(|why| error(ErrorKind::Other, &why.to_string()))?;
        let root = connection.client.stat(&remote.root).await.map_err(|why| error(ErrorKind::Other, &why.message))?;
        let exists = match root {
            Some(Found { kind: FoundKind::Directory | FoundKind::Unknown, .. }) => true,
            Some(_) => return Err(error(ErrorKind::NotADirectory, "it is no directory")),
            None => false,
        };
        let parent = if exists { remote } else { Remote { root: ".".into() } };
        let directory = parent.join(&format!("nfz-doctor-{random:016x}"));
        let made = connection.client.make_dir(&directory).await;
        made.map_err(|why| error(kind_of(&why), &format!("no directory can be made there: {}", why.message)))?;
        let shown = if exists { options.address() } else { "the login directory".to_owned() };
        Ok(Self { connection, directory, shown, exists })
    }

    fn path(&self, name: &str) -> String {
        format!("{}/{name}", self.directory)
    }

    fn error(&self, operation: &'static str, failure: &Failure) -> StoreError {
        StoreError::new(kind_of(failure), operation, &self.directory, failure.message.clone())
    }

    async fn try_all(&self, findings: &mut Findings, now: fn() -> i64) -> Result<(), Failure> {
        let client = &self.connection.client;
        findings.extensions = client.extensions();
        findings.free = client.space(&self.directory).await?.map(|space| space.free);
        findings.round_trip = self.round_trip().await?;
        self.try_writing(findings, now).await?;
        self.try_names(findings).await?;
        findings.write_length = client.write_length();
        Ok(())
    }

    /// The middle one of five.
    async fn round_trip(&self) -> Result<Duration, Failure> {
        let mut times = Vec::new();
        for _ in 0..5 {
            let began = Instant::now();
            self.connection.client.lstat(&self.directory).await?;
            times.push(began.elapsed());
        }
        times.sort_unstable();
        Ok(times[times.len() / 2])
    }

    /// Makes a file; whether it was flushed.
    async fn make(&self, name: &str, bytes: &Bytes) -> Result<bool, Failure> {
        let file = self.connection.client.create(&self.path(name)).await?;
        let flushed = file.write_whole(bytes).await?;
        file.close().await?;
        Ok(flushed)
    }

    async fn is_there(&self, name: &str) -> Result<bool, Failure> {
        Ok(self.connection.client.lstat(&self.path(name)).await?.is_some())
    }

    async fn try_writing(&self, findings: &mut Findings, now: fn() -> i64) -> Result<(), Failure> {
        let client = &self.connection.client;
        findings.flushes = self.make("one", &noise(300_000)).await?;
        let made = client.lstat(&self.path("one")).await?.map_or(0, |found| found.modified);
        findings.clock_ahead = made - now();
        findings.excludes = refused(client.create_new(&self.path("one")).await.map(drop))?;
        self.make("two", &noise(10)).await?;
        findings.renames = !refused(client.rename(&self.path("two"), &self.path("three")).await)?;
        self.make("two", &noise(20)).await?;
        findings.replaces = findings.renames && !refused(client.rename(&self.path("two"), &self.path("three")).await)?;
        findings.removes = !refused(client.remove(&self.path("three")).await)?;
        Ok(())
    }

    async fn try_names(&self, findings: &mut Findings) -> Result<(), Failure> {
        self.make("case", &noise(1)).await?;
        findings.minds_case = !self.is_there("CASE").await?;
        for length in NAMES {
            let name = "n".repeat(length);
            if !refused(self.make(&name, &noise(1)).await.map(drop))? && self.is_there(&name).await? {
                findings.name_length = length;
                break;
            }
        }
        Ok(())
    }

    /// Removes everything. What could not be removed is told.
    async fn end(&self) -> Option<String> {
        let client = &self.connection.client;
        let listed = client.list(&self.directory, 100_000, |name| Some(name.to_owned())).await;
        let names = listed.ok().and_then(|(names, _)| names).unwrap_or_default();
        let names = names.into_iter().filter(|(name, _)| !matches!(name.as_str(), "." | ".."));
        join_all(names.map(|(name, _)| async move { client.remove(&self.path(&name)).await })).await;
        client.remove_dir(&self.directory).await.err().map(|_| self.directory.clone())
    }
}

/// Tries how fast it is.
struct Speeds<'a> {
    options: &'a SftpOptions,
    line: &'a CommandLine,
    answers: &'a Arc<AtomicU64>,
    trial: &'a Trial,
    began: Instant,
}

impl Speeds<'_> {
    async fn all(&self) -> Vec<Speed> {
        let mut speeds = Vec::new();
        let mut connections = vec![Arc::clone(&self.trial.connection)];
        let Some(rate) = self.first_rate().await else { return speeds };
        for level in LEVELS {
            if self.began.elapsed() > PATIENCE {
                break;
            }
            // As many at once as a sync would open; others may be refused, and then that is what was found.
            while connections.len() < level {
                let more = (level - connections.len()).min(4);
                let opened =
                    join_all((0..more).map(|_| Connection::open(self.options, self.line, true, self.answers))).await;
                let before = connections.len();
                connections.extend(opened.into_iter().flatten().map(Arc::new));
                if connections.len() < before + more {
                    break;
                }
            }
            let speed = self.level(level, &connections, rate).await;
            speeds.push(speed);
            if connections.len() < level {
                break;
            }
        }
        speeds
    }

    /// About how many bytes a second one small object goes at.
    async fn first_rate(&self) -> Option<f64> {
        let began = Instant::now();
        self.trial.make("rate", &noise(64 << 10)).await.ok()?;
        Some((64 << 10) as f64 / began.elapsed().as_secs_f64().max(1e-6))
    }

    async fn level(&self, level: usize, connections: &[Arc<Connection>], rate: f64) -> Speed {
        let length = ((rate / 4.0) as u64).clamp(OBJECT_MIN, OBJECT_MAX);
        let count = connections.len() as u64;
        let workers = (4.0 * rate / length as f64 / count as f64).ceil().clamp(1.0, WORKERS_MAX as f64) as u64;
        let spell = Spell {
            trial: self.trial,
            object: noise(length as usize),
            sent: AtomicU64::new(0),
            fetched: AtomicU64::new(0),
            workers,
        };
        let began = Instant::now();
        let sends = connections.iter().enumerate();
        let sent = join_all(sends.map(|(number, connection)| spell.send(connection, number as u64, began))).await;
        let up = spell.sent.load(Relaxed) as f64 / began.elapsed().as_secs_f64();
        let began = Instant::now();
        let fetches = connections.iter().zip(&sent);
        join_all(fetches.map(|(connection, names)| spell.fetch(connection, names, began))).await;
        let down = spell.fetched.load(Relaxed) as f64 / began.elapsed().as_secs_f64();
        let client = &self.trial.connection.client;
        let names = sent.iter().flatten();
        join_all(names.map(|name| async move { client.remove(&self.trial.path(name)).await })).await;
        Speed { connections: level, opened: connections.len(), up, down }
    }
}

/// Objects sent for a while, and then fetched for a while.
struct Spell<'a> {
    trial: &'a Trial,
    object: Bytes,
    sent: AtomicU64,
    fetched: AtomicU64,
    workers: u64,
}

impl Spell<'_> {
    /// Sends objects on one connection; returns their names.
    async fn send(&self, connection: &Connection, number: u64, began: Instant) -> Vec<String> {
        let worker = |worker: u64| async move {
            let mut names = Vec::new();
            while began.elapsed() < SPELL && self.sent.load(Relaxed) < SENT_MAX {
                let name = format!("{number}-{worker}-{}", names.len());
                let Ok(file) = connection.client.create(&self.trial.path(&name)).await else { break };
                names.push(name);
                if file.write_whole(&self.object).await.is_err() || file.close().await.is_err() {
                    break;
                }
                self.sent.fetch_add(self.object.len() as u64, Relaxed);
            }
            names
        };
        join_all((0..self.workers).map(worker)).await.into_iter().flatten().collect()
    }

    /// Fetches these objects again and again.
    async fn fetch(&self, connection: &Connection, names: &[String], began: Instant) {
        let worker = |worker: usize| async move {
            let mine = names.iter().cycle().skip(worker * names.len() / self.workers.max(1) as usize);
            for name in mine {
                let Ok(file) = connection.client.open(&self.trial.path(name)).await else { break };
                let Ok(bytes) = file.read_range(0, self.object.len()).await else { break };
                self.fetched.fetch_add(bytes.len() as u64, Relaxed);
                if began.elapsed() >= SPELL || self.fetched.load(Relaxed) >= 4 * SENT_MAX {
                    break;
                }
            }
        };
        join_all((0..self.workers as usize).map(worker)).await;
    }
}

/// Whether the server refused: the link being lost is an error.
fn refused(outcome: Result<(), Failure>) -> Result<bool, Failure> {
    match outcome {
        Err(failure) if failure.cause == Cause::Lost => Err(failure),
        outcome => Ok(outcome.is_err()),
    }
}

fn kind_of(failure: &Failure) -> ErrorKind {
    match failure.cause {
        Cause::NotFound => ErrorKind::NotFound,
        Cause::Denied => ErrorKind::PermissionDenied,
        Cause::NotAFile => ErrorKind::NotADirectory,
        Cause::Lost => ErrorKind::Disconnected,
        Cause::Refused | Cause::Unsupported | Cause::Nonsense => ErrorKind::Other,
    }
}

/// Bytes that do not compress.
fn noise(length: usize) -> Bytes {
    let mut bytes = vec![0; length];
    blake3::Hasher::new().finalize_xof().fill(&mut bytes);
    bytes.into()
}
