//! Threads that read changed files: each file once, copied and hashed in the same pass.

use std::{
    ffi::{OsStr, OsString},
    fs::File,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc::SyncSender,
    },
    thread,
    time::Duration,
};

use rustix::fs::{FileType, Mode, Stat};

use super::{
    cache::Known,
    collect::{Attributes, Error, FileRecord, LinkKey, Record},
    deltas::{Deltas, Making},
    linking::{self, Batch},
};
use crate::{
    manifest::{Digest, delta, entry::Time},
    sys::{
        self, Dir,
        copy::{self, Comparison, CopyError, Target},
        durable,
        progress::Progress,
        xattr,
    },
};

/// How often a file that changes while it is read is read again, before it is taken as it is.
const ATTEMPTS: u32 = 3;
/// Stored files are read-only for all, and closed to others.
pub(super) const STORED_MODE: u32 = 0o440;
/// The room is looked at after this many copied bytes.
const ROOM_STEP: u64 = 64 << 20;

/// A file in an open folder.
#[derive(Debug, Clone)]
pub struct At {
    /// The folder.
    pub dir: Arc<Dir>,
    /// The name in it.
    pub name: OsString,
}

impl At {
    /// The path for messages.
    pub fn path(&self) -> PathBuf {
        self.dir.join(&self.name)
    }

    /// Folder and name.
    pub fn parts(&self) -> (&Dir, &OsStr) {
        (&self.dir, &self.name)
    }
}

/// A file to be read.
#[derive(Debug)]
pub struct Job {
    /// Path as in the manifest.
    pub path: Vec<u8>,
    /// The original.
    pub from: At,
    /// Where the copy goes.
    pub to: At,
    /// The stored file of the generation before, and what is known of it.
    pub previous: Option<(At, Known)>,
    /// When the file system of the original was last synced, before this read.
    pub synced: Time,
}

/// What the threads are given, each with the way back of what comes of it.
#[derive(Debug)]
pub enum Work {
    /// A file to be read.
    Read(Job, SyncSender<Result<Record, Error>>),
    /// Files to be linked.
    Link(Batch, SyncSender<Result<Vec<Record>, Error>>),
}

/// What all copying threads share.
#[derive(Debug)]
pub struct Shared<'a> {
    /// Whom new files are given to: the transport user's group may read them. None as an ordinary user.
    pub owner: Option<(u32, u32)>,
    /// Bytes of the file system that stay free for the application.
    pub reserve: u64,
    /// Counted along the way.
    pub progress: &'a Progress,
    /// Bytes copied since the room was looked at.
    pub since_room: AtomicU64,
    /// Bytes of originals that were read.
    pub read: AtomicU64,
    /// Where deltas of large files go; none where no sink could use them.
    pub deltas: Option<&'a Deltas>,
}

/// Works until no more jobs come.
pub fn work(jobs: &crossbeam_channel::Receiver<Work>, shared: &Shared<'_>) {
    for work in jobs {
        let taken = match work {
            Work::Read(job, reply) => reply.send(copy_file(&job, shared)).is_ok(),
            Work::Link(batch, reply) => reply.send(batch.link(shared)).is_ok(),
        };
        if !taken {
            return; // The book was closed by an error; it tells.
        }
    }
}

/// Reads one file, and stores it.
pub(super) fn copy_file(job: &Job, shared: &Shared<'_>) -> Result<Record, Error> {
    let failed = |e: sys::Error| Record::Failed { path: job.path.clone(), why: e.source.to_string() };
    let from = match open(&job.from) {
        Ok(file) => file,
        Err(e) if e.is_not_found() => return Ok(Record::Vanished),
        Err(e) => return Ok(failed(e)),
    };
    let to = new_file(&job.to, shared.owner)?;
    match copy_stable(job, shared, &from, &to) {
        Ok((stat, content, unstable)) => {
            let attributes = match xattr::of_open(&from, &job.from.path()) {
                Ok(attributes) => attributes,
                Err(e) => {
                    durable::unlink_draft(&job.to.dir, &job.to.name)?;
                    return Ok(failed(e));
                }
            };
            let linked = linking::link_if_same(job.previous.as_ref(), &job.to, content.sha256, shared.owner)?;
            let stored_inode = match linked {
                Some(inode) => inode,
                None => inode_of(&to, &job.to)?,
            };
            let found = Found { content, stored_inode, attributes, unstable, synced: job.synced };
            Ok(record(job.path.clone(), &stat, found))
        }
        Err(CopyError::Read(e)) => {
            durable::unlink_draft(&job.to.dir, &job.to.name)?;
            Ok(failed(e))
        }
        Err(CopyError::Write(e)) => Err(e.into()),
        Err(CopyError::Interrupted(e)) => Err(e.into()),
    }
}

/// Makes a new file of a draft, read-only and closed to others from its first moment.
pub fn new_file(to: &At, owner: Option<(u32, u32)>) -> Result<File, Error> {
    Ok(make_file(to, owner)?)
}

/// As [`new_file`].
#[track_caller]
pub(super) fn make_file(to: &At, owner: Option<(u32, u32)>) -> sys::Result<File> {
    let file = to.dir.create_file(&to.name, STORED_MODE)?;
    // Mostly it is as it should be: the folders of a draft hand their group down, and a look costs less than a change.
    let made = rustix::fs::fstat(&file).map_err(|e| sys::Error::new("look at", to.path(), e))?;
    if made.st_mode & 0o7777 != STORED_MODE {
        rustix::fs::fchmod(&file, Mode::from(STORED_MODE))
            .map_err(|e| sys::Error::new("set the mode of", to.path(), e))?;
    }
    if let Some((uid, gid)) = owner.filter(|owner| *owner != (made.st_uid, made.st_gid)) {
        let (uid, gid) = (rustix::fs::Uid::from_raw(uid), rustix::fs::Gid::from_raw(gid));
        rustix::fs::fchown(&file, Some(uid), Some(gid))
            .map_err(|e| sys::Error::new("give away", to.path(), e))?;
    }
    Ok(file)
}

/// The inode of a file that was made.
pub(super) fn inode_of(file: &File, at: &At) -> sys::Result<u64> {
    rustix::fs::fstat(file).map(|stat| stat.st_ino).map_err(|e| sys::Error::new("look at", at.path(), e))
}

/// Opens a file for reading without changing its access time where we may.
pub(super) fn open(at: &At) -> sys::Result<File> {
    use rustix::fs::OFlags;
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let opened = match rustix::fs::openat(&*at.dir, &at.name, flags | OFlags::NOATIME, Mode::empty()) {
        Err(rustix::io::Errno::PERM) => rustix::fs::openat(&*at.dir, &at.name, flags, Mode::empty()),
        other => other,
    };
    opened.map(File::from).map_err(|e| sys::Error::new("open", at.path(), e))
}

/// Reads until the file was the same before and after, or it has been read often enough.
fn copy_stable(
    job: &Job,
    shared: &Shared<'_>,
    from: &File,
    to: &File,
) -> Result<(Stat, copy::Content, bool), CopyError> {
    let path = job.from.path();
    let look = || rustix::fs::fstat(from).map_err(|e| CopyError::Read(sys::Error::new("look at", &path, e)));
    let base = base(job, shared);
    let mut attempt = 1;
    loop {
        let before = look()?;
        if !FileType::from_raw_mode(before.st_mode).is_file() {
            let changed = std::io::Error::other("it became something else while it was collected");
            return Err(CopyError::Read(sys::Error::new("read", &path, changed)));
        }
        let length = u64::try_from(before.st_size).unwrap_or(0);
        let base = base.as_ref().filter(|_| length >= delta::SMALLEST);
        let (content, making) = copy_once((from, to), base, length, shared, &path)?;
        shared.read.fetch_add(content.size, Ordering::Relaxed);
        keep_reserve(shared, to, content.size)?;
        let after = look()?;
        let stable = stamp(&before) == stamp(&after) && u64::try_from(after.st_size) == Ok(content.size);
        let last = stable || attempt >= ATTEMPTS;
        if let (Some(deltas), Some(making)) = (shared.deltas, making) {
            let ended = if last { deltas.finish(making, &content) } else { making.discard() };
            ended.map_err(CopyError::Write)?;
        }
        if last {
            return Ok((after, content, !stable));
        }
        attempt += 1;
        thread::sleep(Duration::from_millis(100));
        to.set_len(0).map_err(|e| CopyError::Write(sys::Error::new("write the copy of", &path, e)))?;
    }
}

/// The previous version of a large file, open and proven to be the one that root remembers.
fn base<'a>(job: &'a Job, shared: &Shared<'_>) -> Option<(File, &'a Known)> {
    let (at, known) = job.previous.as_ref()?;
    // A file that is more than twice as large as it was is no gain.
    if known.size < delta::SMALLEST / 2 {
        return None;
    }
    Some((linking::open_stored(at, known, shared.owner)?, known))
}

/// One pass over a file. Of a large one whose previous version is here, what changed is noted beside, and where the file
/// system shares content, only that is written.
fn copy_once(
    (from, to): (&File, &File),
    base: Option<&(File, &Known)>,
    length: u64,
    shared: &Shared<'_>,
    path: &std::path::Path,
) -> Result<(copy::Content, Option<Making>), CopyError> {
    let mut seen = |bytes| {
        shared.progress.add_bytes(bytes);
        sys::signals::check()
    };
    // A clone is made at one instant and then hashed; without clones the copy and the hash are one pass.
    let cloned = copy::share(from, to);
    let Some((base, known)) = base else {
        let content = if cloned {
            copy::hash_and_copy(to, None, path, &mut seen)?
        } else {
            copy::hash_and_copy(from, Some(to), path, &mut seen)?
        };
        return Ok((content, None));
    };
    let (from, target) = match cloned {
        true => (to, Target::Nothing),
        // The original lies on another disk: then what did not change is shared with the previous version.
        false if copy::share(base, to) => (from, Target::Clone(to)),
        false => (from, Target::New(to)),
    };
    let mut making = match shared.deltas {
        Some(deltas) => deltas.begin(known, length).map_err(CopyError::Write)?,
        None => None,
    };
    let mut changed = |offset, bytes: &[u8]| {
        if let Some(making) = &mut making {
            making.block(offset, bytes);
        }
        Ok(())
    };
    let block = delta::BLOCK as usize;
    let mut comparison = Comparison { base, block, changed: &mut changed };
    let compared = copy::hash_and_compare(from, target, &mut comparison, path, &mut seen);
    match (compared, making) {
        (Ok(content), making) => Ok((content, making)),
        (Err(e), None) => Err(e),
        (Err(e), Some(making)) => making.discard().map_err(CopyError::Write).and(Err(e)),
    }
}

pub(super) fn stamp(stat: &Stat) -> (i64, Time, Time) {
    (stat.st_size, mtime(stat), ctime(stat))
}

/// The bytes that may still be taken of the file system of the home.
pub(super) fn room(shared: &Shared<'_>, home: impl std::os::fd::AsFd) -> Result<u64, sys::Error> {
    let room =
        rustix::fs::fstatvfs(home).map_err(|e| sys::Error::new("look at the room of", "the home", e))?;
    Ok(room.f_bavail.saturating_mul(room.f_frsize).saturating_sub(shared.reserve))
}

/// The room that belongs to the application is not taken from it.
pub(super) fn keep_reserve(shared: &Shared<'_>, to: &File, copied: u64) -> Result<(), CopyError> {
    if shared.since_room.fetch_add(copied, Ordering::Relaxed) + copied < ROOM_STEP {
        return Ok(());
    }
    shared.since_room.store(0, Ordering::Relaxed);
    let room = rustix::fs::fstatvfs(to)
        .map_err(|e| CopyError::Write(sys::Error::new("look at the room of", "the home", e)))?;
    if room.f_bavail.saturating_mul(room.f_frsize) < shared.reserve {
        let full = std::io::Error::from_raw_os_error(libc::ENOSPC);
        return Err(CopyError::Write(sys::Error::new(
            "go on: the room kept for the application (`reserve`) is reached, writing",
            "the draft",
            full,
        )));
    }
    Ok(())
}

/// What was found in a file that was read.
#[derive(Debug)]
pub struct Found {
    /// Size and hash.
    pub content: copy::Content,
    /// Inode of the stored file.
    pub stored_inode: u64,
    /// Extended attributes.
    pub attributes: Attributes,
    /// It kept changing.
    pub unstable: bool,
    /// The sync before the read.
    pub synced: Time,
}

/// The record of a file that was read.
pub fn record(path: Vec<u8>, stat: &Stat, found: Found) -> Record {
    let (mtime, ctime) = (mtime(stat), ctime(stat));
    let known = Known {
        path,
        device: stat.st_dev,
        inode: stat.st_ino,
        size: found.content.size,
        mtime,
        ctime,
        settled: !found.unstable && settled(mtime, found.synced) && settled(ctime, found.synced),
        plain: found.attributes.is_empty(),
        digest: Digest(found.content.sha256),
        stored_inode: found.stored_inode,
    };
    Record::File(Box::new(FileRecord {
        mode: stat.st_mode & 0o7777,
        uid: stat.st_uid,
        gid: stat.st_gid,
        links: LinkKey::of(stat),
        attributes: found.attributes,
        unstable: found.unstable,
        known,
    }))
}

/// Whether a time is older than a sync by 2 s: any later store into the file then gives it another time.
pub fn settled(time: Time, synced: Time) -> bool {
    (time.seconds.saturating_add(2), time.nanoseconds) < (synced.seconds, synced.nanoseconds)
}

/// The time of the last change of content.
pub fn mtime(stat: &Stat) -> Time {
    Time { seconds: stat.st_mtime, nanoseconds: u32::try_from(stat.st_mtime_nsec).unwrap_or(0) }
}

/// The time of the last change of anything.
pub fn ctime(stat: &Stat) -> Time {
    Time { seconds: stat.st_ctime, nanoseconds: u32::try_from(stat.st_ctime_nsec).unwrap_or(0) }
}

/// Syncs the file system of an open file or folder; gives the time at which the sync began.
pub fn sync_of(fd: impl std::os::fd::AsFd, path: &std::path::Path) -> sys::Result<Time> {
    let now = sys::clock::now();
    durable::sync_file_system(fd, path).map_err(|e| sys::Error::new("sync the file system of", path, e))?;
    Ok(Time { seconds: now.as_second(), nanoseconds: u32::try_from(now.subsec_nanosecond()).unwrap_or(0) })
}
