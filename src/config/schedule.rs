//! When a daemon runs: a cron expression or an interval, a spread, and how often it watches.
//!
//! Pure: time and the time zone of the host are arguments. What a cron expression means on the two days of a year on
//! which the clock is changed is [`Cron::after`]'s.

use std::time::Duration;

use cronexpr::Crontab;
use jiff::{SignedDuration, Timestamp, tz::TimeZone};

use super::{
    table::{Given, Read, Table},
    value,
};

const HOUR: Duration = Duration::from_secs(3600);

/// When a daemon runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schedule {
    /// When it runs; without it there is no daemon.
    pub rhythm: Option<Rhythm>,
    /// Each run begins up to so much later, so that many hosts do not begin at once.
    pub jitter: Duration,
    /// Time from one watch to the next; never zero.
    pub watch_every: Duration,
}

/// When a run is due.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rhythm {
    /// By the clock.
    Cron(Cron),
    /// So long after the last one; never zero.
    Every(Duration),
}

/// A cron expression of five fields, and the time zone in which it is meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cron {
    fields: String,
    /// The zone that stands behind the fields; else that of the host.
    zone: Option<String>,
}

impl Schedule {
    /// Reads the keys of a section.
    pub(super) fn read(table: &Table<'_>) -> Self {
        let cron = table.optional("schedule", |given| {
            let text = value::text(given, EXAMPLE)?;
            text.parse::<Cron>().map_err(|e| format!("{e}; write for example {}", given.written(EXAMPLE)))
        });
        let every = table.optional("every", value::deadline("1h"));
        if table.has("schedule") {
            table.refuse(&["every"], "there is `schedule` too; remove one of the two");
        }
        Self {
            rhythm: cron.map(Rhythm::Cron).or(every.map(Rhythm::Every)),
            jitter: table.or("jitter", Duration::ZERO, |given| jitter(given, every)),
            watch_every: table.or("watch_every", HOUR, value::deadline("1h")),
        }
    }
}

const EXAMPLE: &str = "\"0 2 * * *\"";

fn jitter(given: &Given<'_>, every: Option<Duration>) -> Read<Duration> {
    match value::duration("10m")(given)? {
        jitter if every.is_some_and(|every| jitter >= every) => {
            Err("not shorter than `every`; a run could begin after the next one".to_owned())
        }
        jitter => Ok(jitter),
    }
}

impl std::str::FromStr for Cron {
    type Err = String;

    /// Reads five fields, and the name of a time zone behind them; an error says what is wrong with which of them.
    fn from_str(text: &str) -> Result<Self, String> {
        let words: Vec<&str> = text.split_whitespace().collect();
        let (fields, zone) = match words.as_slice() {
            [fields @ .., zone] if fields.len() == 5 => (fields, Some((*zone).to_owned())),
            fields if fields.len() == 5 => (fields, None),
            [alias] if alias.starts_with('@') => {
                return Err("no alias is known; write the five fields".to_owned());
            }
            all => {
                let count = all.len();
                return Err(format!(
                    "expected minute, hour, day of month, month and day of week, and a time zone if it is not that of \
                     the host; there are {count} fields"
                ));
            }
        };
        if let Some(zone) = &zone
            && TimeZone::get(zone).is_err()
        {
            return Err(format!("{} is no time zone of this host", crate::sys::show(zone.as_bytes())));
        }
        let cron = Self { fields: fields.join(" "), zone };
        let parsed = cron.parsed().map_err(|e| said(&e))?;
        // Far from any change of a clock: what never comes is a mistake, as the 30th of February.
        parsed.find_next(Timestamp::UNIX_EPOCH).map_err(|_| "that day never comes".to_owned())?;
        Ok(cron)
    }
}

/// What the parser says, in one line: it points at the place with a second one.
fn said(error: &cronexpr::Error) -> String {
    let text = error.to_string();
    let last = text.lines().map(|line| line.trim_matches(['^', ' ', '\t'])).rfind(|line| !line.is_empty());
    crate::sys::show(format!("not a cron expression: {}", last.unwrap_or_default()).as_bytes())
}

impl std::fmt::Display for Cron {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let zone = self.zone.as_ref().map_or_else(String::new, |zone| format!(" {zone}"));
        write!(f, "{}{zone}", self.fields)
    }
}

impl Cron {
    /// The fields, on a clock that is never changed.
    fn parsed(&self) -> Result<Crontab, cronexpr::Error> {
        cronexpr::parse_crontab(&format!("{} UTC", self.fields))
    }

    /// The zone in which it is meant, on a host in `local`.
    pub fn zone(&self, local: &TimeZone) -> TimeZone {
        let named = self.zone.as_ref().and_then(|zone| TimeZone::get(zone).ok());
        named.unwrap_or_else(|| local.clone())
    }

    /// The first time after `time` at which it is due, on a host in `local`; none if there is none.
    ///
    /// Where the clock is put forward, a time of day that is left out is due as long after the change as it lies within
    /// what is left out (02:30 becomes 03:30). Where it is put back, a time of day that comes twice is due once, the first
    /// time. So a run of each night is one run each night. An expression that names no hour (its second field begins with
    /// `*`) goes on through both as the time does.
    pub fn after(&self, time: Timestamp, local: &TimeZone) -> Option<Timestamp> {
        let (zone, fields) = (self.zone(local), self.parsed().ok()?);
        if self.fields.split(' ').nth(1).is_some_and(|hours| hours.starts_with('*')) {
            return hourly(&fields, time, &zone);
        }
        // A day earlier, as what is left out comes late.
        let mut wall = zone.to_datetime(time).checked_sub(SignedDuration::from_hours(24)).ok()?;
        let mut best: Option<Timestamp> = None;
        loop {
            let utc = TimeZone::UTC.to_timestamp(wall).ok()?;
            wall = fields.find_next(utc).ok()?.datetime();
            if best.is_some_and(|best| wall >= zone.to_datetime(best)) {
                return best;
            }
            let due = zone.to_ambiguous_zoned(wall).compatible().ok()?.timestamp();
            if due > time {
                best = Some(best.map_or(due, |best| best.min(due)));
            }
        }
    }
}

/// Of all minutes as they come: within one offset to UTC, the clock on the wall goes on as UTC does.
fn hourly(fields: &Crontab, time: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
    let (mut from, mut known, mut offset) = (time, time, zone.to_offset(time));
    loop {
        let shift = SignedDuration::from_secs(i64::from(offset.seconds()));
        let due =
            fields.find_next(from.checked_add(shift).ok()?).ok()?.timestamp().checked_sub(shift).ok()?;
        match zone.following(known).next() {
            Some(change) if change.timestamp() <= due => {
                (known, offset) = (change.timestamp(), change.offset());
                // The minute of the change may be due itself.
                from = known.checked_sub(SignedDuration::from_nanos(1)).ok()?;
            }
            _ => return Some(due),
        }
    }
}

impl Rhythm {
    /// The first time after `now` in the row that goes on from `base`, which is not later than `now`.
    pub fn after(&self, base: Timestamp, now: Timestamp, local: &TimeZone) -> Option<Timestamp> {
        match self {
            Self::Cron(cron) => cron.after(now, local),
            Self::Every(every) => {
                let step = i128::try_from(every.as_nanos()).ok()?.max(1);
                let gone = now.duration_since(base).as_nanos().max(0) / step + 1;
                Timestamp::from_nanosecond(base.as_nanosecond() + gone * step).ok()
            }
        }
    }
}

impl std::fmt::Display for Rhythm {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Cron(cron) => cron.fmt(f),
            Self::Every(every) => write!(f, "every {} s", every.as_secs()),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Zones that change their clocks by an hour, by half an hour, in the south, at midnight, and not at all.
    const ZONES: [&str; 6] = [
        "Europe/Vienna",
        "America/New_York",
        "Australia/Lord_Howe",
        "America/Santiago",
        "Asia/Kolkata",
        "UTC",
    ];

    fn times(cron: &str, from: &str, count: usize) -> Vec<String> {
        let cron: Cron = cron.parse().unwrap();
        let mut at: Timestamp = from.parse().unwrap();
        let mut next = || {
            at = cron.after(at, &TimeZone::UTC).unwrap();
            at.to_zoned(cron.zone(&TimeZone::UTC)).strftime("%d %H:%M %z").to_string()
        };
        (0..count).map(|_| next()).collect()
    }

    #[test]
    fn a_nightly_run_is_one_run_in_the_nights_when_clocks_are_changed() {
        assert_eq!(
            times("30 2 * * * Europe/Vienna", "2026-03-27T12:00:00Z", 3),
            ["28 02:30 +0100", "29 03:30 +0200", "30 02:30 +0200"]
        );
        assert_eq!(
            times("30 2 * * * Europe/Vienna", "2026-10-23T12:00:00Z", 3),
            ["24 02:30 +0200", "25 02:30 +0200", "26 02:30 +0100"]
        );
        // Half an hour is left out: what lies in it comes late, and what lies behind it is not lost.
        assert_eq!(
            times("20,35 2 4 10 * Australia/Lord_Howe", "2026-10-03T12:00:00Z", 2),
            ["04 02:35 +1100", "04 02:50 +1100"]
        );
    }

    #[test]
    fn what_names_no_hour_goes_on_as_the_time_does() {
        assert_eq!(
            times("*/30 * * * * Europe/Vienna", "2026-03-29T00:29:00Z", 3),
            ["29 01:30 +0100", "29 03:00 +0200", "29 03:30 +0200"]
        );
        assert_eq!(
            times("30 * * * * Europe/Vienna", "2026-10-25T00:00:00Z", 3),
            ["25 02:30 +0200", "25 02:30 +0100", "25 03:30 +0100"]
        );
    }

    #[test]
    fn a_zone_that_is_not_named_is_that_of_the_host() {
        let (cron, zone) = ("0 2 * * *".parse::<Cron>().unwrap(), TimeZone::get("Asia/Kolkata").unwrap());
        let due = cron.after("2026-11-23T00:00:00Z".parse().unwrap(), &zone).unwrap();
        assert_eq!(due.to_string(), "2026-11-23T20:30:00Z");
    }

    #[test]
    fn what_is_no_expression_is_refused_with_the_reason() {
        for (wrong, why) in [
            ("", "there are 0 fields"),
            ("0 2 * *", "there are 4 fields"),
            ("0 2 * * * UTC x", "there are 7 fields"),
            ("@daily", "no alias"),
            ("60 2 * * *", "in range 0..=59"),
            ("0 2 * * * Europe/Nowhere", "Europe/Nowhere is no time zone"),
            ("0 2 30 2 *", "never comes"),
            ("H 2 * * *", "not a cron expression"),
        ] {
            let said = wrong.parse::<Cron>().unwrap_err();
            assert!(said.contains(why) && !said.contains('\n'), "{wrong}: {said}");
        }
    }

    proptest! {
        /// Against the definition, minute by minute.
        #[test]
        fn an_expression_is_due_when_the_definition_says(
            zone in 0..ZONES.len(), minute in 0..60_u32, hour in 0..24_u32, every_hour: bool,
            // Around every change of the clocks of a year, in all of the zones.
            start in 0..(365 * 24 * 60_i64),
        ) {
            let zone = TimeZone::get(ZONES[zone]).unwrap();
            let hours = if every_hour { "*".to_owned() } else { hour.to_string() };
            let cron: Cron = format!("{minute} {hours} * * *").parse().unwrap();
            let start = Timestamp::from_second(1_767_225_600 + start * 60).unwrap();
            let due = cron.after(start, &zone).unwrap();
            prop_assert!(due > start);
            prop_assert_eq!(due.as_second() % 60, 0);
            // An hour or a day, and what a change of the clock adds.
            let most = if every_hour { 3600 } else { 86_400 } + 3600;
            prop_assert!(due.duration_since(start).as_secs() <= most, "{} {}", start, due);
            let wall = zone.to_datetime(due);
            if every_hour {
                prop_assert_eq!(u32::try_from(wall.minute()).unwrap(), minute);
                let before = (1..=120).map(|m| due - SignedDuration::from_mins(m)).take_while(|t| *t > start);
                for earlier in before {
                    prop_assert_ne!(u32::try_from(zone.to_datetime(earlier).minute()).unwrap(), minute);
                }
            } else {
                // The day that the wall shows has this one and no other.
                let day = zone.to_datetime(due).date();
                let noon = day.at(12, 0, 0, 0).to_zoned(zone.clone()).unwrap();
                let midnight = noon.start_of_day().unwrap().timestamp();
                let first = cron.after(midnight - SignedDuration::from_secs(1), &zone).unwrap();
                let second = cron.after(first, &zone).unwrap();
                prop_assert_eq!(zone.to_datetime(first).date(), day);
                prop_assert_eq!(zone.to_datetime(second).date(), day.tomorrow().unwrap());
                prop_assert_eq!(first, due);
            }
        }

        #[test]
        fn an_interval_goes_on_from_where_it_began(every in 1..100_000_u64, gone in 0..1_000_000_i64) {
            let base: Timestamp = "2026-11-23T03:00:00Z".parse().unwrap();
            let now = base + SignedDuration::from_secs(gone);
            let due = Rhythm::Every(Duration::from_secs(every)).after(base, now, &TimeZone::UTC).unwrap();
            prop_assert!(due > now && due.duration_since(now).as_secs() <= every as i64);
            prop_assert_eq!(due.duration_since(base).as_secs() % every as i64, 0);
        }
    }
}
