//! Stub: sync.

use super::{
    EngineError,
    event::{Observer, Problem},
    filter::FilterOptions,
    stub,
};
use crate::{format::id::SnapshotId, repository::Repository};
use std::{path::PathBuf, sync::Arc, time::Duration};

/// How hard chunks are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// Not at all.
    Off,
    /// A zstd level.
    Level(i32),
}

impl Compression {
    /// Fast.
    pub const FAST: Self = Self::Level(1);
    /// Default.
    pub const DEFAULT: Self = Self::Level(3);
    /// Small.
    pub const MAX: Self = Self::Level(19);
}

/// How a sync is done.
#[derive(Clone, Debug)]
pub struct SyncOptions {
    /// What is left out.
    pub filter: FilterOptions,
    /// Host.
    pub host: String,
    /// User.
    pub user: String,
    /// Label.
    pub label: String,
    /// Read all.
    pub always_read: bool,
    /// Ignore ctime.
    pub ignore_ctime: bool,
    /// Ignore inode.
    pub ignore_inode: bool,
    /// Compression.
    pub compression: Compression,
    /// Between checkpoints.
    pub checkpoint_interval: Duration,
    /// Store nothing.
    pub dry_run: bool,
    /// Walk ahead for an estimate.
    pub estimate: bool,
    /// Record an emptied source.
    pub allow_empty: bool,
}

/// What a sync did.
#[derive(Clone, Debug, Default)]
#[allow(missing_docs)]
pub struct SyncReport {
    pub snapshot: Option<SnapshotId>,
    pub generation: u64,
    pub new: u64,
    pub changed: u64,
    pub unchanged: u64,
    pub moved: u64,
    pub deleted: u64,
    pub files: u64,
    pub directories: u64,
    pub others: u64,
    pub bytes: u64,
    pub bytes_read: u64,
    pub new_chunks: u64,
    pub new_plain: u64,
    pub sent_objects: u64,
    pub sent_bytes: u64,
    pub reused_chunks: u64,
    pub problems: Vec<Problem>,
    pub problem_count: u64,
    pub duration: Duration,
}

/// Stub.
pub type SyncError = EngineError;

/// Stub.
pub async fn sync(
    _: Arc<Repository>,
    _: PathBuf,
    _: SyncOptions,
    _: Arc<dyn Observer>,
) -> Result<SyncReport, SyncError> {
    stub()
}
