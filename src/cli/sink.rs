//! `handover sink`: what changes something.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use super::{
    Context, alarm,
    alarm::What,
    args::{QuarantineAction, SinkAction, SinkArgs, SinkRunArgs},
    enroll, fail, host,
    progress::Display,
    setup, show, sink_look, watch,
};
use crate::{
    config::{self, Config, Place, SinkSource},
    gate::Gate,
    manifest::{Channel, GenerationId},
    remote::{self, Deadlines, Folder, Remote, Ssh, Tools, ssh},
    notify::{Looked, Scope, Signal},
    report::{Exit, SinkRun, exit_of},
    sink::{
        prune,
        run::{self, Setup},
    },
    store::{self, SourceStore, sink_store::SinkStore},
    sys::{Dir, child, clock, lock, name::Name, progress::Progress, users},
};

/// The sink's part of a loaded configuration, with its store.
pub(super) struct Sink<'a> {
    pub(super) config: &'a config::Sink,
    pub(super) state: PathBuf,
}

impl Sink<'_> {
    /// Opens the store and the state folder.
    pub(super) fn open(&self) -> Result<(SinkStore, Dir), Exit> {
        run::open_store(self.config, &self.state).map_err(|e| refuse(&e))
    }

    /// The sources that were named, or all.
    pub(super) fn named(&self, names: &[Name]) -> Result<Vec<&SinkSource>, Exit> {
        if names.is_empty() {
            return Ok(self.config.sources.iter().collect());
        }
        names.iter().map(|name| self.one(name)).collect()
    }

    /// One source.
    pub(super) fn one(&self, name: &Name) -> Result<&SinkSource, Exit> {
        self.config.sources.iter().find(|s| s.name == *name).ok_or_else(|| {
            let known: Vec<&str> = self.config.sources.iter().map(|s| s.name.as_str()).collect();
            fail(
                Exit::Usage,
                &format!("there is no source {name} in the configuration; there are: {}", known.join(", ")),
            )
        })
    }

    /// What the sink keeps of a source, locked against runs while it is changed.
    fn locked(&self, name: &Name, what: &str) -> Result<(Arc<SourceStore>, lock::Lock), Exit> {
        self.one(name)?;
        let (store, state) = self.open()?;
        let lock = match lock::try_exclusive(&state.join(format!("lock-{name}")), what) {
            Ok(lock::Attempt::Held(lock)) => lock,
            Ok(lock::Attempt::Busy(who)) => {
                return Err(fail(Exit::Busy, &format!("{name}: another run holds the lock: {who}")));
            }
            Err(e) => return Err(refuse(&e.into())),
        };
        Ok((store.source(name).map_err(|e| refuse(&e))?, lock))
    }
}

/// Ends a command that the store refused.
pub(super) fn refuse(error: &store::Error) -> Exit {
    let finding = crate::sink::fetch::store_finding("store", error);
    show::findings("sink", std::slice::from_ref(&finding), false);
    finding.kind.exit()
}

pub(super) fn dispatch(context: &Context, args: SinkArgs) -> Exit {
    let action = args.action.unwrap_or(SinkAction::Run(args.run));
    if let SinkAction::Verify { path: Some(path), .. } = &action {
        return sink_look::verify_path(context, path);
    }
    let what = match &action {
        SinkAction::Run(args) if !args.dry_run => Some(RUN),
        SinkAction::Watch { .. } => Some(What { command: "sink watch", ..RUN }),
        _ => None,
    };
    let config = match context.load_for(config::Role::Sink, what) {
        Ok(config) => config,
        Err(exit) => return exit,
    };
    match with_config(context, &config, action) {
        Ok(exit) | Err(exit) => exit,
    }
}

fn with_config(context: &Context, config: &Config, action: SinkAction) -> Result<Exit, Exit> {
    let sink = Sink {
        config: config.sink().map_err(|e| fail(Exit::Configuration, &e))?,
        state: config.state.join("sink"),
    };
    if !matches!(action, SinkAction::Init { .. } | SinkAction::Enroll(_)) {
        as_owner(sink.config)?;
    }
    match action {
        SinkAction::Run(args) => fetch(context, config, &sink, &args),
        SinkAction::Init { user, dry_run } => {
            Ok(setup::sink(context, config, &sink, user.as_deref(), dry_run))
        }
        SinkAction::Enroll(args) => Ok(enroll::run(context, config, &sink, &args)),
        SinkAction::Status { names } => sink_look::status(context, &sink, &names),
        SinkAction::Watch { names } => {
            let what = What { command: "sink watch", ..RUN };
            watch::sink(context, config, &sink, what, &names)
        }
        SinkAction::List { names } => sink_look::list(context, &sink, &names),
        SinkAction::Ls { name, id, path } => sink_look::ls(context, &sink, &name, &id, path.as_deref()),
        SinkAction::Find { name, pattern } => sink_look::find(context, &sink, &name, &pattern),
        SinkAction::Diff { name, old, new } => sink_look::diff(context, &sink, &name, &old, &new),
        SinkAction::Dump { name, id, path } => sink_look::dump(&sink, &name, &id, &path),
        SinkAction::Verify { name, id, .. } => verify(context, &sink, name.as_ref(), &id),
        SinkAction::Prune { names, dry_run: true } => sink_look::prune_plan(context, &sink, &names),
        SinkAction::Prune { names, .. } => prune_now(context, &sink, &names),
        SinkAction::Undo { name, id } => {
            let exit = change(&sink, &name, "handover sink undo", |store| store.undo(&id))?;
            show::talk(&format!(
                "{id} is back; the retention takes it again at the next run unless you keep it: handover sink pin {name} {id}"
            ));
            Ok(exit)
        }
        SinkAction::Pin { name, id, label, remove } => change(&sink, &name, "handover sink pin", |store| {
            if remove { store.unpin(&id) } else { store.pin(&id, &label) }
        }),
        SinkAction::Quarantine { action } => quarantine(context, &sink, &action),
    }
}

/// Root does not work in a store that is the sink's user's, but goes on as that user: a single folder of root's in it
/// would stop every later run.
fn as_owner(sink: &config::Sink) -> Result<(), Exit> {
    let owner = Dir::open(&sink.home).and_then(|home| home.stat_self()).map_or(0, |stat| stat.st_uid);
    if owner == 0 || !users::is_root() {
        return Ok(());
    }
    let Ok(Some(user)) = users::find_id(owner) else {
        return Err(fail(
            Exit::Configuration,
            &format!("the store belongs to user {owner}, whom /etc/passwd does not know"),
        ));
    };
    if let Some(source) = sink.sources.iter().find(|s| matches!(s.place, Place::Path(_))) {
        let name = (&source.name, &user.name);
        let text = format!(
            "{} is on this host, and only root can read it, but the store belongs to {}: give the sink another `home` and \
             make its store with `handover sink init`, or reach {0} with host = \"localhost\"",
            name.0, name.1
        );
        return Err(fail(Exit::Configuration, &text));
    }
    let args: Vec<_> = std::env::args_os().collect();
    let why = child::go_on_as(&user, &args);
    Err(fail(Exit::Configuration, &format!("cannot go on as {}: setpriv: {why}", user.name)))
}

/// How a source is reached; `state` is the state folder of the role.
pub(super) fn connect(
    sink: &config::Sink,
    state: &Path,
    source: &SinkSource,
    tools: &Tools,
) -> remote::Result<Box<dyn Remote>> {
    match &source.place {
        Place::Path(home) => {
            let gate = Gate::open(home).map_err(|e| remote::Error::Access {
                why: format!("its gate cannot be opened: {e}"),
                fix: "on the source, run `handover source init`, then `handover source run`".to_owned(),
            })?;
            Ok(Box::new(Folder::new(Box::new(gate), tools.clone())))
        }
        Place::Host(place) => {
            let deadlines = Deadlines { stall: sink.stall_timeout, total: Some(sink.timeout) };
            let host = host_of(&source.name, place, sink.connect_timeout);
            Ok(Box::new(Ssh::connect(host, &state.join("ssh"), deadlines)?))
        }
    }
}

/// What ssh needs to know of a source.
pub(super) fn host_of(name: &Name, place: &config::Host, connect_timeout: Duration) -> ssh::Host {
    ssh::Host {
        name: name.clone(),
        host: place.host.clone(),
        port: place.port,
        user: place.user.clone(),
        jump: place.jump.clone(),
        identity: place.identity.clone(),
        known_hosts: place.known_hosts.clone(),
        connect_timeout,
    }
}

const RUN: What<'_> = What { role: "sink", command: "sink run" };

fn fetch(context: &Context, config: &Config, sink: &Sink<'_>, args: &SinkRunArgs) -> Result<Exit, Exit> {
    let required = sink.config.sandbox == config::Sandbox::Required;
    let tools = Tools::find(required).map_err(|e| {
        if !args.dry_run {
            alarm::refused(context, RUN, &e.to_string());
        }
        fail(Exit::Configuration, &e)
    })?;
    if sink.config.sources.is_empty() {
        return Err(fail(
            Exit::Configuration,
            &"there is nothing to fetch from: add a source with `handover sink enroll NAME HOST`, or [[sink.source]] with path",
        ));
    }
    let sources: Vec<_> =
        sink.named(&args.names)?.into_iter().map(|s| (s, Arc::new(Progress::default()))).collect();
    let named = sources.iter().map(|(s, progress)| (s.name.to_string(), Arc::clone(progress))).collect();
    let mut said = Vec::new();
    if !args.dry_run {
        said.extend(alarm::ping(config, config::PingRole::Sink, Signal::Start, ""));
    }
    let display = Display::start(context, named);
    let mut report = run::run(&Setup {
        config: sink.config,
        sources,
        channel: Channel::Data,
        state: &sink.state,
        host: &host(),
        tools: &tools,
        connect: &|source| connect(sink.config, &sink.state, source, &tools),
        clock: &clock::now,
        dry_run: args.dry_run,
    });
    drop(display);
    if !args.dry_run {
        said.extend(alarm::deliver(config, RUN, report.exit, scopes(&report)));
        let of_sources = report.sources.iter().map(|source| source.findings.as_slice());
        let all: Vec<_> = of_sources.chain([report.findings.as_slice()]).collect();
        said.extend(alarm::ping_end(config, config::PingRole::Sink, report.exit, &all));
    }
    report.exit = report.exit.worst(exit_of(&said));
    report.findings.extend(said);
    if args.timings {
        report.sources.iter().for_each(|source| show::timings(&source.name, &source.timings));
    }
    if context.json {
        show::json(&report);
    } else {
        tell(context, &report, args.dry_run);
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
    let opened = !report.sources.is_empty();
    let store = Scope { name: "store", findings: &report.findings, generation: None, looked: looked(opened) };
    of_sources.chain([store]).collect()
}

fn tell(context: &Context, report: &SinkRun, dry_run: bool) {
    show::findings("sink", &report.findings, context.quiet);
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
    if context.quiet || dry_run || !show::is_terminal() {
        return;
    }
    let rows = report.sources.iter().flat_map(|source| {
        source.stored.iter().map(|s| {
            let proven = format!("{} hashed, {} re-read, {} linked", s.hashed, s.reread, s.linked);
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
    if rows.is_empty() {
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

fn change(
    sink: &Sink<'_>,
    name: &Name,
    what: &str,
    act: impl FnOnce(&SourceStore) -> store::Result<()>,
) -> Result<Exit, Exit> {
    let (store, _lock) = sink.locked(name, what)?;
    act(&store).map_err(|e| refuse(&e))?;
    Ok(Exit::Ok)
}

fn prune_now(context: &Context, sink: &Sink<'_>, names: &[Name]) -> Result<Exit, Exit> {
    for source in sink.named(names)? {
        let (store, _lock) = sink.locked(&source.name, "handover sink prune")?;
        let condemned = prune::prune(&store, source, sink.config, clock::now()).map_err(|e| refuse(&e))?;
        if !context.quiet {
            condemned
                .iter()
                .for_each(|c| show::talk(&format!("{}: {} condemned: {}", source.name, c.id, c.reason)));
        }
    }
    Ok(Exit::Ok)
}

fn verify(
    context: &Context,
    sink: &Sink<'_>,
    name: Option<&Name>,
    ids: &[GenerationId],
) -> Result<Exit, Exit> {
    let names: Vec<Name> = name.into_iter().cloned().collect();
    let mut exit = Exit::Ok;
    for source in sink.named(&names)? {
        let (store, _lock) = sink.locked(&source.name, "handover sink verify")?;
        exit = exit.worst(sink_look::verify(context, &source.name, &store, ids)?);
    }
    Ok(exit)
}

fn quarantine(context: &Context, sink: &Sink<'_>, action: &QuarantineAction) -> Result<Exit, Exit> {
    match action {
        QuarantineAction::List => sink_look::quarantine(context, sink),
        QuarantineAction::Retry { name } => change(sink, name, "handover sink quarantine retry", |store| {
            store.quarantined()?.iter().try_for_each(|q| store.retry_quarantined(&q.id))
        }),
        QuarantineAction::Drop { name } => change(sink, name, "handover sink quarantine drop", |store| {
            store.quarantined()?.iter().try_for_each(|q| store.drop_quarantined(&q.id))
        }),
    }
}
