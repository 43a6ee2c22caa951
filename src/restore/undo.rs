//! `handover restore undo`: puts back what the last restore replaced.
//!
//! First all is prepared, and nothing of the application changes: what is there now is copied aside where no rename can
//! exchange it. Then `<state>/restore/undoing.json` is written: from there on until it goes, the paths may be of two states, and
//! whoever runs it again goes on with those that are not yet put back.

use serde::{Deserialize, Serialize};

use super::{
    beside, clean,
    error::{Error, Result},
    exchange::{self, OLD},
    journal::{self, Replaced, UnitRecord},
    trees,
    units::{self, How},
};
use crate::{
    app::{
        services,
        unfinished::{self, UNDOING},
    },
    config::Element,
    sys::{Dir, durable, show},
};

/// The copy of what is there now; there from the preparation until it takes the place of [`OLD`].
const ASIDE: &str = "aside";
/// What was put back, until it is removed.
const GONE: &str = "gone";

/// A path that is put back.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Step {
    kept: Replaced,
    /// Device and inode of what is put back by a rename.
    back: Option<(u64, u64)>,
}

/// Ends an undo that was cut: what can be put back is; gives what cannot, and why.
pub(super) fn give_up(state: &Dir) -> Result<Vec<(Replaced, Error)>> {
    let steps = begun(state)?.unwrap_or_default();
    let stuck =
        steps.into_iter().rev().filter_map(|step| swap(&step).err().map(|e| (step.kept, e))).collect();
    durable::remove_file(state, UNDOING)?;
    Ok(stuck)
}

/// An undo that was cut, if there is one.
fn begun(state: &Dir) -> Result<Option<Vec<Step>>> {
    journal::read(state, UNDOING)
}

/// Refuses if an undo was cut and is not finished.
pub fn refuse_unfinished(state: &Dir) -> Result<()> {
    match begun(state)? {
        None => Ok(()),
        Some(_) => Err(Error::refused(unfinished::UNDO.text, unfinished::UNDO.fix)),
    }
}

/// What the next undo puts back: what a cut one began with, or what the last restore replaced.
pub fn wanted(state: &Dir) -> Result<Vec<Replaced>> {
    clean::refuse_unfinished_restore(state)?;
    match begun(state)? {
        Some(steps) => Ok(steps.into_iter().map(|step| step.kept).collect()),
        None => clean::last(state),
    }
}

/// Puts it back, its services stopped meanwhile; what the restore had put there is kept in its stead, so that this can be
/// undone as well. After a cut the services stay stopped, and running it again goes on.
pub fn undo(state: &Dir, elements: &[Element]) -> Result<()> {
    let wanted = wanted(state)?;
    let failed = |e: services::Error| Error::Step { element: "services".to_owned(), text: e.to_string() };
    let stopped = services::stop(state, &services_of(elements, &wanted)).map_err(failed)?;
    let steps = match begun(state)? {
        Some(steps) => steps,
        None => prepare(state, &wanted)?,
    };
    let swapped = steps.iter().rev().try_for_each(swap);
    if let Err(e) = swapped.and_then(|()| Ok(durable::remove_file(state, UNDOING)?)) {
        // Half of the one state and half of the other must not run.
        std::mem::forget(stopped);
        return Err(e);
    }
    stopped.start().map_err(failed)
}

fn services_of(elements: &[Element], wanted: &[Replaced]) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    let concerned = elements.iter().filter(|e| wanted.iter().any(|k| k.element == e.name.as_str()));
    for service in concerned.flat_map(|e| &e.services) {
        if !names.contains(service) {
            names.push(service.clone());
        }
    }
    names
}

/// Makes all that needs room, and notes what is to be done. After an error nothing has changed.
fn prepare(state: &Dir, wanted: &[Replaced]) -> Result<Vec<Step>> {
    let steps: Result<Vec<Step>> = wanted.iter().map(prepare_one).collect();
    match steps {
        Ok(steps) => {
            journal::write(state, UNDOING, &steps)?;
            Ok(steps)
        }
        Err(e) => {
            for folder in wanted.iter().filter_map(|kept| folder(kept).ok()) {
                if durable::remove_tree(&folder, ASIDE).is_err() {
                    // It takes room until the next undo makes it anew, or `clean` removes it.
                }
            }
            Err(e)
        }
    }
}

fn prepare_one(kept: &Replaced) -> Result<Step> {
    let folder = folder(kept)?;
    if kept.how == How::InPlace {
        folder.open_dir(OLD)?;
        exchange::copy_aside(&unit(kept), ASIDE)?;
        return Ok(Step { kept: kept.clone(), back: None });
    }
    let (_, name) = units::at(&kept.root)?;
    let old = folder.open_dir(OLD)?;
    let stat = old.stat(&name)?;
    carry_over(kept, &old)?;
    Ok(Step { kept: kept.clone(), back: Some((stat.st_dev, stat.st_ino)) })
}

/// Puts one path back. Running it again after a cut ends in the same.
fn swap(step: &Step) -> Result<()> {
    let folder = folder(&step.kept)?;
    if step.kept.how == How::Exchange {
        return exchange_back(step, &folder);
    }
    if folder.stat_if_any(ASIDE)?.is_some() {
        if folder.stat_if_any(OLD)?.is_some() {
            exchange::put_inside(&unit(&step.kept), OLD)?;
            durable::rename(&folder, OLD, &folder, GONE)?;
        }
        durable::rename(&folder, ASIDE, &folder, OLD)?;
    }
    Ok(durable::remove_tree(&folder, GONE)?)
}

fn exchange_back(step: &Step, folder: &Dir) -> Result<()> {
    let (parent, name) = units::at(&step.kept.root)?;
    if trees::inode(&parent, &name)? == step.back {
        return Ok(());
    }
    let old = folder.open_dir(OLD)?;
    if trees::inode(&old, &name)? != step.back {
        let path = |path: &std::path::Path| show(path.as_os_str().as_encoded_bytes());
        let (root, kept) = (path(&step.kept.root), path(&step.kept.folder));
        return Err(Error::Configuration {
            text: format!("what is to be put back at {root} is neither there nor in {kept}"),
            fix: "somebody moved it meanwhile: move it back there, then `handover restore undo`".to_owned(),
        });
    }
    carry_over(&step.kept, &old)?;
    Ok(durable::exchange(&old, &name, &parent, &name)?)
}

/// What no generation holds goes on in what is put back.
fn carry_over(kept: &Replaced, old: &Dir) -> Result<()> {
    let (parent, name) = units::at(&kept.root)?;
    if let (Ok(live), Ok(back)) = (parent.open_dir(&name), old.open_dir(&name)) {
        trees::carry_over(&live, &back, &kept.root, &units::Guard::new(&kept.rules)?)?;
    }
    Ok(())
}

fn folder(kept: &Replaced) -> Result<Dir> {
    Ok(beside::held(&kept.folder, kept.inode)?.2)
}

fn unit(kept: &Replaced) -> UnitRecord {
    UnitRecord {
        element: kept.element.clone(),
        root: kept.root.clone(),
        how: kept.how,
        staging: kept.folder.clone(),
        folder: kept.inode,
        old: None,
        new: None,
        copied: true,
        rules: kept.rules.clone(),
    }
}
