//! Putting the new in the place of the old, and back.
//!
//! ```text
//! /var/www/shop                              the path
//! /var/www/.handover-restore-<id>-<random>/  0700: new/shop is made here; old/shop is kept here
//! ```
//!
//! One rename exchanges the two. Where none can, the old is first copied to `old/` (files as further names, so at once), and then
//! the path is made equal to the new, file by file; putting it back makes it equal to `old/`.

use std::{
    ffi::{OsStr, OsString},
    path::{Path, PathBuf},
};

use super::{
    beside,
    error::{Error, Result},
    journal::UnitRecord,
    trees,
    units::{self, Guard, How},
};
use crate::sys::{self, Dir, durable, durable::SyncHandle, show};

/// The folder for the new, in the staging folder.
pub const NEW: &str = "new";
/// The folder for the old.
pub const OLD: &str = "old";

/// A unit's places, open.
#[derive(Debug)]
pub struct Opened {
    /// The folder that holds the path; the path itself where it is the root of all.
    parent: Dir,
    /// The path's name; `None` for the root of all.
    name: Option<OsString>,
    staging: Dir,
}

impl Opened {
    /// Opens them.
    pub fn of(unit: &UnitRecord) -> Result<Self> {
        let (_, _, staging) = beside::held(&unit.staging, unit.folder)?;
        if unit.root.parent().is_none() {
            return Ok(Self { parent: Dir::open("/")?, name: None, staging });
        }
        let (parent, name) = units::at(&unit.root)?;
        Ok(Self { parent, name: Some(name), staging })
    }

    fn name(&self) -> Result<&OsStr> {
        self.name.as_deref().ok_or(Error::Internal("the root of all cannot be renamed"))
    }

    /// What is at the path now.
    fn now(&self) -> Result<Option<(u64, u64)>> {
        match &self.name {
            Some(name) => Ok(trees::inode(&self.parent, name)?),
            None => Ok(None),
        }
    }
}

/// Makes the staging folder of a unit, and notes which one it is.
pub fn make_staging(unit: &mut UnitRecord) -> Result<()> {
    let (above, name) = units::at(&unit.staging)?;
    let staging = above.create_private(&name)?;
    staging.create_dir(NEW, 0o700)?;
    durable::sync_dir(&staging)?;
    durable::sync_dir(&above)?;
    unit.folder = Some(staging.stat_self()?.st_ino);
    Ok(())
}

/// Where a staging folder is made for a path: beside it; in it where it is a mount point of its own.
pub fn staging_place(root: &Path, in_it: bool, name: &str) -> PathBuf {
    let folder = if in_it { root } else { root.parent().unwrap_or(root) };
    folder.join(name)
}

/// Notes what is there and what was made, before anything is exchanged.
pub fn note(unit: &mut UnitRecord) -> Result<()> {
    let opened = Opened::of(unit)?;
    unit.old = opened.now()?;
    if let Some(name) = &opened.name {
        unit.new = trees::inode(&opened.staging.open_dir(NEW)?, name)?;
    }
    Ok(())
}

/// What an exchange gave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Put {
    /// It is in its place.
    Done,
    /// No rename can do it: it must be put in file by file.
    Refused,
}

/// Puts the new in its place by one rename.
pub fn put(unit: &UnitRecord) -> Result<Put> {
    let opened = Opened::of(unit)?;
    let (name, new) = (opened.name()?, opened.staging.open_dir(NEW)?);
    if unit.how == How::Create {
        durable::rename(&new, name, &opened.parent, name)?;
        return Ok(Put::Done);
    }
    let sync = SyncHandle::open(&new)?;
    if let (Some(live), Some(built)) = (folder(&opened.parent, name)?, folder(&new, name)?) {
        trees::carry_over(&live, &built, &unit.root, &Guard::new(&unit.rules)?)?;
    }
    sync.sync()?;
    match durable::exchange(&new, name, &opened.parent, name) {
        Ok(()) => Ok(Put::Done),
        Err(e) if is_no_way(&e) => Ok(Put::Refused),
        Err(e) => Err(e.into()),
    }
}

fn folder(dir: &Dir, name: &OsStr) -> Result<Option<Dir>> {
    match dir.open_dir(name) {
        Ok(dir) => Ok(Some(dir)),
        Err(e) if matches!(e.errno(), Some(libc::ENOTDIR | libc::ELOOP)) => Ok(None),
        Err(e) => Err(e.into()),
    }
}

/// A mount, a lower layer, or a file system without exchange.
fn is_no_way(e: &sys::Error) -> bool {
    matches!(e.errno(), Some(libc::EBUSY | libc::EXDEV | libc::EINVAL | libc::ENOSYS | libc::EOPNOTSUPP))
}

/// Copies what is there aside, to this name in the staging folder: complete and synced when this returns.
pub fn copy_aside(unit: &UnitRecord, aside: &str) -> Result<()> {
    let opened = Opened::of(unit)?;
    let guard = Guard::new(&unit.rules)?;
    durable::remove_tree(&opened.staging, aside)?;
    let old = opened.staging.create_dir(aside, 0o700)?;
    let sync = SyncHandle::open(&old)?;
    match &opened.name {
        Some(name) => trees::copy(&opened.parent, name, &old, name, &unit.root, Some(&guard))?,
        None => trees::copy_inside(&opened.parent, &old, &unit.root, Some(&guard))?,
    }
    Ok(sync.sync()?)
}

/// Puts the new (or the old) in file by file.
pub fn put_inside(unit: &UnitRecord, from: &str) -> Result<()> {
    let opened = Opened::of(unit)?;
    let guard = Guard::new(&unit.rules)?;
    let sync = SyncHandle::open(&opened.parent)?;
    let from = opened.staging.open_dir(from)?;
    match &opened.name {
        Some(name) => {
            let inside = folder(&opened.parent, name).ok().flatten();
            let inside = inside.map(|dir| SyncHandle::open(&dir)).transpose()?;
            trees::mirror_one(&from, &opened.parent, name, &unit.root, &guard)?;
            inside.map_or(Ok(()), |inside| inside.sync())?;
        }
        None => trees::mirror(&from, &opened.parent, &unit.root, &guard)?,
    }
    Ok(sync.sync()?)
}

/// Puts back what was there. Running it again changes nothing more.
pub fn put_back(unit: &UnitRecord) -> Result<()> {
    let opened = match Opened::of(unit) {
        Ok(opened) => opened,
        Err(Error::Sys(e)) if e.is_not_found() => {
            return if is_untouched(unit)? { Ok(()) } else { Err(gone(unit)) };
        }
        Err(e) => return Err(e),
    };
    if unit.how == How::InPlace {
        return if unit.copied { put_inside(unit, OLD) } else { Ok(()) };
    }
    let now = opened.now()?;
    if unit.new.is_none() || now != unit.new {
        if now == unit.old || unit.new.is_none() {
            return Ok(());
        }
        let shown = show(unit.root.as_os_str().as_encoded_bytes());
        let staging = show(unit.staging.as_os_str().as_encoded_bytes());
        return Err(Error::Configuration {
            text: format!(
                "{shown} is neither what was there before the restore nor what the restore put there"
            ),
            fix: format!(
                "somebody changed it meanwhile: put it in order by hand (the other state is in {staging}), then `handover restore undo --give-up`"
            ),
        });
    }
    let (name, new) = (opened.name()?, opened.staging.open_dir(NEW)?);
    match unit.how {
        How::Create => durable::rename(&opened.parent, name, &new, name)?,
        _ => durable::exchange(&new, name, &opened.parent, name)?,
    }
    Ok(())
}

/// Whether nothing of the path was changed yet, as far as can be told without its staging folder.
fn is_untouched(unit: &UnitRecord) -> Result<bool> {
    if unit.how == How::InPlace || unit.folder.is_none() {
        return Ok(!unit.copied);
    }
    let now = match units::at(&unit.root) {
        Ok((parent, name)) => trees::inode(&parent, &name)?,
        Err(e) if e.is_not_found() => return Ok(false),
        Err(e) => return Err(e.into()),
    };
    Ok(unit.new.is_none() || now == unit.old)
}

/// What was there is nowhere to be found: that is never passed over.
fn gone(unit: &UnitRecord) -> Error {
    let shown = |path: &Path| show(path.as_os_str().as_encoded_bytes());
    let staging = shown(&unit.staging);
    Error::Configuration {
        text: format!("what was at {} before the restore is to be put back from {staging}, and that is gone", shown(&unit.root)),
        fix: "somebody moved it: move it back there; or put the path in order by hand, then `handover restore undo --give-up`"
            .to_owned(),
    }
}
