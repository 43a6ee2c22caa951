//! B1.b: collecting the logs of this host, each content once. See `docs/logs.md`.
//!
//! A run takes what is new of each log file, and the journal since its cursor, as one generation of the log channel. The
//! cursor that says so is valid with the rename that publishes it. Where nothing is new there is no generation.

mod again;
mod content;
mod cursor;
mod files;
mod journal;
mod making;
mod name;
mod recognise;
mod scan;

use std::{
    path::PathBuf,
    sync::atomic::{AtomicU64, Ordering},
};

use self::{
    cursor::Cursor,
    files::Files,
    making::Making,
    scan::{Globs, Scan, some},
};
use super::{
    collect::{Book, Error},
    copier::Shared,
    delivery::{Collection, Delivery, look_at_sink},
};
use crate::{
    config,
    manifest::pieces,
    report::{Collected, Finding, Kind},
    store::handover_point::{Draft, HandoverPoint},
    sys::{Dir, room::Room},
};

/// Collects the logs and hands them over. None if nothing is new, or no more may wait.
pub(super) fn run(
    delivery: &mut Delivery<'_>,
    config: &config::Logs,
    state: Dir,
) -> Result<Option<Collected>, Error> {
    let (point, mut state) = delivery.open(&config.home, state)?;
    delivery.complete = true;
    let mut cursor = Cursor::read(&state)?;
    again::clear(&point, &mut cursor, delivery.started)?;
    if is_full(delivery, config, &point)? {
        return Ok(None);
    }
    let ledger = state.ledger()?;
    let id = point.free_id(delivery.started, |id| ledger.contains_key(id))?;
    let draft = point.begin(&id)?;
    let made = Collecting { delivery, config, point: &point, cursor: &mut cursor, draft: &draft }.collect();
    let made = made.and_then(|made| cursor.write_new(&state, delivery.started).map(|()| made));
    match made {
        Ok(Some(collection)) => {
            let published = delivery.publish(&point, &mut state, draft, collection)?;
            again::clear(&point, &mut cursor, delivery.started)?;
            Ok(Some(published))
        }
        Ok(None) => {
            // Nothing was taken: what is noted of names and places is true whatever becomes of it.
            state.make_memory_valid()?;
            draft.discard()?;
            Ok(None)
        }
        Err(e) => {
            state.forget()?;
            draft.discard()?;
            Err(e)
        }
    }
}

/// The files that a run would look at.
pub fn matching(config: &config::Logs, own: &[PathBuf]) -> Result<Vec<PathBuf>, Error> {
    Ok(Globs::new(config, own)?.scan()?.files.into_iter().map(|found| found.path).collect())
}

/// Logs are never dropped: where too many generations wait, nothing is taken, and the cursor stays.
fn is_full(delivery: &mut Delivery<'_>, config: &config::Logs, point: &HandoverPoint) -> Result<bool, Error> {
    let waiting = point.waiting()?.items.iter().filter(|w| w.rejected.is_none()).count();
    if waiting < usize::try_from(config.max_waiting).unwrap_or(usize::MAX) {
        return Ok(false);
    }
    let text = format!(
        "the Handover Point of the logs holds its most (max_waiting = {}): no further one was made; the logs stay where they are, and are taken once there is room. What rotation removes until then is lost",
        config.max_waiting
    );
    let fix = look_at_sink(delivery.channel);
    let subject = delivery.subject();
    delivery.find(Finding::new(Kind::LogsFull, subject, text).with_fix(fix));
    Ok(true)
}

struct Collecting<'c, 'd> {
    delivery: &'c mut Delivery<'d>,
    config: &'c config::Logs,
    point: &'c HandoverPoint,
    cursor: &'c mut Cursor,
    draft: &'c Draft,
}

impl<'c> Collecting<'c, '_> {
    /// What is new; none if nothing is.
    fn collect(&mut self) -> Result<Option<Collection>, Error> {
        let setup = self.delivery.setup;
        let now = self.delivery.started;
        let shared = Shared {
            owner: self.point.new_file_owner(),
            reserve: setup.config.reserve.of(Room::of(&Dir::open(self.point.home())?)?.bytes_total),
            progress: setup.progress,
            since_room: AtomicU64::new(0),
            read: AtomicU64::new(0),
            deltas: None, // Pieces of logs are never changed.
        };
        let mut elements = vec![self.files(&shared)?];
        let mut making = Making::new(pieces::JOURNAL, self.draft, now);
        if self.config.journald {
            setup.progress.begin("collecting the journal", 0, 0);
            journal::take(
                self.config.journal_directory.as_deref(),
                &mut self.cursor.journal,
                &mut making,
                &shared,
            )?;
        }
        elements.push(making);
        again::take(self.point, self.cursor, &mut elements, &shared, &mut self.delivery.findings)?;
        let failed: Vec<Finding> = elements.iter().filter_map(Making::finding).collect();
        failed.into_iter().for_each(|finding| self.delivery.find(finding));
        if elements.iter().all(Making::is_empty) {
            return Ok(None);
        }
        let mut book = Book::open(self.draft.dir(), None, self.point.new_file_owner(), setup.progress)?;
        let mut made = Vec::new();
        // In the order of the manifest.
        for element in elements {
            made.extend(element.finish(&mut book)?);
        }
        Ok(Some(Collection {
            elements: made,
            book: book.finish()?,
            read: shared.read.load(Ordering::Relaxed),
        }))
    }

    fn files(&mut self, shared: &Shared<'_>) -> Result<Making<'c>, Error> {
        let setup = self.delivery.setup;
        setup.progress.begin("collecting logs", 0, 0);
        let mut making = Making::new(pieces::FILES, self.draft, self.delivery.started);
        let scan = Globs::new(self.config, setup.own)?.scan()?;
        self.tell(&scan, &mut making);
        let mut files = Files {
            cursor: self.cursor,
            making: &mut making,
            point: self.point,
            shared,
            findings: &mut self.delivery.findings,
        };
        files.take_all(&scan)?;
        Ok(making)
    }

    /// What a scan found that is no log file.
    fn tell(&mut self, scan: &Scan, making: &mut Making<'_>) {
        for (path, why) in &scan.failures {
            making.fail(path, why.clone());
        }
        if !scan.links.is_empty() {
            let links = some(scan.links.iter().map(|path| path.as_path()));
            let text = format!("symbolic links are not followed: {links}; name the files they lead to");
            self.delivery.find(Finding::new(Kind::Note, "logs", text));
        }
        for glob in &scan.idle {
            let text = format!("nothing matches {}", crate::sys::show(glob.as_bytes()));
            let fix = "correct the glob in [source.logs], or remove it";
            self.delivery.find(Finding::new(Kind::Warning, "logs", text).with_fix(fix));
        }
    }
}
