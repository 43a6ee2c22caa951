//! What each kind of finding means to whoever is told of it: its name, the step, and what is safe all the same.

use super::Kind;

impl Kind {
    /// All kinds that are alarms.
    pub fn alarms() -> impl Iterator<Item = Self> {
        const ALL: [Kind; 23] = [
            Kind::Note,
            Kind::Warning,
            Kind::Failed,
            Kind::Drill,
            Kind::PreviousTransport,
            Kind::HandoverPointFull,
            Kind::LogsFull,
            Kind::Overdue,
            Kind::ClockSkew,
            Kind::DiskNearlyFull,
            Kind::Unreachable,
            Kind::HostKey,
            Kind::Verification,
            Kind::Damaged,
            Kind::Quarantined,
            Kind::Suspicious,
            Kind::Storage,
            Kind::Busy,
            Kind::Configuration,
            Kind::RestoreRefused,
            Kind::Interrupted,
            Kind::AlarmNotDelivered,
            Kind::Internal,
        ];
        ALL.into_iter().filter(|kind| kind.is_alarm())
    }

    /// Its name for people.
    pub fn word(self) -> &'static str {
        match self {
            Self::Note => "note",
            Self::Warning => "warning",
            Self::Failed => "failed",
            Self::Drill => "drill failed",
            Self::PreviousTransport => "not fetched",
            Self::HandoverPointFull => "Handover Point full",
            Self::LogsFull => "no room for logs",
            Self::Overdue => "overdue",
            Self::ClockSkew => "clock skew",
            Self::DiskNearlyFull => "disk nearly full",
            Self::Unreachable => "unreachable",
            Self::HostKey => "host key changed",
            Self::Verification => "verification failed",
            Self::Damaged => "damaged in the store",
            Self::Quarantined => "put aside",
            Self::Suspicious => "suspicious",
            Self::Storage => "storage",
            Self::Busy => "busy",
            Self::Configuration => "configuration",
            Self::RestoreRefused => "restore refused",
            Self::Interrupted => "interrupted",
            Self::AlarmNotDelivered => "alarm not delivered",
            Self::Internal => "internal error",
        }
    }

    /// The step of the process in which it is found.
    pub fn step(self) -> &'static str {
        match self {
            Self::Note | Self::Warning | Self::Busy | Self::Interrupted | Self::Internal => "run",
            Self::RestoreRefused => "restore",
            Self::Failed => "collect or fetch",
            Self::Drill => "restore drill",
            Self::PreviousTransport | Self::HandoverPointFull | Self::LogsFull => {
                "waiting at the Handover Point"
            }
            Self::Overdue => "watch",
            Self::ClockSkew => "comparing clocks",
            Self::DiskNearlyFull => "looking at the room",
            Self::Unreachable | Self::HostKey => "transport",
            Self::Verification | Self::Damaged | Self::Quarantined => "verify",
            Self::Suspicious => "comparing with earlier generations",
            Self::Storage => "writing to the disk",
            Self::Configuration => "start",
            Self::AlarmNotDelivered => "mail",
        }
    }

    /// What is safe all the same.
    pub fn safe(self) -> &'static str {
        match self {
            Self::Note | Self::Warning | Self::Busy | Self::AlarmNotDelivered => "everything",
            Self::RestoreRefused => "everything: nothing was touched",
            Self::Drill => {
                "the running application: a drill does not touch it. What is stored stays, but that it can be restored is not proven"
            }
            Self::Failed => "what did not fail is done; earlier generations stay where they are",
            Self::PreviousTransport => {
                "what waits is whole, but it is on this host alone until the sink fetches it"
            }
            Self::HandoverPointFull => {
                "the younger generations wait, whole; what went can be taken back for `undo_for`"
            }
            Self::LogsFull => {
                "every generation of logs that waits: none went. What was not taken yet is in the logs themselves, until their rotation removes it"
            }
            Self::Overdue => "what is stored stays: retention never removes the newest verified generation",
            Self::ClockSkew => "the order of generations: it is by their sequence, not by clocks",
            Self::DiskNearlyFull => "everything; this is a warning in time",
            Self::Unreachable => "what is stored at the sink; what waits at the source goes on waiting",
            Self::HostKey => "nothing was sent to the host that answered; what is stored is untouched",
            Self::Verification | Self::Damaged => {
                "damage is neither counted nor deleted, and never takes the place of what is whole"
            }
            Self::Quarantined => "it was never stored; what is stored is untouched",
            Self::Suspicious => {
                "every stored generation: nothing of this source goes until somebody has looked"
            }
            Self::Storage => "what is stored and what waits: nothing was deleted that retention protects",
            Self::Configuration => "what is stored and what waits: nothing of it was touched",
            Self::Interrupted => "what is stored and what waits; nothing half-made counts",
            Self::Internal => "what is stored and what waits: each step is one rename, done or not done",
        }
    }
}
