//! What a walk finds, and what more can be learnt of it.

use super::{directory::Directory, open_at};
use crate::{
    engine::{
        owners::OwnerNames,
        problem::Problem,
        stat::{Kind, Stat},
        xattr::Holder,
    },
    format::{
        manifest::{Metadata, Time, Xattr},
        path::TreePath,
    },
};
use rustix::fs::{self, AtFlags, OFlags, Statx, StatxFlags};
use std::{
    io,
    os::fd::{AsFd, OwnedFd},
    path::Path,
    sync::{Arc, OnceLock},
};

/// An entry of the source, as it was when the walk came by.
#[derive(Clone, Debug)]
pub struct Found {
    /// Where it lies below the source.
    pub path: TreePath,
    /// What the file system tells of it.
    pub stat: Stat,
    /// A number that the names of one file share, and 0 for what has one name (`spec/5-manifest.md`).
    pub link_group: u64,
    pub(super) place: Place,
}

/// Where an entry can be reached.
#[derive(Clone, Debug)]
pub(super) enum Place {
    /// It is the source itself.
    Root(Arc<Directory>),
    /// In a directory, under the last component of its path.
    In(Arc<Directory>),
}

/// Why something that a walk found cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum FoundError {
    /// It is gone.
    #[error("{0} vanished")]
    Vanished(TreePath),
    /// It was a file when the walk came by and is none now.
    #[error("{0} is not a regular file any more")]
    ChangedKind(TreePath),
    /// The system said no.
    #[error("cannot {what} {path}: {source}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// The entry.
        path: TreePath,
        /// What the system said.
        source: io::Error,
    },
}

impl FoundError {
    pub(super) fn new(what: &'static str, path: &TreePath, source: io::Error) -> Self {
        let path = path.clone();
        match source.kind() {
            io::ErrorKind::NotFound => Self::Vanished(path),
            _ => Self::Io { what, path, source },
        }
    }
}

impl Found {
    /// All that a manifest keeps of it. Extended attributes that cannot be read are left out and are a problem: the
    /// rest is still worth keeping.
    ///
    /// For a file that is read anyway, [`SourceFile::metadata`](super::SourceFile::metadata) is cheaper and cannot meet
    /// another file of the same name.
    pub fn metadata(&self, names: &mut OwnerNames) -> (Metadata, Option<Problem>) {
        let (xattrs, error) = self.xattrs().unwrap_or_else(|error| (Vec::new(), Some(error)));
        self.metadata_with(names, xattrs, error)
    }

    pub(super) fn metadata_with(
        &self,
        names: &mut OwnerNames,
        xattrs: Vec<Xattr>,
        error: Option<io::Error>,
    ) -> (Metadata, Option<Problem>) {
        let Stat { mode, uid, gid, mtime, ctime, inode, .. } = self.stat;
        let owner = names.owner(uid, gid);
        let metadata = Metadata { mode, owner, mtime, ctime, inode, xattrs, link_group: self.link_group };
        (metadata, error.map(|error| Problem::new(&self.path, "read all its extended attributes", error)))
    }

    /// When it was made, where the file system knows: what has an inode that another file had is younger than that file.
    #[must_use]
    pub fn born(&self) -> Option<Time> {
        let directory = self.directory().ok()?;
        let stat = fs::statx(&directory, self.name(), AtFlags::SYMLINK_NOFOLLOW, StatxFlags::BTIME).ok()?;
        let is_known = stat.stx_mask & StatxFlags::BTIME.bits() != 0;
        let Statx { stx_btime: born, .. } = stat;
        is_known.then_some(Time { seconds: born.tv_sec, nanoseconds: born.tv_nsec })
    }

    /// What a symbolic link points to: its bytes, unchanged.
    ///
    /// # Errors
    /// [`FoundError`] where it is gone or is no link.
    pub fn read_link(&self) -> Result<Vec<u8>, FoundError> {
        let read = || Ok(fs::readlinkat(&*self.directory()?, self.name(), Vec::new())?.into_bytes());
        read().map_err(|error| FoundError::new("read the link", &self.path, error))
    }

    /// The handle of the directory that holds it.
    pub(super) fn directory(&self) -> io::Result<Arc<OwnedFd>> {
        match &self.place {
            Place::Root(directory) | Place::In(directory) => directory.handle(),
        }
    }

    /// Its name in that directory.
    pub(super) fn name(&self) -> &[u8] {
        match self.place {
            Place::Root(_) => b".",
            Place::In(_) => last_component(&self.path),
        }
    }

    fn xattrs(&self) -> io::Result<(Vec<Xattr>, Option<io::Error>)> {
        let directory = self.directory()?;
        if has_proc() {
            return Ok(Holder::name(&directory, self.name())?.read());
        }
        // Without `/proc` only what can be opened without side effects is asked.
        if !matches!(self.stat.kind, Kind::File | Kind::Directory) {
            return Ok((Vec::new(), None));
        }
        let fd = open_at(&directory, self.name(), OFlags::empty())?;
        Ok(Holder::Open(fd.as_fd()).read())
    }
}

/// The name of `path` in the directory that holds it.
pub(super) fn last_component(path: &TreePath) -> &[u8] {
    let bytes = path.as_bytes();
    bytes.rsplit(|&byte| byte == b'/').next().unwrap_or(bytes)
}

/// Whether entries can be named through `/proc`, as they can on any Linux but in a bare chroot.
fn has_proc() -> bool {
    static HAS: OnceLock<bool> = OnceLock::new();
    *HAS.get_or_init(|| Path::new("/proc/self/fd").is_dir())
}
