//! How a source stands at the sink. The store decides; the note of the runs only tells what no folder can.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::{candidates, candidates::is_verified, one::is_well};
use crate::{
    config::{self, SinkRole},
    manifest::generation::Drill,
    report::{
        Exit, Finding, Kind, SinkSource, Timing, exit_of,
        health::{Concern, Level, gravest_first, level},
        runs::{Activity, Noted, Runs},
    },
    store::{self, SourceStore, Stored, Strange, sink_store::SinkStore},
    sys::{self, Dir},
};

/// One run of one source.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Attempt {
    /// When it began.
    pub started: Timestamp,
    /// When it ended.
    pub finished: Timestamp,
    /// What was found.
    pub findings: Vec<Finding>,
    /// Generations that it stored.
    #[serde(default)]
    pub stored: u64,
    /// Bytes that crossed the wire for them, both ways.
    #[serde(default)]
    pub wire_bytes: u64,
    /// Where the time went.
    #[serde(default)]
    pub timings: Vec<Timing>,
}

impl Attempt {
    /// The exit code that its findings ask for.
    pub fn exit(&self) -> Exit {
        exit_of(&self.findings)
    }
}

/// How a source stands.
#[derive(Debug, Clone, Serialize)]
pub struct Standing {
    /// The source.
    pub source: String,
    /// The worst of the concerns.
    pub level: Level,
    /// What is not as it should be, the gravest first.
    pub concerns: Vec<Concern>,
    /// Stored generations.
    pub generations: u64,
    /// Those whose content was not hashed.
    pub unverified: u64,
    /// Condemned ones that can be taken back.
    pub condemned: u64,
    /// Bytes of content in the newest.
    pub bytes: u64,
    /// Files in the newest.
    pub files: u64,
    /// Bytes of content in all, as if nothing were shared between them.
    pub stored_bytes: u64,
    /// The sink's sequence of the newest.
    pub sequence: u64,
    /// The newest stored generation.
    pub newest: Option<String>,
    /// The newest verified generation.
    pub newest_verified: Option<String>,
    /// When the data of the newest verified generation was collected (never later than it arrived, whatever clock the
    /// source has): what is younger would be lost. With `verify = "none"` that of the newest stored one. Of logs, when a
    /// run that ended well last began, if that is later: nothing else was waiting then.
    pub newest_verified_at: Option<Timestamp>,
    /// Generations in which damage is known, or that cannot be read.
    pub damaged: Vec<String>,
    /// What was put aside.
    pub quarantined: Vec<String>,
    /// Whether retention takes nothing, because something looks suspicious.
    pub frozen: bool,
    /// What looks suspicious.
    pub suspicious: Vec<String>,
    /// The last drill that the newest generation knows of.
    pub drill: Option<Drill>,
    /// Bytes of the file system of the store that are free, and all.
    pub room: (u64, u64),
    /// What the role does with this source now.
    pub activity: Activity,
    /// The last run that ended.
    pub last_attempt: Option<Attempt>,
    /// The last run that ended well.
    pub last_success: Option<Attempt>,
    /// When the source was last well served: by the note of the runs or by what is stored, whichever tells of the later.
    pub last_success_at: Option<Timestamp>,
    /// How often a generation or a file of the store failed its check, in all runs.
    pub verify_failures: u64,
}

impl Standing {
    /// How long ago the newest data was collected that is safe here.
    pub fn exposure(&self, now: Timestamp) -> Option<SignedDuration> {
        self.newest_verified_at.map(|at| now.duration_since(at))
    }
}

/// What the standing of a source is made from, besides the source.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a> {
    /// The role's configuration.
    pub config: &'a config::Sink,
    /// Its store.
    pub store: &'a SinkStore,
    /// Its state folder.
    pub state: &'a Dir,
}

/// The name of a source's lock in the state folder.
pub fn lock_file(name: &str) -> String {
    format!("lock-{name}")
}

fn file(name: &str) -> String {
    format!("status-{name}.json")
}

/// Reads the note of the last runs of a source.
pub fn read(state: &Dir, name: &str) -> Noted<Attempt> {
    Runs::read(state, &file(name))
}

/// The note of the runs and the journal of a source get another name, unless there is one of that name.
pub fn rename(state: &Dir, old: &str, new: &str) -> sys::Result<()> {
    for (from, to) in [(file(old), file(new)), (super::journal::file(old), super::journal::file(new))] {
        if state.stat_if_any(&from)?.is_some() && state.stat_if_any(&to)?.is_none() {
            sys::durable::rename(state, &from, state, &to)?;
        }
    }
    Ok(())
}

/// Notes that a run of a source begins; its lock is held.
pub fn begin(state: &Dir, name: &str, now: Timestamp) -> sys::Result<()> {
    Runs::<Attempt>::begin(state, &file(name), now)
}

/// Notes a run that ended; the lock is still held.
pub fn finish(state: &Dir, report: &SinkSource, started: Timestamp, finished: Timestamp) -> sys::Result<()> {
    let attempt = Attempt {
        started,
        finished,
        findings: report.findings.iter().filter(|f| f.kind != Kind::Note).cloned().collect(),
        stored: report.stored.len() as u64,
        wire_bytes: report.stored.iter().map(|stored| stored.wire).sum(),
        timings: report.timings.clone(),
    };
    let damage = report.findings.iter().filter(|f| f.kind == Kind::Verification).count();
    let failures = (damage + report.put_aside.len()) as u64;
    Runs::finish(state, &file(&report.name), attempt, is_well(report), failures)
}

/// Until when all that a source has handed over is known to be here. Data is collected anew by every run of a source, and
/// only what is stored counts; logs in which nothing is new make no generation, and a run that found nothing waiting counts.
pub fn all_was_here(role: SinkRole, runs: &Runs<Attempt>) -> Option<Timestamp> {
    let success = runs.last_success.as_ref().filter(|_| role == SinkRole::Logs);
    success.map(|run| run.started)
}

/// How a source stands at this time. It reads what generations say of themselves, no manifest and no content.
pub fn standing(place: &Place<'_>, source: &config::SinkSource, now: Timestamp) -> store::Result<Standing> {
    let kept = place.store.source(&source.name)?;
    let all = kept.stored()?;
    let (stored, strange) = &all;
    let noted = read(place.state, source.name.as_str());
    let activity = noted.runs.activity(&place.state.join(lock_file(source.name.as_str())))?;
    let trusting = place.config.verify == config::Verify::None;
    let safe = stored.iter().rev().find(|s| is_verified(s) || (trusting && s.marks.is_whole()));
    let heard = all_was_here(place.config.role, &noted.runs);
    let mut standing = gathered(place, &kept, &all, noted.runs, activity)?;
    let collected = safe.map(|s| s.found.generation.started.min(s.receipt.stored));
    standing.newest_verified_at = collected.map(|at| heard.map_or(at, |heard| heard.max(at)));
    standing.last_success_at = standing.last_success_at.max(safe.map(|s| s.receipt.stored));
    standing.damaged.extend(strange.iter().map(|s| sys::show(s.name.as_encoded_bytes())));
    standing.concerns = gravest_first(concerns(&standing, place.config.role, source, noted.unreadable, now));
    standing.level = level(&standing.concerns);
    Ok(standing)
}

fn gathered(
    place: &Place<'_>,
    kept: &SourceStore,
    all: &(Vec<Stored>, Vec<Strange>),
    runs: Runs<Attempt>,
    activity: Activity,
) -> store::Result<Standing> {
    let (stored, strange) = all;
    let newest = stored.last();
    let generation = newest.map(|s| &s.found.generation);
    let room = place.store.room()?;
    let ids = |which: &dyn Fn(&Stored) -> bool| {
        stored.iter().filter(|s| which(s)).map(|s| s.id().to_string()).collect::<Vec<_>>()
    };
    let doubted = strange.iter().filter(|s| s.doubt.is_some()).map(|s| sys::show(s.name.as_encoded_bytes()));
    Ok(Standing {
        source: kept.name().to_string(),
        level: Level::Ok,
        concerns: Vec::new(),
        generations: stored.len() as u64,
        unverified: stored.iter().filter(|s| s.marks.is_whole() && !is_verified(s)).count() as u64,
        condemned: kept.condemned()?.0.len() as u64,
        bytes: generation.map_or(0, |g| g.bytes),
        files: generation.map_or(0, |g| g.files),
        stored_bytes: stored.iter().map(|s| s.found.generation.bytes).sum(),
        sequence: newest.map_or(0, |s| s.receipt.sequence),
        newest: newest.map(|s| s.id().to_string()),
        newest_verified: stored.iter().rev().find(|s| is_verified(s)).map(|s| s.id().to_string()),
        newest_verified_at: None,
        damaged: ids(&|s| !s.marks.is_whole()),
        quarantined: kept.quarantined()?.iter().map(|q| q.id.to_string()).collect(),
        frozen: candidates::is_frozen(all),
        suspicious: ids(&|s| s.marks.suspicious.is_some()).into_iter().chain(doubted).collect(),
        drill: generation.and_then(|g| g.drill.clone()),
        room: (room.bytes_free, room.bytes_total),
        activity,
        last_success_at: runs.last_success.as_ref().map(|run| run.finished),
        verify_failures: runs.verify_failures,
        last_attempt: runs.last_attempt,
        last_success: runs.last_success,
    })
}

/// What is not as it should be.
fn concerns(
    standing: &Standing,
    role: SinkRole,
    source: &config::SinkSource,
    unreadable: Option<String>,
    now: Timestamp,
) -> Vec<Concern> {
    let name = &standing.source;
    let failed = standing.last_attempt.as_ref().filter(|a| a.exit() != Exit::Ok);
    let reason = failed.and_then(|a| a.findings.iter().find(|f| f.kind.exit() == a.exit()));
    // Where nothing is mended by running it again, what the last run said is what is to be done.
    let said = reason.filter(|f| f.kind == Kind::Storage).and_then(|finding| finding.fix.clone());
    let run =
        said.clone().unwrap_or_else(|| format!("run `handover {role} run {name}` and read what it says"));
    let limit = SignedDuration::try_from(source.alarm_after).unwrap_or(SignedDuration::MAX);
    let mut all = Vec::new();
    if !standing.damaged.is_empty() {
        let text = format!("damaged: {}", standing.damaged.join(", "));
        all.push(Concern::critical(text, format!("run `handover {role} verify {name}`")));
    }
    if !standing.quarantined.is_empty() {
        let text = format!("put aside, because it failed its check: {}", standing.quarantined.join(", "));
        all.push(Concern::critical(text, format!("look with `handover {role} quarantine list`")));
    }
    if standing.frozen {
        let text =
            format!("frozen: {} looks suspicious, and nothing of it goes", standing.suspicious.join(", "));
        let next = format!(
            "look with `handover {role} list {name}` and at the source; if all is right, `handover {role} trust {name}`"
        );
        all.push(Concern::critical(text, next));
    }
    match standing.newest_verified_at {
        None if standing.generations == 0 => {
            let first = "run `handover source` there, then";
            let next = said.clone().unwrap_or_else(|| format!("{first} `handover {role} run {name}`"));
            all.push(Concern::critical("nothing of it is stored", next));
        }
        None => {
            let next = format!("run `handover {role} verify {name}`");
            all.push(Concern::critical("nothing of it is verified", next));
        }
        Some(at) if now.duration_since(at) > limit => {
            let text = format!("the newest verified data is of {at}, older than alarm_after");
            let next = said.clone().unwrap_or_else(|| format!("{run}; does `handover source` run there?"));
            all.push(Concern::critical(text, next));
        }
        Some(_) => {}
    }
    if let Some(failed) = failed {
        let exit = failed.exit();
        let why = reason.map_or("", |f| &f.text);
        all.push(Concern::warning(format!("the last run ended with {}: {why}", exit.name()), run.clone()));
    }
    if let Activity::NeverEnded { began } = standing.activity {
        let text = format!("the last run began at {began} and never ended");
        all.push(Concern::warning(text, format!("was this host restarted, or the run killed? {run}")));
    }
    if let Some(why) = unreadable {
        let text = format!("the note of the last runs cannot be read: {why}");
        all.push(Concern::warning(text, "the next run writes it anew; look at the disk"));
    }
    all
}
