//! When a job is due. Pure: the clock and the time zone are arguments.
//!
//! A job goes from one due time to the next; what was missed while nobody could run it is made up for once, however
//! often it was missed. What a wrong clock does to it is bounded: put forward, it runs once; put back, it waits for the
//! next due time after what the clock says then.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp, tz::TimeZone};

use super::note::Last;
use crate::{config::Rhythm, manifest::Digest};

/// A clock that goes back by no more than this was set right.
const SET_RIGHT: SignedDuration = SignedDuration::from_mins(10);

/// What is known of a job's times.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timing {
    /// When it is due.
    pub rhythm: Rhythm,
    /// It begins up to so much later.
    pub jitter: Duration,
    /// What tells this host and job from others: the same seed is late by the same time.
    pub seed: String,
    /// The time zone of the host.
    pub zone: TimeZone,
}

impl Timing {
    /// How much later a run begins that is due at that time: at least nothing, less than `jitter`.
    fn late(&self, slot: Timestamp) -> SignedDuration {
        let jitter = u64::try_from(self.jitter.as_millis()).unwrap_or(u64::MAX);
        let hash = Digest::of(format!("{} {slot}", self.seed).as_bytes()).0;
        let number = hash.iter().take(8).fold(0_u64, |number, byte| number << 8 | u64::from(*byte));
        let late = number.checked_rem(jitter).unwrap_or(0);
        SignedDuration::from_millis(i64::try_from(late).unwrap_or(0))
    }

    /// The next due time after `now`, in the row that goes on from `base`, and when it begins.
    fn next(&self, base: Timestamp, now: Timestamp) -> Due {
        // A rhythm that gives nothing was refused when it was read; a day later it is asked again.
        let day = || now.saturating_add(SignedDuration::from_hours(24)).unwrap_or(Timestamp::MAX);
        let slot = self.rhythm.after(base.min(now), now, &self.zone).unwrap_or_else(day);
        let late = match self.rhythm {
            Rhythm::Cron(_) => self.late(slot),
            // It began late, and goes on so.
            Rhythm::Every(_) => SignedDuration::ZERO,
        };
        Due { slot, at: slot.saturating_add(late).unwrap_or(Timestamp::MAX), missed: false }
    }

    /// At once, but for the spread: what is to be made up for.
    fn soon(&self, slot: Timestamp, now: Timestamp) -> Due {
        Due { slot, at: now.saturating_add(self.late(slot)).unwrap_or(now), missed: true }
    }
}

/// A time at which a run begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Due {
    slot: Timestamp,
    at: Timestamp,
    missed: bool,
}

/// A run took so long that these due times went by; they are not made up for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Skipped {
    /// The first of them.
    pub first: Timestamp,
}

/// A job and its next run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Job {
    timing: Timing,
    /// The last time that counts: nothing before it is due any more.
    base: Timestamp,
    due: Due,
}

impl Job {
    /// At a start: what the last run leaves to be done. A run that was cut is gone on with at once; one that was missed
    /// is made up for once; an interval without any run before begins now.
    pub fn start(timing: Timing, last: Last, now: Timestamp) -> Self {
        let due = match last {
            // A time that is yet to come was noted by a clock that was wrong.
            Last::Done(at) if at <= now => {
                let due = timing.next(at, at);
                if due.slot <= now { timing.soon(due.slot, now) } else { due }
            }
            Last::Cut => timing.soon(now, now),
            Last::Never if matches!(timing.rhythm, Rhythm::Every(_)) => {
                Due { missed: false, ..timing.soon(now, now) }
            }
            Last::Done(_) | Last::Never => timing.next(now, now),
        };
        let base = if let Last::Done(at) = last { at.min(now) } else { now };
        Self { timing, base, due }
    }

    /// Takes other times, as from a configuration that has changed. What is due already stays due.
    pub fn change(&mut self, timing: Timing, now: Timestamp) {
        if timing == self.timing {
            return;
        }
        self.timing = timing;
        if self.due.at > now {
            self.due = self.timing.next(self.base, self.base);
            if self.due.slot <= now {
                self.due = self.timing.next(self.base, now);
            }
        }
    }

    /// When the next run begins.
    pub fn at(&self) -> Timestamp {
        self.due.at
    }

    /// Whether the next run makes up for one that was missed or cut.
    pub fn makes_up(&self) -> bool {
        self.due.missed
    }

    /// Whether a run is due. A clock that was put back behind the last run begins a new row, so that nothing waits for
    /// as long as it was wrong; one that was only set right by a little is not heeded, as the last run would be again.
    pub fn is_due(&mut self, now: Timestamp) -> bool {
        if self.base.duration_since(now) > SET_RIGHT {
            self.base = now;
            self.due = self.timing.next(now, now);
        }
        self.due.at <= now
    }

    /// A run begins.
    pub fn began(&mut self, now: Timestamp) {
        let row = if self.due.missed { now } else { self.due.slot.min(now) };
        self.base = now;
        self.due = self.timing.next(row, now);
    }

    /// The run has ended: what became due meanwhile is skipped.
    pub fn ended(&mut self, now: Timestamp) -> Option<Skipped> {
        if self.due.slot > now {
            return None;
        }
        let first = self.due.slot;
        self.due = self.timing.next(first, now);
        self.base = self.base.max(now);
        Some(Skipped { first })
    }

    /// The run could not be, since another one is at work: it is tried again after this time, if nothing is due before.
    pub fn again_in(&mut self, time: Duration, now: Timestamp) {
        let again = now.saturating_add(SignedDuration::try_from(time).unwrap_or_default()).unwrap_or(now);
        if again < self.due.at {
            self.due = Due { slot: again, at: again, missed: false };
        }
    }

    /// The next runs after now, as many as asked for.
    pub fn coming(&self, count: usize) -> Vec<Timestamp> {
        let mut job = self.clone();
        let mut next = || {
            let at = job.due.at;
            job.began(at);
            at
        };
        (0..count).map(|_| next()).collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const START: i64 = 1_790_000_000;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn seconds(number: i64) -> SignedDuration {
        SignedDuration::from_secs(number)
    }

    fn timing(rhythm: Rhythm, jitter: u64) -> Timing {
        let (jitter, seed) = (Duration::from_secs(jitter), "shop".to_owned());
        Timing { rhythm, jitter, seed, zone: TimeZone::get("Europe/Vienna").unwrap() }
    }

    fn nightly() -> Timing {
        timing(Rhythm::Cron("0 2 * * *".parse().unwrap()), 0)
    }

    fn hourly() -> Timing {
        timing(Rhythm::Every(Duration::from_secs(3600)), 0)
    }

    #[test]
    fn what_was_missed_is_made_up_for_once_and_what_was_cut_is_gone_on_with() {
        let now = at("2026-11-23T12:00:00Z");
        let mut job = Job::start(nightly(), Last::Done(at("2026-11-19T01:00:00Z")), now);
        assert!(job.makes_up() && job.is_due(now));
        job.began(now);
        assert_eq!((job.at(), job.makes_up()), (at("2026-11-24T01:00:00Z"), false));
        assert!(Job::start(nightly(), Last::Cut, now).is_due(now));
        // Nothing was missed.
        let job = Job::start(nightly(), Last::Done(at("2026-11-23T01:00:05Z")), now);
        assert_eq!((job.at(), job.makes_up()), (at("2026-11-24T01:00:00Z"), false));
        // Without any run before, a cron expression waits for its time, and an interval begins.
        assert_eq!(Job::start(nightly(), Last::Never, now).at(), at("2026-11-24T01:00:00Z"));
        assert_eq!(Job::start(hourly(), Last::Never, now).at(), now);
    }

    #[test]
    fn a_run_that_takes_longer_than_the_time_between_two_skips_and_says_so() {
        let start = at("2026-11-23T12:00:00Z");
        let mut job = Job::start(hourly(), Last::Never, start);
        job.began(start);
        assert_eq!(job.ended(start + seconds(3599)), None);
        assert_eq!(job.ended(start + seconds(9000)), Some(Skipped { first: start + seconds(3600) }));
        assert_eq!(job.at(), start + seconds(10_800));
    }

    #[test]
    fn while_another_run_is_at_work_it_is_tried_again() {
        let now = at("2026-11-23T12:00:00Z");
        let mut job = Job::start(nightly(), Last::Cut, now);
        job.began(now);
        job.again_in(Duration::from_secs(60), now);
        assert!(!job.is_due(now + seconds(59)) && job.is_due(now + seconds(60)));
        job.began(now + seconds(60));
        assert_eq!(job.at(), at("2026-11-24T01:00:00Z"));
    }

    #[test]
    fn a_clock_that_jumps_neither_stops_a_job_nor_makes_it_run_often() {
        let now = at("2026-11-23T12:00:00Z");
        let mut job = Job::start(hourly(), Last::Never, now);
        job.began(now);
        // A month forward: one run. Then a month back again: the next one within the hour.
        let later = now + SignedDuration::from_hours(24 * 30);
        assert!(job.is_due(later));
        job.began(later);
        assert!(!job.is_due(later));
        assert!(!job.is_due(now + seconds(10)));
        assert_eq!(job.at(), now + seconds(3610));
        // Set right by a minute, it does not begin the same run again.
        let mut job =
            Job::start(nightly(), Last::Done(at("2026-11-22T01:00:00Z")), at("2026-11-23T00:00:00Z"));
        job.began(at("2026-11-23T01:00:00Z"));
        assert!(!job.is_due(at("2026-11-23T00:59:00Z")));
        assert_eq!(job.at(), at("2026-11-24T01:00:00Z"));
        // A note from the future is not waited for.
        assert_eq!(Job::start(nightly(), Last::Done(later), now).at(), at("2026-11-24T01:00:00Z"));
    }

    #[test]
    fn other_times_hold_at_once_but_what_is_due_stays_due() {
        let now = at("2026-11-23T12:00:00Z");
        let mut job = Job::start(nightly(), Last::Done(now), now);
        job.change(hourly(), now);
        assert_eq!(job.at(), now + seconds(3600));
        job.change(nightly(), now + seconds(60));
        assert_eq!(job.at(), at("2026-11-24T01:00:00Z"));
        let mut due = Job::start(nightly(), Last::Cut, now);
        due.change(hourly(), now);
        assert!(due.is_due(now));
    }

    proptest! {
        /// A clock that goes on and jumps, and runs that take their time: never two for one due time, never none where
        /// the clock has passed one.
        #[test]
        fn each_due_time_has_one_run_at_most_and_none_is_waited_for_in_vain(
            jitter in 0..1800_u64,
            nights: bool,
            steps in proptest::collection::vec((1..20_000_i64, 0..9000_i64), 1..60),
        ) {
            let rhythm = if nights { nightly().rhythm } else { hourly().rhythm };
            let period = if nights { 90_000 } else { 3600 };
            let mut now = Timestamp::from_second(START).unwrap();
            let mut job = Job::start(timing(rhythm, jitter), Last::Done(now), now);
            let mut last_slot = None;
            for (wait, takes) in steps {
                now += seconds(wait);
                if job.is_due(now) {
                    let slot = job.due.slot;
                    prop_assert!(slot <= now);
                    prop_assert!(last_slot.is_none_or(|last| last < slot), "{slot} twice");
                    last_slot = Some(slot);
                    job.began(now);
                    now += seconds(takes);
                    let passed = job.due.slot <= now;
                    prop_assert_eq!(job.ended(now).is_some(), passed);
                }
                prop_assert!(job.due.slot <= job.at());
                prop_assert!(job.at().duration_since(now).as_secs() <= period + 3600 + jitter as i64);
            }
        }

        #[test]
        fn a_clock_may_say_anything_and_the_next_run_is_never_further_than_one_time_and_the_spread(
            jitter in 0..1800_u64, nights: bool,
            clocks in proptest::collection::vec(0..100_000_000_i64, 1..40),
        ) {
            let rhythm = if nights { nightly().rhythm } else { hourly().rhythm };
            let period = if nights { 90_000 } else { 3600 };
            let mut job = Job::start(timing(rhythm, jitter), Last::Never, Timestamp::from_second(START).unwrap());
            for clock in clocks {
                let now = Timestamp::from_second(START + clock).unwrap();
                let mut runs = 0;
                while job.is_due(now) && runs < 3 {
                    job.began(now);
                    runs += 1;
                }
                prop_assert!(runs <= 1, "{runs} at one moment");
                prop_assert!(job.at() > now);
                let most = period + jitter as i64 + SET_RIGHT.as_secs();
                prop_assert!(job.at().duration_since(now).as_secs() <= most);
            }
        }

        #[test]
        fn a_spread_is_within_its_bound_and_the_same_for_the_same_time(jitter in 1..100_000_u64, day in 0..4000_i64) {
            let timing = timing(nightly().rhythm, jitter);
            let slot = Timestamp::from_second(START + day * 86_400).unwrap();
            let late = timing.late(slot);
            prop_assert!(late >= SignedDuration::ZERO && late.as_secs() < jitter as i64);
            prop_assert_eq!(late, timing.late(slot));
        }
    }
}
