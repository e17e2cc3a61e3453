//! What is sealed opens, and what is altered afterwards does not; arbitrary bytes never open.
#![no_main]

use libfuzzer_sys::fuzz_target;
use nfz::format::{
    id::{Kind, ObjectId},
    keys::Keys,
    seal::{Compression, Opener, Sealer},
};
use zeroize::Zeroizing;

fuzz_target!(|input: (u32, u8, &[u8])| {
    let (at, change, bytes) = input;
    let keys = Keys::derive([1; 16], &[Zeroizing::new([2; 32])]).unwrap();
    let mut opener = Opener::default();
    assert!(opener.open_kind(&keys, Kind::Data, ObjectId([0; 32]), bytes).is_err());
    if bytes.is_empty() {
        return;
    }
    let id = keys.object_id(Kind::Segment, bytes);
    let mut object = Sealer::new(Compression::FAST).seal_kind(&keys, Kind::Segment, id, bytes).unwrap();
    assert_eq!(opener.open_kind(&keys, Kind::Segment, id, &object).unwrap(), bytes);
    if change != 0 {
        let length = object.len();
        object[at as usize % length] ^= change;
        assert!(opener.open_kind(&keys, Kind::Segment, id, &object).is_err());
    }
});
