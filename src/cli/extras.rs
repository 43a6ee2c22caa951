//! Completions and man pages, from the same definition as the arguments.

use std::{io::Write as _, path::Path};

use clap::{Command, CommandFactory as _};

use super::{args::Cli, fail};
use crate::{
    report::Exit,
    sys::{Dir, durable},
};

/// Prints the completions for a shell.
pub(super) fn completions(shell: clap_complete::Shell) -> Exit {
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "handover", &mut text);
    match std::io::stdout().write_all(&text) {
        Ok(()) => Exit::Ok,
        Err(e) if e.kind() == std::io::ErrorKind::BrokenPipe => Exit::Ok,
        Err(e) => fail(Exit::Storage, &e),
    }
}

/// Writes a man page for each subcommand into a folder.
pub(super) fn man(dir: &Path) -> Exit {
    let mut command = Cli::command();
    command.build();
    match Dir::create_all(dir, 0o755)
        .map_err(|e| e.to_string())
        .and_then(|dir| pages(&command, "handover", &dir))
    {
        Ok(()) => Exit::Ok,
        Err(e) => fail(Exit::Storage, &e),
    }
}

fn pages(command: &Command, name: &str, dir: &Dir) -> Result<(), String> {
    let mut text = Vec::new();
    let named: &'static str = Box::leak(name.to_owned().into_boxed_str());
    clap_mangen::Man::new(command.clone().name(named)).render(&mut text).map_err(|e| e.to_string())?;
    durable::write_file(dir, format!("{name}.1"), &text, 0o644).map_err(|e| e.to_string())?;
    let mut visible = command.get_subcommands().filter(|c| !c.is_hide_set() && c.get_name() != "help");
    visible.try_for_each(|inner| pages(inner, &format!("{name}-{}", inner.get_name()), dir))
}
