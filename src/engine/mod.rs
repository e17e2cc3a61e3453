//! What nfz does: a file a verb. Plans are pure; executing them does the I/O.

pub mod compare;
pub mod error;
pub mod event;
pub mod filter;
pub mod forget;
pub mod history;
pub mod import_nfreezer;
pub mod layout;
pub mod ls;
pub mod named;
pub mod owners;
pub mod presence;
pub mod problem;
pub mod prune;
pub mod receipt;
pub mod restore;
pub mod retention;
pub mod source;
pub mod stat;
pub mod sweep;
pub mod sync;
pub mod trash;
pub mod tree;
pub mod undo_forget;
pub mod verify;

pub mod target;
mod xattr;
