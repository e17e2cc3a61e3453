//! Paths inside a snapshot, as they are typed: `./a/`, `a` and `a//` all mean `a`. Pure.

use super::failure::Failure;
use crate::format::path::{Escaped, TreePath};
use std::{ffi::OsStr, os::unix::ffi::OsStrExt};

/// Reads a PATH argument.
///
/// # Errors
/// Where it is absolute, leads out of the source, or is too long.
pub fn parse(text: &OsStr) -> Result<TreePath, Failure> {
    let bytes = text.as_bytes();
    let wrong = |why: &str| {
        Failure::usage(format!("cannot take \"{}\" for a PATH in a snapshot: {why}", Escaped(bytes)))
            .hint("PATHs are relative to the source; nfz ls shows what there is")
    };
    match bytes {
        b"" => return Err(wrong("it is empty")),
        [b'/', ..] => return Err(wrong("it is absolute")),
        _ => {}
    }
    let kept: Vec<&[u8]> = bytes.split(|&byte| byte == b'/').filter(|part| ![&b""[..], b"."].contains(part)).collect();
    TreePath::new(kept.join(&b'/')).map_err(|error| wrong(&error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn shown(text: &str) -> Option<String> {
        parse(OsStr::new(text)).ok().map(|path| path.to_string())
    }

    #[test]
    fn ways_to_type_a_path_mean_the_same() {
        for text in ["a/b", "./a/b", "a/b/", "a//b", "a/./b"] {
            assert_eq!(shown(text).as_deref(), Some("a/b"), "{text}");
        }
        assert_eq!(shown(".").as_deref(), Some("."));
        assert_eq!(shown("./").as_deref(), Some("."));
    }

    #[test]
    fn what_leads_out_of_the_source_is_refused() {
        for text in ["", "/", "/a", "..", "a/../b", "../a"] {
            assert_eq!(shown(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn a_path_that_is_shown_is_read_as_the_same(text in "[a-c./]{1,12}") {
            if let Some(path) = shown(&text) {
                prop_assert_eq!(shown(&path), Some(path.clone()));
            }
        }
    }
}
