//! Handles of directories, of which only so many are open at once.
//!
//! A handle that was closed is opened again through its parents, and is taken only if it is the same directory still.

use super::open_at;
use rustix::fs::{self, OFlags};
use std::{
    collections::VecDeque,
    fmt, io,
    os::fd::OwnedFd,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
};

/// How many directories are open at once; deep trees and long queues of found files must not use up the descriptors that
/// a process may have, which are as few as 1,024, or 256.
const OPEN_MAX: usize = 128;

/// A directory of the source.
pub(super) struct Directory {
    /// The directory above and the name there; the root has none and is never closed.
    parent: Option<(Arc<Directory>, Box<[u8]>)>,
    device: u64,
    inode: u64,
    fd: Mutex<Option<Arc<OwnedFd>>>,
    pool: Arc<Pool>,
}

/// Directories that are open, oldest first.
#[derive(Default)]
struct Pool(Mutex<VecDeque<Weak<Directory>>>);

impl Directory {
    /// The source itself.
    pub(super) fn root(fd: OwnedFd) -> io::Result<Arc<Self>> {
        let stat = fs::fstat(&fd)?;
        let fd = Mutex::new(Some(Arc::new(fd)));
        Ok(Arc::new(Self { parent: None, device: stat.st_dev, inode: stat.st_ino, fd, pool: Arc::default() }))
    }

    /// Opens the directory `name` in this one.
    pub(super) fn child(self: &Arc<Self>, name: &[u8]) -> io::Result<Arc<Self>> {
        let fd = open_at(&*self.handle()?, name, OFlags::DIRECTORY)?;
        let stat = fs::fstat(&fd)?;
        let child = Arc::new(Self {
            parent: Some((Arc::clone(self), name.into())),
            device: stat.st_dev,
            inode: stat.st_ino,
            fd: Mutex::new(Some(Arc::new(fd))),
            pool: Arc::clone(&self.pool),
        });
        self.pool.admit(&child);
        Ok(child)
    }

    /// The file system on which it lies.
    pub(super) fn device(&self) -> u64 {
        self.device
    }

    /// Its open handle, opened again if need be.
    pub(super) fn handle(self: &Arc<Self>) -> io::Result<Arc<OwnedFd>> {
        let mut closed = Vec::new();
        let mut at = self;
        let mut fd = loop {
            if let Some(fd) = &*lock(&at.fd) {
                break Arc::clone(fd);
            }
            let Some((parent, name)) = &at.parent else {
                return Err(io::Error::other("the source was closed"));
            };
            closed.push((at, name));
            at = parent;
        };
        for (directory, name) in closed.into_iter().rev() {
            fd = directory.reopen(&fd, name)?;
        }
        Ok(fd)
    }

    fn reopen(self: &Arc<Self>, parent: &OwnedFd, name: &[u8]) -> io::Result<Arc<OwnedFd>> {
        let fd = Arc::new(open_at(parent, name, OFlags::DIRECTORY)?);
        let stat = fs::fstat(&fd)?;
        if (stat.st_dev, stat.st_ino) != (self.device, self.inode) {
            return Err(io::Error::other("another directory has taken its place"));
        }
        *lock(&self.fd) = Some(Arc::clone(&fd));
        self.pool.admit(self);
        Ok(fd)
    }
}

impl Pool {
    /// Counts `directory` among the open ones, and closes the oldest if they are too many.
    fn admit(&self, directory: &Arc<Directory>) {
        let mut open = lock(&self.0);
        open.push_back(Arc::downgrade(directory));
        let oldest = if open.len() > OPEN_MAX { open.pop_front() } else { None };
        // Dropping a directory may drop its parents: not under the lock.
        drop(open);
        if let Some(oldest) = oldest.and_then(|weak| weak.upgrade()) {
            *lock(&oldest.fd) = None;
        }
    }
}

/// Nothing is done under these locks that could leave a value half changed.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Frees a chain of parents one by one: thousands of drops within each other would use up the stack.
impl Drop for Directory {
    fn drop(&mut self) {
        let mut parent = self.parent.take();
        while let Some(mut directory) = parent.and_then(|(directory, _)| Arc::into_inner(directory)) {
            parent = directory.parent.take();
        }
    }
}

impl fmt::Debug for Directory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Directory").field("device", &self.device).field("inode", &self.inode).finish_non_exhaustive()
    }
}
