//! One connection: the steps of each call, and what their failures mean.

use super::{
    Remote, SftpOptions,
    client::{Client, RemoteFile},
    failure,
    guard::Meter,
    ssh::{CommandLine, Ssh},
    told::{Cause, Failure, Found, FoundKind},
};
use crate::{
    format::{
        limits::LISTED_MAX,
        name::{Dir, Name},
    },
    store::{ErrorKind, Length, Listed, StoreError},
};
use bytes::{Bytes, BytesMut};
use futures_util::future::{join, join_all};
use std::{
    fmt::Display,
    sync::{Arc, atomic::AtomicU64},
};

/// How much of an object of unknown length is asked for at once.
const FIRST_READ: u64 = 256 << 10;

/// A live SFTP session and its ssh.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) client: Client,
    pub(super) ssh: Arc<Ssh>,
    remote: Remote,
}

impl Connection {
    /// Connects. An `extra` connection never asks the user anything.
    pub(super) async fn open(
        options: &SftpOptions,
        line: &CommandLine,
        extra: bool,
        answers: &Arc<AtomicU64>,
    ) -> Result<Connection, StoreError> {
        let address = options.address();
        let meter = Arc::new(Meter::new(Arc::clone(answers)));
        let (ssh, (stdin, stdout)) = Ssh::start(line, extra, Arc::clone(&meter), options.stall_after)
            .map_err(|error| StoreError::new(ErrorKind::Other, "connect to", &address, error.to_string()))?;
        match Client::begin(stdin, stdout, &meter).await {
            Ok(client) => Ok(Connection { client, ssh, remote: options.remote() }),
            Err(failure) => Err(no_connection(&ssh, &failure, &address).await),
        }
    }

    /// Makes the directories, those of one depth at once.
    pub(super) async fn create_dirs(&self, dirs: &[Dir]) -> Result<(), StoreError> {
        let depth = |dir: &Dir| if *dir == Dir::Root { 0 } else { 1 + dir.path().matches('/').count() };
        for level in 0..=2 {
            let made = join_all(dirs.iter().filter(|dir| depth(dir) == level).map(|dir| self.create_dir(*dir))).await;
            made.into_iter().collect::<Result<(), _>>()?;
        }
        Ok(())
    }

    async fn create_dir(&self, dir: Dir) -> Result<(), StoreError> {
        let path = self.remote.dir(dir);
        let made = match self.make_dir(&path).await {
            Err(failure) if failure.cause == Cause::NotFound && dir == Dir::Root => self.make_path(&path).await,
            made => made,
        };
        match made {
            Ok(()) => Ok(()),
            Err(failure) => Err(self.explain("create", &dir, failure).await),
        }
    }

    async fn make_path(&self, path: &str) -> Result<(), Failure> {
        let parents = path.match_indices('/').map(|(end, _)| &path[..end]).filter(|parent| !parent.is_empty());
        for part in parents.chain([path]) {
            self.make_dir(part).await?;
        }
        Ok(())
    }

    /// Makes one directory; that there is one is success.
    async fn make_dir(&self, path: &str) -> Result<(), Failure> {
        let Err(failure) = self.client.make_dir(path).await else { return Ok(()) };
        if failure.cause == Cause::Lost {
            return Err(failure);
        }
        match self.client.stat(path).await? {
            Some(Found { kind: FoundKind::Directory, .. }) => Ok(()),
            Some(_) => Err(Failure::not_a_file()),
            None => Err(failure),
        }
    }

    pub(super) async fn list(&self, dir: Dir) -> Result<Vec<Listed>, StoreError> {
        let path = self.remote.dir(dir);
        let listed = match self.client.list(&path, LISTED_MAX, |file_name| Name::parse(dir, file_name)).await {
            // Some servers open a directory that does not exist, and list nothing, not even "." in it.
            Ok((Some(found), false)) => self.client.stat(&path).await.map(|there| there.map(|_| found)),
            Ok((Some(found), true)) => Ok(Some(found)),
            Ok((None, _)) => {
                return Err(StoreError::new(ErrorKind::LimitExceeded, "list", &dir, "it holds too many objects"));
            }
            Err(failure) => Err(failure),
        };
        match listed {
            Ok(Some(found)) => self.complete(found).await,
            Ok(None) => Err(StoreError::new(ErrorKind::NotFound, "list", &dir, "no such directory")),
            Err(failure) => Err(self.explain("list", &dir, failure).await),
        }
    }

    /// Files with their lengths; asks for those that the listing did not tell.
    async fn complete(&self, found: Vec<(Name, Found)>) -> Result<Vec<Listed>, StoreError> {
        let mut listed = Vec::with_capacity(found.len());
        for (name, found) in found.into_iter().filter(|(_, found)| found.may_be_file()) {
            match found.length {
                Some(length) => listed.push(Listed { name, length, modified: found.modified }),
                None => listed.extend(self.stat(name).await?),
            }
        }
        Ok(listed)
    }

    pub(super) async fn stat(&self, name: Name) -> Result<Option<Listed>, StoreError> {
        match self.client.lstat(&self.remote.object(name)).await {
            Ok(None) => Ok(None),
            Ok(Some(found)) if !found.may_be_file() => Err(not_a_file("look at", &name)),
            Ok(Some(Found { length: Some(length), modified, .. })) => Ok(Some(Listed { name, length, modified })),
            Ok(Some(_)) => Err(StoreError::new(ErrorKind::Other, "look at", &name, "the server tells no length")),
            Err(failure) => Err(self.explain("look at", &name, failure).await),
        }
    }

    /// Two round trips for a known length: open; then all reads and the length at once. Closed without waiting.
    pub(super) async fn get(&self, name: Name, length: Length) -> Result<Bytes, StoreError> {
        let file = match self.client.open(&self.remote.object(name)).await {
            Ok(file) => file,
            Err(failure) => return Err(self.explain("read", &name, failure).await),
        };
        let first = async {
            match length {
                Length::Exactly(bytes) => read_range(&file, 0, bytes).await,
                Length::AtMost(bytes) => file.read_some(0, bytes.min(FIRST_READ) as usize).await,
            }
        };
        let read = join(file.told(), first).await;
        let (told, bytes) = match read {
            (Ok(told), Ok(bytes)) => (told, bytes),
            (Err(failure), _) | (_, Err(failure)) => return Err(self.explain("read", &name, failure).await),
        };
        if !told.may_be_file() {
            return Err(self.explain("read", &name, Failure::not_a_file()).await);
        }
        match rest(&file, length, told.length, bytes).await {
            Ok((bytes, actual)) => length.check(actual, &name).and(Ok(bytes.freeze())),
            Err(failure) => Err(self.explain("read", &name, failure).await),
        }
    }

    /// How long a file is that is none of ours, whatever leads to it.
    pub(super) async fn foreign_length(&self, name: &str) -> Result<Option<u64>, StoreError> {
        match self.client.stat(&self.remote.join(name)).await {
            Ok(found) => Ok(found.filter(Found::may_be_file).and_then(|found| found.length)),
            Err(failure) => Err(self.explain("look at", &name, failure).await),
        }
    }

    /// Bytes of a file that is none of ours; fewer where it ends.
    pub(super) async fn foreign_read(&self, name: &str, start: u64, length: usize) -> Result<Bytes, StoreError> {
        let read = match self.client.open(&self.remote.join(name)).await {
            Ok(file) => file.read_range(start, length).await,
            Err(failure) => Err(failure),
        };
        match read {
            Ok(bytes) => Ok(bytes.freeze()),
            Err(failure) => Err(self.explain("read", &name, failure).await),
        }
    }

    /// Three round trips: open, write and sync, close and rename; four where the server cannot sync. Whether the name is
    /// there already is asked beside the first.
    pub(super) async fn put(&self, name: Name, tmp: Name, bytes: &Bytes) -> Result<(), StoreError> {
        let (path, tmp) = (self.remote.object(name), self.remote.object(tmp));
        let Err(failure) = self.write_and_rename(&path, &tmp, bytes).await else { return Ok(()) };
        // Why is asked first, for removing what was written makes room.
        let error = self.explain("write", &name, failure).await;
        if self.ssh.is_alive() {
            let _ = self.client.remove(&tmp).await; // what cannot be removed now is left for prune
        }
        Err(error)
    }

    async fn write_and_rename(&self, path: &str, tmp: &str, bytes: &Bytes) -> Result<(), Failure> {
        let (there, file) = join(self.client.lstat(path), self.client.create(tmp)).await;
        let file = file?;
        match there? {
            Some(there) if !there.may_be_file() => return Err(Failure::not_a_file()),
            Some(there) if there.length == Some(bytes.len() as u64) => {
                file.close().await?;
                return self.client.remove(tmp).await;
            }
            _ => {}
        }
        if !file.write_whole(bytes).await? {
            file.close().await?;
        } else if self.close_and_rename(file, tmp, path).await? {
            return Ok(());
        }
        self.commit(tmp, path, bytes.len() as u64).await
    }

    /// What is on the server's disk may get its name while it is being closed: one round trip less. False where the name was
    /// refused: a server may not rename what is open.
    async fn close_and_rename(&self, file: RemoteFile, tmp: &str, path: &str) -> Result<bool, Failure> {
        let (closed, renamed) = join(file.close(), self.client.rename(tmp, path)).await;
        closed?;
        match renamed {
            Err(failure) if failure.cause == Cause::Lost => Err(failure),
            renamed => Ok(renamed.is_ok()),
        }
    }

    /// Renames into place. Refused, because plain SFTP renames over nothing, it looks at what is there: an
    /// object of this length is this object; another length is a torn one, and goes.
    async fn commit(&self, tmp: &str, path: &str, length: u64) -> Result<(), Failure> {
        let Err(failure) = self.client.rename(tmp, path).await else { return Ok(()) };
        if failure.cause == Cause::Lost {
            return Err(failure);
        }
        match self.client.lstat(path).await? {
            None => Err(failure),
            Some(there) if !there.may_be_file() => Err(Failure::not_a_file()),
            Some(there) if there.length == Some(length) => self.client.remove(tmp).await,
            Some(_) => {
                self.client.remove(path).await?;
                self.client.rename(tmp, path).await
            }
        }
    }

    pub(super) async fn remove(&self, name: Name) -> Result<(), StoreError> {
        match self.client.remove(&self.remote.object(name)).await {
            Err(failure) if failure.cause != Cause::NotFound => Err(self.explain("remove", &name, failure).await),
            _ => Ok(()),
        }
    }

    /// Two round trips: whether the new name exists already is asked first, for a rename in one step replaces it.
    pub(super) async fn rename(&self, from: Name, to: Name) -> Result<(), StoreError> {
        match self.rename_over(&self.remote.object(from), &self.remote.object(to)).await {
            Ok(()) => Ok(()),
            Err(failure) => Err(self.explain("move", &from, failure).await),
        }
    }

    async fn rename_over(&self, from: &str, to: &str) -> Result<(), Failure> {
        let (source, target) = join(self.client.lstat(from), self.client.lstat(to)).await;
        match (source?, target?) {
            (Some(there), _) | (_, Some(there)) if !there.may_be_file() => Err(Failure::not_a_file()),
            (None, Some(_)) => Ok(()),
            (Some(source), Some(target)) if source.length == target.length => self.remove_path(from).await,
            (source, _) => {
                let length = source.and_then(|source| source.length).unwrap_or(0);
                match self.commit(from, to, length).await {
                    // Someone else may have moved it meanwhile.
                    Err(failure) if failure.cause != Cause::Lost && self.client.lstat(from).await?.is_none() => {
                        self.client.lstat(to).await?.map(drop).ok_or(failure)
                    }
                    done => done,
                }
            }
        }
    }

    async fn remove_path(&self, path: &str) -> Result<(), Failure> {
        match self.client.remove(path).await {
            Err(failure) if failure.cause == Cause::NotFound => Ok(()),
            other => other,
        }
    }

    pub(super) async fn free_space(&self) -> Result<Option<u64>, StoreError> {
        match self.client.space(&self.remote.dir(Dir::Root)).await {
            Ok(space) => Ok(space.map(|space| space.free)),
            Err(failure) => Err(self.explain("ask the free space of", &Dir::Root, failure).await),
        }
    }

    /// Makes an error of a failure: asks the server why it refused to write, and ssh why it is gone.
    async fn explain(&self, operation: &'static str, subject: &impl Display, failure: Failure) -> StoreError {
        let kind = match failure.cause {
            Cause::NotFound => ErrorKind::NotFound,
            Cause::Denied => ErrorKind::PermissionDenied,
            Cause::NotAFile => ErrorKind::NotADirectory,
            Cause::Refused if matches!(operation, "write" | "create") => self.why_refused().await,
            Cause::Refused | Cause::Unsupported | Cause::Nonsense => ErrorKind::Other,
            Cause::Lost => return self.lost(operation, subject, failure).await,
        };
        let found = match kind {
            ErrorKind::Full => "no space is left; ",
            ErrorKind::ReadOnly => "the file system can only be read; ",
            _ => "",
        };
        StoreError::new(kind, operation, subject, format!("{found}{}", failure.message))
    }

    async fn why_refused(&self) -> ErrorKind {
        match self.client.space(&self.remote.dir(Dir::Root)).await {
            Ok(Some(space)) if space.read_only => ErrorKind::ReadOnly,
            Ok(Some(space)) if space.free == 0 || space.no_inodes => ErrorKind::Full,
            _ => ErrorKind::Other,
        }
    }

    async fn lost(&self, operation: &'static str, subject: &impl Display, failure: Failure) -> StoreError {
        self.ssh.kill().await;
        if let Some(refused) = self.ssh.meter.refused() {
            return StoreError::new(ErrorKind::LimitExceeded, operation, subject, refused);
        }
        let stalled = self.ssh.stalled().map(str::to_owned);
        let why = stalled.or_else(|| failure::last_words(&self.ssh.stderr()));
        let message = match why {
            Some(why) => format!("the connection was lost: {why}"),
            None => format!("the connection was lost: {}", failure.message),
        };
        StoreError::new(ErrorKind::Disconnected, operation, subject, message)
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.ssh.finish_soon();
    }
}

fn not_a_file(operation: &'static str, name: &Name) -> StoreError {
    StoreError::new(ErrorKind::NotADirectory, operation, name, Failure::not_a_file().message)
}

async fn read_range(file: &RemoteFile, start: u64, length: u64) -> Result<BytesMut, Failure> {
    let length = usize::try_from(length).map_err(|_| Failure::nonsense("the object is too long for this machine"))?;
    file.read_range(start, length).await
}

/// Reads what is missing after the first read. Returns all bytes, and how many the object has at least: more than
/// `length` allows shows that it is too long.
async fn rest(
    file: &RemoteFile,
    length: Length,
    told: Option<u64>,
    mut bytes: BytesMut,
) -> Result<(BytesMut, u64), Failure> {
    let end = told.unwrap_or(length.most().saturating_add(1));
    if told.is_some_and(|told| length.check(told, &"").is_err()) {
        return Ok((bytes, end));
    }
    let have = bytes.len() as u64;
    if have < end {
        bytes.unsplit(read_range(file, have, end - have).await?);
    }
    if told.is_some_and(|told| told != bytes.len() as u64) {
        return Err(Failure::nonsense("the object changed while it was read"));
    }
    let actual = bytes.len() as u64;
    Ok((bytes, actual))
}

/// Why no connection came about.
async fn no_connection(ssh: &Ssh, failure: &Failure, address: &str) -> StoreError {
    let error = |kind, message: String| StoreError::new(kind, "connect to", &address, message);
    if let Some(text) = ssh.meter.text_before_sftp() {
        ssh.kill().await;
        let message = format!("the server's login script prints text before SFTP begins: {text}");
        return error(ErrorKind::NoSftp, message);
    }
    if let Some(refused) = ssh.meter.refused() {
        ssh.kill().await;
        return error(ErrorKind::LimitExceeded, refused.to_owned());
    }
    let end = ssh.finish().await;
    let (kind, message) = failure::no_connection(&ssh.stderr(), end.code);
    if ssh.stderr().is_empty() && kind == ErrorKind::NoSftp {
        return error(kind, format!("{message} ({})", failure.message));
    }
    error(kind, message)
}
