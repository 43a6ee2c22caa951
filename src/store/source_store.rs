//! What a sink keeps of one source.

use std::{ffi::OsStr, fs::File, os::unix::ffi::OsStrExt as _, path::PathBuf};

use jiff::Timestamp;
use rustix::fs::FileType;

use super::{
    Error, Found, Result, Strange,
    marks::Marks,
    meta,
    note::CONDEMNED_NOTE,
    order::{Made, in_order},
    prove::Wrong,
    walk::Cursor,
};
use crate::{
    manifest::{GenerationId, Receipt, entry, merge::Items, names, receipt},
    sys::{self, Dir, durable, name::Name},
};

/// Folders of this prefix are being deleted: no longer a generation, finished at the next start.
pub(super) const DELETING: &str = ".deleting-";

/// What a sink keeps of one source. Whoever calls what changes it holds the source's lock.
#[derive(Debug)]
pub struct SourceStore {
    pub(super) name: Name,
    pub(super) store_id: String,
    pub(super) store: Dir,
    pub(super) incoming: Dir,
    pub(super) condemned: Dir,
    pub(super) quarantine: Dir,
}

/// A stored generation: its seal is the one in the receipt. That its content is whole is [`SourceStore::verify`]'s to say.
#[derive(Debug, Clone, PartialEq)]
pub struct Stored {
    /// What it says of itself.
    pub found: Found,
    /// The sink's word.
    pub receipt: Receipt,
    /// What was noted later.
    pub marks: Marks,
}

impl Stored {
    /// The id.
    pub fn id(&self) -> &GenerationId {
        self.found.id()
    }

    pub(super) fn load(dir: &Dir, id: &GenerationId) -> Result<Self> {
        let found = Found::load(dir, id)?;
        let damaged = |why: String| Error::Damaged { path: dir.path().to_path_buf(), why };
        let bytes = dir
            .read_if_any(names::RECEIPT, receipt::LIMIT)?
            .ok_or_else(|| damaged(format!("{} is missing", names::RECEIPT)))?;
        let receipt = Receipt::parse(&bytes)
            .map_err(|e| damaged(format!("its {} cannot be read: {e}", names::RECEIPT)))?;
        if receipt.id != *id || receipt.seal != found.seal {
            let why = format!("its {} is not the one that was stored", names::GENERATION);
            return Err(damaged(why));
        }
        Ok(Self { found, receipt, marks: Marks::load(dir)? })
    }
}

/// What a start found half done and finished.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Recovered {
    /// Deletions that had been cut.
    pub deleted: Vec<String>,
    /// What was still staged of generations that are stored.
    pub unstaged: Vec<GenerationId>,
}

impl SourceStore {
    /// The source's name.
    pub fn name(&self) -> &Name {
        &self.name
    }

    /// The id of the store that this is a part of.
    pub fn store_id(&self) -> &str {
        &self.store_id
    }

    /// The stored generations in their order (that of storing, by the sequence in the receipts; what came late stands
    /// further down: [`super::order`]), and what else is there: what cannot be read counts as nothing and is left alone.
    pub fn stored(&self) -> Result<(Vec<Stored>, Vec<Strange>)> {
        let (mut stored, strange) = list(&self.store, Stored::load)?;
        stored.sort_by(|a, b| (a.receipt.sequence, a.id()).cmp(&(b.receipt.sequence, b.id())));
        let stored = in_order(stored, |one| Made {
            lineage: &one.found.generation.lineage,
            sequence: one.found.generation.sequence,
            id: one.id(),
        });
        Ok((stored, strange))
    }

    /// The newest stored generation.
    pub fn newest(&self) -> Result<Option<Stored>> {
        Ok(self.stored()?.0.pop())
    }

    /// The newest stored generation in which no damage is known.
    pub fn newest_whole(&self) -> Result<Option<Stored>> {
        Ok(self.stored()?.0.into_iter().rfind(|stored| stored.marks.is_whole()))
    }

    /// A stored generation, if it is here.
    pub fn get(&self, id: &GenerationId) -> Result<Option<Stored>> {
        self.store.open_dir_if_any(id)?.map(|dir| Stored::load(&dir, id)).transpose()
    }

    /// The folder of a stored generation.
    pub fn open(&self, id: &GenerationId) -> Result<Dir> {
        Ok(self.store.open_dir(id)?)
    }

    /// The path of a stored generation: for rsync's basis, and for people.
    pub fn path(&self, id: &GenerationId) -> PathBuf {
        self.store.join(id)
    }

    /// The sink's next sequence for this source: over all that is stored or condemned. Only receipts are asked, so
    /// that a generation of which something else is damaged still counts.
    pub fn next_sequence(&self) -> Result<u64> {
        let mut last = 0;
        for place in [&self.store, &self.condemned] {
            let (receipts, _) = list(place, |dir, _| Ok(dir.read(names::RECEIPT, receipt::LIMIT)?))?;
            let sequences = receipts.iter().filter_map(|bytes| Receipt::parse(bytes).ok());
            last = sequences.map(|receipt| receipt.sequence).fold(last, u64::max);
        }
        Ok(last + 1)
    }

    /// Keeps a generation whatever retention says; the text says why.
    pub fn pin(&self, id: &GenerationId, why: &str) -> Result<()> {
        self.mark(id, &mut |marks| marks.pinned = Some(why.to_owned()))
    }

    /// Leaves a generation to retention again.
    pub fn unpin(&self, id: &GenerationId) -> Result<()> {
        self.mark(id, &mut |marks| marks.pinned = None)
    }

    /// Changes the marks of a stored generation durably.
    pub fn mark(&self, id: &GenerationId, change: &mut dyn FnMut(&mut Marks)) -> Result<()> {
        let dir = self.open(id)?;
        let old = Marks::load(&dir)?;
        let mut new = old.clone();
        change(&mut new);
        if new != old { new.save(&dir) } else { Ok(()) }
    }

    /// Notes damage that was found in one generation: on it, and on every other that has the same inode at the same
    /// path.
    pub(super) fn blame(&self, id: &GenerationId, damaged: &[Wrong], now: Timestamp) -> Result<()> {
        if damaged.is_empty() {
            return Ok(());
        }
        for stored in self.stored()?.0 {
            let Some(data) = self.open(stored.id())?.open_dir_if_any(names::DATA)? else { continue };
            let mut cursor = Cursor::new(&data)?;
            let mut here = Vec::new();
            for wrong in damaged {
                let path = &wrong.job.path;
                let stat = cursor.parent(path).and_then(|(dir, name)| dir.stat(name));
                let shared = stat.is_ok_and(|stat| wrong.inode == Some(stat.st_ino));
                if shared || stored.id() == id {
                    here.push(path);
                }
            }
            self.mark(stored.id(), &mut |marks| {
                for path in &here {
                    marks.add_damage(&[names::DATA.as_bytes(), b"/", path].concat(), now);
                }
            })?;
        }
        Ok(())
    }

    /// The manifest of a stored generation, item by item.
    pub fn manifest(&self, id: &GenerationId) -> Result<Items<'static, Error>> {
        meta::items(&self.open(id)?)
    }

    /// The content of an entry of a stored generation, by its path in the manifest.
    pub fn content(&self, id: &GenerationId, path: &[u8]) -> Result<File> {
        let data = self.open(id)?.open_dir(names::DATA)?;
        let stored = entry::stored_path(path);
        let mut cursor = Cursor::new(&data)?;
        let (dir, name) = cursor.parent(&stored)?;
        let file = dir.open_file(name)?;
        let stat = sys::stamp::stat(&file, &dir.join(name))?;
        if FileType::from_raw_mode(stat.st_mode).is_file() {
            Ok(file)
        } else {
            Err(sys::Error::new("read", dir.join(name), std::io::Error::other("it is not a regular file"))
                .into())
        }
    }

    /// Finishes what a crash cut: deletions, undone condemnations, temporary files, staging of what is stored. The
    /// moves of the last run become durable, so that what is found may be accepted. Doing it twice changes nothing.
    pub fn recover(&self) -> Result<Recovered> {
        let mut recovered = Recovered::default();
        for place in [&self.store, &self.incoming, &self.condemned, &self.quarantine] {
            durable::sync_dir(place)?;
            for name in place.names()? {
                if name.as_bytes().starts_with(DELETING.as_bytes()) {
                    durable::remove_tree(place, &name)?;
                    // What a cut healing left is no generation, and nobody heard of it.
                    let id = sys::show(&name.as_bytes()[DELETING.len()..]);
                    recovered.deleted.extend(Some(id).filter(|id| id.parse::<GenerationId>().is_ok()));
                }
            }
        }
        for stored in self.stored()?.0 {
            sweep(&self.open(stored.id())?)?;
            if self.incoming.stat_if_any(stored.id())?.is_some() {
                durable::remove_tree(&self.incoming, stored.id())?;
                recovered.unstaged.push(stored.id().clone());
            }
        }
        Ok(recovered)
    }
}

/// Removes from a stored generation what a cut write of marks or a cut `undo` left.
fn sweep(dir: &Dir) -> Result<()> {
    for name in dir.names()? {
        let cut_write = [names::MARKS, CONDEMNED_NOTE]
            .iter()
            .any(|file| name.as_bytes().starts_with(format!(".{file}.").as_bytes()));
        if cut_write || name == OsStr::new(CONDEMNED_NOTE) {
            durable::remove_file(dir, &name)?;
        }
    }
    Ok(())
}

/// What `load` makes of each folder in a place, and what it cannot. Hidden names are not looked at; storage that fails
/// is an error, because a part of a list must not be taken for the whole.
pub(super) fn list<T>(
    place: &Dir,
    load: impl Fn(&Dir, &GenerationId) -> Result<T>,
) -> Result<(Vec<T>, Vec<Strange>)> {
    let (mut all, mut strange) = (Vec::new(), Vec::new());
    for name in place.names()? {
        if name.as_bytes().starts_with(b".") {
            continue;
        }
        let Some(id) = name.to_str().and_then(|text| text.parse::<GenerationId>().ok()) else {
            strange.push(Strange {
                name,
                why: "its name is not an id of a generation".to_owned(),
                doubt: None,
            });
            continue;
        };
        match place.open_dir(&name).map_err(Error::from).and_then(|dir| load(&dir, &id)) {
            Ok(one) => all.push(one),
            Err(e) if e.is_storage() || matches!(e, Error::Interrupted(_)) => return Err(e),
            Err(e) => {
                let doubt = doubt(place, &name);
                strange.push(Strange { name, why: e.to_string(), doubt });
            }
        }
    }
    Ok((all, strange))
}

/// What is to be thought of a folder that is no generation any more: what its marks say, or that they cannot be read.
fn doubt(place: &Dir, name: &OsStr) -> Option<String> {
    match place.open_dir(name).map_err(Error::from).and_then(|dir| Marks::load(&dir)) {
        Ok(marks) => marks.suspicious,
        Err(e) => Some(format!("whether it is suspicious cannot be read: {e}")),
    }
}

/// Deletes a folder of a place: first it loses its name, so that a cut deletion never looks like a generation.
pub(super) fn delete(place: &Dir, name: impl AsRef<OsStr>) -> Result<()> {
    let mut going = OsStr::new(DELETING).to_owned();
    going.push(name.as_ref());
    durable::remove_tree(place, &going)?;
    durable::rename(place, name, place, &going)?;
    Ok(durable::remove_tree(place, &going)?)
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;
    use crate::store::sample::{Sample, Sink, at, id};

    const ONE: &str = "20261123T030000Z";
    const TWO: &str = "20261124T030000Z";
    const THREE: &str = "20261122T030000Z";

    #[test]
    fn order_is_that_of_storing_but_what_comes_late_is_not_the_newest() {
        let sink = Sink::new();
        sink.store(&Sample::new(ONE, 9, &[(b"a", b"aaa")]));
        sink.store(&Sample::new(TWO, 3, &[(b"a", b"aaa")]));
        sink.store(&Sample::new(THREE, 2, &[(b"a", b"aaa")]));
        let (stored, strange) = sink.shop.stored().unwrap();
        assert_eq!(stored.iter().map(|one| one.id().as_str()).collect::<Vec<_>>(), [THREE, ONE, TWO]);
        assert_eq!(stored.iter().map(|one| one.receipt.sequence).collect::<Vec<_>>(), [3, 1, 2]);
        assert!(strange.is_empty());
        assert_eq!(sink.shop.newest().unwrap().unwrap().id(), &id(TWO));
    }

    #[test]
    fn what_is_no_generation_is_told_and_counts_for_the_sequence_where_its_receipt_is_whole() {
        let sink = Sink::new();
        sink.store(&Sample::new(ONE, 1, &[(b"a", b"aaa")]));
        let shop = Dir::open(sink.path("store/shop")).unwrap();
        shop.create_dir("lost+found", 0o700).unwrap();
        shop.create_dir(TWO, 0o700).unwrap();
        let dir = sink.shop.open(&id(ONE)).unwrap();
        durable::remove_file(&dir, names::GENERATION).unwrap();
        let (stored, strange) = sink.shop.stored().unwrap();
        assert!(stored.is_empty());
        let named: Vec<_> = strange.iter().map(|one| one.name.to_str().unwrap()).collect();
        assert_eq!(named, [ONE, TWO, "lost+found"]);
        assert_eq!(sink.shop.next_sequence().unwrap(), 2);
    }

    #[test]
    fn marks_that_cannot_be_read_do_not_unpin() {
        let sink = Sink::new();
        sink.store(&Sample::new(ONE, 1, &[(b"a", b"aaa")]));
        sink.shop.pin(&id(ONE), "before the move").unwrap();
        assert_eq!(sink.shop.newest().unwrap().unwrap().marks.pinned.as_deref(), Some("before the move"));
        let dir = sink.shop.open(&id(ONE)).unwrap();
        durable::write_file(&dir, names::MARKS, b"format = 2\n", 0o640).unwrap();
        assert!(sink.shop.unpin(&id(ONE)).is_err());
        let (stored, strange) = sink.shop.stored().unwrap();
        assert_eq!((stored.len(), strange.len()), (0, 1));
        durable::write_file(&dir, names::MARKS, b"format = 1\npinned = \"x\"\n", 0o640).unwrap();
        sink.shop.unpin(&id(ONE)).unwrap();
        assert_eq!(sink.shop.newest().unwrap().unwrap().marks, Marks::default());
    }

    #[test]
    fn content_is_found_by_its_path_however_long_and_a_link_in_its_place_is_not_read() {
        let sink = Sink::new();
        let long = ["x".repeat(200).as_str(); 16].join("/");
        sink.store(&Sample::new(ONE, 1, &[(b"a", b"aaa"), (long.as_bytes(), b"long")]));
        let read = |path: &str| {
            let mut text = String::new();
            sink.shop.content(&id(ONE), path.as_bytes()).map(|mut file| file.read_to_string(&mut text))?.ok();
            Ok::<_, Error>(text)
        };
        assert_eq!(read("e/a").unwrap(), "aaa");
        assert_eq!(read(&format!("e/{long}")).unwrap(), "long");
        assert!(read("e").is_err() && read("e/none").is_err() && read("e/../e/a").is_err());
        let e = Dir::open(sink.data(&id(ONE), "")).unwrap();
        durable::remove_file(&e, "a").unwrap();
        rustix::fs::symlinkat("/etc/passwd", &e, "a").unwrap();
        assert!(read("e/a").is_err());
        assert_eq!(sink.shop.manifest(&id(ONE)).unwrap().count(), 1 + 1 + 16);
        let blamed =
            sink.shop.verify(&id(ONE), at("2026-11-25T00:00:00Z"), &crate::store::prove::Effort::quiet(1));
        assert_eq!(blamed.unwrap().content.len(), 1);
    }
}
