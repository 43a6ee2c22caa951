//! A run of `handover restore`: R2, into the running application.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use jiff::Timestamp;

use super::{
    copy, drilling,
    error::Result,
    find::{Candidate, Catch},
    finish::{self, Recovered},
    held::{Held, hold, look, row},
    journal::{Journal, Phase},
    pick::Wish,
    restored, undo,
};
use crate::{
    config,
    manifest::{GenerationId, Seal},
    report::{Finding, Kind, exit_of, restore::RestoreRun},
    store::ledger,
    sys::{progress::Progress, show},
};

/// What a run is given.
pub struct Setup<'a> {
    /// What is collected here says where it goes back to.
    pub source: &'a config::Source,
    /// The restore's part of the configuration.
    pub config: &'a config::Restore,
    /// The state folder of all roles.
    pub state: &'a Path,
    /// Which folders are handover's own.
    pub own: &'a [PathBuf],
    /// Counted along the way.
    pub progress: &'a Progress,
    /// The clock.
    pub clock: &'a dyn Fn() -> Timestamp,
}

/// What is asked for.
pub struct Ask<'a> {
    /// Which generation, of what.
    pub wish: Wish,
    /// Where to look, instead of `restore/`.
    pub from: Option<PathBuf>,
    /// Only these paths; all if empty.
    pub paths: Vec<PathBuf>,
    /// Show the plan, change nothing.
    pub dry_run: bool,
    /// Asks whether the plan is to be carried out.
    pub confirm: &'a dyn Fn(&RestoreRun) -> bool,
}

/// Runs all steps. Whatever happens is in the report: a failure too.
pub fn run(setup: &Setup<'_>, ask: &Ask<'_>) -> RestoreRun {
    let started = (setup.clock)();
    let report = RestoreRun {
        source: setup.source.name.to_string(),
        started,
        finished: started,
        dry_run: ask.dry_run,
        generation: None,
        candidates: Vec::new(),
        plan: Vec::new(),
        exchanged: 0,
        in_place: 0,
        created: 0,
        promoted: 0,
        done: false,
        replaced: Vec::new(),
        findings: Vec::new(),
        exit: crate::report::Exit::Ok,
    };
    let mut run = Run { setup, ask, report };
    if let Err(e) = run.steps() {
        run.report.findings.push(e.finding(setup.source.name.as_str()));
    }
    run.report.finished = (setup.clock)();
    run.report.exit = exit_of(&run.report.findings);
    run.report
}

/// The seals of this host.
pub(super) type Ledger = BTreeMap<GenerationId, Seal>;

/// A run, as far as it is.
pub(super) struct Run<'a> {
    pub(super) setup: &'a Setup<'a>,
    pub(super) ask: &'a Ask<'a>,
    pub(super) report: RestoreRun,
}

impl Run<'_> {
    fn steps(&mut self) -> Result<()> {
        let (setup, ask) = (self.setup, self.ask);
        let held = hold(setup.state, &setup.config.home, "handover restore")?;
        if let Some(id) = self.recover(&held)? {
            self.not_begun(&id);
            return Ok(());
        }
        if !ask.dry_run {
            self.report.findings.extend(drilling::tidy(&held.state, &setup.source.elements)?);
        }
        copy::sweep(&held.private, None)?;
        setup.progress.begin("looking", 0, 0);
        let ledger = ledger::read(&held.source)?;
        let (mut catch, place) = look(ask.from.as_deref(), &held.drop_point)?;
        catch.candidates.iter_mut().try_for_each(Candidate::look)?;
        self.tell(&catch, &ledger);
        let shown = show(place.as_os_str().as_encoded_bytes());
        let done = self.bring_back(&held, &mut catch.candidates, &ledger, &shown);
        if Journal::load(&held.state)?.is_none() {
            copy::sweep(&held.private, None)?;
        }
        let id = done?;
        if !ask.dry_run {
            self.report.done = true;
            let detail = "into the running application";
            held.note(&id, self.report.started, "restored", detail, &mut self.report.findings);
            self.prune(&held);
        }
        Ok(())
    }

    /// What earlier restores used up goes, but for the newest few. That it cannot is no failure of this restore.
    fn prune(&mut self, held: &Held) {
        let keep = self.setup.config.keep_restored;
        let finding = match restored::prune(&held.state, &held.private, keep) {
            Ok(names) if names.is_empty() => return,
            Ok(names) => {
                let text = format!("removed from restored/: {} (keep_restored = {keep})", names.join(", "));
                Finding::new(Kind::Note, "restored", text)
            }
            Err(e) => {
                let text = format!("what earlier restores used up could not be removed: {e}");
                Finding::new(Kind::Warning, "restored", text)
                    .with_fix("mend it, then `handover restore clean`")
            }
        };
        self.report.findings.push(finding);
    }

    /// One that was cut is finished now; that is what was asked for, or nothing of that was begun.
    fn not_begun(&mut self, finished: &GenerationId) {
        if self.ask.wish.id.as_ref() == Some(finished) {
            return;
        }
        let text = "the restore that was cut is finished; what was asked for now was not begun";
        let fix = "look at the application, then run it again";
        self.report.findings.push(Finding::new(Kind::RestoreRefused, finished.as_str(), text).with_fix(fix));
    }

    /// Finishes or undoes a restore that was cut; gives the one that was finished.
    fn recover(&mut self, held: &Held) -> Result<Option<GenerationId>> {
        undo::refuse_unfinished(&held.state)?;
        if self.ask.dry_run {
            if let Some(journal) = Journal::load(&held.state)? {
                let what = if journal.phase >= Phase::Promoting { "finish" } else { "undo" };
                let text =
                    format!("the restore of {} was cut: the next run would first {what} it", journal.id);
                self.report.findings.push(Finding::new(Kind::Warning, "recovery", text));
            }
            return Ok(None);
        }
        let cut = Journal::load(&held.state)?;
        let findings = &mut self.report.findings;
        let recovered = finish::recover(&held.state, &held.private, &self.setup.source.elements, findings)?;
        let Some(journal) = cut.filter(|_| recovered == Recovered::Finished) else { return Ok(None) };
        held.note(&journal.id, journal.started, "restored", "it was cut, and finished later", findings);
        Ok(Some(journal.id))
    }

    fn tell(&mut self, catch: &Catch, ledger: &Ledger) {
        for foreign in &catch.foreign {
            self.report.findings.push(Finding::new(Kind::Note, "passed over", foreign.clone()));
        }
        let rows = catch.candidates.iter().map(|c| row(c, ledger, self.ask.wish.trust));
        self.report.candidates = rows.collect();
    }
}
