//! `handover restore undo --give-up`: the end of a restore, or of an undo, that was cut and can be neither finished nor
//! undone: as when a promotion fails again and again.
//!
//! Files are put back as far as they can be; dumps and scratch targets are left as they are; services start. All that
//! remains to be done by hand is named.

use std::path::Path;

use super::{
    beside, clean,
    error::{Error, Result},
    exchange, finish,
    journal::{DumpRecord, DumpState, Journal, Phase},
    undo,
};
use crate::{
    app::unfinished::UNDO,
    report::{Finding, Kind},
    sys::{Dir, show},
};

/// What would be done; refused if nothing was cut.
pub fn plan(state: &Dir) -> Result<Vec<Finding>> {
    let note = |text: String| Finding::new(Kind::Note, "give up", text);
    let Some(journal) = wanted(state)? else { return Ok(vec![note(format!("{}: it is ended", UNDO.text))]) };
    if journal.phase == Phase::Done {
        let text = format!(
            "the restore of {} is done and stays; what of the tidying cannot be done now is left to you, and named",
            journal.id
        );
        return Ok(vec![note(text)]);
    }
    let paths = journal
        .units
        .iter()
        .map(|unit| note(format!("{} is put back as it was before the restore", shown(&unit.root))));
    let dumps = journal.dumps.iter().filter_map(by_hand);
    Ok(paths.chain(dumps).collect())
}

/// The journal of the restore that was cut; `None` where it was an undo.
fn wanted(state: &Dir) -> Result<Option<Journal>> {
    match Journal::load(state)? {
        Some(journal) => Ok(Some(journal)),
        None if undo::refuse_unfinished(state).is_err() => Ok(None),
        None => Err(Error::refused(
            "no restore and no undo was cut: there is nothing to give up",
            "`handover restore undo` puts back what the last restore replaced",
        )),
    }
}

/// Does it; gives what remains to be done by hand.
pub fn give_up(state: &Dir, private: &Dir) -> Result<Vec<Finding>> {
    let mut findings = match wanted(state)? {
        Some(journal) if journal.phase == Phase::Done => tidied(state, private, &journal)?,
        Some(journal) => restore(state, private, journal)?,
        None => undo::give_up(state)?
            .into_iter()
            .map(|(kept, why)| stuck(&kept.element, &kept.root, &kept.folder, &why))
            .collect(),
    };
    clean::refuse_unfinished_restore(state)?;
    findings.extend(finish::start_services(state));
    Ok(findings)
}

/// The new state is in its place: only what lies about can remain.
fn tidied(state: &Dir, private: &Dir, journal: &Journal) -> Result<Vec<Finding>> {
    let why = match finish::finish(state, private, journal) {
        Ok((_, findings)) => return Ok(findings),
        Err(e @ Error::Interrupted(_)) => return Err(e),
        Err(e) => e,
    };
    let mut findings =
        vec![Finding::new(Kind::Warning, journal.id.as_str(), format!("not all could be tidied: {why}"))];
    for unit in &journal.units {
        let text =
            format!("what was at {} before may still lie in {}", shown(&unit.root), shown(&unit.staging));
        let fix = "keep it or remove it by hand, whatever it is called now: `.handover-restore-…` or `.handover-replaced-…`";
        findings.push(Finding::new(Kind::Warning, unit.element.as_str(), text).with_fix(fix));
    }
    Journal::close(state)?;
    Ok(findings)
}

fn restore(state: &Dir, private: &Dir, mut journal: Journal) -> Result<Vec<Finding>> {
    let (mut findings, mut tidy) = (Vec::new(), Vec::new());
    for unit in std::mem::take(&mut journal.units).into_iter().rev() {
        let put_back = if journal.phase == Phase::PutBack { Ok(()) } else { exchange::put_back(&unit) };
        match put_back {
            Ok(()) => tidy.push(unit),
            Err(e @ Error::Interrupted(_)) => return Err(e),
            Err(e) => findings.push(stuck(&unit.element, &unit.root, &unit.staging, &e)),
        }
    }
    findings.extend(journal.dumps.iter().filter_map(by_hand));
    // What was told is told: a cut from here on only leaves what is to be removed.
    journal = Journal { phase: Phase::PutBack, units: tidy, dumps: Vec::new(), ..journal };
    journal.write(state)?;
    for unit in &journal.units {
        if let Err(e) = beside::drop_staging(unit) {
            let text = format!("{} could not be removed: {e}", shown(&unit.staging));
            findings
                .push(Finding::new(Kind::Warning, unit.element.as_str(), text).with_fix("remove it by hand"));
        }
    }
    finish::drop_copy(private, &journal)?;
    Journal::close(state)?;
    Ok(findings)
}

fn stuck(element: &str, root: &Path, staging: &Path, why: &Error) -> Finding {
    let text = format!("{} could not be put back: {why}", shown(root));
    let fix = format!("put it in order by hand; the other state is in {}, if it is there", shown(staging));
    Finding::new(Kind::Failed, element, text).with_fix(fix)
}

/// What is left of a dump.
fn by_hand(record: &DumpRecord) -> Option<Finding> {
    let target = show(record.target.as_bytes());
    let (kind, text, fix) = match record.state {
        DumpState::Planned => return None,
        DumpState::Loading | DumpState::Loaded => (
            Kind::Warning,
            format!("its scratch target {target} stays; the live one was not touched"),
            "remove the scratch target by hand",
        ),
        DumpState::Promoting => (
            Kind::Failed,
            format!(
                "its promotion was cut or fails: whether the live one is the old or the new, only the application can tell; {target} stays"
            ),
            "look which of the two is live, mend it by the application's own means, then remove the other",
        ),
        DumpState::Promoted => (
            Kind::Failed,
            "it was promoted and stays, while the files are those of before the restore".to_owned(),
            "put back its old state by the application's own means (it is where `promote` put it), or restore again",
        ),
    };
    Some(Finding::new(kind, record.element.as_str(), text).with_fix(fix))
}

fn shown(path: &Path) -> String {
    show(path.as_os_str().as_encoded_bytes())
}
