//! How the runs of each source went: last attempt and last success, beside what the store itself tells.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{candidates::is_verified, one::is_well};
use crate::{
    config,
    report::{Finding, Kind, SinkSource},
    store::{self, sink_store::SinkStore},
    sys::{self, Dir, durable},
};

const LIMIT: u64 = 16 << 20;

/// One run of one source.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Attempt {
    /// When it began.
    pub started: Timestamp,
    /// When it ended.
    pub finished: Timestamp,
    /// What was found.
    pub findings: Vec<Finding>,
}

/// The last runs of one source.
#[derive(Debug, Default, Clone, Serialize, Deserialize)]
pub struct Runs {
    /// The last run, however it ended.
    pub last_attempt: Option<Attempt>,
    /// The last that ended well.
    pub last_success: Option<Attempt>,
}

/// How a source stands: from the store where it can be told from there, from the notes of runs else.
#[derive(Debug, Clone, Serialize)]
pub struct Standing {
    /// The source.
    pub source: String,
    /// Stored generations.
    pub generations: u64,
    /// Condemned ones that can be taken back.
    pub condemned: u64,
    /// Bytes of content in the newest.
    pub bytes: u64,
    /// The newest stored generation.
    pub newest: Option<String>,
    /// The newest verified generation.
    pub newest_verified: Option<String>,
    /// When the data of the newest verified generation was collected (never later than it arrived, whatever clock the
    /// source has): what is younger would be lost.
    pub newest_verified_at: Option<Timestamp>,
    /// Generations in which damage is known.
    pub damaged: Vec<String>,
    /// What was put aside.
    pub quarantined: Vec<String>,
    /// The last runs.
    #[serde(flatten)]
    pub runs: Runs,
}

fn file(name: &str) -> String {
    format!("status-{name}.json")
}

/// Reads the last runs of a source; a file that cannot be understood is as none, since the next run writes it anew.
pub fn read(state: &Dir, name: &str) -> sys::Result<Runs> {
    let bytes = state.read_if_any(file(name), LIMIT)?.unwrap_or_default();
    Ok(serde_json::from_slice(&bytes).unwrap_or_default())
}

/// Notes a run.
pub fn note(state: &Dir, report: &SinkSource, started: Timestamp, finished: Timestamp) -> sys::Result<()> {
    let mut runs = read(state, &report.name)?;
    let findings = report.findings.iter().filter(|f| f.kind != Kind::Note).cloned().collect();
    let attempt = Attempt { started, finished, findings };
    if is_well(report) {
        runs.last_success = Some(attempt.clone());
    }
    runs.last_attempt = Some(attempt);
    let text = serde_json::to_vec(&runs)
        .map_err(|e| sys::Error::new("write", state.join(file(&report.name)), std::io::Error::other(e)))?;
    durable::write_file(state, file(&report.name), &text, 0o640)
}

/// How a source stands.
pub fn standing(store: &SinkStore, state: &Dir, source: &config::SinkSource) -> store::Result<Standing> {
    let kept = store.source(&source.name)?;
    let (stored, strange) = kept.stored()?;
    let verified = stored.iter().rev().find(|s| is_verified(s));
    let damaged = stored.iter().filter(|s| !s.marks.is_whole()).map(|s| s.id().to_string());
    let strange = strange.iter().map(|s| sys::show(s.name.as_encoded_bytes()));
    Ok(Standing {
        source: source.name.to_string(),
        generations: stored.len() as u64,
        condemned: kept.condemned()?.0.len() as u64,
        bytes: stored.last().map_or(0, |s| s.found.generation.bytes),
        newest: stored.last().map(|s| s.id().to_string()),
        newest_verified: verified.map(|s| s.id().to_string()),
        newest_verified_at: verified.map(|s| s.found.generation.started.min(s.receipt.stored)),
        damaged: damaged.chain(strange).collect(),
        quarantined: kept.quarantined()?.iter().map(|q| q.id.to_string()).collect(),
        runs: read(state, source.name.as_str())?,
    })
}
