//! `nfz schedule`: what makes a machine run nfz by itself: systemd units, a cron line, a launchd property list.
//!
//! [`units`] writes them; it is pure.

mod units;

use super::{
    args::Cli,
    exit::Exit,
    failure::{Failure, printable},
    open::Context,
    timetable,
};
use clap::{Args, Parser};
use std::{
    env,
    ffi::{OsStr, OsString},
    fs,
    path::{Path, PathBuf},
};
use units::{Job, Kind};

const EXAMPLES: &str = "\
EXAMPLES:
  nfz schedule -- sync ~/Documents user@host:backup --password-file ~/.pw
  nfz schedule --every daily --out ~/.config/systemd/user -- sync home -q
  nfz schedule --cron --every 02:30 -- sync home --one-at-a-time -q
  nfz schedule --launchd --name backup -- sync home -q
";

/// Print what makes this machine run nfz by itself
///
/// A systemd service and timer, a line for crontab -e, or a launchd property list, for the command after --. It is run in the
/// directory where this is called. Nothing is installed, unless --out says where.
#[derive(Args)]
#[command(after_help = EXAMPLES, override_usage = "nfz schedule [OPTIONS] -- VERB ...")]
pub struct ScheduleArgs {
    /// The command to run, without its "nfz"
    #[arg(value_name = "VERB", last = true, required = true)]
    words: Vec<OsString>,
    /// A systemd service and timer, for the user's own systemd (the default)
    #[arg(long)]
    systemd: bool,
    /// A line for crontab
    #[arg(long, conflicts_with = "systemd")]
    cron: bool,
    /// A property list for launchd
    #[arg(long, conflicts_with_all = ["systemd", "cron"])]
    launchd: bool,
    /// When: hourly, daily, weekly, monthly; every 15m or 2h (a part of an hour, of a day); or daily at 02:30
    #[arg(long, value_name = "WHEN", default_value = "hourly", value_parser = every)]
    every: Every,
    /// What it is called: nfz-NAME.timer
    #[arg(long, value_name = "NAME", default_value = "backup", value_parser = name)]
    name: String,
    /// Write files into this directory, in place of printing them
    #[arg(long, value_name = "DIR", conflicts_with = "cron")]
    out: Option<PathBuf>,
}

/// How often.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Every {
    /// So many minutes, a part of an hour.
    Minutes(u16),
    /// So many hours, a part of a day.
    Hours(u16),
    /// Each day, at this minute.
    DailyAt(u16),
    Weekly,
    Monthly,
}

fn every(text: &str) -> Result<Every, String> {
    let part = |unit: char, whole: u16| {
        let number = text.strip_suffix(unit)?.parse::<u16>().ok()?;
        (number > 0 && number < whole && whole.is_multiple_of(number)).then_some(number)
    };
    let known = match text {
        "hourly" => Some(Every::Hours(1)),
        "daily" => Some(Every::DailyAt(0)),
        "weekly" => Some(Every::Weekly),
        "monthly" => Some(Every::Monthly),
        _ => timetable::minute(text).filter(|&minute| minute < 24 * 60).map(Every::DailyAt),
    };
    let known = known.or_else(|| part('m', 60).map(Every::Minutes)).or_else(|| part('h', 24).map(Every::Hours));
    known.ok_or_else(|| {
        format!("\"{text}\" is none of: hourly, daily, weekly, monthly, 15m (a part of an hour), 2h (a part of a day), 02:30")
    })
}

fn name(text: &str) -> Result<String, String> {
    match super::config::is_name(text) {
        true => Ok(text.to_owned()),
        false => Err(format!("\"{text}\" can be no name: it needs letters, digits, _, - and . only")),
    }
}

/// Variables that are set here, and will not be there.
const VARIABLES: [&str; 6] =
    ["NFZ_REPOSITORY", "NFZ_PASSWORD", "NFZ_PASSWORD_FILE", "NFZ_PASSWORD_COMMAND", "NFZ_KEY_FILE", "NFZ_SSH_COMMAND"];

/// Runs it.
///
/// # Errors
/// [`Failure`].
pub fn run(context: &Context, args: &ScheduleArgs) -> Result<Exit, Failure> {
    check(&args.words)?;
    let job = job(args)?;
    let kind = match (args.cron, args.launchd) {
        (true, _) => Kind::Cron,
        (_, true) => Kind::Launchd,
        _ => Kind::Systemd,
    };
    let files = units::files(kind, &job);
    for variable in VARIABLES.iter().filter(|name| env::var_os(name).is_some()) {
        context.view.note(&format!("Mind: {variable} is set here, and will not be there; say it by an option."));
    }
    match &args.out {
        None => files.iter().for_each(|file| context.view.line(file.text.trim_end())),
        Some(directory) => write(context, directory, &files)?,
    }
    context.view.note(&units::advice(kind, &job));
    Ok(Exit::Done)
}

/// The command must be one, now, and not only when nobody looks.
fn check(words: &[OsString]) -> Result<(), Failure> {
    let line = [OsString::from("nfz")].into_iter().chain(words.iter().cloned());
    let parsed = Cli::try_parse_from(line).map_err(|error| {
        let first = error.to_string().lines().next().unwrap_or_default().trim_start_matches("error: ").to_owned();
        Failure::usage(format!("cannot schedule this command: {first}"))
            .hint("nfz schedule [OPTIONS] -- sync SOURCE ADDRESS …")
    })?;
    match parsed.verb {
        super::args::Verb::Schedule(_) => Err(Failure::usage("cannot schedule a schedule")),
        _ => Ok(()),
    }
}

fn job(args: &ScheduleArgs) -> Result<Job, Failure> {
    let lost = |what: &str, error: std::io::Error| Failure::failed(format!("cannot tell {what}: {error}"));
    let program = env::current_exe().map_err(|error| lost("where nfz lies", error))?;
    let directory = env::current_dir().map_err(|error| lost("the working directory", error))?;
    let words = [program.as_os_str()].into_iter().chain(args.words.iter().map(OsString::as_os_str));
    Ok(Job {
        name: args.name.clone(),
        every: args.every,
        directory: plain(directory.as_os_str())?,
        words: words.map(plain).collect::<Result<_, _>>()?,
    })
}

/// Text without control characters: neither crontab nor a property list can hold any.
fn plain(word: &OsStr) -> Result<String, Failure> {
    let text = word.to_str().filter(|text| !text.chars().any(char::is_control));
    text.map(str::to_owned).ok_or_else(|| {
        let shown = printable(&word.to_string_lossy());
        Failure::usage(format!("cannot schedule \"{shown}\": it is not UTF-8, or holds a control character"))
            .hint("reach it by another path, such as a symbolic link")
    })
}

fn write(context: &Context, directory: &Path, files: &[units::Unit]) -> Result<(), Failure> {
    let failed = |path: &Path, error: std::io::Error| {
        Failure::failed(format!("cannot write {}: {error}", printable(&path.to_string_lossy())))
    };
    fs::create_dir_all(directory).map_err(|error| failed(directory, error))?;
    for file in files {
        let path = directory.join(&file.name);
        fs::write(&path, &file.text).map_err(|error| failed(&path, error))?;
        context.view.summary(&[format!("Wrote {}", printable(&path.to_string_lossy()))]);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_often_is_a_word_a_part_of_an_hour_or_a_day_or_a_time() {
        let known = [
            ("hourly", Every::Hours(1)),
            ("daily", Every::DailyAt(0)),
            ("02:30", Every::DailyAt(150)),
            ("15m", Every::Minutes(15)),
            ("2h", Every::Hours(2)),
            ("weekly", Every::Weekly),
        ];
        for (text, expected) in known {
            assert_eq!(every(text), Ok(expected), "{text}");
        }
        for text in ["", "7m", "60m", "0m", "5h", "24h", "24:00", "25:00", "yearly", "m", "-1m"] {
            assert!(every(text).is_err(), "{text}");
        }
    }

    #[test]
    fn only_what_nfz_understands_is_scheduled() {
        let check = |words: &[&str]| check(&words.iter().map(OsString::from).collect::<Vec<_>>()).is_ok();
        assert!(check(&["sync", "/home", "h:d", "-q"]));
        assert!(!check(&["sink", "/home", "h:d"]) && !check(&["sync", "/", "h:d", "--no-such-option"]));
        assert!(!check(&["schedule", "--", "sync", "/", "h:d"]));
    }
}
