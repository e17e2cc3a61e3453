//! Passwords and key files: where they come from. Secrets are wiped when dropped and have no `Debug`.

use super::{args::SecretArgs, environment::Environment};
use crate::{format::path::Escaped, repository::Credentials};
use std::{
    ffi::{OsStr, OsString},
    fs::File,
    io::{self, Read},
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};
use zeroize::Zeroizing;

/// The longest password, in bytes.
const PASSWORD_MAX: usize = 64 << 10;
/// The longest key file, in bytes.
const KEY_FILE_MAX: usize = 1 << 20;
/// What a key file's contents are hashed with (`spec/2-keys.md`).
const KEY_FILE_CONTEXT: &str = "nfz v1 key file";
/// How often two passwords that must be alike are asked for.
const ATTEMPTS: u32 = 3;

/// Where the password comes from.
#[derive(PartialEq, Eq)]
pub enum Source {
    /// The first line that a command prints.
    Command(OsString),
    /// The first line of a file.
    File(PathBuf),
    /// `NFZ_PASSWORD`.
    Variable(Zeroizing<Vec<u8>>),
    /// The terminal.
    Prompt,
}

/// Why there is no password, or no key.
#[derive(Debug, thiserror::Error)]
pub enum PasswordError {
    /// A file could not be read.
    #[error("cannot read the {what} {path}: {source}")]
    File {
        /// "password file" or "key file".
        what: &'static str,
        /// Its path.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// The command gave none.
    #[error("cannot take the password from the command {command}: {why}")]
    Command {
        /// The command as it was given.
        command: String,
        /// Why.
        why: String,
    },
    /// An empty password protects nothing.
    #[error("cannot take the password from {0}: it is empty")]
    Empty(String),
    /// A password or key file of unreasonable length.
    #[error("cannot take the {0}: it is longer than {1} bytes")]
    TooLong(&'static str, usize),
    /// Nobody can be asked.
    #[error("cannot ask for the password: there is no terminal")]
    NoTerminal,
    /// The terminal failed.
    #[error("cannot ask for the password: {0}")]
    Terminal(io::Error),
    /// Typed differently three times.
    #[error("cannot take the password: the two were not alike")]
    NotAlike,
    /// Ctrl-C at the prompt.
    #[error("interrupted")]
    Interrupted,
}

/// Where the password comes from: options before variables before the terminal. `None` where a key file stands in its place.
#[must_use]
pub fn source(args: &SecretArgs, environment: &Environment) -> Option<Source> {
    let option = args.password_command.clone().map(Source::Command);
    let option = option.or_else(|| args.password_file.clone().map(Source::File));
    let option = option.or_else(|| args.ask_password.then_some(Source::Prompt));
    let variable = || {
        let command = environment.password_command.clone().map(Source::Command);
        let file = || environment.password_file.clone().map(|path| Source::File(path.into()));
        command.or_else(file).or_else(|| environment.password.clone().map(Source::Variable))
    };
    let has_key = key_file(args, environment).is_some();
    option.or_else(variable).or((!has_key).then_some(Source::Prompt))
}

/// The key file, if there is one: the option before the variable.
#[must_use]
pub fn key_file(args: &SecretArgs, environment: &Environment) -> Option<PathBuf> {
    args.key_file.clone().or_else(|| environment.key_file.clone().map(PathBuf::from))
}

/// Reads password and key file. `fresh` asks twice, for a repository that is being made. May block: on the terminal, on a command.
///
/// # Errors
/// [`PasswordError`].
pub fn credentials(
    args: &SecretArgs,
    environment: &Environment,
    address: &str,
    fresh: bool,
) -> Result<Credentials, PasswordError> {
    let key_file = key_file(args, environment).map(|path| read_key_file(&path)).transpose()?;
    let read = |source: Source| match source {
        Source::Command(command) => from_command(&command),
        Source::File(path) => from_file(&path),
        Source::Variable(password) => not_empty(password, || "NFZ_PASSWORD".into()),
        Source::Prompt if !environment.interactive => Err(PasswordError::NoTerminal),
        Source::Prompt if fresh => ask_twice(address),
        Source::Prompt => ask(&format!("Password for {address}: ")),
    };
    Ok(Credentials { password: source(args, environment).map(read).transpose()?, key_file })
}

pub(super) fn from_file(path: &Path) -> Result<Zeroizing<Vec<u8>>, PasswordError> {
    let failed = |source| PasswordError::File { what: "password file", path: shown(path.as_os_str()), source };
    let text = File::open(path).and_then(|file| read_at_most(file, PASSWORD_MAX)).map_err(failed)?;
    not_empty(first_line(&text)?, || format!("the file {}", shown(path.as_os_str())))
}

pub(super) fn from_command(command: &OsStr) -> Result<Zeroizing<Vec<u8>>, PasswordError> {
    let failed = |why: String| PasswordError::Command { command: shown(command), why };
    let text = command.to_str().ok_or_else(|| failed("it is not UTF-8".into()))?;
    let words = shell_words::split(text).map_err(|error| failed(error.to_string()))?;
    let (program, arguments) = words.split_first().ok_or_else(|| failed("it is empty".into()))?;
    let mut child = Command::new(program);
    child.args(arguments).env_remove("NFZ_PASSWORD").stdout(Stdio::piped());
    let mut child = child.spawn().map_err(|error| failed(error.to_string()))?;
    let output = child.stdout.take().map(|pipe| read_at_most(pipe, PASSWORD_MAX)).transpose();
    let status = child.wait().map_err(|error| failed(error.to_string()))?;
    let output = output.map_err(|error| failed(error.to_string()))?.unwrap_or_default();
    let line = first_line(&output)?;
    if !status.success() {
        return Err(failed(format!("it failed ({status})")));
    }
    not_empty(line, || format!("the command {}", shown(command)))
}

pub(super) fn ask(prompt: &str) -> Result<Zeroizing<Vec<u8>>, PasswordError> {
    let typed = rpassword::prompt_password(prompt).map_err(|error| match error.kind() {
        io::ErrorKind::Interrupted => PasswordError::Interrupted,
        _ => PasswordError::Terminal(error),
    })?;
    not_empty(Zeroizing::new(typed.into_bytes()), || "the terminal".into())
}

pub(super) fn ask_twice(address: &str) -> Result<Zeroizing<Vec<u8>>, PasswordError> {
    for _ in 0..ATTEMPTS {
        let first = ask(&format!("New password for {address}: "))?;
        if first == ask("The same again: ")? {
            return Ok(first);
        }
        // Not to standard output, which may be read by a program.
        eprintln!("The two were not alike.");
    }
    Err(PasswordError::NotAlike)
}

/// The key that a key file stands for: a hash of all it holds, whatever that is.
pub(super) fn read_key_file(path: &Path) -> Result<Zeroizing<[u8; 32]>, PasswordError> {
    let failed = |source| PasswordError::File { what: "key file", path: shown(path.as_os_str()), source };
    let contents = File::open(path).and_then(|file| read_at_most(file, KEY_FILE_MAX)).map_err(failed)?;
    match contents.len() {
        0 => Err(failed(io::Error::other("it is empty"))),
        length if length > KEY_FILE_MAX => Err(PasswordError::TooLong("key file", KEY_FILE_MAX)),
        _ => Ok(Zeroizing::new(blake3::derive_key(KEY_FILE_CONTEXT, &contents))),
    }
}

/// Reads to the end, or one byte past `limit`. The buffer never moves, so that no copy stays behind.
fn read_at_most(reader: impl Read, limit: usize) -> io::Result<Zeroizing<Vec<u8>>> {
    let mut bytes = Zeroizing::new(vec![0; limit + 1]);
    let mut reader = reader.take(limit as u64 + 1);
    let mut filled = 0;
    loop {
        match reader.read(&mut bytes[filled..]) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    bytes.truncate(filled);
    Ok(bytes)
}

/// The first line, without its end.
fn first_line(text: &[u8]) -> Result<Zeroizing<Vec<u8>>, PasswordError> {
    let line = text.split(|&byte| byte == b'\n').next().unwrap_or_default();
    if line.len() > PASSWORD_MAX {
        return Err(PasswordError::TooLong("password", PASSWORD_MAX));
    }
    Ok(Zeroizing::new(line.strip_suffix(b"\r").unwrap_or(line).to_vec()))
}

fn not_empty(
    password: Zeroizing<Vec<u8>>,
    origin: impl FnOnce() -> String,
) -> Result<Zeroizing<Vec<u8>>, PasswordError> {
    if password.is_empty() { Err(PasswordError::Empty(origin())) } else { Ok(password) }
}

fn shown(text: &OsStr) -> String {
    Escaped(text.as_bytes()).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn with_file(contents: &[u8]) -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secret");
        std::fs::write(&path, contents).unwrap();
        (dir, path)
    }

    fn message<T>(result: Result<T, PasswordError>) -> String {
        result.err().map(|error| error.to_string()).unwrap_or_default()
    }

    #[test]
    fn options_come_before_variables_and_variables_before_the_terminal() {
        let mut environment = Environment::default();
        let mut args = SecretArgs::default();
        assert!(source(&args, &environment) == Some(Source::Prompt));
        environment.password = Some(Zeroizing::new(b"p".to_vec()));
        assert!(matches!(source(&args, &environment), Some(Source::Variable(_))));
        environment.password_file = Some("f".into());
        assert!(source(&args, &environment) == Some(Source::File("f".into())));
        environment.password_command = Some("c".into());
        assert!(source(&args, &environment) == Some(Source::Command("c".into())));
        args.password_file = Some("g".into());
        assert!(source(&args, &environment) == Some(Source::File("g".into())));
    }

    #[test]
    fn a_key_file_stands_in_place_of_the_password_or_beside_one() {
        let mut args = SecretArgs { key_file: Some("k".into()), ..SecretArgs::default() };
        let mut environment = Environment::default();
        assert!(source(&args, &environment).is_none());
        args.ask_password = true;
        assert!(source(&args, &environment) == Some(Source::Prompt));
        args.ask_password = false;
        environment.password = Some(Zeroizing::new(b"p".to_vec()));
        assert!(matches!(source(&args, &environment), Some(Source::Variable(_))));
    }

    #[test]
    fn the_password_is_the_first_line_of_the_file() {
        for contents in [&b"secret"[..], b"secret\n", b"secret\r\nmore\n", b"secret\n\n"] {
            let (_dir, path) = with_file(contents);
            assert_eq!(from_file(&path).ok().unwrap().as_slice(), b"secret");
        }
    }

    #[test]
    fn an_empty_password_is_refused_wherever_it_comes_from() {
        let (_dir, path) = with_file(b"\nsecond line\n");
        assert!(message(from_file(&path)).contains("it is empty"));
        assert!(message(from_command(OsStr::new("true"))).contains("it is empty"));
        let environment = Environment { password: Some(Zeroizing::new(Vec::new())), ..Environment::default() };
        let read = credentials(&SecretArgs::default(), &environment, "x", false);
        assert!(message(read).contains("NFZ_PASSWORD: it is empty"));
    }

    #[test]
    fn a_command_prints_the_password() {
        assert_eq!(from_command(OsStr::new("printf 'a b\\nc'")).ok().unwrap().as_slice(), b"a b");
        for (command, why) in [
            ("false", "it failed"),
            ("/no/such/program x", "No such file"),
            ("'unclosed", "missing closing quote"),
            ("", "it is empty"),
        ] {
            let message = message(from_command(OsStr::new(command)));
            assert!(message.contains(command) && message.contains(why), "{message}");
        }
    }

    #[test]
    fn a_missing_file_is_named() {
        assert!(
            message(from_file(Path::new("/no/such/file"))).contains("the password file /no/such/file: No such file")
        );
        assert!(
            message(read_key_file(Path::new("/no/such/file"))).contains("the key file /no/such/file: No such file")
        );
    }

    #[test]
    fn a_password_and_a_key_file_have_a_longest_length() {
        let (_dir, path) = with_file(&vec![b'x'; PASSWORD_MAX]);
        assert!(from_file(&path).is_ok());
        let (_dir, path) = with_file(&vec![b'x'; PASSWORD_MAX + 1]);
        assert!(message(from_file(&path)).contains("longer than"));
        let (_dir, path) = with_file(&vec![b'x'; KEY_FILE_MAX]);
        assert!(read_key_file(&path).is_ok());
        let (_dir, path) = with_file(&vec![b'x'; KEY_FILE_MAX + 1]);
        assert!(message(read_key_file(&path)).contains("longer than"));
    }

    #[test]
    fn every_byte_of_a_key_file_counts() {
        let key = |contents: &[u8]| *read_key_file(&with_file_kept(contents)).ok().unwrap();
        assert_eq!(key(b"a"), blake3::derive_key("nfz v1 key file", b"a"));
        assert_ne!(key(b"a"), key(b"a\n"));
        assert!(message(read_key_file(&with_file_kept(b""))).contains("it is empty"));
    }

    fn with_file_kept(contents: &[u8]) -> PathBuf {
        let (dir, path) = with_file(contents);
        let _ = dir.keep();
        path
    }

    #[test]
    fn where_nobody_can_be_asked_that_is_said() {
        let read = credentials(&SecretArgs::default(), &Environment::default(), "x", false);
        assert!(matches!(read, Err(PasswordError::NoTerminal)));
    }

    proptest! {
        #[test]
        fn the_first_line_holds_no_line_end(text in proptest::collection::vec(prop_oneof![Just(b'\n'), Just(b'\r'), any::<u8>()], 0..20)) {
            let line = first_line(&text).ok().unwrap();
            prop_assert!(text.starts_with(&line) && !line.contains(&b'\n'));
        }
    }
}
