//! The walk merged with the old tree: what is taken over unread, and what must be read.
//!
//! [`decide`] is pure. [`Planner`] runs on a thread of its own and hands everything on in path order.

use super::{
    draft::{Draft, Old},
    old::{OldContent, OldEntries, OldTree, PackedAt, Table},
    read::{Job, Slot},
};
use crate::engine::{
    error::EngineError,
    event::{Action, Event, Observer},
    owners::OwnerNames,
    presence::Presence,
    source::Found,
    stat::{Kind, Stat},
};
use crate::format::{
    manifest::{Content, Entry, File, Node, Time},
    path::TreePath,
};
use std::sync::{Arc, OnceLock, mpsc};

/// How a sync tells what is unchanged.
#[derive(Clone, Copy, Debug, Default)]
pub struct Trust {
    /// Read every file.
    pub always_read: bool,
    /// Another ctime alone is no reason to read a file.
    pub ignore_ctime: bool,
    /// Another inode alone is no reason to read a file, and none to take it for a moved one.
    pub ignore_inode: bool,
}

/// What becomes of something the walk has found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// The old entry is taken over as it is.
    Unchanged,
    /// The old entry's content is taken over; metadata are read anew.
    Touched,
    /// It is read.
    Read,
}

/// Compares what the walk has found with the old entry of the same path.
#[must_use]
pub fn decide(found: &Found, old: &Entry, trust: Trust) -> Decision {
    let Stat { kind, mode, uid, gid, mtime, ctime, inode, .. } = found.stat;
    let metadata = &old.metadata;
    let same_inode = trust.ignore_inode || metadata.inode == inode;
    let same_ctime = trust.ignore_ctime || metadata.ctime == ctime;
    let same_kind = match &old.node {
        Node::File(file) => kind == Kind::File && file.size == found.stat.size && !file.torn && !trust.always_read,
        Node::Symlink { .. } => kind == Kind::Symlink,
        node => found.stat.node().as_ref() == Some(node),
    };
    if !same_kind || metadata.mtime != mtime || !same_inode || (!same_ctime && kind == Kind::File) {
        return Decision::Read;
    }
    let same_metadata = metadata.mode == mode
        && (metadata.owner.uid, metadata.owner.gid) == (uid, gid)
        && metadata.link_group == found.link_group
        && metadata.inode == inode
        && metadata.ctime == ctime;
    if same_metadata { Decision::Unchanged } else { Decision::Touched }
}

/// Merges the walk with the old tree.
pub struct Planner<'a> {
    /// The old tree's entries.
    pub entries: OldEntries,
    /// The old tree itself.
    pub old: Arc<OldTree>,
    /// What the store has, so far as it was listed.
    pub presence: Arc<Presence>,
    /// What moved and was copied; made when first needed.
    pub table: Arc<OnceLock<Table>>,
    /// How unchanged files are told.
    pub trust: Trust,
    /// Told of every entry.
    pub observer: &'a dyn Observer,
    /// Takes everything on, in order.
    pub slots: mpsc::SyncSender<Slot>,
    /// Takes what is to be read.
    pub jobs: mpsc::SyncSender<Job>,
    /// Waits for async work.
    pub runtime: tokio::runtime::Handle,
    /// Looks up owners.
    pub names: OwnerNames,
    /// Drafts not yet handed on.
    pub ready: Vec<Draft>,
    /// Found entries to be read together.
    pub group: Vec<Found>,
    /// Bytes of them.
    pub group_bytes: u64,
}

/// Entries handed on together.
const READY_MAX: usize = 512;
/// Small files read together.
const GROUP_MAX: usize = 128;
/// Bytes of small files read together, but for the last.
pub const GROUP_BYTES_MAX: u64 = 256 << 10;

/// The receiving stage has ended, and why is known there.
pub struct Ended;

type Step = Result<(), Ended>;

impl Planner<'_> {
    /// Deals with what the walk has found next.
    ///
    /// # Errors
    /// [`Ended`] where no one takes it.
    pub fn found(&mut self, found: Found, small: u64) -> Step {
        let old = self.advance_to(&found.path);
        if let Some(old) = &old {
            match self.decide(&found, old) {
                Decision::Unchanged => {
                    self.tell(&found, Action::Unchanged);
                    return self.ready(old.draft());
                }
                Decision::Touched => {
                    self.tell(&found, Action::Changed);
                    return self.touched(found, &old.draft());
                }
                Decision::Read => {}
            }
        }
        self.make_table();
        // Another file than before may have this name now: then it may have been moved here.
        if old.as_ref().is_none_or(|old| old.entry().metadata.inode != found.stat.inode)
            && let Some(draft) = self.moved(&found)
        {
            self.tell(&found, Action::Moved);
            return self.touched(found, &draft);
        }
        self.tell(&found, if old.is_some() { Action::Changed } else { Action::New });
        match found.stat.node() {
            // Nothing of it is read but metadata: among entries that are not read it is not worth a job of its own.
            Some(node) if self.group.is_empty() => {
                let entry = Entry { path: found.path.clone(), metadata: Default::default(), node };
                self.touched(found, &Draft::plain(entry))
            }
            _ => self.read(found, small),
        }
    }

    /// Ends the plan: what is left of the old tree was deleted.
    ///
    /// # Errors
    /// [`Ended`].
    pub fn finish(mut self) -> Step {
        while let Some(old) = self.entries.next() {
            self.deleted(&old);
        }
        self.send_ready()?;
        self.send_group()?;
        self.slots.send(Slot::End).map_err(|_| Ended)
    }

    /// Passes over old entries before `path`, and takes the one at it.
    fn advance_to(&mut self, path: &TreePath) -> Option<Old> {
        while self.entries.peek()?.path < *path {
            let old = self.entries.next()?;
            self.deleted(&old);
        }
        if self.entries.peek()?.path == *path { self.entries.next() } else { None }
    }

    fn deleted(&self, old: &Old) {
        let entry = old.entry();
        self.observer.event(Event::Entry { path: &entry.path, action: Action::Deleted, bytes: entry.size() });
    }

    fn tell(&self, found: &Found, action: Action) {
        let bytes = if found.stat.kind == Kind::File { found.stat.size } else { 0 };
        self.observer.event(Event::Entry { path: &found.path, action, bytes });
    }

    fn decide(&self, found: &Found, old: &Old) -> Decision {
        match decide(found, old.entry(), self.trust) {
            Decision::Read => Decision::Read,
            decision if self.can_rely_on(old) => decision,
            _ => Decision::Read,
        }
    }

    /// Whether every chunk of an old file is there with its length, so far as is known, and in a pack worth keeping.
    fn can_rely_on(&self, old: &Old) -> bool {
        let mut reliable = true;
        for row in old.rows() {
            let is_whole = self.presence.is_reliable(row.id.0, row.stored);
            if !is_whole {
                self.presence.distrust(row.id.0);
            }
            reliable &= is_whole && !self.old.is_sparse(&row);
        }
        reliable
    }

    fn make_table(&self) {
        self.table.get_or_init(|| self.runtime.block_on(self.old.table(Arc::clone(&self.presence))));
    }

    /// The content of the file that was moved here, if it is one.
    fn moved(&self, found: &Found) -> Option<Draft> {
        let Stat { kind, inode, size, mtime, .. } = found.stat;
        if kind != Kind::File || size == 0 || self.trust.always_read || self.trust.ignore_inode {
            return None;
        }
        let content = self.table.get()?.moved(inode, size, mtime)?;
        // A deleted file's inode is given to a new file soon, and tools that set times make the rest alike too.
        // Where no birth time tells them apart, it is read.
        if !found.born().zip(self.old.oldest()).is_some_and(|(born, oldest)| is_born_before(born, oldest)) {
            return None;
        }
        match content {
            OldContent::Packed(at) => self.packed(found, at),
            OldContent::At(place, number) => {
                let old = self.runtime.block_on(self.old.entry(place, number)).ok()?;
                let is_same = old.entry().size() == size && old.entry().metadata.mtime == mtime;
                (is_same && self.can_rely_on(&old)).then(|| old.draft())
            }
        }
    }

    fn packed(&self, found: &Found, at: PackedAt) -> Option<Draft> {
        let is_whole = self.presence.is_reliable(at.row.id.0, at.row.stored);
        let content = Content::Packed { chunk: 0, offset: at.offset, length: at.length, id: at.id };
        let file = File { size: found.stat.size, content, ..File::empty() };
        let entry = Entry { path: found.path.clone(), metadata: Default::default(), node: Node::File(file) };
        is_whole.then(|| Draft { entry, refs: vec![super::draft::Ref::Row(at.row)] })
    }

    /// Hands on content that is known with metadata that are new. Their extended attributes cannot be read for a vanished
    /// file: it is read then, and found to be gone.
    fn touched(&mut self, found: Found, content: &Draft) -> Step {
        let (metadata, problem) = found.metadata(&mut self.names);
        let is_readable = problem.is_none();
        if !is_readable || matches!(content.entry.node, Node::Symlink { .. }) {
            return self.read(found, u64::MAX);
        }
        let entry = Entry { path: found.path, metadata, node: content.entry.node.clone() };
        self.ready(Draft { entry, refs: content.refs.clone() })
    }

    fn ready(&mut self, draft: Draft) -> Step {
        self.send_group()?;
        self.ready.push(draft);
        if self.ready.len() >= READY_MAX { self.send_ready() } else { Ok(()) }
    }

    /// Has something read: alone if it is large, else with what comes before and after it.
    fn read(&mut self, found: Found, small: u64) -> Step {
        self.send_ready()?;
        let size = if found.stat.kind == Kind::File { found.stat.size } else { 0 };
        if size >= small {
            self.send_group()?;
            return self.send_job(vec![found]);
        }
        self.group.push(found);
        self.group_bytes += size;
        let is_full = self.group.len() >= GROUP_MAX || self.group_bytes >= GROUP_BYTES_MAX;
        if is_full { self.send_group() } else { Ok(()) }
    }

    fn send_ready(&mut self) -> Step {
        if self.ready.is_empty() {
            return Ok(());
        }
        self.slots.send(Slot::Ready(std::mem::take(&mut self.ready))).map_err(|_| Ended)
    }

    fn send_group(&mut self) -> Step {
        self.group_bytes = 0;
        if self.group.is_empty() {
            return Ok(());
        }
        let group = std::mem::take(&mut self.group);
        self.send_job(group)
    }

    fn send_job(&mut self, found: Vec<Found>) -> Step {
        let (pieces, receiver) = mpsc::sync_channel(1);
        self.slots.send(Slot::Pending(receiver)).map_err(|_| Ended)?;
        self.jobs.send(Job { found, pieces }).map_err(|_| Ended)
    }
}

/// Whether a file was there at `time`, by its birth time: that may be late by a tick of the system's clock, or by two seconds where a
/// file system keeps no parts of them.
fn is_born_before(born: Time, time: Time) -> bool {
    let nanoseconds = |time: Time| i128::from(time.seconds) * 1_000_000_000 + i128::from(time.nanoseconds);
    let late = if born.nanoseconds == 0 { 2_000_000_000 } else { 20_000_000 };
    nanoseconds(born) + late < nanoseconds(time)
}

impl From<Ended> for EngineError {
    fn from(_: Ended) -> Self {
        EngineError::Internal("a stage of the sync ended early")
    }
}
