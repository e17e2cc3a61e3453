//! Where a restore writes.
//!
//! Nothing is written outside the target, whatever a repository holds and whoever plants links meanwhile: each name is
//! used in the open handle of the directory that holds it, and no link is followed on the way. Things are made under a
//! temporary name, get their metadata, and are then renamed into place whole.
//!
//! Nothing is synced to disk here: a restore that a power cut interrupts is run again.

mod apply;
mod file;
mod handles;
mod make;
mod pending;
mod remove;

pub use apply::{Outcome, OwnershipPolicy};
pub use file::TargetFile;
pub use pending::is_leftover;

use super::{
    owners::OwnerNames,
    stat::{Kind, Stat},
};
use crate::format::{
    manifest::Metadata,
    path::{Escaped, TreePath},
};
use handles::Handles;
use rustix::{
    fs::{self, AtFlags, CWD, Dir, Mode, OFlags},
    io::Errno,
};
use std::{
    fs::DirBuilder,
    io,
    os::{
        fd::OwnedFd,
        unix::{ffi::OsStrExt, fs::DirBuilderExt},
    },
    path::{Path, PathBuf},
    sync::{Arc, atomic::AtomicU64},
};

/// A directory that is restored into, open. May be used from many threads.
#[derive(Debug)]
pub struct Target {
    handles: Handles,
    names: OwnerNames,
    /// Counts from a random number on: no two restores into one place use the same names.
    next_temporary: AtomicU64,
}

/// What an operation in the target failed on.
#[derive(Debug, thiserror::Error)]
#[error("cannot {what} {path}: {source}")]
pub struct TargetError {
    /// What kind of trouble it is.
    pub kind: TargetErrorKind,
    /// What was tried, to be read after "cannot".
    pub what: &'static str,
    /// The entry.
    pub path: TreePath,
    /// What the system said.
    pub source: io::Error,
}

/// Kinds of trouble in a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TargetErrorKind {
    /// There is no room left, or the quota is used up. All that follows will fail too.
    Full,
    /// Something is there already and is not to be replaced.
    Exists,
    /// Something else lies where a directory is needed, or the other way round. A link there is not followed.
    InTheWay,
    /// This user may not.
    Denied,
    /// A directory above is gone.
    Missing,
    /// Anything else.
    Other,
}

/// Why a path is no target.
#[derive(Debug, thiserror::Error)]
#[error("cannot open the target {}: {source}", Escaped(path.as_os_str().as_bytes()))]
pub struct OpenTargetError {
    /// The target.
    pub path: PathBuf,
    /// What the system said.
    pub source: io::Error,
}

/// Something that lies in the target already.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Existing {
    /// What the file system tells of it.
    pub stat: Stat,
    /// What it points to, if it is a symbolic link.
    pub link_target: Option<Vec<u8>>,
}

impl TargetError {
    fn new(what: &'static str, path: &TreePath, errno: Errno) -> Self {
        Self { kind: TargetErrorKind::new(errno), what, path: path.clone(), source: errno.into() }
    }

    fn with(what: &'static str, path: &TreePath, source: io::Error) -> Self {
        let kind = Errno::from_io_error(&source).map_or(TargetErrorKind::Other, TargetErrorKind::new);
        Self { kind, what, path: path.clone(), source }
    }
}

impl TargetErrorKind {
    fn new(errno: Errno) -> Self {
        match errno {
            Errno::NOSPC | Errno::DQUOT => Self::Full,
            Errno::EXIST => Self::Exists,
            Errno::NOTDIR | Errno::LOOP | Errno::ISDIR | Errno::NOTEMPTY => Self::InTheWay,
            Errno::PERM | Errno::ACCESS | Errno::ROFS => Self::Denied,
            Errno::NOENT => Self::Missing,
            _ => Self::Other,
        }
    }
}

impl Target {
    /// Opens the directory at `path`, which may be a symbolic link to one; `create` makes it where it is missing.
    ///
    /// # Errors
    /// [`OpenTargetError`], naming the path.
    pub fn open(path: &Path, create: bool) -> Result<Self, OpenTargetError> {
        let open = || {
            if create {
                make_target(path)?;
            }
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
            Ok(fs::openat(CWD, path, flags, Mode::empty())?)
        };
        let root = open().map_err(|source| OpenTargetError { path: path.to_path_buf(), source })?;
        let random = getrandom::u64().map_err(|error| io::Error::other(format!("no random numbers: {error}")));
        let random = random.map_err(|source| OpenTargetError { path: path.to_path_buf(), source })?;
        Ok(Self { handles: Handles::new(root), names: OwnerNames::load(), next_temporary: AtomicU64::new(random) })
    }

    /// What lies at `path`; `None` where nothing does, or a directory above is missing.
    ///
    /// # Errors
    /// [`TargetError`], also where something that is no directory lies above.
    pub fn existing(&self, path: &TreePath) -> Result<Option<Existing>, TargetError> {
        let look = || -> Result<Existing, Errno> {
            let (directory, name) = self.place(path)?;
            let stat = fs::statat(&directory, name, AtFlags::SYMLINK_NOFOLLOW)?;
            let stat = Stat::new(&stat).map_err(|_| Errno::NOTSUP)?;
            let link_target = match stat.kind {
                Kind::Symlink => Some(fs::readlinkat(&directory, name, Vec::new())?.into_bytes()),
                _ => None,
            };
            Ok(Existing { stat, link_target })
        };
        match look() {
            Ok(existing) => Ok(Some(existing)),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(TargetError::new("look at", path, error)),
        }
    }

    /// Makes the directory `path`, open to this user alone until its metadata is set, and says whether it made it. One
    /// that exists is kept, and made writable for its owner if that is this user; [`set_metadata`](Self::set_metadata)
    /// gives it its mode at the end. The directory above must exist.
    ///
    /// # Errors
    /// [`TargetError`]; of kind [`InTheWay`](TargetErrorKind::InTheWay) where a link or anything else has the name.
    pub fn create_dir(&self, path: &TreePath) -> Result<bool, TargetError> {
        let make = || match self.place(path) {
            Ok((directory, name)) if !path.is_root() => fs::mkdirat(&directory, name, Mode::RWXU),
            Ok(_) => Err(Errno::EXIST),
            Err(error) => Err(error),
        };
        match make() {
            Ok(()) => Ok(true),
            Err(Errno::EXIST) => {
                self.open_up(path).map_err(|error| TargetError::new("make the directory", path, error))?;
                Ok(false)
            }
            Err(error) => Err(TargetError::new("make the directory", path, error)),
        }
    }

    /// Makes the directory `path` and those above it that are missing.
    ///
    /// # Errors
    /// As [`create_dir`](Self::create_dir).
    pub fn create_dir_all(&self, path: &TreePath) -> Result<(), TargetError> {
        let mut missing = vec![];
        let mut at = path.clone();
        while let Some((above, _)) = at.split_last() {
            if self.handles.get(&at).is_ok() {
                break;
            }
            missing.push(std::mem::replace(&mut at, above));
        }
        missing.iter().rev().try_for_each(|path| self.create_dir(path).map(drop))
    }

    /// Gives what exists at `path` its owner, mode, times and attributes. What cannot be given is in the outcome.
    ///
    /// # Errors
    /// [`TargetError`] where there is nothing to give them to.
    pub fn set_metadata(
        &self,
        path: &TreePath,
        metadata: &Metadata,
        policy: &OwnershipPolicy,
    ) -> Result<Outcome, TargetError> {
        let (directory, name) = self.place(path).map_err(|error| TargetError::new("find", path, error))?;
        let thing = apply::Thing::open(&directory, name).map_err(|error| TargetError::with("open", path, error))?;
        Ok(thing.apply(path, metadata, policy, &self.names))
    }

    /// The names in the directory `path`, sorted.
    ///
    /// # Errors
    /// [`TargetError`] where it is no directory or cannot be read.
    pub fn list(&self, path: &TreePath) -> Result<Vec<Vec<u8>>, TargetError> {
        self.names_in(path).map_err(|error| TargetError::new("list", path, error))
    }

    /// Writes everything in the target's file system to the disk.
    ///
    /// # Errors
    /// What the system says.
    pub fn flush(&self) -> Result<(), TargetError> {
        let path = TreePath::root();
        let flush = || fs::syncfs(open_readable(&*self.handles.get(&path)?)?);
        flush().map_err(|error| TargetError::new("flush", &path, error))
    }

    fn names_in(&self, path: &TreePath) -> Result<Vec<Vec<u8>>, Errno> {
        let mut names = Vec::new();
        for entry in Dir::new(open_readable(&*self.handles.get(path)?)?)? {
            match entry?.file_name().to_bytes() {
                b"." | b".." => {}
                name => names.push(name.to_vec()),
            }
        }
        names.sort_unstable();
        Ok(names)
    }

    /// The directory that holds `path`, and its name there.
    fn place<'a>(&self, path: &'a TreePath) -> Result<(Arc<OwnedFd>, &'a [u8]), Errno> {
        match path.split_last() {
            Some((above, name)) => Ok((self.handles.get(&above)?, name)),
            None => Ok((self.handles.get(path)?, b".")),
        }
    }

    /// Lets the owner of the directory `path` write there, if that is this user and root's rights do not do it anyway.
    fn open_up(&self, path: &TreePath) -> Result<(), Errno> {
        let directory = self.handles.get(path)?;
        let stat = fs::fstat(&directory)?;
        let me = rustix::process::geteuid();
        if !me.is_root() && stat.st_uid == me.as_raw() && stat.st_mode & 0o700 != 0o700 {
            let mode = Mode::from_raw_mode(stat.st_mode & 0o7777 | 0o700);
            return fs::chmodat(CWD, handles::proc_path(&directory), mode, AtFlags::empty());
        }
        Ok(())
    }
}

/// Makes the target for this user alone; directories above it as any program would.
fn make_target(path: &Path) -> io::Result<()> {
    if let Some(above) = path.parent().filter(|above| !above.as_os_str().is_empty()) {
        std::fs::create_dir_all(above)?;
    }
    match DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        other => other,
    }
}

/// Opens a directory of which there is a handle for reading.
fn open_readable(handle: &OwnedFd) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    fs::openat(handle, ".", flags, Mode::empty())
}
