//! Reading the source: on several threads, small files in groups, large ones cut as they are read.
//!
//! A file that changes under the reader is read again, three times in all; then it is kept as torn, and reported.

use super::draft::Draft;
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
    sync::{Arc, Mutex, PoisonError, mpsc},
    time::Duration,
};

/// Something to be read.
pub struct Job {
    /// One large file, or several small entries.
    pub found: Vec<Found>,
    /// Takes what was read.
    pub pieces: mpsc::SyncSender<Vec<Piece>>,
}

/// What comes next in path order.
pub enum Slot {
    /// Entries that need no reading.
    Ready(Vec<Draft>),
    /// What a reader is at.
    Pending(mpsc::Receiver<Vec<Piece>>),
    /// All has been handed on. Where this does not come, something is missing.
    End,
}

/// What a reader has read.
pub enum Piece {
    /// An entry without content, or with content that is known.
    Whole(Draft),
    /// A small file: its draft has no content yet.
    Small {
        /// The draft.
        draft: Draft,
        /// The data bytes.
        data: Vec<u8>,
        /// Their content id.
        id: ContentId,
    },
    /// A large file begins, or begins again.
    Begin,
    /// The next chunk of it.
    Chunk(Vec<u8>),
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
        let mut names = OwnerNames::load();
        loop {
            let job = jobs.lock().unwrap_or_else(PoisonError::into_inner).recv();
            let Ok(job) = job else { return };
            if self.job(job, &mut names).is_err() {
                return;
            }
        }
    }

    fn job(&self, job: Job, names: &mut OwnerNames) -> Result<(), Ended> {
        let mut pieces = Vec::with_capacity(job.found.len());
        for found in job.found {
            if found.stat.kind != Kind::File {
                pieces.extend(self.other(&found, names).map(Piece::Whole));
                continue;
            }
            match open_settled(&found) {
                Ok(file) => self.file(&file, names, &mut pieces, &job.pieces)?,
                Err(error) => self.problem(&found, error),
            }
        }
        pieces.push(Piece::Done);
        send(&job.pieces, &mut pieces)
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

    fn file(
        &self,
        file: &SourceFile,
        names: &mut OwnerNames,
        pieces: &mut Vec<Piece>,
        sender: &mpsc::SyncSender<Vec<Piece>>,
    ) -> Result<(), Ended> {
        let mut current = None;
        for again in (0..TRIES).rev() {
            let file = current.as_ref().unwrap_or(file);
            let outcome = self.read_once(file, names, again == 0, pieces, sender)?;
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
        pieces.push(Piece::End(None));
        Ok(())
    }

    /// Reads a file from front to back. On the last try a changed one is kept as torn.
    fn read_once(
        &self,
        file: &SourceFile,
        names: &mut OwnerNames,
        is_last: bool,
        pieces: &mut Vec<Piece>,
        sender: &mpsc::SyncSender<Vec<Piece>>,
    ) -> Result<Outcome, Ended> {
        let mut stretches = Stretches::new(file);
        let small = self.small as usize;
        let mut start = Vec::with_capacity(small.min(file.size() as usize + 1));
        let read = stretches.fill(&mut start, small);
        if let Err(error) = read {
            self.problem(file.found(), error);
            return Ok(Outcome::Lost);
        }
        let is_small = start.len() < small;
        let data_bytes = if is_small {
            Ok(start.len() as u64)
        } else {
            pieces.push(Piece::Begin);
            self.chunks(&mut stretches, &mut start, pieces, sender)?
        };
        let changed = match data_bytes.map_err(|error| error.to_string()) {
            Ok(_) => file.changed().map(|changed| changed || stretches.is_short).map_err(|error| error.to_string()),
            Err(error) => Err(error),
        };
        let torn = match changed {
            Ok(false) => false,
            Ok(true) if !is_last => return Ok(Outcome::Changed),
            Ok(true) => {
                self.problem(file.found(), "it changed while it was read, each time it was tried; kept as torn");
                true
            }
            Err(error) => {
                self.problem(file.found(), error);
                return Ok(Outcome::Lost);
            }
        };
        let size = stretches.at;
        let node = File { size, torn, extents: stretches.extents.finish(), ..File::empty() };
        let draft = Draft::plain(Entry {
            path: file.found().path.clone(),
            metadata: self.metadata(file, names),
            node: Node::File(node),
        });
        pieces.push(match (is_small, start.is_empty()) {
            (true, true) => Piece::Whole(draft),
            (true, false) => {
                self.observer.event(Event::Read { bytes: start.len() as u64 });
                Piece::Small { draft, id: self.keys.content_id(&start), data: start }
            }
            (false, _) => Piece::End(Some(draft)),
        });
        Ok(Outcome::Done)
    }

    fn metadata(&self, file: &SourceFile, names: &mut OwnerNames) -> Metadata {
        let (metadata, problem) = file.metadata(names);
        if let Some(problem) = problem {
            self.problems.add(&*self.observer, problem.into());
        }
        metadata
    }

    /// Cuts all data of a large file, of which `window` is the beginning.
    fn chunks(
        &self,
        stretches: &mut Stretches<'_>,
        window: &mut Vec<u8>,
        pieces: &mut Vec<Piece>,
        sender: &mpsc::SyncSender<Vec<Piece>>,
    ) -> Result<Result<u64, FoundError>, Ended> {
        let max = self.chunker.max();
        let mut total = 0;
        let mut done = 0;
        loop {
            if window.len() - done < max {
                window.drain(..done);
                done = 0;
                // Half as much again, so that what is left over is moved seldom.
                if let Err(error) = stretches.fill(window, max + max / 2) {
                    return Ok(Err(error));
                }
            }
            if window.len() == done {
                return Ok(Ok(total));
            }
            let length = self.chunker.cut(&window[done..]);
            let chunk = window[done..done + length].to_vec();
            done += length;
            total += length as u64;
            self.observer.event(Event::Read { bytes: length as u64 });
            pieces.push(Piece::Chunk(chunk));
            send(sender, pieces)?;
        }
    }
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

fn send(sender: &mpsc::SyncSender<Vec<Piece>>, pieces: &mut Vec<Piece>) -> Result<(), Ended> {
    sender.send(std::mem::take(pieces)).map_err(|_| Ended)
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

    /// Reads until `buffer` holds `length` bytes or the file ends.
    fn fill(&mut self, buffer: &mut Vec<u8>, length: usize) -> Result<(), FoundError> {
        while buffer.len() < length && !self.is_short && self.next_stretch() {
            let before = buffer.len();
            let wanted = ((length - before) as u64).min(self.data_left) as usize;
            buffer.resize(before + wanted, 0);
            let got = self.file.read_at(&mut buffer[before..], self.at)?;
            buffer.truncate(before + got);
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
