//! The output of a command: a `dump`.

use super::{
    table::{Given, Read, Table},
    value::{self, Command},
};

/// The keys of an element that is the output of a command.
pub(super) const KEYS: &[&str] = &["command", "file", "min_size", "check"];

/// What a command puts out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dump {
    /// The command. Where `{file}` stands in its arguments, the path of the file to write is put in.
    pub command: Command,
    /// The name of the dump in the generation: a single one.
    pub file: String,
    /// Where the dump comes out.
    pub output: Output,
    /// A smaller dump has failed; at least 1, since an empty dump is never good.
    pub min_size: u64,
    /// Gets the dump on stdin; if it fails, the dump has failed.
    pub check: Option<Command>,
}

/// Where a dump comes out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Output {
    /// The command's stdout is the dump.
    Stdout,
    /// The command has `{file}` in its arguments and writes the dump to that path itself.
    File,
}

impl Dump {
    pub(super) fn read(table: &Table<'_>) -> Option<Self> {
        let command =
            table.required("command", "write for example command = [\"pg_dump\", \"shop\"]", value::command);
        let file = table.required(
            "file",
            "it is the dump's name in the generation; write for example file = \"shop.dump\"",
            file_name,
        );
        let min_size =
            table.or("min_size", 1, |given| value::some_size(given, "an empty dump is never good"));
        let check = table.optional("check", value::command);
        let command = command?;
        let writes = command.iter().skip(1).any(|argument| argument.contains("{file}"));
        let output = if writes { Output::File } else { Output::Stdout };
        Some(Self { command, file: file?, output, min_size, check })
    }
}

fn file_name(given: &Given<'_>) -> Read<String> {
    let name = value::text(given, "\"shop.dump\"")?;
    let is_one = !name.contains('/') && name != "." && name != "..";
    if is_one && !name.starts_with('-') && name.len() <= 200 && !name.chars().any(char::is_control) {
        return Ok(name);
    }
    given.expected(
        "the name of a file without folders, of at most 200 bytes, not beginning with `-`",
        "\"shop.dump\"",
    )
}
