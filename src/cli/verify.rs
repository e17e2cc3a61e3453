//! `nfz verify`: is it all there, and whole?

use super::{
    args::ChoiceArgs,
    exit::Exit,
    failure::{Failure, printable},
    figures::Work,
    json::{Document, Report},
    open::{self, Context, IfMissing},
    pin, positional,
    progress::Progress,
    text::{Bytes, Span, counted},
    values,
};
use crate::{
    engine::verify::{self, Damage, ReadData, VerifyOptions, VerifyReport},
    format::receipt::Receipt,
};
use clap::Args;
use std::{ffi::OsString, path::PathBuf, sync::Arc};

const EXAMPLES: &str = "\
EXAMPLES:
  nfz verify user@host:backup                      is every object there, whole?
  nfz verify user@host:backup --read-data          read everything too
  nfz verify user@host:backup --read-data=10%      read a tenth, at random
  nfz verify user@host:backup --read-data=500M
  nfz verify user@host:backup --against ~/Docs     compare with what is there
  nfz verify user@host:backup --expect @receipt    is anything withheld?
";

/// Check that a repository is whole
///
/// Names the snapshots and paths that damage touches (exit code 4). With --against, tells how a directory differs from a snapshot (exit code 3).
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct VerifyArgs {
    /// The repository
    address: Option<OsString>,
    /// Read and open objects too: all, a part chosen at random (10%), or about so much (500M)
    #[arg(long, value_name = "N%|SIZE", num_args = 0..=1, require_equals = true, default_missing_value = "all")]
    #[arg(value_parser = values::read_data)]
    read_data: Option<ReadData>,
    /// Compare a snapshot with this directory, content and all
    #[arg(long, value_name = "DIR")]
    against: Option<PathBuf>,
    /// Demand that the snapshot of this receipt is there, as nfz receipt and each sync print it; @FILE: those in a file, one a line
    #[arg(long, value_name = "RECEIPT")]
    expect: Vec<String>,
    #[command(flatten)]
    choice: ChoiceArgs,
}

/// Runs it.
///
/// # Errors
/// [`Failure`].
pub async fn run(context: &Context, args: &VerifyArgs) -> Result<Exit, Failure> {
    if let Some(against) = &args.against {
        positional::local("DIR", against.as_os_str())?;
    }
    let address = context.given().address(args.address.as_deref())?;
    let options = args.options()?;
    let opened = open::open_listing(context, &address, IfMissing::Fail, true).await?;
    let report = {
        let progress = Progress::start(&context.view, Work::Verify);
        verify::verify(Arc::clone(&opened.repository), options, progress.observer()).await?
    };
    if let (Some(newest), true) = (report.newest, report.damage.is_empty()) {
        pin::note(context, &address, newest)?;
    }
    // Damage is no summary: it is told even if quiet.
    if !context.view.json {
        details(&report).iter().for_each(|line| context.view.line(printable(line)));
    }
    context.view.summary(&summary(&report));
    context.view.document(Document::Report(Report::verify(&report)));
    opened.close().await;
    Ok(exit(&report))
}

fn exit(report: &VerifyReport) -> Exit {
    if !report.damage.is_empty() {
        Exit::Damage
    } else if report.problem_count > 0 || !report.differences.is_empty() {
        Exit::Problems
    } else {
        Exit::Done
    }
}

impl VerifyArgs {
    fn options(&self) -> Result<VerifyOptions, Failure> {
        let ChoiceArgs { at, host, source } = &self.choice;
        let chosen = at.is_some() || host.is_some() || source.is_some();
        if chosen && self.against.is_none() {
            return Err(Failure::usage("cannot choose a snapshot: verify looks at all of them")
                .hint("--at, --host and --source choose what --against DIR compares with"));
        }
        Ok(VerifyOptions {
            read_data: self.read_data.unwrap_or(ReadData::Nothing),
            expect: receipts(&self.expect)?,
            against: self.against.clone(),
            choice: self.against.as_ref().map(|_| self.choice.choice()),
        })
    }
}

/// The receipts that are given, by themselves or in files.
fn receipts(given: &[String]) -> Result<Vec<Receipt>, Failure> {
    let mut receipts = Vec::new();
    for text in given {
        let text = match text.strip_prefix('@') {
            Some(file) => std::fs::read_to_string(file)
                .map_err(|error| Failure::failed(format!("cannot read {}: {error}", printable(file))))?,
            None => text.clone(),
        };
        for line in text.lines().filter(|line| !line.trim().is_empty()) {
            let wrong = |why| Failure::usage(format!("cannot understand --expect: {why}"));
            receipts.push(line.parse().map_err(wrong)?);
        }
    }
    Ok(receipts)
}

/// Each piece of damage and each difference.
fn details(report: &VerifyReport) -> Vec<String> {
    let damage = report.damage.iter().flat_map(damage_lines);
    let differences = report.differences.iter().map(|difference| format!("{}: {}", difference.path, difference.what));
    damage.chain(differences).collect()
}

fn damage_lines(damage: &Damage) -> Vec<String> {
    let snapshots: Vec<_> =
        damage.snapshots.iter().map(|id| id.to_string().chars().take(8).collect::<String>()).collect();
    let mut lines = vec![format!("damaged: {}: {}", damage.object, damage.why)];
    if !snapshots.is_empty() {
        lines.push(format!("  in snapshots {}", snapshots.join(", ")));
    }
    lines.extend(damage.paths.iter().map(|path| format!("  touches {path}")));
    lines
}

/// What a person is told at the end.
fn summary(report: &VerifyReport) -> Vec<String> {
    let found = match (report.damage.len() as u64, report.differences.len() as u64) {
        (0, 0) => "No damage".to_owned(),
        (0, differences) => format!("No damage; {}", counted(differences, "difference", "differences")),
        (damage, _) => format!("DAMAGE: {}", counted(damage, "object", "objects")),
    };
    let looked = [
        counted(report.snapshots, "snapshot", "snapshots"),
        counted(report.segments, "segment", "segments"),
        counted(report.chunks, "chunk", "chunks"),
    ];
    let read = counted(report.read_objects, "object", "objects");
    let mut lines = vec![
        found,
        format!("  checked  {}, in {}", looked.join(", "), Span(report.duration)),
        format!("  read     {} in {read}", Bytes(report.read_bytes)),
    ];
    if let Some(id) = report.against {
        let (same, differ) = (report.same, counted(report.difference_count, "differs", "differ"));
        lines.push(format!(
            "  compared with snapshot {:.8}: {} the same, {differ}",
            id.to_string(),
            counted(same, "entry", "entries")
        ));
    }
    if report.unreferenced > 0 {
        let objects = counted(report.unreferenced, "object", "objects");
        lines.push(format!("  unused   {} in {objects} that no snapshot names", Bytes(report.unreferenced_bytes)));
    }
    if !report.damage.is_empty() {
        lines.push("A sync stores anew what is missing or cut short, if its source still has it; remove altered objects first.".into());
    }
    lines.extend(super::problems_line(report.problem_count));
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::verify::Difference;

    fn damaged() -> VerifyReport {
        let snapshots = ["01".repeat(32)];
        let (object, why, paths) = ("chunks/ab/ab01".into(), "it is gone".into(), vec!["a/b".into()]);
        VerifyReport {
            damage: vec![Damage { object, why, snapshots: snapshots.iter().map(ToString::to_string).collect(), paths }],
            ..VerifyReport::default()
        }
    }

    #[test]
    fn damage_counts_more_than_differences_and_these_more_than_nothing() {
        let differences = vec![Difference { path: "a".into(), what: "size".into() }];
        assert_eq!(exit(&VerifyReport { differences: differences.clone(), ..damaged() }), Exit::Damage);
        assert_eq!(exit(&VerifyReport { differences, ..VerifyReport::default() }), Exit::Problems);
        assert_eq!(exit(&VerifyReport { problem_count: 1, ..VerifyReport::default() }), Exit::Problems);
        assert_eq!(exit(&VerifyReport::default()), Exit::Done);
    }

    #[test]
    fn damage_is_told_with_what_it_touches() {
        let lines = ["damaged: chunks/ab/ab01: it is gone", "  in snapshots 01010101", "  touches a/b"];
        assert_eq!(details(&damaged()), lines);
        assert_eq!(summary(&damaged())[0], "DAMAGE: 1 object");
    }
}
