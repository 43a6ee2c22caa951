//! How a file of a tree is stored: linked where it is unchanged, read where not; both by other threads.

use std::{
    ffi::OsStr,
    os::unix::ffi::OsStrExt as _,
    sync::{Arc, mpsc::sync_channel},
};

use crossbeam_channel::TrySendError;
use rustix::fs::Stat;

use super::{COPY, Level, Tools, WALK};
use crate::{
    manifest::entry::{self, Time},
    source::{
        cache::Known,
        collect::{Error, LinkKey, Record, Slot},
        copier::{self, At, Job, Work},
        linking::Batch,
    },
    sys::{self, Dir, laps::Laps},
};

impl Tools<'_> {
    /// Stores a file as itself: linked where it is unchanged, read where not.
    pub(super) fn store(
        &mut self,
        level: &Level,
        name: &OsStr,
        (stat, synced): (&Stat, Time),
        path: Vec<u8>,
        waits: &mut Laps,
    ) -> Result<(), Error> {
        if let Some(key) = LinkKey::of(stat)
            && !self.linked.insert(key.id())
        {
            let stored = self.place_in_draft(level, &path, name)?;
            return self.send(Slot::Ready(Record::Twin { path, key, stored }), waits);
        }
        let known = match &mut self.cache {
            Some(cache) => cache.find(&path).map_err(|e| sys::Error::new("read", "cache", e))?,
            None => None,
        };
        let afresh = !self.afresh.is_empty() && self.afresh.contains(&entry::stored_path(&path));
        let known = known.filter(|_| !afresh);
        let unchanged = known.as_ref().is_some_and(|known| is_unchanged(known, stat, synced));
        let known = match (known, &level.previous, &level.to) {
            (Some(known), Some(previous), Some(to)) if unchanged && !entry::is_long(&path) => {
                if !self.batch.as_ref().is_some_and(|batch| batch.takes(&level.from)) {
                    self.hand_on_batch(waits)?;
                }
                let begin = || Batch::new(&level.from, previous, to, synced);
                self.batch.get_or_insert_with(begin).add(stat, known);
                return Ok(());
            }
            (known, ..) => known,
        };
        let to = self.place_in_draft(level, &path, name)?;
        let stored_before = self.place(level.previous.as_ref(), self.previous, &path, name)?;
        let previous = known.and_then(|known| stored_before.map(|at| (at, known)));
        self.hand_on_batch(waits)?;
        let previous = match previous {
            Some((at, known)) if unchanged => {
                let mut batch = Batch::of_one(&level.from, &at, &to, synced);
                batch.add(stat, known);
                self.batch = Some(batch);
                return self.hand_on_batch(waits);
            }
            previous => previous,
        };
        let from = At { dir: Arc::clone(&level.from), name: name.to_owned() };
        let (reply, answer) = sync_channel(1);
        let job = Job { path, from, to, previous, synced };
        self.hand_on(Work::Read(job, reply), COPY, waits)?;
        self.slots.send(Slot::Pending(answer))
    }

    /// Sends a slot to the book, after all that came before it.
    pub(super) fn send(&mut self, slot: Slot, waits: &mut Laps) -> Result<(), Error> {
        self.hand_on_batch(waits)?;
        self.slots.send(slot)
    }

    /// Sends what is held back: to be called after the last one.
    pub(super) fn flush(&mut self, waits: &mut Laps) -> Result<(), Error> {
        self.hand_on_batch(waits)?;
        self.slots.flush()
    }

    fn hand_on_batch(&mut self, waits: &mut Laps) -> Result<(), Error> {
        let Some(batch) = self.batch.take() else { return Ok(()) };
        let (files, (reply, answer)) = (batch.count(), sync_channel(1));
        self.hand_on(Work::Link(batch, reply), WALK, waits)?;
        self.slots.send(Slot::Linking(answer, files))
    }

    fn hand_on(&self, work: Work, phase: &'static str, waits: &mut Laps) -> Result<(), Error> {
        let sent = match self.jobs.try_send(work) {
            Err(TrySendError::Full(work)) => waits.time(phase, || self.jobs.send(work).map_err(|_| ())),
            other => other.map_err(|_| ()),
        };
        sent.map_err(|()| Error::Internal("the copying threads ended"))
    }

    fn place_in_draft(&self, level: &Level, path: &[u8], name: &OsStr) -> Result<At, Error> {
        self.place(level.to.as_ref(), Some(self.data), path, name)?
            .ok_or(Error::Internal("a file has no place in the draft"))
    }

    /// Where a file's content is: beside its folder, or in `.long/` of `data`.
    fn place(
        &self,
        folder: Option<&Arc<Dir>>,
        data: Option<&Dir>,
        path: &[u8],
        name: &OsStr,
    ) -> Result<Option<At>, Error> {
        if !entry::is_long(path) {
            return Ok(folder.map(|dir| At { dir: Arc::clone(dir), name: name.to_owned() }));
        }
        let stored = entry::stored_path(path);
        let name = OsStr::from_bytes(stored.strip_prefix(b".long/").unwrap_or(&stored)).to_owned();
        let Some(data) = data else { return Ok(None) };
        let ours = std::ptr::eq(data, self.data);
        let long = if ours { Some(data.ensure_dir(".long", 0o750)?) } else { data.open_dir(".long").ok() };
        Ok(long.map(|dir| At { dir: Arc::new(dir), name }))
    }
}

/// The rule: device, inode, size and both times are what they were, and both times are older by 2 s than the sync
/// that came before the file was read then (`settled`), and than the one before this walk.
fn is_unchanged(known: &Known, stat: &Stat, synced: Time) -> bool {
    let (mtime, ctime) = (copier::mtime(stat), copier::ctime(stat));
    known.settled
        && known.device == stat.st_dev
        && known.inode == stat.st_ino
        && u64::try_from(stat.st_size) == Ok(known.size)
        && (known.mtime, known.ctime) == (mtime, ctime)
        && copier::settled(mtime, synced)
        && copier::settled(ctime, synced)
}
