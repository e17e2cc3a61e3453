//! `nfz forget`: which snapshots stay.

use super::{
    address::Address,
    exit::Exit,
    failure::Failure,
    figures::Work,
    json::{Document, Report},
    json_snapshots::ForgetDocument,
    open::{self, Context, IfMissing},
    progress::Progress,
    prune,
    text::{counted, local_time, table},
    values,
};
use crate::{
    engine::{
        forget::{self, ForgetOptions, ForgetReport, Verdict, What},
        retention::Policy,
    },
    format::{manifest::Time, path::Escaped},
};
use clap::Args;
use jiff::tz::TimeZone;
use std::{ffi::OsString, sync::Arc, time::Duration};

const EXAMPLES: &str = "\
EXAMPLES:
  nfz forget user@host:backup --keep-daily 7 --keep-weekly 5 --keep-monthly 12
  nfz forget user@host:backup --keep-within 2w --keep-label release -n
  nfz forget user@host:backup --keep-last 3 --host laptop --prune
  nfz forget user@host:backup 1a2b3c4d          only this one
";

/// Remove snapshots: all that no --keep rule keeps, or those whose ids are given
///
/// A table says what stays and why. Each host and source is judged by itself, and its last snapshot never goes without
/// --allow-empty. The space comes back with nfz prune; until then, and for a day at least, nfz undo-forget brings snapshots back.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct ForgetArgs {
    /// The repository (left out where --repository or NFZ_REPOSITORY gives it), then the first digits of ids to remove
    #[arg(value_name = "ADDRESS [ID]")]
    address_and_ids: Vec<OsString>,
    #[command(flatten)]
    keep: KeepArgs,
    /// Only snapshots of this host
    #[arg(long, value_name = "HOST")]
    host: Option<String>,
    /// Only snapshots of this source, as nfz snapshots shows it
    #[arg(long, value_name = "SOURCE")]
    source: Option<String>,
    /// Only snapshots with this label
    #[arg(long, value_name = "LABEL")]
    label: Option<String>,
    /// Remove a source's last snapshot too
    #[arg(long)]
    allow_empty: bool,
    /// Say what would go; remove nothing
    #[arg(short = 'n', long)]
    dry_run: bool,
    /// Prune afterwards
    #[arg(long)]
    prune: bool,
    #[command(flatten)]
    how: prune::HowArgs,
}

/// What stays. Days, weeks and months are those of this machine's time zone.
#[derive(Args)]
#[command(next_help_heading = "What stays; a snapshot goes if no rule keeps it")]
struct KeepArgs {
    /// The newest N
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    keep_last: u32,
    /// The newest of each hour, for N hours that have one
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    keep_hourly: u32,
    /// The newest of each day, for N days
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    keep_daily: u32,
    /// The newest of each week, for N weeks
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    keep_weekly: u32,
    /// The newest of each month, for N months
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    keep_monthly: u32,
    /// The newest of each year, for N years
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    keep_yearly: u32,
    /// All no older than this, counted from the newest of the same source: 24h, 7d, 2w, 3m (31 days each), 1y (366 days)
    #[arg(long, value_name = "DURATION", value_parser = values::period)]
    keep_within: Option<Duration>,
    /// All with this label
    #[arg(long, value_name = "LABEL")]
    keep_label: Vec<String>,
}

/// Runs it.
///
/// # Errors
/// [`Failure`].
pub async fn run(context: &Context, args: &ForgetArgs) -> Result<Exit, Failure> {
    let (address, ids) = address_and_ids(context, &args.address_and_ids)?;
    let named = context.names.settings(&address).and_then(|named| named.policy());
    let options = args.options(ids, named.unwrap_or_default())?;
    if args.prune {
        args.how.check()?;
    }
    let opened = open::open(context, &address, IfMissing::Fail).await?;
    let report = {
        let progress = Progress::start(&context.view, Work::Verify);
        forget::forget(Arc::clone(&opened.repository), options, progress.observer()).await?
    };
    report.verdicts.iter().for_each(|verdict| context.view.document(Document::Verdict(verdict.into())));
    context.view.summary(&summary(&report, args.dry_run, &TimeZone::system()));
    context.view.document(Document::Report(Report::Forget(ForgetDocument::new(&report, args.dry_run))));
    let mut exit = if report.problem_count > 0 { Exit::Problems } else { Exit::Done };
    if args.prune {
        let pruned = prune::run_opened(context, &opened, &args.how, args.dry_run).await?;
        exit = if pruned == Exit::Done { exit } else { pruned };
    }
    opened.close().await;
    Ok(exit)
}

/// The repository's address, unless it is given otherwise, and the ids after it.
///
/// # Errors
/// [`Failure`].
pub fn address_and_ids(context: &Context, words: &[OsString]) -> Result<(Address, Vec<String>), Failure> {
    let given = context.given();
    let is_id = |word: &OsString| {
        word.to_str().is_some_and(|word| word.len() <= 64 && word.chars().all(|c| matches!(c, '0'..='9' | 'a'..='f')))
    };
    let is_given = given.option.is_some() || given.variable.is_some();
    let (address, ids) = match words.split_first() {
        Some((first, ids)) if !(is_given && is_id(first)) => (Some(first.as_os_str()), ids),
        _ => (None, words),
    };
    let wrong = |word: &OsString| {
        Failure::usage(format!("\"{}\" is no snapshot's id", word.to_string_lossy()))
            .hint("ids are hexadecimal digits; nfz snapshots shows them")
    };
    if let Some(word) = ids.iter().find(|word| !is_id(word)) {
        return Err(wrong(word));
    }
    let ids = ids.iter().map(|id| id.to_string_lossy().into_owned()).collect();
    Ok((given.address(address)?, ids))
}

impl ForgetArgs {
    /// Rules that are `configured` count where neither rules nor ids are given.
    fn options(&self, ids: Vec<String>, configured: Policy) -> Result<ForgetOptions, Failure> {
        let given = self.keep.policy();
        let policy = if given.is_empty() && ids.is_empty() { configured } else { given };
        let what = match (policy.is_empty(), ids.is_empty()) {
            (true, false) => What::Ids(ids),
            (false, true) => What::Policy(policy),
            (true, true) => {
                return Err(Failure::usage("cannot tell what is to stay: neither a --keep rule nor an id is given")
                    .hint("say for example --keep-daily 7 --keep-weekly 5, and try it with -n first"));
            }
            (false, false) => return Err(Failure::usage("cannot go by --keep rules and by ids at once")),
        };
        Ok(ForgetOptions {
            what,
            host: self.host.clone(),
            source: self.source.clone(),
            label: self.label.clone(),
            allow_empty: self.allow_empty,
            dry_run: self.dry_run,
            zone: TimeZone::system(),
        })
    }
}

impl KeepArgs {
    fn policy(&self) -> Policy {
        Policy {
            last: self.keep_last,
            hourly: self.keep_hourly,
            daily: self.keep_daily,
            weekly: self.keep_weekly,
            monthly: self.keep_monthly,
            yearly: self.keep_yearly,
            within: self.keep_within,
            labels: self.keep_label.iter().map(|label| label.as_bytes().to_vec()).collect(),
        }
    }
}

fn summary(report: &ForgetReport, dry_run: bool, zone: &TimeZone) -> Vec<String> {
    let heading = ["", "ID", "TIME", "HOST", "SOURCE", "WHY"].map(str::to_owned).to_vec();
    let rows: Vec<_> = std::iter::once(heading).chain(report.verdicts.iter().map(|one| row(one, zone))).collect();
    let mut lines = if report.verdicts.is_empty() { Vec::new() } else { table(&rows, &[]) };
    if report.verdicts.iter().any(|verdict| verdict.by_server) {
        lines.push("(*) The client's time differs from the server's by more than an hour: the server's counts.".into());
    }
    let stay = counted(report.verdicts.len() as u64 - report.removed, "stays", "stay");
    let gone = counted(report.removed, "snapshot", "snapshots");
    lines.push(match dry_run {
        true => format!("{gone} would be removed, {stay}: this was a dry run"),
        false if report.removed == 0 => format!("Nothing to remove: {stay}"),
        false => format!("Removed {gone}, {stay}. nfz undo-forget brings back; nfz prune frees the space"),
    });
    lines.extend(super::problems_line(report.problem_count));
    lines
}

fn row(verdict: &Verdict, zone: &TimeZone) -> Vec<String> {
    let root = verdict.info.as_ref().map(|info| &info.root);
    let text = |bytes: Option<&Vec<u8>>| bytes.map(|bytes| Escaped(bytes).to_string()).unwrap_or_default();
    let mark = if verdict.by_server { " (*)" } else { "" };
    vec![
        if verdict.stays { "stays" } else { "goes" }.to_owned(),
        verdict.id.to_string().chars().take(8).collect(),
        local_time(Time { seconds: verdict.time, nanoseconds: 0 }, zone) + mark,
        text(root.map(|root| &root.host)),
        text(root.map(|root| &root.source)),
        verdict.why.join(", "),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::snapshots::tests::info;

    #[test]
    fn the_table_says_what_stays_and_why_and_whose_clock_counted() {
        let info = info(true, b"");
        let verdict = |stays, by_server, why| {
            let (id, time) = (info.id, info.root.time.seconds);
            Verdict { id, info: Some(info.clone()), time, by_server, stays, why }
        };
        let verdicts = vec![verdict(false, true, vec![]), verdict(true, false, vec!["last", "daily"])];
        let report = ForgetReport { verdicts, removed: 1, ..ForgetReport::default() };
        let lines = summary(&report, true, &TimeZone::UTC);
        assert!(lines[1].starts_with("goes   abababab  2026-11-22 19:00:18 (*)  laptop  "), "{lines:?}");
        assert!(lines[2].starts_with("stays  abababab") && lines[2].ends_with("last, daily"), "{lines:?}");
        assert!(lines[3].contains("the server's counts"));
        assert_eq!(lines[4], "1 snapshot would be removed, 1 stays: this was a dry run");
    }
}
