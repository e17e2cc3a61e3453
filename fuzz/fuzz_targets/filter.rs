//! Whatever patterns say, the source itself is kept; what they say does not change; and a path that is named exactly is left out, and no other.
#![no_main]

use libfuzzer_sys::fuzz_target;
use nfz::{
    engine::filter::{Filter, FilterOptions},
    format::path::TreePath,
};

fn filter(patterns: &[&str], any_case: bool) -> Option<Filter> {
    let patterns = patterns.iter().map(|pattern| (*pattern).to_owned()).collect();
    let mut options = FilterOptions::default();
    if any_case { options.iexclude = patterns } else { options.exclude = patterns }
    Filter::new(&options).ok()
}

fuzz_target!(|input: (&str, &str, &[u8], bool)| {
    let (pattern, other, path, any_case) = input;
    let Ok(path) = TreePath::new(path) else { return };
    if let Some(filter) = filter(&[pattern, other], any_case) {
        assert!(!filter.excludes(&TreePath::root(), true));
        for is_dir in [false, true] {
            assert_eq!(filter.excludes(&path, is_dir), filter.excludes(&path, is_dir));
        }
    }
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'/';
    if path.is_root() || !path.as_bytes().iter().all(plain) {
        return;
    }
    let named = filter(&[&format!("/{path}")], any_case).unwrap();
    let longer = TreePath::new([path.as_bytes(), b"x"].concat()).unwrap();
    assert!(named.excludes(&path, true) && named.excludes(&path, false) && !named.excludes(&longer, true));
});
