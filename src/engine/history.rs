//! Which snapshots there are, and which one is meant.

use super::{
    error::EngineError,
    event::{Observer, Problem, Problems},
};
use crate::format::{
    id::{ObjectId, SnapshotId},
    manifest::Time,
    name::Name,
    path::Escaped,
    snapshot::SnapshotRoot,
};
use crate::repository::{ROOTS_AHEAD, Repository};
use crate::store::Listed;
use futures_util::{StreamExt, stream};
use std::collections::HashSet;

/// A snapshot: its id and its root.
#[derive(Clone, Debug)]
pub struct SnapshotInfo {
    /// Its id.
    pub id: SnapshotId,
    /// Its root.
    pub root: SnapshotRoot,
}

/// Which snapshot is meant.
#[derive(Clone, Debug, Default)]
pub struct Choice {
    /// Which of those that remain.
    pub at: At,
    /// Only those of this host.
    pub host: Option<String>,
    /// Only those of this source.
    pub source: Option<String>,
}

/// Which of several snapshots.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum At {
    /// The newest, or so many before it.
    Latest(u32),
    /// The one whose id begins with these hex digits.
    Prefix(String),
    /// The newest that is not younger than this.
    AsOf(Time),
}

impl Default for At {
    fn default() -> Self {
        Self::Latest(0)
    }
}

/// Roots that are fetched at once.
pub const ROOTS_AT_ONCE: usize = 32;

/// All snapshots, oldest first. Roots that cannot be read are problems.
///
/// # Errors
/// Where the store cannot be listed.
pub async fn snapshots(
    repository: &Repository,
    problems: &Problems,
    observer: &dyn Observer,
) -> Result<Vec<SnapshotInfo>, EngineError> {
    let listed = repository.list_snapshots(false).await?;
    let (mut found, mut unread) = (Vec::new(), Vec::new());
    let mut roots = fetch(repository, listed);
    while let Some((id, root)) = roots.next().await {
        match root {
            Ok(root) => found.push(SnapshotInfo { id, root }),
            Err(why) => unread.push((id, why)),
        }
    }
    drop(roots);
    note_unread(repository, unread, problems, observer).await;
    found.sort_by_key(|info| (info.root.time, info.root.generation, info.id));
    Ok(found)
}

/// Whether a snapshot that was listed is there no more: it was forgotten, or a checkpoint whose sync has ended.
pub async fn is_gone(repository: &Repository, id: SnapshotId) -> bool {
    matches!(repository.store().stat(Name::Snapshot(id)).await, Ok(None))
}

/// Makes problems of roots that could not be read, unless they are gone. Called when no fetch is under way any more: one that is not
/// awaited may hold what this waits for.
async fn note_unread(
    repository: &Repository,
    unread: Vec<(SnapshotId, crate::repository::RepositoryError)>,
    problems: &Problems,
    observer: &dyn Observer,
) {
    for (id, why) in unread {
        if !is_gone(repository, id).await {
            problems.add(observer, Problem::new(Name::Snapshot(id), why));
        }
    }
}

fn fetch(
    repository: &Repository,
    listed: Vec<Listed>,
) -> impl futures_util::Stream<Item = (SnapshotId, Result<SnapshotRoot, crate::repository::RepositoryError>)> + Unpin {
    let ids = listed.into_iter().filter_map(|listed| match listed.name {
        Name::Snapshot(id) => Some((id, listed.length)),
        _ => None,
    });
    let fetches = ids.map(move |(id, length)| async move { (id, repository.fetch_root(id, length).await) });
    Box::pin(stream::iter(fetches).buffered(ROOTS_AT_ONCE))
}

/// The snapshot that is meant. Roots that cannot be read are problems, for one of them may be the newest; where an id was given they do
/// not matter.
///
/// # Errors
/// [`EngineError::NoSnapshot`], [`EngineError::Ambiguous`], [`EngineError::AmbiguousPrefix`].
pub async fn choose(
    repository: &Repository,
    choice: &Choice,
    problems: &Problems,
    observer: &dyn Observer,
) -> Result<SnapshotInfo, EngineError> {
    let unreadable = Problems::default();
    let all = snapshots(repository, &unreadable, &super::event::Silent).await?;
    let (unreadable, _) = unreadable.take();
    let picked = match (pick(all, choice), unreadable.first()) {
        (Err(EngineError::NoSnapshot(what)), Some(Problem { subject, message })) => {
            Err(EngineError::NoSnapshot(format!("{what} among those that can be read; {subject}: {message}")))
        }
        (other, _) => other,
    }?;
    if !matches!(choice.at, At::Prefix(_)) {
        unreadable.into_iter().for_each(|problem| problems.add(observer, problem));
    }
    Ok(picked)
}

/// Picks from `all`, which are oldest first.
fn pick(all: Vec<SnapshotInfo>, choice: &Choice) -> Result<SnapshotInfo, EngineError> {
    let is_of = |wanted: &Option<String>, has: &[u8]| wanted.as_ref().is_none_or(|wanted| wanted.as_bytes() == has);
    let mut left: Vec<SnapshotInfo> = all
        .into_iter()
        .filter(|info| is_of(&choice.host, &info.root.host) && is_of(&choice.source, &info.root.source))
        .collect();
    if let At::Prefix(prefix) = &choice.at {
        left.retain(|info| info.id.to_string().starts_with(prefix.as_str()));
        return match left.len() {
            0 => Err(EngineError::NoSnapshot(prefix.clone())),
            1 => Ok(left.swap_remove(0)),
            count => Err(EngineError::AmbiguousPrefix { prefix: prefix.clone(), count }),
        };
    }
    if left.is_empty() && (choice.host.is_some() || choice.source.is_some()) {
        return Err(EngineError::NoSnapshot("of that host and source (a source is an absolute path)".into()));
    }
    only_one_source(&left)?;
    if left.iter().any(|info| info.root.complete) {
        left.retain(|info| info.root.complete);
    }
    let (back, what) = match &choice.at {
        At::AsOf(time) => {
            left.retain(|info| info.root.time <= *time);
            (0, "as old as that".to_owned())
        }
        At::Latest(back) => (*back as usize, if *back == 0 { "yet".into() } else { format!("latest~{back}") }),
        At::Prefix(_) => (0, String::new()),
    };
    let place = left.len().checked_sub(back + 1).ok_or(EngineError::NoSnapshot(what))?;
    Ok(left.swap_remove(place))
}

fn only_one_source(left: &[SnapshotInfo]) -> Result<(), EngineError> {
    let sources: HashSet<(&[u8], &[u8])> = left.iter().map(|info| (&*info.root.host, &*info.root.source)).collect();
    if sources.len() <= 1 {
        return Ok(());
    }
    let mut choices: Vec<_> =
        sources.iter().map(|(host, source)| (Escaped(host).to_string(), Escaped(source).to_string())).collect();
    choices.sort();
    Err(EngineError::Ambiguous { choices })
}

/// What a sync builds on.
#[derive(Default)]
pub struct Base {
    /// The newest complete snapshot of the same host and source.
    pub complete: Option<SnapshotInfo>,
    /// A checkpoint of the same host and source that is newer than it.
    pub checkpoint: Option<SnapshotInfo>,
    /// Every checkpoint of the same host and source that was seen: a complete snapshot makes them needless.
    pub checkpoints: Vec<SnapshotId>,
    /// Complete snapshots that no other one seen follows.
    pub heads: Vec<SnapshotId>,
    /// The highest generation seen.
    pub generation: u64,
    /// What must not be relied on, though the checkpoint names it: it lay in the trash.
    pub set_aside: Vec<ObjectId>,
}

/// Finds what a sync of `source` on `host` builds on. Looks at the newest roots, by the server's clock, and at all of them only
/// where those do not have it: with thousands of snapshots a sync still reads few. Unreadable roots are problems.
///
/// # Errors
/// Where the store cannot be listed.
pub async fn base(
    repository: &Repository,
    host: &[u8],
    source: &[u8],
    problems: &Problems,
    observer: &dyn Observer,
) -> Result<Base, EngineError> {
    let mut listed = repository.list_snapshots(false).await?;
    listed.sort_unstable_by_key(|root| std::cmp::Reverse((root.modified, root.name)));
    let rest = listed.split_off(listed.len().min(ROOTS_AHEAD));
    let mut seen = Vec::new();
    for batch in [listed, rest] {
        let mut unread = Vec::new();
        let mut roots = fetch(repository, batch);
        while let Some((id, root)) = roots.next().await {
            match root {
                Ok(root) => seen.push(SnapshotInfo { id, root }),
                Err(why) => unread.push((id, why)),
            }
        }
        drop(roots);
        note_unread(repository, unread, problems, observer).await;
        let is_found = |info: &SnapshotInfo| info.root.complete && is_of(info, host, source);
        if seen.iter().any(is_found) {
            break;
        }
    }
    Ok(base_among(seen, host, source))
}

/// Makes a checkpoint fit to be built on where no shard will be listed. Checkpoints go without a trace, so what one names may be deleted from
/// the trash at any time: what lies there is not relied on. The trash is listed first, and then it is seen that the checkpoint is still there.
///
/// # Errors
/// What the store says.
pub async fn distrust_checkpoint(repository: &Repository, base: &mut Base) -> Result<(), EngineError> {
    let Some(checkpoint) = base.checkpoint.as_ref().map(|info| Name::Snapshot(info.id)) else { return Ok(()) };
    let set_aside = super::trash::list(&**repository.store()).await?;
    let listed = repository.list_snapshots(true).await?;
    if !listed.iter().any(|listed| listed.name == checkpoint) {
        base.checkpoint = None;
        return Ok(());
    }
    let chunks = set_aside.iter().filter_map(|listed| match listed.name {
        Name::TrashedChunk(_, id) => Some(id),
        _ => None,
    });
    base.set_aside = chunks.collect();
    Ok(())
}

fn is_of(info: &SnapshotInfo, host: &[u8], source: &[u8]) -> bool {
    info.root.host == host && info.root.source == source
}

fn base_among(seen: Vec<SnapshotInfo>, host: &[u8], source: &[u8]) -> Base {
    // What only a checkpoint follows still is a head: checkpoints go away.
    let complete = seen.iter().filter(|info| info.root.complete);
    let followed: HashSet<SnapshotId> = complete.flat_map(|info| info.root.follows.iter().copied()).collect();
    let heads = seen.iter().filter(|info| info.root.complete && !followed.contains(&info.id)).map(|info| info.id);
    let mut base = Base {
        heads: heads.take(crate::format::limits::FOLLOWS_MAX).collect(),
        generation: seen.iter().map(|info| info.root.generation).max().unwrap_or(0),
        ..Base::default()
    };
    let rank = |info: &SnapshotInfo| (info.root.generation, info.root.time, info.id);
    let mut own: Vec<SnapshotInfo> = seen.into_iter().filter(|info| is_of(info, host, source)).collect();
    own.sort_by_key(rank);
    base.checkpoints = own.iter().filter(|info| !info.root.complete).map(|info| info.id).collect();
    for info in own.into_iter().rev() {
        match (info.root.complete, &base.complete) {
            (true, None) => base.complete = Some(info),
            (false, None) if base.checkpoint.is_none() => base.checkpoint = Some(info),
            _ => {}
        }
    }
    base
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::snapshot::Totals;

    fn snapshot(number: u8, source: &str, complete: bool, follows: &[u8]) -> SnapshotInfo {
        let id = |number: u8| SnapshotId::new(ObjectId([number; 32]));
        SnapshotInfo {
            id: id(number),
            root: SnapshotRoot {
                time: Time { seconds: i64::from(number) * 100, nanoseconds: 0 },
                host: b"host".to_vec(),
                user: Vec::new(),
                source: source.as_bytes().to_vec(),
                label: Vec::new(),
                program: Vec::new(),
                totals: Totals::default(),
                complete,
                generation: u64::from(number),
                follows: follows.iter().map(|&number| id(number)).collect(),
                sparse_packs: Vec::new(),
                segments: Vec::new(),
            },
        }
    }

    fn picked(all: &[SnapshotInfo], choice: Choice) -> Result<u8, EngineError> {
        pick(all.to_vec(), &choice).map(|info| info.id.0.0[0])
    }

    #[test]
    fn latest_counts_back_and_passes_over_checkpoints() {
        let all = [snapshot(1, "/a", true, &[]), snapshot(2, "/a", true, &[1]), snapshot(3, "/a", false, &[2])];
        let at = |at| Choice { at, ..Choice::default() };
        assert_eq!(picked(&all, at(At::Latest(0))).unwrap(), 2);
        assert_eq!(picked(&all, at(At::Latest(1))).unwrap(), 1);
        assert!(matches!(picked(&all, at(At::Latest(2))), Err(EngineError::NoSnapshot(_))));
        assert_eq!(picked(&all, at(At::Prefix("0303".into()))).unwrap(), 3);
        assert_eq!(picked(&all[2..], at(At::Latest(0))).unwrap(), 3, "a checkpoint is better than nothing");
    }

    #[test]
    fn as_of_is_the_newest_that_is_not_younger() {
        let all = [snapshot(1, "/a", true, &[]), snapshot(2, "/a", true, &[1])];
        let at = |seconds| Choice { at: At::AsOf(Time { seconds, nanoseconds: 0 }), ..Choice::default() };
        assert_eq!(picked(&all, at(199)).unwrap(), 1);
        assert_eq!(picked(&all, at(200)).unwrap(), 2);
        assert!(picked(&all, at(99)).is_err());
    }

    #[test]
    fn several_sources_must_be_told_apart() {
        let all = [snapshot(1, "/a", true, &[]), snapshot(2, "/b", true, &[1])];
        let Err(EngineError::Ambiguous { choices }) = picked(&all, Choice::default()) else { panic!("not ambiguous") };
        assert_eq!(choices.len(), 2);
        let choice = Choice { source: Some("/a".into()), ..Choice::default() };
        assert_eq!(picked(&all, choice).unwrap(), 1);
    }

    #[test]
    fn a_sync_builds_on_its_own_last_and_follows_every_head() {
        let seen = vec![
            snapshot(4, "/a", false, &[1]),
            snapshot(3, "/b", true, &[2]),
            snapshot(2, "/b", true, &[]),
            snapshot(1, "/a", true, &[]),
        ];
        let base = base_among(seen, b"host", b"/a");
        assert_eq!(base.complete.map(|info| info.id.0.0[0]), Some(1));
        assert_eq!(base.checkpoint.map(|info| info.id.0.0[0]), Some(4));
        assert_eq!(base.generation, 4);
        let heads: HashSet<u8> = base.heads.iter().map(|id| id.0.0[0]).collect();
        assert_eq!(heads, HashSet::from([1, 3]));
    }

    #[test]
    fn a_checkpoint_older_than_the_complete_snapshot_is_of_no_use() {
        let base = base_among(vec![snapshot(1, "/a", false, &[]), snapshot(2, "/a", true, &[])], b"host", b"/a");
        assert!(base.checkpoint.is_none());
        assert_eq!(base.checkpoints.len(), 1);
    }
}
