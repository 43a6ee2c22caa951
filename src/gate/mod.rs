//! The far end's requests: what a source answers to a sink, and nothing else.
//!
//! The gate runs as the transport user behind a forced command ([`serve()`]), or in process for a source on the same
//! machine; both times it is the same [`Gate`] over the same folders. It tells what waits and what is stored, gives a
//! generation to be read, takes receipts and rejections. It reads no configuration: what it needs to know, root wrote
//! to `<home>/gate/`. A sink that asks the same again gets the same answer.

pub mod delivery;
mod facts;
pub mod history;
pub mod keys;
pub mod protocol;
pub mod refuse;
mod serve;

use std::path::{Path, PathBuf};

use jiff::{Timestamp, civil::Time, tz::TimeZone};

use self::protocol::{
    AcceptOutcome, Accepted, Answer, Offer, Offers, Part, Refused, RejectOutcome, Rejected, Request,
    SendFolder, Stored, StoredOffer, parse_paths, to_json,
};
pub use self::{
    facts::{GateFacts, Quiet},
    serve::{Sending, Served, receiver_policy, sender_policy, serve},
};
use crate::{
    manifest::{Channel, Digest, GenerationId, Seal, names},
    store::{
        self,
        handover_point::{Acceptance, HandoverPoint, Held, Rejection, Waiting, deltas},
    },
    sys::{Dir, clock, show},
};

/// What can go wrong when a gate is opened.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The folders are not as they should be.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// What root should have written for the gate cannot be read.
    #[error("{}: {why}", show(.path.as_os_str().as_encoded_bytes()))]
    Facts {
        /// The file.
        path: PathBuf,
        /// What is wrong, with the fix.
        why: String,
    },
}

/// The gate of one home.
#[derive(Debug)]
pub struct Gate {
    point: HandoverPoint,
    facts: GateFacts,
}

/// An answer, and what went wrong beside it without changing it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answered {
    /// The answer's text.
    pub json: Vec<u8>,
    /// For the log of this host: the source's retention failed, which the next collect tries again.
    pub trouble: Option<String>,
}

impl Gate {
    /// Opens the gate of a home: as the transport user, or as root.
    pub fn open(home: &Path) -> Result<Self, Error> {
        let point = HandoverPoint::open_for_gate(home)?;
        let facts = GateFacts::read(&point)?;
        Ok(Self { point, facts })
    }

    /// What root wrote for it.
    pub fn facts(&self) -> &GateFacts {
        &self.facts
    }

    /// Answers any request but one to send. `wall` is this host's wall clock, for `quiet`.
    pub fn answer_at(
        &self,
        request: &Request,
        stdin: &[u8],
        now: Timestamp,
        wall: Time,
    ) -> Result<Answered, Refused> {
        let json = match request {
            Request::Offers => to_json(&self.offers(now)?)?,
            Request::Stored => to_json(&self.stored()?)?,
            Request::History(id) => {
                to_json(&history::of(&self.point, id, now).map_err(|e| refuse::store(&e))?)?
            }
            Request::Send { .. } => return Err(refuse::no_answer()),
            Request::Accept { id, seal } => return self.accept(id, seal, stdin, now, wall),
            Request::Reject { id, seal } => to_json(&self.reject(id, seal, stdin, now)?)?,
        };
        Ok(Answered { json, trouble: None })
    }

    /// Holds a generation that waits or is stored, to be sent. The same generation may be read by several.
    pub fn hold(&self, id: &GenerationId) -> Result<Held, Refused> {
        self.point.hold(id).map_err(|e| refuse::store(&e))?.ok_or_else(|| refuse::not_here(id))
    }

    fn offers(&self, now: Timestamp) -> Result<Offers, Refused> {
        let waiting = self.point.waiting().map_err(|e| refuse::store(&e))?.items;
        Ok(Offers {
            name: self.facts.name.to_string(),
            lineage: self.facts.lineage.clone(),
            channel: self.facts.channel,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            clock: now,
            offers: waiting.iter().map(|one| self.offer(one)).collect::<Result<_, _>>()?,
        })
    }

    fn offer(&self, one: &Waiting) -> Result<Offer, Refused> {
        let generation = &one.found.generation;
        let dir = self.point.locate(&generation.id).map_err(|e| refuse::store(&e))?;
        let deltas = dir.as_ref().map(|(_, dir)| deltas::offered(dir)).unwrap_or_default();
        let manifest_bytes =
            dir.map(|(_, dir)| meta_bytes(&dir)).transpose().map_err(|e| refuse::store(&e))?;
        Ok(Offer {
            id: generation.id.clone(),
            sequence: generation.sequence,
            seal: one.found.seal,
            files: generation.files,
            entries: generation.entries,
            bytes: generation.bytes,
            manifest_bytes: manifest_bytes.unwrap_or(0),
            rejected: one.rejected.is_some(),
            reading: one.reading,
            deltas,
        })
    }

    fn stored(&self) -> Result<Stored, Refused> {
        let stored = self.point.stored().map_err(|e| refuse::store(&e))?.items;
        let generations = stored
            .into_iter()
            .map(|one| StoredOffer {
                sequence: one.found.generation.sequence,
                seal: one.found.seal,
                accepted: one.accepted,
                id: one.found.generation.id,
            })
            .collect();
        Ok(Stored { generations })
    }

    /// The move comes first and retention after it, so that a failure of retention never blocks the source.
    fn accept(
        &self,
        id: &GenerationId,
        seal: &Seal,
        receipt: &[u8],
        now: Timestamp,
        wall: Time,
    ) -> Result<Answered, Refused> {
        let answered = |outcome, receipt: Option<Digest>, trouble| {
            Ok(Answered { json: to_json(&Accepted { outcome, receipt })?, trouble })
        };
        if self.facts.quiet.is_some_and(|quiet| quiet.contains(wall)) {
            return answered(AcceptOutcome::Later, None, None);
        }
        match self.point.accept(id, seal, receipt, now).map_err(|e| refuse::store(&e))? {
            Acceptance::Accepted(kept) => answered(AcceptOutcome::Accepted, Some(kept), self.prune(now)),
            Acceptance::Already(kept) => answered(AcceptOutcome::Already, Some(kept), self.prune(now)),
            Acceptance::Gone => answered(AcceptOutcome::Gone, None, None),
            Acceptance::OtherSeal => Err(refuse::other_seal(id, seal)),
            Acceptance::BadReceipt(why) => Err(refuse::bad_receipt(id, &why)),
        }
    }

    /// Condemns only: deleting takes its time, and is done by the next collect.
    fn prune(&self, now: Timestamp) -> Option<String> {
        if self.facts.channel == Channel::Logs {
            return None;
        }
        let pruned = self.point.prune(self.facts.keep, now);
        let why = match pruned {
            Ok(gone) => gone.strange.first().map(|strange| strange.why.clone()),
            Err(e) => Some(e.to_string()),
        };
        why.map(|why| format!("accepted, but older generations could not be condemned: {why}"))
    }

    fn reject(
        &self,
        id: &GenerationId,
        seal: &Seal,
        stdin: &[u8],
        now: Timestamp,
    ) -> Result<Rejected, Refused> {
        let paths = parse_paths(stdin)?;
        match self.point.reject(id, seal, paths, now).map_err(|e| refuse::store(&e))? {
            Rejection::Rejected(paths) => {
                Ok(Rejected { outcome: RejectOutcome::Rejected, paths: paths as u64 })
            }
            Rejection::Gone => Ok(Rejected { outcome: RejectOutcome::Gone, paths: 0 }),
            Rejection::OtherSeal => Err(refuse::other_seal(id, seal)),
        }
    }
}

impl Answer for Gate {
    fn answer(&self, request: &Request, stdin: &[u8]) -> Result<Vec<u8>, Refused> {
        let now = clock::now();
        Ok(self.answer_at(request, stdin, now, wall_clock(now))?.json)
    }

    fn sender(&self, id: &GenerationId, part: Part) -> Result<SendFolder, Refused> {
        let held = self.hold(id)?;
        let path = match part {
            Part::Meta => held.dir.path().to_path_buf(),
            Part::Data => below(&held, names::DATA)?.path().to_path_buf(),
            Part::Delta => below(&held, names::DELTA)?.path().to_path_buf(),
        };
        Ok(SendFolder { path, guard: Box::new(held) })
    }
}

/// The time of day on this host's wall clock.
pub fn wall_clock(now: Timestamp) -> Time {
    now.to_zoned(TimeZone::system()).time()
}

/// A folder of a generation that is sent by itself.
fn below(held: &Held, name: &str) -> Result<Dir, Refused> {
    held.dir.open_dir(name).map_err(|e| refuse::store(&e.into()))
}

/// Bytes of what is sent before the content.
fn meta_bytes(dir: &Dir) -> store::Result<u64> {
    let mut bytes = 0;
    for name in [names::GENERATION, names::MANIFEST, names::XATTRS, names::README] {
        bytes += dir.stat_if_any(name)?.map_or(0, |stat| stat.st_size.unsigned_abs());
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests;
