//! `nfz sync`: freezes a directory.

use super::{
    address::Address,
    exit::Exit,
    failure::{Failure, printable},
    figures::Work,
    json::{Document, Report},
    leave_out,
    log::Told,
    one_at_a_time,
    open::{self, Context, IfMissing, Opened},
    pin, positional,
    progress::Progress,
    text::{Bytes, Span, counted},
    values,
};
use crate::engine::{
    filter::FilterOptions,
    sync::{self, Compression, SyncOptions, SyncReport, Walking},
};
use clap::Args;
use std::{
    ffi::OsString,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

const EXAMPLES: &str = "\
EXAMPLES:
  nfz sync ~/Documents user@host:backup
  nfz sync ~ user@host:backup --exclude '*.tmp' --exclude /Downloads
  nfz sync /etc sftp://user@host:2222/~/backup --label 'before the upgrade'
  nfz sync ~/Documents user@host:backup -n -v   what would be done
  NFZ_REPOSITORY=user@host:backup nfz sync ~ -x --exclude-file ~/.nfzignore
  nfz sync ~ user@host:backup --init --password-file ~/.pw --limit-up 2M -q
  nfz sync home                       as ~/.config/nfz/config.toml says
  nfz sync ~ user@host:backup --one-at-a-time --log-file ~/nfz.log --nice -q
";

/// Save a directory as a snapshot; only what changed is sent
///
/// The first sync on a terminal offers to make the repository. A sync that was interrupted goes on where it stopped when
/// the same command is run again. What was moved or copied is not sent again.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct SyncArgs {
    /// The directory to save, or the name of a configured repository, to save what the configuration says
    source: Option<PathBuf>,
    /// The repository
    address: Option<OsString>,
    /// Make the repository if there is none
    #[arg(long)]
    init: bool,
    /// Say what would be done; store nothing
    #[arg(short = 'n', long)]
    dry_run: bool,
    /// Leave at once, with exit code 7, if a sync of the same source to the same repository is under way on this machine
    #[arg(long)]
    one_at_a_time: bool,
    /// A note to find the snapshot by
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    label: String,
    /// Save under this host's name [default: this machine's]
    #[arg(long, value_name = "HOST")]
    host: Option<String>,
    #[command(flatten)]
    filter: FilterArgs,
    #[command(flatten)]
    how: HowArgs,
}

/// What is left out.
#[derive(Args)]
#[command(next_help_heading = "What is left out (patterns as in .gitignore; a leading / is the source)")]
struct FilterArgs {
    /// Leave out what matches
    #[arg(long, value_name = "PATTERN")]
    exclude: Vec<String>,
    /// The same, whatever the case of the letters
    #[arg(long, value_name = "PATTERN")]
    iexclude: Vec<String>,
    /// Leave out what matches the patterns in FILE, one a line
    #[arg(long, value_name = "FILE")]
    exclude_file: Vec<PathBuf>,
    /// Leave out what a directory holds, if it holds a file of that name
    #[arg(long, value_name = "NAME")]
    exclude_if_present: Vec<String>,
    /// Leave out what a directory holds, if a CACHEDIR.TAG marks it as a cache
    #[arg(long)]
    exclude_caches: bool,
    /// Leave out files larger than this
    #[arg(long, value_name = "SIZE", value_parser = values::size)]
    exclude_larger_than: Option<u64>,
    /// Stay on the source's file system
    #[arg(short = 'x', long)]
    one_file_system: bool,
}

/// How it is done.
#[derive(Args)]
#[command(next_help_heading = "How it is done")]
struct HowArgs {
    /// Read every file, though size, times and inode number say that it is unchanged or was moved
    #[arg(long)]
    always_read: bool,
    /// Take a file for unchanged though its ctime is another (restored or copied trees, some network file systems)
    #[arg(long)]
    ignore_ctime: bool,
    /// Take a file for unchanged though its inode number is another (some network and FUSE file systems)
    #[arg(long)]
    ignore_inode: bool,
    /// Record the source though it is empty and was not at the last sync
    #[arg(long)]
    allow_empty: bool,
    /// off, fast, default, max, or a zstd level from 1 to 22
    #[arg(long, value_name = "LEVEL", default_value = "default", value_parser = values::compression)]
    compression: Compression,
    /// How often what is done so far is made restorable
    #[arg(long, value_name = "TIME", default_value = "5m", value_parser = values::duration)]
    checkpoint_interval: Duration,
}

/// Runs it.
///
/// # Errors
/// [`Failure`].
pub async fn run(context: &Context, args: &SyncArgs) -> Result<Exit, Failure> {
    let (address, sources) = args.what(context)?;
    // Before anything is made or asked for: the most likely slip of all.
    sources.iter().try_for_each(|source| check_source(args, source))?;
    let locks = sources.iter().filter(|_| args.one_at_a_time);
    let lock = |source: &PathBuf| one_at_a_time::take(&context.environment, source, &address);
    let _locks = locks.map(lock).collect::<Result<Vec<_>, _>>()?;
    let if_missing = match args {
        SyncArgs { dry_run: true, .. } => IfMissing::Fail,
        SyncArgs { init: true, .. } => IfMissing::Create,
        _ => IfMissing::Ask,
    };
    let begun = args.begun(context, &sources, &address)?;
    let opened = open::open_listing(context, &address, if_missing, true).await?;
    let mut exit = Exit::Done;
    let begun = begun.into_iter().map(Some).chain(std::iter::repeat_with(|| None));
    for (source, begun) in sources.iter().zip(begun) {
        exit = exit.max(sync_one(context, args, &opened, source, &address, begun).await?);
    }
    opened.close().await;
    Ok(exit)
}

async fn sync_one(
    context: &Context,
    args: &SyncArgs,
    opened: &Opened,
    source: &Path,
    address: &Address,
    begun: Option<Walking>,
) -> Result<Exit, Failure> {
    let (shown, repository) = (printable(&source.to_string_lossy()), address.to_string());
    context.view.tell(&Told::Syncs { source: &shown, repository: &repository });
    let options = args.options_for(context, source, address)?;
    let walking = begun.map_or_else(|| Walking::begin(source, &options), Ok)?;
    let report = {
        let progress = Progress::start(&context.view, Work::Sync);
        sync::sync_walking(Arc::clone(&opened.repository), walking, options, progress.observer()).await?
    };
    if let Some(receipt) = report.receipt {
        pin::note(context, address, receipt)?;
    }
    context.view.summary(&summary(&report, args.dry_run));
    context.view.document(Document::Report(Report::sync(&report, args.dry_run)));
    Ok(if report.problem_count > 0 { Exit::Problems } else { Exit::Done })
}

fn check_source(args: &SyncArgs, source: &Path) -> Result<(), Failure> {
    std::fs::metadata(source).map_err(|error| {
        Failure::failed(format!("cannot read the source {}: {error}", printable(&source.to_string_lossy())))
            .hint("the order is: nfz sync SOURCE ADDRESS")
    })?;
    leave_out::check_patterns(source, args.filter.exclude.iter().chain(&args.filter.iexclude))
}

impl SyncArgs {
    /// Where to, and what: what the configuration says where only a name is given.
    fn what(&self, context: &Context) -> Result<(Address, Vec<PathBuf>), Failure> {
        let given = context.given();
        let (source, address) = match (&self.source, &self.address) {
            (Some(word), None) if given.option.is_none() && given.is_name(word.as_os_str())? => {
                (None, Some(word.into()))
            }
            (source, address) => (source.as_ref(), address.clone()),
        };
        if let Some(source) = source {
            positional::local("SOURCE", source.as_os_str())?;
            return Ok((given.address(address.as_deref())?, vec![source.clone()]));
        }
        let address = given.address(address.as_deref())?;
        let sources = context.names.settings(&address).map(|named| named.source.clone()).unwrap_or_default();
        if sources.is_empty() {
            return Err(Failure::usage("cannot tell what to save: no SOURCE is given, and none is configured")
                .hint("the order is: nfz sync SOURCE ADDRESS"));
        }
        Ok((address, sources))
    }

    /// The walk of the first source, which need not wait until the repository is open. One in a directory may be made only now, and
    /// is not to be walked.
    fn begun(&self, context: &Context, sources: &[PathBuf], address: &Address) -> Result<Option<Walking>, Failure> {
        match (address, sources.first()) {
            (Address::Sftp(_), Some(source)) => {
                Ok(Some(Walking::begin(source, &self.options_for(context, source, address)?)?))
            }
            _ => Ok(None),
        }
    }

    fn options_for(&self, context: &Context, source: &Path, address: &Address) -> Result<SyncOptions, Failure> {
        let mut options = self.options(context);
        if let Some(named) = context.names.settings(address) {
            options.filter = named.filtered(options.filter);
        }
        options.filter.exclude.extend(leave_out::own_repository(source, address)?);
        Ok(options)
    }

    fn options(&self, context: &Context) -> SyncOptions {
        SyncOptions {
            filter: self.filter.options(),
            host: self.host.clone().unwrap_or_else(|| context.environment.host.clone()),
            user: context.environment.user.clone(),
            label: self.label.clone(),
            always_read: self.how.always_read,
            ignore_ctime: self.how.ignore_ctime,
            ignore_inode: self.how.ignore_inode,
            compression: self.how.compression,
            checkpoint_interval: self.how.checkpoint_interval,
            dry_run: self.dry_run,
            // Only where someone looks at it is an estimate worth a walk.
            estimate: context.view.bar || context.view.json,
            allow_empty: self.how.allow_empty,
        }
    }
}

impl FilterArgs {
    fn options(&self) -> FilterOptions {
        FilterOptions {
            exclude: self.exclude.clone(),
            iexclude: self.iexclude.clone(),
            exclude_files: self.exclude_file.clone(),
            exclude_if_present: self.exclude_if_present.iter().map(Into::into).collect(),
            exclude_caches: self.exclude_caches,
            exclude_larger_than: self.exclude_larger_than,
            one_file_system: self.one_file_system,
        }
    }
}

/// What a person is told at the end.
pub(super) fn summary(report: &SyncReport, dry_run: bool) -> Vec<String> {
    let made = match &report.snapshot {
        Some(id) => format!("Snapshot {} (generation {})", &id.to_string()[..8], report.generation),
        None if dry_run => "Nothing was stored: this was a dry run".to_owned(),
        None => "Nothing changed: no new snapshot".to_owned(),
    };
    let tree = [
        counted(report.files, "file", "files"),
        counted(report.directories, "directory", "directories"),
        counted(report.others, "other", "others"),
    ];
    let SyncReport { new, changed, moved, deleted, unchanged, .. } = report;
    let entries =
        [(new, "new"), (changed, "changed"), (moved, "moved"), (deleted, "deleted"), (unchanged, "unchanged")];
    let entries = entries.map(|(count, what)| counted(*count, what, what));
    let objects = counted(report.sent_objects, "object", "objects");
    let mut lines = vec![
        format!("{made}: {}, {}", tree.join(", "), Bytes(report.bytes)),
        format!("  entries  {}", entries.join(", ")),
        format!("  content  {} read, {} of it new", Bytes(report.bytes_read), Bytes(report.new_plain)),
        format!("  sent     {} in {objects}, in {}", Bytes(report.sent_bytes), Span(report.duration)),
    ];
    lines.extend(report.receipt.map(|receipt| format!("  receipt  {receipt}")));
    lines.extend(super::problems_line(report.problem_count));
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::id::{ObjectId, SnapshotId};

    #[test]
    fn the_summary_is_a_few_lines() {
        let report = SyncReport {
            snapshot: Some(SnapshotId::new(ObjectId([0x1a; 32]))),
            generation: 12,
            new: 3,
            changed: 1,
            unchanged: 1234,
            files: 1200,
            directories: 38,
            bytes: 3 << 30,
            bytes_read: 5 << 20,
            new_plain: 1 << 20,
            sent_objects: 1,
            sent_bytes: 700 << 10,
            problem_count: 2,
            duration: Duration::from_millis(2345),
            ..SyncReport::default()
        };
        assert_eq!(
            summary(&report, false),
            [
                "Snapshot 1a1a1a1a (generation 12): 1,200 files, 38 directories, 0 others, 3.0 GiB",
                "  entries  3 new, 1 changed, 0 moved, 0 deleted, 1,234 unchanged",
                "  content  5.0 MiB read, 1.0 MiB of it new",
                "  sent     700 KiB in 1 object, in 2.3 s",
                "2 problems: see above",
            ]
        );
    }
}
