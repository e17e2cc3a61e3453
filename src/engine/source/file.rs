//! A regular file of the source, open for reading.
//!
//! The system is told that large files are read from front to back. It is not told to drop what was read: nobody can
//! know whether the pages were in use before, and a busy database would pay for its backup.

use super::{
    found::{Found, FoundError},
    open_at,
};
use crate::{
    engine::{
        owners::OwnerNames,
        problem::Problem,
        stat::{Kind, Stat},
        xattr::Holder,
    },
    format::manifest::{Extent, Metadata},
};
use rustix::{
    fs::{self, Advice, OFlags, SeekFrom},
    io::Errno,
};
use std::{
    fs::File,
    io,
    os::{fd::AsFd, unix::fs::FileExt},
};

/// Files of more bytes are announced as read from front to back.
const SEQUENTIAL_FROM: u64 = 1 << 20;

/// An open file, and what it was when it was opened.
#[derive(Debug)]
pub struct SourceFile {
    file: File,
    found: Found,
}

impl SourceFile {
    /// Opens what a walk found. Size and times may have changed since: those of now count, see [`found`](Self::found).
    ///
    /// # Errors
    /// [`FoundError`] where it is gone, may not be read, or is no regular file any more.
    pub fn open(found: &Found) -> Result<Self, FoundError> {
        let fail = |error| match error {
            // A link in its place, or a socket.
            Errno::LOOP | Errno::NXIO => FoundError::ChangedKind(found.path.clone()),
            other => FoundError::new("open", &found.path, other.into()),
        };
        let open = || open_at(&*found.directory()?, found.name(), OFlags::empty());
        let fd = open().map_err(|error| match Errno::from_io_error(&error) {
            Some(errno) => fail(errno),
            None => FoundError::new("open", &found.path, error),
        })?;
        let stat = fs::fstat(&fd).map_err(io::Error::from).and_then(|stat| Stat::new(&stat));
        let stat = stat.map_err(|error| FoundError::new("look at", &found.path, error))?;
        if stat.kind != Kind::File {
            return Err(FoundError::ChangedKind(found.path.clone()));
        }
        if stat.size > SEQUENTIAL_FROM {
            // Advice: nothing is lost where it is not taken.
            let _ = fs::fadvise(&fd, 0, None, Advice::Sequential);
        }
        Ok(Self { file: fd.into(), found: found.seen_again(stat) })
    }

    /// The entry as it was when the file was opened.
    #[must_use]
    pub fn found(&self) -> &Found {
        &self.found
    }

    /// Length in bytes when it was opened.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.found.stat.size
    }

    /// As [`Found::metadata`], of the very file that is open.
    pub fn metadata(&self, names: &mut OwnerNames) -> (Metadata, Option<Problem>) {
        let (xattrs, error) = Holder::Open(self.file.as_fd()).read();
        self.found.metadata_with(names, xattrs, error)
    }

    /// Fills `buffer` from `offset` on and says how much of it; less than all only at the end of the file.
    ///
    /// # Errors
    /// [`FoundError::Io`] where the disk fails.
    pub fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<usize, FoundError> {
        let mut done = 0;
        while done < buffer.len() {
            match self.file.read_at(&mut buffer[done..], offset + done as u64) {
                Ok(0) => break,
                Ok(count) => done += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(FoundError::new("read", &self.found.path, error)),
            }
        }
        Ok(done)
    }

    /// Whether the file was changed since it was opened: its size, mtime or ctime.
    ///
    /// # Errors
    /// [`FoundError::Io`] where the system does not say.
    pub fn changed(&self) -> Result<bool, FoundError> {
        let now = fs::fstat(&self.file).map_err(io::Error::from).and_then(|stat| Stat::new(&stat));
        let now = now.map_err(|error| FoundError::new("look at", &self.found.path, error))?;
        Ok(!now.is_unchanged(&self.found.stat))
    }

    /// Whether it occupies less than its length, so that there may be holes. Others are all data.
    #[must_use]
    pub fn may_have_holes(&self) -> bool {
        self.found.stat.blocks.saturating_mul(512) < self.size()
    }

    /// Where data and holes lie. The extents add up to the size and are in the manifest's form, but for a file without
    /// holes, which gives one extent and is written with none.
    #[must_use]
    pub fn extents(&self) -> Extents<'_> {
        Extents { file: self, at: 0 }
    }

    /// The data from `from` on and the hole after them; `None` at the end. `from` is 0 or the end of a hole.
    ///
    /// Data always follow but at the very start, even if a hole has been punched there meanwhile: reading it gives
    /// zeros. Never more than the size, whatever the system says.
    #[must_use]
    pub fn next_extent(&self, from: u64) -> Option<Extent> {
        let size = self.size();
        if from >= size {
            return None;
        }
        if !self.may_have_holes() {
            return Some(Extent { data: size - from, hole: 0 });
        }
        let data_start = self.seek_data(from);
        if from == 0 && data_start > 0 {
            return Some(Extent { data: 0, hole: data_start });
        }
        // Whatever happens to the file meanwhile, an extent after the first has data.
        let mut data_end = self.seek_hole(data_start).max(if from == 0 { 0 } else { from + 1 });
        let mut next = self.seek_data(data_end);
        while next == data_end && next < size {
            // Filled meanwhile, or a system that contradicts itself: then all the rest is data.
            let further = self.seek_hole(next);
            data_end = if further > data_end { further } else { size };
            next = self.seek_data(data_end);
        }
        Some(Extent { data: data_end - from, hole: next - data_end })
    }

    fn seek_data(&self, from: u64) -> u64 {
        if from >= self.size() {
            return self.size();
        }
        match fs::seek(&self.file, SeekFrom::Data(from)) {
            Ok(at) => at.clamp(from, self.size()),
            Err(Errno::NXIO) => self.size(),
            Err(_) => from,
        }
    }

    fn seek_hole(&self, from: u64) -> u64 {
        if from >= self.size() {
            return self.size();
        }
        fs::seek(&self.file, SeekFrom::Hole(from)).map_or(self.size(), |at| at.clamp(from, self.size()))
    }
}

/// The extents of a file, from front to back.
#[derive(Debug)]
pub struct Extents<'a> {
    file: &'a SourceFile,
    at: u64,
}

impl Iterator for Extents<'_> {
    type Item = Extent;

    fn next(&mut self) -> Option<Extent> {
        let extent = self.file.next_extent(self.at)?;
        self.at += extent.data + extent.hole;
        Some(extent)
    }
}

impl Found {
    /// The entry with a newer look at it. Another file in its place is a link of no group that is known.
    fn seen_again(&self, stat: Stat) -> Found {
        let is_same = (stat.device, stat.inode) == (self.stat.device, self.stat.inode) && stat.nlink > 1;
        let link_group = if is_same { self.link_group } else { 0 };
        Found { stat, link_group, ..self.clone() }
    }
}
