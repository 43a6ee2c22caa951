//! What the model knows: the disks of both hosts as a cut of the power would leave them, where each process is in its
//! steps, and what is under way between them.

use std::time::Duration;

use handover::manifest::{Digest, GenerationId, Seal};
use jiff::{SignedDuration, Timestamp};

/// How many generations a state has room for: those that are published, and those that a crash cut off.
pub const SLOTS: usize = 5;
/// One step of a clock.
pub const TICK: Duration = Duration::from_secs(86_400);

/// Where a copy of a generation is on one host.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Place {
    #[default]
    Nowhere,
    /// `collecting/` of the source, `incoming/` of the sink.
    Making,
    Waiting,
    Stored,
    Condemned,
    Deleted,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Content {
    #[default]
    None,
    Whole,
    /// Torn, or other bytes than the manifest says.
    Wrong,
}

/// A copy of a generation on one host.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Held {
    pub place: Place,
    /// Where a cut of the power may take it back to: its move is not synced yet.
    pub was: Option<Place>,
    pub content: Content,
    /// Whether a cut of the power leaves the content as it is.
    pub synced: bool,
    /// When it was condemned, by the host's clock.
    pub condemned: u8,
}

impl Held {
    pub fn move_to(&mut self, to: Place) {
        self.was = self.was.or(Some(self.place));
        self.place = to;
    }

    pub fn condemn(&mut self, now: u8) {
        self.condemned = now;
        self.move_to(Place::Condemned);
    }

    pub fn is(&self, place: Place) -> bool {
        self.place == place
    }

    pub fn is_whole_in(&self, places: &[Place]) -> bool {
        self.content == Content::Whole && places.contains(&self.place)
    }

    /// What is left when the power was cut: unsynced content may be torn, unsynced moves may not have happened.
    pub fn cut(&mut self, power: Power) {
        if !self.synced && self.content != Content::None && power.tears {
            self.content = Content::Wrong;
        }
        if let (Some(was), true) = (self.was.take(), power.undoes) {
            self.place = was;
        }
        self.synced = true;
    }
}

/// What a cut of the power does to what was not synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Power {
    pub tears: bool,
    pub undoes: bool,
}

/// A generation, from its draft on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Gen {
    pub id: Option<Id>,
    pub sequence: u8,
    pub source: Held,
    pub sink: Held,
    /// Whether root's ledger on the source has it.
    pub in_ledger: bool,
    /// Whether the sink's receipt lies in the copy of the source.
    pub has_receipt: bool,
    /// The sink's receipt in its own copy: its sequence, and the time of storing.
    pub order: u8,
    pub stored: u8,
    /// Whether the publishing rename has happened (and no cut took it back).
    pub published: bool,
    /// Known to the properties alone: it was durable at the Handover Point; retention of the sink condemned it;
    /// the source dropped it from a full Handover Point; the source's retention condemned it.
    pub sealed: bool,
    pub let_go: bool,
    pub dropped: bool,
    pub pruned: bool,
}

/// An id as small as it can be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Id {
    pub time: u8,
    pub attempt: u8,
}

impl Id {
    pub fn of(id: &GenerationId) -> Self {
        let time = id.time().unwrap().duration_since(at(0)).as_hours() / 24;
        let attempt = id.as_str().split_once('-').map_or(1, |(_, n)| n.parse().unwrap());
        Self { time: u8::try_from(time).unwrap(), attempt }
    }

    pub fn full(self) -> GenerationId {
        GenerationId::at(at(self.time), self.attempt.into())
    }
}

pub fn at(time: u8) -> Timestamp {
    Timestamp::constant(1_790_000_000, 0) + SignedDuration::from_hours(24 * i64::from(time))
}

/// The seal of what is in a slot: no two generations have the same content.
pub fn seal(slot: usize) -> Seal {
    thread_local!(static SEALS: [Seal; SLOTS] = std::array::from_fn(|slot| Digest::of(&[slot as u8])));
    SEALS.with(|seals| seals[slot])
}

/// Where the collector is: it is about to take this step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Collector {
    Idle,
    SettlePromise,
    DeleteDrafts,
    FinishAccepts,
    Purge,
    Begin,
    Fill(u8),
    Ledger(u8),
    Promise(u8),
    Sync(u8),
    Publish(u8),
    SyncFolders(u8),
    MakeValid(u8),
    DropEldest,
}

/// Where the gate is in its answer to an accept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Gate {
    Idle,
    KeepReceipt(u8),
    Move(u8),
    SyncFolders(u8),
    Prune,
}

/// Where the sink is. `left` are the offers, a bit each, that it has still to look at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Sink {
    Idle,
    Recover,
    Ask,
    Choose { left: u8 },
    Take { slot: u8, step: u8, left: u8 },
    Prune,
    Purge,
}

/// What may still go wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Budget {
    pub crashes: u8,
    pub clock_changes: u8,
    pub damages: u8,
}

/// All of it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct State {
    pub gens: [Gen; SLOTS],
    pub collector: Collector,
    pub gate: Gate,
    pub sink: Sink,
    /// `state.toml`, and the slot that `state.new` promises.
    pub sequence: u8,
    pub promise: Option<u8>,
    /// Accepts that were sent, a bit each: any of them may be delivered now, later, again, or never.
    pub sent: u8,
    pub source_clock: u8,
    pub sink_clock: u8,
    pub budget: Budget,
    /// A run that was cut and run again did not end where the uncut one does.
    pub diverged: bool,
}

impl State {
    pub fn new(budget: Budget) -> Self {
        Self {
            gens: [Gen::default(); SLOTS],
            collector: Collector::Idle,
            gate: Gate::Idle,
            sink: Sink::Idle,
            sequence: 0,
            promise: None,
            sent: 0,
            source_clock: 1,
            sink_clock: 1,
            budget,
            diverged: false,
        }
    }

    pub fn published(&self) -> usize {
        self.gens.iter().filter(|g| g.published).count()
    }

    /// The slots whose copy on the source is there, in the order in which the source lists them.
    pub fn at_source(&self, place: Place) -> Vec<usize> {
        let mut slots: Vec<usize> = (0..SLOTS).filter(|s| self.gens[*s].source.is(place)).collect();
        slots.sort_by_key(|s| (self.gens[*s].sequence, self.gens[*s].id));
        slots
    }

    /// The slots whose copy on the sink is there.
    pub fn at_sink(&self, place: Place) -> impl Iterator<Item = usize> + '_ {
        (0..SLOTS).filter(move |s| self.gens[*s].sink.is(place))
    }

    /// What bears the id of a slot in a place of the source or of the sink: the seal of a slot that does.
    pub fn seal_at(&self, slot: usize, is_there: impl Fn(&Gen) -> bool) -> Option<Seal> {
        let there = (0..SLOTS).find(|s| self.gens[*s].id == self.gens[slot].id && is_there(&self.gens[*s]));
        there.map(seal)
    }
}
