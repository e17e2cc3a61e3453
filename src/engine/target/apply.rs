//! Metadata, given to what has been made.
//!
//! Order matters. A new owner takes away setuid and capabilities, so the owner comes first. Without root's rights a
//! read-only file takes no attributes, so they come before the mode. Access lists and the mode hold the same bits, so the
//! lists come after it. Times come last.

use super::{handles::proc_path, open_readable};
use crate::{
    engine::{
        owners::OwnerNames,
        problem::Problem,
        stat::{Kind, Stat},
        xattr::Holder,
    },
    format::{
        manifest::{Metadata, Owner, Time, Xattr},
        path::TreePath,
    },
};
use rustix::{
    fs::{self, AtFlags, CWD, Gid, Mode, OFlags, Timespec, Timestamps, UTIME_OMIT, Uid},
    io::Errno,
};
use std::{
    fs::File,
    io,
    os::fd::{AsFd, OwnedFd},
};

/// How owners are restored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OwnershipPolicy {
    /// Whether owners are restored at all. Without root's rights only what the system allows is.
    pub restore_owner: bool,
    /// Whether numbers count even where this machine knows the name.
    pub numeric: bool,
}

/// What became of an entry's metadata.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// The owner could not be given, for lack of rights. Setuid and setgid were left off then.
    pub owner_skipped: bool,
    /// What else could not be given.
    pub problems: Vec<Problem>,
}

/// Something that metadata is given to.
pub(super) enum Thing<'a> {
    /// A file that is written.
    File(&'a File),
    /// A directory or file, opened for reading.
    Open(OwnedFd),
    /// Anything else: a handle without rights (`O_PATH`), which no swapped name leads astray.
    Handle(OwnedFd),
}

impl Thing<'static> {
    /// The entry `name` of `directory`, whatever it is; no link is followed.
    pub(super) fn open(directory: &OwnedFd, name: &[u8]) -> io::Result<Self> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let handle = fs::openat(directory, name, flags, Mode::empty())?;
        let is_directory = Stat::new(&fs::fstat(&handle)?)?.kind == Kind::Directory;
        match is_directory.then(|| open_readable(&handle)) {
            Some(Ok(fd)) => Ok(Self::Open(fd)),
            _ => Ok(Self::Handle(handle)),
        }
    }
}

impl Thing<'_> {
    /// Gives it all that `metadata` says and this user may.
    pub(super) fn apply(
        &self,
        path: &TreePath,
        metadata: &Metadata,
        policy: &OwnershipPolicy,
        names: &OwnerNames,
    ) -> Outcome {
        let mut outcome = Outcome::default();
        let mut note = |what, error: io::Error| outcome.problems.push(Problem::new(path, what, error));
        let stat = match self.stat() {
            Ok(stat) => stat,
            Err(error) => {
                note("look at it", error);
                return outcome;
            }
        };
        let owned = self.set_owner(&stat, &metadata.owner, policy, names).unwrap_or_else(|error| {
            note("restore its owner", error);
            Owned::Kept
        });
        let (lists, others): (Vec<_>, Vec<_>) = metadata.xattrs.iter().partition(|xattr| is_access_list(&xattr.name));
        self.remove_other_xattrs(metadata)
            .unwrap_or_else(|error| note("remove attributes that are not its own", error));
        self.set_xattrs(&others, &mut note);
        let mode = if owned == Owned::Given { metadata.mode } else { metadata.mode & 0o1777 };
        if stat.kind != Kind::Symlink {
            self.set_mode(mode).unwrap_or_else(|error| note("restore its mode", error.into()));
        }
        self.set_xattrs(&lists, &mut note);
        self.set_mtime(metadata.mtime).unwrap_or_else(|error| note("restore its time", error.into()));
        outcome.owner_skipped = owned == Owned::Refused;
        outcome
    }

    fn stat(&self) -> io::Result<Stat> {
        Stat::new(&match self {
            Self::File(file) => fs::fstat(file)?,
            Self::Open(fd) | Self::Handle(fd) => fs::fstat(fd)?,
        })
    }

    fn set_owner(&self, stat: &Stat, owner: &Owner, policy: &OwnershipPolicy, names: &OwnerNames) -> io::Result<Owned> {
        let wanted = if policy.numeric { (owner.uid, owner.gid) } else { names.numbers(owner) };
        if wanted == (stat.uid, stat.gid) {
            return Ok(Owned::Given);
        }
        if !policy.restore_owner {
            return Ok(Owned::Kept);
        }
        let (uid, gid) = (Uid::from_raw(wanted.0), Gid::from_raw(wanted.1));
        match self.chown(Some(uid), Some(gid)) {
            Ok(()) => Ok(Owned::Given),
            Err(Errno::PERM | Errno::INVAL) => {
                // A user may still give a file to a group of theirs. That it could not be is counted anyway.
                let _ = self.chown(None, Some(gid));
                Ok(Owned::Refused)
            }
            Err(error) => Err(error.into()),
        }
    }

    fn chown(&self, uid: Option<Uid>, gid: Option<Gid>) -> Result<(), Errno> {
        match self {
            Self::File(file) => fs::fchown(file, uid, gid),
            Self::Open(fd) => fs::fchown(fd, uid, gid),
            Self::Handle(fd) => fs::chownat(fd, "", uid, gid, AtFlags::EMPTY_PATH),
        }
    }

    fn set_mode(&self, mode: u32) -> Result<(), Errno> {
        let mode = Mode::from_raw_mode(mode);
        match self {
            Self::File(file) => fs::fchmod(file, mode),
            Self::Open(fd) => fs::fchmod(fd, mode),
            Self::Handle(fd) => fs::chmodat(CWD, proc_path(fd), mode, AtFlags::empty()),
        }
    }

    fn set_mtime(&self, mtime: Time) -> Result<(), Errno> {
        let times = Timestamps {
            last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
            last_modification: Timespec { tv_sec: mtime.seconds, tv_nsec: i64::from(mtime.nanoseconds) },
        };
        match self {
            Self::File(file) => fs::futimens(file, &times),
            Self::Open(fd) => fs::futimens(fd, &times),
            Self::Handle(fd) => fs::utimensat(CWD, proc_path(fd), &times, AtFlags::empty()),
        }
    }

    fn holder(&self) -> io::Result<Holder<'_>> {
        match self {
            Self::File(file) => Ok(Holder::Open(file.as_fd())),
            Self::Open(fd) => Ok(Holder::Open(fd.as_fd())),
            Self::Handle(fd) => Holder::handle(fd),
        }
    }

    fn set_xattrs(&self, xattrs: &[&Xattr], note: &mut impl FnMut(&'static str, io::Error)) {
        let Ok(holder) = self.holder() else { return };
        for xattr in xattrs {
            if let Err(error) = holder.set(xattr) {
                let name = String::from_utf8_lossy(&xattr.name).escape_debug().to_string();
                note("restore an extended attribute", io::Error::other(format!("{name}: {}", io::Error::from(error))));
            }
        }
    }

    /// Removes what it had before or inherited from its directory. What the system keeps for itself stays.
    fn remove_other_xattrs(&self, metadata: &Metadata) -> io::Result<()> {
        let holder = self.holder()?;
        let wanted = |name: &Vec<u8>| metadata.xattrs.binary_search_by(|xattr| xattr.name.cmp(name)).is_ok();
        for name in holder.list()? {
            if !wanted(&name) && (is_access_list(&name) || name.starts_with(b"user.")) {
                holder.remove(&name)?;
            }
        }
        Ok(())
    }
}

/// What became of an owner.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Owned {
    /// It is the one wanted.
    Given,
    /// It was not to be restored, and is another.
    Kept,
    /// This user may not give it.
    Refused,
}

fn is_access_list(name: &[u8]) -> bool {
    name.starts_with(b"system.posix_acl_")
}
