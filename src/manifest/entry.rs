//! One thing in a generation: a file, folder, link or device, with all that `stat` says of it.

use std::cmp::Ordering;

use sha2::{Digest as _, Sha256};

use super::Digest;

/// Stored paths (`data/…`) longer than this many bytes are stored as `data/.long/<sha256 of path>`: rsync passes its list
/// of files on in pieces of 2 KiB, and refuses its own files where longer paths are cut in two.
pub const LONG: usize = 2000;
/// Paths (`<element>/…`) longer than this many bytes cannot be kept; they are reported as failed files.
pub const TOO_LONG: usize = 4000;

/// A time of a file: seconds since 1970 (negative before), and nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Time {
    /// Seconds since 1970-01-01 UTC.
    pub seconds: i64,
    /// 0 to 999,999,999.
    pub nanoseconds: u32,
}

/// An entry of the manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The path below `data/`, raw bytes: `<element>/<path without its leading slash>`; no empty, `.` or `..` component.
    pub path: Vec<u8>,
    /// Permission bits with setuid, setgid and sticky: 12 bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Owner's name on the source, where it has one.
    pub uname: Option<Vec<u8>>,
    /// Group's name on the source, where it has one.
    pub gname: Option<Vec<u8>>,
    /// Time of the last change of content.
    pub mtime: Time,
    /// What it is.
    pub kind: Kind,
}

/// What an entry is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// A regular file; its content lies at [`stored_path`].
    File {
        /// Bytes.
        size: u64,
        /// sha256 of the content.
        digest: Digest,
        /// Names of this file on the source (1 if it is not linked) and, if more than one, a number that those
        /// names in this generation share.
        links: Links,
    },
    /// A folder.
    Dir,
    /// A symbolic link, with its target as it is.
    Link {
        /// The target, raw bytes.
        target: Vec<u8>,
    },
    /// A named pipe.
    Fifo,
    /// A character device.
    Char {
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
    /// A block device.
    Block {
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
}

/// Hard links of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Links {
    /// It has one name.
    One,
    /// It has several.
    Many {
        /// How many names it has on the source, 2 or more (some may lie outside of what was collected).
        nlink: u32,
        /// The same number for all names of one file; numbered from 1 in the order of the manifest.
        inode: u64,
    },
}

/// The order of a manifest: folders directly before what is in them, so that a walk of sorted folders gives it.
/// It compares bytes with `/` below every other byte.
pub fn order(a: &[u8], b: &[u8]) -> Ordering {
    // Most paths that are compared are equal, or for most of their length.
    let same = a.iter().zip(b).take_while(|(a, b)| a == b).count();
    let rank = |byte: &u8| if *byte == b'/' { 0_u16 } else { u16::from(*byte) + 1 };
    a.get(same).map(rank).cmp(&b.get(same).map(rank))
}

/// Whether a path's content has no place at the path itself.
pub fn is_long(path: &[u8]) -> bool {
    "data/".len() + path.len() > LONG
}

/// Where the content of a path lies below `data/`: at the path itself, or, where that would be too long for a store
/// in a deep folder, at `.long/<sha256 of the path>`.
pub fn stored_path(path: &[u8]) -> Vec<u8> {
    if is_long(path) {
        let digest = Digest(Sha256::digest(path).into());
        format!(".long/{digest}").into_bytes()
    } else {
        path.to_vec()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_comes_directly_before_what_is_in_it() {
        let mut paths: Vec<&[u8]> = vec![b"a-b", b"a/b", b"a", b"a/b/c", b"a.d", b"a/b-c"];
        paths.sort_by(|a, b| order(a, b));
        let expected: Vec<&[u8]> = vec![b"a", b"a/b", b"a/b/c", b"a/b-c", b"a-b", b"a.d"];
        assert_eq!(paths, expected);
    }
}
