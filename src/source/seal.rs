//! The last files of a draft: checksums and the text for the finder.

use std::sync::Arc;

use super::{
    collect::{Closed, Error},
    copier::{self, At},
};
use crate::{
    manifest::{Digest, generation::Sums, names, readme},
    sys::{self, Dir, durable},
};

/// Writes `README.txt` and the end of `SHA256SUMS` of a draft whose book is finished.
pub fn write(
    draft: &Dir,
    generation: &Draftable<'_>,
    book: Closed,
    owner: Option<(u32, u32)>,
) -> Result<Sums, Error> {
    let text = readme::text(generation.source, generation.id, generation.channel);
    let readme = Digest::of(text.as_bytes());
    let file =
        copier::new_file(&At { dir: Arc::new(draft.try_clone()?), name: names::README.into() }, owner)?;
    durable::write_all(&file, &draft.join(names::README), text.as_bytes())?;

    let others = [(names::MANIFEST, book.manifest), (names::XATTRS, book.xattrs), (names::README, readme)];
    let sha256sums = book.sums.finish(&others).map_err(|source| Error::Book { name: names::SUMS, source })?;
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
