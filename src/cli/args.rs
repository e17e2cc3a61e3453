//! The command line: verbs and the options that all share. What each verb takes stands with the verb.

use super::{
    completions::CompletionsArgs,
    doctor::DoctorArgs,
    exit::Exit,
    forget::ForgetArgs,
    import_nfreezer::ImportNfreezerArgs,
    init::InitArgs,
    key::KeyArgs,
    ls::LsArgs,
    prune::PruneArgs,
    receipt::ReceiptArgs,
    restore::RestoreArgs,
    schedule::ScheduleArgs,
    snapshots::SnapshotsArgs,
    sync::SyncArgs,
    timetable::{self, Timetable},
    unattended::UnattendedArgs,
    undo_forget::UndoForgetArgs,
    verify::VerifyArgs,
};
use crate::engine::history::{At, Choice};
use clap::{Args, Parser, Subcommand};
use std::{ffi::OsString, path::PathBuf};

const AFTER: &str = "\
ADDRESS, where the repository lies:
  user@host:dir                relative to the login directory
  user@host:/dir               absolute
  sftp://user@host:2222/dir    absolute
  sftp://user@host/~/dir       relative to the login directory
  ./dir, /dir, dir             local: no colon before the first slash
  name, @name                  as ~/.config/nfz/config.toml says

  NFZ_REPOSITORY stands in for ADDRESS where none is given, and --repository
  takes the place of the argument. With NFZ_REPOSITORY set, ls and restore take
  their first argument for an ADDRESS only if a colon stands before its first
  slash.

PASSWORD, the first of these that is given:
  --password-command, --password-file, --ask-password,
  NFZ_PASSWORD_COMMAND, NFZ_PASSWORD_FILE, NFZ_PASSWORD;
  else it is asked for on the terminal, unless there is a key file (--key-file,
  NFZ_KEY_FILE), which then stands alone.

EXAMPLES:
  nfz sync ~/Documents user@host:backup         first run: offers to make it
  nfz snapshots user@host:backup                what is there
  nfz ls user@host:backup photos/2026           what a snapshot holds
  nfz restore user@host:backup ./out            all of the newest snapshot
  nfz restore user@host:backup ./out a.txt --at 2026-11-22
  nfz verify user@host:backup --read-data=10%   is it all there, and whole?
  nfz forget user@host:backup --keep-daily 7 --keep-monthly 12 --prune
  nfz key add user@host:backup                  another password
  nfz doctor user@host:backup                   what can the server do?
";

/// Encrypted, deduplicating backups for anyone who has nothing but an SFTP login.
#[derive(Parser)]
#[command(name = "nfz", version, after_help = format!("{AFTER}\nEXIT CODES:\n{}", Exit::table()), max_term_width = 110)]
#[command(disable_help_subcommand = true)]
pub struct Cli {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    pub verb: Verb,
}

/// What is to be done.
#[derive(Subcommand)]
pub enum Verb {
    Init(InitArgs),
    Sync(SyncArgs),
    Snapshots(SnapshotsArgs),
    Ls(LsArgs),
    Restore(RestoreArgs),
    Verify(VerifyArgs),
    Forget(ForgetArgs),
    Prune(PruneArgs),
    UndoForget(UndoForgetArgs),
    Key(KeyArgs),
    Receipt(ReceiptArgs),
    Doctor(DoctorArgs),
    #[command(name = "import-nfreezer")]
    ImportNfreezer(ImportNfreezerArgs),
    Schedule(ScheduleArgs),
    Completions(CompletionsArgs),
}

/// Options that every verb takes.
#[derive(Args, Default)]
#[command(next_help_heading = "Options of every command")]
pub struct Global {
    /// The repository, in place of the ADDRESS argument
    #[arg(short, long, value_name = "ADDRESS", global = true)]
    pub repository: Option<OsString>,
    #[command(flatten)]
    pub secret: SecretArgs,
    /// What to run in place of `ssh`, split as a shell would; called as CMD [-p PORT] [user@]host -s sftp [env: NFZ_SSH_COMMAND]
    #[arg(long, value_name = "CMD", global = true)]
    pub ssh_command: Option<OsString>,
    /// The most SFTP connections at once
    #[arg(long, value_name = "N", global = true, default_value_t = 4, value_parser = clap::value_parser!(u8).range(1..=16))]
    pub connections: u8,
    /// Send at most so much a second, such as 2M; or by the time of day: 08:00-18:00=2M,else=off
    #[arg(long, value_name = "RATE", global = true, value_parser = timetable::parse)]
    pub limit_up: Option<Timetable>,
    /// Fetch at most so much a second
    #[arg(long, value_name = "RATE", global = true, value_parser = timetable::parse)]
    pub limit_down: Option<Timetable>,
    /// Take names of repositories from FILE [default: ~/.config/nfz/config.toml]
    #[arg(long, value_name = "FILE", global = true)]
    pub config: Option<PathBuf>,
    /// Remember in FILE what was seen of each repository, and refuse one that shows less, or is another one [env: NFZ_PIN]
    #[arg(long, value_name = "FILE", global = true)]
    pub pin: Option<PathBuf>,
    #[command(flatten)]
    pub unattended: UnattendedArgs,
    /// Print problems and failures only
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub quiet: bool,
    /// List entries: + new or restored, M changed, > moved, - deleted, ! skipped; twice: = unchanged ones too
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,
    /// Print JSON lines on standard output (docs/json.md)
    #[arg(long, global = true)]
    pub json: bool,
}

/// Where password and key come from.
#[derive(Args, Clone, Default)]
pub struct SecretArgs {
    /// Take the password from the first line of FILE [env: NFZ_PASSWORD_FILE]
    #[arg(long, value_name = "FILE", global = true, conflicts_with_all = ["password_command", "ask_password"])]
    pub password_file: Option<PathBuf>,
    /// Take the password from the first line that COMMAND prints; split as a shell would [env: NFZ_PASSWORD_COMMAND]
    #[arg(long, value_name = "COMMAND", global = true, conflicts_with = "ask_password")]
    pub password_command: Option<OsString>,
    /// Ask for the password, though there is a key file or a variable
    #[arg(long, global = true)]
    pub ask_password: bool,
    /// A file, of any contents up to 1 MiB, that is needed to open the repository: in place of a password, or beside one [env: NFZ_KEY_FILE]
    #[arg(long, value_name = "FILE", global = true)]
    pub key_file: Option<PathBuf>,
}

/// Which snapshot.
#[derive(Args, Default)]
pub struct ChoiceArgs {
    /// Which snapshot: latest, latest~2, an id's first digits, or a date or time ("as of": the newest not later;
    /// what it leaves out is taken to its end, so 2026-11-22 is the end of that day)
    #[arg(long, value_name = "SNAPSHOT", value_parser = super::at::parse_local)]
    pub at: Option<At>,
    /// Only snapshots of this host
    #[arg(long, value_name = "HOST")]
    pub host: Option<String>,
    /// Only snapshots of this source, as nfz snapshots shows it
    #[arg(long, value_name = "SOURCE")]
    pub source: Option<String>,
}

impl ChoiceArgs {
    /// What the engine chooses by.
    #[must_use]
    pub fn choice(&self) -> Choice {
        let at = self.at.clone().unwrap_or(At::Latest(0));
        Choice { at, host: self.host.clone(), source: self.source.clone() }
    }

    /// Whether any of it was given.
    #[must_use]
    pub fn is_given(&self) -> bool {
        self.at.is_some() || self.host.is_some() || self.source.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn the_help_of_every_verb_teaches_with_examples() {
        let mut command = Cli::command();
        command.build();
        let help = command.render_long_help().to_string();
        assert!(help.contains("EXAMPLES:") && help.contains("EXIT CODES:") && help.contains("NFZ_REPOSITORY"));
        let (mut verbs, mut teaching) = (vec![command], Vec::new());
        while let Some(verb) = verbs.pop() {
            verbs.extend(verb.get_subcommands().cloned());
            teaching.push(verb);
        }
        for verb in teaching.iter_mut().skip(1) {
            let name = verb.get_bin_name().unwrap_or_default().trim_start_matches("nfz ").to_owned();
            for help in [verb.render_help().to_string(), verb.render_long_help().to_string()] {
                let (_, examples) = help.split_once("EXAMPLES:\n").unwrap_or_else(|| panic!("nfz {name} --help"));
                assert!(examples.trim_start().starts_with(&format!("nfz {name} ")), "{examples}");
            }
        }
    }

    /// The command lines under EXAMPLES, without what is explained beside them.
    fn examples(help: &str) -> Vec<String> {
        let after = help.split_once("EXAMPLES:\n").map(|(_, after)| after).unwrap_or_default();
        let lines = after.lines().take_while(|line| !line.is_empty());
        lines.map(|line| line.trim().split("   ").next().unwrap_or_default().to_owned()).collect()
    }

    #[test]
    fn what_is_written_under_the_options_fits_a_terminal() {
        let mut command = Cli::command().term_width(0);
        command.build();
        let verbs = command.get_subcommands_mut().map(|verb| verb.render_help().to_string());
        let notes = verbs.filter_map(|help| help.split_once("EXAMPLES:\n").map(|(_, notes)| notes.to_owned()));
        for line in notes.collect::<Vec<_>>().iter().flat_map(|notes| notes.lines()).chain(AFTER.lines()) {
            assert!(line.chars().count() <= 80, "{line}");
        }
    }

    #[test]
    fn every_example_is_understood() {
        // Without a width, so that no line is broken.
        let mut command = Cli::command().term_width(0);
        command.build();
        let mut all = examples(AFTER);
        all.extend(command.get_subcommands_mut().flat_map(|verb| examples(&verb.render_help().to_string())));
        assert!(all.len() > 15, "{all:?}");
        for example in all {
            // Examples show what a shell does with their output too.
            let line = example.split(" > ").next().and_then(|line| line.split(" | ").next()).unwrap_or_default();
            let words = shell_words::split(line).unwrap();
            let words = words.iter().skip_while(|word| word.contains('=') && !word.starts_with('-'));
            assert!(Cli::try_parse_from(words).is_ok(), "{line}");
        }
    }
}
