//! What a generation says of itself, in formats that outlive this program: mtree(5) as bsdtar reads it, checksums as
//! coreutils check them, attributes as setfattr restores them. See `docs/format.md`.

pub mod attributed;
pub mod bytes;
pub mod delta;
pub mod diff;
mod digest;
pub mod entry;
pub mod flaw;
pub mod generation;
pub mod hashing;
pub mod id;
mod join;
mod lines;
pub mod lost;
pub mod merge;
pub mod mtree;
pub mod path;
pub mod pax;
pub mod pieces;
pub mod readme;
pub mod receipt;
pub mod sums;
pub mod xattrs;

pub use bytes::Bytes;
pub use digest::{Digest, Seal};
pub use entry::{Entry, Kind};
pub use flaw::{BadManifest, Flaw};
pub use generation::{Channel, Generation};
pub use hashing::Hashing;
pub use id::GenerationId;
pub use mtree::{Item, Limits};
pub use pieces::Piece;
pub use receipt::Receipt;

/// Names of the files of a generation beside `data/`.
pub mod names {
    /// The folder with the content.
    pub const DATA: &str = "data";
    /// What changed in large files; only at the Handover Point, outside the seal.
    pub const DELTA: &str = "delta";
    /// The metadata of every entry.
    pub const MANIFEST: &str = "manifest.mtree";
    /// Extended attributes, ACLs, capabilities.
    pub const XATTRS: &str = "xattrs";
    /// Checksums for coreutils.
    pub const SUMS: &str = "SHA256SUMS";
    /// For the person who finds this without handover at hand.
    pub const README: &str = "README.txt";
    /// Written last: without it, it is no generation.
    pub const GENERATION: &str = "generation.toml";
    /// The sink's word that it is durable there; only in stores, outside the seal.
    pub const RECEIPT: &str = "receipt.toml";
    /// What this host noted about the generation later (pins, checks, damage); only in stores, outside the seal.
    pub const MARKS: &str = "marks.toml";
    /// What the sink found damaged; only at the Handover Point, outside the seal.
    pub const REJECTED: &str = "rejected.json";
}
