//! One channel's way to its Handover Point: the same steps for data and for logs.

use std::{thread, time::Duration};

use jiff::{SignedDuration, Timestamp};

use super::{
    collect::{Closed, Error},
    run::Setup,
    seal::{self, Draftable},
    state::State,
    watch,
};
use crate::{
    config,
    gate::{self, GateFacts, Quiet, protocol::Event},
    manifest::{Channel, Generation, GenerationId, Seal, generation},
    report::{Collected, CollectedElement, Finding, Kind, Timing},
    store::{
        Strange, drilled,
        handover_point::{Draft, HandoverPoint, Place, Rejected, Waiting},
    },
    sys::{self, Dir, laps::Laps, show, signals},
};

/// What was collected into a draft.
#[derive(Debug)]
pub struct Collection {
    /// The elements, in the order of the manifest.
    pub elements: Vec<generation::Element>,
    /// The book, closed.
    pub book: Closed,
    /// Bytes that were read.
    pub read: u64,
}

/// A run of one channel, and what is found in it.
pub(super) struct Delivery<'a> {
    pub setup: &'a Setup<'a>,
    pub channel: Channel,
    pub started: Timestamp,
    pub findings: Vec<Finding>,
    /// Whether it looked at all it is for: then what it did not find is well.
    pub complete: bool,
    pub timings: Vec<Timing>,
}

impl<'a> Delivery<'a> {
    pub(super) fn new(setup: &'a Setup<'a>, channel: Channel, started: Timestamp) -> Self {
        Self { setup, channel, started, findings: Vec::new(), complete: false, timings: Vec::new() }
    }

    pub(super) fn find(&mut self, finding: Finding) {
        self.findings.push(finding);
    }

    /// What findings of the channel as a whole are about: one trouble with both channels is two.
    pub(super) fn subject(&self) -> String {
        match self.channel {
            Channel::Data => self.setup.config.name.to_string(),
            Channel::Logs => format!("{} logs", self.setup.config.name),
        }
    }

    pub(super) fn timed<T>(&mut self, phase: &str, work: impl FnOnce(&mut Self) -> T) -> T {
        let before = (self.setup.clock)();
        let result = work(self);
        let seconds = (self.setup.clock)().duration_since(before).as_secs_f64();
        self.timings.push(Timing { phase: phase.to_owned(), seconds });
        result
    }

    pub(super) fn laps(&mut self, laps: &Laps) {
        self.timings.extend(
            laps.iter()
                .map(|(phase, spent)| Timing { phase: phase.to_owned(), seconds: spent.as_secs_f64() }),
        );
    }

    /// What comes before anything is collected: what a cut left behind is finished or taken away, the gate is told what
    /// it needs to know, what waits is looked at, and what was condemned long enough ago goes.
    pub(super) fn open(
        &mut self,
        home: &std::path::Path,
        state: Dir,
    ) -> Result<(HandoverPoint, State), Error> {
        let point = HandoverPoint::open_known(home, self.channel, self.setup.state)?;
        let state = State::open(state, self.channel, |id| Ok(is_published(&point, id)?))?;
        let recovered = point.recover(self.started)?;
        for done in recovered.items {
            self.find(Finding::new(Kind::Note, "recovery", done.to_string()));
        }
        self.tell_strange("recovery", &recovered.strange);
        gate_facts(self.setup.config, self.channel, &state.facts().lineage).write(&point)?;
        self.look_at_waiting(&point)?;
        self.timed("purge", |this| this.make_room(&point))?;
        Ok((point, state))
    }

    /// Tells what earlier runs handed over and nobody fetched, and what the sink found damaged.
    fn look_at_waiting(&mut self, point: &HandoverPoint) -> Result<(), Error> {
        let listing = point.waiting()?;
        self.tell_strange("at the Handover Point", &listing.strange);
        let idle: Vec<&Waiting> = listing.items.iter().filter(|w| self.is_idle(w)).collect();
        if let Some(eldest) = idle.first() {
            let text = format!(
                "{} handed over earlier {} not been fetched, the eldest ({}) waits since {}",
                if idle.len() == 1 {
                    "a generation".to_owned()
                } else {
                    format!("{} generations", idle.len())
                },
                if idle.len() == 1 { "has" } else { "have" },
                eldest.found.id(),
                eldest.since,
            );
            let subject = self.subject();
            self.find(
                Finding::new(Kind::PreviousTransport, subject, text).with_fix(look_at_sink(self.channel)),
            );
        }
        for waiting in &listing.items {
            if let Some(rejected) = &waiting.rejected {
                self.tell_rejected(waiting.found.id(), rejected);
            }
        }
        Ok(())
    }

    /// Whether nobody has fetched it, and nobody seems to: a session that only holds it, as one with a stolen key may,
    /// does not count for longer than `alarm_after`.
    fn is_idle(&self, waiting: &Waiting) -> bool {
        let config = self.setup.config;
        let alarm_after = match (&config.logs, self.channel) {
            (Some(logs), Channel::Logs) => logs.alarm_after,
            _ => config.alarm_after,
        };
        let alarm_after = SignedDuration::try_from(alarm_after);
        let age = self.started.duration_since(waiting.since);
        let held = waiting.reading && age <= alarm_after.unwrap_or(SignedDuration::MAX);
        waiting.rejected.is_none() && !held
    }

    fn tell_rejected(&mut self, id: &GenerationId, rejected: &Rejected) {
        let (count, id) = (rejected.paths.len(), id.as_str());
        let text =
            format!("the sink rejected it: {count} of its files are damaged here; they are read afresh now");
        let fix = "look at this host's disk and memory; the generation that is collected now takes its place";
        self.find(Finding::new(Kind::Verification, id, text).with_fix(fix));
        if let Some(flaw) = &rejected.flaw {
            let text = format!("which of its files the sink found damaged cannot be read: {flaw}");
            let fix = "if nobody wrote into the home by hand, look who logs in as the transport user";
            self.find(Finding::new(Kind::Warning, id, text).with_fix(fix));
        }
    }

    /// What lies in the transport user's folders and is not as handover leaves it: told, and left where it is.
    pub(super) fn tell_strange(&mut self, step: &str, strange: &[Strange]) {
        let fix =
            "nothing of it was followed or changed: look who logs in as the transport user, and remove it";
        for one in strange {
            let text = format!("{step}: {}", one.why);
            let finding = Finding::new(Kind::Warning, show(one.name.as_encoded_bytes()), text).with_fix(fix);
            if !self.findings.contains(&finding) {
                self.find(finding);
            }
        }
    }

    /// What the gate could not condemn any more after an accept is condemned now, and condemned generations whose time
    /// is over go; too little room ends the run before it takes any.
    fn make_room(&mut self, point: &HandoverPoint) -> Result<(), Error> {
        let config = self.setup.config;
        if !is_quiet(config, self.started) {
            if self.channel == Channel::Data {
                point.prune(config.keep, self.started)?;
            }
            // What is known of them goes with their folders, so it is written down before.
            gate::history::keep(point, self.started)?;
            let purged = point.purge_condemned(config.undo_for, self.started)?;
            self.tell_strange("among the condemned ones", &purged.strange);
            for id in purged.items {
                let event = Event { at: self.started, what: "deleted".to_owned(), detail: String::new() };
                gate::history::note(point, &id, event)?;
            }
        }
        let room = sys::room::Room::of(&Dir::open(point.home())?)?;
        let reserve = config.reserve.of(room.bytes_total);
        if room.bytes_free < reserve {
            let full = std::io::Error::from_raw_os_error(libc::ENOSPC);
            return Err(sys::Error::new(
                "collect: the room kept for the application (`reserve`) is reached in",
                point.home(),
                full,
            )
            .into());
        }
        self.findings.extend(watch::nearly_full(config.reserve, room));
        Ok(())
    }

    /// Seals the draft and moves it to the Handover Point: the one rename that makes it exist, and what is remembered
    /// of it valid.
    pub(super) fn publish(
        &mut self,
        point: &HandoverPoint,
        state: &mut State,
        draft: Draft,
        collection: Collection,
    ) -> Result<Collected, Error> {
        let (setup, read) = (self.setup, collection.read);
        setup.progress.begin("sealing", 0, 0);
        let made = self.timed("checksums", |this| this.prepare(point, state, &draft, collection));
        let prepared = made.and_then(|generation| {
            let (_, seal) =
                generation.to_text().map_err(|_| Error::Internal("generation.toml cannot be written"))?;
            wait_out_quiet(setup)?;
            let new = state.promise(&generation.id, generation.sequence, seal)?;
            Ok((generation, seal, new))
        });
        let (generation, seal, new) = match prepared {
            Ok(prepared) => prepared,
            Err(e) => {
                state.forget()?;
                draft.discard()?;
                return Err(e);
            }
        };
        let id = generation.id.clone();
        setup.progress.begin("publishing", 0, 0);
        match draft.seal(&generation) {
            Ok(sealed) => self.laps(sealed.laps()),
            Err(e) => {
                // It may have been published for all that, as when only the last fsync failed: the place decides.
                if !is_published(point, &id)? {
                    state.forget()?;
                    return Err(e.into());
                }
                let text = format!("it was handed over, but may be lost if the power fails now: {e}");
                let fix = "repair the disk, then run again: the sink can fetch it meanwhile";
                self.find(Finding::new(Kind::Storage, id.as_str(), text).with_fix(fix));
            }
        }
        state.make_valid(new)?;
        Ok(collected(&generation, seal, read))
    }

    fn prepare(
        &self,
        point: &HandoverPoint,
        state: &State,
        draft: &Draft,
        collection: Collection,
    ) -> Result<Generation, Error> {
        let (setup, totals) = (self.setup, collection.book.totals);
        let names = Draftable { source: &setup.config.name, id: draft.id(), channel: self.channel };
        let sha256 = seal::write(draft.dir(), &names, collection.book, point.new_file_owner())?;
        Ok(Generation {
            format: generation::FORMAT,
            id: draft.id().clone(),
            sequence: state.facts().sequence + 1,
            lineage: state.facts().lineage.clone(),
            source: setup.config.name.clone(),
            channel: self.channel,
            host: setup.host.to_owned(),
            started: self.started,
            finished: (setup.clock)(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            previous: state.facts().last.clone(),
            entries: totals.entries,
            files: totals.files,
            bytes: totals.bytes,
            sha256,
            elements: collection.elements,
            drill: drilled::read(setup.state.parent().unwrap_or(setup.state))?.map(|noted| noted.drill),
            config: setup.config_text.to_owned(),
        })
    }
}

/// What to do where nobody fetches.
pub(super) fn look_at_sink(channel: Channel) -> String {
    let role = match channel {
        Channel::Data => "sink",
        Channel::Logs => "logsink",
    };
    format!("look at the sink: does `handover {role}` run there, and what does `handover {role} status` say?")
}

/// Whether a generation has left `collecting/`, and will not be back there after a power failure. The newest one of data is never condemned; of logs that were accepted
/// and are gone there is the receipt.
fn is_published(point: &HandoverPoint, id: &GenerationId) -> Result<bool, crate::store::Error> {
    point.sync_moves()?;
    match point.locate(id)? {
        Some((place, _)) => Ok(place != Place::Collecting),
        None => Ok(point.log_receipt(id)?.is_some()),
    }
}

/// What the gate needs to know, as it reads no configuration.
pub(super) fn gate_facts(config: &config::Source, channel: Channel, lineage: &str) -> GateFacts {
    GateFacts {
        name: config.name.clone(),
        lineage: lineage.to_owned(),
        channel,
        keep: config.keep,
        quiet: config.quiet.map(|window| Quiet { from: window.start, to: window.end }),
    }
}

/// Whether it is the time in which the provider copies the host, by this host's wall clock.
fn is_quiet(config: &config::Source, now: Timestamp) -> bool {
    config.quiet.is_some_and(|window| window.contains(gate::wall_clock(now)))
}

/// No moves while the provider copies the host: waits for the end of the window.
fn wait_out_quiet(setup: &Setup<'_>) -> Result<(), Error> {
    while is_quiet(setup.config, (setup.clock)()) {
        setup.progress.begin("waiting for the end of `quiet`", 0, 0);
        signals::check()?;
        thread::sleep(Duration::from_secs(1));
    }
    Ok(())
}

fn collected(generation: &Generation, seal: Seal, bytes_read: u64) -> Collected {
    let element = |e: &generation::Element| CollectedElement {
        name: e.name.to_string(),
        kind: e.kind.clone(),
        ok: e.ok,
        reason: e.reason.clone(),
        files: e.files,
        bytes: e.bytes,
        failed: e.failed,
        unstable: e.unstable,
    };
    Collected {
        id: generation.id.to_string(),
        sequence: generation.sequence,
        seal: seal.to_string(),
        files: generation.files,
        bytes: generation.bytes,
        bytes_read,
        elements: generation.elements.iter().map(element).collect(),
    }
}
