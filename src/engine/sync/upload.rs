//! Chunks on their way into the store: hashed, asked for, compressed, sealed, sent.
//!
//! [`ask`] and [`seal`] run on a thread each and drive the compute threads; [`upload`] is async. What lies between them is
//! bounded in bytes.

use super::{Counts, assemble::Message, draft::Draft};
use crate::engine::{
    error::EngineError,
    event::{Event, Observer},
    presence::Presence,
};
use crate::format::{
    id::{ChunkId, Data, Id, Kind, ObjectId, OfKind},
    keys::Keys,
    manifest::ChunkRow,
    name::Name,
    seal::{Compression, OpenError, Sealer},
};
use crate::store::{Store, StoreError};
use bytes::Bytes;
use futures_util::{StreamExt, future, stream::FuturesUnordered};
use rayon::prelude::*;
use std::{
    cell::RefCell,
    collections::{HashMap, HashSet},
    sync::{Arc, atomic::Ordering::Relaxed, mpsc},
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc as async_mpsc, oneshot};

/// Sealed bytes that wait for the store or are on their way.
pub const SEALED_BYTES_MAX: usize = 32 << 20;
/// Objects on their way at once.
const PUTS_AT_ONCE: usize = 192;

/// Chunks with their ids, on their way from [`ask`] to [`seal`].
pub struct Asked {
    messages: Vec<Message>,
    /// Ids of the batch's chunks, in order.
    ids: Vec<ChunkId>,
    answers: oneshot::Receiver<Result<Answers, StoreError>>,
}

/// What the store said to the chunks asked for: their stored lengths, or none.
type Answers = HashMap<ObjectId, Option<u32>>;

/// What the manifest is built from.
pub enum Stored {
    /// An entry, in path order.
    Entry(Draft),
    /// The chunk of this number is stored so, or will be.
    Chunk(u32, ChunkRow),
    /// Nothing more comes, and nothing is missing.
    End,
}

/// Something for the store.
pub enum Upload {
    /// An object.
    Put {
        /// Its name.
        name: Name,
        /// Its bytes.
        bytes: Bytes,
        /// Its share of what may be on the way.
        permit: OwnedSemaphorePermit,
    },
    /// Tells when all that came before is acknowledged.
    Barrier(oneshot::Sender<()>),
}

/// What the storing stages share.
pub struct Storing {
    /// Hash and seal.
    pub keys: Arc<Keys>,
    /// How hard to compress.
    pub compression: Compression,
    /// What the store has.
    pub presence: Arc<Presence>,
    /// Told of new chunks and of what was sent.
    pub observer: Arc<dyn Observer>,
    /// Counts for the report.
    pub counts: Arc<Counts>,
    /// Bounds what is on the way.
    pub budget: Arc<Semaphore>,
    /// Waits for async work.
    pub runtime: tokio::runtime::Handle,
}

/// Hashes chunks and asks the store for those not asked for yet.
pub fn ask(storing: &Storing, batches: &mpsc::Receiver<Vec<Message>>, next: &mpsc::SyncSender<Asked>) {
    let mut asked = HashSet::new();
    for messages in batches {
        let plaintexts: Vec<&[u8]> = messages.iter().filter_map(plaintext).collect();
        let ids: Vec<ChunkId> = plaintexts.par_iter().map(|plaintext| storing.keys.id(plaintext)).collect();
        let news = ids.iter().zip(&plaintexts).filter(|(id, _)| asked.insert(id.0));
        let news: Vec<(ObjectId, usize)> = news.map(|(id, plaintext)| (id.0, plaintext.len())).collect();
        let (send, answers) = oneshot::channel();
        let presence = Arc::clone(&storing.presence);
        storing.runtime.spawn(async move {
            let questions = news.into_iter().map(|(id, plain)| {
                let presence = &presence;
                async move { Ok((id, presence.ask(id, plain).await?)) }
            });
            // The receiver may be gone: then no one waits for the answer.
            let _ = send.send(future::try_join_all(questions).await.map(|answers| answers.into_iter().collect()));
        });
        if next.send(Asked { messages, ids, answers }).is_err() {
            return;
        }
    }
}

fn plaintext(message: &Message) -> Option<&[u8]> {
    match message {
        Message::Chunk { plaintext, .. } => Some(plaintext.bytes()),
        Message::Entry(_) | Message::End => None,
    }
}

/// Compresses, seals and hands on what the store lacks.
///
/// # Errors
/// What the store said when it was asked.
pub fn seal(
    storing: &Storing,
    batches: &mpsc::Receiver<Asked>,
    uploads: &async_mpsc::Sender<Upload>,
    next: &mpsc::SyncSender<Vec<Stored>>,
) -> Result<(), EngineError> {
    let mut lengths: HashMap<ObjectId, u32> = HashMap::new();
    for Asked { messages, ids, answers } in batches {
        let answers = answers.blocking_recv().map_err(|_| EngineError::Internal("a question was lost"))??;
        let mut missing = HashSet::new();
        for (id, answer) in answers {
            match answer {
                Some(length) => drop(lengths.insert(id, length)),
                None => drop(missing.insert(id)),
            }
        }
        let chunks = messages.iter().filter_map(plaintext).zip(&ids);
        let to_seal: Vec<_> = chunks.filter(|(_, id)| missing.remove(&id.0)).collect();
        let sealed: Vec<_> = to_seal
            .par_iter()
            .with_max_len(1)
            .map(|(plaintext, id)| seal_here(&storing.keys, storing.compression, **id, plaintext))
            .collect();
        for ((plaintext, id), object) in to_seal.into_iter().zip(sealed) {
            let object = object.map_err(|_| EngineError::Internal("a chunk could not be sealed"))?;
            lengths.insert(id.0, object.len() as u32);
            storing.note_new(plaintext.len());
            if !storing.send(uploads, Name::Chunk(id.0), object) {
                return Ok(());
            }
        }
        if next.send(storing.resolve(messages, &ids, &lengths)).is_err() {
            return Ok(());
        }
    }
    Ok(())
}

/// Seals with this thread's sealer.
///
/// # Errors
/// As [`Sealer::seal`].
pub fn seal_here<K: OfKind>(
    keys: &Keys,
    compression: Compression,
    id: Id<K>,
    plaintext: &[u8],
) -> Result<Vec<u8>, OpenError> {
    thread_local! {
        static SEALER: RefCell<Option<(Compression, Sealer)>> = const { RefCell::new(None) };
    }
    SEALER.with_borrow_mut(|sealer| {
        if sealer.as_ref().is_none_or(|(of, _)| *of != compression) {
            *sealer = Some((compression, Sealer::new(compression)));
        }
        match sealer {
            Some((_, sealer)) => sealer.seal(keys, id, plaintext),
            None => Sealer::new(compression).seal(keys, id, plaintext),
        }
    })
}

impl Storing {
    fn note_new(&self, plain: usize) {
        self.counts.new_chunks.fetch_add(1, Relaxed);
        self.counts.new_plain.fetch_add(plain as u64, Relaxed);
        self.observer.event(Event::NewChunk { plain: plain as u64 });
    }

    /// Hands an object on as soon as there is room for it. False where no one takes it.
    pub fn send(&self, uploads: &async_mpsc::Sender<Upload>, name: Name, object: Vec<u8>) -> bool {
        let share = object.len().min(SEALED_BYTES_MAX) as u32;
        let permit = Arc::clone(&self.budget).acquire_many_owned(share);
        let Ok(permit) = self.runtime.block_on(permit) else { return false };
        uploads.blocking_send(Upload::Put { name, bytes: Bytes::from(object), permit }).is_ok()
    }

    fn resolve(&self, messages: Vec<Message>, ids: &[ChunkId], lengths: &HashMap<ObjectId, u32>) -> Vec<Stored> {
        let mut ids = ids.iter();
        let stored = messages.into_iter().filter_map(|message| match message {
            Message::Entry(draft) => Some(Stored::Entry(draft)),
            Message::End => Some(Stored::End),
            Message::Chunk { number, plaintext } => {
                let id = *ids.next()?;
                let stored = *lengths.get(&id.0)?;
                Some(Stored::Chunk(number, ChunkRow { id, plain: plaintext.len() as u32, stored }))
            }
        });
        stored.collect()
    }
}

const _: () = assert!(Data::KIND as u8 == Kind::Data as u8);

/// Sends what comes, many at once. Ends with the first failure, and with that everything before it.
///
/// # Errors
/// What the store says.
pub async fn upload(
    store: Option<Arc<dyn Store>>,
    mut uploads: async_mpsc::Receiver<Upload>,
    observer: Arc<dyn Observer>,
    counts: Arc<Counts>,
) -> Result<(), StoreError> {
    let mut puts = FuturesUnordered::new();
    loop {
        tokio::select! {
            Some(sent) = puts.next(), if !puts.is_empty() => {
                let bytes: u64 = sent?;
                counts.sent_objects.fetch_add(1, Relaxed);
                counts.sent_bytes.fetch_add(bytes, Relaxed);
                observer.event(Event::Sent { bytes });
            }
            upload = uploads.recv(), if puts.len() < PUTS_AT_ONCE => match upload {
                None => break,
                Some(Upload::Put { name, bytes, permit }) => puts.push(put(store.as_deref(), name, bytes, permit)),
                Some(Upload::Barrier(reply)) => {
                    drain(&mut puts, &*observer, &counts).await?;
                    // No one waits any more: nothing is lost by that.
                    let _ = reply.send(());
                }
            },
        }
    }
    drain(&mut puts, &*observer, &counts).await
}

async fn drain(
    puts: &mut FuturesUnordered<impl Future<Output = Result<u64, StoreError>>>,
    observer: &dyn Observer,
    counts: &Counts,
) -> Result<(), StoreError> {
    while let Some(sent) = puts.next().await {
        let bytes = sent?;
        counts.sent_objects.fetch_add(1, Relaxed);
        counts.sent_bytes.fetch_add(bytes, Relaxed);
        observer.event(Event::Sent { bytes });
    }
    Ok(())
}

/// Puts one object; without a store (a dry run) it only counts.
async fn put(
    store: Option<&dyn Store>,
    name: Name,
    bytes: Bytes,
    permit: OwnedSemaphorePermit,
) -> Result<u64, StoreError> {
    let length = bytes.len() as u64;
    if let Some(store) = store {
        store.put(name, bytes).await?;
    }
    drop(permit);
    Ok(length)
}
