//! What a run found becomes a mail: changes of state, spool, delivery; under a lock of its own, after the run's.

use std::{path::Path, time::Duration};

use jiff::Timestamp;

use super::{
    Mailer, Scope,
    alarms::Alarms,
    mail::{Mail, Postman, Sent},
    smtp::Error,
    spool::{Spool, Waiting},
};
use crate::{
    report::{Exit, Finding, Kind},
    sys::{Dir, lock, signals},
};

const LOCK: &str = "mail-lock";
/// Another delivery is waited for so long: it may be in the middle of a server's time-out.
const PATIENCE: Duration = Duration::from_secs(120);

/// What a mail is about.
#[derive(Debug, Clone, Copy)]
pub struct About<'a> {
    /// The role, as it is written on the command line.
    pub role: &'a str,
    /// What was run, as `source run`.
    pub what: &'a str,
    /// This host.
    pub host: &'a str,
    /// How it ended.
    pub exit: Exit,
    /// When.
    pub now: Timestamp,
}

/// What a delivery needs.
#[derive(Debug, Clone, Copy)]
pub struct Post<'a> {
    /// Who is told, and how.
    pub mailer: &'a Mailer,
    /// The state folder of the role; without one nothing is remembered, and all is told in each run.
    pub state: Option<&'a Path>,
}

/// What became of it.
#[derive(Debug, Default)]
pub struct Delivered {
    /// What went wrong with the mail itself.
    pub findings: Vec<Finding>,
    /// Whether there was something to tell.
    pub news: bool,
}

impl Delivered {
    fn warn(&mut self, text: String) {
        self.findings.push(Finding::new(Kind::Warning, "mail", text));
    }

    fn failed(&mut self, text: String, fix: &str) {
        self.findings.push(Finding::new(Kind::AlarmNotDelivered, "mail", text).with_fix(fix));
    }
}

/// Tells what has changed, and what earlier runs could not deliver. Where the spool cannot be written, as on a full
/// disk, the mail is sent from memory; then it may be repeated by the next run, but nothing is silent.
pub fn deliver(post: &Post<'_>, about: &About<'_>, scopes: &[Scope<'_>]) -> Delivered {
    let mut delivered = Delivered::default();
    let opened = match post.state {
        Some(path) => Dir::create_all(path, 0o700).map_err(|e| e.to_string()),
        None => Err("it is another user's".to_owned()),
    };
    let _lock = match opened.as_ref().map(wait_for_turn) {
        Ok(Ok(lock)) => lock,
        Ok(Err(who)) => {
            if scopes.iter().any(|scope| scope.findings.iter().any(|f| f.kind.is_alarm())) {
                let text =
                    format!("another process has been sending mail for {} s: {who}", PATIENCE.as_secs());
                delivered.failed(text, "look at that process; the next run tells");
            }
            return delivered;
        }
        Err(_) => None,
    };
    let spool =
        opened.as_ref().map_err(Clone::clone).and_then(|state| Spool::open(state).map_err(|e| e.to_string()));
    let mut alarms = load(&opened, &mut delivered);
    let before = alarms.clone();
    let mail = Mail::of_news(about, &alarms.change(scopes, about.now));
    delivered.news = mail.is_some();
    let told = mail.is_none_or(|mail| put(post.mailer, &spool, &mail, &mut delivered));
    if let (true, true, Ok(state)) = (told, alarms != before, opened.as_ref())
        && let Err(e) = alarms.save(state)
    {
        delivered.warn(format!("what was told cannot be noted, so the next run may repeat it: {e}"));
    }
    if let Ok(spool) = &spool {
        empty(post.mailer, spool, about, &mut delivered);
    }
    delivered
}

fn load(state: &Result<Dir, String>, delivered: &mut Delivered) -> Alarms {
    let read = state.as_ref().map_or_else(|_| Ok(Alarms::default()), Alarms::load);
    read.unwrap_or_else(|e| {
        delivered.warn(format!("what was told before is not known, so it may be repeated: {e}"));
        Alarms::default()
    })
}

/// Writes a mail to the spool, or sends it at once where that cannot be written; false if neither could be done.
fn put(mailer: &Mailer, spool: &Result<Spool, String>, mail: &Mail, delivered: &mut Delivered) -> bool {
    let put =
        spool.as_ref().map_err(Clone::clone).and_then(|spool| spool.put(mail).map_err(|e| e.to_string()));
    match put {
        Ok(gone) => {
            for subject in gone {
                let what = "the spool is full: a mail that was never delivered is dropped";
                delivered.warn(format!("{what}: {subject}"));
            }
            true
        }
        Err(why) => send_from_memory(mailer, mail, &why, delivered),
    }
}

/// The lock of deliveries; none where the disk has no room for it. Err says who has held it for too long.
fn wait_for_turn(state: &Dir) -> Result<Option<lock::Lock>, String> {
    let end = std::time::Instant::now() + PATIENCE;
    loop {
        match lock::try_exclusive(&state.join(LOCK), "handover, sending mail") {
            Ok(lock::Attempt::Held(lock)) => return Ok(Some(lock)),
            Err(_) => return Ok(None),
            Ok(lock::Attempt::Busy(who)) if std::time::Instant::now() >= end || signals::stopping() => {
                return Err(who);
            }
            Ok(lock::Attempt::Busy(_)) => std::thread::sleep(Duration::from_millis(100)),
        }
    }
}

fn send_from_memory(mailer: &Mailer, mail: &Mail, why: &str, delivered: &mut Delivered) -> bool {
    match Postman::open(mailer, &mail.host).and_then(|mut postman| postman.send(mail)) {
        Ok(sent) => {
            delivered.warn(format!("the spool cannot be written, so the mail was sent from memory: {why}"));
            delivered.refused(&sent);
            true
        }
        Err(e) => {
            let text = format!(
                "a mail is lost, and the next run tells again: the spool cannot be written ({why}), and {e}"
            );
            delivered.failed(text, &e.fix);
            false
        }
    }
}

impl Delivered {
    fn refused(&mut self, sent: &Sent) {
        for (to, why, for_good) in &sent.refused {
            let again = if *for_good { "" } else { "; it is tried again" };
            self.warn(format!("the mail server refuses {to}, the others have the mail: {why}{again}"));
        }
    }
}

/// Sends all that waits, the oldest first. What was tried in vain a short while ago is left alone, unless there is news.
fn empty(mailer: &Mailer, spool: &Spool, about: &About<'_>, delivered: &mut Delivered) {
    let waiting = match spool.list() {
        Ok(waiting) => waiting,
        Err(e) => return delivered.failed(format!("the spool cannot be read: {e}"), "repair the disk"),
    };
    // Whoever asks us to stop does not wait for a mail server; the next run sends it.
    if waiting.is_empty() || signals::stopping() {
        return;
    }
    let (count, place) = (waiting.len(), spool.path());
    if let Some(time) = spool.not_before(about.now).filter(|_| !delivered.news) {
        let text =
            format!("{count} in {place} could not be sent; tried again after {}", time.strftime("%H:%M UTC"));
        return delivered.failed(text, "`handover check --send-test-mail` says what is wrong");
    }
    let (failed, left) = send_all(mailer, spool, waiting, about.host, delivered);
    if spool.tried(failed.is_none(), about.now).is_err() {
        // It costs one attempt more than there should be.
    }
    if let Some(e) = failed {
        let mails = if left == 1 { "a mail waits".to_owned() } else { format!("{left} mails wait") };
        delivered.failed(format!("{mails} in {place}: {e}"), &e.fix);
    }
}

/// Sends these mails over one line; gives the last failure, and how many are left.
fn send_all(
    mailer: &Mailer,
    spool: &Spool,
    waiting: Vec<Waiting>,
    host: &str,
    delivered: &mut Delivered,
) -> (Option<Error>, usize) {
    let mut failed: Option<Error> = None;
    let mut left = 0;
    let mut postman = Postman::open(mailer, host);
    for mut waiting in waiting {
        let sent = match &mut postman {
            Ok(postman) => postman.send(&waiting.mail),
            Err(e) => Err(e.clone()),
        };
        match sent {
            Ok(sent) => {
                let is_over = sent.refused.iter().all(|(_, _, for_good)| *for_good);
                waiting.mail.delivered_to.extend(sent.delivered_to.iter().cloned());
                let noted = if is_over {
                    spool.remove(&waiting.name)
                } else {
                    spool.renew(&waiting.name, &waiting.mail)
                };
                if let Err(e) = noted {
                    delivered.warn(format!("a mail was delivered, and is delivered once more: {e}"));
                }
                delivered.refused(&sent);
            }
            Err(e) => {
                left += 1;
                if !e.of_one_mail {
                    postman = Err(e.clone());
                }
                failed = Some(e);
            }
        }
    }
    (failed, left)
}

/// Sends a mail that says only that it arrived. Gives what happened, line by line, or what is wrong and what to do.
pub fn test(mailer: &Mailer, about: &About<'_>) -> Result<Vec<String>, (String, String)> {
    let failed = |e: Error| (e.why, e.fix);
    let mut postman = Postman::open(mailer, about.host).map_err(failed)?;
    let mut lines = vec![postman.describe()];
    let body = format!(
        "This is a test of handover on {}.\nAlarms of this host arrive where this mail arrived.\n",
        about.host
    );
    let mail = Mail::new(about, format!("[handover] {}: test", about.host), body);
    let sent = postman.send(&mail).map_err(failed)?;
    lines.push(format!("sent to {}: {}", sent.delivered_to.join(", "), sent.answer));
    match sent.refused.as_slice() {
        [] => Ok(lines),
        refused => {
            let all: Vec<String> = refused.iter().map(|(to, why, _)| format!("{to}: {why}")).collect();
            let why = format!("{}; refused: {}", lines.join("; "), all.join("; "));
            Err((why, "correct `to` in [mail], or ask who runs the mail server".to_owned()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::notify::{Looked, Way};

    /// A mailer whose program keeps each mail as a file.
    fn mailer(folder: &Path, program: &str) -> Mailer {
        Mailer {
            to: vec!["ops@example.org".to_owned()],
            from: "handover@example.org".to_owned(),
            way: Way::Sendmail(folder.join(program)),
            timeout: Duration::from_secs(20),
        }
    }

    #[test]
    fn a_state_folder_that_cannot_be_made_is_no_reason_to_be_silent() {
        let folder = tempfile::tempdir().unwrap();
        let dir = Dir::open(folder.path()).unwrap();
        let script = format!("#!/bin/sh\ncat > {}/mail\n", folder.path().display());
        crate::sys::durable::write_file(&dir, "sendmail", script.as_bytes(), 0o755).unwrap();
        crate::sys::durable::write_file(&dir, "state", b"a file in its place", 0o600).unwrap();
        let findings = [Finding::new(Kind::Storage, "shop", "the disk is full")];
        let scope = Scope { name: "shop", findings: &findings, generation: None, looked: Looked::nothing() };
        let about = About {
            role: "sink",
            what: "sink run",
            host: "h",
            exit: Exit::Storage,
            now: crate::sys::clock::now(),
        };
        let mailer = mailer(folder.path(), "sendmail");
        let state = folder.path().join("state");
        let delivered =
            deliver(&Post { mailer: &mailer, state: Some(&state) }, &about, std::slice::from_ref(&scope));
        assert!(delivered.findings[0].text.contains("sent from memory"), "{delivered:?}");
        let mail = String::from_utf8(dir.read("mail", 1 << 20).unwrap()).unwrap();
        assert!(
            mail.contains("Subject: [handover] shop: storage\n") && mail.contains("the disk is full"),
            "{mail}"
        );
        let mailer = self::mailer(folder.path(), "missing");
        let delivered = deliver(&Post { mailer: &mailer, state: Some(&state) }, &about, &[scope]);
        assert_eq!(delivered.findings[0].kind, Kind::AlarmNotDelivered);
    }
}
