//! What decodes as a segment encodes to the same bytes, its paths ascend, and none leads outside.
#![no_main]

use libfuzzer_sys::fuzz_target;
use nfz::format::manifest::{Content, Segment};

fuzz_target!(|bytes: &[u8]| {
    let Ok(segment) = Segment::decode(bytes) else { return };
    assert_eq!(segment.encode().unwrap(), bytes);
    assert!(segment.entries.is_sorted_by(|a, b| a.path <= b.path));
    for entry in &segment.entries {
        assert!(entry.path.components().all(|component| component != b".." && component != b"."));
        let Some(file) = entry.file() else { continue };
        let data = file.data_length(&segment.chunks);
        assert!(file.span(data).unwrap() <= entry.size());
        if let Content::Packed { chunk, offset, length, .. } = file.content {
            assert!(u64::from(offset) + u64::from(length) <= u64::from(segment.chunks[chunk as usize].plain));
        }
    }
});
