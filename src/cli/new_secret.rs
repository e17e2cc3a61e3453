//! A password or key file that is to open a repository from now on. No variable stands in for these: a secret is never set by accident.

use super::{
    failure::Failure,
    open::Context,
    password::{self, PasswordError},
    values,
};
use crate::repository::{Credentials, InitOptions};
use clap::Args;
use std::{ffi::OsString, path::PathBuf};

/// Where the new password and key come from; asked for where nothing is given.
#[derive(Args, Clone, Default)]
#[command(next_help_heading = "The new password or key file")]
pub struct NewSecretArgs {
    /// Take the new password from the first line of FILE
    #[arg(long, value_name = "FILE", conflicts_with_all = ["new_password_command", "ask_new_password"])]
    new_password_file: Option<PathBuf>,
    /// Take the new password from the first line that COMMAND prints; split as a shell would
    #[arg(long, value_name = "COMMAND", conflicts_with = "ask_new_password")]
    new_password_command: Option<OsString>,
    /// Ask for the new password, twice
    #[arg(long)]
    ask_new_password: bool,
    /// A file, of any contents up to 1 MiB, that will be needed: in place of a password, or beside the one that is given
    #[arg(long, value_name = "FILE")]
    new_key_file: Option<PathBuf>,
    /// Memory that each attempt at the new password takes, 19M to 1G [default: 128M]
    #[arg(long, value_name = "SIZE", value_parser = values::kdf_memory)]
    kdf_memory: Option<u32>,
}

impl NewSecretArgs {
    /// Whether any password or key file is given or is to be asked for.
    #[must_use]
    pub fn is_given(&self) -> bool {
        self.has_password() || self.new_key_file.is_some()
    }

    fn has_password(&self) -> bool {
        self.new_password_file.is_some() || self.new_password_command.is_some() || self.ask_new_password
    }

    /// How the new slot is made.
    #[must_use]
    pub fn options(&self) -> InitOptions {
        InitOptions { kdf_memory_kib: self.kdf_memory }
    }

    /// Reads them, on a thread of its own: someone may have to type.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn read(&self, context: &Context, address: &str) -> Result<Credentials, Failure> {
        let (args, address, interactive) = (self.clone(), address.to_owned(), context.environment.interactive);
        let read = tokio::task::spawn_blocking(move || args.read_blocking(&address, interactive)).await;
        let read = read.map_err(|error| Failure::failed(format!("cannot read the new password: {error}")))?;
        read.map_err(|error| match error {
            PasswordError::NoTerminal => Failure::failed("cannot ask for the new password: there is no terminal")
                .hint("give --new-password-file FILE, --new-password-command COMMAND or --new-key-file FILE"),
            error => error.into(),
        })
    }

    fn read_blocking(&self, address: &str, interactive: bool) -> Result<Credentials, PasswordError> {
        let key_file = self.new_key_file.as_deref().map(password::read_key_file).transpose()?;
        let password = match (&self.new_password_file, &self.new_password_command) {
            (Some(file), _) => Some(password::from_file(file)?),
            (None, Some(command)) => Some(password::from_command(command)?),
            (None, None) if key_file.is_some() && !self.ask_new_password => None,
            (None, None) if !interactive => return Err(PasswordError::NoTerminal),
            (None, None) => Some(password::ask_twice(address)?),
        };
        Ok(Credentials { password, key_file })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_key_file_stands_alone_or_beside_a_new_password() {
        let dir = tempfile::tempdir().unwrap();
        let (word, key) = (dir.path().join("word"), dir.path().join("key"));
        std::fs::write(&word, "word\n").unwrap();
        std::fs::write(&key, "key").unwrap();
        let has = |args: &NewSecretArgs| {
            let read = args.read_blocking("x", false).ok();
            read.map(|read| (read.password.map(|word| word.to_vec()), read.key_file.is_some()))
        };
        let mut args = NewSecretArgs::default();
        assert_eq!((args.is_given(), has(&args)), (false, None));
        args.new_key_file = Some(key);
        assert_eq!((args.is_given(), has(&args)), (true, Some((None, true))));
        args.new_password_file = Some(word);
        assert_eq!(has(&args), Some((Some(b"word".to_vec()), true)));
        args.new_key_file = None;
        assert_eq!(has(&args), Some((Some(b"word".to_vec()), false)));
    }
}
