//! What the bytes mean. Each file here is one page of `spec/`, or a part of one.
//!
//! Pure: nothing in this layer opens a file, reads a clock, draws a random number or waits. Whatever
//! comes from outside is judged here, with the limits of [`limits`], before anything is allocated for it.

pub mod chunker;
pub mod config;
pub mod encoding;
pub mod extents;
pub mod id;
pub mod keyring;
pub mod keys;
pub mod kit;
pub mod limits;
pub mod manifest;
pub mod name;
pub mod path;
pub mod receipt;
pub mod repository_file;
pub mod seal;
pub mod segment_writer;
pub mod snapshot;
pub mod trash;
