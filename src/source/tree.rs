//! The walk over an element's paths, in the order of the manifest.
//!
//! Folders are opened once, by handle, following no link; three of them go down together: the original, its place in
//! the draft, and its place in the generation before. Unchanged files are linked on the way; changed ones are given to
//! the copying threads, and the book receives them in the order of the walk.

use std::{
    collections::{BTreeSet, HashSet},
    ffi::{OsStr, OsString},
    fs::File,
    io::BufReader,
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
    sync::{Arc, mpsc::sync_channel},
};

use crossbeam_channel::TrySendError;
use ignore::gitignore::Gitignore;
use rustix::fs::{FileType, Stat};

use super::{
    cache::{self, Known},
    collect::{Attributes, Error, LinkKey, Record, Slot, Slots},
    copier::{self, At, Found, Job},
};
use crate::{
    config,
    manifest::{
        Entry, Kind,
        entry::{self, Time},
    },
    store::places::TEMPORARY,
    sys::{self, Dir, copy::Content, laps::Laps, show, signals, xattr},
};

/// The phase in which originals are written to the disk, so that their times can be trusted.
const SYNC: &str = "sync originals";
/// The phase in which folders are walked and unchanged files are linked.
pub const WALK: &str = "walk and link";
/// The phase in which changed files are read, as far as the walk does not cover it.
pub const COPY: &str = "copy";

/// What a tree element asks for.
#[derive(Debug)]
pub struct Settings<'a> {
    /// The element's name.
    pub element: &'a OsStr,
    /// Absolute paths without `.` and `..`; none lies in another.
    pub paths: &'a [PathBuf],
    /// Patterns in gitignore syntax, relative to each path.
    pub exclude: &'a [String],
    /// Whether other file systems are left out.
    pub one_file_system: bool,
    /// Whether folders with a CACHEDIR.TAG are left out, but for the tag.
    pub exclude_caches: bool,
    /// Whether an empty folder is a good backup of a path.
    pub allow_empty: bool,
    /// handover's own folders: never collected.
    pub own: &'a [PathBuf],
}

/// What a walk needs from the run.
pub struct Tools<'a> {
    /// The draft's `data/`.
    pub data: &'a Dir,
    /// `data/` of the generation before.
    pub previous: Option<&'a Dir>,
    /// What root remembers of it.
    pub cache: Option<&'a mut cache::Reader<BufReader<File>>>,
    /// Stored paths that the sink found damaged: read again whatever the cache says.
    pub afresh: &'a BTreeSet<Vec<u8>>,
    /// Files with several names that were met.
    pub linked: &'a mut HashSet<(u64, u64)>,
    /// Whom new files are given to.
    pub owner: Option<(u32, u32)>,
    /// For files to be read.
    pub jobs: crossbeam_channel::Sender<Job>,
    /// For the book.
    pub slots: Slots,
}

/// What the walk has to say beside what it found.
#[derive(Debug, Default)]
pub struct Remarks {
    /// Paths of the element that make it fail: missing, links, empty.
    pub failures: Vec<String>,
    /// What was left out on purpose.
    pub notes: Vec<String>,
    /// What was waited for: file systems to be synced, and threads to be free for the next file.
    pub waits: Laps,
}

/// Something that was met by a walk for an archive.
pub enum Met<'a> {
    /// A regular file, not opened yet.
    File {
        /// Path as in a manifest.
        path: Vec<u8>,
        /// The file.
        from: At,
        /// What it was when it was met.
        stat: &'a Stat,
        /// When its file system was last synced, before that.
        synced: Time,
    },
    /// A folder above the paths of the element.
    Way(Entry, Attributes),
    /// Anything else without content.
    Entry(Entry, Attributes),
    /// What has no place in an archive: a socket or a failure.
    Outside(Record),
}

/// Where what is found goes.
enum Out<'a, 'b> {
    /// Each file is stored as itself.
    Tree(&'a mut Tools<'b>),
    /// It is told to somebody, one after another.
    Told(&'a mut Telling<'b>),
}

/// Takes what a walk meets.
pub type Telling<'a> = dyn FnMut(Met<'_>) -> Result<(), Error> + 'a;

/// A folder on its three levels.
struct Level {
    from: Arc<Dir>,
    /// None where the path is too long for a place of its own.
    to: Option<Arc<Dir>>,
    previous: Option<Arc<Dir>>,
    path: Vec<u8>,
}

struct Walk<'a, 'b> {
    settings: &'a Settings<'a>,
    out: Out<'a, 'b>,
    remarks: Remarks,
    exclude: Gitignore,
    /// The path being walked: root of the patterns, its device, and when that was synced.
    device: u64,
    synced: Time,
}

/// Walks all paths of a tree element. Everything found goes to the book; `root` is `/`, or another folder in tests.
pub fn walk(root: &Path, settings: &Settings<'_>, tools: &mut Tools<'_>) -> Result<Remarks, Error> {
    let top = Level {
        from: Arc::new(Dir::open(root)?),
        to: Some(Arc::new(tools.data.create_dir(settings.element, 0o750)?)),
        previous: tools
            .previous
            .map(|p| p.open_dir_if_any(settings.element))
            .transpose()?
            .flatten()
            .map(Arc::new),
        path: settings.element.as_bytes().to_vec(),
    };
    walk_from(&top, settings, Out::Tree(tools))
}

/// Walks all paths of an element that becomes an archive: the same things in the same order, but nothing is stored here.
pub fn tell(root: &Path, settings: &Settings<'_>, to: &mut Telling<'_>) -> Result<Remarks, Error> {
    let path = settings.element.as_bytes().to_vec();
    let top = Level { from: Arc::new(Dir::open(root)?), to: None, previous: None, path };
    walk_from(&top, settings, Out::Told(to))
}

fn walk_from(top: &Level, settings: &Settings<'_>, out: Out<'_, '_>) -> Result<Remarks, Error> {
    let mut targets: Vec<Vec<&OsStr>> =
        settings.paths.iter().map(|path| path.iter().skip(1).collect()).collect();
    targets.sort_by(|a, b| {
        let joined = |parts: &[&OsStr]| parts.join(OsStr::new("/"));
        entry::order(joined(a).as_bytes(), joined(b).as_bytes())
    });
    let mut walk = Walk {
        settings,
        out,
        remarks: Remarks::default(),
        exclude: Gitignore::empty(),
        device: 0,
        synced: Time::default(),
    };
    walk.way(top)?;
    let targets: Vec<&[&OsStr]> = targets.iter().map(Vec::as_slice).collect();
    if targets.first().is_some_and(|t| t.is_empty()) {
        walk.root_of(top)?;
        walk.inside(top)?;
    } else {
        walk.ancestors(top, &targets)?;
    }
    if let Out::Tree(tools) = &mut walk.out {
        tools.slots.flush()?;
    }
    Ok(walk.remarks)
}

impl Walk<'_, '_> {
    /// Goes down to the paths of the element; the folders on the way are recorded, but not what else is in them.
    fn ancestors(&mut self, level: &Level, targets: &[&[&OsStr]]) -> Result<(), Error> {
        for group in targets.chunk_by(|a, b| a.first() == b.first()) {
            let Some((name, _)) = group.first().and_then(|t| t.split_first()) else { continue };
            let rest: Vec<&[&OsStr]> =
                group.iter().filter_map(|t| t.split_first().map(|(_, rest)| rest)).collect();
            if rest.first().is_some_and(|r| r.is_empty()) {
                self.target(level, name)?;
                continue;
            }
            match self.down(level, name) {
                Ok(inner) => {
                    self.way(&inner)?;
                    self.ancestors(&inner, &rest)?;
                }
                Err(Error::Sys(e)) if !e.is_storage() => self.unreachable(level, name, &e),
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }

    fn unreachable(&mut self, level: &Level, name: &OsStr, e: &sys::Error) {
        let path = show(level.from.join(name).as_os_str().as_bytes());
        let linked = matches!(e.errno(), Some(libc::ELOOP | libc::ENOTDIR));
        let text = if e.is_not_found() {
            format!("{path} does not exist: is it mounted, is the path right?")
        } else if linked && level.from.read_link(name).is_ok() {
            format!("{path} is a symbolic link: name the path that it leads to")
        } else {
            format!("{path}: {}", e.source)
        };
        self.remarks.failures.push(text);
    }

    /// One of the element's own paths.
    fn target(&mut self, level: &Level, name: &OsStr) -> Result<(), Error> {
        let stat = match level.from.stat(name) {
            Ok(stat) => stat,
            Err(e) => {
                self.unreachable(level, name, &e);
                return Ok(());
            }
        };
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => match self.down(level, name) {
                Ok(inner) => {
                    self.root_of(&inner)?;
                    self.folder_entry(&inner)?;
                    self.inside(&inner)
                }
                Err(Error::Sys(e)) if !e.is_storage() => {
                    self.unreachable(level, name, &e);
                    Ok(())
                }
                Err(e) => Err(e),
            },
            FileType::Symlink => {
                self.unreachable(level, name, &sys::Error::new("follow", "", rustix::io::Errno::LOOP));
                Ok(())
            }
            _ => {
                self.root_of(level)?;
                self.child(level, name, &stat)
            }
        }
    }

    /// Prepares for a path of the element: its patterns, its file system, and a sync before anything is read.
    fn root_of(&mut self, level: &Level) -> Result<(), Error> {
        self.exclude = config::matcher(level.from.path(), self.settings.exclude)
            .ok_or(Error::Internal("a pattern of `exclude` does not compile"))?;
        self.device = level.from.stat_self()?.st_dev;
        self.synced = self.sync(&level.from)?;
        let empty = !self.settings.allow_empty && level.from.names()?.is_empty();
        if empty {
            let path = show(level.from.path().as_os_str().as_bytes());
            self.remarks
                .failures
                .push(format!("{path} is empty: is it mounted? (`allow_empty = true` if it may be empty)"));
        }
        Ok(())
    }

    /// Opens a folder on all three levels.
    fn down(&mut self, level: &Level, name: &OsStr) -> Result<Level, Error> {
        let from = level.from.open_dir_unseen(name)?;
        let path = join(&level.path, name);
        let fits = entry::stored_path(&path) == path;
        let to = match (&level.to, fits) {
            (Some(to), true) => Some(Arc::new(to.ensure_dir(name, 0o750)?)),
            _ => None,
        };
        let previous = match &level.previous {
            // Whatever the transport user made of it: what cannot be opened is not there, and files are read afresh.
            Some(previous) if fits => previous.open_dir(name).ok().map(Arc::new),
            _ => None,
        };
        Ok(Level { from: Arc::new(from), to, previous, path })
    }

    fn folder_entry(&mut self, level: &Level) -> Result<(), Error> {
        let (entry, attributes) = self.look_at_folder(level)?;
        self.entry(entry, attributes)
    }

    /// A folder on the way to a path of the element.
    fn way(&mut self, level: &Level) -> Result<(), Error> {
        let (entry, attributes) = self.look_at_folder(level)?;
        match &mut self.out {
            Out::Told(to) => to(Met::Way(entry, attributes)),
            Out::Tree(_) => self.entry(entry, attributes),
        }
    }

    fn look_at_folder(&mut self, level: &Level) -> Result<(Entry, Attributes), Error> {
        let stat = level.from.stat_self()?;
        let attributes = match xattr::of_open(&*level.from, level.from.path()) {
            Ok(attributes) => attributes,
            Err(e) => {
                self.remarks.failures.push(e.to_string());
                Attributes::new()
            }
        };
        Ok((entry_of(level.path.clone(), &stat, Kind::Dir), attributes))
    }

    /// What is in a folder.
    fn inside(&mut self, level: &Level) -> Result<(), Error> {
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

    fn child(&mut self, level: &Level, name: &OsStr, stat: &Stat) -> Result<(), Error> {
        let kind = FileType::from_raw_mode(stat.st_mode);
        let original = level.from.join(name);
        if self.exclude.matched(&original, kind.is_dir()).is_ignore() {
            return Ok(());
        }
        if name.as_bytes().starts_with(TEMPORARY.as_bytes()) {
            let shown = show(original.as_os_str().as_bytes());
            self.remarks.notes.push(format!("{shown} is what a restore replaced, and was left out"));
            return Ok(());
        }
        let path = join(&level.path, name);
        if path.len() > entry::TOO_LONG {
            return self.emit(Record::TooLong { folder: level.path.clone() });
        }
        match kind {
            FileType::Directory => self.child_folder(level, name, stat, &original),
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
        let inner = match self.down(level, name) {
            Ok(inner) => inner,
            Err(Error::Sys(e)) if !e.is_storage() => {
                return if e.is_not_found() {
                    Ok(())
                } else {
                    self.emit(failed(&join(&level.path, name), &e))
                };
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

    fn sync(&mut self, folder: &Dir) -> Result<Time, Error> {
        Ok(self.remarks.waits.time(SYNC, || copier::sync_of(folder, folder.path()))?)
    }

    fn entry(&mut self, entry: Entry, attributes: Attributes) -> Result<(), Error> {
        match &mut self.out {
            Out::Tree(tools) => tools.slots.send(Slot::Ready(Record::Entry(entry, attributes))),
            Out::Told(to) => to(Met::Entry(entry, attributes)),
        }
    }

    fn emit(&mut self, record: Record) -> Result<(), Error> {
        match &mut self.out {
            Out::Tree(tools) => tools.slots.send(Slot::Ready(record)),
            Out::Told(to) => to(Met::Outside(record)),
        }
    }
}

impl Tools<'_> {
    /// Stores a file as itself: linked where it is unchanged, given to the copying threads where not.
    fn store(
        &mut self,
        level: &Level,
        name: &OsStr,
        (stat, synced): (&Stat, Time),
        path: Vec<u8>,
        waits: &mut Laps,
    ) -> Result<(), Error> {
        let to = self.place(level.to.as_ref(), Some(self.data), &path, name)?;
        let Some(to) = to else { return Err(Error::Internal("a file has no place in the draft")) };
        if let Some(key) = LinkKey::of(stat)
            && !self.linked.insert(key.id())
        {
            return self.slots.send(Slot::Ready(Record::Twin { path, key, stored: to }));
        }
        let known = match &mut self.cache {
            Some(cache) => cache.find(&path).map_err(|e| sys::Error::new("read", "cache", e))?,
            None => None,
        };
        let stored_before = self.place(level.previous.as_ref(), self.previous, &path, name)?;
        let previous = known.and_then(|known| stored_before.map(|at| (at, known)));
        let previous = previous.filter(|_| !self.afresh.contains(&entry::stored_path(&path)));
        let from = At { dir: Arc::clone(&level.from), name: name.to_owned() };
        if let Some((at, known)) = &previous
            && is_unchanged(known, stat, synced)
            && let Some(record) = take_unchanged(&from, &to, (at, known), stat, self.owner)?
        {
            return self.slots.send(Slot::Ready(record));
        }
        let (reply, answer) = sync_channel(1);
        let job = Job { path, from, to, previous, synced, reply };
        self.hand_on(job, waits)?;
        self.slots.send(Slot::Pending(answer))
    }

    fn hand_on(&self, job: Job, waits: &mut Laps) -> Result<(), Error> {
        let sent = match self.jobs.try_send(job) {
            Err(TrySendError::Full(job)) => waits.time(COPY, || self.jobs.send(job).map_err(|_| ())),
            other => other.map_err(|_| ()),
        };
        sent.map_err(|()| Error::Internal("the copying threads ended"))
    }

    /// Where a file's content is: beside its folder, or in `.long/` of `data`.
    fn place(
        &self,
        folder: Option<&Arc<Dir>>,
        data: Option<&Dir>,
        path: &[u8],
        name: &OsStr,
    ) -> Result<Option<At>, Error> {
        let stored = entry::stored_path(path);
        if stored == path {
            return Ok(folder.map(|dir| At { dir: Arc::clone(dir), name: name.to_owned() }));
        }
        let name = OsStr::from_bytes(stored.strip_prefix(b".long/").unwrap_or(&stored)).to_owned();
        let Some(data) = data else { return Ok(None) };
        let ours = std::ptr::eq(data, self.data);
        let long = if ours { Some(data.ensure_dir(".long", 0o750)?) } else { data.open_dir(".long").ok() };
        Ok(long.map(|dir| At { dir: Arc::new(dir), name }))
    }
}

/// The rule: device, inode, size and both times are what they were, and both times are older by 2 s than the sync
/// that came before the file was read then (`settled`), and than the one before this walk.
fn is_unchanged(known: &Known, stat: &Stat, synced: Time) -> bool {
    let (mtime, ctime) = (copier::mtime(stat), copier::ctime(stat));
    known.settled
        && known.device == stat.st_dev
        && known.inode == stat.st_ino
        && u64::try_from(stat.st_size) == Ok(known.size)
        && (known.mtime, known.ctime) == (mtime, ctime)
        && copier::settled(mtime, synced)
        && copier::settled(ctime, synced)
}

/// Links an unchanged file's content; `None` where the stored file is not what root remembers.
fn take_unchanged(
    from: &At,
    to: &At,
    (previous, known): (&At, &Known),
    stat: &Stat,
    owner: Option<(u32, u32)>,
) -> Result<Option<Record>, Error> {
    let attributes = if known.plain {
        Attributes::new()
    } else {
        // An unreadable attribute is told by the copying thread, which takes the file next.
        let Ok(attributes) = xattr::of_name(&from.dir, &from.name) else { return Ok(None) };
        attributes
    };
    if !copier::link_checked(previous, to, known, owner)? {
        return Ok(None);
    }
    let content = Content { size: known.size, sha256: known.digest.0 };
    // It stays settled: the sync that settled it is the one before it was read.
    let synced = Time { seconds: i64::MAX, nanoseconds: 0 };
    let found = Found { content, stored_inode: known.stored_inode, attributes, unstable: false, synced };
    Ok(Some(copier::record(known.path.clone(), stat, found)))
}

fn join(path: &[u8], name: &OsStr) -> Vec<u8> {
    [path, b"/", name.as_bytes()].concat()
}

fn failed(path: &[u8], e: &sys::Error) -> Record {
    Record::Failed { path: path.to_vec(), why: e.source.to_string() }
}

pub(super) fn entry_of(path: Vec<u8>, stat: &Stat, kind: Kind) -> Entry {
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
