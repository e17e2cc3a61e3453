//! Stub: listing.

use super::{EngineError, history::SnapshotInfo, stub};
use crate::{
    format::{manifest::Entry, path::TreePath},
    repository::Repository,
};

/// Stub.
pub async fn list(
    _: &Repository,
    _: &SnapshotInfo,
    _: &TreePath,
    _recursive: bool,
    _: &mut (dyn FnMut(&Entry) + Send),
) -> Result<(), EngineError> {
    stub()
}
