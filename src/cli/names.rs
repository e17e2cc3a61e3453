//! Names of repositories: which word is one, and what it stands for.
//!
//! A word where an ADDRESS may stand is a name if it holds no `/`, `:` or `@` and the configuration names a repository so. Where a file of that
//! name lies in the working directory too, nfz refuses to guess: `./home` is the file, `@home` the name.

use super::{
    address::Address,
    config::{Config, Named},
    failure::{Failure, printable},
};
use std::{
    ffi::OsStr,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, OnceLock, PoisonError},
};

/// The configured repositories; the file is read when a word may be a name.
#[derive(Default)]
pub struct Names {
    file: Option<PathBuf>,
    /// It was asked for, so it must be there.
    must_exist: bool,
    home: Option<PathBuf>,
    config: OnceLock<Result<Config, Failure>>,
    resolved: Mutex<Vec<(Address, Arc<Named>)>>,
}

/// What stands for a word.
struct Entry<'a> {
    name: &'a str,
    named: &'a Named,
}

impl Names {
    /// Of the file that was asked for, or of the usual one if it exists.
    #[must_use]
    pub fn new(asked: Option<&Path>, usual: Option<&Path>, home: Option<&Path>) -> Self {
        Self {
            file: asked.or(usual).map(Path::to_path_buf),
            must_exist: asked.is_some(),
            home: home.map(Path::to_path_buf),
            ..Self::default()
        }
    }

    /// Whether the word is a name.
    ///
    /// # Errors
    /// Where it could as well be a file, or begins with `@` and is none, or the configuration cannot be read.
    pub fn is_name(&self, word: &OsStr) -> Result<bool, Failure> {
        Ok(self.find(word)?.is_some())
    }

    /// The address that the word is a name of.
    ///
    /// # Errors
    /// As [`is_name`](Names::is_name).
    pub fn resolve(&self, word: &OsStr) -> Result<Option<Address>, Failure> {
        let Some(Entry { name, named }) = self.find(word)? else { return Ok(None) };
        let origin = format!("the address of repository {name}");
        let address = Address::parse(named.address.as_ref())
            .map_err(|error| Failure::address(&origin, named.address.as_bytes(), &error))?;
        let mut resolved = self.resolved.lock().unwrap_or_else(PoisonError::into_inner);
        resolved.retain(|(known, _)| *known != address);
        resolved.push((address.clone(), Arc::new(named.clone())));
        Ok(Some(address))
    }

    /// What is configured for an address that a name was given for.
    #[must_use]
    pub fn settings(&self, address: &Address) -> Option<Arc<Named>> {
        let resolved = self.resolved.lock().unwrap_or_else(PoisonError::into_inner);
        resolved.iter().find(|(known, _)| known == address).map(|(_, named)| Arc::clone(named))
    }

    fn find(&self, word: &OsStr) -> Result<Option<Entry<'_>>, Failure> {
        let Some(text) = word.to_str() else { return Ok(None) };
        let (name, is_sure) = text.strip_prefix('@').map_or((text, false), |name| (name, true));
        if !super::config::is_name(name) {
            return Ok(None);
        }
        let known = match self.config()? {
            Some(config) => config.repository.get_key_value(name),
            None => None,
        };
        match known {
            None if is_sure => Err(self.unknown(name)),
            None => Ok(None),
            Some(_) if !is_sure && Path::new(name).symlink_metadata().is_ok() => Err(both(name)),
            Some((name, named)) => Ok(Some(Entry { name, named })),
        }
    }

    fn config(&self) -> Result<Option<&Config>, Failure> {
        let Some(file) = &self.file else { return Ok(None) };
        if !self.must_exist && file.symlink_metadata().is_err() {
            return Ok(None);
        }
        let read = self.config.get_or_init(|| Config::read(file, self.home.as_deref()));
        read.as_ref().map(Some).map_err(Clone::clone)
    }

    fn unknown(&self, name: &str) -> Failure {
        let known: Vec<&str> = match self.config() {
            Ok(Some(config)) => config.repository.keys().map(String::as_str).collect(),
            _ => Vec::new(),
        };
        let file = self.file.as_deref().map(|file| printable(&file.to_string_lossy()));
        let file = file.unwrap_or_else(|| "the configuration".to_owned());
        Failure::usage(format!("cannot tell what @{name} is: {file} names no such repository"))
            .hint(if known.is_empty() { "it names none".to_owned() } else { format!("it names {}", known.join(", ")) })
    }
}

fn both(name: &str) -> Failure {
    Failure::usage(format!("cannot tell what {name} is: a configured repository, and a file that lies here"))
        .hint(format!("write @{name} for the repository, ./{name} for the file"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::exit::Exit;

    fn names(text: &str) -> (tempfile::TempDir, Names) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.toml");
        std::fs::write(&path, text).unwrap();
        let names = Names::new(Some(&path), None, None);
        (dir, names)
    }

    fn resolve(names: &Names, word: &str) -> Result<Option<String>, Exit> {
        let found = names.resolve(OsStr::new(word)).map_err(|failure| failure.exit)?;
        Ok(found.map(|address| address.to_string()))
    }

    /// `src` lies in the directory that tests run in.
    const TWO: &str = "[repository.home]\naddress = \"h:d\"\n[repository.src]\naddress = \"h:e\"\n";

    #[test]
    fn a_word_is_a_name_only_if_it_is_configured_and_looks_like_nothing_else() {
        let (_dir, names) = names(TWO);
        assert_eq!(resolve(&names, "home"), Ok(Some("h:d".into())));
        assert_eq!(resolve(&names, "@home"), Ok(Some("h:d".into())));
        for word in ["./home", "home/", "h:home", "other", "me@home", "sftp://home/x", ""] {
            assert_eq!(resolve(&names, word), Ok(None), "{word}");
        }
    }

    #[test]
    fn nfz_does_not_guess_between_a_name_and_a_file() {
        let (_dir, names) = names(TWO);
        assert_eq!(resolve(&names, "src"), Err(Exit::Usage));
        assert_eq!(resolve(&names, "@src"), Ok(Some("h:e".into())));
        assert_eq!(resolve(&names, "./src"), Ok(None));
    }

    #[test]
    fn a_name_that_is_meant_and_not_there_is_an_error_that_lists_the_others() {
        let (_dir, names) = names(TWO);
        let failure = names.resolve(OsStr::new("@hone")).unwrap_err();
        assert!(failure.message.contains("@hone") && failure.hints[0].contains("home, src"), "{failure}");
    }

    #[test]
    fn a_file_that_was_asked_for_must_be_there_and_the_usual_one_need_not() {
        let missing = Path::new("/no/such/file");
        assert_eq!(resolve(&Names::new(Some(missing), None, None), "home"), Err(Exit::Usage));
        assert_eq!(resolve(&Names::new(None, Some(missing), None), "home"), Ok(None));
    }

    #[test]
    fn settings_belong_to_the_address_that_was_named() {
        let (_dir, names) = names(TWO);
        let address = names.resolve(OsStr::new("home")).unwrap().unwrap();
        assert_eq!(names.settings(&address).unwrap().address, "h:d");
        assert!(names.settings(&Address::parse(OsStr::new("h:e")).unwrap()).is_none());
    }
}
