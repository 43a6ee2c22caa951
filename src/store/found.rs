//! Generations as they are found in a folder.

use std::{ffi::OsString, os::unix::ffi::OsStrExt as _};

use super::{Error, Result};
use crate::{
    manifest::{Digest, Generation, GenerationId, Seal, generation, names},
    sys::{Dir, show},
};

/// A generation that was found: its `generation.toml` is whole and names the id of the folder. Nothing else is proven.
#[derive(Debug, Clone, PartialEq)]
pub struct Found {
    /// What it says of itself.
    pub generation: Generation,
    /// sha256 of its `generation.toml`.
    pub seal: Seal,
}

/// Something in a folder of generations that is not one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Strange {
    /// Its name there.
    pub name: OsString,
    /// Why it is not a generation.
    pub why: String,
    /// What it is suspicious of, or that what was noted of that cannot be read: what must be taken for suspicious.
    pub doubt: Option<String>,
}

impl Found {
    /// The id.
    pub fn id(&self) -> &GenerationId {
        &self.generation.id
    }

    /// Reads `generation.toml` in an open folder that bears the name `id`.
    pub fn load(dir: &Dir, id: &GenerationId) -> Result<Self> {
        let damaged = |why: String| Error::Damaged { path: dir.path().to_path_buf(), why };
        let bytes = dir.read_if_any(names::GENERATION, generation::LIMIT)?.ok_or_else(|| {
            damaged(format!("{} is missing, so it was never finished or is only a part", names::GENERATION))
        })?;
        let generation = Generation::parse(&bytes).map_err(|e| damaged(e.to_string()))?;
        if generation.id != *id {
            return Err(damaged(format!("its {} says that it is {}", names::GENERATION, generation.id)));
        }
        Ok(Self { generation, seal: Digest::of(&bytes) })
    }

    /// All generations in a folder, in the order of their sequence (those of another lineage by id), and what else is
    /// there. Hidden names are not looked at.
    pub fn list(parent: &Dir) -> Result<(Vec<Self>, Vec<Strange>)> {
        let (mut found, mut strange) = (Vec::new(), Vec::new());
        for name in parent.names()? {
            if name.as_bytes().starts_with(b".") {
                continue;
            }
            match Self::load_named(parent, &name) {
                Ok(one) => found.push(one),
                Err(Error::Sys(e)) if e.is_storage() => return Err(e.into()),
                Err(e) => strange.push(Strange { name, why: e.to_string(), doubt: None }),
            }
        }
        sort(&mut found);
        Ok((found, strange))
    }

    fn load_named(parent: &Dir, name: &std::ffi::OsStr) -> Result<Self> {
        let id: GenerationId = name.to_str().and_then(|n| n.parse().ok()).ok_or_else(|| Error::Damaged {
            path: parent.join(name),
            why: format!("{} is not an id of a generation", show(name.as_bytes())),
        })?;
        Self::load(&parent.open_dir(name)?, &id)
    }
}

/// Orders generations: by sequence within a lineage; a lineage as a whole where its first id stands.
pub fn sort(list: &mut [Found]) {
    let mut births: std::collections::BTreeMap<String, GenerationId> = std::collections::BTreeMap::new();
    for one in list.iter() {
        let birth = births.entry(one.generation.lineage.clone()).or_insert_with(|| one.id().clone());
        if one.id() < birth {
            *birth = one.id().clone();
        }
    }
    list.sort_by(|a, b| {
        let key =
            |f: &Found| (births.get(&f.generation.lineage).cloned(), f.generation.sequence, f.id().clone());
        key(a).cmp(&key(b))
    });
}
