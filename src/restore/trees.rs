//! Whole trees on the live side: copied by links, made equal to another, looked over.
//!
//! No inode that was there is ever written to: files are replaced by a rename, so that a tree and its copy by links never
//! change each other.

use std::{
    ffi::{OsStr, OsString},
    fs::File,
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
};

use jiff::Timestamp;
use rustix::fs::{FileType, Stat};

use super::{
    error::{Error, Result},
    units::Guard,
};
use crate::{
    store::places::TEMPORARY,
    sys::{self, Dir, copy, durable, metadata, random, show, signals, stamp, xattr},
};

/// Folders below each other that are entered, from the root of all: each costs handles and a part of the stack. A source
/// collects 512 below a path of its configuration.
const DEEPEST: usize = 576;

fn fathom(path: &Path) -> Result<()> {
    if path.iter().count() <= DEEPEST {
        return Ok(());
    }
    let above: PathBuf = path.iter().take(8).collect();
    Err(Error::refused(
        format!("below {} folders lie more than {DEEPEST} deep", show(above.as_os_str().as_bytes())),
        "move or remove the deepest; or restore with --to DIR",
    ))
}

fn is_dir(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode).is_dir()
}

fn is_ours(name: &OsStr) -> bool {
    name.as_bytes().starts_with(TEMPORARY.as_bytes())
}

/// Copies what is called `name` in `from` to `to/new_name`: files as further names where they can be, folders anew with all
/// their metadata. What the guard leaves is left out.
pub fn copy(
    from: &Dir,
    name: &OsStr,
    to: &Dir,
    new_name: &OsStr,
    path: &Path,
    guard: Option<&Guard>,
) -> Result<()> {
    signals::check()?;
    let stat = from.stat(name)?;
    if !is_dir(&stat) {
        return put(from, name, to, new_name);
    }
    fathom(path)?;
    let inner = from.open_dir(name)?;
    let made = to.create_dir(new_name, 0o700)?;
    copy_inside(&inner, &made, path, guard)?;
    folder_metadata(&inner, &made)
}

/// The same for what is in a folder.
pub fn copy_inside(from: &Dir, to: &Dir, path: &Path, guard: Option<&Guard>) -> Result<()> {
    for name in from.names()? {
        let (path, stat) = (path.join(&name), from.stat(&name)?);
        if is_ours(&name) || guard.is_some_and(|guard| guard.leaves(from, &path, &stat)) {
            continue;
        }
        copy(from, &name, to, &name, &path, guard)?;
    }
    Ok(())
}

/// Carries over into the new tree what the live one holds and no generation does: as further names of the same files, so
/// that whoever has them open goes on with them.
pub fn carry_over(live: &Dir, new: &Dir, path: &Path, guard: &Guard) -> Result<()> {
    fathom(path)?;
    let before = new.stat_self()?;
    let mut changed = false;
    for name in live.names()? {
        signals::check()?;
        let (path, stat) = (path.join(&name), live.stat(&name)?);
        let there = new.stat_if_any(&name)?;
        if is_ours(&name) {
            continue;
        }
        if guard.leaves(live, &path, &stat) {
            if there.is_none() {
                copy(live, &name, new, &name, &path, None)?;
                changed = true;
            }
        } else if is_dir(&stat) && there.as_ref().is_some_and(is_dir) {
            carry_over(&live.open_dir(&name)?, &new.open_dir(&name)?, &path, guard)?;
        }
    }
    if changed {
        let time = stamp_of(&before);
        metadata::time(new, new.path(), time.0, time.1)?;
    }
    Ok(())
}

fn stamp_of(stat: &Stat) -> (i64, u32) {
    (stat.st_mtime, u32::try_from(stat.st_mtime_nsec).unwrap_or(0))
}

/// Makes what is in the folder `live` equal to what is in `from`, but for what the guard leaves. Running it again after a cut
/// ends in the same.
pub fn mirror(from: &Dir, live: &Dir, path: &Path, guard: &Guard) -> Result<()> {
    fathom(path)?;
    for name in live.names()? {
        if from.stat_if_any(&name)?.is_none() {
            clear(live, &name, &path.join(&name), guard)?;
        }
    }
    for name in from.names()? {
        if !is_ours(&name) {
            mirror_one(from, live, &name, &path.join(&name), guard)?;
        }
    }
    Ok(())
}

/// The same for one name.
pub fn mirror_one(from: &Dir, live: &Dir, name: &OsStr, path: &Path, guard: &Guard) -> Result<()> {
    let stat = from.stat(name)?;
    let there = live.stat_if_any(name)?;
    if !is_dir(&stat) {
        if there.as_ref().is_some_and(is_dir) {
            clear(live, name, path, guard)?;
        } else if there.is_some_and(|there| (there.st_dev, there.st_ino) == (stat.st_dev, stat.st_ino)) {
            return Ok(());
        }
        let temporary = OsString::from(format!("{TEMPORARY}{}", random::hex(8)?));
        put(from, name, live, &temporary)?;
        return Ok(durable::replace_draft(live, &temporary, name)?);
    }
    if there.is_some_and(|there| !is_dir(&there)) {
        durable::unlink_draft(live, name)?;
    }
    let (from, live) = (from.open_dir(name)?, live.ensure_dir(name, 0o700)?);
    mirror(&from, &live, path, guard)?;
    folder_metadata(&from, &live)
}

/// Removes a name with all that is in it, but for what the guard leaves, and the folders that hold that.
pub fn clear(dir: &Dir, name: &OsStr, path: &Path, guard: &Guard) -> Result<()> {
    let Some(stat) = dir.stat_if_any(name)? else { return Ok(()) };
    let is_left_over = is_ours(name) && !is_dir(&stat);
    if !is_left_over && (is_ours(name) || guard.leaves(dir, path, &stat)) {
        return Ok(());
    }
    if !is_dir(&stat) {
        return Ok(durable::unlink_draft(dir, name)?);
    }
    fathom(path)?;
    let inner = dir.open_dir(name)?;
    for child in inner.names()? {
        clear(&inner, &child, &path.join(&child), guard)?;
    }
    durable::remove_empty(dir, name)?;
    Ok(())
}

/// A further name of what is no folder; where it cannot have one (another file system, too many), a copy with all metadata.
fn put(from: &Dir, name: &OsStr, to: &Dir, new_name: &OsStr) -> Result<()> {
    match from.link(name, to, new_name) {
        Err(e) if matches!(e.errno(), Some(libc::EXDEV | libc::EMLINK | libc::EPERM)) => {}
        other => return Ok(other?),
    }
    // It may be somebody else's by now: what is opened is what counts, and not what was looked at by its name.
    let (handle, stat) = from.hold(name)?;
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => {
            let (source, target) = (from.open_file(name)?, to.create_file(new_name, 0o600)?);
            let stat = same(&source, &stat, &from.join(name))?;
            // Not stopped by a signal: putting back what was there must come to its end.
            copy::hash_and_copy(&source, Some(&target), &to.join(new_name), &mut |_| Ok(()))?;
            return file_metadata(&source, &target, &stat, &to.join(new_name));
        }
        FileType::Symlink => metadata::symlink(to, new_name, &sys::dir::link_of(&handle, &from.join(name))?)?,
        FileType::Fifo => metadata::node(to, new_name, metadata::Node::Fifo)?,
        FileType::CharacterDevice | FileType::BlockDevice => {
            let (major, minor) = (rustix::fs::major(stat.st_rdev), rustix::fs::minor(stat.st_rdev));
            let is_char = FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice;
            let node = if is_char {
                metadata::Node::Char(major, minor)
            } else {
                metadata::Node::Block(major, minor)
            };
            metadata::node(to, new_name, node)?;
        }
        FileType::Directory => return Err(changed(&from.join(name)).into()),
        // A socket is its program's, which makes it anew.
        _ => return Ok(()),
    }
    metadata::own_name(to, new_name, stat.st_uid, stat.st_gid)?;
    if !FileType::from_raw_mode(stat.st_mode).is_symlink() {
        metadata::mode_name(to, new_name, stat.st_mode & 0o7777)?;
    }
    for (attribute, value) in xattr::of_name(from, name)? {
        xattr::set_on_name(to, new_name, &attribute, &value)?;
    }
    let (seconds, nanoseconds) = stamp_of(&stat);
    Ok(metadata::time_name(to, new_name, seconds, nanoseconds)?)
}

fn changed(path: &Path) -> sys::Error {
    sys::Error::new("copy", path, std::io::Error::other("something else was put in its place meanwhile"))
}

/// What an open file is, if it is the one that was held.
fn same(file: &File, held: &Stat, path: &Path) -> sys::Result<Stat> {
    let stat = rustix::fs::fstat(file).map_err(|e| sys::Error::new("look at", path, e))?;
    let is_same = (stat.st_dev, stat.st_ino) == (held.st_dev, held.st_ino);
    if is_same { Ok(stat) } else { Err(changed(path)) }
}

fn file_metadata(from: &File, to: &File, stat: &Stat, path: &Path) -> Result<()> {
    metadata::own(to, path, stat.st_uid, stat.st_gid)?;
    metadata::mode(to, path, stat.st_mode & 0o7777)?;
    for (name, value) in xattr::of_open(from, path)? {
        xattr::set_on_open(to, path, &name, &value)?;
    }
    let (seconds, nanoseconds) = stamp_of(stat);
    Ok(metadata::time(to, path, seconds, nanoseconds)?)
}

fn folder_metadata(from: &Dir, to: &Dir) -> Result<()> {
    let stat = from.stat_self()?;
    metadata::own(to, to.path(), stat.st_uid, stat.st_gid)?;
    metadata::mode(to, to.path(), stat.st_mode & 0o7777)?;
    for (name, value) in xattr::of_open(from, from.path())? {
        match xattr::set_on_open(to, to.path(), &name, &value) {
            // What only the file system itself sets (as overlay's own marks) stays its own.
            Err(e) if matches!(e.errno(), Some(libc::EPERM | libc::EOPNOTSUPP)) => {}
            other => other?,
        }
    }
    let (seconds, nanoseconds) = stamp_of(&stat);
    Ok(metadata::time(to, to.path(), seconds, nanoseconds)?)
}

/// What a restore would replace.
#[derive(Debug, Default)]
pub struct Survey {
    /// Files that are no folders.
    pub files: u64,
    /// Bytes of the regular ones.
    pub bytes: u64,
    /// How many changed after a time.
    pub newer: u64,
    /// Some of those.
    pub examples: Vec<String>,
}

/// Looks over a live path: what is there, and what of it changed after `since`. Refuses what is too deep to be walked: now,
/// before anything is stopped, and also where it is not collected, since that is carried over.
pub fn survey(path: &Path, since: Timestamp, guard: &Guard, into: &mut Survey) -> Result<()> {
    if path.parent().is_none() {
        return survey_inside(&Dir::open("/")?, path, since, guard, into);
    }
    let (dir, name) = super::units::at(path)?;
    match dir.stat_if_any(&name)? {
        Some(stat) => survey_one(&dir, &name, &stat, path.to_path_buf(), (since, guard), into),
        None => Ok(()),
    }
}

fn survey_one(
    dir: &Dir,
    name: &OsStr,
    stat: &Stat,
    path: PathBuf,
    (since, guard): (Timestamp, &Guard),
    into: &mut Survey,
) -> Result<()> {
    if is_dir(stat) {
        return survey_inside(&dir.open_dir(name)?, &path, since, guard, into);
    }
    into.files += 1;
    into.bytes += u64::try_from(stat.st_size).unwrap_or(0);
    let changed = stamp::mtime(stat).max(stamp::ctime(stat));
    if changed > since {
        into.newer += 1;
        if into.examples.len() < 5 {
            into.examples.push(show(path.as_os_str().as_bytes()));
        }
    }
    Ok(())
}

fn survey_inside(dir: &Dir, path: &Path, since: Timestamp, guard: &Guard, into: &mut Survey) -> Result<()> {
    fathom(path)?;
    for name in dir.names()? {
        signals::check()?;
        let path = path.join(&name);
        let Some(stat) = dir.stat_if_any(&name)? else { continue };
        let is_left = guard.leaves(dir, &path, &stat);
        if is_left && is_dir(&stat) && !is_ours(&name) {
            sound(dir, &name, &path, guard)?;
        }
        if is_left || is_ours(&name) {
            continue;
        }
        match survey_one(dir, &name, &stat, path, (since, guard), into) {
            Err(Error::Sys(e)) if e.is_not_found() => {}
            other => other?,
        }
    }
    Ok(())
}

/// Only how deep it is.
fn sound(dir: &Dir, name: &OsStr, path: &Path, guard: &Guard) -> Result<()> {
    signals::check()?;
    if guard.is_mounted(path) {
        return Ok(());
    }
    fathom(path)?;
    let Some(inner) = dir.open_dir_if_any(name)? else { return Ok(()) };
    for (name, kind) in inner.kinds()? {
        if kind.is_none_or(|kind| kind.is_dir()) && inner.stat_if_any(&name)?.as_ref().is_some_and(is_dir) {
            sound(&inner, &name, &path.join(&name), guard)?;
        }
    }
    Ok(())
}

/// Device and inode of what a name is.
pub fn inode(dir: &Dir, name: &OsStr) -> sys::Result<Option<(u64, u64)>> {
    Ok(dir.stat_if_any(name)?.map(|stat| (stat.st_dev, stat.st_ino)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_opened_must_be_what_was_looked_at() {
        let folder = tempfile::tempdir().unwrap();
        let dir = Dir::open(folder.path()).unwrap();
        for name in ["a", "b"] {
            dir.create_file(name, 0o600).unwrap();
        }
        let (_handle, a) = dir.hold("a").unwrap();
        let open = |name: &str| same(&dir.open_file(name).unwrap(), &a, Path::new(name));
        assert_eq!(open("a").unwrap().st_ino, a.st_ino);
        assert!(open("b").unwrap_err().to_string().contains("put in its place"));
    }
}
