//! Small files gathered into packs, everything numbered, in path order (`spec/4-chunking.md`, "Packs").

use super::{
    buffer::{Buffer, Buffers},
    draft::{Draft, Ref},
    old::{OldTree, PackedAt, Table},
    read::{Piece, Pieces, Slot},
};
use crate::engine::presence::Presence;
use crate::format::{
    chunker::PackCutter,
    manifest::{Content, ContentId, Node},
};
use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, OnceLock, mpsc},
};

/// What comes next for the stages that store.
pub enum Message {
    /// An entry, in path order.
    Entry(Draft),
    /// A chunk's plaintext. Its number may be named before it and after it.
    Chunk {
        /// Its number in this run.
        number: u32,
        /// Its plaintext.
        plaintext: Buffer,
    },
    /// Nothing more comes, and nothing is missing.
    End,
}

/// Bytes of plaintext handed on together for each compute thread, at most so many threads, and messages.
const BATCH_BYTES: usize = 1 << 20;
const BATCH_THREADS: usize = 8;
const BATCH_MESSAGES: usize = 2048;
/// Packs open at once, one for each owner.
const OPEN_PACKS: usize = 16;
/// Files of this run that are remembered to find copies of them: two generations of so many.
const RECENT_MAX: usize = 1 << 18;

/// The receiving stage has ended, and why is known there.
pub struct Ended;

/// Takes what was read and makes packs, chunks and drafts of it.
pub struct Assembler {
    /// Cuts packs.
    pub cutter: PackCutter,
    /// The old tree, whose packs may be worth storing anew.
    pub old: Arc<OldTree>,
    /// Copies of old files are found here, once it was made.
    pub table: Arc<OnceLock<Table>>,
    /// What the store has: copies of what it has lost are no copies.
    pub presence: Arc<Presence>,
    /// Takes everything on.
    pub batches: mpsc::SyncSender<Vec<Message>>,
    /// Buffers for packs, used again and again.
    pub buffers: Arc<Buffers>,
    batch_bytes: usize,
    state: State,
}

#[derive(Default)]
struct State {
    batch: Vec<Message>,
    batch_bytes: usize,
    next_number: u32,
    entries: u64,
    packs: HashMap<u32, OpenPack>,
    /// When each pack was opened and whose it is, oldest first.
    opened: VecDeque<(u64, u32)>,
    recent: Recent,
    large: Vec<Ref>,
}

struct OpenPack {
    number: u32,
    opened: u64,
    files: u32,
    data: Buffer,
}

/// Content ids of files packed in this run: two generations, so that memory is bounded.
#[derive(Default)]
struct Recent {
    young: HashMap<ContentId, (u32, u32)>,
    old: HashMap<ContentId, (u32, u32)>,
}

impl Recent {
    fn get(&self, id: &ContentId) -> Option<(u32, u32)> {
        self.young.get(id).or_else(|| self.old.get(id)).copied()
    }

    fn insert(&mut self, id: ContentId, place: (u32, u32)) {
        if self.young.len() >= RECENT_MAX {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(id, place);
    }
}

impl Assembler {
    /// An assembler that begins with nothing.
    #[must_use]
    pub fn new(
        cutter: PackCutter,
        old: Arc<OldTree>,
        table: Arc<OnceLock<Table>>,
        presence: Arc<Presence>,
        batches: mpsc::SyncSender<Vec<Message>>,
        buffers: Arc<Buffers>,
    ) -> Self {
        let batch_bytes = BATCH_BYTES * rayon::current_num_threads().clamp(2, BATCH_THREADS);
        Self { cutter, old, table, presence, batches, buffers, batch_bytes, state: State::default() }
    }

    /// Deals with everything that comes, until nothing more does.
    ///
    /// # Errors
    /// [`Ended`] where no one takes it.
    pub fn run(mut self, slots: &mpsc::Receiver<Slot>) -> Result<(), Ended> {
        let mut is_whole = false;
        for slot in slots {
            match slot {
                Slot::Ready(drafts) => drafts.into_iter().try_for_each(|draft| self.entry(draft))?,
                Slot::Pending(pieces) => self.job(pieces)?,
                Slot::End => is_whole = true,
            }
        }
        while let Some(&(_, uid)) = self.state.opened.front() {
            self.close(uid)?;
        }
        if is_whole {
            self.message(Message::End)?;
        }
        self.flush()
    }

    /// Takes all that a reader has read. One that was lost has lost files: then there is no snapshot.
    fn job(&mut self, jobs: mpsc::Receiver<Pieces>) -> Result<(), Ended> {
        let mut is_done = false;
        for Pieces { list, small } in jobs {
            for piece in list {
                match piece {
                    Piece::Done => is_done = true,
                    piece => self.piece(piece, small.bytes())?,
                }
            }
        }
        if is_done { Ok(()) } else { Err(Ended) }
    }

    fn piece(&mut self, piece: Piece, small: &[u8]) -> Result<(), Ended> {
        match piece {
            Piece::Whole(draft) => self.entry(draft),
            Piece::Small { draft, data, id } => self.small(draft, &small[data], id),
            Piece::Begin | Piece::End(None) | Piece::Done => {
                self.state.large.clear();
                Ok(())
            }
            Piece::Chunk(plaintext) => {
                let number = self.number();
                self.state.large.push(Ref::New(number));
                self.chunk(number, plaintext)
            }
            Piece::End(Some(mut draft)) => {
                draft.refs = std::mem::take(&mut self.state.large);
                let chunks = (0..draft.refs.len() as u32).collect();
                set_content(&mut draft, Content::Chunked { chunks });
                self.entry(draft)
            }
        }
    }

    fn small(&mut self, mut draft: Draft, data: &[u8], id: ContentId) -> Result<(), Ended> {
        let length = data.len() as u32;
        let (place, offset) = match self.copy_of(&id, length) {
            Some(known) => known,
            None => {
                let uid = draft.entry.metadata.owner.uid;
                let (number, offset) = self.pack(uid, data, id)?;
                (Ref::New(number), offset)
            }
        };
        draft.refs = vec![place];
        set_content(&mut draft, Content::Packed { chunk: 0, offset, length, id });
        self.entry(draft)
    }

    /// Where the same data lie already.
    fn copy_of(&self, id: &ContentId, length: u32) -> Option<(Ref, u32)> {
        if let Some((number, offset)) = self.state.recent.get(id) {
            return Some((Ref::New(number), offset));
        }
        let PackedAt { row, offset, length: old_length, .. } = self.table.get()?.content(id)?;
        let is_good =
            old_length == length && !self.old.is_sparse(&row) && self.presence.is_reliable(row.id.0, row.stored);
        is_good.then_some((Ref::Row(row), offset))
    }

    /// Puts data into the owner's pack: its number and where in it they begin.
    fn pack(&mut self, uid: u32, data: &[u8], id: ContentId) -> Result<(u32, u32), Ended> {
        let sizes = *self.cutter.sizes();
        let is_full =
            |pack: &OpenPack| pack.data.len() + data.len() > sizes.max as usize || pack.files >= sizes.files_max;
        if self.state.packs.get(&uid).is_some_and(is_full) {
            self.close(uid)?;
        }
        if !self.state.packs.contains_key(&uid) {
            self.open(uid)?;
        }
        let Some(pack) = self.state.packs.get_mut(&uid) else { return Err(Ended) };
        let place = (pack.number, pack.data.len() as u32);
        pack.data.extend(data);
        pack.files += 1;
        let ends = self.cutter.ends_after(&id, data.len() as u32, pack.data.len() as u32);
        self.state.recent.insert(id, place);
        if ends {
            self.close(uid)?;
        }
        Ok(place)
    }

    fn open(&mut self, uid: u32) -> Result<(), Ended> {
        if self.state.packs.len() == OPEN_PACKS
            && let Some(&(_, oldest)) = self.state.opened.front()
        {
            self.close(oldest)?;
        }
        let (number, opened) = (self.number(), self.state.entries);
        let data = self.buffers.take();
        self.state.packs.insert(uid, OpenPack { number, opened, files: 0, data });
        self.state.opened.push_back((opened, uid));
        Ok(())
    }

    fn close(&mut self, uid: u32) -> Result<(), Ended> {
        let Some(pack) = self.state.packs.remove(&uid) else { return Ok(()) };
        self.state.opened.retain(|&opened| opened != (pack.opened, uid));
        self.chunk(pack.number, pack.data)
    }

    fn number(&mut self) -> u32 {
        self.state.next_number += 1;
        self.state.next_number - 1
    }

    fn chunk(&mut self, number: u32, plaintext: Buffer) -> Result<(), Ended> {
        self.state.batch_bytes += plaintext.len();
        self.message(Message::Chunk { number, plaintext })
    }

    /// Hands on an entry, and closes the packs that it leaves too far behind.
    fn entry(&mut self, draft: Draft) -> Result<(), Ended> {
        self.state.entries += 1;
        self.message(Message::Entry(draft))?;
        let reach = u64::from(self.cutter.sizes().reach_max);
        while let Some(&(opened, uid)) = self.state.opened.front()
            && opened + reach <= self.state.entries
        {
            self.close(uid)?;
        }
        Ok(())
    }

    fn message(&mut self, message: Message) -> Result<(), Ended> {
        self.state.batch.push(message);
        let is_full = self.state.batch_bytes >= self.batch_bytes || self.state.batch.len() >= BATCH_MESSAGES;
        if is_full { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<(), Ended> {
        self.state.batch_bytes = 0;
        let batch = std::mem::take(&mut self.state.batch);
        if batch.is_empty() { Ok(()) } else { self.batches.send(batch).map_err(|_| Ended) }
    }
}

fn set_content(draft: &mut Draft, content: Content) {
    if let Node::File(file) = &mut draft.entry.node {
        file.content = content;
    }
}
