//! Root's places of a restore, held under one lock, and what lies in them.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use jiff::Timestamp;

use super::{
    error::{Error, Result},
    find::{self, Candidate, Catch, Condition},
    pick::{self, Trust},
};
use crate::{
    gate::{history, protocol::Event},
    manifest::{Channel, GenerationId, Seal},
    report::{Finding, Kind, restore},
    store::handover_point::HandoverPoint,
    sys::{Dir, lock, show},
};

/// Root's places, locked: one collects or restores at a time.
pub struct Held {
    _lock: lock::Lock,
    /// `<state>/source`.
    pub source: Dir,
    /// `<state>/restore`.
    pub state: Dir,
    /// `restored/`.
    pub private: Dir,
    /// `restore/`.
    pub drop_point: Dir,
    /// All places of the home.
    point: HandoverPoint,
}

impl Held {
    /// Notes in the life of a generation what happened to it; that it could not be noted is a finding.
    pub fn note(
        &self,
        id: &GenerationId,
        at: Timestamp,
        what: &str,
        detail: &str,
        findings: &mut Vec<Finding>,
    ) {
        let event = Event { at, what: what.to_owned(), detail: detail.to_owned() };
        if let Err(e) = history::note(&self.point, id, event) {
            let text = format!("that it was {what} could not be noted in its history: {e}");
            findings.push(Finding::new(Kind::Warning, id.as_str(), text));
        }
    }
}

/// Takes the lock that `source` and `restore` share, and opens the places.
pub fn hold(state: &Path, home: &Path, what: &str) -> Result<Held> {
    let source = Dir::create_all(state.join("source"), 0o700)?;
    let lock = match lock::try_exclusive(&source.join("lock"), what)? {
        lock::Attempt::Held(lock) => lock,
        lock::Attempt::Busy(who) => return Err(Error::Busy(who)),
    };
    let point = HandoverPoint::open_known(home, Channel::Data, &state.join("source"))?;
    let open = |dir: Option<&Dir>| {
        dir.ok_or(Error::Internal("a home of data has no folder for restores"))?
            .try_clone()
            .map_err(Error::from)
    };
    Ok(Held {
        _lock: lock,
        source,
        state: Dir::create_all(state.join("restore"), 0o700)?,
        private: open(point.restored())?,
        drop_point: open(point.restore())?,
        point,
    })
}

/// What is in the place that was named, or in the drop point.
pub fn look(from: Option<&Path>, drop_point: &Dir) -> Result<(Catch, PathBuf)> {
    let Some(from) = from else {
        return Ok((find::look_through(drop_point)?, drop_point.path().to_path_buf()));
    };
    let catch = match Dir::open(from) {
        Ok(dir) => find::look_through(&dir)?,
        Err(e) if e.errno() == Some(libc::ENOTDIR) => {
            let parent = from.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
            find::look_into(&Dir::open(parent)?, from.file_name().unwrap_or_default())?
        }
        Err(e) => return Err(e.into()),
    };
    Ok((catch, from.to_path_buf()))
}

/// A candidate for the report.
pub fn row(
    candidate: &Candidate,
    ledger: &BTreeMap<GenerationId, Seal>,
    given: Option<Seal>,
) -> restore::Candidate {
    let generation = candidate.found.as_ref().map(|f| &f.generation);
    let trust = candidate.found.as_ref().map_or(Trust::Unknown, |f| pick::trust(f, ledger, given));
    restore::Candidate {
        id: candidate.id.to_string(),
        place: show(candidate.shown.as_os_str().as_encoded_bytes()),
        source: generation.map(|g| g.source.to_string()),
        channel: generation.map(|g| g.channel.to_string()),
        sequence: generation.map(|g| g.sequence),
        lineage: generation.map(|g| show(g.lineage.as_bytes())),
        seal: candidate.found.as_ref().map(|f| f.seal.to_string()),
        collected: generation.map(|g| g.started),
        condition: match candidate.condition {
            Condition::Unread => "unread",
            Condition::Unverified => "unverified",
            Condition::Whole => "whole",
            Condition::Torn(_) => "torn",
        }
        .to_owned(),
        torn: candidate.torn(&[]).into_iter().take(20).map(str::to_owned).collect(),
        trust: word(trust).to_owned(),
        failed: generation
            .map(|g| g.elements.iter().filter(|e| !e.ok).map(|e| e.name.to_string()).collect())
            .unwrap_or_default(),
        bytes: generation.map(|g| g.bytes),
    }
}

/// The word for it in a report.
pub fn word(trust: Trust) -> &'static str {
    match trust {
        Trust::Ledger => "ledger",
        Trust::Given => "given",
        Trust::Unknown => "unknown",
        Trust::Other => "other",
    }
}
