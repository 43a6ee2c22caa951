//! What is in a folder: each thing by its kind, in the order of the manifest.

use std::{
    ffi::{OsStr, OsString},
    os::unix::ffi::OsStrExt as _,
    path::Path,
    sync::Arc,
};

use rustix::fs::{FileType, Stat};

use super::{Level, Met, Out, SYNC, Walk};
use crate::{
    manifest::{
        Entry, Kind,
        entry::{self, Time},
    },
    source::{
        collect::{Attributes, Error, Record, Slot},
        copier::{self, At},
    },
    store::places::TEMPORARY,
    sys::{self, Dir, show, signals, xattr},
};

/// Folders are entered to this depth: each one costs handles and a part of the stack, and anyone can make them deep.
const DEEPEST: usize = 512;

impl Walk<'_, '_> {
    /// What is in a folder.
    pub(super) fn inside(&mut self, level: &Level) -> Result<(), Error> {
        let mut names = match level.from.names() {
            Ok(names) => names,
            Err(e) => return self.emit(failed(&level.path, &e)),
        };
        if self.settings.exclude_caches && is_cache(&level.from, &names) {
            names.retain(|name| name == "CACHEDIR.TAG");
        }
        for name in names {
            signals::check()?;
            match level.from.stat(&name) {
                Ok(stat) => self.child(level, &name, &stat)?,
                Err(e) if e.is_not_found() => {}
                Err(e) => self.emit(failed(&join(&level.path, &name), &e))?,
            }
        }
        Ok(())
    }

    pub(super) fn child(&mut self, level: &Level, name: &OsStr, stat: &Stat) -> Result<(), Error> {
        let kind = FileType::from_raw_mode(stat.st_mode);
        // The path is for patterns and remarks: of most files there is neither.
        let original = || level.from.join(name);
        if !self.exclude.is_empty() && self.exclude.matched(original(), kind.is_dir()).is_ignore() {
            return Ok(());
        }
        if name.as_bytes().starts_with(TEMPORARY.as_bytes()) {
            let shown = show(original().as_os_str().as_bytes());
            self.remarks.notes.push(format!("{shown} is what a restore replaced, and was left out"));
            return Ok(());
        }
        let path = join(&level.path, name);
        if path.len() > entry::TOO_LONG {
            return self.emit(Record::TooLong { folder: level.path.clone() });
        }
        match kind {
            FileType::Directory => self.child_folder(level, name, stat, &original()),
            FileType::RegularFile => self.file(level, name, stat, path),
            FileType::Socket => self.emit(Record::Socket(path)),
            FileType::Symlink => match level.from.read_link(name) {
                Ok(target) => self.other(level, name, path, stat, Kind::Link { target }),
                Err(e) => self.emit(failed(&path, &e)),
            },
            FileType::Fifo => self.other(level, name, path, stat, Kind::Fifo),
            FileType::CharacterDevice => {
                let (major, minor) = numbers(stat);
                self.other(level, name, path, stat, Kind::Char { major, minor })
            }
            FileType::BlockDevice => {
                let (major, minor) = numbers(stat);
                self.other(level, name, path, stat, Kind::Block { major, minor })
            }
            FileType::Unknown => {
                self.emit(Record::Failed { path, why: "it is of a kind that is not known".to_owned() })
            }
        }
    }

    fn child_folder(
        &mut self,
        level: &Level,
        name: &OsStr,
        stat: &Stat,
        original: &Path,
    ) -> Result<(), Error> {
        let shown = || show(original.as_os_str().as_bytes());
        if self.settings.own.iter().any(|own| own == original) {
            self.remarks.notes.push(format!("{} is handover's own and was left out", shown()));
            return Ok(());
        }
        let path = join(&level.path, name);
        if path.iter().filter(|b| **b == b'/').count() > DEEPEST {
            let why = format!("it lies more than {DEEPEST} folders deep; what is in it was left out");
            return self.emit(Record::Failed { path, why });
        }
        let inner = match self.down(level, name) {
            Ok(inner) => inner,
            Err(Error::Sys(e)) if !e.is_storage() => {
                return if e.is_not_found() { Ok(()) } else { self.emit(failed(&path, &e)) };
            }
            Err(e) => return Err(e),
        };
        self.folder_entry(&inner)?;
        if stat.st_dev == self.device {
            return self.inside(&inner);
        }
        if self.settings.one_file_system {
            self.remarks.notes.push(format!("{} is on another file system and was left out", shown()));
            return Ok(());
        }
        let outside = (self.device, self.synced);
        (self.device, self.synced) = (stat.st_dev, self.sync(&inner.from)?);
        let done = self.inside(&inner);
        (self.device, self.synced) = outside;
        done
    }

    fn other(
        &mut self,
        level: &Level,
        name: &OsStr,
        path: Vec<u8>,
        stat: &Stat,
        kind: Kind,
    ) -> Result<(), Error> {
        match xattr::of_name(&level.from, name) {
            Ok(attributes) => self.entry(entry_of(path, stat, kind), attributes),
            Err(e) if e.is_not_found() => Ok(()),
            Err(e) => self.emit(failed(&path, &e)),
        }
    }

    fn file(&mut self, level: &Level, name: &OsStr, stat: &Stat, path: Vec<u8>) -> Result<(), Error> {
        let synced = self.synced;
        match &mut self.out {
            Out::Tree(tools) => tools.store(level, name, (stat, synced), path, &mut self.remarks.waits),
            Out::Told(to) => {
                let from = At { dir: Arc::clone(&level.from), name: name.to_owned() };
                to(Met::File { path, from, stat, synced })
            }
        }
    }

    pub(super) fn sync(&mut self, folder: &Dir) -> Result<Time, Error> {
        Ok(self.remarks.waits.time(SYNC, || copier::sync_of(folder, folder.path()))?)
    }

    pub(super) fn entry(&mut self, entry: Entry, attributes: Attributes) -> Result<(), Error> {
        match &mut self.out {
            Out::Tree(tools) => {
                tools.send(Slot::Ready(Record::Entry(entry, attributes)), &mut self.remarks.waits)
            }
            Out::Told(to) => to(Met::Entry(entry, attributes)),
        }
    }

    fn emit(&mut self, record: Record) -> Result<(), Error> {
        match &mut self.out {
            Out::Tree(tools) => tools.send(Slot::Ready(record), &mut self.remarks.waits),
            Out::Told(to) => to(Met::Outside(record)),
        }
    }
}

pub(super) fn join(path: &[u8], name: &OsStr) -> Vec<u8> {
    [path, b"/", name.as_bytes()].concat()
}

fn failed(path: &[u8], e: &sys::Error) -> Record {
    Record::Failed { path: path.to_vec(), why: e.source.to_string() }
}

pub(in crate::source) fn entry_of(path: Vec<u8>, stat: &Stat, kind: Kind) -> Entry {
    Entry {
        path,
        mode: stat.st_mode & 0o7777,
        uid: stat.st_uid,
        gid: stat.st_gid,
        uname: None,
        gname: None,
        mtime: copier::mtime(stat),
        kind,
    }
}

fn numbers(stat: &Stat) -> (u32, u32) {
    (rustix::fs::major(stat.st_rdev), rustix::fs::minor(stat.st_rdev))
}

/// Whether a folder bears the tag of <https://bford.info/cachedir/>.
fn is_cache(dir: &Dir, names: &[OsString]) -> bool {
    const SIGNATURE: &[u8] = b"Signature: 8a477f597d28d172789f06886806bc55";
    use std::io::Read as _;
    let mut start = Vec::new();
    names.iter().any(|name| name == "CACHEDIR.TAG")
        && dir.open_file("CACHEDIR.TAG").is_ok_and(|file| {
            file.take(SIGNATURE.len() as u64).read_to_end(&mut start).is_ok() && start == SIGNATURE
        })
}
