//! Paths of entries: bytes, relative to the source, `/` between components (`spec/5-manifest.md`).
//!
//! A [`TreePath`] that exists is harmless: it has no `..`, no empty component, no NUL, and is not absolute.

use super::limits::{COMPONENT_MAX, PATH_MAX};
use std::{cmp::Ordering, fmt};

/// The path of an entry. The empty path is the source itself.
#[derive(Clone, PartialEq, Eq, Hash, Default)]
pub struct TreePath(Box<[u8]>);

/// Why some bytes are no path of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// It begins or ends with `/`, or has two in a row.
    #[error("it has an empty component")]
    EmptyComponent,
    /// A component is `.` or `..`.
    #[error("it has a component `.` or `..`")]
    Dots,
    /// It holds a zero byte.
    #[error("it holds a zero byte")]
    Nul,
    /// The path or a component of it is longer than any file system's.
    #[error("it is too long")]
    TooLong,
}

impl TreePath {
    /// The source itself.
    #[must_use]
    pub fn root() -> Self {
        Self::default()
    }

    /// Takes `bytes` as a path.
    ///
    /// # Errors
    /// [`PathError`] where the bytes could mean a place outside the tree, or nothing at all.
    pub fn new(bytes: impl Into<Box<[u8]>>) -> Result<Self, PathError> {
        let bytes = bytes.into();
        if bytes.len() > PATH_MAX {
            return Err(PathError::TooLong);
        }
        if !bytes.is_empty() {
            bytes.split(|&byte| byte == b'/').try_for_each(check_component)?;
        }
        Ok(Self(bytes))
    }

    /// The path of `name` in the directory `self`.
    ///
    /// # Errors
    /// [`PathError`] where `name` is not one component, or the whole too long.
    pub fn join(&self, name: &[u8]) -> Result<Self, PathError> {
        if name.contains(&b'/') {
            return Err(PathError::EmptyComponent);
        }
        check_component(name)?;
        let separator: &[u8] = if self.is_root() { b"" } else { b"/" };
        let bytes = [&self.0, separator, name].concat();
        if bytes.len() > PATH_MAX { Err(PathError::TooLong) } else { Ok(Self(bytes.into())) }
    }

    /// Whether this is the source itself.
    #[must_use]
    pub fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    /// Its bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Its components, outermost first; none for the root.
    pub fn components(&self) -> impl Iterator<Item = &[u8]> {
        self.0.split(|&byte| byte == b'/').filter(|component| !component.is_empty())
    }

    /// The directory that holds it, and its last component; `None` for the root.
    #[must_use]
    pub fn split_last(&self) -> Option<(TreePath, &[u8])> {
        if self.is_root() {
            return None;
        }
        Some(match self.0.iter().rposition(|&byte| byte == b'/') {
            Some(at) => (Self(self.0[..at].into()), &self.0[at + 1..]),
            None => (Self::root(), &self.0),
        })
    }

    /// Whether `self` is `other` or lies below it.
    #[must_use]
    pub fn starts_with(&self, other: &TreePath) -> bool {
        other.is_root() || self.0.strip_prefix(&*other.0).is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
    }
}

fn check_component(component: &[u8]) -> Result<(), PathError> {
    match component {
        b"" => Err(PathError::EmptyComponent),
        b"." | b".." => Err(PathError::Dots),
        _ if component.contains(&0) => Err(PathError::Nul),
        _ if component.len() > COMPONENT_MAX => Err(PathError::TooLong),
        _ => Ok(()),
    }
}

/// Depth first: a directory comes before what it holds, and its subtree is one range. That is the order of bytes
/// with `/` taken as the lowest.
impl Ord for TreePath {
    fn cmp(&self, other: &Self) -> Ordering {
        let common = self.0.iter().zip(&other.0).take_while(|(a, b)| a == b).count();
        let rank = |path: &Self| path.0.get(common).map(|&byte| if byte == b'/' { 0 } else { u16::from(byte) + 1 });
        rank(self).cmp(&rank(other))
    }
}

impl PartialOrd for TreePath {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// As a person may read it: UTF-8 kept, control characters and stray bytes escaped, `.` for the root.
impl fmt::Display for TreePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_root() { f.write_str(".") } else { write!(f, "{}", Escaped(&self.0)) }
    }
}

impl fmt::Debug for TreePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{self}\"")
    }
}

/// Shows bytes from outside so that no terminal obeys them: `\x1b` for an escape, `\xff` for a byte that is no UTF-8,
/// `\\` for a backslash.
pub struct Escaped<'a>(pub &'a [u8]);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for part in self.0.utf8_chunks() {
            for character in part.valid().chars() {
                match character {
                    '\\' => f.write_str("\\\\")?,
                    c if is_unprintable(c) => write!(f, "{}", c.escape_default())?,
                    c => write!(f, "{c}")?,
                }
            }
            for byte in part.invalid() {
                write!(f, "\\x{byte:02x}")?;
            }
        }
        Ok(())
    }
}

/// Control characters, and those that turn the direction of text.
fn is_unprintable(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2028}' | '\u{2029}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn path(text: &str) -> TreePath {
        TreePath::new(text.as_bytes()).unwrap()
    }

    #[test]
    fn what_could_lead_outside_is_no_path() {
        for bad in ["/", "/a", "a/", "a//b", ".", "..", "a/../b", "../a", "a/.", "a\0b"] {
            assert!(TreePath::new(bad.as_bytes()).is_err(), "{bad:?}");
        }
        assert_eq!(path("a").join(b"b/c"), Err(PathError::EmptyComponent));
        assert_eq!(path("a").join(b".."), Err(PathError::Dots));
        assert!(TreePath::new(vec![b'a'; COMPONENT_MAX + 1]).is_err());
    }

    #[test]
    fn a_directory_and_all_below_it_are_one_range() {
        let mut paths = ["a-b", "a", "a/c", "a.b", "a/b/c", "a/b", "", "A", "a/b.c"].map(path);
        paths.sort();
        assert_eq!(paths, ["", "A", "a", "a/b", "a/b/c", "a/b.c", "a/c", "a-b", "a.b"].map(path));
    }

    #[test]
    fn terminal_escapes_are_shown_and_not_obeyed() {
        let bad = TreePath::new(&b"a\x1b[31m\\\xff\n\xe2\x80\xae"[..]).unwrap();
        assert_eq!(bad.to_string(), "a\\u{1b}[31m\\\\\\xff\\n\\u{202e}");
    }

    proptest! {
        #[test]
        fn order_is_that_of_the_components(a in "[a./-]{0,8}", b in "[a./-]{0,8}") {
            if let (Ok(a), Ok(b)) = (TreePath::new(a.as_bytes()), TreePath::new(b.as_bytes())) {
                prop_assert_eq!(a.cmp(&b), a.components().cmp(b.components()));
            }
        }

        #[test]
        fn a_path_is_its_directory_and_its_name(text in "[a-c]{1,3}(/[a-c]{1,3}){0,4}") {
            let whole = path(&text);
            let (directory, name) = whole.split_last().unwrap();
            prop_assert_eq!(directory.join(name).unwrap(), whole.clone());
            prop_assert!(whole.starts_with(&directory) && !directory.starts_with(&whole));
        }
    }
}
