//! `[restore]`: where generations to be restored are put, and the application's own way to restore them.

use std::path::{Path, PathBuf};

use super::{
    source,
    table::{Given, Read, Table},
    value::{self, Command},
};

pub(super) const HEADER: &str = "[restore]";
pub(super) const KEYS: &[&str] = &["home", "procedure", "keep_restored"];
/// Generations in `restored/` that stay.
const KEEP_RESTORED: u32 = 1;
/// What stands for the generation's folder in the procedure.
pub const GENERATION: &str = "{generation}";

/// How this host restores.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restore {
    /// The home whose `restore/` is the drop point.
    pub home: PathBuf,
    /// The application's own procedure, run instead of the steps of the elements; `{generation}` stands for the folder of
    /// the proven generation.
    pub procedure: Option<Command>,
    /// Generations in `restored/` that stay, the newest.
    pub keep_restored: u32,
}

/// The section as it is written.
#[derive(Debug, Default)]
pub(super) struct Written {
    home: Option<PathBuf>,
    procedure: Option<Command>,
    keep_restored: Option<u32>,
}

impl Written {
    /// Reads the section. Its home is added to `own`, the folders in which handover keeps its own.
    pub(super) fn read(table: &Table<'_>, own: &mut Vec<PathBuf>) -> Self {
        let home = table.optional("home", value::home);
        own.extend(home.clone());
        let why = "0 keeps none";
        let count = |given: &Given<'_>| value::count(given, 0..=u32::MAX, why, KEEP_RESTORED);
        let keep_restored = table.optional("keep_restored", count);
        Self { home, procedure: table.optional("procedure", procedure), keep_restored }
    }

    /// With its default: the home of `[source]`, if there is one.
    pub(super) fn resolve(self, source: Option<&Path>) -> Restore {
        let default = source.unwrap_or_else(|| Path::new(source::HOME));
        Restore {
            home: self.home.unwrap_or_else(|| default.to_path_buf()),
            procedure: self.procedure,
            keep_restored: self.keep_restored.unwrap_or(KEEP_RESTORED),
        }
    }
}

fn procedure(given: &Given<'_>) -> Read<Command> {
    let command = value::command(given)?;
    if command.iter().skip(1).any(|argument| argument.contains(GENERATION)) {
        return Ok(command);
    }
    given.expected(
        "a command with {generation} in its arguments, which stands for the folder of the generation",
        "[\"/usr/local/sbin/restore-shop\", \"{generation}\"]",
    )
}
