//! Stub: verify.

use super::{
    EngineError,
    event::{Observer, Problem},
    history::Choice,
    stub,
};
use crate::{format::id::SnapshotId, repository::Repository};
use std::{path::PathBuf, sync::Arc, time::Duration};

/// How much is read.
#[derive(Clone, Copy, Debug, PartialEq)]
#[allow(missing_docs)]
pub enum ReadData {
    Nothing,
    All,
    Percent(f64),
    Bytes(u64),
}

/// How a verify is done.
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub struct VerifyOptions {
    pub read_data: ReadData,
    pub against: Option<PathBuf>,
    pub choice: Option<Choice>,
}

/// Damage.
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub struct Damage {
    pub object: String,
    pub why: String,
    pub snapshots: Vec<SnapshotId>,
    pub paths: Vec<String>,
}

/// A difference from a live tree.
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub struct Difference {
    pub path: String,
    pub what: String,
}

/// What a verify found.
#[derive(Clone, Debug, Default)]
#[allow(missing_docs)]
pub struct VerifyReport {
    pub snapshots: u64,
    pub segments: u64,
    pub chunks: u64,
    pub read_objects: u64,
    pub read_bytes: u64,
    pub unreferenced: u64,
    pub unreferenced_bytes: u64,
    pub damage: Vec<Damage>,
    pub differences: Vec<Difference>,
    pub problems: Vec<Problem>,
    pub problem_count: u64,
    pub duration: Duration,
}

/// Stub.
pub async fn verify(_: Arc<Repository>, _: VerifyOptions, _: Arc<dyn Observer>) -> Result<VerifyReport, EngineError> {
    stub()
}
