//! From credentials to master secrets: slots are fetched, one is opened, and the keyring gives the secrets before its own.

use super::{RepositoryError, compute, list_or_empty};
use crate::format::{
    keyring::Keyring,
    keys::{Credentials, Epoch, Keys, RepositoryId, Secret, Slot, SlotError},
    kit::KitSecret,
    limits::{KEYRING_MAX, KEYRINGS_MAX, SLOT_MAX, SLOTS_MAX},
    name::{Dir, Name},
};
use crate::store::{ErrorKind, Length, Listed, Store, StoreError};
use futures_util::future;
use std::{cmp::Reverse, sync::Arc};

/// What a repository is opened with.
#[derive(Clone, Copy)]
pub(super) enum Opening<'a> {
    /// A password, a key file, or both.
    Credentials(&'a Credentials),
    /// The words of a recovery kit.
    Kit(&'a KitSecret),
}

/// Master secrets, and what gave them.
pub(super) struct Unlocked {
    /// Those of all epochs, the first epoch's first.
    pub(super) masters: Vec<Secret>,
    /// The slot that was opened, if it was a slot.
    pub(super) opened_by: Option<Name>,
    /// The newest epoch that a slot of the repository shows.
    pub(super) newest: Epoch,
}

impl Unlocked {
    /// All subkeys.
    pub(super) fn keys(&self, repository: RepositoryId) -> Result<Arc<Keys>, RepositoryError> {
        Keys::derive(repository, &self.masters).map(Arc::new).ok_or(RepositoryError::WrongPassword)
    }
}

/// A slot as it is listed, and what was read of it.
pub(super) type ReadSlot = (Listed, Result<Slot, SlotError>);

/// Fetches the key slots, as many as are looked at; and the error of one that could not be fetched.
pub(super) async fn fetch_slots(store: &dyn Store, listed: &[Listed]) -> (Vec<ReadSlot>, Option<StoreError>) {
    let mut listed = listed.to_vec();
    listed.sort_unstable_by_key(|slot| slot.name);
    listed.truncate(SLOTS_MAX);
    let gets = listed.iter().map(|slot| store.get(slot.name, Length::AtMost(SLOT_MAX)));
    let objects = future::join_all(gets).await;
    let (mut read, mut failed) = (Vec::new(), None);
    for (slot, object) in listed.into_iter().zip(objects) {
        match object {
            Ok(object) => read.push((slot, Slot::parse(&object))),
            Err(error) if error.kind == ErrorKind::WrongLength => read.push((slot, Err(SlotError::Malformed))),
            Err(error) => failed = Some(error),
        }
    }
    (read, failed)
}

/// Finds the master secrets.
pub(super) async fn unlock(
    store: &Arc<dyn Store>,
    repository: RepositoryId,
    listed: &[Listed],
    opening: Opening<'_>,
) -> Result<Unlocked, RepositoryError> {
    let (read, failed) = fetch_slots(&**store, listed).await;
    let (mut slots, mut refused) = (Vec::new(), None);
    for (listed, slot) in read {
        match slot {
            Ok(slot) if slot.repository() == repository => slots.push((listed.name, slot)),
            Ok(_) => {}
            Err(why) => refused = Some((listed.name, why)),
        }
    }
    // Of those that open, the one with the highest epoch counts.
    slots.sort_by_key(|(_, slot)| Reverse(slot.epoch()));
    let newest = slots.first().map_or(0, |(_, slot)| slot.epoch());
    match opening {
        Opening::Kit(kit) => {
            let keyrings = fetch_keyrings(&**store, repository, kit.epoch > 0).await;
            let masters = with_older(kit.epoch, kit.master.clone(), keyrings)?;
            Ok(Unlocked { masters, opened_by: None, newest: newest.max(kit.epoch) })
        }
        Opening::Credentials(credentials) => {
            match failed {
                Some(error) if slots.is_empty() => return Err(error.into()),
                _ if slots.is_empty() => return Err(RepositoryError::NoSlot(refused)),
                _ => {}
            }
            let credentials = credentials.clone();
            // Keyrings come while the password is being stretched.
            let opened = compute(move || open_slots(&slots, &credentials));
            let keyrings = fetch_keyrings(&**store, repository, newest > 0);
            let (opened, keyrings) = future::join(opened, keyrings).await;
            let (name, epoch, master) = opened??;
            Ok(Unlocked { masters: with_older(epoch, master, keyrings)?, opened_by: Some(name), newest })
        }
    }
}

/// The first slot that opens: its name, its epoch, and the secret in it.
fn open_slots(slots: &[(Name, Slot)], credentials: &Credentials) -> Result<(Name, Epoch, Secret), RepositoryError> {
    let mut missing = None;
    let mut damaged = None;
    let mut is_wrong = false;
    for (name, slot) in slots {
        match slot.open(credentials) {
            Ok(master) => return Ok((*name, slot.epoch(), master)),
            Err(SlotError::WrongCredentials) => is_wrong = true,
            Err(why @ (SlotError::NeedsPassword | SlotError::NeedsKeyFile)) => missing = Some(why),
            Err(why) => damaged = Some(RepositoryError::Damaged { name: *name, why: why.to_string() }),
        }
    }
    match (damaged, missing) {
        (Some(damaged), _) => Err(damaged),
        (None, Some(why)) if !is_wrong => Err(RepositoryError::MissingCredential(why)),
        _ => Err(RepositoryError::WrongPassword),
    }
}

/// The keyrings of a repository, unopened; and the error of what could not be fetched.
pub(super) type Keyrings = (Vec<(Listed, Keyring)>, Option<StoreError>);

/// Fetches the keyrings; none where they are not `wanted`.
pub(super) async fn fetch_keyrings(store: &dyn Store, repository: RepositoryId, wanted: bool) -> Keyrings {
    if !wanted {
        return (Vec::new(), None);
    }
    let mut listed = match list_or_empty(store, Dir::Keyring).await {
        Ok(listed) => listed,
        Err(RepositoryError::Store(error)) => return (Vec::new(), Some(error)),
        Err(_) => return (Vec::new(), None),
    };
    listed.retain(|keyring| keyring.length <= KEYRING_MAX);
    listed.sort_unstable_by_key(|keyring| Reverse((keyring.modified, keyring.name)));
    listed.truncate(KEYRINGS_MAX);
    let gets = listed.iter().map(|keyring| store.get(keyring.name, Length::Exactly(keyring.length)));
    let objects = future::join_all(gets).await;
    let (mut keyrings, mut failed) = (Vec::new(), None);
    for (listed, object) in listed.into_iter().zip(objects) {
        match object.map(|object| Keyring::parse(&object)) {
            Ok(Ok(keyring)) if keyring.repository() == repository => keyrings.push((listed, keyring)),
            Ok(_) => {}
            Err(error) => failed = Some(error),
        }
    }
    (keyrings, failed)
}

/// The secrets of all epochs up to this one.
fn with_older(epoch: Epoch, master: Secret, (keyrings, failed): Keyrings) -> Result<Vec<Secret>, RepositoryError> {
    if epoch == 0 {
        return Ok(vec![master]);
    }
    let mut of_epoch = keyrings.iter().filter(|(_, keyring)| keyring.epoch() == epoch);
    let older = of_epoch.find_map(|(_, keyring)| keyring.open(&master).ok());
    match (older, failed) {
        (Some(mut masters), _) => {
            masters.push(master);
            Ok(masters)
        }
        (None, Some(error)) => Err(error.into()),
        (None, None) => Err(RepositoryError::NoKeyring(epoch)),
    }
}
