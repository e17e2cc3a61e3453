//! The names in one directory, sorted, at little more than their own bytes: a directory may hold a million.

use rustix::fs::RawDir;
use std::{io, os::fd::OwnedFd};

/// What one call to the system may bring, in bytes.
const BUFFER: usize = 64 << 10;

/// Names in the order of their bytes, taken one by one.
#[derive(Default)]
pub(super) struct Names {
    /// All names, each with its length known from the range.
    bytes: Vec<u8>,
    /// Where each begins and ends; the next to be taken is the last.
    ranges: Vec<(usize, u16)>,
}

impl Names {
    /// Reads the names of `directory`, which must have been opened just now.
    pub(super) fn read(directory: &OwnedFd) -> io::Result<Self> {
        let mut names = Self::default();
        let mut buffer = Vec::with_capacity(BUFFER);
        let mut entries = RawDir::new(directory, buffer.spare_capacity_mut());
        while let Some(entry) = entries.next() {
            match entry?.file_name().to_bytes() {
                b"." | b".." => {}
                name => names.push(name),
            }
        }
        let Self { bytes, ranges } = &mut names;
        let name = |&(start, length): &(usize, u16)| &bytes[start..start + usize::from(length)];
        ranges.sort_unstable_by(|a, b| name(b).cmp(name(a)));
        Ok(names)
    }

    fn push(&mut self, name: &[u8]) {
        // The kernel's records are shorter than 64 KiB, so their names are.
        let length = u16::try_from(name.len()).unwrap_or(u16::MAX);
        self.ranges.push((self.bytes.len(), length));
        self.bytes.extend_from_slice(&name[..usize::from(length)]);
    }

    /// The next name.
    pub(super) fn next(&mut self) -> Option<&[u8]> {
        self.ranges.pop().map(|range| self.name(range))
    }

    /// Whether `wanted` is among those not yet taken.
    pub(super) fn contains(&self, wanted: &[u8]) -> bool {
        self.ranges.binary_search_by(|&range| wanted.cmp(self.name(range))).is_ok()
    }

    /// Forgets all names but those that `keep` wants.
    pub(super) fn retain(&mut self, keep: impl Fn(&[u8]) -> bool) {
        let Self { bytes, ranges } = self;
        ranges.retain(|&(start, length)| keep(&bytes[start..start + usize::from(length)]));
    }

    fn name(&self, (start, length): (usize, u16)) -> &[u8] {
        &self.bytes[start..start + usize::from(length)]
    }
}
