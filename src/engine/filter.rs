//! Stub: what is left out.

use std::path::PathBuf;

/// What a sync leaves out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FilterOptions {
    /// Patterns.
    pub exclude: Vec<String>,
    /// Patterns, whatever the case.
    pub iexclude: Vec<String>,
    /// Files of patterns.
    pub exclude_files: Vec<PathBuf>,
    /// Names of files that exclude their directory.
    pub exclude_if_present: Vec<String>,
    /// Whether caches are left out.
    pub exclude_caches: bool,
    /// The largest file, in bytes.
    pub exclude_larger_than: Option<u64>,
    /// Whether other file systems are left out.
    pub one_file_system: bool,
}

/// What a restore takes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    /// Patterns.
    pub include: Vec<String>,
    /// Patterns.
    pub exclude: Vec<String>,
}
