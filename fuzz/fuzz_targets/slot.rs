//! A slot that is read asks for nothing absurd, and is kept as it was. One without a password does not open by chance.
#![no_main]

use libfuzzer_sys::fuzz_target;
use nfz::format::keys::{Credentials, Slot};

fuzz_target!(|bytes: &[u8]| {
    let Ok(slot) = Slot::parse(bytes) else { return };
    assert_eq!(slot.as_bytes(), bytes);
    let cost = slot.cost();
    assert!(cost.is_acceptable() || (cost.memory_kib, cost.passes, cost.lanes) == (0, 0, 0));
    // Without a password nothing is stretched, so this is quick.
    let key_file = Some(Credentials::key_file_secret(b"file"));
    assert!(slot.open(&Credentials { password: None, key_file }).is_err());
});
