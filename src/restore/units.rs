//! The paths that a restore replaces, each as one unit, and how each can be replaced.

use std::{
    ffi::{OsStr, OsString},
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
};

use ignore::gitignore::Gitignore;
use rustix::fs::{FileType, Stat};
use serde::{Deserialize, Serialize};

use super::error::{Error, Result};
use crate::{
    config::{self, Element, Files},
    store::places::TEMPORARY,
    sys::{self, Dir, mounts::Mounts, name::Name, show},
};

/// How a unit is put in its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum How {
    /// One rename exchanges the old and the new.
    Exchange,
    /// The old is copied aside; then the new is put in, file by file.
    InPlace,
    /// There is nothing: one rename puts the new there.
    Create,
}

impl How {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Exchange => "exchange",
            Self::InPlace => "in-place",
            Self::Create => "create",
        }
    }
}

/// What stays as it is in the live tree, since no generation holds it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rules {
    /// The path of the element that the patterns are relative to.
    pub top: PathBuf,
    /// Patterns in gitignore syntax.
    pub exclude: Vec<String>,
    /// Whether the content of folders with a CACHEDIR.TAG was left out.
    pub exclude_caches: bool,
    /// Whether other file systems were left out.
    pub one_file_system: bool,
    /// handover's own folders.
    pub own: Vec<PathBuf>,
}

/// The rules, ready.
#[derive(Debug)]
pub struct Guard {
    rules: Rules,
    matcher: Gitignore,
    mounts: Mounts,
}

impl Guard {
    /// Compiles the rules for the mounts of now.
    pub fn new(rules: &Rules) -> Result<Self> {
        let is_folder = Dir::open(&rules.top).is_ok();
        let root = if is_folder { rules.top.as_path() } else { rules.top.parent().unwrap_or(&rules.top) };
        let matcher = config::matcher(root, &rules.exclude)
            .ok_or(Error::Internal("a pattern of `exclude` does not compile"))?;
        Ok(Self { rules: rules.clone(), matcher, mounts: Mounts::read()? })
    }

    /// Whether something in the live tree was never collected; `folder` is the folder it is in.
    pub fn leaves(&self, folder: &Dir, path: &Path, stat: &Stat) -> bool {
        let kind = FileType::from_raw_mode(stat.st_mode);
        let name = path.file_name().unwrap_or_default();
        self.is_excluded(path, kind.is_dir())
            || kind == FileType::Socket
            || self.rules.own.iter().any(|own| own == path)
            || name.as_bytes().starts_with(TEMPORARY.as_bytes())
            || (self.rules.one_file_system && kind.is_dir() && self.mounts.is_point(path))
            || (self.rules.exclude_caches && name != CACHE_TAG && folder.stat(CACHE_TAG).is_ok())
    }

    /// Whether something is mounted there.
    pub fn is_mounted(&self, path: &Path) -> bool {
        self.mounts.is_point(path)
    }

    fn is_excluded(&self, path: &Path, is_dir: bool) -> bool {
        path != self.rules.top
            && path.starts_with(self.matcher.path())
            && self.matcher.matched(path, is_dir).is_ignore()
    }
}

const CACHE_TAG: &str = "CACHEDIR.TAG";

/// A path that is replaced as one.
#[derive(Debug, Clone)]
pub struct Unit {
    /// The element; several where they share a folder that is missing.
    pub elements: Vec<Name>,
    /// What is replaced: a path of the element, one below it that was asked for, or the first folder on its way that is
    /// missing.
    pub root: PathBuf,
    /// What is wanted at or below it.
    pub targets: Vec<PathBuf>,
    /// How.
    pub how: How,
    /// Why it cannot be exchanged.
    pub why: Option<String>,
    /// What stays.
    pub rules: Rules,
}

/// The units of an element: all its paths, or those of `paths` that touch them.
pub fn of(
    element: &Element,
    files: &Files,
    paths: &[PathBuf],
    own: &[PathBuf],
    mounts: &Mounts,
) -> Result<Vec<Unit>> {
    let mut units: Vec<Unit> = Vec::new();
    for top in &files.paths {
        for target in wanted(top, paths) {
            let rules = Rules {
                top: top.clone(),
                exclude: files.exclude.clone(),
                exclude_caches: files.exclude_caches,
                one_file_system: files.one_file_system,
                own: own.to_vec(),
            };
            let unit = unit(&element.name, &target, rules, mounts)?;
            join(&mut units, unit);
        }
    }
    Ok(units)
}

/// Adds a unit; what shares a missing folder with another becomes one with it.
pub fn join(units: &mut Vec<Unit>, unit: Unit) {
    match units.iter_mut().find(|known| known.root == unit.root) {
        Some(known) => {
            known.targets.extend(unit.targets);
            known.elements.extend(unit.elements);
            known.elements.dedup();
        }
        None => units.push(unit),
    }
}

fn wanted(top: &Path, paths: &[PathBuf]) -> Vec<PathBuf> {
    if paths.is_empty() || paths.iter().any(|path| top.starts_with(path)) {
        return vec![top.to_path_buf()];
    }
    let mut below: Vec<PathBuf> = paths.iter().filter(|path| path.starts_with(top)).cloned().collect();
    below.sort();
    below.dedup_by(|b, a| b.starts_with(&*a));
    below
}

fn unit(element: &Name, target: &Path, rules: Rules, mounts: &Mounts) -> Result<Unit> {
    let root = first_missing(target)?;
    let (how, why) = match &root {
        Some(_) => (How::Create, None),
        None => match obstacle(target, &rules, mounts) {
            None => (How::Exchange, None),
            Some(why) => (How::InPlace, Some(why)),
        },
    };
    let root = root.unwrap_or_else(|| target.to_path_buf());
    Ok(Unit { elements: vec![element.clone()], root, targets: vec![target.to_path_buf()], how, why, rules })
}

/// Why one rename would not do.
fn obstacle(path: &Path, rules: &Rules, mounts: &Mounts) -> Option<String> {
    let shown = |path: &Path| show(path.as_os_str().as_bytes());
    if path.parent().is_none() {
        return Some("it is the root of all".to_owned());
    }
    if mounts.is_point(path) {
        return Some("it is a mount point".to_owned());
    }
    if let Some(point) = mounts.within(path) {
        return Some(format!("{} is mounted below it", shown(point)));
    }
    if let Some(point) = mounts.elsewhere(path) {
        return Some(format!("it is mounted at {} as well", shown(point)));
    }
    let own = rules.own.iter().find(|own| own.starts_with(path))?;
    Some(format!("{} is below it, which is handover's own", shown(own)))
}

/// The first component of a path that is missing; a link on the way is an error, since it leads elsewhere.
fn first_missing(path: &Path) -> Result<Option<PathBuf>> {
    let mut dir = Dir::open("/")?;
    let mut at = PathBuf::from("/");
    let parts: Vec<&OsStr> = path.iter().skip(1).collect();
    for (i, part) in parts.iter().enumerate() {
        at.push(part);
        match dir.stat_if_any(part)? {
            None => return Ok(Some(at)),
            Some(_) if i + 1 == parts.len() => return Ok(None),
            Some(stat) if FileType::from_raw_mode(stat.st_mode).is_dir() => dir = dir.open_dir(part)?,
            Some(_) => {
                let (wrong, path) = (show(at.as_os_str().as_bytes()), show(path.as_os_str().as_bytes()));
                return Err(Error::Configuration {
                    text: format!("{wrong} is no folder, but {path} is to be restored below it"),
                    fix: "move it away, or name in the configuration the path that it leads to; or restore with --to DIR"
                        .to_owned(),
                });
            }
        }
    }
    Ok(None)
}

/// The folder that holds a path, entered without following a link, and the path's last name.
pub fn at(path: &Path) -> sys::Result<(Dir, OsString)> {
    let none = || sys::Error::new("open", path, rustix::io::Errno::INVAL);
    let (parent, name) = path.parent().zip(path.file_name()).ok_or_else(none)?;
    let below = parent.as_os_str().as_bytes();
    let dir = Dir::open("/")?.descend(below)?;
    Ok((dir, name.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(list: &[&str]) -> Vec<PathBuf> {
        list.iter().map(PathBuf::from).collect()
    }

    #[test]
    fn a_path_that_was_asked_for_narrows_or_takes_all() {
        let top = Path::new("/var/www");
        assert_eq!(wanted(top, &[]), paths(&["/var/www"]));
        assert_eq!(wanted(top, &paths(&["/var"])), paths(&["/var/www"]));
        assert_eq!(
            wanted(top, &paths(&["/var/www/b", "/var/www/a/x", "/var/www/a", "/srv"])),
            paths(&["/var/www/a", "/var/www/b"])
        );
        assert_eq!(wanted(top, &paths(&["/var/www2"])), paths(&[]));
    }
}
