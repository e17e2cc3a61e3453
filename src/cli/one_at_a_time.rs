//! One sync of a source to a repository at a time, on this machine (`--one-at-a-time`).
//!
//! A lock by flock(2) on a file that stays: the system gives it back when the process ends, however it ends.
//! The repository itself needs no lock; two syncs at once would only do the same work twice.

use super::{address::Address, environment::Environment, exit::Exit, failure::Failure};
use rustix::{
    fs::{FlockOperation, flock},
    io::Errno,
};
use std::{
    ffi::OsString,
    fs::{DirBuilder, File, OpenOptions},
    io,
    os::unix::{
        ffi::OsStrExt,
        fs::{DirBuilderExt, OpenOptionsExt},
    },
    path::{Path, PathBuf},
};

/// Held until it is dropped.
pub struct Lock(#[allow(dead_code, reason = "an open file holds it")] File);

/// Takes the lock of `source` and `address`.
///
/// # Errors
/// [`Exit::Busy`] where another process has it.
pub fn take(environment: &Environment, source: &Path, address: &Address) -> Result<Lock, Failure> {
    // The same for all runs of this user, be they started by a terminal, cron or systemd: so not XDG_RUNTIME_DIR.
    let cache = environment.cache.as_ref().ok_or_else(|| {
        Failure::failed("cannot tell whether another run is under way: neither XDG_CACHE_HOME nor HOME is set")
    })?;
    let path = cache.join("nfz").join("locks").join(name(source, address));
    let failed = |error: io::Error| Failure::failed(format!("cannot lock {}: {error}", path.display()));
    let file = open(&path).map_err(failed)?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Lock(file)),
        Err(Errno::WOULDBLOCK) => Err(busy(source, address)),
        Err(error) => Err(failed(error.into())),
    }
}

fn busy(source: &Path, address: &Address) -> Failure {
    let source = super::failure::printable(&source.to_string_lossy());
    Failure::new(Exit::Busy, format!("another run syncs {source} to {address} already; this one leaves it to that"))
        .hint("without --one-at-a-time both would run, which does no harm")
}

fn open(path: &Path) -> io::Result<File> {
    if let Some(directory) = path.parent() {
        DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    }
    OpenOptions::new().create(true).append(true).mode(0o600).open(path)
}

/// A file's name for what is locked, whatever path leads to it.
fn name(source: &Path, address: &Address) -> String {
    let whole = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_path_buf());
    let address = match address {
        Address::Directory(path) => Address::Directory(whole(path)),
        remote @ Address::Sftp(_) => remote.clone(),
    };
    let (source, address): (PathBuf, OsString) = (whole(source), (&address).into());
    let mut hasher = blake3::Hasher::new();
    hasher.update(&(source.as_os_str().len() as u64).to_le_bytes());
    hasher.update(source.as_os_str().as_bytes()).update(address.as_bytes());
    hasher.finalize().to_hex()[..32].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::OsStr;

    fn address(text: &str) -> Address {
        Address::parse(OsStr::new(text)).unwrap()
    }

    #[test]
    fn the_same_source_and_repository_are_locked_once_and_others_are_free() {
        let home = tempfile::tempdir().unwrap();
        let environment = Environment { cache: Some(home.path().into()), ..Environment::default() };
        let take = |source: &str, to: &str| take(&environment, Path::new(source), &address(to));
        let held = take("/usr", "h:d").ok().unwrap();
        assert_eq!(take("/usr/../usr", "h:d").err().unwrap().exit, Exit::Busy);
        assert!(take("/usr", "h:e").is_ok() && take("/", "h:d").is_ok());
        drop(held);
        assert!(take("/usr", "h:d").is_ok());
    }

    #[test]
    fn without_a_home_that_is_said() {
        let taken = take(&Environment::default(), Path::new("/"), &address("h:d"));
        assert!(taken.err().unwrap().message.contains("HOME"));
    }
}
