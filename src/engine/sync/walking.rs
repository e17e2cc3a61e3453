//! The walk of the source on a thread of its own, some way ahead of the plan.
//!
//! It needs no repository, and so it begins while that is still being connected to and unlocked.

use super::SyncOptions;
use crate::engine::{
    error::EngineError,
    filter::Filter,
    problem::Problem,
    source::{Found, Source, SourceError},
};
use crate::format::path::Escaped;
use std::{cell::RefCell, os::unix::ffi::OsStrExt, path::Path, sync::mpsc, thread};

/// Batches ahead of the plan, and entries in each.
const AHEAD: usize = 128;
const BATCH: usize = 256;

/// A source whose walk has begun. Dropped, it ends.
pub struct Walking {
    pub(super) source: Source,
    pub(super) filter: Filter,
    pub(super) batches: mpsc::Receiver<Batch>,
}

/// What the walk found next.
#[derive(Default)]
pub(super) struct Batch {
    pub found: Vec<Found>,
    pub problems: Vec<Problem>,
    /// Nothing follows.
    pub is_last: bool,
}

impl Walking {
    /// Opens `source`, and begins to walk it as `options` say.
    ///
    /// # Errors
    /// [`EngineError::Source`], [`EngineError::Filter`].
    pub fn begin(source: &Path, options: &SyncOptions) -> Result<Self, EngineError> {
        let source = open(source)?;
        let filter = Filter::new(&options.filter).map_err(|error| EngineError::Filter(error.to_string()))?;
        let (send, batches) = mpsc::sync_channel(AHEAD);
        let (root, walked_by) = (source.clone(), filter.clone());
        // Where there is no thread for it, the sync finds that the walk was lost.
        let _ = thread::Builder::new().spawn(move || walk(&root, walked_by, &send));
        Ok(Self { source, filter, batches })
    }

    /// The same, for a snapshot that records another path than the source's own.
    #[must_use]
    pub fn recorded_as(self, path: Vec<u8>) -> Self {
        Self { source: self.source.recorded_as(path), ..self }
    }
}

fn open(path: &Path) -> Result<Source, EngineError> {
    Source::open(path).map_err(|error| EngineError::Source {
        path: Escaped(path.as_os_str().as_bytes()).to_string(),
        is_missing: matches!(error, SourceError::NotFound(_)),
        why: error.to_string(),
    })
}

fn walk(source: &Source, filter: Filter, batches: &mpsc::SyncSender<Batch>) {
    let problems = RefCell::new(Vec::new());
    let batch = |found, is_last| Batch { found, problems: problems.take(), is_last };
    let mut found = Vec::with_capacity(BATCH);
    for entry in source.walk(filter, |problem| problems.borrow_mut().push(problem)) {
        found.push(entry);
        let is_full = found.len() == BATCH || problems.borrow().len() >= BATCH;
        if is_full && batches.send(batch(std::mem::take(&mut found), false)).is_err() {
            return;
        }
    }
    // No one may be left to take it: then the walk is not wanted.
    let _ = batches.send(batch(found, true));
}
