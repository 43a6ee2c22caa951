//! The drill: the newest generation is restored beside the running application, into a scratch folder and scratch targets;
//! its probes run, and all is removed again. Nothing that is live is named to any command: `promote` is never run.

use std::time::Instant;

use super::{
    dump::{self, Target},
    error::{Error, Result},
    find::Candidate,
    held::{hold, look},
    pick::{self, Wish},
    run::Setup,
    selection::{Places, Selection},
    write_out::Proven,
};
use crate::{
    config::Element,
    manifest::{Generation, generation::Drill},
    report::{
        Exit, Finding, Kind, exit_of,
        restore::{DrillRun, DrilledElement},
    },
    store::{drilled, ledger, places},
    sys::{Dir, durable, random, signals},
};

/// What is asked for.
#[derive(Debug)]
pub struct Ask {
    /// Which generation, of what.
    pub wish: Wish,
    /// Where to look, instead of the Source-Store.
    pub from: Option<std::path::PathBuf>,
    /// Where the scratch folder is made, instead of in the home.
    pub scratch: Option<std::path::PathBuf>,
}

/// Runs it. Whatever happens is in the report and, if a generation was tried, in the record.
pub fn run(setup: &Setup<'_>, ask: &Ask) -> DrillRun {
    let started = (setup.clock)();
    let mut report = DrillRun {
        source: setup.source.name.to_string(),
        started,
        finished: started,
        generation: None,
        age_seconds: None,
        seconds: 0,
        ok: false,
        elements: Vec::new(),
        findings: Vec::new(),
        exit: Exit::Ok,
    };
    if let Err(e) = steps(setup, ask, &mut report) {
        report.findings.push(e.finding(setup.source.name.as_str()));
    }
    report.finished = (setup.clock)();
    report.exit = exit_of(&report.findings);
    report
}

fn steps(setup: &Setup<'_>, ask: &Ask, report: &mut DrillRun) -> Result<()> {
    let held = hold(setup.state, &setup.config.home, "handover restore drill")?;
    super::copy::sweep(&held.private, None)?;
    let store = setup.config.home.join(places::STORE);
    let from = ask.from.as_deref().unwrap_or(&store);
    let (mut catch, place) = look(Some(from), &held.drop_point)?;
    catch.candidates.iter_mut().try_for_each(Candidate::look)?;
    let shown = crate::sys::show(place.as_os_str().as_encoded_bytes());
    let (at, _) = ask.wish.pick(&catch.candidates, &shown)?;
    let chosen = &catch.candidates[at];
    let (super::find::Place::Folder(dir), Some(found)) = (&chosen.place, &chosen.found) else {
        return Err(Error::refused(
            "a drill does not unpack tars",
            "unpack it, and name the folder with --from",
        ));
    };
    let ledger = ledger::read(&held.source)?;
    ask.wish.check_trust(found, pick::trust(found, &ledger, None))?;
    let elements = wanted(setup, &found.generation, &ask.wish)?;
    report.generation = Some(chosen.id.to_string());
    report.age_seconds = Some(report.started.duration_since(found.generation.started).as_secs());
    let begun = Instant::now();
    let parent = ask.scratch.as_ref().map_or_else(|| held.private.try_clone(), Dir::open)?;
    let name = format!("{}{}", super::copy::TEMPORARY, random::hex(6)?);
    let scratch = parent.create_dir(&name, 0o700)?;
    let drilling = Drilling { setup, dir, generation: &found.generation, scratch: &scratch };
    let tried = elements.iter().try_for_each(|element| drilling.element(element, report));
    let removed = durable::remove_tree(&parent, &name);
    tried?;
    removed?;
    report.ok = report.elements.iter().all(|e| e.ok);
    report.seconds = begun.elapsed().as_secs();
    let drill = Drill { id: found.id().clone(), at: report.started, ok: report.ok, seconds: report.seconds };
    let outcome = if report.ok { "it can be restored" } else { "it cannot be restored" };
    held.note(found.id(), report.started, "drilled", outcome, &mut report.findings);
    Ok(drilled::write(&held.state, drill)?)
}

/// The elements that are tried, each proven to name no live target to any command.
fn wanted<'a>(setup: &Setup<'a>, generation: &Generation, wish: &Wish) -> Result<Vec<&'a Element>> {
    let mut elements = Vec::new();
    for stored in &generation.elements {
        if !wish.elements.is_empty() && !wish.elements.contains(&stored.name) {
            continue;
        }
        let Some(element) = setup.source.elements.iter().find(|e| e.name == stored.name) else {
            return Err(Error::refused(
                format!("the configuration has no element {}", stored.name),
                "add it, or leave it out with --element",
            ));
        };
        allow(element)?;
        elements.push(element);
    }
    Ok(elements)
}

/// Refuses an element whose commands would touch the live one.
fn allow(element: &Element) -> Result<()> {
    let (name, steps) = (&element.name, &element.steps);
    if let Some(step) = dump::without_target(element).first() {
        return Err(Error::refused(
            format!("`{step}` of {name} lacks {{target}}, so a drill would touch the live one"),
            format!(
                "write {{target}} in `{step}` where the live one is named, or leave {name} out with --element"
            ),
        ));
    }
    if dump::of(element).is_none() {
        return Ok(());
    }
    for (step, command) in [("restore", &steps.restore), ("discard", &steps.discard)] {
        if command.is_none() {
            return Err(Error::refused(
                format!("{name} has no `{step}`, so it cannot be drilled"),
                format!(
                    "add {step} = [..] with {{target}} to the element, or leave {name} out with --element"
                ),
            ));
        }
    }
    Ok(())
}

struct Drilling<'a> {
    setup: &'a Setup<'a>,
    dir: &'a Dir,
    generation: &'a Generation,
    scratch: &'a Dir,
}

impl Drilling<'_> {
    fn element(&self, element: &Element, report: &mut DrillRun) -> Result<()> {
        signals::check()?;
        self.setup.progress.begin(format!("restoring {}", element.name), 0, 0);
        let begun = Instant::now();
        let tried = self.try_it(element);
        let probed = element.steps.probe.is_some();
        let mut ok = true;
        match tried {
            Ok(()) => {}
            Err(e @ (Error::Interrupted(_) | Error::Internal(_))) => return Err(e),
            Err(e) => {
                ok = false;
                let fix = "the backup of this element cannot be restored as it is: mend its commands or what it collects, then drill again";
                report
                    .findings
                    .push(Finding { fix: Some(fix.to_owned()), ..e.finding(element.name.as_str()) });
            }
        }
        if ok && !probed {
            let text = "it has no `probe`: that it could be written out is all that is known";
            report.findings.push(Finding::new(Kind::Note, element.name.as_str(), text));
        }
        let seconds = begun.elapsed().as_secs_f64();
        report.elements.push(DrilledElement { name: element.name.to_string(), ok, probed, seconds });
        Ok(())
    }

    fn try_it(&self, element: &Element) -> Result<()> {
        let proven = Proven::new(self.dir, self.generation)?;
        let selection = Selection { elements: vec![element.name.clone()], paths: Vec::new() };
        let places = Places::new(self.generation, &selection)
            .map_err(|_| Error::Internal("an element of the plan is not in the generation"))?;
        let root = self.scratch.create_dir(&element.name, 0o700)?;
        let written = proven.write_out(&places, &root, self.setup.progress)?;
        if let Some(first) = written.damaged.first() {
            return Err(Error::Damaged(format!("{first} ({} in all)", written.damaged_count)));
        }
        let Some(dump) = dump::of(element) else {
            let name = root.path().to_string_lossy().into_owned();
            return Target { element, name: &name }.probe();
        };
        let folder = root.open_dir(&element.name)?;
        let file = folder.open_file(&dump.file)?;
        let name = dump::scratch(element.steps.target.as_deref().unwrap_or_default())?;
        let target = Target { element, name: &name };
        let loaded = target.load(file);
        let discarded = target.discard();
        loaded.and(discarded)
    }
}
