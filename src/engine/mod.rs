//! What nfz does: a file a verb. Plans are pure; executing them does the I/O.

pub mod compare;
pub mod error;
pub mod event;
pub mod filter;
pub mod history;
pub mod layout;
pub mod ls;
pub mod owners;
pub mod presence;
pub mod problem;
pub mod restore;
pub mod source;
pub mod stat;
pub mod sweep;
pub mod sync;
pub mod tree;
pub mod verify;

pub mod target;
mod xattr;
