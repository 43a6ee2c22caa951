//! Reading content and comparing it with what the manifest says, in several threads.
//!
//! The rule: **the mtime of an inode in a Sink-Store is the time when its content was last proven by hashing.** The
//! original times are in the manifest. So all generations that share an inode share its proof, and nothing has to be
//! kept beside it. 1970-01-01T00:00:00Z is "never proven"; one second later is "proven wrong": never linked again.

use std::{
    fs::File,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
};

use jiff::{SignedDuration, Timestamp};
use rustix::fs::{FileType, Stat};

use super::{
    Error, Result,
    walk::Cursor,
    wanted::{self, Wanted},
};
use crate::{
    manifest::Digest,
    sys::{
        self, Dir,
        copy::{self, CopyError, hash_and_copy},
        show, signals, stamp, users,
    },
};

/// Mode of the files of a generation.
pub(super) const FILE_MODE: u32 = 0o440;
/// Jobs that wait for a thread.
const WAITING: usize = 1024;
/// A received file of so many bytes is worth a call that has it written to the disk early.
const LARGE: u64 = 1 << 20;
/// The mtime of content that was never hashed here.
pub(super) const NEVER: Timestamp = Timestamp::UNIX_EPOCH;
/// The mtime of content that was found wrong.
pub(super) const WRONG: Timestamp = Timestamp::constant(1, 0);

/// How much of the machine a step may use, and who wants to know how far it is.
#[derive(Clone)]
pub struct Effort {
    /// Threads that read and hash.
    pub threads: usize,
    /// Called with the bytes of each step, from any of the threads.
    pub progress: Arc<dyn Fn(u64) + Send + Sync>,
}

impl Effort {
    /// An effort of which nobody wants to know.
    pub fn quiet(threads: usize) -> Self {
        Self { threads, progress: Arc::new(|_| {}) }
    }
}

impl std::fmt::Debug for Effort {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Effort").field("threads", &self.threads).finish_non_exhaustive()
    }
}

/// A file that is not what it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bad {
    /// Its stored path, below `data/`.
    pub path: Vec<u8>,
    /// Why, as "its content is not the one in the manifest".
    pub why: String,
}

impl std::fmt::Display for Bad {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", show(&self.path), self.why)
    }
}

/// How long a proof is good for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fresh {
    pub(super) now: Timestamp,
    pub(super) max_age: SignedDuration,
}

impl Fresh {
    /// Whether an inode's last proof is recent enough. One from the future is none: a clock was wrong.
    pub(super) fn is(&self, stat: &Stat) -> bool {
        let proven = stamp::mtime(stat);
        proven > WRONG && proven <= self.now && self.now.duration_since(proven) <= self.max_age
    }
}

/// What a file must be.
#[derive(Debug, Clone)]
pub(super) struct Job {
    /// Where it lies, as a stored path.
    pub(super) path: Vec<u8>,
    /// The stored path for which its content is asked.
    pub(super) asked: Vec<u8>,
    pub(super) size: u64,
    pub(super) digest: Digest,
}

/// Whose files are read, and what is noted on them.
#[derive(Clone)]
pub(super) enum Rule {
    /// Received ones: only ours, with no other name; a good one is stamped and noted as proven.
    Received(Arc<Wanted>),
    /// Those of our own store: good ones are stamped, wrong ones are stamped wrong; one stamped now is not read again.
    Own,
    /// Somebody else's: nothing is written.
    Foreign,
}

/// What the threads found.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) files: u64,
    pub(super) bytes: u64,
    pub(super) bad: Vec<Wrong>,
}

/// A file that is wrong, and the inode that was found there.
#[derive(Debug)]
pub(super) struct Wrong {
    pub(super) job: Job,
    pub(super) why: String,
    pub(super) inode: Option<u64>,
}

impl Wrong {
    pub(super) fn to_bad(&self) -> Bad {
        Bad { path: self.job.path.clone(), why: self.why.clone() }
    }
}

/// Threads that read files below one folder.
pub(super) struct Readers {
    jobs: Option<crossbeam_channel::Sender<Job>>,
    threads: Vec<JoinHandle<Result<()>>>,
    tally: Arc<Mutex<Tally>>,
    /// Set when what is still waiting need not be read: one thread has failed, or nobody asks any more.
    stop: Arc<AtomicBool>,
}

struct Reader {
    cursor: Cursor,
    rule: Rule,
    now: Timestamp,
    progress: Arc<dyn Fn(u64) + Send + Sync>,
    tally: Arc<Mutex<Tally>>,
    stop: Arc<AtomicBool>,
}

impl Readers {
    pub(super) fn start(root: &Dir, rule: &Rule, now: Timestamp, effort: &Effort) -> Result<Self> {
        let (jobs, waiting) = crossbeam_channel::bounded::<Job>(WAITING);
        let (tally, stop) = (Arc::<Mutex<Tally>>::default(), Arc::<AtomicBool>::default());
        let mut threads = Vec::new();
        for _ in 0..effort.threads.max(1) {
            let reader = Reader {
                cursor: Cursor::new(root)?,
                rule: rule.clone(),
                now,
                progress: Arc::clone(&effort.progress),
                tally: Arc::clone(&tally),
                stop: Arc::clone(&stop),
            };
            let waiting = waiting.clone();
            threads.push(std::thread::spawn(move || reader.run(waiting)));
        }
        Ok(Self { jobs: Some(jobs), threads, tally, stop })
    }

    /// Hands a file to the threads; waits while they have enough to do.
    pub(super) fn read(&self, job: Job) {
        if let Some(jobs) = &self.jobs
            && jobs.send(job).is_err()
        {
            // All threads have ended, each with an error: `finish` tells it.
        }
    }

    /// Hands a file to the threads, unless they have enough to do.
    pub(super) fn try_read(&self, job: Job) {
        if let Some(jobs) = &self.jobs
            && jobs.try_send(job).is_err()
        {
            // It is not proven then, and whoever needs the proof reads it.
        }
    }

    /// Waits until all is read. An error means that nothing is known of the rest.
    pub(super) fn finish(mut self) -> Result<Tally> {
        self.join()?;
        Ok(std::mem::take(&mut *self.tally.lock().unwrap_or_else(PoisonError::into_inner)))
    }

    fn join(&mut self) -> Result<()> {
        self.jobs = None;
        let mut outcome: Result<()> = Ok(());
        for thread in self.threads.drain(..) {
            let one = thread.join().unwrap_or_else(|_| {
                let why = std::io::Error::other("a reading thread ended with a mistake of handover itself");
                Err(sys::Error::new("read the files of", "a generation", why).into())
            });
            // Of several, the one that stopped the others tells why.
            outcome = match (outcome, one) {
                (Ok(()) | Err(Error::Interrupted(_)), Err(e)) => Err(e),
                (outcome, _) => outcome,
            };
        }
        outcome
    }
}

impl Drop for Readers {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if self.join().is_err() {
            // Who drops it without asking has an error of its own to tell.
        }
    }
}

impl Reader {
    fn run(mut self, waiting: crossbeam_channel::Receiver<Job>) -> Result<()> {
        let outcome = waiting.into_iter().try_for_each(|job| self.read(job));
        if outcome.is_err() {
            self.stop.store(true, Ordering::Relaxed);
        }
        outcome
    }

    /// Err when this thread is to end: the run was asked to stop, or what it would find is of no use any more.
    fn go_on(&self) -> std::result::Result<(), signals::Interrupted> {
        if self.stop.load(Ordering::Relaxed) { Err(signals::Interrupted) } else { signals::check() }
    }

    fn read(&mut self, job: Job) -> Result<()> {
        self.go_on()?;
        let mut inode = None;
        let verdict = self.judge(&job, &mut inode)?;
        let mut tally = self.tally.lock().unwrap_or_else(PoisonError::into_inner);
        match verdict {
            Ok(bytes) => {
                tally.files += 1;
                tally.bytes += bytes;
            }
            Err(why) => tally.bad.push(Wrong { job, why, inode }),
        }
        Ok(())
    }

    /// The bytes that were read of a good file, or why it is bad. What is bad is the file's; what is an error is ours.
    fn judge(&mut self, job: &Job, inode: &mut Option<u64>) -> Result<std::result::Result<u64, String>> {
        if let Rule::Received(wanted) = &self.rule
            && let Some(file) = wanted.get(&job.path)
        {
            file.refute();
        }
        let (path, file) = match self.open(job) {
            Ok(opened) => opened,
            Err(e) => return fault_of_file(e).map(Err),
        };
        let stat = stamp::stat(&file, &path)?;
        *inode = Some(stat.st_ino);
        if let Err(why) = self.look(&stat, job) {
            self.note_wrong(&file, &path, &stat)?;
            return Ok(Err(why));
        }
        if matches!(self.rule, Rule::Own) && stamp::mtime(&stat) == self.now {
            return Ok(Ok(0));
        }
        let progress = &self.progress;
        let mut seen = |bytes| {
            progress(bytes);
            self.go_on()
        };
        let content = match hash_and_copy(&file, None, &path, &mut seen) {
            Ok(content) => content,
            Err(CopyError::Interrupted(e)) => return Err(e.into()),
            Err(CopyError::Read(e) | CopyError::Write(e)) => {
                self.note_wrong(&file, &path, &stat)?;
                return fault_of_file(e).map(Err);
            }
        };
        if content.sha256 == job.digest.0 && content.size == job.size {
            self.note_good(&file, &path, job)?;
            Ok(Ok(content.size))
        } else {
            self.note_wrong(&file, &path, &stat)?;
            Ok(Err("its content is not the one in the manifest".to_owned()))
        }
    }

    /// Opens a regular file; opening a device may have effects, so anything else is not opened at all.
    fn open(&mut self, job: &Job) -> sys::Result<(PathBuf, File)> {
        let (dir, name) = self.cursor.parent(&job.path)?;
        if !FileType::from_raw_mode(dir.stat(name)?.st_mode).is_file() {
            return Err(sys::Error::new("read", dir.join(name), rustix::io::Errno::NXIO));
        }
        Ok((dir.join(name), dir.open_file(name)?))
    }

    fn look(&self, stat: &Stat, job: &Job) -> std::result::Result<(), String> {
        if let Rule::Received(_) = self.rule
            && (stat.st_nlink != 1 || stat.st_uid != users::euid())
        {
            return Err("it has another owner or another name".to_owned());
        }
        look(stat, job.size)
    }

    fn note_good(&self, file: &File, path: &Path, job: &Job) -> Result<()> {
        match &self.rule {
            Rule::Received(wanted) => {
                if let Some(asked) = wanted.get(&job.path) {
                    note_received(asked, file, path, self.now)?;
                }
                if job.size >= LARGE {
                    copy::write_back(file, 0, job.size);
                }
                Ok(())
            }
            Rule::Own => Ok(stamp::set_mtime(file, path, self.now)?),
            Rule::Foreign => Ok(()),
        }
    }

    fn note_wrong(&self, file: &File, path: &Path, stat: &Stat) -> Result<()> {
        let regular = FileType::from_raw_mode(stat.st_mode).is_file();
        match self.rule {
            Rule::Own if regular => Ok(stamp::set_mtime(file, path, WRONG)?),
            Rule::Own | Rule::Received(_) | Rule::Foreign => Ok(()),
        }
    }
}

/// Notes that a file that arrived was hashed now and has the content that it should have.
pub(super) fn note_received(asked: &wanted::File, file: &File, path: &Path, now: Timestamp) -> Result<()> {
    stamp::set_mode(file, path, FILE_MODE)?;
    stamp::set_mtime(file, path, now)?;
    asked.prove(&stamp::stat(file, path)?);
    Ok(())
}

/// Whether an inode can be a stored file of this size.
pub(super) fn look(stat: &Stat, size: u64) -> std::result::Result<(), String> {
    if !FileType::from_raw_mode(stat.st_mode).is_file() {
        return Err("it is not a regular file".to_owned());
    }
    match u64::try_from(stat.st_size) {
        Ok(found) if found == size => Ok(()),
        _ => Err(format!("it has {} bytes instead of {size}", stat.st_size)),
    }
}

/// Why a file is bad. What says something of the file is its fault; no rights and no descriptors say something of this
/// process and are an error.
pub(super) fn fault_of_file(e: sys::Error) -> Result<String> {
    match e.errno() {
        Some(libc::EACCES | libc::EPERM | libc::EMFILE | libc::ENFILE | libc::ENOMEM) | None => {
            Err(Error::Sys(e))
        }
        Some(libc::ENOENT) => Ok("it is missing".to_owned()),
        Some(libc::ELOOP | libc::ENXIO) => Ok("it is not a regular file".to_owned()),
        Some(libc::ENOTDIR) => Ok("a folder on its way is not one".to_owned()),
        Some(_) => Ok(e.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::sample::{at, put};

    fn job(path: &str, content: &[u8]) -> Job {
        let path = path.as_bytes().to_vec();
        Job { asked: path.clone(), path, size: content.len() as u64, digest: Digest::of(content) }
    }

    #[test]
    fn a_proof_is_good_for_its_time_and_neither_longer_nor_before() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let now = at("2026-11-23T04:00:00Z");
        let fresh = Fresh { now, max_age: SignedDuration::from_hours(24) };
        for (proven, expected) in [
            ("2026-11-23T04:00:00Z", true),
            ("2026-11-22T04:00:00Z", true),
            ("2026-11-22T03:59:59Z", false),
            ("2026-11-23T04:00:01Z", false),
            ("1970-01-01T00:00:00Z", false),
            ("1970-01-01T00:00:01Z", false),
        ] {
            stamp::set_mtime(file.as_file(), file.path(), at(proven)).unwrap();
            let stat = stamp::stat(file.as_file(), file.path()).unwrap();
            assert_eq!(fresh.is(&stat), expected, "{proven}");
            let ever = Fresh { max_age: SignedDuration::MAX, ..fresh };
            assert_eq!(ever.is(&stat), proven > "1971" && proven <= "2026-11-23T04:00:00Z", "{proven}");
        }
    }

    #[test]
    fn what_has_no_fault_of_its_own_is_no_damage() {
        let error = |errno: i32| sys::Error::new("open", "x", std::io::Error::from_raw_os_error(errno));
        for ours in [libc::EACCES, libc::EMFILE, libc::ENOMEM] {
            assert!(fault_of_file(error(ours)).is_err());
        }
        assert_eq!(fault_of_file(error(libc::ENOENT)).unwrap(), "it is missing");
        assert!(fault_of_file(error(libc::EIO)).unwrap().contains("Input/output error"));
    }

    #[test]
    fn many_threads_find_the_same_as_one_and_progress_counts_every_byte() {
        let folder = tempfile::tempdir().unwrap();
        let dir = Dir::open(folder.path()).unwrap();
        (0..200_u32).for_each(|i| put(&dir, format!("d{}/{i}", i % 9).as_bytes(), &[b'x'; 1000]));
        for threads in [1, 4] {
            let seen = Arc::new(std::sync::atomic::AtomicU64::new(0));
            let count = Arc::clone(&seen);
            let progress = Arc::new(move |bytes| {
                count.fetch_add(bytes, Ordering::Relaxed);
            });
            let effort = Effort { threads, progress };
            let readers = Readers::start(&dir, &Rule::Foreign, NEVER, &effort).unwrap();
            for i in 0..200 {
                let content: &[u8] = if i == 77 { &[b'y'; 1000] } else { &[b'x'; 1000] };
                readers.read(job(&format!("d{}/{i}", i % 9), content));
            }
            readers.read(job("d0/missing", b""));
            let tally = readers.finish().unwrap();
            assert_eq!((tally.files, tally.bytes, tally.bad.len()), (199, 199_000, 2));
            assert_eq!(seen.load(Ordering::Relaxed), 200_000);
        }
    }

    #[test]
    fn who_gives_up_does_not_wait_for_all_that_was_asked() {
        let folder = tempfile::tempdir().unwrap();
        let dir = Dir::open(folder.path()).unwrap();
        dir.create_file("large", 0o600).unwrap().set_len(1 << 40).unwrap();
        let readers = Readers::start(&dir, &Rule::Foreign, NEVER, &Effort::quiet(2)).unwrap();
        for _ in 0..100 {
            let digest = Digest::of(b"");
            readers.read(Job { path: b"large".to_vec(), asked: Vec::new(), size: 1 << 40, digest });
        }
        drop(readers); // 100 TiB of zeros would take days
    }
}
