//! `nfz prune`: space comes back.

use super::{
    exit::Exit,
    failure::Failure,
    figures::Work,
    json::{Document, Report},
    json_snapshots::PruneDocument,
    open::{self, Context, IfMissing, Opened},
    progress::Progress,
    text::{Bytes, Count, Span, counted},
    values,
};
use crate::engine::prune::{self, Amount, PruneOptions, PruneReport};
use clap::Args;
use std::{ffi::OsString, sync::Arc, time::Duration};

const EXAMPLES: &str = "\
EXAMPLES:
  nfz prune user@host:backup
  nfz prune user@host:backup -n                what would be done
  nfz prune user@host:backup --grace 7d        wait longer before deleting
  nfz prune user@host:backup --reclaim-now     the disk is full; no sync runs
";

/// Free the space of what no snapshot needs any more
///
/// Needs no lock: syncs may run meanwhile, on this machine or others. What no snapshot needs is set aside first, and deleted by a
/// prune that comes after the grace period. So run it regularly, say once a day.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct PruneArgs {
    /// The repository
    address: Option<OsString>,
    /// Say what would be done; change nothing. Times are those of this machine's clock then, else the server's
    #[arg(short = 'n', long)]
    dry_run: bool,
    #[command(flatten)]
    how: HowArgs,
}

/// What `forget --prune` takes too.
#[derive(Args)]
pub struct HowArgs {
    /// How long things lie in the trash before they are deleted: 24h or more, such as 7d, 2w, 3m, 1y
    #[arg(long, value_name = "DURATION", default_value = "24h", value_parser = values::period)]
    grace: Duration,
    /// Delete at once, forgotten snapshots too. A sync that is running anywhere may then make a snapshot with holes in it: make sure
    /// that none is, and sync again afterwards
    #[arg(long, conflicts_with = "grace")]
    reclaim_now: bool,
}

/// Runs it.
///
/// # Errors
/// [`Failure`].
pub async fn run(context: &Context, args: &PruneArgs) -> Result<Exit, Failure> {
    let address = context.given().address(args.address.as_deref())?;
    args.how.check()?;
    let opened = open::open(context, &address, IfMissing::Fail).await?;
    let exit = run_opened(context, &opened, &args.how, args.dry_run).await?;
    opened.close().await;
    Ok(exit)
}

/// Prunes an open repository, and says what came of it.
///
/// # Errors
/// [`Failure`].
pub async fn run_opened(context: &Context, opened: &Opened, how: &HowArgs, dry_run: bool) -> Result<Exit, Failure> {
    let options = PruneOptions { grace: how.grace, reclaim_now: how.reclaim_now, dry_run };
    let report = {
        let progress = Progress::start(&context.view, Work::Verify);
        prune::prune(Arc::clone(&opened.repository), options, progress.observer()).await?
    };
    context.view.summary(&summary(&report, how, dry_run));
    context.view.document(Document::Report(Report::Prune(PruneDocument::new(&report, dry_run))));
    Ok(if report.problem_count > 0 { Exit::Problems } else { Exit::Done })
}

impl HowArgs {
    /// Refuses what the engine would refuse, before anyone is asked for a password.
    ///
    /// # Errors
    /// [`Failure`].
    pub fn check(&self) -> Result<(), Failure> {
        if self.grace < prune::GRACE_MIN {
            return Err(crate::engine::error::EngineError::ShortGrace.into());
        }
        Ok(())
    }
}

fn summary(report: &PruneReport, how: &HowArgs, dry_run: bool) -> Vec<String> {
    let amount =
        |Amount { objects, bytes }: Amount| format!("{} in {}", Bytes(bytes), counted(objects, "object", "objects"));
    let head = match (dry_run, report.deleted.objects) {
        (true, _) => "Nothing was changed: this was a dry run".to_owned(),
        (false, 0) => "Nothing was due to be deleted".to_owned(),
        (false, _) => format!("Freed {}", Bytes(report.deleted.bytes)),
    };
    let snapshots = counted(report.snapshots, "snapshot", "snapshots");
    let mut lines = vec![
        format!("{head}, in {}", Span(report.duration)),
        format!("  in use     {}, by {snapshots}", amount(report.kept)),
    ];
    let grace = Span(how.grace);
    let rows = [
        ("deleted", report.deleted, String::new()),
        ("set aside", report.set_aside, format!("; to be deleted by a prune in {grace} or later")),
        ("waiting", report.waiting, ", set aside before".into()),
        ("rescued", report.rescued, ": a sync has come to need it".into()),
        ("young", report.young, ", unused so far: a sync may be about to need it".into()),
        ("left over", report.left, ": the trash is full; prune again later".into()),
    ];
    let rows = rows.into_iter().filter(|(_, of, _)| of.objects > 0);
    lines.extend(rows.map(|(name, of, more)| format!("  {name:<9}  {}{more}", amount(of))));
    if report.expired_snapshots > 0 {
        lines.push(format!("  {} can no longer be brought back", Count(report.expired_snapshots)));
    }
    lines.extend(super::problems_line(report.problem_count));
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_summary_tells_what_is_gone_and_what_waits() {
        let amount = |objects| Amount { objects, bytes: objects << 20 };
        let report = PruneReport {
            snapshots: 2,
            kept: amount(9),
            deleted: amount(3),
            set_aside: amount(1),
            ..PruneReport::default()
        };
        let how = HowArgs { grace: prune::GRACE_MIN, reclaim_now: false };
        let lines = summary(&report, &how, false);
        assert!(lines[0].starts_with("Freed 3.0 MiB, in "), "{lines:?}");
        assert_eq!(
            lines[1..3],
            ["  in use     9.0 MiB in 9 objects, by 2 snapshots", "  deleted    3.0 MiB in 3 objects"]
        );
        assert!(lines[3].starts_with("  set aside  1.0 MiB in 1 object; to be deleted by a prune in "));
        assert!(summary(&PruneReport::default(), &how, true)[0].contains("dry run"));
    }
}
