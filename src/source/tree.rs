//! The walk over an element's paths, in the order of the manifest.
//!
//! Folders are opened once, by handle, following no link; three of them go down together: the original, its place in
//! the draft, and its place in the generation before. Unchanged files are given to other threads to be linked, changed
//! ones to be copied, and the book receives them in the order of the walk.

mod inside;
mod storing;

use std::{
    collections::{BTreeSet, HashSet},
    ffi::OsStr,
    fs::File,
    io::BufReader,
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use ignore::gitignore::Gitignore;
use rustix::fs::{FileType, Stat};

pub(super) use self::inside::entry_of;
use self::inside::join;
use super::{
    cache,
    collect::{Attributes, Error, Record, Slots},
    copier::{At, Work},
    linking::Batch,
};
use crate::{
    config,
    manifest::{
        Entry, Kind,
        entry::{self, Time},
    },
    sys::{self, Dir, laps::Laps, show, xattr},
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
    /// For files to be read or linked.
    pub jobs: crossbeam_channel::Sender<Work>,
    /// Unchanged files of a folder, until they are handed on.
    pub batch: Option<Batch>,
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
    /// What was waited for: file systems to be synced, and threads to be free for the next files.
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
        // Whatever the transport user made of it: what cannot be opened is not there.
        previous: tools.previous.and_then(|p| p.open_dir(settings.element).ok()).map(Arc::new),
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
        tools.flush(&mut walk.remarks.waits)?;
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
        let fits = !entry::is_long(&path);
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
}
