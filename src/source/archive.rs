//! An archive: what a tree would be, as one `tar.zst`.
//!
//! The walk of [`super::tree`] decides what belongs to it. It is made into the draft in one pass: read, packed,
//! compressed, hashed. Root's cache keeps a fingerprint of all that was met, under the path of the element's folder,
//! beside the record of the archive itself: so it becomes valid with the publishing rename, as everything in the cache.
//! Where a walk meets the same again, the archive of before is linked, and no file is opened.

use std::{ffi::OsStr, path::Path, sync::Arc};

use sha2::{Digest as _, Sha256};

use super::{
    cache::Known,
    collect::{Counts, Error, FileRecord, Record, below_element},
    copier::{self, At, Shared},
    dump, linking,
    packing::Packing,
    tree::{self, Met, Remarks, Settings},
};
use crate::{
    manifest::{Digest, Entry, Kind, entry::Time},
    sys::{self, Dir, show},
};

/// Changes whenever the same files would be packed in another way: then all archives are made anew, once.
const VERSION: &[u8] = b"handover archive 1\n";

/// What an archive needs from the run.
pub struct Tools<'a> {
    /// The draft's `data/`, which holds the element's folder.
    pub data: &'a Dir,
    /// The archive of the generation before; none where it is to be made afresh.
    pub previous: Option<Previous>,
    /// Counters, room and owner of new files.
    pub shared: &'a Shared<'a>,
    /// Threads that compress.
    pub threads: u32,
    /// The time of the run.
    pub now: jiff::Timestamp,
}

/// The archive of the generation before.
#[derive(Debug)]
pub struct Previous {
    /// Where it is.
    pub at: At,
    /// What is known of it.
    pub known: Known,
    /// The fingerprint of what it was made of, if that can tell whether something changed since.
    pub fingerprint: Option<Digest>,
}

/// What was collected.
#[derive(Debug)]
pub struct Collected {
    /// For the book, in the order of the manifest.
    pub records: Vec<Record>,
    /// What the walk said.
    pub remarks: Remarks,
    /// What could not be taken, with the first of it for people.
    pub lost: Told,
    /// What kept changing.
    pub unstable: Told,
}

/// How many, and the first of them for people.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Told {
    /// How many.
    pub count: u64,
    /// The first.
    pub first: Option<String>,
}

impl Told {
    /// Counts one more.
    pub fn add(&mut self, text: impl FnOnce() -> String) {
        self.count += 1;
        self.first.get_or_insert_with(text);
    }
}

/// The name of an element's archive.
pub fn name_of(element: &OsStr) -> std::ffi::OsString {
    [element, OsStr::new(".tar.zst")].into_iter().collect()
}

/// The path of an archive in the manifest.
pub fn path_of(element: &OsStr) -> Vec<u8> {
    [element.as_encoded_bytes(), b"/", name_of(element).as_encoded_bytes()].concat()
}

/// Collects an archive: the one of before where nothing changed, else a new one. `root` is `/`, or another folder in tests.
pub fn collect(root: &Path, settings: &Settings<'_>, tools: &Tools<'_>) -> Result<Collected, Error> {
    let to = At { dir: Arc::new(tools.data.open_dir(settings.element)?), name: name_of(settings.element) };
    if let Some(previous) = &tools.previous
        && previous.fingerprint.is_some()
        && let Some(collected) = reuse(root, settings, previous, &to, tools)?
    {
        return Ok(collected);
    }
    make(root, settings, &to, tools)
}

/// The archive of before, if a walk meets what it was made of and it is still what root remembers.
fn reuse(
    root: &Path,
    settings: &Settings<'_>,
    previous: &Previous,
    to: &At,
    tools: &Tools<'_>,
) -> Result<Option<Collected>, Error> {
    let mut met = Fingerprint::default();
    let remarks = tree::tell(root, settings, &mut |what| {
        met.add(&what);
        Ok(())
    })?;
    let met = met.finish();
    if met.is_none()
        || met != previous.fingerprint
        || !linking::link_checked(previous.at.parts(), to.parts(), &previous.known, tools.shared.owner)?
    {
        return Ok(None);
    }
    let records = records(settings.element, &previous.known, met);
    Ok(Some(Collected { records, remarks, lost: Told::default(), unstable: Told::default() }))
}

fn make(root: &Path, settings: &Settings<'_>, to: &At, tools: &Tools<'_>) -> Result<Collected, Error> {
    let file = copier::new_file(to, tools.shared.owner)?;
    let mut met = Fingerprint::default();
    let mut packing = Packing::new(&file, &to.path(), tools.shared, tools.threads)?;
    let remarks = tree::tell(root, settings, &mut |what| {
        met.add(&what);
        packing.take(what)
    })?;
    let packed = packing.finish()?;
    drop(file);
    // What was lost may be there next time, and what kept changing may have changed after it was looked at.
    let fingerprint = met.finish().filter(|_| packed.lost.count == 0 && packed.unstable.count == 0);
    let before = tools.previous.as_ref().map(|p| (p.at.clone(), p.known.clone()));
    linking::link_if_same(before.as_ref(), to, packed.content.sha256, tools.shared.owner)?;
    let digest = Digest(packed.content.sha256);
    let mtime = match &before {
        Some((_, known)) if known.digest == digest => known.mtime,
        _ => dump::time(tools.now),
    };
    let known = Known {
        path: path_of(settings.element),
        device: 0,
        inode: 0,
        size: packed.content.size,
        mtime,
        ctime: Time::default(),
        settled: false,
        plain: true,
        digest,
        stored_inode: to.dir.stat(&to.name)?.st_ino,
    };
    let mut records = records(settings.element, &known, fingerprint);
    if let Some(first) = &packed.lost.first {
        records.push(Record::Failed { path: known.path, why: format!("without {first}") });
    }
    Ok(Collected { records, remarks, lost: packed.lost, unstable: packed.unstable })
}

/// The element's folder, the fingerprint for the cache, and the archive.
fn records(element: &OsStr, known: &Known, fingerprint: Option<Digest>) -> Vec<Record> {
    let folder = dump::folder_of(element, known.mtime);
    let fingerprint = fingerprint.map(|digest| {
        let path = element.as_encoded_bytes().to_vec();
        Record::Remember(Box::new(Known { path, digest, settled: true, ..known.clone() }))
    });
    let file = FileRecord {
        mode: 0o600,
        uid: sys::users::euid(),
        gid: sys::users::egid(),
        links: None,
        attributes: Vec::new(),
        unstable: false,
        known: known.clone(),
    };
    [Some(folder), fingerprint, Some(Record::File(Box::new(file)))].into_iter().flatten().collect()
}

impl Collected {
    /// Adds what an archive counts beyond its records. A failure is told once in the manifest, and counted as often as it was met.
    pub fn count(&self, counts: &mut Counts) {
        counts.failed += self.lost.count.saturating_sub(1);
        counts.unstable += self.unstable.count;
        if let Some(first) = &self.unstable.first {
            counts.first_unstable.get_or_insert_with(|| first.clone());
        }
    }
}

/// All that a walk met, as one number: content is not read, but anything that changes content changes it.
struct Fingerprint {
    hasher: Sha256,
    settled: bool,
}

impl Default for Fingerprint {
    fn default() -> Self {
        Self { hasher: Sha256::new_with_prefix(VERSION), settled: true }
    }
}

impl Fingerprint {
    fn add(&mut self, what: &Met<'_>) {
        match what {
            Met::File { path, stat, synced, .. } => {
                self.bytes(b'f', path);
                let (mtime, ctime) = (copier::mtime(stat), copier::ctime(stat));
                let owner = u64::from(stat.st_uid) << 32 | u64::from(stat.st_gid);
                let mode = u64::from(stat.st_mode) << 32 | u64::from(stat.st_nlink > 1);
                let size = u64::try_from(stat.st_size).unwrap_or(0);
                self.numbers(&[stat.st_dev, stat.st_ino, size, owner, mode]);
                self.time(mtime);
                self.time(ctime);
                self.settled &= copier::settled(mtime, *synced) && copier::settled(ctime, *synced);
            }
            // Whatever else goes on in a folder above changes its time, and is not part of the element.
            Met::Way(entry, attributes) => self.entry(b'w', entry, attributes),
            Met::Entry(entry, attributes) => {
                self.entry(b'e', entry, attributes);
                self.time(entry.mtime);
            }
            Met::Outside(Record::Socket(_)) => {}
            // What could not be read may be readable next time.
            Met::Outside(_) => self.settled = false,
        }
    }

    fn entry(&mut self, tag: u8, entry: &Entry, attributes: &[sys::xattr::Attribute]) {
        self.bytes(tag, &entry.path);
        self.numbers(&[u64::from(entry.mode), u64::from(entry.uid), u64::from(entry.gid)]);
        match &entry.kind {
            Kind::Dir => self.bytes(b'd', b""),
            Kind::Link { target } => self.bytes(b'l', target),
            Kind::Fifo => self.bytes(b'p', b""),
            Kind::Char { major, minor } => self.device(b'c', *major, *minor),
            Kind::Block { major, minor } => self.device(b'b', *major, *minor),
            Kind::File { .. } => self.settled = false, // A walk tells of files in another way.
        }
        self.numbers(&[attributes.len() as u64]);
        for (name, value) in attributes {
            self.bytes(b'n', name);
            self.bytes(b'v', value);
        }
    }

    fn device(&mut self, tag: u8, major: u32, minor: u32) {
        self.bytes(tag, b"");
        self.numbers(&[u64::from(major), u64::from(minor)]);
    }

    fn bytes(&mut self, tag: u8, bytes: &[u8]) {
        self.hasher.update([tag]);
        self.numbers(&[bytes.len() as u64]);
        self.hasher.update(bytes);
    }

    fn numbers(&mut self, numbers: &[u64]) {
        numbers.iter().for_each(|number| self.hasher.update(number.to_le_bytes()));
    }

    fn time(&mut self, time: Time) {
        self.hasher.update(time.seconds.to_le_bytes());
        self.hasher.update(time.nanoseconds.to_le_bytes());
    }

    /// The fingerprint, unless something could change later and leave it as it is.
    fn finish(self) -> Option<Digest> {
        self.settled.then(|| Digest(self.hasher.finalize().into()))
    }
}

/// A path for people, as it is on the source.
pub(super) fn shown(path: &[u8]) -> String {
    format!("/{}", show(below_element(path)))
}
