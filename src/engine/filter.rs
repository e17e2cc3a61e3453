//! What a sync leaves out, and what a restore takes.
//!
//! Patterns are those of `.gitignore`, relative to the source, matched on bytes: no name need be UTF-8. Braces group
//! alternatives (`*.{jpg,png}`), which git does not know. The last pattern that matches decides; `!` takes back what an
//! earlier one left out, but not below a directory that is left out, for nobody looks there.
//!
//! Order: patterns of exclude files first, then `exclude`, then `iexclude`, so the command line has the last word.
//!
//! A directory that is tagged (`CACHEDIR.TAG` with its signature, or a name of `exclude_if_present`) keeps its own entry
//! and the tags, as restic keeps them: a restored cache is still known as one.

use crate::format::path::{Escaped, TreePath};
use ignore::gitignore::{Gitignore, GitignoreBuilder};
use std::{
    ffi::{OsStr, OsString},
    fs::File,
    io::{self, Read},
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

/// The most that is read of an exclude file, in bytes.
const FILE_MAX: u64 = 16 << 20;
/// The name that marks a cache.
pub(super) const CACHE_TAG: &[u8] = b"CACHEDIR.TAG";
/// How the file of that name begins where it is meant (<https://bford.info/cachedir/>).
pub(super) const CACHE_SIGNATURE: &[u8; 43] = b"Signature: 8a477f597d28d172789f06886806bc55";

/// What to leave out, as it was asked for.
#[derive(Clone, Debug, Default)]
pub struct FilterOptions {
    /// Patterns.
    pub exclude: Vec<String>,
    /// Patterns for which `A` is `a`.
    pub iexclude: Vec<String>,
    /// Files with a pattern on each line; empty lines and those that begin with `#` are skipped.
    pub exclude_files: Vec<PathBuf>,
    /// A directory that holds one of these names is left empty but for them.
    pub exclude_if_present: Vec<OsString>,
    /// Whether directories tagged as caches are left empty but for the tag.
    pub exclude_caches: bool,
    /// Regular files of more bytes are left out.
    pub exclude_larger_than: Option<u64>,
    /// Whether directories on which another file system is mounted are left empty.
    pub one_file_system: bool,
}

/// Why the options make no filter.
#[derive(Debug, thiserror::Error)]
pub enum FilterError {
    /// An exclude file cannot be read.
    #[error("cannot read the exclude file {}: {source}", Escaped(path.as_os_str().as_bytes()))]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A pattern means nothing.
    #[error("{place}: bad pattern {pattern:?}: {why}")]
    Pattern {
        /// Where it stands: a file and line, or an option's name.
        place: String,
        /// The pattern.
        pattern: String,
        /// What is wrong with it.
        why: String,
    },
    /// A name that should be looked for in directories is none.
    #[error("{0:?} is not the name of a file in a directory")]
    TagName(OsString),
}

/// What a sync leaves out.
#[derive(Clone, Debug)]
pub struct Filter {
    patterns: Gitignore,
    tags: Vec<Vec<u8>>,
    caches: bool,
    larger_than: Option<u64>,
    one_file_system: bool,
}

/// Leaves nothing out.
impl Default for Filter {
    fn default() -> Self {
        let patterns = Gitignore::empty();
        Self { patterns, tags: Vec::new(), caches: false, larger_than: None, one_file_system: false }
    }
}

impl Filter {
    /// Reads the exclude files and understands all patterns.
    ///
    /// # Errors
    /// [`FilterError`], naming the file and the pattern.
    pub fn new(options: &FilterOptions) -> Result<Self, FilterError> {
        let mut patterns = Patterns::default();
        options.exclude_files.iter().try_for_each(|path| patterns.add_file(path))?;
        patterns.add_options("--exclude", &options.exclude, false)?;
        patterns.add_options("--iexclude", &options.iexclude, true)?;
        Ok(Self {
            patterns: patterns.build()?,
            tags: options.exclude_if_present.iter().map(tag_name).collect::<Result<_, _>>()?,
            caches: options.exclude_caches,
            larger_than: options.exclude_larger_than,
            one_file_system: options.one_file_system,
        })
    }

    /// Whether a pattern leaves out `path`, and with it all below. The source itself never is.
    #[must_use]
    pub fn excludes(&self, path: &TreePath, is_dir: bool) -> bool {
        !path.is_root() && matches(&self.patterns, path, is_dir).is_ignore()
    }

    /// Whether a regular file of `size` bytes is left out for its size.
    #[must_use]
    pub fn is_too_large(&self, size: u64) -> bool {
        self.larger_than.is_some_and(|most| size > most)
    }

    /// Names that mark the directory that holds them, whatever they are.
    pub(super) fn tags(&self) -> &[Vec<u8>] {
        &self.tags
    }

    /// Whether `CACHEDIR.TAG` is to be looked into.
    pub(super) fn looks_for_caches(&self) -> bool {
        self.caches
    }

    /// Whether mounted file systems are left out.
    pub(super) fn stays_on_one_file_system(&self) -> bool {
        self.one_file_system
    }
}

/// Which entries of a manifest a restore takes. The restore makes the directories above them as needed.
#[derive(Clone, Debug)]
pub struct Selection {
    include: Option<Gitignore>,
    exclude: Gitignore,
}

/// Takes everything.
impl Default for Selection {
    fn default() -> Self {
        Self { include: None, exclude: Gitignore::empty() }
    }
}

impl Selection {
    /// Takes what `include` matches and all below, or everything where it is empty; of that, nothing that `exclude`
    /// matches, nor anything below.
    ///
    /// # Errors
    /// [`FilterError::Pattern`] where a pattern means nothing.
    pub fn new(include: &[String], exclude: &[String]) -> Result<Self, FilterError> {
        let mut excluded = Patterns::default();
        excluded.add_options("--exclude", exclude, false)?;
        let mut included = Patterns::default();
        included.add_options("--include", include, false)?;
        let include = if include.is_empty() { None } else { Some(included.build()?) };
        Ok(Self { include, exclude: excluded.build()? })
    }

    /// Whether all is taken.
    #[must_use]
    pub fn is_everything(&self) -> bool {
        self.include.is_none() && self.exclude.is_empty()
    }

    /// Whether the entry `path` is taken.
    #[must_use]
    pub fn selects(&self, path: &TreePath, is_dir: bool) -> bool {
        if self.is_everything() {
            return true;
        }
        let mut included = self.include.is_none();
        for (place, is_dir) in places_down_to(path, is_dir) {
            if matches(&self.exclude, &place, is_dir).is_ignore() {
                return false;
            }
            let verdict = self.include.as_ref().map(|include| matches(include, &place, is_dir));
            included = match verdict {
                Some(ignore::Match::Ignore(())) => true,
                Some(ignore::Match::Whitelist(())) => false,
                _ => included,
            };
        }
        included
    }
}

/// `a`, `a/b`, `a/b/c` for `a/b/c`: all but the last are directories.
fn places_down_to(path: &TreePath, is_dir: bool) -> impl Iterator<Item = (TreePath, bool)> {
    let mut places = Vec::new();
    let mut at = Some((path.clone(), is_dir));
    while let Some(place) = at.take_if(|(path, _)| !path.is_root()) {
        at = place.0.split_last().map(|(above, _)| (above, true));
        places.push(place);
    }
    places.into_iter().rev()
}

fn matches(patterns: &Gitignore, path: &TreePath, is_dir: bool) -> ignore::Match<()> {
    patterns.matched(Path::new(OsStr::from_bytes(path.as_bytes())), is_dir).map(drop)
}

fn tag_name(name: &OsString) -> Result<Vec<u8>, FilterError> {
    let bytes = name.as_bytes();
    match TreePath::root().join(bytes) {
        Ok(_) => Ok(bytes.to_vec()),
        Err(_) => Err(FilterError::TagName(name.clone())),
    }
}

/// Patterns as they come together.
struct Patterns(GitignoreBuilder);

impl Default for Patterns {
    fn default() -> Self {
        // Paths are relative to the source already: nothing is to be stripped from them.
        let mut builder = GitignoreBuilder::new("");
        // A bracket that is never closed is a slip, and a slip that excludes nothing would go unnoticed.
        builder.allow_unclosed_class(false);
        Self(builder)
    }
}

impl Patterns {
    fn add_options(&mut self, option: &str, patterns: &[String], ignore_case: bool) -> Result<(), FilterError> {
        for pattern in patterns {
            // On a command line `#` begins no comment.
            let escaped = if pattern.starts_with('#') { format!("\\{pattern}") } else { pattern.clone() };
            self.add(option, &escaped, ignore_case)?;
        }
        Ok(())
    }

    fn add_file(&mut self, path: &Path) -> Result<(), FilterError> {
        let fail = |source| FilterError::File { path: path.to_path_buf(), source };
        let mut text = Vec::new();
        File::open(path).and_then(|file| file.take(FILE_MAX + 1).read_to_end(&mut text)).map_err(fail)?;
        if text.len() as u64 > FILE_MAX {
            return Err(fail(io::Error::other("it is larger than 16 MiB")));
        }
        let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&text);
        for (number, line) in text.split(|&byte| byte == b'\n').enumerate() {
            let place = format!("{}:{}", Escaped(path.as_os_str().as_bytes()), number + 1);
            let Ok(line) = std::str::from_utf8(line) else {
                return Err(bad(place, &String::from_utf8_lossy(line), "it is not UTF-8"));
            };
            self.add(&place, line, false)?;
        }
        Ok(())
    }

    fn add(&mut self, place: &str, pattern: &str, ignore_case: bool) -> Result<(), FilterError> {
        let added = self.0.case_insensitive(ignore_case).and_then(|builder| builder.add_line(None, pattern));
        added.map(drop).map_err(|error| bad(place.to_owned(), pattern, reason(&error)))
    }

    fn build(&self) -> Result<Gitignore, FilterError> {
        self.0.build().map_err(|error| bad("patterns".to_owned(), "", reason(&error)))
    }
}

fn bad(place: String, pattern: &str, why: impl Into<String>) -> FilterError {
    FilterError::Pattern { place, pattern: pattern.to_owned(), why: why.into() }
}

/// What is wrong, without the pattern, which is named beside it.
fn reason(error: &ignore::Error) -> String {
    match error {
        ignore::Error::Glob { err, .. } => err.clone(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(bytes: impl AsRef<[u8]>) -> TreePath {
        TreePath::new(bytes.as_ref()).unwrap()
    }

    fn strings(patterns: &[&str]) -> Vec<String> {
        patterns.iter().map(|&pattern| pattern.to_owned()).collect()
    }

    fn filter(exclude: &[&str]) -> Filter {
        Filter::new(&FilterOptions { exclude: strings(exclude), ..FilterOptions::default() }).unwrap()
    }

    #[test]
    fn patterns_mean_what_gitignore_says() {
        let filter = filter(&["*.o", "/top", "dir/", "a/*/z", "!keep.o", "#x#"]);
        for excluded in ["x.o", "deep/down/x.o", "top", "a/b/z", "#x#"] {
            assert!(filter.excludes(&path(excluded), false), "{excluded}");
        }
        for kept in ["keep.o", "a/top", "dir", "a/b/c/z", ".o/x", "x"] {
            assert!(!filter.excludes(&path(kept), false), "{kept}");
        }
        assert!(filter.excludes(&path("some/dir"), true));
        assert!(!filter.excludes(&TreePath::root(), true));
        assert!(!Filter::default().excludes(&path("x.o"), false));
    }

    #[test]
    fn the_source_itself_is_never_left_out() {
        assert!(!filter(&["*", "/", "**"]).excludes(&TreePath::root(), true));
    }

    #[test]
    fn names_that_are_no_utf_8_are_matched_by_their_bytes() {
        let filter = filter(&["*.tmp"]);
        assert!(filter.excludes(&path(b"\xff\xfe/\x80.tmp"), false));
        assert!(!filter.excludes(&path(b"\xff\xfe/\x80.tmq"), false));
    }

    #[test]
    fn only_iexclude_forgets_case() {
        let options =
            FilterOptions { exclude: strings(&["*.a"]), iexclude: strings(&["*.b"]), ..FilterOptions::default() };
        let filter = Filter::new(&options).unwrap();
        let excluded = ["x.a", "x.A", "x.b", "x.B"].map(|name| filter.excludes(&path(name), false));
        assert_eq!(excluded, [true, false, true, true]);
    }

    #[test]
    fn the_command_line_has_the_last_word_over_files() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("excludes");
        std::fs::write(&file, "\u{feff}*.log\r\n\n# a comment\n*.tmp \n").unwrap();
        let options =
            FilterOptions { exclude: strings(&["!b.log"]), exclude_files: vec![file], ..FilterOptions::default() };
        let filter = Filter::new(&options).unwrap();
        let excluded = ["a.log", "b.log", "c.tmp", "# a comment"].map(|name| filter.excludes(&path(name), false));
        assert_eq!(excluded, [true, false, true, false]);
    }

    #[test]
    fn a_bad_pattern_is_named_with_its_file_and_line() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("excludes");
        std::fs::write(&file, "fine\n[z-a]\n").unwrap();
        let fail = |options: FilterOptions| Filter::new(&options).unwrap_err().to_string();
        let message = fail(FilterOptions { exclude_files: vec![file], ..FilterOptions::default() });
        assert!(message.contains("excludes:2") && message.contains("[z-a]"), "{message}");
        let message = fail(FilterOptions { exclude: strings(&["a[b"]), ..FilterOptions::default() });
        assert!(message.contains("--exclude") && message.contains("a[b"), "{message}");
        let message = fail(FilterOptions { exclude_files: vec!["/no/such".into()], ..FilterOptions::default() });
        assert!(message.contains("/no/such"), "{message}");
        let nowhere = FilterOptions { exclude_if_present: vec!["a/b".into()], ..FilterOptions::default() };
        assert!(matches!(Filter::new(&nowhere), Err(FilterError::TagName(_))));
    }

    #[test]
    fn a_restore_takes_what_is_included_and_all_below_but_nothing_excluded() {
        let selection = Selection::new(&strings(&["/home/ann", "*.txt"]), &strings(&["cache/"])).unwrap();
        for taken in ["home/ann", "home/ann/x/y", "etc/a.txt"] {
            assert!(selection.selects(&path(taken), false), "{taken}");
        }
        for left in ["home", "home/bob", "home/ann/cache/x", "cache/a.txt"] {
            assert!(!selection.selects(&path(left), false), "{left}");
        }
        assert!(!selection.selects(&TreePath::root(), true));
        assert!(Selection::default().selects(&TreePath::root(), true));
        let excluding = Selection::new(&[], &strings(&["*.o"])).unwrap();
        assert!(excluding.selects(&path("a/b"), false) && !excluding.selects(&path("a/b.o"), false));
    }
}
