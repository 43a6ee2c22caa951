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
    let text = page(command, name).map_err(|e| e.to_string())?;
    durable::write_file(dir, format!("{name}.1"), &text, 0o644).map_err(|e| e.to_string())?;
    subcommands(command).try_for_each(|inner| pages(inner, &format!("{name}-{}", inner.get_name()), dir))
}

fn subcommands(command: &Command) -> impl Iterator<Item = &Command> {
    command.get_subcommands().filter(|c| !c.is_hide_set() && c.get_name() != "help")
}

/// One page: what clap knows of the command, and what all commands share.
fn page(command: &Command, name: &str) -> std::io::Result<Vec<u8>> {
    let mut text = Vec::new();
    let named: &'static str = Box::leak(name.to_owned().into_boxed_str());
    let man = clap_mangen::Man::new(command.clone().name(named));
    man.render_title(&mut text)?;
    man.render_name_section(&mut text)?;
    man.render_synopsis_section(&mut text)?;
    man.render_description_section(&mut text)?;
    man.render_options_section(&mut text)?;
    if subcommands(command).next().is_some() {
        man.render_subcommands_section(&mut text)?;
    }
    writeln!(text, ".SH \"EXIT STATUS\"")?;
    for exit in Exit::ALL {
        write!(text, ".TP\n\\fB{}\\fR\n{}\n", exit.code(), exit.meaning())?;
    }
    writeln!(text, ".PP\nAny other code is a failure.")?;
    writeln!(text, ".SH FILES")?;
    for (file, what) in FILES {
        write!(text, ".TP\n\\fI{file}\\fR\n{what}\n")?;
    }
    let mut others: Vec<String> = subcommands(command).map(|c| format!("{name}-{}", c.get_name())).collect();
    // From each page to the one above it, and to the first.
    others.extend(name.rsplit_once('-').map(|(above, _)| above.to_owned()));
    others.push("handover".to_owned());
    others.sort();
    others.dedup();
    let others =
        others.iter().filter(|other| other.as_str() != name).map(|other| format!("\\fB{other}\\fR(1)"));
    let others: Vec<String> =
        others.chain(["\\fBrsync\\fR(1)", "\\fBssh\\fR(1)"].map(str::to_owned)).collect();
    write!(
        text,
        ".SH \"SEE ALSO\"\n{}\n.PP\nThe documentation in /usr/share/doc/handover.\n",
        others.join(",\n")
    )?;
    man.render_version_section(&mut text)?;
    Ok(text)
}

/// What a command reads and writes, whatever it does.
const FILES: [(&str, &str); 6] = [
    (
        "/etc/handover/handover.toml",
        "The configuration; another one by \\fB\\-\\-config\\fR or \\fBHANDOVER_CONFIG\\fR.",
    ),
    ("/var/lib/handover/ROLE/", "State: caches, the ledger of seals, mails that wait, locks, how runs went."),
    (
        "/home/dataBackupSource/",
        "A source: transport\\-outgoing/ (what waits for the sink), store/ (what it has accepted), restore/.",
    ),
    ("/home/logBackupSource/", "The same for logs."),
    (
        "/home/dataBackupSink/store/NAME/",
        "A sink: the generations of each source. Each holds README.txt, which says how it is read without handover.",
    ),
    ("/home/logBackupSink/store/NAME/", "The same for logs."),
];
