//! `incoming/` -> `quarantine/`: what failed its check twice is put aside, one per source, to be looked at.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{
    Error, Result,
    source_store::{self, SourceStore},
};
use crate::{
    manifest::{GenerationId, Seal},
    sys::{Dir, durable, show},
};

const RECORD: &str = "quarantine.toml";
/// What the source is to be told: damaged paths, each ended by a zero byte.
const DAMAGED: &str = "damaged.list";
const DAMAGED_LIMIT: u64 = 4 * 1024 * 1024;
const FORMAT: u32 = 1;
const LIMIT: u64 = 64 * 1024;

/// A generation that was put aside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quarantined {
    /// Its id.
    pub id: GenerationId,
    /// The seal under which it was offered; an offer with another seal is another generation.
    pub seal: Option<Seal>,
    /// When it was put aside.
    pub at: Option<Timestamp>,
    /// Why.
    pub reason: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Record {
    format: u32,
    seal: Seal,
    at: Timestamp,
    reason: String,
}

impl SourceStore {
    /// Puts what is staged of a generation aside, as it is. There is one per source: the older goes.
    /// `damaged` is what the source is told; it is kept, so that it can be told again.
    pub fn quarantine(
        &self,
        id: &GenerationId,
        seal: Seal,
        reason: &str,
        damaged: &[&[u8]],
        now: Timestamp,
    ) -> Result<()> {
        let staged = self.incoming.open_dir(id)?;
        let list: Vec<u8> = damaged.iter().flat_map(|path| path.iter().copied().chain([0])).collect();
        durable::write_file(&staged, DAMAGED, &list, 0o640)?;
        let record = Record { format: FORMAT, seal, at: now, reason: reason.to_owned() };
        let text = toml::to_string(&record)
            .map_err(|e| Error::Damaged { path: staged.path().to_path_buf(), why: e.to_string() })?;
        durable::write_file(&staged, RECORD, text.as_bytes(), 0o640)?;
        for name in self.quarantine.names()? {
            source_store::delete(&self.quarantine, &name)?;
        }
        Ok(durable::rename(&self.incoming, id, &self.quarantine, id)?)
    }

    /// What was put aside.
    pub fn quarantined(&self) -> Result<Vec<Quarantined>> {
        let (all, _) = source_store::list(&self.quarantine, |dir, id| {
            let record = load(dir)?;
            let reason = record.as_ref().map_or("not recorded", |record| &record.reason);
            Ok(Quarantined {
                id: id.clone(),
                seal: record.as_ref().map(|record| record.seal),
                at: record.as_ref().map(|record| record.at),
                reason: show(reason.as_bytes()),
            })
        })?;
        Ok(all)
    }

    /// What was found damaged in a generation that was put aside, as its source was told.
    pub fn quarantined_paths(&self, id: &GenerationId) -> Result<Vec<Vec<u8>>> {
        let list = self.quarantine.open_dir(id)?.read_if_any(DAMAGED, DAMAGED_LIMIT)?.unwrap_or_default();
        Ok(list.split(|b| *b == 0).filter(|path| !path.is_empty()).map(<[u8]>::to_vec).collect())
    }

    /// Deletes what was put aside of a generation.
    pub fn drop_quarantined(&self, id: &GenerationId) -> Result<()> {
        source_store::delete(&self.quarantine, id)
    }

    /// Takes what was put aside back, so that the next run goes on with it; all of it is hashed again.
    pub fn retry_quarantined(&self, id: &GenerationId) -> Result<()> {
        if self.incoming.stat_if_any(id)?.is_some() {
            return self.drop_quarantined(id);
        }
        durable::rename(&self.quarantine, id, &self.incoming, id)?;
        let staged = self.incoming.open_dir(id)?;
        durable::remove_file(&staged, DAMAGED)?;
        Ok(durable::remove_file(&staged, RECORD)?)
    }
}

fn load(dir: &Dir) -> Result<Option<Record>> {
    let Some(bytes) = dir.read_if_any(RECORD, LIMIT)? else { return Ok(None) };
    let record: Option<Record> = toml::from_str(&String::from_utf8_lossy(&bytes)).ok();
    Ok(record.filter(|record| record.format <= FORMAT))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::sample::{Sample, Sink, at, id, put};

    #[test]
    fn one_is_put_aside_per_source_and_can_be_tried_again() {
        let sink = Sink::new();
        let one = Sample::new("20261123T030000Z", 1, &[(b"a", b"aaa")]);
        let two = Sample::new("20261124T030000Z", 2, &[(b"a", b"bbb")]);
        let now = at("2026-11-24T05:00:00Z");
        for sample in [&one, &two] {
            put(&Dir::open(sink.planned(sample).recv_path()).unwrap(), b"e/a", b"bbb");
            sink.shop.quarantine(&sample.id, sample.seal, "e/a: wrong\n", &[b"e/a", b"e/\xff"], now).unwrap();
        }
        let aside = sink.shop.quarantined().unwrap();
        let expected = Quarantined {
            id: two.id.clone(),
            seal: Some(two.seal),
            at: Some(now),
            reason: "e/a: wrong\\n".to_owned(),
        };
        assert_eq!(aside, [expected]);
        assert!(sink.shop.staged().unwrap().is_empty());
        assert_eq!(sink.shop.quarantined_paths(&two.id).unwrap(), [&b"e/a"[..], b"e/\xff"]);
        sink.shop.retry_quarantined(&two.id).unwrap();
        assert!(sink.shop.quarantined().unwrap().is_empty());
        assert_eq!(
            sink.planned(&two).to_fetch().files,
            0,
            "what was there and is right is not fetched again"
        );
        sink.store(&two);
        assert!(
            sink.shop.quarantine(&id("20261125T030000Z"), one.seal, "nothing is staged", &[], now).is_err()
        );
    }

    #[test]
    fn what_was_put_aside_can_be_dropped() {
        let sink = Sink::new();
        let one = Sample::new("20261123T030000Z", 1, &[(b"a", b"aaa")]);
        let _staged = sink.planned(&one);
        sink.shop.quarantine(&one.id, one.seal, "twice", &[], at("2026-11-24T05:00:00Z")).unwrap();
        sink.shop.drop_quarantined(&one.id).unwrap();
        assert!(sink.shop.quarantined().unwrap().is_empty());
        assert_eq!(std::fs::read_dir(sink.path("quarantine/shop")).unwrap().count(), 0);
    }
}
