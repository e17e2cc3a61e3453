//! How figures are shown to a person: sizes, counts, times, tables. Pure, but for the local time zone.

use crate::format::manifest::Time;
use jiff::{Timestamp, tz::TimeZone};
use std::{fmt, time::Duration};

/// A size in bytes: `312 B`, `1.2 MiB`.
#[derive(Clone, Copy)]
pub struct Bytes(pub u64);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [&str; 7] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
        // Tenths, in whole numbers: 1023.96 KiB must not be shown as 1024.0 KiB.
        let mut tenths = u128::from(self.0) * 10;
        let mut unit = 0;
        while tenths >= 10_235 && unit + 1 < UNITS.len() {
            tenths = (tenths + 512) / 1024;
            unit += 1;
        }
        let text = match (unit, tenths) {
            (0, _) => format!("{} B", self.0),
            (_, 1000..) => format!("{} {}", (tenths + 5) / 10, UNITS[unit]),
            _ => format!("{}.{} {}", tenths / 10, tenths % 10, UNITS[unit]),
        };
        f.pad(&text)
    }
}

/// A count with its thousands set apart: `1,234,567`.
#[derive(Clone, Copy)]
pub struct Count(pub u64);

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = self.0.to_string();
        let mut text = String::with_capacity(digits.len() * 4 / 3);
        for (at, digit) in digits.chars().enumerate() {
            if at > 0 && (digits.len() - at).is_multiple_of(3) {
                text.push(',');
            }
            text.push(digit);
        }
        f.pad(&text)
    }
}

/// A count with its noun: `1 file`, `2 files`.
#[must_use]
pub fn counted(count: u64, one: &str, many: &str) -> String {
    format!("{} {}", Count(count), if count == 1 { one } else { many })
}

/// A span of time, rounded as people do: `0.4 s`, `12 s`, `3 m 05 s`, `2 h 14 m`, `3 d 04 h`.
#[derive(Clone, Copy)]
pub struct Span(pub Duration);

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.as_secs();
        match seconds {
            0..10 => write!(f, "{}.{} s", seconds, self.0.subsec_millis() / 100),
            10..60 => write!(f, "{seconds} s"),
            60..3600 => write!(f, "{} m {:02} s", seconds / 60, seconds % 60),
            3600..86_400 => write!(f, "{} h {:02} m", seconds / 3600, seconds / 60 % 60),
            _ => write!(f, "{} d {:02} h", seconds / 86_400, seconds / 3600 % 24),
        }
    }
}

/// A time on the clock of `zone`, to the second: `2026-11-22 19:00:18`.
#[must_use]
pub fn local_time(time: Time, zone: &TimeZone) -> String {
    match timestamp(time) {
        Some(timestamp) => timestamp.to_zoned(zone.clone()).strftime("%Y-%m-%d %H:%M:%S").to_string(),
        None => format!("@{}", time.seconds),
    }
}

/// A time as RFC 3339 writes it, in UTC, to the nanosecond: what `--json` prints. `None` outside the years −9999 … 9999.
#[must_use]
pub fn rfc3339(time: Time) -> Option<String> {
    timestamp(time).map(|timestamp| timestamp.to_string())
}

fn timestamp(time: Time) -> Option<Timestamp> {
    Timestamp::new(time.seconds, i32::try_from(time.nanoseconds).ok()?).ok()
}

/// Permissions as `ls -l` shows them, without the letter of the kind: `rwxr-xr-x`.
#[must_use]
pub fn permissions(mode: u32) -> String {
    let special = [(0o4000, 's', 'S'), (0o2000, 's', 'S'), (0o1000, 't', 'T')];
    let mut text = String::with_capacity(9);
    for (at, (bit, with_x, without_x)) in special.into_iter().enumerate() {
        let bits = mode >> (6 - 3 * at);
        text.push(if bits & 4 != 0 { 'r' } else { '-' });
        text.push(if bits & 2 != 0 { 'w' } else { '-' });
        text.push(match (mode & bit != 0, bits & 1 != 0) {
            (true, true) => with_x,
            (true, false) => without_x,
            (false, true) => 'x',
            (false, false) => '-',
        });
    }
    text
}

/// Rows in columns, each as wide as its widest cell; the columns named in `right` are set to the right.
#[must_use]
pub fn table(rows: &[Vec<String>], right: &[usize]) -> Vec<String> {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|cell| columns_of(cell)).max();
    let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or(0)).collect();
    let line = |row: &Vec<String>| {
        let cells = row.iter().enumerate().map(|(column, cell)| {
            let space = " ".repeat(widths[column].saturating_sub(columns_of(cell)));
            if right.contains(&column) { space + cell } else { format!("{cell}{space}") }
        });
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect()
}

/// Columns that `text` takes, near enough: wide characters count as one.
fn columns_of(text: &str) -> usize {
    text.chars().count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_short() {
        let sizes = [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (1_258_291, "1.2 MiB"),
            (1 << 30, "1.0 GiB"),
            ((1 << 20) - 1, "1.0 MiB"),
            (500 << 20, "500 MiB"),
            (u64::MAX, "16.0 EiB"),
        ];
        for (bytes, text) in sizes {
            assert_eq!(Bytes(bytes).to_string(), text);
        }
    }

    #[test]
    fn counts_have_their_thousands_set_apart() {
        assert_eq!([0, 999, 1000, 1_234_567].map(|n| Count(n).to_string()), ["0", "999", "1,000", "1,234,567"]);
        assert_eq!(counted(1, "file", "files"), "1 file");
        assert_eq!(counted(0, "file", "files"), "0 files");
    }

    #[test]
    fn spans_of_time_are_rounded_as_people_do() {
        let spans = [(400, "0.4 s"), (12_900, "12 s"), (185_000, "3 m 05 s"), (8_040_000, "2 h 14 m")];
        for (millis, text) in spans {
            assert_eq!(Span(Duration::from_millis(millis)).to_string(), text);
        }
        assert_eq!(Span(Duration::from_secs(3 * 86_400 + 4 * 3600)).to_string(), "3 d 04 h");
    }

    #[test]
    fn times_are_shown_on_the_local_clock_and_before_1970_too() {
        let zone = TimeZone::fixed(jiff::tz::offset(2));
        let time = |seconds| Time { seconds, nanoseconds: 500_000_000 };
        assert_eq!(local_time(time(0), &zone), "1970-01-01 02:00:00");
        assert_eq!(local_time(time(-1), &zone), "1970-01-01 01:59:59");
        assert_eq!(local_time(time(i64::MAX), &zone), format!("@{}", i64::MAX));
        assert_eq!(rfc3339(time(-1)).unwrap(), "1969-12-31T23:59:59.5Z");
    }

    #[test]
    fn permissions_are_shown_as_ls_does() {
        assert_eq!(permissions(0o755), "rwxr-xr-x");
        assert_eq!(permissions(0o6755), "rwsr-sr-x");
        assert_eq!(permissions(0o7644), "rwSr-Sr-T");
        assert_eq!(permissions(0o1777), "rwxrwxrwt");
    }

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = [vec!["a".into(), "100".into(), "x".into()], vec!["äé".into(), "1".into(), String::new()]];
        assert_eq!(table(&rows, &[1]), ["a   100  x", "äé    1"]);
    }
}
