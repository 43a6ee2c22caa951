//! The middle of a run: one is chosen, proven where only root reaches it, and brought to its place.

use std::path::PathBuf;

use super::{
    apply::{self, Applying, Done},
    build,
    copy::{self, Temporary},
    error::{Error, Result},
    find::{Candidate, Condition, Place},
    finish,
    held::{Held, row, word},
    journal::Journal,
    pick,
    plan::{Ground, Plan},
    proven::Proven,
    run::{Ledger, Run},
    units::How,
};
use crate::{
    config,
    manifest::GenerationId,
    report::{Finding, Kind, restore},
    sys::{Dir, progress::Progress, show},
};

/// The folder of a candidate; a tar is unpacked, for a look only what describes the generation.
fn opened(candidate: &Candidate, temporary: &Temporary, look: bool, progress: &Progress) -> Result<Dir> {
    let tar = match &candidate.place {
        Place::Folder(dir) => return Ok(dir.try_clone()?),
        Place::Tar(tar) => tar,
    };
    progress.begin("unpacking", 0, if look { tar.own.bytes } else { tar.need.bytes });
    tar.need.check(&temporary.dir, config::Reserve::Bytes(0), "what is in the tar")?;
    let to = temporary.dir.create_dir("tar", 0o700)?;
    if look { tar.describe(&to) } else { tar.unpack(&to) }
}

impl Run<'_> {
    /// Chooses, proves and applies. One whose content proves torn is known to be so when it is chosen again: that refuses
    /// it, or takes an older one where that is allowed.
    pub(super) fn bring_back(
        &mut self,
        held: &Held,
        list: &mut [Candidate],
        ledger: &Ledger,
        place: &str,
    ) -> Result<GenerationId> {
        loop {
            let at = self.choose(list, ledger, place)?;
            let temporary = Temporary::new(&held.private)?;
            let from = opened(&list[at], &temporary, self.ask.dry_run, self.setup.progress)?;
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
        wish.check_elements(&found.generation)?;
        Ok(at)
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
        self.report.findings.extend(ask.wish.torn_twin(list, at));
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
            let findings = apply::procedure(&mut applying, command, copied.path(), config::GENERATION)?;
            self.report.findings.extend(findings);
            return Ok(());
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
        let need = copy::need(from, &to, found, &wish.elements)?;
        need.check(&to, config::Reserve::Bytes(0), "the copy that is proven")?;
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
        build::check_room(&plan.units, proven, generation)?;
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
