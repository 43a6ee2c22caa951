//! `store/` -> `condemned/` and back: what retention took away can be taken back until `undo_for` is over.

use jiff::{SignedDuration, Timestamp};

use super::{
    Error, Result, Strange,
    marks::Marks,
    note::{CONDEMNED_NOTE, Note},
    retention,
    source_store::{self, SourceStore, Stored},
};
use crate::{
    manifest::{GenerationId, Receipt},
    store::Found,
    sys::{Dir, durable},
};

/// Why what was taken back is pinned: the retention that condemned it would do so again.
pub const TAKEN_BACK: &str = "taken back";

/// Why something was condemned that no retention did, but somebody who gave its source up. Taken back, it is not pinned.
pub const FORGOTTEN: &str = "its source was forgotten";

/// A condemned generation.
#[derive(Debug, Clone, PartialEq)]
pub struct Condemned {
    /// What it says of itself.
    pub found: Found,
    /// The sink's word of when it was stored.
    pub receipt: Receipt,
    /// What was noted about it while it was stored.
    pub marks: Marks,
    /// When it was condemned; `None` if the note cannot be read: it is then dated anew by the next purge.
    pub at: Option<Timestamp>,
    /// Why.
    pub reason: String,
}

impl SourceStore {
    /// Moves a stored generation to the condemned ones. When and why is noted in it before it moves. One of the same id
    /// that is condemned already makes way only if it is the same: with another seal it is somebody's only copy, and
    /// both stay where they are.
    pub fn condemn(&self, id: &GenerationId, reason: &str, now: Timestamp) -> Result<()> {
        let dir = self.open(id)?;
        let there = self.condemned.open_dir_if_any(id)?;
        if let Some(there) = &there
            && Found::load(there, id)?.seal != Found::load(&dir, id)?.seal
        {
            return Err(Error::OtherSeal { id: id.clone() });
        }
        write_note(&dir, reason, now)?;
        if there.is_some() {
            source_store::delete(&self.condemned, id)?;
        }
        Ok(durable::rename(&self.store, id, &self.condemned, id)?)
    }

    /// The condemned generations in the order in which they were stored, and what else is there.
    pub fn condemned(&self) -> Result<(Vec<Condemned>, Vec<Strange>)> {
        let (mut all, strange) = source_store::list(&self.condemned, |dir, id| {
            let Stored { found, receipt, marks } = Stored::load(dir, id)?;
            let note = Note::read(dir)?;
            let (at, reason) = note.map_or((None, "not recorded".to_owned()), |n| (Some(n.at), n.why));
            Ok(Condemned { found, receipt, marks, at, reason })
        })?;
        all.sort_by(|a, b| (a.receipt.sequence, a.found.id()).cmp(&(b.receipt.sequence, b.found.id())));
        Ok((all, strange))
    }

    /// Takes a condemned generation back into the store, pinned as [`TAKEN_BACK`] unless it was pinned before, or no
    /// retention condemned it ([`FORGOTTEN`]).
    pub fn undo(&self, id: &GenerationId) -> Result<()> {
        let dir = self.condemned.open_dir(id)?;
        let marks = Marks::load(&dir)?;
        let forgotten = Note::read(&dir)?.is_some_and(|note| note.why == FORGOTTEN);
        if marks.pinned.is_none() && !forgotten {
            Marks { pinned: Some(TAKEN_BACK.to_owned()), ..marks }.save(&dir)?;
        }
        durable::rename(&self.condemned, id, &self.store, id)?;
        Ok(durable::remove_file(&self.open(id)?, CONDEMNED_NOTE)?)
    }

    /// Deletes what was condemned `undo_for` ago or longer, and says what went. What carries no readable date is dated
    /// now, so that it too has its whole time.
    pub fn purge(&self, undo_for: SignedDuration, now: Timestamp) -> Result<Vec<GenerationId>> {
        let mut gone = Vec::new();
        for one in self.condemned()?.0 {
            let id = one.found.id();
            match one.at {
                None => write_note(&self.condemned.open_dir(id)?, &one.reason, now)?,
                Some(at) if retention::undo_is_over(at, undo_for.unsigned_abs(), now) => {
                    self.purge_one(id)?;
                    gone.push(id.clone());
                }
                Some(_) => {}
            }
        }
        Ok(gone)
    }

    /// Deletes one condemned generation now: when there is no room.
    pub fn purge_one(&self, id: &GenerationId) -> Result<()> {
        source_store::delete(&self.condemned, id)
    }
}

fn write_note(dir: &Dir, why: &str, now: Timestamp) -> Result<()> {
    let text = Note::new(why, now).to_text(dir)?;
    Ok(durable::write_file(dir, CONDEMNED_NOTE, text.as_bytes(), 0o640)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        store::sample::{Sample, Sink, at, id},
        sys::durable::remove_file,
    };

    const ONE: &str = "20261123T030000Z";
    const TWO: &str = "20261124T030000Z";

    fn two_stored() -> Sink {
        let sink = Sink::new();
        sink.store(&Sample::new(ONE, 1, &[(b"a", b"aaa")]));
        sink.store(&Sample::new(TWO, 2, &[(b"a", b"aaa")]));
        sink
    }

    fn ids(list: &[Stored]) -> Vec<&str> {
        list.iter().map(|one| one.id().as_str()).collect()
    }

    #[test]
    fn what_is_condemned_can_be_taken_back_as_it_was() {
        let sink = two_stored();
        let mut before = sink.shop.stored().unwrap();
        before.0[0].marks.pinned = Some(TAKEN_BACK.to_owned());
        sink.shop.condemn(&id(ONE), "more than 14\u{1b}[2J", at("2026-11-24T05:00:00Z")).unwrap();
        assert_eq!(ids(&sink.shop.stored().unwrap().0), [TWO]);
        let (condemned, strange) = sink.shop.condemned().unwrap();
        assert_eq!((condemned.len(), strange.len()), (1, 0));
        assert_eq!(condemned[0].at, Some(at("2026-11-24T05:00:00Z")));
        assert_eq!(condemned[0].reason, "more than 14\\u{1b}[2J");
        sink.shop.undo(&id(ONE)).unwrap();
        assert_eq!(sink.shop.stored().unwrap(), before);
        assert!(
            sink.shop
                .verify(&id(ONE), at("2026-11-24T05:00:00Z"), &crate::store::prove::Effort::quiet(1))
                .unwrap()
                .extra
                .is_empty()
        );
    }

    #[test]
    fn what_is_condemned_goes_when_its_time_is_over_and_not_before() {
        let sink = two_stored();
        let day = SignedDuration::from_hours(24);
        sink.shop.condemn(&id(ONE), "old", at("2026-11-24T05:00:00Z")).unwrap();
        assert!(sink.shop.purge(day, at("2026-11-25T04:59:59Z")).unwrap().is_empty());
        assert!(sink.shop.purge(day, at("2026-11-20T00:00:00Z")).unwrap().is_empty(), "the clock went back");
        assert_eq!(sink.shop.purge(day, at("2026-11-25T05:00:00Z")).unwrap(), [id(ONE)]);
        assert_eq!(sink.shop.condemned().unwrap(), (vec![], vec![]));
        assert_eq!(std::fs::read_dir(sink.path("condemned/shop")).unwrap().count(), 0);
        assert_eq!(sink.shop.next_sequence().unwrap(), 3);
    }

    #[test]
    fn without_a_readable_date_its_time_begins_anew() {
        let sink = two_stored();
        sink.shop.condemn(&id(ONE), "old", at("2026-11-24T05:00:00Z")).unwrap();
        let dir = Dir::open(sink.path("condemned/shop").join(ONE)).unwrap();
        remove_file(&dir, CONDEMNED_NOTE).unwrap();
        let hour = SignedDuration::from_hours(1);
        assert!(sink.shop.purge(hour, at("2026-11-28T05:00:00Z")).unwrap().is_empty());
        assert!(sink.shop.purge(hour, at("2026-11-28T05:59:00Z")).unwrap().is_empty());
        assert_eq!(sink.shop.purge(hour, at("2026-11-28T06:00:00Z")).unwrap().len(), 1);
    }

    #[test]
    fn a_deletion_that_was_cut_is_no_generation_and_is_finished() {
        let sink = two_stored();
        sink.shop.condemn(&id(ONE), "old", at("2026-11-24T05:00:00Z")).unwrap();
        let condemned = Dir::open(sink.path("condemned/shop")).unwrap();
        let going = format!("{}{ONE}", source_store::DELETING);
        durable::rename(&condemned, ONE, &condemned, &going).unwrap();
        remove_file(&condemned.descend(format!("{going}/data/e").as_bytes()).unwrap(), "a").unwrap();
        assert_eq!(sink.shop.condemned().unwrap(), (vec![], vec![]));
        assert_eq!(sink.shop.recover().unwrap().deleted, [ONE]);
        assert!(condemned.names().unwrap().is_empty());
        assert_eq!(sink.shop.recover().unwrap(), Default::default());
        assert!(
            sink.shop
                .verify(&id(TWO), at("2026-11-24T05:00:00Z"), &crate::store::prove::Effort::quiet(1))
                .unwrap()
                .is_whole()
        );
    }

    #[test]
    fn an_undo_or_a_condemnation_that_was_cut_leaves_a_generation_as_it_was() {
        let sink = two_stored();
        let before = sink.shop.stored().unwrap();
        write_note(&sink.shop.open(&id(ONE)).unwrap(), "old", at("2026-11-24T05:00:00Z")).unwrap();
        sink.shop.open(&id(ONE)).unwrap().create_file(".marks.toml.a1b2c3", 0o600).unwrap();
        sink.shop.recover().unwrap();
        assert_eq!(sink.shop.stored().unwrap(), before);
        let names = sink.shop.open(&id(ONE)).unwrap().names().unwrap();
        assert!(
            !names.iter().any(|name| name == CONDEMNED_NOTE || name.as_encoded_bytes().starts_with(b"."))
        );
    }

    #[test]
    fn the_same_id_condemned_twice_keeps_the_later_one() {
        let sink = two_stored();
        sink.shop.condemn(&id(ONE), "first", at("2026-11-24T05:00:00Z")).unwrap();
        sink.store(&Sample::new(ONE, 1, &[(b"a", b"aaa")]));
        assert_eq!(ids(&sink.shop.stored().unwrap().0), [ONE, TWO], "what came late is not the newest");
        assert!(sink.shop.undo(&id(ONE)).is_err(), "it would replace one that is stored");
        sink.shop.condemn(&id(ONE), "second", at("2026-11-24T06:00:00Z")).unwrap();
        assert_eq!(sink.shop.condemned().unwrap().0[0].reason, "second");
    }

    #[test]
    fn a_condemned_generation_with_another_seal_is_never_destroyed() {
        let sink = two_stored();
        sink.shop.condemn(&id(ONE), "first", at("2026-11-24T05:00:00Z")).unwrap();
        sink.store(&Sample::new(ONE, 1, &[(b"a", b"another")]));
        let before = (sink.shop.stored().unwrap(), sink.shop.condemned().unwrap());
        let refused = sink.shop.condemn(&id(ONE), "second", at("2026-11-24T06:00:00Z"));
        assert!(matches!(refused, Err(Error::OtherSeal { .. })), "{refused:?}");
        assert_eq!((sink.shop.stored().unwrap(), sink.shop.condemned().unwrap()), before);
        // One that cannot be read may be anything.
        let there = Dir::open(sink.path("condemned/shop").join(ONE)).unwrap();
        remove_file(&there, crate::manifest::names::GENERATION).unwrap();
        assert!(sink.shop.condemn(&id(ONE), "second", at("2026-11-24T06:00:00Z")).is_err());
        assert!(there.stat_if_any("data").unwrap().is_some());
    }

    #[test]
    fn what_is_taken_back_keeps_the_reason_for_which_it_was_pinned() {
        let sink = two_stored();
        sink.shop.pin(&id(ONE), "before the move").unwrap();
        sink.shop.condemn(&id(ONE), "by hand", at("2026-11-24T05:00:00Z")).unwrap();
        sink.shop.undo(&id(ONE)).unwrap();
        let pinned = sink.shop.get(&id(ONE)).unwrap().unwrap().marks.pinned;
        assert_eq!(pinned.as_deref(), Some("before the move"));
    }
}
