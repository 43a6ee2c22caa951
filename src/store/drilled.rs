//! The record of the last drill, `<state>/restore/drill.toml`: written by the drill, carried to the sink in the next
//! `generation.toml`.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::{
    manifest::generation::Drill,
    sys::{Dir, Error, Result, durable},
};

const FILE: &str = "drill.toml";

/// What is noted of the last drill.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Drilled {
    /// The drill.
    pub drill: Drill,
    /// Why nothing could be tried; `None` where it was.
    pub refused: Option<String>,
}

#[derive(Serialize, Deserialize)]
struct Record {
    format: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    refused: Option<String>,
    drill: Drill,
}

/// Writes it into root's folder of restores.
pub fn write(state: &Dir, drilled: &Drilled) -> Result<()> {
    let broken =
        |e: toml::ser::Error| Error::new("write", state.join(FILE), std::io::Error::other(e.to_string()));
    let Drilled { drill, refused } = drilled.clone();
    let text = toml::to_string(&Record { format: 1, refused, drill }).map_err(broken)?;
    durable::write_file(state, FILE, text.as_bytes(), 0o600)
}

/// Reads it, where there is one; `state` is root's folder of all roles.
pub fn read(state: &Path) -> Result<Option<Drilled>> {
    let dir = match Dir::open(state.join("restore")) {
        Ok(dir) => dir,
        Err(e) if e.is_not_found() => return Ok(None),
        Err(e) => return Err(e),
    };
    let Some(bytes) = dir.read_if_any(FILE, 1 << 16)? else { return Ok(None) };
    let text = String::from_utf8_lossy(&bytes);
    let record: Record = toml::from_str(&text)
        .map_err(|e| Error::new("read", dir.join(FILE), std::io::Error::other(e.message().to_owned())))?;
    Ok(Some(Drilled { drill: record.drill, refused: record.refused }))
}
