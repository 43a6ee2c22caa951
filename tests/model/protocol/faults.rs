//! What goes wrong, and where everything ends when nothing does any more.

use super::{
    HOSTS, Protocol,
    source::discard,
    state::{Collector, Content, Gate, Held, Place, Power, SLOTS, Sink, State},
    wiring::Step,
};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Host {
    Source,
    Sink,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fault {
    /// A process ends between two steps, as by SIGKILL.
    KillCollector,
    KillGate,
    KillSink,
    /// The power of a host is cut: all its processes end, and what was not synced may be lost.
    CutPower(Host, Power),
    /// A sync of content fails: what was written cannot be trusted, and is thrown away.
    SyncFails(Host),
    /// A clock jumps to this time.
    ClockJumps(Host, u8),
}

impl Fault {
    /// Where it happens.
    pub fn host(self) -> Host {
        match self {
            Self::KillCollector | Self::KillGate => Host::Source,
            Self::KillSink => Host::Sink,
            Self::CutPower(host, _) | Self::SyncFails(host) | Self::ClockJumps(host, _) => host,
        }
    }
}

/// Clocks go from 0 to this.
const LATEST: u8 = 2;

/// What is left in the end, as somebody who knows no ids sees it.
#[derive(Debug, PartialEq, Eq)]
struct End {
    waiting: usize,
    in_source_store: usize,
    in_sink_store: usize,
    /// The newest published one is whole in both stores.
    newest_is_stored: bool,
    /// But for the staging of what is not offered any more: it goes with the next one.
    unfinished: usize,
    sequence: u8,
}

impl Protocol {
    /// Everything that can go wrong now.
    pub fn faults(&self, s: &State) -> Vec<Fault> {
        let mut faults = Vec::new();
        if s.budget.clock_changes > 0 {
            for host in HOSTS.into_iter().filter(|host| self.reads_clock(s, *host)) {
                faults.extend((0..=LATEST).map(|time| Fault::ClockJumps(host, time)));
            }
        }
        if s.budget.crashes == 0 {
            return faults;
        }
        let alive = [
            (s.collector != Collector::Idle, Fault::KillCollector),
            (s.gate != Gate::Idle, Fault::KillGate),
            (s.sink != Sink::Idle, Fault::KillSink),
        ];
        faults.extend(alive.into_iter().filter(|(alive, _)| *alive).map(|(_, fault)| fault));
        if matches!(s.collector, Collector::Sync(_)) {
            faults.push(Fault::SyncFails(Host::Source));
        }
        if self.syncing(s).is_some() {
            faults.push(Fault::SyncFails(Host::Sink));
        }
        for host in HOSTS {
            faults.extend(powers(s, host).into_iter().map(|power| Fault::CutPower(host, power)));
        }
        faults
    }

    /// Whether the next step there may ask for the time: a clock that jumps earlier comes to the same.
    fn reads_clock(&self, s: &State, host: Host) -> bool {
        match host {
            Host::Source => {
                s.gate == Gate::Prune
                    || matches!(
                        s.collector,
                        Collector::Idle | Collector::Begin | Collector::Purge | Collector::DropEldest
                    )
            }
            Host::Sink => {
                matches!(s.sink, Sink::Idle | Sink::Prune | Sink::Purge) || self.is_at(s, Step::WriteReceipt)
            }
        }
    }

    /// A fault happens; what comes of it in the end is compared with what would have come without it.
    pub fn fail(&self, s: &mut State, fault: Fault) {
        if let Fault::ClockJumps(host, time) = fault {
            s.budget.clock_changes -= 1;
            match host {
                Host::Source => s.source_clock = time,
                Host::Sink => s.sink_clock = time,
            }
            return;
        }
        let target = s.published() + usize::from(self.is_collecting(s));
        let uncut = self.end(s, target);
        s.budget.crashes -= 1;
        match fault {
            Fault::KillCollector => s.collector = Collector::Idle,
            Fault::KillGate => s.gate = Gate::Idle,
            Fault::KillSink => s.sink = Sink::Idle,
            Fault::CutPower(Host::Source, power) => {
                (s.collector, s.gate) = (Collector::Idle, Gate::Idle);
                for one in &mut s.gens {
                    one.source.cut(power);
                    one.published &= !one.source.is(Place::Making);
                }
            }
            Fault::CutPower(Host::Sink, power) => {
                s.sink = Sink::Idle;
                s.gens.iter_mut().for_each(|one| one.sink.cut(power));
            }
            Fault::SyncFails(host) => self.throw_away(s, host),
            Fault::ClockJumps(..) => {}
        }
        s.diverged |= self.end(s, target) != uncut;
    }

    fn throw_away(&self, s: &mut State, host: Host) {
        match (host, s.collector, self.syncing(s)) {
            (Host::Source, Collector::Sync(slot), _) => {
                discard(&mut s.gens[usize::from(slot)]);
                (s.collector, s.promise) = (Collector::Idle, None);
            }
            (Host::Sink, _, Some(slot)) => {
                s.gens[slot].sink = Held::default();
                s.sink = Sink::Idle;
            }
            _ => {}
        }
    }

    /// Lets every process go on, and run again, until nothing is left to do; generations are made until `target` are.
    fn end(&self, from: &State, target: usize) -> End {
        let mut s = from.clone();
        for _ in 0..3 {
            self.finish_gate(&mut s);
            self.finish_collector(&mut s, target);
            self.finish_sink(&mut s);
            while s.published() < target {
                let before = s.gens;
                self.collect(&mut s, true);
                self.finish_collector(&mut s, target);
                if s.gens == before {
                    break;
                }
            }
            self.collect(&mut s, false);
            self.finish_collector(&mut s, target);
            self.receive(&mut s, false);
            self.finish_sink(&mut s);
        }
        let newest =
            (0..SLOTS).filter(|slot| s.gens[*slot].published).max_by_key(|slot| s.gens[*slot].sequence);
        End {
            waiting: s.at_source(Place::Waiting).len(),
            in_source_store: s.at_source(Place::Stored).len(),
            in_sink_store: s.at_sink(Place::Stored).count(),
            // Where the clock of the source went back, which one is the newest is a matter of arrival.
            newest_is_stored: newest.is_none_or(|slot| {
                let one = &s.gens[slot];
                s.gens.iter().any(|g| g.published && g.id > one.id)
                    || (one.source.is_whole_in(&[Place::Stored]) && one.sink.is_whole_in(&[Place::Stored]))
            }),
            unfinished: s.at_source(Place::Making).len()
                + usize::from(s.promise.is_some())
                + s.gens.iter().filter(|g| g.source.was.is_some() || g.sink.was.is_some()).count(),
            sequence: s.sequence,
        }
    }

    fn finish_gate(&self, s: &mut State) {
        while s.gate != Gate::Idle {
            self.answer(s);
        }
    }

    fn finish_collector(&self, s: &mut State, target: usize) {
        while s.collector != Collector::Idle {
            let more = s.published() < target;
            self.collect(s, more);
        }
    }

    /// Each accept arrives as soon as it is sent.
    fn finish_sink(&self, s: &mut State) {
        while s.sink != Sink::Idle {
            let sent = std::mem::take(&mut s.sent);
            self.receive(s, false);
            let new = (0..SLOTS).find(|slot| s.sent & 1 << slot != 0);
            s.sent |= sent;
            if let Some(slot) = new {
                self.deliver(s, slot);
                self.finish_gate(s);
            }
        }
    }
}

/// The ways in which a cut of the power differs: only where there is something that was not synced. One that loses
/// nothing is what killing the processes is.
fn powers(s: &State, host: Host) -> Vec<Power> {
    let held = |slot: usize| match host {
        Host::Source => &s.gens[slot].source,
        Host::Sink => &s.gens[slot].sink,
    };
    let unsynced = (0..SLOTS).any(|slot| held(slot).content != Content::None && !held(slot).synced);
    let moving = (0..SLOTS).any(|slot| held(slot).was.is_some());
    let mut powers = Vec::new();
    for tears in [false, true] {
        for undoes in [false, true] {
            let ends_both = host == Host::Source && s.collector != Collector::Idle && s.gate != Gate::Idle;
            if (!tears || unsynced) && (!undoes || moving) && (tears || undoes || ends_both) {
                powers.push(Power { tears, undoes });
            }
        }
    }
    powers
}
