//! A keyring that is read is kept as it was, and opens with no secret by chance. Words that are no kit are refused.
#![no_main]

use libfuzzer_sys::fuzz_target;
use nfz::format::{keyring::Keyring, kit};
use zeroize::Zeroizing;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(keyring) = Keyring::parse(bytes) {
        assert_eq!(keyring.as_bytes(), bytes);
        assert!(keyring.open(&Zeroizing::new([1; 32])).is_err());
    }
    if let Ok(text) = std::str::from_utf8(bytes) {
        let words: Vec<&str> = text.split_whitespace().collect();
        assert!(kit::read(&[0; 16], &words).is_err());
    }
});
