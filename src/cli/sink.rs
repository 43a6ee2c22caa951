//! `handover sink` and `handover logsink`: the same commands over one store or the other, a file for each theme.

mod back;
mod content;
mod fetch;
mod forget;
mod list;
mod pin;
mod prune;
mod rename;
mod status;
mod trust;
mod verify;

use std::{path::PathBuf, sync::Arc};

pub(super) use self::fetch::{connect, host_of};
pub(super) use self::status::views;
use super::{Context, alarm::What, args::SinkAction, daemon, deliver, enroll, fail, setup, show, watch};
use crate::{
    config::{self, Config, Place, SinkRole, SinkSource},
    report::Exit,
    sink::run,
    store::{self, SourceStore, sink_store::SinkStore},
    sys::{Dir, child, lock, name::Name, users},
};

/// An exit code either way: that of what was done, or of what ended it.
pub(super) type Outcome = Result<Exit, Exit>;

/// A sink of a loaded configuration, with its state folder.
pub(super) struct Sink<'a> {
    pub(super) config: &'a config::Sink,
    pub(super) state: PathBuf,
}

impl<'a> Sink<'a> {
    pub(super) fn new(config: &Config, sink: &'a config::Sink) -> Self {
        Self { config: sink, state: config.state.join(sink.role.name()) }
    }
}

impl Sink<'_> {
    /// Opens the store and the state folder.
    pub(super) fn open(&self) -> Result<(SinkStore, Dir), Exit> {
        let (store, state, standing) =
            run::open_settled(self.config, &self.state).map_err(|e| self.refuse(&e))?;
        show::findings(self.config.role.name(), run::told(&standing).as_slice(), false);
        Ok((store, state))
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
            let meant = super::similar_action(self.config.role.name(), name.as_str());
            let meant = meant.map_or_else(String::new, |action| {
                format!("; did you mean `handover {} {action}`?", self.config.role)
            });
            let text =
                format!("there is no source {name} in the configuration; there are: {}", known.join(", "));
            fail(Exit::Usage, &format!("{text}{meant}"))
        })
    }

    /// What it keeps of a source, to look at.
    pub(super) fn kept(&self, name: &Name) -> Result<Arc<SourceStore>, Exit> {
        let (store, _) = self.open()?;
        self.known(&store, name)?;
        store.source(name).map_err(|e| self.refuse(&e))
    }

    /// Ends a command for a source that is neither configured nor has anything in the store.
    fn known(&self, store: &SinkStore, name: &Name) -> Result<(), Exit> {
        if !store.sources().map_err(|e| self.refuse(&e))?.contains(name) {
            self.one(name)?;
        }
        Ok(())
    }

    /// The names of those that were asked for; without one, of all that are configured or have anything in the store.
    pub(super) fn names(&self, store: &SinkStore, names: &[Name]) -> Result<Vec<Name>, Exit> {
        if !names.is_empty() {
            names.iter().try_for_each(|name| self.known(store, name))?;
            return Ok(names.to_vec());
        }
        let mut all: Vec<Name> = self.config.sources.iter().map(|source| source.name.clone()).collect();
        let stored = store.sources().map_err(|e| self.refuse(&e))?;
        all.extend(stored.into_iter().filter(|name| !self.is_configured(name)));
        Ok(all)
    }

    /// Whether it is fetched from.
    pub(super) fn is_configured(&self, name: &Name) -> bool {
        self.config.sources.iter().any(|source| source.name == *name)
    }

    /// What it keeps of a source, locked against runs while a subcommand of this name changes it.
    pub(super) fn locked(&self, name: &Name, action: &str) -> Result<(Arc<SourceStore>, lock::Lock), Exit> {
        let (store, state) = self.open()?;
        self.known(&store, name)?;
        let lock = self.lock(&state, name, action)?;
        Ok((store.source(name).map_err(|e| self.refuse(&e))?, lock))
    }

    /// Ends a command that the store refused.
    pub(super) fn refuse(&self, error: &store::Error) -> Exit {
        refuse(self.config.role, error)
    }
}

fn refuse(role: SinkRole, error: &store::Error) -> Exit {
    let finding = crate::sink::fetch::store_finding(role, "store", error);
    show::findings(role.name(), std::slice::from_ref(&finding), false);
    finding.kind.exit()
}

/// Runs a subcommand of either.
pub(super) fn dispatch(context: &Context, role: SinkRole, action: SinkAction) -> Exit {
    if let SinkAction::Verify { path: Some(path), .. } = &action {
        return verify::path(context, role, path);
    }
    let sets_up = matches!(action, SinkAction::Init(_) | SinkAction::Enroll(_) | SinkAction::Rename(_));
    let unattended = match &action {
        SinkAction::Run(args) if !args.dry_run => Some("run"),
        SinkAction::Watch { .. } => Some("watch"),
        SinkAction::Daemon(args) if !args.dry_run => Some("daemon"),
        _ => None,
    };
    let what = unattended.map(|action| What { role: role.name(), action });
    let done = with_sink(context, role, what, |config, sink| {
        if !sets_up {
            as_owner(sink.config)?;
        }
        act(context, config, sink, action)
    });
    match done {
        Ok(exit) | Err(exit) => exit,
    }
}

/// Loads the configuration for a role, and does something with its sink; `what` where nobody looks at it.
pub(super) fn with_sink(
    context: &Context,
    role: SinkRole,
    what: Option<What>,
    act: impl FnOnce(&Config, &Sink<'_>) -> Outcome,
) -> Outcome {
    let config = context.load_for(role.into(), what)?;
    let section = config.sink_of(role).map_err(|e| fail(Exit::Configuration, &e))?;
    act(&config, &Sink::new(&config, section))
}

fn act(context: &Context, config: &Config, sink: &Sink<'_>, action: SinkAction) -> Outcome {
    match action {
        SinkAction::Run(args) => fetch::fetch(context, config, sink, &args),
        SinkAction::Init(args) => Ok(setup::sink(context, config, sink, &args)),
        SinkAction::Enroll(args) => Ok(enroll::run(context, config, sink, &args)),
        SinkAction::Status { names, how } => status::status(context, sink, &names, &how),
        SinkAction::Watch { names } => watch::sink(context, config, sink, &names),
        SinkAction::Daemon(args) => Ok(daemon::sink(context, sink.config.role, &args)),
        SinkAction::List { names } => list::list(context, sink, &names),
        SinkAction::Ls { name, which, path } => content::list(context, sink, &name, which, path),
        SinkAction::Find { name, pattern } => content::find(context, sink, &name, &pattern),
        SinkAction::Diff { name, old, new } => content::diff(context, sink, &name, &old, &new),
        SinkAction::Dump { name, id, path } => content::dump(sink, &name, &id, &path),
        SinkAction::Verify { name, id, heal, from, dry_run, .. } => {
            let heal = heal.then_some(verify::Heal { from, dry_run });
            verify::all(context, config, sink, name.as_ref(), &id, heal.as_ref())
        }
        SinkAction::Prune { names, dry_run: true } => prune::plan(context, sink, &names),
        SinkAction::Prune { names, .. } => prune::now(context, sink, &names),
        SinkAction::Undo { name, id, all: _, dry_run } => {
            back::undo(context, sink, &name, id.as_ref(), dry_run)
        }
        SinkAction::Forget(args) => forget::run(context, sink, &args),
        SinkAction::Rename(args) => rename::run(context, config, sink, &args),
        SinkAction::Trust { name, id, dry_run } => trust::trust(context, sink, &name, id.as_ref(), dry_run),
        SinkAction::Pin { name, id, label, remove, dry_run } => {
            let label = (!remove).then_some(label.as_str());
            pin::pin(context, sink, &name, &id, label, dry_run)
        }
        SinkAction::Deliver(args) => deliver::run(context, sink, &args),
        SinkAction::Quarantine { action } => back::quarantine(context, sink, &action),
    }
}

/// Root does not work in a store that is the sink's user's, but goes on as that user: a single folder of root's in it
/// would stop every later run.
pub(super) fn as_owner(sink: &config::Sink) -> Result<(), Exit> {
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
        let (name, owner, role) = (&source.name, &user.name, sink.role);
        let text = format!(
            "{name} is on this host, and only root can read it, but the store belongs to {owner}: give the sink another \
             `home` and make its store with `handover {role} init`, or reach {name} with host = \"localhost\""
        );
        return Err(fail(Exit::Configuration, &text));
    }
    let args: Vec<_> = std::env::args_os().collect();
    let why = child::go_on_as(&user, &args);
    Err(fail(Exit::Configuration, &format!("cannot go on as {}: setpriv: {why}", user.name)))
}
