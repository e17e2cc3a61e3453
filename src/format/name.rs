//! Names: where each object lies in a store (`spec/1-objects.md`). The only place that builds or reads such paths.

use super::id::{ConfigId, ForgottenId, ObjectId, SetAsideId, SnapshotId, from_hex, to_hex};
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
    /// What was set aside, and when: chunks by prune, snapshot roots by forget.
    Trash,
    /// Records of snapshots that were removed on purpose.
    Forgotten,
    /// Uploads under way.
    Tmp,
}

impl Dir {
    /// Every directory that `init` makes, parents first.
    pub fn all() -> impl Iterator<Item = Dir> {
        let all = [
            Dir::Root,
            Dir::Keys,
            Dir::Keyring,
            Dir::Config,
            Dir::Chunks,
            Dir::Snapshots,
            Dir::Trash,
            Dir::Forgotten,
            Dir::Tmp,
        ];
        all.into_iter().chain((0..=255).map(Dir::Shard))
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
            Dir::Forgotten => "forgotten".into(),
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

/// 16 random bytes for one run of a program that sets things aside. What is set aside twice so lies under two names.
pub type RunId = [u8; 16];

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
    /// A chunk or segment that this run has set aside.
    TrashedChunk(RunId, ObjectId),
    /// A snapshot root that this run has set aside.
    TrashedSnapshot(RunId, SnapshotId),
    /// A sealed record of what lies in the trash.
    SetAside(SetAsideId),
    /// A sealed record of snapshots that were removed on purpose.
    Forgotten(ForgottenId),
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
            Name::TrashedChunk(..) | Name::TrashedSnapshot(..) | Name::SetAside(_) => Dir::Trash,
            Name::Forgotten(_) => Dir::Forgotten,
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
            Name::TrashedChunk(run, id) => format!("c-{}-{id}", to_hex(run)),
            Name::TrashedSnapshot(run, id) => format!("s-{}-{id}", to_hex(run)),
            Name::SetAside(id) => id.0.to_hex(),
            Name::Forgotten(id) => id.0.to_hex(),
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
            Dir::Forgotten => ObjectId::from_hex(file_name).map(|id| Name::Forgotten(ForgottenId::new(id))),
            Dir::Trash => trashed(file_name),
            Dir::Chunks => None,
        }
    }
}

fn trashed(file_name: &str) -> Option<Name> {
    if let Some(id) = ObjectId::from_hex(file_name) {
        return Some(Name::SetAside(SetAsideId::new(id)));
    }
    let (kind, rest) = file_name.split_once('-')?;
    let (run, id) = rest.split_once('-')?;
    let (run, id) = (from_hex(run)?, ObjectId::from_hex(id)?);
    match kind {
        "c" => Some(Name::TrashedChunk(run, id)),
        "s" => Some(Name::TrashedSnapshot(run, SnapshotId::new(id))),
        _ => None,
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
            Name::TrashedChunk([9; 16], id),
            Name::TrashedSnapshot([9; 16], SnapshotId::new(id)),
            Name::SetAside(SetAsideId::new(id)),
            Name::Forgotten(ForgottenId::new(id)),
        ];
        for name in names {
            assert_eq!(Name::parse(name.dir(), &name.file_name()), Some(name));
            assert_eq!(Name::parse(Dir::Shard(0xac), &name.file_name()), None);
        }
    }
}
