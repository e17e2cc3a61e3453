//! Stub: restore.

use super::{
    EngineError,
    event::{Observer, Problem},
    filter::Selection,
    history::SnapshotInfo,
    stub,
};
use crate::{format::path::TreePath, repository::Repository};
use std::{path::PathBuf, sync::Arc, time::Duration};

/// What becomes of files in the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overwrite {
    /// Replaced.
    Always,
    /// Replaced where they differ.
    IfChanged,
    /// Left.
    Never,
}

/// How a restore is done.
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub struct RestoreOptions {
    pub paths: Vec<TreePath>,
    pub selection: Selection,
    pub overwrite: Overwrite,
    pub delete: bool,
    pub verify: bool,
    pub dry_run: bool,
    pub owner: bool,
    pub numeric_ids: bool,
}

/// What a restore did.
#[derive(Clone, Debug, Default)]
#[allow(missing_docs)]
pub struct RestoreReport {
    pub restored: u64,
    pub kept: u64,
    pub skipped: u64,
    pub removed: u64,
    pub bytes_written: u64,
    pub fetched_objects: u64,
    pub fetched_bytes: u64,
    pub problems: Vec<Problem>,
    pub problem_count: u64,
    pub duration: Duration,
}

/// Stub.
pub async fn restore(
    _: Arc<Repository>,
    _: SnapshotInfo,
    _: PathBuf,
    _: RestoreOptions,
    _: Arc<dyn Observer>,
) -> Result<RestoreReport, EngineError> {
    stub()
}
