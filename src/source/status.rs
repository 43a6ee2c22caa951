//! How a source stands: what waits, what was accepted, how the last runs went. The folders decide; the note of the
//! runs only tells what no folder can.

use std::{path::Path, time::Duration};

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use super::{delivery::look_at_sink, state};
use crate::{
    app::unfinished,
    manifest::{Channel, generation::Drill},
    report::{
        Exit, Kind, SourceRun,
        health::{Concern, Level, gravest_first, level},
        runs::{Activity, Noted, Runs},
    },
    store::{
        self, Found,
        drilled::{self, Drilled},
        handover_point::HandoverPoint,
    },
    sys::{self, Dir, room::Room},
};

const FILE: &str = "status.json";
/// The lock of a run, in the state folder.
pub const LOCK: &str = "lock";

/// Reads the note of the last runs.
pub fn read(state: &Path) -> sys::Result<Noted<SourceRun>> {
    match Dir::open(state) {
        Ok(dir) => Ok(Runs::read(&dir, FILE)),
        Err(e) if e.is_not_found() => Ok(Noted { runs: Runs::default(), unreadable: None }),
        Err(e) => Err(e),
    }
}

/// Notes that a run begins; the lock is held.
pub fn begin(state: &Dir, now: Timestamp) -> sys::Result<()> {
    Runs::<SourceRun>::begin(state, FILE, now)
}

/// Notes a run that ended; the lock is still held.
pub fn finish(state: &Path, run: &SourceRun) -> sys::Result<()> {
    // As on the sink: what was only worth saying is no part of how things stand.
    let run = SourceRun {
        findings: run.findings.iter().filter(|f| f.kind != Kind::Note).cloned().collect(),
        ..run.clone()
    };
    let handed_over = run.generation.is_some() || run.logs.is_some();
    // Where there are only logs, nothing new is well, too.
    let well = run.exit == Exit::Ok || run.exit == Exit::PreviousTransportFailed && handed_over;
    let failures = run.findings.iter().filter(|f| f.kind == Kind::Verification).count() as u64;
    Runs::finish(&Dir::create_all(state, 0o700)?, FILE, run, well, failures)
}

/// What the standing of a source is made from.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a> {
    /// The source's name.
    pub name: &'a str,
    /// Its home.
    pub home: &'a Path,
    /// The channel that the home is for.
    pub channel: Channel,
    /// The state folder of the role.
    pub state: &'a Path,
    /// What waits longer, or is older, is too old.
    pub alarm_after: Duration,
    /// Generations that may wait.
    pub max_waiting: u32,
}

/// A generation in the list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Row {
    /// Its id.
    pub id: String,
    /// The source's sequence.
    pub sequence: u64,
    /// Its seal.
    pub seal: String,
    /// When collecting it began.
    pub collected: Timestamp,
    /// Regular files.
    pub files: u64,
    /// Bytes of content.
    pub bytes: u64,
    /// The elements that are not whole in it.
    pub failed_elements: Vec<String>,
    /// `waiting`, `being fetched`, `rejected` or `accepted`.
    pub state: &'static str,
}

/// How a source stands.
#[derive(Debug, Clone, Serialize)]
pub struct Standing {
    /// The source.
    pub source: String,
    /// The channel.
    pub channel: Channel,
    /// The worst of the concerns.
    pub level: Level,
    /// What is not as it should be, the gravest first.
    pub concerns: Vec<Concern>,
    /// What waits at the Handover Point, in order.
    pub waiting: Vec<Row>,
    /// Since when the eldest that the sink could fetch waits.
    pub waiting_since: Option<Timestamp>,
    /// The Source-Store, in order.
    pub stored: Vec<Row>,
    /// Condemned ones that can be taken back.
    pub condemned: u64,
    /// The newest sequence.
    pub sequence: u64,
    /// When the newest data that a sink has accepted was collected: what is younger exists on this host alone.
    pub accepted_at: Option<Timestamp>,
    /// When the newest generation was collected.
    pub collected_at: Option<Timestamp>,
    /// The last drill of this host.
    pub drill: Option<Drill>,
    /// Why that one could not even begin, where it could not.
    pub drill_refused: Option<String>,
    /// Bytes of the file system of the home that are free, and all.
    pub room: (u64, u64),
    /// What the role does now.
    pub activity: Activity,
    /// The last run that ended.
    pub last_attempt: Option<SourceRun>,
    /// The last run that handed a whole generation over.
    pub last_success: Option<SourceRun>,
    /// When a whole generation was last handed over: by the note of the runs or by the folders, whichever tells of the
    /// later one.
    pub last_success_at: Option<Timestamp>,
    /// Sinks' complaints about damaged content, in all runs.
    pub verify_failures: u64,
}

impl Standing {
    /// How long ago the newest data was collected that a sink has accepted.
    pub fn exposure(&self, now: Timestamp) -> Option<SignedDuration> {
        self.accepted_at.map(|at| now.duration_since(at))
    }
}

fn row(found: &Found, state: &'static str) -> Row {
    let generation = &found.generation;
    Row {
        id: found.id().to_string(),
        sequence: generation.sequence,
        seal: found.seal.to_string(),
        collected: generation.started,
        files: generation.files,
        bytes: generation.bytes,
        failed_elements: generation.elements.iter().filter(|e| !e.ok).map(|e| e.name.to_string()).collect(),
        state,
    }
}

/// How a source stands at this time.
pub fn standing(place: &Place<'_>, now: Timestamp) -> store::Result<Standing> {
    let point = HandoverPoint::open_known(place.home, place.channel, place.state)?;
    let (waiting, stored) = (point.waiting()?, point.stored()?);
    let noted = read(place.state)?;
    let activity = noted.runs.activity(&place.state.join(LOCK))?;
    let every = || waiting.items.iter().map(|w| &w.found).chain(stored.items.iter().map(|s| &s.found));
    let newest = waiting.items.last().map(|w| &w.found).or(stored.items.last().map(|s| &s.found));
    let handed_over = every().filter(|f| f.generation.elements.iter().all(|e| e.ok));
    let handed_over = handed_over.map(|f| f.generation.finished).max();
    let noted_success = noted.runs.last_success.as_ref().map(|run| run.finished);
    let (known, accepted_at) = match place.channel {
        Channel::Data => {
            (state::peek(place.state), stored.items.iter().map(|s| s.found.generation.started).max())
        }
        // Accepted logs are gone: their receipts tell.
        Channel::Logs => {
            let receipts = point.log_receipts()?;
            (state::peek(&place.state.join("logs")), receipts.iter().filter_map(|r| r.id.time()).max())
        }
    };
    let known = known.map_or(0, |facts| facts.sequence);
    let last = last_drill(place, newest.and_then(|f| f.generation.drill.clone()))?;
    let room = Room::of(&Dir::open(place.home)?)?;
    let mut standing = Standing {
        source: place.name.to_owned(),
        channel: place.channel,
        level: Level::Ok,
        concerns: Vec::new(),
        waiting_since: waiting.items.iter().filter(|w| w.rejected.is_none()).map(|w| w.since).min(),
        condemned: point.condemned()?.items.len() as u64,
        sequence: every().map(|f| f.generation.sequence).fold(known, u64::max),
        accepted_at,
        collected_at: newest.map(|f| f.generation.started),
        drill: last.as_ref().map(|noted| noted.drill.clone()),
        drill_refused: last.and_then(|noted| noted.refused),
        room: (room.bytes_free, room.bytes_total),
        activity,
        last_success_at: noted_success.max(handed_over),
        verify_failures: noted.runs.verify_failures,
        last_attempt: noted.runs.last_attempt,
        last_success: noted.runs.last_success,
        waiting: waiting.items.iter().map(waiting_row).collect(),
        stored: stored.items.iter().map(|s| row(&s.found, "accepted")).collect(),
    };
    let strange = waiting.strange.iter().chain(&stored.strange);
    let strange = strange.map(|s| format!("{}: {}", sys::show(s.name.as_encoded_bytes()), s.why)).collect();
    let mut all = concerns(&standing, place, noted.unreadable, strange, now);
    let cut = unfinished::look(place.state.parent().unwrap_or(place.state))?;
    all.extend(cut.map(|cut| Concern::critical(format!("{}: nothing is collected", cut.text), cut.fix)));
    standing.concerns = gravest_first(all);
    standing.level = level(&standing.concerns);
    Ok(standing)
}

/// The last drill: as this host noted it, or as the newest generation knows of it.
fn last_drill(place: &Place<'_>, told: Option<Drill>) -> store::Result<Option<Drilled>> {
    let noted = match place.channel {
        Channel::Data => drilled::read(place.state.parent().unwrap_or(place.state))?,
        Channel::Logs => None,
    };
    let told = told.map(|drill| Drilled { drill, refused: None });
    Ok([told, noted].into_iter().flatten().max_by_key(|drilled| drilled.drill.at))
}

fn waiting_row(waiting: &store::handover_point::Waiting) -> Row {
    let state = match (&waiting.rejected, waiting.reading) {
        (Some(_), _) => "rejected",
        (None, true) => "being fetched",
        (None, false) => "waiting",
    };
    row(&waiting.found, state)
}

/// What is not as it should be.
fn concerns(
    standing: &Standing,
    place: &Place<'_>,
    unreadable: Option<String>,
    strange: Vec<String>,
    now: Timestamp,
) -> Vec<Concern> {
    let limit = SignedDuration::try_from(place.alarm_after).unwrap_or(SignedDuration::MAX);
    let too_old = |at: Timestamp| now.duration_since(at) > limit;
    let sink = &look_at_sink(place.channel);
    let collect = "run `handover source` and read what it says";
    let mut all = Vec::new();
    match standing.collected_at {
        // Where nothing is new in the logs there is nothing to hand over.
        _ if place.channel == Channel::Logs => {}
        None => all.push(Concern::critical("nothing was ever handed over", collect)),
        Some(at) if too_old(at) => {
            all.push(Concern::critical(format!("nothing was handed over since {at} (alarm_after)"), collect));
        }
        Some(_) => {}
    }
    if let Some(since) = standing.waiting_since.filter(|since| too_old(*since)) {
        let text = format!("a generation waits since {since} and was not accepted (alarm_after)");
        all.push(Concern::critical(text, sink));
    }
    let waiting = standing.waiting.iter().filter(|w| w.state != "rejected").count();
    if waiting > 1 && waiting >= usize::try_from(place.max_waiting).unwrap_or(usize::MAX) {
        let next = match place.channel {
            Channel::Data => "the eldest goes next",
            Channel::Logs => "no more logs are collected",
        };
        let text = format!("the Handover Point is full: {waiting} wait (max_waiting); {next}");
        all.push(Concern::critical(text, sink));
    }
    let rejected: Vec<&str> =
        standing.waiting.iter().filter(|w| w.state == "rejected").map(|w| w.id.as_str()).collect();
    if !rejected.is_empty() {
        let text = format!("damaged here, as the sink found: {}", rejected.join(", "));
        all.push(Concern::critical(text, "look at the disk; `handover source` reads the files afresh"));
    }
    if let Some(newest) = standing.waiting.last().or(standing.stored.last())
        && !newest.failed_elements.is_empty()
    {
        let text = format!("not whole in {}: {}", newest.id, newest.failed_elements.join(", "));
        all.push(Concern::warning(text, "mend the element, then run `handover source`"));
    }
    if let Some(failed) = standing.last_attempt.as_ref().filter(|run| run.exit != Exit::Ok) {
        let why = failed.findings.iter().find(|f| f.kind.exit() == failed.exit).map_or("", |f| &f.text);
        let next = if failed.exit == Exit::PreviousTransportFailed { sink } else { collect };
        all.push(Concern::warning(format!("the last run ended with {}: {why}", failed.exit.name()), next));
    }
    if let Some(drill) = standing.drill.as_ref().filter(|drill| !drill.ok) {
        let text = match &standing.drill_refused {
            None => format!("the last drill failed, at {}: {} could not be restored", drill.at, drill.id),
            Some(why) => format!("the last drill could not begin, at {}: {why}", drill.at),
        };
        all.push(Concern::critical(text, "`handover restore drill` says why; mend that, and drill again"));
    }
    if let Activity::NeverEnded { began } = standing.activity {
        let text = format!("the last run began at {began} and never ended");
        all.push(Concern::warning(text, "was this host restarted, or the run killed? Run `handover source`"));
    }
    if let Some(why) = unreadable {
        let text = format!("the note of the last runs cannot be read: {why}");
        all.push(Concern::warning(text, "the next run writes it anew; look at the disk"));
    }
    let next = "look what it is, and move it away";
    all.extend(strange.into_iter().map(|what| Concern::warning(what, next)));
    all
}
