//! Which chunks and segments snapshots name: a set of a million in 16 MB, gathered segment by segment.

use super::{error::EngineError, restore::is_damage, tree::Tree};
use crate::format::{
    id::{ObjectId, SnapshotId},
    snapshot::SnapshotRoot,
};
use crate::repository::Repository;
use futures_util::StreamExt;
use std::{collections::HashSet, sync::Arc};

/// Ids by their first 16 bytes. Two that begin alike are taken for one: then something is kept that could go.
#[derive(Debug, Default)]
pub struct IdSet {
    ids: Vec<u128>,
    /// How many of them are sorted and without repeats.
    sorted: usize,
}

/// New ids that are gathered before they are sorted in.
const UNSORTED_MAX: usize = 1 << 20;

impl IdSet {
    /// Adds an id.
    pub fn insert(&mut self, id: ObjectId) {
        self.ids.push(short(id));
        if self.ids.len() - self.sorted >= UNSORTED_MAX {
            self.sort();
        }
    }

    /// Makes everything that was added findable.
    pub fn sort(&mut self) {
        if self.sorted == self.ids.len() {
            return;
        }
        self.ids.sort_unstable();
        self.ids.dedup();
        self.sorted = self.ids.len();
    }

    /// Whether the id was added, and then [`sort`](Self::sort) called.
    #[must_use]
    pub fn contains(&self, id: ObjectId) -> bool {
        self.ids[..self.sorted].binary_search(&short(id)).is_ok()
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }
}

fn short(id: ObjectId) -> u128 {
    id.0[..16].iter().fold(0, |sum, &byte| sum << 8 | u128::from(byte))
}

/// What some snapshots name.
#[derive(Debug, Default)]
pub struct Named {
    /// Chunks and segments.
    pub ids: IdSet,
    segments: HashSet<ObjectId>,
}

/// What is done about a segment that cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unreadable {
    /// It ends the work: nobody knows what it names.
    Fails,
    /// It names nothing.
    PassedOver,
}

impl Named {
    /// Adds what a snapshot names. Segments that were read before are not read again.
    ///
    /// # Errors
    /// What the store says; [`EngineError::Unknowable`].
    pub async fn add(
        &mut self,
        repository: &Arc<Repository>,
        id: SnapshotId,
        root: &SnapshotRoot,
        unreadable: Unreadable,
    ) -> Result<(), EngineError> {
        let rows: Vec<_> = root.segments.iter().filter(|row| self.segments.insert(row.id.0)).cloned().collect();
        let tree = Tree::new(Arc::clone(repository), id, rows);
        let mut segments = Box::pin(tree.segments(0..tree.len()));
        while let Some((number, segment)) = segments.next().await {
            let name = tree.rows()[number].id.0;
            self.ids.insert(name);
            match segment {
                Ok(segment) => segment.chunks.iter().for_each(|row| self.ids.insert(row.id.0)),
                Err(error) if !is_damage(&error) => return Err(error),
                Err(error) if unreadable == Unreadable::Fails => {
                    return Err(EngineError::Unknowable { snapshot: id, why: error.to_string() });
                }
                // It may be stored anew, and belongs to whoever can read it then.
                Err(_) => drop(self.segments.remove(&name)),
            }
        }
        self.ids.sort();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_was_added_is_found_and_nothing_else(ids in prop::collection::vec(any::<[u8; 32]>(), 0..100), other: [u8; 32]) {
            let mut set = IdSet::default();
            ids.iter().chain(&ids).for_each(|id| set.insert(ObjectId(*id)));
            set.sort();
            prop_assert!(ids.iter().all(|id| set.contains(ObjectId(*id))));
            prop_assert_eq!(set.contains(ObjectId(other)), ids.contains(&other));
            prop_assert_eq!(set.len(), ids.iter().collect::<HashSet<_>>().len());
        }
    }

    #[test]
    fn a_million_ids_take_little_room() {
        let mut set = IdSet::default();
        let id = |number: u64| {
            let mut bytes = [0; 32];
            bytes[..8].copy_from_slice(&number.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes());
            ObjectId(bytes)
        };
        (0..3_000_000u64).for_each(|number| set.insert(id(number % 1_000_000)));
        set.sort();
        assert_eq!(set.len(), 1_000_000);
        assert!(set.ids.capacity() * 16 <= 64 << 20, "{}", set.ids.capacity());
    }
}
