//! Extended attributes of things that may not be opened.
//!
//! A file system without them has none: that is no error.

use crate::format::{limits::XATTRS_MAX, manifest::Xattr};
use rustix::{
    buffer::spare_capacity,
    fs::{self, XattrFlags},
    io::Errno,
};
use std::{
    ffi::CString,
    io,
    os::fd::{AsRawFd, BorrowedFd, OwnedFd},
};

/// The longest value that Linux takes, in bytes.
const VALUE_MAX: usize = 64 << 10;
/// How often a value that grows between two calls is asked for again.
const RETRIES: usize = 8;

/// What carries the attributes, and how to name it.
pub(super) enum Holder<'a> {
    /// Something opened for reading or writing.
    Open(BorrowedFd<'a>),
    /// A path whose last component is not followed: `/proc/self/fd/5/name`.
    Name(CString),
    /// A path that is the thing itself: `/proc/self/fd/5` of a handle that allows nothing else (`O_PATH`).
    Handle(CString),
}

impl Holder<'_> {
    /// The entry `name` of `directory`, whatever it is, unopened.
    pub(super) fn name(directory: &OwnedFd, name: &[u8]) -> io::Result<Self> {
        let path = [format!("/proc/self/fd/{}/", directory.as_raw_fd()).as_bytes(), name].concat();
        Ok(Self::Name(CString::new(path)?))
    }

    /// What the `O_PATH` handle stands for.
    pub(super) fn handle(handle: &OwnedFd) -> io::Result<Self> {
        Ok(Self::Handle(CString::new(format!("/proc/self/fd/{}", handle.as_raw_fd()))?))
    }

    /// All attributes that may be read, sorted, and the first error met on the way.
    pub(super) fn read(&self) -> (Vec<Xattr>, Option<io::Error>) {
        let mut found = Vec::new();
        let names = match self.list() {
            Ok(names) => names,
            Err(error) => return (found, Some(error)),
        };
        let mut problem = None;
        let mut total = 0;
        for name in names {
            match self.get(&name) {
                Ok(value) => {
                    total += name.len() + value.len();
                    found.push(Xattr { name, value });
                }
                Err(Errno::NODATA) => {}
                Err(error) => problem = problem.or(Some(error.into())),
            }
            if total > XATTRS_MAX {
                return (Vec::new(), Some(io::Error::other("its extended attributes are too large")));
            }
        }
        (found, problem)
    }

    /// Names, sorted.
    pub(super) fn list(&self) -> io::Result<Vec<Vec<u8>>> {
        // Most things have no attributes, and the first call says so.
        let packed = match read_whole(256, || self.list_length(), |buffer| self.list_into(buffer)) {
            Err(Errno::OPNOTSUPP) => Vec::new(),
            other => other?,
        };
        let mut names: Vec<_> =
            packed.split(|&byte| byte == 0).filter(|name| !name.is_empty()).map(<[u8]>::to_vec).collect();
        names.sort_unstable();
        names.dedup();
        Ok(names)
    }

    fn get(&self, name: &[u8]) -> Result<Vec<u8>, Errno> {
        read_whole(0, || self.value_length(name), |buffer| self.value_into(name, buffer))
    }

    pub(super) fn set(&self, xattr: &Xattr) -> Result<(), Errno> {
        let (name, value, flags) = (xattr.name.as_slice(), xattr.value.as_slice(), XattrFlags::empty());
        match self {
            Self::Open(fd) => fs::fsetxattr(fd, name, value, flags),
            Self::Name(path) => fs::lsetxattr(path, name, value, flags),
            Self::Handle(path) => fs::setxattr(path, name, value, flags),
        }
    }

    pub(super) fn remove(&self, name: &[u8]) -> Result<(), Errno> {
        match self {
            Self::Open(fd) => fs::fremovexattr(fd, name),
            Self::Name(path) => fs::lremovexattr(path, name),
            Self::Handle(path) => fs::removexattr(path, name),
        }
    }

    fn list_length(&self) -> Result<usize, Errno> {
        match self {
            Self::Open(fd) => fs::flistxattr_query(fd),
            Self::Name(path) => fs::llistxattr_query(path),
            Self::Handle(path) => fs::listxattr_query(path),
        }
    }

    fn list_into(&self, buffer: &mut Vec<u8>) -> Result<usize, Errno> {
        match self {
            Self::Open(fd) => fs::flistxattr(fd, spare_capacity(buffer)),
            Self::Name(path) => fs::llistxattr(path, spare_capacity(buffer)),
            Self::Handle(path) => fs::listxattr(path, spare_capacity(buffer)),
        }
    }

    fn value_length(&self, name: &[u8]) -> Result<usize, Errno> {
        match self {
            Self::Open(fd) => fs::fgetxattr_query(fd, name),
            Self::Name(path) => fs::lgetxattr_query(path, name),
            Self::Handle(path) => fs::getxattr_query(path, name),
        }
    }

    fn value_into(&self, name: &[u8], buffer: &mut Vec<u8>) -> Result<usize, Errno> {
        match self {
            Self::Open(fd) => fs::fgetxattr(fd, name, spare_capacity(buffer)),
            Self::Name(path) => fs::lgetxattr(path, name, spare_capacity(buffer)),
            Self::Handle(path) => fs::getxattr(path, name, spare_capacity(buffer)),
        }
    }
}

/// Reads what may grow between the question for its length and the answer.
fn read_whole(
    first_guess: usize,
    length: impl Fn() -> Result<usize, Errno>,
    read: impl Fn(&mut Vec<u8>) -> Result<usize, Errno>,
) -> Result<Vec<u8>, Errno> {
    let mut guess = first_guess;
    for _ in 0..RETRIES {
        if guess == 0 {
            guess = length()?;
        }
        if guess == 0 {
            return Ok(Vec::new());
        }
        let mut buffer = Vec::with_capacity(guess.min(VALUE_MAX));
        match read(&mut buffer) {
            Ok(_) => return Ok(buffer),
            Err(Errno::RANGE) => guess = 0,
            Err(error) => return Err(error),
        }
    }
    Err(Errno::RANGE)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    #[test]
    fn attributes_read_back_as_they_were_set_and_sorted() {
        let directory = tempfile::tempdir().unwrap();
        let file = std::fs::File::create(directory.path().join("f")).unwrap();
        let open = Holder::Open(file.as_fd());
        let wanted = [(b"user.a".to_vec(), vec![0; 3000]), (b"user.b".to_vec(), vec![]), (b"user.c".to_vec(), vec![7])];
        let wanted = wanted.map(|(name, value)| Xattr { name, value });
        for xattr in wanted.iter().rev() {
            if open.set(xattr) == Err(Errno::OPNOTSUPP) {
                assert!(open.list().unwrap().is_empty());
                return;
            }
        }
        let directory: OwnedFd = std::fs::File::open(directory.path()).unwrap().into();
        for holder in [open, Holder::name(&directory, b"f").unwrap()] {
            let (found, problem) = holder.read();
            let found: Vec<_> = found.into_iter().filter(|xattr| xattr.name.starts_with(b"user.")).collect();
            assert_eq!(found, wanted);
            assert!(problem.is_none());
        }
    }
}
