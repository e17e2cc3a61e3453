//! Where files, packs and segments are cut (`spec/4-chunking.md`).
//!
//! A secret gear table nominates, a keyed hash decides: what a server sees of lengths tells it little about content.

use super::{
    config::{ChunkSizes, PackSizes, SegmentSizes},
    keys::{CutKeys, Secret},
    manifest::ContentId,
    path::TreePath,
};
use fastcdc::v2020::cut_gear;
use zeroize::Zeroizing;

/// Ten bits: a nomination about every KiB.
const NOMINATE: u64 = 0x0000_5900_0353_0000;
const _: () = assert!(NOMINATE.count_ones() == 10);
/// Bytes between nominations, on average.
const NOMINATION: u64 = 1 << NOMINATE.count_ones();
/// Bytes before a nominated cut that decide on it.
const WINDOW: usize = 64;

/// Cuts the data of large files.
pub struct Chunker {
    sizes: ChunkSizes,
    gear: Zeroizing<Vec<u64>>,
    gear_shifted: Zeroizing<Vec<u64>>,
    gate: Secret,
    early: u32,
    late: u32,
}

impl Chunker {
    /// A chunker for sizes that a [`Config`](super::config::Config) holds.
    #[must_use]
    pub fn new(keys: &CutKeys, sizes: ChunkSizes) -> Self {
        let gear = keys.gear.chunks_exact(8).map(|bytes| u64::from_le_bytes(std::array::from_fn(|at| bytes[at])));
        let gear: Zeroizing<Vec<u64>> = Zeroizing::new(gear.collect());
        let gear_shifted = Zeroizing::new(gear.iter().map(|value| value << 1).collect());
        let nominations = u64::from(sizes.average - sizes.min) / NOMINATION;
        let one_in = |count: u64| ((1u64 << 32) / count.max(1)).min(u64::from(u32::MAX)) as u32;
        Self {
            sizes,
            gear,
            gear_shifted,
            gate: keys.gate.clone(),
            early: one_in(2 * nominations),
            late: one_in(nominations / 2),
        }
    }

    /// The most bytes a chunk has, and so the most that [`cut`](Chunker::cut) needs to see.
    #[must_use]
    pub fn max(&self) -> usize {
        self.sizes.max as usize
    }

    /// Length of the first chunk of `data`, which must hold [`max`](Chunker::max) bytes or all that is left.
    #[must_use]
    pub fn cut(&self, data: &[u8]) -> usize {
        let data = &data[..data.len().min(self.max())];
        let mut from = self.sizes.min as usize;
        while from < data.len() {
            let Some(nominated) = self.nominate(data, from) else { break };
            let threshold = if nominated < self.sizes.average as usize { self.early } else { self.late };
            if keyed_number(&self.gate, &data[nominated - WINDOW..nominated]) < threshold {
                return nominated;
            }
            from = nominated + 1;
        }
        data.len()
    }

    /// The first cut at or after `from` that the gear hash, begun at `from`, nominates.
    fn nominate(&self, data: &[u8], from: usize) -> Option<usize> {
        let rest = &data[from..];
        let size = rest.len() + rest.len() % 2;
        let (_, at) = cut_gear(
            rest,
            0,
            size,
            size,
            NOMINATE,
            NOMINATE,
            NOMINATE << 1,
            NOMINATE << 1,
            &self.gear,
            &self.gear_shifted,
        );
        (at < rest.len()).then_some(from + at)
    }
}

/// Decides where packs end.
pub struct PackCutter {
    sizes: PackSizes,
    key: Secret,
}

impl PackCutter {
    /// A cutter for sizes that a [`Config`](super::config::Config) holds.
    #[must_use]
    pub fn new(keys: &CutKeys, sizes: PackSizes) -> Self {
        Self { sizes, key: keys.pack.clone() }
    }

    /// The sizes it keeps to.
    #[must_use]
    pub fn sizes(&self) -> &PackSizes {
        &self.sizes
    }

    /// Whether a pack ends after the file `id` of `length` bytes, the pack then having `total` bytes.
    ///
    /// A file's chance is in proportion to its length, so that packs come to about the average whatever files they hold.
    #[must_use]
    pub fn ends_after(&self, id: &ContentId, length: u32, total: u32) -> bool {
        let span = u64::from(self.sizes.average - self.sizes.min);
        total >= self.sizes.min && u64::from(keyed_number(&self.key, id)) < (u64::from(length) << 32) / span.max(1)
    }
}

/// Decides where segments end.
pub struct SegmentCutter {
    sizes: SegmentSizes,
    key: Secret,
}

impl SegmentCutter {
    /// A cutter for sizes that a [`Config`](super::config::Config) holds.
    #[must_use]
    pub fn new(keys: &CutKeys, sizes: SegmentSizes) -> Self {
        Self { sizes, key: keys.segment.clone() }
    }

    /// Whether a segment of `entries` entries and about `bytes` bytes ends after the entry at `path`.
    #[must_use]
    pub fn ends_after(&self, path: &TreePath, entries: usize, bytes: usize) -> bool {
        entries >= self.sizes.max as usize
            || bytes >= self.sizes.bytes_max as usize
            || u64::from(keyed_number(&self.key, path.as_bytes())) < (1u64 << 32) / u64::from(self.sizes.average)
    }
}

/// The first four bytes of the keyed hash, as a little-endian number.
fn keyed_number(key: &Secret, data: &[u8]) -> u32 {
    let hash = blake3::keyed_hash(key, data);
    u32::from_le_bytes(std::array::from_fn(|at| hash.as_bytes()[at]))
}
