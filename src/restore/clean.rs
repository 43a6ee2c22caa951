//! What restores have replaced and kept: which of it the last one did, and removed.

use super::{
    beside,
    error::{Error, Result},
    journal::{Journal, Last, Replaced},
    undo,
};
use crate::{
    app::unfinished::RESTORE,
    report::{Finding, Kind},
    sys::{Dir, show},
};

/// Removes all that is kept, and the list. Never what is mounted there, nor a name that no restore made. What could not be
/// removed stays in the list and is a finding.
pub fn clean(state: &Dir) -> Result<(Vec<Replaced>, Vec<Finding>)> {
    refuse_unfinished_restore(state)?;
    undo::refuse_unfinished(state)?;
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
    let name = kept.folder.file_name().unwrap_or_default();
    if !name.to_string_lossy().starts_with(".handover-replaced-") {
        return Err(Error::Internal("the list names something that no restore made"));
    }
    beside::remove_held(&kept.folder, kept.inode)
}

/// Refuses if a restore was cut and is not finished.
pub fn refuse_unfinished_restore(state: &Dir) -> Result<()> {
    match Journal::load(state)? {
        None => Ok(()),
        Some(journal) => Err(Error::refused(
            format!("the restore of {} was cut and is not finished", journal.id),
            RESTORE.fix,
        )),
    }
}

/// The paths that the last restore replaced and that are still kept. Refused if there are none: what an earlier one replaced
/// is not what the last one did.
pub fn last(state: &Dir) -> Result<Vec<Replaced>> {
    let all = Replaced::load(state)?;
    let list = "look at `handover restore list --replaced`";
    let Some(newest) = all.iter().map(|kept| kept.at).max() else {
        return Err(Error::refused("nothing is kept that could be put back", list));
    };
    if let Some(last) = Last::load(state)?
        && last.at != newest
    {
        let text = format!("nothing is kept of what the last restore (of {}, {}) replaced", last.id, last.at);
        let fix = format!("what is kept is of an earlier one: put it back by hand; {list}");
        return Err(Error::refused(text, fix));
    }
    Ok(all.into_iter().filter(|kept| kept.at == newest).collect())
}
