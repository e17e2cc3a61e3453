//! What a server tells, in our own words: of files, of room, and why it refused.

/// Why a request failed, as far as the protocol tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    NotFound,
    Denied,
    /// The server cannot do this at all.
    Unsupported,
    /// Refused for a reason that the protocol does not tell.
    Refused,
    /// Something else stands where a file or a directory belongs.
    NotAFile,
    /// The server answers nonsense; the connection lives.
    Nonsense,
    /// The connection is lost.
    Lost,
}

/// A request that failed.
#[derive(Clone, Debug)]
pub(super) struct Failure {
    pub(super) cause: Cause,
    pub(super) message: String,
}

impl Failure {
    pub(super) fn nonsense(message: &str) -> Self {
        Self { cause: Cause::Nonsense, message: message.to_owned() }
    }

    pub(super) fn not_a_file() -> Self {
        Self { cause: Cause::NotAFile, message: "something else is in its place".to_owned() }
    }
}

/// What a server tells of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) kind: FoundKind,
    pub(super) length: Option<u64>,
    /// Seconds since 1970.
    pub(super) modified: i64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FoundKind {
    File,
    Directory,
    Other,
    /// The server does not tell.
    Unknown,
}

impl Found {
    pub(super) fn may_be_file(&self) -> bool {
        matches!(self.kind, FoundKind::File | FoundKind::Unknown)
    }
}

/// The file system a path lies in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Space {
    /// Bytes free for us.
    pub(super) free: u64,
    pub(super) no_inodes: bool,
    pub(super) read_only: bool,
}

/// Names of a directory as they come.
pub(super) struct Names<'a, T, F> {
    pub(super) wanted: &'a F,
    pub(super) most: usize,
    pub(super) found: Vec<(T, Found)>,
    pub(super) seen: usize,
}

impl<T, F: Fn(&str) -> Option<T>> Names<'_, T, F> {
    /// Notes one more; `None` for a name that is not text.
    pub(super) fn note(&mut self, name: Option<&str>, found: impl FnOnce() -> Found) {
        self.seen += 1;
        if let Some(name) = name.and_then(self.wanted).filter(|_| !self.are_too_many()) {
            self.found.push((name, found()));
        }
    }

    pub(super) fn are_too_many(&self) -> bool {
        self.found.len() > self.most
    }

    /// `None` for too many; and whether there was any name at all.
    pub(super) fn all(self) -> (Option<Vec<(T, Found)>>, bool) {
        ((self.found.len() <= self.most).then_some(self.found), self.seen > 0)
    }
}
