//! Files that another program left behind, read by name: what `nfz import-nfreezer` reads. Never written.

use super::{ErrorKind, Pending, StoreError};
use bytes::Bytes;
use std::{
    fs::File,
    io::{self, Read, Seek, SeekFrom},
    path::PathBuf,
};

/// A directory of files that are none of ours.
pub trait Foreign: Send + Sync + 'static {
    /// How long the file is; `None` where there is none.
    fn length<'a>(&'a self, name: &'a str) -> Pending<'a, Option<u64>>;

    /// Exactly `length` bytes from `start` on.
    ///
    /// # Errors
    /// [`ErrorKind::WrongLength`] where the file ends before.
    fn read<'a>(&'a self, name: &'a str, start: u64, length: usize) -> Pending<'a, Bytes>;
}

/// A local one.
pub struct ForeignDir {
    root: PathBuf,
}

impl ForeignDir {
    /// The directory `root`.
    #[must_use]
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }
}

/// The error for a file that ends too early.
pub(super) fn cut_short(name: &str) -> StoreError {
    StoreError::new(ErrorKind::WrongLength, "read", &name, "it ends before its end")
}

fn failed(name: &str, error: &io::Error) -> StoreError {
    let kind = match error.kind() {
        io::ErrorKind::NotFound => ErrorKind::NotFound,
        io::ErrorKind::PermissionDenied => ErrorKind::PermissionDenied,
        io::ErrorKind::UnexpectedEof => return cut_short(name),
        _ => ErrorKind::Other,
    };
    StoreError::new(kind, "read", &name, error.to_string())
}

/// Runs `act` where it may wait for a disk.
async fn blocking<T: Send + 'static>(
    name: &str,
    act: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T, StoreError> {
    let done = tokio::task::spawn_blocking(act).await;
    done.map_err(|error| failed(name, &io::Error::other(error)))?.map_err(|error| failed(name, &error))
}

impl Foreign for ForeignDir {
    fn length<'a>(&'a self, name: &'a str) -> Pending<'a, Option<u64>> {
        let path = self.root.join(name);
        Box::pin(blocking(name, move || match std::fs::metadata(path) {
            Ok(metadata) if metadata.is_file() => Ok(Some(metadata.len())),
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(None),
        }))
    }

    fn read<'a>(&'a self, name: &'a str, start: u64, length: usize) -> Pending<'a, Bytes> {
        let path = self.root.join(name);
        Box::pin(blocking(name, move || {
            let mut file = File::open(path)?;
            file.seek(SeekFrom::Start(start))?;
            let mut bytes = vec![0; length];
            file.read_exact(&mut bytes)?;
            Ok(bytes.into())
        }))
    }
}
