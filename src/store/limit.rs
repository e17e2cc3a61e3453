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
    #[allow(clippy::new_ret_no_self)]
    pub fn new(inner: Arc<dyn Store>, _: Rates) -> Arc<dyn Store> {
        inner
    }
}
