//! Keyrings: the master secrets of older epochs, sealed under the newest (`spec/2-keys.md`, "Keyring").
//!
//! A slot holds the secret of one epoch. Whoever opens one of a later epoch finds the earlier secrets here, and with them
//! all that was stored before a rotation.

use super::{
    keys::{Epoch, RepositoryId, Secret, keyring_key},
    limits::{EPOCHS_MAX, KEYRING_MAX},
};
use chacha20poly1305::{KeyInit, XChaCha20Poly1305, XNonce, aead::Aead, aead::Payload};
use zeroize::Zeroizing;

const MAGIC: &[u8; 4] = b"NFZR";
const VERSION: u8 = 1;
// magic 4 | version 1 | zero 1 | epoch 2 | repo_id 16 | nonce 24 | secrets 32 each + tag 16
const EPOCH: usize = 6;
const REPOSITORY: usize = 8;
const NONCE: usize = 24;
const SEALED: usize = 48;
const SECRET: usize = 32;
const TAG: usize = 16;
const _: () = assert!(KEYRING_MAX == (SEALED + SECRET * (EPOCHS_MAX - 1) + TAG) as u64);

/// Why a keyring does not open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyringError {
    /// It is no keyring, or torn.
    #[error("it is not a keyring, or it is torn")]
    Malformed,
    /// It is of a version that this program does not know.
    #[error("it has version {0}, which this program does not know")]
    UnknownVersion(u8),
    /// It was altered, or it is not sealed under this secret.
    #[error("it was altered, or it belongs to other keys")]
    NotAuthentic,
}

/// A keyring, read but not opened.
pub struct Keyring {
    bytes: Vec<u8>,
}

impl Keyring {
    /// Reads a keyring, and checks that it has room for exactly the epochs before its own.
    ///
    /// # Errors
    /// [`KeyringError::Malformed`], [`KeyringError::UnknownVersion`].
    pub fn parse(bytes: &[u8]) -> Result<Self, KeyringError> {
        if bytes.get(..MAGIC.len()) != Some(MAGIC) {
            return Err(KeyringError::Malformed);
        }
        match bytes.get(MAGIC.len()) {
            Some(&VERSION) => {}
            Some(&other) => return Err(KeyringError::UnknownVersion(other)),
            None => return Err(KeyringError::Malformed),
        }
        if bytes.len() < SEALED + SECRET + TAG || bytes.len() as u64 > KEYRING_MAX || bytes[5] != 0 {
            return Err(KeyringError::Malformed);
        }
        let keyring = Self { bytes: bytes.to_vec() };
        let length = SEALED + SECRET * usize::from(keyring.epoch()) + TAG;
        if keyring.bytes.len() == length { Ok(keyring) } else { Err(KeyringError::Malformed) }
    }

    /// Seals all secrets but the last under the last: that of the newest epoch.
    ///
    /// `None` where there are no two, or more than [`EPOCHS_MAX`]. `nonce` is drawn at random for each.
    #[must_use]
    pub fn seal(repository: RepositoryId, masters: &[Secret], nonce: [u8; 24]) -> Option<Self> {
        let (newest, older) = masters.split_last().filter(|(_, older)| !older.is_empty())?;
        if masters.len() > EPOCHS_MAX {
            return None;
        }
        let mut bytes = Vec::with_capacity(SEALED + SECRET * older.len() + TAG);
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&[VERSION, 0]);
        bytes.extend_from_slice(&(older.len() as Epoch).to_le_bytes());
        bytes.extend_from_slice(&repository);
        bytes.extend_from_slice(&nonce);
        let mut secrets = Zeroizing::new(Vec::with_capacity(SECRET * older.len()));
        older.iter().for_each(|secret| secrets.extend_from_slice(&**secret));
        let payload = Payload { msg: &secrets, aad: &bytes };
        let sealed = cipher(newest, &repository).encrypt(&XNonce::from(nonce), payload).ok()?;
        bytes.extend_from_slice(&sealed);
        Some(Self { bytes })
    }

    /// The master secrets of all epochs before its own, the first epoch's first. `newest` is that of its own epoch.
    ///
    /// # Errors
    /// [`KeyringError::NotAuthentic`].
    pub fn open(&self, newest: &Secret) -> Result<Vec<Secret>, KeyringError> {
        let nonce = XNonce::try_from(&self.bytes[NONCE..SEALED]).map_err(|_| KeyringError::Malformed)?;
        let payload = Payload { msg: &self.bytes[SEALED..], aad: &self.bytes[..SEALED] };
        let opened = cipher(newest, &self.repository()).decrypt(&nonce, payload);
        let opened = Zeroizing::new(opened.map_err(|_| KeyringError::NotAuthentic)?);
        let (secrets, _) = opened.as_chunks::<SECRET>();
        // With room for the newest, so that no copy stays behind where it is added.
        let mut older = Vec::with_capacity(secrets.len() + 1);
        older.extend(secrets.iter().map(|secret| Zeroizing::new(*secret)));
        Ok(older)
    }

    /// The epoch under whose secret it is sealed; it holds those of all epochs before.
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        u16::from_le_bytes([self.bytes[EPOCH], self.bytes[EPOCH + 1]])
    }

    /// The repository it belongs to.
    #[must_use]
    pub fn repository(&self) -> RepositoryId {
        std::array::from_fn(|at| self.bytes[REPOSITORY + at])
    }

    /// Its bytes, as stored.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }
}

fn cipher(newest: &Secret, repository: &RepositoryId) -> XChaCha20Poly1305 {
    XChaCha20Poly1305::new((&*keyring_key(newest, repository)).into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn masters(count: u8) -> Vec<Secret> {
        (0..count).map(|number| Zeroizing::new([number; 32])).collect()
    }

    fn sealed(count: u8) -> Vec<u8> {
        Keyring::seal([5; 16], &masters(count), [7; 24]).unwrap().as_bytes().to_vec()
    }

    #[test]
    fn the_newest_secret_opens_all_older_ones_and_another_opens_none() {
        for count in 2..6 {
            let keyring = Keyring::parse(&sealed(count)).ok().unwrap();
            assert_eq!((keyring.epoch(), keyring.repository()), (u16::from(count) - 1, [5; 16]));
            let all = masters(count + 1);
            for (epoch, master) in all.iter().enumerate() {
                match keyring.open(master) {
                    Ok(older) => assert!(epoch + 1 == usize::from(count) && older == all[..epoch]),
                    Err(why) => assert!(epoch + 1 != usize::from(count) && why == KeyringError::NotAuthentic),
                }
            }
        }
    }

    #[test]
    fn a_first_epoch_has_no_keyring() {
        assert!(Keyring::seal([5; 16], &[], [7; 24]).is_none());
        assert!(Keyring::seal([5; 16], &masters(1), [7; 24]).is_none());
        let many = vec![Zeroizing::new([1; 32]); EPOCHS_MAX + 1];
        assert!(Keyring::seal([5; 16], &many, [7; 24]).is_none());
        let most = Keyring::seal([5; 16], &many[1..], [7; 24]).unwrap();
        assert_eq!(most.as_bytes().len() as u64, KEYRING_MAX);
        assert!(Keyring::parse(most.as_bytes()).is_ok());
    }

    #[test]
    fn no_flipped_bit_and_no_cut_goes_unnoticed() {
        let bytes = sealed(3);
        let newest = &masters(3)[2];
        let opens = |bytes: &[u8]| Keyring::parse(bytes).and_then(|keyring| keyring.open(newest)).is_ok();
        assert!(opens(&bytes) && !opens(&[&bytes[..], b"\0"].concat()));
        for at in 0..bytes.len() {
            assert!(!opens(&bytes[..at]), "cut to {at}");
            for bit in 0..8 {
                let mut altered = bytes.clone();
                altered[at] ^= 1 << bit;
                assert!(!opens(&altered), "byte {at}, bit {bit}");
            }
        }
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_are_judged_without_a_panic(mut bytes in prop::collection::vec(any::<u8>(), 0..200), honest: bool) {
            if honest && bytes.len() > 8 {
                bytes[..6].copy_from_slice(b"NFZR\x01\0");
            }
            if let Ok(keyring) = Keyring::parse(&bytes) {
                prop_assert!(keyring.open(&Zeroizing::new([0; 32])).is_err() && keyring.as_bytes() == bytes);
            }
        }
    }
}
