//! What the program takes from its environment, read once, so that everything after is a function of its arguments.

use std::{env, ffi::OsString, io::IsTerminal, os::unix::ffi::OsStringExt, path::PathBuf};
use zeroize::Zeroizing;

/// Variables and terminals. No `Debug`: it may hold a password.
#[derive(Default)]
pub struct Environment {
    /// `NFZ_REPOSITORY`: the address where none is given.
    pub repository: Option<OsString>,
    /// `NFZ_PASSWORD`.
    pub password: Option<Zeroizing<Vec<u8>>>,
    /// `NFZ_PASSWORD_FILE`.
    pub password_file: Option<OsString>,
    /// `NFZ_PASSWORD_COMMAND`.
    pub password_command: Option<OsString>,
    /// `NFZ_KEY_FILE`.
    pub key_file: Option<OsString>,
    /// `NFZ_PIN`.
    pub pin: Option<OsString>,
    /// `NFZ_SSH_COMMAND`.
    pub ssh_command: Option<OsString>,
    /// The user's home.
    pub home: Option<PathBuf>,
    /// Where the user's configurations lie: `XDG_CONFIG_HOME`, or `.config` at home.
    pub configuration: Option<PathBuf>,
    /// Where what may be lost is kept: `XDG_CACHE_HOME`, or `.cache` at home.
    pub cache: Option<PathBuf>,
    /// Whether someone can be asked: standard input and standard error are a terminal.
    pub interactive: bool,
    /// Whether standard error is a terminal.
    pub stderr_is_terminal: bool,
    /// The user's name, or number.
    pub user: String,
    /// The machine's name.
    pub host: String,
}

impl Environment {
    /// Reads it.
    #[must_use]
    pub fn read() -> Self {
        let stderr_is_terminal = std::io::stderr().is_terminal();
        let home = variable("HOME").map(PathBuf::from);
        let below_home = |name: &str, usual: &str| {
            variable(name).map(PathBuf::from).or_else(|| home.as_ref().map(|home| home.join(usual)))
        };
        Self {
            configuration: below_home("XDG_CONFIG_HOME", ".config"),
            cache: below_home("XDG_CACHE_HOME", ".cache"),
            repository: variable("NFZ_REPOSITORY"),
            password: variable("NFZ_PASSWORD").map(|text| Zeroizing::new(text.into_vec())),
            password_file: variable("NFZ_PASSWORD_FILE"),
            password_command: variable("NFZ_PASSWORD_COMMAND"),
            key_file: variable("NFZ_KEY_FILE"),
            pin: variable("NFZ_PIN"),
            ssh_command: variable("NFZ_SSH_COMMAND"),
            interactive: stderr_is_terminal && std::io::stdin().is_terminal(),
            stderr_is_terminal,
            home,
            user: user(),
            host: rustix::system::uname().nodename().to_string_lossy().into_owned(),
        }
    }
}

/// A variable that is set to something; empty is not set.
fn variable(name: &str) -> Option<OsString> {
    env::var_os(name).filter(|value| !value.is_empty())
}

fn user() -> String {
    let named = variable("USER").or_else(|| variable("LOGNAME"));
    named.and_then(|name| name.into_string().ok()).unwrap_or_else(|| rustix::process::getuid().as_raw().to_string())
}
