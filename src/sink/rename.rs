//! A source that gets another name here: a note in the store, then the configuration, then the folders.
//!
//! The note says what is meant, and the configuration decides: as long as it has the old name nothing moves, and runs go on
//! under that; once it has the new one, whatever opens the store moves what has not moved yet. So a cut at any instant,
//! with runs after it, ends under one name with all that was kept.

use super::status::{self, lock_file};
use crate::{
    config::SinkRole,
    store::{Result, sink_store::SinkStore},
    sys::{Dir, lock, name::Name},
};

/// How a rename stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// None is under way.
    Nothing,
    /// The configuration still has the old name: it decides.
    Waits,
    /// One that was cut was finished.
    Finished(Name, Name),
    /// Somebody is at work on one of both: the next who opens the store finishes it.
    Busy(String),
}

/// Notes that `old` is to be called `new`; false if nothing is kept of it, and nothing was noted. Refused where both have
/// something in the same place. Whoever calls holds the locks of both.
pub fn begin(store: &SinkStore, old: &Name, new: &Name) -> Result<bool> {
    if !store.rename_source(old, new, true)? {
        return Ok(false);
    }
    store.note_renaming(old, new)?;
    Ok(true)
}

/// Finishes what [`begin`] noted, where the configuration (`sources`, its names) says so.
pub fn settle(store: &SinkStore, role: SinkRole, sources: &[Name], state: &Dir) -> Result<Standing> {
    let Some((old, new)) = store.renaming()? else { return Ok(Standing::Nothing) };
    match (sources.contains(&old), sources.contains(&new)) {
        (true, false) => return Ok(Standing::Waits),
        // Somebody made two of them.
        (true, true) => {
            store.end_renaming()?;
            return Ok(Standing::Nothing);
        }
        (false, _) => {}
    }
    let mut locks = Vec::new();
    for name in [&old, &new] {
        let what = format!("handover {role} rename");
        match lock::try_exclusive(&state.join(lock_file(name.as_str())), &what)? {
            lock::Attempt::Held(lock) => locks.push(lock),
            lock::Attempt::Busy(who) => return Ok(Standing::Busy(who.to_string())),
        }
    }
    store.rename_source(&old, &new, false)?;
    status::rename(state, old.as_str(), new.as_str())?;
    store.end_renaming()?;
    Ok(Standing::Finished(old, new))
}
