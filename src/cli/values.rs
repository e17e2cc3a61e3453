//! Values of options: sizes, percentages, durations, levels. Pure.

use crate::engine::{sync::Compression, verify::ReadData};
use std::time::Duration;

/// Reads a size in bytes: `500`, `64K`, `1.5GiB`, `2MB`.
///
/// K, M, G, T, P (with or without `iB`) are powers of 1024; kB, MB, GB, TB, PB are powers of 1000.
///
/// # Errors
/// A sentence for the user.
pub fn size(text: &str) -> Result<u64, String> {
    let wrong = || format!("\"{text}\" is not a size; write it like 500M, 1.5GiB or 2000000");
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let unit = unit_bytes(unit.trim()).ok_or_else(wrong)?;
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() || fraction.len() > 9 || fraction.contains('.') || (number.contains('.') && fraction.is_empty())
    {
        return Err(wrong());
    }
    let scale = 10u128.pow(fraction.len() as u32);
    let scaled: u128 = [whole, fraction].concat().parse().map_err(|_| wrong())?;
    let bytes = scaled.checked_mul(unit).ok_or_else(wrong)? / scale;
    u64::try_from(bytes).map_err(|_| wrong())
}

fn unit_bytes(unit: &str) -> Option<u128> {
    let lower = unit.to_ascii_lowercase();
    let power = match lower.chars().next() {
        None | Some('b') => 0,
        Some(letter) => "kmgtp".find(letter)? as u32 + 1,
    };
    match (power, lower.get(1..).unwrap_or_default()) {
        (0, "") => Some(1),
        (1.., "" | "ib") => Some(1024u128.pow(power)),
        (1.., "b") => Some(1000u128.pow(power)),
        _ => None,
    }
}

/// Reads a size that may not be 0.
///
/// # Errors
/// A sentence for the user.
pub fn positive_size(text: &str) -> Result<u64, String> {
    match size(text)? {
        0 => Err("0 would let nothing through".into()),
        bytes => Ok(bytes),
    }
}

/// Reads how much data a verify reads: `all`, `10%`, `500M`.
///
/// # Errors
/// A sentence for the user.
pub fn read_data(text: &str) -> Result<ReadData, String> {
    if text == "all" {
        return Ok(ReadData::All);
    }
    let Some(number) = text.strip_suffix('%') else {
        return size(text).map(ReadData::Bytes).map_err(|_| wrong_read_data(text));
    };
    let plain = number.chars().all(|c| c.is_ascii_digit() || c == '.');
    match number.trim().parse::<f64>() {
        Ok(percent) if plain && percent > 0.0 && percent <= 100.0 => Ok(ReadData::Percent(percent)),
        _ => Err(wrong_read_data(text)),
    }
}

fn wrong_read_data(text: &str) -> String {
    format!("\"{text}\" is neither a percentage (10%), nor a size (500M), nor \"all\"")
}

/// Reads `off`, `fast`, `default`, `max` or a zstd level from 1 to 22.
///
/// # Errors
/// A sentence for the user.
pub fn compression(text: &str) -> Result<Compression, String> {
    match text {
        "off" => Ok(Compression::Off),
        "fast" => Ok(Compression::FAST),
        "default" => Ok(Compression::DEFAULT),
        "max" => Ok(Compression::MAX),
        level => match level.parse() {
            Ok(level @ 1..=22) => Ok(Compression::Level(level)),
            _ => Err(format!("\"{text}\" is none of off, fast, default, max, nor a level from 1 to 22")),
        },
    }
}

/// Reads a span of time with units: `30s`, `5m`, `1h 30m`. At least a second.
///
/// # Errors
/// A sentence for the user.
pub fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("\"{text}\" is not a span of time of a second or more; write it like 30s, 5m or 1h 30m");
    let span: jiff::SignedDuration = text.parse().map_err(|_| wrong())?;
    Duration::try_from(span).ok().filter(|span| *span >= Duration::from_secs(1)).ok_or_else(wrong)
}

/// Reads a long span of time: `24h`, `7d`, `2w`, `3m`, `1y`, or several in a row. A month is 31 days and a year 366, so that none is too short.
///
/// # Errors
/// A sentence for the user.
pub fn period(text: &str) -> Result<Duration, String> {
    let wrong = || format!("\"{text}\" is not a span of time; write it like 24h, 7d, 2w, 3m or 1y");
    let (mut seconds, mut rest) = (0u64, text);
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
        let number: u64 = rest[..digits].parse().map_err(|_| wrong())?;
        let hours = match rest.as_bytes()[digits] {
            b'h' => 1,
            b'd' => 24,
            b'w' => 7 * 24,
            b'm' => 31 * 24,
            b'y' => 366 * 24,
            _ => return Err(wrong()),
        };
        let span = number.checked_mul(hours * 3600).ok_or_else(wrong)?;
        seconds = seconds.checked_add(span).ok_or_else(wrong)?;
        rest = &rest[digits + 1..];
    }
    if seconds == 0 { Err(wrong()) } else { Ok(Duration::from_secs(seconds)) }
}

/// Reads the memory of the key derivation, 19M to 1G, into KiB.
///
/// # Errors
/// A sentence for the user.
pub fn kdf_memory(text: &str) -> Result<u32, String> {
    match size(text)? >> 10 {
        kib @ KDF_KIB_MIN..=KDF_KIB_MAX => Ok(kib as u32),
        _ => Err("the key derivation takes between 19M and 1G of memory".into()),
    }
}

/// The bounds that `spec/2-keys.md` sets, in KiB.
const KDF_KIB_MIN: u64 = 19 << 10;
const KDF_KIB_MAX: u64 = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::text::Bytes;
    use proptest::prelude::*;

    #[test]
    fn sizes_are_read_as_people_write_them() {
        let sizes = [
            ("0", 0),
            ("500", 500),
            ("12B", 12),
            ("64K", 64 << 10),
            ("64 KiB", 64 << 10),
            ("1.5GiB", 3 << 29),
            ("2MB", 2_000_000),
            ("2m", 2 << 20),
            ("0.5k", 512),
            ("1T", 1 << 40),
        ];
        for (text, bytes) in sizes {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
    }

    #[test]
    fn what_is_no_size_is_refused() {
        for text in ["", "M", "-1", "1.5.5M", "1.", ".5", "1X", "1Mi", "1iB", "1e9", "99999999P", "1 2", "٣"] {
            assert!(size(text).is_err(), "{text}");
        }
        assert!(positive_size("0K").is_err());
    }

    #[test]
    fn read_data_takes_percentages_sizes_and_all() {
        assert_eq!(read_data("all"), Ok(ReadData::All));
        assert_eq!(read_data("10%"), Ok(ReadData::Percent(10.0)));
        assert_eq!(read_data("0.5%"), Ok(ReadData::Percent(0.5)));
        assert_eq!(read_data("500M"), Ok(ReadData::Bytes(500 << 20)));
        for text in ["", "%", "0%", "101%", "-1%", "nan%", "inf%", "1e1%", "half"] {
            assert!(read_data(text).is_err(), "{text}");
        }
    }

    #[test]
    fn compression_is_a_word_or_a_level() {
        assert_eq!(compression("off"), Ok(Compression::Off));
        assert_eq!(compression("default"), Ok(Compression::DEFAULT));
        assert_eq!(compression("22"), Ok(Compression::Level(22)));
        for text in ["0", "23", "-1", "best", ""] {
            assert!(compression(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_span_of_time_has_units() {
        assert_eq!(duration("5m"), Ok(Duration::from_secs(300)));
        assert_eq!(duration("1h 30m"), Ok(Duration::from_secs(5400)));
        for text in ["5", "", "-5m", "0s", "500ms", "soon"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_long_span_of_time_is_hours_days_weeks_months_or_years() {
        let hours = |hours: u64| Ok(Duration::from_secs(hours * 3600));
        for (text, expected) in [("24h", 24), ("7d", 168), ("2w", 336), ("3m", 2232), ("1y", 8784), ("1w2d", 216)] {
            assert_eq!(period(text), hours(expected), "{text}");
        }
        for text in ["", "0h", "5", "h", "-1d", "1.5d", "1 d", "99999999999999999999h", "9999999999999999y", "1é"] {
            assert!(period(text).is_err(), "{text}");
        }
    }

    #[test]
    fn the_key_derivations_memory_has_bounds() {
        assert_eq!(kdf_memory("128M"), Ok(128 << 10));
        assert_eq!(kdf_memory("19M"), Ok(19 << 10));
        assert_eq!(kdf_memory("1G"), Ok(1 << 20));
        assert!(kdf_memory("18M").is_err() && kdf_memory("1025M").is_err());
    }

    proptest! {
        #[test]
        fn a_size_that_is_shown_is_read_as_nearly_the_same(bytes in 0u64..1 << 59, shift in 0u32..59) {
            let bytes = bytes >> shift;
            let read = size(&Bytes(bytes).to_string()).unwrap();
            prop_assert!(read.abs_diff(bytes) <= bytes / 10, "{} {}", read, bytes);
        }

        #[test]
        fn no_text_makes_the_readers_panic(text in "\\PC{0,12}|[0-9.]{0,40}[a-zA-Z% ]{0,3}") {
            let _ = (size(&text), read_data(&text), compression(&text), duration(&text), kdf_memory(&text));
        }
    }
}
