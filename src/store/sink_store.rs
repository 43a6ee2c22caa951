//! The Sink-Store: what a sink keeps of all its sources.
//!
//! ```text
//! <home>/incoming/<source>/<id>/      what is being fetched                        staging
//! <home>/store/<source>/<id>/         generations, receipt.toml and marks inside   source_store
//! <home>/store/.handover-store        the marker: which store this is
//! <home>/condemned/<source>/<id>/     what retention took away                     condemned
//! <home>/.renaming                    that a source gets another name, until it has it
//! <home>/quarantine/<source>/<id>/    what failed its check twice, one per source  quarantine
//! ```
//!
//! All of it is on one file system, 0700, and written by this module's folder alone. Whoever changes a source's part
//! holds that source's lock.

use std::{collections::BTreeSet, path::Path, sync::Arc};

use serde::{Deserialize, Serialize};

use super::{Error, Result, SourceStore, places};
use crate::sys::{Dir, durable, name::Name, random, room::Room, show};

/// The file that says which store this is.
pub const MARKER: &str = ".handover-store";
const RENAMING: &str = ".renaming";
const RENAMING_FORMAT: u32 = 1;
const MARKER_FORMAT: u32 = 1;
const MARKER_LIMIT: u64 = 4096;
const PLACES: [&str; 4] = [places::STORE, places::INCOMING, places::CONDEMNED, places::QUARANTINE];

/// The store of a sink.
#[derive(Debug)]
pub struct SinkStore {
    home: Dir,
    id: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Marker {
    format: u32,
    id: String,
}

/// That a source gets another name.
#[derive(Serialize, Deserialize)]
struct Renaming {
    format: u32,
    old: Name,
    new: Name,
}

impl SinkStore {
    /// Makes the store in a home, where parts of it are missing; what is there stays. The caller keeps the id, so that
    /// a disk that is not mounted is noticed: where an id is already kept, use [`Self::open`], never this.
    pub fn create(home: &Path) -> Result<Self> {
        let dir = Dir::create_all(home, 0o700)?;
        for place in PLACES {
            ensure(&dir, place)?;
        }
        let store = dir.open_dir(places::STORE)?;
        if store.stat_if_any(MARKER)?.is_none() {
            let marker = Marker { format: MARKER_FORMAT, id: uuid()? };
            let text = toml::to_string(&marker).map_err(|e| layout(&store, e.to_string()))?;
            durable::write_file(&store, MARKER, text.as_bytes(), 0o440)?;
        }
        Self::open(home, None)
    }

    /// Opens the store of a home. With the id that was kept when it was made, another store, or none, in its place is
    /// [`Error::NotMounted`].
    pub fn open(home: &Path, expected: Option<&str>) -> Result<Self> {
        let this = Self::look(home, expected)?;
        for place in PLACES {
            ensure(&this.home, place)?;
        }
        one_file_system(&this.home)?;
        Ok(this)
    }

    /// The same, and nothing is made.
    pub fn look(home: &Path, expected: Option<&str>) -> Result<Self> {
        let missing = || Error::NotMounted { path: home.join(places::STORE), found: "missing".to_owned() };
        let dir = Dir::open(home).map_err(|e| if e.is_not_found() { missing() } else { e.into() })?;
        let store = dir.open_dir_if_any(places::STORE)?.ok_or_else(missing)?;
        let marker = read_marker(&store)?.ok_or_else(missing)?;
        if expected.is_some_and(|id| id != marker.id) {
            return Err(Error::NotMounted {
                path: home.join(places::STORE),
                found: show(marker.id.as_bytes()),
            });
        }
        Ok(Self { home: dir, id: marker.id })
    }

    /// The id in the marker: it stands in every receipt.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The room left.
    pub fn room(&self) -> Result<Room> {
        Ok(Room::of(&self.home.open_dir(places::STORE)?)?)
    }

    /// The part of one source; its folders are made where they are missing.
    pub fn source(&self, name: &Name) -> Result<Arc<SourceStore>> {
        let part = |place: &str| ensure(&self.home.open_dir(place)?, name.as_str());
        Ok(Arc::new(SourceStore {
            name: name.clone(),
            store_id: self.id.clone(),
            store: part(places::STORE)?,
            incoming: part(places::INCOMING)?,
            condemned: part(places::CONDEMNED)?,
            quarantine: part(places::QUARANTINE)?,
        }))
    }

    /// Gives all that is kept of a source another name, the store last; true if there is anything. Nothing moves where the
    /// new name has something in the same place. Cut anywhere, it goes on when it is called again. Whoever calls holds the
    /// locks of both.
    pub fn rename_source(&self, old: &Name, new: &Name, dry_run: bool) -> Result<bool> {
        let (mut moves, mut empty) = (Vec::new(), Vec::new());
        for place in PLACES.iter().rev() {
            let parent = self.home.open_dir(place)?;
            let Some(here) = parent.open_dir_if_any(old.as_str())? else { continue };
            match parent.open_dir_if_any(new.as_str())? {
                Some(there) if !there.names()?.is_empty() => {
                    if !here.names()?.is_empty() {
                        let why = format!("{new} has something here, and so has {old}: nothing was renamed");
                        return Err(layout(&there, why));
                    }
                    empty.push(parent);
                }
                _ => moves.push(parent),
            }
        }
        let any = !moves.is_empty() || !empty.is_empty();
        for parent in empty.iter().filter(|_| !dry_run) {
            durable::remove_empty(parent, old.as_str())?;
        }
        for parent in moves.iter().filter(|_| !dry_run) {
            if parent.open_dir_if_any(new.as_str())?.is_some() {
                durable::remove_empty(parent, new.as_str())?;
            }
            durable::rename(parent, old.as_str(), parent, new.as_str())?;
        }
        Ok(any)
    }

    /// Whether anything is kept of a source, in whatever place; nothing is made.
    pub fn holds(&self, name: &Name) -> Result<bool> {
        for place in PLACES {
            if let Some(parent) = self.home.open_dir_if_any(place)?
                && parent.open_dir_if_any(name.as_str())?.is_some()
            {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Notes durably that a source gets another name.
    pub fn note_renaming(&self, old: &Name, new: &Name) -> Result<()> {
        let note = Renaming { format: RENAMING_FORMAT, old: old.clone(), new: new.clone() };
        let text = toml::to_string(&note).map_err(|e| layout(&self.home, e.to_string()))?;
        Ok(durable::write_file(&self.home, RENAMING, text.as_bytes(), 0o600)?)
    }

    /// The source that gets another name, and that name, if one does.
    pub fn renaming(&self) -> Result<Option<(Name, Name)>> {
        let Some(bytes) = self.home.read_if_any(RENAMING, MARKER_LIMIT)? else { return Ok(None) };
        let read = toml::from_str::<Renaming>(&String::from_utf8_lossy(&bytes)).ok();
        match read.filter(|note| note.format == RENAMING_FORMAT) {
            Some(note) => Ok(Some((note.old, note.new))),
            None => {
                let why = format!(
                    "its {RENAMING} cannot be read: upgrade handover, or remove it and type `sink rename` again"
                );
                Err(layout(&self.home, why))
            }
        }
    }

    /// It has its new name, or keeps the old one. What a cut note left goes along.
    pub fn end_renaming(&self) -> Result<()> {
        for name in self.home.names()? {
            if name.as_encoded_bytes().starts_with(format!(".{RENAMING}.").as_bytes()) {
                durable::remove_file(&self.home, &name)?;
            }
        }
        Ok(durable::remove_file(&self.home, RENAMING)?)
    }

    /// Removes the folders of a source where they are empty.
    pub fn remove_if_empty(&self, name: &Name) -> Result<()> {
        for place in PLACES {
            let parent = self.home.open_dir(place)?;
            if parent.open_dir_if_any(name.as_str())?.is_some()
                && durable::remove_empty(&parent, name.as_str())?
            {
                durable::sync_dir(&parent)?;
            }
        }
        Ok(())
    }

    /// The names of the sources that have anything here, whether configured or not.
    pub fn sources(&self) -> Result<Vec<Name>> {
        let mut names = BTreeSet::new();
        for place in PLACES {
            for name in self.home.open_dir(place)?.names()? {
                names.extend(name.to_str().and_then(|text| text.parse::<Name>().ok()));
            }
        }
        Ok(names.into_iter().collect())
    }
}

/// Opens a folder, making it durably where it is missing.
fn ensure(parent: &Dir, name: &str) -> Result<Dir> {
    if let Some(dir) = parent.open_dir_if_any(name)? {
        return Ok(dir);
    }
    let dir = parent.ensure_dir(name, 0o700)?;
    durable::sync_dir(parent)?;
    Ok(dir)
}

fn read_marker(store: &Dir) -> Result<Option<Marker>> {
    let Some(bytes) = store.read_if_any(MARKER, MARKER_LIMIT)? else { return Ok(None) };
    let text = String::from_utf8_lossy(&bytes);
    let marker: Marker = toml::from_str(&text).map_err(|e| {
        layout(store, format!("its {MARKER} cannot be read: {}", show(e.message().as_bytes())))
    })?;
    if marker.format > MARKER_FORMAT {
        return Err(layout(
            store,
            format!("it has format {}, this handover knows {MARKER_FORMAT}: upgrade handover", marker.format),
        ));
    }
    Ok(Some(marker))
}

/// A generation moves through the places by rename: they must be on one file system and one mount.
fn one_file_system(home: &Dir) -> Result<()> {
    let mount = |dir: &Dir| {
        rustix::fs::statx(dir, "", rustix::fs::AtFlags::EMPTY_PATH, rustix::fs::StatxFlags::MNT_ID)
            .ok()
            .filter(|stat| stat.stx_mask & rustix::fs::StatxFlags::MNT_ID.bits() != 0)
            .map(|stat| stat.stx_mnt_id)
    };
    let store = home.open_dir(places::STORE)?;
    for place in PLACES {
        let other = home.open_dir(place)?;
        if other.stat_self()?.st_dev != store.stat_self()?.st_dev || mount(&other) != mount(&store) {
            let why = format!(
                "it must be on the same file system and mount as `{}`: mount the disk at {} instead",
                places::STORE,
                show(home.path().as_os_str().as_encoded_bytes())
            );
            return Err(layout(&other, why));
        }
    }
    Ok(())
}

fn layout(dir: &Dir, why: String) -> Error {
    Error::Layout { path: dir.path().to_path_buf(), why }
}

/// A random id in the form of a UUID, version 4.
fn uuid() -> Result<String> {
    let hex = random::hex(16)?;
    let variant = match hex.as_bytes()[16] {
        b'0' | b'4' | b'8' | b'c' => '8',
        b'1' | b'5' | b'9' | b'd' => '9',
        b'2' | b'6' | b'a' | b'e' => 'a',
        _ => 'b',
    };
    Ok(format!("{}-{}-4{}-{variant}{}-{}", &hex[..8], &hex[8..12], &hex[13..16], &hex[17..20], &hex[20..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn making_a_store_twice_leaves_its_id() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("home");
        let first = SinkStore::create(&path).unwrap().id().to_owned();
        assert_eq!(first.len(), 36);
        assert_eq!(SinkStore::create(&path).unwrap().id(), first);
        assert_eq!(SinkStore::open(&path, Some(&first)).unwrap().id(), first);
    }

    #[test]
    fn an_unmounted_disk_is_an_error_and_not_an_empty_store() {
        let home = tempfile::tempdir().unwrap();
        let open = |expected| SinkStore::open(home.path(), expected);
        assert!(matches!(open(None), Err(Error::NotMounted { .. })));
        let id = SinkStore::create(home.path()).unwrap().id().to_owned();
        assert!(matches!(open(Some("another")), Err(Error::NotMounted { found, .. }) if found == id));
        let dir = Dir::open(home.path()).unwrap();
        durable::remove_file(&dir.open_dir("store").unwrap(), MARKER).unwrap();
        let Err(Error::NotMounted { found, .. }) = open(Some(&id)) else { panic!("opened") };
        assert_eq!(found, "missing");
    }

    #[test]
    fn a_marker_of_a_newer_format_is_refused() {
        let home = tempfile::tempdir().unwrap();
        SinkStore::create(home.path()).unwrap();
        let store = Dir::open(home.path().join("store")).unwrap();
        durable::write_file(&store, MARKER, b"format = 2\nid = \"x\"\n", 0o440).unwrap();
        assert!(SinkStore::open(home.path(), None).unwrap_err().to_string().contains("upgrade"));
    }

    #[test]
    fn sources_are_listed_wherever_something_of_them_lies() {
        let home = tempfile::tempdir().unwrap();
        let store = SinkStore::create(home.path()).unwrap();
        assert!(store.sources().unwrap().is_empty());
        store.source(&"shop".parse().unwrap()).unwrap();
        let condemned = Dir::open(home.path().join("condemned")).unwrap();
        condemned.create_dir("old", 0o700).unwrap();
        let names: Vec<String> = store.sources().unwrap().into_iter().map(String::from).collect();
        assert_eq!(names, ["old", "shop"]);
    }
}
