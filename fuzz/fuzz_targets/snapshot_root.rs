//! What decodes as a snapshot root encodes to the same bytes, and its manifest begins with the source.
#![no_main]

use libfuzzer_sys::fuzz_target;
use nfz::format::snapshot::SnapshotRoot;

fuzz_target!(|bytes: &[u8]| {
    let Ok(root) = SnapshotRoot::decode(bytes) else { return };
    assert_eq!(root.encode().unwrap(), bytes);
    assert!(root.segments[0].first_path.is_root());
    assert!(root.segments.is_sorted_by(|a, b| a.first_path <= b.first_path));
});
