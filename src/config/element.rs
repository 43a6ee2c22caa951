//! `[[source.element]]`: one thing to back up, and how it is brought back.

use std::{path::PathBuf, time::Duration};

use super::{Dump, Files, Steps, dump, files, table::Table, value};
use crate::sys::name::Name;

pub(super) const HEADER: &str = "[[source.element]]";
pub(super) const KEYS: &[&str] = &[
    "name",
    "kind",
    "services",
    "user",
    "timeout",
    "paths",
    "exclude",
    "one_file_system",
    "exclude_caches",
    "allow_empty",
    "command",
    "file",
    "min_size",
    "check",
    "target",
    "prepare",
    "restore",
    "probe",
    "promote",
    "discard",
];
/// One thing to back up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Element {
    /// Its name, and the name of its folder in a generation; no other element has it.
    pub name: Name,
    /// Stopped while this element is collected; started again whatever happens.
    pub services: Vec<String>,
    /// Runs all commands of this element; root if there is none.
    pub user: Option<String>,
    /// Collecting this element takes no longer; then it has failed.
    pub timeout: Duration,
    /// What it is made of.
    pub kind: ElementKind,
    /// How it is brought back.
    pub steps: Steps,
}

/// What an element is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ElementKind {
    /// Each file stored as itself.
    Tree(Files),
    /// The same as one `tar.zst`.
    Archive(Files),
    /// What a command puts out.
    Dump(Dump),
}

impl ElementKind {
    /// The word for it in the configuration.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Tree(_) => "tree",
            Self::Archive(_) => "archive",
            Self::Dump(_) => "dump",
        }
    }
}

impl Element {
    /// Reads one element; `own` are the folders in which handover keeps its own, which no backup may lie in.
    pub(super) fn read(table: &Table<'_>, own: &[PathBuf]) -> Option<Self> {
        let name = table.required("name", "write for example name = \"www\"", value::name);
        let kind = kind(table, own);
        let element = Self {
            services: table.list("services", "[\"tomcat\"]", value::service),
            user: table.optional("user", |given| value::user(given, "\"postgres\"")),
            timeout: table.or("timeout", Duration::from_secs(6 * 3600), value::deadline("6h")),
            steps: Steps::read(table),
            name: name?,
            kind: kind?,
        };
        Some(element)
    }
}

fn kind(table: &Table<'_>, own: &[PathBuf]) -> Option<ElementKind> {
    let words = [("tree", "tree"), ("archive", "archive"), ("dump", "dump")];
    let why = "write kind = \"tree\" for files as they are, \"archive\" for files as one tar.zst, or \"dump\" for the output of a command";
    let kind = table.required("kind", why, |given| value::word(given, &words))?;
    if kind == "dump" {
        table.refuse(files::KEYS, "a dump has no such key; it is for the kinds \"tree\" and \"archive\"");
        return Dump::read(table).map(ElementKind::Dump);
    }
    table.refuse(dump::KEYS, "only a dump has this key; write kind = \"dump\", or remove it");
    let files = Files::read(table, own);
    Some(if kind == "tree" { ElementKind::Tree(files) } else { ElementKind::Archive(files) })
}
