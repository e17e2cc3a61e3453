//! Things under a temporary name, until they are put into place.

use super::{Target, TargetError};
use crate::format::path::TreePath;
use rustix::{
    fs::{self, AtFlags, Mode, OFlags, RenameFlags},
    io::Errno,
};
use std::{
    os::fd::OwnedFd,
    sync::{Arc, atomic::Ordering::Relaxed},
};

const PREFIX: &[u8] = b".nfz-";
const SUFFIX: &[u8] = b".part";
/// How often another random name is tried. One in 2^64 is taken by chance.
const ATTEMPTS: usize = 4;

/// Whether a restore that was interrupted may have left something of this name behind.
#[must_use]
pub fn is_leftover(name: &[u8]) -> bool {
    let random = name.strip_prefix(PREFIX).and_then(|rest| rest.strip_suffix(SUFFIX));
    random.is_some_and(|hex| hex.len() == 16 && hex.iter().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')))
}

/// Something under a temporary name; it is removed if it is not put into place.
#[derive(Debug)]
pub(super) struct Pending {
    pub(super) directory: Arc<OwnedFd>,
    pub(super) temporary: String,
    pub(super) path: TreePath,
    /// The length of the directory's path and its `/`.
    name_at: usize,
    is_placed: bool,
}

impl Pending {
    /// Makes something beside `path` with `make`, which gets the directory and the temporary name.
    pub(super) fn make<T>(
        target: &Target,
        path: &TreePath,
        what: &'static str,
        make: impl Fn(&OwnedFd, &str) -> Result<T, Errno>,
    ) -> Result<(Self, T), TargetError> {
        let fail = |error| TargetError::new(what, path, error);
        if path.is_root() {
            return Err(fail(Errno::ISDIR));
        }
        let (directory, name) = target.place(path).map_err(fail)?;
        let name_at = path.as_bytes().len() - name.len();
        for _ in 0..ATTEMPTS {
            let number = target.next_temporary.fetch_add(1, Relaxed);
            let temporary = format!(".nfz-{number:016x}.part");
            match make(&directory, &temporary) {
                Ok(made) => {
                    let pending = Self { directory, temporary, path: path.clone(), name_at, is_placed: false };
                    return Ok((pending, made));
                }
                Err(Errno::EXIST) => {}
                Err(error) => return Err(fail(error)),
            }
        }
        Err(fail(Errno::EXIST))
    }

    /// Gives it its name. Without `replace` nothing that has the name already is harmed.
    pub(super) fn place(mut self, replace: bool) -> Result<(), TargetError> {
        let placed = if replace { self.rename() } else { self.place_beside() };
        self.is_placed = placed.is_ok();
        placed.map_err(|error| TargetError::new("put into place", &self.path, error))
    }

    fn name(&self) -> &[u8] {
        &self.path.as_bytes()[self.name_at..]
    }

    fn rename(&self) -> Result<(), Errno> {
        fs::renameat(&self.directory, &self.temporary, &self.directory, self.name())?;
        // Renaming one name of a file to another name of it does nothing, by the standard.
        match fs::unlinkat(&self.directory, &self.temporary, AtFlags::empty()) {
            Err(Errno::NOENT) | Ok(()) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Not every file system has every way; each of them is exclusive where there is one.
    fn place_beside(&self) -> Result<(), Errno> {
        let (directory, from) = (&self.directory, &self.temporary);
        match fs::renameat_with(directory, from, directory, self.name(), RenameFlags::NOREPLACE) {
            Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => {}
            other => return other,
        }
        match self.place_by_link() {
            Err(Errno::PERM | Errno::NOSYS | Errno::NOTSUP | Errno::MLINK) => self.place_by_claim(),
            other => other,
        }
    }

    fn place_by_link(&self) -> Result<(), Errno> {
        let (directory, from) = (&self.directory, &self.temporary);
        fs::linkat(directory, from, directory, self.name(), AtFlags::empty())?;
        fs::unlinkat(directory, from, AtFlags::empty())
    }

    /// Claims the name with an empty file, which nobody else made, and replaces that.
    fn place_by_claim(&self) -> Result<(), Errno> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        fs::openat(&self.directory, self.name(), flags, Mode::RUSR | Mode::WUSR)?;
        self.rename()
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        if !self.is_placed {
            // What cannot be removed now is a leftover that the next restore removes.
            let _ = fs::unlinkat(&self.directory, &self.temporary, AtFlags::empty());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pending(target: &Target, name: &str) -> Pending {
        let path = TreePath::new(name.as_bytes()).unwrap();
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL;
        Pending::make(target, &path, "make", |directory, name| fs::openat(directory, name, flags, Mode::RUSR))
            .unwrap()
            .0
    }

    #[test]
    fn no_way_of_placing_harms_what_is_there() {
        type Way = fn(&Pending) -> Result<(), Errno>;
        let ways: [Way; 3] = [Pending::place_beside, Pending::place_by_link, Pending::place_by_claim];
        for (number, way) in ways.into_iter().enumerate() {
            let directory = tempfile::tempdir().unwrap();
            let target = Target::open(directory.path(), false).unwrap();
            std::fs::write(directory.path().join("old"), b"old").unwrap();
            assert_eq!(way(&pending(&target, "old")), Err(Errno::EXIST), "way {number}");
            assert_eq!(std::fs::read(directory.path().join("old")).unwrap(), b"old");
            std::os::unix::fs::symlink("nowhere", directory.path().join("link")).unwrap();
            assert_eq!(way(&pending(&target, "link")), Err(Errno::EXIST), "way {number}");
            assert_eq!(way(&pending(&target, "new")), Ok(()), "way {number}");
            assert_eq!(target.list(&TreePath::root()).unwrap(), [&b"link"[..], b"new", b"old"]);
        }
    }

    #[test]
    fn only_names_that_a_restore_makes_are_leftovers() {
        assert!(is_leftover(b".nfz-0123456789abcdef.part"));
        for name in [&b".nfz-0123456789abcde.part"[..], b".nfz-0123456789abcdeF.part", b".nfz-.part", b"x.part", b""] {
            assert!(!is_leftover(name));
        }
    }
}
