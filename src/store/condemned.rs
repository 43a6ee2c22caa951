//! `store/` -> `condemned/` and back: what retention took away can be taken back until `undo_for` is over.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::{
    Error, Result, Strange, retention,
    source_store::{self, SourceStore, Stored},
};
use crate::{
    manifest::{GenerationId, Receipt},
    store::Found,
    sys::{Dir, durable, show},
};

/// The record in a condemned generation's folder, outside the seal.
pub const RECORD: &str = "condemned.toml";
const FORMAT: u32 = 1;
const LIMIT: u64 = 64 * 1024;

/// A condemned generation.
#[derive(Debug, Clone, PartialEq)]
pub struct Condemned {
    /// What it says of itself.
    pub found: Found,
    /// The sink's word of when it was stored.
    pub receipt: Receipt,
    /// When it was condemned; `None` if the record cannot be read: it is then dated anew by the next purge.
    pub at: Option<Timestamp>,
    /// Why.
    pub reason: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Record {
    format: u32,
    at: Timestamp,
    reason: String,
}

impl Record {
    fn load(dir: &Dir) -> Result<Option<Self>> {
        let Some(bytes) = dir.read_if_any(RECORD, LIMIT)? else { return Ok(None) };
        let record: Option<Self> = toml::from_str(&String::from_utf8_lossy(&bytes)).ok();
        Ok(record.filter(|record| record.format <= FORMAT))
    }

    fn save(dir: &Dir, reason: &str, now: Timestamp) -> Result<()> {
        let record = Self { format: FORMAT, at: now, reason: reason.to_owned() };
        let text = toml::to_string(&record)
            .map_err(|e| Error::Damaged { path: dir.path().to_path_buf(), why: e.to_string() })?;
        Ok(durable::write_file(dir, RECORD, text.as_bytes(), 0o640)?)
    }
}

impl SourceStore {
    /// Moves a stored generation to the condemned ones. When and why is recorded in it before it moves.
    pub fn condemn(&self, id: &GenerationId, reason: &str, now: Timestamp) -> Result<()> {
        Record::save(&self.open(id)?, reason, now)?;
        if self.condemned.stat_if_any(id)?.is_some() {
            source_store::delete(&self.condemned, id)?;
        }
        Ok(durable::rename(&self.store, id, &self.condemned, id)?)
    }

    /// The condemned generations in the order in which they were stored, and what else is there.
    pub fn condemned(&self) -> Result<(Vec<Condemned>, Vec<Strange>)> {
        let (mut all, strange) = source_store::list(&self.condemned, |dir, id| {
            let Stored { found, receipt, .. } = Stored::load(dir, id)?;
            let record = Record::load(dir)?;
            let reason = record.as_ref().map_or("not recorded", |record| &record.reason);
            let reason = show(reason.as_bytes());
            Ok(Condemned { found, receipt, at: record.map(|record| record.at), reason })
        })?;
        all.sort_by(|a, b| (a.receipt.sequence, a.found.id()).cmp(&(b.receipt.sequence, b.found.id())));
        Ok((all, strange))
    }

    /// Takes a condemned generation back into the store.
    pub fn undo(&self, id: &GenerationId) -> Result<()> {
        durable::rename(&self.condemned, id, &self.store, id)?;
        Ok(durable::remove_file(&self.open(id)?, RECORD)?)
    }

    /// Deletes what was condemned `undo_for` ago or longer, and says what went. What carries no readable date is dated
    /// now, so that it too has its whole time.
    pub fn purge(&self, undo_for: SignedDuration, now: Timestamp) -> Result<Vec<GenerationId>> {
        let mut gone = Vec::new();
        for one in self.condemned()?.0 {
            let id = one.found.id();
            match one.at {
                None => Record::save(&self.condemned.open_dir(id)?, &one.reason, now)?,
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
        let before = sink.shop.stored().unwrap();
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
        remove_file(&dir, RECORD).unwrap();
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
        Record::save(&sink.shop.open(&id(ONE)).unwrap(), "old", at("2026-11-24T05:00:00Z")).unwrap();
        sink.shop.open(&id(ONE)).unwrap().create_file(".marks.toml.a1b2c3", 0o600).unwrap();
        sink.shop.recover().unwrap();
        assert_eq!(sink.shop.stored().unwrap(), before);
        let names = sink.shop.open(&id(ONE)).unwrap().names().unwrap();
        assert!(!names.iter().any(|name| name == RECORD || name.as_encoded_bytes().starts_with(b".")));
    }

    #[test]
    fn the_same_id_condemned_twice_keeps_the_later_one() {
        let sink = two_stored();
        sink.shop.condemn(&id(ONE), "first", at("2026-11-24T05:00:00Z")).unwrap();
        sink.store(&Sample::new(ONE, 1, &[(b"a", b"aaa")]));
        assert_eq!(ids(&sink.shop.stored().unwrap().0), [TWO, ONE], "in the order in which they were stored");
        assert!(sink.shop.undo(&id(ONE)).is_err(), "it would replace one that is stored");
        sink.shop.condemn(&id(ONE), "second", at("2026-11-24T06:00:00Z")).unwrap();
        assert_eq!(sink.shop.condemned().unwrap().0[0].reason, "second");
    }
}
