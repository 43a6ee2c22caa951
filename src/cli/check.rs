//! `handover check`.

use super::{Context, live, show};
use crate::{config, report::Exit};

/// Checks the whole configuration and says what it asks for.
pub(super) fn run(context: &Context, live: bool) -> Exit {
    let config = match context.load(config::Role::All) {
        Ok(config) => config,
        Err(exit) => return exit,
    };
    if live {
        return live::run(context, &config);
    }
    if context.quiet {
        return Exit::Ok;
    }
    let mut lines = vec![format!("{}: good", config.file.display())];
    if let Some(source) = &config.source {
        let elements = source.elements.iter().map(|e| format!("{} ({})", e.name, e.kind.as_str()));
        let logs = source.logs.iter().map(|logs| match logs.paths.len() {
            0 => "the journal".to_owned(),
            n => {
                let journal = if logs.journald { " and the journal" } else { "" };
                format!("the logs of {}{journal}", show::count(n as u64, "glob", "globs"))
            }
        });
        let all: Vec<String> = elements.chain(logs).collect();
        lines.push(format!("  source {} hands over {}", source.name, all.join(", ")));
    }
    for sink in config.sinks() {
        let names: Vec<&str> = sink.sources.iter().map(|s| s.name.as_str()).collect();
        let names = if names.is_empty() { "nowhere yet".to_owned() } else { names.join(", ") };
        lines.push(format!("  {} fetches from {names}", sink.role));
    }
    lines.push("  mail: none is sent; exit codes and text tell".to_owned());
    show::talk(&lines.join("\n"));
    Exit::Ok
}
