//! `handover check`.

use serde::Serialize;

use super::{Context, alarm, live, show};
use crate::{
    config::{self, Config, Surroundings},
    report::Exit,
    sys,
};

/// Checks the whole configuration and says what it asks for.
pub(super) fn run(context: &Context, live: bool) -> Exit {
    let config = match config::load(&context.config, &Surroundings::here(), config::Role::All) {
        Ok(config) => config,
        Err(errors) => return mistakes(context, &errors),
    };
    if live {
        return live::run(context, &config);
    }
    if context.json {
        return show::json(&good(&config));
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
    lines.push(format!("  {}", alarm::summary(&config)));
    show::talk(&lines.join("\n"));
    Exit::Ok
}

/// What a configuration asks for, for programs.
#[derive(Serialize)]
struct Checked {
    good: bool,
    file: String,
    source: Option<CheckedSource>,
    sinks: Vec<CheckedSink>,
    mail: Option<String>,
    mistakes: Vec<Mistake>,
}

#[derive(Serialize)]
struct CheckedSource {
    name: String,
    elements: Vec<CheckedElement>,
    logs: Option<CheckedLogs>,
}

#[derive(Serialize)]
struct CheckedElement {
    name: String,
    kind: &'static str,
}

#[derive(Serialize)]
struct CheckedLogs {
    globs: usize,
    journald: bool,
}

#[derive(Serialize)]
struct CheckedSink {
    role: &'static str,
    sources: Vec<String>,
}

/// A mistake: where it is, and what is wrong with the fix.
#[derive(Serialize)]
struct Mistake {
    line: Option<usize>,
    section: &'static str,
    key: String,
    text: String,
}

fn good(config: &Config) -> Checked {
    let element = |element: &config::Element| CheckedElement {
        name: element.name.to_string(),
        kind: element.kind.as_str(),
    };
    let source = |source: &config::Source| CheckedSource {
        name: source.name.to_string(),
        elements: source.elements.iter().map(element).collect(),
        logs: source
            .logs
            .as_ref()
            .map(|logs| CheckedLogs { globs: logs.paths.len(), journald: logs.journald }),
    };
    let sink = |sink: &config::Sink| CheckedSink {
        role: sink.role.name(),
        sources: sink.sources.iter().map(|source| source.name.to_string()).collect(),
    };
    Checked {
        good: true,
        file: sys::show(config.file.as_os_str().as_encoded_bytes()),
        source: config.source.as_ref().map(source),
        sinks: config.sinks().map(sink).collect(),
        mail: Some(alarm::summary(config)),
        mistakes: Vec::new(),
    }
}

/// Says what is wrong.
fn mistakes(context: &Context, errors: &config::Errors) -> Exit {
    if !context.json {
        show::talk(&errors.to_string());
        return Exit::Configuration;
    }
    let mistake = |problem: &config::Problem| Mistake {
        line: problem.line,
        section: problem.section,
        key: problem.key.clone(),
        text: problem.text.clone(),
    };
    show::json(&Checked {
        good: false,
        file: sys::show(context.config.as_os_str().as_encoded_bytes()),
        source: None,
        sinks: Vec::new(),
        mail: None,
        mistakes: errors.0.iter().map(mistake).collect(),
    });
    Exit::Configuration
}

/// Sends a mail to those whom alarms go to.
pub(super) fn mail(context: &Context) -> Exit {
    match context.load(config::Role::Mail) {
        Ok(config) => alarm::test(context, &config),
        Err(exit) => exit,
    }
}
