//! Figures of the work under way: how fast, how long yet, and the line that shows them. Pure.

use super::{
    json,
    text::{Bytes, Span, counted},
};
use crate::engine::event::Stage;
use std::time::Duration;

/// Which verb's work it is: they measure their way differently.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// Entries taken over and bytes read.
    Sync,
    /// Bytes fetched and written.
    Restore,
    /// Objects read.
    Verify,
}

/// Figures at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// Entries dealt with.
    pub entries: u64,
    /// Bytes of content that needed no reading, fetching or writing.
    pub taken: u64,
    /// Bytes read from the source.
    pub read: u64,
    /// Bytes that are new to the repository.
    pub new: u64,
    /// Bytes of objects sent.
    pub sent: u64,
    /// Bytes fetched or written.
    pub done: u64,
    /// Objects fetched.
    pub objects: u64,
    /// Problems.
    pub problems: u64,
    /// Entries (or objects) in all; 0 is unknown.
    pub total_entries: u64,
    /// Bytes in all; 0 is unknown.
    pub total_bytes: u64,
}

impl Figures {
    /// How far the work is, in bytes.
    #[must_use]
    pub fn position(&self, work: Work) -> u64 {
        match work {
            Work::Sync => self.taken.saturating_add(self.read),
            Work::Restore => self.taken.saturating_add(self.done),
            Work::Verify => self.done,
        }
    }

    /// How far it is in percent, where that can be told; 100 only at the end.
    #[must_use]
    pub fn percent(&self, work: Work) -> Option<u64> {
        let position = u128::from(self.position(work).min(self.total_bytes));
        (self.total_bytes > 0).then(|| (position * 100 / u128::from(self.total_bytes)) as u64)
    }

    /// As `--json` shows them.
    #[must_use]
    pub fn document(&self, work: Work, pace: &Pace) -> json::Progress {
        let known = |figure: u64| (figure > 0).then_some(figure);
        json::Progress {
            entries: self.entries,
            done_bytes: self.position(work),
            read_bytes: self.read,
            new_bytes: self.new,
            sent_bytes: self.sent,
            objects: self.objects,
            problems: self.problems,
            total_entries: known(self.total_entries),
            total_bytes: known(self.total_bytes),
            bytes_per_second: pace.bytes_per_second(),
            seconds_left: self.left(work, pace).map(|left| left.as_secs()),
        }
    }

    /// How long it will take yet, where that can be told.
    #[must_use]
    pub fn left(&self, work: Work, pace: &Pace) -> Option<Duration> {
        let rest = self.total_bytes.checked_sub(self.position(work)).filter(|_| self.total_bytes > 0)?;
        let seconds = rest.checked_div(pace.bytes_per_second())?;
        (seconds < LONGEST.as_secs()).then(|| Duration::from_secs(seconds))
    }

    /// The line beside the bar: how far, how fast, how long yet.
    #[must_use]
    pub fn line(&self, work: Work, stage: Stage, pace: &Pace) -> String {
        let mut parts = vec![stage_name(stage).to_owned()];
        if self.position(work) > 0 {
            parts.push(self.way(work));
            parts.push(format!("{}/s", Bytes(pace.bytes_per_second())));
            parts.extend(self.left(work, pace).map(|left| format!("{} left", Span(left))));
        }
        parts.join(" · ")
    }

    /// The line below the bar: files, and what became of their bytes.
    #[must_use]
    pub fn details(&self, work: Work) -> String {
        let entries = counted(self.entries, "file", "files");
        let mut parts = match work {
            Work::Sync => vec![
                entries,
                format!("read {}", Bytes(self.read)),
                format!("new {}", Bytes(self.new)),
                format!("sent {}", Bytes(self.sent)),
            ],
            Work::Restore => vec![entries],
            Work::Verify => vec![counted(self.objects, "object", "objects")],
        };
        if self.problems > 0 {
            parts.push(counted(self.problems, "problem", "problems"));
        }
        parts.join(" · ")
    }

    fn way(&self, work: Work) -> String {
        let position = Bytes(self.position(work));
        match self.percent(work) {
            Some(percent) => format!("{percent}% of {}", Bytes(self.total_bytes)),
            None => position.to_string(),
        }
    }
}

/// Longer estimates are worth nothing.
const LONGEST: Duration = Duration::from_secs(100 * 86_400);

fn stage_name(stage: Stage) -> &'static str {
    match stage {
        Stage::Connecting => "Connecting",
        Stage::Unlocking => "Unlocking",
        Stage::ReadingManifest => "Reading snapshots",
        Stage::Syncing => "Syncing",
        Stage::Committing => "Committing",
        Stage::Planning => "Comparing with what is there",
        Stage::Restoring => "Restoring",
        Stage::Finishing => "Finishing",
        Stage::Listing => "Listing",
        Stage::ReadingData => "Reading data",
        Stage::Comparing => "Comparing",
    }
}

/// A rate, smoothed over some seconds.
#[derive(Clone, Copy, Debug, Default)]
pub struct Pace {
    bytes_per_second: f64,
    /// Seconds measured so far; at the beginning each new figure counts more.
    measured: f64,
    position: u64,
}

/// Over how many seconds it is smoothed.
const SMOOTHING: f64 = 8.0;

impl Pace {
    /// Notes that `position` was reached, `elapsed` after the last note.
    pub fn note(&mut self, position: u64, elapsed: Duration) {
        let seconds = elapsed.as_secs_f64();
        if seconds <= 0.0 {
            return;
        }
        let now = position.saturating_sub(self.position) as f64 / seconds;
        self.measured += seconds;
        let weight = seconds / self.measured.min(SMOOTHING).max(seconds);
        self.bytes_per_second += (now - self.bytes_per_second) * weight;
        self.position = position;
    }

    /// The rate.
    #[must_use]
    pub fn bytes_per_second(&self) -> u64 {
        self.bytes_per_second.round() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at_pace(rate: u64, seconds: u64) -> Pace {
        let mut pace = Pace::default();
        (1..=seconds * 5).for_each(|tick| pace.note(tick * rate / 5, Duration::from_millis(200)));
        pace
    }

    #[test]
    fn a_steady_rate_is_shown_as_it_is() {
        assert_eq!(at_pace(1000, 1).bytes_per_second(), 1000);
        assert_eq!(at_pace(1000, 60).bytes_per_second(), 1000);
    }

    #[test]
    fn a_rate_that_ends_is_soon_forgotten() {
        let mut pace = at_pace(1000, 60);
        (0..300).for_each(|_| pace.note(60_000, Duration::from_millis(200)));
        assert!(pace.bytes_per_second() < 5, "{}", pace.bytes_per_second());
    }

    #[test]
    fn rate_time_left_files_read_new_and_sent_are_told() {
        let figures = Figures {
            entries: 1234,
            taken: 40 << 20,
            read: 10 << 20,
            new: 5 << 20,
            sent: 3 << 20,
            total_entries: 2000,
            total_bytes: 100 << 20,
            problems: 1,
            ..Figures::default()
        };
        let line = figures.line(Work::Sync, Stage::Syncing, &at_pace(1 << 20, 10));
        assert_eq!(line, "Syncing · 50% of 100 MiB · 1.0 MiB/s · 50 s left");
        let details = figures.details(Work::Sync);
        assert_eq!(details, "1,234 files · read 10.0 MiB · new 5.0 MiB · sent 3.0 MiB · 1 problem");
        assert_eq!(Figures::default().line(Work::Verify, Stage::Listing, &Pace::default()), "Listing");
    }

    #[test]
    fn where_the_whole_is_unknown_no_time_is_promised() {
        let figures = Figures { read: 10, ..Figures::default() };
        assert_eq!(figures.left(Work::Sync, &at_pace(1, 10)), None);
        assert_eq!(figures.percent(Work::Sync), None);
        let known = Figures { total_bytes: 100, ..figures };
        assert_eq!(known.left(Work::Sync, &Pace::default()), None);
    }

    proptest! {
        #[test]
        fn no_figures_make_it_panic_and_percent_stays_below_a_hundred_until_the_end(
            values in any::<[u64; 6]>(), notes in proptest::collection::vec((any::<u64>(), 0u64..10_000), 0..10)
        ) {
            let [taken, read, done, total_bytes, entries, problems] = values;
            let figures = Figures { taken, read, done, total_bytes, entries, problems, ..Figures::default() };
            let mut pace = Pace::default();
            for (position, millis) in notes {
                pace.note(position, Duration::from_millis(millis));
            }
            for work in [Work::Sync, Work::Restore, Work::Verify] {
                let _ = (figures.line(work, Stage::Syncing, &pace), figures.details(work), figures.document(work, &pace));
                if let Some(percent) = figures.percent(work) {
                    prop_assert!(percent <= 100 && (percent == 100) == (figures.position(work) >= total_bytes));
                }
            }
        }
    }
}
