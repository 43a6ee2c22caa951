//! What goes, why, and how it comes back: a rename into `condemned/`, undone by a rename back until `undo_for` is over.

use std::{
    collections::BTreeSet,
    ffi::{OsStr, OsString},
    os::unix::ffi::OsStrExt as _,
    time::Duration,
};

use jiff::Timestamp;

use super::{
    HandoverPoint, Listing, Place, StoredHere, accept, bear,
    decide::surplus,
    deltas,
    hold::{Changing, is_read},
    id_of, owned, receipt_in,
    recover::sweep,
    reject::elements_ok,
};
use crate::{
    manifest::{Channel, GenerationId, Receipt, names, receipt::Verify},
    store::{
        Error, Found, Result,
        note::{CONDEMNED_NOTE, Note},
        retention::{self, Candidate, Decision, Policy},
    },
    sys::{Dir, durable, signals},
};

/// A deletion that has begun; what bears such a name is no generation any more.
const DELETING: &str = ".deleting-";

/// A generation that can still be taken back.
#[derive(Debug)]
pub struct Condemned {
    /// The generation.
    pub found: Found,
    /// When and why; none if it was put there by hand, and then `undo_for` begins at the next purge.
    pub note: Option<Note>,
    /// The sink's word, if it had been accepted.
    pub receipt: Option<Receipt>,
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
        Listing::of(&self.condemned, |found, dir| {
            Ok(Condemned { note: Note::read(dir)?, receipt: receipt_in(dir, &found)?, found })
        })
    }

    /// Retention on the source: of what is accepted the newest `keep` stay, and what retention protects. What somebody
    /// reads goes the next time.
    pub fn prune(&self, keep: u32, now: Timestamp) -> Result<Listing<Gone>> {
        let changing = self.changing()?;
        let stored = self.list_stored(&changing)?.items;
        let mut gone = Listing::default();
        for (index, why) in surplus(&accepted(&stored), keep, now) {
            self.condemn_unread(
                &self.store,
                &stored[index].found,
                &Note::new(&why, now),
                &changing,
                &mut gone,
            )?;
        }
        Ok(gone)
    }

    /// What retention says of every generation in the Source-Store, with its reasons.
    pub fn verdicts(&self, keep: u32, now: Timestamp) -> Result<Vec<Decision>> {
        let policy = Policy { last: keep, ..Policy::default() };
        Ok(retention::decide(&accepted(&self.stored()?.items), &policy, now))
    }

    /// A full Handover Point: the eldest waiting ones go until `max_waiting` wait. Never the newest, never the newest
    /// that holds a good copy of an element, never what somebody reads, and never logs, which nothing collects again.
    /// Rejected ones neither count nor go: [`Self::clear_rejected`] is for them. Call it after sealing.
    pub fn drop_eldest_waiting(&self, max_waiting: u32, now: Timestamp) -> Result<Listing<Gone>> {
        let changing = self.changing()?;
        let mut waiting = self.list_waiting(&changing)?.items;
        waiting.retain(|w| w.found.generation.channel == Channel::Data && w.rejected.is_none());
        let candidates = candidates(waiting.iter().map(|w| &w.found), |_| false);
        let mut gone = Listing::default();
        for (index, _) in surplus(&candidates, max_waiting, now) {
            let why = format!("never fetched: more than {max_waiting} were waiting");
            self.condemn_unread(
                &self.outgoing,
                &waiting[index].found,
                &Note::new(&why, now),
                &changing,
                &mut gone,
            )?;
        }
        Ok(gone)
    }

    /// Condemns one of several unless somebody reads it; what is wrong with it stops nothing.
    fn condemn_unread(
        &self,
        from: &Dir,
        found: &Found,
        note: &Note,
        changing: &Changing,
        gone: &mut Listing<Gone>,
    ) -> Result<()> {
        let id = found.id();
        let condemned = from.open_dir(id).map_err(Error::from).and_then(|dir| {
            let free = !is_read(&dir)?;
            if free {
                self.condemn(from, found, &note.why, note.at, changing).map(|()| true)
            } else {
                Ok(false)
            }
        });
        if bear(condemned, id.as_ref(), &mut gone.strange)? == Some(true) {
            gone.items.push(Gone { id: id.clone(), why: note.why.clone() });
        }
        Ok(())
    }

    /// Whether giving a waiting generation up would lose something: no younger one here, waiting or accepted, holds a good
    /// copy of each element that is good in it. Logs are in no other generation. `None` if it does not wait.
    pub fn is_only_copy(&self, id: &GenerationId) -> Result<Option<bool>> {
        let changing = self.changing()?;
        let waiting = self.list_waiting(&changing)?.items;
        let Some(at) = waiting.iter().position(|w| w.found.id() == id) else { return Ok(None) };
        let one = &waiting[at].found;
        if one.generation.channel == Channel::Logs {
            return Ok(Some(true));
        }
        let stored = self.list_stored(&changing)?.items;
        let younger = waiting[at + 1..].iter().filter(|w| w.rejected.is_none()).map(|w| &w.found);
        let accepted = stored.iter().map(|s| &s.found);
        let accepted = accepted.filter(|s| {
            s.generation.lineage == one.generation.lineage && s.generation.sequence > one.generation.sequence
        });
        let held: BTreeSet<_> = younger.chain(accepted).flat_map(elements_ok).collect();
        Ok(Some(!elements_ok(one).is_subset(&held)))
    }

    /// Gives up a generation that waits and will never be fetched: it is condemned, and can be taken back. False if
    /// somebody reads it now, or it does not wait.
    pub fn discard(&self, id: &GenerationId, why: &str, now: Timestamp) -> Result<bool> {
        let changing = self.changing()?;
        let Some(dir) = self.outgoing.open_dir_if_any(id)? else { return Ok(false) };
        if is_read(&dir)? {
            return Ok(false);
        }
        self.condemn(&self.outgoing, &Found::load(&dir, id)?, why, now, &changing)?;
        Ok(true)
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
        let (id, dir) = (found.id(), from.open_dir(found.id())?);
        sweep(&dir)?;
        deltas::remove(&dir)?;
        self.write_note(&dir, why, now)?;
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
        let text = Note::new(why, now).to_text(dir)?;
        Ok(owned::write(dir, CONDEMNED_NOTE, text.as_bytes(), 0o440, self.new_file_owner())?)
    }

    /// Deletes what was condemned longer than `undo_for` ago and nobody reads. A deletion begins with a rename to a name
    /// that is no generation's, so that one that was cut off is finished later and never taken for a generation. Where
    /// the note is missing or from the future, the time to undo begins now. What is wrong with one stops nothing.
    pub fn purge_condemned(&self, undo_for: Duration, now: Timestamp) -> Result<Listing<GenerationId>> {
        let mut purged = Listing::default();
        {
            let _changing = self.changing()?;
            for name in self.condemned.names()? {
                let Some(id) = id_of(&name) else { continue };
                let begun = self.purge_one(&id, undo_for, now);
                if bear(begun, &name, &mut purged.strange)? == Some(true) {
                    purged.items.push(id);
                }
            }
        }
        purged.strange.extend(self.finish_deletions()?.strange);
        Ok(purged)
    }

    /// Whether its deletion has begun.
    fn purge_one(&self, id: &GenerationId, undo_for: Duration, now: Timestamp) -> Result<bool> {
        let dir = self.condemned.open_dir(id)?;
        let at = Note::read(&dir)?.map(|note| note.at);
        match at.filter(|at| *at <= now) {
            None => self.write_note(&dir, "unknown: found in condemned/", now).map(|()| false),
            Some(at) if retention::undo_is_over(at, undo_for, now) && !is_read(&dir)? => {
                self.begin_deletion(id).map(|()| true)
            }
            Some(_) => Ok(false),
        }
    }

    fn begin_deletion(&self, id: &GenerationId) -> Result<()> {
        let name = deleting(id.as_ref());
        // Left by a deletion that was cut off, of an earlier copy.
        durable::remove_tree(&self.condemned, &name)?;
        Ok(durable::rename(&self.condemned, id, &self.condemned, &name)?)
    }

    /// Deletes whatever a deletion has begun with; takes no lock, as nothing else looks at those names.
    pub(super) fn finish_deletions(&self) -> Result<Listing<OsString>> {
        let mut finished = Listing::default();
        for name in self.condemned.names()? {
            if let Some(was) = name.as_bytes().strip_prefix(DELETING.as_bytes()) {
                signals::check()?;
                let removed = durable::remove_tree(&self.condemned, &name).map_err(Error::from);
                if bear(removed, &name, &mut finished.strange)?.is_some() {
                    finished.items.push(OsStr::from_bytes(was).to_owned());
                }
            }
        }
        Ok(finished)
    }

    /// Where a condemned generation would come back to; `None` if it is not condemned.
    pub fn undo_place(&self, id: &GenerationId) -> Result<Option<Place>> {
        let Some(dir) = self.condemned.open_dir_if_any(id)? else { return Ok(None) };
        let accepted = dir.stat_if_any(names::RECEIPT)?.is_some();
        Ok(Some(match Found::load(&dir, id)?.generation.channel {
            Channel::Data if accepted => Place::Stored,
            Channel::Data | Channel::Logs => Place::Waiting,
        }))
    }

    /// Takes a condemned generation back to where it was: one with a receipt to the Source-Store, one without to the
    /// Handover Point. Logs are offered again, and their receipt is dropped for it. `None` if it is not condemned.
    pub fn undo(&self, id: &GenerationId) -> Result<Option<Place>> {
        let _changing = self.changing()?;
        let Some(place) = self.undo_place(id)? else { return Ok(None) };
        let dir = self.condemned.open_dir(id)?;
        if Found::load(&dir, id)?.generation.channel == Channel::Logs {
            durable::remove_file(&self.store, accept::receipt_name(id))?;
            durable::remove_file(&dir, names::RECEIPT)?;
        }
        let to = if place == Place::Stored { &self.store } else { &self.outgoing };
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

/// The Source-Store as retention sees it.
fn accepted(stored: &[StoredHere]) -> Vec<Candidate> {
    let verified: BTreeSet<&GenerationId> = stored
        .iter()
        .filter(|s| s.receipt.as_ref().is_some_and(|r| r.verify != Verify::None))
        .map(|s| s.found.id())
        .collect();
    candidates(stored.iter().map(|s| &s.found), |found| verified.contains(found.id()))
}
