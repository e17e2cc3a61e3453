//! What nfz does: a file a verb. Plans are pure; executing them does the I/O.

pub mod error;
pub mod event;
pub mod history;
pub mod tree;
