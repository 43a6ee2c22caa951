//! How the last runs went: the last attempt and the last success, each as a whole report, written atomically.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::{
    report::{Exit, Kind, SourceRun},
    sys::{self, Dir, durable},
};

const FILE: &str = "status.json";
const LIMIT: u64 = 16 << 20;

/// The last runs.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Runs {
    /// The last run, however it ended.
    pub last_attempt: Option<SourceRun>,
    /// The last run that did all that there was to do.
    pub last_success: Option<SourceRun>,
}

/// Reads them; a file that cannot be understood is as none, since the next run writes it anew.
pub fn read(state: &Path) -> sys::Result<Runs> {
    let dir = match Dir::open(state) {
        Ok(dir) => dir,
        Err(e) if e.is_not_found() => return Ok(Runs::default()),
        Err(e) => return Err(e),
    };
    let bytes = dir.read_if_any(FILE, LIMIT)?.unwrap_or_default();
    Ok(serde_json::from_slice(&bytes).unwrap_or_default())
}

/// Notes a run. One that found another at work is no attempt.
pub fn note(state: &Path, run: &SourceRun) -> sys::Result<()> {
    if run.exit == Exit::Busy {
        return Ok(());
    }
    let mut runs = read(state)?;
    // As on the sink: what was only worth saying is no part of how things stand.
    let run = &SourceRun {
        findings: run.findings.iter().filter(|f| f.kind != Kind::Note).cloned().collect(),
        ..run.clone()
    };
    let handed_over = run.generation.is_some() || run.logs.is_some();
    // Where there are only logs, nothing new is well, too.
    if run.exit == Exit::Ok || run.exit == Exit::PreviousTransportFailed && handed_over {
        runs.last_success = Some(run.clone());
    }
    runs.last_attempt = Some(run.clone());
    let dir = Dir::create_all(state, 0o700)?;
    let text = serde_json::to_vec(&runs)
        .map_err(|e| sys::Error::new("write", dir.join(FILE), std::io::Error::other(e)))?;
    durable::write_file(&dir, FILE, &text, 0o640)
}
