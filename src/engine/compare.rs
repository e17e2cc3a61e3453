//! A live tree compared with a snapshot: content, metadata, what is missing and what is in excess.

use super::{
    error::EngineError,
    event::{Event, Observer, Problem, Problems},
    filter::{Filter, FilterOptions, Selection},
    layout::Layout,
    owners::OwnerNames,
    source::{Found, Source, SourceFile},
    stat::Kind,
    target,
    tree::Tree,
};
use crate::format::{
    id::ChunkId,
    keys::Keys,
    manifest::{ChunkRow, Content, Entry, File, Node, Segment},
    path::{Escaped, TreePath},
};
use crate::repository::Repository;
use futures_util::StreamExt;
use rayon::prelude::*;
use serde::Serialize;
use std::{
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};
use tokio::sync::mpsc;

/// What is compared.
#[derive(Clone, Debug)]
pub struct CompareOptions {
    /// Only these and what lies below them; everything if there are none.
    pub paths: Vec<TreePath>,
    /// Only what this selects.
    pub selection: Selection,
    /// Only the content of files and links that both have: what a restore answers for.
    pub content_only: bool,
}

/// Something that differs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// The entry, safe to print.
    pub path: String,
    /// What differs.
    pub what: String,
}

/// What a comparison found.
#[derive(Clone, Debug, Default)]
pub struct Compared {
    /// Entries that are the same.
    pub same: u64,
    /// Entries that differ; at most a thousand.
    pub differences: Vec<Difference>,
    /// How many differ in all.
    pub difference_count: u64,
    /// What could not be compared.
    pub problems: Vec<Problem>,
    /// How many in all.
    pub problem_count: u64,
}

/// Differences that are listed.
const LISTED: usize = 1_000;
/// Files compared together.
const BATCH: usize = 256;

/// Compares the directory `live` with the manifest `tree`.
///
/// # Errors
/// Where either cannot be read at all.
pub async fn compare(
    repository: Arc<Repository>,
    tree: &Arc<Tree>,
    live: &Path,
    options: CompareOptions,
    observer: Arc<dyn Observer>,
) -> Result<Compared, EngineError> {
    use std::os::unix::ffi::OsStrExt;
    let source = Source::open(live).map_err(|error| EngineError::Source {
        path: Escaped(live.as_os_str().as_bytes()).to_string(),
        is_missing: matches!(error, super::source::SourceError::NotFound(_)),
        why: error.to_string(),
    })?;
    let (segments_in, segments) = mpsc::channel(4);
    let feeding = tokio::spawn(feed(Arc::clone(tree), segments_in));
    let comparing =
        tokio::task::spawn_blocking(move || Comparison::new(repository, options, observer).run(&source, segments));
    let compared = comparing.await.map_err(|_| EngineError::Internal("the comparison was lost"))?;
    feeding.abort();
    compared
}

async fn feed(tree: Arc<Tree>, sender: mpsc::Sender<Result<Segment, EngineError>>) {
    let mut segments = Box::pin(tree.segments(0..tree.len()));
    while let Some((_, segment)) = segments.next().await {
        if sender.send(segment).await.is_err() {
            return;
        }
    }
}

struct Comparison {
    repository: Arc<Repository>,
    options: CompareOptions,
    observer: Arc<dyn Observer>,
    problems: Problems,
    compared: Mutex<Compared>,
    names: OwnerNames,
    batch: Vec<Pair>,
}

/// A saved entry, all its parts, beside the live one.
struct Pair {
    found: Found,
    entry: Entry,
    parts: Vec<(File, Arc<[ChunkRow]>)>,
}

impl Comparison {
    fn new(repository: Arc<Repository>, options: CompareOptions, observer: Arc<dyn Observer>) -> Self {
        Self {
            repository,
            options,
            observer,
            problems: Problems::default(),
            compared: Mutex::default(),
            names: OwnerNames::load(),
            batch: Vec::new(),
        }
    }

    fn run(
        mut self,
        source: &Source,
        mut segments: mpsc::Receiver<Result<Segment, EngineError>>,
    ) -> Result<Compared, EngineError> {
        let filter = Filter::new(&FilterOptions::default()).map_err(|error| EngineError::Filter(error.to_string()))?;
        let mut unread = Vec::new();
        let mut walk = source.walk(filter, |problem| unread.push(problem)).peekable();
        while let Some(segment) = segments.blocking_recv() {
            let segment = segment?;
            let chunks: Arc<[ChunkRow]> = segment.chunks.into();
            for entry in segment.entries {
                if let Some(file) = entry.file().filter(|file| file.part > 0) {
                    self.next_part(&entry.path, file.clone(), &chunks);
                    continue;
                }
                self.settle_if_full();
                while let Some(found) = walk.next_if(|found| found.path < entry.path) {
                    self.extra(&found);
                }
                match walk.next_if(|found| found.path == entry.path) {
                    Some(found) => self.pair(found, entry, &chunks),
                    None => self.missing(&entry),
                }
            }
        }
        for found in walk {
            self.extra(&found);
        }
        self.settle();
        for problem in unread {
            self.problems.add(&*self.observer, problem.into());
        }
        let mut compared = std::mem::take(&mut *self.lock());
        (compared.problems, compared.problem_count) = self.problems.take();
        Ok(compared)
    }

    fn is_wanted(&self, path: &TreePath, is_dir: bool) -> bool {
        let paths = &self.options.paths;
        (paths.is_empty() || paths.iter().any(|wanted| path.starts_with(wanted)))
            && self.options.selection.selects(path, is_dir)
    }

    fn extra(&self, found: &Found) {
        let is_leftover = found.path.split_last().is_some_and(|(_, name)| target::is_leftover(name));
        if !self.options.content_only && !is_leftover && self.is_wanted(&found.path, found.stat.kind == Kind::Directory)
        {
            self.differs(&found.path, "it is not in the snapshot");
        }
    }

    fn missing(&self, entry: &Entry) {
        if !self.options.content_only && self.is_wanted(&entry.path, entry.node == Node::Directory) {
            self.differs(&entry.path, "it is missing");
        }
    }

    fn differs(&self, path: &TreePath, what: impl ToString) {
        let mut compared = self.lock();
        compared.difference_count += 1;
        if compared.differences.len() < LISTED {
            compared.differences.push(Difference { path: path.to_string(), what: what.to_string() });
        }
    }

    fn pair(&mut self, found: Found, entry: Entry, chunks: &Arc<[ChunkRow]>) {
        if !self.is_wanted(&entry.path, entry.node == Node::Directory) {
            return;
        }
        let parts = entry.file().map(|file| vec![(file.clone(), Arc::clone(chunks))]).unwrap_or_default();
        self.batch.push(Pair { found, entry, parts });
    }

    fn next_part(&mut self, path: &TreePath, file: File, chunks: &Arc<[ChunkRow]>) {
        if let Some(pair) = self.batch.last_mut().filter(|pair| pair.entry.path == *path) {
            pair.parts.push((file, Arc::clone(chunks)));
        }
    }

    fn settle_if_full(&mut self) {
        if self.batch.len() >= BATCH {
            self.settle();
        }
    }

    /// Compares what has been gathered, on all cores.
    fn settle(&mut self) {
        let batch = std::mem::take(&mut self.batch);
        let names = &self.names;
        batch.par_iter().for_each_with(names.clone(), |names, pair| self.compare(pair, names));
    }

    fn compare(&self, pair: &Pair, names: &mut OwnerNames) {
        let mut differences = Vec::new();
        if !self.options.content_only {
            differences = self.metadata(pair, names);
        }
        match self.node(pair) {
            Ok(None) => {}
            Ok(Some(what)) => differences.push(what),
            Err(why) => return self.problems.add(&*self.observer, Problem::new(&pair.entry.path, why)),
        }
        self.observer.event(Event::Done { bytes: pair.entry.size(), objects: 0 });
        if differences.is_empty() {
            self.lock().same += 1;
        } else {
            self.differs(&pair.entry.path, format_args!("other {}", differences.join(", ")));
        }
    }

    fn metadata(&self, pair: &Pair, names: &mut OwnerNames) -> Vec<String> {
        let (live, problem) = pair.found.metadata(names);
        if let Some(problem) = problem {
            self.problems.add(&*self.observer, problem.into());
        }
        let saved = &pair.entry.metadata;
        let is_link = matches!(pair.entry.node, Node::Symlink { .. });
        let owner = |owner: &crate::format::manifest::Owner| (owner.uid, owner.gid);
        let checks = [
            ("mode", live.mode == saved.mode || is_link),
            ("owner", owner(&live.owner) == owner(&saved.owner)),
            ("mtime", live.mtime == saved.mtime),
            ("extended attributes", live.xattrs == saved.xattrs),
        ];
        checks.iter().filter(|(_, same)| !same).map(|(what, _)| (*what).to_owned()).collect()
    }

    /// What differs in kind or content.
    fn node(&self, pair: &Pair) -> Result<Option<String>, String> {
        let stat = &pair.found.stat;
        match &pair.entry.node {
            Node::File(_) if stat.kind != Kind::File => Ok(Some("kind".into())),
            Node::File(file) if stat.size != file.size => Ok(Some(format!("size ({} for {})", stat.size, file.size))),
            Node::File(_) => self.content(pair),
            Node::Symlink { .. } if stat.kind != Kind::Symlink => Ok(Some("kind".into())),
            Node::Symlink { target } => {
                let live = pair.found.read_link().map_err(|error| error.to_string())?;
                Ok((live != *target).then(|| "link target".into()))
            }
            node => Ok((stat.node().as_ref() != Some(node)).then(|| "kind".into())),
        }
    }

    fn content(&self, pair: &Pair) -> Result<Option<String>, String> {
        let live = SourceFile::open(&pair.found).map_err(|error| error.to_string())?;
        let mut at = 0;
        for (part, chunks) in &pair.parts {
            let same = part_is_same(self.repository.keys(), &live, part, chunks, &mut at);
            if !same.map_err(|error| error.to_string())? {
                return Ok(Some("content".into()));
            }
        }
        Ok(None)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Compared> {
        self.compared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether the data and holes of a part that begins at `at` are in the live file.
fn part_is_same(
    keys: &Keys,
    live: &SourceFile,
    part: &File,
    chunks: &[ChunkRow],
    at: &mut u64,
) -> Result<bool, super::source::FoundError> {
    let mut layout = Layout::new(*at, part);
    let mut data = Vec::new();
    let mut read = |layout: &mut Layout<'_>, length: u32| {
        data.resize(length as usize, 0);
        let mut outcome = Ok(true);
        layout.write(0, length, |(from, length, offset)| {
            let place = &mut data[from as usize..(from + length) as usize];
            let got = live.read_at(place, offset).map(|got| got == place.len());
            if matches!(outcome, Ok(true)) {
                outcome = got;
            }
        });
        outcome.map(|whole| whole.then(|| data.clone()))
    };
    let same = match &part.content {
        Content::Empty => true,
        Content::Packed { length, id, .. } => {
            read(&mut layout, *length)?.is_some_and(|data| keys.content_id(&data) == *id)
        }
        Content::Chunked { chunks: rows } => {
            let mut same = true;
            for &row in rows {
                let row = chunks[row as usize];
                same &= read(&mut layout, row.plain)?.is_some_and(|data| keys.id::<_>(&data) as ChunkId == row.id);
            }
            same
        }
    };
    let same = same && holes_are_zero(live, part, *at)?;
    *at = layout.end(part);
    Ok(same)
}

fn holes_are_zero(live: &SourceFile, part: &File, mut at: u64) -> Result<bool, super::source::FoundError> {
    let mut buffer = vec![0; 256 << 10];
    for extent in &part.extents {
        at += extent.data;
        let mut left = extent.hole;
        while left > 0 {
            let now = left.min(buffer.len() as u64) as usize;
            let got = live.read_at(&mut buffer[..now], at)?;
            if got < now || buffer[..now].iter().any(|&byte| byte != 0) {
                return Ok(false);
            }
            at += now as u64;
            left -= now as u64;
        }
    }
    Ok(true)
}
