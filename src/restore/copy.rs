//! The copy of a generation that nobody but root can reach: what is proven there is what is restored.
//!
//! Content is shared (reflink) where the file system can; what is root's and written by nobody is linked; else it is
//! copied. All of it is hashed in the copy.

use std::{ffi::OsStr, fs::File, os::unix::ffi::OsStrExt as _};

use rustix::fs::{FileType, Stat};

use super::{
    error::{Error, Result},
    find::{Condition, Torn},
    need::Need,
    proven::Proven,
    write_out::{self, split},
};
use crate::{
    manifest::{Digest, Kind, entry, names},
    store::Found,
    sys::{
        self, Dir, copy, durable, durable::SyncHandle, name::Name, progress::Progress, random, show, signals,
        users,
    },
};

/// Copies a generation's folder into `to` and proves all of it: of its content only these elements, or all.
/// The outcome is what was found wrong.
pub fn make(
    from: &Dir,
    to: &Dir,
    found: &Found,
    elements: &[Name],
    progress: &Progress,
) -> Result<Condition> {
    // A run that was cut may be finished from this copy: it must survive a loss of power.
    let sync = SyncHandle::open(to)?;
    let sums = &found.generation.sha256;
    for (name, expected, is_needed) in [
        (names::GENERATION, found.seal, true),
        (names::MANIFEST, sums.manifest, true),
        (names::XATTRS, sums.xattrs, true),
        (names::SUMS, sums.sha256sums, false),
        (names::README, sums.readme, false),
    ] {
        if own(from, to, name, expected)? {
            continue;
        }
        if is_needed {
            let text = format!("{name} is not the one that was sealed");
            return Ok(Condition::Torn(vec![Torn { element: None, text }]));
        }
        // Nothing is restored from it; what is not proven is not handed on.
        durable::remove_file(to, name)?;
    }
    let data = to.create_dir(names::DATA, 0o700)?;
    let proven = Proven::new(to, &found.generation)?;
    let mut copying = Copying { from: from.open_dir(names::DATA)?, to: data, torn: Vec::new(), progress };
    proven.each(&mut |entry| {
        let Kind::File { digest, .. } = entry.kind else { return Ok(()) };
        if is_wanted(elements, &entry.path) {
            let element = entry.path.split(|b| *b == b'/').next().unwrap_or_default();
            copying.file(&entry.path, element, digest).map_err(into_write)?;
        }
        Ok(())
    })?;
    sync.sync()?;
    Ok(if copying.torn.is_empty() { Condition::Whole } else { Condition::Torn(copying.torn) })
}

fn into_write(e: Error) -> write_out::Error {
    match e {
        Error::Sys(e) => e.into(),
        Error::Interrupted(e) => e.into(),
        e => write_out::Error::Damaged(e.to_string()),
    }
}

/// What [`make`] needs: nothing for what can be linked or shared.
pub fn need(from: &Dir, to: &Dir, found: &Found, elements: &[Name]) -> Result<Need> {
    let proven = match Proven::new(from, &found.generation) {
        Ok(proven) => proven,
        // Whoever makes it finds that out, and says it.
        Err(write_out::Error::Damaged(_)) => return Ok(Need::default()),
        Err(write_out::Error::Sys(e)) if e.is_not_found() => return Ok(Need::default()),
        Err(e) => return Err(e.into()),
    };
    let device = to.stat_self()?.st_dev;
    let is_shared = is_shared(from, to)?;
    let mut need = Need::default();
    for name in [names::MANIFEST, names::XATTRS, names::SUMS, names::README] {
        let stat = from.stat_if_any(name)?;
        need.add(stat.map_or(0, |stat| u64::try_from(stat.st_size).unwrap_or(0)));
    }
    proven.each_stored(&mut |entry, stat| {
        let Some(stat) = stat.filter(|_| is_wanted(elements, &entry.path)) else { return Ok(()) };
        let is_linked = stat.st_dev == device && is_nobodys(stat);
        if !is_shared && !is_linked {
            need.add(u64::try_from(stat.st_blocks).unwrap_or(0).saturating_mul(512));
        }
        Ok(())
    })?;
    Ok(need)
}

fn is_wanted(elements: &[Name], path: &[u8]) -> bool {
    let element = path.split(|b| *b == b'/').next().unwrap_or_default();
    elements.is_empty() || elements.iter().any(|e| e.as_str().as_bytes() == element)
}

/// Whether content can be shared between the two: tried with a file of the generation's own.
fn is_shared(from: &Dir, to: &Dir) -> Result<bool> {
    const TRIED: &str = ".tried";
    let (Ok(file), tried) = (from.open_file(names::MANIFEST), to.create_file(TRIED, 0o600)?) else {
        return Ok(false);
    };
    let is_shared = copy::share(&file, &tried);
    durable::unlink_draft(to, TRIED)?;
    Ok(is_shared)
}

/// Copies one of the generation's own files; whether it is what it should be.
fn own(from: &Dir, to: &Dir, name: &str, expected: Digest) -> Result<bool> {
    let source = match from.open_file(name) {
        Err(e) if e.is_not_found() => return Ok(false),
        other => other?,
    };
    let target = to.create_file(name, 0o400)?;
    let content = copy::hash_and_copy(&source, Some(&target), &to.join(name), &mut |_| signals::check())?;
    Ok(Digest(content.sha256) == expected)
}

struct Copying<'a> {
    from: Dir,
    to: Dir,
    torn: Vec<Torn>,
    progress: &'a Progress,
}

impl Copying<'_> {
    fn file(&mut self, path: &[u8], element: &[u8], digest: Digest) -> Result<()> {
        let stored = entry::stored_path(path);
        let (parent, name) = split(&stored);
        let name = OsStr::from_bytes(name);
        let to = self.folder(parent)?;
        if to.stat_if_any(name)?.is_some() {
            return Ok(());
        }
        let why = match self.from.descend(parent).and_then(|from| self.bring(&from, &to, name)) {
            Ok(content) if Digest(content.sha256) == digest => {
                self.progress.add_files(1);
                return Ok(());
            }
            Ok(_) => "its content is not what the seal stands for".to_owned(),
            Err(e) if e.is_storage() => return Err(e.into()),
            Err(e) => e.source.to_string(),
        };
        signals::check()?;
        let text = format!("{}: {why}", show(path));
        self.torn.push(Torn { element: Some(element.to_vec()), text });
        Ok(())
    }

    fn folder(&self, path: &[u8]) -> Result<Dir> {
        let mut dir = self.to.try_clone()?;
        for part in path.split(|b| *b == b'/').filter(|part| !part.is_empty()) {
            dir = dir.ensure_dir(OsStr::from_bytes(part), 0o700)?;
        }
        Ok(dir)
    }

    fn bring(&self, from: &Dir, to: &Dir, name: &OsStr) -> sys::Result<copy::Content> {
        let source = from.open_file(name)?;
        let stat = from.stat(name)?;
        let linked = if is_nobodys(&stat) { link(from, to, name)? } else { None };
        let (source, target) = if let Some(linked) = linked {
            (linked, None)
        } else {
            let target = to.create_file(name, 0o400)?;
            if copy::share(&source, &target) { (target, None) } else { (source, Some(target)) }
        };
        let mut seen = |bytes| {
            self.progress.add_bytes(bytes);
            signals::check()
        };
        let hashed = copy::hash_and_copy(&source, target.as_ref(), &to.join(name), &mut seen);
        match hashed {
            Ok(content) => Ok(content),
            Err(copy::CopyError::Read(e) | copy::CopyError::Write(e)) => Err(e),
            Err(copy::CopyError::Interrupted(_)) => {
                Err(sys::Error::new("copy", to.join(name), rustix::io::Errno::INTR))
            }
        }
    }
}

/// Links a file that nobody can write to, and opens it. What was looked at by its name may be another file by now: only
/// what lies in our own folder counts, and what is somebody's there goes again.
fn link(from: &Dir, to: &Dir, name: &OsStr) -> sys::Result<Option<std::fs::File>> {
    if from.link(name, to, name).is_err() {
        return Ok(None);
    }
    let ours = to.open_file(name).ok().filter(|file| {
        let stat = rustix::fs::fstat(file);
        stat.is_ok_and(|stat| is_nobodys(&stat))
    });
    if ours.is_none() {
        durable::unlink_draft(to, name)?;
    }
    Ok(ours)
}

/// Root's, and nobody may write to it: linking it gives nobody a way to change what was proven.
fn is_nobodys(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode).is_file()
        && stat.st_uid == users::euid()
        && stat.st_mode & 0o222 == 0
}

/// A file of the copy, from its start.
pub fn open(copied: &Dir, path: &[u8]) -> Result<File> {
    let stored = entry::stored_path(path);
    let (parent, name) = split(&stored);
    Ok(copied.open_dir(names::DATA)?.descend(parent)?.open_file(OsStr::from_bytes(name))?)
}

/// Removes what earlier runs made in the private folder and did not need any more.
pub fn sweep(private: &Dir, keep: Option<&OsStr>) -> Result<()> {
    for name in private.names()? {
        let is_ours = name.as_bytes().starts_with(TEMPORARY.as_bytes());
        if is_ours && Some(name.as_os_str()) != keep {
            durable::remove_tree(private, &name)?;
        }
    }
    Ok(())
}

/// How names of what is made there for one run begin.
pub const TEMPORARY: &str = ".restoring-";

/// A folder for this run in `restored/`.
#[derive(Debug)]
pub struct Temporary {
    /// Its name there.
    pub name: String,
    /// The folder.
    pub dir: Dir,
}

impl Temporary {
    /// Makes it.
    pub fn new(private: &Dir) -> Result<Self> {
        let name = format!("{}{}", TEMPORARY, random::hex(6)?);
        Ok(Self { dir: private.create_dir(&name, 0o700)?, name })
    }
}
