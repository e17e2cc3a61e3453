//! Removing: what a restore with `--delete` does not want, and what an interrupted one left behind.

use super::{Target, TargetError, TargetErrorKind, is_leftover};
use crate::format::path::TreePath;
use rustix::{
    fs::{self, AtFlags},
    io::Errno,
};
use std::io;

/// A step of a removal.
enum Step {
    /// Remove it, and what it holds before.
    Whole(TreePath),
    /// Remove the directory, which is empty now.
    Emptied(TreePath),
}

impl Target {
    /// Removes `path` and all below it; nothing there is fine. Links are removed and not followed, and a directory on
    /// which another file system is mounted is not entered.
    ///
    /// # Errors
    /// [`TargetError`] at the first thing that cannot be removed.
    pub fn remove(&self, path: &TreePath) -> Result<(), TargetError> {
        if path.is_root() {
            return Err(TargetError::new("remove", path, Errno::BUSY));
        }
        let mut steps = vec![Step::Whole(path.clone())];
        while let Some(step) = steps.pop() {
            match step {
                Step::Whole(path) => self.remove_or_enter(path, &mut steps)?,
                Step::Emptied(path) => {
                    self.handles.forget(&path);
                    self.unlink(&path, AtFlags::REMOVEDIR).map_err(|error| TargetError::new("remove", &path, error))?;
                }
            }
        }
        Ok(())
    }

    /// Removes what an interrupted restore left in the directory `path`, and says how many.
    ///
    /// # Errors
    /// [`TargetError`] where the directory cannot be read, or something cannot be removed.
    pub fn remove_leftovers(&self, path: &TreePath) -> Result<usize, TargetError> {
        let mut removed = 0;
        for name in self.list(path)?.into_iter().filter(|name| is_leftover(name)) {
            let directory = self.handles.get(path).map_err(|error| TargetError::new("open", path, error))?;
            match fs::unlinkat(&directory, name, AtFlags::empty()) {
                // Nothing that a restore makes: it has only the name.
                Err(Errno::ISDIR) => {}
                Err(error) if error != Errno::NOENT => {
                    return Err(TargetError::new("remove what an interrupted restore left in", path, error));
                }
                _ => removed += 1,
            }
        }
        Ok(removed)
    }

    fn remove_or_enter(&self, path: TreePath, steps: &mut Vec<Step>) -> Result<(), TargetError> {
        let fail = |error| TargetError::new("remove", &path, error);
        match self.unlink(&path, AtFlags::empty()) {
            Err(Errno::ISDIR) => {}
            Ok(()) | Err(Errno::NOENT) => return Ok(()),
            Err(error) => return Err(fail(error)),
        }
        if self.is_mount(&path).map_err(fail)? {
            let source = io::Error::other("another file system is mounted there");
            return Err(TargetError { kind: TargetErrorKind::InTheWay, ..TargetError::with("remove", &path, source) });
        }
        let names = self.names_in(&path).map_err(fail)?;
        steps.push(Step::Emptied(path.clone()));
        for name in names {
            let below = path.join(&name);
            let below = below.map_err(|error| TargetError::with("remove", &path, io::Error::other(error)))?;
            steps.push(Step::Whole(below));
        }
        Ok(())
    }

    fn unlink(&self, path: &TreePath, flags: AtFlags) -> Result<(), Errno> {
        let (directory, name) = self.place(path)?;
        fs::unlinkat(&directory, name, flags)
    }

    fn is_mount(&self, path: &TreePath) -> Result<bool, Errno> {
        let (above, _) = self.place(path)?;
        Ok(fs::fstat(&above)?.st_dev != fs::fstat(self.handles.get(path)?)?.st_dev)
    }
}
