//! What `nfz key … --json` prints: documents of kind `key_slot`, and reports.

use crate::{
    cli::text::rfc3339,
    format::{id::to_hex, manifest::Time},
    repository::{Rotated, SlotInfo},
};
use serde::Serialize;

/// A key slot.
#[derive(Serialize)]
pub struct KeySlot {
    slot: String,
    written: Option<String>,
    in_use: bool,
    epoch: Option<u16>,
    password: Option<bool>,
    key_file: Option<bool>,
    memory: Option<u64>,
    passes: Option<u32>,
    lanes: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    why: Option<String>,
}

impl From<&SlotInfo> for KeySlot {
    fn from(info: &SlotInfo) -> Self {
        let slot = info.slot.as_ref().ok().filter(|_| info.is_ours);
        let cost = slot.filter(|slot| slot.needs_password()).map(|slot| slot.cost());
        Self {
            slot: to_hex(&info.id),
            written: rfc3339(Time { seconds: info.modified, nanoseconds: 0 }),
            in_use: info.in_use,
            epoch: slot.map(|slot| slot.epoch()),
            password: slot.map(|slot| slot.needs_password()),
            key_file: slot.map(|slot| slot.needs_key_file()),
            memory: cost.map(|cost| u64::from(cost.memory_kib) << 10),
            passes: cost.map(|cost| cost.passes),
            lanes: cost.map(|cost| cost.lanes),
            why: super::slots::why_unusable(info),
        }
    }
}

/// The outcome of one of the verbs under `nfz key`.
#[derive(Serialize)]
#[serde(tag = "verb")]
pub enum KeyReport {
    /// `nfz key add`.
    #[serde(rename = "key_add")]
    Add { slot: String },
    /// `nfz key remove`.
    #[serde(rename = "key_remove")]
    Remove { removed: Vec<String> },
    /// `nfz key change`.
    #[serde(rename = "key_change")]
    Change { slot: String },
    /// `nfz key rotate`.
    #[serde(rename = "key_rotate")]
    Rotate { epoch: u16, slot: String, removed: Vec<String> },
    /// `nfz key export-kit`.
    #[serde(rename = "key_export_kit")]
    ExportKit { repository: String, epoch: u16, with_secret: bool, page: Option<String> },
    /// `nfz key import-kit`.
    #[serde(rename = "key_import_kit")]
    ImportKit { repository: String, epoch: u16, with_secret: bool, snapshots: u64, slot: Option<String> },
}

impl From<&Rotated> for KeyReport {
    fn from(rotated: &Rotated) -> Self {
        let removed = rotated.removed.iter().map(|id| to_hex(id)).collect();
        Self::Rotate { epoch: rotated.epoch, slot: to_hex(&rotated.slot), removed }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::{cli::json::Document, format::keys::SlotError};

    /// One of each.
    pub(crate) fn samples() -> Vec<Document<'static>> {
        let info =
            SlotInfo { id: [1; 16], modified: 1, slot: Err(SlotError::Malformed), is_ours: false, in_use: false };
        let (repository, epoch, page) = ("00".to_owned(), 1, Some("page".to_owned()));
        let reports = [
            KeyReport::Add { slot: "00".into() },
            KeyReport::Remove { removed: vec!["00".into()] },
            KeyReport::Change { slot: "00".into() },
            (&Rotated { epoch, slot: [1; 16], removed: vec![[2; 16]] }).into(),
            KeyReport::ExportKit { repository: repository.clone(), epoch, with_secret: true, page },
            KeyReport::ImportKit { repository, epoch, with_secret: true, snapshots: 1, slot: None },
        ];
        let reports = reports.into_iter().map(Document::KeyReport);
        reports.chain([Document::KeySlot((&info).into())]).collect()
    }
}
