//! The protocol between source, gate and sink, model-checked: every order of their steps, with each process killed and
//! the power of each host cut between any two of them, accepts lost, late and repeated, clocks that jump, content that
//! is spoiled on its way, and retention on both sides.
//!
//! The order of the steps is the model's ([`wiring`]); what a step decides, the product's own functions decide: ids,
//! promises, receipts, leftovers, choices, commits, retention.

mod faults;
mod sink;
mod source;
pub mod state;
pub mod wiring;

use std::{cmp::Ordering, time::Duration};

use stateright::{Model, Property};

use self::{
    faults::{Fault, Host},
    state::{Budget, Collector, Gate, Gen, Id, Place, SLOTS, Sink, State},
    wiring::Wiring,
};

pub const PROMISE: &str =
    "each sealed generation that retention has not condemned is whole in at least one place";
pub const RERUN: &str = "a run that was cut and is run again ends where the uncut one does";
pub const IDS: &str = "no id is given twice";
pub const NEWEST: &str = "the newest is never condemned";
pub const RECEIPT: &str = "a receipt is given only for what is durably stored, whole";

/// How far the model goes.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Generations that are published.
    pub generations: usize,
    /// What goes wrong in all.
    pub budget: Budget,
    /// Generations that either store keeps.
    pub keep: u32,
    pub max_waiting: u32,
    pub keep_for: Duration,
}

pub struct Protocol {
    pub wiring: Wiring,
    pub bounds: Bounds,
}

/// What happens next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    Collect,
    Answer,
    Receive {
        damage: bool,
    },
    /// An accept that was sent arrives, perhaps not for the first time.
    Deliver(u8),
    Fault(Fault),
}

/// What takes steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Process {
    Collector,
    Gate,
    Sink,
}

impl Process {
    fn host(self) -> Host {
        match self {
            Self::Collector | Self::Gate => Host::Source,
            Self::Sink => Host::Sink,
        }
    }
}

impl Model for Protocol {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![State::new(self.bounds.budget)]
    }

    fn actions(&self, s: &State, actions: &mut Vec<Action>) {
        let alone = self.local(s);
        let may = |process| alone.is_none_or(|alone| alone == process);
        // One process at a time changes places on the source.
        let waits_for_lock = s.gate != Gate::Idle
            && matches!(s.collector, Collector::FinishAccepts | Collector::Purge | Collector::DropEldest);
        let collects = s.collector != Collector::Idle || self.has_work_at_source(s);
        if may(Process::Collector) && collects && !waits_for_lock {
            actions.push(Action::Collect);
        }
        if may(Process::Gate) && s.gate == Gate::Idle {
            actions.extend((0..SLOTS as u8).filter(|slot| s.sent & 1 << slot != 0).map(Action::Deliver));
        } else if may(Process::Gate) {
            actions.push(Action::Answer);
        }
        if may(Process::Sink) && (s.sink != Sink::Idle || has_work_at_sink(s)) {
            actions.push(Action::Receive { damage: false });
            if self.is_at(s, wiring::Step::Fetch) && s.budget.damages > 0 {
                actions.push(Action::Receive { damage: true });
            }
        }
        let host = alone.map(Process::host);
        let here = |fault: &Fault| host.is_none_or(|host| fault.host() == host);
        actions.extend(self.faults(s).into_iter().filter(here).map(Action::Fault));
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut s = last.clone();
        match action {
            Action::Collect => self.collect(&mut s, last.published() < self.bounds.generations),
            Action::Answer => self.answer(&mut s),
            Action::Receive { damage } => {
                self.receive(&mut s, damage);
                s.budget.damages -= u8::from(damage);
            }
            Action::Deliver(slot) => self.deliver(&mut s, slot.into()),
            Action::Fault(fault) => self.fail(&mut s, fault),
        }
        Some(s)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let mut properties = vec![
            Property::always(PROMISE, |_, s: &State| s.gens.iter().all(is_somewhere)),
            Property::always(RERUN, |_, s: &State| !s.diverged),
            Property::always(IDS, |_, s: &State| {
                let known = |slot: usize| s.gens[slot].id.filter(|_| s.gens[slot].in_ledger);
                (0..SLOTS).all(|a| (0..a).all(|b| known(a).is_none() || known(a) != known(b)))
            }),
            Property::always(NEWEST, |_, s: &State| s.gens.iter().all(|one| has_newer(s, one))),
            Property::always(RECEIPT, |_, s: &State| {
                let given = |slot: &usize| s.sent & 1 << slot != 0 || s.gens[*slot].has_receipt;
                (0..SLOTS).filter(given).all(|slot| s.gens[slot].let_go || is_durable(&s.gens[slot]))
            }),
            // That the model does what it is there for.
            Property::sometimes("two generations are accepted, one after the other", |_, s: &State| {
                s.gens.iter().filter(|g| g.has_receipt).count() == 2
            }),
            Property::sometimes("retention condemns on both sides", |_, s: &State| {
                s.gens.iter().any(|g| g.let_go && g.pruned)
            }),
            Property::sometimes("a full Handover Point drops its eldest", |_, s: &State| {
                s.gens.iter().any(|g| g.dropped)
            }),
            Property::sometimes("a receipt lies where the move was cut off", |_, s: &State| {
                s.gate == Gate::Idle && s.gens.iter().any(|g| g.has_receipt && g.source.is(Place::Waiting))
            }),
            Property::sometimes("a second generation of the same second gets another id", |_, s: &State| {
                let second = |id: Id| id.attempt > 1;
                s.gens.iter().any(|g| g.published && g.id.is_some_and(second))
            }),
        ];
        if self.bounds.budget.clock_changes > 0 {
            properties.push(Property::sometimes("the time of a condemned one is over", |_, s: &State| {
                s.gens.iter().any(|g| g.source.is(Place::Deleted) || g.sink.is(Place::Deleted))
            }));
        }
        properties
    }
}

fn is_somewhere(one: &Gen) -> bool {
    !one.sealed
        || one.dropped
        || one.let_go
        || one.source.is_whole_in(&[Place::Waiting, Place::Stored])
        || one.sink.is_whole_in(&[Place::Stored])
}

fn is_durable(one: &Gen) -> bool {
    one.sink.is_whole_in(&[Place::Stored]) && one.sink.synced && one.sink.was.is_none()
}

/// Whether what retention took, on either side, has a newer one beside it that is still there.
fn has_newer(s: &State, one: &Gen) -> bool {
    // Where the clock of the source went back, its sequence and its ids contradict each other, and arrival decides.
    let is_newer = |g: &Gen| match (g.sequence.cmp(&one.sequence), g.id.cmp(&one.id)) {
        (Ordering::Greater, Ordering::Greater) => true,
        (Ordering::Less, Ordering::Less) => false,
        _ => g.order > one.order,
    };
    let at_sink = |g: &Gen| is_newer(g) && g.sink.is_whole_in(&[Place::Stored]);
    let at_source =
        |g: &Gen| g.sequence > one.sequence && g.source.is_whole_in(&[Place::Waiting, Place::Stored]);
    (!one.let_go || s.gens.iter().any(at_sink))
        && (!(one.dropped || one.pruned) || s.gens.iter().any(at_source))
}

impl Protocol {
    /// Whether a run of the collector would do something: make a generation, or finish what was cut.
    fn has_work_at_source(&self, s: &State) -> bool {
        let unfinished = |g: &Gen| {
            g.source.is(Place::Making)
                || g.source.was.is_some()
                || (g.source.is(Place::Waiting) && g.has_receipt)
                || (g.source.is(Place::Condemned) && g.source.condemned < s.source_clock)
        };
        s.published() < self.bounds.generations
            || s.promise.is_some()
            || s.at_source(Place::Stored).len() > self.bounds.keep as usize
            || s.gens.iter().any(unfinished)
    }

    /// A process whose next step no other one can see, nor can it see theirs: it is taken before all others, as any
    /// order of such steps comes to the same. What can go wrong on its host can still go wrong before it.
    fn local(&self, s: &State) -> Option<Process> {
        use wiring::Step;
        if matches!(
            s.collector,
            Collector::DeleteDrafts
                | Collector::Begin
                | Collector::Fill(_)
                | Collector::Ledger(_)
                | Collector::Promise(_)
                | Collector::Sync(_)
                | Collector::MakeValid(_)
        ) {
            return Some(Process::Collector);
        }
        if matches!(s.gate, Gate::KeepReceipt(_) | Gate::SyncFolders(_)) {
            return Some(Process::Gate);
        }
        let is_local = match s.sink {
            Sink::Idle | Sink::Ask => false,
            Sink::Take { step, .. } => {
                !matches!(self.wiring.steps[usize::from(step)], Step::Fetch | Step::Accept)
            }
            Sink::Recover | Sink::Choose { .. } | Sink::Prune | Sink::Purge => true,
        };
        is_local.then_some(Process::Sink)
    }

    /// Whether a generation is going to be published by the run that the collector is in.
    fn is_collecting(&self, s: &State) -> bool {
        let past = matches!(
            s.collector,
            Collector::Idle | Collector::SyncFolders(_) | Collector::MakeValid(_) | Collector::DropEldest
        );
        !past && s.published() < self.bounds.generations
    }
}

fn has_work_at_sink(s: &State) -> bool {
    let unfinished = |g: &Gen| {
        g.source.is(Place::Waiting)
            || g.sink.is(Place::Making)
            || g.sink.was.is_some()
            || (g.sink.is(Place::Condemned) && g.sink.condemned < s.sink_clock)
    };
    s.gens.iter().any(unfinished) || s.at_sink(Place::Stored).count() > 1
}

/// The hosts, for messages and faults.
pub const HOSTS: [Host; 2] = [Host::Source, Host::Sink];
