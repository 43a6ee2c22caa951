//! What happened in a restore or a drill, and what a restore would do.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Exit, Finding};
use crate::sys::holders::Holder;

/// A run of `handover restore`, or its plan.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RestoreRun {
    /// This host's name as a source.
    pub source: String,
    /// When it began.
    pub started: Timestamp,
    /// When it ended.
    pub finished: Timestamp,
    /// Whether it was only a plan.
    pub dry_run: bool,
    /// The generation that was chosen.
    pub generation: Option<Chosen>,
    /// What could have been chosen, the newest first.
    pub candidates: Vec<Candidate>,
    /// What was to be done.
    pub plan: Vec<PlannedElement>,
    /// Paths that were exchanged by one rename.
    pub exchanged: u64,
    /// Paths that were changed in place, as no rename can exchange them.
    pub in_place: u64,
    /// Paths that were not there before.
    pub created: u64,
    /// Dumps that were promoted.
    pub promoted: u64,
    /// Whether the generation is in its place, whatever was found besides.
    pub done: bool,
    /// Where the replaced state is kept until `restore clean`.
    pub replaced: Vec<String>,
    /// What was found.
    pub findings: Vec<Finding>,
    /// How it ended.
    pub exit: Exit,
}

/// The generation that is restored, and why that one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Chosen {
    /// Its id.
    pub id: String,
    /// Its sequence.
    pub sequence: u64,
    /// Its seal.
    pub seal: String,
    /// Where it was found.
    pub place: String,
    /// When it was collected.
    pub collected: Timestamp,
    /// How old its data is, in seconds.
    pub age_seconds: i64,
    /// Why this one.
    pub why: String,
    /// Why its seal is believed: `ledger` or `given`.
    pub trust: String,
}

/// A generation that could be restored, or is torn.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Candidate {
    /// Its id.
    pub id: String,
    /// Where it is.
    pub place: String,
    /// The source it is of, where that can be read.
    pub source: Option<String>,
    /// Its channel, where that can be read.
    pub channel: Option<String>,
    /// Its sequence.
    pub sequence: Option<u64>,
    /// Its lineage.
    pub lineage: Option<String>,
    /// Its seal.
    pub seal: Option<String>,
    /// When it was collected.
    pub collected: Option<Timestamp>,
    /// `whole` (every hash compared), `unverified` (all is there, nothing was read), `unread` (in a tar), or `torn`.
    pub condition: String,
    /// What is missing or wrong.
    pub torn: Vec<String>,
    /// Why its seal is believed: `ledger`, `given`; or `unknown`, or `other` if the ledger has another one.
    pub trust: String,
    /// Elements that had failed when it was collected.
    pub failed: Vec<String>,
    /// Bytes of its content.
    pub bytes: Option<u64>,
}

/// What is to be done with an element.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PlannedElement {
    /// Its name.
    pub name: String,
    /// Its kind.
    pub kind: String,
    /// Files and folders that are replaced.
    pub paths: Vec<PlannedPath>,
    /// Services that are stopped meanwhile.
    pub services: Vec<String>,
    /// Commands that are run, in their order.
    pub steps: Vec<String>,
}

/// A path that is replaced.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PlannedPath {
    /// The path.
    pub path: String,
    /// `exchange`, `in-place` or `create`.
    pub how: String,
    /// Why it cannot be exchanged.
    pub why: Option<String>,
    /// Files there now that are replaced.
    pub live_files: u64,
    /// Bytes of them.
    pub live_bytes: u64,
    /// Files there now that changed after the generation was begun: those changes are lost.
    pub newer: u64,
    /// Some of them.
    pub newer_examples: Vec<String>,
    /// Who has files open there.
    pub open: Vec<Holder>,
}

/// A run of `handover restore drill`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DrillRun {
    /// This host's name as a source.
    pub source: String,
    /// When it began.
    pub started: Timestamp,
    /// When it ended.
    pub finished: Timestamp,
    /// Whether only what would be tried was asked for.
    pub dry_run: bool,
    /// The generation that was restored.
    pub generation: Option<String>,
    /// How old its data was, in seconds.
    pub age_seconds: Option<i64>,
    /// What would be tried, and how: only where that was asked for.
    pub plan: Vec<RehearsedElement>,
    /// How long it took, in seconds.
    pub seconds: u64,
    /// Whether it came to its end: an interrupted or refused one says nothing of what the probes found.
    pub tried: bool,
    /// Whether all of it could be restored and every probe passed.
    pub ok: bool,
    /// Elements that were restored and probed.
    pub elements: Vec<DrilledElement>,
    /// What was found.
    pub findings: Vec<Finding>,
    /// How it ended.
    pub exit: Exit,
}

/// An element in a drill.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DrilledElement {
    /// Its name.
    pub name: String,
    /// Whether it could be restored and its probe passed.
    pub ok: bool,
    /// Whether there was a probe.
    pub probed: bool,
    /// How long it took, in seconds.
    pub seconds: f64,
}

/// An element that a drill would try.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RehearsedElement {
    /// Its name.
    pub name: String,
    /// Its kind.
    pub kind: String,
    /// Regular files; an archive is one.
    pub files: u64,
    /// Bytes of their content.
    pub bytes: u64,
    /// Where it would be written to.
    pub place: String,
    /// The commands in their order, each after the name of its step. `RANDOM` stands for what each drill chooses anew.
    pub commands: Vec<String>,
}
