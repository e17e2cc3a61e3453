//! Key slots of an open repository: listed, added, changed, removed (`spec/6-operations.md`, "Keys").
//!
//! A slot is written, read back and opened before any other goes. Whatever dies at whatever call, something that opened the
//! repository before, or the new slot, opens it afterwards.

use super::{
    Credentials, InitOptions, Repository, RepositoryError, compute, cost, list_or_empty, random,
    unlock::{ReadSlot, fetch_slots},
};
use crate::format::{
    id::to_hex,
    keys::{Epoch, Secret, Slot, SlotError, SlotRandomness},
    kit,
    limits::{SLOT_MAX, SLOTS_MAX},
    name::{Dir, Name},
};
use crate::store::{Length, Listed, StoreError};
use bytes::Bytes;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

/// The random id of a slot, which is its name.
pub type SlotId = [u8; 16];

/// A key slot, as it is listed.
#[derive(Clone, Debug)]
pub struct SlotInfo {
    /// Its id.
    pub id: SlotId,
    /// When it was written, by the store's clock, in seconds since 1970.
    pub modified: i64,
    /// What it says of itself; or why it is no slot.
    pub slot: Result<Slot, SlotError>,
    /// Whether it belongs to this repository.
    pub is_ours: bool,
    /// Whether it is the one that opened the repository.
    pub in_use: bool,
}

impl SlotInfo {
    /// The epoch that it opens; none where it is no slot of this repository.
    #[must_use]
    pub fn epoch(&self) -> Option<Epoch> {
        self.slot.as_ref().ok().filter(|_| self.is_ours).map(Slot::epoch)
    }
}

/// Why keys cannot be changed.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The repository or its store failed.
    #[error(transparent)]
    Repository(#[from] RepositoryError),
    /// There is no room for another slot.
    #[error("there are {SLOTS_MAX} key slots already, and no more are looked at")]
    TooMany,
    /// No slot, or more than one, has an id that begins so.
    #[error("{count} key slots have an id that begins with {prefix}")]
    NoSuchSlot {
        /// What was given.
        prefix: String,
        /// How many there are.
        count: usize,
    },
    /// Without it nothing would open the repository.
    #[error("{} is the last key slot: without it nothing could be read again", to_hex(.0))]
    LastSlot(SlotId),
    /// Nothing shows that another one can be opened.
    #[error("{} is the key slot that opened the repository just now", to_hex(.0))]
    InUse(SlotId),
    /// What was read back does not open.
    #[error("the new key slot does not open when it is read back, and was removed again")]
    NotProven,
    /// The repository was opened with a recovery kit.
    #[error("no key slot opened the repository: it was opened with a recovery kit")]
    NoneInUse,
    /// A rotation would take away what opens these slots.
    #[error("{} other key slots would be removed, as their passwords are not known here", .0.len())]
    OthersWouldGo(Vec<SlotId>),
    /// Another rotation has come further, or was cut off.
    #[error("another rotation was begun within the last {} minutes, or was cut off", super::ROTATION_LASTS / 60)]
    RotationUnderWay,
    /// There were more rotations than anybody needs.
    #[error("there are as many key epochs already as there can be")]
    TooManyEpochs,
}

impl From<StoreError> for KeyError {
    fn from(error: StoreError) -> Self {
        Self::Repository(error.into())
    }
}

impl Repository {
    /// The key slots, the oldest first.
    ///
    /// # Errors
    /// What the store says.
    pub async fn slots(&self) -> Result<Vec<SlotInfo>, KeyError> {
        let listed = self.list_slots().await?;
        let (read, failed) = fetch_slots(&*self.store, &listed).await;
        if let Some(error) = failed {
            return Err(error.into());
        }
        let mut slots: Vec<SlotInfo> = read.into_iter().filter_map(|slot| self.slot_info(slot)).collect();
        slots.sort_by_key(|slot| (slot.modified, slot.id));
        Ok(slots)
    }

    pub(super) async fn list_slots(&self) -> Result<Vec<Listed>, RepositoryError> {
        list_or_empty(&*self.store, Dir::Keys).await
    }

    fn slot_info(&self, (listed, slot): ReadSlot) -> Option<SlotInfo> {
        let Name::Key(id) = listed.name else { return None };
        let is_ours = slot.as_ref().is_ok_and(|slot| slot.repository() == self.id());
        let in_use = self.unlocked.opened_by == Some(listed.name);
        Some(SlotInfo { id, modified: listed.modified, slot, is_ours, in_use })
    }

    /// Adds a slot that `credentials` open.
    ///
    /// # Errors
    /// [`KeyError::TooMany`], [`KeyError::NotProven`], [`RepositoryError::Outdated`], and what the store says.
    pub async fn add_slot(&self, credentials: &Credentials, options: &InitOptions) -> Result<SlotId, KeyError> {
        self.check_writable()?;
        if self.list_slots().await?.len() >= SLOTS_MAX {
            return Err(KeyError::TooMany);
        }
        let (epoch, master) = self.newest_secret()?;
        let id = self.put_slot(epoch, master, credentials, options).await?;
        // Another client may have added one meanwhile, or rotated.
        let listed = self.list_slots().await?;
        let newest = self.slots().await?.iter().filter_map(|slot| slot.epoch()).max().unwrap_or(epoch);
        if listed.len() <= SLOTS_MAX && newest <= epoch {
            return Ok(id);
        }
        self.store.remove(Name::Key(id)).await?;
        if newest > epoch { Err(RepositoryError::Outdated { epoch, newest }.into()) } else { Err(KeyError::TooMany) }
    }

    /// Puts a slot that `credentials` open in the place of the one that opened the repository. The new one's id.
    ///
    /// # Errors
    /// As [`add_slot`](Repository::add_slot), and [`KeyError::NoneInUse`].
    pub async fn change_slot(&self, credentials: &Credentials, options: &InitOptions) -> Result<SlotId, KeyError> {
        let used = self.unlocked.opened_by.ok_or(KeyError::NoneInUse)?;
        let id = self.add_slot(credentials, options).await?;
        self.store.remove(used).await?;
        Ok(id)
    }

    /// Removes the slot whose id begins with `prefix`; the one that opened the repository only if it `may_be_in_use`.
    ///
    /// # Errors
    /// [`KeyError::NoSuchSlot`], [`KeyError::LastSlot`], [`KeyError::InUse`], [`RepositoryError::Outdated`], and what the
    /// store says.
    pub async fn remove_slot(&self, prefix: &str, may_be_in_use: bool) -> Result<SlotId, KeyError> {
        self.check_writable()?;
        let slots = self.slots().await?;
        let found: Vec<&SlotInfo> = slots.iter().filter(|slot| to_hex(&slot.id).starts_with(prefix)).collect();
        let [found] = found[..] else {
            return Err(KeyError::NoSuchSlot { prefix: prefix.to_owned(), count: found.len() });
        };
        if !slots.iter().any(|slot| slot.id != found.id && self.opens_all(slot)) {
            return Err(KeyError::LastSlot(found.id));
        }
        if found.in_use && !may_be_in_use {
            return Err(KeyError::InUse(found.id));
        }
        self.store.remove(Name::Key(found.id)).await?;
        self.keep_the_last(found).await?;
        Ok(found.id)
    }

    /// Whether whoever opens the slot can read everything.
    fn opens_all(&self, slot: &SlotInfo) -> bool {
        slot.epoch().is_some_and(|epoch| epoch >= self.keys.epoch())
    }

    /// Brings `removed` back if no slot is left, since another client removed the others meanwhile.
    async fn keep_the_last(&self, removed: &SlotInfo) -> Result<(), KeyError> {
        let left = self.slots().await?;
        if left.iter().any(|slot| self.opens_all(slot)) {
            return Ok(());
        }
        if let Ok(slot) = &removed.slot {
            self.store.put(Name::Key(removed.id), Bytes::copy_from_slice(slot.as_bytes())).await?;
        }
        Err(KeyError::LastSlot(removed.id))
    }

    /// The words of a recovery kit: what opens the repository as it is now.
    ///
    /// # Errors
    /// [`RepositoryError::Outdated`].
    pub fn kit_words(&self) -> Result<Zeroizing<Vec<String>>, KeyError> {
        self.check_writable()?;
        let (epoch, master) = self.newest_secret()?;
        Ok(kit::words(&self.id(), epoch, master))
    }

    /// The newest epoch and its secret.
    pub(super) fn newest_secret(&self) -> Result<(Epoch, &Secret), KeyError> {
        let newest = self.unlocked.masters.last().ok_or(RepositoryError::WrongPassword)?;
        Ok((self.keys.epoch(), newest))
    }

    /// Writes a slot, reads it back and opens it; what does not open is removed again.
    pub(super) async fn put_slot(
        &self,
        epoch: Epoch,
        master: &Secret,
        credentials: &Credentials,
        options: &InitOptions,
    ) -> Result<SlotId, KeyError> {
        let (repository, cost) = (self.id(), cost(options));
        let random_bytes = SlotRandomness { salt: random()?, nonce: random()? };
        let (given, secret) = (credentials.clone(), master.clone());
        let made = compute(move || Slot::create(repository, epoch, &secret, &given, cost, &random_bytes)).await?;
        let slot = made.map_err(RepositoryError::CannotMakeSlot)?;
        let id = random()?;
        let name = Name::Key(id);
        self.store.put(name, Bytes::copy_from_slice(slot.as_bytes())).await?;
        let stored = self.store.get(name, Length::AtMost(SLOT_MAX)).await?;
        let (given, secret) = (credentials.clone(), master.clone());
        let proven = compute(move || opens_to(&stored, &given, &secret)).await?;
        if !proven {
            self.store.remove(name).await?;
            return Err(KeyError::NotProven);
        }
        Ok(id)
    }
}

fn opens_to(stored: &[u8], credentials: &Credentials, master: &Secret) -> bool {
    let opened = Slot::parse(stored).and_then(|slot| slot.open(credentials));
    opened.is_ok_and(|opened| bool::from(opened[..].ct_eq(&master[..])))
}
