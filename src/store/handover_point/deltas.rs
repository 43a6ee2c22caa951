//! `delta/` in a generation that waits: what changed in its large files, outside its format and its seal. It goes when the
//! generation stops waiting.

use std::os::unix::ffi::OsStrExt as _;

use rustix::fs::FileType;

use super::{HandoverPoint, Place, Rejected, receipt_in, reject};
use crate::{
    manifest::{GenerationId, delta, names},
    store::{Found, Result},
    sys::{Dir, durable},
};

impl HandoverPoint {
    /// Whether the sink has a generation by its receipt, or will have it when it comes to one that is made now: it fetches
    /// in order. Not one that it rejected, and none where no sink ever gave a receipt.
    pub fn reaches_sink(&self, id: &GenerationId) -> Result<bool> {
        let Some((place, dir)) = self.locate(id)? else { return Ok(false) };
        let Ok(found) = Found::load(&dir, id) else { return Ok(false) };
        match place {
            Place::Stored => Ok(receipt_in(&dir, &found)?.is_some()),
            Place::Waiting => {
                let rejected = Rejected::load(&dir, &found, &mut { reject::PATHS })?.is_some();
                Ok(!rejected && self.stored()?.items.iter().any(|stored| stored.receipt.is_some()))
            }
            Place::Collecting | Place::Condemned => Ok(false),
        }
    }
}

/// The deltas that lie beside a waiting generation. What cannot be one is not told, nor are more than a generation has;
/// what cannot be listed, as it goes just now, is none.
pub fn offered(dir: &Dir) -> Vec<delta::Offered> {
    // Whatever else the transport user put there is no folder of deltas.
    let Ok(deltas) = dir.open_dir(names::DELTA) else { return Vec::new() };
    let mut offered = Vec::new();
    for name in deltas.names().unwrap_or_default() {
        let Some((content, base)) = delta::parse_name(name.as_bytes()) else { continue };
        let Ok(Some(stat)) = deltas.stat_if_any(&name) else { continue };
        if FileType::from_raw_mode(stat.st_mode).is_file() && offered.len() < delta::MOST {
            offered.push(delta::Offered { content, base, bytes: stat.st_size.unsigned_abs() });
        }
    }
    offered
}

/// Removes the deltas of a generation that waits no more.
#[track_caller]
pub(super) fn remove(dir: &Dir) -> Result<()> {
    if dir.stat_if_any(names::DELTA)?.is_some() {
        durable::remove_tree(dir, names::DELTA)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::Digest;

    #[test]
    fn only_files_that_are_named_as_deltas_are_told() {
        let folder = tempfile::tempdir().unwrap();
        let dir = Dir::open(folder.path()).unwrap();
        assert!(offered(&dir).is_empty());
        let deltas = dir.create_dir(names::DELTA, 0o700).unwrap();
        let (content, base) = (Digest::of(b"new"), Digest::of(b"old"));
        let name = delta::name(&content, &base);
        durable::write_all(&deltas.create_file(&name, 0o440).unwrap(), &deltas.join(&name), b"12345")
            .unwrap();
        deltas.create_file(".making-1", 0o440).unwrap();
        deltas.create_dir(delta::name(&base, &content), 0o700).unwrap();
        rustix::fs::symlinkat("/etc/passwd", &deltas, delta::name(&base, &base)).unwrap();
        assert_eq!(offered(&dir), [delta::Offered { content, base, bytes: 5 }]);
        remove(&dir).unwrap();
        assert!(offered(&dir).is_empty() && dir.names().unwrap().is_empty());
        rustix::fs::symlinkat("/etc", &dir, names::DELTA).unwrap();
        assert!(offered(&dir).is_empty(), "a link is no folder");
    }
}
