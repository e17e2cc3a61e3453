//! Stores: dumb services of named objects. An SFTP server, a local directory, memory.
//!
//! A store knows names and bytes; it knows nothing of keys, chunks or snapshots. What decorates a store
//! is a store: [`retry`], [`limit`], and for tests [`fault`]. One suite, [`contract`], holds them all to the
//! promises written at [`Store`].

use crate::format::name::{Dir, Name};
use bytes::Bytes;
use std::{fmt, future::Future, pin::Pin};

/// What a store call returns: a future that may be sent between threads.
pub type Pending<'a, T> = Pin<Box<dyn Future<Output = Result<T, StoreError>> + Send + 'a>>;

/// An object as a listing shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Its name.
    pub name: Name,
    /// Its length in bytes.
    pub length: u64,
    /// When it was written, by the store's clock, in seconds since 1970.
    pub modified: i64,
}

/// How long the object that is asked for may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Length {
    /// Exactly so many bytes; another length is an error.
    Exactly(u64),
    /// At most so many bytes; a longer object is an error and is not read.
    AtMost(u64),
}

/// A service of named, immutable objects.
///
/// Promises, held by the contract suite:
/// - [`put`](Store::put) makes an object whole or not at all: no other call ever sees a part of it. Where the name
///   exists already with the same length, its bytes are kept and the call succeeds; with another length (a torn
///   object) it is replaced.
/// - [`get`](Store::get) returns all bytes of the object or an error, never a part.
/// - Calls may run at once, in any number; the store bounds what it holds in memory.
/// - Dropping a future never corrupts an object; at worst something stays in `tmp/`.
pub trait Store: Send + Sync + 'static {
    /// Where this is, for messages: the address as the user would type it.
    fn address(&self) -> String;

    /// Makes the directories, parents first; those that exist are left as they are.
    fn create_dirs<'a>(&'a self, dirs: &'a [Dir]) -> Pending<'a, ()>;

    /// All objects in `dir`, in no order; files that are none of ours are left out.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] where the directory does not exist.
    fn list(&self, dir: Dir) -> Pending<'_, Vec<Listed>>;

    /// The object as a listing would show it, or `None` if there is none of that name.
    fn stat(&self, name: Name) -> Pending<'_, Option<Listed>>;

    /// The object's bytes.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`]; [`ErrorKind::WrongLength`] where the length is not as `length` demands.
    fn get(&self, name: Name, length: Length) -> Pending<'_, Bytes>;

    /// Stores the object, whole, durable as far as the service offers.
    fn put(&self, name: Name, bytes: Bytes) -> Pending<'_, ()>;

    /// Removes the object; that there is none is success.
    fn remove(&self, name: Name) -> Pending<'_, ()>;

    /// Bytes free for us, where the service tells.
    fn free_space(&self) -> Pending<'_, Option<u64>>;

    /// Ends the connections. Calls made afterwards fail.
    fn close(&self) -> Pending<'_, ()>;
}

/// What went wrong, so far as it changes what is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// No such object or directory.
    NotFound,
    /// Something that is no directory (or no file) stands in the way.
    NotADirectory,
    /// The service does not allow it.
    PermissionDenied,
    /// The service can only be read.
    ReadOnly,
    /// No space, no inodes or no quota left.
    Full,
    /// The object is shorter or longer than it must be.
    WrongLength,
    /// The link was lost or stalled; the same call may succeed on a new one.
    Disconnected,
    /// No connection came about: refused, unknown host, no route.
    Unreachable,
    /// The server does not let this user in.
    AuthenticationFailed,
    /// The server's host key is unknown or has changed.
    HostKeyRefused,
    /// Connected, but what answers does not speak SFTP.
    NoSftp,
    /// A limit on what may come from outside was passed.
    LimitExceeded,
    /// Anything else; the message is all there is.
    Other,
}

impl ErrorKind {
    /// Whether the same call may succeed on a new connection.
    #[must_use]
    pub fn is_transient(self) -> bool {
        matches!(self, ErrorKind::Disconnected | ErrorKind::Unreachable)
    }
}

/// A store call that failed: what was being done, to what, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreError {
    /// The kind of failure.
    pub kind: ErrorKind,
    /// What was being done: "read", "write", "list", "connect to".
    pub operation: &'static str,
    /// What it was done to: an object's path, a directory, an address.
    pub subject: String,
    /// What the service said, its control characters escaped.
    pub message: String,
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot {} {}: {}", self.operation, self.subject, self.message)
    }
}

impl std::error::Error for StoreError {}

pub mod dir;
pub mod limit;
pub mod retry;
pub mod sftp;

fn stub<'a, T>() -> Pending<'a, T> {
    let (subject, message) = (String::from("a stub"), String::new());
    Box::pin(async { Err(StoreError { kind: ErrorKind::Other, operation: "use", subject, message }) })
}

macro_rules! stub_store {
    ($name:ty) => {
        impl Store for $name {
            fn address(&self) -> String {
                String::new()
            }
            fn create_dirs<'a>(&'a self, _: &'a [Dir]) -> Pending<'a, ()> {
                stub()
            }
            fn list(&self, _: Dir) -> Pending<'_, Vec<Listed>> {
                stub()
            }
            fn stat(&self, _: Name) -> Pending<'_, Option<Listed>> {
                stub()
            }
            fn get(&self, _: Name, _: Length) -> Pending<'_, Bytes> {
                stub()
            }
            fn put(&self, _: Name, _: Bytes) -> Pending<'_, ()> {
                stub()
            }
            fn remove(&self, _: Name) -> Pending<'_, ()> {
                stub()
            }
            fn free_space(&self) -> Pending<'_, Option<u64>> {
                stub()
            }
            fn close(&self) -> Pending<'_, ()> {
                stub()
            }
        }
    };
}
stub_store!(dir::DirStore);
stub_store!(limit::LimitStore);
stub_store!(retry::RetryStore);
stub_store!(sftp::SftpStore);
