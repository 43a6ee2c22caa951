//! What is mounted where, as the kernel tells this process.

use std::{
    ffi::OsString,
    os::unix::ffi::OsStringExt as _,
    path::{Path, PathBuf},
};

use super::{Error, Result};

const TABLE: &str = "/proc/self/mountinfo";

/// A mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// Where it is.
    pub point: PathBuf,
    /// What of its file system is there: `/`, or what a bind mount shows.
    pub root: PathBuf,
    /// The device of its file system, as `8:1`.
    pub device: String,
}

/// All mounts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Mounts(Vec<Mount>);

impl Mounts {
    /// Reads the kernel's table.
    pub fn read() -> Result<Self> {
        let bytes = std::fs::read(TABLE).map_err(|e| Error::new("read", TABLE, e))?;
        Ok(Self(bytes.split(|b| *b == b'\n').filter_map(parse).collect()))
    }

    /// A mount point at a path or below it.
    pub fn within(&self, path: &Path) -> Option<&Path> {
        self.0.iter().map(|mount| mount.point.as_path()).find(|point| point.starts_with(path))
    }

    /// Whether a path is a mount point.
    pub fn is_point(&self, path: &Path) -> bool {
        self.0.iter().any(|mount| mount.point == path)
    }

    /// Another place at which something at or below a path is mounted: renaming the path would not change it there.
    pub fn elsewhere(&self, path: &Path) -> Option<&Path> {
        let holder =
            self.0.iter().filter(|m| path.starts_with(&m.point)).max_by_key(|m| m.point.iter().count())?;
        let inside = holder.root.join(path.strip_prefix(&holder.point).ok()?);
        self.0
            .iter()
            .find(|m| m.device == holder.device && m.root.starts_with(&inside) && !path.starts_with(&m.point))
            .map(|m| m.point.as_path())
    }
}

/// `36 35 98:0 /root /point rw,noatime master:1 - ext3 /dev/root rw`
fn parse(line: &[u8]) -> Option<Mount> {
    let mut words = line.split(|b| *b == b' ').skip(2);
    let device = String::from_utf8_lossy(words.next()?).into_owned();
    let root = unescape(words.next()?);
    Some(Mount { point: unescape(words.next()?), root, device })
}

/// Blanks and backslashes stand as three octal digits.
fn unescape(word: &[u8]) -> PathBuf {
    let (mut out, mut at) = (Vec::new(), 0);
    while let Some(byte) = word.get(at) {
        let digits = word.get(at + 1..at + 4).filter(|_| *byte == b'\\');
        let value =
            digits.and_then(|d| std::str::from_utf8(d).ok()).and_then(|d| u8::from_str_radix(d, 8).ok());
        out.push(value.unwrap_or(*byte));
        at += if value.is_some() { 4 } else { 1 };
    }
    PathBuf::from(OsString::from_vec(out))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(lines: &[&str]) -> Mounts {
        Mounts(lines.iter().filter_map(|line| parse(line.as_bytes())).collect())
    }

    #[test]
    fn a_mount_below_and_one_of_something_below_are_found() {
        let mounts = table(&[
            "1 0 8:1 / / rw - ext4 /dev/sda1 rw",
            "2 1 8:2 / /srv/my\\040data rw - ext4 /dev/sdb1 rw",
            "3 1 8:1 /var/www/shop/media /media rw - ext4 /dev/sda1 rw",
        ]);
        assert_eq!(mounts.within(Path::new("/srv")), Some(Path::new("/srv/my data")));
        assert!(mounts.is_point(Path::new("/srv/my data")) && mounts.within(Path::new("/var")).is_none());
        assert_eq!(mounts.elsewhere(Path::new("/var/www")), Some(Path::new("/media")));
        assert_eq!(mounts.elsewhere(Path::new("/var/lib")), None);
    }

    #[test]
    fn the_table_of_this_machine_has_a_root() {
        assert!(Mounts::read().unwrap().is_point(Path::new("/")));
    }
}
