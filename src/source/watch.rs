//! `handover source watch`: what did not happen. It looks at places alone, so it sees what no run could tell, whoever is
//! to blame: a sink that does not come, and a source that does not collect.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::delivery::look_at_sink;
use crate::{
    config::Reserve,
    manifest::Channel,
    report::{Finding, Kind},
    store::{
        self,
        handover_point::{HandoverPoint, Waiting},
    },
    sys::{Dir, room::Room},
};

/// What is watched.
#[derive(Debug, Clone, Copy)]
pub struct Watch<'a> {
    /// The source's name.
    pub name: &'a str,
    /// The channel. Where nothing was logged there is no new generation of logs, so only what waits is watched there.
    pub channel: Channel,
    /// What waits, or is the newest, for longer than this is an alarm.
    pub alarm_after: Duration,
    /// Generations that may wait.
    pub max_waiting: u32,
    /// What stays free of the file system.
    pub reserve: Reserve,
    /// Since when this is watched: what was never collected is late from there on.
    pub since: Timestamp,
}

/// What was seen.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Seen {
    /// What is wrong.
    pub findings: Vec<Finding>,
    /// The time before which nothing waits any more: an alarm of something that waits, and that began before, is over.
    /// None while something waits too long.
    pub nothing_waits_from_before: Option<Timestamp>,
    /// Whether there is room for another generation at the Handover Point.
    pub has_room: bool,
}

/// Looks at what waits, at the age of the newest generation, and at the room.
pub fn look(watch: &Watch<'_>, point: &HandoverPoint, now: Timestamp) -> store::Result<Seen> {
    let waiting = point.waiting()?.items;
    let mut seen = Seen {
        has_room: waiting.len() < usize::try_from(watch.max_waiting).unwrap_or(usize::MAX),
        ..Seen::default()
    };
    match waiting.iter().min_by_key(|w| w.since) {
        Some(eldest) if is_late(eldest.since, watch.alarm_after, now) => {
            seen.findings.push(waits(watch, eldest, waiting.len(), now));
        }
        eldest => seen.nothing_waits_from_before = Some(eldest.map_or(now, |w| w.since)),
    }
    if watch.channel == Channel::Data {
        let of_waiting = waiting.iter().map(|w| &w.found);
        let stored = point.stored()?.items;
        let all = of_waiting.chain(stored.iter().map(|s| &s.found));
        // A generation from the future would keep this quiet for ever.
        let newest = all.map(|found| found.generation.finished).filter(|time| *time <= now).max();
        seen.findings.extend(overdue(watch, newest, now));
    }
    seen.findings.extend(nearly_full(watch.reserve, Room::of(&Dir::open(point.home())?)?));
    Ok(seen)
}

fn is_late(since: Timestamp, after: Duration, now: Timestamp) -> bool {
    now.duration_since(since) > SignedDuration::try_from(after).unwrap_or(SignedDuration::MAX)
}

fn waits(watch: &Watch<'_>, eldest: &Waiting, count: usize, now: Timestamp) -> Finding {
    let what = match (&eldest.rejected, eldest.reading) {
        (Some(_), _) => "was rejected by the sink as damaged, and nothing was collected since",
        (None, true) => "is being fetched, and that does not come to an end",
        (None, false) => "has not been fetched",
    };
    let age = age(eldest.since, now);
    let more = if count > 1 {
        format!("; {count} wait in all, and {} may", watch.max_waiting)
    } else {
        String::new()
    };
    let text = format!("{} waits since {:.0} ({age}) and {what}{more}", eldest.found.id(), eldest.since);
    Finding::new(Kind::PreviousTransport, watch.name, text).with_fix(look_at_sink(watch.channel))
}

fn overdue(watch: &Watch<'_>, newest: Option<Timestamp>, now: Timestamp) -> Option<Finding> {
    if !is_late(newest.unwrap_or(watch.since), watch.alarm_after, now) {
        return None;
    }
    let text = match newest {
        Some(newest) => {
            format!("nothing was collected since {newest:.0} ({})", age(newest, now))
        }
        None => format!("nothing was ever collected, and this is watched since {:.0}", watch.since),
    };
    let fix = "does `handover source run` run (cron, timer), and what does it say?";
    Some(Finding::new(Kind::Overdue, watch.name, text).with_fix(fix))
}

fn age(since: Timestamp, now: Timestamp) -> String {
    format!("{:#}", SignedDuration::from_secs(now.duration_since(since).as_secs()))
}

/// Whether the disk of the home will soon be full.
pub(super) fn nearly_full(reserve: Reserve, room: Room) -> Option<Finding> {
    let text = reserve.nearly_reached(room)?;
    let fix = "make room on the disk of the home, or keep fewer generations (`keep`)";
    Some(Finding::new(Kind::DiskNearlyFull, "home", text).with_fix(fix))
}
