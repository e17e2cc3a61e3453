//! What a sync leaves out beside what it was told to: its own repository. And patterns that were meant otherwise.

use super::{address::Address, failure::Failure};
use std::{
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

/// A pattern that leaves the repository out, where it lies in the source.
///
/// # Errors
/// Where the source is the repository, or lies in it.
pub fn own_repository(source: &Path, address: &Address) -> Result<Option<String>, Failure> {
    let Address::Directory(repository) = address else { return Ok(None) };
    let (Ok(source), Ok(repository)) = (source.canonicalize(), repository.canonicalize()) else { return Ok(None) };
    if source.starts_with(&repository) {
        return Err(
            Failure::usage("cannot sync a repository into itself").hint("the order is: nfz sync SOURCE ADDRESS")
        );
    }
    let Ok(inside) = repository.strip_prefix(&source) else { return Ok(None) };
    let inside = inside.to_str().ok_or_else(|| {
        Failure::usage("cannot leave the repository out of the source: its path is not UTF-8").hint("move it elsewhere")
    })?;
    Ok(Some(format!("/{}/", escaped(inside))))
}

/// The pattern that matches `path` and nothing else.
fn escaped(path: &str) -> String {
    let special = |c: char| "\\*?[]{}! #".contains(c);
    path.chars().flat_map(|c| special(c).then_some('\\').into_iter().chain([c])).collect()
}

/// Refuses patterns that could match nothing: absolute paths of this machine, and `./…`.
///
/// # Errors
/// [`Failure`], with the pattern that was meant.
pub fn check_patterns<'a>(source: &Path, patterns: impl Iterator<Item = &'a String>) -> Result<(), Failure> {
    let source: PathBuf = source.canonicalize().unwrap_or_else(|_| source.to_path_buf());
    for pattern in patterns {
        let plain = pattern.strip_prefix('!').unwrap_or(pattern);
        let meant = match plain.strip_prefix("./") {
            Some(rest) => Some(format!("/{rest}")),
            None => plain.as_bytes().strip_prefix(source.as_os_str().as_bytes()).and_then(|rest| {
                let is_below = rest.starts_with(b"/") && source != Path::new("/");
                is_below.then(|| String::from_utf8_lossy(rest).into_owned())
            }),
        };
        if let Some(meant) = meant {
            return Err(Failure::usage(format!("the pattern {pattern} would match nothing"))
                .hint(format!("patterns begin at the source: write {meant}")));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repository_in_the_source_is_left_out_and_one_around_it_is_refused() {
        let home = tempfile::tempdir().unwrap();
        let inside = home.path().join("a [b]");
        std::fs::create_dir(&inside).unwrap();
        let pattern = own_repository(home.path(), &Address::Directory(inside.clone())).ok().flatten();
        assert_eq!(pattern.as_deref(), Some("/a\\ \\[b\\]/"));
        assert!(own_repository(&inside, &Address::Directory(home.path().to_path_buf())).is_err());
        assert!(own_repository(&inside, &Address::Directory(inside.clone())).is_err());
        assert!(own_repository(&inside, &Address::Directory("/proc".into())).ok().flatten().is_none());
    }

    #[test]
    fn a_pattern_that_could_match_nothing_is_refused() {
        let home = tempfile::tempdir().unwrap();
        let absolute = home.path().canonicalize().unwrap().join("x").display().to_string();
        let check = |pattern: &str| check_patterns(home.path(), [pattern.to_owned()].iter()).is_err();
        assert!(check("./x") && check(&absolute) && check(&format!("!{absolute}")));
        assert!(!check("x") && !check("/x") && !check("*.tmp") && !check("a/./b"));
    }
}
