//! Extents in their one right form, and files cut into parts (`spec/5-manifest.md`, "Parts").

use super::{
    limits::PART_MAX,
    manifest::{Content, Extent, File},
};

/// Collects stretches of data and holes, and gives them in the form that a manifest holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExtentList(Vec<Extent>);

impl ExtentList {
    /// Adds data bytes.
    pub fn push_data(&mut self, length: u64) {
        match self.0.last_mut() {
            _ if length == 0 => {}
            Some(last) if last.hole == 0 => last.data += length,
            _ => self.0.push(Extent { data: length, hole: 0 }),
        }
    }

    /// Adds a hole.
    pub fn push_hole(&mut self, length: u64) {
        match self.0.last_mut() {
            _ if length == 0 => {}
            Some(last) => last.hole += length,
            None => self.0.push(Extent { data: 0, hole: length }),
        }
    }

    /// Adds the extents of a file or part with `data` data bytes.
    pub fn extend(&mut self, extents: &[Extent], data: u64) {
        if extents.is_empty() {
            self.push_data(data);
        }
        for extent in extents {
            self.push_data(extent.data);
            self.push_hole(extent.hole);
        }
    }

    /// The form that a manifest holds: none at all where there is no hole.
    #[must_use]
    pub fn finish(self) -> Vec<Extent> {
        if self.0.iter().all(|extent| extent.hole == 0) { Vec::new() } else { self.0 }
    }
}

/// Cuts a chunked file into parts that keep to the limits. `plain` gives the length of each of its chunks, in order.
///
/// Breaks come after a whole chunk and the hole behind it.
#[must_use]
pub fn split_parts(file: File, plain: &[u32]) -> Vec<File> {
    let Content::Chunked { chunks } = &file.content else { return vec![file] };
    if chunks.len() <= PART_MAX && file.extents.len() <= PART_MAX {
        return vec![file];
    }
    let mut cutter = PartCutter::new(&file, plain);
    for (&chunk, &length) in chunks.iter().zip(plain) {
        cutter.add(chunk, u64::from(length));
    }
    cutter.finish()
}

struct PartCutter<'a> {
    file: &'a File,
    left: std::vec::IntoIter<Extent>,
    current: Extent,
    parts: Vec<File>,
    chunks: Vec<u32>,
    extents: ExtentList,
}

impl<'a> PartCutter<'a> {
    fn new(file: &'a File, plain: &[u32]) -> Self {
        let mut all = ExtentList::default();
        all.extend(&file.extents, plain.iter().map(|&length| u64::from(length)).sum());
        let mut left = all.0.into_iter();
        let current = left.next().unwrap_or(Extent { data: 0, hole: 0 });
        Self { file, left, current, parts: Vec::new(), chunks: Vec::new(), extents: ExtentList::default() }
    }

    /// Adds a chunk with the holes within and behind it, in a part of its own where the last one is full.
    fn add(&mut self, chunk: u32, length: u64) {
        let own = self.take(length);
        if self.chunks.len() == PART_MAX || self.extents.0.len() + own.0.len() > PART_MAX {
            self.close(true);
        }
        self.chunks.push(chunk);
        self.extents.extend(&own.0, length);
    }

    /// Takes the extents of the next `length` data bytes and the hole behind them.
    fn take(&mut self, mut length: u64) -> ExtentList {
        let mut taken = ExtentList::default();
        loop {
            let data = length.min(self.current.data);
            taken.push_data(data);
            self.current.data -= data;
            length -= data;
            if self.current.data > 0 {
                return taken;
            }
            taken.push_hole(self.current.hole);
            match self.left.next() {
                Some(next) => self.current = next,
                None => {
                    self.current = Extent { data: 0, hole: 0 };
                    return taken;
                }
            }
            if length == 0 {
                return taken;
            }
        }
    }

    fn close(&mut self, more: bool) {
        let content = Content::Chunked { chunks: std::mem::take(&mut self.chunks) };
        let extents = std::mem::take(&mut self.extents).finish();
        let part = self.parts.len() as u32;
        self.parts.push(File { size: self.file.size, part, more, torn: self.file.torn, extents, content });
    }

    fn finish(mut self) -> Vec<File> {
        self.close(false);
        self.parts
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn file(extents: Vec<Extent>, chunks: usize, size: u64) -> File {
        let content = Content::Chunked { chunks: (0..chunks as u32).collect() };
        File { size, part: 0, more: false, torn: false, extents, content }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn parts_hold_all_of_a_file_and_each_keeps_to_the_limits(
            plain in proptest::collection::vec(1u32..3000, PART_MAX - 4..PART_MAX * 2 + 9),
            stretch in 1u64..5000, lead in 0u64..3, hole in 1u64..9,
        ) {
            let data: u64 = plain.iter().map(|&length| u64::from(length)).sum();
            let mut list = ExtentList::default();
            list.push_hole(lead);
            let mut left = data;
            while left > 0 {
                list.push_data(stretch.min(left));
                list.push_hole(hole);
                left -= stretch.min(left);
            }
            let whole = list.clone();
            let extents = list.finish();
            let size = data + extents.iter().map(|extent| extent.hole).sum::<u64>();
            let parts = split_parts(file(extents, plain.len(), size), &plain);
            let mut again = ExtentList::default();
            let mut at = 0;
            for (number, part) in parts.iter().enumerate() {
                let Content::Chunked { chunks } = &part.content else { panic!("not chunked") };
                prop_assert!(chunks.len() <= PART_MAX && part.extents.len() <= PART_MAX && !chunks.is_empty());
                prop_assert_eq!((part.part as usize, part.more), (number, number + 1 < parts.len()));
                let own: u64 = plain[at..at + chunks.len()].iter().map(|&length| u64::from(length)).sum();
                again.extend(&part.extents, own);
                prop_assert_eq!(chunks[0] as usize, at);
                at += chunks.len();
            }
            prop_assert_eq!(at, plain.len());
            prop_assert_eq!(again, whole);
        }
    }
}
