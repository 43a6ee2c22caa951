//! What a drill has made and must remove: `<state>/restore/drilling.json`, written before each of it is made. A drill that was
//! killed leaves it, and the next drill or restore removes what it names.

use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{
    beside,
    error::{Error, Result},
    finish, journal,
};
use crate::{
    config::Element,
    manifest::GenerationId,
    report::{Finding, Kind},
    sys::{Dir, durable, show},
};

const FILE: &str = "drilling.json";

/// A drill that is under way, or was cut.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Drilling {
    /// The generation.
    pub id: GenerationId,
    /// When it began.
    pub started: Timestamp,
    /// The scratch folder.
    scratch: PathBuf,
    /// Its inode; `None` until it is made.
    inode: Option<u64>,
    /// Scratch targets that may be there.
    targets: Vec<Scratch>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Scratch {
    element: String,
    name: String,
}

impl Drilling {
    /// Makes the scratch folder, noted before and after.
    pub fn begin(
        state: &Dir,
        parent: &Dir,
        name: &str,
        (id, started): (GenerationId, Timestamp),
    ) -> Result<(Self, Dir)> {
        let above = std::path::absolute(parent.path())
            .and_then(std::fs::canonicalize)
            .map_err(|e| crate::sys::Error::new("find", parent.path(), e))?;
        let scratch = above.join(name);
        let mut drilling = Self { id, started, scratch, inode: None, targets: Vec::new() };
        journal::write(state, FILE, &drilling)?;
        let dir = parent.create_private(name)?;
        drilling.inode = Some(dir.stat_self()?.st_ino);
        journal::write(state, FILE, &drilling)?;
        Ok((drilling, dir))
    }

    /// Notes a scratch target that is going to be made.
    pub fn add(&mut self, state: &Dir, element: &str, name: &str) -> Result<()> {
        self.targets.push(Scratch { element: element.to_owned(), name: name.to_owned() });
        journal::write(state, FILE, self)
    }

    /// It was discarded.
    pub fn discarded(&mut self, state: &Dir, name: &str) -> Result<()> {
        self.targets.retain(|target| target.name != name);
        journal::write(state, FILE, self)
    }

    /// Removes the scratch folder. A scratch target that could not be discarded stays noted.
    pub fn end(self, state: &Dir) -> Result<()> {
        if let Some(inode) = self.inode {
            beside::remove_held(&self.scratch, Some(inode))?;
        }
        match self.targets.is_empty() {
            true => Ok(durable::remove_file(state, FILE)?),
            false => journal::write(state, FILE, &Self { inode: None, ..self }),
        }
    }
}

/// Removes what a drill that was cut has left, and says so. What cannot be discarded is tried again by the next run.
pub fn tidy(state: &Dir, elements: &[Element]) -> Result<Vec<Finding>> {
    let Some(mut cut) = journal::read::<Drilling>(state, FILE)? else { return Ok(Vec::new()) };
    let (id, started) = (&cut.id, cut.started);
    let (mut findings, mut gone, mut stays) = (Vec::new(), Vec::new(), Vec::new());
    for target in std::mem::take(&mut cut.targets) {
        let is_known = elements.iter().any(|e| e.name.as_str() == target.element);
        match finish::left_behind(elements, &target.element, &target.name) {
            None => gone.push(show(target.name.as_bytes())),
            Some(finding) => {
                findings.push(finding);
                stays.extend(Some(target).filter(|_| is_known));
            }
        }
    }
    let gone = if gone.is_empty() { String::new() } else { format!(": discarded {}", gone.join(", ")) };
    let text = format!("the drill of {id}, begun at {started}, was cut, and what it left is removed{gone}");
    findings.push(Finding::new(Kind::Warning, "recovery", text));
    let scratch = cut.scratch.clone();
    cut.targets = stays;
    match cut.end(state) {
        Err(e @ Error::Configuration { .. }) => {
            findings.push(left(&scratch, &e));
            durable::remove_file(state, FILE)?;
        }
        other => other?,
    }
    Ok(findings)
}

fn left(scratch: &Path, why: &Error) -> Finding {
    let text = format!("its scratch folder {} stays: {why}", show(scratch.as_os_str().as_encoded_bytes()));
    Finding::new(Kind::Warning, "recovery", text).with_fix("look at it, and remove it by hand")
}
