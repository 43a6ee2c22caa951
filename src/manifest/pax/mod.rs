//! A tar archive in the POSIX format (pax), as GNU tar reads it: what an element of kind `archive` is stored as.
//!
//! It holds what a manifest would: owners by number and name, times to the nanosecond, attributes (`SCHILY.xattr.`;
//! ACLs also as text, as GNU tar wants them), hard links, devices, and files with their holes (GNU's sparse format 1.0). The same members give the same bytes:
//! no time of access, no number of a process, nothing of the moment is in it.

mod acl;
mod read;
#[cfg(test)]
mod tests;
mod write;

pub use read::{BadArchive, Body, Member, Reader};
pub use write::Writer;

/// Everything in a tar archive is filled up to blocks of this many bytes.
const BLOCK: usize = 512;
const ATTRIBUTE: &[u8] = b"SCHILY.xattr.";
const PATH: &str = "path";
const LINK: &str = "linkpath";
const SIZE: &str = "size";
const UID: &str = "uid";
const GID: &str = "gid";
const UNAME: &str = "uname";
const GNAME: &str = "gname";
const MTIME: &str = "mtime";
const SPARSE_MAJOR: &str = "GNU.sparse.major";
const SPARSE_MINOR: &str = "GNU.sparse.minor";
const SPARSE_NAME: &str = "GNU.sparse.name";
const SPARSE_SIZE: &str = "GNU.sparse.realsize";

/// A stretch of a file that holds data; what is between is a hole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stretch {
    /// Where it begins.
    pub start: u64,
    /// Bytes, more than none.
    pub length: u64,
}

/// Whether the data of a file leave holes.
fn has_holes(data: &[Stretch], size: u64) -> bool {
    data.iter().map(|stretch| stretch.length).sum::<u64>() != size
}

/// How many bytes fill up the last block.
fn padding(size: u64) -> usize {
    let over = usize::try_from(size % BLOCK as u64).unwrap_or(0);
    (BLOCK - over) % BLOCK
}
