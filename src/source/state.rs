//! What root on the source knows and nobody else can change: lineage, sequence, cache, ledger.
//!
//! ```text
//! <state>/source/
//!   state.toml      lineage, the last sequence and id that were published
//!   state.new       the same for a generation that is about to be published
//!   cache           what is known of the files of the last published generation
//!   cache.new       the same for the one that is being collected
//!   ledger          one line for each generation ever sealed: sequence, id, seal
//!   logs/           the same of the log channel; its memory is called `cursor`: how far each log was taken
//! ```
//!
//! `cache.new` and `state.new` become valid after the publishing rename. A run that was cut between leaves both; where
//! the generation is tells whether it was published.

use std::fs::File;

use serde::{Deserialize, Serialize};

use super::collect::Error;
use crate::{
    manifest::{Channel, GenerationId, Seal},
    store::{handover_point::known::STATE, ledger},
    sys::{Dir, durable, random},
};

const STATE_NEW: &str = "state.new";
const PRIVATE: u32 = 0o600;

/// Lineage and sequence.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Facts {
    /// Version of this file: 1.
    pub format: u32,
    /// A random id, made once.
    pub lineage: String,
    /// The last published sequence, 0 before the first.
    pub sequence: u64,
    /// The last published generation.
    pub last: Option<GenerationId>,
}

/// Root's state folder.
#[derive(Debug)]
pub struct State {
    dir: Dir,
    facts: Facts,
    memory: Memory,
}

/// The file of what is remembered of the last published generation, and the one for the next.
#[derive(Debug, Clone, Copy)]
struct Memory {
    valid: &'static str,
    new: &'static str,
}

impl Memory {
    fn of(channel: Channel) -> Self {
        match channel {
            Channel::Data => Self { valid: "cache", new: "cache.new" },
            Channel::Logs => Self { valid: "cursor", new: "cursor.new" },
        }
    }
}

impl State {
    /// Opens the state; makes the lineage at the first time. `published` tells whether a generation has left
    /// `collecting/`: a run that was cut after publishing is finished here, one that was cut before is forgotten.
    pub fn open(
        dir: Dir,
        channel: Channel,
        published: impl Fn(&GenerationId) -> Result<bool, Error>,
    ) -> Result<Self, Error> {
        let facts = begun(&dir)?;
        let mut state = Self { dir, facts, memory: Memory::of(channel) };
        match read(&state.dir, STATE_NEW)? {
            Some(new) if is_kept(&new, published)? => state.make_valid(new)?,
            Some(_) => state.forget()?,
            None => durable::remove_file(&state.dir, state.memory.new)?,
        }
        Ok(state)
    }

    /// The facts as they are valid now.
    pub fn facts(&self) -> &Facts {
        &self.facts
    }

    /// The cache of the last published generation, if there is one.
    pub fn cache(&self) -> Result<Option<File>, Error> {
        match self.dir.open_file(self.memory.valid) {
            Ok(file) => Ok(Some(file)),
            Err(e) if e.is_not_found() => Ok(None),
            Err(e) => Err(e.into()),
        }
    }

    /// The file for the new cache, empty.
    pub fn new_cache(&self) -> Result<File, Error> {
        durable::remove_file(&self.dir, self.memory.new)?;
        Ok(self.dir.create_file(self.memory.new, PRIVATE)?)
    }

    /// Promises, durably and before it is published, that `id` has this sequence and seal.
    pub fn promise(&self, id: &GenerationId, sequence: u64, seal: Seal) -> Result<Facts, Error> {
        ledger::append(&self.dir, sequence, id, seal)?;
        let new = Facts { sequence, last: Some(id.clone()), ..self.facts.clone() };
        durable::write_file(&self.dir, STATE_NEW, text(&new)?.as_bytes(), PRIVATE)?;
        Ok(new)
    }

    /// The promised generation was published: its cache and sequence are valid now.
    pub fn make_valid(&mut self, new: Facts) -> Result<(), Error> {
        self.make_memory_valid()?;
        durable::replace(&self.dir, STATE_NEW, STATE)?;
        self.facts = new;
        Ok(())
    }

    /// The promised generation was not published: nothing of it is valid.
    pub fn forget(&self) -> Result<(), Error> {
        durable::remove_file(&self.dir, STATE_NEW)?;
        durable::remove_file(&self.dir, self.memory.new)?;
        Ok(())
    }

    /// The new cache (of logs: the cursor) is the valid one, where there is a new one. By itself only for what no
    /// generation depends on.
    pub fn make_memory_valid(&self) -> Result<(), Error> {
        if self.dir.stat_if_any(self.memory.new)?.is_some() {
            durable::replace(&self.dir, self.memory.new, self.memory.valid)?;
        }
        Ok(())
    }

    /// The seal of every generation that was ever sealed here, by id.
    pub fn ledger(&self) -> Result<std::collections::BTreeMap<GenerationId, Seal>, Error> {
        Ok(ledger::read(&self.dir)?)
    }

    /// The folder itself.
    pub fn dir(&self) -> &Dir {
        &self.dir
    }
}

/// The facts; made where there are none yet. From then on the state knows that there is a home.
pub fn begun(dir: &Dir) -> Result<Facts, Error> {
    if let Some(facts) = read(dir, STATE)? {
        return Ok(facts);
    }
    let facts = Facts { format: 1, lineage: random::hex(16)?, sequence: 0, last: None };
    durable::write_file(dir, STATE, text(&facts)?.as_bytes(), PRIVATE)?;
    Ok(facts)
}

/// The facts as they are written down, for who only looks; none if there are none yet or they cannot be read.
pub fn peek(state: &std::path::Path) -> Option<Facts> {
    read(&Dir::open(state).ok()?, STATE).ok().flatten()
}

/// Whether a promise that a cut run left became true: its generation was published. Else it is forgotten, and the
/// sequence in it is given to the next one; the id is not, as the ledger has it.
pub fn is_kept<E>(promise: &Facts, published: impl Fn(&GenerationId) -> Result<bool, E>) -> Result<bool, E> {
    promise.last.as_ref().map_or(Ok(false), published)
}

fn read(dir: &Dir, name: &str) -> Result<Option<Facts>, Error> {
    let Some(bytes) = dir.read_if_any(name, 1 << 16)? else { return Ok(None) };
    let text = String::from_utf8_lossy(&bytes);
    let facts: Facts = toml::from_str(&text).map_err(|e| bad(dir, name, e.message()))?;
    if facts.format != 1 {
        return Err(bad(dir, name, "it was written by a newer handover: upgrade handover here"));
    }
    Ok(Some(facts))
}

fn bad(dir: &Dir, name: &str, why: &str) -> Error {
    crate::sys::Error::new("read", dir.join(name), std::io::Error::other(why.to_owned())).into()
}

fn text(facts: &Facts) -> Result<String, Error> {
    toml::to_string(facts).map_err(|_| Error::Internal("the state cannot be written as text"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: u32) -> GenerationId {
        format!("20261123T03000{n}Z").parse().unwrap()
    }

    fn open(path: &std::path::Path, published: &[u32]) -> State {
        let published: Vec<GenerationId> = published.iter().map(|n| id(*n)).collect();
        State::open(Dir::open(path).unwrap(), Channel::Data, |id| Ok(published.contains(id))).unwrap()
    }

    #[test]
    fn a_promise_that_was_published_counts_and_one_that_was_not_is_forgotten() {
        let folder = tempfile::tempdir().unwrap();
        let state = open(folder.path(), &[]);
        let lineage = state.facts().lineage.clone();
        std::io::Write::write_all(&mut state.new_cache().unwrap(), b"one").unwrap();
        state.promise(&id(1), 1, Seal::of(b"1")).unwrap();
        // Cut here, after the publishing rename.
        let state = open(folder.path(), &[1]);
        assert_eq!(*state.facts(), Facts { format: 1, lineage, sequence: 1, last: Some(id(1)) });
        assert!(state.cache().unwrap().is_some());
        state.new_cache().unwrap();
        state.promise(&id(2), 2, Seal::of(b"2")).unwrap();
        // Cut here, before it.
        let state = open(folder.path(), &[1]);
        assert_eq!((state.facts().sequence, &state.facts().last), (1, &Some(id(1))));
        assert_eq!(std::fs::read(folder.path().join("cache")).unwrap(), b"one");
        assert!(!folder.path().join("cache.new").exists());
        assert_eq!(state.ledger().unwrap().len(), 2);
    }

    #[test]
    fn a_cut_between_the_two_renames_is_finished() {
        let folder = tempfile::tempdir().unwrap();
        let state = open(folder.path(), &[]);
        state.new_cache().unwrap();
        state.promise(&id(1), 1, Seal::of(b"1")).unwrap();
        durable::replace(&Dir::open(folder.path()).unwrap(), "cache.new", "cache").unwrap();
        let state = open(folder.path(), &[1]);
        assert_eq!(state.facts().sequence, 1);
        assert!(state.cache().unwrap().is_some());
    }
}
