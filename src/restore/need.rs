//! The room that a step needs, asked for before it begins.

use super::error::{Error, Result};
use crate::{
    config::Reserve,
    sys::{
        Dir,
        room::{Room, human},
        show,
    },
};

/// What something needs on a file system.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Need {
    /// Bytes of content.
    pub bytes: u64,
    /// Files, folders and all else that has an inode.
    pub inodes: u64,
}

impl Need {
    /// One thing more, with so many bytes of content.
    pub fn add(&mut self, bytes: u64) {
        self.and(Self { bytes, inodes: 1 });
    }

    /// All of another need more.
    pub fn and(&mut self, other: Self) {
        self.bytes = self.bytes.saturating_add(other.bytes);
        self.inodes = self.inodes.saturating_add(other.inodes);
    }

    /// Refuses with figures if the file system of this folder has less than that, and so much more that stays free. `what` says
    /// what for, as "the copy that is proven".
    pub fn check(self, dir: &Dir, reserve: Reserve, what: &str) -> Result<()> {
        let room = Room::of(dir)?;
        let kept = reserve.of(room.bytes_total);
        if room.bytes_free >= self.bytes.saturating_add(kept) && room.inodes_free >= self.inodes {
            return Ok(());
        }
        let stays = if kept == 0 { String::new() } else { format!(", of which {} stay free", human(kept)) };
        let inodes = if room.inodes_free >= self.inodes {
            String::new()
        } else {
            format!(", and {} inodes; {} are free", self.inodes, room.inodes_free)
        };
        let place = show(dir.path().as_os_str().as_encoded_bytes());
        Err(Error::NoRoom {
            text: format!(
                "not enough room in {place} for {what}: it needs {}, and {} are free{stays}{inodes}",
                human(self.bytes),
                human(room.bytes_free)
            ),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_told_with_its_figures_and_what_fits_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let dir = Dir::open(folder.path()).unwrap();
        let small = Need { bytes: 1, inodes: 1 };
        small.check(&dir, Reserve::Bytes(0), "a test").unwrap();
        let said = |need: Need, reserve| need.check(&dir, reserve, "a test").unwrap_err().to_string();
        let large = said(Need { bytes: u64::MAX, inodes: 1 }, Reserve::Bytes(0));
        assert!(large.contains("for a test: it needs 16383 PiB, and "), "{large}");
        let kept = said(small, Reserve::Bytes(1 << 60));
        assert!(kept.contains("of which 1024 PiB stay free"), "{kept}");
    }
}
