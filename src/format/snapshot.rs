//! Stub: snapshot roots.

use super::manifest::Time;

/// Sums over a snapshot's entries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// All entries.
    pub entries: u64,
    /// Regular files.
    pub files: u64,
    /// Directories.
    pub directories: u64,
    /// Bytes of file content.
    pub bytes: u64,
}

/// A snapshot's root.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SnapshotRoot {
    /// When it was taken.
    pub time: Time,
    /// The machine.
    pub host: Vec<u8>,
    /// Who took it.
    pub user: Vec<u8>,
    /// The source's path.
    pub source: Vec<u8>,
    /// The label, or nothing.
    pub label: Vec<u8>,
    /// Sums.
    pub totals: Totals,
    /// Whether it is no checkpoint.
    pub complete: bool,
    /// Its number in its chain.
    pub generation: u64,
}
