//! What decodes as a configuration encodes to the same bytes, and writers accept no more than readers.
#![no_main]

use libfuzzer_sys::fuzz_target;
use nfz::format::config::Config;

fuzz_target!(|bytes: &[u8]| {
    let read = Config::decode_for_reading(bytes);
    if let Ok(config) = &read {
        assert_eq!(config.encode().unwrap(), bytes);
    }
    if let Ok(config) = Config::decode(bytes) {
        assert_eq!(read, Ok(config));
    }
});
