//! The one file that names the SFTP crate: its sharp edges end here.
//!
//! - Only zero-copy writes and positioned reads are used; what was read is counted by what came, never by what was
//!   asked for.
//! - No future here may be dropped before it is done, for a dropped `open` leaks the server's handle: callers run
//!   these on tasks of their own.
//! - Nothing here bounds memory: callers do.

use super::{
    guard::{GuardedRead, Meter, MeteredWrite},
    told::{Cause, Failure, Found, FoundKind, Names, Space},
};
use bytes::{Bytes, BytesMut};
use futures_util::{
    FutureExt, StreamExt,
    future::{join, join_all},
    stream::SelectAll,
};
use openssh_sftp_client::{
    Error, Sftp, SftpOptions,
    error::SftpErrorKind,
    file::File,
    fs::{DirEntry, Fs},
    metadata::{MetaData, Permissions},
};
use std::{
    io::SeekFrom,
    num::NonZeroUsize,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};
use tokio::io::{AsyncRead, AsyncSeek, AsyncWrite};

/// What OpenSSH takes and gives in one request, in bytes; most servers less.
const PIECE: u32 = 261_120;
/// What every server takes in one write: enough to learn nothing from.
const SURE_PIECE: usize = 16_384;
/// Requests for names of a directory that are under way at once: for the names and their end; after many names.
const LISTINGS_AT_ONCE: [usize; 2] = [2, 16];
const MANY_NAMES: usize = 250;
const RESPONSES_BUFFER: NonZeroUsize = NonZeroUsize::new(64 << 10).unwrap();

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let Error::SftpError(kind, said) = &error else {
            return Self { cause: Cause::Lost, message: error.to_string() };
        };
        let (cause, ours) = match kind {
            SftpErrorKind::NoSuchFile => (Cause::NotFound, "no such file"),
            SftpErrorKind::PermDenied => (Cause::Denied, "permission denied"),
            SftpErrorKind::OpUnsupported => (Cause::Unsupported, "the server does not support this"),
            _ => (Cause::Refused, "the server refused"),
        };
        let said = said.get().0;
        Self { cause, message: if said.is_empty() { ours.to_owned() } else { format!("{ours} ({said})") } }
    }
}

type Outcome<T> = Result<T, Failure>;

impl From<MetaData> for Found {
    fn from(told: MetaData) -> Self {
        let kind = match told.file_type() {
            Some(kind) if kind.is_file() => FoundKind::File,
            Some(kind) if kind.is_dir() => FoundKind::Directory,
            Some(_) => FoundKind::Other,
            None => FoundKind::Unknown,
        };
        let modified = told.modified().map_or(0, |time| i64::from(time.into_raw()));
        Self { kind, length: told.len(), modified }
    }
}

/// One SFTP session.
#[derive(Debug)]
pub(super) struct Client {
    sftp: Sftp,
    lengths: Arc<Lengths>,
    /// It has refused several requests for names at once.
    lists_slowly: AtomicBool,
}

/// How long one request may be; found out by the first that was cut short.
#[derive(Debug)]
struct Lengths {
    /// Zero until known.
    write: AtomicUsize,
    read: AtomicU32,
}

impl Client {
    /// Begins the session over ssh's pipes.
    pub(super) async fn begin<W, R>(stdin: W, stdout: R, meter: &Arc<Meter>) -> Outcome<Client>
    where
        W: AsyncWrite + Send + Unpin + 'static,
        R: AsyncRead + Send + Unpin + 'static,
    {
        let options = SftpOptions::new().flush_interval(Duration::ZERO).responses_buffer_size(RESPONSES_BUFFER);
        let stdin = MeteredWrite::new(stdin, Arc::clone(meter));
        let stdout = GuardedRead::new(stdout, Arc::clone(meter));
        let sftp = Sftp::new(stdin, stdout, options).await?;
        let lengths = Arc::new(Lengths { write: AtomicUsize::new(0), read: AtomicU32::new(PIECE) });
        Ok(Client { sftp, lengths, lists_slowly: AtomicBool::new(false) })
    }

    /// Whether the server offers fsync, atomic rename and free space.
    pub(super) fn offers(&self) -> (bool, bool, bool) {
        (self.sftp.support_fsync(), self.sftp.support_posix_rename(), self.sftp.support_statvfs())
    }

    /// What the server says it can do beyond the protocol.
    pub(super) fn extensions(&self) -> Vec<&'static str> {
        let sftp = &self.sftp;
        let offered = [
            (sftp.support_posix_rename(), "posix-rename@openssh.com"),
            (sftp.support_fsync(), "fsync@openssh.com"),
            (sftp.support_statvfs(), "statvfs@openssh.com"),
            (sftp.support_hardlink(), "hardlink@openssh.com"),
            (sftp.support_expand_path(), "expand-path@openssh.com"),
            (sftp.support_copy(), "copy-data"),
        ];
        offered.into_iter().filter_map(|(is_offered, name)| is_offered.then_some(name)).collect()
    }

    /// Bytes that one write takes, if one was cut short.
    pub(super) fn write_length(&self) -> Option<u64> {
        Some(self.lengths.write.load(Relaxed) as u64).filter(|length| *length > 0)
    }

    fn fs(&self) -> Fs {
        self.sftp.fs()
    }

    /// Creates a file, or empties it.
    pub(super) async fn create(&self, path: &str) -> Outcome<RemoteFile> {
        let file = self.sftp.create(path).await?;
        Ok(RemoteFile { file, lengths: Arc::clone(&self.lengths), fsync: self.sftp.support_fsync() })
    }

    /// Creates a file that must not be there.
    pub(super) async fn create_new(&self, path: &str) -> Outcome<RemoteFile> {
        let file = self.sftp.options().write(true).create_new(true).open(path).await?;
        Ok(RemoteFile { file, lengths: Arc::clone(&self.lengths), fsync: self.sftp.support_fsync() })
    }

    pub(super) async fn open(&self, path: &str) -> Outcome<RemoteFile> {
        let file = self.sftp.open(path).await?;
        Ok(RemoteFile { file, lengths: Arc::clone(&self.lengths), fsync: false })
    }

    /// All names in a directory that `wanted` accepts, with what is told of them; `None` for more than `most`.
    /// Also whether the server told any name at all. Several requests are sent at once, so that it takes few round trips; a
    /// server that cannot have that is asked again, one after the other, now and from then on.
    pub(super) async fn list<T>(
        &self,
        path: &str,
        most: usize,
        wanted: impl Fn(&str) -> Option<T>,
    ) -> Outcome<(Option<Vec<(T, Found)>>, bool)> {
        if !self.lists_slowly.load(Relaxed) {
            match self.list_by(LISTINGS_AT_ONCE, path, most, &wanted).await {
                Err(Failure { cause: Cause::Refused | Cause::Nonsense, .. }) => self.lists_slowly.store(true, Relaxed),
                other => return other,
            }
        }
        self.list_by([1, 1], path, most, &wanted).await
    }

    /// Lists with so many requests at once: at first, and where there are many names.
    async fn list_by<T>(
        &self,
        [few, many]: [usize; 2],
        path: &str,
        most: usize,
        wanted: &impl Fn(&str) -> Option<T>,
    ) -> Outcome<(Option<Vec<(T, Found)>>, bool)> {
        let directory = self.fs().open_dir(path).await?;
        let request = || Box::pin(directory.clone().read_dir());
        let mut names = Names { wanted, most, found: Vec::new(), seen: 0 };
        let mut requests: Vec<_> = (0..few).map(|_| request()).collect();
        let firsts = join_all(requests.iter_mut().map(|request| request.next())).await;
        let is_end = firsts.iter().any(Option::is_none);
        firsts.into_iter().flatten().try_for_each(|entry| note(&mut names, entry))?;
        if is_end {
            // All that was asked for is answered, and one answer was the end: every name is here already.
            for request in &mut requests {
                while let Some(Some(entry)) = request.next().now_or_never() {
                    note(&mut names, entry)?;
                }
            }
            return Ok(names.all());
        }
        let mut entries: SelectAll<_> = requests.into_iter().collect();
        while let Some(entry) = entries.next().await {
            note(&mut names, entry)?;
            if names.seen == MANY_NAMES {
                entries.extend((few..many).map(|_| request()));
            }
            if names.are_too_many() {
                break;
            }
        }
        Ok(names.all())
    }

    /// What is at the path itself, or `None` if nothing is.
    pub(super) async fn lstat(&self, path: &str) -> Outcome<Option<Found>> {
        none_if_missing(self.fs().symlink_metadata(path).await)
    }

    /// What the path leads to, or `None` if nothing.
    pub(super) async fn stat(&self, path: &str) -> Outcome<Option<Found>> {
        none_if_missing(self.fs().metadata(path).await)
    }

    /// Makes a directory for the user alone.
    pub(super) async fn make_dir(&self, path: &str) -> Outcome<()> {
        let mut mine = Permissions::new();
        mine.set_read_by_owner(true).set_write_by_owner(true).set_execute_by_owner(true);
        Ok(self.fs().dir_builder().permissions(mine).create(path).await?)
    }

    pub(super) async fn remove(&self, path: &str) -> Outcome<()> {
        Ok(self.fs().remove_file(path).await?)
    }

    pub(super) async fn remove_dir(&self, path: &str) -> Outcome<()> {
        Ok(self.fs().remove_dir(path).await?)
    }

    /// Renames: over an existing name only where the server can do so in one step, else it is refused.
    pub(super) async fn rename(&self, from: &str, to: &str) -> Outcome<()> {
        Ok(self.fs().rename(from, to).await?)
    }

    /// What the file system of `path` has left; `None` where the server does not tell.
    pub(super) async fn space(&self, path: &str) -> Outcome<Option<Space>> {
        if !self.sftp.support_statvfs() {
            return Ok(None);
        }
        let told = match self.fs().statvfs(path).await.map_err(Failure::from) {
            Err(failure) if failure.cause != Cause::Lost => return Ok(None), // advertised, and yet it fails
            told => told?,
        };
        Ok(Some(Space {
            free: told.bavail.saturating_mul(told.frsize),
            no_inodes: told.files > 0 && told.favail == 0,
            read_only: told.flag & 1 == 1,
        }))
    }
}

fn note<T, F: Fn(&str) -> Option<T>>(names: &mut Names<'_, T, F>, entry: Result<DirEntry, Error>) -> Outcome<()> {
    let entry = entry?;
    names.note(entry.filename().to_str(), || entry.metadata().into());
    Ok(())
}

fn none_if_missing(told: Result<MetaData, Error>) -> Outcome<Option<Found>> {
    match told.map_err(Failure::from) {
        Ok(told) => Ok(Some(told.into())),
        Err(failure) if failure.cause == Cause::NotFound => Ok(None),
        Err(failure) => Err(failure),
    }
}

/// An open file. Dropping it closes it without waiting for the answer.
#[derive(Debug)]
pub(super) struct RemoteFile {
    file: File,
    lengths: Arc<Lengths>,
    fsync: bool,
}

impl RemoteFile {
    /// Writes all bytes from the beginning, every request at once and fsync behind them where it is offered;
    /// returns when all are acknowledged. True if they are on the server's disk now.
    pub(super) async fn write_whole(&self, bytes: &Bytes) -> Outcome<bool> {
        let (first, is_synced) = self.probe(bytes).await?;
        if first == bytes.len() && !bytes.is_empty() {
            return Ok(is_synced);
        }
        let piece = self.lengths.write.load(Relaxed).max(SURE_PIECE);
        let starts = (first..bytes.len()).step_by(piece);
        let writes = starts.map(|start| self.write_at(start, bytes.slice(start..bytes.len().min(start + piece))));
        let (written, synced) = join(join_all(writes), self.sync()).await;
        written.into_iter().collect::<Outcome<()>>().and(synced)
    }

    /// Where the length of a write is not known yet, writes as much as one request takes, and remembers that. Also
    /// whether that is on the server's disk.
    async fn probe(&self, bytes: &Bytes) -> Outcome<(usize, bool)> {
        if bytes.len() <= SURE_PIECE || self.lengths.write.load(Relaxed) > 0 {
            return Ok((0, false));
        }
        let mut file = self.file.clone();
        let (written, synced) = join(file.write_zero_copy(std::slice::from_ref(bytes)), self.sync()).await;
        let written = written?;
        if written == 0 {
            return Err(Failure::nonsense("the server takes no data"));
        }
        if written < bytes.len() {
            self.lengths.write.store(written, Relaxed);
        }
        Ok((written, synced?))
    }

    async fn write_at(&self, start: usize, bytes: Bytes) -> Outcome<()> {
        let mut file = self.file.clone();
        seek(&mut file, start as u64)?;
        Ok(file.write_all_zero_copy(&mut [bytes]).await?)
    }

    /// Whether what was written before is on the disk now.
    async fn sync(&self) -> Outcome<bool> {
        if !self.fsync {
            return Ok(false);
        }
        match self.file.clone().sync_all().await.map_err(Failure::from) {
            Err(failure) if failure.cause == Cause::Unsupported => Ok(false), // advertised, and yet not there
            synced => synced.map(|()| true),
        }
    }

    /// What the server tells of the open file.
    pub(super) async fn told(&self) -> Outcome<Found> {
        Ok(self.file.clone().metadata().await?.into())
    }

    /// Reads `length` bytes from `start`, every request at once; fewer only where the file ends.
    pub(super) async fn read_range(&self, start: u64, length: usize) -> Outcome<BytesMut> {
        let piece = self.lengths.read.load(Relaxed) as usize;
        let mut rest = BytesMut::with_capacity(length);
        let reads = (0..length).step_by(piece).map(|offset| {
            let part = piece.min(length - offset);
            let after = rest.split_off(part);
            self.read_at(start + offset as u64, part, std::mem::replace(&mut rest, after))
        });
        let parts = join_all(reads.collect::<Vec<_>>()).await;
        let mut whole = BytesMut::new();
        for (part, offset) in parts.into_iter().zip((0..length).step_by(piece)) {
            let part = part?;
            let complete = part.len() == piece.min(length - offset);
            whole.unsplit(part); // neighbours in one allocation: nothing is copied
            if !complete {
                break;
            }
        }
        Ok(whole)
    }

    /// What one request gives of up to `length` bytes from `start`; nothing where the file ends.
    pub(super) async fn read_some(&self, start: u64, length: usize) -> Outcome<BytesMut> {
        let length = length.min(self.lengths.read.load(Relaxed) as usize);
        let read = self.read_once(start, length, BytesMut::with_capacity(length)).await?;
        Ok(read.unwrap_or_default())
    }

    /// Fills `part` with `length` bytes from `start`, asking again where an answer is short.
    async fn read_at(&self, start: u64, length: usize, mut part: BytesMut) -> Outcome<BytesMut> {
        while part.len() < length {
            let tail = part.split_off(part.len());
            let Some(read) = self.read_once(start + part.len() as u64, length - part.len(), tail).await? else { break };
            part.unsplit(read);
        }
        Ok(part)
    }

    /// One request: 1 to `length` bytes, or `None` where the file ends.
    async fn read_once(&self, start: u64, length: usize, buffer: BytesMut) -> Outcome<Option<BytesMut>> {
        let mut file = self.file.clone();
        seek(&mut file, start)?;
        let missing = u32::try_from(length).unwrap_or(PIECE).min(PIECE);
        let Some(read) = file.read(missing, buffer).await? else { return Ok(None) };
        // The crate moves the offset by what it asked for: the most the server gives.
        let asked = u32::try_from(file.offset() - start).unwrap_or(PIECE);
        if asked < missing {
            self.lengths.read.fetch_min(asked, Relaxed);
        }
        if read.is_empty() || read.len() > asked as usize {
            return Err(Failure::nonsense("the server answered a read with another length"));
        }
        Ok(Some(read))
    }

    /// Closes the file and waits for the answer, for a server may report a quota only now.
    pub(super) async fn close(self) -> Outcome<()> {
        Ok(self.file.close().await?)
    }
}

fn seek(file: &mut File, offset: u64) -> Outcome<()> {
    let moved = Pin::new(file).start_seek(SeekFrom::Start(offset));
    moved.map_err(|error| Failure::nonsense(&error.to_string()))
}
