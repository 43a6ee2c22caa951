//! Mails that have not left this host: written before they are sent, removed after delivery, bounded.
//!
//! A kill between the two costs a duplicate (with the same Message-ID) and never a mail.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::mail::Mail;
use crate::sys::{self, Dir, durable, show};

const FOLDER: &str = "spool";
const RETRY: &str = "mail-retry.json";
/// So many mails, and so many bytes of them, wait at most; one is never larger than [`LARGEST`].
const MOST: usize = 200;
const MOST_BYTES: u64 = 2 << 20;
const LARGEST: u64 = 1 << 20;
/// What is tried again after a failure waits so long, twice as long each time, and never longer than [`LONGEST`].
const FIRST: SignedDuration = SignedDuration::from_mins(5);
const LONGEST: SignedDuration = SignedDuration::from_hours(6);

/// A mail that waits.
pub(super) struct Waiting {
    pub(super) name: String,
    pub(super) mail: Mail,
    bytes: u64,
}

/// The folder of a role in which mails wait. Only whoever holds the lock of deliveries looks into it.
pub(super) struct Spool {
    dir: Dir,
    state: Dir,
}

#[derive(Serialize, Deserialize)]
struct Retry {
    tries: u32,
    not_before: Timestamp,
}

impl Spool {
    pub(super) fn open(state: &Dir) -> sys::Result<Self> {
        Ok(Self { dir: state.ensure_dir(FOLDER, 0o700)?, state: state.try_clone()? })
    }

    /// Its path, for messages.
    pub(super) fn path(&self) -> String {
        show(self.dir.path().as_os_str().as_encoded_bytes())
    }

    /// Writes a mail; gives the subjects of those that went for it.
    pub(super) fn put(&self, mail: &Mail) -> sys::Result<Vec<String>> {
        let name = format!("{}.json", mail.id);
        let text = self.text(mail, &name)?;
        let mut gone = Vec::new();
        let mut waiting = self.list()?;
        let too_much = |waiting: &[Waiting]| {
            let bytes: u64 = waiting.iter().map(|w| w.bytes).sum();
            waiting.len() >= MOST || bytes + text.len() as u64 > MOST_BYTES
        };
        while too_much(&waiting) && !waiting.is_empty() {
            let reminder = waiting.iter().position(|w| w.mail.reminder).unwrap_or(0);
            let oldest = waiting.remove(reminder);
            durable::remove_file(&self.dir, &oldest.name)?;
            gone.push(oldest.mail.subject);
        }
        durable::write_file(&self.dir, &name, &text, 0o600)?;
        Ok(gone)
    }

    /// Writes a mail anew, which some of its recipients have.
    pub(super) fn renew(&self, name: &str, mail: &Mail) -> sys::Result<()> {
        durable::write_file(&self.dir, name, &self.text(mail, name)?, 0o600)
    }

    /// Removes a mail that was delivered.
    pub(super) fn remove(&self, name: &str) -> sys::Result<()> {
        durable::remove_file(&self.dir, name)
    }

    /// The mails, in the order in which they were written. What a write left half done is removed; what cannot be read
    /// is none.
    pub(super) fn list(&self) -> sys::Result<Vec<Waiting>> {
        let mut waiting = Vec::new();
        for name in self.dir.names()? {
            let name = name.to_string_lossy().into_owned();
            if name.starts_with('.') {
                durable::remove_file(&self.dir, &name)?;
                continue;
            }
            let Ok(bytes) = self.dir.read(&name, LARGEST) else { continue };
            if let Ok(mail) = serde_json::from_slice(&bytes) {
                waiting.push(Waiting { name, mail, bytes: bytes.len() as u64 });
            }
        }
        waiting.sort_by(|a, b| (a.mail.at, &a.name).cmp(&(b.mail.at, &b.name)));
        Ok(waiting)
    }

    /// Whether it is too early to try again; until when.
    pub(super) fn not_before(&self, now: Timestamp) -> Option<Timestamp> {
        // A clock that went back never puts a mail off for long.
        let retry = self.retry().filter(|retry| retry.not_before.duration_since(now) <= LONGEST);
        retry.map(|retry| retry.not_before).filter(|time| *time > now)
    }

    fn retry(&self) -> Option<Retry> {
        let bytes = self.state.read_if_any(RETRY, 4096).ok()??;
        serde_json::from_slice(&bytes).ok()
    }

    /// Notes how an attempt went. That it cannot be noted costs an attempt more.
    pub(super) fn tried(&self, went_well: bool, now: Timestamp) -> sys::Result<()> {
        if went_well {
            return if self.retry().is_some() { durable::remove_file(&self.state, RETRY) } else { Ok(()) };
        }
        let tries = self.retry().map_or(0, |retry| retry.tries).saturating_add(1);
        let wait = FIRST.saturating_mul(1 << (tries - 1).min(10)).min(LONGEST);
        let retry = Retry { tries, not_before: now.saturating_add(wait).unwrap_or(now) };
        let text = serde_json::to_vec(&retry).unwrap_or_default();
        durable::write_file(&self.state, RETRY, &text, 0o600)
    }

    fn text(&self, mail: &Mail, name: &str) -> sys::Result<Vec<u8>> {
        serde_json::to_vec(mail)
            .map_err(|e| sys::Error::new("write", self.dir.join(name), std::io::Error::other(e)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{notify::About, report::Exit};

    fn mail(hour: i64, reminder: bool, body: String) -> Mail {
        let now = "2026-11-23T03:00:00Z".parse::<Timestamp>().unwrap() + SignedDuration::from_hours(hour);
        let about = About { role: "source", what: "source run", host: "h", exit: Exit::Ok, now };
        Mail { reminder, ..Mail::new(&about, format!("mail {hour}"), body) }
    }

    #[test]
    fn a_full_spool_drops_its_oldest_reminder_first_and_says_so() {
        let folder = tempfile::tempdir().unwrap();
        let spool = Spool::open(&Dir::open(folder.path()).unwrap()).unwrap();
        for hour in 0..200 {
            assert!(spool.put(&mail(hour, hour == 7 || hour == 9, String::new())).unwrap().is_empty());
        }
        assert_eq!(spool.put(&mail(200, false, String::new())).unwrap(), ["mail 7"]);
        assert_eq!(spool.put(&mail(201, false, String::new())).unwrap(), ["mail 9"]);
        assert_eq!(spool.put(&mail(202, false, String::new())).unwrap(), ["mail 0"]);
        assert_eq!(spool.list().unwrap().len(), 200);
        let gone = spool.put(&mail(203, false, "x".repeat(900 << 10))).unwrap();
        assert_eq!(gone, ["mail 1"]);
        assert!(spool.put(&mail(204, false, "x".repeat(900 << 10))).unwrap().len() == 1);
        let gone = spool.put(&mail(205, false, "x".repeat(900 << 10))).unwrap();
        assert!(gone.len() > 100, "{}", gone.len());
        assert!(spool.list().unwrap().iter().map(|w| w.bytes).sum::<u64>() <= MOST_BYTES);
    }

    #[test]
    fn attempts_become_rarer_and_a_delivery_begins_anew() {
        let folder = tempfile::tempdir().unwrap();
        let spool = Spool::open(&Dir::open(folder.path()).unwrap()).unwrap();
        let now: Timestamp = "2026-11-23T03:00:00Z".parse().unwrap();
        let minutes = |spool: &Spool| spool.not_before(now).map(|time| time.duration_since(now).as_mins());
        assert_eq!(minutes(&spool), None);
        let waits: Vec<_> =
            (0..9).map(|_| spool.tried(false, now).map(|()| minutes(&spool)).unwrap()).collect();
        assert_eq!(waits[..3], [Some(5), Some(10), Some(20)]);
        assert_eq!(waits[8], Some(360));
        assert_eq!(spool.not_before(now - SignedDuration::from_hours(24)), None);
        spool.tried(true, now).unwrap();
        assert_eq!(minutes(&spool), None);
    }
}
