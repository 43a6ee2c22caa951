//! The drill: the newest generation is restored beside the running application, into a scratch folder and scratch targets;
//! its probes run, and all is removed again. Nothing that is live is named to any command: `promote` is never run.

use std::time::Instant;

use super::{
    copy,
    drilling::{self, Drilling},
    dump::{self, Target},
    error::{Error, Result},
    find::{Candidate, Place},
    held::{Held, hold, look},
    pick::{self, Wish},
    proven::Proven,
    rehearsal,
    run::Setup,
    selection::{Places, Selection},
};
use crate::{
    app::unfinished,
    config::Element,
    manifest::{Generation, GenerationId, generation::Drill},
    report::{
        Exit, Finding, Kind, exit_of,
        restore::{DrillRun, DrilledElement},
    },
    store::{
        Found,
        drilled::{self, Drilled},
        ledger, places,
    },
    sys::{Dir, random, signals},
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
    /// Only says what would be tried, and how.
    pub dry_run: bool,
}

/// Runs it. Whatever happens is in the report and, if a generation was tried, in the record.
pub fn run(setup: &Setup<'_>, ask: &Ask) -> DrillRun {
    let started = (setup.clock)();
    let mut report = DrillRun {
        source: setup.source.name.to_string(),
        started,
        finished: started,
        dry_run: ask.dry_run,
        generation: None,
        age_seconds: None,
        plan: Vec::new(),
        seconds: 0,
        tried: false,
        ok: false,
        elements: Vec::new(),
        findings: Vec::new(),
        exit: Exit::Ok,
    };
    if let Err(e) = steps(setup, ask, &mut report) {
        report.findings.push(e.finding(setup.source.name.as_str()));
    }
    // Its own kind, as another step is to be looked at than where collecting fails.
    for finding in report.findings.iter_mut().filter(|finding| finding.kind == Kind::Failed) {
        finding.kind = Kind::Drill;
    }
    report.finished = (setup.clock)();
    report.exit = exit_of(&report.findings);
    report
}

fn steps(setup: &Setup<'_>, ask: &Ask, report: &mut DrillRun) -> Result<()> {
    let held = hold(setup.state, &setup.config.home, "handover restore drill")?;
    if let Some(cut) = unfinished::look(setup.state)? {
        return Err(Error::refused(format!("{}: nothing is drilled until it is", cut.text), cut.fix));
    }
    if !ask.dry_run {
        report.findings.extend(drilling::tidy(&held.state, &setup.source.elements)?);
        copy::sweep(&held.private, None)?;
    }
    let store = setup.config.home.join(places::STORE);
    let from = ask.from.as_deref().unwrap_or(&store);
    let (mut catch, place) = look(Some(from), &held.drop_point)?;
    catch.candidates.iter_mut().try_for_each(Candidate::look)?;
    let shown = crate::sys::show(place.as_os_str().as_encoded_bytes());
    let (chosen, found, elements) = match choose(setup, ask, &held, &catch.candidates, &shown) {
        Err(e @ Error::Refused { .. }) if ask.wish.id.is_none() && !ask.dry_run => {
            let newest = ask.wish.newest(&catch.candidates);
            return unfit(&held, ask, newest.map(|newest| &newest.id), &e, report);
        }
        chosen => chosen?,
    };
    let Place::Folder(dir) = &chosen.place else {
        return Err(Error::refused(
            "a drill does not unpack tars",
            "unpack it, and name the folder with --from",
        ));
    };
    report.generation = Some(chosen.id.to_string());
    report.age_seconds = Some(report.started.duration_since(found.generation.started).as_secs());
    let begun = Instant::now();
    let parent = ask.scratch.as_ref().map_or_else(|| held.private.try_clone(), Dir::open)?;
    let names = elements.iter().map(|element| element.name.clone()).collect();
    let selection = Selection { elements: names, paths: Vec::new() };
    let places = Places::new(&found.generation, &selection)
        .map_err(|_| Error::Internal("an element of the drill is not in the generation"))?;
    let proven = Proven::new(dir, &found.generation)?;
    proven.need(&places)?.check(&parent, setup.source.reserve, "the scratch folder of the drill")?;
    if ask.dry_run {
        report.plan = rehearsal::shown(&elements, (&proven, &found.generation), parent.path())?;
        return Ok(());
    }
    let name = format!("{}{}", copy::TEMPORARY, random::hex(6)?);
    let (drilling, scratch) =
        Drilling::begin(&held.state, &parent, &name, (chosen.id.clone(), report.started))?;
    let mut trying = Trying {
        setup,
        state: &held.state,
        dir,
        generation: &found.generation,
        scratch: &scratch,
        record: drilling,
    };
    let tried = elements.iter().try_for_each(|element| trying.element(element, report));
    let removed = trying.record.end(&held.state);
    tried?;
    removed?;
    report.tried = true;
    report.ok = !report.elements.is_empty() && report.elements.iter().all(|e| e.ok);
    report.seconds = begun.elapsed().as_secs();
    record(&held, ask, found.id(), None, report)
}

/// Which one is tried, and what of it.
fn choose<'a>(
    setup: &Setup<'a>,
    ask: &Ask,
    held: &Held,
    list: &'a [Candidate],
    place: &str,
) -> Result<(&'a Candidate, &'a Found, Vec<&'a Element>)> {
    let (at, _) = ask.wish.pick(list, place, &setup.config.home)?;
    let found = list[at].found.as_ref().ok_or(Error::Internal("what was chosen says nothing of itself"))?;
    let ledger = ledger::read(&held.source)?;
    ask.wish.check_trust(found, pick::trust(found, &ledger, None))?;
    ask.wish.check_elements(&found.generation)?;
    Ok((&list[at], found, rehearsal::wanted(setup, &found.generation, &ask.wish)?))
}

/// What is stored, or how it is configured, cannot be drilled at all. Nobody may be looking when the newest is drilled, so
/// that is a failure with an alarm; only who named a generation is answered as one who asked.
fn unfit(
    held: &Held,
    ask: &Ask,
    newest: Option<&GenerationId>,
    why: &Error,
    report: &mut DrillRun,
) -> Result<()> {
    let source = report.source.clone();
    report.findings.push(Finding { kind: Kind::Failed, ..why.finding(&source) });
    let Some(id) = newest else { return Ok(()) };
    report.generation = Some(id.to_string());
    record(held, ask, id, Some(why), report)
}

/// Keeps the outcome, or why nothing could be tried; only a drill of all elements speaks for the generation.
fn record(
    held: &Held,
    ask: &Ask,
    id: &GenerationId,
    refused: Option<&Error>,
    report: &mut DrillRun,
) -> Result<()> {
    let refused = refused.map(ToString::to_string);
    let outcome = match &refused {
        Some(why) => format!("it could not be tried: {why}"),
        None if report.ok => "it can be restored".to_owned(),
        None => "it cannot be restored".to_owned(),
    };
    let names: Vec<&str> = ask.wish.elements.iter().map(|name| name.as_str()).collect();
    let is_whole = names.is_empty();
    let outcome = if is_whole { outcome } else { format!("only {}: {outcome}", names.join(", ")) };
    held.note(id, report.started, "drilled", &outcome, &mut report.findings);
    if is_whole {
        let drill = Drill { id: id.clone(), at: report.started, ok: report.ok, seconds: report.seconds };
        drilled::write(&held.state, &Drilled { drill, refused })?;
    }
    Ok(())
}

struct Trying<'a> {
    setup: &'a Setup<'a>,
    state: &'a Dir,
    dir: &'a Dir,
    generation: &'a Generation,
    scratch: &'a Dir,
    record: Drilling,
}

impl Trying<'_> {
    fn element(&mut self, element: &Element, report: &mut DrillRun) -> Result<()> {
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

    fn try_it(&mut self, element: &Element) -> Result<()> {
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
        self.record.add(self.state, element.name.as_str(), &name)?;
        let loaded = target.load(file);
        let discarded = target.discard();
        if discarded.is_ok() {
            self.record.discarded(self.state, &name)?;
        }
        match (loaded, discarded) {
            (Err(Error::Interrupted(e)), _) => Err(e.into()),
            (Err(loaded), Err(discarded)) => Err(Error::Step {
                element: element.name.to_string(),
                text: format!(
                    "{loaded}; and its scratch target {name} is left behind until the next drill: {discarded}"
                ),
            }),
            (loaded, discarded) => loaded.and(discarded),
        }
    }
}
