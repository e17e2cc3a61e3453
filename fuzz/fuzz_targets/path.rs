//! A path that is one stays below its source, survives being taken apart, and sorts as its components do.
#![no_main]

use libfuzzer_sys::fuzz_target;
use nfz::format::path::TreePath;
use std::{
    ffi::OsStr,
    os::unix::ffi::OsStrExt,
    path::{Component, Path},
};

fuzz_target!(|bytes: (&[u8], &[u8])| {
    let Ok(path) = TreePath::new(bytes.0) else { return };
    assert_eq!(path.as_bytes(), bytes.0);
    let native = Path::new(OsStr::from_bytes(bytes.0));
    assert!(native.components().all(|component| matches!(component, Component::Normal(_))));
    assert_eq!(native.components().count(), path.components().count());
    assert!(!path.to_string().chars().any(char::is_control));
    if let Some((directory, name)) = path.split_last() {
        assert_eq!(directory.join(name).unwrap(), path);
        assert!(path.starts_with(&directory) && directory < path);
    }
    if let Ok(other) = TreePath::new(bytes.1) {
        assert_eq!(path.cmp(&other), path.components().cmp(other.components()));
    }
});
