//! The steps of the collector and of the gate. What each step decides, the product's functions decide.

use handover::{
    manifest::GenerationId,
    source::state::{self, Facts},
    store::{
        handover_point::decide::{self, Leftover, Receiving, Whereabouts},
        retention::Candidate,
    },
};

use super::{
    Protocol,
    state::{Collector, Content, Gate, Gen, Held, Id, Place, SLOTS, State, TICK, at, seal},
};

impl Protocol {
    /// The collector takes its next step. `more` tells whether it may make a generation.
    pub fn collect(&self, s: &mut State, more: bool) {
        s.collector = match s.collector {
            Collector::Idle => Collector::SettlePromise,
            Collector::SettlePromise => settle_promise(s),
            Collector::DeleteDrafts => delete_drafts(s),
            Collector::FinishAccepts => finish_accepts(s),
            Collector::Purge => {
                if sync_moves(s) || self.prune_source(s) {
                    return;
                }
                self.purge_source(s);
                if more { Collector::Begin } else { Collector::Idle }
            }
            Collector::Begin => self.begin(s),
            Collector::Fill(slot) => {
                s.gens[usize::from(slot)].source.content = Content::Whole;
                Collector::Ledger(slot)
            }
            Collector::Ledger(slot) => {
                s.gens[usize::from(slot)].in_ledger = true;
                Collector::Promise(slot)
            }
            Collector::Promise(slot) => {
                s.promise = Some(slot);
                Collector::Sync(slot)
            }
            Collector::Sync(slot) => {
                s.gens[usize::from(slot)].source.synced = true;
                Collector::Publish(slot)
            }
            Collector::Publish(slot) => {
                let new = &mut s.gens[usize::from(slot)];
                new.source.move_to(Place::Waiting);
                new.published = true;
                Collector::SyncFolders(slot)
            }
            Collector::SyncFolders(slot) => {
                let new = &mut s.gens[usize::from(slot)];
                // The gate may have moved it on meanwhile, which it syncs itself.
                let moved_on = new.source.was.is_some() && !new.source.is(Place::Waiting);
                new.source.was = moved_on.then_some(Place::Waiting);
                new.sealed = true;
                Collector::MakeValid(slot)
            }
            Collector::MakeValid(slot) => {
                (s.sequence, s.promise) = (s.gens[usize::from(slot)].sequence, None);
                Collector::DropEldest
            }
            Collector::DropEldest => self.drop_eldest(s),
        };
    }

    /// Condemns the first that the source's retention does not keep, if there is one.
    fn prune_source(&self, s: &mut State) -> bool {
        let stored = s.at_source(Place::Stored);
        let Some(slot) = self.surplus(s, &stored, self.bounds.keep) else { return false };
        let now = s.source_clock;
        s.gens[slot].pruned = true;
        s.gens[slot].source.condemn(now);
        true
    }

    fn purge_source(&self, s: &mut State) {
        let now = s.source_clock;
        for one in s.gens.iter_mut().filter(|g| g.source.is(Place::Condemned)) {
            if one.source.condemned > now {
                one.source.condemned = now;
            } else if (self.wiring.undo_is_over)(at(one.source.condemned), TICK, at(now)) {
                one.source = Held { place: Place::Deleted, ..Held::default() };
            }
        }
    }

    fn begin(&self, s: &mut State) -> Collector {
        let Some(slot) = (0..SLOTS).find(|slot| s.gens[*slot].id.is_none()) else { return Collector::Idle };
        let taken = |id: &GenerationId| {
            let id = Some(Id::of(id));
            let lies = |g: &Gen| !matches!(g.source.place, Place::Nowhere | Place::Deleted);
            s.gens.iter().any(|g| g.id == id && (g.in_ledger || lies(g)))
        };
        let id = (self.wiring.free_id)(at(s.source_clock), &taken).unwrap();
        s.gens[slot] = Gen { id: Some(Id::of(&id)), sequence: s.sequence + 1, ..Gen::default() };
        s.gens[slot].source.place = Place::Making;
        Collector::Fill(slot as u8)
    }

    fn drop_eldest(&self, s: &mut State) -> Collector {
        if sync_moves(s) {
            return Collector::DropEldest;
        }
        let waiting = s.at_source(Place::Waiting);
        let Some(slot) = self.surplus(s, &waiting, self.bounds.max_waiting) else { return Collector::Idle };
        let now = s.source_clock;
        s.gens[slot].dropped = true;
        s.gens[slot].source.condemn(now);
        Collector::DropEldest
    }

    /// The first that goes so that `keep` stay.
    fn surplus(&self, s: &State, slots: &[usize], keep: u32) -> Option<usize> {
        if slots.len() <= keep as usize {
            // Nothing to decide, said to be quick: the product's decision would be the same.
            return None;
        }
        let candidates: Vec<Candidate> = slots
            .iter()
            .enumerate()
            .map(|(index, slot)| self.candidate(&s.gens[*slot], index as u8, 0))
            .collect();
        decide::surplus(&candidates, keep, at(s.source_clock)).first().map(|(index, _)| slots[*index])
    }

    /// An accept arrives.
    pub fn deliver(&self, s: &mut State, slot: usize) {
        let place = |place| s.seal_at(slot, |g| g.source.is(place));
        let here = Whereabouts {
            stored: place(Place::Stored),
            receipt: None,
            waiting: place(Place::Waiting),
            condemned: place(Place::Condemned),
        };
        s.gate = match decide::receive(&seal(slot), &here) {
            Receiving::Move => Gate::KeepReceipt(slot as u8),
            Receiving::Already => Gate::Prune,
            Receiving::Gone | Receiving::OtherSeal => Gate::Idle,
        };
    }

    /// The gate takes its next step.
    pub fn answer(&self, s: &mut State) {
        s.gate = match s.gate {
            Gate::Idle => Gate::Idle,
            Gate::KeepReceipt(slot) => {
                s.gens[usize::from(slot)].has_receipt = true;
                Gate::Move(slot)
            }
            Gate::Move(slot) => {
                s.gens[usize::from(slot)].source.move_to(Place::Stored);
                Gate::SyncFolders(slot)
            }
            Gate::SyncFolders(slot) => {
                let accepted = &mut s.gens[usize::from(slot)];
                (accepted.source.was, accepted.sealed) = (None, true);
                Gate::Prune
            }
            Gate::Prune => {
                if sync_moves(s) {
                    return;
                }
                if self.prune_source(s) { Gate::Prune } else { Gate::Idle }
            }
        };
    }
}

/// The moves to `condemned/` and to the Source-Store that are not synced yet become so; whether there were any. A
/// generation that the collector is about to publish is none of them.
fn sync_moves(s: &mut State) -> bool {
    let mut any = false;
    for one in &mut s.gens {
        if matches!(one.source.place, Place::Condemned | Place::Stored) && one.source.was.take().is_some() {
            any = true;
        }
    }
    any
}

fn settle_promise(s: &mut State) -> Collector {
    // What is found published must stay so before anything is made of it.
    let moved = |g: &Gen| g.source.was.is_some();
    if s.promise.is_some() && s.gens.iter().any(moved) {
        s.gens.iter_mut().filter(|g| moved(g)).for_each(|g| (g.source.was, g.sealed) = (None, true));
        return Collector::SettlePromise;
    }
    if let Some(slot) = s.promise.take() {
        let promised = &s.gens[usize::from(slot)];
        let facts = Facts {
            format: 1,
            lineage: String::new(),
            sequence: promised.sequence.into(),
            last: promised.id.map(Id::full),
        };
        let published = |id: &GenerationId| {
            let id = Some(Id::of(id));
            let there = |g: &Gen| matches!(g.source.place, Place::Waiting | Place::Stored | Place::Condemned);
            Ok::<_, std::convert::Infallible>(s.gens.iter().any(|g| g.id == id && there(g)))
        };
        if state::is_kept(&facts, published).unwrap() {
            s.sequence = promised.sequence;
        }
    }
    Collector::DeleteDrafts
}

fn delete_drafts(s: &mut State) -> Collector {
    for one in s.gens.iter_mut().filter(|g| g.source.is(Place::Making)) {
        discard(one);
    }
    Collector::FinishAccepts
}

/// A draft goes. Its slot is free again unless something remembers it.
pub fn discard(one: &mut Gen) {
    if one.in_ledger || !one.sink.is(Place::Nowhere) {
        one.source = Held::default();
    } else {
        *one = Gen::default();
    }
}

fn finish_accepts(s: &mut State) -> Collector {
    if sync_moves(s) {
        return Collector::FinishAccepts;
    }
    for slot in s.at_source(Place::Waiting) {
        let stored = s.seal_at(slot, |g| g.source.is(Place::Stored));
        let now = s.source_clock;
        match decide::leftover(&seal(slot), stored.map(Some), s.gens[slot].has_receipt) {
            Leftover::Waits => {}
            Leftover::Duplicate => {
                s.gens[slot].source.condemn(now);
                return Collector::FinishAccepts;
            }
            Leftover::Accepted => {
                s.gens[slot].source.move_to(Place::Stored);
                return Collector::FinishAccepts;
            }
        }
    }
    Collector::Purge
}
