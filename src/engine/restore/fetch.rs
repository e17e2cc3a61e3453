//! Chunks fetched, opened and written to where they belong: each once, many at a time, bounded in bytes.

use super::{
    Shared,
    plan::is_damage,
    window::{ChunkPlan, FilePlan, Window, Write},
};
use crate::engine::{
    error::EngineError,
    event::{Action, Event},
    target::{TargetError, TargetErrorKind, TargetFile},
};
use crate::format::name::Name;
use crate::repository::RepositoryError;
use futures_util::{StreamExt, stream};
use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
};
use tokio::sync::{Semaphore, SemaphorePermit};

/// Bytes of objects and plaintexts at hand at once.
const BYTES_MAX: usize = 48 << 20;
/// Chunks on their way at once.
const FETCHES_AT_ONCE: usize = 256;
/// Buffers for plaintexts that are kept for further ones, and how large they are at most, in bytes.
const BUFFERS_KEPT: usize = 16;
const BUFFER_MAX: usize = 2 << 20;

/// A window being written.
struct Writing {
    shared: Arc<Shared>,
    files: Vec<FileState>,
    open: Mutex<HashMap<u32, Arc<TargetFile>>>,
    budget: Semaphore,
    writers: Semaphore,
    /// Memory for plaintexts that nobody uses at the moment.
    buffers: Mutex<Vec<Vec<u8>>>,
}

struct FileState {
    plan: FilePlan,
    /// Writes that are still to come.
    left: AtomicU32,
    /// Set when a part of it cannot be had.
    failed: std::sync::atomic::AtomicBool,
}

/// Writes all files of `window`.
///
/// # Errors
/// Where the store fails for good, or the target is full.
pub async fn write(shared: &Arc<Shared>, window: Window) -> Result<(), EngineError> {
    let files = window.files.into_iter().map(|plan| FileState {
        left: AtomicU32::new(plan.writes),
        failed: plan.is_lost.into(),
        plan,
    });
    let writing = Arc::new(Writing {
        shared: Arc::clone(shared),
        files: files.collect(),
        open: Mutex::default(),
        budget: Semaphore::new(BYTES_MAX),
        writers: Semaphore::new(writers()),
        buffers: Mutex::default(),
    });
    let empty = Arc::clone(&writing);
    blocking(move || empty.write_empty()).await?;
    let mut chunks =
        stream::iter(window.chunks).map(|chunk| Arc::clone(&writing).chunk(chunk)).buffer_unordered(FETCHES_AT_ONCE);
    while let Some(done) = chunks.next().await {
        done?;
    }
    Ok(())
}

async fn blocking(work: impl FnOnce() -> Result<(), EngineError> + Send + 'static) -> Result<(), EngineError> {
    tokio::task::spawn_blocking(work).await.map_err(|_| EngineError::Internal("a write was lost"))?
}

impl Writing {
    /// Files without data: nothing is fetched for them.
    fn write_empty(&self) -> Result<(), EngineError> {
        for (number, file) in
            self.files.iter().enumerate().filter(|(_, file)| file.plan.writes == 0 && !file.plan.is_lost)
        {
            let made = self.begin(number as u32).and_then(|made| self.finish(file, made));
            self.note(file, made)?;
        }
        Ok(())
    }

    /// Fetches one chunk and writes it.
    async fn chunk(self: Arc<Self>, chunk: ChunkPlan) -> Result<(), EngineError> {
        let share = (chunk.row.stored as usize).min(BYTES_MAX) as u32;
        let _permit =
            self.budget.acquire_many(share).await.map_err(|_| EngineError::Internal("the budget was lost"))?;
        let (plaintext, _writer) = match self.plaintext(&chunk).await {
            Ok(plaintext) => plaintext,
            Err(error) if is_damage(&error) => {
                self.fail(&chunk, &error);
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        let writing = Arc::clone(&self);
        blocking(move || {
            let written = chunk.writes.iter().try_for_each(|write| writing.write(write, &plaintext));
            writing.give_back(plaintext);
            written
        })
        .await
    }

    /// Fetches a chunk, and opens it when it is its turn to be written: so few plaintexts are held, however many objects
    /// are on their way.
    async fn plaintext(&self, chunk: &ChunkPlan) -> Result<(Vec<u8>, SemaphorePermit<'_>), EngineError> {
        let repository = &self.shared.repository;
        let (id, plain) = (chunk.row.id, chunk.row.plain);
        let object = repository.get_chunk(id, chunk.row.stored).await?;
        self.shared.counts.fetched_objects.fetch_add(1, Relaxed);
        self.shared.counts.fetched_bytes.fetch_add(object.len() as u64, Relaxed);
        let writer = self.writers.acquire().await.map_err(|_| EngineError::Internal("the writers were lost"))?;
        let buffer = lock(&self.buffers).pop().unwrap_or_default();
        let plaintext = repository.open_chunk_into(id, object, buffer).await?;
        if plaintext.len() == plain as usize {
            return Ok((plaintext, writer));
        }
        let why = "it has another length than the manifest says".to_owned();
        Err(RepositoryError::Damaged { name: Name::Chunk(id.0), why }.into())
    }

    /// Keeps the memory of a plaintext for another one.
    fn give_back(&self, plaintext: Vec<u8>) {
        let mut buffers = lock(&self.buffers);
        if buffers.len() < BUFFERS_KEPT && plaintext.capacity() <= BUFFER_MAX {
            buffers.push(plaintext);
        }
    }

    /// Gives up all files that need a chunk which cannot be had.
    fn fail(&self, chunk: &ChunkPlan, why: &EngineError) {
        for write in &chunk.writes {
            let file = &self.files[write.file as usize];
            if !file.failed.swap(true, Relaxed) {
                self.shared.lost(&file.plan.path, format_args!("not restored: {why}"));
            }
            lock(&self.open).remove(&write.file);
        }
    }

    fn write(&self, write: &Write, plaintext: &[u8]) -> Result<(), EngineError> {
        let file = &self.files[write.file as usize];
        if file.failed.load(Relaxed) {
            return Ok(());
        }
        let bytes = &plaintext[write.from as usize..(write.from + write.length) as usize];
        let written = self.write_bytes(write, bytes);
        self.note(file, written)
    }

    fn write_bytes(&self, write: &Write, bytes: &[u8]) -> Result<(), TargetError> {
        let file = &self.files[write.file as usize];
        let made = if file.plan.writes == 1 { Arc::new(self.begin_file(file)?) } else { self.begin(write.file)? };
        made.write_at(write.offset, bytes)?;
        self.shared.counts.bytes_written.fetch_add(bytes.len() as u64, Relaxed);
        self.shared.observer.event(Event::Done { bytes: bytes.len() as u64, objects: 0 });
        if file.left.fetch_sub(1, Relaxed) > 1 {
            return Ok(());
        }
        lock(&self.open).remove(&write.file);
        self.finish(file, made)
    }

    /// The file, begun if it is not yet.
    fn begin(&self, number: u32) -> Result<Arc<TargetFile>, TargetError> {
        let mut open = lock(&self.open);
        if let Some(file) = open.get(&number) {
            return Ok(Arc::clone(file));
        }
        let file = &self.files[number as usize];
        let made = Arc::new(self.begin_file(file)?);
        if file.plan.writes > 1 {
            open.insert(number, Arc::clone(&made));
        }
        Ok(made)
    }

    fn begin_file(&self, file: &FileState) -> Result<TargetFile, TargetError> {
        let target = self.shared.target.as_ref().ok_or_else(|| gone(&file.plan))?;
        target.begin_file(&file.plan.path, file.plan.size, file.plan.is_dense)
    }

    /// Gives the file its metadata and its name. The last write has been done: no one else holds it for longer than a moment.
    fn finish(&self, file: &FileState, mut made: Arc<TargetFile>) -> Result<(), TargetError> {
        let made = loop {
            match Arc::try_unwrap(made) {
                Ok(made) => break made,
                Err(shared) => {
                    made = shared;
                    std::thread::yield_now();
                }
            }
        };
        let target = self.shared.target.as_ref().ok_or_else(|| gone(&file.plan))?;
        let outcome = made.finish(target, &file.plan.metadata, &self.shared.policy, file.plan.replace)?;
        self.shared.outcome(outcome);
        if file.plan.torn {
            self.shared.problem(&file.plan.path, "it was changing while it was saved: its data may mix several states");
        }
        self.shared.counts.restored.fetch_add(1, Relaxed);
        let (path, bytes) = (&file.plan.path, file.plan.size);
        self.shared.observer.event(Event::Entry { path, action: Action::Restored, bytes });
        Ok(())
    }

    /// A file that cannot be written is a problem; a full target is the end.
    fn note(&self, file: &FileState, done: Result<(), TargetError>) -> Result<(), EngineError> {
        let Err(error) = done else { return Ok(()) };
        file.failed.store(true, Relaxed);
        if error.kind == TargetErrorKind::Full {
            return Err(EngineError::Target { path: file.plan.path.to_string(), why: error.source.to_string() });
        }
        self.shared.lost(&file.plan.path, error);
        Ok(())
    }
}

/// Nothing is done under these locks that could leave a value half changed.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// More threads than cores, for a disk makes them wait; not many more, for they wait for each other too.
fn writers() -> usize {
    std::thread::available_parallelism().map_or(4, |cores| (cores.get() * 2).clamp(4, 16))
}

fn gone(plan: &FilePlan) -> TargetError {
    TargetError {
        kind: TargetErrorKind::Missing,
        what: "write",
        path: plan.path.clone(),
        source: std::io::ErrorKind::NotFound.into(),
    }
}
