//! Stub: snapshots and how one is chosen.

use super::{
    EngineError,
    event::{Observer, Problems},
    stub,
};
use crate::{
    format::{id::SnapshotId, manifest::Time, snapshot::SnapshotRoot},
    repository::Repository,
};

/// A snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotInfo {
    /// Its id.
    pub id: SnapshotId,
    /// Its root.
    pub root: SnapshotRoot,
}

/// Which snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice {
    /// Which of those left.
    pub at: At,
    /// Of this host.
    pub host: Option<String>,
    /// Of this source.
    pub source: Option<String>,
}

/// Which of several.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum At {
    /// The newest but so many.
    Latest(u32),
    /// Whose id begins so.
    Prefix(String),
    /// The newest not later.
    AsOf(Time),
}

/// Stub.
pub async fn snapshots(_: &Repository, _: &Problems, _: &dyn Observer) -> Result<Vec<SnapshotInfo>, EngineError> {
    stub()
}

/// Stub.
pub async fn choose(_: &Repository, _: &Choice) -> Result<SnapshotInfo, EngineError> {
    stub()
}
