//! The live tree that is backed up.
//!
//! All of it is reached through directory handles, never by path from the root: depth and length of paths do not matter,
//! and a link planted while the walk goes on is not followed. Reading leaves access times alone where it may.

mod directory;
mod file;
mod found;
mod names;
mod walk;

pub use file::{Extents, SourceFile};
pub use found::{Found, FoundError};
pub use walk::Walk;

use super::{filter::Filter, problem::Problem};
use crate::format::path::Escaped;
use directory::Directory;
use rustix::{
    fs::{self, CWD, Mode, OFlags},
    io::Errno,
};
use std::{
    io,
    os::{fd::OwnedFd, unix::ffi::OsStrExt},
    path::{Path, PathBuf},
    sync::Arc,
};

/// A directory to be backed up, open.
#[derive(Clone, Debug)]
pub struct Source {
    path: Vec<u8>,
    root: Arc<Directory>,
}

/// Why a path is no source.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// Nothing is there.
    #[error("the source {} does not exist", shown(.0))]
    NotFound(PathBuf),
    /// Something else is there.
    #[error("the source {} is not a directory", shown(.0))]
    NotADirectory(PathBuf),
    /// It may not be read.
    #[error("the source {} may not be read by this user", shown(.0))]
    Denied(PathBuf),
    /// Anything else.
    #[error("cannot open the source {}: {source}", shown(path))]
    Other {
        /// The source.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

fn shown(path: &Path) -> Escaped<'_> {
    Escaped(path.as_os_str().as_bytes())
}

impl Source {
    /// Opens the directory at `path`, which may be a symbolic link to one.
    ///
    /// # Errors
    /// [`SourceError`], naming the path.
    pub fn open(path: &Path) -> Result<Self, SourceError> {
        let open = || {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let root = Directory::root(fs::openat(CWD, path, flags, Mode::empty())?)?;
            Ok((root, std::fs::canonicalize(path)?))
        };
        let (root, absolute) = open().map_err(|error| SourceError::new(path, error))?;
        Ok(Self { path: absolute.into_os_string().into_encoded_bytes(), root })
    }

    /// The same, but a snapshot records `path` for it.
    #[must_use]
    pub fn recorded_as(self, path: Vec<u8>) -> Self {
        Self { path, ..self }
    }

    /// Its absolute path without symbolic links: what a snapshot records.
    #[must_use]
    pub fn path(&self) -> &[u8] {
        &self.path
    }

    /// Walks the tree in the order of [`TreePath`](crate::format::path::TreePath), the source itself first.
    ///
    /// What cannot be read goes to `problems`, and the walk goes on. A name that vanishes before it is looked at was
    /// never there; a directory that vanishes after it was handed out is a problem.
    pub fn walk<P: FnMut(Problem)>(&self, filter: Filter, problems: P) -> Walk<P> {
        Walk::new(Arc::clone(&self.root), filter, problems)
    }
}

impl SourceError {
    fn new(path: &Path, source: io::Error) -> Self {
        let path = path.to_path_buf();
        match source.kind() {
            io::ErrorKind::NotFound => Self::NotFound(path),
            io::ErrorKind::NotADirectory => Self::NotADirectory(path),
            io::ErrorKind::PermissionDenied => Self::Denied(path),
            _ => Self::Other { path, source },
        }
    }
}

/// Opens `name` in `directory` for reading: no link followed, no waiting for a pipe's writer, no terminal taken over, and
/// the access time left alone where this user may ask for that.
fn open_at(directory: &OwnedFd, name: &[u8], more: OFlags) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC | more;
    match fs::openat(directory, name, flags | OFlags::NOATIME, Mode::empty()) {
        Err(Errno::PERM) => Ok(fs::openat(directory, name, flags, Mode::empty())?),
        other => Ok(other?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_directory_is_refused_by_name() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("file");
        std::fs::write(&file, b"").unwrap();
        assert!(matches!(Source::open(&file), Err(SourceError::NotADirectory(_))));
        let missing = Source::open(&directory.path().join("no\x1b")).unwrap_err();
        assert!(matches!(missing, SourceError::NotFound(_)));
        assert!(missing.to_string().ends_with("no\\u{1b} does not exist"), "{missing}");
    }

    #[test]
    fn the_path_is_absolute_and_without_links() {
        let directory = tempfile::tempdir().unwrap();
        let real = directory.path().canonicalize().unwrap().join("real");
        std::fs::create_dir(&real).unwrap();
        std::os::unix::fs::symlink("real", directory.path().join("link")).unwrap();
        let source = Source::open(&directory.path().join("link")).unwrap();
        assert_eq!(source.path(), real.as_os_str().as_bytes());
    }
}
