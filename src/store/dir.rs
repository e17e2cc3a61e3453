//! Stub: a local directory.

use std::path::PathBuf;

/// Stub.
pub struct DirStore;

impl DirStore {
    /// Stub.
    pub fn new(_: impl Into<PathBuf>) -> Self {
        Self
    }
}
