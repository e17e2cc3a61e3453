//! Open handles of directories in the target, the most recently used of them.
//!
//! A handle is opened component by component, and a link among them is an error. Whoever swaps a directory for a link
//! while it is held open wins nothing: the handle stays with the directory.

use crate::format::path::TreePath;
use rustix::{
    fs::{self, Mode, OFlags},
    io::Errno,
};
use std::{
    collections::HashMap,
    os::fd::{AsRawFd, OwnedFd},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// How many directories are held open; a process may have 1,024 descriptors, or as few as 256.
const OPEN_MAX: usize = 128;

/// Handles by path.
#[derive(Debug)]
pub(super) struct Handles {
    root: Arc<OwnedFd>,
    open: Mutex<Open>,
}

#[derive(Debug, Default)]
struct Open {
    handles: HashMap<TreePath, (Arc<OwnedFd>, u64)>,
    /// Counts uses, to tell which was the last.
    uses: u64,
}

impl Handles {
    pub(super) fn new(root: OwnedFd) -> Self {
        Self { root: Arc::new(root), open: Mutex::default() }
    }

    /// The handle of the directory `path`.
    pub(super) fn get(&self, path: &TreePath) -> Result<Arc<OwnedFd>, Errno> {
        let mut missing = Vec::new();
        let mut at = path.clone();
        let mut handle = loop {
            let Some((above, _)) = at.split_last() else { break Arc::clone(&self.root) };
            if let Some(handle) = self.open().take_note(&at) {
                break handle;
            }
            missing.push(std::mem::replace(&mut at, above));
        };
        while let Some(path) = missing.pop() {
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let name = path.split_last().map_or(&b"."[..], |(_, name)| name);
            handle = Arc::new(fs::openat(&handle, name, flags, Mode::empty())?);
            // Of a way longer than what is held, only the end: the rest would push itself out.
            if missing.len() < OPEN_MAX {
                self.open().keep(path, &handle);
            }
        }
        Ok(handle)
    }

    /// Lets go of the directory `path` and all below it.
    pub(super) fn forget(&self, path: &TreePath) {
        self.open().handles.retain(|open, _| !open.starts_with(path));
    }

    fn open(&self) -> MutexGuard<'_, Open> {
        // Nothing is done under this lock that could leave it half changed.
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Open {
    fn take_note(&mut self, path: &TreePath) -> Option<Arc<OwnedFd>> {
        self.uses += 1;
        let (handle, last_use) = self.handles.get_mut(path)?;
        *last_use = self.uses;
        Some(Arc::clone(handle))
    }

    fn keep(&mut self, path: TreePath, handle: &Arc<OwnedFd>) {
        if self.handles.len() >= OPEN_MAX {
            let oldest = self.handles.iter().min_by_key(|(_, (_, last_use))| *last_use).map(|(path, _)| path.clone());
            oldest.map(|path| self.handles.remove(&path));
        }
        self.uses += 1;
        self.handles.insert(path, (Arc::clone(handle), self.uses));
    }
}

/// A path that is the very thing `handle` stands for, for calls that take no handle without rights.
pub(super) fn proc_path(handle: &OwnedFd) -> String {
    format!("/proc/self/fd/{}", handle.as_raw_fd())
}
