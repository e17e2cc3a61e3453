//! Which of the arguments is the address. Pure.
//!
//! One rule: an address that is given wins over `NFZ_REPOSITORY`, and `--repository` takes the place of the
//! argument. Where an argument could be ADDRESS as well as something else (`ls`, `restore`) and `NFZ_REPOSITORY` is set, it is
//! the ADDRESS only if a colon stands before its first slash, or if it is the name of a configured repository.

use super::{
    address::{Address, looks_remote},
    failure::Failure,
    names::Names,
};
use std::{
    ffi::{OsStr, OsString},
    os::unix::ffi::OsStrExt,
};

/// Addresses that are given other than as an argument.
#[derive(Clone, Copy, Default)]
pub struct Given<'a> {
    /// By `--repository`.
    pub option: Option<&'a OsStr>,
    /// By `NFZ_REPOSITORY`.
    pub variable: Option<&'a OsStr>,
    /// What names are configured.
    pub names: Option<&'a Names>,
}

impl Given<'_> {
    /// The address where the argument can be nothing else.
    ///
    /// # Errors
    /// Where there is none, or one too many, or it is no address.
    pub fn address(self, argument: Option<&OsStr>) -> Result<Address, Failure> {
        match (self.option, argument, self.variable) {
            (Some(_), Some(argument), _) => Err(too_many(argument)),
            (Some(text), None, _) => self.parse("--repository", text),
            (None, Some(text), _) => self.parse("ADDRESS", text),
            (None, None, Some(text)) => self.parse("NFZ_REPOSITORY", text),
            (None, None, None) => Err(missing()),
        }
    }

    /// Whether the word names a configured repository.
    ///
    /// # Errors
    /// Where it could mean something else too.
    pub fn is_name(self, word: &OsStr) -> Result<bool, Failure> {
        self.names.map_or(Ok(false), |names| names.is_name(word))
    }

    fn parse(self, origin: &str, text: &OsStr) -> Result<Address, Failure> {
        match self.names.map(|names| names.resolve(text)).transpose()?.flatten() {
            Some(address) => Ok(address),
            None => Address::parse(text).map_err(|error| Failure::address(origin, text.as_bytes(), &error)),
        }
    }

    /// The address, and the arguments after it, where the first may be the address or something else.
    ///
    /// # Errors
    /// As [`address`](Given::address).
    pub fn leading(self, arguments: &[OsString]) -> Result<(Address, &[OsString]), Failure> {
        let stands_first = match (self.option, self.variable) {
            (Some(_), _) => false,
            (None, Some(_)) => match arguments.first() {
                Some(first) => looks_remote(first) || self.is_name(first)?,
                None => false,
            },
            (None, None) => true,
        };
        match arguments.split_first().filter(|_| stands_first) {
            Some((first, rest)) => Ok((self.address(Some(first))?, rest)),
            None => Ok((self.address(None)?, arguments)),
        }
    }
}

/// Checks that a local directory is not an address by mistake.
///
/// # Errors
/// Where a colon stands before its first slash.
pub fn local(what: &str, path: &OsStr) -> Result<(), Failure> {
    if !looks_remote(path) {
        return Ok(());
    }
    let shown = super::failure::printable(&path.to_string_lossy());
    Err(Failure::usage(format!("cannot take {shown} for {what}: it looks like an address")).hint(format!(
        "for a local directory of that name write ./{shown}; else see the order of arguments with --help"
    )))
}

fn too_many(argument: &OsStr) -> Failure {
    let shown = super::failure::printable(&argument.to_string_lossy());
    Failure::usage(format!("cannot take {shown} for ADDRESS: --repository gives it already"))
        .hint("leave one of the two out")
}

fn missing() -> Failure {
    Failure::usage("cannot tell which repository is meant: no ADDRESS is given")
        .hint("give one (user@host:dir or a local directory), or set NFZ_REPOSITORY")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::exit::Exit;

    fn given<'a>(option: &'a str, variable: &'a str) -> Given<'a> {
        let some = |text: &'a str| (!text.is_empty()).then(|| OsStr::new(text));
        Given { option: some(option), variable: some(variable), names: None }
    }

    fn leading(given: Given<'_>, arguments: &[&str]) -> Result<(String, Vec<String>), Exit> {
        let arguments: Vec<OsString> = arguments.iter().map(OsString::from).collect();
        let (address, rest) = given.leading(&arguments).map_err(|failure| failure.exit)?;
        Ok((address.to_string(), rest.iter().map(|arg| arg.to_string_lossy().into_owned()).collect()))
    }

    fn result(address: &str, rest: &[&str]) -> Result<(String, Vec<String>), Exit> {
        Ok((address.to_owned(), rest.iter().map(ToString::to_string).collect()))
    }

    #[test]
    fn without_option_and_variable_the_first_argument_is_the_address() {
        assert_eq!(leading(given("", ""), &["h:d", "out", "p"]), result("h:d", &["out", "p"]));
        assert_eq!(leading(given("", ""), &["repo", "out"]), result("repo", &["out"]));
        assert_eq!(leading(given("", ""), &[]), Err(Exit::Usage));
    }

    #[test]
    fn with_the_variable_only_a_servers_address_is_taken_for_one() {
        assert_eq!(leading(given("", "v:d"), &["out", "p"]), result("v:d", &["out", "p"]));
        assert_eq!(leading(given("", "v:d"), &["./out"]), result("v:d", &["./out"]));
        assert_eq!(leading(given("", "v:d"), &[]), result("v:d", &[]));
        assert_eq!(leading(given("", "v:d"), &["h:d", "out"]), result("h:d", &["out"]));
        assert_eq!(leading(given("", "v:d"), &["sftp://h/d", "out"]), result("h:/d", &["out"]));
        assert_eq!(leading(given("", "v:d"), &["./a:b"]), result("v:d", &["./a:b"]));
    }

    #[test]
    fn the_option_always_wins_and_no_argument_is_an_address_then() {
        assert_eq!(leading(given("o:d", "v:d"), &["h:d", "out"]), result("o:d", &["h:d", "out"]));
        assert_eq!(leading(given("repo", ""), &[]), result("repo", &[]));
    }

    #[test]
    fn where_the_argument_can_be_nothing_else_it_wins_over_the_variable() {
        let address = |given: Given<'_>, argument: Option<&str>| {
            given.address(argument.map(OsStr::new)).map(|address| address.to_string()).map_err(|failure| failure.exit)
        };
        assert_eq!(address(given("", "v:d"), Some("repo")), Ok("repo".into()));
        assert_eq!(address(given("", "v:d"), None), Ok("v:d".into()));
        assert_eq!(address(given("o:d", "v:d"), None), Ok("o:d".into()));
        assert_eq!(address(given("o:d", ""), Some("repo")), Err(Exit::Usage));
        assert_eq!(address(given("", ""), None), Err(Exit::Usage));
        assert_eq!(address(given("", "-x:d"), None), Err(Exit::Usage));
    }

    #[test]
    fn swapped_arguments_are_noticed() {
        assert!(local("SOURCE", OsStr::new("me@host:dir")).is_err());
        assert!(local("SOURCE", OsStr::new("./me@host:dir")).is_ok());
    }
}
