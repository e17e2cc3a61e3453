//! Reading the source: on several threads, small files in groups, large ones cut as they are read.
//!
//! A file that changes under the reader is read again, three times in all; then it is kept as torn, and reported.

use super::{
    buffer::{Buffer, Buffers, Filled},
    draft::Draft,
};
use crate::engine::{
    event::{Event, Observer, Problem, Problems},
    owners::OwnerNames,
    source::{Found, FoundError, SourceFile},
    stat::Kind,
};
use crate::format::{
    chunker::Chunker,
    extents::ExtentList,
    keys::Keys,
    manifest::{ContentId, Entry, File, Metadata, Node, Time},
};
use std::{
    ops::Range,
    sync::{Arc, Mutex, PoisonError, mpsc},
    time::Duration,
};

/// Something to be read.
pub struct Job {
    /// One large file, or several small entries.
    pub found: Vec<Found>,
    /// Takes what was read.
    pub pieces: mpsc::SyncSender<Pieces>,
}

/// What comes next in path order.
pub enum Slot {
    /// Entries that need no reading.
    Ready(Vec<Draft>),
    /// What a reader is at.
    Pending(mpsc::Receiver<Pieces>),
    /// All has been handed on. Where this does not come, something is missing.
    End,
}

/// What a reader has read, in path order.
pub struct Pieces {
    /// One after the other.
    pub list: Vec<Piece>,
    /// The data of the small files among them.
    pub small: Buffer,
}

/// A part of what a reader has read.
pub enum Piece {
    /// An entry without content, or with content that is known.
    Whole(Draft),
    /// A small file: its draft has no content yet.
    Small {
        /// The draft.
        draft: Draft,
        /// Where its data bytes lie among those of the small files.
        data: Range<usize>,
        /// Their content id.
        id: ContentId,
    },
    /// A large file begins, or begins again.
    Begin,
    /// The next chunk of it.
    Chunk(Buffer),
    /// It ends; its draft has no content yet. `None` if it was lost on the way.
    End(Option<Draft>),
    /// All of the job has been read. Where this does not come, something is missing.
    Done,
}

/// How often a file is read that changes meanwhile.
const TRIES: usize = 3;
/// Holes shorter than this are read as the zeros that they are, in bytes.
const HOLE_MIN: u64 = 4096;

/// What every reader shares.
pub struct Reading {
    /// Cuts large files.
    pub chunker: Chunker,
    /// Makes content ids.
    pub keys: Arc<Keys>,
    /// Files with fewer data bytes are packed.
    pub small: u64,
    /// Buffers for the data of small files, used again and again.
    pub buffers: Arc<Buffers>,
    /// The same for chunks.
    pub chunk_buffers: Arc<Buffers>,
    /// Collects what cannot be read.
    pub problems: Arc<Problems>,
    /// Told of every byte.
    pub observer: Arc<dyn Observer>,
}

/// A reader's channel has no receiver any more.
struct Ended;

impl Reading {
    /// Does jobs until there are none left, or no one takes what is read.
    pub fn run(&self, jobs: &Mutex<mpsc::Receiver<Job>>) {
        let (mut names, mut window) = (OwnerNames::load(), Filled::new(self.chunker.average() * 2));
        loop {
            let job = jobs.lock().unwrap_or_else(PoisonError::into_inner).recv();
            let Ok(job) = job else { return };
            let pieces = Pieces { list: Vec::with_capacity(job.found.len() + 1), small: self.buffers.take() };
            let mut out = Out { pieces, window: &mut window, sender: &job.pieces, buffers: &self.buffers };
            if self.job(job.found, &mut names, &mut out).is_err() {
                return;
            }
        }
    }

    fn job(&self, found: Vec<Found>, names: &mut OwnerNames, out: &mut Out<'_>) -> Result<(), Ended> {
        for found in found {
            if found.stat.kind != Kind::File {
                out.pieces.list.extend(self.other(&found, names).map(Piece::Whole));
                continue;
            }
            match open_settled(&found) {
                Ok(file) => self.file(&file, names, out)?,
                Err(error) => self.problem(&found, error),
            }
        }
        out.pieces.list.push(Piece::Done);
        out.send()
    }

    fn problem(&self, found: &Found, why: impl ToString) {
        self.problems.add(&*self.observer, Problem::new(&found.path, why));
    }

    /// A directory, link or special file.
    fn other(&self, found: &Found, names: &mut OwnerNames) -> Option<Draft> {
        let node = match found.stat.node() {
            Some(node) => node,
            None => match found.read_link() {
                Ok(target) => Node::Symlink { target },
                Err(error) => {
                    self.problem(found, error);
                    return None;
                }
            },
        };
        let (metadata, problem) = found.metadata(names);
        if let Some(problem) = problem {
            self.problems.add(&*self.observer, problem.into());
        }
        Some(Draft::plain(Entry { path: found.path.clone(), metadata, node }))
    }

    fn file(&self, file: &SourceFile, names: &mut OwnerNames, out: &mut Out<'_>) -> Result<(), Ended> {
        let mut current = None;
        for again in (0..TRIES).rev() {
            let file = current.as_ref().unwrap_or(file);
            let outcome = self.read_once(file, names, again == 0, out)?;
            match outcome {
                Outcome::Done => return Ok(()),
                Outcome::Lost => break,
                Outcome::Changed => match SourceFile::open(file.found()) {
                    Ok(newer) => current = Some(newer),
                    Err(error) => {
                        self.problem(file.found(), error);
                        break;
                    }
                },
            }
        }
        out.pieces.list.push(Piece::End(None));
        Ok(())
    }

    /// Reads a file from front to back. On the last try a changed one is kept as torn.
    fn read_once(
        &self,
        file: &SourceFile,
        names: &mut OwnerNames,
        is_last: bool,
        out: &mut Out<'_>,
    ) -> Result<Outcome, Ended> {
        let mut stretches = Stretches::new(file);
        let begin = out.pieces.small.len();
        let content = match self.content(&mut stretches, out)? {
            Ok(content) => content,
            Err(error) => {
                self.problem(file.found(), error);
                out.pieces.small.truncate(begin);
                return Ok(Outcome::Lost);
            }
        };
        let torn = match file.changed().map(|changed| changed || stretches.is_short) {
            Ok(false) => false,
            Ok(true) if is_last => {
                self.problem(file.found(), "it changed while it was read, each time it was tried; kept as torn");
                true
            }
            told => {
                out.pieces.small.truncate(begin);
                let Err(error) = told else { return Ok(Outcome::Changed) };
                self.problem(file.found(), error);
                return Ok(Outcome::Lost);
            }
        };
        let node = File { size: stretches.at, torn, extents: stretches.extents.finish(), ..File::empty() };
        let metadata = self.metadata(file, names);
        let draft = Draft::plain(Entry { path: file.found().path.clone(), metadata, node: Node::File(node) });
        out.pieces.list.push(match content {
            Data::None => Piece::Whole(draft),
            Data::Small(data) => {
                self.observer.event(Event::Read { bytes: data.len() as u64 });
                Piece::Small { draft, id: self.keys.content_id(&out.pieces.small.bytes()[data.clone()]), data }
            }
            Data::Chunks => Piece::End(Some(draft)),
        });
        Ok(Outcome::Done)
    }

    /// Reads the data of a file: into the buffer of the small ones if there are few, else cut into chunks.
    fn content(&self, stretches: &mut Stretches<'_>, out: &mut Out<'_>) -> Result<Result<Data, FoundError>, Ended> {
        let small = self.small as usize;
        let begin = out.pieces.small.len();
        if stretches.file.size() < self.small {
            if let Err(error) = stretches.fill(&mut out.pieces.small, small) {
                return Ok(Err(error));
            }
        } else {
            out.window.truncate(0);
            if let Err(error) = stretches.fill(out.window, small) {
                return Ok(Err(error));
            }
            if out.window.len() >= small {
                out.pieces.list.push(Piece::Begin);
                return Ok(self.chunks(stretches, out)?.map(|()| Data::Chunks));
            }
            // Most of it is holes, or it has shrunk.
            out.pieces.small.extend(out.window.bytes());
        }
        let end = out.pieces.small.len();
        Ok(Ok(if end == begin { Data::None } else { Data::Small(begin..end) }))
    }

    fn metadata(&self, file: &SourceFile, names: &mut OwnerNames) -> Metadata {
        let (metadata, problem) = file.metadata(names);
        if let Some(problem) = problem {
            self.problems.add(&*self.observer, problem.into());
        }
        metadata
    }

    /// Cuts all data of a large file, of which the window holds the beginning.
    fn chunks(&self, stretches: &mut Stretches<'_>, out: &mut Out<'_>) -> Result<Result<(), FoundError>, Ended> {
        loop {
            let length = match self.next_cut(stretches, out.window) {
                Ok(0) => return Ok(Ok(())),
                Ok(length) => length,
                Err(error) => return Ok(Err(error)),
            };
            let mut chunk = self.chunk_buffers.take();
            chunk.extend(&out.window.bytes()[..length]);
            out.window.drop_front(length);
            self.observer.event(Event::Read { bytes: length as u64 });
            out.pieces.list.push(Piece::Chunk(chunk));
            out.send()?;
        }
    }

    /// Reads on until the window holds a whole chunk, and says how long that is; 0 at the end. Few chunks are much
    /// longer than the average: as much as the longest is held only where it is needed.
    fn next_cut(&self, stretches: &mut Stretches<'_>, window: &mut Filled) -> Result<usize, FoundError> {
        let (usual, max) = (self.chunker.average() * 2, self.chunker.max());
        for enough in [usual.min(max), max] {
            let missing = enough.saturating_sub(window.len());
            stretches.fill(window, missing)?;
            let length = if window.len() == 0 { 0 } else { self.chunker.cut(window.bytes()) };
            // A cut at the very end of what is here may be no cut.
            if length < window.len() || window.len() < enough {
                return Ok(length);
            }
        }
        Ok(self.chunker.cut(window.bytes()))
    }
}

/// Where a reader puts what it has read.
struct Out<'a> {
    pieces: Pieces,
    window: &'a mut Filled,
    sender: &'a mpsc::SyncSender<Pieces>,
    buffers: &'a Arc<Buffers>,
}

impl Out<'_> {
    fn send(&mut self) -> Result<(), Ended> {
        let next = Pieces { list: Vec::new(), small: self.buffers.take() };
        self.sender.send(std::mem::replace(&mut self.pieces, next)).map_err(|_| Ended)
    }
}

/// What a file holds.
enum Data {
    /// Nothing, or nothing but holes.
    None,
    /// Few bytes, there among those of the small files.
    Small(Range<usize>),
    /// Chunks, which have been handed on.
    Chunks,
}

/// Opens a file once its last change lies so far back that a further one will show in its times. Else what is written right after it was
/// read could bear the same times, and would never be noticed.
fn open_settled(found: &Found) -> Result<SourceFile, FoundError> {
    let file = SourceFile::open(found)?;
    match unsettled_for(file.found().stat.mtime.max(file.found().stat.ctime), crate::clock::now()) {
        None => Ok(file),
        Some(wait) => {
            std::thread::sleep(wait);
            SourceFile::open(found)
        }
    }
}

/// How long until times of a file changed at `changed` can be told from those of a later change. Times without nanoseconds come from file
/// systems that count in seconds, or two of them.
fn unsettled_for(changed: Time, now: Time) -> Option<Duration> {
    let tick = if changed.nanoseconds == 0 { Duration::from_secs(2) } else { Duration::from_millis(20) };
    let nanos = |time: Time| i128::from(time.seconds) * 1_000_000_000 + i128::from(time.nanoseconds);
    let age = nanos(now) - nanos(changed);
    let left = tick.as_nanos() as i128 - age;
    // A change in the future, by clocks that differ, tells nothing.
    (age >= 0 && left > 0).then(|| Duration::from_nanos(left as u64))
}

enum Outcome {
    Done,
    Changed,
    Lost,
}

/// The data bytes of a file, holes passed over and noted.
struct Stretches<'a> {
    file: &'a SourceFile,
    /// How far the file has been read, holes included.
    at: u64,
    /// Data bytes from `at` to the next hole.
    data_left: u64,
    /// The hole that follows them.
    hole: u64,
    extents: ExtentList,
    /// The file ended sooner than it said.
    is_short: bool,
}

impl<'a> Stretches<'a> {
    fn new(file: &'a SourceFile) -> Self {
        Self { file, at: 0, data_left: 0, hole: 0, extents: ExtentList::default(), is_short: false }
    }

    /// Adds `most` bytes to `buffer`; fewer only where the file ends.
    fn fill(&mut self, buffer: &mut Filled, most: usize) -> Result<(), FoundError> {
        let end = buffer.len() + most;
        while buffer.len() < end && !self.is_short && self.next_stretch() {
            let wanted = ((end - buffer.len()) as u64).min(self.data_left) as usize;
            let got = self.file.read_at(buffer.room(wanted), self.at)?;
            buffer.filled(got);
            self.is_short = got < wanted;
            self.at += got as u64;
            self.data_left -= got as u64;
            self.extents.push_data(got as u64);
        }
        Ok(())
    }

    /// Whether data follow; passes over a hole.
    fn next_stretch(&mut self) -> bool {
        while self.data_left == 0 {
            self.extents.push_hole(self.hole);
            self.at += self.hole;
            self.hole = 0;
            let Some(extent) = self.file.next_extent(self.at) else { return false };
            let is_worth_it = extent.hole >= HOLE_MIN;
            (self.data_left, self.hole) =
                if is_worth_it { (extent.data, extent.hole) } else { (extent.data + extent.hole, 0) };
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_once_a_later_change_would_show() {
        let at = |seconds, nanoseconds| Time { seconds, nanoseconds };
        assert_eq!(unsettled_for(at(100, 5), at(100, 1_000_005)), Some(Duration::from_millis(19)));
        assert_eq!(unsettled_for(at(100, 5), at(100, 20_000_005)), None);
        assert_eq!(unsettled_for(at(100, 0), at(101, 0)), Some(Duration::from_secs(1)));
        assert_eq!(unsettled_for(at(101, 5), at(100, 0)), None);
        assert_eq!(unsettled_for(at(-5, 5), at(100, 0)), None);
    }
}
