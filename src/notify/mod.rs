//! Which facts of a run somebody should be told who is not looking, and the way to tell them.
//!
//! An [`Alarm`] is made from the same findings as text, JSON and exit code, so that none of them says something else.
//! A [`Notifier`] delivers alarms; what it could not deliver is the run's business (exit code 16), never a reason to
//! fail a backup.

use crate::report::{Finding, Kind};

/// Something that somebody should be told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alarm {
    /// The same for the same trouble of the same subject: what has been told need not be told again.
    pub key: String,
    /// One line: host or source, and what is wrong.
    pub subject: String,
    /// What was found, and what to do next.
    pub body: String,
}

/// The alarms of a run, in the order of its findings; one for each kind of trouble with each subject, however often it
/// was found.
pub fn alarms(name: &str, findings: &[Finding]) -> Vec<Alarm> {
    let mut alarms: Vec<Alarm> = Vec::new();
    for finding in findings.iter().filter(|f| f.kind.is_alarm()) {
        let key = format!("{}/{}", word(finding.kind), finding.subject);
        let body = body(finding);
        match alarms.iter_mut().find(|alarm| alarm.key == key) {
            Some(alarm) => {
                alarm.body.push('\n');
                alarm.body.push_str(&body);
            }
            None => {
                let subject = format!("handover {name}: {}: {}", finding.subject, word(finding.kind));
                alarms.push(Alarm { key, subject, body });
            }
        }
    }
    alarms
}

/// Delivers alarms.
pub trait Notifier {
    /// Tells them; gives those that could not be delivered, each with the reason.
    fn tell(&mut self, alarms: &[Alarm]) -> Vec<(Alarm, String)>;
}

/// A finding for people: what it is about, what was found, and what to do next.
pub fn body(finding: &Finding) -> String {
    let fix = finding.fix.as_ref().map_or_else(String::new, |fix| format!("\n  -> {fix}"));
    format!("{}: {}{fix}", finding.subject, finding.text)
}

fn word(kind: Kind) -> &'static str {
    match kind {
        Kind::Note => "note",
        Kind::Warning => "warning",
        Kind::Failed => "failed",
        Kind::PreviousTransport => "not fetched",
        Kind::HandoverPointFull => "Handover Point full",
        Kind::ClockSkew => "clock skew",
        Kind::Unreachable => "unreachable",
        Kind::Verification => "verification failed",
        Kind::Quarantined => "put aside",
        Kind::Storage => "storage",
        Kind::Busy => "busy",
        Kind::Configuration => "configuration",
        Kind::RestoreRefused => "restore refused",
        Kind::Interrupted => "interrupted",
        Kind::Internal => "internal error",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_trouble_is_one_alarm_however_often_it_is_found_and_notes_are_none() {
        let findings = [
            Finding::new(Kind::Note, "www", "left out"),
            Finding::new(Kind::Verification, "www", "first").with_fix("look"),
            Finding::new(Kind::Verification, "www", "second"),
            Finding::new(Kind::PreviousTransport, "shop", "waits"),
        ];
        let alarms = alarms("shop", &findings);
        let keys: Vec<&str> = alarms.iter().map(|a| a.key.as_str()).collect();
        assert_eq!(keys, ["verification failed/www", "not fetched/shop"]);
        assert_eq!(alarms[0].body, "www: first\n  -> look\nwww: second");
        assert_eq!(alarms[0].subject, "handover shop: www: verification failed");
    }
}
