//! The configuration file: repositories that have a name (`docs/config.md`). Here is what it may say, and how it is read.

use super::{
    failure::{Failure, printable},
    timetable::{self, Timetable},
    values,
};
use crate::engine::{filter::FilterOptions, retention::Policy};
use serde::{Deserialize, Deserializer, de::Error as _};
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::Duration,
};

/// The longest file that is read.
const LENGTH_MAX: u64 = 1 << 20;

/// A whole file.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// By their names.
    #[serde(default)]
    pub repository: BTreeMap<String, Named>,
}

/// A repository that has a name.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Named {
    /// Where it lies.
    pub address: String,
    /// What is saved there.
    #[serde(default, deserialize_with = "one_or_many")]
    pub source: Vec<PathBuf>,
    /// What prints the password.
    pub password_command: Option<String>,
    /// What holds it.
    pub password_file: Option<PathBuf>,
    /// What opens it too, or instead.
    pub key_file: Option<PathBuf>,
    /// Patterns of what is left out.
    #[serde(default)]
    exclude: Vec<String>,
    #[serde(default)]
    iexclude: Vec<String>,
    #[serde(default)]
    exclude_file: Vec<PathBuf>,
    #[serde(default)]
    exclude_if_present: Vec<String>,
    #[serde(default)]
    exclude_caches: bool,
    #[serde(default, deserialize_with = "size")]
    exclude_larger_than: Option<u64>,
    #[serde(default)]
    one_file_system: bool,
    /// Rates.
    #[serde(default, deserialize_with = "rates")]
    pub limit_up: Option<Timetable>,
    #[serde(default, deserialize_with = "rates")]
    pub limit_down: Option<Timetable>,
    /// What stays.
    keep: Option<Keep>,
}

/// What a forget keeps.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
struct Keep {
    last: u32,
    hourly: u32,
    daily: u32,
    weekly: u32,
    monthly: u32,
    yearly: u32,
    #[serde(deserialize_with = "period")]
    within: Option<Duration>,
    label: Vec<String>,
}

impl Config {
    /// Reads the file at `path`, whose text may name paths below `home`.
    ///
    /// # Errors
    /// [`Failure`], with the line.
    pub fn read(path: &Path, home: Option<&Path>) -> Result<Self, Failure> {
        let shown = printable(&path.to_string_lossy());
        let failed = |why: String| Failure::usage(format!("cannot read the configuration {shown}: {why}"));
        let length = std::fs::metadata(path).map_err(|error| failed(error.to_string()))?.len();
        if length > LENGTH_MAX {
            return Err(failed(format!("it is longer than {LENGTH_MAX} bytes")));
        }
        let text = std::fs::read_to_string(path).map_err(|error| failed(error.to_string()))?;
        let config = Self::parse(&text).map_err(|error| {
            let line = error.line.map(|line| format!("line {line}: ")).unwrap_or_default();
            failed(format!("{line}{}", error.message)).hint("docs/config.md describes it")
        })?;
        let base = path.parent().unwrap_or(Path::new("."));
        Ok(config.with_paths(&|path: &Path| from_home(path, base, home)))
    }

    /// Reads a text.
    ///
    /// # Errors
    /// What is wrong, and in which line.
    pub fn parse(text: &str) -> Result<Self, ConfigError> {
        let config: Self = toml::from_str(text).map_err(|error| ConfigError {
            line: error.span().map(|span| 1 + text.bytes().take(span.start).filter(|&byte| byte == b'\n').count()),
            message: error.message().to_owned(),
        })?;
        match config.repository.iter().find_map(|(name, named)| named.fault(name)) {
            Some(message) => Err(ConfigError { line: None, message }),
            None => Ok(config),
        }
    }

    /// Makes paths absolute.
    fn with_paths(mut self, absolute: &dyn Fn(&Path) -> PathBuf) -> Self {
        for named in self.repository.values_mut() {
            let files = named.password_file.iter_mut().chain(&mut named.key_file).chain(&mut named.exclude_file);
            files.chain(&mut named.source).for_each(|path| *path = absolute(path));
            let is_remote = super::address::looks_remote(named.address.as_ref());
            if !is_remote && let Some(path) = absolute(Path::new(&named.address)).to_str() {
                named.address = path.to_owned();
            }
        }
        self
    }
}

/// What is wrong with a configuration.
#[derive(Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// The line, from 1 on.
    pub line: Option<usize>,
    /// What is wrong there.
    pub message: String,
}

/// `~/x` lies at home, `x` beside the file.
fn from_home(path: &Path, base: &Path, home: Option<&Path>) -> PathBuf {
    match (path.strip_prefix("~"), home) {
        (Ok(rest), Some(home)) => home.join(rest),
        _ => base.join(path),
    }
}

/// Whether a name may be given to a repository: it must not look like a path, an address or an option.
#[must_use]
pub fn is_name(text: &str) -> bool {
    let plain = text.chars().all(|c| c.is_ascii_alphanumeric() || "_-.".contains(c));
    plain && text.starts_with(|c: char| c.is_ascii_alphanumeric()) && text.len() <= 64
}

impl Named {
    /// What is wrong with it, that its form does not tell.
    fn fault(&self, name: &str) -> Option<String> {
        if !is_name(name) {
            return Some(format!("\"{}\" can be no name: it needs letters, digits, _, - and . only", printable(name)));
        }
        if self.password_command.is_some() && self.password_file.is_some() {
            return Some(format!("repository {name} has both a password-command and a password-file"));
        }
        let wrong = super::address::Address::parse(self.address.as_ref()).err()?;
        Some(format!("the address of repository {name} is none: {wrong}"))
    }

    /// What is left out, beside what `options` leave out.
    #[must_use]
    pub fn filtered(&self, mut options: FilterOptions) -> FilterOptions {
        options.exclude.extend(self.exclude.iter().cloned());
        options.iexclude.extend(self.iexclude.iter().cloned());
        options.exclude_files.extend(self.exclude_file.iter().cloned());
        options.exclude_if_present.extend(self.exclude_if_present.iter().map(Into::into));
        options.exclude_caches |= self.exclude_caches;
        options.exclude_larger_than = options.exclude_larger_than.or(self.exclude_larger_than);
        options.one_file_system |= self.one_file_system;
        options
    }

    /// What stays.
    #[must_use]
    pub fn policy(&self) -> Option<Policy> {
        self.keep.as_ref().map(|keep| Policy {
            last: keep.last,
            hourly: keep.hourly,
            daily: keep.daily,
            weekly: keep.weekly,
            monthly: keep.monthly,
            yearly: keep.yearly,
            within: keep.within,
            labels: keep.label.iter().map(|label| label.as_bytes().to_vec()).collect(),
        })
    }
}

fn one_or_many<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<PathBuf>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged, expecting = "a path, or a list of paths")]
    enum OneOrMany {
        One(PathBuf),
        Many(Vec<PathBuf>),
    }
    Ok(match OneOrMany::deserialize(from)? {
        OneOrMany::One(path) => vec![path],
        OneOrMany::Many(paths) => paths,
    })
}

fn rates<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Timetable>, D::Error> {
    timetable::parse(&String::deserialize(from)?).map(Some).map_err(D::Error::custom)
}

fn size<'de, D: Deserializer<'de>>(from: D) -> Result<Option<u64>, D::Error> {
    values::size(&String::deserialize(from)?).map(Some).map_err(D::Error::custom)
}

fn period<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Duration>, D::Error> {
    values::period(&String::deserialize(from)?).map(Some).map_err(D::Error::custom)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(text: &str) -> (Option<usize>, String) {
        let error = Config::parse(text).unwrap_err();
        (error.line, error.message)
    }

    #[test]
    fn an_unknown_key_is_named_with_its_line() {
        let (line, message) = error("[repository.home]\naddress = \"h:d\"\n\npasword-file = \"x\"\n");
        assert_eq!(line, Some(4));
        assert!(message.contains("pasword-file"), "{message}");
        let (line, message) = error("[repository.home]\naddress = \"h:d\"\n[repository.home.keep]\nfortnightly = 1\n");
        assert!(line == Some(4) && message.contains("fortnightly"), "{line:?} {message}");
        let (line, message) = error("[repo.home]\naddress = \"h:d\"\n");
        assert!(line == Some(1) && message.contains("repo"), "{line:?} {message}");
    }

    #[test]
    fn a_value_that_makes_no_sense_is_named_with_its_line() {
        let wrong = ["limit-up = \"fast\"", "exclude-larger-than = \"big\"", "keep.within = \"soon\"", "source = 3"];
        for value in wrong {
            let (line, message) = error(&format!("[repository.home]\naddress = \"h:d\"\n{value}\n"));
            assert_eq!(line, Some(3), "{value}: {message}");
        }
        assert!(error("[repository.home]\nsource = \"x\"\n").1.contains("address"));
        assert_eq!(error("[repository.home\n").0, Some(1));
    }

    #[test]
    fn what_could_be_taken_for_something_else_is_no_name_and_no_address() {
        for name in ["\"a/b\"", "\"a:b\"", "\"-x\"", "\"\"", "\"a b\"", "\"@x\""] {
            assert!(error(&format!("[repository.{name}]\naddress = \"h:d\"\n")).1.contains("can be no name"), "{name}");
        }
        assert!(error("[repository.home]\naddress = \"http://x/y\"\n").1.contains("repository home"));
        let both = "[repository.home]\naddress = \"h:d\"\npassword-file = \"x\"\npassword-command = \"y\"\n";
        assert!(error(both).1.contains("both"));
    }

    #[test]
    fn paths_are_taken_from_home_or_from_where_the_file_lies() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("c.toml");
        let text = "[repository.a]\naddress = \"~/r\"\nsource = [\"~\", \"x\", \"/y\"]\nkey-file = \"~/k\"\n";
        std::fs::write(&path, text).unwrap();
        let config = Config::read(&path, Some(Path::new("/home/me"))).ok().unwrap();
        let named = &config.repository["a"];
        assert_eq!(named.address, "/home/me/r");
        assert_eq!(named.source, ["/home/me".into(), dir.path().join("x"), "/y".into()]);
        assert_eq!(named.key_file, Some("/home/me/k".into()));
    }

    #[test]
    fn every_example_of_the_page_is_understood_and_every_key_is_on_it() {
        let page = include_str!("../../docs/config.md");
        let examples: Vec<&str> = page.split("```toml\n").skip(1).filter_map(|part| part.split("```").next()).collect();
        assert!(examples.len() >= 3);
        for example in &examples {
            let config = Config::parse(example).unwrap_or_else(|error| panic!("{example}: {error:?}"));
            assert!(!config.repository.is_empty());
        }
        // The reader itself lists the keys that it knows.
        let known = error("[repository.home]\naddress = \"h:d\"\nnonsense = 1\n").1;
        let keep = error("[repository.home]\naddress = \"h:d\"\nkeep.nonsense = 1\n").1;
        let keys: Vec<&str> = known.split('`').chain(keep.split('`')).skip(1).step_by(2).collect();
        assert!(keys.len() > 20, "{keys:?}");
        for key in keys.iter().filter(|key| **key != "nonsense" && !key.contains(' ')) {
            assert!(page.contains(&format!("`{key}`")), "docs/config.md lacks `{key}`");
        }
    }
}
