//! Files that are opened into the work directory.

use super::{
    Broken, ImportError,
    format::{Opener, Record},
    shown,
};
use sha2::{Digest, Sha256};
use std::{
    ffi::OsStr,
    fs::{self, File, FileTimes},
    io::{self, Write},
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
    time::{Duration, UNIX_EPOCH},
};

/// The work directory: made by us, for us alone, so that no link lies in it.
#[derive(Clone)]
pub struct Target(PathBuf);

impl Target {
    /// The directory at `path`.
    pub fn new(path: &Path) -> Self {
        Self(path.to_path_buf())
    }

    /// Begins a file.
    pub fn create(&self, opener: Opener, record: Record) -> Result<Opening, Broken> {
        let path = self.0.join(OsStr::from_bytes(record.path.as_bytes()));
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).map_err(|error| broken(&path, error))?;
        }
        let file = File::create_new(&path).map_err(|error| broken(&path, error))?;
        Ok(Opening { file, path, opener, hasher: Sha256::new(), record, is_done: false })
    }
}

/// A full disk ends it all; that a file stands where a directory belongs is a problem of this file.
fn broken(path: &Path, source: io::Error) -> Broken {
    match source.kind() {
        io::ErrorKind::AlreadyExists | io::ErrorKind::NotADirectory | io::ErrorKind::IsADirectory => {
            Broken::File("another file of the list stands in its place".into())
        }
        io::ErrorKind::InvalidFilename => Broken::File("its name is too long here".into()),
        _ => Broken::Import(ImportError::Target { path: shown(path), source }),
    }
}

/// A file that is being opened; removed again unless it is finished.
pub struct Opening {
    file: File,
    path: PathBuf,
    opener: Opener,
    hasher: Sha256,
    record: Record,
    is_done: bool,
}

impl Opening {
    /// Opens and writes the next piece.
    pub fn add(mut self, mut piece: Vec<u8>) -> Result<Self, Broken> {
        self.opener.open(&mut piece);
        self.hasher.update(&piece);
        self.file.write_all(&piece).map_err(|error| broken(&self.path, error))?;
        Ok(self)
    }

    /// Checks that it is what was sealed, and the file that the record means.
    pub fn finish(mut self) -> Result<(), Broken> {
        if !self.opener.is_whole() {
            return Err(Broken::File("its contents are damaged, or sealed with another password".into()));
        }
        if self.hasher.finalize_reset()[..] != self.record.hash {
            return Err(Broken::File("its contents are those of another file".into()));
        }
        let modified = UNIX_EPOCH + Duration::from_nanos(self.record.mtime);
        let timed = self.file.set_times(FileTimes::new().set_modified(modified));
        timed.map_err(|error| broken(&self.path, error))?;
        self.is_done = true;
        Ok(())
    }
}

impl Drop for Opening {
    fn drop(&mut self) {
        if !self.is_done {
            let _ = fs::remove_file(&self.path);
        }
    }
}
