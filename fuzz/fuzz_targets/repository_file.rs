//! A repository file that tells an id tells the one that stands in it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use nfz::format::repository_file::{parse, text};

fuzz_target!(|bytes: &[u8]| {
    let Ok(id) = parse(bytes) else { return };
    let written = text(&id);
    let own = written.split("\n\n").next().unwrap();
    assert!(bytes.starts_with(own.as_bytes()));
    assert_eq!(parse(written.as_bytes()), Ok(id));
});
