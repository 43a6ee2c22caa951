//! `handover sink run`: how sources are reached, and what a run says.

use std::{path::Path, sync::Arc};

use super::{Outcome, Sink};
use crate::{
    cli::{
        Context,
        alarm::{self, What},
        args::SinkRunArgs,
        fail, host,
        progress::Display,
        show,
    },
    config::{self, Config, Place, SinkRole, SinkSource},
    gate::Gate,
    notify::{Looked, Scope, Signal},
    remote::{self, Deadlines, Folder, Remote, Ssh, Tools, ssh},
    report::{Exit, SinkRun, exit_of},
    sink::{
        self,
        run::{self, Setup},
    },
    sys::{clock, name::Name, progress::Progress},
};

/// How a source is reached; `state` is the state folder of the role.
pub(in crate::cli) fn connect(
    sink: &config::Sink,
    state: &Path,
    source: &SinkSource,
    tools: &Tools,
) -> remote::Result<Box<dyn Remote>> {
    match &source.place {
        Place::Path(home) => {
            let gate = Gate::open(home).map_err(|e| remote::Error::Access {
                why: format!("its gate cannot be opened: {e}"),
                fix: "on the source, mount the disk of its home; where there never was one: `handover source init`, then \
                      `handover source run`"
                    .to_owned(),
            })?;
            Ok(Box::new(Folder::new(Box::new(gate), tools.clone())))
        }
        Place::Host(place) => {
            let deadlines = Deadlines { stall: sink.stall_timeout, total: Some(sink.timeout) };
            let host = host_of(sink, &source.name, place);
            Ok(Box::new(Ssh::connect(host, &state.join("ssh"), deadlines)?))
        }
    }
}

/// What ssh needs to know of a source.
pub(in crate::cli) fn host_of(sink: &config::Sink, name: &Name, place: &config::Host) -> ssh::Host {
    ssh::Host {
        name: name.clone(),
        purpose: ssh::Purpose::Fetch(sink::channel(sink.role)),
        host: place.host.clone(),
        port: place.port,
        user: place.user.clone(),
        jump: place.jump.clone(),
        identity: place.identity.clone(),
        known_hosts: place.known_hosts.clone(),
        connect_timeout: sink.connect_timeout,
    }
}

/// Fetches, and says how it went.
pub(super) fn fetch(context: &Context, config: &Config, sink: &Sink<'_>, args: &SinkRunArgs) -> Outcome {
    let what = What { role: sink.config.role.name(), action: "run" };
    let required = sink.config.sandbox == config::Sandbox::Required;
    let tools = Tools::find(required).map_err(|e| {
        if !args.dry_run {
            alarm::refused(context, what, &e.to_string());
        }
        fail(Exit::Configuration, &e)
    })?;
    let role = sink.config.role;
    let sources: Vec<_> =
        sink.named(&args.names)?.into_iter().map(|s| (s, Arc::new(Progress::default()))).collect();
    let named = sources.iter().map(|(s, progress)| (s.name.to_string(), Arc::clone(progress))).collect();
    let mut said = Vec::new();
    if !args.dry_run {
        said.extend(alarm::ping(config, role.into(), Signal::Start, ""));
    }
    let display = Display::start(context, named);
    let mut report = run::run(&Setup {
        config: sink.config,
        sources,
        state: &sink.state,
        host: &host(),
        tools: &tools,
        connect: &|source| connect(sink.config, &sink.state, source, &tools),
        clock: &clock::now,
        dry_run: args.dry_run,
    });
    drop(display);
    if !args.dry_run {
        said.extend(alarm::deliver(config, what, report.exit, scopes(&report)));
        let of_sources = report.sources.iter().map(|source| source.findings.as_slice());
        let all: Vec<_> = of_sources.chain([report.findings.as_slice()]).collect();
        said.extend(alarm::ping_end(config, role.into(), report.exit, &all));
    }
    report.exit = report.exit.worst(exit_of(&said));
    report.findings.extend(said);
    if args.timings {
        report.sources.iter().for_each(|source| show::timings(&source.name, &source.timings));
    }
    if context.json {
        show::json(&report);
    } else {
        tell(context, role, &report, args.dry_run);
    }
    Ok(report.exit)
}

/// What a run found of each source and of the store, and what it looked at to the end.
fn scopes(report: &SinkRun) -> Vec<Scope<'_>> {
    let looked = |complete: bool| if complete { Looked::run() } else { Looked::nothing() };
    let of_sources = report.sources.iter().map(|source| Scope {
        name: &source.name,
        findings: &source.findings,
        generation: source.stored.last().map(|stored| stored.id.as_str()),
        looked: looked(source.complete),
    });
    let opened = !report.sources.is_empty() || exit_of(&report.findings) == Exit::Ok;
    let store = Scope { name: "store", findings: &report.findings, generation: None, looked: looked(opened) };
    of_sources.chain([store]).collect()
}

fn tell(context: &Context, role: SinkRole, report: &SinkRun, dry_run: bool) {
    show::findings(role.name(), &report.findings, context.quiet);
    for source in &report.sources {
        if dry_run {
            source
                .findings
                .iter()
                .for_each(|f| show::talk(&format!("{}: {}: {}", source.name, f.subject, f.text)));
            continue;
        }
        show::findings(&source.name, &source.findings, context.quiet);
    }
    if !context.quiet && report.sources.is_empty() && report.exit == Exit::Ok {
        show::talk(&run::nothing_configured(role));
    }
    if context.quiet || dry_run || !show::is_terminal() {
        return;
    }
    let rows = report.sources.iter().flat_map(|source| {
        source.stored.iter().map(|s| {
            let mut proven = format!("{} hashed, {} re-read, {} linked", s.hashed, s.reread, s.linked);
            if s.patched > 0 {
                proven += &format!(", {} made of {} that changed", s.patched, show::size(s.delta_bytes));
            }
            vec![
                source.name.clone(),
                s.id.clone(),
                s.files.to_string(),
                show::size(s.bytes),
                s.fetched.to_string(),
                show::size(s.wire),
                proven,
            ]
        })
    });
    let rows: Vec<_> = rows.collect();
    if report.sources.is_empty() {
        // Said already.
    } else if rows.is_empty() {
        show::talk("nothing new was offered");
    } else {
        show::talk(&show::table(
            &["source", "generation", "files#", "size#", "fetched#", "wire#", "proven"],
            rows,
        ));
    }
    for source in &report.sources {
        source
            .condemned
            .iter()
            .for_each(|c| show::talk(&format!("{}: {} condemned: {}", source.name, c.id, c.reason)));
    }
}
