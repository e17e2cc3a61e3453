//! What an operation tells while it works. The terminal derives its totals from events; the engine counts into its report only.

use crate::format::path::TreePath;
use serde::Serialize;
use std::sync::Mutex;

/// Takes events, from any thread, quickly.
pub trait Observer: Send + Sync {
    /// Something happened.
    fn event(&self, event: Event<'_>);
}

/// An observer that looks away.
pub struct Silent;

impl Observer for Silent {
    fn event(&self, _: Event<'_>) {}
}

/// Something that happened.
#[derive(Clone, Copy, Debug)]
pub enum Event<'a> {
    /// Another stage of the work begins.
    Stage(Stage),
    /// How much there will be to do in all, as far as is known; may come again with better figures.
    Estimated {
        /// Entries (sync, restore) or objects (verify).
        count: u64,
        /// Bytes of file content (sync, restore) or of objects (verify).
        bytes: u64,
    },
    /// An entry was dealt with.
    Entry {
        /// Its path.
        path: &'a TreePath,
        /// What became of it.
        action: Action,
        /// Bytes of its content.
        bytes: u64,
    },
    /// File content was read from the source.
    Read {
        /// Bytes.
        bytes: u64,
    },
    /// A chunk turned out to be new to the repository.
    NewChunk {
        /// Bytes of plaintext.
        plain: u64,
    },
    /// An object was sent and acknowledged.
    Sent {
        /// Bytes of the object.
        bytes: u64,
    },
    /// An object was fetched and found whole, or a file's bytes were written.
    Done {
        /// Bytes: of file content (restore), of objects (verify).
        bytes: u64,
        /// Objects.
        objects: u64,
    },
    /// Something went wrong that does not stop the work.
    Problem(&'a Problem),
}

/// What is being done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// Connecting to the store.
    Connecting,
    /// Deriving the key from the password.
    Unlocking,
    /// Reading snapshots and manifests.
    ReadingManifest,
    /// Reading, sealing, sending.
    Syncing,
    /// Everything is stored; the snapshot is being written.
    Committing,
    /// Comparing with what is there already.
    Planning,
    /// Fetching and writing.
    Restoring,
    /// Setting directories' metadata, flushing.
    Finishing,
    /// Listing the store.
    Listing,
    /// Reading objects.
    ReadingData,
    /// Comparing with a live tree.
    Comparing,
}

/// What became of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// Not in the last snapshot.
    New,
    /// In the last snapshot, and different.
    Changed,
    /// As in the last snapshot; not read.
    Unchanged,
    /// In the last snapshot under another path; not read.
    Moved,
    /// In the last snapshot and gone now.
    Deleted,
    /// Written (restore), or would be (dry run).
    Restored,
    /// Already as it should be; left alone.
    Kept,
    /// Something else stands in its place and was left alone.
    Skipped,
    /// Removed from the target.
    Removed,
}

/// A finding that does not stop the work.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// What it is about: a path, an object's name. Safe to print.
    pub subject: String,
    /// What is wrong with it. Safe to print.
    pub message: String,
}

impl Problem {
    /// A problem with `subject`, which must be safe to print already.
    pub fn new(subject: impl ToString, message: impl ToString) -> Self {
        Self { subject: subject.to_string(), message: message.to_string() }
    }
}

/// Collects problems for the report, up to a bound, and passes each on.
#[derive(Default)]
pub struct Problems {
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    problems: Vec<Problem>,
    count: u64,
}

/// The most problems that a report lists; the rest are counted.
pub const PROBLEMS_LISTED: usize = 1_000;

impl Problems {
    /// Notes `problem` and tells `observer`.
    pub fn add(&self, observer: &dyn Observer, problem: Problem) {
        observer.event(Event::Problem(&problem));
        let mut kept = self.kept.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        kept.count += 1;
        if kept.problems.len() < PROBLEMS_LISTED {
            kept.problems.push(problem);
        }
    }

    /// How many were noted.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.kept.lock().unwrap_or_else(std::sync::PoisonError::into_inner).count
    }

    /// What was noted: the first thousand, and how many in all.
    #[must_use]
    pub fn take(&self) -> (Vec<Problem>, u64) {
        let kept = std::mem::take(&mut *self.kept.lock().unwrap_or_else(std::sync::PoisonError::into_inner));
        (kept.problems, kept.count)
    }
}
