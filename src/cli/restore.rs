//! `nfz restore`: brings files back.

use super::{
    args::ChoiceArgs,
    exit::Exit,
    failure::{Failure, printable},
    figures::Work,
    json::{Document, Report},
    open::{self, Context, IfMissing, Opened},
    positional,
    progress::Progress,
    snapshots::short_id,
    text::{Bytes, Span, counted, local_time},
    tree_path,
};
use crate::{
    engine::{
        event::Problems,
        filter::Selection,
        history::{self, SnapshotInfo},
        restore::{self, Overwrite, RestoreOptions, RestoreReport},
    },
    format::path::TreePath,
};
use clap::{Args, ValueEnum};
use jiff::tz::TimeZone;
use std::{
    ffi::OsString,
    path::{Path, PathBuf},
    sync::Arc,
};

const EXAMPLES: &str = "\
EXAMPLES:
  nfz restore user@host:backup ./out                   the newest, whole
  nfz restore user@host:backup ./out photos/2026       to ./out/photos/2026
  nfz restore user@host:backup ./out --at 2026-11-22   as of the end of that day
  nfz restore user@host:backup ./out a b -n -v         what would be done
  nfz restore user@host:backup ./out --include '*.jpg'
  nfz restore user@host:backup ~/Documents --overwrite if-changed --delete
  NFZ_REPOSITORY=user@host:backup nfz restore ./out photos
";

/// Bring files back from a snapshot
///
/// What the source held is put straight into TARGET, and a PATH at TARGET/PATH. Files that are there already as they should be are left alone, so
/// that the same command goes on after an interruption; other files in the way are left alone too and reported, unless --overwrite says otherwise.
#[derive(Args)]
#[command(after_help = EXAMPLES, override_usage = "nfz restore [OPTIONS] [ADDRESS] TARGET [PATH]...")]
pub struct RestoreArgs {
    /// The repository
    address: Option<OsString>,
    /// The directory to restore into; it is made if it does not exist
    target: Option<OsString>,
    /// Only these, relative to the source
    #[arg(value_name = "PATH")]
    paths: Vec<OsString>,
    #[command(flatten)]
    choice: ChoiceArgs,
    /// Say what would be done; write nothing
    #[arg(short = 'n', long)]
    dry_run: bool,
    /// What becomes of files in the way that differ: always replaced; replaced if size or time differ; never touched
    #[arg(long, value_name = "WHEN", value_enum, default_value_t = WhenArg::Never)]
    overwrite: WhenArg,
    /// Remove from TARGET what the snapshot does not have; asks first
    #[arg(long)]
    delete: bool,
    /// Do not ask
    #[arg(short, long, requires = "delete")]
    yes: bool,
    /// Only what matches; patterns as in .gitignore
    #[arg(long, value_name = "PATTERN")]
    include: Vec<String>,
    /// Not what matches
    #[arg(long, value_name = "PATTERN")]
    exclude: Vec<String>,
    /// Read back what was written and compare
    #[arg(long)]
    verify: bool,
    /// Do not set owner and group
    #[arg(long)]
    no_owner: bool,
    /// Set owner and group by number, not by name
    #[arg(long, conflicts_with = "no_owner")]
    numeric_ids: bool,
}

/// `--overwrite`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum WhenArg {
    Always,
    IfChanged,
    Never,
}

/// Runs it.
///
/// # Errors
/// [`Failure`].
pub async fn run(context: &Context, args: &RestoreArgs) -> Result<Exit, Failure> {
    let arguments: Vec<_> = args.address.iter().chain(&args.target).chain(&args.paths).cloned().collect();
    let (address, rest) = context.given().leading(&arguments)?;
    let (target, paths) = rest.split_first().ok_or_else(no_target)?;
    positional::local("TARGET", target)?;
    let target = PathBuf::from(target);
    check_no_repository(&target)?;
    let paths = paths.iter().map(|path| tree_path::parse(path)).collect::<Result<Vec<_>, _>>()?;
    let opened = open::open(context, &address, IfMissing::Fail).await?;
    let problems = Problems::default();
    let snapshot = {
        let progress = Progress::start(&context.view, Work::Restore);
        history::choose(&opened.repository, &args.choice.choice(), &problems, &*progress.observer()).await?
    };
    context.view.document(Document::Snapshot((&snapshot).into()));
    context.view.note(&announcement(&snapshot, &TimeZone::system()));
    let work = Ready { context, opened: &opened, snapshot: &snapshot, target: &target };
    let options = args.options(paths)?;
    if args.delete && !args.yes && !args.dry_run {
        work.ask_to_delete(&options).await?;
    }
    let report = work.restore(options).await?;
    context.view.summary(&summary(&report, args.dry_run));
    context.view.document(Document::Report(Report::restore(&report, &snapshot, args.dry_run)));
    opened.close().await;
    Ok(if report.problem_count + problems.count() > 0 { Exit::Problems } else { Exit::Done })
}

fn no_target() -> Failure {
    Failure::usage("cannot restore: no TARGET is given").hint("the order is: nfz restore ADDRESS TARGET [PATH]...")
}

/// With `NFZ_REPOSITORY` set, a local repository is easily given where TARGET belongs.
fn check_no_repository(target: &Path) -> Result<(), Failure> {
    if !target.join("nfz-repository").exists() {
        return Ok(());
    }
    let shown = printable(&target.to_string_lossy());
    Err(Failure::usage(format!("cannot restore into {shown}: it is a repository"))
        .hint(format!("to restore from it: nfz restore --repository {shown} TARGET")))
}

/// A restore that is ready to begin.
struct Ready<'a> {
    context: &'a Context,
    opened: &'a Opened,
    snapshot: &'a SnapshotInfo,
    target: &'a Path,
}

impl Ready<'_> {
    async fn restore(&self, options: RestoreOptions) -> Result<RestoreReport, Failure> {
        let progress = Progress::start(&self.context.view, Work::Restore);
        let (repository, snapshot) = (Arc::clone(&self.opened.repository), self.snapshot.clone());
        Ok(restore::restore(repository, snapshot, self.target.to_owned(), options, progress.observer()).await?)
    }

    /// Lists what `--delete` would remove, and asks.
    async fn ask_to_delete(&self, options: &RestoreOptions) -> Result<(), Failure> {
        if !self.context.environment.interactive {
            return Err(Failure::usage("cannot ask whether to delete: there is no terminal")
                .hint("look with -n -v, then give --yes"));
        }
        let removals = Arc::new(removal::Removals::default());
        let observer = Arc::clone(&removals) as Arc<dyn crate::engine::event::Observer>;
        let (repository, snapshot) = (Arc::clone(&self.opened.repository), self.snapshot.clone());
        let dry = RestoreOptions { dry_run: true, ..options.clone() };
        let report = restore::restore(repository, snapshot, self.target.to_owned(), dry, observer).await?;
        if report.removed == 0 {
            return Ok(());
        }
        let (listed, what) = (removals.lines(), counted(report.removed, "entry", "entries"));
        listed.iter().for_each(|line| self.context.view.remark(line));
        let more = report.removed.saturating_sub(listed.len() as u64);
        if more > 0 {
            self.context.view.remark(&format!("… and {}", counted(more, "more", "more")));
        }
        let shown = printable(&self.target.to_string_lossy());
        if open::yes(format!("Remove {what} from {shown}?")).await? {
            return Ok(());
        }
        Err(Failure::failed("cannot go on: nothing was removed or restored, as you asked")
            .hint("without --delete, what the snapshot does not have stays"))
    }
}

mod removal {
    //! What a restore would remove.

    use crate::engine::event::{Action, Event, Observer};
    use std::sync::{Mutex, PoisonError};

    /// The most that are listed.
    const LISTED: usize = 50;

    /// Notes what would be removed.
    #[derive(Default)]
    pub struct Removals {
        lines: Mutex<Vec<String>>,
    }

    impl Removals {
        /// The first of them.
        pub fn lines(&self) -> Vec<String> {
            self.lines.lock().unwrap_or_else(PoisonError::into_inner).clone()
        }
    }

    impl Observer for Removals {
        fn event(&self, event: Event<'_>) {
            if let Event::Entry { path, action: Action::Removed, .. } = event {
                let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
                if lines.len() < LISTED {
                    lines.push(format!("- {path}"));
                }
            }
        }
    }
}

impl RestoreArgs {
    fn options(&self, paths: Vec<TreePath>) -> Result<RestoreOptions, Failure> {
        let selection =
            Selection::new(&self.include, &self.exclude).map_err(|error| Failure::usage(error.to_string()))?;
        Ok(RestoreOptions {
            paths,
            selection,
            overwrite: match self.overwrite {
                WhenArg::Always => Overwrite::Always,
                WhenArg::IfChanged => Overwrite::IfChanged,
                WhenArg::Never => Overwrite::Never,
            },
            delete: self.delete,
            verify: self.verify,
            dry_run: self.dry_run,
            owner: !self.no_owner,
            numeric_ids: self.numeric_ids,
        })
    }
}

/// Which snapshot it is.
fn announcement(snapshot: &SnapshotInfo, zone: &TimeZone) -> String {
    let root = &snapshot.root;
    let text = |bytes: &[u8]| crate::format::path::Escaped(bytes).to_string();
    let unfinished = if root.complete { "" } else { " (a checkpoint: the sync had not ended)" };
    let (host, source, time) = (text(&root.host), text(&root.source), local_time(root.time, zone));
    format!("Restoring snapshot {} of {host}:{source}, {time}{unfinished}", short_id(snapshot))
}

/// What a person is told at the end.
fn summary(report: &RestoreReport, dry_run: bool) -> Vec<String> {
    let RestoreReport { restored, kept, skipped, removed, .. } = report;
    let counts = [(restored, "restored"), (kept, "right already"), (skipped, "skipped"), (removed, "removed")];
    let counts = counts.map(|(count, what)| counted(*count, what, what)).join(", ");
    let would = if dry_run { "Nothing was written, this was a dry run; it would be: " } else { "" };
    let objects = counted(report.fetched_objects, "object", "objects");
    let mut lines = vec![
        format!("{would}{counts}"),
        format!("  written  {}", Bytes(report.bytes_written)),
        format!("  fetched  {} in {objects}, in {}", Bytes(report.fetched_bytes), Span(report.duration)),
    ];
    lines.extend(super::problems_line(report.problem_count));
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn the_summary_is_a_few_lines() {
        let report = RestoreReport {
            restored: 1000,
            skipped: 1,
            bytes_written: 1 << 20,
            fetched_objects: 2,
            problem_count: 1,
            duration: Duration::from_secs(61),
            ..RestoreReport::default()
        };
        assert_eq!(
            summary(&report, false),
            [
                "1,000 restored, 0 right already, 1 skipped, 0 removed",
                "  written  1.0 MiB",
                "  fetched  0 B in 2 objects, in 1 m 01 s",
                "1 problem: see above",
            ]
        );
    }

    #[test]
    fn a_repository_is_no_target() {
        let dir = tempfile::tempdir().unwrap();
        assert!(check_no_repository(dir.path()).is_ok());
        std::fs::write(dir.path().join("nfz-repository"), "").unwrap();
        assert_eq!(check_no_repository(dir.path()).unwrap_err().exit, Exit::Usage);
    }
}
