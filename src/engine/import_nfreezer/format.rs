//! What nFreezer 0.0.1 writes. Pure.
//!
//! ```text
//! sealed     salt 16 | nonce 16 | tag 16 | AES-128-GCM ciphertext, without associated data
//!            key = PBKDF2-HMAC-SHA1(password, salt, 100,000 rounds, 16 bytes)
//! <32 hex>   a file's contents, sealed
//! .files     records, appended: length 4 (little-endian) | sealed(zlib(record))
//! record     id 16 | mtime 8 (ns, little-endian) | size 8 (little-endian) | SHA-256 32 | path, UTF-8
//! ```
//! The last record of a path counts; an id of zeros says that the path is gone. A record that was cut short ends the list.

use crate::format::path::{PathError, TreePath};
use aes::Aes128;
use ctr::{
    Ctr32BE,
    cipher::{KeyIvInit, StreamCipher},
};
use ghash::{GHash, universal_hash::UniversalHash};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

/// What stands before a ciphertext.
pub const HEAD: usize = 48;
/// The longest record that is read: a path has at most 4096 bytes, and zlib adds little.
pub const RECORD_MAX: usize = 16 << 10;
const ROUNDS: u32 = 100_000;
/// The record's fields before the path.
const FIELDS: usize = 64;

/// A key of nFreezer's, for one salt.
pub type Key = Zeroizing<[u8; 16]>;

/// Derives the key. Slow.
#[must_use]
pub fn key(password: &[u8], salt: &[u8; 16]) -> Key {
    let mut key = Zeroizing::new([0; 16]);
    pbkdf2::pbkdf2_hmac::<sha1::Sha1>(password, salt, ROUNDS, key.as_mut());
    key
}

/// What stands before a ciphertext.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// Of the key.
    pub salt: [u8; 16],
    nonce: [u8; 16],
    tag: [u8; 16],
}

impl Head {
    /// Takes it from the first [`HEAD`] bytes; `None` where there are fewer.
    #[must_use]
    pub fn read(bytes: &[u8]) -> Option<Self> {
        let part = |at: usize| bytes.get(at..at + 16)?.try_into().ok();
        Some(Self { salt: part(0)?, nonce: part(16)?, tag: part(32)? })
    }
}

/// Opens a ciphertext piece by piece. Nothing of it may be believed before [`Opener::is_whole`].
pub struct Opener {
    stream: Ctr32BE<Aes128>,
    hash: GHash,
    mask: [u8; 16],
    tag: [u8; 16],
    length: u64,
}

impl Opener {
    /// Begins with what stands before the ciphertext.
    #[must_use]
    pub fn new(key: &[u8; 16], head: &Head) -> Self {
        let mut subkey = Zeroizing::new([0; 16]);
        Ctr32BE::<Aes128>::new(key.into(), &[0; 16].into()).apply_keystream(subkey.as_mut());
        let hash = GHash::new((&*subkey).into());
        // A nonce of another length than 12 bytes is hashed with its length in bits.
        let mut counter = hash.clone();
        counter.update(&[head.nonce.into(), lengths(0, 16)]);
        let counter: [u8; 16] = counter.finalize().into();
        let mut stream = Ctr32BE::<Aes128>::new(key.into(), &counter.into());
        let mut mask = [0; 16];
        stream.apply_keystream(&mut mask);
        Self { stream, hash, mask, tag: head.tag, length: 0 }
    }

    /// Opens the next piece in place; only the last one may have another length than a multiple of 16.
    pub fn open(&mut self, piece: &mut [u8]) {
        self.length += piece.len() as u64;
        self.hash.update_padded(piece);
        self.stream.apply_keystream(piece);
    }

    /// Whether all that was opened is what was sealed.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        let mut hash = self.hash.clone();
        hash.update(&[lengths(0, self.length)]);
        let hash: [u8; 16] = hash.finalize().into();
        let tag: Vec<u8> = hash.iter().zip(self.mask).map(|(byte, mask)| byte ^ mask).collect();
        tag.ct_eq(&self.tag).into()
    }
}

fn lengths(associated: u64, length: u64) -> ghash::Block {
    let bits = |bytes: u64| bytes.wrapping_mul(8).to_be_bytes();
    let mut block = [0; 16];
    block[..8].copy_from_slice(&bits(associated));
    block[8..].copy_from_slice(&bits(length));
    block.into()
}

/// A record of the list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// The name of the file with the contents; `None` where the path is gone.
    pub id: Option<[u8; 16]>,
    /// Nanoseconds since 1970.
    pub mtime: u64,
    /// Bytes.
    pub size: u64,
    /// SHA-256 of the contents.
    pub hash: [u8; 32],
    /// Harmless, as every path of an entry is.
    pub path: TreePath,
}

/// Why some bytes are no record.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// The tag is wrong.
    #[error("it is damaged, or sealed with another password")]
    NotWhole,
    /// What was sealed is no record.
    #[error("it holds no record")]
    NoRecord,
    /// A path that could lie elsewhere.
    #[error("its path \"{path}\" cannot be used: {why}")]
    Path {
        /// As a person may read it.
        path: String,
        /// Why not.
        why: PathError,
    },
}

impl Record {
    /// Opens a sealed record.
    ///
    /// # Errors
    /// [`RecordError`].
    pub fn open(key: &[u8; 16], sealed: &[u8]) -> Result<Self, RecordError> {
        let head = Head::read(sealed).ok_or(RecordError::NoRecord)?;
        let mut opener = Opener::new(key, &head);
        let mut bytes = Zeroizing::new(sealed[HEAD..].to_vec());
        opener.open(&mut bytes);
        if !opener.is_whole() {
            return Err(RecordError::NotWhole);
        }
        let plain = miniz_oxide::inflate::decompress_to_vec_zlib_with_limit(&bytes, RECORD_MAX);
        Self::read(&plain.map_err(|_| RecordError::NoRecord)?)
    }

    fn read(bytes: &[u8]) -> Result<Self, RecordError> {
        let (fields, path) = bytes.split_at_checked(FIELDS).ok_or(RecordError::NoRecord)?;
        let array = |at: usize| fields[at..at + 8].try_into().map(u64::from_le_bytes);
        let (Ok(mtime), Ok(size)) = (array(16), array(24)) else { return Err(RecordError::NoRecord) };
        let (Ok(id), Ok(hash)) = (fields[..16].try_into(), fields[32..].try_into()) else {
            return Err(RecordError::NoRecord);
        };
        // As nFreezer does when it restores: what Windows wrote has backslashes.
        let path: Vec<u8> = path.iter().map(|&byte| if byte == b'\\' { b'/' } else { byte }).collect();
        let shown = crate::format::path::Escaped(&path).to_string();
        let wrong = |why| RecordError::Path { path: shown, why };
        let path = match TreePath::new(path) {
            Ok(path) if path.is_root() => return Err(wrong(PathError::EmptyComponent)),
            other => other.map_err(wrong)?,
        };
        Ok(Self { id: (id != [0; 16]).then_some(id), mtime, size, hash, path })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::id::to_hex;
    use proptest::prelude::*;

    fn bytes(hex: &str) -> Vec<u8> {
        (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
    }

    /// Made with Python's pycryptodome, as nFreezer calls it: password "pw", salt 0…15, nonce 16…31, "The quick brown fox jumps over the lazy dog".
    const KEY: &str = "fcde99f0638e6cf99f48725a70368111";
    const SEALED: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1fc42f5deac4e3590200db9ae0a96fa523a0d0afc6631029861ea7794e217ef3d3a6cbac93c082333a45bdc9340932d871f9bb57820149ffc89f9c56";
    const PLAIN: &[u8] = b"The quick brown fox jumps over the lazy dog";

    fn opened(sealed: &[u8], pieces: usize) -> (Vec<u8>, bool) {
        let key: [u8; 16] = bytes(KEY).try_into().unwrap();
        let mut opener = Opener::new(&key, &Head::read(sealed).unwrap());
        let mut plain = sealed[HEAD..].to_vec();
        plain.chunks_mut(pieces).for_each(|piece| opener.open(piece));
        (plain, opener.is_whole())
    }

    #[test]
    fn what_the_library_of_nfreezer_sealed_is_opened() {
        let salt: [u8; 16] = std::array::from_fn(|at| at as u8);
        assert_eq!(to_hex(&*key(b"pw", &salt)), KEY);
        for pieces in [16, 32, 64] {
            assert_eq!(opened(&bytes(SEALED), pieces), (PLAIN.to_vec(), true));
        }
    }

    #[test]
    fn every_altered_byte_is_noticed() {
        let sealed = bytes(SEALED);
        for at in 16..sealed.len() {
            let mut altered = sealed.clone();
            altered[at] ^= 1;
            assert!(!opened(&altered, 64).1, "byte {at}");
        }
        assert!(!opened(&sealed[..sealed.len() - 1], 64).1);
    }

    fn record(path: &[u8]) -> Result<Record, RecordError> {
        let fields = [vec![7; 16], 5u64.to_le_bytes().to_vec(), 6u64.to_le_bytes().to_vec(), vec![9; 32]].concat();
        Record::read(&[fields, path.to_vec()].concat())
    }

    #[test]
    fn a_record_is_read_and_a_path_that_leads_elsewhere_is_refused() {
        let read = record(b"a\\b/c").unwrap();
        assert_eq!((read.path.as_bytes(), read.mtime, read.size), (&b"a/b/c"[..], 5, 6));
        for path in [&b"../x"[..], b"/etc/passwd", b"a/../../x", b"", b"a//b", b"..\\x", b"a\0b", &[b'x'; 1100]] {
            assert!(matches!(record(path), Err(RecordError::Path { .. })), "{path:?}");
        }
        assert_eq!(Record::read(&[0; 63]), Err(RecordError::NoRecord));
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_reader_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = (Record::open(&[0; 16], &bytes), Record::read(&bytes), Head::read(&bytes));
        }
    }
}
