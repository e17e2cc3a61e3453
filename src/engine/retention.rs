//! Which snapshots a policy keeps. Pure: the same snapshots in another order are judged the same.

use jiff::{Timestamp, tz::TimeZone};
use std::time::Duration;

/// How many are kept, and of what. What no rule keeps goes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// The newest, so many.
    pub last: u32,
    /// The newest of each hour, for so many hours that have one.
    pub hourly: u32,
    /// Of each day.
    pub daily: u32,
    /// Of each week, which begins on Monday.
    pub weekly: u32,
    /// Of each month.
    pub monthly: u32,
    /// Of each year.
    pub yearly: u32,
    /// All that are no older than this, counted from the newest of the same source.
    pub within: Option<Duration>,
    /// All with one of these labels.
    pub labels: Vec<Vec<u8>>,
}

/// What a policy has to know of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dated {
    /// When it was made, in seconds since 1970.
    pub time: i64,
    /// Its generation and id: the order of those that are of one second.
    pub tie: (u64, [u8; 32]),
    /// Its label.
    pub label: Vec<u8>,
}

/// The number of the period that a time lies in.
type Period = fn(&Timestamp, &TimeZone) -> i64;

impl Policy {
    /// Whether it keeps nothing whatever there is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    fn periods(&self) -> [(&'static str, u32, Period); 5] {
        [
            ("hourly", self.hourly, hour),
            ("daily", self.daily, day),
            ("weekly", self.weekly, week),
            ("monthly", self.monthly, month),
            ("yearly", self.yearly, year),
        ]
    }
}

/// Why each of some snapshots of one source stays, in a few words; none goes unless its list is empty. Days are those of `zone`.
#[must_use]
pub fn judge(policy: &Policy, snapshots: &[Dated], zone: &TimeZone) -> Vec<Vec<&'static str>> {
    let mut newest_first: Vec<usize> = (0..snapshots.len()).collect();
    newest_first.sort_by_key(|&at| std::cmp::Reverse((snapshots[at].time, snapshots[at].tie)));
    let mut reasons = vec![Vec::new(); snapshots.len()];
    for &at in newest_first.iter().take(policy.last as usize) {
        reasons[at].push("last");
    }
    for (name, count, period) in policy.periods() {
        let (mut left, mut before) = (count, None);
        for &at in &newest_first {
            let this = Some(period(&timestamp(snapshots[at].time), zone));
            if left > 0 && this != before {
                reasons[at].push(name);
                left -= 1;
            }
            before = this;
        }
    }
    let newest = newest_first.first().map_or(0, |&at| snapshots[at].time);
    for (snapshot, reasons) in snapshots.iter().zip(&mut reasons) {
        let age = newest.saturating_sub(snapshot.time).unsigned_abs();
        if policy.within.is_some_and(|within| age <= within.as_secs()) {
            reasons.push("within");
        }
        if policy.labels.contains(&snapshot.label) {
            reasons.push("label");
        }
    }
    reasons
}

fn timestamp(seconds: i64) -> Timestamp {
    let bound = if seconds < 0 { Timestamp::MIN } else { Timestamp::MAX };
    Timestamp::from_second(seconds).unwrap_or(bound)
}

fn hour(time: &Timestamp, zone: &TimeZone) -> i64 {
    // By the hour's place in time, so that the hour that a change of clocks repeats is two.
    (time.as_second() + i64::from(zone.to_offset(*time).seconds())).div_euclid(3600)
}

fn day(time: &Timestamp, zone: &TimeZone) -> i64 {
    hour(time, zone).div_euclid(24)
}

fn week(time: &Timestamp, zone: &TimeZone) -> i64 {
    (day(time, zone) + 3).div_euclid(7) // 1970 began on a Thursday
}

fn month(time: &Timestamp, zone: &TimeZone) -> i64 {
    let date = zone.to_datetime(*time).date();
    i64::from(date.year()) * 12 + i64::from(date.month())
}

fn year(time: &Timestamp, zone: &TimeZone) -> i64 {
    i64::from(zone.to_datetime(*time).date().year())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn snapshots() -> impl Strategy<Value = Vec<Dated>> {
        let times = prop_oneof![0i64..200_000, 1_700_000_000i64..1_800_000_000];
        let one = (times, any::<[u8; 2]>(), "[ab]{0,1}").prop_map(|(time, tie, label)| {
            let tie = std::array::from_fn(|at| tie[at % 2]);
            Dated { time, tie: (0, tie), label: label.into_bytes() }
        });
        prop::collection::vec(one, 0..40)
    }

    fn policies() -> impl Strategy<Value = Policy> {
        let counts = prop::array::uniform6(0u32..5);
        (counts, prop::option::of(0u64..2_000_000), prop::collection::vec(Just(b"a".to_vec()), 0..2)).prop_map(
            |([last, hourly, daily, weekly, monthly, yearly], within, labels)| {
                let within = within.map(Duration::from_secs);
                Policy { last, hourly, daily, weekly, monthly, yearly, within, labels }
            },
        )
    }

    fn kept(policy: &Policy, snapshots: &[Dated]) -> Vec<bool> {
        judge(policy, snapshots, &TimeZone::UTC).iter().map(|reasons| !reasons.is_empty()).collect()
    }

    proptest! {
        #[test]
        fn a_policy_that_asks_for_more_keeps_no_less(policy in policies(), more in policies(), all in snapshots()) {
            let larger = Policy {
                last: policy.last + more.last,
                hourly: policy.hourly + more.hourly,
                daily: policy.daily + more.daily,
                weekly: policy.weekly + more.weekly,
                monthly: policy.monthly + more.monthly,
                yearly: policy.yearly + more.yearly,
                within: policy.within.max(more.within),
                labels: [policy.labels.clone(), more.labels].concat(),
            };
            let (few, many) = (kept(&policy, &all), kept(&larger, &all));
            prop_assert!(few.iter().zip(&many).all(|(few, many)| !few || *many));
        }

        #[test]
        fn the_order_in_which_snapshots_come_decides_nothing(policy in policies(), all in snapshots(), seed: u64) {
            let mut ids: Vec<usize> = (0..all.len()).collect();
            ids.sort_by_key(|at| (*at as u64 + 1).wrapping_mul(seed | 1));
            let shuffled: Vec<Dated> = ids.iter().map(|&at| all[at].clone()).collect();
            let (straight, other) = (kept(&policy, &all), kept(&policy, &shuffled));
            let count = |of: &Dated| -> (usize, usize) {
                let count = |kept: &[bool], all: &[Dated]| all.iter().zip(kept).filter(|(one, kept)| *one == of && **kept).count();
                (count(&straight, &all), count(&other, &shuffled))
            };
            prop_assert!(all.iter().map(count).all(|(a, b)| a == b));
        }

        #[test]
        fn whoever_counts_anything_keeps_the_newest(policy in policies(), all in snapshots()) {
            let counts = policy.last + policy.hourly + policy.daily + policy.weekly + policy.monthly + policy.yearly;
            let newest = (0..all.len()).max_by_key(|&at| (all[at].time, all[at].tie));
            if let Some(newest) = newest && counts > 0 {
                let twins = |at: &usize| (all[*at].time, all[*at].tie) == (all[newest].time, all[newest].tie);
                let kept = kept(&policy, &all);
                prop_assert!((0..all.len()).filter(twins).any(|at| kept[at]));
            }
        }

        #[test]
        fn each_rule_keeps_as_many_as_it_says_and_there_are(count in 0u32..50, all in snapshots()) {
            let kept = kept(&Policy { last: count, ..Policy::default() }, &all);
            prop_assert_eq!(kept.iter().filter(|kept| **kept).count(), all.len().min(count as usize));
            let daily = kept_count(&Policy { daily: count, ..Policy::default() }, &all);
            let days: std::collections::BTreeSet<i64> = all.iter().map(|one| one.time.div_euclid(86_400)).collect();
            prop_assert_eq!(daily, days.len().min(count as usize));
        }

        #[test]
        fn snapshots_dated_into_the_future_evict_none_of_those_that_are_dated_by_the_server(all in snapshots(), forged in 0usize..5) {
            // A client may forge its own times; those of the server, which count then, it cannot put before others'.
            let policy = Policy { daily: 3, ..Policy::default() };
            let newest = all.iter().map(|one| one.time).max().unwrap_or(0);
            let before = kept(&policy, &all);
            let mut more = all.clone();
            more.extend((0..forged).map(|_| Dated { time: newest, tie: (0, [0; 32]), label: Vec::new() }));
            let after = kept(&policy, &more);
            prop_assert!(before.iter().zip(&after).all(|(before, after)| before == after));
        }
    }

    fn kept_count(policy: &Policy, all: &[Dated]) -> usize {
        kept(policy, all).iter().filter(|kept| **kept).count()
    }

    #[test]
    fn weeks_begin_on_monday_and_months_on_their_first() {
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        let (sunday, monday) = (at("2026-11-22T23:59:59Z"), at("2026-11-23T00:00:00Z"));
        assert_eq!(week(&sunday, &TimeZone::UTC) + 1, week(&monday, &TimeZone::UTC));
        assert_eq!(day(&sunday, &TimeZone::UTC) + 1, day(&monday, &TimeZone::UTC));
        let (last, first) = (at("2026-11-30T23:59:59Z"), at("2026-12-01T00:00:00Z"));
        assert_eq!(month(&last, &TimeZone::UTC) + 1, month(&first, &TimeZone::UTC));
        assert_eq!(year(&at("1969-12-31T23:59:59Z"), &TimeZone::UTC), 1969);
    }
}
