//! The steps of a run of the sink. What each step decides, the product's functions decide.

use std::{
    cell::RefCell,
    collections::{BTreeSet, HashMap},
};

use handover::{
    gate::protocol::Offer,
    manifest::GenerationId,
    sink::choice::{Choice, Known, choose},
    store::{
        order::{Made, in_order},
        place::{Commit, commit},
        retention::{Candidate, Policy},
    },
};

use super::{
    Protocol,
    state::{Content, Gen, Held, Place, SLOTS, Sink, State, TICK, at, seal},
    wiring::Step,
};

/// As in the default configuration.
const MAX_PER_DAY: u32 = 48;

/// What a decision of retention depends on, in few bytes: order, time, whole.
type Question = (Vec<(u8, u8, bool)>, u8);

impl Protocol {
    /// The sink takes its next step; `damage` spoils what it fetches.
    pub fn receive(&self, s: &mut State, damage: bool) {
        s.sink = match s.sink {
            Sink::Idle => Sink::Recover,
            Sink::Recover => recover(s),
            Sink::Ask => Sink::Choose {
                left: s.at_source(Place::Waiting).into_iter().fold(0, |left, slot| left | 1 << slot),
            },
            Sink::Choose { left } => self.choose(s, left),
            Sink::Take { slot, step, left } => self.take(s, (slot, step, left), damage),
            Sink::Prune => self.prune(s, None).map_or(Sink::Purge, |()| Sink::Prune),
            Sink::Purge => {
                let now = s.sink_clock;
                for one in s.gens.iter_mut().filter(|g| g.sink.is(Place::Condemned)) {
                    if (self.wiring.undo_is_over)(at(one.sink.condemned), TICK, at(now)) {
                        one.sink = Held { place: Place::Deleted, ..Held::default() };
                    }
                }
                Sink::Idle
            }
        };
    }

    /// Whether this is its next step.
    pub fn is_at(&self, s: &State, wanted: Step) -> bool {
        matches!(s.sink, Sink::Take { step, .. } if self.wiring.steps[usize::from(step)] == wanted)
    }

    /// Whether its next step is the sync of what was fetched, and of which slot.
    pub fn syncing(&self, s: &State) -> Option<usize> {
        match s.sink {
            Sink::Take { slot, step, .. } if self.wiring.steps[usize::from(step)] == Step::Sync => {
                Some(slot.into())
            }
            _ => None,
        }
    }

    fn choose(&self, s: &State, left: u8) -> Sink {
        let first = (0..SLOTS).filter(|slot| left & 1 << slot != 0);
        let Some(slot) = first.min_by_key(|slot| (s.gens[*slot].sequence, s.gens[*slot].id)) else {
            return Sink::Prune;
        };
        let left = left & !(1 << slot);
        let Some(id) = s.gens[slot].id else { return Sink::Choose { left } };
        let offer = Offer {
            id: id.full(),
            sequence: s.gens[slot].sequence.into(),
            seal: seal(slot),
            files: 1,
            entries: 1,
            bytes: 1,
            manifest_bytes: 1,
            deltas: Vec::new(),
            rejected: false,
            reading: false,
        };
        let known = Known {
            stored: s.seal_at(slot, |g| g.sink.is(Place::Stored)),
            quarantined: None,
            condemned: s.seal_at(slot, |g| g.sink.is(Place::Condemned)),
            today: s.at_sink(Place::Stored).count() + s.at_sink(Place::Condemned).count(),
        };
        let begin = |step: Step| Sink::Take { slot: slot as u8, step: self.step(step), left };
        match choose(&offer, &known, MAX_PER_DAY) {
            Choice::Fetch => begin(Step::Fetch),
            Choice::AcceptAgain => begin(Step::Accept),
            _ => Sink::Choose { left },
        }
    }

    fn step(&self, step: Step) -> u8 {
        self.wiring.steps.iter().position(|s| *s == step).unwrap() as u8
    }

    fn take(&self, s: &mut State, (slot, step, left): (u8, u8, u8), damage: bool) -> Sink {
        let next = if usize::from(step) + 1 < self.wiring.steps.len() {
            Sink::Take { slot, step: step + 1, left }
        } else {
            Sink::Choose { left }
        };
        let number = usize::from(slot);
        let clock = s.sink_clock;
        let stored = s.seal_at(number, |g| g.sink.is(Place::Stored));
        let order = 1 + s.gens.iter().filter(|g| counts(g)).map(|g| g.order).max().unwrap_or(0);
        let one = &mut s.gens[number];
        match self.wiring.steps[usize::from(step)] {
            Step::Fetch if !one.source.is_whole_in(&[Place::Waiting, Place::Stored]) => {
                // The source has dropped it meanwhile.
                return Sink::Choose { left };
            }
            Step::Fetch => {
                // There is one staging: others go.
                s.gens.iter_mut().filter(|g| g.sink.is(Place::Making)).for_each(|g| g.sink = Held::default());
                let one = &mut s.gens[number];
                one.sink = Held { place: Place::Making, ..Held::default() };
                one.sink.content = if damage { Content::Wrong } else { Content::Whole };
            }
            Step::Check if one.sink.content == Content::Wrong => {
                return Sink::Take { slot, step: self.step(Step::Fetch), left };
            }
            Step::Check => {}
            Step::PruneAsIfStored => {
                if self.prune(s, Some(number)).is_some() {
                    return s.sink;
                }
            }
            Step::WriteReceipt => match commit(&seal(number), stored.as_ref()) {
                Commit::Store => (one.order, one.stored) = (order, clock),
                Commit::Already | Commit::OtherSeal => return Sink::Choose { left },
            },
            Step::Sync => one.sink.synced = true,
            Step::Rename => one.sink.move_to(Place::Stored),
            Step::SyncFolders => one.sink.was = None,
            Step::Accept => s.sent |= 1 << slot,
        }
        next
    }

    /// Condemns the first that goes, or syncs the move of the one before; `None` when there is nothing left to do.
    fn prune(&self, s: &mut State, coming: Option<usize>) -> Option<()> {
        if s.gens.iter_mut().any(|g| g.sink.is(Place::Condemned) && g.sink.was.take().is_some()) {
            return Some(());
        }
        let mut slots: Vec<usize> = s.at_sink(Place::Stored).collect();
        slots.sort_by_key(|slot| s.gens[*slot].order);
        let slots = in_order_of_the_store(s, slots);
        let mut candidates: Vec<(u8, u8, bool)> = slots
            .iter()
            .map(|slot| &s.gens[*slot])
            .zip(1..)
            .map(|(g, place)| (place, g.stored, g.sink.content == Content::Whole))
            .collect();
        if coming.is_some() {
            candidates.push((u8::MAX, s.sink_clock, true));
        }
        let index = self.first_condemned((candidates, s.sink_clock))?;
        let now = s.sink_clock;
        let one = &mut s.gens[*slots.get(index)?];
        one.let_go = true;
        one.sink.condemn(now);
        Some(())
    }

    /// Asks the product's retention, once for each question.
    fn first_condemned(&self, question: Question) -> Option<usize> {
        thread_local!(static ANSWERS: RefCell<HashMap<(&'static str, Question), Option<usize>>> = RefCell::default());
        let key = (self.wiring.name, question);
        if let Some(known) = ANSWERS.with_borrow(|answers| answers.get(&key).copied()) {
            return known;
        }
        let candidates: Vec<Candidate> = key
            .1
            .0
            .iter()
            .map(|(order, stored, whole)| Candidate {
                whole: *whole,
                ..self.candidate(&Gen::default(), *order, *stored)
            })
            .collect();
        let policy = Policy { last: self.bounds.keep, keep_for: self.bounds.keep_for, ..Policy::default() };
        let decisions = (self.wiring.decide)(&candidates, &policy, at(key.1.1));
        let answer = decisions.iter().position(|decision| decision.is_condemned());
        ANSWERS.with_borrow_mut(|answers| answers.insert(key, answer));
        answer
    }

    pub fn candidate(&self, one: &Gen, order: u8, stored: u8) -> Candidate {
        Candidate {
            id: one
                .id
                .map_or_else(|| super::state::Id { time: 0, attempt: order.max(1) }.full(), |id| id.full()),
            sequence: order.into(),
            stored: at(stored),
            whole: true,
            verified: true,
            elements_ok: BTreeSet::from(["db".parse().unwrap()]),
            pinned: false,
            drilled: false,
        }
    }
}

/// As the store lists what it has, by what the product says.
fn in_order_of_the_store(s: &State, slots: Vec<usize>) -> Vec<usize> {
    if slots.len() < 2 {
        return slots;
    }
    let with_ids = slots.into_iter().filter_map(|slot| Some((slot, s.gens[slot].id?.full()))).collect();
    let made = |(slot, _): &(usize, GenerationId)| s.gens[*slot].sequence;
    let ordered = in_order(with_ids, |one| Made { lineage: "", sequence: made(one).into(), id: &one.1 });
    ordered.into_iter().map(|(slot, _)| slot).collect()
}

/// Whether the receipt in a generation counts for the sink's next sequence.
fn counts(one: &Gen) -> bool {
    matches!(one.sink.place, Place::Stored | Place::Condemned)
}

/// The moves of the last run become durable; the staging of what is stored goes.
fn recover(s: &mut State) -> Sink {
    s.gens.iter_mut().for_each(|g| g.sink.was = None);
    Sink::Ask
}
