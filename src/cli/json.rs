//! What `--json` prints: one document a line on standard output. `docs/json.md` is the contract.

pub use super::json_doctor::{DoctorDocument, SpeedDocument};
pub use super::json_snapshots::ReceiptDocument;
use super::json_snapshots::{ForgetDocument, PruneDocument, SnapshotDocument, UndoDocument, VerdictDocument};
use super::key::json::{KeyReport, KeySlot};
use crate::{
    engine::{
        event::{Action, Problem, Stage},
        history::SnapshotInfo,
        restore::RestoreReport,
        sync::SyncReport,
        verify::{Damage, Difference, VerifyReport},
    },
    format::{
        id::to_hex,
        manifest::{Entry, Node},
        path::TreePath,
    },
};
use serde::Serialize;
use std::time::Duration;

/// The version of all kinds. It changes when a field changes its meaning or goes; a field that is added changes nothing.
pub const VERSION: u32 = 1;

/// A line of output.
#[derive(Serialize)]
pub struct Line<'a> {
    /// What it tells.
    #[serde(flatten)]
    pub document: Document<'a>,
    /// [`VERSION`].
    pub version: u32,
}

/// What a line tells.
#[derive(Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Document<'a> {
    /// Another stage of the work begins.
    Stage {
        /// Which.
        stage: Stage,
    },
    /// How far the work is.
    Progress(Progress),
    /// An entry that was dealt with (`-v`), or listed.
    Entry(EntryDocument<'a>),
    /// A finding that does not stop the work.
    Problem(&'a Problem),
    /// A snapshot, listed or made.
    Snapshot(SnapshotDocument),
    /// What a forget makes of a snapshot.
    Verdict(VerdictDocument),
    /// A key slot, listed.
    KeySlot(KeySlot),
    /// The outcome.
    Report(Report),
    /// The outcome of `nfz key`.
    #[serde(rename = "report")]
    KeyReport(KeyReport),
    /// That a snapshot is there.
    Receipt(ReceiptDocument),
    /// What a server can do.
    Doctor(DoctorDocument),
    /// The work ended without an outcome.
    Error(ErrorDocument<'a>),
}

/// How far the work is.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Progress {
    pub entries: u64,
    pub done_bytes: u64,
    pub read_bytes: u64,
    pub new_bytes: u64,
    pub sent_bytes: u64,
    pub objects: u64,
    pub problems: u64,
    pub total_entries: Option<u64>,
    pub total_bytes: Option<u64>,
    pub bytes_per_second: u64,
    pub seconds_left: Option<u64>,
}

/// A path: readable, and exact where it is no UTF-8.
#[derive(Serialize)]
pub struct PathText {
    path: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    path_bytes: Option<String>,
}

impl From<&TreePath> for PathText {
    fn from(path: &TreePath) -> Self {
        let (path, path_bytes) = text(path.as_bytes());
        Self { path, path_bytes }
    }
}

/// Bytes as text; where they are no UTF-8, their hexadecimal digits too.
#[must_use]
pub fn text(bytes: &[u8]) -> (String, Option<String>) {
    match std::str::from_utf8(bytes) {
        Ok(text) => (text.to_owned(), None),
        Err(_) => (String::from_utf8_lossy(bytes).into_owned(), Some(to_hex(bytes))),
    }
}

/// An entry: with `action` and `bytes` from an operation, with the rest from `nfz ls`.
#[derive(Serialize)]
pub struct EntryDocument<'a> {
    #[serde(flatten)]
    path: PathText,
    #[serde(skip_serializing_if = "Option::is_none")]
    action: Option<Action>,
    bytes: u64,
    #[serde(flatten)]
    listed: Option<ListedEntry<'a>>,
}

#[derive(Serialize)]
struct ListedEntry<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    mode: u32,
    uid: u32,
    gid: u32,
    user: String,
    group: String,
    mtime: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    target: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    target_bytes: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    device: Option<[u32; 2]>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    xattrs: Vec<std::borrow::Cow<'a, str>>,
}

impl<'a> EntryDocument<'a> {
    /// An entry that an operation dealt with.
    #[must_use]
    pub fn of_event(path: &TreePath, action: Action, bytes: u64) -> Self {
        Self { path: path.into(), action: Some(action), bytes, listed: None }
    }

    /// An entry of a snapshot.
    #[must_use]
    pub fn of_entry(entry: &'a Entry) -> Self {
        let metadata = &entry.metadata;
        let owner = &metadata.owner;
        let lossy = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let target = match &entry.node {
            Node::Symlink { target } => Some(text(target)),
            _ => None,
        };
        let (target, target_bytes) = target.map_or((None, None), |(text, bytes)| (Some(text), bytes));
        let listed = ListedEntry {
            kind: kind_of(&entry.node),
            mode: metadata.mode,
            uid: owner.uid,
            gid: owner.gid,
            user: lossy(&owner.user),
            group: lossy(&owner.group),
            mtime: super::text::rfc3339(metadata.mtime),
            target,
            target_bytes,
            device: device_of(&entry.node),
            xattrs: metadata.xattrs.iter().map(|xattr| String::from_utf8_lossy(&xattr.name)).collect(),
        };
        Self { path: (&entry.path).into(), action: None, bytes: entry.size(), listed: Some(listed) }
    }
}

fn kind_of(node: &Node) -> &'static str {
    match node {
        Node::Directory => "directory",
        Node::File(_) => "file",
        Node::Symlink { .. } => "symlink",
        Node::Fifo => "fifo",
        Node::Socket => "socket",
        Node::CharacterDevice { .. } => "character_device",
        Node::DiskDevice { .. } => "disk_device",
    }
}

fn device_of(node: &Node) -> Option<[u32; 2]> {
    match node {
        Node::CharacterDevice { major, minor } | Node::DiskDevice { major, minor } => Some([*major, *minor]),
        _ => None,
    }
}

/// The outcome of a verb.
#[derive(Serialize)]
#[serde(tag = "verb", rename_all = "snake_case")]
pub enum Report {
    /// `nfz init`.
    Init { repository: String },
    /// `nfz sync`.
    Sync {
        snapshot: Option<String>,
        receipt: Option<String>,
        generation: u64,
        dry_run: bool,
        new: u64,
        changed: u64,
        unchanged: u64,
        moved: u64,
        deleted: u64,
        files: u64,
        directories: u64,
        others: u64,
        bytes: u64,
        read_bytes: u64,
        new_chunks: u64,
        new_bytes: u64,
        sent_objects: u64,
        sent_bytes: u64,
        problems: u64,
        seconds: f64,
    },
    /// `nfz restore`.
    Restore {
        snapshot: String,
        dry_run: bool,
        restored: u64,
        kept: u64,
        skipped: u64,
        removed: u64,
        written_bytes: u64,
        fetched_objects: u64,
        fetched_bytes: u64,
        problems: u64,
        seconds: f64,
    },
    /// `nfz verify`.
    Verify {
        snapshots: u64,
        segments: u64,
        chunks: u64,
        read_objects: u64,
        read_bytes: u64,
        unreferenced: u64,
        unreferenced_bytes: u64,
        set_aside: u64,
        set_aside_bytes: u64,
        damage: Vec<DamageDocument>,
        differences: Vec<DifferenceDocument>,
        problems: u64,
        seconds: f64,
    },
    /// `nfz forget`.
    Forget(ForgetDocument),
    /// `nfz prune`.
    Prune(PruneDocument),
    /// `nfz undo-forget`.
    #[serde(rename = "undo-forget")]
    UndoForget(UndoDocument),
}

/// A damaged or missing object and what it touches.
#[derive(Serialize)]
pub struct DamageDocument {
    object: String,
    why: String,
    snapshots: Vec<String>,
    paths: Vec<String>,
}

/// An entry that differs between snapshot and live tree.
#[derive(Serialize)]
pub struct DifferenceDocument {
    path: String,
    what: String,
}

impl From<&Damage> for DamageDocument {
    fn from(damage: &Damage) -> Self {
        let snapshots = damage.snapshots.iter().map(ToString::to_string).collect();
        Self { object: damage.object.clone(), why: damage.why.clone(), snapshots, paths: damage.paths.clone() }
    }
}

impl From<&Difference> for DifferenceDocument {
    fn from(difference: &Difference) -> Self {
        Self { path: difference.path.clone(), what: difference.what.clone() }
    }
}

impl Report {
    /// Of a sync.
    #[must_use]
    pub fn sync(report: &SyncReport, dry_run: bool) -> Self {
        Self::Sync {
            snapshot: report.snapshot.map(|id| id.to_string()),
            receipt: report.receipt.map(|receipt| receipt.to_string()),
            generation: report.generation,
            dry_run,
            new: report.new,
            changed: report.changed,
            unchanged: report.unchanged,
            moved: report.moved,
            deleted: report.deleted,
            files: report.files,
            directories: report.directories,
            others: report.others,
            bytes: report.bytes,
            read_bytes: report.bytes_read,
            new_chunks: report.new_chunks,
            new_bytes: report.new_plain,
            sent_objects: report.sent_objects,
            sent_bytes: report.sent_bytes,
            problems: report.problem_count,
            seconds: seconds(report.duration),
        }
    }

    /// Of a restore from `snapshot`.
    #[must_use]
    pub fn restore(report: &RestoreReport, snapshot: &SnapshotInfo, dry_run: bool) -> Self {
        Self::Restore {
            snapshot: snapshot.id.to_string(),
            dry_run,
            restored: report.restored,
            kept: report.kept,
            skipped: report.skipped,
            removed: report.removed,
            written_bytes: report.bytes_written,
            fetched_objects: report.fetched_objects,
            fetched_bytes: report.fetched_bytes,
            problems: report.problem_count,
            seconds: seconds(report.duration),
        }
    }

    /// Of a verify.
    #[must_use]
    pub fn verify(report: &VerifyReport) -> Self {
        Self::Verify {
            snapshots: report.snapshots,
            segments: report.segments,
            chunks: report.chunks,
            read_objects: report.read_objects,
            read_bytes: report.read_bytes,
            unreferenced: report.unreferenced,
            unreferenced_bytes: report.unreferenced_bytes,
            set_aside: report.set_aside,
            set_aside_bytes: report.set_aside_bytes,
            damage: report.damage.iter().map(Into::into).collect(),
            differences: report.differences.iter().map(Into::into).collect(),
            problems: report.problem_count,
            seconds: seconds(report.duration),
        }
    }
}

/// Seconds, to the millisecond.
#[must_use]
pub fn seconds(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1000.0).round() / 1000.0
}

/// Why the work ended without an outcome.
#[derive(Serialize)]
pub struct ErrorDocument<'a> {
    /// The exit code.
    pub code: u8,
    /// One line.
    pub message: &'a str,
    /// What to do about it.
    pub hints: &'a [String],
}

/// `document` as a line, without its end.
#[must_use]
pub fn line(document: Document<'_>) -> String {
    // Maps with string keys, numbers and strings only: there is nothing in it that cannot be written.
    serde_json::to_string(&Line { document, version: VERSION }).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::{
        forget::{ForgetReport, Verdict},
        prune::PruneReport,
        undo_forget::UndoReport,
    };
    use crate::format::manifest::{Metadata, Xattr};
    use proptest::prelude::*;
    use serde_json::Value;

    fn info() -> SnapshotInfo {
        crate::cli::snapshots::tests::info(false, b"label")
    }

    fn entry(path: &[u8], node: Node) -> Entry {
        let xattrs = vec![Xattr { name: b"user.x".to_vec(), value: Vec::new() }];
        Entry { path: TreePath::new(path).unwrap(), metadata: Metadata { xattrs, ..Metadata::default() }, node }
    }

    /// A sample of everything that is ever printed, with every optional field at least once.
    fn samples() -> Vec<Value> {
        let path = TreePath::new(&b"a\xff"[..]).unwrap();
        let problem = Problem::new("a", "b");
        let link = entry(b"l", Node::Symlink { target: b"t\xff".to_vec() });
        let device = entry(b"d", Node::CharacterDevice { major: 1, minor: 2 });
        let damage =
            Damage { object: "o".into(), why: "w".into(), snapshots: vec!["s".into()], paths: vec!["p".into()] };
        let differences = vec![Difference { path: "p".into(), what: "w".into() }];
        let verify = VerifyReport { damage: vec![damage], differences, ..VerifyReport::default() };
        let (why, time) = (vec!["last"], 0);
        let verdict = Verdict { id: info().id, info: Some(info()), time, by_server: false, stays: true, why };
        let mut documents = crate::cli::key::json::tests::samples();
        documents.extend(vec![
            Document::Stage { stage: Stage::Syncing },
            Document::Progress(Progress::default()),
            Document::Entry(EntryDocument::of_event(&path, Action::New, 1)),
            Document::Entry(EntryDocument::of_entry(&link)),
            Document::Entry(EntryDocument::of_entry(&device)),
            Document::Problem(&problem),
            Document::Snapshot((&info()).into()),
            Document::Report(Report::Init { repository: "00".into() }),
            Document::Report(Report::sync(&SyncReport::default(), false)),
            Document::Report(Report::restore(&RestoreReport::default(), &info(), true)),
            Document::Report(Report::verify(&verify)),
            Document::Verdict((&verdict).into()),
            Document::Report(Report::Forget(ForgetDocument::new(&ForgetReport::default(), true))),
            Document::Report(Report::Prune(PruneDocument::new(&PruneReport::default(), false))),
            Document::Report(Report::UndoForget(UndoDocument::new(&UndoReport::default(), false))),
            Document::Receipt(ReceiptDocument::new(&receipt())),
            Document::Doctor(doctor()),
            Document::Error(ErrorDocument { code: 1, message: "m", hints: &[] }),
        ]);
        documents.into_iter().map(|document| serde_json::from_str(&line(document)).unwrap()).collect()
    }

    fn receipt() -> crate::format::receipt::Receipt {
        crate::format::receipt::Receipt {
            repository: [1; 16],
            generation: 2,
            snapshot: crate::format::id::SnapshotId::new(crate::format::id::ObjectId([3; 32])),
        }
    }

    fn doctor() -> DoctorDocument {
        DoctorDocument { speeds: vec![SpeedDocument::default()], ..DoctorDocument::default() }
    }

    /// The part of the page under the heading of `kind`.
    fn section(kind: &str) -> &'static str {
        let page = include_str!("../../docs/json.md");
        let heading = format!("\n## `{kind}`\n");
        let start = page.find(&heading).unwrap_or_else(|| panic!("docs/json.md lacks kind {kind}"));
        let rest = &page[start + heading.len()..];
        &rest[..rest.find("\n## ").unwrap_or(rest.len())]
    }

    fn fields(value: &Value, into: &mut Vec<String>) {
        match value {
            Value::Object(map) => map.iter().for_each(|(key, value)| {
                into.push(key.clone());
                fields(value, into);
            }),
            Value::Array(values) => values.iter().for_each(|value| fields(value, into)),
            _ => {}
        }
    }

    #[test]
    fn every_kind_and_every_field_is_documented() {
        for sample in samples() {
            assert_eq!(sample["version"], VERSION);
            let section = section(sample["kind"].as_str().unwrap());
            let mut names = Vec::new();
            fields(&sample, &mut names);
            for name in names.iter().filter(|name| !["kind", "version"].contains(&name.as_str())) {
                assert!(section.contains(&format!("`{name}`")), "docs/json.md: {} lacks {name}", sample["kind"]);
            }
        }
    }

    #[test]
    fn every_action_and_every_stage_is_documented() {
        use Action::*;
        use Stage::*;
        let actions = [New, Changed, Unchanged, Moved, Deleted, Restored, Kept, Skipped, Removed];
        for action in actions.map(|action| serde_json::to_value(action).unwrap()) {
            assert!(section("entry").contains(&format!("`{}`", action.as_str().unwrap())), "{action}");
        }
        let stages = [
            Connecting,
            Unlocking,
            ReadingManifest,
            Syncing,
            Committing,
            Planning,
            Restoring,
            Finishing,
            Listing,
            ReadingData,
            Comparing,
        ];
        for stage in stages.map(|stage| serde_json::to_value(stage).unwrap()) {
            assert!(section("stage").contains(&format!("`{}`", stage.as_str().unwrap())), "{stage}");
        }
    }

    proptest! {
        #[test]
        fn a_path_is_read_back_exactly(name in proptest::collection::vec(any::<u8>().prop_filter("no path", |b| ![0, b'/', b'.'].contains(b)), 1..20)) {
            let path = TreePath::new(name.clone()).unwrap();
            let text = line(Document::Entry(EntryDocument::of_event(&path, Action::New, 0)));
            prop_assert!(!text.contains('\n'));
            let value: Value = serde_json::from_str(&text).unwrap();
            let exact = match value.get("path_bytes") {
                Some(hex) => (0..hex.as_str().unwrap().len() / 2).map(|at| u8::from_str_radix(&hex.as_str().unwrap()[2 * at..][..2], 16).unwrap()).collect(),
                None => value["path"].as_str().unwrap().as_bytes().to_vec(),
            };
            prop_assert_eq!(exact, name);
        }
    }
}
