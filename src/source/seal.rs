//! The last files of a draft: checksums and the text for the finder.

use std::{
    io::{BufReader, BufWriter, Write as _},
    sync::Arc,
};

use super::{
    collect::{Closed, Error},
    copier::{self, At},
};
use crate::{
    manifest::{
        Digest,
        generation::Sums,
        mtree::{self, Limits},
        names, readme, sums,
    },
    sys::{self, Dir, durable},
};

/// Writes `README.txt` and `SHA256SUMS` of a draft whose book is finished.
pub fn write(
    draft: &Dir,
    generation: &Draftable<'_>,
    book: &Closed,
    owner: Option<(u32, u32)>,
) -> Result<Sums, Error> {
    let dir = Arc::new(draft.try_clone()?);
    let file = |name: &'static str| copier::new_file(&At { dir: Arc::clone(&dir), name: name.into() }, owner);
    let text = readme::text(generation.source, generation.id, generation.channel);
    let readme = Digest::of(text.as_bytes());
    durable::write_all(&file(names::README)?, &draft.join(names::README), text.as_bytes())?;

    let manifest = BufReader::new(draft.open_file(names::MANIFEST)?);
    let items = mtree::Reader::new(manifest, Limits::NONE);
    let others = [(names::MANIFEST, book.manifest), (names::XATTRS, book.xattrs), (names::README, readme)];
    let mut out = BufWriter::new(durable::Writer::new(file(names::SUMS)?, draft.join(names::SUMS)));
    let sha256sums = sums::write(items, &others, &mut out).map_err(|e| {
        sys::Error::new("derive", draft.join(names::SUMS), std::io::Error::other(e.to_string()))
    })?;
    out.flush().map_err(|source| Error::Book { name: names::SUMS, source })?;
    Ok(Sums { manifest: book.manifest, xattrs: book.xattrs, sha256sums, readme })
}

/// What the texts need to know.
#[derive(Debug, Clone, Copy)]
pub struct Draftable<'a> {
    /// The source's name.
    pub source: &'a sys::name::Name,
    /// The id.
    pub id: &'a crate::manifest::GenerationId,
    /// The channel.
    pub channel: crate::manifest::Channel,
}
