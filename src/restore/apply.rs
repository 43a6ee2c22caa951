//! Carrying a plan out, and putting back what was there if that fails or was cut.
//!
//! All of the new is made first, beside the old. Then the services stop, the files of all elements are exchanged, their
//! probes run, and the dumps are promoted last, as only that cannot be taken back.

use std::path::{Path, PathBuf};

use super::{
    beside, build, copy,
    dump::{self, Target},
    error::{Error, Result},
    exchange::{self, Put},
    finish,
    journal::{DumpRecord, DumpState, Journal, Phase},
    plan::Plan,
    proven::Proven,
    units::How,
};
use crate::{
    app::services::{self, Stopped},
    config::Element,
    manifest::Generation,
    report::{Finding, Kind},
    sys::{Dir, child, mounts::Mounts, progress::Progress, show, signals},
};

/// What a restore works with.
pub struct Applying<'a> {
    /// Root's folder of the role, `<state>/restore`.
    pub state: &'a Dir,
    /// `restored/`, root's alone.
    pub private: &'a Dir,
    /// The elements of the configuration.
    pub elements: &'a [Element],
    /// The generation.
    pub generation: &'a Generation,
    /// Its proven manifest.
    pub proven: &'a Proven,
    /// The proven copy.
    pub copied: &'a Dir,
    /// Counted along the way.
    pub progress: &'a Progress,
    /// As far as it is.
    pub journal: Journal,
}

/// What was done.
#[derive(Debug, Default)]
pub struct Done {
    /// Paths by how they were replaced.
    pub ways: Vec<How>,
    /// Dumps that were promoted or filled.
    pub promoted: u64,
    /// Where the old is kept.
    pub replaced: Vec<PathBuf>,
    /// What was found.
    pub findings: Vec<Finding>,
}

impl<'a> Applying<'a> {
    /// Carries the plan out. After an error what was there is there again, unless a finding says otherwise.
    pub fn apply(mut self, plan: &Plan, done: &mut Done) -> Result<()> {
        let mut stopped: Option<Stopped<'a>> = None;
        let result = self.forward(plan, &mut stopped, done);
        let result = match result {
            Ok(()) => self.finish(done),
            // All is promoted and only the journal could not be written: the next run finishes.
            Err(e) if self.journal.phase == Phase::Done && !self.journal.dumps.is_empty() => Err(e),
            Err(e) => {
                if !self.back(done) {
                    // Half the old and half the new must not run: the next run puts it back, then starts them.
                    std::mem::forget(stopped.take());
                }
                Err(e)
            }
        };
        if let Some(Err(e)) = stopped.map(Stopped::start) {
            let fix = "start it by hand and look why it does not start";
            done.findings.push(Finding::new(Kind::Failed, "services", e.to_string()).with_fix(fix));
        }
        result
    }

    fn forward(&mut self, plan: &Plan, stopped: &mut Option<Stopped<'a>>, done: &mut Done) -> Result<()> {
        self.begin(plan)?;
        self.build(plan, done)?;
        self.load(plan)?;
        self.progress.begin("stopping services", 0, 0);
        *stopped = Some(
            services::stop(self.state, &self.services(plan))
                .map_err(|e| Error::Step { element: "services".to_owned(), text: e.to_string() })?,
        );
        self.enter(Phase::Exchanging)?;
        for at in 0..self.journal.units.len() {
            signals::check()?;
            self.put(at, done)?;
        }
        self.probe_files(plan)?;
        signals::check()?;
        if !self.journal.dumps.is_empty() {
            self.enter(Phase::Promoting)?;
            self.promote(plan, done)?;
        }
        self.enter(Phase::Done)
    }

    fn enter(&mut self, phase: Phase) -> Result<()> {
        self.journal.phase = phase;
        self.journal.write(self.state)
    }

    fn begin(&mut self, plan: &Plan) -> Result<()> {
        let mounts = Mounts::read()?;
        let id = self.generation.id.as_str();
        self.journal.units = plan
            .units
            .iter()
            .map(|unit| build::record(unit, &plan.units, id, &mounts))
            .collect::<Result<_>>()?;
        for (at, _) in &plan.dumps {
            let element = &self.elements[*at];
            let live = element.steps.target.clone().unwrap_or_default();
            let target = if element.steps.promote.is_some() { dump::scratch(&live)? } else { live };
            let element = element.name.to_string();
            self.journal.dumps.push(DumpRecord { element, target, state: DumpState::Planned });
        }
        self.journal.write(self.state)?;
        self.journal.units.iter_mut().try_for_each(exchange::make_staging)?;
        self.journal.write(self.state)
    }

    fn build(&mut self, plan: &Plan, done: &mut Done) -> Result<()> {
        let mut kept = Vec::new();
        let mut records = self.journal.units.clone();
        for (unit, record) in plan.units.iter().zip(&mut records) {
            signals::check()?;
            if build::build(unit, record, (self.proven, self.generation), self.progress, &mut done.findings)?
            {
                exchange::note(record)?;
                kept.push(record.clone());
                continue;
            }
            beside::drop_staging(record)?;
            let text = format!(
                "{} is not in generation {}: it is left as it is",
                show(unit.root.as_os_str().as_encoded_bytes()),
                self.generation.id
            );
            done.findings.push(Finding::new(Kind::Warning, build::names(unit), text));
        }
        self.journal.units = kept;
        Ok(())
    }

    fn element(&self, name: &str) -> Option<&'a Element> {
        self.elements.iter().find(|e| e.name.as_str() == name)
    }

    /// Loads what is promoted later; the live ones go on meanwhile.
    fn load(&mut self, plan: &Plan) -> Result<()> {
        for (i, (at, path)) in plan.dumps.iter().enumerate() {
            let element = &self.elements[*at];
            if element.steps.promote.is_none() {
                continue;
            }
            self.progress.begin(format!("loading {}", element.name), 0, 0);
            self.journal.dumps[i].state = DumpState::Loading;
            self.journal.write(self.state)?;
            let name = self.journal.dumps[i].target.clone();
            Target { element, name: &name }.load(copy::open(self.copied, path)?)?;
            self.journal.dumps[i].state = DumpState::Loaded;
            self.journal.write(self.state)?;
        }
        Ok(())
    }

    fn services(&self, plan: &Plan) -> Vec<String> {
        let mut names: Vec<String> = Vec::new();
        for shown in &plan.shown {
            for service in self.element(&shown.name).iter().flat_map(|e| &e.services) {
                if !names.contains(service) {
                    names.push(service.clone());
                }
            }
        }
        names
    }

    fn put(&mut self, at: usize, done: &mut Done) -> Result<()> {
        let root = show(self.journal.units[at].root.as_os_str().as_encoded_bytes());
        self.progress.begin(format!("exchanging {root}"), 0, 0);
        if self.journal.units[at].how != How::InPlace
            && exchange::put(&self.journal.units[at])? == Put::Refused
        {
            let text = format!("{root} cannot be exchanged by a rename here, so it is changed in place");
            done.findings.push(Finding::new(Kind::Note, self.journal.units[at].element.as_str(), text));
            self.journal.units[at].how = How::InPlace;
            self.journal.write(self.state)?;
        }
        if self.journal.units[at].how == How::InPlace {
            self.progress.begin(format!("copying {root} aside"), 0, 0);
            exchange::copy_aside(&self.journal.units[at], exchange::OLD)?;
            self.journal.units[at].copied = true;
            self.journal.write(self.state)?;
            self.progress.begin(format!("changing {root}"), 0, 0);
            exchange::put_inside(&self.journal.units[at], exchange::NEW)?;
        }
        done.ways.push(self.journal.units[at].how);
        Ok(())
    }

    /// Files are probed where they are now: `{target}` is what the element says.
    fn probe_files(&self, plan: &Plan) -> Result<()> {
        for shown in &plan.shown {
            let Some(element) = self.element(&shown.name) else { continue };
            if dump::of(element).is_none() && element.steps.probe.is_some() {
                self.progress.begin(format!("probing {}", element.name), 0, 0);
                let name = element.steps.target.clone().unwrap_or_default();
                Target { element, name: &name }.probe()?;
            }
        }
        Ok(())
    }

    fn promote(&mut self, plan: &Plan, done: &mut Done) -> Result<()> {
        for (i, (at, path)) in plan.dumps.iter().enumerate() {
            let element = &self.elements[*at];
            self.progress.begin(format!("promoting {}", element.name), 0, 0);
            let before = std::mem::replace(&mut self.journal.dumps[i].state, DumpState::Promoting);
            if let Err(e) = self.journal.write(self.state) {
                // It was not tried: the scratch target is still there to be discarded, and the live one is untouched.
                self.journal.dumps[i].state = before;
                return Err(e);
            }
            let name = self.journal.dumps[i].target.clone();
            let target = Target { element, name: &name };
            match element.steps.promote {
                Some(_) => target.promote()?,
                None => target.load(copy::open(self.copied, path)?)?,
            }
            self.journal.dumps[i].state = DumpState::Promoted;
            self.journal.write(self.state)?;
            done.promoted += 1;
        }
        Ok(())
    }

    /// Tidies after all is done.
    fn finish(&self, done: &mut Done) -> Result<()> {
        self.progress.begin("tidying", 0, 0);
        let (replaced, findings) = finish::finish(self.state, self.private, &self.journal)?;
        done.replaced = replaced;
        done.findings.extend(findings);
        Ok(())
    }

    /// Puts everything back; whether that went well.
    fn back(&self, done: &mut Done) -> bool {
        self.progress.begin("putting back what was there", 0, 0);
        done.ways.clear();
        for dump in &self.journal.dumps {
            let text = match dump.state {
                DumpState::Promoted => {
                    "it was promoted before another step failed, and handover cannot take that back"
                }
                DumpState::Promoting => {
                    "its promotion failed: whether the live one was touched, only the application can tell"
                }
                _ => continue,
            };
            let fix = "look at it by the application's own means; what was there is where `promote` puts it";
            done.findings.push(Finding::new(Kind::Failed, dump.element.as_str(), text).with_fix(fix));
        }
        match finish::undo(self.state, self.private, self.elements, &self.journal) {
            Ok(findings) => {
                done.findings.extend(findings);
                true
            }
            Err(e) => {
                let text = format!("putting back what was there failed: {e}");
                let fix = "mend what it names, then `handover restore`: it goes on putting it back";
                done.findings.push(Finding::new(Kind::Failed, "restore", text).with_fix(fix));
                false
            }
        }
    }
}

/// Runs the application's own procedure on the proven copy instead of all that. Gives what could not be tidied.
pub fn procedure(
    applying: &mut Applying<'_>,
    command: &[String],
    folder: &Path,
    placeholder: &str,
) -> Result<Vec<Finding>> {
    applying.progress.begin("running the procedure", 0, 0);
    applying.enter(Phase::Procedure)?;
    let folder = folder.to_string_lossy();
    let argv: Vec<String> = command.iter().map(|word| word.replace(placeholder, &folder)).collect();
    let timeout = std::time::Duration::from_secs(7 * 24 * 3600);
    let job = child::Job { argv: &argv, user: None, env: &[], timeout };
    if let Err(e) = child::run(&job, None, None) {
        finish::undo(applying.state, applying.private, applying.elements, &applying.journal)?;
        return Err(Error::of_command("restore", "the procedure", e));
    }
    applying.enter(Phase::Done)?;
    Ok(finish::finish(applying.state, applying.private, &applying.journal)?.1)
}
