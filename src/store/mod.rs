//! Stores: dumb services of named objects. An SFTP server, a local directory, memory.
//!
//! A store knows names and bytes; it knows nothing of keys, chunks or snapshots. What decorates a store
//! is a store: [`retry`], [`limit`], and for tests [`fault`] and [`record`]. One suite, [`contract`], holds them
//! all to the promises written at [`Store`].

pub mod contract;
pub mod dir;
pub mod fault;
pub mod foreign;
pub mod limit;
pub mod memory;
pub mod record;
pub mod retry;
pub mod sftp;

use crate::format::{
    limits::OBJECT_MAX,
    name::{Dir, Name},
};
use bytes::Bytes;
use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};

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
    /// At most so many bytes; a longer object is an error and is not read. Room is kept for all of them while the
    /// call is under way, so a known length is better.
    AtMost(u64),
}

impl Length {
    /// The most bytes that are taken.
    #[must_use]
    pub fn most(self) -> u64 {
        match self {
            Length::Exactly(length) | Length::AtMost(length) => length,
        }
    }

    /// Refuses to ask for more than any object has, before anything is allocated for it.
    ///
    /// # Errors
    /// [`ErrorKind::LimitExceeded`].
    pub fn check_demand(self, subject: &impl fmt::Display) -> Result<(), StoreError> {
        if self.most() <= OBJECT_MAX {
            return Ok(());
        }
        let message = format!("no object has more than {OBJECT_MAX} bytes");
        Err(StoreError::new(ErrorKind::LimitExceeded, "read", subject, message))
    }

    /// Refuses a length that is not as demanded; `subject` names the object in the error.
    ///
    /// # Errors
    /// [`ErrorKind::WrongLength`].
    pub fn check(self, actual: u64, subject: &impl fmt::Display) -> Result<(), StoreError> {
        let wanted = match self {
            Length::Exactly(length) if actual != length => format!("exactly {length}"),
            Length::AtMost(length) if actual > length => format!("at most {length}"),
            _ => return Ok(()),
        };
        let message = format!("it has {actual} bytes where {wanted} belong");
        Err(StoreError::new(ErrorKind::WrongLength, "read", subject, message))
    }
}

/// What a store has moved so far: for reports, and for tests that state what a call may cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Calls of [`Store`] that reached the service.
    pub calls: u64,
    /// Answers the service gave; over SFTP several belong to one call.
    pub requests: u64,
    /// Bytes of objects that the service acknowledged.
    pub uploaded: u64,
    /// Bytes of objects that the service delivered.
    pub downloaded: u64,
}

/// Counts [`Traffic`] from many tasks at once.
#[derive(Debug, Default)]
pub(crate) struct TrafficCounter {
    calls: AtomicU64,
    uploaded: AtomicU64,
    downloaded: AtomicU64,
}

impl TrafficCounter {
    pub(crate) fn call(&self) {
        self.calls.fetch_add(1, Relaxed);
    }

    pub(crate) fn uploaded(&self, bytes: usize) {
        self.uploaded.fetch_add(bytes as u64, Relaxed);
    }

    pub(crate) fn downloaded(&self, bytes: usize) {
        self.downloaded.fetch_add(bytes as u64, Relaxed);
    }

    /// The totals; each call is taken for one request.
    pub(crate) fn total(&self) -> Traffic {
        let calls = self.calls.load(Relaxed);
        let (uploaded, downloaded) = (self.uploaded.load(Relaxed), self.downloaded.load(Relaxed));
        Traffic { calls, requests: calls, uploaded, downloaded }
    }
}

/// A service of named, immutable objects.
///
/// Promises, held by the contract suite:
/// - [`put`](Store::put) makes an object whole or not at all: no other call ever sees a part of it. Where the name
///   exists already with the same length, its bytes are kept and the call succeeds; with another length (a torn
///   object) it is replaced.
/// - [`put`](Store::put) into a directory that does not exist is [`ErrorKind::NotFound`].
/// - [`get`](Store::get) returns all bytes of the object or an error, never a part.
/// - Calls may run at once, in any number; the store bounds what it holds in memory.
/// - Dropping a future never corrupts an object; at worst something stays in `tmp/`.
pub trait Store: Send + Sync + 'static {
    /// Where this is, for messages: the address as the user would type it.
    fn address(&self) -> String;

    /// Makes the directories, parents first; those that exist are left as they are.
    /// For [`Dir::Root`] its own missing parents are made too.
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
    /// [`ErrorKind::NotFound`]; [`ErrorKind::WrongLength`] where the length is not as `length` demands;
    /// [`ErrorKind::LimitExceeded`] where `length` demands more than [`OBJECT_MAX`].
    fn get(&self, name: Name, length: Length) -> Pending<'_, Bytes>;

    /// Stores the object, whole, durable as far as the service offers.
    fn put(&self, name: Name, bytes: Bytes) -> Pending<'_, ()>;

    /// Removes the object; that there is none is success.
    fn remove(&self, name: Name) -> Pending<'_, ()>;

    /// Gives an object another name, in one step where the service can; its time stays. Where `to` exists with the same length,
    /// its bytes are kept and `from` is gone; one of another length (a torn object) is replaced. Where there is no `from` and `to`
    /// exists, that is success: an answer may have been lost.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] where neither exists, or `to`'s directory does not.
    fn rename(&self, from: Name, to: Name) -> Pending<'_, ()>;

    /// Bytes free for us, where the service tells.
    fn free_space(&self) -> Pending<'_, Option<u64>>;

    /// Ends the connections. Calls made afterwards fail.
    fn close(&self) -> Pending<'_, ()>;

    /// What has been moved so far; a store that does not count says nothing.
    fn traffic(&self) -> Traffic {
        Traffic::default()
    }

    /// Says that about so many bytes will be moved soon. A store that needs time to make ready for much may begin now.
    fn expect(&self, _bytes: u64) {}
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

impl StoreError {
    /// An error whose message may come from outside: its control characters are escaped here.
    pub fn new(
        kind: ErrorKind,
        operation: &'static str,
        subject: &impl fmt::Display,
        message: impl AsRef<str>,
    ) -> StoreError {
        StoreError { kind, operation, subject: escaped(&subject.to_string()), message: escaped(message.as_ref()) }
    }
}

/// `text` with everything escaped that could move a terminal's cursor or turn its writing direction.
fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for char in text.chars() {
        let reorders = matches!(char, '\u{200e}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        if char.is_control() || reorders { safe.extend(char.escape_default()) } else { safe.push(char) }
    }
    safe
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot {} {}: {}", self.operation, self.subject, self.message)
    }
}

impl std::error::Error for StoreError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_server_says_cannot_move_the_cursor() {
        let error = StoreError::new(ErrorKind::Other, "read", &"a\nb", "\u{1b}[2Jgone\u{202e}");
        assert_eq!(error.to_string(), "cannot read a\\nb: \\u{1b}[2Jgone\\u{202e}");
    }

    #[test]
    fn a_length_is_checked_as_demanded() {
        assert!(Length::Exactly(3).check(3, &"x").is_ok());
        assert!(Length::AtMost(3).check(0, &"x").is_ok());
        for (length, actual) in [(Length::Exactly(3), 2), (Length::Exactly(3), 4), (Length::AtMost(3), 4)] {
            assert_eq!(length.check(actual, &"x").map_err(|error| error.kind), Err(ErrorKind::WrongLength));
        }
    }
}
