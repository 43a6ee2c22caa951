//! What restores have moved from `restore/` to `restored/`: of it the newest few stay, so that they can be restored again.
//!
//! `<state>/restore/restored.json` lists it. What is not listed was put there by somebody, and is never touched.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{
    copy,
    error::Result,
    journal::{self, Journal},
};
use crate::{
    manifest::GenerationId,
    sys::{Dir, durable, random},
};

const LIST: &str = "restored.json";

/// Something that a restore moved there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Moved {
    name: String,
    inode: u64,
    id: GenerationId,
    at: Timestamp,
}

/// Notes that this name is going to be there; durable when it returns.
pub fn note(state: &Dir, name: &str, inode: u64, journal: &Journal) -> Result<()> {
    let mut list: Vec<Moved> = journal::read(state, LIST)?.unwrap_or_default();
    list.retain(|moved| moved.name != name);
    list.push(Moved { name: name.to_owned(), inode, id: journal.id.clone(), at: journal.started });
    journal::write(state, LIST, &list)
}

/// Names that go if the newest `keep` stay, the eldest first.
pub fn surplus(state: &Dir, private: &Dir, keep: u32) -> Result<Vec<String>> {
    let there = there(state, private)?;
    let surplus = there.len().saturating_sub(usize::try_from(keep).unwrap_or(usize::MAX));
    Ok(there.into_iter().take(surplus).map(|moved| moved.name).collect())
}

/// Removes all but the newest `keep`; gives the names.
pub fn prune(state: &Dir, private: &Dir, keep: u32) -> Result<Vec<String>> {
    let names = surplus(state, private, keep)?;
    for name in &names {
        // Half of it must not look like one that is torn.
        let going = format!("{}{}", copy::TEMPORARY, random::hex(6)?);
        durable::rename(private, name, private, &going)?;
        durable::remove_tree(private, &going)?;
    }
    if !names.is_empty() {
        journal::write(state, LIST, &there(state, private)?)?;
    }
    Ok(names)
}

/// What of the list is there still, as it was moved, in the order in which it was.
fn there(state: &Dir, private: &Dir) -> Result<Vec<Moved>> {
    let mut there = Vec::new();
    for moved in journal::read::<Vec<Moved>>(state, LIST)?.unwrap_or_default() {
        if private.stat_if_any(&moved.name)?.is_some_and(|stat| stat.st_ino == moved.inode) {
            there.push(moved);
        }
    }
    Ok(there)
}
