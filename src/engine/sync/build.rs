//! The manifest, built in path order as chunks become known; checkpoints, and the commit.

use super::{
    SyncOptions,
    draft::{Draft, Ref},
    reliance::Reliance,
    upload::{Stored, Storing, Upload, seal_here},
};
use crate::clock;
use crate::engine::{
    error::EngineError,
    event::{Event, Stage},
    history::Base,
    presence::{Known, is_plausible},
};
use crate::format::{
    chunker::SegmentCutter,
    extents::split_parts,
    id::{ChunkId, SegmentId, SnapshotId},
    limits::{FOLLOWS_MAX, SPARSE_PACKS_MAX},
    manifest::{ChunkRow, Content, Entry, File, Node, Time},
    name::Name,
    seal::Compression,
    segment_writer::SegmentWriter,
    snapshot::{SegmentRow, SnapshotRoot, Totals},
};
use crate::repository::{Repository, RepositoryError};
use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::{Arc, atomic::Ordering::Relaxed, mpsc},
    time::Instant,
};
use tokio::sync::{mpsc as async_mpsc, oneshot};

/// Segments are compressed at this level at least: they are small, many entries look alike, and every sync reads them.
const SEGMENT_LEVEL: i32 = 9;

/// Builds the manifest.
pub struct Builder {
    repository: Arc<Repository>,
    storing: Arc<Storing>,
    uploads: async_mpsc::Sender<Upload>,
    cutter: SegmentCutter,
    /// What the root says beside the manifest.
    head: SnapshotRoot,
    interval: std::time::Duration,
    dry_run: bool,
    /// Chunks of this run by number.
    rows: Vec<Option<ChunkRow>>,
    pending: VecDeque<Draft>,
    writer: SegmentWriter,
    segments: Vec<SegmentRow>,
    known: HashMap<SegmentId, u32>,
    /// Segments of this run, with their stored lengths.
    sent: HashMap<SegmentId, u32>,
    usage: HashMap<ChunkId, Usage>,
    checkpoints: Vec<SnapshotId>,
    reliance: Reliance,
    last_checkpoint: Instant,
    sent_at_checkpoint: u64,
}

/// How much of a pack the new tree uses.
struct Usage {
    plain: u64,
    used: u64,
}

impl Builder {
    /// A builder of a snapshot that follows `base`.
    #[must_use]
    pub fn new(
        repository: Arc<Repository>,
        storing: Arc<Storing>,
        uploads: async_mpsc::Sender<Upload>,
        known: HashMap<SegmentId, u32>,
        base: &Base,
        options: &SyncOptions,
        source: &[u8],
    ) -> Self {
        let cutter = SegmentCutter::new(repository.keys().cut(), repository.config().segments);
        Self {
            cutter,
            head: head(base, options, source),
            interval: options.checkpoint_interval,
            dry_run: options.dry_run,
            rows: Vec::new(),
            pending: VecDeque::new(),
            writer: SegmentWriter::default(),
            segments: Vec::new(),
            known,
            sent: HashMap::new(),
            usage: HashMap::new(),
            checkpoints: base.checkpoints.clone(),
            reliance: Reliance::new(Arc::clone(&repository)),
            last_checkpoint: Instant::now(),
            sent_at_checkpoint: 0,
            repository,
            storing,
            uploads,
        }
    }

    /// Takes everything that is stored, and commits the snapshot when [`Stored::End`] says that there is no more. `problems`
    /// tells how many there were.
    ///
    /// # Errors
    /// What the store says.
    pub fn run(
        mut self,
        stored: &mpsc::Receiver<Vec<Stored>>,
        problems: impl FnOnce() -> u64,
    ) -> Result<Option<(SnapshotId, SnapshotRoot)>, EngineError> {
        let mut is_whole = false;
        for batch in stored {
            for stored in batch {
                match stored {
                    Stored::Entry(draft) => self.pending.push_back(draft),
                    Stored::Chunk(number, row) => self.resolve(number, row),
                    Stored::End => is_whole = true,
                }
            }
            self.settle()?;
            self.checkpoint_if_due()?;
        }
        // Something before us failed: it knows why.
        if !is_whole || !self.pending.is_empty() { Ok(None) } else { self.commit(problems()) }
    }

    fn resolve(&mut self, number: u32, row: ChunkRow) {
        let number = number as usize;
        if self.rows.len() <= number {
            self.rows.resize(number + 1, None);
        }
        self.rows[number] = Some(row);
    }

    /// Writes the entries whose chunks are all known.
    fn settle(&mut self) -> Result<(), EngineError> {
        while let Some(draft) = self.pending.front() {
            let Some(rows) = self.rows_of(&draft.refs) else { return Ok(()) };
            if let Some(draft) = self.pending.pop_front() {
                self.write(draft.entry, &rows)?;
            }
        }
        Ok(())
    }

    fn rows_of(&self, refs: &[Ref]) -> Option<Vec<ChunkRow>> {
        let row = |reference: &Ref| match reference {
            Ref::Row(row) => Some(*row),
            Ref::New(number) => self.rows.get(*number as usize).copied().flatten(),
        };
        refs.iter().map(row).collect()
    }

    fn write(&mut self, entry: Entry, rows: &[ChunkRow]) -> Result<(), EngineError> {
        self.count(&entry, rows);
        let Entry { path, metadata, node } = entry;
        let nodes = match node {
            Node::File(file) => parts(file, rows).into_iter().map(Node::File).collect(),
            other => vec![other],
        };
        for node in nodes {
            let entry = Entry { path: path.clone(), metadata: metadata.clone(), node };
            if self.writer.push(entry, rows, &self.cutter) {
                self.end_segment()?;
            }
        }
        Ok(())
    }

    fn count(&mut self, entry: &Entry, rows: &[ChunkRow]) {
        let totals = &mut self.head.totals;
        totals.entries += 1;
        match &entry.node {
            Node::Directory => totals.directories += 1,
            Node::File(file) => {
                totals.files += 1;
                totals.bytes += file.size;
                if let Content::Packed { length, .. } = file.content {
                    let plain = u64::from(rows[0].plain);
                    let usage = self.usage.entry(rows[0].id).or_insert(Usage { plain, used: 0 });
                    usage.used += u64::from(length);
                }
            }
            _ => {}
        }
    }

    fn end_segment(&mut self) -> Result<(), EngineError> {
        let segment = self.writer.take();
        if let Some(row) = self.store_segment(&segment)? {
            self.segments.push(row);
        }
        Ok(())
    }

    /// Stores a segment, unless the store has it. `None` where no one takes it.
    fn store_segment(&mut self, segment: &crate::format::manifest::Segment) -> Result<Option<SegmentRow>, EngineError> {
        let too_large = |why: String| RepositoryError::TooLarge { what: "a segment of the manifest", why };
        let plaintext = segment.encode().map_err(|why| too_large(why.to_string()))?;
        let id: SegmentId = self.storing.keys.id(&plaintext);
        let first_path = segment.first_path();
        let entries = segment.entries.len() as u32;
        if let Some(stored) = self.stored_already(id, plaintext.len()) {
            return Ok(Some(SegmentRow { id, stored, entries, first_path }));
        }
        let compression = match self.storing.compression {
            Compression::Level(level) if level > SEGMENT_LEVEL => Compression::Level(level),
            _ => Compression::Level(SEGMENT_LEVEL),
        };
        let object =
            seal_here(&self.storing.keys, compression, id, &plaintext).map_err(|why| too_large(why.to_string()))?;
        let stored = object.len() as u32;
        self.sent.insert(id, stored);
        self.remove_damaged(id)?;
        let row = SegmentRow { id, stored, entries, first_path };
        Ok(self.storing.send(&self.uploads, Name::Chunk(id.0), object).then_some(row))
    }

    /// The stored length of a segment that the store has, so far as is known: an old tree's, or one that was sent by a sync
    /// which came to no end.
    fn stored_already(&self, id: SegmentId, plain: usize) -> Option<u32> {
        let presence = &self.storing.presence;
        if self.sent.contains_key(&id) || presence.is_distrusted(id.0) {
            return self.sent.get(&id).copied();
        }
        match (self.known.get(&id), presence.known(id.0)) {
            (Some(&stored), Known::Unlisted) => Some(stored),
            (Some(&stored), Known::Present(length)) => (length == u64::from(stored)).then_some(stored),
            (None, Known::Present(length)) if is_plausible(length, plain as u64) => length.try_into().ok(),
            _ => None,
        }
    }

    /// Removes a segment that was fetched and did not open: no store replaces an object by one of the same length.
    fn remove_damaged(&self, id: SegmentId) -> Result<(), EngineError> {
        if self.dry_run || !self.storing.presence.is_distrusted(id.0) {
            return Ok(());
        }
        self.storing.presence.trust(id.0);
        Ok(self.storing.runtime.block_on(self.repository.store().remove(Name::Chunk(id.0)))?)
    }

    fn checkpoint_if_due(&mut self) -> Result<(), EngineError> {
        let sent = self.storing.counts.sent_bytes.load(Relaxed);
        let is_due = self.last_checkpoint.elapsed() >= self.interval && sent > self.sent_at_checkpoint;
        if !is_due || self.dry_run || (self.segments.is_empty() && self.writer.is_empty()) {
            return Ok(());
        }
        self.checkpoint()?;
        self.last_checkpoint = Instant::now();
        self.sent_at_checkpoint = sent;
        Ok(())
    }

    /// Commits what is done so far, so that an interrupted sync need not read it again.
    fn checkpoint(&mut self) -> Result<(), EngineError> {
        let mut root = SnapshotRoot { segments: self.segments.clone(), ..self.head.clone() };
        if !self.writer.is_empty() {
            let segment = self.writer.clone().take();
            root.segments.extend(self.store_segment(&segment)?);
        }
        if !self.wait_for_uploads() {
            return Ok(());
        }
        let id = self.put_root(&root)?;
        self.remove_checkpoints(id);
        self.checkpoints.push(id);
        Ok(())
    }

    fn wait_for_uploads(&self) -> bool {
        let (send, receive) = oneshot::channel();
        self.uploads.blocking_send(Upload::Barrier(send)).is_ok() && receive.blocking_recv().is_ok()
    }

    /// The last segment, then the root: everything that it names has been acknowledged by then.
    fn commit(mut self, problems: u64) -> Result<Option<(SnapshotId, SnapshotRoot)>, EngineError> {
        if !self.writer.is_empty() {
            self.end_segment()?;
        }
        if !self.wait_for_uploads() {
            return Ok(None);
        }
        self.storing.observer.event(Event::Stage(Stage::Committing));
        let mut root =
            SnapshotRoot { complete: true, segments: std::mem::take(&mut self.segments), ..self.head.clone() };
        root.totals.problems = problems;
        root.sparse_packs = self.sparse_packs();
        if self.dry_run {
            return Ok(Some((self.storing.keys.id(&root.encode().map_err(internal)?), root)));
        }
        self.storing.runtime.block_on(self.repository.confirm())?;
        let id = self.put_root(&root)?;
        self.remove_checkpoints(id);
        Ok(Some((id, root)))
    }

    /// Puts a root, unless what it names has been removed meanwhile: a long sync asks again before, and, where putting it took long,
    /// after that.
    fn put_root(&mut self, root: &SnapshotRoot) -> Result<SnapshotId, EngineError> {
        let runtime = self.storing.runtime.clone();
        runtime.block_on(self.reliance.renew(root))?;
        let id = runtime.block_on(self.repository.commit(root))?;
        let still_there = runtime.block_on(self.reliance.renew(root));
        if still_there.is_err() {
            runtime.block_on(self.repository.store().remove(Name::Snapshot(id)))?;
        }
        still_there.map(|()| id)
    }

    /// Removes checkpoints that `newer` makes needless. That one stays is no harm.
    fn remove_checkpoints(&mut self, newer: SnapshotId) {
        let store = self.repository.store();
        for id in self.checkpoints.drain(..).filter(|id| *id != newer) {
            let _ = self.storing.runtime.block_on(store.remove(Name::Snapshot(id)));
        }
    }

    /// The packs less than half in use, the least used first.
    fn sparse_packs(&self) -> Vec<ChunkId> {
        let sparse = self.usage.iter().filter(|(_, usage)| usage.used * 2 < usage.plain);
        let mut sparse: Vec<_> = sparse.map(|(id, usage)| (usage.used * 1024 / usage.plain.max(1), *id)).collect();
        sparse.sort_unstable();
        sparse.truncate(SPARSE_PACKS_MAX);
        sparse.into_iter().map(|(_, id)| id).collect()
    }
}

fn internal(_: crate::format::encoding::EncodingError) -> EngineError {
    EngineError::Internal("the snapshot's root cannot be encoded")
}

fn parts(file: File, rows: &[ChunkRow]) -> Vec<File> {
    let plain: Vec<u32> = match &file.content {
        Content::Chunked { chunks } => chunks.iter().map(|&chunk| rows[chunk as usize].plain).collect(),
        _ => Vec::new(),
    };
    split_parts(file, &plain)
}

fn head(base: &Base, options: &SyncOptions, source: &[u8]) -> SnapshotRoot {
    // A snapshot follows its own source's last one whatever else it follows.
    let own = base.complete.iter().map(|info| info.id);
    let mut seen = HashSet::new();
    let follows = own.chain(base.heads.iter().copied()).filter(|id| seen.insert(*id)).take(FOLLOWS_MAX).collect();
    let time: Time = clock::now();
    SnapshotRoot {
        time,
        host: options.host.clone().into_bytes(),
        user: options.user.clone().into_bytes(),
        source: source.to_vec(),
        label: options.label.clone().into_bytes(),
        program: concat!("nfz ", env!("CARGO_PKG_VERSION")).as_bytes().to_vec(),
        totals: Totals::default(),
        complete: false,
        generation: base.generation + 1,
        follows,
        sparse_packs: Vec::new(),
        segments: Vec::new(),
    }
}
