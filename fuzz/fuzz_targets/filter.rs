//! Whatever patterns say, the source itself is kept, and without an exception what lies below something left out is left out too.
#![no_main]

use libfuzzer_sys::fuzz_target;
use nfz::{
    engine::filter::{Filter, FilterOptions},
    format::path::TreePath,
};

fuzz_target!(|input: (&str, &str, &[u8], bool)| {
    let (pattern, other, path, any_case) = input;
    let patterns = vec![pattern.to_owned(), other.to_owned()];
    let mut options = FilterOptions::default();
    if any_case { options.iexclude = patterns } else { options.exclude = patterns }
    let Ok(filter) = Filter::new(&options) else { return };
    assert!(!filter.excludes(&TreePath::root(), true));
    let Ok(path) = TreePath::new(path) else { return };
    let is_left_out = filter.excludes(&path, true);
    assert_eq!(is_left_out, filter.excludes(&path, true));
    if is_left_out && !pattern.contains('!') && !other.contains('!') && !path.is_root() {
        let below = path.join(b"below").unwrap();
        assert!(filter.excludes(&below, false) && filter.excludes(&below, true));
    }
});
