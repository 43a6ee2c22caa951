//! How a file of a tree is stored: linked where it is unchanged, given to the copying threads where not.

use std::{
    ffi::OsStr,
    os::unix::ffi::OsStrExt as _,
    sync::{Arc, mpsc::sync_channel},
};

use crossbeam_channel::TrySendError;
use rustix::fs::Stat;

use super::{COPY, Level, Tools};
use crate::{
    manifest::entry::{self, Time},
    source::{
        cache::Known,
        collect::{Attributes, Error, LinkKey, Record, Slot},
        copier::{self, At, Found, Job},
    },
    sys::{self, Dir, copy::Content, laps::Laps, xattr},
};

impl Tools<'_> {
    /// Stores a file as itself: linked where it is unchanged, given to the copying threads where not.
    pub(super) fn store(
        &mut self,
        level: &Level,
        name: &OsStr,
        (stat, synced): (&Stat, Time),
        path: Vec<u8>,
        waits: &mut Laps,
    ) -> Result<(), Error> {
        let to = self.place(level.to.as_ref(), Some(self.data), &path, name)?;
        let Some(to) = to else { return Err(Error::Internal("a file has no place in the draft")) };
        if let Some(key) = LinkKey::of(stat)
            && !self.linked.insert(key.id())
        {
            return self.slots.send(Slot::Ready(Record::Twin { path, key, stored: to }));
        }
        let known = match &mut self.cache {
            Some(cache) => cache.find(&path).map_err(|e| sys::Error::new("read", "cache", e))?,
            None => None,
        };
        let stored_before = self.place(level.previous.as_ref(), self.previous, &path, name)?;
        let previous = known.and_then(|known| stored_before.map(|at| (at, known)));
        let previous = previous.filter(|_| !self.afresh.contains(&entry::stored_path(&path)));
        let from = At { dir: Arc::clone(&level.from), name: name.to_owned() };
        if let Some((at, known)) = &previous
            && is_unchanged(known, stat, synced)
            && let Some(record) = take_unchanged(&from, &to, (at, known), stat, self.owner)?
        {
            return self.slots.send(Slot::Ready(record));
        }
        let (reply, answer) = sync_channel(1);
        let job = Job { path, from, to, previous, synced, reply };
        self.hand_on(job, waits)?;
        self.slots.send(Slot::Pending(answer))
    }

    fn hand_on(&self, job: Job, waits: &mut Laps) -> Result<(), Error> {
        let sent = match self.jobs.try_send(job) {
            Err(TrySendError::Full(job)) => waits.time(COPY, || self.jobs.send(job).map_err(|_| ())),
            other => other.map_err(|_| ()),
        };
        sent.map_err(|()| Error::Internal("the copying threads ended"))
    }

    /// Where a file's content is: beside its folder, or in `.long/` of `data`.
    fn place(
        &self,
        folder: Option<&Arc<Dir>>,
        data: Option<&Dir>,
        path: &[u8],
        name: &OsStr,
    ) -> Result<Option<At>, Error> {
        let stored = entry::stored_path(path);
        if stored == path {
            return Ok(folder.map(|dir| At { dir: Arc::clone(dir), name: name.to_owned() }));
        }
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

/// Links an unchanged file's content; `None` where the stored file is not what root remembers.
fn take_unchanged(
    from: &At,
    to: &At,
    (previous, known): (&At, &Known),
    stat: &Stat,
    owner: Option<(u32, u32)>,
) -> Result<Option<Record>, Error> {
    let attributes = if known.plain {
        Attributes::new()
    } else {
        // An unreadable attribute is told by the copying thread, which takes the file next.
        let Ok(attributes) = xattr::of_name(&from.dir, &from.name) else { return Ok(None) };
        attributes
    };
    if !copier::link_checked(previous, to, known, owner)? {
        return Ok(None);
    }
    let content = Content { size: known.size, sha256: known.digest.0 };
    // It stays settled: the sync that settled it is the one before it was read.
    let synced = Time { seconds: i64::MAX, nanoseconds: 0 };
    let found = Found { content, stored_inode: known.stored_inode, attributes, unstable: false, synced };
    Ok(Some(copier::record(known.path.clone(), stat, found)))
}
