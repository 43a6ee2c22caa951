//! What of a delivery is kept: what is wrong goes, and what belongs to no generation.

use std::{ffi::OsStr, os::unix::ffi::OsStrExt as _};

use crate::{
    manifest::{Item, Kind, entry::stored_path, names},
    store::{
        Result,
        meta::items,
        verify::VerifyReport,
        walk::{Cursor, walk},
        wanted::Wanted,
    },
    sys::{Dir, durable},
};

/// Beside the content, what a generation has in its folder. A delivery brings no receipt: that is the store's.
const OWN: [&str; 6] =
    [names::DATA, names::GENERATION, names::MANIFEST, names::XATTRS, names::SUMS, names::README];

/// Bytes and names that have come.
pub(super) fn weigh(dir: &Dir) -> Result<(u64, u64)> {
    let (mut bytes, mut entries) = (0_u64, 0);
    walk(dir, &mut |seen| {
        entries += 1;
        // What is really on the disk: half a file may be a hole for the most part.
        bytes = bytes.saturating_add(u64::try_from(seen.stat.st_blocks).unwrap_or(0).saturating_mul(512));
        Ok(())
    })?;
    Ok((bytes, entries))
}

/// Removes what is wrong; what is missing needs nothing.
pub(super) fn discard(dir: &Dir, report: &VerifyReport) -> Result<()> {
    for bad in &report.own {
        if bad.path != names::DATA.as_bytes() {
            durable::remove_tree(dir, OsStr::from_bytes(&bad.path))?;
        }
    }
    let Some(data) = dir.open_dir_if_any(names::DATA)? else {
        dir.ensure_dir(names::DATA, 0o700)?;
        return Ok(());
    };
    let mut cursor = Cursor::new(&data)?;
    for bad in &report.content {
        let removed = cursor.parent(&bad.path).and_then(|(folder, name)| durable::remove_tree(folder, name));
        match removed {
            Ok(()) => {}
            Err(e) if e.is_storage() => return Err(e.into()),
            // A folder on the way is missing, or is none: that goes instead.
            Err(_) => remove_obstacle(&data, &bad.path)?,
        }
    }
    Ok(())
}

/// Removes the first thing on the way to a path that is no folder.
fn remove_obstacle(data: &Dir, path: &[u8]) -> Result<()> {
    let mut dir = data.try_clone()?;
    for part in path.split(|b| *b == b'/') {
        match dir.open_dir(OsStr::from_bytes(part)) {
            Ok(inner) => dir = inner,
            Err(e) if e.is_not_found() => return Ok(()),
            Err(_) => return Ok(durable::remove_tree(&dir, OsStr::from_bytes(part))?),
        }
    }
    Ok(())
}

/// Removes what belongs to no generation: halves, temporary files, and whatever else the far end may have sent.
pub(super) fn strip(dir: &Dir) -> Result<()> {
    for name in dir.names()?.iter().filter(|name| !OWN.iter().any(|own| *name == *own)) {
        durable::remove_tree(dir, name)?;
    }
    let mut wanted = Wanted::default();
    for item in items(dir)? {
        let Item::Entry(entry) = item? else { continue };
        if let Kind::File { size, digest, .. } = entry.kind {
            wanted.add(&stored_path(&entry.path), size, digest);
        }
    }
    wanted.seal();
    walk(&dir.open_dir(names::DATA)?, &mut |seen| {
        let stays =
            if seen.kind().is_dir() { wanted.is_folder(seen.path) } else { wanted.get(seen.path).is_some() };
        if stays { Ok(()) } else { Ok(durable::remove_tree(seen.folder, seen.name)?) }
    })
}
