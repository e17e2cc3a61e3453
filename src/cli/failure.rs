//! Failures: the only place where an error of the layers below becomes a message, a hint and an exit code.
//!
//! A failure is shown as one line, `nfz: cannot …: …`, and a hint on the next. Whatever text it quotes, no terminal obeys it.

use super::{address::AddressError, exit::Exit, password::PasswordError};
use crate::{
    engine::error::EngineError,
    format::path::Escaped,
    repository::RepositoryError,
    store::{ErrorKind, StoreError},
};
use std::fmt;

/// Why the program ends without having done what it was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The exit code.
    pub exit: Exit,
    /// What could not be done, and why: one line.
    pub message: String,
    /// What to do about it: a few lines, or none.
    pub hints: Vec<String>,
}

impl Failure {
    /// A failure with `message`.
    pub fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, message: message.into(), hints: Vec::new() }
    }

    /// A failure without an exit code of its own.
    pub fn failed(message: impl Into<String>) -> Self {
        Self::new(Exit::Failed, message)
    }

    /// A command line that makes no sense.
    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(Exit::Usage, message)
    }

    /// The end after a signal.
    #[must_use]
    pub fn interrupted(exit: Exit) -> Self {
        let message = match exit {
            Exit::HungUp => "the terminal hung up",
            Exit::Terminated => "asked to end",
            _ => "interrupted",
        };
        Self::new(exit, message).hint("what was sent stays; run the same command again to go on")
    }

    /// The same with another line of advice.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }

    /// An address that is none; `origin` is what gave it.
    #[must_use]
    pub fn address(origin: &str, text: &[u8], error: &AddressError) -> Self {
        Self::usage(format!("cannot take {origin} \"{}\" for an address: {error}", Escaped(text)))
            .hint("an address is user@host:dir, sftp://user@host:port/dir or a local directory such as ./dir")
    }

    /// There is no repository where one was looked for.
    #[must_use]
    pub fn no_repository(address: &str) -> Self {
        Self::new(Exit::NoRepository, format!("cannot open {address}: there is no repository"))
            .hint("check the address, or make one: nfz init ADDRESS (or nfz sync --init …)")
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "nfz: {}", printable(&self.message))?;
        for (at, hint) in self.hints.iter().enumerate() {
            let lead = if at == 0 { "hint:" } else { "     " };
            write!(f, "\n  {lead} {}", printable(hint))?;
        }
        Ok(())
    }
}

/// `text` on one line and without anything that a terminal obeys. What is escaped already stays as it is.
#[must_use]
pub fn printable(text: &str) -> String {
    text.split('\\').map(|part| Escaped(part.as_bytes()).to_string()).collect::<Vec<_>>().join("\\")
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        let failure = Self::new(store_exit(error.kind), error.to_string());
        match store_hint(error.kind) {
            Some(hint) => failure.hint(hint),
            None => failure,
        }
    }
}

fn store_exit(kind: ErrorKind) -> Exit {
    match kind {
        ErrorKind::Disconnected | ErrorKind::Unreachable => Exit::Link,
        ErrorKind::Full => Exit::Full,
        _ => Exit::Failed,
    }
}

fn store_hint(kind: ErrorKind) -> Option<&'static str> {
    match kind {
        ErrorKind::NotFound => Some("if it should be there, run nfz verify to see what is missing"),
        ErrorKind::NotADirectory => Some("a file stands where a directory should be; check the address"),
        ErrorKind::PermissionDenied => Some("check the address, and that this user may read and write there"),
        ErrorKind::ReadOnly => Some("the file system is mounted read-only; mount it writable"),
        ErrorKind::Full => Some("make room there, then run the same command again: what was sent stays"),
        ErrorKind::WrongLength => Some(
            "an object is damaged; nfz verify tells what it touches, and a sync stores anew what is missing or cut short",
        ),
        ErrorKind::Disconnected => Some("run the same command again: it goes on where it stopped"),
        ErrorKind::Unreachable => Some("check the host's name, the port and the network; try: sftp HOST"),
        ErrorKind::AuthenticationFailed => Some("check the user's name and key; try: sftp USER@HOST"),
        ErrorKind::HostKeyRefused => {
            Some("if the server is new or was really set up anew, accept its key with: ssh HOST; else beware")
        }
        ErrorKind::NoSftp => {
            Some("the login works, but no SFTP answers; a login script must print nothing; try: sftp HOST")
        }
        ErrorKind::LimitExceeded => Some("the server sent what no sane server sends; check the address"),
        ErrorKind::Other => None,
    }
}

impl From<RepositoryError> for Failure {
    fn from(error: RepositoryError) -> Self {
        match error {
            RepositoryError::Store(error) => error.into(),
            RepositoryError::NoRepository { address } => Self::no_repository(&address),
            RepositoryError::AlreadyExists { address } => {
                Self::failed(format!("cannot make a repository at {address}: there is one already"))
                    .hint("use it as it is, or choose another directory")
            }
            RepositoryError::NotEmpty { address } => Self::failed(format!(
                "cannot make a repository at {address}: it holds snapshots, though its file nfz-repository is missing"
            ))
            .hint("bring nfz-repository back from a copy, or choose another directory"),
            RepositoryError::WrongPassword => {
                Self::new(Exit::WrongPassword, "cannot open the repository: the password or key file is wrong")
                    .hint("if it has both a password and a key file, give both")
            }
            error @ RepositoryError::Outdated { .. } => {
                Self::new(Exit::WrongPassword, format!("cannot write to the repository: {error}"))
                    .hint("use a password or key file of the newest epoch; nfz key list shows which slots are")
            }
            error @ (RepositoryError::Config { .. }
            | RepositoryError::RepositoryFile(
                crate::format::repository_file::RepositoryFileError::UnknownFormat(_),
            )) => Self::failed(format!("cannot open the repository: {error}")).hint("a newer nfz made it; update nfz"),
            error @ RepositoryError::MissingCredential(_) => {
                Self::new(Exit::WrongPassword, format!("cannot open the repository: {error}")).hint(
                    "give the password (--password-file, NFZ_PASSWORD) and the key file (--key-file) it was made with",
                )
            }
            error @ (RepositoryError::NoSlot(_)
            | RepositoryError::NoKeyring(_)
            | RepositoryError::RepositoryFile(_)
            | RepositoryError::NoConfig) => {
                Self::failed(format!("cannot open the repository: {error}"))
                    .hint("bring back the files of keys/, keyring/, config/ and nfz-repository from a copy of the repository")
            }
            error @ RepositoryError::CannotMakeSlot(_) => {
                Self::usage(format!("{error}")).hint("--kdf-memory takes 19M to 1G")
            }
            error @ (RepositoryError::TooLarge { .. } | RepositoryError::System(_)) => Self::failed(error.to_string()),
            error @ RepositoryError::Damaged { .. } => Self::failed(format!("cannot go on: {error}"))
                .hint("nfz verify tells what the damage touches; a sync from an intact source stores anew what is missing or cut short"),
        }
    }
}

impl From<EngineError> for Failure {
    fn from(error: EngineError) -> Self {
        match error {
            EngineError::Repository(error) => error.into(),
            error @ EngineError::NoSnapshot(_) => Self::failed(error.to_string())
                .hint("nfz snapshots lists what there is; --at, --host and --source choose"),
            EngineError::Ambiguous { choices } => ambiguous(&choices),
            EngineError::AmbiguousPrefix { prefix, .. } => {
                Self::failed(format!("cannot tell which snapshot is meant: several ids begin with {prefix}"))
                    .hint("give more digits; nfz snapshots --json shows whole ids")
            }
            error @ EngineError::EmptiedSource { .. } => Self::failed(format!("cannot sync: {error}"))
                .hint("is it mounted? If it is meant to be empty: --allow-empty"),
            error @ EngineError::NoSuchPath { .. } => Self::failed(format!("cannot find it: {error}"))
                .hint("PATHs are relative to the source; nfz ls shows what there is"),
            EngineError::Source { why, is_missing, .. } => {
                let failure = Self::failed(format!("cannot read the source: {why}"));
                if is_missing { failure.hint("check the path: it is taken relative to where you are") } else { failure }
            }
            EngineError::Filter(why) => Self::usage(why),
            error @ EngineError::Target { .. } => Self::failed(error.to_string())
                .hint("mend that and run the same command again: it goes on where it stopped"),
            error @ EngineError::Manifest { .. } => Self::failed(error.to_string()).hint("nfz verify tells more"),
            error @ EngineError::Unknowable { .. } => Self::failed(format!("cannot prune: {error}"))
                .hint("nfz verify tells more; once that snapshot is forgotten (nfz forget ADDRESS ID), the rest can be pruned"),
            error @ EngineError::ShortGrace => Self::usage(error.to_string())
                .hint("on a full disk, and where no sync is running: --reclaim-now"),
            error @ EngineError::Restless => Self::failed(error.to_string()).hint("run it again later"),
            error @ EngineError::Overtaken { .. } => Self::failed(format!("cannot commit: {error}"))
                .hint("run the same command again: it goes on where it stopped, and sends anew what is missing"),
            error @ EngineError::LastSnapshot { .. } => Self::failed(format!("cannot forget: {error}"))
                .hint("if that is what you want: --allow-empty"),
            error @ EngineError::Internal(_) => {
                Self::failed(error.to_string()).hint("this is a mistake in nfz; running again does no harm")
            }
        }
    }
}

/// The most choices that are listed.
const CHOICES_SHOWN: usize = 20;

fn ambiguous(choices: &[(String, String)]) -> Failure {
    let failure = Failure::failed("cannot tell which snapshot is meant: there are several hosts or sources")
        .hint("choose with --host and --source, or an id with --at:");
    let shown = choices.iter().take(CHOICES_SHOWN);
    let failure = shown.fold(failure, |failure, (host, source)| {
        failure.hint(format!("  --host {} --source {}", shell_words::quote(host), shell_words::quote(source)))
    });
    match choices.len().saturating_sub(CHOICES_SHOWN) {
        0 => failure,
        more => failure.hint(format!("  and {more} more")),
    }
}

impl From<PasswordError> for Failure {
    fn from(error: PasswordError) -> Self {
        let failure = Self::failed(error.to_string());
        match error {
            PasswordError::NoTerminal => failure.hint(
                "give --password-file FILE or --password-command COMMAND, or set NFZ_PASSWORD, or use --key-file FILE",
            ),
            PasswordError::Interrupted => Self::interrupted(Exit::Interrupted),
            PasswordError::Command { .. } => failure.hint("the command must print the password as its first line"),
            _ => failure,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::name::Name;

    fn store(kind: ErrorKind) -> StoreError {
        StoreError { kind, operation: "read", subject: "nfz-repository".into(), message: "no".into() }
    }

    fn emptied() -> EngineError {
        EngineError::EmptiedSource { path: "/src".into(), entries: 7 }
    }

    #[test]
    fn each_error_has_its_documented_exit_code() {
        let code = |failure: Failure| failure.exit.code();
        assert_eq!(code(store(ErrorKind::Full).into()), 6);
        assert_eq!(code(store(ErrorKind::Disconnected).into()), 5);
        assert_eq!(code(store(ErrorKind::Unreachable).into()), 5);
        for kind in [
            ErrorKind::NotFound,
            ErrorKind::NotADirectory,
            ErrorKind::PermissionDenied,
            ErrorKind::ReadOnly,
            ErrorKind::AuthenticationFailed,
            ErrorKind::HostKeyRefused,
            ErrorKind::NoSftp,
        ] {
            let failure = Failure::from(store(kind));
            assert_eq!(failure.exit.code(), 1);
            assert!(!failure.hints.is_empty(), "{kind:?} says what to do");
        }
        assert_eq!(code(RepositoryError::NoRepository { address: "x".into() }.into()), 10);
        assert_eq!(code(EngineError::from(RepositoryError::WrongPassword).into()), 12);
        assert_eq!(code(emptied().into()), 1);
        assert_eq!(code(PasswordError::Interrupted.into()), 130);
    }

    #[test]
    fn a_failure_is_one_line_and_its_hints() {
        let failure = Failure::from(emptied()).to_string();
        let lines: Vec<_> = failure.lines().collect();
        assert!(lines[0].starts_with("nfz: cannot sync: "));
        assert!(lines[1].starts_with("  hint: ") && lines[1].contains("--allow-empty"));
        assert_eq!(lines.len(), 2);
    }

    #[test]
    fn what_the_server_says_cannot_steer_the_terminal() {
        let error = StoreError { message: "\x1b]0;x\x07\n\\x41".into(), ..store(ErrorKind::Other) };
        let text = Failure::from(error).to_string();
        assert!(!text.chars().any(char::is_control), "{text:?}");
        assert!(text.ends_with("\\n\\x41"), "{text}");
        let damaged = RepositoryError::Damaged { name: Name::Repository, why: "\u{202e}".into() };
        assert!(!Failure::from(damaged).to_string().contains('\u{202e}'));
    }

    #[test]
    fn an_ambiguous_snapshot_lists_what_can_be_chosen() {
        let choices = (0..30).map(|n| ("a host".to_owned(), format!("/src/{n}"))).collect();
        let text = Failure::from(EngineError::Ambiguous { choices }).to_string();
        assert!(text.contains("--host 'a host' --source /src/19"));
        assert!(text.ends_with("and 10 more"));
    }
}
