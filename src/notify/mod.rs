//! Which facts of a run somebody should be told who is not looking, and the way to tell them.
//!
//! An [`Alarm`] is made from the same findings as text, JSON and exit code, so that none of them says something else.
//! It is told when its state changes: when it begins, once a day while it lasts, and when it has ended. What is told in
//! one run is one mail, written to the spool before it is sent and removed from there after delivery.
//!
//! ```text
//! <state>/<role>/alarms.json   which alarms last, and what was told of them      (alarms)
//! <state>/<role>/known.json    since when a source is watched                     (known)
//! <state>/<role>/spool/*.json  mails that have not left this host                 (spool)
//! <state>/<role>/mail-lock     held while one process looks at these and sends    (deliver)
//! ```
//!
//! What could not be delivered is a finding (exit code 16), never a reason to fail a backup.

mod alarms;
mod deliver;
mod known;
mod mail;
mod mailer;
mod ping;
mod smtp;
mod spool;
mod text;

pub use alarms::{Looked, Scope};
pub use deliver::{About, Delivered, Post, deliver, test};
pub use known::since;
pub use mailer::{Login, Mailer, Secret, Security, Server, Way};
pub use ping::{Ping, Signal};

use crate::report::{Finding, Kind};

/// Something that somebody should be told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alarm {
    /// What kind of trouble it is.
    pub kind: Kind,
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
        let key = format!("{}/{}", finding.kind.word(), finding.subject);
        let body = body(finding);
        match alarms.iter_mut().find(|alarm| alarm.key == key) {
            Some(alarm) => {
                alarm.body.push('\n');
                alarm.body.push_str(&body);
            }
            None => {
                let subject = format!("handover {name}: {}: {}", finding.subject, finding.kind.word());
                alarms.push(Alarm { kind: finding.kind, key, subject, body });
            }
        }
    }
    alarms
}

/// A finding for people: what it is about, what was found, and what to do next.
pub fn body(finding: &Finding) -> String {
    let fix = finding.fix.as_ref().map_or_else(String::new, |fix| format!("\n  -> {fix}"));
    format!("{}: {}{fix}", finding.subject, finding.text)
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
