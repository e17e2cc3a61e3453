//! Records of what was removed (`spec/1-objects.md`, "Trash and forgotten").

use super::{
    encoding::{self, EncodingError},
    id::{ObjectId, SnapshotId},
    limits::{PLAIN_MAX, RECORDED_MAX},
    name::RunId,
};
use bincode::{Decode, Encode};

/// What lay in the trash, of one run, when this was written: from then on the grace period counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SetAsideRecord {
    /// The run that set it aside.
    pub run: RunId,
    /// Chunks, segments and snapshot roots, in order.
    pub ids: Vec<ObjectId>,
}

/// Snapshots that were removed on purpose.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForgottenRecord {
    /// Their ids, in order.
    pub ids: Vec<SnapshotId>,
}

/// Why some bytes are no such record.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TrashError {
    /// They are no canonical encoding.
    #[error(transparent)]
    Encoding(#[from] EncodingError),
    /// They are of a later format.
    #[error("it has format {0}, which this program does not know: use a newer one")]
    UnknownFormat(u32),
    /// They make no sense.
    #[error("it names nothing, too much, or not in order")]
    Ids,
}

const FORMAT: u32 = 1;

#[derive(Encode, Decode)]
struct SetAsideFields {
    format: u32,
    run: RunId,
    ids: Vec<[u8; 32]>,
}

#[derive(Encode, Decode)]
struct ForgottenFields {
    format: u32,
    ids: Vec<[u8; 32]>,
}

impl SetAsideRecord {
    /// The bytes that are hashed, sealed and stored.
    ///
    /// # Errors
    /// [`TrashError`] where a reader would refuse it.
    pub fn encode(&self) -> Result<Vec<u8>, TrashError> {
        let ids: Vec<[u8; 32]> = self.ids.iter().map(|id| id.0).collect();
        check(&ids)?;
        Ok(encoding::encode(&SetAsideFields { format: FORMAT, run: self.run, ids }, PLAIN_MAX)?)
    }

    /// Reads what [`encode`](Self::encode) wrote.
    ///
    /// # Errors
    /// [`TrashError`].
    pub fn decode(bytes: &[u8]) -> Result<Self, TrashError> {
        check_format(bytes)?;
        let fields: SetAsideFields = encoding::decode(bytes, PLAIN_MAX)?;
        check(&fields.ids)?;
        Ok(Self { run: fields.run, ids: fields.ids.into_iter().map(ObjectId).collect() })
    }
}

impl ForgottenRecord {
    /// The bytes that are hashed, sealed and stored.
    ///
    /// # Errors
    /// [`TrashError`] where a reader would refuse it.
    pub fn encode(&self) -> Result<Vec<u8>, TrashError> {
        let ids: Vec<[u8; 32]> = self.ids.iter().map(|id| id.0.0).collect();
        check(&ids)?;
        Ok(encoding::encode(&ForgottenFields { format: FORMAT, ids }, PLAIN_MAX)?)
    }

    /// Reads what [`encode`](Self::encode) wrote.
    ///
    /// # Errors
    /// [`TrashError`].
    pub fn decode(bytes: &[u8]) -> Result<Self, TrashError> {
        check_format(bytes)?;
        let fields: ForgottenFields = encoding::decode(bytes, PLAIN_MAX)?;
        check(&fields.ids)?;
        Ok(Self { ids: fields.ids.into_iter().map(|id| SnapshotId::new(ObjectId(id))).collect() })
    }
}

/// A later format may add fields: its number is looked at first.
fn check_format(bytes: &[u8]) -> Result<(), TrashError> {
    match bytes.first() {
        Some(&first) if u32::from(first) != FORMAT => Err(TrashError::UnknownFormat(u32::from(first))),
        _ => Ok(()),
    }
}

fn check(ids: &[[u8; 32]]) -> Result<(), TrashError> {
    let is_good = (1..=RECORDED_MAX).contains(&ids.len()) && ids.is_sorted_by(|a, b| a < b);
    if is_good { Ok(()) } else { Err(TrashError::Ids) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn records() -> impl Strategy<Value = SetAsideRecord> {
        let ids = prop::collection::btree_set(any::<[u8; 32]>().prop_map(ObjectId), 1..50);
        (any::<RunId>(), ids).prop_map(|(run, ids)| SetAsideRecord { run, ids: ids.into_iter().collect() })
    }

    proptest! {
        #[test]
        fn a_record_is_read_as_it_was_written(record in records()) {
            prop_assert_eq!(SetAsideRecord::decode(&record.encode().unwrap()).unwrap(), record.clone());
            let ids = record.ids.into_iter().map(SnapshotId::new).collect();
            let forgotten = ForgottenRecord { ids };
            prop_assert_eq!(ForgottenRecord::decode(&forgotten.encode().unwrap()).unwrap(), forgotten);
        }

        #[test]
        fn what_decodes_after_a_change_is_what_its_bytes_say(record in records(), at: prop::sample::Index, byte: u8) {
            let mut bytes = record.encode().unwrap();
            let at = at.index(bytes.len());
            bytes[at] = byte;
            if let Ok(changed) = SetAsideRecord::decode(&bytes) {
                prop_assert_eq!(changed.encode().unwrap(), bytes);
            }
        }
    }

    #[test]
    fn a_record_that_names_nothing_or_not_in_order_is_none() {
        for ids in [vec![], vec![2, 1], vec![1, 1]] {
            let ids: Vec<ObjectId> = ids.into_iter().map(|byte| ObjectId([byte; 32])).collect();
            assert_eq!(SetAsideRecord { run: [0; 16], ids }.encode(), Err(TrashError::Ids));
        }
        let many = (0..=RECORDED_MAX as u32)
            .map(|id| ObjectId(std::array::from_fn(|at| if at < 4 { id.to_be_bytes()[at] } else { 0 })));
        assert_eq!(SetAsideRecord { run: [0; 16], ids: many.collect() }.encode(), Err(TrashError::Ids));
        assert_eq!(SetAsideRecord::decode(&[2]), Err(TrashError::UnknownFormat(2)));
    }
}
