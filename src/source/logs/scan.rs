//! Finding log files by their globs, as they are at one instant.

use std::{
    collections::BTreeMap,
    ffi::{OsStr, OsString},
    fs::File,
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use globset::{GlobBuilder, GlobMatcher};
use ignore::gitignore::{Gitignore, GitignoreBuilder};
use rustix::fs::{FileType, Stat};

use crate::{
    config,
    source::{
        collect::Error,
        copier::{self, At},
    },
    sys::{self, Dir, show, signals, users},
};

/// How often the names are looked at until two looks see the same.
const LOOKS: u32 = 100;
/// Folders are entered to this depth: each one costs a handle and a part of the stack, and anyone can make them deep.
const DEEPEST: u32 = 512;

/// A log file, open.
#[derive(Debug)]
pub(super) struct Found {
    pub path: PathBuf,
    pub file: File,
    pub stat: Stat,
}

/// What the globs found.
#[derive(Debug, Default)]
pub(super) struct Scan {
    /// Each file once, by path.
    pub files: Vec<Found>,
    /// Symbolic links, which are not followed.
    pub links: Vec<PathBuf>,
    /// What could not be looked at, and why.
    pub failures: Vec<(PathBuf, String)>,
    /// Globs that nothing matches.
    pub idle: Vec<String>,
}

/// What is looked for.
pub(super) struct Globs<'a> {
    globs: Vec<(&'a str, Vec<Part>)>,
    exclude: Gitignore,
    own: &'a [PathBuf],
}

/// A component of a glob.
enum Part {
    Name(OsString),
    Glob {
        glob: GlobMatcher,
        hidden: bool,
    },
    /// `**`
    Deep,
}

/// A file that was seen, and not opened yet.
struct Listed {
    at: At,
    stat: Stat,
}

impl<'a> Globs<'a> {
    /// The globs of the configuration, which has proven that they compile.
    pub(super) fn new(logs: &'a config::Logs, own: &'a [PathBuf]) -> Result<Self, Error> {
        let internal = Error::Internal("a pattern of [source.logs] does not compile");
        let globs = logs.paths.iter().map(|glob| Some((glob.as_str(), parts(glob)?)));
        let mut exclude = GitignoreBuilder::new("/");
        if logs.exclude.iter().any(|pattern| exclude.add_line(None, pattern).is_err()) {
            return Err(internal);
        }
        match (globs.collect(), exclude.build()) {
            (Some(globs), Ok(exclude)) => Ok(Self { globs, exclude, own }),
            _ => Err(internal),
        }
    }

    /// Looks until two looks in a row see the same files under the same names, opening them in between: so that a
    /// rotation in the middle is seen as it was before or after.
    pub(super) fn scan(&self) -> Result<Scan, Error> {
        let mut look = 1;
        loop {
            let mut looking =
                Looking { globs: self, scan: Scan::default(), listed: BTreeMap::new(), depth: 0 };
            looking.all()?;
            let Looking { mut scan, listed, .. } = looking;
            for (path, listed) in &listed {
                match open(listed) {
                    Ok(Some((file, stat))) => scan.files.push(Found { path: path.clone(), file, stat }),
                    Ok(None) => {}
                    Err(e) => scan.failures.push((path.clone(), e.source.to_string())),
                }
            }
            let mut again = Looking { globs: self, scan: Scan::default(), listed: BTreeMap::new(), depth: 0 };
            again.all()?;
            if identities(&listed) == identities(&again.listed) || look == LOOKS {
                return Ok(scan);
            }
            look += 1;
        }
    }
}

fn identities(listed: &BTreeMap<PathBuf, Listed>) -> Vec<(&Path, u64, u64)> {
    listed.iter().map(|(path, l)| (path.as_path(), l.stat.st_dev, l.stat.st_ino)).collect()
}

/// Opens a file, if it is still the one that was seen.
fn open(listed: &Listed) -> sys::Result<Option<(File, Stat)>> {
    let file = match copier::open(&listed.at) {
        Err(e) if e.is_not_found() || e.errno() == Some(libc::ELOOP) => return Ok(None),
        other => other?,
    };
    let stat = rustix::fs::fstat(&file).map_err(|e| sys::Error::new("look at", listed.at.path(), e))?;
    let same = (stat.st_dev, stat.st_ino) == (listed.stat.st_dev, listed.stat.st_ino);
    Ok((same && is_file(&stat)).then_some((file, stat)))
}

fn is_file(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode).is_file()
}

fn is_link(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode).is_symlink()
}

fn parts(glob: &str) -> Option<Vec<Part>> {
    let part = |part: &str| {
        Some(match part {
            "**" => Part::Deep,
            _ if part.contains(['*', '?', '[', '{', '\\']) => Part::Glob {
                glob: GlobBuilder::new(part).literal_separator(true).build().ok()?.compile_matcher(),
                hidden: part.starts_with('.'),
            },
            _ => Part::Name(part.into()),
        })
    };
    glob.split('/').filter(|p| !p.is_empty()).map(part).collect()
}

struct Looking<'a> {
    globs: &'a Globs<'a>,
    scan: Scan,
    listed: BTreeMap<PathBuf, Listed>,
    /// Folders above the one that is looked at.
    depth: u32,
}

impl Looking<'_> {
    fn all(&mut self) -> Result<(), Error> {
        let root = Dir::open("/")?;
        for (glob, parts) in &self.globs.globs {
            let before = (self.scan.failures.len(), self.scan.links.len());
            let found = self.folder(&root, parts)?;
            if found == 0 && before == (self.scan.failures.len(), self.scan.links.len()) {
                self.scan.idle.push((*glob).to_owned());
            }
        }
        self.scan.links.sort();
        self.scan.links.dedup();
        Ok(())
    }

    /// What a folder and those below it hold for the rest of a glob; gives how many files match.
    fn folder(&mut self, dir: &Dir, parts: &[Part]) -> Result<u64, Error> {
        signals::check()?;
        match parts {
            [] => Ok(0),
            [Part::Name(name), rest @ ..] => self.name(dir, name, rest, true),
            [Part::Glob { glob, hidden }, rest @ ..] => {
                let matches = |name: &OsStr| (*hidden || !is_hidden(name)) && glob.is_match(Path::new(name));
                let mut found = 0;
                for name in self.names(dir).into_iter().filter(|name| matches(name)) {
                    found += self.name(dir, &name, rest, false)?;
                }
                Ok(found)
            }
            [Part::Deep, rest @ ..] => {
                let mut found = self.folder(dir, rest)?;
                for name in self.names(dir).into_iter().filter(|name| !is_hidden(name)) {
                    let Ok(Some(stat)) = dir.stat_if_any(&name) else { continue };
                    if FileType::from_raw_mode(stat.st_mode).is_dir() && !self.is_own(&dir.join(&name)) {
                        found += self.enter(dir, &name, parts, false)?;
                    }
                }
                Ok(found)
            }
        }
    }

    fn name(&mut self, dir: &Dir, name: &OsStr, rest: &[Part], written: bool) -> Result<u64, Error> {
        let path = dir.join(name);
        let stat = match dir.stat_if_any(name) {
            Ok(Some(stat)) => stat,
            Ok(None) => return Ok(0),
            Err(e) => return self.failed(path, &e),
        };
        if !rest.is_empty() {
            let follow = written && is_link(&stat) && is_roots(dir);
            return if is_link(&stat) && !follow {
                self.scan.links.push(path);
                Ok(0)
            } else if follow || FileType::from_raw_mode(stat.st_mode).is_dir() {
                self.enter(dir, name, rest, follow)
            } else {
                Ok(0)
            };
        }
        let excluded = self.globs.exclude.matched_path_or_any_parents(&path, false).is_ignore();
        if excluded || self.is_own(&path) {
            return Ok(1);
        }
        if is_link(&stat) {
            self.scan.links.push(path);
            return Ok(0);
        }
        if !is_file(&stat) {
            return Ok(0);
        }
        let at = At { dir: Arc::new(dir.try_clone()?), name: name.to_owned() };
        self.listed.insert(path, Listed { at, stat });
        Ok(1)
    }

    fn enter(&mut self, dir: &Dir, name: &OsStr, parts: &[Part], follow: bool) -> Result<u64, Error> {
        if self.depth == DEEPEST {
            let why = format!("it lies more than {DEEPEST} folders deep; what is in it was not looked at");
            self.scan.failures.push((dir.join(name), why));
            return Ok(0);
        }
        // From the handle: whatever became of the folders above, this is the one that was judged.
        let opened = if follow { dir.follow(name) } else { dir.open_dir_unseen(name) };
        match opened {
            Ok(inner) => {
                self.depth += 1;
                let found = self.folder(&inner, parts);
                self.depth -= 1;
                found
            }
            Err(e) if e.is_not_found() => Ok(0),
            Err(e) => self.failed(dir.join(name), &e),
        }
    }

    fn names(&mut self, dir: &Dir) -> Vec<OsString> {
        match dir.names() {
            Ok(names) => names,
            Err(e) => {
                self.scan.failures.push((dir.path().to_path_buf(), e.source.to_string()));
                Vec::new()
            }
        }
    }

    fn failed(&mut self, path: PathBuf, e: &sys::Error) -> Result<u64, Error> {
        self.scan.failures.push((path, e.source.to_string()));
        Ok(0)
    }

    fn is_own(&self, path: &Path) -> bool {
        self.globs.own.iter().any(|own| path.starts_with(own))
    }
}

fn is_hidden(name: &OsStr) -> bool {
    name.as_bytes().starts_with(b".")
}

/// Whether only root (or we) can change what is in a folder: a link there is the operator's.
fn is_roots(dir: &Dir) -> bool {
    dir.stat_self()
        .is_ok_and(|stat| (stat.st_uid == 0 || stat.st_uid == users::euid()) && stat.st_mode & 0o022 == 0)
}

/// Paths for people, the first few of them.
pub(super) fn some<'a>(paths: impl ExactSizeIterator<Item = &'a Path>) -> String {
    const FEW: usize = 5;
    let more = paths.len().saturating_sub(FEW);
    let shown: Vec<String> = paths.take(FEW).map(|p| show(p.as_os_str().as_bytes())).collect();
    let more = if more == 0 { String::new() } else { format!(" and {more} more") };
    format!("{}{more}", shown.join(", "))
}
