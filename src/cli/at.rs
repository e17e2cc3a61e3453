//! `--at`: which snapshot is meant. Pure, but for the zone it is given.
//!
//! A time is "as of": the newest snapshot not later. What a time leaves out is taken to its end, so that a date means
//! the end of that day, and a time copied from `nfz snapshots` means the snapshot it stood beside.

use crate::{engine::history::At, format::manifest::Time};
use jiff::{
    SignedDuration, Timestamp, Zoned,
    civil::{Date, DateTime},
    tz::TimeZone,
};

/// The fewest digits of an id that are taken for one.
const PREFIX_MIN: usize = 4;
const PREFIX_MAX: usize = 64;

/// Reads `latest`, `latest~2`, the beginning of an id, a date, or a date and time.
///
/// # Errors
/// A sentence for the user.
pub fn parse(text: &str, zone: &TimeZone) -> Result<At, String> {
    if let Some(back) = text.strip_prefix("latest") {
        return steps_back(back).map(At::Latest).ok_or_else(|| wrong(text));
    }
    if text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return match text.len() {
            PREFIX_MIN..=PREFIX_MAX => Ok(At::Prefix(text.to_ascii_lowercase())),
            _ => Err(format!("\"{text}\": of an id, between {PREFIX_MIN} and {PREFIX_MAX} digits are needed")),
        };
    }
    moment(text, zone).map(At::AsOf).ok_or_else(|| wrong(text))
}

/// Reads `--at` with the local time zone, as clap wants it.
///
/// # Errors
/// A sentence for the user.
pub fn parse_local(text: &str) -> Result<At, String> {
    parse(text, &TimeZone::system())
}

fn wrong(text: &str) -> String {
    format!(
        "\"{text}\" is none of: latest, latest~2, an id's first digits, 2026-11-22, \"2026-11-22 18:30\", 2026-11-22T18:30:00Z"
    )
}

/// `` is 0, `~2` is 2.
fn steps_back(text: &str) -> Option<u32> {
    match text.strip_prefix('~') {
        Some(number) if number.bytes().all(|byte| byte.is_ascii_digit()) => number.parse().ok(),
        Some(_) => None,
        None => text.is_empty().then_some(0),
    }
}

/// The last nanosecond of the span that `text` names.
fn moment(text: &str, zone: &TimeZone) -> Option<Time> {
    if let Some(span) = precision(text) {
        return time(start_of(text, zone)?.checked_add(span.checked_sub(SignedDuration::from_nanos(1))?).ok()?);
    }
    if text.len() > "2026-11-22".len() {
        return start_of(text, zone).and_then(time);
    }
    let date: Date = text.parse().ok()?;
    let next = date.tomorrow().ok()?.to_zoned(zone.clone()).ok()?;
    time(next.timestamp().checked_sub(SignedDuration::from_nanos(1)).ok()?)
}

/// How long the span is that a date and time names: a minute without seconds, a second without a fraction.
/// `None` for a date alone and for a time with a fraction.
fn precision(text: &str) -> Option<SignedDuration> {
    let clock = text.split_once(['T', 't', ' '])?.1;
    let end = clock.find(['Z', 'z', '+', '-', '[']).unwrap_or(clock.len());
    let clock = &clock[..end];
    match clock.matches(':').count() {
        _ if clock.contains(['.', ',']) => None,
        1 => Some(SignedDuration::from_mins(1)),
        _ => Some(SignedDuration::from_secs(1)),
    }
}

fn start_of(text: &str, zone: &TimeZone) -> Option<Timestamp> {
    text.parse::<Timestamp>()
        .or_else(|_| text.parse::<Zoned>().map(|zoned| zoned.timestamp()))
        .or_else(|_| {
            text.parse::<DateTime>().and_then(|local| local.to_zoned(zone.clone())).map(|zoned| zoned.timestamp())
        })
        .ok()
}

fn time(timestamp: Timestamp) -> Option<Time> {
    let nanoseconds = timestamp.as_nanosecond();
    let part = u32::try_from(nanoseconds.rem_euclid(1_000_000_000)).ok()?;
    Some(Time { seconds: i64::try_from(nanoseconds.div_euclid(1_000_000_000)).ok()?, nanoseconds: part })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn zone() -> TimeZone {
        TimeZone::fixed(jiff::tz::offset(1))
    }

    /// The last nanosecond before `text`, a time in UTC.
    fn just_before(text: &str) -> Result<At, String> {
        let timestamp: Timestamp = text.parse().unwrap();
        Ok(At::AsOf(Time { seconds: timestamp.as_second() - 1, nanoseconds: 999_999_999 }))
    }

    #[test]
    fn the_newest_and_those_before_it_are_named() {
        assert_eq!(parse("latest", &zone()), Ok(At::Latest(0)));
        assert_eq!(parse("latest~2", &zone()), Ok(At::Latest(2)));
        for text in ["latest~", "latest~-1", "latest2", "latest~x", "latest~+1", "latest~99999999999"] {
            assert!(parse(text, &zone()).is_err(), "{text}");
        }
    }

    #[test]
    fn four_digits_or_more_begin_an_id() {
        assert_eq!(parse("1a2B", &zone()), Ok(At::Prefix("1a2b".into())));
        assert_eq!(parse("2026", &zone()), Ok(At::Prefix("2026".into())));
        assert_eq!(parse(&"a".repeat(64), &zone()), Ok(At::Prefix("a".repeat(64))));
        for text in ["", "1a2", "1a2g", &"a".repeat(65)] {
            assert!(parse(text, &zone()).is_err(), "{text}");
        }
    }

    #[test]
    fn a_date_means_the_end_of_that_day_on_the_local_clock() {
        assert_eq!(parse("2026-11-22", &zone()), just_before("2026-11-22T23:00:00Z"));
        let berlin = TimeZone::get("Europe/Berlin").unwrap_or_else(|_| zone());
        assert_eq!(parse("2026-11-22", &berlin), just_before("2026-11-22T23:00:00Z"));
    }

    #[test]
    fn what_a_time_leaves_out_is_taken_to_its_end() {
        assert_eq!(parse("2026-11-22 10:00", &zone()), just_before("2026-11-22T09:01:00Z"));
        assert_eq!(parse("2026-11-22T10:00:05", &zone()), just_before("2026-11-22T09:00:06Z"));
        assert_eq!(parse("2026-11-22T10:00:05Z", &zone()), just_before("2026-11-22T10:00:06Z"));
        assert_eq!(parse("2026-11-22T10:00:05-05:00", &zone()), just_before("2026-11-22T15:00:06Z"));
        let exact = Timestamp::constant(1_795_341_605, 500_000_000);
        assert_eq!(parse(&exact.to_string(), &zone()), Ok(At::AsOf(time(exact).unwrap())));
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for text in ["yesterday", "2026-13-01", "2026-11-32", "2026-11-22T25:00", "22.11.2026", "10:00", "2026-11"] {
            assert!(parse(text, &zone()).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "\\PC{0,20}|-?[0-9]{0,6}-[0-9]{0,2}-[0-9]{0,2}[T ]?[0-9:.]{0,12}[Z+-]?[0-9:]{0,5}") {
            let _ = parse(&text, &zone());
        }

        #[test]
        fn a_time_with_its_offset_means_the_same_in_every_zone(seconds in -2_000_000_000i64..4_000_000_000, hours in -12i8..12) {
            let text = Timestamp::from_second(seconds).unwrap().to_string();
            prop_assert_eq!(parse(&text, &TimeZone::fixed(jiff::tz::offset(hours))), parse(&text, &TimeZone::UTC));
        }
    }
}
