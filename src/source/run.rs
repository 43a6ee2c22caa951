//! A run of `handover source`: the steps of B1 in their order.

use std::{path::Path, thread, time::Duration};

use jiff::{SignedDuration, Timestamp};

use super::{
    collect::Error,
    collecting::{self, Collection, Setting},
    grants,
    seal::{self, Draftable},
    state::State,
    status, watch,
};
use crate::{
    app::{hooks, services, unfinished},
    config,
    gate::{self, GateFacts, Quiet, protocol::Event},
    manifest::{Channel, Generation, GenerationId, generation},
    report::{Collected, CollectedElement, Finding, Kind, SourceRun, Timing, exit_of},
    store::{
        Strange, drilled,
        handover_point::{Draft, HandoverPoint, Place, Rejected, Rejections, Waiting},
    },
    sys::{self, Dir, laps::Laps, lock, progress::Progress, show, signals},
};

/// What a run is given.
pub struct Setup<'a> {
    /// The source's part of the configuration.
    pub config: &'a config::Source,
    /// The state folder of the role: `<state>/source`.
    pub state: &'a Path,
    /// The configuration without secrets, to be kept in the generation.
    pub config_text: &'a str,
    /// Which folders are handover's own.
    pub own: &'a [std::path::PathBuf],
    /// This host's name.
    pub host: &'a str,
    /// Counted along the way.
    pub progress: &'a Progress,
    /// The clock.
    pub clock: &'a dyn Fn() -> Timestamp,
}

/// Runs all steps. Whatever happens is in the report: a failure too.
pub fn run(setup: &Setup<'_>) -> SourceRun {
    let started = (setup.clock)();
    let mut run =
        Run { setup, started, findings: Vec::new(), complete: false, timings: Vec::new(), lock: None };
    let generation = match run.steps() {
        Ok(generation) => generation,
        Err(e) => {
            let finding = finding_of(&e, setup.config.name.as_str());
            run.findings.push(finding);
            run.complete = false;
            None
        }
    };
    let mut report = SourceRun {
        source: setup.config.name.to_string(),
        started,
        finished: (setup.clock)(),
        generation,
        exit: exit_of(&run.findings),
        findings: run.findings,
        complete: run.complete,
        timings: run.timings,
    };
    // Noted before the lock goes: whoever asks between would take the run for one that never ended.
    if run.lock.is_some()
        && let Err(e) = status::finish(setup.state, &report)
    {
        report.findings.push(unnoted(&e));
        report.exit = exit_of(&report.findings);
    }
    report
}

/// That `status` will not know of this run.
fn unnoted(error: &sys::Error) -> Finding {
    let kind = if error.is_storage() { Kind::Storage } else { Kind::Warning };
    let text = format!("how this run went could not be noted: {error}");
    Finding::new(kind, "status", text).with_fix("make room or repair the disk of the state folder")
}

/// What an error that ended a run is called.
pub fn finding_of(error: &Error, subject: &str) -> Finding {
    let kind = match error {
        Error::Interrupted(_) | Error::Store(crate::store::Error::Interrupted(_)) => Kind::Interrupted,
        Error::Internal(_) => Kind::Internal,
        e if e.is_storage() => Kind::Storage,
        Error::Store(crate::store::Error::Layout { .. }) | Error::Gate(gate::Error::Facts { .. }) => {
            Kind::Configuration
        }
        Error::Sys(_) | Error::Store(_) | Error::Gate(_) | Error::Book { .. } => Kind::Failed,
    };
    let finding = Finding::new(kind, subject, error.to_string());
    match kind {
        Kind::Storage => {
            finding.with_fix("make room or repair the disk; nothing was handed over, what waits is whole")
        }
        Kind::Interrupted => finding.with_fix("run again: nothing was handed over, what waits is whole"),
        Kind::Configuration => finding.with_fix("handover source init"),
        Kind::Internal => finding.with_fix("report it; what waits is whole, and the next run begins anew"),
        _ => finding.with_fix("mend what it names, then run again; what waits is whole"),
    }
}

struct Run<'a> {
    setup: &'a Setup<'a>,
    started: Timestamp,
    findings: Vec<Finding>,
    complete: bool,
    timings: Vec<Timing>,
    /// Held until the report is noted.
    lock: Option<lock::Lock>,
}

impl Run<'_> {
    fn steps(&mut self) -> Result<Option<Collected>, Error> {
        let config = self.setup.config;
        let state_dir = Dir::create_all(self.setup.state, 0o700)?;
        match lock::try_exclusive(&state_dir.join(status::LOCK), "handover source run")? {
            lock::Attempt::Held(lock) => self.lock = Some(lock),
            lock::Attempt::Busy(who) => {
                let text = format!("another run holds the lock: {who}");
                self.find(Finding::new(Kind::Busy, config.name.as_str(), text));
                return Ok(None);
            }
        }
        self.setup.progress.begin("recovering", 0, 0);
        if let Err(e) = status::begin(&state_dir, self.started) {
            self.find(unnoted(&e));
        }
        // First of all: whatever else is wrong tonight, the application runs again.
        self.start_services(&state_dir);
        if self.is_restoring()? {
            return Ok(None);
        }
        let point = HandoverPoint::open(&config.home, Channel::Data)?;
        let mut state = State::open(state_dir.try_clone()?, |id| Ok(is_published(&point, id)?))?;
        let recovered = point.recover(self.started)?;
        for done in recovered.items {
            self.find(Finding::new(Kind::Note, "recovery", done.to_string()));
        }
        self.tell_strange("recovery", &recovered.strange);
        self.findings.extend(grants::sweep(&point, self.started));
        gate_facts(config, &state.facts().lineage).write(&point)?;
        self.look_at_waiting(&point)?;
        let rejections = point.rejections()?;
        self.timed("purge", |run| run.make_room(&point))?;
        let env = [("HANDOVER_SOURCE", config.name.to_string())];
        let collected = match hooks::run_all(&config.before, config.hook_timeout, &env) {
            Ok(()) => {
                self.complete = true;
                self.collect(&point, &mut state, &rejections)
            }
            Err(e) => {
                let text = format!("a command of `before` failed, so nothing was collected: {e}");
                self.find(
                    Finding::new(Kind::Failed, "before", text).with_fix("mend the command, then run again"),
                );
                Ok(None)
            }
        };
        for e in hooks::run_always(&config.after, config.hook_timeout, &env) {
            let text = format!("a command of `after` failed: {e}");
            let fix =
                "mend the command, and run by hand what it should have done; the generation is not concerned";
            self.find(Finding::new(Kind::Failed, "after", text).with_fix(fix));
        }
        collected
    }

    /// A restore that was cut may have left half of the old state and half of the new: that is no backup.
    fn is_restoring(&mut self) -> Result<bool, Error> {
        let all = self.setup.state.parent().unwrap_or(self.setup.state);
        if !unfinished::is_there(all)? {
            return Ok(false);
        }
        let text = "a restore was cut and is not finished, so nothing was collected";
        let fix = "handover restore: it says whether it finishes or undoes, and does it";
        self.find(Finding::new(Kind::Failed, self.setup.config.name.as_str(), text).with_fix(fix));
        Ok(true)
    }

    fn find(&mut self, finding: Finding) {
        self.findings.push(finding);
    }

    fn timed<T>(&mut self, phase: &str, work: impl FnOnce(&mut Self) -> T) -> T {
        let before = (self.setup.clock)();
        let result = work(self);
        let seconds = (self.setup.clock)().duration_since(before).as_secs_f64();
        self.timings.push(Timing { phase: phase.to_owned(), seconds });
        result
    }

    fn laps(&mut self, laps: &Laps) {
        self.timings.extend(
            laps.iter()
                .map(|(phase, spent)| Timing { phase: phase.to_owned(), seconds: spent.as_secs_f64() }),
        );
    }

    /// Starts what a run that was killed left stopped.
    fn start_services(&mut self, state: &Dir) {
        match services::recover(state) {
            Ok(names) if names.is_empty() => {}
            Ok(names) => {
                let text = format!(
                    "an earlier run was cut and left services stopped; started: {}",
                    names.join(", ")
                );
                self.find(Finding::new(Kind::Warning, "services", text));
            }
            Err(e) => {
                let fix = "start it by hand and look why it does not start";
                self.find(Finding::new(Kind::Failed, "services", e.to_string()).with_fix(fix));
            }
        }
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
            let fix =
                "look at the sink: does `handover sink` run there, and what does `handover sink status` say?";
            self.find(
                Finding::new(Kind::PreviousTransport, self.setup.config.name.as_str(), text).with_fix(fix),
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
        let alarm_after = SignedDuration::try_from(self.setup.config.alarm_after);
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
    fn tell_strange(&mut self, step: &str, strange: &[Strange]) {
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
            point.prune(config.keep, self.started)?;
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

    fn collect(
        &mut self,
        point: &HandoverPoint,
        state: &mut State,
        rejections: &Rejections,
    ) -> Result<Option<Collected>, Error> {
        let ledger = state.ledger()?;
        let id = point.free_id(self.started, |id| ledger.contains_key(id))?;
        let draft = point.begin(&id)?;
        let setup = self.setup;
        let setting = Setting {
            config: setup.config,
            own: setup.own,
            point,
            state,
            afresh: &rejections.paths,
            progress: setup.progress,
            started: self.started,
        };
        let mut laps = Laps::default();
        let made = collecting::collect(&setting, &draft, &mut self.findings, &mut laps);
        self.laps(&laps);
        let collection = match made {
            Ok(collection) => collection,
            Err(e) => {
                state.forget()?;
                draft.discard()?;
                return Err(e);
            }
        };
        if collection.elements.iter().all(|e| !e.ok && e.files == 0) {
            state.forget()?;
            draft.discard()?;
            let text = "no element gave anything: nothing was handed over";
            let fix = "mend what is said of each element, then run again";
            self.find(Finding::new(Kind::Failed, id.as_str(), text).with_fix(fix));
            return Ok(None);
        }
        let published = self.publish(point, state, draft, &collection);
        let published =
            published.map(|(generation, seal)| Some(collected(&generation, seal, collection.read)))?;
        self.setup.progress.begin("tidying", 0, 0);
        // It is handed over, whatever becomes of the tidying: that is a finding of its own.
        let cleared = point.clear_rejected(rejections, (self.setup.clock)()).map_err(Error::from);
        let cleared = cleared.map(|cleared| self.tell_strange("tidying", &cleared.strange));
        if let Err(e) = cleared.and_then(|()| self.drop_eldest(point)) {
            let kind = finding_of(&e, "").kind;
            let text = format!("the new generation was handed over, but tidying after it failed: {e}");
            let fix = "mend what it names; the next run tidies";
            self.find(Finding::new(kind, "Handover Point", text).with_fix(fix));
        }
        Ok(published)
    }

    /// Seals the draft and moves it to the Handover Point: the one rename that makes it exist.
    fn publish(
        &mut self,
        point: &HandoverPoint,
        state: &mut State,
        draft: Draft,
        collection: &Collection,
    ) -> Result<(Generation, crate::manifest::Seal), Error> {
        let setup = self.setup;
        setup.progress.begin("sealing", 0, 0);
        let made = self.timed("checksums", |run| run.prepare(point, state, &draft, collection));
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
        Ok((generation, seal))
    }

    fn prepare(
        &self,
        point: &HandoverPoint,
        state: &State,
        draft: &Draft,
        collection: &Collection,
    ) -> Result<Generation, Error> {
        let setup = self.setup;
        let names = Draftable { source: &setup.config.name, id: draft.id(), channel: Channel::Data };
        let sha256 = seal::write(draft.dir(), &names, &collection.book, point.new_file_owner())?;
        Ok(Generation {
            format: generation::FORMAT,
            id: draft.id().clone(),
            sequence: state.facts().sequence + 1,
            lineage: state.facts().lineage.clone(),
            source: setup.config.name.clone(),
            channel: Channel::Data,
            host: setup.host.to_owned(),
            started: self.started,
            finished: (setup.clock)(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            previous: state.facts().last.clone(),
            entries: collection.book.totals.entries,
            files: collection.book.totals.files,
            bytes: collection.book.totals.bytes,
            sha256,
            elements: collection.elements.clone(),
            drill: drilled::read(setup.state.parent().unwrap_or(setup.state))?,
            config: setup.config_text.to_owned(),
        })
    }

    /// A full Handover Point gives up its eldest generation, as retention on the source; somebody is told.
    fn drop_eldest(&mut self, point: &HandoverPoint) -> Result<(), Error> {
        let config = self.setup.config;
        let dropped = point.drop_eldest_waiting(config.max_waiting, (self.setup.clock)())?;
        self.tell_strange("tidying", &dropped.strange);
        for gone in dropped.items {
            let text = format!(
                "the Handover Point holds max_waiting = {} generations: the eldest was condemned, unfetched",
                config.max_waiting
            );
            let fix = "look at the sink, which has not fetched for a long time";
            self.find(Finding::new(Kind::HandoverPointFull, gone.id.as_str(), text).with_fix(fix));
        }
        Ok(())
    }
}

/// Whether a generation has left `collecting/`, and will not be back there after a power failure. The newest is never
/// condemned, so it is found.
fn is_published(point: &HandoverPoint, id: &GenerationId) -> Result<bool, crate::store::Error> {
    point.sync_moves()?;
    Ok(point.locate(id)?.is_some_and(|(place, _)| place != Place::Collecting))
}

/// What the gate needs to know, as it reads no configuration.
fn gate_facts(config: &config::Source, lineage: &str) -> GateFacts {
    GateFacts {
        name: config.name.clone(),
        lineage: lineage.to_owned(),
        channel: Channel::Data,
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

fn collected(generation: &Generation, seal: crate::manifest::Seal, bytes_read: u64) -> Collected {
    Collected {
        id: generation.id.to_string(),
        sequence: generation.sequence,
        seal: seal.to_string(),
        files: generation.files,
        bytes: generation.bytes,
        bytes_read,
        elements: generation
            .elements
            .iter()
            .map(|e| CollectedElement {
                name: e.name.to_string(),
                kind: e.kind.clone(),
                ok: e.ok,
                reason: e.reason.clone(),
                files: e.files,
                bytes: e.bytes,
                failed: e.failed,
                unstable: e.unstable,
            })
            .collect(),
    }
}
