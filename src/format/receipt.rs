//! Receipts: a line that proves later that a snapshot was there (`spec/6-operations.md`, "Receipts").

use super::{
    id::{SnapshotId, from_hex, to_hex},
    keys::RepositoryId,
};
use std::{fmt, str::FromStr};

/// That a repository held a snapshot. It is no secret, and no one but the user vouches for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Receipt {
    /// Which repository.
    pub repository: RepositoryId,
    /// The snapshot's generation.
    pub generation: u64,
    /// The snapshot.
    pub snapshot: SnapshotId,
}

/// Why a text is no receipt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "this is no receipt: nfz1, the repository's id, a number and a snapshot's id are expected, with colons between them"
)]
pub struct NoReceipt;

const PREFIX: &str = "nfz1";

impl fmt::Display for Receipt {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{PREFIX}:{}:{}:{}", to_hex(&self.repository), self.generation, self.snapshot)
    }
}

impl FromStr for Receipt {
    type Err = NoReceipt;

    fn from_str(text: &str) -> Result<Self, NoReceipt> {
        let parts: Vec<&str> = text.trim().split(':').collect();
        let [PREFIX, repository, generation, snapshot] = parts[..] else { return Err(NoReceipt) };
        let is_plain = generation.bytes().all(|byte| byte.is_ascii_digit());
        Ok(Self {
            repository: from_hex(repository).ok_or(NoReceipt)?,
            generation: generation.parse().ok().filter(|_| is_plain).ok_or(NoReceipt)?,
            snapshot: from_hex(snapshot).map(|id| SnapshotId::new(super::id::ObjectId(id))).ok_or(NoReceipt)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::id::ObjectId;

    fn receipt() -> Receipt {
        Receipt { repository: [0xab; 16], generation: 7, snapshot: SnapshotId::new(ObjectId([0x12; 32])) }
    }

    #[test]
    fn a_receipt_is_one_line_that_reads_back() {
        let text = receipt().to_string();
        assert_eq!(text, format!("nfz1:{}:7:{}", "ab".repeat(16), "12".repeat(32)));
        assert_eq!(format!(" {text}\n").parse(), Ok(receipt()));
    }

    #[test]
    fn nothing_else_is_a_receipt() {
        let text = receipt().to_string();
        let wrong = [
            String::new(),
            text.replace("nfz1", "nfz2"),
            text.replace(":7:", ":+7:"),
            text.replace(":7:", "::"),
            text.replace(":7:", ":99999999999999999999999:"),
            text[..text.len() - 1].to_owned(),
            format!("{text}:"),
            text.replace('a', "A"),
        ];
        for wrong in wrong {
            assert_eq!(wrong.parse::<Receipt>(), Err(NoReceipt), "{wrong}");
        }
    }
}
