//! Which generation is restored, and why that one.

use std::path::{Path, PathBuf};

use crate::{
    manifest::{GenerationId, names},
    store::{self, Found, Strange},
    sys::{self, Dir, show},
};

/// A generation that was chosen.
#[derive(Debug)]
pub struct Chosen {
    /// Its open folder.
    pub dir: Dir,
    /// What it says of itself.
    pub found: Found,
    /// Why this one, for people.
    pub why: String,
    /// What else lay there and is no whole generation.
    pub strange: Vec<Strange>,
}

/// Why none was chosen.
#[derive(Debug, thiserror::Error)]
pub enum NoChoice {
    /// No place holds one.
    #[error("no generation found in {}{}", places(.looked), torn(.strange))]
    Nothing {
        /// The places.
        looked: Vec<PathBuf>,
        /// What was there instead.
        strange: Vec<String>,
    },
    /// The one that was asked for is not there.
    #[error("generation {id} is not in {}; there are: {}", places(.looked), .there.join(", "))]
    NotThere {
        /// The one asked for.
        id: GenerationId,
        /// The places.
        looked: Vec<PathBuf>,
        /// What is there.
        there: Vec<String>,
    },
    /// A place could not be read.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// A place could not be opened.
    #[error(transparent)]
    Sys(#[from] sys::Error),
}

fn places(list: &[PathBuf]) -> String {
    list.iter().map(|p| show(p.as_os_str().as_encoded_bytes())).collect::<Vec<_>>().join(" or ")
}

fn torn(strange: &[String]) -> String {
    if strange.is_empty() { String::new() } else { format!(" (but: {})", strange.join("; ")) }
}

/// Chooses from a folder that an operator named: a generation itself, or a folder of generations.
pub fn from_folder(path: &Path, id: Option<&GenerationId>) -> Result<Chosen, NoChoice> {
    let dir = Dir::open(path)?;
    if dir.stat_if_any(names::GENERATION)?.is_some() {
        let bytes = dir.read(names::GENERATION, crate::manifest::generation::LIMIT)?;
        let damaged = |why: String| store::Error::Damaged { path: path.to_path_buf(), why };
        let generation = crate::manifest::Generation::parse(&bytes).map_err(|e| damaged(e.to_string()))?;
        if id.is_some_and(|id| *id != generation.id) {
            let there = vec![generation.id.to_string()];
            return Err(NoChoice::NotThere {
                id: id.cloned().unwrap_or(generation.id),
                looked: vec![path.into()],
                there,
            });
        }
        let found = Found { seal: crate::manifest::Digest::of(&bytes), generation };
        return Ok(Chosen {
            dir,
            found,
            why: "it is the one that was named".to_owned(),
            strange: Vec::new(),
        });
    }
    from_places(&[path.to_path_buf()], id)
}

/// Chooses from folders of generations: the one asked for, or the newest of the first folder that has one.
pub fn from_places(places: &[PathBuf], id: Option<&GenerationId>) -> Result<Chosen, NoChoice> {
    let (mut there, mut torn) = (Vec::new(), Vec::new());
    for place in places {
        let parent = match Dir::open(place) {
            Ok(parent) => parent,
            Err(e) if e.is_not_found() && places.len() > 1 => continue,
            Err(e) => return Err(e.into()),
        };
        let (found, strange) = Found::list(&parent)?;
        let wanted = match id {
            Some(id) => found.iter().find(|f| f.id() == id).cloned(),
            None => found.last().cloned(),
        };
        if let Some(found) = wanted {
            let dir = parent.open_dir(found.id())?;
            let shown = show(place.as_os_str().as_encoded_bytes());
            let why = if id.is_some() {
                format!("it was asked for, and is in {shown}")
            } else {
                format!("it is the newest in {shown}")
            };
            return Ok(Chosen { dir, found, why, strange });
        }
        there.extend(found.iter().map(|f| f.id().to_string()));
        torn.extend(strange.into_iter().map(|s| s.why));
    }
    let looked = places.to_vec();
    match id {
        Some(id) if !there.is_empty() => Err(NoChoice::NotThere { id: id.clone(), looked, there }),
        _ => Err(NoChoice::Nothing { looked, strange: torn }),
    }
}
