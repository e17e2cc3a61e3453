//! A regular file of the target while it is written.

use super::{Outcome, OwnershipPolicy, Target, TargetError, apply::Thing, pending::Pending};
use crate::format::{manifest::Metadata, path::TreePath};
use rustix::{
    fs::{self, FallocateFlags, Mode, OFlags},
    io::Errno,
};
use std::{fs::File, io, os::unix::fs::FileExt};

/// Smaller files are not worth a call that reserves their room.
const RESERVE_FROM: u64 = 1 << 20;

/// A file under a temporary name. Dropped without [`finish`](Self::finish), it is removed.
#[derive(Debug)]
pub struct TargetFile {
    file: File,
    size: u64,
    pending: Pending,
}

impl Target {
    /// Begins the file `path` of `size` bytes, all a hole at first and open to this user alone. With `reserve` its room
    /// is taken at once where the file system can do that: for files without holes.
    ///
    /// # Errors
    /// [`TargetError`]; of kind [`Full`](super::TargetErrorKind::Full) where there is no room for it.
    pub fn begin_file(&self, path: &TreePath, size: u64, reserve: bool) -> Result<TargetFile, TargetError> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let make = |directory: &_, name: &str| fs::openat(directory, name, flags, Mode::RUSR | Mode::WUSR);
        let (pending, fd) = Pending::make(self, path, "make the file", make)?;
        let file = TargetFile { file: fd.into(), size, pending };
        file.set_size(reserve).map_err(|error| TargetError::new("make room for", path, error))?;
        Ok(file)
    }
}

impl TargetFile {
    fn set_size(&self, reserve: bool) -> Result<(), Errno> {
        if self.size > 0 {
            fs::ftruncate(&self.file, self.size)?;
        }
        if !reserve || self.size < RESERVE_FROM {
            return Ok(());
        }
        // Asked first: a reservation that fails would fill the disk before it does.
        let room = fs::fstatvfs(&self.file)?;
        if self.size > room.f_bavail.saturating_mul(room.f_frsize) {
            return Err(Errno::NOSPC);
        }
        match fs::fallocate(&self.file, FallocateFlags::empty(), 0, self.size) {
            Err(Errno::NOSPC) => Err(Errno::NOSPC),
            // Reserving is a help, and not every file system can.
            _ => Ok(()),
        }
    }

    /// Writes `bytes` at `offset`. Never past the size that was announced.
    ///
    /// # Errors
    /// [`TargetError`]; of kind [`Full`](super::TargetErrorKind::Full) where there is no room left.
    pub fn write_at(&self, offset: u64, bytes: &[u8]) -> Result<(), TargetError> {
        let fail = |error| TargetError::with("write to", &self.pending.path, error);
        if offset.checked_add(bytes.len() as u64).is_none_or(|end| end > self.size) {
            return Err(fail(io::Error::other("it would become longer than it is to be")));
        }
        self.file.write_all_at(bytes, offset).map_err(fail)
    }

    /// Gives it its owner, mode, attributes and times, and then its name. Without `replace` a file that has the name
    /// already is kept and this is an error. Metadata that cannot be given is in the outcome.
    ///
    /// # Errors
    /// [`TargetError`]; of kind [`Exists`](super::TargetErrorKind::Exists) without `replace`.
    pub fn finish(
        self,
        target: &Target,
        metadata: &Metadata,
        policy: &OwnershipPolicy,
        replace: bool,
    ) -> Result<Outcome, TargetError> {
        let outcome = Thing::File(&self.file).apply(&self.pending.path, metadata, policy, &target.names);
        self.pending.place(replace)?;
        Ok(outcome)
    }
}
