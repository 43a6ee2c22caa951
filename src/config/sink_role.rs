//! The two sinks that a host can be: one machinery, and what it is called for each.

use super::Role;

/// Which sink it is. They differ in names and places, in nothing else.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum SinkRole {
    /// `[sink]`: application data.
    Data,
    /// `[logsink]`: logs.
    Logs,
}

impl SinkRole {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Data, Self::Logs];

    /// The subcommand; also the key of its section, and its folder below the state.
    pub fn name(self) -> &'static str {
        match self {
            Self::Data => "sink",
            Self::Logs => "logsink",
        }
    }

    /// Its section, as it is written.
    pub fn header(self) -> &'static str {
        match self {
            Self::Data => "[sink]",
            Self::Logs => "[logsink]",
        }
    }

    /// The section of one of its sources, as it is written.
    pub fn source_header(self) -> &'static str {
        match self {
            Self::Data => "[[sink.source]]",
            Self::Logs => "[[logsink.source]]",
        }
    }

    /// The user whom it runs as, if nothing else is said.
    pub fn user(self) -> &'static str {
        match self {
            Self::Data => "dataBackupSink",
            Self::Logs => "logBackupSink",
        }
    }

    /// The user on a source whom it logs in as, if nothing else is said.
    pub fn source_user(self) -> &'static str {
        match self {
            Self::Data => "dataBackupSource",
            Self::Logs => "logBackupSource",
        }
    }

    /// Its home, if nothing else is said.
    pub fn usual_home(self) -> &'static str {
        match self {
            Self::Data => "/home/dataBackupSink",
            Self::Logs => "/home/logBackupSink",
        }
    }

    /// Generations that it keeps, if nothing else is said.
    pub(super) fn keep(self) -> u32 {
        match self {
            Self::Data => 14,
            Self::Logs => 90,
        }
    }

    /// Generations that it takes from a source in a day, if nothing else is said: logs every five minutes.
    pub(super) fn max_per_day(self) -> u32 {
        match self {
            Self::Data => 48,
            Self::Logs => 288,
        }
    }
}

impl From<SinkRole> for Role {
    fn from(role: SinkRole) -> Self {
        match role {
            SinkRole::Data => Self::Sink,
            SinkRole::Logs => Self::Logsink,
        }
    }
}

impl std::fmt::Display for SinkRole {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.name())
    }
}
