//! Forget, prune and undo-forget on a store in memory: what they cost, what a kill leaves, and that nothing needed is ever lost.
#![allow(clippy::unwrap_used, clippy::panic)]

#[path = "support/engine.rs"]
mod engine;
#[path = "support/tree.rs"]
mod tree;

use engine::{credentials, fresh, open, restore, snapshots, sync, sync_options, sync_with, verify};
use nfz::{
    engine::{
        error::EngineError,
        event::Silent,
        forget::{ForgetOptions, ForgetReport, What, forget},
        prune::{GRACE_MIN, PruneOptions, PruneReport, prune},
        retention::Policy,
        undo_forget::{UndoOptions, UndoReport, undo_forget},
        verify::ReadData,
    },
    format::{
        id::SnapshotId,
        name::{Dir, Name},
    },
    repository::{Credentials, InitOptions, Repository, RepositoryError},
    store::{
        Store,
        fault::{Fault, FaultStore},
        memory::MemoryStore,
        record::{Call, RecordStore},
    },
};
use std::{fs, path::Path, sync::Arc, time::Duration};
use tempfile::TempDir;

const DAY: i64 = 24 * 60 * 60 + 60;

async fn try_prune(store: Arc<dyn Store>, options: PruneOptions) -> Result<PruneReport, EngineError> {
    let repository = Repository::open(store, &credentials()).await?;
    prune(Arc::new(repository), options, Arc::new(Silent)).await
}

async fn pruned(store: &Arc<MemoryStore>) -> PruneReport {
    let report = try_prune(Arc::clone(store) as _, PruneOptions::default()).await.unwrap();
    assert_eq!(report.problems, []);
    report
}

fn keep_last(last: u32) -> ForgetOptions {
    let what = What::Policy(Policy { last, ..Policy::default() });
    let (host, source, label, zone) = (None, None, None, jiff::tz::TimeZone::UTC);
    ForgetOptions { what, host, source, label, allow_empty: false, dry_run: false, zone }
}

async fn try_forget(store: Arc<dyn Store>, options: ForgetOptions) -> Result<ForgetReport, EngineError> {
    let repository = Repository::open(store, &credentials()).await?;
    forget(Arc::new(repository), options, Arc::new(Silent)).await
}

async fn forgotten(store: &Arc<MemoryStore>, options: ForgetOptions) -> ForgetReport {
    try_forget(Arc::clone(store) as _, options).await.unwrap()
}

async fn undone(store: &Arc<MemoryStore>) -> UndoReport {
    undo_forget(open(Arc::clone(store) as _).await, UndoOptions::default(), Arc::new(Silent)).await.unwrap()
}

fn chunks(store: &MemoryStore) -> usize {
    store.contents().keys().filter(|name| matches!(name, Name::Chunk(_) | Name::TrashedChunk(..))).count()
}

fn write(source: &Path, seed: u8) {
    for number in 0..4_u8 {
        fs::write(source.join(format!("f{number}")), tree::noise(seed.wrapping_add(number), 300_000)).unwrap();
    }
}

/// Two snapshots of trees that share nothing, and the trees.
async fn two_snapshots() -> (Arc<MemoryStore>, [SnapshotId; 2], [TempDir; 2]) {
    let store = fresh().await;
    let trees = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let source = tempfile::tempdir().unwrap();
    let mut ids = Vec::new();
    for (seed, tree) in [10, 100].into_iter().zip(&trees) {
        write(source.path(), seed);
        write(tree.path(), seed);
        ids.push(sync(Arc::clone(&store) as _, source.path()).await.snapshot.unwrap());
    }
    (store, ids.try_into().unwrap(), trees)
}

async fn assert_restores(store: &Arc<MemoryStore>, id: SnapshotId, tree: &Path) {
    assert_restores_with(&open(Arc::clone(store) as _).await, id, tree).await;
}

async fn assert_restores_with(repository: &Arc<Repository>, id: SnapshotId, tree: &Path) {
    let out = tempfile::tempdir().unwrap();
    restore(repository, id, out.path()).await;
    for file in fs::read_dir(tree).unwrap() {
        let file = file.unwrap();
        assert!(fs::read(file.path()).unwrap() == fs::read(out.path().join(file.file_name())).unwrap());
    }
}

async fn assert_undamaged(store: &Arc<MemoryStore>) {
    let report = verify(&open(Arc::clone(store) as _).await, ReadData::All, None).await;
    assert_eq!(report.damage, []);
}

#[tokio::test]
async fn what_a_forgotten_snapshot_alone_needed_is_deleted_after_two_grace_periods_at_most() {
    let (store, [first, second], trees) = two_snapshots().await;
    let before = chunks(&store);
    store.advance_clock(DAY);
    let report = forgotten(&store, keep_last(1)).await;
    assert_eq!((report.removed, report.verdicts[0].id, report.verdicts[1].id), (1, first, second));
    let set_aside = pruned(&store).await.set_aside;
    assert!(set_aside.objects > 4, "chunks and a segment");
    assert_eq!(chunks(&store), before);
    assert_eq!(pruned(&store).await.waiting, set_aside, "not before the grace period is over");
    store.advance_clock(DAY);
    let report = pruned(&store).await;
    assert_eq!((report.deleted, report.expired_snapshots), (set_aside, 1));
    assert_eq!(chunks(&store) as u64, before as u64 - set_aside.objects);
    assert_restores(&store, second, trees[1].path()).await;
    assert_undamaged(&store).await;
    assert_eq!(undone(&store).await.snapshots.len(), 0);
    let last = pruned(&store).await;
    assert_eq!((last.deleted.objects, last.set_aside.objects, last.waiting.objects), (0, 0, 0));
}

#[tokio::test]
async fn a_forgotten_snapshot_comes_back_whole_before_and_after_a_prune() {
    let (store, [first, second], trees) = two_snapshots().await;
    store.advance_clock(DAY);
    forgotten(&store, keep_last(1)).await;
    assert_eq!(undone(&store).await.snapshots[0].id, first);
    assert_restores(&store, first, trees[0].path()).await;
    forgotten(&store, keep_last(1)).await;
    pruned(&store).await;
    store.advance_clock(DAY - 7200);
    pruned(&store).await;
    let report = undone(&store).await;
    assert!(report.rescued > 4 && report.problems.is_empty(), "{report:?}");
    assert_restores(&store, first, trees[0].path()).await;
    store.advance_clock(10 * DAY);
    pruned(&store).await;
    for (id, tree) in [first, second].into_iter().zip(&trees) {
        assert_restores(&store, id, tree.path()).await;
    }
    assert_undamaged(&store).await;
}

#[tokio::test]
async fn readers_find_what_was_set_aside_and_the_next_prune_moves_back_what_is_needed() {
    let (store, [_, second], trees) = two_snapshots().await;
    // A prune that slept since before the snapshot was made moves what it needs.
    let names: Vec<Name> = store.contents().into_keys().filter(|name| matches!(name, Name::Chunk(_))).collect();
    for name in &names {
        let Name::Chunk(id) = *name else { continue };
        store.rename(*name, Name::TrashedChunk([7; 16], id)).await.unwrap();
    }
    assert_restores(&store, second, trees[1].path()).await;
    assert_undamaged(&store).await;
    let report = pruned(&store).await;
    assert_eq!(report.rescued.objects, names.len() as u64);
    assert!(names.iter().all(|name| store.contents().contains_key(name)));
}

#[tokio::test]
async fn a_prune_and_a_forget_killed_at_any_call_lose_nothing_and_the_next_one_ends_the_work() {
    let (store, [_, second], trees) = two_snapshots().await;
    store.advance_clock(DAY);
    for kill in (1..).step_by(1) {
        let now = if kill % 2 == 0 { Fault::Killed(kill / 2) } else { Fault::KilledAfter(kill / 2 + 1) };
        let dying = Arc::new(FaultStore::new(Arc::clone(&store) as _).with(now));
        let is_done = try_forget(dying, keep_last(1)).await.is_ok();
        assert_restores(&store, second, trees[1].path()).await;
        if is_done {
            break;
        }
    }
    for step in 0..3 {
        store.advance_clock(if step == 0 { 0 } else { DAY });
        let mut is_done = false;
        // Listings of shards are many and alike: few kills among them, many after.
        for kill in (1..40).chain((40..240).step_by(67)).chain(240..400) {
            let dying = Arc::new(FaultStore::new(Arc::clone(&store) as _).with(Fault::KilledAfter(kill)));
            is_done = try_prune(dying, PruneOptions::default()).await.is_ok();
            if kill % 40 == 0 || is_done {
                assert_restores(&store, second, trees[1].path()).await;
            }
            if is_done {
                break;
            }
        }
        assert!(is_done, "a prune has more calls than that");
    }
    store.advance_clock(DAY);
    pruned(&store).await;
    store.advance_clock(DAY);
    pruned(&store).await;
    let left = pruned(&store).await;
    assert_eq!((left.waiting.objects, left.set_aside.objects, left.young.objects), (0, 0, 0));
    assert_eq!(chunks(&store) as u64, left.kept.objects);
    assert_undamaged(&store).await;
}

#[tokio::test]
async fn a_prune_costs_one_listing_and_the_manifests_that_are_not_shared() {
    let store = fresh().await;
    let source = tempfile::tempdir().unwrap();
    write(source.path(), 1);
    for _ in 0..5 {
        sync(Arc::clone(&store) as _, source.path()).await;
    }
    let recorded = Arc::new(RecordStore::new(Arc::clone(&store) as _));
    let repository = open(Arc::clone(&recorded) as _).await;
    recorded.take();
    prune(repository, PruneOptions::default(), Arc::new(Silent)).await.unwrap();
    let calls = recorded.take();
    let shards = calls.iter().filter(|call| matches!(call, Call::List(Dir::Shard(_)))).count();
    let segments = calls.iter().filter(|call| matches!(call, Call::Get(Name::Chunk(_), _))).count();
    assert_eq!((shards, segments), (256, 1), "five snapshots share their one segment");
    assert!(!calls.iter().any(|call| matches!(call, Call::Rename(..))));
}

#[tokio::test]
async fn what_is_younger_than_the_grace_period_may_belong_to_a_sync_and_stays() {
    let (store, [..], _trees) = two_snapshots().await;
    forgotten(&store, keep_last(1)).await;
    let report = pruned(&store).await;
    assert_eq!(report.set_aside.objects, 0);
    assert!(report.young.objects > 4);
}

#[tokio::test]
async fn a_dry_run_changes_nothing_and_says_what_would_be_done() {
    let (store, [..], _trees) = two_snapshots().await;
    let before = store.contents();
    let report = forgotten(&store, ForgetOptions { dry_run: true, ..keep_last(1) }).await;
    assert_eq!(report.removed, 1);
    let dry = PruneOptions { dry_run: true, ..PruneOptions::default() };
    try_prune(Arc::clone(&store) as _, dry).await.unwrap();
    assert_eq!(store.contents(), before);
}

#[tokio::test]
async fn reclaiming_at_once_writes_nothing_and_deletes_all_that_is_not_needed() {
    let (store, [_, second], trees) = two_snapshots().await;
    forgotten(&store, keep_last(1)).await;
    let recorded = Arc::new(RecordStore::new(Arc::clone(&store) as _));
    let now = PruneOptions { reclaim_now: true, ..PruneOptions::default() };
    let report = try_prune(Arc::clone(&recorded) as _, now).await.unwrap();
    assert!(!recorded.take().iter().any(|call| matches!(call, Call::Put(..) | Call::Rename(..) | Call::CreateDirs(_))));
    assert_eq!(chunks(&store) as u64, report.kept.objects);
    assert_restores(&store, second, trees[1].path()).await;
    assert_undamaged(&store).await;
}

#[tokio::test]
async fn a_grace_period_that_syncs_do_not_count_on_is_refused() {
    let store = fresh().await;
    let short = PruneOptions { grace: GRACE_MIN - Duration::from_secs(1), ..PruneOptions::default() };
    assert!(matches!(try_prune(store, short).await, Err(EngineError::ShortGrace)));
}

#[tokio::test]
async fn a_hole_in_the_chain_is_told_from_a_theft() {
    let (store, [first, second], _trees) = two_snapshots().await;
    let stolen = Arc::new(MemoryStore::from_contents(store.contents()));
    stolen.lose(Name::Snapshot(first));
    let report = verify(&open(Arc::clone(&stolen) as _).await, ReadData::Nothing, None).await;
    assert_eq!(report.damage.len(), 1, "lost or withheld");
    forgotten(&store, keep_last(1)).await;
    assert_undamaged(&store).await;
    assert_eq!(snapshots(&*open(Arc::clone(&store) as _).await).await[0].id, second);
    // One that came back and is lost then was not lost on purpose.
    undone(&store).await;
    store.lose(Name::Snapshot(first));
    let report = verify(&open(Arc::clone(&store) as _).await, ReadData::Nothing, None).await;
    assert_eq!(report.damage.len(), 1);
}

#[tokio::test]
async fn the_last_snapshot_of_a_source_stays_unless_that_is_asked_for() {
    let store = fresh().await;
    let source = tempfile::tempdir().unwrap();
    write(source.path(), 1);
    let id = sync(Arc::clone(&store) as _, source.path()).await.snapshot.unwrap();
    let by_id = ForgetOptions { what: What::Ids(vec![id.to_string()[..8].to_owned()]), ..keep_last(0) };
    let labelled = Policy { labels: vec![b"none".to_vec()], ..Policy::default() };
    let by_policy = ForgetOptions { what: What::Policy(labelled), ..keep_last(0) };
    for options in [by_id.clone(), by_policy] {
        let refused = try_forget(Arc::clone(&store) as _, options).await;
        assert!(matches!(refused, Err(EngineError::LastSnapshot { .. })));
    }
    assert_eq!(snapshots(&*open(Arc::clone(&store) as _).await).await.len(), 1);
    forgotten(&store, ForgetOptions { allow_empty: true, ..by_id }).await;
    assert_eq!(snapshots(&*open(Arc::clone(&store) as _).await).await.len(), 0);
}

#[tokio::test]
async fn each_host_and_source_is_judged_by_itself_and_filters_leave_others_alone() {
    let store = fresh().await;
    let source = tempfile::tempdir().unwrap();
    for (seed, host) in [(1, "a"), (2, "a"), (3, "b"), (4, "b")] {
        write(source.path(), seed);
        let options = nfz::engine::sync::SyncOptions { host: host.into(), ..sync_options() };
        sync_with(Arc::clone(&store) as _, source.path(), options).await;
    }
    let report = forgotten(&store, ForgetOptions { host: Some("a".into()), dry_run: true, ..keep_last(1) }).await;
    assert_eq!((report.verdicts.len(), report.removed), (2, 1));
    let report = forgotten(&store, keep_last(1)).await;
    assert_eq!((report.verdicts.len(), report.removed), (4, 2));
}

#[tokio::test]
async fn a_client_that_forges_times_evicts_nothing() {
    let store = fresh().await;
    let source = tempfile::tempdir().unwrap();
    write(source.path(), 1);
    // The server's clock is far ahead of the client's from here on: every snapshot looks forged to it.
    store.advance_clock(-40 * DAY);
    let honest = sync(Arc::clone(&store) as _, source.path()).await.snapshot.unwrap();
    let mut last = honest;
    for seed in 2..5 {
        store.advance_clock(DAY);
        write(source.path(), seed);
        last = sync(Arc::clone(&store) as _, source.path()).await.snapshot.unwrap();
    }
    // By the client's clock all four are of one day.
    let daily = ForgetOptions { what: What::Policy(Policy { daily: 4, ..Policy::default() }), ..keep_last(0) };
    let report = forgotten(&store, daily).await;
    assert_eq!(report.removed, 0);
    assert!(report.verdicts.iter().all(|verdict| verdict.by_server && verdict.why == ["daily"]));
    assert_eq!((report.verdicts[0].id, report.verdicts[3].id), (honest, last));
}

#[tokio::test]
async fn a_snapshot_that_cannot_be_read_stops_a_prune_until_it_is_forgotten() {
    let (store, [first, second], trees) = two_snapshots().await;
    store.advance_clock(DAY);
    let damaged = store.contents()[&Name::Snapshot(first)].iter().map(|byte| byte ^ 1).collect();
    store.replace(Name::Snapshot(first), damaged);
    let refused = try_prune(Arc::clone(&store) as _, PruneOptions::default()).await;
    assert!(matches!(refused, Err(EngineError::Unknowable { snapshot, .. }) if snapshot == first));
    forgotten(&store, ForgetOptions { what: What::Ids(vec![first.to_string()]), ..keep_last(0) }).await;
    let report = try_prune(Arc::clone(&store) as _, PruneOptions::default()).await.unwrap();
    assert!(report.set_aside.objects > 4);
    assert_restores(&store, second, trees[1].path()).await;
}

/// Rotates the key epoch; what it returns opens the new one.
async fn rotated(store: &Arc<MemoryStore>) -> Credentials {
    let next = Credentials { password: None, key_file: Some(Credentials::key_file_secret(b"next")) };
    open(Arc::clone(store) as _).await.rotate(&next, &InitOptions::default(), false).await.unwrap();
    next
}

#[tokio::test]
async fn an_outdated_password_forgets_prunes_and_brings_back_nothing() {
    let (store, _, _trees) = two_snapshots().await;
    forgotten(&store, keep_last(1)).await;
    store.advance_clock(DAY);
    let slot = store.contents().into_iter().find(|(name, _)| name.dir() == Dir::Keys).unwrap();
    rotated(&store).await;
    store.replace(slot.0, slot.1);
    let before = store.contents();
    let outdated = || open(Arc::clone(&store) as _);
    let forgot = forget(outdated().await, ForgetOptions { allow_empty: true, ..keep_last(0) }, Arc::new(Silent)).await;
    let pruned = prune(outdated().await, PruneOptions::default(), Arc::new(Silent)).await;
    let undid = undo_forget(outdated().await, UndoOptions::default(), Arc::new(Silent)).await;
    for refused in [forgot.map(drop), pruned.map(drop), undid.map(drop)] {
        let is_outdated = matches!(refused, Err(EngineError::Repository(RepositoryError::Outdated { .. })));
        assert!(is_outdated, "{refused:?}");
    }
    assert!(store.contents() == before);
}

#[tokio::test]
async fn what_was_forgotten_and_set_aside_before_a_rotation_comes_back_or_goes_as_ever() {
    for is_wanted in [true, false] {
        let (store, [first, second], trees) = two_snapshots().await;
        store.advance_clock(DAY);
        forgotten(&store, keep_last(1)).await;
        pruned(&store).await;
        let all = chunks(&store);
        let next = rotated(&store).await;
        let reopen = || async { Arc::new(Repository::open(Arc::clone(&store) as _, &next).await.unwrap()) };
        if is_wanted {
            let undone = undo_forget(reopen().await, UndoOptions::default(), Arc::new(Silent)).await.unwrap();
            assert_eq!(undone.snapshots.iter().map(|info| info.id).collect::<Vec<_>>(), [first]);
        }
        for _ in 0..3 {
            store.advance_clock(DAY);
            let report = prune(reopen().await, PruneOptions::default(), Arc::new(Silent)).await.unwrap();
            assert_eq!(report.problems, []);
        }
        assert!(if is_wanted { chunks(&store) == all } else { chunks(&store) < all });
        let kept = if is_wanted { vec![(first, &trees[0]), (second, &trees[1])] } else { vec![(second, &trees[1])] };
        for (id, tree) in kept {
            assert_restores_with(&reopen().await, id, tree.path()).await;
        }
        assert_eq!(verify(&reopen().await, ReadData::All, None).await.damage, []);
    }
}
