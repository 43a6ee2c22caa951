//! The commands that bring an element back.

use super::{
    table::{Given, Read, Table},
    value::{self, Command},
};

/// The commands that bring an element back, in their order. Each may hold `{target}`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Steps {
    /// What stands for `{target}` in a restore; while drilling it is a scratch name.
    pub target: Option<String>,
    /// Makes an empty target.
    pub prepare: Option<Command>,
    /// Gets the dump on stdin and fills the target.
    pub restore: Option<Command>,
    /// Proves that the target is usable.
    pub probe: Option<Command>,
    /// Puts the proven target in the place of the live one.
    pub promote: Option<Command>,
    /// Removes the target.
    pub discard: Option<Command>,
}

impl Steps {
    pub(super) fn read(table: &Table<'_>) -> Self {
        let target = table.optional("target", target);
        let has_target = table.has("target");
        let step = |key| table.optional(key, |given| with_target(given, has_target));
        Self {
            target,
            prepare: step("prepare"),
            restore: step("restore"),
            probe: step("probe"),
            promote: step("promote"),
            discard: step("discard"),
        }
    }
}

fn target(given: &Given<'_>) -> Read<String> {
    let target = value::text(given, "\"shop\"")?;
    if target.starts_with('-') || target.chars().any(char::is_control) {
        let what = "an argument of commands, not beginning with `-`, without control characters";
        return given.expected(what, "\"shop\"");
    }
    Ok(target)
}

fn with_target(given: &Given<'_>, has_target: bool) -> Read<Command> {
    let command = value::command(given)?;
    if !has_target && command.iter().any(|argument| argument.contains("{target}")) {
        return Err("{target} stands for the target, but there is none; write for example target = \"shop\""
            .to_owned());
    }
    Ok(command)
}
