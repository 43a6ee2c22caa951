//! The mode and the time of change of a file that is open: what a store writes on its own inodes.

use std::{fs::File, path::Path};

use jiff::Timestamp;
use rustix::fs::{Mode, RawMode, Stat, Timespec, Timestamps, UTIME_OMIT};

use super::{Error, Result};

/// Sets the mode of an open file.
pub fn set_mode(file: &File, path: &Path, mode: RawMode) -> Result<()> {
    rustix::fs::fchmod(file, Mode::from(mode)).map_err(|e| Error::new("set the mode of", path, e))
}

/// Sets the time of change of an open file; the time of access stays.
pub fn set_mtime(file: &File, path: &Path, time: Timestamp) -> Result<()> {
    let times = Timestamps {
        last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
        last_modification: Timespec {
            tv_sec: time.as_second(),
            tv_nsec: i64::from(time.subsec_nanosecond().max(0)),
        },
    };
    rustix::fs::futimens(file, &times).map_err(|e| Error::new("set the time of", path, e))
}

/// What an open file is.
pub fn stat(file: &File, path: &Path) -> Result<Stat> {
    rustix::fs::fstat(file).map_err(|e| Error::new("look at", path, e))
}

/// The time of change that a `stat` gave; one that no calendar holds is 1970.
pub fn mtime(stat: &Stat) -> Timestamp {
    let nanoseconds = i32::try_from(stat.st_mtime_nsec).unwrap_or(0);
    Timestamp::new(stat.st_mtime, nanoseconds).unwrap_or(Timestamp::UNIX_EPOCH)
}

/// The time of the last change of anything, names and metadata included.
pub fn ctime(stat: &Stat) -> Timestamp {
    let nanoseconds = i32::try_from(stat.st_ctime_nsec).unwrap_or(0);
    Timestamp::new(stat.st_ctime, nanoseconds).unwrap_or(Timestamp::UNIX_EPOCH)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_that_is_set_is_the_time_that_is_read() {
        let file = tempfile::tempfile().unwrap();
        let path = Path::new("file");
        for text in ["2026-11-23T03:00:00.123456789Z", "1970-01-01T00:00:00Z", "1970-01-01T00:00:01Z"] {
            let time: Timestamp = text.parse().unwrap();
            set_mtime(&file, path, time).unwrap();
            assert_eq!(mtime(&stat(&file, path).unwrap()), time);
        }
    }
}
