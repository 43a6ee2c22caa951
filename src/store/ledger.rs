//! The ledger: the seal of every generation that was ever sealed on this host, a line for each: sequence, id, seal. Root's
//! alone, in `<state>/source/`: a seal proves integrity, and only this says that the generation was made here.

use std::collections::BTreeMap;

use crate::{
    manifest::{GenerationId, Seal},
    sys::{Dir, Result, durable},
};

const FILE: &str = "ledger";

/// Adds a seal, durably.
pub fn append(state: &Dir, sequence: u64, id: &GenerationId, seal: Seal) -> Result<()> {
    durable::append_line(state, FILE, &format!("{sequence} {id} {seal}"), 0o600)
}

/// All seals by id; lines that were torn are passed over.
pub fn read(state: &Dir) -> Result<BTreeMap<GenerationId, Seal>> {
    let bytes = state.read_if_any(FILE, 1 << 30)?.unwrap_or_default();
    let lines = String::from_utf8_lossy(&bytes).into_owned();
    Ok(lines
        .lines()
        .filter_map(|line| {
            let mut words = line.split(' ').skip(1);
            Some((words.next()?.parse().ok()?, words.next()?.parse().ok()?))
        })
        .collect())
}
