//! `manifest.mtree`: what lies in a generation, one line each, as bsdtar reads it and in one spelling only.
//!
//! [`Writer`] and [`Reader`] keep the same [`rules`], so that what was sealed can be read, and what a hostile host sent
//! can be believed as far as these rules go. Both work line by line: a million entries cost no memory.

mod line;
mod read;
pub mod rules;
mod write;

#[cfg(test)]
mod tests;

pub use read::Reader;
pub use rules::{Limits, Totals};
pub use write::Writer;

use super::Entry;

/// The first two lines: what bsdtar knows the format by, and what it is.
const HEADER: &[u8] =
    b"#mtree\n# handover manifest, format 1: how to verify and restore with plain tools is in README.txt\n";
/// No line is longer: the longest path and link target, every byte escaped, with all that surrounds them.
const LINE: usize = 64 * 1024;
/// A reason for a failure is cut after this many bytes.
const WHY: usize = 512;

/// One line of a manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Item {
    /// Something that is kept.
    Entry(Entry),
    /// A socket: its name is told, nothing is kept; the program that listens makes it anew.
    Socket(Vec<u8>),
    /// Something that could not be read, wholly or (directly after its entry) in part.
    Failed {
        /// Its path. It may be a whole element that has no entry at all.
        path: Vec<u8>,
        /// Why.
        why: String,
    },
}

impl Item {
    /// A failure with a reason of bounded length.
    pub fn failed(path: Vec<u8>, why: &str) -> Self {
        let end = (0..=WHY.min(why.len())).rev().find(|at| why.is_char_boundary(*at)).unwrap_or(0);
        let why = if end == 0 { "no reason is known" } else { &why[..end] };
        Self::Failed { path, why: why.to_owned() }
    }

    /// Its path below `data/`.
    pub fn path(&self) -> &[u8] {
        match self {
            Self::Entry(entry) => &entry.path,
            Self::Socket(path) | Self::Failed { path, .. } => path,
        }
    }

    /// The entry, if it is one.
    pub fn entry(&self) -> Option<&Entry> {
        match self {
            Self::Entry(entry) => Some(entry),
            Self::Socket(_) | Self::Failed { .. } => None,
        }
    }
}
