//! Documents of snapshots, and of what becomes of them: `snapshots`, `forget`, `prune`, `undo-forget` (docs/json.md).

use super::json::text;
use crate::engine::{
    forget::{ForgetReport, Verdict},
    history::SnapshotInfo,
    prune::{Amount, PruneReport},
    undo_forget::UndoReport,
};
use crate::format::{id::to_hex, manifest::Time, receipt::Receipt};
use serde::Serialize;

/// A receipt, whole and in its parts.
#[derive(Debug, Serialize)]
pub struct ReceiptDocument {
    pub receipt: String,
    pub repository: String,
    pub generation: u64,
    pub snapshot: String,
}

impl ReceiptDocument {
    pub fn new(receipt: &Receipt) -> Self {
        Self {
            receipt: receipt.to_string(),
            repository: to_hex(&receipt.repository),
            generation: receipt.generation,
            snapshot: receipt.snapshot.to_string(),
        }
    }
}

/// A snapshot.
#[derive(Serialize)]
pub struct SnapshotDocument {
    id: String,
    time: Option<String>,
    host: String,
    user: String,
    source: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    source_bytes: Option<String>,
    label: String,
    complete: bool,
    generation: u64,
    entries: u64,
    files: u64,
    directories: u64,
    bytes: u64,
}

impl From<&SnapshotInfo> for SnapshotDocument {
    fn from(info: &SnapshotInfo) -> Self {
        let root = &info.root;
        let lossy = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let (source, source_bytes) = text(&root.source);
        Self {
            id: info.id.to_string(),
            time: super::text::rfc3339(root.time),
            host: lossy(&root.host),
            user: lossy(&root.user),
            source,
            source_bytes,
            label: lossy(&root.label),
            complete: root.complete,
            generation: root.generation,
            entries: root.totals.entries,
            files: root.totals.files,
            directories: root.totals.directories,
            bytes: root.totals.bytes,
        }
    }
}

/// What becomes of a snapshot.
#[derive(Serialize)]
pub struct VerdictDocument {
    id: String,
    stays: bool,
    why: Vec<&'static str>,
    time: Option<String>,
    by_server: bool,
    host: Option<String>,
    source: Option<String>,
    label: Option<String>,
}

impl From<&Verdict> for VerdictDocument {
    fn from(verdict: &Verdict) -> Self {
        let root = verdict.info.as_ref().map(|info| &info.root);
        let lossy = |bytes: &Vec<u8>| String::from_utf8_lossy(bytes).into_owned();
        Self {
            id: verdict.id.to_string(),
            stays: verdict.stays,
            why: verdict.why.clone(),
            time: super::text::rfc3339(Time { seconds: verdict.time, nanoseconds: 0 }),
            by_server: verdict.by_server,
            host: root.map(|root| lossy(&root.host)),
            source: root.map(|root| lossy(&root.source)),
            label: root.map(|root| lossy(&root.label)),
        }
    }
}

/// The outcome of a forget.
#[derive(Serialize)]
pub struct ForgetDocument {
    dry_run: bool,
    removed: u64,
    stayed: u64,
    problems: u64,
}

impl ForgetDocument {
    /// Of a report.
    #[must_use]
    pub fn new(report: &ForgetReport, dry_run: bool) -> Self {
        let stayed = report.verdicts.len() as u64 - report.removed;
        Self { dry_run, removed: report.removed, stayed, problems: report.problem_count }
    }
}

/// Objects and bytes.
#[derive(Serialize)]
pub struct AmountDocument {
    objects: u64,
    bytes: u64,
}

impl From<Amount> for AmountDocument {
    fn from(Amount { objects, bytes }: Amount) -> Self {
        Self { objects, bytes }
    }
}

/// The outcome of a prune.
#[derive(Serialize)]
pub struct PruneDocument {
    dry_run: bool,
    snapshots: u64,
    kept: AmountDocument,
    set_aside: AmountDocument,
    deleted: AmountDocument,
    rescued: AmountDocument,
    waiting: AmountDocument,
    young: AmountDocument,
    left: AmountDocument,
    expired_snapshots: u64,
    problems: u64,
    seconds: f64,
}

impl PruneDocument {
    /// Of a report.
    #[must_use]
    pub fn new(report: &PruneReport, dry_run: bool) -> Self {
        Self {
            dry_run,
            snapshots: report.snapshots,
            kept: report.kept.into(),
            set_aside: report.set_aside.into(),
            deleted: report.deleted.into(),
            rescued: report.rescued.into(),
            waiting: report.waiting.into(),
            young: report.young.into(),
            left: report.left.into(),
            expired_snapshots: report.expired_snapshots,
            problems: report.problem_count,
            seconds: super::json::seconds(report.duration),
        }
    }
}

/// The outcome of an undo-forget.
#[derive(Serialize)]
pub struct UndoDocument {
    dry_run: bool,
    snapshots: u64,
    rescued: u64,
    problems: u64,
}

impl UndoDocument {
    /// Of a report.
    #[must_use]
    pub fn new(report: &UndoReport, dry_run: bool) -> Self {
        let snapshots = report.snapshots.len() as u64;
        Self { dry_run, snapshots, rescued: report.rescued, problems: report.problem_count }
    }
}
