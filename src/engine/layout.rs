//! Where in a file the data bytes of its chunks lie, between the holes.

use crate::format::manifest::{Extent, File};

/// Walks the extents of a part while its data bytes are given out.
pub struct Layout<'a> {
    extents: std::slice::Iter<'a, Extent>,
    at: u64,
    data_left: u64,
    hole: u64,
}

impl<'a> Layout<'a> {
    /// The layout of a part that begins at `at` in its file.
    #[must_use]
    pub fn new(at: u64, file: &'a File) -> Self {
        let mut extents = file.extents.iter();
        let (data_left, hole) = extents.next().map_or((u64::MAX, 0), |extent| (extent.data, extent.hole));
        Self { extents, at, data_left, hole }
    }

    /// Gives out `length` data bytes that begin at `from` in their chunk, in stretches between holes.
    pub fn write(&mut self, mut from: u32, mut length: u32, mut add: impl FnMut((u32, u32, u64))) {
        while length > 0 {
            if self.data_left == 0 {
                self.skip_hole();
                continue;
            }
            let now = u64::from(length).min(self.data_left) as u32;
            add((from, now, self.at));
            from += now;
            length -= now;
            self.at += u64::from(now);
            self.data_left -= u64::from(now);
        }
    }

    fn skip_hole(&mut self) {
        self.at += self.hole;
        (self.data_left, self.hole) = self.extents.next().map_or((u64::MAX, 0), |extent| (extent.data, extent.hole));
    }

    /// Where the part ends: after the holes that are left.
    #[must_use]
    pub fn end(mut self, file: &File) -> u64 {
        if !file.extents.is_empty() {
            self.at += self.hole;
            self.at += self.extents.map(|extent| extent.hole).sum::<u64>();
        }
        self.at
    }
}
