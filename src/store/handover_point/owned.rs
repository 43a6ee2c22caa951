//! Small files in folders of the transport user: root's to write, the group's to read, and never half there.

use std::{
    ffi::{OsStr, OsString},
    fs::File,
    os::unix::ffi::OsStrExt as _,
};

use rustix::fs::{Gid, Mode, RawMode, Uid};

use crate::sys::{Dir, Error, Result, durable, random};

/// Writes a whole file under a temporary name, gives it away, syncs it, renames it over the old one and syncs the
/// folder. After a cut there is the old content or the new, and perhaps a name that [`is_temporary`].
#[track_caller]
pub(super) fn write(
    dir: &Dir,
    name: impl AsRef<OsStr>,
    bytes: &[u8],
    mode: RawMode,
    owner: Option<(u32, u32)>,
) -> Result<()> {
    let name = name.as_ref();
    let mut temporary = OsString::from(".");
    temporary.push(name);
    temporary.push(format!(".{}", random::hex(6)?));
    let mut written = fill(dir, &temporary, bytes, mode, owner);
    if written.is_ok() {
        written = durable::replace(dir, &temporary, name);
    }
    if written.is_err() && durable::unlink_draft(dir, &temporary).is_err() {
        // The first error says what is wrong; the left-over is swept at the next start.
    }
    written
}

/// Writes a new file and syncs it, without any rename: for drafts, which are published as a whole.
#[track_caller]
pub(super) fn fill(
    dir: &Dir,
    name: &OsStr,
    bytes: &[u8],
    mode: RawMode,
    owner: Option<(u32, u32)>,
) -> Result<()> {
    let file = dir.create_file(name, 0o600)?;
    durable::write_all(&file, &dir.join(name), bytes)?;
    give(&file, dir, name, owner)?;
    rustix::fs::fchmod(&file, Mode::from(mode))
        .map_err(|e| Error::new("set the mode of", dir.join(name), e))?;
    durable::sync_file(&file, &dir.join(name))
}

fn give(file: &File, dir: &Dir, name: &OsStr, owner: Option<(u32, u32)>) -> Result<()> {
    let Some((uid, gid)) = owner else { return Ok(()) };
    rustix::fs::fchown(file, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))
        .map_err(|e| Error::new("give away", dir.join(name), e))
}

/// Whether a name is one that [`write`] or `sys::durable::write_file` uses until a file is whole.
pub(super) fn is_temporary(name: &OsStr) -> bool {
    let name = name.as_bytes();
    let (Some(b'.'), Some(dot)) = (name.first(), name.iter().rposition(|b| *b == b'.')) else { return false };
    let end = &name[dot + 1..];
    dot > 1 && end.len() == 12 && end.iter().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}
