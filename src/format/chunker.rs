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

    /// About how many bytes a chunk has.
    #[must_use]
    pub fn average(&self) -> usize {
        self.sizes.average as usize
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
        let (hash, at) = cut_gear(
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
        // An odd last byte is in the hash, but the crate does not test it.
        let found = at < rest.len() || hash & NOMINATE == 0;
        found.then_some(from + at.min(rest.len() - 1))
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::keys::Keys;
    use proptest::prelude::*;

    const SMALL: ChunkSizes = ChunkSizes { min: 1024, average: 8192, max: 32_768 };

    fn keys() -> Keys {
        Keys::derive([1; 16], &[Zeroizing::new([2; 32])]).unwrap()
    }

    fn noise(label: u64, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        blake3::Hasher::new().update(&label.to_le_bytes()).finalize_xof().fill(&mut bytes);
        bytes
    }

    fn lengths(chunker: &Chunker, mut data: &[u8]) -> Vec<usize> {
        let mut lengths = Vec::new();
        while !data.is_empty() {
            lengths.push(chunker.cut(data));
            data = &data[lengths[lengths.len() - 1]..];
        }
        lengths
    }

    /// Page 4, byte by byte.
    fn naive(keys: &CutKeys, sizes: ChunkSizes, data: &[u8]) -> usize {
        let gear = |byte: u8| {
            let at = 8 * usize::from(byte);
            u64::from_le_bytes(keys.gear[at..at + 8].try_into().unwrap())
        };
        let n = u64::from(sizes.average - sizes.min) / 1024;
        let one_in = |count: u64| ((1u64 << 32) / count).min((1 << 32) - 1);
        let (limit, mut from) = (data.len().min(sizes.max as usize), sizes.min as usize);
        while from < limit {
            let mut hash = 0u64;
            let nominated = (from..limit).find(|&at| {
                hash = (hash << 1).wrapping_add(gear(data[at]));
                hash & 0x0000_5900_0353_0000 == 0
            });
            let Some(at) = nominated else { break };
            let threshold = if at < sizes.average as usize { one_in(2 * n) } else { one_in(n / 2) };
            let hash = blake3::keyed_hash(&keys.gate, &data[at - 64..at]);
            if u64::from(u32::from_le_bytes(hash.as_bytes()[..4].try_into().unwrap())) < threshold {
                return at;
            }
            from = at + 1;
        }
        limit
    }

    #[test]
    fn an_insertion_near_the_front_leaves_later_cuts_as_they_were() {
        let chunker = Chunker::new(keys().cut(), SMALL);
        let data = noise(0, 400_000);
        let ends = |data: &[u8]| -> Vec<usize> {
            lengths(&chunker, data)
                .iter()
                .rev()
                .scan(0, |sum, length| {
                    *sum += length;
                    Some(*sum)
                })
                .collect()
        };
        let changed = [&data[..500], b"inserted", &data[500..]].concat();
        let (before, after) = (ends(&data), ends(&changed));
        let same = before.iter().zip(&after).take_while(|(a, b)| a == b).count();
        assert!(same > before.len() * 3 / 4, "{same} of {} cuts, counted from the end", before.len());
    }

    #[test]
    fn chunks_have_about_the_average_length() {
        let chunker = Chunker::new(keys().cut(), SMALL);
        let count = lengths(&chunker, &noise(1, 8 << 20)).len();
        assert!(((8 << 20) / 12_288..(8 << 20) / 5_000).contains(&count), "{count}");
    }

    #[test]
    fn packs_come_to_about_the_average_whatever_files_they_hold() {
        let sizes = PackSizes {
            file_max: 262_144,
            min: 262_144,
            average: 1 << 20,
            max: 4 << 20,
            files_max: 8192,
            reach_max: 16_384,
        };
        let keys = keys();
        let cutter = PackCutter::new(keys.cut(), sizes);
        for length in [300u32, 5_000, 100_000] {
            let (mut packs, mut total, mut bytes) = (0u64, 0u32, 0u64);
            for number in 0..(200u64 << 20) / u64::from(length) {
                let id = keys.content_id(&[number.to_le_bytes(), u64::from(length).to_le_bytes()].concat());
                total += length;
                bytes += u64::from(length);
                if cutter.ends_after(&id, length, total) || total + length > sizes.max {
                    packs += 1;
                    total = 0;
                }
            }
            let average = bytes / packs;
            assert!((800_000..1_300_000).contains(&average), "files of {length} bytes: packs of {average}");
        }
    }

    #[test]
    fn a_segment_ends_at_its_limits_and_at_some_paths() {
        let cutter = SegmentCutter::new(keys().cut(), SegmentSizes { average: 10, max: 100, bytes_max: 5000 });
        let ends = |number: u32| {
            let path = TreePath::new(format!("f{number}").into_bytes()).unwrap();
            (cutter.ends_after(&path, 1, 1), cutter.ends_after(&path, 100, 1), cutter.ends_after(&path, 1, 5000))
        };
        let all: Vec<_> = (0..10_000).map(ends).collect();
        assert!(all.iter().all(|(_, full, heavy)| *full && *heavy));
        assert!((850..1150).contains(&all.iter().filter(|(here, _, _)| *here).count()));
    }

    #[test]
    fn a_cut_is_the_same_however_soon_after_it_the_data_end() {
        let chunker = Chunker::new(keys().cut(), SMALL);
        for label in 0..20 {
            let data = noise(label, SMALL.max as usize);
            let whole = chunker.cut(&data);
            for seen in (1..=data.len()).step_by(211).chain([whole, (whole + 1).min(data.len())]) {
                assert_eq!(chunker.cut(&data[..seen]), seen.min(whole), "of the first {seen}");
            }
        }
    }

    proptest! {
        #[test]
        fn chunks_are_within_bounds_and_cut_as_page_4_says(
            label: u64, length in 0..150_000usize, min in 512..2000u32, more in 2048..6000u32, max in 1..20_000u32
        ) {
            let (min, average) = (2 * min, 2 * (min + more));
            let sizes = ChunkSizes { min, average, max: average + 2 * max };
            let (keys, data) = (keys(), noise(label, length));
            let chunker = Chunker::new(keys.cut(), sizes);
            let lengths = lengths(&chunker, &data);
            prop_assert_eq!(lengths.iter().sum::<usize>(), length);
            let mut at = 0;
            for (number, &length) in lengths.iter().enumerate() {
                prop_assert!(length <= sizes.max as usize);
                prop_assert!(length >= sizes.min as usize || number == lengths.len() - 1);
                prop_assert_eq!(length, naive(keys.cut(), sizes, &data[at..]));
                at += length;
            }
        }
    }
}
