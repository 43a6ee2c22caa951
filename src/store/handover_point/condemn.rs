//! What goes, why, and how it comes back: a rename into `condemned/`, undone by a rename back until `undo_for` is over.

use std::{
    collections::BTreeSet,
    ffi::{OsStr, OsString},
    os::unix::ffi::OsStrExt as _,
    time::Duration,
};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{
    HandoverPoint, Listing, Place, accept,
    decide::surplus,
    hold::{Changing, is_read},
    id_of, owned,
    reject::elements_ok,
};
use crate::{
    manifest::{Channel, GenerationId, names, receipt::Verify},
    store::{
        Error, Found, Result,
        retention::{self, Candidate},
    },
    sys::{Dir, durable, signals},
};

/// The note in a condemned generation's folder: beside the sealed files, outside the seal.
pub const CONDEMNED_NOTE: &str = "condemned.toml";
/// A deletion that has begun; what bears such a name is no generation any more.
const DELETING: &str = ".deleting-";
const LIMIT: u64 = 4096;

/// When and why a generation was condemned: written into its folder before the move, so that it goes where the folder
/// goes, a provider's copy included.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Note {
    /// Version of this note: 1.
    pub format: u32,
    /// When, by this host's clock.
    pub at: Timestamp,
    /// Why, for people.
    pub why: String,
}

/// A generation that can still be taken back.
#[derive(Debug)]
pub struct Condemned {
    /// The generation.
    pub found: Found,
    /// When and why; none if it was put there by hand, and then `undo_for` begins at the next purge.
    pub note: Option<Note>,
}

/// A generation that was condemned now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gone {
    /// Which.
    pub id: GenerationId,
    /// Why, for people.
    pub why: String,
}

impl HandoverPoint {
    /// What can be taken back.
    pub fn condemned(&self) -> Result<Listing<Condemned>> {
        let _changing = self.changing()?;
        let (found, strange) = Found::list(&self.condemned)?;
        let look = |found: Found| {
            let note = read_note(&self.condemned.open_dir(found.id())?)?;
            Ok(Condemned { found, note })
        };
        Ok(Listing { items: found.into_iter().map(look).collect::<Result<_>>()?, strange })
    }

    /// Retention on the source: of what is accepted the newest `keep` stay, and what retention protects. What somebody
    /// reads goes the next time.
    pub fn prune(&self, keep: u32, now: Timestamp) -> Result<Vec<Gone>> {
        let changing = self.changing()?;
        let stored = self.list_stored(&changing)?.items;
        let verified: BTreeSet<&GenerationId> = stored
            .iter()
            .filter(|s| s.receipt.as_ref().is_some_and(|r| r.verify != Verify::None))
            .map(|s| s.found.id())
            .collect();
        let candidates = candidates(stored.iter().map(|s| &s.found), |found| verified.contains(found.id()));
        let mut gone = Vec::new();
        for (index, why) in surplus(&candidates, keep, now) {
            let found = &stored[index].found;
            if !is_read(&self.store.open_dir(found.id())?)? {
                self.condemn(&self.store, found, &why, now, &changing)?;
                gone.push(Gone { id: found.id().clone(), why });
            }
        }
        Ok(gone)
    }

    /// A full Handover Point: the eldest waiting ones go until `max_waiting` wait. Never the newest, never the newest
    /// that holds a good copy of an element, never what somebody reads, and never logs, which nothing collects again.
    /// Rejected ones neither count nor go: [`Self::clear_rejected`] is for them. Call it after sealing.
    pub fn drop_eldest_waiting(&self, max_waiting: u32, now: Timestamp) -> Result<Vec<Gone>> {
        let changing = self.changing()?;
        let mut waiting = self.list_waiting(&changing)?.items;
        waiting.retain(|w| w.found.generation.channel == Channel::Data && w.rejected.is_none());
        let candidates = candidates(waiting.iter().map(|w| &w.found), |_| false);
        let mut gone = Vec::new();
        for (index, _) in surplus(&candidates, max_waiting, now) {
            let one = &waiting[index];
            if !one.reading {
                let why = format!("never fetched: more than {max_waiting} were waiting");
                self.condemn(&self.outgoing, &one.found, &why, now, &changing)?;
                gone.push(Gone { id: one.found.id().clone(), why });
            }
        }
        Ok(gone)
    }

    /// Notes why, then moves a generation to `condemned/`. A folder of that name there can only be an older copy of the
    /// same generation (a provider's copy brought it back): it makes way.
    pub(super) fn condemn(
        &self,
        from: &Dir,
        found: &Found,
        why: &str,
        now: Timestamp,
        _: &Changing,
    ) -> Result<()> {
        let id = found.id();
        self.write_note(&from.open_dir(id)?, why, now)?;
        if let Some(there) = self.condemned.open_dir_if_any(id)? {
            match Found::load(&there, id) {
                Ok(other) if other.seal != found.seal => return Err(Error::OtherSeal { id: id.clone() }),
                Err(Error::Sys(e)) if e.is_storage() => return Err(e.into()),
                Ok(_) | Err(_) => self.begin_deletion(id)?,
            }
        }
        Ok(durable::rename(from, id, &self.condemned, id)?)
    }

    fn write_note(&self, dir: &Dir, why: &str, now: Timestamp) -> Result<()> {
        let note = Note { format: 1, at: now, why: why.to_owned() };
        let text = toml::to_string(&note).map_err(|e| Error::Damaged {
            path: dir.path().to_path_buf(),
            why: format!("{CONDEMNED_NOTE} cannot be written down: {e}"),
        })?;
        Ok(owned::write(dir, CONDEMNED_NOTE, text.as_bytes(), 0o440, self.new_file_owner())?)
    }

    /// Deletes what was condemned longer than `undo_for` ago and nobody reads. A deletion begins with a rename to a name
    /// that is no generation's, so that one that was cut off is finished later and never taken for a generation. Where
    /// the note is missing or from the future, the time to undo begins now.
    pub fn purge_condemned(&self, undo_for: Duration, now: Timestamp) -> Result<Vec<GenerationId>> {
        let mut purged = Vec::new();
        {
            let _changing = self.changing()?;
            for name in self.condemned.names()? {
                let Some(id) = id_of(&name) else { continue };
                // What is no folder is strange, and told where this place is listed.
                let Ok(dir) = self.condemned.open_dir(&id) else { continue };
                let at = read_note(&dir)?.map(|note| note.at);
                match at.filter(|at| *at <= now) {
                    None => self.write_note(&dir, "unknown: found in condemned/", now)?,
                    Some(at) if retention::undo_is_over(at, undo_for, now) && !is_read(&dir)? => {
                        self.begin_deletion(&id)?;
                        purged.push(id);
                    }
                    Some(_) => {}
                }
            }
        }
        self.finish_deletions()?;
        Ok(purged)
    }

    fn begin_deletion(&self, id: &GenerationId) -> Result<()> {
        let name = deleting(id.as_ref());
        // Left by a deletion that was cut off, of an earlier copy.
        durable::remove_tree(&self.condemned, &name)?;
        Ok(durable::rename(&self.condemned, id, &self.condemned, &name)?)
    }

    /// Deletes whatever a deletion has begun with; takes no lock, as nothing else looks at those names.
    pub(super) fn finish_deletions(&self) -> Result<Vec<OsString>> {
        let mut finished = Vec::new();
        for name in self.condemned.names()? {
            if let Some(was) = name.as_bytes().strip_prefix(DELETING.as_bytes()) {
                signals::check()?;
                durable::remove_tree(&self.condemned, &name)?;
                finished.push(OsStr::from_bytes(was).to_owned());
            }
        }
        Ok(finished)
    }

    /// Takes a condemned generation back to where it was: one with a receipt to the Source-Store, one without to the
    /// Handover Point. Logs are offered again, and their receipt is dropped for it. `None` if it is not condemned.
    pub fn undo(&self, id: &GenerationId) -> Result<Option<Place>> {
        let _changing = self.changing()?;
        let Some(dir) = self.condemned.open_dir_if_any(id)? else { return Ok(None) };
        let found = Found::load(&dir, id)?;
        let accepted = dir.stat_if_any(names::RECEIPT)?.is_some();
        if found.generation.channel == Channel::Logs {
            durable::remove_file(&self.store, accept::receipt_name(id))?;
            durable::remove_file(&dir, names::RECEIPT)?;
        }
        let (place, to) = match found.generation.channel {
            Channel::Data if accepted => (Place::Stored, &self.store),
            Channel::Data | Channel::Logs => (Place::Waiting, &self.outgoing),
        };
        durable::rename(&self.condemned, id, to, id)?;
        // A note that stays behind here says nothing, as the place is the state; recovery takes it away.
        durable::remove_file(&to.open_dir(id)?, CONDEMNED_NOTE)?;
        Ok(Some(place))
    }
}

pub(super) fn deleting(name: &OsStr) -> OsString {
    let mut deleting = OsString::from(DELETING);
    deleting.push(name);
    deleting
}

fn read_note(dir: &Dir) -> Result<Option<Note>> {
    let bytes = match dir.read_if_any(CONDEMNED_NOTE, LIMIT) {
        Err(e) if e.is_storage() => return Err(e.into()),
        other => other.ok().flatten(),
    };
    let text = bytes.and_then(|b| String::from_utf8(b).ok());
    Ok(text.and_then(|t| toml::from_str::<Note>(&t).ok()).filter(|note| note.format == 1))
}

/// The generations of a folder, in their order, for retention: the order of the list is the sequence here, as it also
/// says where a rebuilt host's counter began anew.
fn candidates<'a>(
    found: impl Iterator<Item = &'a Found>,
    verified: impl Fn(&Found) -> bool,
) -> Vec<Candidate> {
    let candidate = |(index, found): (usize, &Found)| Candidate {
        id: found.id().clone(),
        sequence: index as u64,
        stored: found.generation.finished,
        whole: true,
        verified: verified(found),
        elements_ok: elements_ok(found),
        pinned: false,
        drilled: false,
    };
    found.enumerate().map(candidate).collect()
}
