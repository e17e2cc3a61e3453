//! Stub: rate limits.

use super::Store;
use std::sync::Arc;

/// Bytes per second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rates {
    /// For what is put.
    pub up: Option<u64>,
    /// For what is got.
    pub down: Option<u64>,
}

/// Stub.
pub struct LimitStore;

impl LimitStore {
    /// Stub.
    pub fn new(_: Arc<dyn Store>, _: Rates) -> Self {
        Self
    }
}
