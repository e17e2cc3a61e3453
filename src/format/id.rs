//! Ids: keyed hashes that name objects (`spec/1-objects.md`). The kind of object is in the type.

use std::{fmt, marker::PhantomData};

/// 32 bytes that name an object: what stands in the store as 64 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectId(pub [u8; 32]);

impl ObjectId {
    /// The 64 lower-case hexadecimal digits.
    #[must_use]
    pub fn to_hex(&self) -> String {
        to_hex(&self.0)
    }

    /// Reads exactly 64 lower-case hexadecimal digits; anything else is no id.
    #[must_use]
    pub fn from_hex(hex: &str) -> Option<Self> {
        from_hex(hex).map(Self)
    }

    /// The shard the object lies in: its first byte.
    #[must_use]
    pub fn shard(&self) -> u8 {
        self.0[0]
    }
}

impl fmt::Debug for ObjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_hex())
    }
}

impl fmt::Display for ObjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_hex())
    }
}

/// Lower-case hexadecimal digits of `bytes`.
#[must_use]
pub fn to_hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]).map(|digit| char::from(DIGITS[usize::from(digit)])).collect()
}

/// Reads `2 * N` lower-case hexadecimal digits; upper case is refused, so that each value has one name.
#[must_use]
pub fn from_hex<const N: usize>(hex: &str) -> Option<[u8; N]> {
    let digits = hex.as_bytes();
    if digits.len() != 2 * N {
        return None;
    }
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(bytes)
}

fn digit(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    }
}

/// The kind of an object, and so the keys that hash and seal it (`spec/2-keys.md`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Kind {
    /// User data: a part of one file, or a pack of several.
    Data = 1,
    /// A run of manifest entries.
    Segment = 2,
    /// A snapshot's root.
    Snapshot = 3,
    /// The repository's parameters.
    Config = 4,
    /// A record of snapshots that were removed on purpose.
    Forgotten = 6,
    /// A record of what lies in the trash.
    SetAside = 8,
}

/// Marks a type that stands for one [`Kind`].
pub trait OfKind: Send + Sync + 'static {
    /// The kind it stands for.
    const KIND: Kind;
}

macro_rules! kinds {
    ($($(#[$doc:meta])* $marker:ident $id:ident $kind:ident),* $(,)?) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $marker;
        impl OfKind for $marker { const KIND: Kind = Kind::$kind; }
        #[doc = concat!("The id of a ", stringify!($marker), " object.")]
        pub type $id = Id<$marker>;
    )*};
}

kinds! {
    /// See [`Kind::Data`].
    Data ChunkId Data,
    /// See [`Kind::Segment`].
    Segment SegmentId Segment,
    /// See [`Kind::Snapshot`].
    Snapshot SnapshotId Snapshot,
    /// See [`Kind::Config`].
    Config ConfigId Config,
    /// See [`Kind::Forgotten`].
    Forgotten ForgottenId Forgotten,
    /// See [`Kind::SetAside`].
    SetAside SetAsideId SetAside,
}

/// An [`ObjectId`] that knows its kind, so that no segment is taken for user data.
#[derive(PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Id<K>(pub ObjectId, PhantomData<fn() -> K>);

impl<K> Id<K> {
    /// Declares that `object` is the id of a `K`.
    #[must_use]
    pub const fn new(object: ObjectId) -> Self {
        Self(object, PhantomData)
    }
}

impl<K> Clone for Id<K> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<K> Copy for Id<K> {}

impl<K> fmt::Debug for Id<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl<K> fmt::Display for Id<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_has_exactly_one_name() {
        let id = ObjectId(std::array::from_fn(|i| i as u8 * 7));
        assert_eq!(ObjectId::from_hex(&id.to_hex()), Some(id));
        assert_eq!(ObjectId::from_hex(&id.to_hex().to_uppercase()), None);
        assert_eq!(ObjectId::from_hex(&id.to_hex()[1..]), None);
        assert_eq!(ObjectId::from_hex(&"é".repeat(32)), None);
    }
}
