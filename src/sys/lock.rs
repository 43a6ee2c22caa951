//! Kernel locks: held by the process, gone with it, never a file to clean up. The file only says who holds it.

use std::{
    fs::File,
    io::{Read, Seek, Write},
    os::fd::AsFd,
    path::Path,
    thread,
    time::Duration,
};

use rustix::{
    fs::{FlockOperation, Mode, OFlags},
    process::{Pid, PidfdFlags, Signal},
};

use super::{Error, Result, clock, step::step};

/// A held lock; released when dropped or when the process ends in any way.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

/// What an attempt to lock gave.
#[derive(Debug)]
pub enum Attempt {
    /// It is ours.
    Held(Lock),
    /// Somebody else has it; the text says who and since when, as far as they told.
    Busy(String),
}

/// How often, and how long apart, a lock is tried: who only asks who holds it ([`holder`]) has it for a moment.
const TRIES: u32 = 3;
const PAUSE: Duration = Duration::from_millis(20);

/// Tries to take the lock at `path` (made if missing, mode 0600) without waiting, and writes into it who holds it.
/// `what` names the holder for people, as "handover sink run".
#[track_caller]
pub fn try_exclusive(path: &Path, what: &str) -> Result<Attempt> {
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let open = || rustix::fs::open(path, flags, Mode::from(0o600));
    let fd = step("create", || vec![path.to_path_buf()], open)
        .map_err(|e| Error::new("open the lock", path, e))?;
    let mut file = File::from(fd);
    let mut tries = 1;
    while !attempt(&file, path, FlockOperation::NonBlockingLockExclusive)? {
        if tries == TRIES {
            return Ok(Attempt::Busy(told(&file)));
        }
        tries += 1;
        thread::sleep(PAUSE);
    }
    let line = format!("{what}, process {}, since {}\n", std::process::id(), clock::now());
    file.set_len(0)
        .and_then(|()| file.rewind())
        .and_then(|()| file.write_all(line.as_bytes()))
        .map_err(|e| Error::new("write the lock", path, e))?;
    Ok(Attempt::Held(Lock { _file: file }))
}

/// Who holds the lock at `path` now, as far as they told; none if nobody does. Whoever may read the file may ask.
pub fn holder(path: &Path) -> Result<Option<String>> {
    let opened = rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW, Mode::empty());
    let file = match opened {
        Ok(fd) => File::from(fd),
        Err(rustix::io::Errno::NOENT) => return Ok(None),
        Err(e) => return Err(Error::new("open the lock", path, e)),
    };
    let free = attempt(&file, path, FlockOperation::NonBlockingLockShared)?;
    Ok((!free).then(|| told(&file)))
}

/// What the holder wrote into the file. It is a courtesy: an unreadable line must not hide that the lock is held.
fn told(file: &File) -> String {
    let mut holder = String::new();
    if file.take(300).read_to_string(&mut holder).is_err() || holder.trim().is_empty() {
        holder = "another process".to_owned();
    }
    super::show(holder.trim().as_bytes())
}

/// Takes a shared lock on an open folder without waiting: "somebody reads this". False if it is held exclusively.
/// The lock lives as long as the descriptor, and is inherited by a program that inherits the descriptor.
pub fn try_shared_on(fd: impl AsFd, path: &Path) -> Result<bool> {
    attempt(fd, path, FlockOperation::NonBlockingLockShared)
}

/// Takes an exclusive lock on an open folder without waiting: false while somebody reads it.
pub fn try_exclusive_on(fd: impl AsFd, path: &Path) -> Result<bool> {
    attempt(fd, path, FlockOperation::NonBlockingLockExclusive)
}

/// Ends the processes of a user that hold a lock on an open folder, or have inherited it. Those of others are left alone,
/// and so are those that cannot be looked at. A lock that no process has open, but that waits in a socket to be received,
/// is not found.
pub fn end_holders(dir: impl AsFd, uid: u32) {
    let Ok(locked) = rustix::fs::fstat(dir) else { return };
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    for entry in entries {
        let number = entry.file_name().to_str().and_then(|name| name.parse().ok());
        let Some(pid) = number.and_then(Pid::from_raw) else { continue };
        // Opened before it is looked at: whoever gets its number later is not the one that is ended.
        let Ok(process) = rustix::process::pidfd_open(pid, PidfdFlags::empty()) else { continue };
        if is_of(&entry.path(), uid) && holds(&entry.path(), (locked.st_dev, locked.st_ino)) {
            // It may have ended meanwhile.
            rustix::process::pidfd_send_signal(process, Signal::KILL).ok();
        }
    }
}

/// Whether a process is this user's: by any of its users, as one that began a setuid program runs as another one. The owner
/// of its folder says less: a process can hide behind root's name there.
fn is_of(process: &Path, uid: u32) -> bool {
    let status = std::fs::read_to_string(process.join("status")).unwrap_or_default();
    let uids = status.lines().find_map(|line| line.strip_prefix("Uid:"));
    uids.is_some_and(|uids| uids.split_whitespace().any(|of| of == uid.to_string()))
}

fn holds(process: &Path, (dev, inode): (u64, u64)) -> bool {
    let open = std::fs::read_dir(process.join("fd")).into_iter().flatten().flatten();
    open.into_iter().any(|fd| {
        let is_it = rustix::fs::stat(fd.path()).is_ok_and(|stat| (stat.st_dev, stat.st_ino) == (dev, inode));
        let told =
            || std::fs::read_to_string(process.join("fdinfo").join(fd.file_name())).unwrap_or_default();
        is_it && told().lines().any(|line| line.starts_with("lock:") && line.contains("FLOCK"))
    })
}

fn attempt(fd: impl AsFd, path: &Path, operation: FlockOperation) -> Result<bool> {
    match rustix::fs::flock(fd, operation) {
        Ok(()) => Ok(true),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(false),
        Err(e) => Err(Error::new("lock", path, e)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_holder_is_told_who_the_first_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        let Attempt::Held(first) = try_exclusive(&path, "handover sink").unwrap() else { panic!("not free") };
        let Attempt::Busy(who) = try_exclusive(&path, "other").unwrap() else { panic!("not busy") };
        assert!(who.starts_with(&format!("handover sink, process {}", std::process::id())), "{who}");
        drop(first);
        assert!(matches!(try_exclusive(&path, "other").unwrap(), Attempt::Held(_)));
    }

    #[test]
    fn who_holds_it_can_be_asked_without_taking_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        assert_eq!(holder(&path).unwrap(), None);
        assert!(!path.exists());
        let held = try_exclusive(&path, "handover sink").unwrap();
        assert!(holder(&path).unwrap().unwrap().starts_with("handover sink, process"));
        drop(held);
        assert_eq!(holder(&path).unwrap(), None);
        assert!(matches!(try_exclusive(&path, "other").unwrap(), Attempt::Held(_)));
    }
}
