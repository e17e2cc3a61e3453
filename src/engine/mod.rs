//! What nfz does: a file a verb. Plans are pure; executing them does the I/O.

pub mod event;
pub mod filter;
pub mod history;
pub mod ls;
pub mod restore;
pub mod sync;
pub mod verify;

/// Stub: why an operation failed.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The repository failed.
    #[error(transparent)]
    Repository(#[from] crate::repository::RepositoryError),
    /// No snapshot is as asked for.
    #[error("no snapshot matches")]
    NoSnapshot,
    /// Several hosts or sources.
    #[error("snapshots of several hosts or sources")]
    Ambiguous {
        /// Hosts and sources.
        choices: Vec<(String, String)>,
    },
    /// Several ids begin so.
    #[error("several snapshots' ids begin with {prefix}")]
    AmbiguousPrefix {
        /// What was asked for.
        prefix: String,
    },
    /// An emptied source.
    #[error("the source is empty, and was not at the last sync")]
    EmptiedSource,
    /// The path is not in the snapshot.
    #[error("{path} is not in the snapshot")]
    NoSuchPath {
        /// The path.
        path: String,
    },
    /// The local file system failed.
    #[error("cannot {operation} {path}: {source}")]
    Io {
        /// What was done.
        operation: &'static str,
        /// To what.
        path: String,
        /// Why it failed.
        source: std::io::Error,
    },
}

/// Stub.
pub(crate) fn stub<T>() -> Result<T, EngineError> {
    Err(EngineError::NoSnapshot)
}
