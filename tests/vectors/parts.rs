//! The pages of the specification once more, as plainly as may be: what vectors are made of.

use chacha20poly1305::{
    KeyInit, XChaCha20Poly1305, XNonce,
    aead::{Aead, Payload},
};

pub const MASTER: [u8; 32] = [0x11; 32];
/// Of the second epoch.
pub const NEXT_MASTER: [u8; 32] = [0x44; 32];
pub const REPOSITORY: [u8; 16] = [0x22; 16];
pub const KINDS: [&str; 6] = ["data", "segment", "snapshot", "config", "forgotten", "set aside"];
/// Page 1: the bytes that stand for them.
pub const KIND_BYTES: [u8; 6] = [1, 2, 3, 4, 6, 8];

pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Page 2: the keyring of a second epoch, or of a later one where `older` has more secrets.
pub fn keyring(older: &[u8], newest: &[u8; 32]) -> Vec<u8> {
    let mut keyring = b"NFZR\x01\0".to_vec();
    keyring.extend((older.len() as u16 / 32).to_le_bytes());
    keyring.extend(REPOSITORY);
    keyring.extend([0x55; 24]);
    let key = blake3::derive_key("nfz v1 keyring", &[&newest[..], &REPOSITORY].concat());
    let sealed = encrypt(&key, &keyring[24..48], &keyring, older);
    keyring.extend(sealed);
    keyring
}

/// Page 2: the 38 bytes of a recovery kit, before the four zero bits.
pub fn kit_bytes(epoch: u16) -> Vec<u8> {
    let mut bytes = epoch.to_le_bytes().to_vec();
    bytes.extend(MASTER);
    let check = blake3::derive_key("nfz v1 kit", &[&bytes[..], &REPOSITORY].concat());
    bytes.extend(&check[..4]);
    bytes
}

/// Page 2: the words of a recovery kit.
pub fn kit_words(bytes: &[u8]) -> Vec<&'static str> {
    let list: Vec<&str> = include_str!("../../src/format/kit-words.txt").lines().collect();
    let bits: String = bytes.iter().map(|byte| format!("{byte:08b}")).collect::<String>() + "0000";
    let numbers: Vec<u16> = (0..28).map(|at| u16::from_str_radix(&bits[11 * at..11 * at + 11], 2).unwrap()).collect();
    let line = |(line, numbers): (usize, &[u16])| {
        let mut hashed = vec![line as u8];
        hashed.extend(numbers.iter().flat_map(|number| number.to_le_bytes()));
        let hash = blake3::derive_key("nfz v1 kit line", &hashed);
        let check = u16::from_le_bytes([hash[0], hash[1]]) % 2048;
        numbers.iter().copied().chain([check]).map(|number| list[usize::from(number)]).collect::<Vec<_>>()
    };
    numbers.chunks(4).enumerate().flat_map(line).collect()
}

/// Page 2: a subkey of the master secret.
pub fn subkey(purpose: &str) -> [u8; 32] {
    blake3::derive_key(&format!("nfz v1 {purpose}"), &[&MASTER[..], &REPOSITORY].concat())
}

pub fn gear() -> Vec<u8> {
    let mut hasher = blake3::Hasher::new_derive_key("nfz v1 cdc gear");
    hasher.update(&MASTER).update(&REPOSITORY);
    let mut bytes = vec![0; 2048];
    hasher.finalize_xof().fill(&mut bytes);
    bytes
}

pub fn id(kind: &str, plaintext: &[u8]) -> [u8; 32] {
    *blake3::keyed_hash(&subkey(&format!("id {kind}")), plaintext).as_bytes()
}

/// Page 3: padded length.
pub fn padme(length: usize) -> usize {
    let exponent = length.ilog2();
    let low = (1usize << (exponent - exponent.ilog2() - 1)) - 1;
    (length + low) & !low
}

/// A payload that is as it should be.
pub fn payload(codec: u8, raw: usize, stored: &[u8]) -> Vec<u8> {
    let mut bytes = vec![codec, 0, 0, 0];
    bytes.extend((raw as u32).to_le_bytes());
    bytes.extend((stored.len() as u32).to_le_bytes());
    bytes.extend(stored);
    bytes.resize(padme(64 + stored.len()) - 52, 0);
    bytes
}

/// An object being made; each field may be made wrong.
#[derive(Clone)]
pub struct Sealed {
    pub magic: [u8; 4],
    pub version: u8,
    pub mode: u8,
    pub epoch: u16,
    pub length: Option<u32>,
    pub repository: [u8; 16],
    pub kind: &'static str,
    pub id: [u8; 32],
    pub payload: Vec<u8>,
}

impl Sealed {
    pub fn new(kind: &'static str, plaintext: &[u8]) -> Self {
        Self {
            magic: *b"NFZ1",
            version: 1,
            mode: 0,
            epoch: 0,
            length: None,
            repository: REPOSITORY,
            kind,
            id: id(kind, plaintext),
            payload: payload(0, plaintext.len(), plaintext),
        }
    }

    pub fn bytes(&self) -> Vec<u8> {
        let mut object = self.magic.to_vec();
        object.extend([self.version, self.mode]);
        object.extend(self.epoch.to_le_bytes());
        object.extend(self.length.unwrap_or(self.payload.len() as u32 + 52).to_le_bytes());
        let kind = KIND_BYTES[KINDS.iter().position(|kind| *kind == self.kind).unwrap()];
        let aad = [&object, &self.repository[..], &[kind], &self.id].concat();
        let master = if self.epoch == 0 { MASTER } else { NEXT_MASTER };
        let subkey = |purpose: &str| {
            let context = format!("nfz v1 {purpose} {}", self.kind);
            blake3::derive_key(&context, &[&master[..], &self.repository].concat())
        };
        let mut hasher = blake3::Hasher::new_keyed(&subkey("nonce"));
        hasher.update(&(aad.len() as u64).to_le_bytes()).update(&aad).update(&self.payload);
        let hash = hasher.finalize();
        let nonce = &hash.as_bytes()[..24];
        let key = subkey("seal");
        object.extend(nonce);
        object.extend(encrypt(&key, nonce, &aad, &self.payload));
        object
    }
}

pub fn encrypt(key: &[u8; 32], nonce: &[u8], aad: &[u8], msg: &[u8]) -> Vec<u8> {
    let nonce = XNonce::try_from(nonce).unwrap();
    XChaCha20Poly1305::new(key.into()).encrypt(&nonce, Payload { msg, aad }).unwrap()
}

/// A key slot being made; each field may be made wrong.
#[derive(Clone)]
pub struct SlotParts {
    pub kdf: u8,
    pub flags: u16,
    pub cost: [u32; 3],
    pub salt: [u8; 32],
    pub password: &'static [u8],
    pub key_file: &'static [u8],
    /// Whether to stretch the password with Argon2id; no where the cost is absurd.
    pub stretch: bool,
}

impl SlotParts {
    pub fn with(flags: u16) -> Self {
        let password = flags & 1 != 0;
        Self {
            kdf: password.into(),
            flags,
            cost: if password { [19_456, 1, 1] } else { [0; 3] },
            salt: if password { [0x33; 32] } else { [0; 32] },
            password: b"correct horse",
            key_file: b"any file will do\n",
            stretch: password,
        }
    }

    pub fn bytes(&self) -> Vec<u8> {
        let mut slot = b"NFZK\x01".to_vec();
        slot.push(self.kdf);
        slot.extend(self.flags.to_le_bytes());
        slot.extend(REPOSITORY);
        slot.extend(0u16.to_le_bytes());
        slot.extend(self.cost.iter().flat_map(|number| number.to_le_bytes()));
        slot.extend(self.salt);
        let mut stretched = [0; 32];
        if self.stretch {
            let params = argon2::Params::new(self.cost[0], self.cost[1], self.cost[2], Some(32)).unwrap();
            let argon2 = argon2::Argon2::new(argon2::Algorithm::Argon2id, argon2::Version::V0x13, params);
            argon2.hash_password_into(self.password, &self.salt, &mut stretched).unwrap();
        }
        let key_file = if self.flags & 2 != 0 { blake3::derive_key("nfz v1 key file", self.key_file) } else { [0; 32] };
        let kek = blake3::derive_key("nfz v1 key slot", &[&stretched[..], &key_file, &slot].concat());
        let nonce = [0x44; 24];
        slot.extend(nonce);
        slot.extend(blake3::derive_key("nfz v1 slot commitment", &kek));
        let sealed = encrypt(&kek, &nonce, &slot, &MASTER);
        slot.extend(sealed);
        slot
    }
}

/// Page 5's encoding.
#[derive(Default, Clone)]
pub struct Bytes(pub Vec<u8>);

impl Bytes {
    pub fn n(mut self, value: u64) -> Self {
        match value {
            0..=250 => self.0.push(value as u8),
            251..=0xffff => self.0.extend([&[251], &(value as u16).to_le_bytes()[..]].concat()),
            0x1_0000..=0xffff_ffff => self.0.extend([&[252], &(value as u32).to_le_bytes()[..]].concat()),
            _ => self.0.extend([&[253], &value.to_le_bytes()[..]].concat()),
        }
        self
    }

    pub fn ns(self, values: &[u64]) -> Self {
        values.iter().fold(self, |bytes, &value| bytes.n(value))
    }

    pub fn raw(mut self, bytes: impl AsRef<[u8]>) -> Self {
        self.0.extend(bytes.as_ref());
        self
    }

    pub fn bytes(self, bytes: impl AsRef<[u8]>) -> Self {
        let length = bytes.as_ref().len() as u64;
        self.n(length).raw(bytes)
    }

    pub fn time(self, (seconds, nanoseconds): (i64, u32)) -> Self {
        self.n(((seconds << 1) ^ (seconds >> 63)) as u64).n(nanoseconds.into())
    }
}

pub fn bytes() -> Bytes {
    Bytes::default()
}

pub fn empty() -> Bytes {
    bytes().n(0)
}

pub fn packed(row: u64, offset: u64, length: u64) -> Bytes {
    bytes().ns(&[1, row, offset, length]).raw([0x55; 16])
}

pub fn chunked(rows: &[u64]) -> Bytes {
    bytes().n(2).n(rows.len() as u64).ns(rows)
}

pub const DIRECTORY: &[u8] = &[0];

pub fn part(size: u64, part: u64, more: bool, extents: &[(u64, u64)], content: &Bytes) -> Vec<u8> {
    let head = bytes().ns(&[1, size, part, more.into(), 0, extents.len() as u64]);
    extents.iter().fold(head, |bytes, &(data, hole)| bytes.n(data).n(hole)).raw(&content.0).0
}

pub fn file(size: u64, extents: &[(u64, u64)], content: &Bytes) -> Vec<u8> {
    part(size, 0, false, extents, content)
}

pub fn link(target: &[u8]) -> Vec<u8> {
    bytes().n(2).bytes(target).0
}

/// An entry being made; each field may be made wrong.
#[derive(Clone)]
pub struct EntryParts {
    pub shared: u64,
    pub suffix: Vec<u8>,
    pub owner: u64,
    pub mode: u64,
    pub mtime: (i64, u32),
    pub ctime: (i64, u32),
    pub link_group: u64,
    pub xattrs: Vec<(&'static [u8], Vec<u8>)>,
    pub node: Vec<u8>,
}

pub fn entry(shared: u64, suffix: impl AsRef<[u8]>, node: impl AsRef<[u8]>) -> EntryParts {
    EntryParts {
        shared,
        suffix: suffix.as_ref().to_vec(),
        owner: 0,
        mode: 0o644,
        mtime: (1_700_000_000, 123_456_789),
        ctime: (-1, 999_999_999),
        link_group: 0,
        xattrs: Vec::new(),
        node: node.as_ref().to_vec(),
    }
}

impl EntryParts {
    fn encode(&self, to: Bytes) -> Bytes {
        let to = to.n(self.shared).bytes(&self.suffix).n(self.owner).n(self.mode).time(self.mtime).time(self.ctime);
        let to = to.n(4711).n(self.link_group).n(self.xattrs.len() as u64);
        self.xattrs.iter().fold(to, |to, (name, value)| to.bytes(name).bytes(value)).raw(&self.node)
    }
}

/// A segment being made: chunks as (what their id is filled with, plain, stored), owners as user ids.
#[derive(Clone)]
pub struct SegmentParts {
    pub chunks: Vec<(u8, u64, u64)>,
    pub owners: Vec<u64>,
    pub entries: Vec<EntryParts>,
}

impl SegmentParts {
    pub fn encode(&self) -> Vec<u8> {
        let to = bytes().n(self.chunks.len() as u64);
        let to = self.chunks.iter().fold(to, |to, &(id, plain, stored)| to.raw([id; 32]).n(plain).n(stored));
        let to = to.n(self.owners.len() as u64);
        let to = self.owners.iter().fold(to, |to, &uid| to.n(uid).n(100).bytes(b"me").bytes(b""));
        let to = to.n(self.entries.len() as u64);
        self.entries.iter().fold(to, |to, entry| entry.encode(to)).0
    }
}

/// The streams that cut points are given for.
pub fn stream(name: &str, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    match name {
        "zeros" => {}
        "xof" => blake3::Hasher::new().update(b"nfz vectors stream").finalize_xof().fill(&mut bytes),
        "text" => {
            let lines = (1..).flat_map(|number: u64| format!("line {number}\n").into_bytes());
            bytes.iter_mut().zip(lines).for_each(|(to, byte)| *to = byte);
        }
        other => panic!("no stream is called {other}"),
    }
    bytes
}
