//! The folders of a draft go to the transport user, several at a time: most of it is a look at every file.

use std::{
    ffi::OsStr,
    num::NonZero,
    os::unix::ffi::OsStrExt as _,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    thread,
};

use rustix::fs::{FileType, Stat};

use super::Owner;
use crate::{
    store::{Result, walk::Cursor},
    sys::{self, Dir, signals, users},
};

/// More threads only wait for each other in the kernel.
const MOST: usize = 4;

/// Gives every folder below `root`, and it, to the transport user. Files stay as they are (they may be shared with other
/// generations), so they must already be what the transport user can read and not change.
pub(super) fn hand_over(root: &Dir, owner: Owner, new_file_owner: Option<(u32, u32)>) -> Result<()> {
    let threads = thread::available_parallelism().map_or(1, NonZero::get).min(MOST);
    let handing = Handing { owner, new_file_owner, queue: Queue::default() };
    handing.queue.add(vec![Vec::new()]);
    thread::scope(|scope| {
        let others: Vec<_> = (1..threads).map(|_| scope.spawn(|| handing.work(root))).collect();
        let own = handing.work(root);
        let died =
            || Err(sys::Error::new("seal", root.path(), std::io::Error::other("a thread failed")).into());
        others.into_iter().fold(own, |done, other| done.and(other.join().unwrap_or_else(|_| died())))
    })
}

struct Handing {
    owner: Owner,
    new_file_owner: Option<(u32, u32)>,
    queue: Queue,
}

impl Handing {
    /// Works until no folder is left, or one of the threads has failed.
    fn work(&self, root: &Dir) -> Result<()> {
        let _ended = Ended(&self.queue);
        let mut cursor = Cursor::new(root)?;
        while let Some(path) = self.queue.next() {
            signals::check()?;
            let inner = self.folder(cursor.folder(&path)?, &path)?;
            self.queue.add(inner);
            self.queue.done();
        }
        Ok(())
    }

    /// Hands over one folder; gives the paths of those in it.
    fn folder(&self, dir: &Dir, path: &[u8]) -> Result<Vec<Vec<u8>>> {
        let mut folders = Vec::new();
        for (name, kind) in dir.kinds()? {
            let is_dir = match kind {
                Some(FileType::Directory) => true,
                _ => {
                    let stat = dir.stat(&name)?;
                    let is_dir = FileType::from_raw_mode(stat.st_mode).is_dir();
                    if !is_dir {
                        self.check_file(dir, &name, &stat)?;
                    }
                    is_dir
                }
            };
            if is_dir {
                let between: &[u8] = if path.is_empty() { b"" } else { b"/" };
                folders.push([path, between, name.as_bytes()].concat());
            }
        }
        if users::is_root() {
            dir.give_to(self.owner.uid, self.owner.gid)?;
        }
        dir.set_mode(0o750)?;
        Ok(folders)
    }

    fn check_file(&self, dir: &Dir, name: &OsStr, stat: &Stat) -> Result<()> {
        let group = self.new_file_owner.map_or(stat.st_gid, |(_, gid)| gid);
        let fits = FileType::from_raw_mode(stat.st_mode).is_file()
            && stat.st_mode & 0o7777 == 0o440
            && (stat.st_uid, stat.st_gid) == (users::euid(), group);
        if fits {
            return Ok(());
        }
        let why = format!(
            "not a regular file of user {}, group {group}, mode 0440, but user {}, group {}, mode {:06o}",
            users::euid(),
            stat.st_uid,
            stat.st_gid,
            stat.st_mode
        );
        Err(sys::Error::new("seal", dir.join(name), std::io::Error::other(why)).into())
    }
}

/// Paths of folders, shared by the threads.
#[derive(Default)]
struct Queue {
    state: Mutex<Waiting>,
    changed: Condvar,
}

#[derive(Default)]
struct Waiting {
    paths: Vec<Vec<u8>>,
    /// Folders that a thread is at: each may give more.
    begun: usize,
    /// A thread gave up: so do the others.
    over: bool,
}

impl Queue {
    /// The youngest path, which lies near the one before; `None` once there will be none.
    fn next(&self) -> Option<Vec<u8>> {
        let mut state = self.lock();
        loop {
            if state.over || (state.paths.is_empty() && state.begun == 0) {
                return None;
            }
            if let Some(path) = state.paths.pop() {
                state.begun += 1;
                return Some(path);
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn add(&self, paths: Vec<Vec<u8>>) {
        if !paths.is_empty() {
            self.lock().paths.extend(paths);
            self.changed.notify_all();
        }
    }

    fn done(&self) {
        let mut state = self.lock();
        state.begun -= 1;
        if state.begun == 0 {
            self.changed.notify_all();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whoever ends, ends the others: either nothing is left for them, or it failed in the middle of a folder.
struct Ended<'a>(&'a Queue);

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        self.0.lock().over = true;
        self.0.changed.notify_all();
    }
}
