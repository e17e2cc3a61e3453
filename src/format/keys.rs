//! Keys and key slots (`spec/2-keys.md`): how a password opens a repository, and which key serves which purpose.
//!
//! One key for one purpose and one kind of object. Secrets are wiped when dropped and cannot be printed.

use super::id::{Id, Kind, ObjectId, OfKind};
use super::limits::{EPOCHS_MAX, SLOT_MAX};
use chacha20poly1305::{KeyInit, XChaCha20Poly1305, XNonce, aead::Aead, aead::Payload};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

/// 16 random bytes that tell one repository from all others.
pub type RepositoryId = [u8; 16];

/// 32 secret bytes.
pub type Secret = Zeroizing<[u8; 32]>;

/// Number of a master secret: 0 for the first; a rotation adds one.
pub type Epoch = u16;

const KINDS: [Kind; 6] = [Kind::Data, Kind::Segment, Kind::Snapshot, Kind::Config, Kind::Forgotten, Kind::SetAside];

/// All subkeys of a repository.
pub struct Keys {
    repository: RepositoryId,
    id: [Secret; 6],
    content: Secret,
    cut: CutKeys,
    epochs: Vec<EpochKeys>,
}

/// The keys that decide where chunks, packs and segments end.
pub struct CutKeys {
    /// The gear table as 2,048 bytes: 256 little-endian numbers.
    pub gear: Zeroizing<[u8; 2048]>,
    /// Decides which nominated cut is made.
    pub gate: Secret,
    /// Decides after which file a pack ends.
    pub pack: Secret,
    /// Decides after which path a segment ends.
    pub segment: Secret,
}

struct EpochKeys {
    seal: [Secret; 6],
    nonce: [Secret; 6],
}

impl Keys {
    /// Derives everything from the master secrets, the first epoch's first.
    ///
    /// `None` where there is none, or more than [`EPOCHS_MAX`].
    #[must_use]
    pub fn derive(repository: RepositoryId, masters: &[Secret]) -> Option<Self> {
        let first = masters.first().filter(|_| masters.len() <= EPOCHS_MAX)?;
        let stable = |purpose: &str| subkey(first, &repository, purpose);
        let mut gear = Zeroizing::new([0; 2048]);
        derivation(first, &repository, "nfz v1 cdc gear").finalize_xof().fill(&mut *gear);
        let cut = CutKeys {
            gear,
            gate: stable("nfz v1 cdc gate"),
            pack: stable("nfz v1 pack cut"),
            segment: stable("nfz v1 segment cut"),
        };
        let id = KINDS.map(|kind| stable(&format!("nfz v1 id {}", label(kind))));
        let epochs = masters.iter().map(|master| EpochKeys::derive(master, &repository)).collect();
        Some(Self { repository, id, content: stable("nfz v1 id content"), cut, epochs })
    }

    /// The repository that the keys belong to.
    #[must_use]
    pub fn repository(&self) -> RepositoryId {
        self.repository
    }

    /// The keys that decide where chunks, packs and segments end.
    #[must_use]
    pub fn cut(&self) -> &CutKeys {
        &self.cut
    }

    /// The newest epoch: the one that is sealed with.
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        (self.epochs.len() - 1) as Epoch
    }

    /// The id of the object whose plaintext this is.
    #[must_use]
    pub fn id<K: OfKind>(&self, plaintext: &[u8]) -> Id<K> {
        Id::new(self.object_id(K::KIND, plaintext))
    }

    /// As [`id`](Keys::id), for a kind known only at run time.
    #[must_use]
    pub fn object_id(&self, kind: Kind, plaintext: &[u8]) -> ObjectId {
        ObjectId(*blake3::keyed_hash(&self.id[place(kind)], plaintext).as_bytes())
    }

    /// The first 16 bytes of the keyed hash of a small file's data.
    #[must_use]
    pub fn content_id(&self, data: &[u8]) -> [u8; 16] {
        let mut id = [0; 16];
        id.copy_from_slice(&blake3::keyed_hash(&self.content, data).as_bytes()[..16]);
        id
    }

    pub(super) fn seal_key(&self, epoch: Epoch, kind: Kind) -> Option<&[u8; 32]> {
        self.epochs.get(usize::from(epoch)).map(|keys| &*keys.seal[place(kind)])
    }

    pub(super) fn nonce_key(&self, epoch: Epoch, kind: Kind) -> Option<&[u8; 32]> {
        self.epochs.get(usize::from(epoch)).map(|keys| &*keys.nonce[place(kind)])
    }
}

impl EpochKeys {
    fn derive(master: &Secret, repository: &RepositoryId) -> Self {
        let keys =
            |purpose: &str| KINDS.map(|kind| subkey(master, repository, &format!("nfz v1 {purpose} {}", label(kind))));
        Self { seal: keys("seal"), nonce: keys("nonce") }
    }
}

/// Where the keys of a kind stand: as in [`KINDS`].
fn place(kind: Kind) -> usize {
    match kind {
        Kind::Data => 0,
        Kind::Segment => 1,
        Kind::Snapshot => 2,
        Kind::Config => 3,
        Kind::Forgotten => 4,
        Kind::SetAside => 5,
    }
}

fn label(kind: Kind) -> &'static str {
    match kind {
        Kind::Data => "data",
        Kind::Segment => "segment",
        Kind::Snapshot => "snapshot",
        Kind::Config => "config",
        Kind::Forgotten => "forgotten",
        Kind::SetAside => "set aside",
    }
}

/// The key that seals the keyring of `master`'s epoch.
pub(super) fn keyring_key(master: &Secret, repository: &RepositoryId) -> Secret {
    subkey(master, repository, "nfz v1 keyring")
}

fn derivation(master: &Secret, repository: &RepositoryId, context: &str) -> blake3::Hasher {
    let mut hasher = blake3::Hasher::new_derive_key(context);
    hasher.update(&**master).update(repository);
    hasher
}

fn subkey(master: &Secret, repository: &RepositoryId, context: &str) -> Secret {
    Zeroizing::new(*derivation(master, repository, context).finalize().as_bytes())
}

// ---- key slots ----

/// What Argon2id costs: memory in KiB, passes, lanes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KdfCost {
    /// Memory in KiB.
    pub memory_kib: u32,
    /// Passes over the memory.
    pub passes: u32,
    /// Lanes.
    pub lanes: u32,
}

impl KdfCost {
    /// What new slots cost.
    pub const DEFAULT: Self = Self { memory_kib: 128 << 10, passes: 3, lanes: 4 };
    /// What new slots cost on a machine with under 1 GiB of memory.
    pub const SMALL: Self = Self { memory_kib: 64 << 10, passes: 3, lanes: 4 };
    /// Bounds of the memory, in KiB.
    pub const MEMORY_KIB: std::ops::RangeInclusive<u32> = 19 << 10..=1 << 20;

    /// Whether a slot may ask for this: within bounds, and not both large and slow.
    #[must_use]
    pub fn is_acceptable(self) -> bool {
        let few = 1..=16;
        Self::MEMORY_KIB.contains(&self.memory_kib)
            && few.contains(&self.passes)
            && few.contains(&self.lanes)
            && u64::from(self.memory_kib) * u64::from(self.passes) <= 8 << 20
    }
}

/// What opens a slot: a password, a key file's 32 bytes, or both.
#[derive(Default, Clone)]
pub struct Credentials {
    /// The password's bytes, as typed.
    pub password: Option<Zeroizing<Vec<u8>>>,
    /// 32 bytes derived from the key file (`spec/2-keys.md`).
    pub key_file: Option<Secret>,
}

impl Credentials {
    /// The 32 bytes that a key file of any form stands for.
    #[must_use]
    pub fn key_file_secret(contents: &[u8]) -> Secret {
        Zeroizing::new(blake3::derive_key("nfz v1 key file", contents))
    }
}

/// Why a slot does not open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SlotError {
    /// It is no slot, or torn.
    #[error("it is not a key slot, or it is torn")]
    Malformed,
    /// It is of a version that this program does not know.
    #[error("it has version {0}, which this program does not know")]
    UnknownVersion(u8),
    /// It asks for more memory or time than any honest slot.
    #[error("it asks for {} KiB of memory, {} passes and {} lanes, which no honest slot does", .0.memory_kib, .0.passes, .0.lanes)]
    AbsurdCost(KdfCost),
    /// It needs a password, and none was given.
    #[error("it needs a password")]
    NeedsPassword,
    /// It needs a key file, and none was given.
    #[error("it needs a key file")]
    NeedsKeyFile,
    /// The password or the key file is not the one it was made with.
    #[error("the password or key file does not open it")]
    WrongCredentials,
    /// The right password, but its secrets were altered.
    #[error("its secrets were altered")]
    Altered,
    /// The memory for Argon2id could not be had.
    #[error("Argon2id failed for lack of memory")]
    OutOfMemory,
}

/// A key slot, read but not opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slot {
    bytes: [u8; SLOT_LENGTH],
}

/// Bytes that must be drawn at random for each new slot.
pub struct SlotRandomness {
    /// Salt of Argon2id.
    pub salt: [u8; 32],
    /// Nonce of the sealed secrets.
    pub nonce: [u8; 24],
}

const MAGIC: &[u8; 4] = b"NFZK";
const VERSION: u8 = 1;
const NEEDS_PASSWORD: u16 = 1;
const NEEDS_KEY_FILE: u16 = 2;
// magic 4 | version 1 | kdf 1 | flags 2 | repo_id 16 | epoch 2 | m 4 | t 4 | p 4 | salt 32 | nonce 24 | commitment 32 | secret 32 + tag 16
const FLAGS: usize = 6;
const REPOSITORY: usize = 8;
const EPOCH: usize = 24;
const COST: usize = 26;
const SALT: usize = 38;
const NONCE: usize = 70;
const COMMITMENT: usize = 94;
const SEALED: usize = 126;
/// Length of a slot in bytes.
pub const SLOT_LENGTH: usize = 174;
const _: () = assert!(SALT == COST + 12 && NONCE == SALT + 32 && COMMITMENT == NONCE + 24);
const _: () = assert!(SEALED == COMMITMENT + 32 && SLOT_LENGTH == SEALED + 32 + 16 && SLOT_LENGTH as u64 <= SLOT_MAX);

impl Slot {
    /// Reads a slot and judges what it asks for, before anything is allocated for it.
    ///
    /// # Errors
    /// [`SlotError::Malformed`], [`SlotError::UnknownVersion`], [`SlotError::AbsurdCost`].
    pub fn parse(bytes: &[u8]) -> Result<Self, SlotError> {
        if bytes.get(..4) != Some(MAGIC) {
            return Err(SlotError::Malformed);
        }
        match bytes.get(4) {
            Some(&VERSION) => {}
            Some(&other) => return Err(SlotError::UnknownVersion(other)),
            None => return Err(SlotError::Malformed),
        }
        let slot = Self { bytes: bytes.try_into().map_err(|_| SlotError::Malformed)? };
        let well_formed = match (slot.bytes[5], slot.flags()) {
            (1, NEEDS_PASSWORD) => true,
            (1, flags) => flags == NEEDS_PASSWORD | NEEDS_KEY_FILE,
            (0, NEEDS_KEY_FILE) => slot.bytes[COST..NONCE].iter().all(|&byte| byte == 0),
            _ => false,
        };
        if !well_formed {
            return Err(SlotError::Malformed);
        }
        if slot.bytes[5] == 1 && !slot.cost().is_acceptable() {
            return Err(SlotError::AbsurdCost(slot.cost()));
        }
        Ok(slot)
    }

    /// Makes a slot that `credentials` open.
    ///
    /// # Errors
    /// [`SlotError::NeedsPassword`] where there is neither password nor key file; [`SlotError::AbsurdCost`];
    /// [`SlotError::OutOfMemory`].
    pub fn create(
        repository: RepositoryId,
        epoch: Epoch,
        master: &Secret,
        credentials: &Credentials,
        cost: KdfCost,
        random: &SlotRandomness,
    ) -> Result<Self, SlotError> {
        let mut bytes = [0; SLOT_LENGTH];
        let flags = credentials.password.as_ref().map_or(0, |_| NEEDS_PASSWORD)
            | credentials.key_file.as_ref().map_or(0, |_| NEEDS_KEY_FILE);
        bytes[..4].copy_from_slice(MAGIC);
        bytes[4] = VERSION;
        bytes[FLAGS..REPOSITORY].copy_from_slice(&flags.to_le_bytes());
        bytes[REPOSITORY..EPOCH].copy_from_slice(&repository);
        bytes[EPOCH..COST].copy_from_slice(&epoch.to_le_bytes());
        bytes[NONCE..COMMITMENT].copy_from_slice(&random.nonce);
        match (credentials.password.is_some(), credentials.key_file.is_some()) {
            (false, false) => return Err(SlotError::NeedsPassword),
            (false, true) => {}
            (true, _) if !cost.is_acceptable() => return Err(SlotError::AbsurdCost(cost)),
            (true, _) => {
                bytes[5] = 1;
                for (at, value) in [cost.memory_kib, cost.passes, cost.lanes].into_iter().enumerate() {
                    bytes[COST + 4 * at..COST + 4 * at + 4].copy_from_slice(&value.to_le_bytes());
                }
                bytes[SALT..NONCE].copy_from_slice(&random.salt);
            }
        }
        let mut slot = Self { bytes };
        let kek = slot.kek(credentials)?;
        slot.bytes[COMMITMENT..SEALED].copy_from_slice(&*commitment(&kek));
        let payload = Payload { msg: &**master, aad: &slot.bytes[..SEALED] };
        let sealed = cipher(&kek).encrypt(&XNonce::from(random.nonce), payload).map_err(|_| SlotError::Malformed)?;
        slot.bytes[SEALED..].copy_from_slice(&sealed);
        Ok(slot)
    }

    /// The master secret of the slot's epoch.
    ///
    /// # Errors
    /// [`SlotError`].
    pub fn open(&self, credentials: &Credentials) -> Result<Secret, SlotError> {
        let kek = self.kek(credentials)?;
        if !bool::from(commitment(&kek)[..].ct_eq(&self.bytes[COMMITMENT..SEALED])) {
            return Err(SlotError::WrongCredentials);
        }
        let payload = Payload { msg: &self.bytes[SEALED..], aad: &self.bytes[..SEALED] };
        let nonce = XNonce::try_from(&self.bytes[NONCE..COMMITMENT]).map_err(|_| SlotError::Malformed)?;
        let opened = cipher(&kek).decrypt(&nonce, payload).map_err(|_| SlotError::Altered)?;
        let opened = Zeroizing::new(opened);
        let mut master = Zeroizing::new([0; 32]);
        master.copy_from_slice(&opened);
        Ok(master)
    }

    /// The repository it belongs to.
    #[must_use]
    pub fn repository(&self) -> RepositoryId {
        std::array::from_fn(|at| self.bytes[REPOSITORY + at])
    }

    /// The epoch whose master secret it holds.
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        u16::from_le_bytes([self.bytes[EPOCH], self.bytes[EPOCH + 1]])
    }

    /// What opening it costs; zeros where it needs no password.
    #[must_use]
    pub fn cost(&self) -> KdfCost {
        let number = |at: usize| u32::from_le_bytes(std::array::from_fn(|byte| self.bytes[COST + 4 * at + byte]));
        KdfCost { memory_kib: number(0), passes: number(1), lanes: number(2) }
    }

    /// Whether a password is needed to open it.
    #[must_use]
    pub fn needs_password(&self) -> bool {
        self.flags() & NEEDS_PASSWORD != 0
    }

    /// Whether a key file is needed to open it.
    #[must_use]
    pub fn needs_key_file(&self) -> bool {
        self.flags() & NEEDS_KEY_FILE != 0
    }

    /// Its bytes, as stored.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    fn flags(&self) -> u16 {
        u16::from_le_bytes([self.bytes[FLAGS], self.bytes[FLAGS + 1]])
    }

    /// The key-encryption key: Argon2id of the password, the key file's secret, and the header through the salt.
    fn kek(&self, credentials: &Credentials) -> Result<Secret, SlotError> {
        let flags = self.flags();
        let mut stretched: Secret = Zeroizing::new([0; 32]);
        if flags & NEEDS_PASSWORD != 0 {
            let password = credentials.password.as_ref().ok_or(SlotError::NeedsPassword)?;
            stretch(password, &self.bytes[SALT..NONCE], self.cost(), &mut stretched)?;
        }
        let none: Secret = Zeroizing::new([0; 32]);
        let key_file = match flags & NEEDS_KEY_FILE {
            0 => &none,
            _ => credentials.key_file.as_ref().ok_or(SlotError::NeedsKeyFile)?,
        };
        let mut hasher = blake3::Hasher::new_derive_key("nfz v1 key slot");
        hasher.update(&*stretched).update(&**key_file).update(&self.bytes[..NONCE]);
        Ok(Zeroizing::new(*hasher.finalize().as_bytes()))
    }
}

fn stretch(password: &[u8], salt: &[u8], cost: KdfCost, out: &mut [u8; 32]) -> Result<(), SlotError> {
    let params = argon2::Params::new(cost.memory_kib, cost.passes, cost.lanes, Some(32));
    let params = params.map_err(|_| SlotError::AbsurdCost(cost))?;
    // Allocated here so that too little memory is an error and not an abort; given back when it goes out of scope.
    let mut memory: Vec<argon2::Block> = Vec::new();
    memory.try_reserve_exact(params.block_count()).map_err(|_| SlotError::OutOfMemory)?;
    memory.resize(params.block_count(), argon2::Block::default());
    let argon2 = argon2::Argon2::new(argon2::Algorithm::Argon2id, argon2::Version::V0x13, params);
    argon2.hash_password_into_with_memory(password, salt, out, &mut memory).map_err(|_| SlotError::Malformed)
}

fn commitment(kek: &Secret) -> Secret {
    Zeroizing::new(blake3::derive_key("nfz v1 slot commitment", &**kek))
}

fn cipher(kek: &Secret) -> XChaCha20Poly1305 {
    XChaCha20Poly1305::new((&**kek).into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::id::to_hex;
    use proptest::prelude::*;

    // As the reference reader derives them.
    const GOLDEN_IDS: [&str; 6] = [
        "344069ab16e10e71",
        "516e5e1c6a57d271",
        "f71d06505ab449c0",
        "fb08de70a277a529",
        "6e828f62118e6484",
        "2308de16bb0424d3",
    ];
    const GOLDEN_SEAL_KEYS: [&str; 6] = [
        "314177b331682cbf",
        "1553d57482235fd7",
        "0b5070dd8377fa3f",
        "1a7c415949839137",
        "547be5be5795058f",
        "ab6dda782f8d9018",
    ];
    const GOLDEN_GEAR: &str = "48e2190c373076de";
    const CHEAP: KdfCost = KdfCost { memory_kib: 19 << 10, passes: 1, lanes: 1 };

    fn credentials(password: Option<&[u8]>, key_file: Option<&[u8]>) -> Credentials {
        Credentials {
            password: password.map(|bytes| Zeroizing::new(bytes.to_vec())),
            key_file: key_file.map(Credentials::key_file_secret),
        }
    }

    fn slot(credentials: &Credentials) -> Slot {
        let random = SlotRandomness { salt: [3; 32], nonce: [4; 24] };
        Slot::create([5; 16], 0, &Zeroizing::new([6; 32]), credentials, CHEAP, &random).unwrap()
    }

    #[test]
    fn a_slot_opens_with_what_it_was_made_with_and_with_nothing_else() {
        let all = [
            credentials(Some(b"word"), None),
            credentials(None, Some(b"file")),
            credentials(Some(b"word"), Some(b"file")),
            credentials(Some(b"other"), Some(b"file")),
            credentials(Some(b"word"), Some(b"other")),
            credentials(None, None),
        ];
        // What more is given than a slot asks for is left unused.
        let opens = [
            [true, false, true, false, true, false],
            [false, true, true, true, false, false],
            [false, false, true, false, false, false],
        ];
        for (made, opens) in all.iter().zip(opens) {
            let slot = Slot::parse(slot(made).as_bytes()).unwrap();
            assert_eq!((slot.repository(), slot.epoch()), ([5; 16], 0));
            for (given, opens) in all.iter().zip(opens) {
                match slot.open(given) {
                    Ok(master) => assert!(opens && *master == [6; 32]),
                    Err(why) => assert!(!opens && why != SlotError::Altered, "{why}"),
                }
            }
        }
    }

    #[test]
    fn no_flipped_bit_of_a_slot_and_no_cut_goes_unnoticed() {
        let file = credentials(None, Some(b"file"));
        let bytes = *slot(&file).as_bytes().first_chunk::<SLOT_LENGTH>().unwrap();
        for at in 0..bytes.len() {
            for bit in 0..8 {
                let mut altered = bytes;
                altered[at] ^= 1 << bit;
                let opened = Slot::parse(&altered).and_then(|slot| slot.open(&credentials(Some(b""), Some(b"file"))));
                assert!(opened.is_err(), "byte {at}, bit {bit}");
            }
            assert!(Slot::parse(&bytes[..at]).is_err(), "cut to {at}");
        }
        assert!(Slot::parse(&bytes).unwrap().open(&file).is_ok());
    }

    #[test]
    fn absurd_costs_are_refused_when_read_and_when_made() {
        let word = credentials(Some(b"word"), None);
        let random = SlotRandomness { salt: [3; 32], nonce: [4; 24] };
        let gib = 1 << 20;
        for (memory_kib, passes, lanes) in [
            (19_455, 1, 1),
            (gib + 1, 1, 1),
            (gib, 9, 1),
            (19_456, 0, 1),
            (19_456, 17, 1),
            (19_456, 1, 0),
            (19_456, 1, 17),
        ] {
            let cost = KdfCost { memory_kib, passes, lanes };
            let made = Slot::create([5; 16], 0, &Zeroizing::new([6; 32]), &word, cost, &random);
            assert_eq!(made, Err(SlotError::AbsurdCost(cost)));
            let mut bytes = slot(&word).as_bytes().to_vec();
            for (at, number) in [memory_kib, passes, lanes].into_iter().enumerate() {
                bytes[COST + 4 * at..COST + 4 * at + 4].copy_from_slice(&number.to_le_bytes());
            }
            assert_eq!(Slot::parse(&bytes), Err(SlotError::AbsurdCost(cost)));
        }
        for cost in [KdfCost::DEFAULT, KdfCost::SMALL, KdfCost { memory_kib: gib, passes: 8, lanes: 16 }] {
            assert!(cost.is_acceptable());
        }
    }

    #[test]
    fn subkeys_are_pinned() {
        let keys = Keys::derive([0x22; 16], &[Zeroizing::new([0x11; 32])]).unwrap();
        let ids = KINDS.map(|kind| keys.object_id(kind, b"golden").to_hex()[..16].to_string());
        assert_eq!(ids, GOLDEN_IDS);
        let seals = KINDS.map(|kind| to_hex(&keys.seal_key(0, kind).unwrap()[..8]));
        assert_eq!(seals, GOLDEN_SEAL_KEYS);
        assert_eq!(to_hex(&keys.cut().gear[..8]), GOLDEN_GEAR);
        assert!(keys.seal_key(1, Kind::Data).is_none());
    }

    #[test]
    fn a_rotation_keeps_names_and_changes_seals() {
        let (first, second) = (Zeroizing::new([1; 32]), Zeroizing::new([2; 32]));
        let before = Keys::derive([0; 16], std::slice::from_ref(&first)).unwrap();
        let after = Keys::derive([0; 16], &[first, second]).unwrap();
        assert_eq!(after.epoch(), 1);
        for kind in KINDS {
            assert_eq!(before.object_id(kind, b"x"), after.object_id(kind, b"x"));
            assert_eq!(before.seal_key(0, kind), after.seal_key(0, kind));
            assert_ne!(after.seal_key(1, kind), after.seal_key(0, kind));
        }
        assert!(Keys::derive([0; 16], &[]).is_none());
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_are_judged_without_a_panic(mut bytes in prop::collection::vec(any::<u8>(), 170..180), honest: bool) {
            if honest {
                bytes[..8].copy_from_slice(b"NFZK\x01\x01\x01\0");
            }
            if let Ok(slot) = Slot::parse(&bytes) {
                prop_assert!(slot.cost().is_acceptable() && slot.as_bytes() == bytes);
            }
        }
    }
}
