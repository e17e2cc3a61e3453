//! A file name that is ours is written in one way only, and leads to the directory where it was found.
#![no_main]

use libfuzzer_sys::fuzz_target;
use nfz::format::name::{Dir, Name};

fuzz_target!(|input: (u8, u8, &str)| {
    let (place, shard, file_name) = input;
    let places =
        [Dir::Root, Dir::Keys, Dir::Config, Dir::Chunks, Dir::Shard(shard), Dir::Snapshots, Dir::Trash, Dir::Tmp];
    let dir = places[usize::from(place) % places.len()];
    let Some(name) = Name::parse(dir, file_name) else { return };
    assert_eq!(name.dir(), dir);
    assert_eq!(name.file_name(), file_name);
    assert!(!name.path().contains("..") && !name.path().starts_with('/'));
});
