//! A run of `handover source`: the steps of B1 in their order.

use std::path::Path;

use jiff::Timestamp;

use super::{
    collect::Error,
    collecting::{self, Setting},
    delivery::Delivery,
    grants, logs,
    state::State,
    status,
};
use crate::{
    app::{hooks, services, unfinished},
    config, gate,
    manifest::Channel,
    report::{Collected, Finding, Kind, SourceRun, exit_of},
    store::{
        self,
        handover_point::{HandoverPoint, Rejections},
    },
    sys::{self, Dir, laps::Laps, lock, progress::Progress},
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

/// Runs all steps. Whatever happens is in the report: a failure too, and a failure of one channel never stops the other.
pub fn run(setup: &Setup<'_>) -> SourceRun {
    let started = (setup.clock)();
    let mut report = SourceRun {
        source: setup.config.name.to_string(),
        started,
        finished: started,
        generation: None,
        logs: None,
        findings: Vec::new(),
        complete: false,
        exit: exit_of(&[]),
        timings: Vec::new(),
    };
    let mut held = None;
    if let Err(e) = channels(setup, &mut report, &mut held) {
        report.findings.push(finding_of(&e, setup.config.name.as_str()));
        report.complete = false;
    }
    report.finished = (setup.clock)();
    report.exit = exit_of(&report.findings);
    // Noted before the lock goes: whoever asks between would take the run for one that never ended.
    if held.is_some()
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

/// Data, then logs, under one lock, which is held until the report is noted.
fn channels(setup: &Setup<'_>, report: &mut SourceRun, held: &mut Option<lock::Lock>) -> Result<(), Error> {
    let state = Dir::create_all(setup.state, 0o700)?;
    match lock::try_exclusive(&state.join(status::LOCK), "handover source run")? {
        lock::Attempt::Held(lock) => *held = Some(lock),
        lock::Attempt::Busy(who) => {
            let text = format!("another run holds the lock: {who}");
            report.findings.push(Finding::new(Kind::Busy, setup.config.name.as_str(), text));
            return Ok(());
        }
    }
    setup.progress.begin("recovering", 0, 0);
    if let Err(e) = status::begin(&state, report.started) {
        report.findings.push(unnoted(&e));
    }
    // First of all: whatever else is wrong tonight, the application runs again.
    start_services(&state, report);
    if is_restoring(setup, report)? {
        return Ok(());
    }
    report.complete = true;
    if !setup.config.elements.is_empty() {
        let delivery = Delivery::new(setup, Channel::Data, report.started);
        report.generation = deliver(delivery, &mut *report, |delivery| data(delivery, state.try_clone()?));
    }
    if let Some(config) = &setup.config.logs
        && !report.findings.iter().any(|f| f.kind == Kind::Interrupted)
    {
        let delivery = Delivery::new(setup, Channel::Logs, report.started);
        report.logs = deliver(delivery, &mut *report, |delivery| {
            logs::run(delivery, config, state.ensure_dir("logs", 0o700)?)
        });
    }
    Ok(())
}

/// A restore or an undo that was cut may have left half of the old state and half of the new: that is no backup.
fn is_restoring(setup: &Setup<'_>, report: &mut SourceRun) -> Result<bool, Error> {
    let all = setup.state.parent().unwrap_or(setup.state);
    let Some(cut) = unfinished::look(all)? else { return Ok(false) };
    let text = format!("{}, so nothing was collected", cut.text);
    report.findings.push(Finding::new(Kind::Failed, setup.config.name.as_str(), text).with_fix(cut.fix));
    Ok(true)
}

/// Runs one channel to its end; what was found and what ended it goes to the report.
fn deliver(
    mut delivery: Delivery<'_>,
    report: &mut SourceRun,
    steps: impl FnOnce(&mut Delivery<'_>) -> Result<Option<Collected>, Error>,
) -> Option<Collected> {
    let handed_over = steps(&mut delivery);
    let ended = handed_over.as_ref().err().map(|e| finding_of(e, &delivery.subject()));
    report.complete &= delivery.complete && ended.is_none();
    for finding in delivery.findings.into_iter().chain(ended) {
        // What is so of both channels, as of the disk that they share, is told once.
        if !report.findings.contains(&finding) {
            report.findings.push(finding);
        }
    }
    report.timings.extend(delivery.timings);
    handed_over.ok().flatten()
}

/// What an error that ended a run is called.
pub fn finding_of(error: &Error, subject: &str) -> Finding {
    let kind = match error {
        Error::Interrupted(_) | Error::Store(store::Error::Interrupted(_)) => Kind::Interrupted,
        Error::Internal(_) => Kind::Internal,
        e if e.is_storage() => Kind::Storage,
        Error::Store(store::Error::Layout { .. }) | Error::Gate(gate::Error::Facts { .. }) => {
            Kind::Configuration
        }
        Error::Sys(_) | Error::Store(_) | Error::Gate(_) | Error::Book { .. } => Kind::Failed,
    };
    let finding = Finding::new(kind, subject, error.to_string());
    match kind {
        Kind::Storage if matches!(error, Error::Store(store::Error::HomeGone { .. })) => {
            finding.with_fix(store::Error::HOME_GONE)
        }
        Kind::Storage => {
            finding.with_fix("make room or repair the disk; nothing was handed over, what waits is whole")
        }
        Kind::Interrupted => finding.with_fix("run again: nothing was handed over, what waits is whole"),
        Kind::Configuration => finding.with_fix("handover source init"),
        Kind::Internal => finding.with_fix("report it; what waits is whole, and the next run begins anew"),
        _ => finding.with_fix("mend what it names, then run again; what waits is whole"),
    }
}

/// Starts what a run that was killed left stopped.
fn start_services(state: &Dir, report: &mut SourceRun) {
    match services::recover(state) {
        Ok(names) if names.is_empty() => {}
        Ok(names) => {
            let text =
                format!("an earlier run was cut and left services stopped; started: {}", names.join(", "));
            report.findings.push(Finding::new(Kind::Warning, "services", text));
        }
        Err(e) => {
            let fix = "start it by hand and look why it does not start";
            report.findings.push(Finding::new(Kind::Failed, "services", e.to_string()).with_fix(fix));
        }
    }
}

/// The data channel: the elements.
fn data(delivery: &mut Delivery<'_>, state: Dir) -> Result<Option<Collected>, Error> {
    let config = delivery.setup.config;
    let (point, mut state) = delivery.open(&config.home, state)?;
    delivery.findings.extend(grants::sweep(&point, delivery.started));
    let rejections = point.rejections()?;
    let env = [("HANDOVER_SOURCE", config.name.to_string())];
    let collected = match hooks::run_all(&config.before, config.hook_timeout, &env) {
        Ok(()) => {
            delivery.complete = true;
            collect(delivery, &point, &mut state, &rejections)
        }
        Err(e) => {
            let text = format!("a command of `before` failed, so nothing was collected: {e}");
            delivery.find(
                Finding::new(Kind::Failed, "before", text).with_fix("mend the command, then run again"),
            );
            Ok(None)
        }
    };
    for e in hooks::run_always(&config.after, config.hook_timeout, &env) {
        let text = format!("a command of `after` failed: {e}");
        let fix =
            "mend the command, and run by hand what it should have done; the generation is not concerned";
        delivery.find(Finding::new(Kind::Failed, "after", text).with_fix(fix));
    }
    collected
}

fn collect(
    delivery: &mut Delivery<'_>,
    point: &HandoverPoint,
    state: &mut State,
    rejections: &Rejections,
) -> Result<Option<Collected>, Error> {
    let setup = delivery.setup;
    let ledger = state.ledger()?;
    let id = point.free_id(delivery.started, |id| ledger.contains_key(id))?;
    let draft = point.begin(&id)?;
    let setting = Setting {
        config: setup.config,
        own: setup.own,
        point,
        state,
        afresh: &rejections.paths,
        progress: setup.progress,
        started: delivery.started,
    };
    let mut laps = Laps::default();
    let made = collecting::collect(&setting, &draft, &mut delivery.findings, &mut laps);
    delivery.laps(&laps);
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
        delivery.find(Finding::new(Kind::Failed, id.as_str(), text).with_fix(fix));
        return Ok(None);
    }
    let published = delivery.publish(point, state, draft, collection)?;
    setup.progress.begin("tidying", 0, 0);
    // It is handed over, whatever becomes of the tidying: that is a finding of its own.
    let cleared = point.clear_rejected(rejections, (setup.clock)()).map_err(Error::from);
    let cleared = cleared.map(|cleared| delivery.tell_strange("tidying", &cleared.strange));
    if let Err(e) = cleared.and_then(|()| drop_eldest(delivery, point)) {
        let kind = finding_of(&e, "").kind;
        let text = format!("the new generation was handed over, but tidying after it failed: {e}");
        let fix = "mend what it names; the next run tidies";
        delivery.find(Finding::new(kind, "Handover Point", text).with_fix(fix));
    }
    Ok(Some(published))
}

/// A full Handover Point gives up its eldest generation, as retention on the source; somebody is told.
fn drop_eldest(delivery: &mut Delivery<'_>, point: &HandoverPoint) -> Result<(), Error> {
    let most = delivery.setup.config.max_waiting;
    let dropped = point.drop_eldest_waiting(most, (delivery.setup.clock)())?;
    delivery.tell_strange("tidying", &dropped.strange);
    for gone in dropped.items {
        let text = format!(
            "the Handover Point holds its most (max_waiting = {most}): the eldest was condemned, unfetched"
        );
        let fix = "look at the sink, which has not fetched for a long time";
        delivery.find(Finding::new(Kind::HandoverPointFull, gone.id.as_str(), text).with_fix(fix));
    }
    Ok(())
}
