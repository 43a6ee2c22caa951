//! What restores have replaced and kept: listed, put back, removed.

use jiff::Timestamp;

use super::{
    error::{Error, Result},
    exchange::{self, NEW, OLD},
    journal::{Journal, Replaced, UnitRecord},
    trees,
    units::{self, How},
};
use crate::{
    app::services,
    config::Element,
    report::{Finding, Kind},
    sys::{Dir, durable, show},
};

/// Removes all that is kept, and the list. Never what is mounted there, nor a name that no restore made. What could not be
/// removed stays in the list and is a finding.
pub fn clean(state: &Dir) -> Result<(Vec<Replaced>, Vec<Finding>)> {
    refuse_unfinished(state)?;
    let (mut gone, mut stays, mut findings) = (Vec::new(), Vec::new(), Vec::new());
    for kept in Replaced::load(state)? {
        match remove(&kept) {
            Ok(()) => gone.push(kept),
            Err(e) => {
                let shown = show(kept.folder.as_os_str().as_encoded_bytes());
                let fix = "mend what it names, then run it again";
                findings.push(Finding::new(Kind::Failed, shown, e.to_string()).with_fix(fix));
                stays.push(kept);
            }
        }
    }
    Replaced::store(state, &stays)?;
    Ok((gone, findings))
}

fn remove(kept: &Replaced) -> Result<()> {
    let (parent, name) = match units::at(&kept.folder) {
        Err(e) if e.is_not_found() => return Ok(()),
        other => other?,
    };
    if !name.to_string_lossy().starts_with(".handover-replaced-") {
        return Err(Error::Internal("the list names something that no restore made"));
    }
    Ok(durable::remove_tree(&parent, name)?)
}

fn refuse_unfinished(state: &Dir) -> Result<()> {
    match Journal::load(state)? {
        None => Ok(()),
        Some(journal) => Err(Error::refused(
            format!("the restore of {} was cut and is not finished", journal.id),
            "handover restore: it says whether it finishes or undoes, and does it",
        )),
    }
}

/// The paths that the last restore replaced and that are still kept.
pub fn last(state: &Dir) -> Result<Vec<Replaced>> {
    let all = Replaced::load(state)?;
    let newest: Option<Timestamp> = all.iter().map(|kept| kept.at).max();
    Ok(all.into_iter().filter(|kept| Some(kept.at) == newest).collect())
}

/// Puts back what the last restore replaced, its services stopped meanwhile; what it had put there is kept in its stead, so
/// that this can be undone as well. A cut in between leaves each path as the one or the other.
pub fn undo(state: &Dir, elements: &[Element]) -> Result<()> {
    refuse_unfinished(state)?;
    let wanted = last(state)?;
    let mut names: Vec<String> = Vec::new();
    for service in elements
        .iter()
        .filter(|e| wanted.iter().any(|k| k.element == e.name.as_str()))
        .flat_map(|e| &e.services)
    {
        if !names.contains(service) {
            names.push(service.clone());
        }
    }
    let failed = |e: services::Error| Error::Step { element: "services".to_owned(), text: e.to_string() };
    let stopped = services::stop(state, &names).map_err(failed)?;
    wanted.iter().rev().try_for_each(swap)?;
    stopped.start().map_err(failed)
}

fn swap(kept: &Replaced) -> Result<()> {
    let (above, name) = units::at(&kept.folder)?;
    let folder = above.open_dir(&name)?;
    if kept.how == How::Exchange {
        let (parent, name) = units::at(&kept.root)?;
        let old = folder.open_dir(OLD)?;
        if let (Ok(live), Ok(back)) = (parent.open_dir(&name), old.open_dir(&name)) {
            trees::carry_over(&live, &back, &kept.root, &units::Guard::new(&kept.rules)?)?;
        }
        return Ok(durable::exchange(&old, &name, &parent, &name)?);
    }
    let unit = UnitRecord {
        element: kept.element.clone(),
        root: kept.root.clone(),
        how: kept.how,
        staging: kept.folder.clone(),
        old: None,
        new: None,
        copied: true,
        rules: kept.rules.clone(),
    };
    durable::remove_tree(&folder, NEW)?;
    durable::rename(&folder, OLD, &folder, NEW)?;
    exchange::copy_aside(&unit)?;
    exchange::put_inside(&unit, NEW)?;
    Ok(durable::remove_tree(&folder, NEW)?)
}
