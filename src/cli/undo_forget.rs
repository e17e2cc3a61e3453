//! `nfz undo-forget`: second thoughts.

use super::{
    exit::Exit,
    failure::Failure,
    figures::Work,
    json::{Document, Report},
    json_snapshots::UndoDocument,
    open::{self, Context, IfMissing},
    progress::Progress,
    snapshots::short_id,
    text::{counted, local_time, table},
};
use crate::{
    engine::undo_forget::{self, UndoOptions, UndoReport},
    format::path::Escaped,
};
use clap::Args;
use jiff::tz::TimeZone;
use std::{ffi::OsString, sync::Arc};

const EXAMPLES: &str = "\
EXAMPLES:
  nfz undo-forget user@host:backup             all that can be brought back
  nfz undo-forget user@host:backup -n          which are these?
  nfz undo-forget user@host:backup 1a2b3c4d    only this one
";

/// Bring back forgotten snapshots that no prune has deleted yet
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct UndoForgetArgs {
    /// The repository (left out where --repository or NFZ_REPOSITORY gives it), then the first digits of ids; none: all
    #[arg(value_name = "ADDRESS [ID]")]
    address_and_ids: Vec<OsString>,
    /// Say which would come back
    #[arg(short = 'n', long)]
    dry_run: bool,
}

/// Runs it.
///
/// # Errors
/// [`Failure`].
pub async fn run(context: &Context, args: &UndoForgetArgs) -> Result<Exit, Failure> {
    let (address, ids) = super::forget::address_and_ids(context, &args.address_and_ids)?;
    let opened = open::open(context, &address, IfMissing::Fail).await?;
    let options = UndoOptions { ids, dry_run: args.dry_run };
    let report = {
        let progress = Progress::start(&context.view, Work::Verify);
        undo_forget::undo_forget(Arc::clone(&opened.repository), options, progress.observer()).await?
    };
    if context.view.json {
        report.snapshots.iter().for_each(|info| context.view.document(Document::Snapshot(info.into())));
    }
    context.view.summary(&summary(&report, args.dry_run, &TimeZone::system()));
    context.view.document(Document::Report(Report::UndoForget(UndoDocument::new(&report, args.dry_run))));
    opened.close().await;
    Ok(if report.problem_count > 0 { Exit::Problems } else { Exit::Done })
}

fn summary(report: &UndoReport, dry_run: bool, zone: &TimeZone) -> Vec<String> {
    let count = report.snapshots.len() as u64;
    let head = match (count, dry_run) {
        (0, _) => "There is no forgotten snapshot that can be brought back".to_owned(),
        (_, true) => format!("{} can be brought back", counted(count, "snapshot", "snapshots")),
        (_, false) => format!("Brought back {}", counted(count, "snapshot", "snapshots")),
    };
    let rows = report.snapshots.iter().map(|info| {
        let root = &info.root;
        let source = Escaped(&root.source).to_string();
        vec![format!("  {}", short_id(info)), local_time(root.time, zone), Escaped(&root.host).to_string(), source]
    });
    let mut lines = vec![head];
    lines.extend(table(&rows.collect::<Vec<_>>(), &[]));
    lines.extend(super::problems_line(report.problem_count));
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_snapshot_that_comes_back_is_named() {
        let snapshots = vec![crate::cli::snapshots::tests::info(true, b"")];
        let report = UndoReport { snapshots, ..UndoReport::default() };
        let lines = summary(&report, false, &TimeZone::UTC);
        assert_eq!(lines[0], "Brought back 1 snapshot");
        assert!(lines[1].starts_with("  abababab  2026-11-22 19:00:18  laptop  "));
        assert!(summary(&UndoReport::default(), false, &TimeZone::UTC)[0].starts_with("There is no"));
    }
}
