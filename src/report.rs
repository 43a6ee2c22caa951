//! What happened in a run: one value, from which text, JSON, status, exit code and mail are made, so that they never
//! disagree.

pub mod health;
mod kind;
pub mod life;
pub mod restore;
pub mod runs;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// The exit codes of every subcommand; a contract, see `docs/exit-codes.md`. Any other code is a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Exit {
    /// 0: all is well.
    Ok,
    /// 16: all is well, but an alarm could not be delivered.
    AlarmNotDelivered,
    /// 4: done, but what an earlier run handed over has not been fetched.
    PreviousTransportFailed,
    /// 3: some elements or sources failed; the others are done.
    SomeFailed,
    /// 12: the far end cannot be reached or does not answer.
    Unreachable,
    /// 13: content is not what its seal says.
    VerificationFailed,
    /// 14: the storage is full, broken, read-only or not mounted.
    Storage,
    /// 1: a mistake in handover itself.
    Internal,
    /// 130: stopped by a signal.
    Interrupted,
    /// 2: the command line is wrong.
    Usage,
    /// 10: the configuration is wrong.
    Configuration,
    /// 11: another run holds the lock.
    Busy,
    /// 15: this restore is refused as it is.
    RestoreRefused,
}

impl Exit {
    /// All of them, by their code.
    pub const ALL: [Self; 13] = [
        Self::Ok,
        Self::Internal,
        Self::Usage,
        Self::SomeFailed,
        Self::PreviousTransportFailed,
        Self::Configuration,
        Self::Busy,
        Self::Unreachable,
        Self::VerificationFailed,
        Self::Storage,
        Self::RestoreRefused,
        Self::AlarmNotDelivered,
        Self::Interrupted,
    ];

    /// What it means, for man pages.
    pub fn meaning(self) -> &'static str {
        match self {
            Self::Ok => "All is well.",
            Self::Internal => "A mistake in handover itself.",
            Self::Usage => "The command line is wrong, or names what is not there.",
            Self::SomeFailed => {
                "Some elements or sources failed, the others are done; of watch: nothing new came for too long."
            }
            Self::PreviousTransportFailed => {
                "Done, but what an earlier run handed over has not been fetched."
            }
            Self::Configuration => "The configuration is wrong, or does not fit what was found.",
            Self::Busy => "Another run is at work.",
            Self::Unreachable => "A source does not answer.",
            Self::VerificationFailed => "Content is not what its seal says.",
            Self::Storage => "A disk is full, broken, read\\-only or not mounted.",
            Self::RestoreRefused => "This restore is refused as it is.",
            Self::AlarmNotDelivered => "All is well but for a mail that did not leave this host.",
            Self::Interrupted => "Stopped by a signal.",
        }
    }

    /// The process's exit code.
    pub fn code(self) -> u8 {
        match self {
            Self::Ok => 0,
            Self::Internal => 1,
            Self::Usage => 2,
            Self::SomeFailed => 3,
            Self::PreviousTransportFailed => 4,
            Self::Configuration => 10,
            Self::Busy => 11,
            Self::Unreachable => 12,
            Self::VerificationFailed => 13,
            Self::Storage => 14,
            Self::RestoreRefused => 15,
            Self::AlarmNotDelivered => 16,
            Self::Interrupted => 130,
        }
    }

    /// The name in JSON and mail.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Internal => "internal",
            Self::Usage => "usage",
            Self::SomeFailed => "some-failed",
            Self::PreviousTransportFailed => "previous-transport-failed",
            Self::Configuration => "configuration",
            Self::Busy => "busy",
            Self::Unreachable => "unreachable",
            Self::VerificationFailed => "verification-failed",
            Self::Storage => "storage",
            Self::RestoreRefused => "restore-refused",
            Self::AlarmNotDelivered => "alarm-not-delivered",
            Self::Interrupted => "interrupted",
        }
    }

    /// The one of two that a run ends with: the graver. Usage and a refused restore end a run before it begins; one
    /// source of several may be busy or misconfigured while the others go on.
    pub fn worst(self, other: Self) -> Self {
        if other.gravity() > self.gravity() { other } else { self }
    }

    fn gravity(self) -> u8 {
        match self {
            Self::Ok => 0,
            Self::AlarmNotDelivered => 1,
            Self::Busy => 2,
            Self::PreviousTransportFailed => 3,
            Self::SomeFailed => 4,
            Self::Configuration => 5,
            Self::Unreachable => 6,
            Self::VerificationFailed => 7,
            Self::Storage => 8,
            Self::RestoreRefused | Self::Usage => 9,
            Self::Internal => 10,
            Self::Interrupted => 11,
        }
    }
}

/// What kind of thing was found in a run. Each has one exit code; each that is not well is worth an alarm.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Worth saying, nothing to do.
    Note,
    /// Worth looking at; the run is well.
    Warning,
    /// An element was not collected whole, or a source not fetched.
    Failed,
    /// A drill could not restore what is stored.
    Drill,
    /// A generation of an earlier run still waits and nobody is fetching it.
    PreviousTransport,
    /// The Handover Point is full: the eldest waiting generation went.
    HandoverPointFull,
    /// The Handover Point of the logs is full: no further generation was made, and none went.
    LogsFull,
    /// Nothing new came for longer than `alarm_after`.
    Overdue,
    /// A clock is wrong, here or there.
    ClockSkew,
    /// Little is left of the disk beyond what is reserved.
    DiskNearlyFull,
    /// The far end did not answer.
    Unreachable,
    /// Another host than the one that was enrolled answered.
    HostKey,
    /// Content is not what its seal says.
    Verification,
    /// A stored generation is known to be damaged.
    Damaged,
    /// A generation was put aside because it failed its check twice.
    Quarantined,
    /// A stored generation looks as if something had happened to the data on its source; nothing of it goes meanwhile.
    Suspicious,
    /// No room, or a disk that fails or is not mounted.
    Storage,
    /// Another run holds the lock.
    Busy,
    /// The configuration does not fit what was found.
    Configuration,
    /// This restore is refused as it is.
    RestoreRefused,
    /// Stopped by a signal.
    Interrupted,
    /// A mail about this run did not leave this host.
    AlarmNotDelivered,
    /// A mistake in handover itself.
    Internal,
}

impl Kind {
    /// The exit code that a finding of this kind asks for.
    pub fn exit(self) -> Exit {
        match self {
            Self::Note | Self::Warning | Self::ClockSkew | Self::DiskNearlyFull => Exit::Ok,
            Self::Failed | Self::Drill | Self::Overdue | Self::Suspicious => Exit::SomeFailed,
            Self::PreviousTransport | Self::HandoverPointFull | Self::LogsFull => {
                Exit::PreviousTransportFailed
            }
            Self::Unreachable | Self::HostKey => Exit::Unreachable,
            Self::Verification | Self::Damaged | Self::Quarantined => Exit::VerificationFailed,
            Self::Storage => Exit::Storage,
            Self::Busy => Exit::Busy,
            Self::Configuration => Exit::Configuration,
            Self::RestoreRefused => Exit::RestoreRefused,
            Self::Interrupted => Exit::Interrupted,
            Self::AlarmNotDelivered => Exit::AlarmNotDelivered,
            Self::Internal => Exit::Internal,
        }
    }

    /// Whether somebody should be told who is not looking.
    pub fn is_alarm(self) -> bool {
        match self {
            // That a mail did not leave is told where it can be: as text and by the exit code.
            Self::Note
            | Self::Warning
            | Self::Busy
            | Self::RestoreRefused
            | Self::Interrupted
            | Self::AlarmNotDelivered => false,
            Self::Failed
            | Self::Drill
            | Self::PreviousTransport
            | Self::HandoverPointFull
            | Self::LogsFull
            | Self::Overdue
            | Self::ClockSkew
            | Self::DiskNearlyFull
            | Self::Unreachable
            | Self::HostKey
            | Self::Verification
            | Self::Damaged
            | Self::Quarantined
            | Self::Suspicious
            | Self::Storage
            | Self::Configuration
            | Self::Internal => true,
        }
    }
}

/// One fact of a run: of whom, what, and what to do next.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// What kind of thing it is.
    pub kind: Kind,
    /// The element, source or generation that it is about.
    pub subject: String,
    /// What was found, safe to show.
    pub text: String,
    /// What to do next, where something can be done.
    pub fix: Option<String>,
}

impl Finding {
    /// A finding without a fix.
    pub fn new(kind: Kind, subject: impl Into<String>, text: impl Into<String>) -> Self {
        Self { kind, subject: subject.into(), text: text.into(), fix: None }
    }

    /// The same with what to do next.
    #[must_use]
    pub fn with_fix(mut self, fix: impl Into<String>) -> Self {
        self.fix = Some(fix.into());
        self
    }
}

/// The worst exit code that a list of findings asks for.
pub fn exit_of(findings: &[Finding]) -> Exit {
    findings.iter().fold(Exit::Ok, |exit, finding| exit.worst(finding.kind.exit()))
}

/// What a phase of a run took.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Timing {
    /// The phase.
    pub phase: String,
    /// Seconds.
    pub seconds: f64,
}

/// A run of `handover source`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SourceRun {
    /// The source's name.
    pub source: String,
    /// When it began.
    pub started: Timestamp,
    /// When it ended.
    pub finished: Timestamp,
    /// The generation that was handed over, if any.
    pub generation: Option<Collected>,
    /// The generation of logs that was handed over, if any.
    #[serde(default)]
    pub logs: Option<Collected>,
    /// What was found.
    pub findings: Vec<Finding>,
    /// Whether it looked at all it is for: then what it did not find is well.
    #[serde(default)]
    pub complete: bool,
    /// How it ended.
    pub exit: Exit,
    /// Where the time went.
    pub timings: Vec<Timing>,
}

/// A generation that was handed over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Collected {
    /// Its id.
    pub id: String,
    /// Its sequence.
    pub sequence: u64,
    /// Its seal: what `handover restore --trust` takes.
    pub seal: String,
    /// Regular files.
    pub files: u64,
    /// Bytes of content.
    pub bytes: u64,
    /// Bytes that were read because they were new or changed.
    pub bytes_read: u64,
    /// Per element.
    pub elements: Vec<CollectedElement>,
}

/// An element that was collected.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CollectedElement {
    /// Its name.
    pub name: String,
    /// Its kind.
    pub kind: String,
    /// Whether it is whole.
    pub ok: bool,
    /// Why not.
    pub reason: Option<String>,
    /// Regular files.
    pub files: u64,
    /// Bytes of content.
    pub bytes: u64,
    /// What could not be read.
    pub failed: u64,
    /// What kept changing.
    pub unstable: u64,
}

/// A run of `handover sink` or `handover logsink`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SinkRun {
    /// When it began.
    pub started: Timestamp,
    /// When it ended.
    pub finished: Timestamp,
    /// Per source, in the order of the configuration.
    pub sources: Vec<SinkSource>,
    /// What was found that is of no single source.
    pub findings: Vec<Finding>,
    /// How it ended.
    pub exit: Exit,
}

/// What a sink run did with one source.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SinkSource {
    /// The source's name.
    pub name: String,
    /// Generations fetched, checked and stored in this run, in order.
    pub stored: Vec<Fetched>,
    /// Generations whose receipt the source took in this run.
    pub accepted: Vec<String>,
    /// Generations that retention condemned in this run, each with the reason.
    pub condemned: Vec<Condemned>,
    /// Generations that failed their check twice in this run and were put aside, each with the reason.
    pub put_aside: Vec<Condemned>,
    /// What was found.
    pub findings: Vec<Finding>,
    /// Whether all that the source offered was looked at: then what was not found is well.
    #[serde(default)]
    pub complete: bool,
    /// Where the time went.
    pub timings: Vec<Timing>,
    /// Bytes that crossed the wire in all, both ways, also of attempts that failed.
    #[serde(default)]
    pub wire: u64,
}

/// What a watch found: something that did not happen, or is about to go wrong.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WatchRun {
    /// When it looked.
    pub at: Timestamp,
    /// What was found.
    pub findings: Vec<Finding>,
    /// How it ended.
    pub exit: Exit,
}

/// A generation that was fetched.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Fetched {
    /// Its id.
    pub id: String,
    /// The sink's sequence.
    pub sequence: u64,
    /// Its seal.
    pub seal: String,
    /// Regular files in it.
    pub files: u64,
    /// Bytes of content in it.
    pub bytes: u64,
    /// Files that rsync fetched, or that were made out of their previous version and a delta.
    pub fetched: u64,
    /// Those among them that were made of a delta.
    #[serde(default)]
    pub patched: u64,
    /// Bytes that came as deltas.
    #[serde(default)]
    pub delta_bytes: u64,
    /// Bytes that crossed the wire, both ways.
    pub wire: u64,
    /// Files hashed on arrival.
    pub hashed: u64,
    /// Linked files that were read again.
    pub reread: u64,
    /// Files only linked.
    pub linked: u64,
}

/// A generation that goes, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Condemned {
    /// Its id.
    pub id: String,
    /// Why.
    pub reason: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Exit; 13] = [
        Exit::Ok,
        Exit::AlarmNotDelivered,
        Exit::PreviousTransportFailed,
        Exit::SomeFailed,
        Exit::Unreachable,
        Exit::VerificationFailed,
        Exit::Storage,
        Exit::Internal,
        Exit::Interrupted,
        Exit::Usage,
        Exit::Configuration,
        Exit::Busy,
        Exit::RestoreRefused,
    ];

    #[test]
    fn codes_and_names_are_unique_and_the_json_name_is_the_same() {
        let codes: std::collections::BTreeSet<u8> = ALL.iter().map(|e| e.code()).collect();
        assert_eq!(codes.len(), ALL.len());
        for exit in ALL {
            assert_eq!(serde_json::to_string(&exit).unwrap(), format!("\"{}\"", exit.name()));
        }
    }

    #[test]
    fn the_graver_code_wins_whatever_the_order() {
        let order = [16, 11, 4, 3, 10, 12, 13, 14, 1, 130];
        for (i, a) in order.iter().enumerate() {
            for b in &order[i..] {
                let find = |code: u8| *ALL.iter().find(|e| e.code() == code).unwrap();
                assert_eq!(find(*a).worst(find(*b)).code(), *b);
                assert_eq!(find(*b).worst(find(*a)).code(), *b);
            }
        }
        assert_eq!(Exit::Ok.worst(Exit::AlarmNotDelivered), Exit::AlarmNotDelivered);
    }
}
