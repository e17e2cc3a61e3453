//! Forget: which snapshots go, and why the others stay. A snapshot that goes can be brought back for as long as the grace period of
//! prune lasts (`spec/6-operations.md`).

use super::{
    error::EngineError,
    event::{Observer, Problem, Problems},
    history::SnapshotInfo,
    restore::is_damage,
    retention::{Dated, Policy, judge},
    trash,
};
use crate::format::{
    id::{ForgottenId, ObjectId, SnapshotId},
    limits::RECORDED_MAX,
    name::{Dir, Name, RunId},
    path::Escaped,
    trash::ForgottenRecord,
};
use crate::repository::{Repository, RepositoryError, random};
use crate::store::{ErrorKind, Length, Listed};
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use jiff::tz::TimeZone;
use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    sync::Arc,
};

/// What is to be forgotten.
#[derive(Clone, Debug)]
pub struct ForgetOptions {
    /// What decides, among the snapshots that the filters let through.
    pub what: What,
    /// Only those of this host.
    pub host: Option<String>,
    /// Only those of this source.
    pub source: Option<String>,
    /// Only those with this label.
    pub label: Option<String>,
    /// Also where a source is left without a snapshot.
    pub allow_empty: bool,
    /// Only say what would go.
    pub dry_run: bool,
    /// Whose days, weeks and months count.
    pub zone: TimeZone,
}

/// What decides which snapshots go.
#[derive(Clone, Debug)]
pub enum What {
    /// All that no rule keeps.
    Policy(Policy),
    /// These, each by the first digits of its id.
    Ids(Vec<String>),
}

/// What becomes of one snapshot.
#[derive(Clone, Debug)]
pub struct Verdict {
    /// Its id.
    pub id: SnapshotId,
    /// The snapshot; `None` where its root cannot be read.
    pub info: Option<SnapshotInfo>,
    /// The time that counted, in seconds since 1970.
    pub time: i64,
    /// Whether that is the server's time, because the client's differs by more than an hour.
    pub by_server: bool,
    /// Whether it stays.
    pub stays: bool,
    /// Why.
    pub why: Vec<&'static str>,
}

/// What a forget did.
#[derive(Clone, Debug, Default)]
pub struct ForgetReport {
    /// What became of each snapshot that the filters let through, oldest first.
    pub verdicts: Vec<Verdict>,
    /// How many were removed, or would be.
    pub removed: u64,
    /// What went wrong without stopping the work.
    pub problems: Vec<Problem>,
    /// How many in all.
    pub problem_count: u64,
}

/// So far a client's time and the server's may differ, in seconds, before the server's counts.
const SKEW_MAX: u64 = 60 * 60;
/// Roots that are fetched at once.
const ROOTS_AT_ONCE: usize = 32;

/// A listed snapshot.
struct Found {
    id: SnapshotId,
    modified: i64,
    info: Option<SnapshotInfo>,
}

impl Found {
    fn time(&self) -> (i64, bool) {
        let claimed = self.info.as_ref().map(|info| info.root.time.seconds);
        let agreed = claimed.filter(|claimed| claimed.abs_diff(self.modified) <= SKEW_MAX);
        (agreed.unwrap_or(self.modified), agreed.is_none())
    }

    fn tie(&self) -> (u64, [u8; 32]) {
        (self.info.as_ref().map_or(0, |info| info.root.generation), self.id.0.0)
    }

    fn of(&self) -> Option<(&[u8], &[u8])> {
        self.info.as_ref().map(|info| (&*info.root.host, &*info.root.source))
    }

    fn is_complete(&self) -> bool {
        self.info.as_ref().is_some_and(|info| info.root.complete)
    }
}

/// Removes snapshots, or says which would go.
///
/// # Errors
/// [`EngineError::LastSnapshot`], [`EngineError::NoSnapshot`], [`EngineError::AmbiguousPrefix`], and what the store says.
pub async fn forget(
    repository: Arc<Repository>,
    options: ForgetOptions,
    observer: Arc<dyn Observer>,
) -> Result<ForgetReport, EngineError> {
    repository.check_writable()?;
    let problems = Problems::default();
    let all = find(&repository, &problems, &*observer).await?;
    let verdicts = decide(&all, &options)?;
    if !options.allow_empty {
        keep_the_last(&all, &verdicts)?;
    }
    let going: Vec<SnapshotId> = verdicts.iter().filter(|verdict| !verdict.stays).map(|verdict| verdict.id).collect();
    let mut report = ForgetReport { removed: going.len() as u64, verdicts, ..ForgetReport::default() };
    if !options.dry_run && !going.is_empty() {
        remove(&repository, &going, &problems, &*observer).await?;
    }
    (report.problems, report.problem_count) = problems.take();
    Ok(report)
}

async fn find(
    repository: &Repository,
    problems: &Problems,
    observer: &dyn Observer,
) -> Result<Vec<Found>, EngineError> {
    let listed = repository.list_snapshots(true).await?;
    let fetches = listed.into_iter().filter_map(|Listed { name, length, modified }| match name {
        Name::Snapshot(id) => Some(async move { (id, modified, repository.fetch_root(id, length).await) }),
        _ => None,
    });
    let mut roots = stream::iter(fetches.collect::<Vec<_>>()).buffer_unordered(ROOTS_AT_ONCE);
    let mut all = Vec::new();
    while let Some((id, modified, root)) = roots.next().await {
        let info = match root {
            Ok(root) => Some(SnapshotInfo { id, root }),
            // A checkpoint whose sync has ended since.
            Err(RepositoryError::Store(error)) if error.kind == ErrorKind::NotFound => continue,
            Err(why) => {
                let why = EngineError::from(why);
                if !is_damage(&why) {
                    return Err(why);
                }
                problems.add(observer, Problem::new(Name::Snapshot(id), why));
                None
            }
        };
        all.push(Found { id, modified, info });
    }
    all.sort_by_key(|found| (found.time().0, found.tie()));
    Ok(all)
}

/// What becomes of each snapshot that the filters let through.
fn decide(all: &[Found], options: &ForgetOptions) -> Result<Vec<Verdict>, EngineError> {
    let is = |wanted: &Option<String>, has: &[u8]| wanted.as_ref().is_none_or(|wanted| wanted.as_bytes() == has);
    let wanted = |found: &&Found| match &found.info {
        Some(info) => {
            is(&options.host, &info.root.host)
                && is(&options.source, &info.root.source)
                && is(&options.label, &info.root.label)
        }
        None => options.host.is_none() && options.source.is_none() && options.label.is_none(),
    };
    let wanted: Vec<&Found> = all.iter().filter(wanted).collect();
    let reasons = match &options.what {
        What::Policy(policy) => by_policy(&wanted, policy, &options.zone),
        What::Ids(prefixes) => by_ids(&wanted, prefixes)?,
    };
    let verdicts = wanted.into_iter().zip(reasons).map(|(found, why)| {
        let (time, by_server) = found.time();
        let by_server = by_server && found.info.is_some();
        Verdict { id: found.id, info: found.info.clone(), time, by_server, stays: !why.is_empty(), why }
    });
    Ok(verdicts.collect())
}

fn by_ids(wanted: &[&Found], prefixes: &[String]) -> Result<Vec<Vec<&'static str>>, EngineError> {
    let mut going = HashSet::new();
    for prefix in prefixes {
        let mut matching = wanted.iter().filter(|found| found.id.to_string().starts_with(prefix.as_str()));
        let id = matching.next().ok_or_else(|| EngineError::NoSnapshot(prefix.clone()))?.id;
        let more = matching.count();
        if more > 0 {
            return Err(EngineError::AmbiguousPrefix { prefix: prefix.clone(), count: more + 1 });
        }
        going.insert(id);
    }
    Ok(wanted.iter().map(|found| if going.contains(&found.id) { Vec::new() } else { vec!["not named"] }).collect())
}

/// Judges each source by itself. Checkpoints count for nothing: one stays until a complete snapshot comes after it.
fn by_policy(wanted: &[&Found], policy: &Policy, zone: &TimeZone) -> Vec<Vec<&'static str>> {
    let mut reasons = vec![Vec::new(); wanted.len()];
    let mut sources: BTreeMap<(&[u8], &[u8]), Vec<usize>> = BTreeMap::new();
    for (at, found) in wanted.iter().enumerate() {
        match found.of() {
            Some(source) => sources.entry(source).or_default().push(at),
            None => reasons[at].push("cannot be read"),
        }
    }
    for places in sources.into_values() {
        let (complete, checkpoints): (Vec<usize>, Vec<usize>) =
            places.into_iter().partition(|&at| wanted[at].is_complete());
        let dated: Vec<Dated> = complete.iter().map(|&at| dated(wanted[at])).collect();
        let newest = dated.iter().map(|one| one.time).max();
        for (&at, why) in complete.iter().zip(judge(policy, &dated, zone)) {
            reasons[at] = why;
        }
        for at in checkpoints {
            if newest.is_none_or(|newest| newest <= wanted[at].time().0) {
                reasons[at].push("checkpoint");
            }
        }
    }
    reasons
}

fn dated(found: &Found) -> Dated {
    let label = found.info.as_ref().map(|info| info.root.label.clone()).unwrap_or_default();
    Dated { time: found.time().0, tie: found.tie(), label }
}

/// Refuses to leave a source that has a complete snapshot without one.
fn keep_the_last(all: &[Found], verdicts: &[Verdict]) -> Result<(), EngineError> {
    let going: HashSet<SnapshotId> =
        verdicts.iter().filter(|verdict| !verdict.stays).map(|verdict| verdict.id).collect();
    let complete = || all.iter().filter(|found| found.is_complete());
    let stays: BTreeSet<_> = complete().filter(|found| !going.contains(&found.id)).filter_map(Found::of).collect();
    match complete().filter_map(Found::of).find(|source| !stays.contains(source)) {
        None => Ok(()),
        Some((host, source)) => {
            Err(EngineError::LastSnapshot { host: Escaped(host).to_string(), source_path: Escaped(source).to_string() })
        }
    }
}

/// Removes them: first a record says that this is on purpose, then the roots are set aside, then that is recorded too.
async fn remove(
    repository: &Repository,
    going: &[SnapshotId],
    problems: &Problems,
    observer: &dyn Observer,
) -> Result<(), EngineError> {
    let store = repository.store();
    let run: RunId = random()?;
    let full = |error: &EngineError| matches!(error, EngineError::Repository(RepositoryError::Store(error)) if error.kind == ErrorKind::Full);
    match prepare(repository, going).await {
        // Where there is no room for the record, making room matters more than it.
        Err(why) if full(&why) => problems.add(observer, Problem::new("what was forgotten", why)),
        other => other?,
    }
    for id in going {
        super::prune::rename_if_there(&**store, Name::Snapshot(*id), Name::TrashedSnapshot(run, *id)).await?;
    }
    let moved: Vec<(RunId, ObjectId)> = going.iter().map(|id| (run, id.0)).collect();
    match trash::record(repository, &moved).await {
        Err(why) if full(&why) => Ok(()), // the next prune records it
        other => other,
    }
}

async fn prepare(repository: &Repository, going: &[SnapshotId]) -> Result<(), EngineError> {
    repository.store().create_dirs(&[Dir::Trash, Dir::Forgotten]).await?;
    put_forgotten(repository, going.iter().copied().collect()).await
}

/// Records that these were removed on purpose.
///
/// # Errors
/// What the store says.
pub(super) async fn put_forgotten(repository: &Repository, ids: BTreeSet<SnapshotId>) -> Result<(), EngineError> {
    let ids: Vec<SnapshotId> = ids.into_iter().collect();
    for ids in ids.chunks(RECORDED_MAX) {
        let too_large = |why: String| RepositoryError::TooLarge { what: "a record of what was forgotten", why };
        let plaintext = ForgottenRecord { ids: ids.to_vec() }.encode().map_err(|why| too_large(why.to_string()))?;
        let sealed: Result<(ForgottenId, Bytes), _> = repository.seal(&plaintext);
        let (id, object) = sealed.map_err(|why| too_large(why.to_string()))?;
        repository.store().put(Name::Forgotten(id), object).await?;
    }
    Ok(())
}

/// All records of what was removed on purpose. One that does not open is a problem, and excuses nothing.
///
/// # Errors
/// What the store says.
pub async fn forgotten(
    repository: &Repository,
    problems: &Problems,
    observer: &dyn Observer,
) -> Result<Vec<(ForgottenId, ForgottenRecord)>, EngineError> {
    let listed = match repository.store().list(Dir::Forgotten).await {
        Err(error) if error.kind == ErrorKind::NotFound => Vec::new(),
        other => other?,
    };
    let mut records = Vec::new();
    for Listed { name, length, .. } in listed {
        let Name::Forgotten(id) = name else { continue };
        let plaintext = repository.fetch(id, name, Length::Exactly(length)).await.map_err(EngineError::from);
        let record = plaintext.map(|plaintext| ForgottenRecord::decode(&plaintext));
        match record {
            Ok(Ok(record)) => records.push((id, record)),
            Ok(Err(why)) => problems.add(observer, Problem::new(name, why)),
            Err(why) if is_damage(&why) => problems.add(observer, Problem::new(name, why)),
            Err(why) => return Err(why),
        }
    }
    Ok(records)
}
