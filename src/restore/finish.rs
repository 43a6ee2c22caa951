//! Finishing or undoing a restore: right after it, or when an earlier one was cut. Each step may have been done before.

use std::{
    ffi::OsStr,
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
};

use super::{
    beside, copy,
    dump::Target,
    error::{Error, Result},
    exchange,
    find::{Candidate, Place},
    journal::{DumpRecord, DumpState, Journal, Last, Phase, Replaced},
    restored,
};
use crate::{
    app::services,
    config::Element,
    report::{Finding, Kind},
    store::places,
    sys::{Dir, durable, show},
};

/// What was done with a restore that was cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Recovered {
    /// There was none.
    Nothing,
    /// The rest of it was done: the application has the new state.
    Finished,
    /// What was there is there again.
    Undone,
}

/// Finishes or undoes a restore that was cut; then services that it left stopped are started.
pub fn recover(
    state: &Dir,
    private: &Dir,
    elements: &[Element],
    findings: &mut Vec<Finding>,
) -> Result<Recovered> {
    let recovered = match Journal::load(state)? {
        None => Recovered::Nothing,
        Some(journal) => {
            let recovered = one(state, private, elements, journal.clone(), findings);
            let recovered = recovered.inspect_err(|e| findings.extend(stuck(state, &journal, e)))?;
            let (id, at) = (&journal.id, journal.started);
            let text = match recovered {
                Recovered::Finished => {
                    format!("the restore of {id}, begun at {at}, was cut: it was finished")
                }
                _ => format!(
                    "the restore of {id}, begun at {at}, was cut: it was undone, what was there is there again"
                ),
            };
            findings.push(Finding::new(Kind::Warning, "recovery", text));
            recovered
        }
    };
    findings.extend(start_services(state));
    Ok(recovered)
}

pub(super) fn start_services(state: &Dir) -> Option<Finding> {
    match services::recover(state) {
        Ok(names) if names.is_empty() => None,
        Ok(names) => {
            let text = format!("started again: {}", names.join(", "));
            Some(Finding::new(Kind::Note, "services", text))
        }
        Err(e) => {
            let fix = "start it by hand and look why it does not start";
            Some(Finding::new(Kind::Failed, "services", e.to_string()).with_fix(fix))
        }
    }
}

/// What an error means that keeps a restore that was cut from its end.
fn stuck(state: &Dir, journal: &Journal, e: &Error) -> Option<Finding> {
    if matches!(e, Error::Interrupted(_)) {
        return None;
    }
    let what = if journal.phase >= Phase::Promoting { "finishing" } else { "undoing" };
    let down = match services::left_stopped(state) {
        Ok(names) if names.is_empty() => "no service is stopped for it".to_owned(),
        Ok(names) => format!("services are still stopped: {}", names.join(", ")),
        Err(e) => e.to_string(),
    };
    let text = format!("{what} the restore of {}, which was cut, failed; {down}", journal.id);
    let fix = "mend what is named below, then `handover restore`: it goes on, and starts them; until then nothing is collected. If that \
               can never be: `handover restore undo --give-up`";
    Some(Finding::new(Kind::Failed, "recovery", text).with_fix(fix))
}

fn one(
    state: &Dir,
    private: &Dir,
    elements: &[Element],
    mut journal: Journal,
    findings: &mut Vec<Finding>,
) -> Result<Recovered> {
    match journal.phase {
        Phase::PutBack | Phase::Building | Phase::Exchanging => {
            findings.extend(undo(state, private, elements, &journal)?);
            Ok(Recovered::Undone)
        }
        Phase::Procedure => {
            let text =
                "the application's own procedure was cut: how far it came, only the application can tell";
            let fix = "look at the application, then run the restore again";
            findings.push(Finding::new(Kind::Warning, "procedure", text).with_fix(fix));
            findings.extend(undo(state, private, elements, &journal)?);
            Ok(Recovered::Undone)
        }
        Phase::Promoting => {
            promote_rest(state, private, elements, &mut journal)?;
            journal.phase = Phase::Done;
            journal.write(state)?;
            findings.extend(finish(state, private, &journal)?.1);
            Ok(Recovered::Finished)
        }
        Phase::Done => {
            findings.extend(finish(state, private, &journal)?.1);
            Ok(Recovered::Finished)
        }
    }
}

/// What a cut promotion left to do.
fn promote_rest(state: &Dir, private: &Dir, elements: &[Element], journal: &mut Journal) -> Result<()> {
    for i in 0..journal.dumps.len() {
        let record = journal.dumps[i].clone();
        if record.state == DumpState::Promoted {
            continue;
        }
        let Some(element) = elements.iter().find(|e| e.name.as_str() == record.element) else {
            return Err(Error::Configuration {
                text: format!("{} was being promoted, and is no longer in the configuration", record.element),
                fix: "put it back into the configuration until the restore is finished".to_owned(),
            });
        };
        let target = Target { element, name: &record.target };
        if element.steps.promote.is_none() {
            fill(private, journal, &target)?;
        } else if record.state != DumpState::Promoting || !is_promoted(&target)? {
            target.promote()?;
        }
        journal.dumps[i].state = DumpState::Promoted;
        journal.write(state)?;
    }
    Ok(())
}

/// Whether a promotion that was cut had come to its end: its scratch target is gone, and the live one answers. A database
/// that is down answers for neither, and proves nothing; so the live one is asked first.
fn is_promoted(target: &Target<'_>) -> Result<bool> {
    let Target { element, name } = *target;
    if element.steps.probe.is_none() {
        return Ok(false);
    }
    let answers = |name: &str| match (Target { element, name }).probe() {
        Err(e @ Error::Interrupted(_)) => Err(e),
        probed => Ok(probed.is_ok()),
    };
    let live = element.steps.target.as_deref().unwrap_or_default();
    match (answers(live)?, answers(name)?) {
        (_, true) => Ok(false),
        (true, false) => Ok(true),
        (false, false) => Err(Error::Configuration {
            text: format!(
                "{}: neither its scratch target {} nor the live one passes its probe, so it cannot be told whether it was promoted",
                element.name,
                show(name.as_bytes())
            ),
            fix: "start the database, then `handover restore`".to_owned(),
        }),
    }
}

/// Fills a live target again from the start; the copy of the generation is still there.
fn fill(private: &Dir, journal: &Journal, target: &Target<'_>) -> Result<()> {
    let copied = private.open_dir(&journal.copy)?;
    let folder = copied.open_dir(crate::manifest::names::DATA)?.open_dir(&target.element.name)?;
    let names = folder.names()?;
    let name = super::dump::of(target.element).map(|dump| dump.file.clone());
    let name =
        names.iter().find(|n| Some(n.as_os_str()) == name.as_deref().map(OsStr::new)).or(names.first());
    match name {
        Some(name) => target.load(folder.open_file(name)?),
        None => Err(Error::Internal("the copy of the generation lost a dump")),
    }
}

/// Puts everything back: the files, in the opposite order; scratch targets are discarded; the journal goes last. What
/// cannot be tidied without harm to the application is a finding.
pub fn undo(state: &Dir, private: &Dir, elements: &[Element], journal: &Journal) -> Result<Vec<Finding>> {
    let mut findings = Vec::new();
    if journal.phase != Phase::PutBack {
        journal.units.iter().rev().try_for_each(exchange::put_back)?;
        // From here on a folder that is gone was removed by us.
        Journal { phase: Phase::PutBack, ..journal.clone() }.write(state)?;
    }
    for record in &journal.dumps {
        findings.extend(discard(elements, record));
    }
    for unit in &journal.units {
        if let Err(e) = beside::drop_staging(unit) {
            findings.push(untidy(unit.element.as_str(), e)?);
        }
    }
    drop_copy(private, journal)?;
    Journal::close(state)?;
    Ok(findings)
}

fn discard(elements: &[Element], record: &DumpRecord) -> Option<Finding> {
    if !matches!(record.state, DumpState::Loading | DumpState::Loaded) {
        return None;
    }
    left_behind(elements, &record.element, &record.target)
}

/// Discards a scratch target; what is left behind is a finding.
pub fn left_behind(elements: &[Element], element: &str, target: &str) -> Option<Finding> {
    let shown = show(target.as_bytes());
    let finding = |why: &str| {
        let text = format!("the scratch target {shown} is left behind: {why}");
        Some(Finding::new(Kind::Warning, element, text).with_fix("remove it by hand"))
    };
    let Some(known) = elements.iter().find(|e| e.name.as_str() == element) else {
        return finding("the element is no longer in the configuration");
    };
    match &known.steps.discard {
        None => finding("there is no `discard`"),
        Some(_) => finding(&Target { element: known, name: target }.discard().err()?.to_string()),
    }
}

pub(super) fn drop_copy(private: &Dir, journal: &Journal) -> Result<()> {
    if journal.copy.starts_with(copy::TEMPORARY) {
        durable::remove_tree(private, &journal.copy)?;
    }
    Ok(())
}

/// Tidies after all is done: keeps the old, moves the generation to `restored/`, removes the copy, and at last the journal.
/// Gives where the old is kept. The application has the new state: what cannot be tidied, as somebody is in the way of it, is a
/// finding and keeps nothing from its end; only storage that fails does, as it may not fail the next time.
pub fn finish(state: &Dir, private: &Dir, journal: &Journal) -> Result<(Vec<PathBuf>, Vec<Finding>)> {
    let mut list = Replaced::load(state)?;
    let (mut kept, mut findings) = (Vec::new(), Vec::new());
    for unit in &journal.units {
        let folder = match beside::keep_old(unit) {
            Ok(Some(folder)) => folder,
            Ok(None) => continue,
            Err(e) => {
                findings.push(untidy(unit.element.as_str(), e)?);
                continue;
            }
        };
        kept.push(folder.clone());
        if list.iter().all(|known| known.folder != folder) {
            list.push(Replaced {
                folder,
                inode: unit.folder,
                root: unit.root.clone(),
                how: unit.how,
                element: unit.element.clone(),
                id: journal.id.clone(),
                at: journal.started,
                rules: unit.rules.clone(),
            });
        }
    }
    Replaced::store(state, &list)?;
    Last::note(state, journal)?;
    if let Some(delivered) = &journal.delivered
        && let Err(e) = move_to_restored(delivered, state, private, journal)
    {
        let text = format!("{} stays in restore/: ", show(delivered.as_os_str().as_bytes()));
        let mut finding = untidy(journal.id.as_str(), e)?;
        finding.text.insert_str(0, &text);
        findings.push(finding);
    }
    drop_copy(private, journal)?;
    Journal::close(state)?;
    Ok((kept, findings))
}

/// A failure that only leaves something lying about; any other is given back.
pub(super) fn untidy(subject: &str, e: Error) -> Result<Finding> {
    match &e {
        Error::Interrupted(_) => Err(e),
        Error::Sys(cause) if cause.is_storage() => Err(e),
        _ => {
            let finding = e.finding(subject);
            let fix = finding.fix.clone().unwrap_or_else(|| "look at it, and tidy it by hand".to_owned());
            Ok(Finding { kind: Kind::Warning, ..finding }.with_fix(fix))
        }
    }
}

/// What came by `restore/` moves to `restored/`, where nobody but root reaches it.
fn move_to_restored(delivered: &Path, state: &Dir, private: &Dir, journal: &Journal) -> Result<()> {
    let home = private.path().parent().unwrap_or(private.path());
    let below = delivered.parent().map(|p| p.as_os_str().as_bytes().to_vec()).unwrap_or_default();
    let parent = Dir::open(home)?.open_dir(places::RESTORE)?.descend(&below)?;
    let name = delivered.file_name().ok_or(Error::Internal("what was delivered has no name"))?;
    let Some(stat) = parent.stat_if_any(name)? else { return Ok(()) };
    let is_dir = rustix::fs::FileType::from_raw_mode(stat.st_mode).is_dir();
    let end = name.to_str().and_then(|n| n.find(".t").map(|at| &n[at..])).filter(|_| !is_dir).unwrap_or("");
    for attempt in 1..1000 {
        let number = if attempt == 1 { String::new() } else { format!(".{attempt}") };
        let new = format!("{}{number}{end}", journal.id);
        if private.stat_if_any(&new)?.is_none() {
            // Noted first: what is not noted is never removed.
            restored::note(state, &new, stat.st_ino, journal)?;
            return Ok(durable::rename(&parent, name, private, new)?);
        }
    }
    Err(Error::Internal("no name is free in restored/"))
}

/// What of `restore/` holds the candidate at `list[at]` and no other one, to be moved away in the end: relative to `restore/`.
pub fn delivered(restore: &Dir, list: &[Candidate], at: usize) -> Option<PathBuf> {
    let inside = |c: &Candidate| c.shown.strip_prefix(restore.path()).ok().map(Path::to_path_buf);
    let own = inside(&list[at])?;
    let top = PathBuf::from(own.iter().next()?);
    let is_alone =
        list.iter().enumerate().all(|(i, c)| i == at || inside(c).is_none_or(|path| !path.starts_with(&top)));
    match &list[at].place {
        _ if is_alone => Some(top),
        Place::Folder(_) => Some(own),
        Place::Tar(_) => None,
    }
}
