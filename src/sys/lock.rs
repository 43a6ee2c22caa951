//! Kernel locks: held by the process, gone with it, never a file to clean up. The file only says who holds it.

use std::{
    fs::File,
    io::{Read, Seek, Write},
    os::fd::AsFd,
    path::Path,
    thread,
    time::Duration,
};

use rustix::fs::{FlockOperation, Mode, OFlags};

use super::{Error, Result, clock};

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
pub fn try_exclusive(path: &Path, what: &str) -> Result<Attempt> {
    let fd = rustix::fs::open(
        path,
        OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOFOLLOW,
        Mode::from(0o600),
    )
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
