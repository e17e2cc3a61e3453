//! Rotation: a new epoch with a master secret of its own (`spec/6-operations.md`, "Keys").
//!
//! The keyring first, then the new slot, then the old slots go, and at last the old keyrings: at every call something opens
//! the repository, and what opens it finds all older secrets.

use super::{
    Credentials, InitOptions, KeyError, Repository, RepositoryError, SlotId, SlotInfo, random, unlock::fetch_keyrings,
};
use crate::format::{
    keyring::Keyring,
    keys::{Epoch, Secret},
    limits::{EPOCHS_MAX, SLOTS_MAX},
    name::{Dir, Name},
};
use bytes::Bytes;
use zeroize::Zeroizing;

/// A keyring without a slot is taken for a rotation under way for so many seconds, by the store's clock.
pub const ROTATION_LASTS: i64 = 15 * 60;

/// What a rotation did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rotated {
    /// The new epoch.
    pub epoch: Epoch,
    /// The slot that opens it.
    pub slot: SlotId,
    /// Slots of older epochs, now removed.
    pub removed: Vec<SlotId>,
}

impl Repository {
    /// Begins a new epoch that `credentials` open. All other slots go, which must be allowed where there are any.
    ///
    /// # Errors
    /// [`KeyError::OthersWouldGo`], [`KeyError::RotationUnderWay`], [`KeyError::NotProven`], and what the store says.
    pub async fn rotate(
        &self,
        credentials: &Credentials,
        options: &InitOptions,
        others_may_go: bool,
    ) -> Result<Rotated, KeyError> {
        self.check_writable()?;
        let older = &self.unlocked.masters;
        if older.len() >= EPOCHS_MAX {
            return Err(KeyError::TooManyEpochs);
        }
        let slots: Vec<SlotInfo> = self.slots().await?.into_iter().filter(|slot| slot.is_ours).collect();
        let others: Vec<SlotId> = slots.iter().filter(|slot| !slot.in_use).map(|slot| slot.id).collect();
        if !others.is_empty() && !others_may_go {
            return Err(KeyError::OthersWouldGo(others));
        }
        let newest: Secret = Zeroizing::new(random()?);
        // With room for all, so that no copy of a secret stays behind.
        let mut masters = Vec::with_capacity(older.len() + 1);
        masters.extend_from_slice(older);
        masters.push(newest.clone());
        let epoch = self.keys.epoch() + 1;
        let keyring = self.put_keyring(&masters).await?;
        let mut removed = self.make_room(&others, keyring).await?;
        let slot = self.put_slot(epoch, &newest, credentials, options).await?;
        self.confirm_rotation(epoch, slot, keyring).await?;
        removed.extend(self.remove_older(epoch).await?);
        Ok(Rotated { epoch, slot, removed })
    }

    /// Stores the keyring, and withdraws it where another rotation is under way. What one that was cut off has left goes.
    async fn put_keyring(&self, masters: &[Secret]) -> Result<Name, KeyError> {
        let keyring = Keyring::seal(self.id(), masters, random()?).ok_or(KeyError::TooManyEpochs)?;
        let name = Name::Keyring(random()?);
        // Repositories that were made before there were rotations lack the directory.
        self.store.create_dirs(&[Dir::Keyring]).await?;
        self.store.put(name, Bytes::copy_from_slice(keyring.as_bytes())).await?;
        let (keyrings, failed) = fetch_keyrings(&*self.store, self.id(), true).await;
        if let Some(error) = failed {
            return Err(error.into());
        }
        let now = keyrings.iter().find(|(listed, _)| listed.name == name).map(|(listed, _)| listed.modified);
        let now = now.ok_or(RepositoryError::NoKeyring(keyring.epoch()))?;
        let later = keyrings.iter().filter(|(listed, other)| listed.name != name && other.epoch() >= keyring.epoch());
        for (listed, _) in later {
            if listed.modified > now - ROTATION_LASTS {
                self.store.remove(name).await?;
                return Err(KeyError::RotationUnderWay);
            }
            self.store.remove(listed.name).await?;
        }
        Ok(name)
    }

    /// Where there is no room for another slot, some of those that go anyway go first. Where that is not enough, the keyring goes.
    async fn make_room(&self, others: &[SlotId], keyring: Name) -> Result<Vec<SlotId>, KeyError> {
        let mut gone = Vec::new();
        while self.list_slots().await?.len() >= SLOTS_MAX {
            let Some(other) = others.get(gone.len()) else {
                self.store.remove(keyring).await?;
                return Err(KeyError::TooMany);
            };
            self.store.remove(Name::Key(*other)).await?;
            gone.push(*other);
        }
        Ok(gone)
    }

    /// Withdraws where another rotation has put a slot too, or taken this one's keyring for a leftover.
    async fn confirm_rotation(&self, epoch: Epoch, slot: SlotId, keyring: Name) -> Result<(), KeyError> {
        let slots = self.slots().await?;
        let is_other = |other: &SlotInfo| other.id != slot && other.epoch().is_some_and(|other| other >= epoch);
        let is_seen = slots.iter().any(|seen| seen.id == slot);
        if is_seen && !slots.iter().any(is_other) && self.store.stat(keyring).await?.is_some() {
            return Ok(());
        }
        self.store.remove(Name::Key(slot)).await?;
        self.store.remove(keyring).await?;
        Err(KeyError::RotationUnderWay)
    }

    /// Removes the slots of epochs before this one, then their keyrings.
    async fn remove_older(&self, epoch: Epoch) -> Result<Vec<SlotId>, KeyError> {
        let is_older = |slot: &SlotInfo| slot.epoch().is_some_and(|older| older < epoch);
        let older: Vec<SlotId> = self.slots().await?.into_iter().filter(is_older).map(|slot| slot.id).collect();
        for id in &older {
            self.store.remove(Name::Key(*id)).await?;
        }
        let (keyrings, _) = fetch_keyrings(&*self.store, self.id(), true).await;
        for (listed, _) in keyrings.iter().filter(|(_, keyring)| keyring.epoch() < epoch) {
            self.store.remove(listed.name).await?;
        }
        Ok(older)
    }
}
