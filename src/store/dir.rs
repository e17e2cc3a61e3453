//! A store in a local directory: the default for tests of the whole, and removable drives.
//!
//! All file system calls run on tokio's blocking threads, never in an async task.

use super::{ErrorKind, Length, Listed, Pending, Store, StoreError, Traffic, TrafficCounter};
use crate::format::{
    limits::LISTED_MAX,
    name::{Dir, Name},
};
use bytes::Bytes;
use rustix::fs::OFlags;
use std::{
    collections::BTreeSet,
    fmt::Display,
    fs::{self, DirBuilder, File, Metadata, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};
use tokio::sync::Semaphore;

/// How many calls touch the disk at once; more would only hold more memory.
const CALLS_AT_ONCE: usize = 32;

/// A repository in a local directory.
#[derive(Clone)]
pub struct DirStore {
    shared: Arc<Shared>,
}

struct Shared {
    root: PathBuf,
    /// Directories with renames that are not known to be on the disk yet.
    unsynced: Mutex<BTreeSet<Dir>>,
    slots: Semaphore,
    traffic: TrafficCounter,
}

impl DirStore {
    /// A store in `root`, which need not exist before [`Store::create_dirs`]. Touches nothing yet.
    #[must_use]
    pub fn new(root: impl Into<PathBuf>) -> Self {
        let (unsynced, traffic) = (Mutex::default(), TrafficCounter::default());
        let shared = Shared { root: root.into(), unsynced, slots: Semaphore::new(CALLS_AT_ONCE), traffic };
        Self { shared: Arc::new(shared) }
    }

    /// Runs one call on a blocking thread.
    fn call<'a, T: Send + 'static>(
        &'a self,
        act: impl FnOnce(&Shared) -> Result<T, StoreError> + Send + 'static,
    ) -> Pending<'a, T> {
        Box::pin(async move {
            let closed = |message| StoreError::new(ErrorKind::Other, "use", &self.address(), message);
            let _slot = self.shared.slots.acquire().await.map_err(|_| closed("the store is closed".to_owned()))?;
            self.shared.traffic.call();
            let shared = Arc::clone(&self.shared);
            tokio::task::spawn_blocking(move || act(&shared)).await.map_err(|error| closed(error.to_string()))?
        })
    }
}

/// Turns an I/O error into a store error that says what was being done, and to what.
fn failed<'a>(operation: &'static str, subject: &'a impl Display) -> impl FnOnce(io::Error) -> StoreError + 'a {
    move |error| StoreError::new(kind_of(&error), operation, subject, error.to_string())
}

fn kind_of(error: &io::Error) -> ErrorKind {
    use rustix::io::Errno;
    match Errno::from_io_error(error) {
        Some(Errno::NOENT) => ErrorKind::NotFound,
        Some(Errno::NOTDIR | Errno::ISDIR | Errno::LOOP) => ErrorKind::NotADirectory,
        Some(Errno::ACCESS | Errno::PERM) => ErrorKind::PermissionDenied,
        Some(Errno::ROFS) => ErrorKind::ReadOnly,
        Some(Errno::NOSPC | Errno::DQUOT) => ErrorKind::Full,
        _ => ErrorKind::Other,
    }
}

fn not_a_file(operation: &'static str, name: &Name) -> StoreError {
    StoreError::new(ErrorKind::NotADirectory, operation, name, "what is there is no regular file")
}

fn listed(name: Name, found: &Metadata) -> Listed {
    Listed { name, length: found.len(), modified: found.mtime() }
}

impl Shared {
    fn path_of(&self, name: Name) -> PathBuf {
        self.root.join(name.path())
    }

    fn create(&self, dir: Dir) -> io::Result<()> {
        let path = self.root.join(dir.path());
        let made = DirBuilder::new().mode(0o700).recursive(dir == Dir::Root).create(&path);
        match made {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Err(rustix::io::Errno::NOTDIR.into()),
            other => other,
        }
    }

    fn list(&self, dir: Dir) -> Result<Vec<Listed>, StoreError> {
        let mut found = Vec::new();
        for entry in fs::read_dir(self.root.join(dir.path())).map_err(failed("list", &dir))? {
            let entry = entry.map_err(failed("list", &dir))?;
            let Some(name) = entry.file_name().to_str().and_then(|file_name| Name::parse(dir, file_name)) else {
                continue;
            };
            // An object removed since the directory was read is not listed.
            let Some(metadata) = metadata_of(&entry.path()).map_err(failed("list", &dir))? else { continue };
            if metadata.is_file() {
                found.push(listed(name, &metadata));
            }
            if found.len() > LISTED_MAX {
                return Err(StoreError::new(ErrorKind::LimitExceeded, "list", &dir, "it holds too many objects"));
            }
        }
        Ok(found)
    }

    fn stat(&self, name: Name) -> Result<Option<Listed>, StoreError> {
        match metadata_of(&self.path_of(name)).map_err(failed("look at", &name))? {
            Some(metadata) if !metadata.is_file() => Err(not_a_file("look at", &name)),
            found => Ok(found.map(|metadata| listed(name, &metadata))),
        }
    }

    fn get(&self, name: Name, length: Length) -> Result<Bytes, StoreError> {
        length.check_demand(&name)?;
        let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK; // a pipe of that name must not make us wait
        let mut options = OpenOptions::new();
        options.read(true).custom_flags(flags.bits().cast_signed());
        let file = options.open(self.path_of(name)).map_err(failed("read", &name))?;
        let metadata = file.metadata().map_err(failed("read", &name))?;
        if !metadata.is_file() {
            return Err(not_a_file("read", &name));
        }
        length.check(metadata.len(), &name)?;
        let bytes = read_whole(file, metadata.len()).map_err(failed("read", &name))?;
        Length::Exactly(metadata.len()).check(bytes.len() as u64, &name)?;
        self.traffic.downloaded(bytes.len());
        Ok(bytes.into())
    }

    fn put(&self, name: Name, bytes: &[u8]) -> Result<(), StoreError> {
        if self.stat(name)?.is_some_and(|there| there.length == bytes.len() as u64) {
            return Ok(());
        }
        // What makes chunks visible comes after them, also on a disk that loses power.
        let publishes = !matches!(name, Name::Chunk(_) | Name::Tmp(_));
        if publishes {
            self.sync_dirs()?;
        }
        self.write_and_rename(name, bytes)?;
        self.unsynced.lock().unwrap_or_else(PoisonError::into_inner).insert(name.dir());
        if publishes { self.sync_dirs() } else { Ok(()) }
    }

    fn write_and_rename(&self, name: Name, bytes: &[u8]) -> Result<(), StoreError> {
        let tmp = self.path_of(Name::Tmp(random().map_err(failed("write", &name))?));
        let done = write_new(&tmp, bytes).and_then(|()| fs::rename(&tmp, self.path_of(name)));
        if done.is_err() {
            let _ = fs::remove_file(&tmp); // nothing to remove, or what made writing fail forbids this too
        } else {
            self.traffic.uploaded(bytes.len());
        }
        done.map_err(failed("write", &name))
    }

    fn rename(&self, from: Name, to: Name) -> Result<(), StoreError> {
        let (source, target) = (self.stat(from)?, self.stat(to)?);
        match (source, target) {
            (None, Some(_)) => return Ok(()),
            (None, None) => return Err(StoreError::new(ErrorKind::NotFound, "move", &from, "no such object")),
            (Some(source), Some(target)) if source.length == target.length => return self.remove(from),
            _ => {}
        }
        match fs::rename(self.path_of(from), self.path_of(to)) {
            // Someone else may have moved it meanwhile.
            Err(error) if error.kind() == io::ErrorKind::NotFound && self.stat(to)?.is_some() => return Ok(()),
            other => other.map_err(failed("move", &from))?,
        }
        self.unsynced.lock().unwrap_or_else(PoisonError::into_inner).extend([from.dir(), to.dir()]);
        Ok(())
    }

    /// Makes all renames so far durable.
    fn sync_dirs(&self) -> Result<(), StoreError> {
        let dirs = std::mem::take(&mut *self.unsynced.lock().unwrap_or_else(PoisonError::into_inner));
        for dir in dirs {
            let synced = File::open(self.root.join(dir.path())).and_then(|opened| opened.sync_all());
            match synced {
                Err(error) if error.kind() != io::ErrorKind::InvalidInput => return Err(failed("sync", &dir)(error)),
                _ => {} // or a file system that has no such thing
            }
        }
        Ok(())
    }

    fn remove(&self, name: Name) -> Result<(), StoreError> {
        match fs::remove_file(self.path_of(name)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other.map_err(failed("remove", &name)),
        }
    }
}

/// The metadata of what is at `path` itself, or `None` if nothing is.
fn metadata_of(path: &Path) -> io::Result<Option<Metadata>> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        other => other.map(Some),
    }
}

/// Reads what a file of `length` bytes holds; one byte more if it has grown, so that the caller sees it.
fn read_whole(file: File, length: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(usize::try_from(length).unwrap_or(0));
    file.take(length.saturating_add(1)).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn write_new(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// Random bytes for a name in `tmp/`.
pub(super) fn random() -> io::Result<[u8; 16]> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(io::Error::other)?;
    Ok(bytes)
}

impl Store for DirStore {
    fn address(&self) -> String {
        self.shared.root.display().to_string()
    }

    fn create_dirs<'a>(&'a self, dirs: &'a [Dir]) -> Pending<'a, ()> {
        let dirs = dirs.to_vec();
        self.call(move |shared| dirs.iter().try_for_each(|dir| shared.create(*dir).map_err(failed("create", dir))))
    }

    fn list(&self, dir: Dir) -> Pending<'_, Vec<Listed>> {
        self.call(move |shared| shared.list(dir))
    }

    fn stat(&self, name: Name) -> Pending<'_, Option<Listed>> {
        self.call(move |shared| shared.stat(name))
    }

    fn get(&self, name: Name, length: Length) -> Pending<'_, Bytes> {
        self.call(move |shared| shared.get(name, length))
    }

    fn put(&self, name: Name, bytes: Bytes) -> Pending<'_, ()> {
        self.call(move |shared| shared.put(name, &bytes))
    }

    fn remove(&self, name: Name) -> Pending<'_, ()> {
        self.call(move |shared| shared.remove(name))
    }

    fn rename(&self, from: Name, to: Name) -> Pending<'_, ()> {
        self.call(move |shared| shared.rename(from, to))
    }

    fn free_space(&self) -> Pending<'_, Option<u64>> {
        self.call(move |shared| {
            let told = rustix::fs::statvfs(&shared.root).ok();
            Ok(told.map(|told| told.f_bavail.saturating_mul(told.f_frsize)))
        })
    }

    fn close(&self) -> Pending<'_, ()> {
        Box::pin(async {
            if !self.shared.slots.is_closed() {
                self.call(Shared::sync_dirs).await?;
            }
            self.shared.slots.close();
            Ok(())
        })
    }

    fn traffic(&self) -> Traffic {
        self.shared.traffic.total()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

    async fn made() -> (tempfile::TempDir, DirStore) {
        let parent = tempfile::tempdir().unwrap();
        let store = DirStore::new(parent.path().join("deep/repository"));
        store.create_dirs(&Dir::all().collect::<Vec<_>>()).await.unwrap();
        (parent, store)
    }

    #[tokio::test]
    async fn an_object_that_is_a_link_is_never_followed() {
        let (parent, store) = made().await;
        let secret = parent.path().join("secret");
        fs::write(&secret, "secret").unwrap();
        let name = Name::Key([1; 16]);
        symlink(&secret, store.shared.path_of(name)).unwrap();
        let kind = store.get(name, Length::AtMost(100)).await.unwrap_err().kind;
        assert_eq!(kind, ErrorKind::NotADirectory);
        assert_eq!(store.list(Dir::Keys).await.unwrap(), []);
        assert_eq!(store.put(name, Bytes::from_static(b"object")).await.unwrap_err().kind, ErrorKind::NotADirectory);
        assert_eq!(fs::read(&secret).unwrap(), b"secret");
    }

    #[tokio::test]
    async fn a_file_in_the_place_of_the_repository_is_told_from_a_missing_one() {
        let (parent, _) = made().await;
        let file = parent.path().join("file");
        fs::write(&file, "").unwrap();
        let store = DirStore::new(&file);
        assert_eq!(store.list(Dir::Root).await.unwrap_err().kind, ErrorKind::NotADirectory);
        assert_eq!(store.create_dirs(&[Dir::Root]).await.unwrap_err().kind, ErrorKind::NotADirectory);
        let store = DirStore::new(parent.path().join("nothing"));
        assert_eq!(store.list(Dir::Root).await.unwrap_err().kind, ErrorKind::NotFound);
    }

    #[tokio::test]
    async fn nobody_else_can_read_what_is_made() {
        let (_parent, store) = made().await;
        store.put(Name::Repository, Bytes::from_static(b"x")).await.unwrap();
        for path in [store.shared.root.clone(), store.shared.path_of(Name::Repository)] {
            assert_eq!(fs::metadata(path).unwrap().permissions().mode() & 0o077, 0);
        }
    }

    #[tokio::test]
    async fn nothing_is_left_in_tmp_whether_a_put_succeeds_or_fails() {
        let (_parent, store) = made().await;
        store.put(Name::Repository, Bytes::from_static(b"x")).await.unwrap();
        fs::remove_dir(store.shared.root.join("keys")).unwrap();
        let failed = store.put(Name::Key([1; 16]), Bytes::from_static(b"x")).await;
        assert_eq!(failed.unwrap_err().kind, ErrorKind::NotFound);
        assert_eq!(store.list(Dir::Tmp).await.unwrap(), []);
    }
}
