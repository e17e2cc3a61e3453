//! `nfz snapshots`: what there is to restore from.

use super::{
    exit::Exit,
    failure::Failure,
    figures::Work,
    json::Document,
    open::{self, Context, IfMissing},
    progress::Progress,
    text::{Bytes, Count, local_time, table},
};
use crate::{
    engine::{
        event::Problems,
        history::{self, SnapshotInfo},
    },
    format::path::Escaped,
};
use clap::Args;
use jiff::tz::TimeZone;
use std::ffi::OsString;

const EXAMPLES: &str = "\
EXAMPLES:
  nfz snapshots user@host:backup
  nfz snapshots user@host:backup --host laptop
  nfz snapshots ./backup --json | jq -r 'select(.kind==\"snapshot\").id'
";

/// List the snapshots of a repository, oldest first
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct SnapshotsArgs {
    /// The repository
    address: Option<OsString>,
    /// Only snapshots of this host
    #[arg(long, value_name = "HOST")]
    host: Option<String>,
    /// Only snapshots of this source
    #[arg(long, value_name = "SOURCE")]
    source: Option<String>,
}

/// Runs it.
///
/// # Errors
/// [`Failure`].
pub async fn run(context: &Context, args: &SnapshotsArgs) -> Result<Exit, Failure> {
    let address = context.given().address(args.address.as_deref())?;
    let opened = open::open(context, &address, IfMissing::Fail).await?;
    let problems = Problems::default();
    let found = {
        let progress = Progress::start(&context.view, Work::Verify);
        history::snapshots(&opened.repository, &problems, &*progress.observer()).await?
    };
    let wanted: Vec<_> = found.iter().filter(|info| args.wants(info)).collect();
    if context.view.json {
        wanted.iter().for_each(|info| context.view.document(Document::Snapshot((*info).into())));
    } else if !wanted.is_empty() {
        rows(&wanted, &TimeZone::system()).iter().for_each(|row| context.view.line(row));
    } else {
        context.view.note("No snapshots.");
    }
    opened.close().await;
    Ok(if problems.take().1 > 0 { Exit::Problems } else { Exit::Done })
}

impl SnapshotsArgs {
    fn wants(&self, info: &SnapshotInfo) -> bool {
        let is = |wanted: &Option<String>, bytes: &[u8]| wanted.as_ref().is_none_or(|text| text.as_bytes() == bytes);
        is(&self.host, &info.root.host) && is(&self.source, &info.root.source)
    }
}

/// The table, its heading first.
fn rows(snapshots: &[&SnapshotInfo], zone: &TimeZone) -> Vec<String> {
    let heading = ["ID", "TIME", "HOST", "SOURCE", "FILES", "SIZE", "LABEL"].map(str::to_owned).to_vec();
    let rows: Vec<_> = std::iter::once(heading).chain(snapshots.iter().map(|info| row(info, zone))).collect();
    table(&rows, &[4, 5])
}

fn row(info: &SnapshotInfo, zone: &TimeZone) -> Vec<String> {
    let root = &info.root;
    let label = Escaped(&root.label).to_string();
    let mark = if root.complete { label } else { format!("{label} (checkpoint)").trim_start().to_owned() };
    vec![
        short_id(info),
        local_time(root.time, zone),
        Escaped(&root.host).to_string(),
        Escaped(&root.source).to_string(),
        Count(root.totals.files).to_string(),
        Bytes(root.totals.bytes).to_string(),
        mark,
    ]
}

/// The first digits of the id: enough to tell snapshots apart, and for `--at`.
#[must_use]
pub fn short_id(info: &SnapshotInfo) -> String {
    info.id.to_string().chars().take(8).collect()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::format::{
        id::{ObjectId, SnapshotId},
        manifest::Time,
        snapshot::{SnapshotRoot, Totals},
    };

    /// A snapshot whose source is neither printable nor UTF-8.
    pub(crate) fn info(complete: bool, label: &[u8]) -> SnapshotInfo {
        let root = SnapshotRoot {
            time: Time { seconds: 1_795_374_018, nanoseconds: 0 },
            host: b"laptop".to_vec(),
            user: b"me".to_vec(),
            source: b"/home/\x1b\xff".to_vec(),
            label: label.to_vec(),
            program: b"nfz".to_vec(),
            totals: Totals { files: 1234, bytes: 3 << 29, ..Totals::default() },
            complete,
            generation: 1,
            follows: Vec::new(),
            sparse_packs: Vec::new(),
            segments: Vec::new(),
        };
        SnapshotInfo { id: SnapshotId::new(ObjectId([0xab; 32])), root }
    }

    #[test]
    fn a_snapshot_is_one_row_and_a_checkpoint_is_marked() {
        let rows = rows(&[&info(true, b"before"), &info(false, b"")], &TimeZone::UTC);
        assert_eq!(
            rows,
            [
                "ID        TIME                 HOST    SOURCE            FILES     SIZE  LABEL",
                "abababab  2026-11-22 19:00:18  laptop  /home/\\u{1b}\\xff  1,234  1.5 GiB  before",
                "abababab  2026-11-22 19:00:18  laptop  /home/\\u{1b}\\xff  1,234  1.5 GiB  (checkpoint)",
            ]
        );
    }
}
