//! A run of `handover restore`: R2, into the running application.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use jiff::Timestamp;

use super::{
    apply::{self, Applying, Done},
    copy::{self, Temporary},
    error::{Error, Result},
    find::{Candidate, Catch, Condition, Place},
    finish::{self, Recovered},
    held::{Held, hold, look, row, word},
    journal::{Journal, Phase},
    pick::{self, Wish},
    plan::{Ground, Plan},
    tarball, undo,
    units::How,
    write_out::Proven,
};
use crate::{
    config,
    manifest::{GenerationId, Seal},
    report::{
        Finding, Kind, exit_of,
        restore::{self, RestoreRun},
    },
    store::ledger,
    sys::{Dir, progress::Progress, show},
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

/// The folder of a candidate; a tar is unpacked.
fn opened(candidate: &Candidate, temporary: &Temporary, progress: &Progress) -> Result<Dir> {
    match &candidate.place {
        Place::Folder(dir) => Ok(dir.try_clone()?),
        Place::Tar { file, format, folder, bytes } => {
            progress.begin("unpacking", 0, *bytes);
            copy::check_room(&temporary.dir, *bytes, config::Reserve::Bytes(0))?;
            tarball::unpack(file, *format, folder, &temporary.dir.create_dir("tar", 0o700)?)
        }
    }
}

type Ledger = BTreeMap<GenerationId, Seal>;

struct Run<'a> {
    setup: &'a Setup<'a>,
    ask: &'a Ask<'a>,
    report: RestoreRun,
}

impl Run<'_> {
    fn steps(&mut self) -> Result<()> {
        let (setup, ask) = (self.setup, self.ask);
        let held = hold(setup.state, &setup.config.home, "handover restore")?;
        if let Some(id) = self.recover(&held)? {
            self.not_begun(&id);
            return Ok(());
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
        }
        Ok(())
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

    /// Chooses, proves and applies. One whose content proves torn is known to be so when it is chosen again: that refuses
    /// it, or takes an older one where that is allowed.
    fn bring_back(
        &mut self,
        held: &Held,
        list: &mut [Candidate],
        ledger: &Ledger,
        place: &str,
    ) -> Result<GenerationId> {
        loop {
            let at = self.choose(list, ledger, place)?;
            let temporary = Temporary::new(&held.private)?;
            let from = opened(&list[at], &temporary, self.setup.progress)?;
            let copied = if self.ask.dry_run { Some(from) } else { self.prove(list, at, &from, &temporary)? };
            self.report.candidates[at] = row(&list[at], ledger, self.ask.wish.trust);
            if let Some(copied) = copied {
                self.with(held, list, at, &temporary, &copied)?;
                return Ok(list[at].id.clone());
            }
            copy::sweep(&held.private, None)?;
        }
    }

    fn choose(&mut self, list: &[Candidate], ledger: &Ledger, place: &str) -> Result<usize> {
        let wish = &self.ask.wish;
        let (at, why) = wish.pick(list, place, &self.setup.config.home)?;
        let found =
            list[at].found.as_ref().ok_or(Error::Internal("what was chosen says nothing of itself"))?;
        let trust = pick::trust(found, ledger, wish.trust);
        self.report.generation = Some(restore::Chosen {
            id: list[at].id.to_string(),
            sequence: found.generation.sequence,
            seal: found.seal.to_string(),
            place: show(list[at].shown.as_os_str().as_encoded_bytes()),
            collected: found.generation.started,
            age_seconds: self.report.started.duration_since(found.generation.started).as_secs(),
            why,
            trust: word(trust).to_owned(),
        });
        wish.check_trust(found, trust)?;
        Ok(at)
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

    fn with(
        &mut self,
        held: &Held,
        list: &[Candidate],
        at: usize,
        temporary: &Temporary,
        copied: &Dir,
    ) -> Result<()> {
        let (setup, ask) = (self.setup, self.ask);
        let found = list[at].found.as_ref().ok_or(Error::Internal("no generation"))?;
        let generation = &found.generation;
        if ask.dry_run {
            self.report.findings.push(Finding::new(
                Kind::Note,
                generation.id.as_str(),
                "no content was read yet: a restore reads and compares all of it before anything is touched",
            ));
        }
        let proven = Proven::new(copied, generation)?;
        let plan = self.plan(generation, &proven)?;
        if ask.dry_run {
            return Ok(());
        }
        if !(ask.confirm)(&self.report) {
            return Err(Error::refused("nobody agreed to it", "look at the plan, then give --yes"));
        }
        // Of a part, the rest may be wanted yet: it stays where it was delivered.
        let is_used_up = ask.from.is_none() && ask.wish.elements.is_empty() && ask.paths.is_empty();
        let delivered = if is_used_up { finish::delivered(&held.drop_point, list, at) } else { None };
        let mut applying = Applying {
            state: &held.state,
            private: &held.private,
            elements: &setup.source.elements,
            generation,
            proven: &proven,
            copied,
            progress: setup.progress,
            journal: Journal::new(generation.id.clone(), self.report.started, &temporary.name, delivered),
        };
        if let Some(command) = &setup.config.procedure {
            return apply::procedure(&mut applying, command, copied.path(), config::GENERATION);
        }
        let mut done = Done::default();
        let applied = applying.apply(&plan, &mut done);
        self.note(done);
        applied
    }

    /// Copies it to where only root reaches, and compares every hash there. `None` if it is torn, which it then says.
    fn prove(
        &self,
        list: &mut [Candidate],
        at: usize,
        from: &Dir,
        temporary: &Temporary,
    ) -> Result<Option<Dir>> {
        let (setup, wish) = (self.setup, &self.ask.wish);
        let found = list[at].found.as_ref().ok_or(Error::Internal("no generation"))?;
        setup.progress.begin("verifying", found.generation.files, found.generation.bytes);
        let to = temporary.dir.create_dir("generation", 0o700)?;
        list[at].condition = copy::make(from, &to, found, &wish.elements, setup.progress)?;
        Ok((list[at].condition == Condition::Whole).then_some(to))
    }

    fn plan(&mut self, generation: &crate::manifest::Generation, proven: &Proven) -> Result<Plan> {
        let (setup, ask) = (self.setup, self.ask);
        if setup.config.procedure.is_some() {
            if !ask.wish.elements.is_empty() || !ask.paths.is_empty() {
                return Err(Error::refused(
                    "a procedure of the application is configured, which takes the whole generation",
                    "leave --element and --path out, or restore with --to DIR",
                ));
            }
            let text = "the application's own procedure is run instead of the steps of the elements";
            self.report.findings.push(Finding::new(Kind::Note, "procedure", text));
            return Ok(Plan::default());
        }
        let ground = Ground {
            elements: &setup.source.elements,
            own: setup.own,
            generation,
            proven,
            wanted: &ask.wish.elements,
            paths: &ask.paths,
        };
        let mut plan = ground.plan()?;
        for failed in ask.wish.failed(generation) {
            let text = "it had failed when it was collected: only what is there is restored";
            self.report.findings.push(Finding::new(Kind::Warning, failed, text));
        }
        self.report.findings.append(&mut plan.findings);
        self.report.plan.clone_from(&plan.shown);
        Ok(plan)
    }

    fn note(&mut self, done: Done) {
        let count = |how: How| done.ways.iter().filter(|way| **way == how).count() as u64;
        self.report.exchanged = count(How::Exchange);
        self.report.in_place = count(How::InPlace);
        self.report.created = count(How::Create);
        self.report.promoted = done.promoted;
        let shown = |path: &PathBuf| show(path.as_os_str().as_encoded_bytes());
        self.report.replaced = done.replaced.iter().map(shown).collect();
        self.report.findings.extend(done.findings);
    }
}
