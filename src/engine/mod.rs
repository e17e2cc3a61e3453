//! What nfz does: a file a verb. Plans are pure; executing them does the I/O.

pub mod error;
pub mod event;
pub mod filter;
pub mod history;
pub mod owners;
pub mod presence;
pub mod problem;
pub mod source;
pub mod stat;
pub mod sync;
pub mod tree;

pub mod target;
mod xattr;
