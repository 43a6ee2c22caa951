//! Looking into stored generations: what is in one, which hold a file, what differs.

use std::io::BufReader;

use ignore::gitignore::GitignoreBuilder;
use serde::Serialize;

use crate::{
    manifest::{
        BadManifest, Digest, Entry, GenerationId, Item, Kind, Limits,
        diff::{self, Change},
        mtree, names,
    },
    store::{self, SourceStore},
    sys,
};

/// What can go wrong with a look.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The store refused something.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// A stored manifest cannot be read.
    #[error("{id}: {source}")]
    Manifest {
        /// Of which generation.
        id: GenerationId,
        /// Why.
        source: BadManifest,
    },
    /// The pattern is none.
    #[error("the pattern is not one that .gitignore knows: {0}")]
    Pattern(String),
    /// Two manifests could not be compared.
    #[error("{0}")]
    Diff(String),
}

impl From<sys::Error> for Error {
    fn from(e: sys::Error) -> Self {
        Self::Store(e.into())
    }
}

/// Reads the manifest of a stored generation from its start.
pub fn items(
    store: &SourceStore,
    id: &GenerationId,
) -> Result<impl Iterator<Item = Result<Item, BadManifest>> + use<>, Error> {
    let file = store.open(id)?.open_file(names::MANIFEST)?;
    Ok(mtree::Reader::new(BufReader::with_capacity(1 << 18, file), Limits::NONE))
}

/// Calls `visit` with every entry of a generation, in order.
pub fn each(store: &SourceStore, id: &GenerationId, visit: &mut dyn FnMut(Entry)) -> Result<(), Error> {
    for item in items(store, id)? {
        if let Item::Entry(entry) = item.map_err(|source| Error::Manifest { id: id.clone(), source })? {
            visit(entry);
        }
    }
    Ok(())
}

/// One finding of `find`: a path in a generation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Hit {
    /// The path in the manifest.
    pub path: String,
    /// The generation.
    pub id: String,
    /// Whether it differs from the generation before that holds it: the first one always does.
    pub changed: bool,
    /// Bytes, for a regular file.
    pub size: Option<u64>,
    /// sha256, for a regular file.
    pub digest: Option<Digest>,
}

/// Finds what matches a pattern, in every stored generation from the eldest on.
pub fn find(store: &SourceStore, pattern: &str) -> Result<Vec<Hit>, Error> {
    let mut builder = GitignoreBuilder::new("/");
    builder.add_line(None, pattern).map_err(|e| Error::Pattern(e.to_string()))?;
    let matcher = builder.build().map_err(|e| Error::Pattern(e.to_string()))?;
    let mut last: std::collections::BTreeMap<Vec<u8>, Kind> = std::collections::BTreeMap::new();
    let mut hits = Vec::new();
    for stored in store.stored()?.0 {
        let id = stored.id();
        each(store, id, &mut |entry| {
            let path = std::path::Path::new("/").join(as_path(below_element(&entry.path)));
            if !matcher.matched(&path, entry.kind == Kind::Dir).is_ignore() {
                return;
            }
            let changed = last.get(&entry.path) != Some(&entry.kind);
            let (size, digest) = match &entry.kind {
                Kind::File { size, digest, .. } => (Some(*size), Some(*digest)),
                _ => (None, None),
            };
            hits.push(Hit { path: sys::show(&entry.path), id: id.to_string(), changed, size, digest });
            last.insert(entry.path, entry.kind);
        })?;
    }
    Ok(hits)
}

fn as_path(bytes: &[u8]) -> &std::path::Path {
    use std::os::unix::ffi::OsStrExt as _;
    std::path::Path::new(std::ffi::OsStr::from_bytes(bytes))
}

/// The path on the source without its leading slash: the path of the manifest without the element.
fn below_element(path: &[u8]) -> &[u8] {
    path.iter().position(|b| *b == b'/').map_or(b"", |slash| &path[slash + 1..])
}

/// Calls `visit` with every difference between two stored generations, in the order of the paths.
pub fn differences(
    store: &SourceStore,
    old: &GenerationId,
    new: &GenerationId,
    visit: &mut dyn FnMut(Change),
) -> Result<(), Error> {
    let mut tell = |change| {
        visit(change);
        Ok(())
    };
    diff::diff(Box::new(items(store, old)?), Box::new(items(store, new)?), &mut tell)
        .map_err(|e: BadManifest| Error::Diff(e.to_string()))
}
