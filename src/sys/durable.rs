//! Durable steps: what returned Ok here survives the loss of power, and what did not return is as if it had not begun.
//!
//! A rename is atomic in every file system we know; it is durable once both folders are synced. A syncfs reports only
//! the errors that came after its handle was opened, so the handle is opened before the first write.

use std::{
    ffi::{OsStr, OsString},
    io::Write as _,
    os::{fd::AsFd, unix::ffi::OsStrExt},
    path::Path,
};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, RawMode, RenameFlags};

pub use super::step::Writer;
use super::{
    Dir, Error, Result, random,
    step::{step, sync},
};

/// A handle on a file system, opened before the first write to it, so that no write error escapes it.
#[derive(Debug)]
pub struct SyncHandle(Dir);

impl SyncHandle {
    /// Opens the handle on the file system that holds the folder.
    pub fn open(dir: &Dir) -> Result<Self> {
        // A new open file description: a duplicated one would share the error state of the old one.
        dir.open_dir(".").map(Self)
    }

    /// Writes all that is in memory of this file system to the disk. After an error, what was written since the
    /// handle was opened is not to be trusted: throw it away, never resume it.
    #[track_caller]
    pub fn sync(&self) -> Result<()> {
        sync_file_system(&self.0, self.0.path())
            .map_err(|e| Error::new("write to the disk", self.0.path(), e))
    }
}

/// Writes all that is in memory of the file system of an open file or folder to the disk.
#[track_caller]
pub fn sync_file_system(fd: impl AsFd, path: &Path) -> rustix::io::Result<()> {
    sync("syncfs", || path.to_path_buf(), || rustix::fs::syncfs(fd.as_fd()))
}

/// Syncs a folder: the names in it survive.
#[track_caller]
pub fn sync_dir(dir: &Dir) -> Result<()> {
    sync("fsync", || dir.path().to_path_buf(), || rustix::fs::fsync(dir))
        .map_err(|e| Error::new("sync the folder", dir.path(), e))
}

/// Syncs one file.
#[track_caller]
pub fn sync_file(file: &std::fs::File, path: &Path) -> Result<()> {
    sync("fsync", || path.to_path_buf(), || rustix::fs::fsync(file)).map_err(|e| Error::new("sync", path, e))
}

/// Writes to a file all of this, at once.
#[track_caller]
pub fn write_all(file: &std::fs::File, path: &Path, bytes: &[u8]) -> Result<()> {
    let mut file = file;
    let mut written = Ok(());
    step(
        "write",
        || vec![path.to_path_buf()],
        || {
            written = file.write_all(bytes);
            Ok(())
        },
    )
    .map_err(std::io::Error::from)
    .and(written)
    .map_err(|e| Error::new("write", path, e))
}

/// Writes a whole small file: a temporary name beside it, fsync, rename over the old one, fsync of the folder.
/// After a crash there is the old content or the new, never a mixture.
#[track_caller]
pub fn write_file(dir: &Dir, name: impl AsRef<OsStr>, bytes: &[u8], mode: RawMode) -> Result<()> {
    let name = name.as_ref();
    let mut temporary = OsStr::from_bytes(b".").to_owned();
    temporary.push(name);
    temporary.push(format!(".{}", random::hex(6)?));
    let mut written = write_new(dir, &temporary, bytes, mode);
    if written.is_ok() {
        written = move_over(dir, &temporary, name).map_err(|e| Error::new("rename", dir.join(name), e));
    }
    if written.is_err() && delete(dir, &temporary, AtFlags::empty()).is_err() {
        // The first error says what is wrong; the left-over is swept at the next start.
    }
    written?;
    sync_dir(dir)
}

#[track_caller]
fn move_over(dir: &Dir, name: &OsStr, new_name: &OsStr) -> rustix::io::Result<()> {
    let paths = || vec![dir.join(name), dir.join(new_name)];
    step("rename", paths, || rustix::fs::renameat(dir, name, dir, new_name))
}

#[track_caller]
fn move_with(
    from: &Dir,
    name: &OsStr,
    to: &Dir,
    new_name: &OsStr,
    how: RenameFlags,
) -> rustix::io::Result<()> {
    let call = if how == RenameFlags::EXCHANGE { "exchange" } else { "rename" };
    let paths = || vec![from.join(name), to.join(new_name)];
    step(call, paths, || rustix::fs::renameat_with(from, name, to, new_name, how))
}

#[track_caller]
fn delete(dir: &Dir, name: &OsStr, flags: AtFlags) -> rustix::io::Result<()> {
    let call = if flags == AtFlags::REMOVEDIR { "rmdir" } else { "unlink" };
    step(call, || vec![dir.join(name)], || rustix::fs::unlinkat(dir, name, flags))
}

#[track_caller]
fn write_new(dir: &Dir, name: &OsStr, bytes: &[u8], mode: RawMode) -> Result<()> {
    let file = dir.create_file(name, mode)?;
    write_all(&file, &dir.join(name), bytes)?;
    // The umask took bits away at creation; what was asked for is what counts.
    rustix::fs::fchmod(&file, Mode::from(mode))
        .map_err(|e| Error::new("set the mode of", dir.join(name), e))?;
    sync_file(&file, &dir.join(name))
}

/// Appends one line to a log of records and syncs it. A torn last line of an earlier crash is ended first, so that
/// it never swallows the new one.
#[track_caller]
pub fn append_line(dir: &Dir, name: impl AsRef<OsStr>, line: &str, mode: RawMode) -> Result<()> {
    use std::os::unix::fs::FileExt as _;
    let name = name.as_ref();
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::APPEND | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let open = || rustix::fs::openat(dir, name, flags, Mode::from(mode));
    let fd =
        step("create", || vec![dir.join(name)], open).map_err(|e| Error::new("open", dir.join(name), e))?;
    let file = std::fs::File::from(fd);
    let failed = |e: std::io::Error| Error::new("append to", dir.join(name), e);
    let length = file.metadata().map_err(failed)?.len();
    let mut last = [b'\n'];
    if length > 0 {
        file.read_exact_at(&mut last, length - 1).map_err(failed)?;
    }
    let start = if last == [b'\n'] { "" } else { "\n" };
    write_all(&file, &dir.join(name), format!("{start}{line}\n").as_bytes())?;
    sync_file(&file, &dir.join(name))?;
    if length == 0 { sync_dir(dir) } else { Ok(()) }
}

/// The younger half of a log of lines, from the beginning of a line.
pub fn younger_half(log: &[u8]) -> &[u8] {
    let middle = log.len() / 2;
    let cut = log[middle..].iter().position(|b| *b == b'\n').map_or(log.len(), |n| middle + n + 1);
    &log[cut..]
}

/// Renames a file or folder to a name that must be free, then syncs both folders.
#[track_caller]
pub fn rename(from: &Dir, name: impl AsRef<OsStr>, to: &Dir, new_name: impl AsRef<OsStr>) -> Result<()> {
    let (name, new_name) = (name.as_ref(), new_name.as_ref());
    move_with(from, name, to, new_name, RenameFlags::NOREPLACE)
        .map_err(|e| Error::new("move", from.join(name), e))?;
    sync_dir(to)?;
    sync_dir(from)
}

/// Exchanges two names that are both there, by one rename, then syncs both folders: whoever looks finds one or the other.
#[track_caller]
pub fn exchange(from: &Dir, name: impl AsRef<OsStr>, to: &Dir, new_name: impl AsRef<OsStr>) -> Result<()> {
    let (name, new_name) = (name.as_ref(), new_name.as_ref());
    move_with(from, name, to, new_name, RenameFlags::EXCHANGE)
        .map_err(|e| Error::new("exchange", to.join(new_name), e))?;
    sync_dir(to)?;
    sync_dir(from)
}

/// Renames a file over another of the same folder, then syncs the folder: the step by which new state becomes valid.
#[track_caller]
pub fn replace(dir: &Dir, name: impl AsRef<OsStr>, new_name: impl AsRef<OsStr>) -> Result<()> {
    let (name, new_name) = (name.as_ref(), new_name.as_ref());
    move_over(dir, name, new_name).map_err(|e| Error::new("move", dir.join(name), e))?;
    sync_dir(dir)
}

/// Removes a file if it is there, and syncs the folder.
#[track_caller]
pub fn remove_file(dir: &Dir, name: impl AsRef<OsStr>) -> Result<()> {
    let name = name.as_ref();
    match delete(dir, name, AtFlags::empty()) {
        Ok(()) => sync_dir(dir),
        Err(rustix::io::Errno::NOENT) => Ok(()),
        Err(e) => Err(Error::new("remove", dir.join(name), e)),
    }
}

/// Unlinks one name without syncing: only for drafts, which are thrown away whole after a crash.
#[track_caller]
pub fn unlink_draft(dir: &Dir, name: impl AsRef<OsStr>) -> Result<()> {
    let name = name.as_ref();
    delete(dir, name, AtFlags::empty()).map_err(|e| Error::new("remove", dir.join(name), e))
}

/// Removes an empty folder without syncing; false if it is not empty.
#[track_caller]
pub fn remove_empty(dir: &Dir, name: impl AsRef<OsStr>) -> Result<bool> {
    let name = name.as_ref();
    match delete(dir, name, AtFlags::REMOVEDIR) {
        Ok(()) => Ok(true),
        Err(rustix::io::Errno::NOTEMPTY | rustix::io::Errno::EXIST) => Ok(false),
        Err(e) => Err(Error::new("remove", dir.join(name), e)),
    }
}

/// Renames within drafts without syncing: the one syncfs before the commit covers it.
#[track_caller]
pub fn rename_draft(
    from: &Dir,
    name: impl AsRef<OsStr>,
    to: &Dir,
    new_name: impl AsRef<OsStr>,
) -> Result<()> {
    let (name, new_name) = (name.as_ref(), new_name.as_ref());
    move_with(from, name, to, new_name, RenameFlags::NOREPLACE)
        .map_err(|e| Error::new("move", from.join(name), e))
}

/// Renames over another name of the same folder of a draft, without syncing.
#[track_caller]
pub fn replace_draft(dir: &Dir, name: impl AsRef<OsStr>, new_name: impl AsRef<OsStr>) -> Result<()> {
    let (name, new_name) = (name.as_ref(), new_name.as_ref());
    move_over(dir, name, new_name).map_err(|e| Error::new("move", dir.join(name), e))
}

/// Removes a file or folder with all that is in it, if it is there; never follows a link, never crosses a mount.
#[track_caller]
pub fn remove_tree(dir: &Dir, name: impl AsRef<OsStr>) -> Result<()> {
    let mut removal =
        Removal { top: dir, device: dir.stat_self()?.st_dev, deep: vec![name.as_ref().to_owned()] };
    while let Some(name) = removal.deep.pop() {
        removal.remove(dir, &name, 0)?;
    }
    sync_dir(dir)
}

/// Folders are held open on the way down to this depth; what lies deeper is first moved up, so that no depth that a
/// hostile host can make exhausts descriptors or the stack.
const DEPTH: usize = 64;

struct Removal<'a> {
    top: &'a Dir,
    device: u64,
    /// Names in `top` that are to be removed.
    deep: Vec<OsString>,
}

impl Removal<'_> {
    fn remove(&mut self, dir: &Dir, name: &OsStr, depth: usize) -> Result<()> {
        let Some(stat) = dir.stat_if_any(name)? else { return Ok(()) };
        if !FileType::from_raw_mode(stat.st_mode).is_dir() {
            return unlink(dir, name, AtFlags::empty());
        }
        if stat.st_dev != self.device {
            return Err(Error::new("remove the mount point", dir.join(name), rustix::io::Errno::XDEV));
        }
        if depth == DEPTH {
            return self.move_up(dir, name);
        }
        let inner = open_for_removal(dir, name)?;
        for child in inner.names()? {
            // Files first by unlink: one call instead of two for nearly everything.
            match delete(&inner, &child, AtFlags::empty()) {
                Ok(()) | Err(rustix::io::Errno::NOENT) => {}
                Err(rustix::io::Errno::ISDIR | rustix::io::Errno::PERM) => {
                    self.remove(&inner, &child, depth + 1)?;
                }
                Err(e) => return Err(Error::new("remove", inner.join(&child), e)),
            }
        }
        unlink(dir, name, AtFlags::REMOVEDIR)
    }

    /// A cut leaves it under a hidden name of deletions, which the next start finishes.
    fn move_up(&mut self, dir: &Dir, name: &OsStr) -> Result<()> {
        let up = OsString::from(format!(".deleting-{}", random::hex(6)?));
        rename_draft(dir, name, self.top, &up)?;
        self.deep.push(up);
        Ok(())
    }
}

/// A folder of our own that its mode closes to us is opened up first: a draft may hold such.
fn open_for_removal(dir: &Dir, name: &OsStr) -> Result<Dir> {
    match dir.open_dir(name) {
        Err(e) if e.errno() == Some(libc::EACCES) => {
            open_up(dir, name)?;
            dir.open_dir(name)
        }
        other => other,
    }
}

/// Gives its owner all rights to a folder of our own. It is held while its mode is set, and set by that handle: a link
/// that somebody puts in its place is never followed.
fn open_up(dir: &Dir, name: &OsStr) -> Result<()> {
    let failed = |e| Error::new("open up", dir.join(name), e);
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let held = rustix::fs::openat(dir, name, flags, Mode::empty()).map_err(failed)?;
    if rustix::fs::fstat(&held).map_err(failed)?.st_uid != super::users::euid() {
        return Err(failed(rustix::io::Errno::ACCESS));
    }
    let by_handle = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&held));
    rustix::fs::chmod(by_handle, Mode::from(0o700)).map_err(failed)
}

fn unlink(dir: &Dir, name: &OsStr, flags: AtFlags) -> Result<()> {
    match delete(dir, name, flags) {
        Ok(()) | Err(rustix::io::Errno::NOENT) => Ok(()),
        Err(e) => Err(Error::new("remove", dir.join(name), e)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_is_taken_is_never_replaced_by_a_move() {
        let folder = tempfile::tempdir().unwrap();
        let dir = Dir::open(folder.path()).unwrap();
        dir.create_dir("a", 0o700).unwrap();
        dir.create_dir("b", 0o700).unwrap();
        assert!(rename(&dir, "a", &dir, "b").unwrap_err().is_taken());
        rename(&dir, "a", &dir, "c").unwrap();
        assert_eq!(dir.names().unwrap(), ["b", "c"]);
    }

    #[test]
    fn a_torn_last_line_does_not_swallow_the_next() {
        let folder = tempfile::tempdir().unwrap();
        let dir = Dir::open(folder.path()).unwrap();
        dir.create_file("log", 0o600).unwrap().write_all(b"one\ntw").unwrap();
        append_line(&dir, "log", "three", 0o600).unwrap();
        assert_eq!(dir.read("log", 99).unwrap(), b"one\ntw\nthree\n");
    }

    #[test]
    fn a_tree_of_any_depth_is_removed_with_few_descriptors() {
        let folder = tempfile::tempdir().unwrap();
        let dir = Dir::open(folder.path()).unwrap();
        let mut deep = dir.create_dir("tree", 0o700).unwrap();
        for level in 0..3000 {
            deep = deep.create_dir("d", 0o700).unwrap();
            deep.create_file("file", 0o600).unwrap();
            if level % 50 == 0 {
                deep.create_dir("side", 0o700).unwrap();
            }
        }
        remove_tree(&dir, "tree").unwrap();
        assert!(dir.names().unwrap().is_empty());
    }

    #[test]
    fn removing_a_tree_leaves_what_a_link_points_to() {
        let folder = tempfile::tempdir().unwrap();
        let dir = Dir::open(folder.path()).unwrap();
        dir.create_dir("outside", 0o700).unwrap().create_file("kept", 0o600).unwrap();
        let tree = dir.create_dir("tree", 0o700).unwrap();
        std::os::unix::fs::symlink("../outside", folder.path().join("tree/link")).unwrap();
        tree.create_dir("sub", 0o700).unwrap().create_file("gone", 0o600).unwrap();
        remove_tree(&dir, "tree").unwrap();
        assert_eq!(dir.names().unwrap(), ["outside"]);
        assert!(folder.path().join("outside/kept").exists());
    }

    #[test]
    fn a_folder_is_opened_up_but_never_what_a_link_in_its_place_leads_to() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let dir = Dir::open(folder.path()).unwrap();
        let mode =
            |name: &str| std::fs::metadata(folder.path().join(name)).unwrap().permissions().mode() & 0o777;
        dir.create_dir("closed", 0o700).unwrap().set_mode(0o000).unwrap();
        open_up(&dir, "closed".as_ref()).unwrap();
        assert_eq!(mode("closed"), 0o700);
        dir.create_dir("other", 0o700).unwrap().set_mode(0o500).unwrap();
        std::os::unix::fs::symlink("other", folder.path().join("link")).unwrap();
        assert!(open_up(&dir, "link".as_ref()).is_err());
        assert_eq!(mode("other"), 0o500);
    }
}
