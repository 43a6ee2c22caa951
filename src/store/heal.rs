//! Putting back what is damaged in a stored generation, from another one that holds the same content whole, or from a
//! copy of it in another folder.
//!
//! A file is one rename: a good inode, hashed just before, lies under a name that the next run would remove, and is
//! exchanged with what is there. Seal and manifest stay as they are, so what was healed is what was sealed.

use std::{collections::HashMap, ffi::OsStr, fs::File, os::unix::ffi::OsStrExt as _};

use jiff::Timestamp;

use super::{
    Result, SourceStore,
    prove::{Effort, FILE_MODE, Job, NEVER, Wrong, fault_of_file, look},
    source_store::DELETING,
    staging::FOLDER_MODE,
    verify::VerifyReport,
    walk::Cursor,
};
use crate::{
    manifest::{Digest, GenerationId, Item, Kind, entry::stored_path, names},
    sys::{
        Dir,
        copy::{CopyError, hash_and_copy},
        durable, signals, stamp,
    },
};

/// Below a folder that is searched for copies, generations lie no deeper: `store/<source>/<id>` of a sink's home.
const DEPTH: u32 = 3;

/// A content file that is damaged, and what it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missing {
    /// Its stored path, below `data/`.
    pub path: Vec<u8>,
    /// Bytes that it should have.
    pub size: u64,
    digest: Digest,
}

/// A generation that is being healed. [`SourceStore::heal_end`] tells what became of it.
#[derive(Debug)]
#[must_use = "what was put back is not proven before the end"]
pub struct Healing {
    id: GenerationId,
    files: u64,
    report: VerifyReport,
    missing: Vec<Missing>,
    /// Only counted, and nothing is changed.
    dry: bool,
}

/// What became of the damage.
#[derive(Debug, Default)]
pub struct Healed {
    /// Files that were put back.
    pub files: u64,
    /// What a whole reading found afterwards.
    pub report: VerifyReport,
}

impl Healing {
    /// The generation.
    pub fn id(&self) -> &GenerationId {
        &self.id
    }

    /// What is damaged and was not put back yet, in the order of the paths.
    pub fn missing(&self) -> &[Missing] {
        &self.missing
    }
}

impl SourceStore {
    /// Verifies a stored generation ([`Self::verify`]), and puts back each damaged content file that another stored
    /// generation of this source holds whole. Its own files (manifest, receipt) are not content, and are not healed.
    /// Whoever calls it holds the source's lock; cut at any point, it is simply done again.
    pub fn heal(&self, id: &GenerationId, now: Timestamp, effort: &Effort) -> Result<Healing> {
        let verified = self.verify_naming(id, now, effort)?;
        self.heal_what(id, verified, effort, false)
    }

    /// What [`Self::heal`] would do, with nothing written, not even what was found: of the result only the number of files
    /// and what is missing count.
    pub fn heal_plan(&self, id: &GenerationId, now: Timestamp, effort: &Effort) -> Result<Healing> {
        let verified = self.examine(id, now, effort)?;
        self.heal_what(id, verified, effort, true)
    }

    fn heal_what(
        &self,
        id: &GenerationId,
        (report, wrong): (VerifyReport, Vec<Wrong>),
        effort: &Effort,
        dry: bool,
    ) -> Result<Healing> {
        let mut healing = Healing { id: id.clone(), files: 0, report, missing: Vec::new(), dry };
        if healing.report.own.is_empty() && !wrong.is_empty() {
            let damaged = wrong.into_iter().map(|wrong| wrong.job).collect();
            (healing.files, healing.missing) = self.put_back(id, damaged, effort, dry)?;
        }
        Ok(healing)
    }

    /// Puts back from a folder what is still missing: it is a generation, or generations lie below it, as in a copy of the
    /// home or the store of a sink or of a source. What has the right sha256 under the same path is copied; nothing else
    /// about that folder is believed, and no link in it is followed.
    /// How many generations were found there.
    pub fn heal_from(&self, healing: &mut Healing, folder: &Dir, effort: &Effort) -> Result<u64> {
        let mut found = 0;
        each_data(folder, DEPTH, &mut |data| {
            found += 1;
            self.heal_from_data(healing, data, effort)
        })?;
        Ok(found)
    }

    /// The same from one folder in which the files lie under their stored paths.
    pub fn heal_from_data(&self, healing: &mut Healing, data: &Dir, effort: &Effort) -> Result<()> {
        if healing.missing.is_empty() {
            return Ok(());
        }
        let mut from = Cursor::new(data)?;
        if healing.dry {
            for missing in std::mem::take(&mut healing.missing) {
                if is_there(&mut from, &missing, effort)? {
                    healing.files += 1;
                } else {
                    healing.missing.push(missing);
                }
            }
            return Ok(());
        }
        let mut into = Cursor::making(&self.open(&healing.id)?.open_dir(names::DATA)?, FOLDER_MODE)?;
        for missing in std::mem::take(&mut healing.missing) {
            if self.copied(&mut from, &missing, effort)? {
                self.exchange_for(&mut into, &missing.path)?;
                healing.files += 1;
            } else {
                healing.missing.push(missing);
            }
        }
        Ok(())
    }

    /// A private folder in which content can be fetched for [`Self::heal_from_data`]: empty, and removed by
    /// [`Self::heal_end`], or, after a cut, by the next run.
    pub fn heal_folder(&self) -> Result<Dir> {
        let name = fetched_name();
        durable::remove_tree(&self.incoming, OsStr::from_bytes(&name))?;
        Ok(self.incoming.create_private(OsStr::from_bytes(&name))?)
    }

    /// Verifies again what was healed.
    pub fn heal_end(&self, healing: Healing, now: Timestamp, effort: &Effort) -> Result<Healed> {
        let Healing { id, files, report, dry, .. } = healing;
        if dry {
            return Ok(Healed { files, report });
        }
        for name in [fetched_name(), draft_name()] {
            durable::remove_tree(&self.incoming, OsStr::from_bytes(&name))?;
        }
        Ok(Healed { files, report: if files > 0 { self.verify(&id, now, effort)? } else { report } })
    }

    /// Puts back what another generation has, the newest first. How many files, and what none has.
    fn put_back(
        &self,
        id: &GenerationId,
        damaged: Vec<Job>,
        effort: &Effort,
        dry: bool,
    ) -> Result<(u64, Vec<Missing>)> {
        let mut wanted: HashMap<Digest, Vec<Missing>> = HashMap::new();
        for Job { path, size, digest, .. } in damaged {
            wanted.entry(digest).or_default().push(Missing { path, size, digest });
        }
        let data = self.open(id)?.open_dir(names::DATA)?;
        let mut into = if dry { Cursor::new(&data)? } else { Cursor::making(&data, FOLDER_MODE)? };
        let mut files = 0;
        for other in self.stored()?.0.iter().rev().filter(|other| other.id() != id) {
            if wanted.is_empty() {
                break;
            }
            // A generation that lost its data or its manifest helps nobody, and keeps nobody from being helped by others.
            let Some(data) = self.open(other.id())?.open_dir_if_any(names::DATA)? else { continue };
            let mut from = Cursor::new(&data)?;
            let Ok(items) = self.manifest(other.id()) else { continue };
            for item in items {
                signals::check()?;
                let Ok(item) = item else { break };
                let Item::Entry(entry) = item else { continue };
                let Kind::File { digest, .. } = entry.kind else { continue };
                if !wanted.contains_key(&digest) {
                    continue;
                }
                let path = stored_path(&entry.path);
                let good = match from.parent(&path) {
                    Ok((folder, name)) if holds(folder, name, digest, effort)? => (folder, name),
                    _ => continue,
                };
                for missing in wanted.remove(&digest).unwrap_or_default() {
                    if dry {
                        files += 1;
                        continue;
                    }
                    let draft = self.no_draft()?;
                    good.0.link(good.1, &self.incoming, OsStr::from_bytes(&draft))?;
                    self.exchange_for(&mut into, &missing.path)?;
                    files += 1;
                }
            }
        }
        let mut left: Vec<Missing> = wanted.into_values().flatten().collect();
        left.sort_by(|a, b| a.path.cmp(&b.path));
        Ok((files, left))
    }

    /// The name of the draft, which is free then.
    fn no_draft(&self) -> Result<Vec<u8>> {
        let draft = draft_name();
        durable::remove_tree(&self.incoming, OsStr::from_bytes(&draft))?;
        Ok(draft)
    }

    /// Copies a file to the draft, if it is what is missing: a new inode that nobody else can have open. What cannot be
    /// read or is something else is no help, and no failure.
    fn copied(&self, from: &mut Cursor, missing: &Missing, effort: &Effort) -> Result<bool> {
        let Some((file, path)) = open_regular(from, missing) else { return Ok(false) };
        let name = self.no_draft()?;
        let draft = self.incoming.create_file(OsStr::from_bytes(&name), 0o600)?;
        let (mut read, mut grown) = (0_u64, false);
        // It may grow while it is read, for ever.
        let mut seen = |bytes| {
            read = read.saturating_add(bytes);
            grown |= read > missing.size;
            (effort.progress)(bytes);
            if grown { Err(signals::Interrupted) } else { signals::check() }
        };
        match hash_and_copy(&file, Some(&draft), &path, &mut seen) {
            Ok(content) if content.sha256 == missing.digest.0 && content.size == missing.size => {}
            Err(CopyError::Interrupted(e)) if !grown => return Err(e.into()),
            Err(CopyError::Write(e)) => return Err(e.into()),
            Ok(_) | Err(CopyError::Read(_) | CopyError::Interrupted(_)) => return Ok(false),
        }
        let path = self.incoming.join(OsStr::from_bytes(&name));
        stamp::set_mode(&draft, &path, FILE_MODE)?;
        stamp::set_mtime(&draft, &path, NEVER)?;
        durable::sync_file(&draft, &path)?;
        Ok(true)
    }

    /// Puts the draft where a damaged file lies, in one step; the damaged one loses its name.
    fn exchange_for(&self, into: &mut Cursor, path: &[u8]) -> Result<()> {
        let draft = draft_name();
        let draft = OsStr::from_bytes(&draft);
        let (folder, name) = into.parent(path)?;
        if folder.stat_if_any(name)?.is_some() {
            durable::exchange(&self.incoming, draft, folder, name)?;
            durable::remove_tree(&self.incoming, draft)?;
        } else {
            durable::rename(&self.incoming, draft, folder, name)?;
        }
        Ok(())
    }
}

fn draft_name() -> Vec<u8> {
    [DELETING.as_bytes(), b"healing"].concat()
}

fn fetched_name() -> Vec<u8> {
    [DELETING.as_bytes(), b"fetched"].concat()
}

/// Comes to the `data/` of every generation below a folder, so many folders deep. What cannot be opened is passed over.
fn each_data(folder: &Dir, depth: u32, visit: &mut dyn FnMut(&Dir) -> Result<()>) -> Result<()> {
    signals::check()?;
    if folder.stat(names::GENERATION).is_ok()
        && let Ok(data) = folder.open_dir(names::DATA)
    {
        return visit(&data);
    }
    if depth == 0 {
        return Ok(());
    }
    let Ok(names) = folder.names() else { return Ok(()) };
    for name in names {
        if let Ok(inner) = folder.open_dir(&name) {
            each_data(&inner, depth - 1, visit)?;
        }
    }
    Ok(())
}

/// A file of the right size where the missing one should lie, and its path for messages.
fn open_regular(from: &mut Cursor, missing: &Missing) -> Option<(File, std::path::PathBuf)> {
    let (folder, name) = from.parent(&missing.path).ok()?;
    // Opening a device may have effects, so anything but a file is not opened at all.
    look(&folder.stat(name).ok()?, missing.size).ok()?;
    let (file, path) = (folder.open_file(name).ok()?, folder.join(name));
    look(&stamp::stat(&file, &path).ok()?, missing.size).ok()?;
    Some((file, path))
}

/// Whether a copy has what is missing.
fn is_there(from: &mut Cursor, missing: &Missing, effort: &Effort) -> Result<bool> {
    let Some((file, path)) = open_regular(from, missing) else { return Ok(false) };
    let mut seen = |bytes| {
        (effort.progress)(bytes);
        signals::check()
    };
    match hash_and_copy(&file, None, &path, &mut seen) {
        Ok(content) => Ok(content.sha256 == missing.digest.0 && content.size == missing.size),
        Err(CopyError::Interrupted(e)) => Err(e.into()),
        Err(CopyError::Read(_) | CopyError::Write(_)) => Ok(false),
    }
}

/// Whether a file is there with this content, and is one of a store: what cannot be read is as good as not there.
fn holds(folder: &Dir, name: &OsStr, digest: Digest, effort: &Effort) -> Result<bool> {
    let mut seen = |bytes| {
        (effort.progress)(bytes);
        signals::check()
    };
    let hashed = folder
        .open_file(name)
        .map_err(CopyError::Read)
        .and_then(|file| hash_and_copy(&file, None, &folder.join(name), &mut seen));
    match hashed {
        Ok(content) => {
            let mode = folder.stat(name)?.st_mode & 0o7777;
            Ok(content.sha256 == digest.0 && mode == FILE_MODE)
        }
        Err(CopyError::Interrupted(e)) => Err(e.into()),
        Err(CopyError::Read(e) | CopyError::Write(e)) => fault_of_file(e).map(|_| false),
    }
}
