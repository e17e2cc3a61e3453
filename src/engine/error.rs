//! Why an operation stops. Findings that do not stop it are problems, in the report.

use crate::format::id::SnapshotId;
use crate::repository::RepositoryError;
use crate::store::StoreError;

/// Why an operation stops.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The repository failed.
    #[error(transparent)]
    Repository(#[from] RepositoryError),
    /// There is no snapshot of what was asked for.
    #[error("there is no snapshot {0}")]
    NoSnapshot(String),
    /// More than one snapshot's id begins so.
    #[error("{prefix} begins the ids of {count} snapshots")]
    AmbiguousPrefix {
        /// What was asked for.
        prefix: String,
        /// How many there are.
        count: usize,
    },
    /// The repository holds several sources, and it was not said which is meant.
    #[error("the repository holds several sources")]
    Ambiguous {
        /// Host and source of each, safe to print.
        choices: Vec<(String, String)>,
    },
    /// The snapshot has no such path.
    #[error("the snapshot has no {0}")]
    NoSuchPath(String),
    /// The source cannot be read at all.
    #[error("cannot read {path}: {why}")]
    Source {
        /// The source, safe to print.
        path: String,
        /// Why.
        why: String,
        /// Whether it does not exist.
        is_missing: bool,
    },
    /// The source is empty, and was not when it was saved last.
    #[error("{path} is empty, and its last snapshot has {entries} entries")]
    EmptiedSource {
        /// The source, safe to print.
        path: String,
        /// Entries of its last snapshot.
        entries: u64,
    },
    /// A filter cannot be used.
    #[error("{0}")]
    Filter(String),
    /// The target cannot be written.
    #[error("cannot write {path}: {why}")]
    Target {
        /// The target, safe to print.
        path: String,
        /// Why.
        why: String,
    },
    /// A snapshot's manifest is damaged.
    #[error("snapshot {snapshot}: {why}")]
    Manifest {
        /// The snapshot.
        snapshot: SnapshotId,
        /// What is wrong.
        why: String,
    },
    /// Nobody knows which chunks a snapshot needs.
    #[error("snapshot {snapshot} cannot be read, so nobody knows what it needs: {why}")]
    Unknowable {
        /// The snapshot.
        snapshot: SnapshotId,
        /// Why.
        why: String,
    },
    /// The grace period is shorter than what syncs count on.
    #[error("the grace period is shorter than a day, which syncs count on")]
    ShortGrace,
    /// Snapshots came and went faster than they could be read.
    #[error("snapshots come and go faster than they can be read")]
    Restless,
    /// Something that a sync relied on has been removed meanwhile.
    #[error("what it relied on has been removed meanwhile: {what}")]
    Overtaken {
        /// What is missing.
        what: String,
    },
    /// The last snapshot of a source would go.
    #[error("that would remove the last snapshot of {source_path} on {host}")]
    LastSnapshot {
        /// The machine, safe to print.
        host: String,
        /// The source, safe to print.
        source_path: String,
    },
    /// A thread was lost: a bug of ours.
    #[error("internal error: {0}")]
    Internal(&'static str),
}

impl From<StoreError> for EngineError {
    fn from(error: StoreError) -> Self {
        Self::Repository(error.into())
    }
}
