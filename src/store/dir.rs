//! Stub: a local directory.

use super::{Nothing, Store};
use std::{path::PathBuf, sync::Arc};

/// Stub.
pub struct DirStore;

impl DirStore {
    /// Stub.
    #[allow(clippy::new_ret_no_self)]
    pub fn new(root: impl Into<PathBuf>) -> Arc<dyn Store> {
        Arc::new(Nothing(root.into().display().to_string()))
    }
}
