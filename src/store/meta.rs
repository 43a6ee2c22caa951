//! A generation's own files, taken from a host that may be hostile: copied out of rsync's reach, hashed, read in full.

use std::{
    collections::HashSet,
    io::{BufReader, BufWriter},
    path::Path,
};

use rustix::fs::FileType;

use super::{Error, Found, ahead::ahead, prove::FILE_MODE, staging::Place};
use crate::{
    manifest::{
        BadManifest, Channel, Digest, Generation, Limits, Seal,
        attributed::Attributed,
        generation::{self, BadGeneration},
        merge::Items,
        mtree::{self, Totals},
        names, sums, xattrs,
    },
    sys::{
        self, Dir,
        copy::{CopyError, hash_and_copy},
        durable,
        name::Name,
        show, signals, stamp,
    },
};

/// Bytes of a manifest that are read at a time.
const BUFFER: usize = 64 * 1024;

/// What a generation must say of itself.
#[derive(Debug, Clone)]
pub struct Expect {
    /// The seal under which it was offered.
    pub seal: Seal,
    /// The source's name, as configured here.
    pub source: Name,
    /// The channel through which it comes.
    pub channel: Channel,
    /// The lineage that the source told with its offers, if it is to be compared.
    pub lineage: Option<String>,
    /// The sequence under which it was offered, if it is to be compared.
    pub sequence: Option<u64>,
    /// How much it may hold.
    pub limits: Limits,
}

/// Why a generation's own files were refused.
#[derive(Debug, thiserror::Error)]
pub enum MetaError {
    /// Ours, not the generation's.
    #[error(transparent)]
    Store(#[from] Error),
    /// A file did not arrive, or is not a regular one.
    #[error("{file} did not arrive: {why}")]
    Missing {
        /// The file.
        file: &'static str,
        /// Why.
        why: String,
    },
    /// A file is not the one that was sealed.
    #[error("{file} is not the one that was sealed: its sha256 is {found}, not {expected}")]
    NotSealed {
        /// The file.
        file: &'static str,
        /// Its sha256.
        found: Digest,
        /// What the seal says.
        expected: Digest,
    },
    /// `generation.toml` cannot be read.
    #[error(transparent)]
    Generation(#[from] BadGeneration),
    /// `generation.toml` speaks of another generation.
    #[error("generation.toml says that its {what} is {found}, but {expected} was offered")]
    Other {
        /// What differs.
        what: &'static str,
        /// What it says.
        found: String,
        /// What was expected.
        expected: String,
    },
    /// It holds more than this sink is configured to take.
    #[error(
        "it holds {found} {what}, and the limit is {limit}: raise the limit of this source if that is right"
    )]
    Limit {
        /// What there is too much of.
        what: &'static str,
        /// How much it says.
        found: u64,
        /// How much is allowed.
        limit: u64,
    },
    /// The manifest or the attributes are not what they must be.
    #[error(transparent)]
    Manifest(BadManifest),
    /// The manifest does not hold what `generation.toml` says.
    #[error("the manifest {0}")]
    Counts(String),
}

impl MetaError {
    /// Whether fetching it again may help: what was sealed wrongly stays wrong.
    pub fn is_transfer(&self) -> bool {
        match self {
            Self::Missing { .. } | Self::NotSealed { .. } => true,
            Self::Store(_)
            | Self::Generation(_)
            | Self::Other { .. }
            | Self::Limit { .. }
            | Self::Manifest(_)
            | Self::Counts(_) => false,
        }
    }
}

impl From<sys::Error> for MetaError {
    fn from(e: sys::Error) -> Self {
        Self::Store(e.into())
    }
}

type Result<T> = std::result::Result<T, MetaError>;

/// Takes the files into the tree; gives what was found, how many folders it has, and the bytes of `generation.toml`.
pub(super) fn take(place: &Place, expect: &Expect) -> Result<(Found, u64, Vec<u8>)> {
    let bytes = read_generation(&place.meta)?;
    let seal = Digest::of(&bytes);
    if seal != expect.seal {
        return Err(MetaError::NotSealed { file: names::GENERATION, found: seal, expected: expect.seal });
    }
    let generation = Generation::parse(&bytes)?;
    compare(place, &generation, expect)?;
    let sealed = &generation.sha256;
    for (file, expected) in
        [(names::MANIFEST, sealed.manifest), (names::XATTRS, sealed.xattrs), (names::README, sealed.readme)]
    {
        copy(place, file, expected)?;
    }
    let totals = read(place, &generation, expect.limits)?;
    derive_sums(place, &generation)?;
    Ok((Found { generation, seal }, totals.dirs, bytes))
}

fn read_generation(meta: &Dir) -> Result<Vec<u8>> {
    meta.read(names::GENERATION, generation::LIMIT).map_err(|e| missing(names::GENERATION, e))
}

fn missing(file: &'static str, e: sys::Error) -> MetaError {
    if e.is_storage() { e.into() } else { MetaError::Missing { file, why: e.to_string() } }
}

fn compare(place: &Place, generation: &Generation, expect: &Expect) -> Result<()> {
    let same = |what, found: &str, expected: &str| {
        if found == expected {
            return Ok(());
        }
        let (found, expected) = (show(found.as_bytes()), show(expected.as_bytes()));
        Err(MetaError::Other { what, found, expected })
    };
    same("id", generation.id.as_str(), place.id.as_str())?;
    same("source", generation.source.as_str(), expect.source.as_str())?;
    same("channel", generation.channel.as_str(), expect.channel.as_str())?;
    same("lineage", &generation.lineage, expect.lineage.as_ref().unwrap_or(&generation.lineage))?;
    let sequence = expect.sequence.unwrap_or(generation.sequence);
    same("sequence", &generation.sequence.to_string(), &sequence.to_string())?;
    for (what, found, limit) in [
        ("entries", generation.entries, expect.limits.entries),
        ("bytes", generation.bytes, expect.limits.bytes),
    ] {
        if found > limit {
            return Err(MetaError::Limit { what, found, limit });
        }
    }
    Ok(())
}

/// Copies a file into the tree, hashing what is copied: what was hashed is what is kept, whoever still writes there.
fn copy(place: &Place, file: &'static str, expected: Digest) -> Result<()> {
    let path = place.meta.join(file);
    let from = place.meta.open_file(file).map_err(|e| missing(file, e))?;
    if !FileType::from_raw_mode(stamp::stat(&from, &path)?.st_mode).is_file() {
        return Err(MetaError::Missing { file, why: "it is not a regular file".to_owned() });
    }
    let to = place.tree.create_file(file, FILE_MODE)?;
    let content = hash_and_copy(&from, Some(&to), &path, &mut |_| signals::check()).map_err(|e| match e {
        CopyError::Read(e) | CopyError::Write(e) => Error::Sys(e),
        CopyError::Interrupted(e) => Error::Interrupted(e),
    })?;
    stamp::set_mode(&to, &place.tree.join(file), FILE_MODE)?;
    let found = Digest(content.sha256);
    if found == expected { Ok(()) } else { Err(MetaError::NotSealed { file, found, expected }) }
}

/// The items of the manifest in an open generation, without limits: it was read within them before.
pub(super) fn items(dir: &Dir) -> super::Result<Items<'static, Error>> {
    let path = dir.join(names::MANIFEST);
    let input = BufReader::with_capacity(BUFFER, dir.open_file(names::MANIFEST)?);
    let open =
        move || mtree::Reader::new(input, Limits::NONE).map(move |item| item.map_err(|e| ours(e, &path)));
    Ok(ahead(|| Box::new(open())))
}

/// The same of a manifest that was read in full, and hashed, in this very run: a staged one, or that of its basis.
pub(super) fn proven_items(dir: &Dir) -> super::Result<Items<'static, Error>> {
    let path = dir.join(names::MANIFEST);
    let input = BufReader::with_capacity(BUFFER, dir.open_file(names::MANIFEST)?);
    let open = move || mtree::Reader::proven(input).map(move |item| item.map_err(|e| ours(e, &path)));
    Ok(ahead(|| Box::new(open())))
}

/// What a broken manifest is that had been proven before: the system's fault, or damage.
fn ours(e: BadManifest, path: &Path) -> Error {
    match e.read_error() {
        Some(io) => sys::Error::new("read", path, copy_of(io)).into(),
        None => Error::Damaged { path: path.to_path_buf(), why: e.to_string() },
    }
}

fn copy_of(e: &std::io::Error) -> std::io::Error {
    e.raw_os_error()
        .map_or_else(|| std::io::Error::new(e.kind(), e.to_string()), std::io::Error::from_raw_os_error)
}

/// Reads manifest and attributes side by side, in full.
fn read(place: &Place, generation: &Generation, limits: Limits) -> Result<Totals> {
    let open = |file| Ok::<_, sys::Error>(BufReader::new(place.tree.open_file(file)?));
    let mut items = mtree::Reader::new(open(names::MANIFEST)?, limits);
    let attributes = xattrs::Reader::new(open(names::XATTRS)?, limits);
    let elements: HashSet<&[u8]> =
        generation.elements.iter().map(|element| element.name.as_str().as_bytes()).collect();
    for joined in Attributed::new(&mut items, attributes) {
        let (item, _) = joined.map_err(|e| match e.read_error() {
            Some(_) => MetaError::Store(ours(e, place.tree.path())),
            None => MetaError::Manifest(e),
        })?;
        let element = item.path().split(|b| *b == b'/').next().unwrap_or_default();
        if !elements.contains(element) {
            let why = format!("has the element {}, which generation.toml does not know", show(element));
            return Err(MetaError::Counts(why));
        }
        signals::check().map_err(Error::from)?;
    }
    let totals = items.totals();
    for (what, found, said) in [
        ("entries", totals.entries, generation.entries),
        ("files", totals.files, generation.files),
        ("bytes", totals.bytes, generation.bytes),
    ] {
        if found != said {
            return Err(MetaError::Counts(format!("has {found} {what}, but generation.toml says {said}")));
        }
    }
    Ok(totals)
}

/// Derives `SHA256SUMS` from the manifest: it is never sent, and must be the one that was sealed.
fn derive_sums(place: &Place, generation: &Generation) -> Result<()> {
    let path = place.tree.join(names::SUMS);
    let file = place.tree.create_file(names::SUMS, FILE_MODE)?;
    stamp::set_mode(&file, &path, FILE_MODE)?;
    let sealed = &generation.sha256;
    let others =
        [(names::MANIFEST, sealed.manifest), (names::XATTRS, sealed.xattrs), (names::README, sealed.readme)];
    let found =
        sums::write(proven_items(&place.tree)?, &others, BufWriter::new(durable::Writer::new(file, &path)))
            .map_err(|e| match e {
            sums::Error::Manifest(e) => e,
            sums::Error::Write(e) => sys::Error::new("write", &path, e).into(),
        })?;
    let expected = sealed.sha256sums;
    if found == expected { Ok(()) } else { Err(MetaError::NotSealed { file: names::SUMS, found, expected }) }
}
