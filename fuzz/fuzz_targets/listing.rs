//! What a server sends, in whatever pieces, comes out of the guard the same: no packet is longer than it may be, no list of names promises
//! more than it can hold, and a second look changes nothing.
#![no_main]

use libfuzzer_sys::fuzz_target;
use nfz::store::sftp::guarded;

fuzz_target!(|input: (u8, Vec<u8>)| {
    let (piece, bytes) = input;
    let whole = guarded(&bytes, usize::MAX);
    assert_eq!(whole, guarded(&bytes, usize::from(piece) + 1));
    let Ok(passed) = whole else { return };
    assert_eq!(passed.len(), bytes.len());
    assert_eq!(guarded(&passed, usize::MAX).as_ref(), Ok(&passed));
    let mut rest = &passed[..];
    while let Some((length, after)) = rest.split_first_chunk::<4>() {
        let length = u32::from_be_bytes(*length) as usize;
        assert!(length <= 4 << 20);
        if let [104, _, _, _, _, a, b, c, d, ..] = after {
            assert!(u32::from_be_bytes([*a, *b, *c, *d]) as usize * 12 <= length);
        }
        rest = after.get(length..).unwrap_or(&[]);
    }
});
