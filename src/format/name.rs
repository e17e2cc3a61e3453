//! Names: where each object lies in a store (`spec/1-objects.md`). The only place that builds or reads such paths.

use super::id::{ConfigId, ObjectId, SnapshotId, from_hex, to_hex};
use std::fmt;

/// A directory of a repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Dir {
    /// The repository's own directory.
    Root,
    /// Key slots.
    Keys,
    /// Master secrets of older epochs, sealed under the newest.
    Keyring,
    /// Sealed parameters.
    Config,
    /// Parent of the shards.
    Chunks,
    /// One of the 256 directories that chunks lie in.
    Shard(u8),
    /// Sealed snapshot roots.
    Snapshots,
    /// What prune has set aside.
    Trash,
    /// Uploads under way.
    Tmp,
}

impl Dir {
    /// Every directory that `init` makes, parents first.
    pub fn all() -> impl Iterator<Item = Dir> {
        [Dir::Root, Dir::Keys, Dir::Keyring, Dir::Config, Dir::Chunks, Dir::Snapshots, Dir::Trash, Dir::Tmp]
            .into_iter()
            .chain((0..=255).map(Dir::Shard))
    }

    /// The path relative to the repository; empty for [`Dir::Root`].
    #[must_use]
    pub fn path(&self) -> String {
        match self {
            Dir::Root => String::new(),
            Dir::Keys => "keys".into(),
            Dir::Keyring => "keyring".into(),
            Dir::Config => "config".into(),
            Dir::Chunks => "chunks".into(),
            Dir::Shard(shard) => format!("chunks/{shard:02x}"),
            Dir::Snapshots => "snapshots".into(),
            Dir::Trash => "trash".into(),
            Dir::Tmp => "tmp".into(),
        }
    }
}

impl fmt::Display for Dir {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Dir::Root => f.write_str("the repository's directory"),
            other => f.write_str(&other.path()),
        }
    }
}

/// The name of one object in a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Name {
    /// `nfz-repository`: what this is, in plain text.
    Repository,
    /// A key slot, by its random id.
    Key([u8; 16]),
    /// Master secrets of older epochs, by its random id.
    Keyring([u8; 16]),
    /// Sealed parameters.
    Config(ConfigId),
    /// A sealed chunk or segment: the store cannot tell which.
    Chunk(ObjectId),
    /// A sealed snapshot root.
    Snapshot(SnapshotId),
    /// An upload under way, by its random id.
    Tmp([u8; 16]),
}

impl Name {
    /// The directory that holds it.
    #[must_use]
    pub fn dir(&self) -> Dir {
        match self {
            Name::Repository => Dir::Root,
            Name::Key(_) => Dir::Keys,
            Name::Keyring(_) => Dir::Keyring,
            Name::Config(_) => Dir::Config,
            Name::Chunk(id) => Dir::Shard(id.shard()),
            Name::Snapshot(_) => Dir::Snapshots,
            Name::Tmp(_) => Dir::Tmp,
        }
    }

    /// The last component of its path.
    #[must_use]
    pub fn file_name(&self) -> String {
        match self {
            Name::Repository => "nfz-repository".into(),
            Name::Key(id) | Name::Keyring(id) | Name::Tmp(id) => to_hex(id),
            Name::Config(id) => id.0.to_hex(),
            Name::Chunk(id) => id.to_hex(),
            Name::Snapshot(id) => id.0.to_hex(),
        }
    }

    /// The path relative to the repository, `/` between components.
    #[must_use]
    pub fn path(&self) -> String {
        match self.dir() {
            Dir::Root => self.file_name(),
            dir => format!("{}/{}", dir.path(), self.file_name()),
        }
    }

    /// What a file called `file_name` in `dir` is, or `None` if it is none of ours.
    #[must_use]
    pub fn parse(dir: Dir, file_name: &str) -> Option<Name> {
        match dir {
            Dir::Root => (file_name == "nfz-repository").then_some(Name::Repository),
            Dir::Keys => from_hex(file_name).map(Name::Key),
            Dir::Keyring => from_hex(file_name).map(Name::Keyring),
            Dir::Tmp => from_hex(file_name).map(Name::Tmp),
            Dir::Config => ObjectId::from_hex(file_name).map(|id| Name::Config(ConfigId::new(id))),
            Dir::Snapshots => ObjectId::from_hex(file_name).map(|id| Name::Snapshot(SnapshotId::new(id))),
            Dir::Shard(shard) => ObjectId::from_hex(file_name).filter(|id| id.shard() == shard).map(Name::Chunk),
            Dir::Chunks | Dir::Trash => None,
        }
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.path())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_parses_back_in_its_own_directory_and_in_no_other() {
        let id = ObjectId([0xab; 32]);
        let names = [
            Name::Repository,
            Name::Key([7; 16]),
            Name::Keyring([9; 16]),
            Name::Tmp([8; 16]),
            Name::Config(ConfigId::new(id)),
            Name::Chunk(id),
            Name::Snapshot(SnapshotId::new(id)),
        ];
        for name in names {
            assert_eq!(Name::parse(name.dir(), &name.file_name()), Some(name));
            assert_eq!(Name::parse(Dir::Shard(0xac), &name.file_name()), None);
        }
    }
}
