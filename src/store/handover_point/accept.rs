//! The sink's word that it has a generation, and the move to the Source-Store.

use std::{ffi::OsStr, os::unix::ffi::OsStrExt as _};

use jiff::Timestamp;

use super::{
    HandoverPoint,
    decide::{self, Receiving, Whereabouts},
    deltas,
    hold::Changing,
    id_of, owned, receipt_in,
    recover::sweep,
};
use crate::{
    manifest::{Channel, Digest, GenerationId, Receipt, Seal, names, receipt},
    store::{Error, Found, Result},
    sys::{Dir, durable},
};

/// How many receipts of accepted logs are kept: they are small, and the eldest tell nobody anything.
const RECEIPTS: usize = 1000;
const RECEIPT_SUFFIX: &str = ".receipt.toml";

/// What became of an attempt to accept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Acceptance {
    /// It is accepted now; the sha256 of the receipt that is kept.
    Accepted(Digest),
    /// It was accepted before; the sha256 of the receipt that is kept: the first one.
    Already(Digest),
    /// It is not here any more: retention took it.
    Gone,
    /// It is here with another seal, and stays as it is.
    OtherSeal,
    /// What came as a receipt is none for this generation.
    BadReceipt(String),
}

impl HandoverPoint {
    /// Takes the sink's receipt for a generation: the receipt is written into its folder and synced, then one rename
    /// moves the folder to the Source-Store (logs: the receipt goes there, the generation is condemned). The same again
    /// changes nothing, and the first receipt wins.
    pub fn accept(&self, id: &GenerationId, seal: &Seal, text: &[u8], now: Timestamp) -> Result<Acceptance> {
        if let Err(why) = read_receipt(id, seal, text) {
            return Ok(Acceptance::BadReceipt(why));
        }
        let changing = self.changing()?;
        match decide::receive(seal, &self.whereabouts(id)?) {
            Receiving::OtherSeal => Ok(Acceptance::OtherSeal),
            Receiving::Gone => Ok(Acceptance::Gone),
            Receiving::Already => {
                self.forget_deltas(id);
                Ok(Acceptance::Already(Digest::of(&self.kept_receipt(id, text)?)))
            }
            Receiving::Move => {
                let dir = self.outgoing.open_dir(id)?;
                let found = Found::load(&dir, id)?;
                let kept = self.keep_receipt(&dir, &found, text)?;
                self.finish_accept(&found, &kept, now, &changing)?;
                Ok(Acceptance::Accepted(Digest::of(&kept)))
            }
        }
    }

    /// What bears an id is no more looked for once it is found in the Source-Store.
    fn whereabouts(&self, id: &GenerationId) -> Result<Whereabouts> {
        let seal_in = |place: &Dir| {
            let dir = place.open_dir_if_any(id)?;
            dir.map(|dir| Found::load(&dir, id).map(|found| found.seal)).transpose()
        };
        if let Some(stored) = seal_in(&self.store)? {
            return Ok(Whereabouts { stored: Some(stored), ..Whereabouts::default() });
        }
        let condemned = self.condemned.open_dir_if_any(id)?;
        Ok(Whereabouts {
            stored: None,
            receipt: self.log_receipt(id)?.map(|(receipt, _)| receipt.seal),
            waiting: seal_in(&self.outgoing)?,
            condemned: condemned.and_then(|dir| Found::load(&dir, id).ok()).map(|found| found.seal),
        })
    }

    /// The move that follows once the receipt is durable; also what [`Self::recover`] does when it was cut off.
    pub(super) fn finish_accept(
        &self,
        found: &Found,
        receipt: &[u8],
        now: Timestamp,
        changing: &Changing,
    ) -> Result<()> {
        let id = found.id();
        match found.generation.channel {
            Channel::Data => {
                durable::rename(&self.outgoing, id, &self.store, id)?;
                self.forget_deltas(id);
            }
            Channel::Logs => {
                owned::write(&self.store, receipt_name(id), receipt, 0o440, self.new_file_owner())?;
                self.condemn(&self.outgoing, found, "accepted by the sink", now, changing)?;
                self.forget_old_receipts()?;
            }
        }
        Ok(())
    }

    /// What is accepted has no need of its deltas. That they cannot be removed changes nothing: the next collect tries again.
    fn forget_deltas(&self, id: &GenerationId) {
        drop(self.store.open_dir(id).map_err(Error::from).and_then(|dir| deltas::remove(&dir)));
    }

    /// The receipt that is kept of what was accepted before.
    fn kept_receipt(&self, id: &GenerationId, text: &[u8]) -> Result<Vec<u8>> {
        if let Some(dir) = self.store.open_dir_if_any(id)? {
            // Somebody may have moved it here by hand, without a receipt.
            return self.keep_receipt(&dir, &Found::load(&dir, id)?, text);
        }
        Ok(self.log_receipt(id)?.map_or_else(|| text.to_vec(), |(_, kept)| kept))
    }

    /// Writes the receipt into the generation's folder unless there is one; gives the text that is kept.
    fn keep_receipt(&self, dir: &Dir, found: &Found, text: &[u8]) -> Result<Vec<u8>> {
        if receipt_in(dir, found)?.is_some() {
            return Ok(dir.read(names::RECEIPT, receipt::LIMIT)?);
        }
        sweep(dir)?;
        owned::write(dir, names::RECEIPT, text, 0o440, self.new_file_owner())?;
        Ok(text.to_vec())
    }

    /// The receipt that `store/` keeps of an accepted generation of logs, and its text.
    pub fn log_receipt(&self, id: &GenerationId) -> Result<Option<(Receipt, Vec<u8>)>> {
        let Some(bytes) = self.store.read_if_any(receipt_name(id), receipt::LIMIT)? else { return Ok(None) };
        Ok(Receipt::parse(&bytes).ok().filter(|r| r.id == *id).map(|receipt| (receipt, bytes)))
    }

    /// The receipts that `store/` keeps of accepted generations of logs, the eldest first.
    pub fn log_receipts(&self) -> Result<Vec<Receipt>> {
        let mut receipts = Vec::new();
        for id in self.receipt_ids()? {
            receipts.extend(self.log_receipt(&id)?.map(|(receipt, _)| receipt));
        }
        Ok(receipts)
    }

    fn receipt_ids(&self) -> Result<Vec<GenerationId>> {
        Ok(self.store.names()?.iter().filter_map(|name| receipt_id(name)).collect())
    }

    fn forget_old_receipts(&self) -> Result<()> {
        let ids = self.receipt_ids()?;
        for id in ids.iter().take(ids.len().saturating_sub(RECEIPTS)) {
            durable::remove_file(&self.store, receipt_name(id))?;
        }
        Ok(())
    }
}

fn read_receipt(id: &GenerationId, seal: &Seal, text: &[u8]) -> std::result::Result<Receipt, String> {
    if text.len() as u64 > receipt::LIMIT {
        return Err(format!("it is larger than {} bytes", receipt::LIMIT));
    }
    let receipt = Receipt::parse(text)?;
    if receipt.format != 1 {
        return Err(format!("it has format {}, this handover reads 1", receipt.format));
    }
    if receipt.id != *id || receipt.seal != *seal {
        return Err(format!("it is for {} with the seal {}", receipt.id, receipt.seal));
    }
    Ok(receipt)
}

pub(super) fn receipt_name(id: &GenerationId) -> String {
    format!("{id}{RECEIPT_SUFFIX}")
}

fn receipt_id(name: &OsStr) -> Option<GenerationId> {
    id_of(OsStr::from_bytes(name.as_bytes().strip_suffix(RECEIPT_SUFFIX.as_bytes())?))
}

pub(super) fn is_receipt_name(name: &OsStr) -> bool {
    receipt_id(name).is_some()
}
