//! Which bytes of which chunk belong where. Goes through the manifest in path order, a window at a time, so that memory is
//! bounded whatever the tree.

use super::{
    Overwrite, Shared,
    window::{FilePlan, Window},
};
use crate::engine::{
    error::EngineError,
    event::{Action, Event},
    layout::Layout,
    stat::Kind,
    target::{Existing, Target, TargetError, TargetErrorKind},
    tree::Tree,
};
use crate::format::{
    id::ChunkId,
    manifest::{ChunkRow, Content, ContentId, Entry, File, Metadata, Node, Segment},
    path::TreePath,
};
use std::{
    collections::HashMap,
    sync::{Arc, atomic::Ordering::Relaxed},
};
use tokio::sync::mpsc;

/// What is done when all files are written.
#[derive(Default)]
pub struct Leftover {
    /// Directories and their metadata, outermost first.
    pub directories: Vec<(TreePath, Metadata)>,
    /// Hard links to be made: the name that was restored, and the further one.
    pub links: Vec<Link>,
    /// Entries of the target that the snapshot does not have.
    pub extra: Vec<TreePath>,
}

/// A further name of a file.
pub struct Link {
    /// The name it is to have.
    pub path: TreePath,
    /// A name that it has.
    pub existing: TreePath,
    /// Whether what is there already is replaced.
    pub replace: bool,
}

/// Entries of a window at most.
const WINDOW_ENTRIES: usize = 65_536;

/// Goes through the manifest and plans.
pub struct Planner {
    shared: Arc<Shared>,
    tree: Arc<Tree>,
    window: Window,
    fetches: HashMap<ChunkId, (u32, u32)>,
    entries: usize,
    /// Directories above the entry at hand, and whether each was made.
    above: Vec<Above>,
    leftover: Leftover,
    /// First name of each link group, and the content it has.
    links: HashMap<u64, (TreePath, Identity)>,
    /// Where the last part of a file ended: its number, or `None` if it is not restored.
    open_file: Option<(TreePath, Option<u32>, u64)>,
    found: Vec<bool>,
    /// A file in the window of which further parts must come.
    unfinished: Option<u32>,
    last: Option<Entry>,
    /// A segment could not be read, or the snapshot is a checkpoint: not everything that was saved is known.
    has_gap: bool,
}

struct Above {
    entry: Entry,
    state: Made,
    /// Names that the snapshot has in it, where others are to be removed.
    names: Vec<Box<[u8]>>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Made {
    NotYet,
    /// It is there.
    Yes,
    /// It has just been made, and holds nothing yet but what this restore puts there.
    Now,
    Failed,
}

/// What two names of one file must have in common to be linked: links of a group that differ were changing.
#[derive(PartialEq, Eq)]
struct Identity(u64, crate::format::manifest::Time, Held);

/// The content that a name has. Where a pack holds it does not matter: the same data may lie in two.
#[derive(PartialEq, Eq)]
enum Held {
    Nothing,
    Packed(ContentId),
    Chunked(Option<ChunkId>, usize),
}

impl Planner {
    pub fn new(shared: Arc<Shared>, tree: Arc<Tree>, is_complete: bool) -> Self {
        let found = vec![false; shared.options.paths.len()];
        Self {
            shared,
            tree,
            window: Window::default(),
            fetches: HashMap::new(),
            entries: 0,
            above: Vec::new(),
            leftover: Leftover::default(),
            links: HashMap::new(),
            open_file: None,
            found,
            unfinished: None,
            last: None,
            has_gap: !is_complete,
        }
    }

    /// Plans everything that comes, and hands on full windows.
    ///
    /// # Errors
    /// Where the store fails for good; damaged segments are problems.
    pub fn run(
        mut self,
        mut segments: mpsc::Receiver<Result<Segment, EngineError>>,
        windows: &mpsc::Sender<Window>,
    ) -> Result<Leftover, EngineError> {
        while let Some(segment) = segments.blocking_recv() {
            let segment = match segment {
                Ok(segment) => segment,
                Err(error) if is_damage(&error) => {
                    self.shared.problem("the snapshot's manifest", error);
                    self.last = None;
                    self.has_gap = true;
                    self.give_up_unfinished();
                    continue;
                }
                Err(error) => return Err(error),
            };
            if self.shared.options.paths.is_empty() {
                self.tree.check_seam(self.last.as_ref(), &segment)?;
            }
            for entry in &segment.entries {
                self.entry(entry, &segment.chunks);
            }
            self.last = segment.entries.last().cloned();
            if self.entries >= WINDOW_ENTRIES && !self.hand_on(windows) {
                return Ok(self.leftover);
            }
        }
        self.leave_to(&TreePath::root(), true);
        self.give_up_unfinished();
        self.send(windows);
        for (path, _) in self.shared.options.paths.iter().zip(&self.found).filter(|(_, found)| !**found) {
            self.shared.problem(path, "the snapshot has no such path");
        }
        Ok(self.leftover)
    }

    fn hand_on(&mut self, windows: &mpsc::Sender<Window>) -> bool {
        self.entries = 0;
        // A file of several parts goes on in the next window only if it is handed on whole.
        if self.last.as_ref().is_some_and(|last| last.file().is_some_and(|file| file.more)) {
            return true;
        }
        self.send(windows)
    }

    fn send(&mut self, windows: &mpsc::Sender<Window>) -> bool {
        self.fetches.clear();
        windows.blocking_send(std::mem::take(&mut self.window)).is_ok()
    }

    fn entry(&mut self, entry: &Entry, chunks: &[ChunkRow]) {
        self.entries += 1;
        if let Node::File(file) = &entry.node
            && file.part > 0
        {
            return self.next_part(entry, file, chunks);
        }
        self.give_up_unfinished();
        self.leave_to(&entry.path, false);
        if let Some((_, name)) = entry.path.split_last()
            && let Some(above) = self.above.last_mut()
        {
            above.names.push(name.into());
        }
        let is_wanted = self.is_wanted(entry);
        if entry.node == Node::Directory {
            self.above.push(Above { entry: entry.clone(), state: Made::NotYet, names: Vec::new() });
            if is_wanted {
                self.make_above();
            }
            return;
        }
        if is_wanted && self.make_above() && self.make_lost(&entry.path) {
            self.restore(entry, chunks);
        } else {
            self.open_file = Some((entry.path.clone(), None, 0));
        }
    }

    fn is_wanted(&mut self, entry: &Entry) -> bool {
        let mut is_below = self.shared.options.paths.is_empty();
        for (path, found) in self.shared.options.paths.iter().zip(&mut self.found) {
            *found |= entry.path == *path;
            is_below |= entry.path.starts_with(path);
        }
        is_below && self.shared.options.selection.selects(&entry.path, entry.node == Node::Directory)
    }

    /// Leaves the directories that `path` is not in: what they hold in excess is known then.
    fn leave_to(&mut self, path: &TreePath, all: bool) {
        while let Some(above) = self.above.last().filter(|above| all || !path.starts_with(&above.entry.path)) {
            let is_whole = self.shared.options.delete
                && !self.has_gap
                && matches!(above.state, Made::Yes | Made::Now)
                && self.is_restored_whole(&above.entry.path);
            let Some(above) = self.above.pop() else { return };
            if is_whole {
                self.find_extra(&above);
            }
        }
    }

    /// Whether everything in the directory is restored, so that what else is there is in excess.
    fn is_restored_whole(&self, path: &TreePath) -> bool {
        let options = &self.shared.options;
        options.selection.is_everything()
            && (options.paths.is_empty() || options.paths.iter().any(|wanted| path.starts_with(wanted)))
    }

    fn find_extra(&mut self, above: &Above) {
        let Some(target) = &self.shared.target else { return };
        let Ok(names) = target.list(&above.entry.path) else { return };
        for name in names {
            let is_known = above.names.binary_search_by(|known| (**known).cmp(&name)).is_ok();
            if let (false, Ok(path)) = (is_known, above.entry.path.join(&name)) {
                self.leftover.extra.push(path);
            }
        }
    }

    /// Makes the directories above the entry at hand that have not been made. False where one cannot be.
    fn make_above(&mut self) -> bool {
        for at in 0..self.above.len() {
            if self.above[at].state == Made::NotYet {
                let made = self.make_directory(&self.above[at].entry);
                self.above[at].state = made;
                if made != Made::Failed {
                    let entry = &self.above[at].entry;
                    self.leftover.directories.push((entry.path.clone(), entry.metadata.clone()));
                }
            }
            if self.above[at].state == Made::Failed {
                self.shared.counts.skipped.fetch_add(1, Relaxed);
                return false;
            }
        }
        true
    }

    /// Makes the directories above `path` whose entries were in a segment that could not be read. False where that fails.
    fn make_lost(&self, path: &TreePath) -> bool {
        let Some(target) = self.shared.target.as_ref().filter(|_| self.has_gap && !self.shared.options.dry_run) else {
            return true;
        };
        let made = path.split_last().map(|(above, _)| target.create_dir_all(&above));
        match made {
            Some(Err(error)) => {
                self.shared.problem(path, error);
                false
            }
            _ => true,
        }
    }

    fn make_directory(&self, entry: &Entry) -> Made {
        let shared = &self.shared;
        let Some(target) = shared.target.as_ref().filter(|_| !shared.options.dry_run) else {
            self.done(entry, Action::Restored);
            return Made::Yes;
        };
        if !self.make_lost(&entry.path) {
            return Made::Failed;
        }
        match self.try_directory(target, entry) {
            Ok(true) => {
                self.done(entry, Action::Restored);
                Made::Now
            }
            Ok(false) => {
                if let Err(error) = target.remove_leftovers(&entry.path) {
                    shared.problem(&entry.path, error);
                }
                self.done(entry, Action::Kept);
                Made::Yes
            }
            Err(error) => {
                shared.problem(&entry.path, format_args!("{error}; all below it is left out"));
                Made::Failed
            }
        }
    }

    /// Makes a directory; where files may be replaced, also in place of one.
    fn try_directory(&self, target: &Target, entry: &Entry) -> Result<bool, TargetError> {
        match target.create_dir(&entry.path) {
            Err(error)
                if error.kind == TargetErrorKind::InTheWay
                    && !entry.path.is_root()
                    && self.shared.options.overwrite != Overwrite::Never =>
            {
                target.remove(&entry.path)?;
                target.create_dir(&entry.path)
            }
            other => other,
        }
    }

    fn done(&self, entry: &Entry, action: Action) {
        let count = match action {
            Action::Kept => &self.shared.counts.kept,
            Action::Skipped => &self.shared.counts.skipped,
            _ => &self.shared.counts.restored,
        };
        count.fetch_add(1, Relaxed);
        self.shared.observer.event(Event::Entry { path: &entry.path, action, bytes: entry.size() });
    }

    /// Restores anything but a directory, or plans to.
    fn restore(&mut self, entry: &Entry, chunks: &[ChunkRow]) {
        self.open_file = Some((entry.path.clone(), None, 0));
        // Nothing is there yet; were it, it would not be replaced.
        let is_new = self.above.last().is_some_and(|above| above.state == Made::Now && !self.has_gap);
        let target = self.shared.target.as_ref().filter(|_| !is_new);
        let existing = match target.map(|target| target.existing(&entry.path)) {
            None => None,
            Some(Ok(existing)) => existing,
            Some(Err(error)) => return self.shared.problem(&entry.path, error),
        };
        let replace = match self.judge(entry, existing.as_ref()) {
            Verdict::Restore { replace } => replace,
            Verdict::Keep => return self.keep(entry, existing, chunks),
            Verdict::Skip(why) => {
                self.shared.problem(&entry.path, why);
                return self.done(entry, Action::Skipped);
            }
        };
        if self.link(entry, chunks, replace) {
            return;
        }
        match &entry.node {
            Node::File(file) => self.file(entry, file, chunks, replace),
            _ => self.special(entry, replace),
        }
    }

    /// What is to be done where something lies already.
    fn judge(&self, entry: &Entry, existing: Option<&Existing>) -> Verdict {
        let Some(existing) = existing else { return Verdict::Restore { replace: false } };
        let overwrite = self.shared.options.overwrite;
        if existing.stat.kind == Kind::Directory {
            return Verdict::Skip("a directory is in its place, and is kept: move it away, or restore elsewhere");
        }
        match (overwrite, is_same(entry, existing)) {
            (Overwrite::Always, _) | (Overwrite::IfChanged, false) => Verdict::Restore { replace: true },
            (_, true) => Verdict::Keep,
            (Overwrite::Never, false) => {
                Verdict::Skip("something else is in its place, and is kept (--overwrite if-changed would replace it)")
            }
        }
    }

    /// Leaves what matches, but for its mode and owner.
    fn keep(&mut self, entry: &Entry, existing: Option<Existing>, chunks: &[ChunkRow]) {
        self.note_link(entry, chunks);
        let differs = existing.is_some_and(|existing| {
            let stat = existing.stat;
            let owner = &entry.metadata.owner;
            let is_link = stat.kind == Kind::Symlink;
            (stat.mode != entry.metadata.mode && !is_link) || (stat.uid, stat.gid) != (owner.uid, owner.gid)
        });
        if let Some(target) = self.shared.target.as_ref().filter(|_| differs && !self.shared.options.dry_run) {
            match target.set_metadata(&entry.path, &entry.metadata, &self.shared.policy) {
                Ok(outcome) => self.shared.outcome(outcome),
                Err(error) => self.shared.problem(&entry.path, error),
            }
        }
        self.done(entry, Action::Kept);
    }

    /// Notes the first name of a file; true where this is a further one, which is linked at the end.
    fn link(&mut self, entry: &Entry, chunks: &[ChunkRow], replace: bool) -> bool {
        let group = entry.metadata.link_group;
        let known = self.links.get(&group).filter(|(_, identity)| *identity == identity_of(entry, chunks));
        match known {
            Some((existing, _)) if group != 0 => {
                let (path, existing) = (entry.path.clone(), existing.clone());
                self.leftover.links.push(Link { path, existing, replace });
                true
            }
            _ => {
                self.note_link(entry, chunks);
                false
            }
        }
    }

    fn note_link(&mut self, entry: &Entry, chunks: &[ChunkRow]) {
        let group = entry.metadata.link_group;
        if group != 0 {
            let first = || (entry.path.clone(), identity_of(entry, chunks));
            self.links.entry(group).or_insert_with(first);
        }
    }

    fn special(&self, entry: &Entry, replace: bool) {
        let shared = &self.shared;
        if let Some(target) = shared.target.as_ref().filter(|_| !shared.options.dry_run) {
            match target.make_special(entry, &shared.policy, replace) {
                Ok(outcome) => shared.outcome(outcome),
                Err(error) => return shared.lost(&entry.path, error),
            }
        }
        self.done(entry, Action::Restored);
    }

    fn file(&mut self, entry: &Entry, file: &File, chunks: &[ChunkRow], replace: bool) {
        if self.shared.options.dry_run {
            return self.done(entry, Action::Restored);
        }
        let number = self.window.files.len() as u32;
        self.window.files.push(FilePlan {
            path: entry.path.clone(),
            metadata: entry.metadata.clone(),
            size: file.size,
            is_dense: file.extents.is_empty() && !file.more,
            replace,
            torn: file.torn,
            is_lost: false,
            writes: 0,
        });
        self.open_file = Some((entry.path.clone(), Some(number), 0));
        self.part(number, file, chunks);
    }

    /// Gives up a file whose further parts did not come.
    fn give_up_unfinished(&mut self) {
        if let Some(number) = self.unfinished.take() {
            let file = &mut self.window.files[number as usize];
            file.is_lost = true;
            self.shared.lost(&file.path, "not restored: a part of it is missing from the manifest");
            self.open_file = None;
        }
    }

    fn next_part(&mut self, entry: &Entry, file: &File, chunks: &[ChunkRow]) {
        match &self.open_file {
            Some((path, Some(number), _)) if *path == entry.path => self.part(*number, file, chunks),
            // It is not restored, or its first part was in a damaged segment: that has been said.
            _ => {}
        }
    }

    /// Plans the writes of a part of a file.
    fn part(&mut self, number: u32, file: &File, chunks: &[ChunkRow]) {
        let Some((_, _, at)) = &mut self.open_file else { return };
        let mut extents = Layout::new(*at, file);
        match &file.content {
            Content::Empty => {}
            Content::Packed { chunk, offset, length, .. } => {
                let row = chunks[*chunk as usize];
                extents.write(*offset, *length, |write| self.window.add(&mut self.fetches, row, number, write, true));
            }
            Content::Chunked { chunks: rows } => {
                for &chunk in rows {
                    let row = chunks[chunk as usize];
                    extents.write(0, row.plain, |write| self.window.add(&mut self.fetches, row, number, write, false));
                }
            }
        }
        *at = extents.end(file);
        self.unfinished = file.more.then_some(number);
        if !file.more && *at != file.size {
            self.unfinished = Some(number);
            self.give_up_unfinished();
        }
    }
}

enum Verdict {
    Restore { replace: bool },
    Keep,
    Skip(&'static str),
}

/// Whether what lies there is what would be restored, so far as kind, size, time and target of a link tell.
fn is_same(entry: &Entry, existing: &Existing) -> bool {
    let stat = &existing.stat;
    match &entry.node {
        Node::File(file) => stat.kind == Kind::File && stat.size == file.size && stat.mtime == entry.metadata.mtime,
        Node::Symlink { target } => existing.link_target.as_deref() == Some(target),
        node => stat.node().as_ref() == Some(node),
    }
}

fn identity_of(entry: &Entry, chunks: &[ChunkRow]) -> Identity {
    let held = match entry.file().map(|file| &file.content) {
        Some(Content::Packed { id, .. }) => Held::Packed(*id),
        Some(Content::Chunked { chunks: rows }) => {
            let first = rows.first().and_then(|&row| chunks.get(row as usize));
            Held::Chunked(first.map(|row| row.id), rows.len())
        }
        _ => Held::Nothing,
    };
    Identity(entry.size(), entry.metadata.mtime, held)
}

/// Whether an error says that an object is damaged or gone, and not that the store cannot be reached.
pub fn is_damage(error: &EngineError) -> bool {
    use crate::repository::RepositoryError;
    use crate::store::ErrorKind;
    match error {
        EngineError::Repository(RepositoryError::Damaged { .. }) => true,
        EngineError::Repository(RepositoryError::Store(error)) => {
            matches!(
                error.kind,
                ErrorKind::NotFound | ErrorKind::WrongLength | ErrorKind::NotADirectory | ErrorKind::LimitExceeded
            )
        }
        _ => false,
    }
}
