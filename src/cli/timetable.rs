//! Rates that change with the time of day: `2M`, or `08:00-18:00=2M,else=off`. Pure, but for [`now`].

use super::values;
use crate::{clock, store::limit::RateNow};
use jiff::{Timestamp, tz::TimeZone};
use std::sync::Arc;

/// Which rate holds when.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Timetable {
    windows: Vec<Window>,
    otherwise: Option<u64>,
}

/// A part of the day, in minutes since midnight; it may go past midnight.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Window {
    from: u16,
    to: u16,
    rate: Option<u64>,
}

/// Minutes of a day.
const DAY: u16 = 24 * 60;
/// More windows than anyone writes.
const WINDOWS_MAX: usize = 48;

impl Timetable {
    /// The rate at a minute of the day; the first window that holds it counts.
    #[must_use]
    pub fn at(&self, minute: u16) -> Option<u64> {
        let holds = |window: &&Window| match window.from < window.to {
            true => (window.from..window.to).contains(&minute),
            false => minute >= window.from || minute < window.to,
        };
        self.windows.iter().find(holds).map_or(self.otherwise, |window| window.rate)
    }

    /// The rate by this machine's clock and time zone.
    #[must_use]
    pub fn by_the_clock(self) -> RateNow {
        let zone = TimeZone::system();
        Arc::new(move || self.at(now(&zone)))
    }
}

/// The minute of the day.
fn now(zone: &TimeZone) -> u16 {
    let now = Timestamp::from_second(clock::now().seconds).unwrap_or_default().to_zoned(zone.clone());
    u16::from(now.hour().unsigned_abs()) * 60 + u16::from(now.minute().unsigned_abs())
}

/// Reads a rate, or windows with rates and what holds else.
///
/// # Errors
/// A sentence for the user.
pub fn parse(text: &str) -> Result<Timetable, String> {
    if !text.contains('=') {
        return Ok(Timetable { windows: Vec::new(), otherwise: rate(text)? });
    }
    let mut table = Timetable::default();
    let mut is_over = false;
    for part in text.split(',') {
        let (when, value) = part.split_once('=').ok_or_else(|| wrong(part))?;
        if is_over || table.windows.len() == WINDOWS_MAX {
            return Err(wrong(part));
        }
        match when.trim() {
            "else" => (table.otherwise, is_over) = (rate(value.trim())?, true),
            when => table.windows.push(window(when, rate(value.trim())?).ok_or_else(|| wrong(part))?),
        }
    }
    Ok(table)
}

fn wrong(part: &str) -> String {
    format!("\"{part}\": write it like 2M, or 08:00-18:00=2M,else=off, with \"else\" last")
}

fn rate(text: &str) -> Result<Option<u64>, String> {
    if text == "off" { Ok(None) } else { values::positive_size(text).map(Some) }
}

fn window(text: &str, rate: Option<u64>) -> Option<Window> {
    let (from, to) = text.split_once('-')?;
    let (from, to) = (minute(from.trim())?, minute(to.trim())?);
    (from < DAY && from != to).then_some(Window { from, to, rate })
}

/// Reads `8:00` or `24:00`.
///
/// Also for the time of day in `nfz schedule`.
pub fn minute(text: &str) -> Option<u16> {
    let (hours, minutes) = text.split_once(':')?;
    let number = |text: &str, most: usize| {
        let plain = (1..=most).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
        plain.then(|| text.parse::<u16>().ok()).flatten()
    };
    let (hours, minutes) = (number(hours, 2)?, number(minutes, 2).filter(|&minutes| minutes < 60)?);
    Some(hours * 60 + minutes).filter(|&minute| minute <= DAY)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(table: &str, time: &str) -> Option<u64> {
        parse(table).unwrap().at(minute(time).unwrap())
    }

    #[test]
    fn one_rate_holds_all_day() {
        assert_eq!((at("2M", "00:00"), at("2M", "23:59")), (Some(2 << 20), Some(2 << 20)));
        assert_eq!(at("off", "12:00"), None);
    }

    #[test]
    fn a_window_holds_from_its_first_minute_to_the_one_before_its_end() {
        let table = "08:00-18:00=2M,else=off";
        assert_eq!([at(table, "7:59"), at(table, "18:00"), at(table, "0:00")], [None; 3]);
        assert_eq!([at(table, "8:00"), at(table, "17:59")], [Some(2 << 20); 2]);
        assert_eq!(at("08:00-24:00=1k", "23:59"), Some(1 << 10));
    }

    #[test]
    fn a_window_may_go_past_midnight_and_the_first_that_fits_counts() {
        let table = "23:00-06:00=off, 22:00-07:00=5M, else=1M";
        assert_eq!([at(table, "23:00"), at(table, "5:59")], [None; 2]);
        assert_eq!([at(table, "22:30"), at(table, "6:00")], [Some(5 << 20); 2]);
        assert_eq!(at(table, "12:00"), Some(1 << 20));
    }

    #[test]
    fn what_is_no_timetable_is_refused() {
        for text in ["", "0", "8-18=2M", "08:00-08:00=2M", "08:00-18:00=0", "else=off,08:00-18:00=2M", "x=2M"] {
            assert!(parse(text).is_err(), "{text}");
        }
        for text in ["25:00-26:00=1M", "24:00-08:00=1M", "08:60-09:00=1M", "08:00-18:00=2M,", "08:00=1M"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn the_clock_names_a_minute_of_the_day() {
        assert!(now(&TimeZone::UTC) < DAY);
    }

    proptest! {
        #[test]
        fn no_text_makes_the_reader_panic(text in "[0-9:=,a-z-]{0,30}|\\PC{0,10}") {
            let _ = parse(&text);
        }
    }
}
