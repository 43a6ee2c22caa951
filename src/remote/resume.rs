//! Half a file survives: rsync keeps it by itself when it is told to stop; what a kill or the loss of power left under a
//! temporary name is put where rsync looks for it. rsync compares it with the source block by block, so a torn one is
//! a head start and never content.

use std::{
    collections::HashSet,
    ffi::{OsStr, OsString},
    os::unix::ffi::OsStrExt as _,
    path::Path,
};

use rustix::fs::FileType;

use super::{Error, Result};
use crate::sys::{self, Dir, durable};

/// Moves temporary files of the asked `paths` in `recv` to where rsync resumes from; says how many.
pub fn adopt(recv: &Path, paths: &HashSet<&[u8]>, partial_dir: &str) -> Result<u64> {
    let recv = Dir::open(recv)?;
    let folders: HashSet<&[u8]> = paths.iter().map(|path| split(path).0).collect();
    let mut adopted = 0;
    for folder in folders {
        let Some(dir) = descend_if_any(&recv, folder)? else { continue };
        for name in dir.names()? {
            let Some(target) = target(&name) else { continue };
            if paths.contains(join(folder, target).as_slice()) && is_file(&dir, &name)? {
                adopt_one(&dir, &name, OsStr::from_bytes(target), partial_dir)?;
                adopted += 1;
            }
        }
    }
    Ok(adopted)
}

/// The name that a temporary file `.NAME.XXXXXX` was to get.
fn target(name: &OsStr) -> Option<&[u8]> {
    let (target, random) = name.as_bytes().strip_prefix(b".")?.split_last_chunk::<7>()?;
    let plain = random[0] == b'.' && random[1..].iter().all(u8::is_ascii_alphanumeric);
    (plain && !target.is_empty()).then_some(target)
}

fn adopt_one(dir: &Dir, name: &OsString, target: &OsStr, partial_dir: &str) -> sys::Result<()> {
    let partial = dir.ensure_dir(partial_dir, 0o700)?;
    if let Some(there) = partial.stat_if_any(target)? {
        if there.st_size >= dir.stat(name)?.st_size {
            return durable::unlink_draft(dir, name);
        }
        durable::unlink_draft(&partial, target)?;
    }
    durable::rename_draft(dir, name, &partial, target)
}

fn is_file(dir: &Dir, name: &OsStr) -> Result<bool> {
    Ok(FileType::from_raw_mode(dir.stat(name)?.st_mode).is_file())
}

fn descend_if_any(recv: &Dir, folder: &[u8]) -> Result<Option<Dir>> {
    match recv.descend(folder) {
        Ok(dir) => Ok(Some(dir)),
        Err(e) if e.is_not_found() => Ok(None),
        Err(e) => Err(Error::Sys(e)),
    }
}

/// Folder and name of a path.
fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|b| *b == b'/') {
        Some(at) => (&path[..at], &path[at + 1..]),
        None => (b"", path),
    }
}

fn join(folder: &[u8], name: &[u8]) -> Vec<u8> {
    if folder.is_empty() { name.to_vec() } else { [folder, b"/", name].concat() }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn what_a_kill_left_is_found_by_the_next_run_and_nothing_else_is_touched() {
        let folder = tempfile::tempdir().unwrap();
        let recv = Dir::open(folder.path()).unwrap();
        let www = recv.create_dir("www", 0o700).unwrap();
        for (name, text) in
            [(".big.aB3xYz", "half"), (".other.aB3xYz", "x"), (".big", "x"), ("big.aB3xYz", "x")]
        {
            www.create_file(name, 0o600).unwrap().write_all(text.as_bytes()).unwrap();
        }
        let paths: HashSet<&[u8]> = [&b"www/big"[..], b"www/gone/x", b"top"].into();
        assert_eq!(adopt(folder.path(), &paths, ".part").unwrap(), 1);
        assert_eq!(www.names().unwrap(), [".big", ".other.aB3xYz", ".part", "big.aB3xYz"]);
        assert_eq!(www.open_dir(".part").unwrap().read("big", 9).unwrap(), b"half");
        www.create_file(".big.000000", 0o600).unwrap().write_all(b"ha").unwrap();
        assert_eq!(adopt(folder.path(), &paths, ".part").unwrap(), 1);
        assert_eq!(www.open_dir(".part").unwrap().read("big", 9).unwrap(), b"half");
        assert_eq!(adopt(folder.path(), &paths, ".part").unwrap(), 0);
    }
}
