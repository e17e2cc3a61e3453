//! The repository's parameters (`spec/1-objects.md`, "Configuration").

use super::{
    encoding::{self, EncodingError},
    limits::{PLAIN_MAX, SEGMENT_ENTRIES_MAX},
    manifest::Time,
};
use bincode::{Decode, Encode};

/// Parameters that every client of a repository must share, sealed as an object of kind `config`.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Config {
    /// Of several configurations the one with the highest generation counts.
    pub generation: u64,
    /// When it was made.
    pub created: Time,
    /// Where files are cut.
    pub chunks: ChunkSizes,
    /// How small files are packed.
    pub packs: PackSizes,
    /// Where the manifest is cut.
    pub segments: SegmentSizes,
    /// Features that a reader must know; none are defined yet.
    pub reader_features: Vec<u32>,
    /// Features that a writer must know; none are defined yet.
    pub writer_features: Vec<u32>,
}

/// Bounds of a chunk's plaintext, in bytes. All even.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct ChunkSizes {
    /// No cut before.
    pub min: u32,
    /// Cuts become likelier after.
    pub average: u32,
    /// Always a cut here.
    pub max: u32,
}

/// How small files are packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct PackSizes {
    /// Files with fewer data bytes than this are packed.
    pub file_max: u32,
    /// No pack is cut before it has so many bytes.
    pub min: u32,
    /// Packs have about so many bytes.
    pub average: u32,
    /// No pack has more.
    pub max: u32,
    /// No pack has more files.
    pub files_max: u32,
    /// A pack is closed when so many entries have followed its first.
    pub reach_max: u32,
}

/// Where the manifest is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct SegmentSizes {
    /// A segment has about so many entries.
    pub average: u32,
    /// No segment has more.
    pub max: u32,
    /// A segment is cut where its paths, chunks, extents and attributes take about so many bytes.
    pub bytes_max: u32,
}

/// Why a configuration is not to be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// Its bytes make no sense.
    #[error(transparent)]
    Encoding(#[from] EncodingError),
    /// Its values make no sense.
    #[error("its time or its sizes contradict each other or are out of bounds")]
    Sizes,
    /// It was written by a later program.
    #[error("it needs feature {0}, which this program does not know: use a newer one")]
    UnknownFeature(u32),
}

impl Config {
    /// What `init` writes.
    #[must_use]
    pub fn new(created: Time) -> Self {
        Self {
            generation: 0,
            created,
            chunks: ChunkSizes { min: 256 << 10, average: 1 << 20, max: 4 << 20 },
            packs: PackSizes {
                file_max: 256 << 10,
                min: 256 << 10,
                average: 1 << 20,
                max: 4 << 20,
                files_max: 8192,
                reach_max: 16_384,
            },
            segments: SegmentSizes { average: 1000, max: 4000, bytes_max: 1 << 20 },
            reader_features: Vec::new(),
            writer_features: Vec::new(),
        }
    }

    /// The bytes that are hashed, sealed and stored.
    ///
    /// # Errors
    /// [`EncodingError`].
    pub fn encode(&self) -> Result<Vec<u8>, EncodingError> {
        encoding::encode(self, PLAIN_MAX)
    }

    /// Reads what [`encode`](Config::encode) wrote, and refuses what this program cannot honour as reader and writer.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub fn decode(bytes: &[u8]) -> Result<Self, ConfigError> {
        let config = Self::decode_for_reading(bytes)?;
        config.check_for_writing()?;
        Ok(config)
    }

    /// Refuses what a writer cannot honour.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub fn check_for_writing(&self) -> Result<(), ConfigError> {
        match self.writer_features.first() {
            Some(&feature) => Err(ConfigError::UnknownFeature(feature)),
            None if !self.is_sane() => Err(ConfigError::Sizes),
            None => Ok(()),
        }
    }

    /// As [`decode`](Config::decode), for who will write nothing: refuses only what a reader cannot honour.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub fn decode_for_reading(bytes: &[u8]) -> Result<Self, ConfigError> {
        let config: Self = encoding::decode(bytes, PLAIN_MAX)?;
        match config.reader_features.first() {
            Some(&feature) => Err(ConfigError::UnknownFeature(feature)),
            None if !config.created.is_valid() => Err(ConfigError::Sizes),
            None => Ok(config),
        }
    }

    fn is_sane(&self) -> bool {
        let Self { chunks, packs, segments, .. } = self;
        let even = [chunks.min, chunks.average, chunks.max].iter().all(|size| size % 2 == 0);
        even && chunks.min >= 1024
            && u64::from(chunks.min) + 4096 <= u64::from(chunks.average)
            && chunks.average < chunks.max
            && chunks.max as usize <= PLAIN_MAX
            && (1..=packs.max).contains(&packs.file_max)
            && packs.min < packs.average
            && packs.average < packs.max
            && packs.max as usize <= PLAIN_MAX
            && packs.files_max > 0
            && packs.reach_max > 0
            && (1..=segments.max).contains(&segments.average)
            && segments.max as usize <= SEGMENT_ENTRIES_MAX
            && (1024..=4 << 20).contains(&segments.bytes_max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_init_writes_is_read_back() {
        let config = Config::new(Time { seconds: -1, nanoseconds: 999_999_999 });
        let bytes = config.encode().unwrap();
        assert_eq!(Config::decode(&bytes), Ok(config));
        for at in 0..bytes.len() {
            assert!(Config::decode(&bytes[..at]).is_err());
        }
    }

    #[test]
    fn a_feature_for_writers_does_not_keep_readers_out() {
        let config = Config { writer_features: vec![7], ..Config::new(Time::default()) };
        let bytes = config.encode().unwrap();
        assert_eq!(Config::decode(&bytes), Err(ConfigError::UnknownFeature(7)));
        assert_eq!(Config::decode_for_reading(&bytes), Ok(config));
        let config = Config { reader_features: vec![8], ..Config::new(Time::default()) };
        assert_eq!(Config::decode_for_reading(&config.encode().unwrap()), Err(ConfigError::UnknownFeature(8)));
    }

    proptest! {
        #[test]
        fn what_decodes_is_what_its_bytes_say(at: prop::sample::Index, byte: u8) {
            let mut bytes = Config::new(Time::default()).encode().unwrap();
            let at = at.index(bytes.len());
            bytes[at] = byte;
            if let Ok(config) = Config::decode_for_reading(&bytes) {
                prop_assert_eq!(config.encode().unwrap(), bytes);
            }
        }
    }
}
