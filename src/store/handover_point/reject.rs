//! The sink's word that a generation is damaged, and what the next collect makes of it.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{HandoverPoint, Waiting, owned};
use crate::{
    manifest::{Bytes, Channel, GenerationId, Seal, names},
    store::{Error, Found, Result, found},
    sys::{Dir, name::Name},
};

/// No `rejected.json` is larger: the longest list of paths that a gate takes, each byte escaped.
const LIMIT: u64 = 32 * 1024 * 1024;

/// What the sink found damaged in a waiting generation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejected {
    /// When it said so, by this host's clock; none if its note cannot be read.
    pub at: Option<Timestamp>,
    /// Paths as the manifest has them.
    pub paths: Vec<Vec<u8>>,
}

/// What became of an attempt to reject.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rejection {
    /// It is not offered any more; how many paths are noted.
    Rejected(usize),
    /// It does not wait here (any more).
    Gone,
    /// It waits here with another seal, and stays as it is.
    OtherSeal,
}

/// All that was rejected when a collect begins: what is in it is to be read afresh, and may be cleared once that is done.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rejections {
    /// The rejected generations.
    pub ids: Vec<GenerationId>,
    /// Their damaged paths, as their manifests have them.
    pub paths: BTreeSet<Vec<u8>>,
}

/// The content of `rejected.json`.
#[derive(Serialize, Deserialize)]
struct File {
    format: u32,
    id: GenerationId,
    seal: Seal,
    at: Timestamp,
    paths: Vec<Bytes>,
}

impl Rejected {
    /// Reads the note in a generation's folder. One that cannot be read still rejects: the doubt is about content.
    pub(super) fn load(dir: &Dir, found: &Found) -> Result<Option<Self>> {
        let bytes = match dir.read_if_any(names::REJECTED, LIMIT) {
            Ok(None) => return Ok(None),
            Err(e) if e.is_storage() => return Err(e.into()),
            other => other.unwrap_or_default().unwrap_or_default(),
        };
        let file: Option<File> = serde_json::from_slice(&bytes).ok();
        let (at, paths) = match file.filter(|f| f.id == *found.id() && f.seal == found.seal) {
            Some(file) => (Some(file.at), file.paths.into_iter().map(|path| path.0).collect()),
            None => (None, Vec::new()),
        };
        Ok(Some(Self { at, paths }))
    }
}

impl HandoverPoint {
    /// Notes beside a waiting generation what the sink found damaged: it is not offered any more, and the next collect
    /// reads those paths afresh. The same again changes nothing.
    pub fn reject(
        &self,
        id: &GenerationId,
        seal: &Seal,
        paths: Vec<Vec<u8>>,
        now: Timestamp,
    ) -> Result<Rejection> {
        let _changing = self.changing()?;
        let Some(dir) = self.outgoing.open_dir_if_any(id)? else { return Ok(Rejection::Gone) };
        let found = Found::load(&dir, id)?;
        if found.seal != *seal {
            return Ok(Rejection::OtherSeal);
        }
        if let Some(Rejected { at: Some(_), paths }) = Rejected::load(&dir, &found)? {
            return Ok(Rejection::Rejected(paths.len()));
        }
        let count = paths.len();
        let paths = paths.into_iter().map(Bytes).collect();
        let file = File { format: 1, id: id.clone(), seal: *seal, at: now, paths };
        let text = serde_json::to_vec(&file).map_err(|e| Error::Damaged {
            path: dir.path().to_path_buf(),
            why: format!("{} cannot be written down: {e}", names::REJECTED),
        })?;
        owned::write(&dir, names::REJECTED, &text, 0o440, self.new_file_owner())?;
        Ok(Rejection::Rejected(count))
    }

    /// What the sink has rejected so far. Ask before collecting, and give the answer to [`Self::clear_rejected`] after
    /// sealing: what is rejected in between waits for the next collect.
    pub fn rejections(&self) -> Result<Rejections> {
        let mut all = Rejections::default();
        for one in self.waiting()?.items {
            if let Some(rejected) = one.rejected {
                all.ids.push(one.found.generation.id);
                all.paths.extend(rejected.paths);
            }
        }
        Ok(all)
    }

    /// Condemns rejected generations of logs whose content was handed over again in a later one; gives those that it
    /// condemned.
    pub fn clear_repeated(&self, repeated: &[GenerationId], now: Timestamp) -> Result<Vec<GenerationId>> {
        let changing = self.changing()?;
        let mut cleared = Vec::new();
        for Waiting { found, rejected, reading, .. } in self.list_waiting(&changing)?.items {
            if rejected.is_some() && !reading && repeated.contains(found.id()) {
                let why = "rejected by the sink, and handed over again";
                self.condemn(&self.outgoing, &found, why, now, &changing)?;
                cleared.push(found.generation.id);
            }
        }
        Ok(cleared)
    }

    /// Condemns the rejected generations whose place newer ones have taken: for each element that was good in it there is
    /// a newer good copy, waiting and not rejected, or accepted. Logs hold what no later generation holds again: they stay.
    pub fn clear_rejected(&self, handled: &Rejections, now: Timestamp) -> Result<Vec<GenerationId>> {
        let changing = self.changing()?;
        let mut waiting: BTreeMap<GenerationId, Waiting> =
            self.list_waiting(&changing)?.items.into_iter().map(|w| (w.found.id().clone(), w)).collect();
        let stored = self.list_stored(&changing)?.items.into_iter().map(|s| s.found);
        let mut all: Vec<Found> = stored.chain(waiting.values().map(|w| w.found.clone())).collect();
        found::sort(&mut all);
        let (mut good, mut cleared) = (BTreeSet::new(), Vec::new());
        // From the newest down, so that `good` is what newer ones hold.
        for one in all.into_iter().rev() {
            let elements = elements_ok(&one);
            let Some(Waiting { rejected: Some(_), reading, .. }) = waiting.remove(one.id()) else {
                good.extend(elements);
                continue;
            };
            let replaced = one.generation.channel == Channel::Data && elements.is_subset(&good);
            if replaced && !reading && handled.ids.contains(one.id()) {
                self.condemn(
                    &self.outgoing,
                    &one,
                    "rejected by the sink, and collected again",
                    now,
                    &changing,
                )?;
                cleared.push(one.generation.id);
            }
        }
        Ok(cleared)
    }
}

/// The elements of which a generation holds a good copy.
pub(super) fn elements_ok(found: &Found) -> BTreeSet<Name> {
    found.generation.elements.iter().filter(|e| e.ok).map(|e| e.name.clone()).collect()
}
