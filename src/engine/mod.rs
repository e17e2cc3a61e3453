//! What nfz does, a file a verb. This layer reads live trees and writes restored ones.

pub mod filter;
pub mod owners;
pub mod problem;
pub mod source;
pub mod stat;
pub mod target;
mod xattr;
