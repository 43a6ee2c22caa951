//! The folders beside the paths, in which a restore makes the new and keeps the old.
//!
//! Who owns the folder above may rename them, and plant others under the names that they had or are to get. So each is
//! known by its inode, found again under whatever name it has, and a name that is taken is not waited for.

use std::{
    ffi::{OsStr, OsString},
    path::{Path, PathBuf},
};

use super::{
    error::{Error, Result},
    exchange::{NEW, OLD},
    journal::UnitRecord,
    units::{self, How},
};
use crate::{
    store::places::TEMPORARY,
    sys::{self, Dir, durable, random, show, users},
};

/// So many names are tried for what is kept.
const NAMES: usize = 100;

/// Opens a folder that a restore made, with the folder it is in and its name there. The one above may be somebody's, who
/// can put another one in its place: that is refused.
pub fn held(path: &Path, inode: Option<u64>) -> Result<(Dir, OsString, Dir)> {
    let (above, name) = units::at(path)?;
    let dir = above.open_dir(&name)?;
    let stat = dir.stat_self()?;
    let is_it = inode.is_none_or(|inode| stat.st_ino == inode) && stat.st_dev == above.stat_self()?.st_dev;
    if is_it && stat.st_uid == users::euid() && stat.st_mode & 0o777 == 0o700 {
        return Ok((above, name, dir));
    }
    let shown = show(path.as_os_str().as_encoded_bytes());
    Err(Error::Configuration {
        text: format!("{shown} is not the folder that the restore made: another one was put in its place"),
        fix: "move it away, and move back the one that was there (it is root's, with mode 0700)".to_owned(),
    })
}

/// Removes a folder that a restore made, with all that is in it: by its handle, so that nothing else goes.
pub fn remove_held(path: &Path, inode: Option<u64>) -> Result<()> {
    let (above, name, dir) = match held(path, inode) {
        Err(Error::Sys(e)) if e.is_not_found() => return Ok(()),
        other => other?,
    };
    remove(&above, &name, &dir)
}

fn remove(above: &Dir, name: &OsStr, dir: &Dir) -> Result<()> {
    for inner in dir.names()? {
        durable::remove_tree(dir, inner)?;
    }
    if !durable::remove_empty(above, name)? {
        return Err(sys::Error::new("remove", above.join(name), rustix::io::Errno::NOTEMPTY).into());
    }
    Ok(durable::sync_dir(above)?)
}

/// The staging folder of a unit, with the folder above and its name there: found by its inode, whatever somebody called
/// it meanwhile. `None` if it is not there.
fn own(unit: &UnitRecord) -> Result<Option<(Dir, OsString, Dir)>> {
    let wrong = match held(&unit.staging, unit.folder) {
        Ok(found) => return Ok(Some(found)),
        Err(Error::Sys(e)) if e.is_storage() => return Err(e.into()),
        Err(e) => e,
    };
    let (above, _) = units::at(&unit.staging)?;
    let Some(inode) = unit.folder else {
        return if matches!(&wrong, Error::Sys(e) if e.is_not_found()) { Ok(None) } else { Err(wrong) };
    };
    for name in above.names()? {
        if above.stat_if_any(&name)?.is_some_and(|stat| stat.st_ino == inode)
            && let Ok(found) = held(&above.join(&name), Some(inode))
            && is_staging(&found.2)?
        {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

/// Whether a folder holds what a staging folder holds, and nothing else: the number of an inode that is gone is given to the
/// next folder that somebody makes.
fn is_staging(dir: &Dir) -> Result<bool> {
    let names = dir.names()?;
    Ok(!names.is_empty() && names.iter().all(|name| name == NEW || name == OLD))
}

/// Removes the staging folder with all that is in it. One that was made and not yet noted holds nothing.
pub fn drop_staging(unit: &UnitRecord) -> Result<()> {
    let Some((above, name, dir)) = own(unit)? else { return Ok(()) };
    if unit.folder.is_some() {
        return remove(&above, &name, &dir);
    }
    if dir.stat_if_any(NEW)?.is_some() {
        durable::remove_empty(&dir, NEW)?;
    }
    durable::remove_empty(&above, &name)?;
    Ok(durable::sync_dir(&above)?)
}

/// Keeps the old: the staging folder with it alone, under a name of what is kept. `None` if there was nothing. Running it
/// again ends in the same.
pub fn keep_old(unit: &UnitRecord) -> Result<Option<PathBuf>> {
    let Some((above, name, staging)) = own(unit)? else {
        return if unit.how == How::Create { Ok(None) } else { Err(lost(unit)) };
    };
    match unit.how {
        How::Create => {
            remove(&above, &name, &staging)?;
            return Ok(None);
        }
        How::InPlace => durable::remove_tree(&staging, NEW)?,
        How::Exchange => {
            if staging.stat_if_any(NEW)?.is_some() {
                durable::rename(&staging, NEW, &staging, OLD)?;
            }
        }
    }
    let shown = name.to_string_lossy();
    if shown.starts_with(&format!("{TEMPORARY}replaced-")) {
        return Ok(Some(unit.staging.with_file_name(&name)));
    }
    let first = unit.staging.file_name().unwrap_or_default().to_string_lossy();
    let first = first.replacen("-restore-", "-replaced-", 1);
    for attempt in 0..NAMES {
        let kept = if attempt == 0 { first.clone() } else { format!("{first}-{}", random::hex(6)?) };
        match durable::rename(&above, &name, &above, &*kept) {
            Ok(()) => return Ok(Some(unit.staging.with_file_name(kept))),
            Err(e) if e.is_taken() => {}
            Err(e) => return Err(e.into()),
        }
    }
    Err(Error::Internal("no name is free for what was replaced"))
}

fn lost(unit: &UnitRecord) -> Error {
    let shown = |path: &Path| show(path.as_os_str().as_encoded_bytes());
    Error::Configuration {
        text: format!(
            "what was at {} before the restore is no longer in {}: somebody moved it",
            shown(&unit.root),
            shown(&unit.staging)
        ),
        fix: "look for a folder of root's with mode 0700, and keep or remove it by hand".to_owned(),
    }
}
