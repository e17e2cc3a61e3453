//! Sealing: how a plaintext becomes an object, and back (`spec/3-sealing.md`).
//!
//! Opening releases nothing that was not authenticated under the very name, kind and repository that it was asked for.

use super::{
    id::{Id, Kind, ObjectId, OfKind},
    keys::{Epoch, Keys},
    limits::{OBJECT_MAX, PLAIN_MAX},
};
use chacha20poly1305::{
    KeyInit, Tag, XChaCha20Poly1305, XNonce,
    aead::{AeadInOut, inout::InOutBuf},
};

const MAGIC: &[u8; 4] = b"NFZ1";
const VERSION: u8 = 1;
/// Sealed with the repository's own symmetric keys. Mode 1 is reserved for write-only clients.
const MODE_SYMMETRIC: u8 = 0;

// magic 4 | version 1 | mode 1 | epoch 2 | length 4 | nonce 24 | payload | tag 16
const NONCE: usize = 12;
const PAYLOAD: usize = 36;
const TAG: usize = 16;
/// Payload: codec 1 | zeros 3 | raw_len 4 | comp_len 4 | bytes | zero padding
const PAYLOAD_HEADER: usize = 12;
const OVERHEAD: usize = PAYLOAD + PAYLOAD_HEADER + TAG;

const CODEC_RAW: u8 = 0;
const CODEC_ZSTD: u8 = 1;

/// Why an object does not open.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// It is too short, too long, or does not begin as an object does.
    #[error("it is not an object of this format")]
    Header,
    /// Its length is not the one that it states.
    #[error("it is {actual} bytes long and must be {stated}")]
    Length {
        /// What its header says.
        stated: u32,
        /// What it has.
        actual: usize,
    },
    /// Its version or mode is not known.
    #[error("it has version {version}, mode {mode}, which this program does not know")]
    Unknown {
        /// Its version.
        version: u8,
        /// Its mode.
        mode: u8,
    },
    /// It was sealed in an epoch whose keys are not at hand.
    #[error("it was sealed with keys of epoch {0}, which are not at hand")]
    UnknownEpoch(Epoch),
    /// It was altered, or it is another object than the one asked for.
    #[error("it was altered, or it is not the object that was asked for")]
    NotAuthentic,
    /// Authentic, and yet not formed as the specification says.
    #[error("it is authentic but malformed: {0}")]
    Malformed(&'static str),
}

/// How hard to compress.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// Not at all.
    Off,
    /// zstd at this level, -7 to 22.
    Level(i32),
}

impl Compression {
    /// The fastest that still compresses.
    pub const FAST: Self = Self::Level(-1);
    /// The default. Higher levels save a tenth more and take twice the time and more.
    pub const DEFAULT: Self = Self::Level(1);
    /// As small as is sane.
    pub const MAX: Self = Self::Level(19);
}

/// An object's length when padded: at most 12 % more, and only a few bits of information (Padmé, PETS 2019).
#[must_use]
pub fn padme(length: u64) -> u64 {
    if length < 2 {
        return length;
    }
    let exponent = length.ilog2();
    let mantissa_bits = exponent.ilog2() + 1;
    let low = (1u64 << (exponent - mantissa_bits)) - 1;
    (length + low) & !low
}

/// Seals objects; keeps the compressor's memory between them. One for each thread.
pub struct Sealer {
    compressor: Option<zstd::bulk::Compressor<'static>>,
    scratch: Vec<u8>,
}

impl Sealer {
    /// A sealer that compresses as told. A level out of range is taken as the nearest that is in range.
    #[must_use]
    pub fn new(compression: Compression) -> Self {
        let compressor = match compression {
            Compression::Off => None,
            Compression::Level(level) => zstd::bulk::Compressor::new(level.clamp(-7, 22)).ok(),
        };
        Self { compressor, scratch: Vec::new() }
    }

    /// Seals `plaintext`, whose id was computed before, as an object of kind `K`.
    ///
    /// The same plaintext with the same compression gives the same bytes again.
    ///
    /// # Errors
    /// [`OpenError::Malformed`] where the plaintext is empty or larger than an object may hold.
    pub fn seal<K: OfKind>(&mut self, keys: &Keys, id: Id<K>, plaintext: &[u8]) -> Result<Vec<u8>, OpenError> {
        self.seal_kind(keys, K::KIND, id.0, plaintext)
    }

    /// As [`seal`](Sealer::seal), for a kind known only at run time.
    ///
    /// # Errors
    /// As [`seal`](Sealer::seal).
    pub fn seal_kind(&mut self, keys: &Keys, kind: Kind, id: ObjectId, plaintext: &[u8]) -> Result<Vec<u8>, OpenError> {
        if plaintext.is_empty() || plaintext.len() > PLAIN_MAX {
            return Err(OpenError::Malformed("a plaintext is empty or too large"));
        }
        let (codec, stored) = match self.compress(plaintext) {
            Some(length) => (CODEC_ZSTD, &self.scratch[..length]),
            None => (CODEC_RAW, plaintext),
        };
        let total = padme((OVERHEAD + stored.len()) as u64) as usize;
        let mut object = Vec::with_capacity(total);
        object.extend_from_slice(MAGIC);
        object.extend_from_slice(&[VERSION, MODE_SYMMETRIC]);
        object.extend_from_slice(&keys.epoch().to_le_bytes());
        object.extend_from_slice(&(total as u32).to_le_bytes());
        object.extend_from_slice(&[0; PAYLOAD - NONCE]);
        object.extend_from_slice(&[codec, 0, 0, 0]);
        object.extend_from_slice(&(plaintext.len() as u32).to_le_bytes());
        object.extend_from_slice(&(stored.len() as u32).to_le_bytes());
        object.extend_from_slice(stored);
        object.resize(total - TAG, 0);
        encrypt(keys, kind, id, &mut object)?;
        Ok(object)
    }

    /// Compresses into the scratch buffer; `None` where that gains nothing.
    fn compress(&mut self, plaintext: &[u8]) -> Option<usize> {
        let compressor = self.compressor.as_mut()?;
        // What does not shrink by a sixty-fourth is stored as it is: that is read back sooner.
        let worth = plaintext.len() - plaintext.len() / 64;
        self.scratch.clear();
        self.scratch.reserve(zstd::zstd_safe::compress_bound(plaintext.len()));
        let length = compressor.compress_to_buffer(plaintext, &mut self.scratch).ok()?;
        (length < worth).then_some(length)
    }
}

/// Encrypts the payload of `object` in place and appends the tag.
fn encrypt(keys: &Keys, kind: Kind, id: ObjectId, object: &mut Vec<u8>) -> Result<(), OpenError> {
    let epoch = keys.epoch();
    let aad = associated_data(keys, kind, id, &object[..NONCE]);
    let nonce_key = keys.nonce_key(epoch, kind).ok_or(OpenError::UnknownEpoch(epoch))?;
    let mut hasher = blake3::Hasher::new_keyed(nonce_key);
    hasher.update(&(aad.len() as u64).to_le_bytes()).update(&aad).update(&object[PAYLOAD..]);
    object[NONCE..PAYLOAD].copy_from_slice(&hasher.finalize().as_bytes()[..24]);
    let cipher = cipher(keys, epoch, kind)?;
    let nonce = XNonce::try_from(&object[NONCE..PAYLOAD]).map_err(|_| OpenError::Header)?;
    let payload = InOutBuf::from(&mut object[PAYLOAD..]);
    let tag = cipher.encrypt_inout_detached(&nonce, &aad, payload).map_err(|_| OpenError::NotAuthentic)?;
    object.extend_from_slice(&tag);
    Ok(())
}

/// Opens objects; keeps the decompressor's memory and its buffers between them. One for each thread.
pub struct Opener {
    decompressor: Option<zstd::bulk::Decompressor<'static>>,
    payload: Vec<u8>,
    /// Of what was opened only to be checked.
    plaintext: Vec<u8>,
}

impl Default for Opener {
    fn default() -> Self {
        let decompressor = zstd::bulk::Decompressor::new().ok();
        Self { decompressor, payload: Vec::new(), plaintext: Vec::new() }
    }
}

impl Opener {
    /// The plaintext of the object called `id`.
    ///
    /// # Errors
    /// [`OpenError`]; nothing of the object is released then.
    pub fn open<K: OfKind>(&mut self, keys: &Keys, id: Id<K>, object: &[u8]) -> Result<Vec<u8>, OpenError> {
        self.open_kind(keys, K::KIND, id.0, object)
    }

    /// As [`open`](Opener::open), for a kind known only at run time.
    ///
    /// # Errors
    /// As [`open`](Opener::open).
    pub fn open_kind(&mut self, keys: &Keys, kind: Kind, id: ObjectId, object: &[u8]) -> Result<Vec<u8>, OpenError> {
        let mut plaintext = Vec::new();
        self.open_into(keys, kind, id, object, &mut plaintext)?;
        Ok(plaintext)
    }

    /// As [`open_kind`](Opener::open_kind), into a buffer, of which the memory is used and the content replaced.
    ///
    /// # Errors
    /// As [`open`](Opener::open); the buffer is empty then.
    pub fn open_into(
        &mut self,
        keys: &Keys,
        kind: Kind,
        id: ObjectId,
        object: &[u8],
        plaintext: &mut Vec<u8>,
    ) -> Result<(), OpenError> {
        plaintext.clear();
        decrypt(keys, kind, id, object, &mut self.payload)?;
        let opened = self.unwrap_payload(plaintext).and_then(|()| {
            // The tag was right, so this is a writer's fault and no forgery.
            let is_it = keys.object_id(kind, plaintext) == id;
            let other = OpenError::Malformed("its plaintext is not the one that its name promises");
            is_it.then_some(()).ok_or(other)
        });
        if opened.is_err() {
            plaintext.clear();
        }
        opened
    }

    /// Opens the object and says how long its plaintext is.
    ///
    /// # Errors
    /// As [`open`](Opener::open).
    pub fn check(&mut self, keys: &Keys, kind: Kind, id: ObjectId, object: &[u8]) -> Result<usize, OpenError> {
        let mut plaintext = std::mem::take(&mut self.plaintext);
        let opened = self.open_into(keys, kind, id, object, &mut plaintext);
        let length = plaintext.len();
        self.plaintext = plaintext;
        opened.map(|()| length)
    }

    /// Takes the plaintext out of the payload, which is authentic.
    fn unwrap_payload(&mut self, plaintext: &mut Vec<u8>) -> Result<(), OpenError> {
        let Self { decompressor, payload, .. } = self;
        let number = |at: usize| u32::from_le_bytes(std::array::from_fn(|byte| payload[at + byte])) as usize;
        let (codec, raw, stored) = (payload[0], number(4), number(8));
        let end = PAYLOAD_HEADER.saturating_add(stored);
        if payload[1..4] != [0; 3] || end > payload.len() || payload[end..].iter().any(|&byte| byte != 0) {
            return Err(OpenError::Malformed("its lengths or its padding are not as they must be"));
        }
        if padme((OVERHEAD + stored) as u64) != (payload.len() + PAYLOAD + TAG) as u64 {
            return Err(OpenError::Malformed("it is not padded as it must be"));
        }
        if raw == 0 || raw > PLAIN_MAX {
            return Err(OpenError::Malformed("its plaintext is empty or too large"));
        }
        let stored_bytes = &payload[PAYLOAD_HEADER..end];
        match codec {
            CODEC_RAW if raw == stored => {
                plaintext.extend_from_slice(stored_bytes);
                Ok(())
            }
            CODEC_ZSTD => {
                let decompressor = decompressor.as_mut().ok_or(OpenError::Malformed("no memory for zstd"))?;
                decompress(decompressor, stored_bytes, raw, plaintext)
            }
            _ => Err(OpenError::Malformed("its codec is unknown or its length is wrong")),
        }
    }
}

/// Decompresses exactly one frame into exactly `raw` bytes.
fn decompress(
    decompressor: &mut zstd::bulk::Decompressor<'static>,
    frame: &[u8],
    raw: usize,
    plaintext: &mut Vec<u8>,
) -> Result<(), OpenError> {
    const FRAME_MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
    let is_one_frame =
        frame.starts_with(&FRAME_MAGIC) && zstd::zstd_safe::find_frame_compressed_size(frame) == Ok(frame.len());
    if !is_one_frame {
        return Err(OpenError::Malformed("it is not one zstd frame"));
    }
    if !matches!(zstd::zstd_safe::get_frame_content_size(frame), Ok(Some(size)) if size == raw as u64) {
        return Err(OpenError::Malformed("its zstd frame does not state its length"));
    }
    plaintext.reserve_exact(raw);
    match decompressor.decompress_to_buffer(frame, plaintext) {
        Ok(length) if length == raw => Ok(()),
        _ => Err(OpenError::Malformed("it does not decompress to its length")),
    }
}

/// Checks the header, authenticates and decrypts: the payload, padding and all. What the buffer holds after an error is
/// not to be used.
fn decrypt(keys: &Keys, kind: Kind, id: ObjectId, object: &[u8], payload: &mut Vec<u8>) -> Result<(), OpenError> {
    let header = Header::parse(object)?;
    let cipher = cipher(keys, header.epoch, kind)?;
    let aad = associated_data(keys, kind, id, &object[..NONCE]);
    let nonce = XNonce::try_from(&object[NONCE..PAYLOAD]).map_err(|_| OpenError::Header)?;
    let (sealed, tag) = object[PAYLOAD..].split_at(object.len() - PAYLOAD - TAG);
    let tag = Tag::try_from(tag).map_err(|_| OpenError::Header)?;
    payload.clear();
    payload.extend_from_slice(sealed);
    let buffer = InOutBuf::from(payload.as_mut_slice());
    cipher.decrypt_inout_detached(&nonce, &aad, buffer, &tag).map_err(|_| OpenError::NotAuthentic)
}

/// What an object says of itself before its nonce, in plain text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// The epoch whose keys sealed it.
    pub epoch: Epoch,
}

impl Header {
    /// Reads and checks the header of a whole object.
    ///
    /// # Errors
    /// [`OpenError::Header`], [`OpenError::Unknown`], [`OpenError::Length`].
    pub fn parse(object: &[u8]) -> Result<Self, OpenError> {
        if object.len() < OVERHEAD || object.len() as u64 > OBJECT_MAX || !object.starts_with(MAGIC) {
            return Err(OpenError::Header);
        }
        let (version, mode) = (object[4], object[5]);
        if (version, mode) != (VERSION, MODE_SYMMETRIC) {
            return Err(OpenError::Unknown { version, mode });
        }
        let stated = u32::from_le_bytes(std::array::from_fn(|at| object[8 + at]));
        if stated as usize != object.len() {
            return Err(OpenError::Length { stated, actual: object.len() });
        }
        Ok(Self { epoch: u16::from_le_bytes([object[6], object[7]]) })
    }
}

/// header before the nonce || repo_id || kind || id
fn associated_data(keys: &Keys, kind: Kind, id: ObjectId, header: &[u8]) -> [u8; NONCE + 16 + 1 + 32] {
    let mut aad = [0; NONCE + 16 + 1 + 32];
    aad[..NONCE].copy_from_slice(header);
    aad[NONCE..NONCE + 16].copy_from_slice(&keys.repository());
    aad[NONCE + 16] = kind as u8;
    aad[NONCE + 17..].copy_from_slice(&id.0);
    aad
}

fn cipher(keys: &Keys, epoch: Epoch, kind: Kind) -> Result<XChaCha20Poly1305, OpenError> {
    let key = keys.seal_key(epoch, kind).ok_or(OpenError::UnknownEpoch(epoch))?;
    Ok(XChaCha20Poly1305::new(key.into()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use zeroize::Zeroizing;

    const KINDS: [Kind; 4] = [Kind::Data, Kind::Segment, Kind::Snapshot, Kind::Config];

    fn keys(repository: u8) -> Keys {
        Keys::derive([repository; 16], &[Zeroizing::new([7; 32])]).unwrap()
    }

    fn seal(compression: Compression, kind: Kind, plaintext: &[u8]) -> (ObjectId, Vec<u8>) {
        let keys = keys(1);
        let id = keys.object_id(kind, plaintext);
        (id, Sealer::new(compression).seal_kind(&keys, kind, id, plaintext).unwrap())
    }

    fn open(kind: Kind, id: ObjectId, object: &[u8]) -> Result<Vec<u8>, OpenError> {
        Opener::default().open_kind(&keys(1), kind, id, object)
    }

    fn words() -> Vec<u8> {
        (0..4000).flat_map(|number: u32| format!("{} ", number * number % 977).into_bytes()).collect()
    }

    #[test]
    fn one_plaintext_at_two_levels_has_one_id_and_two_nonces() {
        let (id, fast) = seal(Compression::FAST, Kind::Data, &words());
        let (same, small) = seal(Compression::MAX, Kind::Data, &words());
        assert_eq!(id, same);
        assert_ne!(fast, small);
        assert_ne!(fast[NONCE..PAYLOAD], small[NONCE..PAYLOAD]);
    }

    #[test]
    fn sealing_again_gives_the_same_bytes() {
        let mut used = Sealer::new(Compression::DEFAULT);
        let keys = keys(1);
        let id = keys.object_id(Kind::Data, &words());
        used.seal_kind(&keys, Kind::Segment, id, b"something else before").unwrap();
        let again = used.seal_kind(&keys, Kind::Data, id, &words()).unwrap();
        assert_eq!(again, seal(Compression::DEFAULT, Kind::Data, &words()).1);
    }

    #[test]
    fn any_flipped_bit_any_cut_and_any_appended_byte_is_refused() {
        for kind in KINDS {
            let (id, object) = seal(Compression::DEFAULT, kind, b"a small object, a small object, a small object");
            for at in 0..object.len() {
                for bit in 0..8 {
                    let mut altered = object.clone();
                    altered[at] ^= 1 << bit;
                    assert!(open(kind, id, &altered).is_err(), "{kind:?}, byte {at}, bit {bit}");
                }
                assert!(open(kind, id, &object[..at]).is_err(), "{kind:?} cut to {at}");
            }
            assert!(open(kind, id, &[&object[..], b"\0"].concat()).is_err());
            assert!(open(kind, id, &object).is_ok());
        }
    }

    #[test]
    fn an_object_opens_as_no_other_kind_under_no_other_id_and_in_no_other_repository() {
        for kind in KINDS {
            let (id, object) = seal(Compression::DEFAULT, kind, b"plaintext");
            for other in KINDS.into_iter().filter(|other| *other != kind) {
                assert_eq!(open(other, id, &object), Err(OpenError::NotAuthentic));
                let its_id = keys(1).object_id(other, b"plaintext");
                assert_eq!(open(other, its_id, &object), Err(OpenError::NotAuthentic));
            }
            assert_eq!(open(kind, ObjectId([0; 32]), &object), Err(OpenError::NotAuthentic));
            let elsewhere = Opener::default().open_kind(&keys(2), kind, id, &object);
            assert_eq!(elsewhere, Err(OpenError::NotAuthentic));
        }
    }

    #[test]
    fn a_plaintext_that_is_not_what_its_name_promises_is_not_released() {
        let id = keys(1).object_id(Kind::Data, b"promised");
        let object = Sealer::new(Compression::Off).seal_kind(&keys(1), Kind::Data, id, b"another").unwrap();
        assert!(matches!(open(Kind::Data, id, &object), Err(OpenError::Malformed(_))));
    }

    #[test]
    fn nothing_and_too_much_are_not_sealed() {
        let mut sealer = Sealer::new(Compression::Off);
        for plaintext in [vec![], vec![0; PLAIN_MAX + 1]] {
            assert!(sealer.seal_kind(&keys(1), Kind::Data, ObjectId([0; 32]), &plaintext).is_err());
        }
    }

    #[test]
    fn the_largest_plaintext_is_within_the_largest_object() {
        let mut noise = vec![0; PLAIN_MAX];
        blake3::Hasher::new().finalize_xof().fill(&mut noise);
        let (id, object) = seal(Compression::DEFAULT, Kind::Data, &noise);
        assert!(object.len() as u64 <= OBJECT_MAX);
        assert!(open(Kind::Data, id, &object).unwrap() == noise);
    }

    proptest! {
        #[test]
        fn what_was_sealed_opens_at_every_level(
            plaintext in prop::collection::vec(0..4u8, 1..3000), level in -5..30i32, kind in 0..4usize
        ) {
            let (id, object) = seal(Compression::Level(level), KINDS[kind], &plaintext);
            prop_assert_eq!(open(KINDS[kind], id, &object).unwrap(), plaintext.clone());
            let (same, raw) = seal(Compression::Off, KINDS[kind], &plaintext);
            prop_assert_eq!(id, same);
            prop_assert_eq!(open(KINDS[kind], id, &raw).unwrap(), plaintext);
        }

        #[test]
        fn arbitrary_bytes_are_no_object(mut bytes in prop::collection::vec(any::<u8>(), 0..300), honest: bool) {
            if honest && bytes.len() >= 12 {
                let length = (bytes.len() as u32).to_le_bytes();
                bytes[..12].copy_from_slice(&[b"NFZ1\x01\0\0\0", &length[..]].concat());
            }
            prop_assert!(open(Kind::Data, ObjectId([0; 32]), &bytes).is_err());
        }

        #[test]
        fn padding_adds_little_and_is_its_own_padding(length in 64..=OBJECT_MAX) {
            let padded = padme(length);
            prop_assert!(padded >= length && padded - length <= length * 12 / 100);
            prop_assert_eq!(padme(padded), padded);
            prop_assert!(padme(length + 1) >= padded);
        }
    }
}
