//! How much room a file system has left for this user.

use super::{Dir, Error, Result};

/// Room on the file system that holds a folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// Bytes that this user may still write.
    pub bytes_free: u64,
    /// Bytes of the whole file system.
    pub bytes_total: u64,
    /// Files that may still be made; `u64::MAX` where the file system makes inodes as it needs them.
    pub inodes_free: u64,
    /// Inodes of the whole file system; 0 where it makes them as it needs them.
    pub inodes_total: u64,
}

impl Room {
    /// Asks the file system that holds the folder.
    pub fn of(dir: &Dir) -> Result<Self> {
        let stat =
            rustix::fs::fstatvfs(dir).map_err(|e| Error::new("ask for the room left on", dir.path(), e))?;
        Ok(Self {
            bytes_free: stat.f_bavail.saturating_mul(stat.f_frsize),
            bytes_total: stat.f_blocks.saturating_mul(stat.f_frsize),
            inodes_free: if stat.f_files == 0 { u64::MAX } else { stat.f_favail },
            inodes_total: stat.f_files,
        })
    }
}

/// A number of bytes for people, in binary units.
pub fn human(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
    let mut unit = 0;
    let mut scaled = bytes;
    let mut rest = 0;
    while scaled >= 1024 && unit + 1 < UNITS.len() {
        rest = scaled % 1024;
        scaled /= 1024;
        unit += 1;
    }
    if unit == 0 || scaled >= 100 {
        format!("{scaled} {}", UNITS[unit])
    } else {
        format!("{scaled}.{} {}", rest * 10 / 1024, UNITS[unit])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_free_is_not_more_than_what_is_there() {
        let folder = tempfile::tempdir().unwrap();
        let room = Room::of(&Dir::open(folder.path()).unwrap()).unwrap();
        assert!(room.bytes_free > 0 && room.bytes_free <= room.bytes_total);
        assert!(room.inodes_free > 0);
    }
}
